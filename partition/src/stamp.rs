//! What tells one state of a key from another: asked for when a client begins to watch a key, and again before
//! it acts on what it has read. The timestamp of the newest version does, whether that is applied or still in
//! flight.
//!
//! Not a lock: nobody is kept from changing the key.

use ashlar_consensus::Index;

use crate::overlay::Pending;
use crate::partition::Partition;
use crate::read::{Held, Want};

/// The state of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Timestamp of the newest version, a deletion too; 0 when there is none.
    pub timestamp: u64,
    /// Whether the key is there: neither deleted nor expired.
    pub is_there: bool,
}

impl Stamp {
    /// Says whether nothing has happened to the key between this and a later state. A deletion that has been
    /// forgotten since, because nobody could read what it hid, is not taken for a change.
    #[must_use]
    pub fn holds(self, later: Self) -> bool {
        self == later || (!self.is_there && later == Self::default())
    }
}

impl Partition {
    /// Returns the state of `key`, an internal one, and the index that must be applied before a client may be told.
    ///
    /// # Errors
    /// [`Want`]: it lies in a block that is not in memory.
    pub fn stamp(&self, key: &[u8], now_ms: u64) -> Result<(Stamp, Option<Index>), Want> {
        let hash = self.memtable.hash(key);
        let lasts = |expire_at_ms: Option<u64>| expire_at_ms.is_none_or(|at_ms| at_ms > now_ms);
        if let Some((timestamp, found)) = self.replica.find_stamped(hash, key) {
            let is_there = match found.pending {
                Pending::Put { expire_at_ms, .. } => lasts(expire_at_ms),
                Pending::Deleted | Pending::Untouched => false,
            };
            let stamp = Stamp {
                timestamp: timestamp.0,
                is_there,
            };
            return Ok((stamp, Some(found.index)));
        }
        let mut held = Held::default();
        let version = self.find(hash, key, u64::MAX, &mut held)?;
        let stamp = version.map_or_else(Stamp::default, |version| Stamp {
            timestamp: version.timestamp,
            is_there: version.kind.is_there() && lasts(version.expire_at_ms),
        });
        Ok((stamp, None))
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::{Clock, PartitionId};

    use super::*;
    use crate::key::KeyRange;
    use crate::request::{Condition, Expiry, Put, Request, Return};

    const KEY: &[u8] = b"\0k";

    fn ask(partition: &mut Partition, clock: &mut Clock, request: &Request<'_>) {
        partition.serve(KEY, request, 10, || clock.take(10_000), |_| ());
    }

    #[test]
    fn every_change_of_a_key_changes_its_stamp() {
        let mut partition = Partition::new(PartitionId(0), KeyRange::all(), 7);
        let mut clock = Clock::default();
        let set = Request::Put(Put {
            value: b"v",
            condition: Condition::Always,
            expiry: Expiry::Never,
            returns: Return::Outcome,
        });
        let stamp = |partition: &Partition| partition.stamp(KEY, 10).unwrap().0;
        let mut stamps = vec![stamp(&partition)];
        assert_eq!(stamps, [Stamp::default()]);
        for request in [set, set, Request::Append(b"x"), Request::Delete, set] {
            ask(&mut partition, &mut clock, &request);
            stamps.push(stamp(&partition));
        }
        for (place, one) in stamps.iter().enumerate() {
            assert!(one.holds(*one));
            assert!(stamps[place + 1..].iter().all(|later| !one.holds(*later)));
        }
        assert!(!stamps[4].is_there && stamps[4].holds(Stamp::default()));
        assert!(!stamps[3].holds(Stamp::default()), "it was there");
        partition.clear(None, || clock.take(10_000)).unwrap();
        assert_eq!(stamp(&partition), Stamp::default());
    }

    #[test]
    fn a_key_that_has_expired_is_not_there() {
        let mut partition = Partition::new(PartitionId(0), KeyRange::all(), 7);
        let mut clock = Clock::default();
        let set = Request::Put(Put {
            value: b"v",
            condition: Condition::Always,
            expiry: Expiry::At(20),
            returns: Return::Outcome,
        });
        ask(&mut partition, &mut clock, &set);
        let at = |now_ms| partition.stamp(KEY, now_ms).unwrap().0;
        assert!(at(19).is_there && !at(20).is_there);
        assert!(!at(19).holds(at(20)) && at(20).holds(at(21)));
    }
}
