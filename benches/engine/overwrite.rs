//! What writing costs the disk: write amplification and space of uniform overwrites, and how fast an
//! engine merges that has nothing else to do.

use std::path::Path;
use std::time::Instant;

use crate::Failure;
use crate::cpu::Meter;
use crate::device::{self, Pattern};
use crate::engine::{Engine, Load, Memory, Merging};
use crate::keys::{KEY_BYTES, Numbers, Texture, VALUE_BYTES, Values, key, mix};
use crate::options::Options;
use crate::report::{Measure, Report, Side};
use crate::warm::fill;

/// Memory for blocks: merges do not use it.
const CACHE_BYTES: u64 = 64 << 20;
/// How many times each key is written on average, after the first.
const TIMES: u64 = 10;
/// Pieces that the overwriting is cut into, to see how large the tables become between.
const PIECES: u64 = 200;
/// Bytes of a key and its value.
const PAIR_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

/// Writes every key, then as many as ten times all at random.
pub(crate) fn measure(options: &Options, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let memory = Memory {
        cache_bytes: CACHE_BYTES,
        memtable_bytes: options.overwrite_memtable_mib << 20,
    };
    let keys = options.overwrite_keys;
    let mut engine = Engine::create(dir, memory, options.history_ms)?;
    let (mut next, mut values) = (0, Values::new(7, Texture::Random));
    fill(&mut engine, keys, &mut values, || {
        next += 1;
        key(mix(next - 1))
    });
    engine.flush_all();
    let written = |engine: &Engine| engine.ground.traffic().written_bytes as f64;
    let (tables_before, log_before) = (written(&engine), engine.log_bytes() as f64);
    let mut numbers = Numbers::new(8);
    let (mut peak, from) = (0, Instant::now());
    for _ in 0..PIECES {
        fill(&mut engine, keys * TIMES / PIECES, &mut values, || {
            key(mix(numbers.below(keys)))
        });
        peak = peak.max(engine.file_bytes());
    }
    let rate = (keys * TIMES) as f64 / from.elapsed().as_secs_f64();
    eprintln!("  {rate:.0} op/s while overwriting");
    engine.flush_all();
    let (user, live) = (
        (keys * TIMES * PAIR_BYTES) as f64,
        (keys * PAIR_BYTES) as f64,
    );
    let tables = written(&engine) - tables_before;
    let log = engine.log_bytes() as f64 - log_before;
    let mut add = |measure, figure| report.add(Side::Ashlar, measure, figure);
    add(Measure::WriteAmplification, tables / user);
    add(Measure::WriteAmplificationLog, (tables + log) / user);
    add(Measure::Space, engine.file_bytes() as f64 / live);
    add(Measure::SpacePeak, peak as f64 / live);
    Ok(())
}

/// Lets flushed tables gather, then merges them.
pub(crate) fn measure_idle(
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let bytes = options.merge_mib << 20;
    let memory = Memory {
        cache_bytes: CACHE_BYTES,
        memtable_bytes: 160 << 20,
    };
    let file = dir.join("fio.data");
    device::fill(&file, bytes)?;
    let read = device::run(options, &file, Pattern::READ)?.mib_per_s;
    let write = device::run(options, &file, Pattern::WRITE)?.mib_per_s;
    let mut engine = Engine::create(&dir.join("engine"), memory, options.history_ms)?;
    engine.merging = Merging::Off;
    let (mut next, mut values) = (0, Values::new(9, Texture::Random));
    fill(&mut engine, bytes / PAIR_BYTES, &mut values, || {
        next += 1;
        key(mix(next - 1))
    });
    engine.flush_all();
    engine.merging = Merging::On;
    let (before, meter) = (engine.ground.traffic().written_bytes, Meter::start());
    // The first turn starts the merge.
    engine.begin();
    engine.end(Load::Idle);
    engine.finish_debt();
    let written = engine.ground.traffic().written_bytes - before;
    let took = meter.stop(written >> 20);
    eprintln!(
        "  {} MiB written; fio reads {read:.0}, writes {write:.0} MiB/s",
        written >> 20
    );
    report.add(Side::Ashlar, Measure::Compaction, took.per_s);
    report.add(Side::Ashlar, Measure::CompactionCpu, took.cpu_us / 1000.0);
    let in_turn = 1.0 / (1.0 / read + 1.0 / write);
    report.add(Side::FioMerge, Measure::Compaction, in_turn);
    Ok(())
}
