//! What a shard takes in: the room of memtables and log, worked out once a turn, and asked for by
//! each command. Nothing is refused here but for a full disk: a command that must wait stops its
//! connection.
//!
//! The ladder, by bytes in memtables, frozen ones included:
//! 1. below the soft limit, all is taken;
//! 2. between soft and hard, as many bytes in a millisecond as flushes take out of memory, times how
//!    far the hard limit still is: so writers slow down little by little, and settle between;
//! 3. at the hard limit, what makes the partition larger is refused with `-BUSY`; deletions go on.
//!
//! The debt of merges is measured against its own limits in the same way.

use ashlar_io::Monotonic;
use ashlar_partition::{LogRoom, Pressure};

use super::space::Level;
use super::{Core, Data, Stance};
use crate::command::Command;

/// Bytes that a write takes in the log beside its words, at most.
const WRITE_OVERHEAD_BYTES: usize = 128;
/// How many times its words a write of collections may take in the log: an element of a few bytes has a key of its own.
const COLLECTION_FACTOR: usize = 6;
/// Part of a segment that is kept for deletions when the disk is full: one in this many.
const DELETE_RESERVE_PART: u64 = 4;

/// What a command's bytes met at admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may run.
    Now,
    /// Not in this turn.
    Later,
    /// Not for some hundred microseconds: memory fills faster than it is flushed.
    Slower,
    /// Not before space returns on the disk.
    Never,
    /// Not before the clock can be believed.
    Untimed,
}

/// Share of the memtables' memory at which writers are slowed, in percent.
const SOFT_PERCENT: u64 = 75;
/// Share of the memtables' memory at which they are refused.
const HARD_PERCENT: u64 = 95;
/// Writes that are taken at once after a pause, at most: as of so many milliseconds.
const BURST_MS: u64 = 10;
/// Least rate that a slowed shard takes, in bytes of a millisecond.
const RATE_MIN: u64 = 256;

/// Slows writers down when memory fills faster than it is flushed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Throttle {
    /// Bytes that may be taken now; without limit when `None`.
    tokens: Option<u64>,
    refilled: Option<Monotonic>,
}

impl Throttle {
    /// Refills the tokens. `used` and `limit` are bytes of memtables, `flushed` the bytes that
    /// leave memory in a millisecond.
    fn refill(&mut self, now: Monotonic, (used, limit): (u64, u64), flushed: u64) {
        let (soft, hard) = (limit * SOFT_PERCENT / 100, limit * HARD_PERCENT / 100);
        let since = self.refilled.replace(now);
        if used <= soft {
            self.tokens = None;
            return;
        }
        let left = hard.saturating_sub(used);
        let rate = (flushed * 2 * left / (hard - soft).max(1)).max(RATE_MIN);
        let since_us = since.map_or(0, |since| {
            u64::try_from(now.since(since).as_micros()).unwrap_or(u64::MAX)
        });
        let more = (rate * since_us.min(BURST_MS * 1000)) / 1000;
        let tokens = self.tokens.unwrap_or(0) + more;
        self.tokens = Some(tokens.min(rate * BURST_MS));
    }

    /// Takes tokens; a write larger than all that gather is taken once there are as many as there
    /// ever are.
    fn takes(&mut self, bytes: u64) -> bool {
        match &mut self.tokens {
            None => true,
            Some(0) => false,
            Some(tokens) => {
                *tokens = tokens.saturating_sub(bytes);
                true
            }
        }
    }
}

impl Core {
    /// Works out what the partitions may take in this turn.
    pub(super) fn admit_turn(&self, data: &mut Data) {
        let config = self.config.borrow();
        let limit = self.shared.memtable_bytes();
        let used: u64 = data
            .partitions()
            .map(|partition| partition.used_bytes())
            .sum();
        let flushed = self.upkeep.flushed_bytes_per_ms();
        let now = self.reactor.now();
        data.throttle.refill(now, (used, limit), flushed);
        let pressure = if used >= limit * HARD_PERCENT / 100 {
            Pressure::Full
        } else {
            Pressure::Open
        };
        data.room_bytes = data.wal.capacity_bytes();
        data.proposed_bytes = 0;
        let reserve = self.shared.format.segment_bytes / DELETE_RESERVE_PART;
        let is_full = self.shared.space.level() == Level::Full;
        let log = match data.wal.failure() {
            None if is_full => LogRoom::Deletes,
            None => LogRoom::Open,
            Some(_) if data.room_bytes > reserve && !is_full => LogRoom::Open,
            Some(_) if data.room_bytes > 0 => LogRoom::Deletes,
            Some(_) => LogRoom::Full,
        };
        if log == LogRoom::Full {
            self.shared.space.note_starved();
        }
        let value_bytes_max = usize::try_from(config.client.value_bytes_max).unwrap_or(usize::MAX);
        for partition in data.partitions() {
            partition.admission.pressure = pressure;
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
        if self.stance() == Stance::Refuses {
            return Admitted::Untimed;
        }
        let limit = self.config.borrow().partition.inflight_bytes_max;
        let mut data = self.data.borrow_mut();
        let factor = if command.is_of_strings() {
            1
        } else {
            COLLECTION_FACTOR
        };
        let bytes = (bytes * factor + WRITE_OVERHEAD_BYTES) as u64;
        let in_flight = data.owned_mut(partition).partition.in_flight_bytes() as u64;
        if in_flight > 0 && in_flight + bytes > limit {
            return Admitted::Later;
        }
        let needed = data.proposed_bytes + bytes;
        if needed <= data.room_bytes {
            if !data.throttle.takes(bytes) {
                return Admitted::Slower;
            }
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
