//! A replica in recovery whose log is damaged: what it promised may be lost, and it begins with its tables.

use super::*;
use crate::lsm::edit::Flushed;

/// File numbers that a damaged log may have told of: they are not given again.
const NUMBERS_LOST: u64 = 1 << 32;

impl Recovering {
    /// Says whether the replica may have promised more than the log tells.
    pub(super) fn has_forgotten(&self) -> bool {
        self.ballot.is_some_and(|ballot| ballot.has_forgotten)
    }

    /// Takes in that the log is damaged behind what was taken in: the replica may have promised anything. Does nothing
    /// for one that is alone.
    pub fn forget(&mut self) {
        if self.group.is_none() {
            return;
        }
        let known = self.ballot.unwrap_or(BallotRecord::none(self.partition.id));
        self.ballot = Some(BallotRecord {
            has_forgotten: true,
            ..known
        });
        self.version.next_number = self.version.next_number.saturating_add(NUMBERS_LOST);
    }

    /// Goes back to what is in tables.
    pub(super) fn begin_from_tables(&mut self) {
        self.forget_entries();
        self.partition.ranges = Ranges::default();
        let flushed = self.version.flushed.unwrap_or(Flushed {
            index: 0,
            term: 0,
            timestamp: 0,
            chain: 0,
        });
        let members = &self.version.members;
        self.partition.replica.reset(&flushed, members);
        self.forget_memtable();
    }
}
