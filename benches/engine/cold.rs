//! Reads of data ten times as large as the cache, beside reads of the device: of the same size and as
//! many in flight.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ashlar_partition::lsm::Pin;

use crate::Failure;
use crate::cpu::Meter;
use crate::device::{self, Pattern};
use crate::engine::{Engine, Got, Load, Memory, TURN_COMMANDS};
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
    /// Microseconds of CPU time for each key.
    cpu_us: f64,
    /// Reads of the disk for each key.
    of_disk: f64,
    /// Bytes of such a read.
    bytes: f64,
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
    read(&mut engine, (keys, Which::Absent), 16, WARM_UP);
    let warmed = read(&mut engine, (keys, Which::Present), 16, WARM_UP);
    // Blocks differ in size; the peer reads as much at a time as they have on average.
    let bytes = mean_read_bytes(warmed.bytes);
    report.add(Side::Ashlar, Measure::ColdBytes, f64::from(bytes) / 1024.0);
    let file = dir.join("fio.data");
    device::fill(&file, keys * (KEY_BYTES + VALUE_BYTES) as u64)?;
    let time = Duration::from_secs(options.seconds);
    for (depth, measure) in [(1, Measure::ColdRate1), (16, Measure::ColdRate16)] {
        for (side, bytes) in [(Side::Fio4, 4096), (Side::FioSame, bytes)] {
            let read = device::run(options, &file, Pattern::random(bytes, depth))?;
            report.add(side, measure, read.per_s);
        }
        let reads = read(&mut engine, (keys, Which::Present), depth, time);
        report.add(Side::Ashlar, measure, reads.per_s);
        if depth == 16 {
            report.add(Side::Ashlar, Measure::ColdReads, reads.of_disk);
            report.add(Side::Ashlar, Measure::ColdCpu16, reads.cpu_us);
        }
    }
    let absent = read(&mut engine, (keys, Which::Absent), 16, time);
    eprintln!("  absent keys: {:.0} op/s", absent.per_s);
    report.add(Side::Ashlar, Measure::AbsentReads, absent.touching * 100.0);
    Ok(())
}

/// Returns a size of reads as the device knows them: a number of sectors of 4 KiB.
fn mean_read_bytes(bytes: f64) -> u32 {
    let sectors = (1..=64).find(|sectors| f64::from(*sectors) * 4096.0 >= bytes - 2048.0);
    sectors.unwrap_or(64) * 4096
}

/// What was fetched, and the place of who waits for it.
type Fetched = Rc<RefCell<Vec<(usize, Pin)>>>;

/// One read on its way.
#[derive(Debug)]
struct Asked {
    number: u64,
    pins: Vec<Pin>,
}

/// Reads that are made several at a time.
#[derive(Debug)]
struct Reader {
    places: Vec<Option<Asked>>,
    fetched: Fetched,
    done: u64,
    /// Those of them that went to the disk.
    touching: u64,
}

/// Reads random keys, `depth` at a time, for `time`.
fn read(engine: &mut Engine, (keys, which): (u64, Which), depth: usize, time: Duration) -> Reads {
    let mut numbers = Numbers::new(6 + depth as u64);
    let mut next = || match which {
        Which::Present => numbers.below(keys),
        Which::Absent => keys + numbers.below(keys),
    };
    let mut reader = Reader {
        places: (0..depth).map(|_| None).collect(),
        fetched: Rc::default(),
        done: 0,
        touching: 0,
    };
    let (from, before) = (Instant::now(), engine.ground.traffic());
    let meter = Meter::start();
    while from.elapsed() < time {
        engine.begin();
        reader.go_on(engine);
        for place in 0..depth {
            reader.fill(engine, place, &mut next);
        }
        // What was just asked for goes to the kernel in this turn.
        engine.reactor.run_ready();
        engine.end(match reader.places.iter().all(Option::is_some) {
            true => Load::Idle,
            false => Load::Busy,
        });
    }
    let took = meter.stop(reader.done);
    reader.finish(engine);
    let after = engine.ground.traffic();
    let (reads, done) = (after.reads - before.reads, reader.done.max(1) as f64);
    let read_bytes = (after.read_bytes - before.read_bytes) as f64;
    Reads {
        per_s: took.per_s,
        cpu_us: took.cpu_us,
        of_disk: reads as f64 / done,
        bytes: read_bytes / reads.max(1) as f64,
        touching: reader.touching as f64 / done,
    }
}

impl Reader {
    /// Reads again what waited for something that is there now.
    fn go_on(&mut self, engine: &mut Engine) {
        for (place, pin) in self.fetched.take() {
            let mut asked = self.places[place].take().expect("who asked waits");
            asked.pins.push(pin);
            let is_done = !self.ask(engine, place, asked);
            self.done += u64::from(is_done);
            self.touching += u64::from(is_done);
        }
    }

    /// Begins reads at a place until one waits, or the turn has enough.
    fn fill(&mut self, engine: &mut Engine, place: usize, next: &mut impl FnMut() -> u64) {
        if self.places[place].is_some() {
            return;
        }
        for _ in 0..TURN_COMMANDS {
            let asked = Asked {
                number: next(),
                pins: Vec::new(),
            };
            if self.ask(engine, place, asked) {
                return;
            }
            self.done += 1;
        }
    }

    /// Reads a key; when something must be fetched first, has it fetched and keeps the place. Says
    /// whether that is so.
    fn ask(&mut self, engine: &mut Engine, place: usize, asked: Asked) -> bool {
        let Got::Wanted(want) = engine.get(&key(mix(asked.number))) else {
            return false;
        };
        let (ground, fetched) = (engine.ground.clone(), Rc::clone(&self.fetched));
        engine.reactor.spawn(async move {
            let pin = ground.fetch(want).await.expect("tables can be read");
            fetched.borrow_mut().push((place, pin));
        });
        self.places[place] = Some(asked);
        true
    }

    /// Waits for what is on its way.
    fn finish(&mut self, engine: &mut Engine) {
        while self.places.iter().any(Option::is_some) {
            engine.begin();
            for (place, _) in self.fetched.take() {
                self.places[place] = None;
            }
            engine.end(Load::Idle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_reads_whole_sectors() {
        for (bytes, read) in [
            (1.0, 4096),
            (4096.0, 4096),
            (9000.0, 8192),
            (14_500.0, 16_384),
        ] {
            assert_eq!(mean_read_bytes(bytes), read);
        }
    }
}
