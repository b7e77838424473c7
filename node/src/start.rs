//! Boot and shutdown of a process: data directory, threads, shards, and what is said about it.
//!
//! Order of boot: signals blocked, directory locked, format read or made, address checked, one
//! pinned thread per shard, recovery on each, then listening. Order of shutdown: no new commands,
//! all that was taken in durable, replies sent. A signal ends a boot at once, wherever it is; a second one ends a
//! shutdown at once; and a shutdown that takes too long is given up. In all three cases the next start finds what a
//! crash would have left.

mod node;
mod place;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::Duration;

use ashlar_io::queue::{Inbox, Sender, WakeCell, inbox};
use ashlar_io::wal::Durability;
use ashlar_io::{DirLock, Reactor, Settings, StartError, address_cure, clock, topology};

pub use self::node::Node;
use self::node::{Event, LastWord};
pub use self::place::Stopper;
use self::place::{find_place, membership};
use crate::cluster::{ClusterError, Formed};
use crate::config::{self, Config, Cpus};
use crate::format::{self, Choice, Format, FormatError};
use crate::message::Message;
use crate::profiler::SHARD_THREADS;
use crate::route::Routes;
use crate::shard::{Fatal, Membership, Recovery, Setup, Shard, Turn};
use crate::shared::{Facts, Shared};

/// Messages that a shard's inbox has room for.
pub const INBOX_MESSAGES: usize = 8192;
/// How often a start tries for an address that is in use, and how long it pauses between two tries: a second in all.
const ADDRESS_TRIES: u32 = 50;
const ADDRESS_PAUSE: Duration = Duration::from_millis(20);

/// Why a node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The machine refuses something.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The node has no place in its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A shard cannot go on.
    #[error(transparent)]
    Shard(#[from] Fatal),
    /// Somebody listens there already.
    #[error("cannot listen on {addr}: {error}; {}", address_cure(.error, "--listen"))]
    Address {
        /// The address.
        addr: SocketAddr,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A CPU was asked for that this process may not use.
    #[error("--cpus {asked} is not allowed: this process may use CPUs {allowed:?}")]
    Cpu {
        /// What was asked for.
        asked: u32,
        /// What there is.
        allowed: Vec<usize>,
    },
    /// A thread could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A signal came before the node served.
    #[error("stopped before it served")]
    Stopped,
    /// A second signal came while the node stopped.
    #[error("a second {0}: stopped as by a crash; nothing acknowledged is lost")]
    Again(&'static str),
    /// Shards say nothing any more.
    #[error(
        "shards {shards:?} did not stop within {waited_s} s and do not say why; stopped as by a crash: nothing acknowledged is lost"
    )]
    Stuck {
        /// Their numbers.
        shards: Vec<u32>,
        /// How long they had.
        waited_s: u64,
    },
    /// A shard's thread has panicked; what it said is on the standard error.
    #[error("the thread of shard {0} has panicked")]
    Panicked(u32),
}

/// What a node says once it serves.
#[derive(Debug)]
pub struct Ready {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What the data directory was made as.
    pub format: Format,
    /// The CPU of each shard.
    pub cpus: Vec<usize>,
    /// Budget of memory, in bytes.
    pub memory_bytes: u64,
    /// The directory was formatted by this start.
    pub formatted: bool,
    /// What the shards found in their logs, added up.
    pub recovery: Recovery,
}

/// Makes a data directory.
///
/// # Errors
/// The machine or the directory refuses; see [`FormatError`].
pub fn make_format(
    config: &Config,
    shards: Option<u32>,
    split_at: Vec<Vec<u8>>,
) -> Result<Format, NodeError> {
    // What is refused leaves nothing behind, not even a lock file.
    format::check_order(&split_at)?;
    read_format(&config.data)?;
    let _lock = DirLock::acquire(&config.data)?;
    make_locked(config, shards, split_at)
}

fn make_locked(
    config: &Config,
    shards: Option<u32>,
    split_at: Vec<Vec<u8>>,
) -> Result<Format, NodeError> {
    let shards = match shards {
        Some(shards) => shards,
        None => u32::try_from(cpus(config)?.len()).expect("CPUs are counted in u32"),
    };
    let choice = Choice {
        shards,
        segment_bytes: config.wal.segment_bytes,
        durability: match config.wal.durability {
            config::Durability::Auto => None,
            config::Durability::Dsync => Some(Durability::Dsync),
            config::Durability::Fdatasync => Some(Durability::Fdatasync),
            config::Durability::None => Some(Durability::None),
        },
        split_at,
    };
    let reactor = small_reactor()?;
    let (machine, data) = (reactor.clone(), config.data.clone());
    let made = async move {
        format::check_space(&machine, &data, &choice).await?;
        format::make(&machine, &data, &choice).await
    };
    Ok(reactor.block_on(made)?)
}

