//! What keeps a partition in shape beside requests: freezing its memtable, starting the tasks of its
//! tree, saying what of the log it needs, deleting what has expired.

use ashlar_consensus::{Clock, Index, Timestamp};
use ashlar_io::wal::{Mark, Position, Wal};

use crate::command::Command;
use crate::lsm::edit::Edit;
use crate::lsm::pick::Policy;
use crate::lsm::tree::{Frozen, Tree};
use crate::overlay::Pending;
use crate::partition::{LogRoom, Partition};
use crate::planted::{Planted, is_planted};

/// Keys deleted in one call because they have expired.
const EXPIRED_PER_CALL: usize = 256;

/// What was deleted because it had expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// The keys, internal ones.
    pub keys: Vec<Vec<u8>>,
    /// Index that must be applied before anybody may be told.
    pub wait: Option<Index>,
    /// There may be more.
    pub may_go_on: bool,
}

impl Partition {
    /// Returns the bytes of what was applied since the last freeze.
    #[must_use]
    pub fn active_bytes(&self) -> u64 {
        self.memtable.used_bytes()
    }

    /// Returns the bytes of the memtables that are being flushed.
    #[must_use]
    pub fn frozen_bytes(&self) -> u64 {
        self.tree.as_ref().map_or(0, |tree| tree.frozen_bytes())
    }

    /// Freezes the memtable, if it has taken anything and there are not too many already; it is
    /// flushed by the next [`Partition::start_flush`]. Says whether it did.
    pub fn freeze(&mut self) -> bool {
        let Some(begin) = self.memtable_begin else {
            return false;
        };
        let Some(tree) = self.tree.as_mut().filter(|tree| tree.may_freeze()) else {
            return false;
        };
        let fresh = tree.new_memtable(self.memtable.seed());
        let mut flushed = self.replica.state();
        if is_planted(Planted::FlushesTooFar) {
            flushed.index = self.replica.last().0;
        }
        tree.freeze(Frozen {
            memtable: std::mem::replace(&mut self.memtable, fresh),
            flushed,
            members: self.replica.members(),
            begin,
            ranges: self.ranges.clone(),
        });
        self.memtable_begin = None;
        true
    }

    /// Freezes the memtable if it, and nothing before it, needs the log's oldest entries of this
    /// partition. Says whether it did.
    pub fn freeze_oldest(&mut self) -> bool {
        let tree = self.tree.as_ref().filter(|tree| tree.is_open());
        tree.is_some_and(|tree| tree.oldest_frozen().is_none()) && self.freeze()
    }

