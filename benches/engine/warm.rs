//! The workloads of db_bench on this engine: a fill in random order, and reads of what is then in
//! the cache.

use std::ops::Bound;
use std::path::Path;

use ashlar_partition::lsm::Pin;
use ashlar_partition::{Order, Part, Scan, Scanned};

use crate::Failure;
use crate::cpu::{Meter, Took};
use crate::engine::{Engine, Got, Load, Memory, TURN_COMMANDS};
use crate::keys::{Numbers, Texture, Values, key};
use crate::options::Options;
use crate::report::{Measure, Report, Side};

/// Keys that a seek reads from where it lands.
pub(crate) const SEEK_NEXTS: usize = 10;

/// Runs every workload once.
pub(crate) fn measure(options: &Options, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let memory = Memory {
        cache_bytes: options.cache_mib << 20,
        memtable_bytes: options.memtable_mib << 20,
    };
    let mut engine = Engine::create(dir, memory, options.history_ms)?;
    let mut add = |measure, took: &Took| report.add_rate(Side::Ashlar, measure, took);
    let meter = Meter::start();
    fill_random(&mut engine, options.keys, options.keys);
    add(Measure::Fill, &meter.stop(options.keys));
    engine.finish_debt();
    add(Measure::FillSettled, &meter.stop(options.keys));
    let mut number = 0;
    in_turns(&mut engine, options.keys, |engine| {
        get(engine, &key(number));
        number += 1;
    });
    let meter = Meter::start();
    read_random(&mut engine, options.reads, options.keys);
    add(Measure::ReadRandom, &meter.stop(options.reads));
    let meter = Meter::start();
    seek_random(&mut engine, options.reads, options.keys);
    add(Measure::SeekRandom, &meter.stop(options.reads));
    let meter = Meter::start();
    let entries = read_all(&mut engine);
    add(Measure::ReadSeq, &meter.stop(entries));
    Ok(())
}

/// Sets `count` keys whose numbers are drawn below `end`; some are set several times.
pub(crate) fn fill_random(engine: &mut Engine, count: u64, end: u64) {
    let (mut numbers, mut values) = (Numbers::new(1), Values::new(2, Texture::Half));
    fill(engine, count, &mut values, || key(numbers.below(end)));
}

/// Sets `count` keys, as many in a turn as a turn has; waits while the engine takes none.
pub(crate) fn fill(
    engine: &mut Engine,
    count: u64,
    values: &mut Values,
    mut next: impl FnMut() -> [u8; 16],
) {
    let mut left = count;
    while left > 0 {
        engine.begin();
        let load = match engine.takes() {
            true => Load::Busy,
            false => Load::Idle,
        };
        if load == Load::Busy {
            for _ in 0..left.min(TURN_COMMANDS) {
                engine.put(&next(), values.draw());
            }
            left -= left.min(TURN_COMMANDS);
        }
        engine.end(load);
    }
}

/// Reads one key, whatever it takes.
fn get(engine: &mut Engine, key: &[u8]) -> Got {
    let mut pins: Vec<Pin> = Vec::new();
    loop {
        match engine.get(key) {
            Got::Wanted(want) => pins.push(engine.fetch(want)),
            got => return got,
        }
    }
}

fn read_random(engine: &mut Engine, count: u64, end: u64) {
    let mut numbers = Numbers::new(3);
    in_turns(engine, count, |engine| {
        get(engine, &key(numbers.below(end)));
    });
}

fn in_turns(engine: &mut Engine, count: u64, mut one: impl FnMut(&mut Engine)) {
    let mut left = count;
    while left > 0 {
        engine.begin();
        for _ in 0..left.min(TURN_COMMANDS) {
            one(engine);
        }
        left -= left.min(TURN_COMMANDS);
        engine.end(Load::Busy);
    }
}

fn seek_random(engine: &mut Engine, count: u64, end: u64) {
    let mut numbers = Numbers::new(4);
    in_turns(engine, count, |engine| {
        let mut start = vec![0];
        start.extend_from_slice(&key(numbers.below(end)));
        walk(engine, &mut scan_from(start, SEEK_NEXTS, usize::MAX));
    });
}

fn scan_from(start: Vec<u8>, keys_max: usize, bytes_max: usize) -> Scan {
    Scan {
        keys: (Bound::Included(start), Bound::Unbounded),
        order: Order::Ascending,
        part: Part::Value,
        at: None,
        keys_max,
        bytes_max,
    }
}

/// Goes on until the walk has reached its limit or the end; returns the keys, and whether it was the
/// end.
fn walk(engine: &mut Engine, scan: &mut Scan) -> (u64, bool) {
    let mut taken = 0;
    let mut _pins: Vec<Pin> = Vec::new();
    loop {
        let scanned = engine.scan(scan, |key, value| {
            std::hint::black_box((key, value));
            taken += 1;
        });
        match scanned {
            Scanned::End => return (taken, true),
            Scanned::Limit => return (taken, false),
            Scanned::Want(wants) => _pins = engine.fetch_all(&wants),
        }
    }
}

/// Walks over everything, a turn for each 64 KiB or so; returns the number of keys.
fn read_all(engine: &mut Engine) -> u64 {
    let mut scan = scan_from(vec![0], usize::MAX, 64 << 10);
    let mut entries = 0;
    loop {
        engine.begin();
        let (taken, is_end) = walk(engine, &mut scan);
        engine.end(Load::Busy);
        entries += taken;
        if is_end {
            return entries;
        }
    }
}
