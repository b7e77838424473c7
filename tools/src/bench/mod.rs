//! `ashlar bench`: load on a node, closed loop, from one thread with one reactor. Each connection sends a pipeline of
//! commands, waits for its replies, and sends the next; a latency is from sending a pipeline to each of its replies.
//!
//! Not an open loop: a server that stalls is asked less, so the tail seen here is that of `clients` callers that wait.
//!
//! # Layout
//! - `workload`: what is asked. `reply`: the least of a RESP2 reader. `client`: one connection.
//! - `stats`: what is counted. `report`: what is printed.

mod client;
mod reply;
mod report;
mod stats;
mod workload;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::{Monotonic, Reactor, Settings, Socket, raise_open_files, topology};

use client::{Client, Phase, Shared};
use report::{Progress, Summary};
use workload::{KEYS_MAX, Order, Workload};

/// Load before measuring begins, when the run is measured in seconds.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often the run looks whether it is over.
const TICK: Duration = Duration::from_millis(10);
/// Longest silence of the server before the run gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Commands in a pipeline of the preload.
const PRELOAD_PIPELINE: u64 = 64;

/// Flags of `ashlar bench`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Server to load
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6379")]
    target: String,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Commands that a connection sends at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pipeline: u64,
    /// Seconds to measure, after a warm-up of one second
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// Send exactly so many commands instead, without a warm-up
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Percentage of commands that read (GET); the others write (SET)
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=100))]
    reads: u64,
    /// Keys to read and write
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    keys: u64,
    /// Size of a value in bytes
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=536_870_912))]
    value_bytes: u32,
    /// Order in which keys are taken
    #[arg(long, value_name = "ORDER", default_value = "random")]
    keys_order: Order,
    /// Write every key once before measuring
    #[arg(long)]
    preload: bool,
    /// CPU to run on [default: any]
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Args {
    fn workload(&self) -> Workload {
        let value_bytes = usize::try_from(self.value_bytes).expect("512 MiB fit into memory");
        Workload::new(self.reads, (self.keys, self.keys_order), value_bytes)
    }

    fn duration(&self) -> Option<Duration> {
        self.requests
            .is_none()
            .then(|| Duration::from_secs(self.seconds))
    }

    fn settings(&self) -> Settings {
        let chunk_count = self.clients.next_power_of_two().clamp(256, 4096);
        let chunk_count = u16::try_from(chunk_count).expect("at most 4096");
        Settings {
            chunk_count,
            registered_blocks: 0,
            ..Settings::default()
        }
    }
}

/// Runs the load and prints what came of it.
///
/// # Errors
/// One line: the flags contradict each other, the server cannot be reached, is silent, closes connections, or answers
/// every command with an error.
pub(crate) fn run(args: Args) -> Result<(), String> {
    let addr = resolve(&args.target)?;
    if let Some(cpu) = args.cpu {
        pin(cpu)?;
    }
    let open_files = raise_open_files();
    if open_files < u64::from(args.clients) + 16 {
        let clients = args.clients;
        return Err(format!(
            "--clients {clients} needs more open files than the {open_files} allowed here; raise the limit (ulimit -n)"
        ));
    }
    let reactor = Reactor::new(&args.settings()).map_err(|error| error.to_string())?;
    let summary = reactor.block_on(drive(reactor.clone(), args.clone(), addr));
    reactor.shut_down();
    let summary = summary?;
    print!(
        "{}",
        if args.json {
            summary.json()
        } else {
            summary.table()
        }
    );
    summary.verdict()
}

fn resolve(target: &str) -> Result<SocketAddr, String> {
    let wrong = |why: String| {
        format!("--target {target}: {why}; give a host and a port, such as 127.0.0.1:6379")
    };
    let mut addrs = target
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?;
    addrs
        .next()
        .ok_or_else(|| wrong("the name has no address".to_owned()))
}

fn pin(cpu: usize) -> Result<(), String> {
    let cpus = topology::cpus();
    if cpus.contains(&cpu) && topology::pin(cpu) {
        return Ok(());
    }
    Err(format!(
        "--cpu {cpu}: this process may run on CPUs {cpus:?} only"
    ))
}

/// Connects, preloads, loads.
async fn drive(reactor: Reactor, args: Args, addr: SocketAddr) -> Result<Summary, String> {
    let mut clients = connect_all(&reactor, &args, addr).await?;
    if args.preload {
        let bounds = (args.keys, PRELOAD_PIPELINE);
        let run = Run::new(
            &reactor,
            &args,
            Shared::new(Phase::Preload, args.workload(), bounds),
        );
        clients = run.go(clients, None).await?;
        run.require_flawless()?;
    }
    let bounds = (args.requests.unwrap_or(u64::MAX), args.pipeline);
    let run = Run::new(
        &reactor,
        &args,
        Shared::new(Phase::Load, args.workload(), bounds),
    );
    run.go(clients, args.duration()).await?;
    Ok(run.summary(&args, addr))
}

