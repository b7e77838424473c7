//! What the ring can be told to do otherwise: threads that take submissions, polling of devices,
//! files by number, sends without a copy. Each runs the same exchange, in which a log, files and
//! connections share one reactor, where this machine allows it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use ashlar_io::wal::{Durability, Options, Wal, recover};
use ashlar_io::{
    Buf, DirLock, Durable, File, Listener, OpenOptions, Reactor, Settings, Socket, StartError,
};

const FILE: OpenOptions = OpenOptions {
    write: true,
    create: true,
    create_new: false,
    direct: false,
};
const DIRECT: OpenOptions = OpenOptions {
    direct: true,
    ..FILE
};

/// Sets up a reactor; says why not where this machine does not allow it.
fn reactor(settings: &Settings) -> Option<Reactor> {
    match Reactor::new(settings) {
        Ok(reactor) => Some(reactor),
        Err(error @ StartError::Refused { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn log_options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        log_id: 5,
        segment_bytes: 256 << 10,
        segments_spare: 2,
        inflight_max: 2,
        batch_bytes: 64 << 10,
        durability: Durability::Dsync,
    }
}

/// Echoes until the end.
async fn echo(mut server: Socket) {
    loop {
        let chunk = server.receive().await.unwrap();
        if chunk.is_empty() {
            return;
        }
        server.send(&chunk);
    }
}

async fn receive(socket: &mut Socket, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let chunk = socket.receive().await.unwrap();
        assert!(!chunk.is_empty(), "it ended after {} bytes", all.len());
        all.extend_from_slice(&chunk);
    }
    all
}

/// Connections carry messages small and large while a direct file is written and read.
async fn exchange(reactor: Reactor, dir: std::path::PathBuf) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut listener = Listener::bind(&reactor, any).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Socket::connect(&reactor, addr).await.unwrap());
        reactor.spawn(echo(listener.accept().await.unwrap()));
    }
    let file = match File::open(&reactor, &dir.join("direct"), DIRECT).await {
        Ok(file) => file,
        Err(_) => File::open(&reactor, &dir.join("cached"), FILE)
            .await
            .unwrap(),
    };
    for round in 0..40_usize {
        let byte = u8::try_from(round).unwrap();
        let message = vec![byte; 1 + round * round * 200];
        for client in &clients {
            client.send(&message);
        }
        let mut buf = reactor.buffer(8_192);
        buf.as_mut_slice().fill(byte);
        let at = round as u64 * 8_192;
        file.write_at(buf, at, Durable::Yes).await.0.unwrap();
        let (count, buf) = file.read_at(Buf::heap(8_192), at).await;
        assert_eq!(
            (count.unwrap(), buf.as_slice()),
            (8_192, &[byte; 8_192][..])
        );
        for client in &mut clients {
            assert!(receive(client, message.len()).await == message);
        }
    }
    for client in &clients {
        client.sender().drained(0).await;
    }
}

/// Appends to a log until it has used several segments, and recovers it.
fn log(reactor: &Reactor, dir: &Path) {
    let options = log_options(dir);
    let (own, wanted) = (reactor.clone(), options.clone());
    let recovered = reactor.block_on(async move { recover(&own, &wanted, |_, _| Ok(())).await });
    let mut wal = Wal::open(reactor, options.clone(), recovered.unwrap());
    let turn = || {
        reactor.turn();
        reactor.park(Some(reactor.now() + Duration::from_millis(5)), || false);
    };
    let record = [3; 10_000];
    for n in 0..100_u32 {
        while wal.capacity_bytes() < 20_000 {
            if wal.failure() == Some(std::io::ErrorKind::InvalidInput) {
                eprintln!("skipped: {} takes no direct IO", dir.display());
                return;
            }
            wal.want(20_000);
            turn();
            wal.poll().unwrap();
        }
        let mark = wal.append(&[&n.to_le_bytes(), &record]);
        wal.flush();
        while wal.durable() <= mark {
            turn();
            wal.poll().unwrap();
        }
    }
    drop(wal);
    let own = reactor.clone();
    let found = reactor.block_on(async move {
        let mut found = 0_u32;
        let recovered = recover(&own, &options, |_, bytes| {
            assert_eq!(
                (&bytes[..4], bytes.len()),
                (&found.to_le_bytes()[..], 10_004)
            );
            found += 1;
            Ok(())
        });
        recovered.await.unwrap();
        found
    });
    assert_eq!(found, 100);
}

fn works_with(settings: &Settings) {
    let dir = tempfile::tempdir().unwrap();
    let Some(reactor) = reactor(settings) else {
        return;
    };
    reactor.block_on(exchange(reactor.clone(), dir.path().to_owned()));
    assert!(reactor.take_send_time().is_some(), "no send was timed");
    std::fs::create_dir(dir.path().join("wal")).unwrap();
    log(&reactor, &dir.path().join("wal"));
    reactor.shut_down();
}

#[test]
fn a_node_works_when_a_thread_takes_its_submissions() {
    for sqpoll_idle_ms in [1, 1_000] {
        works_with(&Settings {
            sqpoll_idle_ms,
            ..Settings::default()
        });
        works_with(&Settings {
            sqpoll_idle_ms,
            queue_entries: 8,
            ..Settings::default()
        });
    }
}

