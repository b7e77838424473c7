//! `ashlar start` and `ashlar format`: flags and file to a configuration, and what a node says when
//! it starts and stops.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ashlar_io::{StopSignals, topology};
use ashlar_node::cluster::ClusterError;
use ashlar_node::config::{Config, Overrides};
use ashlar_node::format::FormatError;
use ashlar_node::start::{self, NodeError, Ready, Stopper};

use crate::doctor;
use crate::refusal::Failure;
use crate::told::Teller;

/// Flags of `ashlar start`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct StartArgs {
    /// Data directory; formatted when it is empty [default: ./ashlar-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address and port for clients [default: 127.0.0.1:6379]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// CPUs to pin shards to, such as 0-3,6 [default: all]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Memory for data, such as 8GiB [default: half of the machine's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Name of this node in its cluster
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Address and port for the other nodes of the cluster
    #[arg(long, value_name = "ADDR:PORT")]
    peer_listen: Option<String>,
    /// All nodes of the cluster, this one included
    #[arg(long, value_name = "NAME=ADDR:PORT,...")]
    peers: Option<String>,
    /// Configuration file (TOML); `ashlar config` lists its keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One configuration key; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Flags of `ashlar format`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FormatArgs {
    #[command(flatten)]
    start: StartArgs,
    /// Shards, each with a log of its own [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    shards: Option<u32>,
    /// Key at which the keys are cut in two partitions; may be given again, in ascending order
    #[arg(long, value_name = "KEY")]
    split_at: Vec<String>,
}

impl StartArgs {
    /// Returns the flags of a node with this data directory and this configuration file.
    pub(crate) fn of(data: Option<String>, config: Option<PathBuf>) -> Self {
        Self {
            data,
            config,
            ..Self::default()
        }
    }

    /// Returns the flags of a node with so much memory.
    pub(crate) fn with_memory(memory: &str) -> Self {
        Self {
            memory: Some(memory.to_owned()),
            ..Self::default()
        }
    }

    /// Returns the configuration that file and flags make.
    ///
    /// # Errors
    /// One line that names the file or the key, the value and what is allowed.
    pub(crate) fn load(self) -> Result<Config, Failure> {
        self.read().map_err(Failure::Mistake)
    }

    fn read(self) -> Result<Config, String> {
        let file = self.config.clone();
        let mut config = match &self.config {
            None => Config::defaults(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    format!("cannot read configuration file {}: {error}", path.display())
                })?;
                Config::parse(&text, &path.display().to_string())
                    .map_err(|error| error.to_string())?
            }
        };
        let Self {
            data,
            listen,
            cpus,
            memory,
            name,
            peer_listen,
            peers,
            set,
            ..
        } = self;
        let overrides = Overrides {
            data,
            listen,
            cpus,
            memory,
            name,
            peer_listen,
            peers,
            set,
        };
        config
            .override_with(&overrides)
            .map_err(|error| error.to_string())?;
        config.file = file;
        Ok(config)
    }
}

/// Starts a node and runs it until a signal stops it.
pub(crate) fn start(args: StartArgs) -> Result<(), Failure> {
    let stopper = Stopper::new(StopSignals::block()).map_err(|error| error.to_string())?;
    let teller = Teller::start().map_err(|error| format!("cannot start a thread: {error}"))?;
    tracing_subscriber::fmt()
        .with_writer(teller.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let ended = run(args, stopper);
    teller.finish();
    ended
}

/// Runs a node; what it tells goes where the caller has said.
fn run(args: StartArgs, stopper: Stopper) -> Result<(), Failure> {
    let config = args.load()?;
    let open_files = ashlar_io::raise_open_files();
    let warnings = warnings(&config, open_files);
    let data = config.data.clone();
    let (node, ready) = match start::start(config, &stopper) {
        Ok(started) => started,
        Err(error @ (NodeError::Stopped | NodeError::Cluster(ClusterError::Stopped))) => {
            println!("{error}");
            return Ok(());
        }
        Err(error) => return Err(failure(&error)),
    };
    warnings
        .iter()
        .for_each(|warning| eprintln!("warning: {warning}"));
    greet(&ready, &data);
    let stopped = node.run_until(stopper, |name| {
        println!("{name}: stopping; everything acknowledged is on disk")
    });
    if let Err(error) = stopped {
        // What is acknowledged must not grow by another byte.
        eprintln!("ashlar: {error}");
        std::process::exit(1);
    }
    println!("stopped");
    Ok(())
}

/// Says whether it was a wrong word that stopped a node, or the state of things.
fn failure(error: &NodeError) -> Failure {
    let line = error.to_string();
    match error {
        NodeError::Cpu { .. } | NodeError::Format(FormatError::Order(_)) => Failure::Mistake(line),
        _ => Failure::Run(line),
    }
}

/// Returns what a node can live with, and whoever started it should know.
fn warnings(config: &Config, open_files: u64) -> Vec<String> {
    let mut lines = config.warnings();
    lines.extend(doctor::doubt(&config.data));
    let (asked, there) = (config.memory_bytes >> 20, topology::memory_bytes() >> 20);
    if there < asked {
        lines.push(format!(
            "memory_bytes are {asked} MiB, and this process may use {there} MiB: it ends when it takes more"
        ));
    }
    let clients_max = u64::from(config.client.clients_max);
    if open_files < clients_max + 64 {
        lines.push(format!(
            "the limit of open files is {open_files}: fewer than client.clients_max = {clients_max} can connect (ulimit -n)"
        ));
    }
    lines
}

/// Returns an address to connect to for one to listen on: where it is every address, the machine's own.
fn reachable(listen: SocketAddr) -> IpAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn greet(ready: &Ready, data: &std::path::Path) {
    let Ready {
        listen,
        format,
        cpus,
        memory_bytes,
        formatted,
        recovery,
    } = ready;
    let data = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let made = if *formatted { ", formatted now" } else { "" };
    println!("ashlar {} listens on {listen}", env!("CARGO_PKG_VERSION"));
    println!(
        "  data     {} (durable by {}{made})",
        data.display(),
        format.durability().word()
    );
    let mut unique = cpus.clone();
    unique.sort_unstable();
    unique.dedup();
    let shared = if unique.len() < cpus.len() {
        "; shards share CPUs, since the data directory was formatted for more"
    } else {
        ""
    };
    println!("  shards   {} on CPUs {unique:?}{shared}", cpus.len());
    println!("  memory   {} MiB for data", memory_bytes >> 20);
    if recovery.entries > 0 {
        let torn = if recovery.torn {
            "; a torn, unacknowledged tail was cut"
        } else {
            ""
        };
        println!(
            "  log      {} entries, {} MiB recovered{torn}",
            recovery.entries,
            recovery.bytes >> 20
        );
    }
    println!(
        "  try      redis-cli -h {} -p {}",
        reachable(*listen),
        listen.port()
    );
}

/// Makes a data directory.
pub(crate) fn format(args: FormatArgs) -> Result<(), Failure> {
    let FormatArgs {
        start,
        shards,
        split_at,
    } = args;
    let config = start.load()?;
    let boundaries = split_at.into_iter().map(String::into_bytes).collect();
    let format =
        start::make_format(&config, shards, boundaries).map_err(|error| failure(&error))?;
    println!(
        "formatted {}: {} shards, {} partitions, segments of {} MiB, durable by {}",
        config.data.display(),
        format.shards,
        format.boundaries().len() + 1,
        format.segment_bytes >> 20,
        format.durability().word()
    );
    Ok(())
}