async fn connect_all(
    reactor: &Reactor,
    args: &Args,
    addr: SocketAddr,
) -> Result<Vec<Client>, String> {
    let mut clients = Vec::new();
    for n in 0..args.clients {
        let socket = Socket::connect(reactor, addr).await.map_err(|error| {
            let cure = "start a server there (ashlar start) or name another with --target";
            format!(
                "cannot connect to {addr} (connection {} of {}): {error}; {cure}",
                n + 1,
                args.clients
            )
        })?;
        clients.push(Client::new(reactor, socket, u64::from(n) + 1));
    }
    Ok(clients)
}

/// One phase: its connections at work, watched until they are done.
struct Run {
    reactor: Reactor,
    shared: Rc<Shared>,
    /// When measuring began, and the CPU time used until then, in seconds.
    started: Cell<(Monotonic, f64)>,
    shows_progress: bool,
}

impl Run {
    fn new(reactor: &Reactor, args: &Args, shared: Rc<Shared>) -> Self {
        let started = Cell::new((reactor.read_clock(), report::cpu_time()));
        Self {
            reactor: reactor.clone(),
            shared,
            started,
            shows_progress: !args.json,
        }
    }

    /// Sets the clients to work for `duration`, after a warm-up, or until nothing is left to do; returns those whose
    /// connection lasted.
    async fn go(
        &self,
        clients: Vec<Client>,
        duration: Option<Duration>,
    ) -> Result<Vec<Client>, String> {
        let kept = Rc::new(RefCell::new(Vec::new()));
        self.shared.live.set(clients.len());
        for client in clients {
            let (shared, kept) = (Rc::clone(&self.shared), Rc::clone(&kept));
            self.reactor.spawn(async move {
                let client = client.run(shared).await;
                kept.borrow_mut().extend(client);
            });
        }
        let mut progress = Progress::new(self.shared.phase, self.shows_progress);
        if duration.is_some() {
            self.watch(&mut progress, Some(WARM_UP)).await?;
            self.shared.stats.borrow_mut().clear();
            self.started
                .set((self.reactor.read_clock(), report::cpu_time()));
        }
        self.watch(&mut progress, duration).await?;
        self.shared.left.set(0);
        while self.shared.live.get() > 0 {
            self.reactor.sleep(TICK).await;
            self.check_silence()?;
        }
        progress.end();
        Ok(kept.take())
    }

    /// Waits for `duration`, or until every connection is done.
    async fn watch(
        &self,
        progress: &mut Progress,
        duration: Option<Duration>,
    ) -> Result<(), String> {
        let end = duration.map(|duration| self.reactor.read_clock() + duration);
        while self.shared.live.get() > 0 && end.is_none_or(|end| self.reactor.now() < end) {
            self.reactor.sleep(TICK).await;
            progress.show(self.reactor.now(), &self.shared);
            self.check_silence()?;
        }
        Ok(())
    }

    fn check_silence(&self) -> Result<(), String> {
        let last = self
            .shared
            .stats
            .borrow()
            .last_reply
            .max(self.started.get().0);
        if self.reactor.now().since(last) <= SILENCE_MAX {
            return Ok(());
        }
        let (live, seconds) = (self.shared.live.get(), SILENCE_MAX.as_secs());
        Err(format!(
            "the server has not answered for {seconds} s; {live} connections wait for replies"
        ))
    }

    /// Refuses a preload that did not write every key.
    fn require_flawless(&self) -> Result<(), String> {
        let stats = self.shared.stats.borrow();
        if let Some((why, count)) = &*self.shared.lost.borrow() {
            return Err(format!(
                "the preload failed: {count} connections were lost, the first because {why}"
            ));
        }
        match &stats.first_error {
            Some(text) => Err(format!(
                "the preload failed: {} errors, the first: {text}",
                stats.errors()
            )),
            None => Ok(()),
        }
    }

    fn summary(&self, args: &Args, addr: SocketAddr) -> Summary {
        let stats = self.shared.stats.take();
        let (started, cpu_before) = self.started.get();
        let elapsed = stats.last_reply.since(started);
        let cpu_percent =
            100.0 * (report::cpu_time() - cpu_before) / elapsed.as_secs_f64().max(0.01);
        let what = format!(
            "{addr}, {} clients, pipeline {}, {} % reads, {} keys in {} order, values of {} bytes",
            args.clients,
            args.pipeline,
            args.reads,
            args.keys,
            if args.keys_order == Order::Random {
                "random"
            } else {
                "sequential"
            },
            args.value_bytes
        );
        Summary {
            what,
            stats,
            elapsed,
            lost: self.shared.lost.take(),
            clients: args.clients,
            cpu_percent,
        }
    }
}
