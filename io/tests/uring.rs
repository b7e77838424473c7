//! What only the kernel's ring has: threads that wake it, spinning, set-up errors, and what it must
//! not do behind one's back (worker threads on the write path). What both drivers share is in
//! `conformance`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ashlar_io::queue::inbox;
use ashlar_io::wal::{self, Durability, Options, Wal, recover};
use ashlar_io::{Buf, Durable, File, OpenOptions, Reactor, Settings, Socket, StartError};

fn reactor(spin_us_max: u32) -> Reactor {
    Reactor::new(&Settings {
        spin_us_max,
        ..Settings::default()
    })
    .unwrap()
}

fn options(dir: &Path, durability: Durability, inflight_max: usize) -> Options {
    Options {
        dir: dir.to_owned(),
        log_id: 5,
        segment_bytes: 1 << 20,
        segments_spare: 2,
        inflight_max,
        batch_bytes: 64 << 10,
        durability,
    }
}

/// Opens an empty log and waits until its spare segments are there; nothing where there is no
/// direct IO.
fn open_log(reactor: &Reactor, options: &Options) -> Option<Wal> {
    let (own, wanted) = (reactor.clone(), options.clone());
    let recovered =
        match reactor.block_on(async move { recover(&own, &wanted, |_, _| Ok(())).await }) {
            Ok(recovered) => recovered,
            Err(error) => panic!("{error}"),
        };
    let wal = Wal::open(reactor, options.clone(), recovered);
    while wal.segments_ready() < options.segments_spare {
        if wal.failure() == Some(std::io::ErrorKind::InvalidInput) {
            eprintln!(
                "skipped: {} takes no direct IO; set TMPDIR to a directory on a disk",
                options.dir.display()
            );
            return None;
        }
        turn(reactor);
    }
    Some(wal)
}

fn turn(reactor: &Reactor) {
    reactor.turn();
    reactor.park(Some(reactor.now() + Duration::from_millis(5)), || false);
}

/// Counts the kernel's worker threads of this process: an op that needs one is slow, and was not
/// meant to.
fn worker_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("iou-wrk")).count()
}

/// Set for the child process that a test starts of itself, so that no other test's threads are
/// counted.
const ALONE: &str = "ASHLAR_TEST_ALONE";

/// Runs one test of this program in a process of its own; says whether this is that process.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let status = std::process::Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .status();
    assert!(status.unwrap().success());
    false
}

#[test]
fn durable_appends_need_no_worker_threads() {
    if !is_alone("durable_appends_need_no_worker_threads") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let reactor = reactor(0);
    let Some(mut wal) = open_log(&reactor, &options(dir.path(), Durability::Dsync, 4)) else {
        return;
    };
    // Making segments reserves and syncs, which may take workers; they end some seconds later, or
    // are counted now.
    let before = worker_threads();
    let mut most = 0;
    for _ in 0..200 {
        let mark = wal.append(&[&[7; 3_000]]);
        wal.flush();
        while wal.durable() <= mark {
            turn(&reactor);
            wal.poll().unwrap();
            most = most.max(worker_threads());
        }
    }
    assert!(
        most <= before,
        "{most} worker threads while appending, {before} before"
    );
    drop(wal);
    reactor.shut_down();
}

