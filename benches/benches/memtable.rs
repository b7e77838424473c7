//! Memtable operations at a million keys, beside a `BTreeMap` of owned keys and values.
//!
//! Two shapes of keys: those of redis-benchmark (`key:` and twelve digits) and 16 random bytes.
//! The hash is computed inside the measured time, as a request does it once.

use ashlar_partition::{Beneath, Memtable, Version};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;
use std::time::{Duration, Instant};

const KEYS: u64 = 1_000_000;
/// Inserted keys per iteration of the insert benchmarks, beside the million.
const FRESH: u64 = 100_000;
const VALUE: &[u8] = b"xxxxxxxx";

type Shape = fn(u64) -> Vec<u8>;

/// Spreads a number over all bits. Source: SplitMix64.
fn mix(number: u64) -> u64 {
    let x = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn benchmark_key(number: u64) -> Vec<u8> {
    format!("\0key:{:012}", mix(number) % 1_000_000_000_000).into_bytes()
}

fn random_key(number: u64) -> Vec<u8> {
    [
        &[0],
        &mix(number).to_le_bytes()[..],
        &mix(!number).to_le_bytes()[..7],
    ]
    .concat()
}

fn ascending_key(number: u64) -> Vec<u8> {
    format!("\0key:{number:012}").into_bytes()
}

fn set(memtable: &mut Memtable, key: &[u8], timestamp: u64, floor: u64) {
    let version = Version::put(timestamp, None, VALUE);
    memtable.put(memtable.hash(key), key, version, floor, Beneath::Nothing);
}

fn forget(memtable: &mut Memtable, key: &[u8]) {
    let hash = memtable.hash(key);
    memtable.delete(hash, key, u64::MAX, u64::MAX, Beneath::Nothing);
}

fn filled(shape: Shape) -> Memtable {
    let mut memtable = Memtable::new(42);
    (0..KEYS).for_each(|number| set(&mut memtable, &shape(number), 1, 0));
    memtable
}

/// Calls `step` with one key after the other, in an order that the cache cannot foresee.
fn cycle<T>(keys: &[Vec<u8>], mut step: impl FnMut(&[u8]) -> T) -> impl FnMut() -> T {
    let mut at = 0;
    move || {
        at = if at + 1 < keys.len() { at + 1 } else { 0 };
        step(&keys[at])
    }
}

fn keys(shape: Shape, first: u64, count: u64) -> Vec<Vec<u8>> {
    let mut numbers: Vec<u64> = (first..first + count).collect();
    numbers.sort_unstable_by_key(|number| mix(number ^ 0x5555));
    numbers.into_iter().map(shape).collect()
}

fn memtable(criterion: &mut Criterion, name: &str, shape: Shape) {
    let mut table = filled(shape);
    let (present, absent) = (keys(shape, 0, KEYS), keys(shape, KEYS, KEYS));
    eprintln!(
        "{name}: {} bytes held per key and value of {}",
        table.held_bytes() / KEYS,
        present[0].len() + VALUE.len()
    );
    let mut group = criterion.benchmark_group(format!("memtable/{name}"));
    let get = |key: &[u8]| {
        table
            .newest(table.hash(key), key)
            .map(|found| found.value.len())
    };
    group.bench_function("get hit", |b| b.iter(cycle(&present, get)));
    group.bench_function("get miss", |b| b.iter(cycle(&absent, get)));
    let range = |key: &[u8]| {
        let entries = table.range(Bound::Included(key)).take(100);
        entries
            .map(|(key, found)| key.len() + found.value.len())
            .sum::<usize>()
    };
    group.bench_function("range 100", |b| b.iter(cycle(&present, range)));
    let mut now = 1;
    for (window, label) in [(0, "no readers"), (1, "one version kept")] {
        let mut overwrite = |key: &[u8]| {
            now += 1;
            set(&mut table, key, now, now - window);
        };
        group.bench_function(format!("overwrite, {label}"), |b| {
            b.iter(cycle(&present, &mut overwrite));
        });
    }
    group.throughput(Throughput::Elements(16));
    let mut overwrite = |keys: &[Vec<u8>]| {
        now += 1;
        overwrite_warmed(&mut table, keys, now);
    };
    group.bench_function("overwrite x 16, warmed", |b| {
        let mut batches = present.chunks_exact(16).cycle();
        b.iter(|| overwrite(batches.next().expect("a cycle goes on")));
    });
    group.bench_function("get hit x 16, warmed", |b| {
        let mut batches = present.chunks_exact(16).cycle();
        b.iter(|| get_warmed(&table, batches.next().expect("a cycle goes on")));
    });
    group.finish();
    inserts(criterion, name, shape, table);
}

fn hashes(table: &Memtable, keys: &[Vec<u8>]) -> [u64; 16] {
    std::array::from_fn(|at| table.hash(&keys[at]))
}

fn get_warmed(table: &Memtable, keys: &[Vec<u8>]) -> usize {
    let hashes = hashes(table, keys);
    table.warm(&hashes);
    let found = hashes
        .iter()
        .zip(keys)
        .filter_map(|(hash, key)| table.newest(*hash, key));
    found.map(|found| found.value.len()).sum()
}

fn overwrite_warmed(table: &mut Memtable, keys: &[Vec<u8>], now: u64) {
    let hashes = hashes(table, keys);
    table.warm(&hashes);
    for (hash, key) in hashes.iter().zip(keys) {
        let version = Version::put(now, None, VALUE);
        table.put(*hash, key, version, now, Beneath::Nothing);
    }
}

fn inserts(criterion: &mut Criterion, name: &str, shape: Shape, mut table: Memtable) {
    let fresh = keys(shape, 2 * KEYS, FRESH);
    let mut group = criterion.benchmark_group(format!("memtable/{name}"));
    group
        .throughput(Throughput::Elements(FRESH))
        .sample_size(10);
    group.bench_function("insert new x 100000", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                fresh.iter().for_each(|key| set(&mut table, key, 2, 1));
                spent += start.elapsed();
                fresh.iter().for_each(|key| forget(&mut table, key));
            }
            spent
        });
    });
    group.bench_function("fill from nothing to 1000000", |b| {
        let all = keys(shape, 0, KEYS);
        b.iter_batched(
            || Memtable::new(42),
            |mut table| {
                all.iter().for_each(|key| set(&mut table, key, 1, 0));
                table
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn btree_map(criterion: &mut Criterion, name: &str, shape: Shape) {
    let (present, absent) = (keys(shape, 0, KEYS), keys(shape, KEYS, KEYS));
    let fresh = keys(shape, 2 * KEYS, FRESH);
    let all = (0..KEYS).map(|number| (shape(number), VALUE.to_vec()));
    let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    all.for_each(|(key, value)| drop(map.insert(key, value)));
    let mut group = criterion.benchmark_group(format!("BTreeMap/{name}"));
    let get = |key: &[u8]| map.get(key).map(Vec::len);
    group.bench_function("get hit", |b| b.iter(cycle(&present, get)));
    group.bench_function("get miss", |b| b.iter(cycle(&absent, get)));
    let range = |key: &[u8]| {
        let bounds = (Bound::Included(key), Bound::Unbounded);
        map.range::<[u8], _>(bounds)
            .take(100)
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
    };
    group.bench_function("range 100", |b| b.iter(cycle(&present, range)));
    let mut overwrite = |key: &[u8]| map.insert(black_box(key).to_vec(), VALUE.to_vec());
    group.bench_function("overwrite", |b| b.iter(cycle(&present, &mut overwrite)));
    group
        .throughput(Throughput::Elements(FRESH))
        .sample_size(10);
    group.bench_function("insert new x 100000", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                fresh
                    .iter()
                    .for_each(|key| drop(map.insert(key.clone(), VALUE.to_vec())));
                spent += start.elapsed();
                fresh.iter().for_each(|key| drop(map.remove(key)));
            }
            spent
        });
    });
    group.finish();
}

