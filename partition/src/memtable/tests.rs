//! Tests of the whole memtable against a map of (key, newest timestamp first).

mod history;
mod memory;
mod renewed;

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// Versions of a key up to which nothing unseen stays.
const EXACT_VERSIONS: usize = 8;

type Stored = (Kind, Option<u64>, Vec<u8>);

/// The same thing without any cleverness.
struct Model(BTreeMap<(Vec<u8>, Reverse<u64>), Stored>, Beneath);

impl Model {
    fn new(beneath: Beneath) -> Self {
        Self(BTreeMap::new(), beneath)
    }

    fn put(&mut self, key: &[u8], version: Version<'_>, floor: u64) {
        let timestamp = version.timestamp;
        let hidden = self
            .chain(key)
            .iter()
            .any(|(at, _)| timestamp < *at && *at <= floor);
        if !hidden {
            let stored = (version.kind, version.expire_at_ms, version.value.to_vec());
            self.0
                .entry((key.to_vec(), Reverse(timestamp)))
                .or_insert(stored);
        }
        let mut floor_seen = false;
        for (timestamp, stored) in self.chain(key) {
            let tombstone = stored.0 == Kind::Tombstone && self.1 == Beneath::Nothing;
            if timestamp <= floor && (floor_seen || tombstone) {
                self.0.remove(&(key.to_vec(), Reverse(timestamp)));
            }
            floor_seen |= timestamp <= floor;
        }
    }

    fn chain(&self, key: &[u8]) -> Vec<(u64, Stored)> {
        let all = self.0.range((key.to_vec(), Reverse(u64::MAX))..);
        let of_key = all.take_while(|((other, _), _)| other == key);
        of_key
            .map(|((_, timestamp), stored)| (timestamp.0, stored.clone()))
            .collect()
    }

    fn as_of(&self, key: &[u8], timestamp: u64) -> Option<(u64, Stored)> {
        self.chain(key).into_iter().find(|(at, _)| *at <= timestamp)
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = self.0.keys().map(|(key, _)| key.clone()).collect();
        keys.dedup();
        keys
    }

    fn newest(&self) -> Vec<(Vec<u8>, (u64, Stored))> {
        let newest = |key: Vec<u8>| (key.clone(), self.as_of(&key, u64::MAX).unwrap());
        self.keys().into_iter().map(newest).collect()
    }
}

fn owned(version: Version<'_>) -> (u64, Stored) {
    (
        version.timestamp,
        (version.kind, version.expire_at_ms, version.value.to_vec()),
    )
}

