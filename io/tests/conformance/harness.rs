//! Runs one test body on either driver, and checks afterwards that it left no file open.

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ashlar_io::reactor::yield_now;
use ashlar_io::sim::{Faults, World};
use ashlar_io::{Buf, File, Listener, OpenOptions, Reactor, Settings, Socket};

/// Simulated runs of each body: the first is calm, the others have the faults that no caller may
/// notice.
const SEEDS: u64 = 12;
/// Turns after which a simulated body is taken for hung.
const TURNS_MAX: usize = 2_000_000;
/// Time after which a body on the kernel is taken for hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which driver a body runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kernel,
    Simulated,
}

/// What a body gets.
#[derive(Clone)]
pub(crate) struct Env {
    pub(crate) reactor: Reactor,
    /// An empty directory of its own.
    pub(crate) dir: PathBuf,
    pub(crate) kind: Kind,
    /// How long a dropped socket may try to send what is left.
    pub(crate) linger_ms: u64,
}

pub(crate) const READ: OpenOptions = OpenOptions {
    write: false,
    create: false,
    create_new: false,
    direct: false,
};
pub(crate) const CREATE: OpenOptions = OpenOptions {
    write: true,
    create: true,
    ..READ
};

impl Env {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) async fn create(&self, name: &str) -> File {
        File::open(&self.reactor, &self.path(name), CREATE)
            .await
            .unwrap()
    }

    /// Opens past the page cache; says so and returns nothing where the file system refuses.
    pub(crate) async fn create_direct(&self, name: &str) -> Option<File> {
        let options = OpenOptions {
            direct: true,
            ..CREATE
        };
        match File::open(&self.reactor, &self.path(name), options).await {
            Ok(file) => Some(file),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                eprintln!(
                    "skipped: {} takes no direct IO; set TMPDIR to a directory on a disk",
                    self.dir.display()
                );
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn listen(&self) -> (Listener, SocketAddr) {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = Listener::bind(&self.reactor, any).unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    /// Connects two sockets to each other; the first is the one that connected.
    pub(crate) async fn pair(&self) -> (Socket, Socket) {
        let (mut listener, addr) = self.listen();
        let client = Socket::connect(&self.reactor, addr).await.unwrap();
        (client, listener.accept().await.unwrap())
    }

    pub(crate) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let shared = Rc::new(RefCell::new((None, None::<Waker>)));
        let task = Task(Rc::clone(&shared));
        self.reactor.spawn(async move {
            let value = future.await;
            let mut shared = shared.borrow_mut();
            shared.0 = Some(value);
            shared.1.take().into_iter().for_each(Waker::wake);
        });
        task
    }

    pub(crate) async fn pause(&self, ms: u64) {
        self.reactor.sleep(Duration::from_millis(ms)).await;
    }
}

/// The result of a spawned task.
pub(crate) struct Task<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut shared = self.0.borrow_mut();
        match shared.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                shared.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Polls a future once and drops it; says whether it was ready.
pub(crate) async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

pub(crate) fn filled(bytes: &[u8]) -> Buf {
    let mut buf = Buf::heap(bytes.len());
    buf.as_mut_slice().copy_from_slice(bytes);
    buf
}

/// Bytes that tell their place in a stream.
pub(crate) fn pattern(seed: u64, from: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| {
        let word = (at as u64 / 8)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(seed);
        (word ^ word >> 29).to_le_bytes()[at % 8]
    };
    (from..from + len).map(byte).collect()
}

/// Settings small enough that a body meets their limits.
pub(crate) fn small() -> Settings {
    Settings {
        queue_entries: 8,
        chunk_count: 16,
        chunk_bytes: 4096,
        registered_blocks: 2,
        registered_files: 1,
        ..Settings::default()
    }
}

fn open_files_under(dir: &Path) -> Vec<PathBuf> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = fds.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(dir)).collect()
}

/// Time that a dropped socket has on the kernel, in milliseconds: not long, for it passes in earnest.
const LINGER_MS: u32 = 1_000;