/// Makes a reactor for what is done before there are shards.
fn small_reactor() -> Result<Reactor, NodeError> {
    Ok(Reactor::new(&Settings {
        chunk_count: 16,
        registered_blocks: 0,
        ..Settings::default()
    })?)
}

/// Returns the address to listen on once it is free. The kernel frees the sockets of a killed node a
/// little after the process is gone, and who restarts it at once should not have to know.
fn free_address(addr: SocketAddr) -> Result<SocketAddr, NodeError> {
    let reactor = small_reactor()?;
    let mut tries = ADDRESS_TRIES;
    loop {
        tries -= 1;
        match ashlar_io::check_address(addr) {
            Ok(listen) => return Ok(listen),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {
                let machine = reactor.clone();
                reactor.block_on(async move { machine.sleep(ADDRESS_PAUSE).await });
            }
            Err(error) => return Err(NodeError::Address { addr, error }),
        }
    }
}

fn read_format(data: &Path) -> Result<Option<Format>, NodeError> {
    let reactor = small_reactor()?;
    let (machine, data) = (reactor.clone(), data.to_owned());
    Ok(reactor.block_on(async move { format::read(&machine, &data).await })?)
}

fn cpus(config: &Config) -> Result<Vec<usize>, NodeError> {
    let allowed = topology::cpus();
    match &config.cpus {
        Cpus::All => Ok(allowed),
        Cpus::List(list) => match list.iter().find(|cpu| !allowed.contains(&(**cpu as usize))) {
            Some(cpu) => Err(NodeError::Cpu {
                asked: *cpu,
                allowed,
            }),
            None => Ok(list.iter().map(|cpu| *cpu as usize).collect()),
        },
    }
}

/// Starts a node and waits until it serves. Formats its data directory when that is empty. The first
/// start of a cluster waits until every member is there, or `stopper` stops it.
///
/// # Errors
/// Something is refused, in use, damaged, or misconfigured; nothing goes on running.
pub fn start(config: Config, stopper: &Stopper) -> Result<(Node, Ready), NodeError> {
    let cpus = cpus(&config)?;
    let listen = free_address(config.listen)?;
    // A directory that holds something else is refused before a lock file is put in it.
    read_format(&config.data)?;
    let lock = Arc::new(DirLock::acquire(&config.data)?);
    let found = read_format(&config.data)?;
    let formatted = found.is_none();
    let format = match found {
        Some(format) => format,
        None => make_locked(&config, None, Vec::new())?,
    };
    let Formed { format, place } = find_place(&config, format, stopper)?;
    let memory_bytes = if config.memory_bytes > 0 {
        config.memory_bytes
    } else {
        topology::memory_bytes() / 2
    };
    let cpus: Vec<usize> = (0..format.shards as usize)
        .map(|shard| cpus[shard % cpus.len()])
        .collect();
    let cluster = place.map(|place| membership(&config, &format, place));
    let shared = Arc::new(shared(&config, &format, listen, memory_bytes)?);
    if config.admin_listen.is_some() {
        let shared = Arc::clone(&shared);
        let profiler = Builder::new().name("profiler".to_owned());
        let profiler = profiler.spawn(move || shared.profiler.run());
        profiler.map_err(NodeError::Thread)?;
    }
    keep_clock(&config, &shared)?;
    let mut node = run_shards(&config, &shared, cluster.as_ref(), (&cpus, lock))?;
    let recovery = node.recovered(stopper)?;
    Ok((
        node,
        Ready {
            listen,
            format,
            cpus,
            memory_bytes,
            formatted,
            recovery,
        },
    ))
}

fn run_shards(
    config: &Config,
    shared: &Arc<Shared>,
    cluster: Option<&Membership>,
    (cpus, lock): (&[usize], Arc<DirLock>),
) -> Result<Node, NodeError> {
    let (report, events) = mpsc::channel();
    let mut threads = Vec::new();
    let mut hand_over = Vec::new();
    for (shard, cpu) in (0..shared.format.shards).zip(cpus) {
        let (give_peers, take_peers) = mpsc::channel();
        hand_over.push(give_peers);
        let boot = Boot {
            shard,
            cpu: *cpu,
            config: config.clone(),
            shared: Arc::clone(shared),
            cluster: cluster.cloned(),
            report: report.clone(),
            take_peers,
            lock: Arc::clone(&lock),
        };
        let thread = Builder::new()
            .name(format!("{SHARD_THREADS}{shard}"))
            .spawn(move || boot.run());
        threads.push(thread.map_err(NodeError::Thread)?);
    }
    let mut node = Node {
        shards: Vec::new(),
        threads,
        events,
        report,
        _lock: lock,
    };
    let mut inboxes = vec![None; cpus.len()];
    while inboxes.iter().any(Option::is_none) {
        match node.events.recv() {
            Ok(Event::Inbox(shard, sender)) => inboxes[shard as usize] = Some(sender),
            Ok(Event::Failed(error)) => return Err(error),
            other => unreachable!("before they have their peers, shards report inboxes: {other:?}"),
        }
    }
    node.shards = inboxes.into_iter().flatten().collect();
    hand_over
        .into_iter()
        .for_each(|give| drop(give.send(node.shards.clone())));
    Ok(node)
}