fn owned_entry((key, version): (&[u8], Version<'_>)) -> (Vec<u8>, (u64, Stored)) {
    (key.to_vec(), owned(version))
}

/// Compares everything that can be asked.
fn check(memtable: &Memtable, model: &Model) {
    let expected = model.newest();
    let hashes: Vec<_> = expected.iter().map(|(key, _)| memtable.hash(key)).collect();
    memtable.warm(&hashes);
    let found: Vec<_> = memtable.range(Bound::Unbounded).map(owned_entry).collect();
    assert_eq!(found, expected);
    let mut reversed: Vec<_> = memtable
        .range_rev(Bound::Unbounded)
        .map(owned_entry)
        .collect();
    reversed.reverse();
    assert_eq!(reversed, expected);
    for (key, newest) in &expected {
        let hash = memtable.hash(key);
        assert_eq!(memtable.newest(hash, key).map(owned).as_ref(), Some(newest));
        for timestamp in 0..50 {
            let found = memtable.as_of(hash, key, timestamp).map(owned);
            assert_eq!(found, model.as_of(key, timestamp));
        }
    }
    check_counts(memtable, &expected);
    check_versions(memtable, model);
    assert_eq!(memtable.used_bytes() == 0, expected.is_empty());
    assert!(memtable.used_bytes() <= memtable.held_bytes());
}

fn check_versions(memtable: &Memtable, model: &Model) {
    let flat = |((key, timestamp), stored): (&(Vec<u8>, Reverse<u64>), &Stored)| {
        (key.clone(), (timestamp.0, stored.clone()))
    };
    let expected: Vec<_> = model.0.iter().map(flat).collect();
    let found: Vec<_> = memtable
        .versions(Bound::Unbounded)
        .map(owned_entry)
        .collect();
    assert_eq!(found, expected);
    let tombstones = found
        .iter()
        .filter(|(_, (_, stored))| stored.0 == Kind::Tombstone);
    assert_eq!(memtable.version_count(), expected.len() as u64);
    assert_eq!(memtable.tombstone_count(), tombstones.count() as u64);
    assert_eq!(memtable.timestamps().is_none(), expected.is_empty());
    if let Some(timestamps) = memtable.timestamps() {
        assert!(expected.iter().all(|(_, (at, _))| timestamps.contains(at)));
    }
    assert_eq!(
        memtable.first_key(),
        expected.first().map(|(key, _)| key.as_slice())
    );
    assert_eq!(
        memtable.last_key(),
        expected.last().map(|(key, _)| key.as_slice())
    );
}

fn check_counts(memtable: &Memtable, expected: &[(Vec<u8>, (u64, Stored))]) {
    let live = |first: u8| {
        let of = expected.iter().filter(|(key, _)| key[0] == first);
        of.filter(|(_, (_, stored))| stored.0 == Kind::Put).count() as u64
    };
    let expiring = |first: u8| {
        let of = expected.iter().filter(|(key, _)| key[0] == first);
        of.filter(|(_, (_, stored))| stored.1.is_some()).count() as u64
    };
    assert_eq!(memtable.keys(), (0..=255).map(live).sum::<u64>());
    assert_eq!(memtable.expiring(), (0..=255).map(expiring).sum::<u64>());
    for first in 0..4 {
        assert_eq!(memtable.keys_of(first), live(first));
        assert_eq!(memtable.expiring_of(first), expiring(first));
        assert_eq!(memtable.random_key_of(first, 7).is_some(), live(first) > 0);
    }
    let first_expiry = expected
        .iter()
        .filter_map(|(_, (_, stored))| stored.1)
        .min();
    assert_eq!(
        memtable.next_expired(u64::MAX).map(|(_, at)| at),
        first_expiry
    );
    if let Some((key, at)) = memtable.next_expired(u64::MAX) {
        let version = memtable.newest(memtable.hash(key), key).unwrap();
        assert_eq!(version.expire_at_ms, Some(at));
        assert_eq!(memtable.next_expired(at - 1), None);
    }
}

#[derive(Clone, Debug)]
struct Write {
    key: Vec<u8>,
    timestamp: u64,
    kind: Kind,
    expire_at_ms: Option<u64>,
    value_bytes: usize,
    floor: u64,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let key = (
        0u8..4,
        prop_oneof![4 => 0usize..20, 1 => 900usize..1000],
        0u8..3,
    )
        .prop_map(|(first, length, fill)| [vec![first], vec![fill; length]].concat());
    let value_bytes = prop_oneof![8 => 0usize..40, 2 => 900usize..1100, 1 => 262_000usize..262_300];
    let write = (
        key,
        1u64..40,
        prop_oneof![3 => Just(Kind::Put), 1 => Just(Kind::Tombstone)],
        prop::option::of(1u64..9),
        value_bytes,
        0u64..45,
    );
    prop::collection::vec(
        write.prop_map(
            |(key, timestamp, kind, expire_at_ms, value_bytes, floor)| Write {
                key,
                timestamp,
                kind,
                expire_at_ms: expire_at_ms.filter(|_| kind == Kind::Put),
                value_bytes: if kind == Kind::Put { value_bytes } else { 0 },
                floor,
            },
        ),
        1..120,
    )
}

fn apply(memtable: &mut Memtable, model: &mut Model, write: &Write, number: usize) {
    if model.chain(&write.key).len() == EXACT_VERSIONS {
        return;
    }
    let mark = u8::try_from(number % 251).unwrap();
    let value = vec![mark; write.value_bytes];
    let version = Version {
        timestamp: write.timestamp,
        kind: write.kind,
        expire_at_ms: write.expire_at_ms,
        value: &value,
    };
    let hash = memtable.hash(&write.key);
    memtable.put(hash, &write.key, version, write.floor, model.1);
    model.put(&write.key, version, write.floor);
}

fn beneath() -> impl Strategy<Value = Beneath> {
    prop::sample::select(vec![Beneath::Nothing, Beneath::Tables])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_the_model_in_any_order(writes in writes(), beneath in beneath()) {
        let (mut memtable, mut model) = (Memtable::new(1), Model::new(beneath));
        for (number, write) in writes.iter().enumerate() {
            apply(&mut memtable, &mut model, write, number);
            let found = memtable.newest(memtable.hash(&write.key), &write.key).map(owned);
            prop_assert_eq!(found, model.as_of(&write.key, u64::MAX));
        }
        check(&memtable, &model);
        memtable.clear_prefix(2);
        model.0.retain(|(key, _), _| key[0] != 2);
        check(&memtable, &model);
        for key in model.keys() {
            memtable.delete(memtable.hash(&key), &key, 100, 100, Beneath::Nothing);
        }
        check(&memtable, &Model::new(beneath));
    }

    #[test]
    fn agrees_with_the_model_as_time_goes_on(
        mut writes in writes(),
        window in 0u64..20,
        beneath in beneath(),
    ) {
        let (mut memtable, mut model) = (Memtable::new(2), Model::new(beneath));
        for (number, write) in writes.iter_mut().enumerate() {
            write.timestamp = number as u64 / 3 + 1;
            write.floor = write.timestamp.saturating_sub(window);
            apply(&mut memtable, &mut model, write, number);
        }
        check(&memtable, &model);
        // A log that is replayed from a point where it was already applied changes no answer.
        let last_floor = writes.last().unwrap().floor;
        for (number, write) in writes.iter().enumerate() {
            apply(&mut memtable, &mut model, write, number);
        }
        check(&memtable, &model);
        let bound = &writes[0].key;
        for included in [Bound::Included(bound.as_slice()), Bound::Excluded(bound.as_slice())] {
            let up: Vec<_> = memtable.range(included).map(|(key, _)| key.to_vec()).collect();
            let down: Vec<_> = memtable.range_rev(included).map(|(key, _)| key.to_vec()).collect();
            let is_in = |key: &Vec<u8>| *key != *bound || matches!(included, Bound::Included(_));
            let keys = model.keys().into_iter().filter(is_in);
            let (above, mut below): (Vec<_>, Vec<_>) = keys.partition(|key| key > bound);
            below.reverse();
            let at = below.iter().filter(|key| *key == bound).cloned();
            prop_assert_eq!(up, at.chain(above).collect::<Vec<_>>());
            prop_assert_eq!(down, below);
            for other in writes.iter().take(8).map(|write| &write.key) {
                check_walks(&memtable, included, other);
            }
        }
        let seen = memtable.range(Bound::Unbounded).seen_at(last_floor).map(owned_entry);
        let of = |key: Vec<u8>| model.as_of(&key, last_floor).map(|found| (key, found));
        let expected: Vec<_> = model.keys().into_iter().filter_map(of).collect();
        prop_assert_eq!(seen.collect::<Vec<_>>(), expected);
    }
}

/// Compares walks from a key to another one with ranges.
fn check_walks(memtable: &Memtable, from: Bound<&[u8]>, to: &[u8]) {
    let mut walked = Vec::new();
    let mut all = |key: &[u8], version: Version<'_>| {
        walked.push(owned_entry((key, version)));
        ControlFlow::Continue(())
    };
    memtable.walk_up(from, |key| key <= to, &mut all);
    memtable.walk_down(from, |key| key > to, &mut all);
    let up = memtable.range(from).take_while(|(key, _)| *key <= to);
    let down = memtable.range_rev(from).take_while(|(key, _)| *key > to);
    let expected: Vec<_> = up.chain(down).map(owned_entry).collect();
    assert_eq!(walked, expected);
    let mut few = 0;
    memtable.walk_up(
        from,
        |_| true,
        |_, _| {
            few += 1;
            if few < 3 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    );
    assert_eq!(few, memtable.range(from).take(3).count());
}

/// Numbers that look random and are the same in every run.
fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    (seed..).map(|number| xxh3_64_with_seed(&number.to_le_bytes(), 99))
}

