//! What a partition holds, listed and compared with the model and with the memtable's own counts.

use std::ops::Bound;

use ashlar_partition::Partition;

use crate::reference::{Content, Reference};

/// A version as a memtable holds it: key, value, expiry, timestamp.
pub(crate) type Held = (Vec<u8>, Vec<u8>, Option<u64>, u64);

/// Lists what a partition holds, in order of keys.
pub(crate) fn held(partition: &Partition) -> Vec<Held> {
    let all = partition.memtable().range(Bound::Unbounded);
    let there = all.filter(|(_, version)| version.kind.is_there());
    there
        .map(|(key, version)| {
            (
                key.to_vec(),
                version.value.to_vec(),
                version.expire_at_ms,
                version.timestamp,
            )
        })
        .collect()
}

/// Returns what does not expire at or before `now_ms`.
pub(crate) fn live(held: &[Held], now_ms: u64) -> Content {
    let live = held
        .iter()
        .filter(|(_, _, at_ms, _)| at_ms.is_none_or(|at_ms| at_ms > now_ms));
    live.map(|(key, value, at_ms, _)| (key.clone(), (value.clone(), *at_ms)))
        .collect()
}

/// Checks that a partition holds exactly what the model has applied.
pub(crate) fn check_content(partition: &Partition, reference: &Reference) {
    let held = held(partition);
    let content = held
        .iter()
        .map(|(key, value, at_ms, _)| (key, (value, *at_ms)));
    let expected = reference
        .applied()
        .iter()
        .map(|(key, (value, at_ms))| (key, (value, *at_ms)));
    assert!(
        content.eq(expected),
        "{held:?} is not {:?}",
        reference.applied()
    );
    let tombstones = partition.memtable().tombstone_count();
    assert_eq!(tombstones, 0, "no deleted key stays");
    check_counts(partition, &held);
}

/// Checks the memtable's counts, and that each key is found by its hash.
pub(crate) fn check_counts(partition: &Partition, held: &[Held]) {
    let memtable = partition.memtable();
    assert_eq!(memtable.keys(), held.len() as u64);
    for database in 0..4_u8 {
        let of_it = || held.iter().filter(|(key, ..)| key[0] == database);
        assert_eq!(memtable.keys_of(database), of_it().count() as u64);
        assert_eq!(
            memtable.expiring_of(database),
            of_it().filter(|version| version.2.is_some()).count() as u64
        );
    }
    for (key, value, ..) in held {
        let found = memtable.newest(memtable.hash(key), key);
        assert_eq!(found.map(|version| version.value), Some(value.as_slice()));
    }
}
