//! Keeps the log short while all data lives in memory: every live version is written again at the
//! log's end, a little per turn, and then what lies before the sweep's begin is no longer needed.
//! Expired keys are deleted on the way.
//!
//! It is the rewriting of a straggler (raft-engine does it for groups that pin old files), applied
//! to a whole partition; once tables on disk hold the data, a flush takes its place.
//!
//! Invariants:
//! 1. `pinned` moves only when every key that was live when the sweep began is in an applied entry
//!    at or behind the sweep's begin: written again by the sweep, or changed since by an entry
//!    there.
//! 2. A key with a change in flight is left to that change: the begin is never behind an entry that
//!    is in flight.

use std::ops::Bound;

use ashlar_consensus::{Clock, Index, Timestamp};
use ashlar_io::wal::{Position, Wal};

use crate::command::Command;
use crate::memtable::Kind;
use crate::overlay::Pending;
use crate::partition::Partition;

/// Keys looked at in one turn at most.
const KEYS_PER_TURN: usize = 512;
/// Bytes written again in one turn at most, but for one value that is larger by itself.
const BYTES_PER_TURN: usize = 64 << 10;
/// Keys deleted in one call because they have expired.
const EXPIRED_PER_CALL: usize = 256;

/// The state of a partition's cleaning.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    /// First position of the log that this partition needs.
    pub(crate) pinned: Position,
    sweep: Option<Sweep>,
}

#[derive(Debug)]
struct Sweep {
    begin: Position,
    /// Versions above it were written at or behind the begin.
    since: Timestamp,
    /// The last key looked at; `None` before the first.
    after: Option<Vec<u8>>,
    /// Set when all keys have been looked at: the sweep ends once this is applied.
    last: Option<Index>,
}

impl Partition {
    /// Returns the first position of the log that this partition needs.
    #[must_use]
    pub fn pinned(&self, wal: &Wal) -> Position {
        let idle = self.memtable.keys() == 0
            && self.replica.in_flight_bytes() == 0
            && self.replica.last() == Index(0);
        if idle {
            wal.position()
        } else {
            self.cleaning.pinned
        }
    }

    /// Says whether a sweep goes on.
    #[must_use]
    pub fn is_cleaning(&self) -> bool {
        self.cleaning.sweep.is_some()
    }

    /// Begins a sweep, unless one goes on.
    pub fn start_cleaning(&mut self, wal: &Wal, clock: &mut Clock, wall_us: u64) {
        if self.cleaning.sweep.is_none() {
            let begin = self
                .replica
                .oldest_pending()
                .unwrap_or_else(|| wal.position());
            let since = clock.take(wall_us);
            self.cleaning.sweep = Some(Sweep {
                begin,
                since,
                after: None,
                last: None,
            });
        }
    }

    /// Goes on with the sweep for one turn; `true` while there is more to do at once.
    pub fn clean(&mut self, clock: &mut Clock, wall_us: u64) -> bool {
        let Some(mut sweep) = self.cleaning.sweep.take() else {
            return false;
        };
        if let Some(last) = sweep.last {
            if self.replica.applied() >= last {
                self.cleaning.pinned = sweep.begin;
            } else {
                self.cleaning.sweep = Some(sweep);
            }
            return false;
        }
        let more = self.rewrite_some(&mut sweep, clock, wall_us);
        if !more {
            // The entry may be empty: it carries the index and the clock into the part of the log
            // that stays.
            sweep.last = Some(self.open_entry(clock.take(wall_us)));
        }
        self.cleaning.sweep = Some(sweep);
        more
    }

    /// Writes the next keys again; says whether there are more.
    fn rewrite_some(&mut self, sweep: &mut Sweep, clock: &mut Clock, wall_us: u64) -> bool {
        let from = match &sweep.after {
            Some(key) => Bound::Excluded(key.as_slice()),
            None => Bound::Unbounded,
        };
        let (mut bytes, mut last) = (0, None);
        let (memtable, replica) = (&self.memtable, &mut self.replica);
        for (count, (key, version)) in memtable.range(from).enumerate() {
            if count == KEYS_PER_TURN || bytes >= BYTES_PER_TURN {
                sweep.after = last.map(<[u8]>::to_vec);
                return true;
            }
            last = Some(key);
            let hash = memtable.hash(key);
            let rewritten = version.timestamp > sweep.since.0 || version.kind != Kind::Put;
            if rewritten || replica.find(hash, key).is_some() {
                continue;
            }
            let timestamp = Timestamp(version.timestamp);
            let keep = Command::Keep {
                key,
                expire_at_ms: version.expire_at_ms,
                timestamp,
                value: version.value,
            };
            replica.propose(hash, keep, || clock.take(wall_us));
            bytes += key.len() + version.value.len();
        }
        false
    }

    /// Deletes some of the keys that have expired; says whether there may be more.
    pub fn expire(&mut self, now_ms: u64, clock: &mut Clock, wall_us: u64) -> bool {
        let expired: Vec<Vec<u8>> = self
            .memtable
            .expired(now_ms)
            .take(EXPIRED_PER_CALL)
            .map(<[u8]>::to_vec)
            .collect();
        let found = expired.len();
        for key in expired {
            let hash = self.memtable.hash(&key);
            // A change in flight may have given it a new life: then it is not expired.
            let in_flight = self.replica.find(hash, &key).map(|found| found.pending);
            if matches!(in_flight, None | Some(Pending::Untouched)) {
                self.replica
                    .propose(hash, Command::Delete { key: &key }, || clock.take(wall_us));
            }
        }
        found == EXPIRED_PER_CALL
    }
}
