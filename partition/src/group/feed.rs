//! What of the log is not in memory any more, and replicas elsewhere lack: where it is, and how it is sent once it was
//! read back. The reading is the shard's.

use super::*;

/// Bytes of the log between two entries whose places are known, and most such entries.
const PLACE_BYTES: u64 = 64 << 10;
const PLACES_MAX: usize = 16 << 10;

impl Group {
    /// Notes where an entry is in the log that is not kept any more.
    pub(super) fn note_place(&mut self, index: Index, position: Position) {
        let is_far = |(_, last): &(Index, Position)| position.0 >= last.0 + PLACE_BYTES;
        if self.places.back().is_none_or(is_far) {
            self.places.push_back((index, position));
        }
        if self.places.len() > PLACES_MAX {
            self.places.pop_front();
        }
    }

    /// Returns a position of the log at or before which an entry begins, as long as `wal` has it.
    pub(super) fn place_of(&mut self, index: Index, wal: &Wal) -> Option<Position> {
        while self
            .places
            .pop_front_if(|(_, at)| *at < wal.start())
            .is_some()
        {}
        let after = self.places.partition_point(|(of, _)| *of <= index);
        Some(self.places.get(after.checked_sub(1)?)?.1)
    }

    /// Returns where the log begins that a follower has not got and that is not in memory any more, if this replica
    /// leads one.
    pub(crate) fn laggard_at(&self) -> Option<Position> {
        let (first, kept) = (self.places.front()?, self.kept.front()?);
        let matched = self.raft.followers().map(|(_, matched)| matched).min()?;
        let after = self.places.partition_point(|(of, _)| *of <= matched.next());
        let place = self.places.get(after.saturating_sub(1)).unwrap_or(first);
        (matched.next() < kept.index).then_some(place.1)
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