/// Starts the thread that asks how far the clock may be off. It ends by itself, soon after the node.
fn keep_clock(config: &Config, shared: &Shared) -> Result<(), NodeError> {
    let mut keeper = clock::Keeper::new(config.clock.options());
    // Known before the first write is let in.
    keeper.ask(&shared.clock.board);
    let board = Arc::downgrade(&shared.clock.board);
    let thread = Builder::new()
        .name("clock".to_owned())
        .spawn(move || clock::keep(keeper, &board));
    thread.map(drop).map_err(NodeError::Thread)
}

fn shared(
    config: &Config,
    format: &Format,
    listen: SocketAddr,
    memory_bytes: u64,
) -> Result<Shared, NodeError> {
    let facts = ashlar_io::ProcessFacts::gather().map_err(NodeError::Thread)?;
    Ok(Shared::new(Facts {
        format: format.clone(),
        config: config.clone(),
        started_ms: facts.wall.millis(),
        run_id: facts.random_hex,
        listen,
        memory_bytes,
        machine_bytes: topology::machine_bytes(),
        process_id: facts.process_id,
    }))
}

/// What the thread of a shard is given.
struct Boot {
    shard: u32,
    cpu: usize,
    config: Config,
    shared: Arc<Shared>,
    cluster: Option<Membership>,
    report: mpsc::Sender<Event>,
    take_peers: mpsc::Receiver<Vec<Sender<Message>>>,
    lock: Arc<DirLock>,
}

impl Boot {
    fn run(self) {
        let mut last = LastWord {
            report: self.report.clone(),
            event: Some(Event::Failed(NodeError::Panicked(self.shard))),
        };
        let shard = self.shard;
        last.event = Some(match self.serve() {
            Ok(()) => Event::Stopped(shard),
            Err(error) => Event::Failed(error),
        });
    }

    fn serve(self) -> Result<(), NodeError> {
        if !topology::pin(self.cpu) {
            tracing::warn!(
                "shard {} could not be pinned to CPU {}",
                self.shard,
                self.cpu
            );
        }
        let reactor = Reactor::new(&Settings {
            clock: Some(Arc::clone(&self.shared.clock.board)),
            ..settings(&self.config)
        })?;
        reactor.keep_lock(&self.lock)?;
        let wake: Arc<WakeCell> = reactor.wake_cell();
        let (sender, inbox): (_, Inbox<Message>) = inbox(wake, INBOX_MESSAGES);
        let _ = self.report.send(Event::Inbox(self.shard, sender));
        let Ok(peers) = self.take_peers.recv() else {
            return Ok(());
        };
        let setup = Setup {
            shard: self.shard,
            data: self.config.data.clone(),
            routes: Routes::new(&self.shared.format.boundaries(), self.shared.format.shards),
            shared: self.shared,
            inbox,
            peers,
            cluster: self.cluster,
        };
        let mut shard = Shard::start(&reactor, setup);
        let mut serving = false;
        loop {
            match shard.turn()? {
                Turn::Stopped => return Ok(()),
                Turn::Serving if !serving => {
                    serving = true;
                    let _ = self
                        .report
                        .send(Event::Serving(shard.recovery().unwrap_or_default()));
                }
                Turn::Serving | Turn::Recovering => {}
            }
            shard.park();
        }
    }
}

/// Returns the settings of a shard's reactor.
fn settings(config: &Config) -> Settings {
    Settings {
        queue_entries: config.io.queue_entries,
        chunk_count: u16::try_from(config.client.chunk_count)
            .expect("bounded by the configuration"),
        chunk_bytes: config.client.chunk_bytes as usize,
        registered_blocks: u16::try_from(config.io.registered_blocks)
            .expect("bounded by the configuration"),
        registered_files: u16::try_from(config.io.registered_files)
            .expect("bounded by the configuration"),
        spin_us_max: config.io.spin_us_max,
        sqpoll_idle_ms: config.io.sqpoll_idle_ms,
        iopoll_entries: config.io.iopoll_entries,
        napi_poll_us_max: config.io.napi_poll_us_max,
        send_zero_copy_bytes: config.io.send_zero_copy_bytes,
        ..Settings::default()
    }
}