#[test]
fn what_was_appended_is_there_after_the_process() {
    for (durability, inflight_max) in [
        (Durability::Dsync, 4),
        (Durability::Fdatasync, 2),
        (Durability::None, 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), durability, inflight_max);
        let first = reactor(0);
        let Some(mut wal) = open_log(&first, &options) else {
            return;
        };
        let mut last = None;
        for n in 0..2_000_u32 {
            let record = vec![n.to_le_bytes()[0]; 1 + n as usize % 4_000];
            while wal.capacity_bytes() < record.len() as u64 {
                wal.want(record.len() as u64);
                turn(&first);
                wal.poll().unwrap();
                wal.flush();
            }
            last = Some(wal.append(&[&n.to_le_bytes(), &record]));
            wal.flush();
        }
        while wal.durable() <= last.unwrap() {
            turn(&first);
            wal.poll().unwrap();
            wal.flush();
        }
        drop(wal);
        first.shut_down();
        drop(first);
        let second = reactor(0);
        let (own, wanted) = (second.clone(), options.clone());
        let found = second.block_on(async move {
            let mut found = Vec::new();
            let recovered = recover(&own, &wanted, |_, record| {
                found.push((
                    u32::from_le_bytes(record[..4].try_into().unwrap()),
                    record.len(),
                ));
                Ok(())
            });
            assert!(!recovered.await.unwrap().torn);
            found
        });
        assert!(
            found
                .into_iter()
                .eq((0..2_000).map(|n| (n, 5 + n as usize % 4_000)))
        );
        second.shut_down();
    }
}

#[test]
fn a_device_is_calibrated() {
    let dir = tempfile::tempdir().unwrap();
    let reactor = reactor(0);
    let (own, path) = (reactor.clone(), dir.path().to_owned());
    match reactor.block_on(async move { wal::calibrate(&own, &path).await }) {
        Ok((method, dsync, fdatasync)) => {
            // DSYNC is one operation where the other takes two, so it may be somewhat slower.
            let is_slow = fdatasync * 4 < dsync * 3;
            assert_eq!(method == Durability::Fdatasync, is_slow);
            assert!(!dsync.is_zero() && std::fs::read_dir(dir.path()).unwrap().next().is_none());
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput),
    }
    reactor.shut_down();
}

#[test]
fn a_reactor_may_be_dropped_with_everything_in_flight() {
    for round in 0..20_u32 {
        let dir = tempfile::tempdir().unwrap();
        let reactor = reactor(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        for n in 0..8 {
            let (own, path) = (reactor.clone(), dir.path().join(n.to_string()));
            reactor.spawn(async move {
                let options = OpenOptions {
                    write: true,
                    create: true,
                    ..OpenOptions::default()
                };
                let file = File::open(&own, &path, options).await.unwrap();
                let (result, _) = file.write_at(own.buffer(100_000), 0, Durable::Yes).await;
                result.unwrap();
                own.sleep(Duration::from_secs(3600)).await;
            });
            let own = reactor.clone();
            reactor.spawn(async move {
                let mut socket = Socket::connect(&own, addr).await.unwrap();
                socket.send(&[1; 100_000]);
                let _ = socket.receive().await;
            });
        }
        // In another state of things each time.
        for _ in 0..round {
            turn(&reactor);
        }
        let from = Instant::now();
        reactor.shut_down();
        drop(reactor);
        assert!(
            from.elapsed() < Duration::from_secs(2),
            "everything could be cancelled, but it took so long"
        );
    }
}

#[test]
fn another_thread_wakes_a_shard_that_sleeps() {
    for spin_us_max in [0, 200] {
        let reactor = reactor(spin_us_max);
        let (sender, inbox) = inbox::<u64>(reactor.wake_cell(), 16);
        let (answers, answered) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            for n in 0..3_000_u64 {
                let mut message = n;
                while let Err(back) = sender.push(message) {
                    message = back;
                    std::thread::yield_now();
                }
                sender.notify();
                if n % 100 == 0 {
                    // From time to time the shard is surely asleep.
                    std::thread::sleep(Duration::from_millis(1));
                }
                if n % 7 == 0 {
                    assert_eq!(
                        answered.recv_timeout(Duration::from_secs(20)),
                        Ok(n),
                        "the shard was not woken"
                    );
                }
            }
        });
        let mut next = 0;
        while next < 3_000 {
            reactor.turn();
            while let Some(n) = inbox.pop() {
                assert_eq!(n, next);
                next += 1;
                if n % 7 == 0 {
                    answers.send(n).unwrap();
                }
            }
            let from = Instant::now();
            if next == 3_000 {
                break;
            }
            reactor.park(None, || !inbox.is_empty());
            assert!(
                from.elapsed() < Duration::from_secs(20),
                "it slept through a message"
            );
        }
        other.join().unwrap();
        reactor.shut_down();
    }
}

