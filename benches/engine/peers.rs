//! fjall and redb, engines in Rust, under the load of `warm`: nothing synced, in the same process and
//! on the same CPU, their background threads included.

use std::fmt::Display;
use std::path::Path;

use fjall::config::{CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use redb::{Durability, ReadableDatabase, TableDefinition};

use crate::Failure;
use crate::cpu::Meter;
use crate::engine::TURN_COMMANDS;
use crate::keys::{Numbers, Texture, Values, key};
use crate::options::Options;
use crate::report::{Measure, Report, Side};
use crate::warm::SEEK_NEXTS;

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("bench");

/// Runs every workload once on fjall.
pub(crate) fn measure_fjall(
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let database = Database::builder(dir)
        .cache_size(options.cache_mib << 20)
        .worker_threads(1)
        .open()
        .map_err(said)?;
    let shape = || {
        let bloom =
            FilterPolicyEntry::Bloom(fjall::config::BloomConstructionPolicy::BitsPerKey(10.0));
        KeyspaceCreateOptions::default()
            .max_memtable_size((options.memtable_mib << 20) * 2 / 5)
            .filter_policy(FilterPolicy::all(bloom))
            .data_block_compression_policy(CompressionPolicy::disabled())
    };
    let keyspace = database.keyspace("bench", shape).map_err(said)?;
    let (mut numbers, mut values) = (Numbers::new(1), Values::new(2, Texture::Half));
    let meter = Meter::start();
    for _ in 0..options.keys {
        let key = key(numbers.below(options.keys));
        keyspace.insert(key, values.draw()).map_err(said)?;
    }
    database.persist(PersistMode::Buffer).map_err(said)?;
    report.add_rate(Side::Fjall, Measure::Fill, &meter.stop(options.keys));
    for entry in keyspace.iter() {
        entry.into_inner().map_err(said)?;
    }
    numbers = Numbers::new(3);
    let meter = Meter::start();
    for _ in 0..options.reads {
        let found = keyspace.get(key(numbers.below(options.keys)));
        std::hint::black_box(found.map_err(said)?);
    }
    report.add_rate(Side::Fjall, Measure::ReadRandom, &meter.stop(options.reads));
    numbers = Numbers::new(4);
    let meter = Meter::start();
    for _ in 0..options.reads {
        let start = key(numbers.below(options.keys));
        for entry in keyspace.range(start..).take(SEEK_NEXTS) {
            std::hint::black_box(entry.into_inner().map_err(said)?);
        }
    }
    report.add_rate(Side::Fjall, Measure::SeekRandom, &meter.stop(options.reads));
    let meter = Meter::start();
    let mut entries = 0;
    for entry in keyspace.iter() {
        std::hint::black_box(entry.into_inner().map_err(said)?);
        entries += 1;
    }
    report.add_rate(Side::Fjall, Measure::ReadSeq, &meter.stop(entries));
    Ok(())
}

/// Runs every workload once on redb, as many writes in a transaction as our engine has in a turn.
pub(crate) fn measure_redb(
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let cache_bytes = usize::try_from(options.cache_mib << 20).map_err(said)?;
    let database = redb::Builder::new()
        .set_cache_size(cache_bytes)
        .create(dir.join("bench.redb"))
        .map_err(said)?;
    let (mut numbers, mut values) = (Numbers::new(1), Values::new(2, Texture::Half));
    let meter = Meter::start();
    let mut left = options.keys;
    while left > 0 {
        let mut writing = database.begin_write().map_err(said)?;
        writing.set_durability(Durability::None).map_err(said)?;
        let mut table = writing.open_table(TABLE).map_err(said)?;
        for _ in 0..left.min(TURN_COMMANDS) {
            let key = key(numbers.below(options.keys));
            table.insert(&key[..], values.draw()).map_err(said)?;
        }
        left -= left.min(TURN_COMMANDS);
        drop(table);
        writing.commit().map_err(said)?;
    }
    report.add_rate(Side::Redb, Measure::Fill, &meter.stop(options.keys));
    let reading = database.begin_read().map_err(said)?;
    let table = reading.open_table(TABLE).map_err(said)?;
    numbers = Numbers::new(3);
    let meter = Meter::start();
    for _ in 0..options.reads {
        let found = table.get(&key(numbers.below(options.keys))[..]);
        std::hint::black_box(found.map_err(said)?.map(|value| value.value().len()));
    }
    report.add_rate(Side::Redb, Measure::ReadRandom, &meter.stop(options.reads));
    numbers = Numbers::new(4);
    let meter = Meter::start();
    for _ in 0..options.reads {
        let start = key(numbers.below(options.keys));
        for entry in table.range(&start[..]..).map_err(said)?.take(SEEK_NEXTS) {
            std::hint::black_box(entry.map_err(said)?.1.value().len());
        }
    }
    report.add_rate(Side::Redb, Measure::SeekRandom, &meter.stop(options.reads));
    let meter = Meter::start();
    let mut entries = 0;
    for entry in table.range::<&[u8]>(..).map_err(said)? {
        std::hint::black_box(entry.map_err(said)?.1.value().len());
        entries += 1;
    }
    report.add_rate(Side::Redb, Measure::ReadSeq, &meter.stop(entries));
    Ok(())
}

/// Turns an error into one line.
fn said(error: impl Display) -> Failure {
    error.to_string()
}
