//! What of the log is not in memory any more, and replicas elsewhere lack: where it is, and how it is sent once it was
//! read back. The reading is the shard's.

use ashlar_io::wal::Position;

use super::*;

impl Group {
    /// Returns where the log begins that a follower has not got and that is not in memory any more, if this replica
    /// leads one. Who lags further than the log reaches is not counted.
    pub(crate) fn laggard_at(&self) -> Option<Position> {
        let kept = self.kept.front()?.index;
        let wanted = self.raft.followers().map(|(_, matched)| matched.next());
        let lagging = wanted.filter(|wanted| *wanted < kept);
        lagging.filter_map(|wanted| self.places.find(wanted)).min()
    }
}

impl Replica {
    /// Sends entries that were read back from the log; none of them means that it has not got them.
    pub(crate) fn feed(&mut self, feed: &Feed, entries: Vec<Vec<u8>>, turn: &mut Turn<'_>) {
        let Some(group) = &mut self.group else {
            return;
        };
        let (to, first) = (feed.fetch.to.replica, feed.fetch.first);
        group.lent = own_entries(&group.raft, first, entries);
        let metas: Vec<EntryMeta> = group.lent.iter().map(Entry::meta).collect();
        match metas.is_empty() {
            true => group.raft.gone(turn.now, to, &mut group.out),
            false => group
                .raft
                .fetched(turn.now, to, first, &metas, &mut group.out),
        }
        self.carry_out(turn);
        if let Some(group) = &mut self.group {
            group.lent.clear();
        }
    }
}

/// Returns those of the entries read back from the log that are this log's own, from `first` on: an earlier leader's
/// that were taken back may lie there, too.
fn own_entries(raft: &Raft, first: Index, entries: Vec<Vec<u8>>) -> VecDeque<Entry> {
    let mut own: VecDeque<Entry> = VecDeque::new();
    for bytes in entries {
        let index = own.back().map_or(first, |last| last.index.next());
        let Ok(header) = EntryHeader::decode(&bytes) else {
            break;
        };
        let follows = |last: &Entry| chain_of(&bytes, last.meta().chain.0) == header.chain;
        let is_own = header.index == index && raft.term_of(index) == Some(header.term);
        if !is_own || !own.back().is_none_or(follows) {
            break;
        }
        own.push_back(Entry::read_back(&header, bytes));
    }
    own
}