#[test]
fn a_spinning_reactor_sleeps_when_spinning_does_not_pay() {
    for spin_us_max in [0, 1_000] {
        let reactor = reactor(spin_us_max);
        let own = reactor.clone();
        reactor.block_on(async move { own.sleep(Duration::from_millis(50)).await });
        let counters = reactor.counters();
        assert!(counters.sleeps > 0 && counters.turns < 200, "{counters:?}");
        reactor.shut_down();
    }
}

#[test]
fn a_half_closed_peer_still_gets_its_answer() {
    let reactor = reactor(0);
    let mut listener =
        ashlar_io::Listener::bind(&reactor, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let own = reactor.clone();
    reactor.block_on(async move {
        let mut server = listener.accept().await.unwrap();
        let mut question = Vec::new();
        loop {
            let chunk = server.receive().await.unwrap();
            if chunk.is_empty() {
                break;
            }
            question.extend_from_slice(&chunk);
        }
        assert_eq!(question, b"question");
        server.send(&[9; 300_000]);
        server.sender().drained(0).await;
        drop(server);
        own.sleep(Duration::from_millis(5)).await;
    });
    assert_eq!(client.join().unwrap(), [9; 300_000]);
    reactor.shut_down();
}

#[test]
fn a_reset_is_told_as_one() {
    let reactor = reactor(0);
    let mut listener =
        ashlar_io::Listener::bind(&reactor, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let addr = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let client = socket2::Socket::from(TcpStream::connect(addr).unwrap());
        client.set_linger(Some(Duration::ZERO)).unwrap();
    });
    let own = reactor.clone();
    reactor.block_on(async move {
        let mut server = listener.accept().await.unwrap();
        client.join().unwrap();
        own.sleep(Duration::from_millis(5)).await;
        let error = server.receive().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
    reactor.shut_down();
}

#[test]
fn a_listener_says_that_an_address_is_not_its_own() {
    let reactor = reactor(0);
    let error =
        ashlar_io::Listener::bind(&reactor, SocketAddr::from(([203, 0, 113, 7], 0))).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = ashlar_io::Listener::bind(&reactor, taken.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    reactor.shut_down();
}

#[test]
fn registered_blocks_run_out_into_plain_memory() {
    let reactor = reactor(0);
    let blocks: Vec<Buf> = (0..20).map(|_| reactor.buffer(4_096)).collect();
    assert!(blocks.iter().all(|buf| buf.len() == 4_096));
    assert!(reactor.buffer((256 << 10) + 1).capacity() > 256 << 10);
    reactor.shut_down();
}

#[test]
fn start_errors_name_the_cause_and_the_cure() {
    if is_alone("start_errors_name_the_cause_and_the_cure") {
        // Without file descriptors there is no ring.
        let limit = libc::rlimit {
            rlim_cur: 3,
            rlim_max: 3,
        };
        // SAFETY: the pointer is to a live rlimit.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        assert_eq!(result, 0);
        let error = Reactor::new(&Settings::default()).unwrap_err();
        assert!(matches!(error, StartError::Ring { .. }));
        assert!(
            error.to_string().starts_with("io_uring_setup failed: "),
            "{error}"
        );
    }
    let forbidden = StartError::RingForbidden {
        sysctl: Some("2".to_owned()),
    }
    .to_string();
    assert!(forbidden.contains("kernel.io_uring_disabled is 2") && forbidden.contains("sysctl -w"));
    let filtered = StartError::RingForbidden { sysctl: None }.to_string();
    assert!(filtered.contains("seccomp"));
    let old = StartError::KernelTooOld {
        release: "5.10.0".to_owned(),
        what: "it is old".to_owned(),
    }
    .to_string();
    assert!(old.contains("5.10.0") && old.contains("6.1"));
    assert!(StartError::Memlock.to_string().contains("ulimit -l"));
}
