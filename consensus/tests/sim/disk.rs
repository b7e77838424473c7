//! What a node keeps: entries, a ballot, and the state that its log begins behind. What was written is
//! durable when its sync is done; a crash keeps some part of the rest, in order.

use std::collections::VecDeque;
use std::rc::Rc;

use ashlar_consensus::Membership;
use ashlar_consensus::message::{EntryKind, EntryMeta};
use ashlar_consensus::raft::{Ballot, LogMark, Snapshot};
use ashlar_consensus::types::{Chain, Index, LogPosition, Term};

/// An entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) meta: EntryMeta,
    pub(crate) value: u64,
    pub(crate) membership: Option<Membership>,
}

impl Entry {
    /// Returns an entry behind one with the chain `before`.
    pub(crate) fn new(
        before: Chain,
        term: Term,
        kind: EntryKind,
        value: u64,
        membership: Option<Membership>,
    ) -> Self {
        let mut bytes = Vec::new();
        if let Some(membership) = &membership {
            membership.encode(&mut bytes);
        }
        let numbers = [before.0, term.0, value, kind as u64];
        let numbers = numbers.into_iter().flat_map(u64::to_le_bytes);
        let chain = numbers
            .chain(bytes)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let meta = EntryMeta {
            term,
            bytes: 20 + (value % 7) as u32 * 100,
            chain: Chain(chain),
            kind,
        };
        Self {
            meta,
            value,
            membership,
        }
    }
}

/// What applying entries leads to.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) applied: LogPosition,
    pub(crate) chain: Chain,
    pub(crate) value: u64,
    pub(crate) membership: Membership,
}

impl State {
    /// Applies an entry.
    pub(crate) fn apply(&mut self, index: Index, entry: &Entry) {
        assert_eq!(index, self.applied.index.next());
        self.applied = LogPosition {
            term: entry.meta.term,
            index,
        };
        self.chain = entry.meta.chain;
        if entry.meta.kind == EntryKind::Commands {
            self.value = entry.value;
        }
        if let Some(membership) = &entry.membership {
            self.membership = membership.clone();
        }
    }

    /// Returns what a snapshot of this state stands for.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: self.applied,
            chain: self.chain,
            membership: self.membership.clone(),
        }
    }
}

/// A log behind a state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) base: State,
    pub(crate) entries: Vec<Rc<Entry>>,
}

impl Log {
    /// Returns the index of the last entry.
    pub(crate) fn last(&self) -> Index {
        Index(self.base.applied.index.0 + self.entries.len() as u64)
    }

    /// Returns an entry.
    pub(crate) fn entry(&self, index: Index) -> Option<&Rc<Entry>> {
        let place = index.0.checked_sub(self.base.applied.index.0 + 1)?;
        self.entries.get(place as usize)
    }

    /// Returns the entries from `first` on, `count` of them.
    pub(crate) fn range(&self, first: Index, count: usize) -> Vec<Rc<Entry>> {
        let from = (first.0 - self.base.applied.index.0 - 1) as usize;
        self.entries[from..from + count].to_vec()
    }

    /// Drops what is above `index`.
    pub(crate) fn truncate_after(&mut self, index: Index) {
        let stay = index.0 - self.base.applied.index.0;
        self.entries.truncate(stay as usize);
    }

    /// Drops what is below `state`, and the rest too if the log does not go on from there.
    pub(crate) fn behind(&mut self, state: &State) {
        let Some(gone) = state.applied.index.0.checked_sub(self.base.applied.index.0) else {
            return;
        };
        let joins = self.entry(state.applied.index);
        match joins.is_some_and(|entry| entry.meta.chain == state.chain) {
            true => drop(self.entries.drain(..gone as usize)),
            false => self.entries.clear(),
        }
        self.base = state.clone();
    }
}

/// Something to be written.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) ballot: Option<Ballot>,
    /// Whether the replica that gave the ballot had forgotten others.
    pub(crate) has_forgotten: bool,
    pub(crate) behind: Option<State>,
    pub(crate) truncate_after: Option<Index>,
    pub(crate) entries: Vec<Rc<Entry>>,
    pub(crate) mark: LogMark,
    pub(crate) number: u64,
}

/// A disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// What is durable.
    pub(crate) ballot: Ballot,
    /// What was durable is not all there any more.
    pub(crate) has_forgotten: bool,
    pub(crate) log: Log,
    /// What is not, in order; the first `under_way` are being synced.
    pub(crate) queue: VecDeque<Write>,
    pub(crate) under_way: usize,
    pub(crate) since: u64,
    pub(crate) stalled_until: u64,
}

impl Disk {
    /// Makes a write durable.
    pub(crate) fn commit(&mut self, write: &Write) {
        if let Some(ballot) = write.ballot {
            self.ballot = ballot;
            self.has_forgotten = write.has_forgotten;
        }
        if let Some(state) = &write.behind {
            self.log.behind(state);
        }
        if let Some(index) = write.truncate_after {
            self.log.truncate_after(index);
        }
        self.log.entries.extend(write.entries.iter().cloned());
    }

    /// Loses the ballot and all of the log but a beginning.
    pub(crate) fn forget(&mut self, kept: usize) {
        self.ballot = Ballot::default();
        self.has_forgotten = true;
        self.log.entries.truncate(kept);
    }

    /// Loses power: of what was not synced a beginning stays, and of the write where it ends a part.
    pub(crate) fn crash(&mut self, kept: usize, part: usize) {
        let queue: Vec<Write> = self.queue.drain(..).collect();
        for write in queue.iter().take(kept) {
            self.commit(write);
        }
        if let Some(cut) = queue.get(kept).filter(|write| write.behind.is_none()) {
            let mut cut = cut.clone();
            cut.entries.truncate(part.saturating_sub(2));
            cut.truncate_after = cut.truncate_after.filter(|_| part >= 2);
            cut.ballot = cut.ballot.filter(|_| part >= 1);
            self.commit(&cut);
        }
        self.under_way = 0;
        self.stalled_until = 0;
    }
}