    /// Starts a flush if something is frozen. A damaged partition flushes too, as long as its tables
    /// are open: else it would hold the log, which is everybody's, for ever.
    pub fn start_flush(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.start_flush(self.low_water, &self.ranges);
        }
    }

    /// Starts a merge if something is to be merged; says whether one runs.
    pub fn start_merge(&mut self, policy: &Policy) -> bool {
        let (None, Some(tree)) = (&self.damage, &mut self.tree) else {
            return false;
        };
        tree.start_merge(policy, self.low_water, &self.ranges);
        tree.is_merging()
    }

    /// Says whether a merge runs.
    #[must_use]
    pub fn is_merging(&self) -> bool {
        self.tree.as_ref().is_some_and(Tree::is_merging)
    }

    /// Returns the bytes that wait to be merged.
    #[must_use]
    pub fn debt_bytes(&self) -> u64 {
        self.tree.as_ref().map_or(0, Tree::debt_bytes)
    }

    /// Has the next [`Partition::start_merge`] look for something to merge though nothing has been
    /// flushed: with time, versions become useless.
    pub fn look_again(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.look_again();
        }
    }

    /// Makes the edits true that are durable.
    pub(crate) fn publish(&mut self, durable: Mark) {
        let Some(tree) = &mut self.tree else { return };
        let published = tree.publish(durable);
        if published.installed {
            self.take_installed();
        }
        if published.repaired {
            self.take_repaired();
        }
        let oldest = self.oldest_in_memory();
        for gone in published.ranges_gone {
            // After a recovery a memtable may hold versions that tables hold as well. Its range
            // deletions are needed until it is flushed, and part of the version again from then on.
            if oldest.is_none_or(|oldest| oldest > gone.timestamp) {
                self.ranges.remove(&gone.start, &gone.end, gone.timestamp);
            }
        }
        if let Some(what) = published.damage {
            self.quarantine(&what);
        }
    }

    /// Returns the least timestamp in memtables.
    fn oldest_in_memory(&self) -> Option<u64> {
        let frozen = self.tree.iter().flat_map(|tree| tree.frozen());
        let frozen = frozen.map(|frozen| &frozen.memtable);
        let all = std::iter::once(&self.memtable).chain(frozen);
        all.filter_map(|memtable| Some(*memtable.timestamps()?.start()))
            .min()
    }

    /// Returns the first position of the log whose entries are in no table.
    #[must_use]
    pub fn pinned(&self, wal: &Wal) -> Position {
        let frozen = self.tree.as_ref().and_then(|tree| tree.oldest_frozen());
        frozen
            .or(self.memtable_begin)
            .or_else(|| self.replica.oldest_pending())
            .unwrap_or_else(|| wal.position())
    }

    /// Returns the first position of the log whose edits are not in the version yet.
    #[must_use]
    pub fn edits_pinned(&self, wal: &Wal) -> Position {
        let oldest = self.tree.as_ref().and_then(|tree| tree.oldest_edit());
        oldest.unwrap_or_else(|| wal.position())
    }

    /// Returns how many edits the version has taken in since the last checkpoint, and begins to
    /// count anew.
    pub fn take_unsaved_edits(&mut self) -> u64 {
        let edits = self.tree.as_mut().map(|tree| &mut tree.unsaved_edits);
        edits.map_or(0, std::mem::take)
    }

    /// Returns how many edits the version has taken in since the last checkpoint.
    #[must_use]
    pub fn unsaved_edits(&self) -> u64 {
        self.tree.as_ref().map_or(0, |tree| tree.unsaved_edits)
    }

    /// Returns the whole version as one edit, for a checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Edit> {
        self.tree.as_ref().map(Tree::checkpoint)
    }

    /// Proposes an entry that changes nothing but the low-water mark: what was deleted may leave the
    /// tables though nobody writes any more. Only for a partition that has tables.
    pub fn advance(&mut self, clock: &mut Clock, wall_us: u64) {
        if self.may_propose() && self.tree.as_ref().is_some_and(Tree::has_tables) {
            self.replica.open_entry(clock.take(wall_us));
        }
    }

    /// Sees to it that nothing is ever written at or before `at` any more, whoever leads next and whatever the
    /// clock shows after a restart: the log has, or gets, an entry with a later timestamp. Returns its index when
    /// that is yet to be applied; before it is, nobody may be told what was read as of `at`. A log without any room
    /// takes none: what is read then stays true as long as this node lives, or its clock is not set back.
    ///
    /// All entries in flight are after `at`: see [`Partition::pending_at`]. So is what `timestamp` gives.
    pub fn promise(
        &mut self,
        at: Timestamp,
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Option<Index> {
        if self.replica.applied_timestamp() >= at {
            return None;
        }
        if self.replica.is_in_flight() {
            return Some(self.last_index());
        }
        let may_propose = self.may_propose() && self.admission.log != LogRoom::Full;
        may_propose.then(|| self.replica.open_entry(timestamp()))
    }

    /// Deletes some of the keys in memory that have expired.
    pub fn expire(&mut self, now_ms: u64, clock: &mut Clock, wall_us: u64) -> Purge {
        let expired: Vec<Vec<u8>> = self
            .memtable
            .expired(now_ms)
            .take(EXPIRED_PER_CALL)
            .map(<[u8]>::to_vec)
            .collect();
        let mut purge = Purge {
            may_go_on: expired.len() == EXPIRED_PER_CALL,
            ..Purge::default()
        };
        for key in expired {
            let hash = self.memtable.hash(&key);
            // A change in flight may have given it a new life: then it is not expired.
            let in_flight = self.replica.find(hash, &key).map(|found| found.pending);
            if matches!(in_flight, None | Some(Pending::Untouched)) {
                let delete = Command::Delete { key: &key };
                let index = self.replica.propose(hash, delete, || clock.take(wall_us));
                purge.wait = Some(index);
                purge.keys.push(key);
            }
        }
        purge
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::PartitionId;

    use super::*;
    use crate::key::KeyRange;

    #[test]
    fn a_moment_that_was_read_is_promised_by_an_entry_behind_it() {
        let mut partition = Partition::new(PartitionId(0), KeyRange::all(), 7);
        let mut clock = Clock::default();
        let at = clock.take(1_000_000);
        let mut promise =
            |partition: &mut Partition, at| partition.promise(at, || clock.take(1_000_000));
        assert_eq!(promise(&mut partition, Timestamp(0)), None);
        partition.admission.log = LogRoom::Full;
        assert_eq!(promise(&mut partition, at), None, "there is no room for it");
        partition.admission.log = LogRoom::Open;
        let index = promise(&mut partition, at);
        assert_eq!(index, Some(partition.last_index()));
        assert_eq!(promise(&mut partition, at), index, "one does for all");
        assert_eq!(partition.pending_at(at), None, "it is behind the moment");
    }
}