#[test]
fn a_tombstone_above_the_floor_hides_without_freeing() {
    let mut memtable = Memtable::new(6);
    let hash = memtable.hash(b"k");
    memtable.put(
        hash,
        b"k",
        Version::put(10, None, b"v"),
        0,
        Beneath::Nothing,
    );
    memtable.delete(hash, b"k", 20, 10, Beneath::Nothing);
    assert_eq!(memtable.keys(), 0);
    assert_eq!(
        memtable.newest(hash, b"k").map(|newest| newest.kind),
        Some(Kind::Tombstone)
    );
    assert_eq!(
        memtable.as_of(hash, b"k", 19).map(|version| version.value),
        Some(&b"v"[..])
    );
    memtable.delete(hash, b"k", 21, 21, Beneath::Nothing);
    assert_eq!(
        (memtable.newest(hash, b"k"), memtable.used_bytes()),
        (None, 0)
    );
}

#[test]
fn clearing_one_database_leaves_the_others() {
    let mut memtable = Memtable::new(7);
    for random in numbers(0).take(30_000) {
        let key = [&[(random % 3) as u8], &random.to_le_bytes()[..]].concat();
        memtable.put(
            memtable.hash(&key),
            &key,
            Version::put(1, None, b"v"),
            0,
            Beneath::Nothing,
        );
    }
    let others = memtable.keys_of(0) + memtable.keys_of(2);
    memtable.clear_prefix(1);
    assert_eq!((memtable.keys(), memtable.keys_of(1)), (others, 0));
    assert_eq!(memtable.range(Bound::Unbounded).count() as u64, others);
    memtable.clear_prefix(0);
    memtable.clear_prefix(2);
    assert_eq!((memtable.keys(), memtable.used_bytes()), (0, 0));
}

