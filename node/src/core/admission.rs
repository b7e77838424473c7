//! What a shard takes in: the memory budget and the log's room, worked out once a turn, and asked for by each command.
//! Nothing is refused here but for a full disk: a command that must wait stops its connection.

use ashlar_partition::LogRoom;

use super::{Core, Data};
use crate::command::Command;

/// Bytes that a write takes in the log beside its words, at most.
const WRITE_OVERHEAD_BYTES: usize = 128;
/// Part of a segment that is kept for deletions when the disk is full: one in this many.
const DELETE_RESERVE_PART: u64 = 4;

/// What a command's bytes met at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may run.
    Now,
    /// Not in this turn.
    Later,
    /// Not before space returns on the disk.
    Never,
}

impl Core {
    /// Works out what the partitions may take in this turn.
    pub(super) fn admit_turn(&self, data: &mut Data) {
        let config = self.config.borrow();
        let owners = u64::from(self.shared.format.shards)
            .min(self.routes.partitions() as u64)
            .max(1);
        let budget = i64::try_from(self.shared.memory_bytes / owners).unwrap_or(i64::MAX);
        let used: u64 = data
            .partitions()
            .map(|partition| partition.used_bytes())
            .sum();
        let memory_left = budget - i64::try_from(used).unwrap_or(i64::MAX);
        data.room_bytes = data.wal.capacity_bytes();
        data.proposed_bytes = 0;
        let reserve = self.shared.format.segment_bytes / DELETE_RESERVE_PART;
        let log = match data.wal.failure() {
            None => LogRoom::Open,
            Some(_) if data.room_bytes > reserve => LogRoom::Open,
            Some(_) if data.room_bytes > 0 => LogRoom::Deletes,
            Some(_) => LogRoom::Full,
        };
        let value_bytes_max = usize::try_from(config.client.value_bytes_max).unwrap_or(usize::MAX);
        for partition in data.partitions() {
            partition.admission.memory_left = memory_left;
            partition.admission.log = log;
            partition.admission.value_bytes_max = value_bytes_max;
        }
    }

    /// Says whether a command of `bytes` may run on a partition of this shard now.
    #[must_use]
    pub fn admits(&self, partition: usize, command: &Command, bytes: usize) -> Admitted {
        if !command.writes() {
            return Admitted::Now;
        }
        let limit = self.config.borrow().partition.inflight_bytes_max;
        let mut data = self.data.borrow_mut();
        let bytes = (bytes + WRITE_OVERHEAD_BYTES) as u64;
        let in_flight = data.owned_mut(partition).partition.in_flight_bytes() as u64;
        if in_flight > 0 && in_flight + bytes > limit {
            return Admitted::Later;
        }
        let needed = data.proposed_bytes + bytes;
        if needed <= data.room_bytes {
            data.proposed_bytes = needed;
            return Admitted::Now;
        }
        data.wal.want(needed);
        match data.wal.failure() {
            // Small writes go on, to be refused by the partition with its reason, or to delete.
            Some(_) if bytes < 64 << 10 => Admitted::Now,
            Some(_) => Admitted::Never,
            None => Admitted::Later,
        }
    }
}
