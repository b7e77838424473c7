//! What the reactor itself costs: an empty turn, a timer, one write of 4 KiB, a message there and back over loopback.
//!
//! Goals: an empty turn within 150 ns; a cached write of 4 KiB within 5 us; a ping-pong on loopback, both ends on one
//! core, within 15 us.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ashlar_io::reactor::yield_now;
use ashlar_io::{Buf, Durable, File, Listener, OpenOptions, Reactor, Settings, Socket};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn reactor() -> Reactor {
    Reactor::new(&Settings::default()).expect("this machine runs io_uring")
}

fn turns(criterion: &mut Criterion) {
    let reactor = reactor();
    let mut group = criterion.benchmark_group("ring");
    group.bench_function("empty_turn", |bencher| {
        bencher.iter(|| {
            reactor.turn();
            // As a shard parks that has work of its own left.
            reactor.park(None, || true);
        });
    });
    group.bench_function("yield", |bencher| {
        bencher.iter_custom(|rounds| {
            reactor.block_on(async move {
                let from = Instant::now();
                for _ in 0..rounds {
                    yield_now().await;
                }
                from.elapsed()
            })
        });
    });
    group.bench_function("set_and_cancel_timer", |bencher| {
        bencher.iter_custom(|rounds| {
            let own = reactor.clone();
            reactor.block_on(async move {
                let from = Instant::now();
                for _ in 0..rounds {
                    let mut sleep = Box::pin(own.sleep(Duration::from_secs(10)));
                    std::future::poll_fn(|context| {
                        assert!(sleep.as_mut().poll(context).is_pending());
                        std::task::Poll::Ready(())
                    })
                    .await;
                }
                from.elapsed()
            })
        });
    });
    group.finish();
}

/// How a file is written to.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    direct: bool,
    durable: Durable,
}

const WAYS: [Way; 3] = [
    Way {
        name: "write_4k_cached",
        direct: false,
        durable: Durable::No,
    },
    Way {
        name: "write_4k_direct",
        direct: true,
        durable: Durable::No,
    },
    Way {
        name: "write_4k_direct_durable",
        direct: true,
        durable: Durable::Yes,
    },
];

async fn write(reactor: Reactor, path: PathBuf, way: Way, rounds: u64) -> Option<Duration> {
    let options = OpenOptions {
        write: true,
        create: true,
        create_new: false,
        direct: way.direct,
    };
    let file = File::open(&reactor, &path, options).await.ok()?;
    // Written once before, so that no write allocates.
    let (result, _) = file.write_at(Buf::heap(1 << 20), 0, Durable::No).await;
    result.expect("there is room for a mebibyte");
    file.sync().await.expect("a fresh file can be synced");
    let mut buf = reactor.buffer(4096);
    let from = Instant::now();
    for round in 0..rounds {
        let (result, back) = file.write_at(buf, round % 256 * 4096, way.durable).await;
        result.expect("it was written before");
        buf = back;
    }
    Some(from.elapsed())
}

fn writes(criterion: &mut Criterion) {
    let reactor = reactor();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Bytes(4096));
    for way in WAYS {
        let run = |rounds| {
            let (own, path) = (reactor.clone(), dir.path().join(way.name));
            reactor.block_on(write(own, path, way, rounds))
        };
        if run(1).is_none() {
            eprintln!(
                "skipped {}: {} takes no direct IO",
                way.name,
                dir.path().display()
            );
            continue;
        }
        group.bench_function(way.name, |bencher| {
            bencher.iter_custom(|rounds| run(rounds).expect("it could be opened before"));
        });
    }
    group.finish();
}

async fn receive(socket: &mut Socket, bytes: usize) {
    let mut left = bytes;
    while left > 0 {
        let chunk = socket.receive().await.expect("loopback does not fail");
        assert!(!chunk.is_empty(), "the peer stays");
        left -= chunk.len();
    }
}

async fn ping_pong(reactor: Reactor, bytes: usize, rounds: u64) -> Duration {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut listener = Listener::bind(&reactor, any).expect("loopback is there");
    let addr = listener.local_addr().expect("it is bound");
    let mut client = Socket::connect(&reactor, addr).await.expect("it listens");
    let mut server = listener.accept().await.expect("it was connected to");
    let message = vec![7; bytes];
    let answer = message.clone();
    reactor.spawn(async move {
        for _ in 0..rounds {
            receive(&mut server, answer.len()).await;
            server.send(&answer);
        }
    });
    let from = Instant::now();
    for _ in 0..rounds {
        client.send(&message);
        receive(&mut client, bytes).await;
    }
    from.elapsed()
}

fn sockets(criterion: &mut Criterion) {
    let reactor = reactor();
    let mut group = criterion.benchmark_group("ring_ping_pong");
    for bytes in [64, 16 << 10] {
        group.throughput(Throughput::Bytes(2 * bytes as u64));
        group.bench_function(format!("{bytes}"), |bencher| {
            bencher
                .iter_custom(|rounds| reactor.block_on(ping_pong(reactor.clone(), bytes, rounds)));
        });
    }
    group.finish();
}

criterion_group!(benches, turns, writes, sockets);
criterion_main!(benches);
