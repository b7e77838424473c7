//! Blocks against sorted lists of entries.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::lsm::{BlockRef, Entry, ValueRef};

/// A version, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    kind: Kind,
    expire_at_ms: Option<u64>,
    value: Result<Vec<u8>, ValueRef>,
    older: Older,
}

/// Versions in the order of a block.
type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Version>;

impl Version {
    fn entry<'a>(&'a self, key: &'a [u8], timestamp: u64) -> Entry<'a> {
        Entry {
            key,
            timestamp,
            kind: self.kind,
            expire_at_ms: self.expire_at_ms,
            value: match &self.value {
                Ok(value) => Value::Inline(value),
                Err(value) => Value::Separate(*value),
            },
        }
    }
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 1..9),
        4 => "user:[0-9]{1,6}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 1..300),
        1 => (0..3_u8, 0..4_usize).prop_map(|(byte, cut)| vec![byte; 65_537 - cut]),
    ]
}

fn versions() -> impl Strategy<Value = Version> {
    let reference = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
        |(number, offset, bytes, checksum)| ValueRef {
            number,
            offset,
            bytes,
            checksum,
        },
    );
    let value = prop_oneof![
        4 => vec(any::<u8>(), 0..40).prop_map(Ok),
        1 => vec(any::<u8>(), 100..5000).prop_map(Ok),
        1 => reference.prop_map(Err),
    ];
    let older = prop_oneof![Just(Older::Absent), Just(Older::Present)];
    let put = (proptest::option::of(any::<u64>()), value, older.clone()).prop_map(
        |(expire_at_ms, value, older)| Version {
            kind: Kind::Put,
            expire_at_ms,
            value,
            older,
        },
    );
    let tombstone = older.prop_map(|older| Version {
        kind: Kind::Tombstone,
        expire_at_ms: None,
        value: Ok(Vec::new()),
        older,
    });
    prop_oneof![5 => put, 1 => tombstone]
}

fn models() -> impl Strategy<Value = Model> {
    let timestamps = prop_oneof![0..6_u64, any::<u64>()];
    btree_map((keys(), timestamps.prop_map(Reverse)), versions(), 1..60)
}

/// Fills blocks with the versions; returns them, and the versions that each has.
fn filled(model: &Model, target_bytes: u32) -> Vec<(Vec<u8>, Model)> {
    let (mut builder, mut blocks) = (BlockBuilder::new(target_bytes), Vec::new());
    let mut taken = Model::new();
    for ((key, timestamp), version) in model {
        let entry = version.entry(key, timestamp.0);
        if !builder.push(&entry, version.older) {
            blocks.push(finished(&mut builder, &mut taken, target_bytes));
            assert!(builder.push(&entry, version.older));
        }
        let mut last_key = Vec::new();
        builder.put_last_key(&mut last_key);
        assert_eq!((&last_key, builder.last_timestamp()), (key, timestamp.0));
        taken.insert((key.clone(), *timestamp), version.clone());
    }
    blocks.push(finished(&mut builder, &mut taken, target_bytes));
    blocks
}

fn finished(builder: &mut BlockBuilder, taken: &mut Model, target_bytes: u32) -> (Vec<u8>, Model) {
    assert_eq!(builder.count(), taken.len());
    let (mut bytes, bytes_max) = (b"before".to_vec(), builder.bytes());
    let size = builder.finish(&mut bytes) as usize;
    assert_eq!(size, bytes.len() - 6);
    assert!(size <= bytes_max);
    let sectors_bytes = (target_bytes as usize).max(size.next_multiple_of(4096));
    assert!(taken.len() == 1 || size <= sectors_bytes);
    assert!(builder.is_empty());
    (bytes.split_off(6), std::mem::take(taken))
}

