//! `ashlar bench-wal`: durable appends to a log of its own, closed loop, without a node. What it
//! measures is the log's whole write path: copy, seal, checksum, write, completion, durable mark.
//!
//! Each record is its own batch, and a batch takes `--bytes` on disk: the payload is that less the
//! headers of batch and frame, so that a record of 4096 bytes is one block of 4 KiB, comparable
//! with fio writing blocks of that size.
//!
//! Before measuring, the log is written through its first segment, so that afterwards segments are
//! only reused: a new one is made by writing zeros, which would share the device with what is
//! measured.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_io::wal::format::{FRAME_BYTES, HEADER_BYTES};
use ashlar_io::wal::{self, Durability, Mark, Options, Wal};
use ashlar_io::{ALIGN_BYTES, BLOCK_BYTES, DirLock, Monotonic, Reactor, Settings};
use hdrhistogram::Histogram;

use crate::refusal::Failure;

/// Bytes of a batch that are not payload.
const HEADERS_BYTES: usize = HEADER_BYTES + FRAME_BYTES;
/// Batches that a segment holds, and its largest size in bytes.
const SEGMENT_BATCHES: u64 = 1024;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Segments kept ready.
const SEGMENTS_SPARE: usize = 2;
/// Segments written through before measuring, at most.
const ROLLS_MAX: u32 = 4;
/// Name of the directory made for the log.
const DIR_NAME: &str = "ashlar-bench-wal";

/// Flags of `ashlar bench-wal`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory on the device to measure; a log is made in it and removed at the end
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Size of a record on disk in bytes, 88 of them headers; blocks of 4 KiB are written
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(89..=262_144))]
    bytes: u32,
    /// Records in flight
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    inflight: u32,
    /// Seconds to measure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How writes are made durable; auto measures which is faster
    #[arg(long, value_name = "METHOD", default_value = "auto")]
    durability: Method,
    /// CPU to run on [default: any]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

/// A way of making writes durable, or the choice between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    /// Whichever is faster here.
    Auto,
    /// A flag on each write.
    Dsync,
    /// A sync after the writes.
    Fdatasync,
}

impl Args {
    fn options(&self, dir: &Path, (log_id, durability): (u64, Durability)) -> Options {
        let batch_bytes = (self.bytes as usize).next_multiple_of(ALIGN_BYTES);
        let segment_bytes = (batch_bytes as u64 * SEGMENT_BATCHES).min(SEGMENT_BYTES_MAX);
        Options {
            dir: dir.to_owned(),
            log_id,
            segment_bytes: segment_bytes - segment_bytes % batch_bytes as u64,
            segments_spare: SEGMENTS_SPARE,
            inflight_max: self.inflight as usize,
            batch_bytes,
            durability,
        }
    }
}

/// Measures, and prints one line.
///
/// # Errors
/// One line: the directory cannot be made, locked or written, or the reactor cannot start.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    const _: () = assert!(
        262_144 == BLOCK_BYTES && HEADERS_BYTES == 88,
        "the bounds of --bytes"
    );
    if let Some(cpu) = args.cpu.filter(|cpu| !ashlar_io::topology::pin(*cpu)) {
        let cpus = ashlar_io::topology::cpus();
        return Err(Failure::Mistake(format!(
            "--cpu {cpu}: this process may run on CPUs {cpus:?} only"
        )));
    }
    let scratch = Scratch::make(&args.data)?;
    let reactor = Reactor::new(&Settings::default()).map_err(|error| error.to_string())?;
    let measured = measure(&reactor, &args, &scratch.dir);
    // The kernel lets go of the files before their directory is removed.
    reactor.shut_down();
    drop(reactor);
    let line = measured?.line();
    drop(scratch);
    println!("{line}");
    Ok(())
}

/// The directory of the log, removed when dropped; so is the one around it when it was not there
/// before.
struct Scratch {
    dir: PathBuf,
    made: Option<PathBuf>,
    _lock: DirLock,
}

