//! What a durable append costs on this machine's disk: one at a time, and as many bytes as will go.
//!
//! Goals: one record of 4 KiB at queue depth 1 within 1.2 times what the device takes for a durable write of 4 KiB;
//! batches of 64 KiB, four in flight, at 0.9 times what the device takes so. `compare device` measures the device.

use std::path::Path;
use std::time::{Duration, Instant};

use ashlar_io::wal::{Durability, Mark, Options, Wal, recover};
use ashlar_io::{Reactor, Settings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn options(dir: &Path, batch_bytes: usize, inflight_max: usize) -> Options {
    Options {
        dir: dir.to_owned(),
        log_id: 1,
        segment_bytes: 16 << 20,
        segments_spare: 4,
        inflight_max,
        batch_bytes,
        durability: Durability::Dsync,
    }
}

/// A log on the disk that the temporary directory lies on.
struct Log {
    reactor: Reactor,
    wal: Wal,
    /// Marks and positions of what was appended, so that it can be released.
    appended: Mark,
}

impl Log {
    /// Opens an empty log; `None` where there is no direct IO.
    fn open(dir: &Path, batch_bytes: usize, inflight_max: usize) -> Option<Self> {
        let reactor = Reactor::new(&Settings::default()).expect("this machine runs io_uring");
        let options = options(dir, batch_bytes, inflight_max);
        let (own, wanted) = (reactor.clone(), options.clone());
        let recovered =
            reactor.block_on(async move { recover(&own, &wanted, |_, _| Ok(())).await });
        let wal = Wal::open(
            &reactor,
            options,
            recovered.expect("an empty directory is an empty log"),
        );
        let mut log = Self {
            reactor,
            wal,
            appended: Mark(0),
        };
        while log.wal.segments_ready() < 4 {
            if log.wal.failure().is_some() {
                return None;
            }
            log.turn();
        }
        Some(log)
    }

    /// One turn of the shard; what is durable is released, so that segments go round.
    fn turn(&mut self) {
        self.wal.flush();
        self.reactor
            .park(Some(self.reactor.now() + Duration::from_millis(10)), || {
                false
            });
        self.reactor.turn();
        self.wal.poll().expect("the disk works");
        self.wal.release(self.wal.position());
    }

    /// Appends when there is room.
    fn append(&mut self, record: &[u8]) {
        while self.wal.capacity_bytes() < record.len() as u64 {
            self.wal.want(record.len() as u64);
            self.turn();
        }
        self.appended = self.wal.append(&[record]);
    }

    fn settle(&mut self) {
        while self.wal.durable() <= self.appended {
            self.turn();
        }
    }
}

fn one_at_a_time(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(mut log) = Log::open(dir.path(), 64 << 10, 1) else {
        eprintln!("skipped: {} takes no direct IO", dir.path().display());
        return;
    };
    let mut group = criterion.benchmark_group("wal");
    for bytes in [100, 4_000] {
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("durable_append_{bytes}"), |bencher| {
            bencher.iter_custom(|rounds| {
                let record = vec![7; bytes];
                let from = Instant::now();
                for _ in 0..rounds {
                    log.append(&record);
                    log.settle();
                }
                from.elapsed()
            });
        });
    }
    group.finish();
}

fn as_much_as_goes(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(mut log) = Log::open(dir.path(), 64 << 10, 4) else {
        return;
    };
    let mut group = criterion.benchmark_group("wal");
    let record = vec![7; (64 << 10) - 88];
    group.throughput(Throughput::Bytes(record.len() as u64));
    group.bench_function("batches_64k_4_in_flight", |bencher| {
        bencher.iter_custom(|rounds| {
            let from = Instant::now();
            for round in 0..rounds {
                log.append(&record);
                log.wal.flush();
                // Four in flight and four queued behind them.
                if round % 4 == 3 {
                    let behind = Mark(log.appended.0.saturating_sub(8));
                    while log.wal.durable() < behind {
                        log.turn();
                    }
                }
            }
            log.settle();
            from.elapsed()
        });
    });
    group.finish();
}

/// Copying, framing and sealing alone, without the wait for the disk.
fn append_alone(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(mut log) = Log::open(dir.path(), 64 << 10, 4) else {
        return;
    };
    let mut group = criterion.benchmark_group("wal");
    group.bench_function("append_100_in_memory", |bencher| {
        let record = [7; 100];
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            let mut left = rounds;
            while left > 0 {
                let burst = left.min(256);
                log.append(&record);
                let from = Instant::now();
                for _ in 1..burst {
                    log.appended = log.wal.append(&[&record]);
                }
                spent += from.elapsed();
                log.settle();
                left -= burst;
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(benches, one_at_a_time, as_much_as_goes, append_alone);
criterion_main!(benches);