fn check(bytes: &[u8], model: &Model, asked: &[(Vec<u8>, u64)]) {
    assert_eq!(validate(bytes), Ok(()));
    let view = BlockView::parse(bytes).unwrap();
    assert_eq!(view.count(), model.len());
    assert_eq!(view.contents(), Contents::Versions);
    let mut key_found = Vec::new();
    for (index, ((key, timestamp), version)) in model.iter().enumerate() {
        view.key_into(index, &mut key_found);
        assert_eq!(&key_found, key);
        assert_eq!(view.timestamp(index), timestamp.0);
        assert!(view.is_key(index, key) && view.key_cmp(index, key).is_eq());
        let (found, entry) = (view.entry(index), version.entry(key, timestamp.0));
        assert_eq!([found.prefix, found.suffix].concat(), *key);
        assert_eq!(
            (found.kind, found.expire_at_ms, found.value, found.older),
            (entry.kind, entry.expire_at_ms, entry.value, version.older)
        );
    }
    let own = model
        .keys()
        .map(|(key, timestamp)| (key.clone(), timestamp.0));
    let empty = [(Vec::new(), 5)];
    for (key, timestamp) in own.chain(empty).chain(asked.iter().cloned()) {
        for timestamp in [timestamp, timestamp.saturating_sub(1), 0, u64::MAX] {
            let before = model.range(..(key.clone(), Reverse(timestamp))).count();
            assert_eq!(view.seek_version(&key, timestamp), before);
        }
        assert_eq!(view.seek(&key), view.seek_version(&key, u64::MAX));
        for index in 0..view.count() {
            let own = &model.keys().nth(index).unwrap().0;
            assert_eq!(view.key_cmp(index, &key), own.cmp(&key));
            assert_eq!(view.is_key(index, &key), *own == key);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn blocks_hold_what_was_pushed_and_are_searched_right(
        model in models(),
        asked in vec((keys(), any::<u64>()), 0..8),
        target_bytes in prop_oneof![Just(1_u32), Just(512), Just(4096), Just(16_384), Just(65_536)],
    ) {
        let blocks = filled(&model, target_bytes);
        let total: usize = blocks.iter().map(|(_, model)| model.len()).sum();
        prop_assert_eq!(total, model.len());
        for (bytes, model) in &blocks {
            check(bytes, model, &asked);
        }
    }

    #[test]
    fn no_bytes_make_a_panic(
        model in models(),
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        cut in any::<usize>(),
        asked in keys(),
    ) {
        let (mut bytes, _) = filled(&model, 4096).swap_remove(0);
        for (at, byte) in changes {
            // Mostly where numbers are.
            let at = if at % 3 == 0 { at % bytes.len() } else { at % bytes.len().min(100) };
            bytes[at] = byte;
        }
        if cut % 4 == 0 {
            bytes.truncate(cut / 4 % bytes.len());
        }
        exercise(&bytes, &asked);
    }

    #[test]
    fn random_bytes_make_no_panic(mut bytes in vec(any::<u8>(), 0..200), asked in keys()) {
        exercise(&bytes, &asked);
        let size = u32::try_from(bytes.len()).unwrap();
        let front = header(Contents::Versions, 2, 1, size);
        for (byte, value) in bytes.iter_mut().zip(front) {
            *byte = value;
        }
        exercise(&bytes, &asked);
    }
}

/// Does all that may be done with a block, if it is a valid one.
fn exercise(bytes: &[u8], asked: &[u8]) {
    if validate(bytes).is_err() {
        return;
    }
    let view = BlockView::of(bytes);
    view.seek_version(asked, 7);
    for index in 0..view.count() {
        view.is_key(index, asked);
        match view.contents() {
            Contents::Versions => drop(view.entry(index)),
            _ => drop(view.child(index)),
        }
    }
}

#[test]
fn children_are_found_by_key_and_timestamp() {
    let mut builder = BlockBuilder::of(Contents::Children, 4096);
    let child = |sector| Child {
        block: BlockRef {
            sector,
            stored_bytes: 4000,
            bytes: 4000,
            checksum: u64::from(sector) << 40,
        },
        min_timestamp: u64::from(sector),
        max_timestamp: u64::MAX,
        tombstones: 3,
    };
    let places: [(&[u8], u64); 5] = [(b"a", 0), (b"k", 90), (b"k", 50), (b"k", 0), (b"z", 0)];
    for (sector, (key, timestamp)) in (0..).zip(places) {
        assert!(builder.push_child(key, timestamp, &child(sector)));
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    assert_eq!(validate(&bytes), Ok(()));
    let view = BlockView::of(&bytes);
    let found = |key: &[u8], timestamp| {
        let index = view.seek_version(key, timestamp);
        (index < view.count()).then(|| view.child(index).block.sector)
    };
    assert_eq!(found(b"", 5), Some(0));
    assert_eq!(found(b"b", 5), Some(1));
    assert_eq!(
        [100, 90, 89, 50, 49, 0].map(|at| found(b"k", at)),
        [1, 1, 2, 2, 3, 3].map(Some)
    );
    assert_eq!(found(b"l", u64::MAX), Some(4));
    assert_eq!(found(b"zz", u64::MAX), None);
    assert_eq!(view.child(2), child(2));
}

#[test]
fn a_block_that_says_nothing_true_is_malformed() {
    let model = Model::from_iter([
        ((b"user:17".to_vec(), Reverse(9)), put(b"value")),
        ((b"user:18".to_vec(), Reverse(9)), put(b"other")),
    ]);
    let (bytes, _) = filled(&model, 4096).swap_remove(0);
    let entries_at = HEADER_BYTES + 6 + 2 * 6;
    // Magic, contents, count, prefix, size; head, offset; flags, suffix, value.
    let broken = [
        0,
        4,
        6,
        8,
        12,
        22,
        30,
        entries_at,
        entries_at + 1,
        entries_at + 2,
    ];
    for at in broken {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        assert!(validate(&bytes).is_err(), "byte {at}");
    }
    assert!(validate(&bytes[..bytes.len() - 1]).is_err());
    assert!(validate(&[bytes, vec![0]].concat()).is_err());
    assert!(validate(&[]).is_err());
}

fn put(value: &[u8]) -> Version {
    Version {
        kind: Kind::Put,
        expire_at_ms: None,
        value: Ok(value.to_vec()),
        older: Older::Absent,
    }
}

#[test]
fn entries_out_of_order_are_malformed() {
    for (first, second) in [("b", "a"), ("a", "a"), ("user:2", "user:1")] {
        let mut builder = BlockBuilder::new(4096);
        let version = put(b"v");
        builder.push(&version.entry(first.as_bytes(), 5), Older::Absent);
        builder.push(&version.entry(second.as_bytes(), 5), Older::Absent);
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        assert!(validate(&bytes).is_err(), "{first} before {second}");
    }
}
