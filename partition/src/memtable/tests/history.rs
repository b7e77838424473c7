//! Tests of memtables whose readers look back: long chains, and readers that park.

use super::*;
use crate::memtable::ladder::SLACK;

/// One write of a workload in which time goes on.
#[derive(Clone, Copy, Debug)]
struct Step {
    key: u8,
    /// How much time passes before it.
    pause: u64,
    /// How far its timestamp is behind the newest.
    behind: u64,
    kind: Kind,
    expires: bool,
    value_bytes: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (
        prop_oneof![6 => Just(0u8), 2 => 1u8..3, 1 => 3u8..9],
        prop_oneof![20 => 0u64..3, 2 => 3u64..40, 1 => 40u64..600],
        prop_oneof![12 => Just(0u64), 1 => 1u64..100],
        prop_oneof![6 => Just(Kind::Put), 1 => Just(Kind::Tombstone)],
        any::<bool>(),
        prop_oneof![12 => 0usize..60, 1 => 900usize..1100],
    );
    let step = step.prop_map(|(key, pause, behind, kind, expires, value_bytes)| Step {
        key,
        pause,
        behind,
        kind,
        expires: expires && kind == Kind::Put,
        value_bytes: if kind == Kind::Put { value_bytes } else { 0 },
    });
    prop::collection::vec(step, 1..600)
}

/// A memtable and all that was ever put into it.
struct Pair {
    memtable: Memtable,
    all: Model,
    window: u64,
    now: u64,
}

impl Pair {
    fn new(window: u64, beneath: Beneath) -> Self {
        let (memtable, all) = (Memtable::new(12), Model::new(beneath));
        Self {
            memtable,
            all,
            window,
            now: window,
        }
    }

    fn floor(&self) -> u64 {
        self.now - self.window
    }

    fn put(&mut self, number: usize, step: Step) -> (Vec<u8>, u64) {
        self.now += step.pause;
        // Nothing is written at or below the floor.
        let timestamp = self.now.saturating_sub(step.behind).max(self.floor() + 1);
        let key = vec![step.key % 3, step.key];
        let value = vec![u8::try_from(number % 251).unwrap(); step.value_bytes];
        let version = Version {
            timestamp,
            kind: step.kind,
            expire_at_ms: step.expires.then_some(number as u64),
            value: &value,
        };
        let hash = self.memtable.hash(&key);
        self.memtable
            .put(hash, &key, version, self.floor(), self.all.1);
        self.all.put(&key, version, 0);
        (key, timestamp)
    }

    /// Returns what somebody may see at `timestamp`, without tombstones that tell nobody anything.
    fn seen(&self, found: Option<(u64, Stored)>) -> Option<(u64, Stored)> {
        let useless = |at: u64, kind: Kind| {
            kind == Kind::Tombstone && at <= self.floor() && self.all.1 == Beneath::Nothing
        };
        found.filter(|(at, stored)| !useless(*at, stored.0))
    }

    fn check_key(&self, key: &[u8]) {
        let hash = self.memtable.hash(key);
        let chain = self.all.chain(key).into_iter().map(|(at, _)| at);
        let times = chain
            .flat_map(|at| [at, at + 1, at - 1])
            .chain([self.floor(), u64::MAX]);
        for timestamp in times.filter(|at| *at >= self.floor()) {
            let found = self.memtable.as_of(hash, key, timestamp).map(owned);
            assert_eq!(self.seen(found), self.seen(self.all.as_of(key, timestamp)));
        }
    }