#[test]
fn a_tombstone_stays_as_long_as_tables_may_hold_what_it_hides() {
    let mut memtable = Memtable::new(8);
    let hash = memtable.hash(b"k");
    memtable.delete(hash, b"k", 20, u64::MAX, Beneath::Tables);
    memtable.put(
        hash,
        b"k",
        Version::put(30, None, b"v"),
        25,
        Beneath::Tables,
    );
    assert_eq!(
        (memtable.version_count(), memtable.tombstone_count()),
        (2, 1)
    );
    let seen = memtable.as_of(hash, b"k", 25).map(|version| version.kind);
    assert_eq!(seen, Some(Kind::Tombstone));
    memtable.delete(hash, b"k", 40, 40, Beneath::Tables);
    assert_eq!(
        (memtable.version_count(), memtable.tombstone_count()),
        (1, 1)
    );
    memtable.delete(hash, b"k", 41, 41, Beneath::Nothing);
    assert_eq!((memtable.version_count(), memtable.used_bytes()), (0, 0));
}

#[test]
fn clearing_in_slices_stops_after_so_many_keys() {
    let mut memtable = Memtable::new(9);
    for number in 0..1000u32 {
        let key = [&[(number % 2) as u8], &number.to_le_bytes()[..]].concat();
        memtable.put(
            memtable.hash(&key),
            &key,
            Version::put(1, None, b"v"),
            0,
            Beneath::Nothing,
        );
    }
    assert!(memtable.clear_prefix_some(0, 200));
    assert_eq!((memtable.keys_of(0), memtable.keys_of(1)), (300, 500));
    assert!(memtable.clear_prefix_some(0, 299));
    assert!(!memtable.clear_prefix_some(0, 1));
    assert!(!memtable.clear_prefix_some(0, 1));
    assert_eq!((memtable.keys_of(0), memtable.keys_of(1)), (0, 500));
    assert!(
        !memtable.clear_prefix_some(1, 1),
        "alone, a database goes at once"
    );
    assert_eq!((memtable.keys(), memtable.used_bytes()), (0, 0));
}