/// Runs a body on the kernel, with roomy settings and then with tight ones.
pub(crate) fn on_the_kernel<F: Future<Output = ()> + 'static>(body: impl Fn(Env) -> F) {
    let spinning = Settings {
        spin_us_max: 50,
        ..Settings::default()
    };
    let lending = Settings {
        send_zero_copy_bytes: 1,
        registered_files: 0,
        ..Settings::default()
    };
    for mut settings in [Settings::default(), small(), spinning, lending] {
        settings.linger_ms = LINGER_MS;
        let dir = tempfile::tempdir().unwrap();
        let reactor = Reactor::new(&settings).unwrap();
        let env = Env {
            reactor: reactor.clone(),
            dir: dir.path().to_owned(),
            kind: Kind::Kernel,
            linger_ms: u64::from(LINGER_MS),
        };
        let (watched, settings) = (reactor.clone(), settings.clone());
        reactor.spawn(async move {
            watched.sleep(PATIENCE).await;
            panic!(
                "the body hangs: {settings:?} {watched:?} {:?}",
                watched.counters()
            );
        });
        let after = env.clone();
        let body = body(env);
        reactor.block_on(async move {
            body.await;
            // What was closed or orphaned at the end is done some turns later.
            for _ in 0..200 {
                if open_files_under(&after.dir).is_empty() {
                    return;
                }
                after.pause(5).await;
            }
            panic!("left open: {:?}", open_files_under(&after.dir));
        });
        reactor.shut_down();
    }
}

/// Faults that a caller of the interface never sees.
fn unnoticeable(seed: u64) -> Faults {
    let mut faults = Faults::none();
    if seed > 0 {
        faults.disk.short = 0.3;
        faults.disk.interrupt = 0.05;
        faults.net.chop = 0.3;
        faults.net.partial_send = 0.3;
        faults.net.no_buffers = 0.1;
        faults.schedule.hold = 0.2;
    }
    faults
}

/// Runs a body in simulated worlds.
pub(crate) fn in_simulation<F: Future<Output = ()> + 'static>(body: impl Fn(Env) -> F) {
    for seed in 0..SEEDS {
        let world = World::new(seed, unnoticeable(seed));
        let settings = Settings {
            send_zero_copy_bytes: u32::try_from(seed % 2).unwrap(),
            ..Settings::default()
        };
        let reactor = Reactor::simulated_with(&world, 0, 0, &settings);
        let dir = PathBuf::from("/data");
        let env = Env {
            reactor: reactor.clone(),
            dir: dir.clone(),
            kind: Kind::Simulated,
            linger_ms: u64::from(settings.linger_ms),
        };
        let done = Rc::new(RefCell::new(false));
        let (flag, body) = (Rc::clone(&done), body(env));
        let (setup, checked) = (reactor.clone(), world.clone());
        reactor.spawn(async move {
            ashlar_io::file::create_dir(&setup, &dir).await.unwrap();
            body.await;
            for _ in 0..1_000 {
                if checked.open_handles(0) == 0 {
                    break;
                }
                setup.sleep(Duration::from_millis(5)).await;
                yield_now().await;
            }
            assert_eq!(checked.open_handles(0), 0, "handles are left open");
            *flag.borrow_mut() = true;
        });
        run(&world, &reactor, &done, seed);
    }
}

fn run(world: &World, reactor: &Reactor, done: &RefCell<bool>, seed: u64) {
    for _ in 0..TURNS_MAX {
        let turn = world.step();
        assert!(
            turn.is_some(),
            "seed {seed}: nothing happens any more, and the body has not ended"
        );
        reactor.turn();
        if *done.borrow() {
            reactor.shut_down();
            return;
        }
        reactor.park(None, || false);
    }
    panic!("seed {seed}: the body goes on for ever");
}

/// Makes two tests of each body.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[test]
            fn on_the_kernel() {
                crate::harness::on_the_kernel(super::$name);
            }

            #[test]
            fn in_simulation() {
                crate::harness::in_simulation(super::$name);
            }
        })+
    };
}
pub(crate) use both;