impl Scratch {
    fn make(data: &Path) -> Result<Self, String> {
        let made = (!data.exists()).then(|| data.to_owned());
        let dir = data.join(DIR_NAME);
        let failed = |error| format!("cannot make {}: {error}", dir.display());
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let lock = DirLock::acquire(&dir).map_err(|error| error.to_string())?;
        // A run that was killed has left its log behind, maybe of another size.
        for entry in std::fs::read_dir(&dir).map_err(failed)?.flatten() {
            let is_log = entry.file_name().to_string_lossy().contains(wal::SUFFIX);
            if is_log {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(Self {
            dir,
            made,
            _lock: lock,
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.dir);
        if let Err(error) = removed {
            eprintln!("warning: cannot remove {}: {error}", self.dir.display());
        }
        if let Some(made) = &self.made {
            // Something else may be in it by now; then it stays.
            let _ = std::fs::remove_dir(made);
        }
    }
}

fn measure(reactor: &Reactor, args: &Args, dir: &Path) -> Result<Measured, String> {
    let durability = choose(reactor, args.durability, dir)?;
    let options = args.options(dir, (reactor.random(), durability));
    let (inner, recovering) = (reactor.clone(), options.clone());
    let recovered = reactor.block_on(async move {
        let recovered = wal::recover(&inner, &recovering, |_, _| Ok(())).await;
        recovered.map_err(|error| error.to_string())
    })?;
    let wal = Wal::open(reactor, options, recovered);
    let mut load = Load::new(reactor, wal, args);
    load.prepare()?;
    load.run(Duration::from_secs(args.seconds))?;
    let elapsed = load.finish()?;
    let Load {
        latencies, record, ..
    } = load;
    Ok(Measured {
        latencies,
        elapsed,
        record_bytes: record.len() + HEADERS_BYTES,
        durability,
    })
}

fn choose(reactor: &Reactor, method: Method, dir: &Path) -> Result<Durability, String> {
    match method {
        Method::Dsync => return Ok(Durability::Dsync),
        Method::Fdatasync => return Ok(Durability::Fdatasync),
        Method::Auto => {}
    }
    let (inner, dir) = (reactor.clone(), dir.to_owned());
    let chosen = reactor.block_on(async move {
        let failed = |error| format!("cannot write to {}: {error}", dir.display());
        wal::calibrate(&inner, &dir).await.map_err(failed)
    });
    chosen.map(|(method, _, _)| method)
}

/// The closed loop: as many records under way as asked for.
struct Load {
    reactor: Reactor,
    wal: Wal,
    record: Vec<u8>,
    inflight: usize,
    /// Records that are not durable yet, with the time of their append.
    under_way: VecDeque<(Mark, Monotonic)>,
    latencies: Histogram<u64>,
    started: Monotonic,
}

impl Load {
    fn new(reactor: &Reactor, wal: Wal, args: &Args) -> Self {
        let mut rng = ashlar_io::rng::Rng::new(1);
        let mut record = vec![0; args.bytes as usize - HEADERS_BYTES];
        rng.fill(&mut record);
        let bounds = "the bounds are constants that hdrhistogram accepts";
        Self {
            reactor: reactor.clone(),
            wal,
            record,
            inflight: args.inflight as usize,
            under_way: VecDeque::new(),
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect(bounds),
            started: reactor.read_clock(),
        }
    }

    /// Writes through the first segments until one more than wanted is ready: the log then lives on
    /// those it has.
    fn prepare(&mut self) -> Result<(), String> {
        while self.wal.segments_ready() < SEGMENTS_SPARE {
            self.has_room()?;
            self.turn(0)?;
        }
        let mut rolls = 0;
        while rolls < ROLLS_MAX && self.wal.segments_ready() <= SEGMENTS_SPARE {
            let before = self.wal.segments_ready();
            self.turn(self.inflight)?;
            rolls += u32::from(self.wal.segments_ready() < before);
        }
        self.finish()?;
        self.latencies.reset();
        self.started = self.reactor.read_clock();
        Ok(())
    }

    fn run(&mut self, duration: Duration) -> Result<(), String> {
        let end = self.started + duration;
        while self.reactor.now() < end {
            self.turn(self.inflight)?;
        }
        Ok(())
    }

    /// Waits for what is under way; returns how long the records since [`Load::prepare`] took.
    fn finish(&mut self) -> Result<Duration, String> {
        while !self.under_way.is_empty() {
            self.turn(0)?;
        }
        Ok(self.reactor.now().since(self.started))
    }

    /// One turn: appends until `under_way_max` records are under way, waits, takes what has become
    /// durable. The wait comes before the look at what changed, so that nobody waits for a change
    /// that was there already.
    fn turn(&mut self, under_way_max: usize) -> Result<(), String> {
        // Nothing is ever read back, so every segment but the last is free at once.
        self.wal.release(self.wal.position());
        while self.under_way.len() < under_way_max && self.has_room()? {
            self.append();
        }
        self.wal.flush();
        self.reactor.park(None, || false);
        self.reactor.turn();
        let durable = self.wal.poll().map_err(|error| error.to_string())?;
        self.take_durable(durable);
        Ok(())
    }

    fn take_durable(&mut self, durable: Mark) {
        let now = self.reactor.now();
        while let Some((mark, appended)) = self.under_way.front().copied()
            && mark < durable
        {
            self.under_way.pop_front();
            let ns = u64::try_from(now.since(appended).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(ns.max(1));
        }
    }

    fn has_room(&self) -> Result<bool, String> {
        match self.wal.failure() {
            _ if self.wal.capacity_bytes() >= self.record.len() as u64 => Ok(true),
            Some(kind) => Err(format!("the log cannot grow: {kind}")),
            None => Ok(false),
        }
    }

    /// Appends one record and closes its batch.
    fn append(&mut self) {
        let now = self.reactor.read_clock();
        let mark = self.wal.append(&[&self.record]);
        self.under_way.push_back((mark, now));
        self.wal.flush();
    }
}

/// What was measured.
struct Measured {
    latencies: Histogram<u64>,
    elapsed: Duration,
    record_bytes: usize,
    durability: Durability,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn line(&self) -> String {
        let us = |percent: f64| self.latencies.value_at_percentile(percent) as f64 / 1000.0;
        let per_second = self.latencies.len() as f64 / self.elapsed.as_secs_f64();
        let mib_per_s = per_second * self.record_bytes as f64 / f64::from(1 << 20);
        let method = match self.durability {
            Durability::Dsync => "dsync",
            Durability::Fdatasync => "fdatasync",
            Durability::None => "none",
        };
        let (p50, p99) = (us(50.0), us(99.0));
        format!(
            "p50_us={p50:.1} p99_us={p99:.1} mib_per_s={mib_per_s:.1} appends_per_s={per_second:.0} method={method}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data: &Path, (bytes, inflight): (u32, u32), durability: Method) -> Args {
        Args {
            data: data.to_owned(),
            bytes,
            inflight,
            seconds: 1,
            durability,
            cpu: None,
        }
    }

    #[test]
    fn a_record_of_4096_bytes_fills_one_block() {
        let args = args(Path::new("x"), (4096, 1), Method::Auto);
        let options = args.options(Path::new("x"), (1, Durability::Dsync));
        assert_eq!(
            (options.batch_bytes, options.segment_bytes),
            (4096, 4 << 20)
        );
        let payload = args.bytes as usize - HEADER_BYTES;
        assert_eq!(
            wal::format::batch_bytes(u32::try_from(payload).unwrap()),
            4096
        );
        for bytes in [89, 5000, 65_536, 262_144, 200_000] {
            let options = Args {
                bytes,
                ..args.clone()
            }
            .options(Path::new("x"), (1, Durability::Dsync));
            assert!(
                options
                    .segment_bytes
                    .is_multiple_of(options.batch_bytes as u64),
                "{bytes}"
            );
        }
    }

    #[test]
    fn the_line_has_its_fields_in_order() {
        let mut latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        latencies.record_n(100_000, 256).unwrap();
        let elapsed = Duration::from_secs(1);
        let line = Measured {
            latencies,
            elapsed,
            record_bytes: 4096,
            durability: Durability::Dsync,
        }
        .line();
        assert_eq!(
            line,
            "p50_us=100.0 p99_us=100.0 mib_per_s=1.0 appends_per_s=256 method=dsync"
        );
    }

    #[test]
    fn the_log_is_removed_and_so_is_a_directory_that_was_not_there() {
        let outer = tempfile::tempdir().unwrap();
        let data = outer.path().join("made/here");
        let scratch = Scratch::make(&data).unwrap();
        std::fs::write(scratch.dir.join("00000000.wal"), b"left behind").unwrap();
        drop(scratch);
        assert!(!data.exists());
        let scratch = Scratch::make(outer.path()).unwrap();
        assert!(Scratch::make(outer.path()).is_err(), "one run at a time");
        drop(scratch);
        assert!(outer.path().exists());
    }
}
