//! What of a key's versions is kept when tables are written: the one rule of garbage collection.
//!
//! Not a filter over keys: it is told every version of a key, newest first, and judges each by what
//! it has seen of that key before.
//!
//! A reader looks as of some timestamp at or above the low-water mark. So of each key every version
//! above the mark is kept, and of those at or below it the newest, the *base*, which is what the
//! oldest reader sees. A base that says "not there" is kept only if something older may lie beneath.
//!
//! Invariant: for every timestamp at or above the low-water mark, what the kept versions say,
//! together with what lies beneath, is what all versions said.

use super::Entry;
use super::ranges::Ranges;
use crate::memtable::Kind;
use crate::planted::{Planted, is_planted};

/// What becomes of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is written.
    Keep,
    /// A tombstone of its timestamp is written in its place.
    Bury,
    /// It is left out.
    Drop,
}

/// Whether older versions may lie beneath what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// They may.
    Upper,
    /// Nothing does.
    Bottom,
}

/// Judges versions.
#[derive(Debug)]
pub(crate) struct Retain<'a> {
    low_water: u64,
    low_water_ms: u64,
    depth: Depth,
    ranges: &'a Ranges,
    /// The newest range deletion at or below the mark that covers the key looked at.
    deleted_at: u64,
    based: bool,
    /// Of the version judged last.
    timestamp: Option<u64>,
}

impl<'a> Retain<'a> {
    /// Makes a judge for readers at `low_water` or later.
    pub(crate) fn new(low_water: u64, depth: Depth, ranges: &'a Ranges) -> Self {
        let micros = ashlar_consensus::Timestamp(low_water).micros();
        Self {
            low_water,
            low_water_ms: micros / 1000,
            depth,
            ranges,
            deleted_at: 0,
            based: false,
            timestamp: None,
        }
    }

    /// Begins a key.
    pub(crate) fn begin(&mut self, key: &[u8]) {
        self.deleted_at = self.ranges.newest_over(key, self.low_water).unwrap_or(0);
        self.based = false;
        self.timestamp = None;
    }

    /// Judges the next version of the key, older than the one before. Or the same once more: after
    /// a recovery a memtable may hold versions that are in tables already.
    pub(crate) fn judge(&mut self, entry: &Entry<'_>) -> Verdict {
        if self.timestamp.replace(entry.timestamp) == Some(entry.timestamp) {
            return Verdict::Drop;
        }
        if entry.timestamp <= self.deleted_at {
            return Verdict::Drop;
        }
        if entry.timestamp > self.low_water && !is_planted(Planted::ForgetsHistory) {
            return Verdict::Keep;
        }
        if std::mem::replace(&mut self.based, true) {
            return Verdict::Drop;
        }
        let expired = entry
            .expire_at_ms
            .is_some_and(|at_ms| at_ms <= self.low_water_ms);
        match (entry.kind, self.depth) {
            (Kind::Tombstone, Depth::Bottom) => Verdict::Drop,
            (Kind::Tombstone, _) if is_planted(Planted::ForgetsTombstones) => Verdict::Drop,
            (Kind::Put | Kind::Root, Depth::Bottom) if expired => Verdict::Drop,
            (Kind::Put | Kind::Root, Depth::Upper) if expired => Verdict::Bury,
            (Kind::Put | Kind::Root | Kind::Tombstone, _) => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::lsm::Value;

    /// What a reader at `at` sees of versions by timestamp: the timestamp of the value.
    fn seen(
        versions: &BTreeMap<u64, (Kind, Option<u64>)>,
        at: u64,
        deleted: &[u64],
    ) -> Option<u64> {
        let (timestamp, (kind, expire)) = versions.range(..=at).next_back()?;
        let hidden = deleted.iter().any(|d| *d <= at && d >= timestamp);
        let now_ms = ashlar_consensus::Timestamp(at).micros() / 1000;
        let gone = expire.is_some_and(|end| end <= now_ms);
        (*kind == Kind::Put && !hidden && !gone).then_some(*timestamp)
    }

    /// Whether it sets the key, and when it expires.
    fn version() -> impl Strategy<Value = (bool, Option<u64>)> {
        (any::<bool>(), proptest::option::of(0_u64..40))
    }

    proptest! {
        #[test]
        fn readers_above_the_mark_notice_nothing(
            versions in proptest::collection::btree_map(1_u64..40, version(), 0..12),
            beneath in proptest::collection::btree_map(1_u64..10, any::<bool>(), 0..3),
            deleted in proptest::collection::vec(1_u64..40, 0..3),
            mark in 0_u64..40,
            bottom in any::<bool>(),
        ) {
            // A tick of this test is a millisecond, and what lies beneath is older than all else.
            let stamp = |tick: u64| ashlar_consensus::Timestamp::at_micros(tick * 1000).0;
            let kind = |put: bool| if put { Kind::Put } else { Kind::Tombstone };
            let mut ranges = Ranges::default();
            for tick in &deleted {
                ranges.add(b"a", b"z", stamp(tick + 20));
            }
            let deleted: Vec<u64> = deleted.iter().map(|tick| stamp(tick + 20)).collect();
            let above: BTreeMap<u64, (Kind, Option<u64>)> = versions
                .iter()
                .map(|(tick, (put, expire))| (stamp(tick + 10), (kind(*put), expire.filter(|_| *put).map(|e| e + 10))))
                .collect();
            let below: BTreeMap<u64, (Kind, Option<u64>)> = beneath
                .iter()
                .filter(|_| !bottom)
                .map(|(tick, put)| (stamp(*tick), (kind(*put), None)))
                .collect();
            let mut all = below.clone();
            all.extend(above.clone());
            let mut kept = below;
            let depth = if bottom { Depth::Bottom } else { Depth::Upper };
            let mut retain = Retain::new(stamp(mark + 10), depth, &ranges);
            retain.begin(b"key");
            for (timestamp, (kind, expire_at_ms)) in above.iter().rev() {
                let entry = Entry {
                    key: b"key",
                    timestamp: *timestamp,
                    kind: *kind,
                    expire_at_ms: *expire_at_ms,
                    value: Value::Inline(b""),
                };
                match retain.judge(&entry) {
                    Verdict::Keep => { kept.insert(*timestamp, (*kind, *expire_at_ms)); }
                    Verdict::Bury => { kept.insert(*timestamp, (Kind::Tombstone, None)); }
                    Verdict::Drop => {}
                }
            }
            for tick in mark..100 {
                let at = stamp(tick + 10);
                prop_assert_eq!(seen(&kept, at, &deleted), seen(&all, at, &deleted), "at {}", tick);
            }
        }
    }
}