    /// Checks that each version that may be seen is listed, in order, and what is listed was put.
    fn check_versions(&self) {
        let found: Vec<_> = self
            .memtable
            .versions(Bound::Unbounded)
            .map(owned_entry)
            .collect();
        let order = |(key, (at, _)): &(Vec<u8>, (u64, Stored))| (key.clone(), Reverse(*at));
        assert!(
            found
                .windows(2)
                .all(|pair| order(&pair[0]) < order(&pair[1]))
        );
        for (key, (at, stored)) in &found {
            assert_eq!(self.all.0.get(&(key.clone(), Reverse(*at))), Some(stored));
        }
        assert_eq!(self.memtable.version_count(), found.len() as u64);
        let above = |at: u64| at > self.floor();
        let listed = found.iter().filter(|(_, (at, _))| above(*at)).count();
        let put = self.all.0.keys().filter(|(_, at)| above(at.0)).count();
        assert_eq!(listed, put);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_window_reads_as_if_nothing_were_freed(
        steps in steps(),
        window in prop_oneof![Just(1u64), 1u64..50, 50u64..2000],
        beneath in beneath(),
    ) {
        let mut pair = Pair::new(window, beneath);
        for (number, step) in steps.into_iter().enumerate() {
            let (key, _) = pair.put(number, step);
            if number % 16 == 0 {
                pair.check_key(&key);
            }
        }
        pair.all.keys().iter().for_each(|key| pair.check_key(key));
        pair.check_versions();
        for key in pair.all.keys() {
            let hash = pair.memtable.hash(&key);
            pair.memtable.delete(hash, &key, u64::MAX, u64::MAX, Beneath::Nothing);
        }
        let left = (pair.memtable.used_bytes(), pair.memtable.version_count());
        prop_assert_eq!(left, (0, 0));
    }

    #[test]
    fn a_reader_that_parks_misses_nothing_and_repeats_nothing(
        steps in steps(),
        later in steps(),
        stride in 1usize..20,
        from in 0u8..9,
    ) {
        let mut pair = Pair::new(1_000_000, Beneath::Tables);
        steps.into_iter().enumerate().for_each(|(number, step)| drop(pair.put(number, step)));
        let (first, seen_at) = ([from % 3, from], pair.now);
        let whole = pair.memtable.versions(Bound::Included(&first)).seen_at(seen_at);
        let expected: Vec<_> = whole.map(owned_entry).collect();
        let mut parked = pair.memtable.versions(Bound::Included(&first)).seen_at(seen_at).park();
        let mut found = Vec::new();
        let mut later = later.into_iter().enumerate();
        loop {
            let mut versions = pair.memtable.resume(&parked);
            let read = found.len();
            found.extend(versions.by_ref().take(stride).map(owned_entry));
            parked = versions.park();
            if found.len() == read {
                break;
            }
            // Every other time the memtable has changed when the reader comes back.
            if let (1, Some((number, step))) = (found.len() / stride % 2, later.next()) {
                pair.put(number, Step { behind: 0, pause: step.pause + 1, ..step });
            }
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_hot_key_keeps_little_more_than_its_window() {
    for (window, count) in [
        (1, 5000),
        (7, 5000),
        (100, 20_000),
        (5000, 60_000),
        (30_000, 150_000),
    ] {
        let mut memtable = Memtable::new(13);
        let hash = memtable.hash(b"hot");
        for now in window..window + count {
            let version = Version::put(now, None, b"12345678");
            memtable.put(hash, b"hot", version, now - window, Beneath::Nothing);
            let needed = (now - window).min(window) + 1;
            let held = memtable.version_count();
            assert!(
                held <= needed + needed / 4 + SLACK,
                "{window} {now}: {held} of {needed}"
            );
        }
        assert!(memtable.used_bytes() < 64 * (window * 3 / 2 + 32));
    }
}

#[test]
fn what_a_pause_left_is_freed_by_and_by() {
    let mut memtable = Memtable::new(14);
    let hash = memtable.hash(b"hot");
    let put = |memtable: &mut Memtable, now: u64, floor: u64| {
        let version = Version::put(now, None, b"12345678");
        memtable.put(hash, b"hot", version, floor, Beneath::Nothing);
    };
    (1..=100_000).for_each(|now| put(&mut memtable, now, 0));
    assert_eq!(memtable.version_count(), 100_000);
    for now in 200_000..200_000 + 100_000 / 63 + 1 {
        let before = memtable.version_count();
        put(&mut memtable, now, 150_000);
        let freed = (before + 1).saturating_sub(memtable.version_count());
        assert!(freed <= 64);
    }
    let seen = 100_000 / 63 + 2;
    assert!(
        memtable.version_count() <= seen + seen / 4 + SLACK,
        "{memtable:?}"
    );
    assert_eq!(
        memtable
            .as_of(hash, b"hot", 150_000)
            .map(|found| found.timestamp),
        Some(100_000)
    );
}

#[test]
fn a_long_chain_is_read_at_every_timestamp() {
    let mut memtable = Memtable::new(15);
    let hash = memtable.hash(b"hot");
    for now in 1..=20_000u64 {
        let value = now.to_le_bytes();
        let version = Version::put(now * 2, None, &value);
        memtable.put(
            hash,
            b"hot",
            version,
            (now * 2).saturating_sub(30_000),
            Beneath::Nothing,
        );
    }
    for timestamp in 10_000..=40_000 {
        let found = memtable
            .as_of(hash, b"hot", timestamp)
            .map(|found| found.timestamp);
        assert_eq!(found, Some(timestamp / 2 * 2));
    }
    memtable.put(
        hash,
        b"hot",
        Version::put(50_000, None, b"v"),
        u64::MAX,
        Beneath::Nothing,
    );
    assert_eq!(memtable.version_count(), 1);
}
