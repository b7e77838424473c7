//! Reads of data ten times as large as the cache, beside reads of the device of the same number in
//! flight.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ashlar_partition::Want;
use ashlar_partition::lsm::Pin;

use crate::Failure;
use crate::device::{self, Pattern};
use crate::engine::{Engine, Got, Load, Memory};
use crate::keys::{KEY_BYTES, Numbers, Texture, VALUE_BYTES, Values, key, mix};
use crate::options::Options;
use crate::report::{Measure, Report, Side};
use crate::warm::fill;

/// Memory for memtables, in bytes.
const MEMTABLE_BYTES: u64 = 64 << 20;
/// How long reads go on before they are measured: what fits stays in the cache.
const WARM_UP: Duration = Duration::from_secs(3);

/// Which keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Present,
    Absent,
}

/// What reads came to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reads {
    per_s: f64,
    /// Reads of the disk for each key.
    of_disk: f64,
    /// Share of the keys that went to the disk.
    touching: f64,
}

/// Fills an engine and reads it.
pub(crate) fn measure(options: &Options, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let cache_bytes = options.cold_cache_mib << 20;
    let keys = cache_bytes * 10 / (KEY_BYTES + VALUE_BYTES) as u64;
    let memory = Memory {
        cache_bytes,
        memtable_bytes: MEMTABLE_BYTES,
    };
    let mut engine = Engine::create(&dir.join("engine"), memory, options.history_ms)?;
    let (mut next, mut values) = (0, Values::new(5, Texture::Random));
    fill(&mut engine, keys, &mut values, || {
        next += 1;
        key(mix(next - 1))
    });
    engine.flush_all();
    eprintln!("  {} MiB of tables", engine.file_bytes() >> 20);
    read(&mut engine, (keys, Which::Present), 16, WARM_UP);
    read(&mut engine, (keys, Which::Absent), 16, WARM_UP);
    let file = dir.join("fio.data");
    device::fill(&file, keys * (KEY_BYTES + VALUE_BYTES) as u64)?;
    let time = Duration::from_secs(options.seconds);
    for (depth, measure) in [(1, Measure::ColdRate1), (16, Measure::ColdRate16)] {
        for (side, bytes) in [(Side::Fio4, 4096), (Side::Fio16, 16_384)] {
            let read = device::run(options, &file, Pattern::random(bytes, depth))?;
            report.add(side, measure, read.per_s);
        }
        let reads = read(&mut engine, (keys, Which::Present), depth, time);
        report.add(Side::Ashlar, measure, reads.per_s);
        if depth == 16 {
            report.add(Side::Ashlar, Measure::ColdReads, reads.of_disk);
        }
    }
    let absent = read(&mut engine, (keys, Which::Absent), 16, time);
    eprintln!("  absent keys: {:.0} op/s", absent.per_s);
    report.add(Side::Ashlar, Measure::AbsentReads, absent.touching * 100.0);
    Ok(())
}

/// One read on its way.
#[derive(Debug)]
struct Asked {
    number: u64,
    pins: Vec<Pin>,
}

/// Reads random keys, `depth` at a time, for `time`.
fn read(engine: &mut Engine, (keys, which): (u64, Which), depth: usize, time: Duration) -> Reads {
    let mut numbers = Numbers::new(6 + depth as u64);
    let fetched: Rc<RefCell<Vec<(usize, Pin)>>> = Rc::default();
    let mut asked: Vec<Option<Asked>> = (0..depth).map(|_| None).collect();
    let (from, reads_before) = (Instant::now(), engine.ground.reads_and_written_bytes().0);
    let (mut done, mut touching) = (0_u64, 0_u64);
    while from.elapsed() < time {
        engine.begin();
        for (slot, pin) in fetched.take() {
            let of = asked[slot].as_mut().expect("who asked waits");
            of.pins.push(pin);
            asked[slot] = ask(engine, of.number, asked[slot].take(), (slot, &fetched));
            done += u64::from(asked[slot].is_none());
            touching += u64::from(asked[slot].is_none());
        }
        for slot in 0..depth {
            while asked[slot].is_none() && fetched.borrow().is_empty() {
                let number = match which {
                    Which::Present => numbers.below(keys),
                    Which::Absent => keys + numbers.below(keys),
                };
                asked[slot] = ask(engine, number, None, (slot, &fetched));
                done += u64::from(asked[slot].is_none());
                if done.is_multiple_of(64) {
                    break;
                }
            }
        }
        // What was just asked for goes to the kernel in this turn.
        engine.reactor.run_ready();
        engine.end(match asked.iter().all(Option::is_some) {
            true => Load::Idle,
            false => Load::Busy,
        });
    }
    let elapsed_s = from.elapsed().as_secs_f64();
    while asked.iter().any(Option::is_some) {
        engine.begin();
        for (slot, _) in fetched.take() {
            asked[slot] = None;
        }
        engine.end(Load::Idle);
    }
    let reads = engine.ground.reads_and_written_bytes().0 - reads_before;
    let done = done.max(1) as f64;
    Reads {
        per_s: done / elapsed_s,
        of_disk: reads as f64 / done,
        touching: touching as f64 / done,
    }
}

/// Reads a key; when something must be fetched first, has it fetched and returns who waits.
fn ask(
    engine: &mut Engine,
    number: u64,
    asked: Option<Asked>,
    (slot, fetched): (usize, &Rc<RefCell<Vec<(usize, Pin)>>>),
) -> Option<Asked> {
    let want: Want = match engine.get(&key(mix(number))) {
        Got::Found | Got::Absent => return None,
        Got::Wanted(want) => want,
    };
    let (ground, fetched) = (engine.ground.clone(), Rc::clone(fetched));
    engine.reactor.spawn(async move {
        let pin = ground.fetch(want).await.expect("tables can be read");
        fetched.borrow_mut().push((slot, pin));
    });
    asked.or_else(|| {
        Some(Asked {
            number,
            pins: Vec::new(),
        })
    })
}