/// One key written on and on, of which the versions of a window stay readable.
fn hot_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memtable/hot key");
    for window in [10, 1_000, 100_000, 1_000_000] {
        let mut table = Memtable::new(42);
        let mut now = window;
        (0..2 * window).for_each(|_| {
            now += 1;
            set(&mut table, b"\0hot", now, now - window);
        });
        group.bench_function(format!("put, {window} versions seen"), |b| {
            b.iter(|| {
                now += 1;
                set(&mut table, b"\0hot", now, now - window);
            });
        });
        let hash = table.hash(b"\0hot");
        group.bench_function(format!("as of the floor, {window} versions seen"), |b| {
            b.iter(|| black_box(table.as_of(hash, b"\0hot", now - window).is_some()));
        });
        eprintln!("{window} seen: {} held", table.version_count());
    }
    group.finish();
}

/// Reading all versions, in one go and parking after every 64.
fn versions(criterion: &mut Criterion) {
    let mut table = filled(random_key);
    (2..4)
        .for_each(|now| (0..KEYS).for_each(|number| set(&mut table, &random_key(number), now, 0)));
    let mut group = criterion.benchmark_group("memtable/versions");
    group
        .throughput(Throughput::Elements(table.version_count()))
        .sample_size(10);
    group.bench_function("in one go", |b| {
        b.iter(|| {
            table
                .versions(Bound::Unbounded)
                .fold(0, |sum, (_, found)| sum ^ found.timestamp)
        });
    });
    group.bench_function("parking after every 64", |b| {
        b.iter(|| {
            let (mut parked, mut read) = (table.versions(Bound::Unbounded).park(), 64);
            while read == 64 {
                let mut some = table.resume(&parked);
                read = some.by_ref().take(64).count();
                let next = some.park();
                parked = next;
            }
        });
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    hot_key(criterion);
    versions(criterion);
    memtable(criterion, "key:digits", benchmark_key);
    memtable(criterion, "random", random_key);
    memtable(criterion, "ascending", ascending_key);
    btree_map(criterion, "key:digits", benchmark_key);
    btree_map(criterion, "random", random_key);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