#[test]
fn a_node_works_when_reads_poll_the_device() {
    for iopoll_entries in [1, 64] {
        works_with(&Settings {
            iopoll_entries,
            ..Settings::default()
        });
    }
}

#[test]
fn a_node_works_when_it_polls_the_network() {
    works_with(&Settings {
        napi_poll_us_max: 50,
        ..Settings::default()
    });
}

#[test]
fn a_node_works_when_sends_are_not_copied() {
    for send_zero_copy_bytes in [1, 64 << 10] {
        works_with(&Settings {
            send_zero_copy_bytes,
            ..Settings::default()
        });
    }
}

#[test]
fn a_node_works_with_few_numbers_for_its_files_or_none() {
    for registered_files in [0, 1, 3] {
        works_with(&Settings {
            registered_files,
            ..Settings::default()
        });
    }
}

#[test]
fn a_node_works_with_everything_at_once() {
    works_with(&Settings {
        sqpoll_idle_ms: 10,
        iopoll_entries: 8,
        napi_poll_us_max: 20,
        send_zero_copy_bytes: 16 << 10,
        spin_us_max: 20,
        ..Settings::default()
    });
}

#[test]
fn files_keep_their_bytes_when_numbers_are_used_again() {
    for registered_files in [0, 2, 64] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            registered_files,
            ..Settings::default()
        };
        let reactor = Reactor::new(&settings).unwrap();
        let (own, path) = (reactor.clone(), dir.path().to_owned());
        reactor.block_on(async move {
            for round in 0..60_u8 {
                let name = |n: u8| path.join(format!("{round}-{n}"));
                let mut open = Vec::new();
                for n in 0..5 {
                    open.push(File::open(&own, &name(n), FILE).await.unwrap());
                }
                for (n, file) in (0_u8..).zip(open) {
                    let mut buf = own.buffer(50_000);
                    buf.as_mut_slice().fill(round ^ n << 6);
                    // Dropped at once: it is written all the same, before the file is closed.
                    let mut write = Box::pin(file.write_at(buf, 0, Durable::No));
                    let mut sync = Box::pin(file.sync());
                    std::future::poll_fn(|context| {
                        assert!(write.as_mut().poll(context).is_pending());
                        assert!(sync.as_mut().poll(context).is_pending());
                        std::task::Poll::Ready(())
                    })
                    .await;
                }
            }
            own.sleep(Duration::from_millis(50)).await;
        });
        reactor.shut_down();
        for (round, n) in (0..60_u8).flat_map(|round| (0..5_u8).map(move |n| (round, n))) {
            let bytes = std::fs::read(dir.path().join(format!("{round}-{n}"))).unwrap();
            assert!(
                bytes == [round ^ n << 6; 50_000],
                "file {n} of round {round}"
            );
        }
    }
}

#[test]
fn what_a_future_queued_last_is_sent_before_its_end_is_told() {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = peer.local_addr().unwrap();
    let reactor = Reactor::new(&Settings::default()).unwrap();
    let own = reactor.clone();
    let socket = reactor.block_on(async move {
        let socket = Socket::connect(&own, addr).await.unwrap();
        socket.send(b"the last words");
        socket
    });
    // Nobody drives the reactor any more.
    let (mut stream, _) = peer.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut words = [0; 14];
    stream.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"the last words");
    drop(socket);
    reactor.shut_down();
}

#[test]
fn lent_bytes_are_let_go_when_the_reactor_ends() {
    for turns in 0..10 {
        let peer = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = peer.local_addr().unwrap();
        let settings = Settings {
            send_zero_copy_bytes: 1,
            ..Settings::default()
        };
        let reactor = Reactor::new(&settings).unwrap();
        let own = reactor.clone();
        let socket = reactor.block_on(async move {
            let socket = Socket::connect(&own, addr).await.unwrap();
            socket.send(&[1; 8 << 20]);
            socket
        });
        for _ in 0..turns {
            reactor.turn();
            reactor.park(Some(reactor.now() + Duration::from_millis(1)), || false);
        }
        if turns % 2 == 0 {
            drop(socket);
        }
        drop(peer);
        reactor.shut_down();
    }
}

#[test]
fn a_ring_keeps_the_lock_of_a_directory() {
    for registered_files in [0, 64] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            registered_files,
            ..Settings::default()
        };
        let reactor = Reactor::new(&settings).unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        reactor.keep_lock(&lock).unwrap();
        // As when the process is killed while the ring still writes.
        drop(lock);
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(error, StartError::DirectoryInUse { .. }));
        reactor.shut_down();
        drop(reactor);
        DirLock::acquire(dir.path()).unwrap();
    }
}

#[test]
fn a_refused_choice_names_knob_cause_and_cure() {
    let refused = StartError::Refused {
        knob: "io.napi_poll_us_max",
        value: 50,
        cause: "the kernel does not poll network devices for a ring",
        error: std::io::Error::from_raw_os_error(libc::EINVAL),
        cure: "run Linux 6.9 or newer, built with CONFIG_NET_RX_BUSY_POLL",
    };
    assert_eq!(
        refused.to_string(),
        "io.napi_poll_us_max = 50 is not possible here: the kernel does not poll network devices \
         for a ring (Invalid argument (os error 22)); run Linux 6.9 or newer, built with \
         CONFIG_NET_RX_BUSY_POLL, or set io.napi_poll_us_max = 0"
    );
}
