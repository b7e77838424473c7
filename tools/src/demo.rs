//! `ashlar demo`: a cluster of three nodes on this machine, each a process of its own, to be tried and
//! broken. It starts the nodes, says how to talk to them, and stops them when it is stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use ashlar_io::StopSignals;

use crate::node::StartArgs;
use crate::refusal::Failure;

/// Nodes of the cluster.
const NODES: u16 = 3;

/// Flags of `ashlar demo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of the nodes' data; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "./ashlar-demo")]
    data: PathBuf,
    /// Port for clients of the first node; the others take those above it
    #[arg(long, value_name = "PORT", default_value_t = 7379, value_parser = clap::value_parser!(u16).range(1..=60000))]
    port: u16,
    /// Memory for data of each node
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    memory: String,
}

impl Args {
    fn port_of(&self, node: u16) -> u16 {
        self.port + node
    }

    /// Peers talk on ports far enough apart for as many shards as there may be.
    fn peers(&self) -> String {
        let peer = |node: u16| format!("n{}=127.0.0.1:{}", node + 1, self.peer_port(node));
        (0..NODES).map(peer).collect::<Vec<_>>().join(",")
    }

    fn peer_port(&self, node: u16) -> u16 {
        self.port + 1000 + node * 100
    }

    fn data_of(&self, node: u16) -> PathBuf {
        self.data.join(format!("n{}", node + 1))
    }
}

/// Runs the cluster until it is stopped.
///
/// # Errors
/// One line: `--memory` is no size of memory, or a node cannot be started.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    // What a node would refuse in its log is told here.
    StartArgs::with_memory(&args.memory).load()?;
    let signals = StopSignals::block();
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    std::fs::create_dir_all(&args.data)
        .map_err(|error| format!("cannot make {}: {error}", args.data.display()))?;
    let mut nodes = Vec::new();
    for node in 0..NODES {
        match start(args, &program, node) {
            Ok(child) => nodes.push(child),
            Err(error) => {
                stop(&mut nodes);
                return Err(error.into());
            }
        }
    }
    greet(args, &nodes);
    let name = signals.wait();
    println!("{name}: stopping the nodes");
    stop(&mut nodes);
    Ok(())
}

fn start(args: &Args, program: &Path, node: u16) -> Result<Child, String> {
    let data = args.data_of(node);
    let name = format!("n{}", node + 1);
    if !data.join(ashlar_node::format::FILE_NAME).exists() {
        // One shard: three nodes share this machine.
        let mut format = Command::new(program);
        format
            .arg("format")
            .arg("--data")
            .arg(&data)
            .args(["--shards", "1"]);
        let output = format.output();
        let output = output.map_err(|error| format!("cannot format {name}: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    let log = args.data.join(format!("{name}.log"));
    let file = std::fs::File::create(&log)
        .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command
        .arg("start")
        .arg("--data")
        .arg(&data)
        .args(["--listen", &format!("127.0.0.1:{}", args.port_of(node))])
        .args(["--memory", &args.memory])
        .args(["--name", &name])
        .args([
            "--peer-listen",
            &format!("127.0.0.1:{}", args.peer_port(node)),
        ])
        .args(["--peers", &args.peers()])
        .stdout(file)
        .stderr(errors);
    command
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}"))
}

fn greet(args: &Args, nodes: &[Child]) {
    println!("a cluster of {NODES} nodes on this machine, each a process:");
    for (node, child) in (0..).zip(nodes) {
        println!(
            "  n{}  redis-cli -p {}   process {}, data {}, log {}",
            node + 1,
            args.port_of(node),
            child.id(),
            args.data_of(node).display(),
            args.data.join(format!("n{}.log", node + 1)).display()
        );
    }
    println!("any node serves any key; a write is acknowledged once two of them have it on disk");
    println!(
        "  see who leads   ashlar status --addr 127.0.0.1:{}",
        args.port
    );
    println!(
        "  break it        kill -9 {}",
        nodes.first().map_or(0, Child::id)
    );
    println!(
        "  bring it back   what `ashlar start` says in {}/n1.log, or this demo again",
        args.data.display()
    );
    println!("Ctrl-C stops all of them; the data stay");
}

/// Asks the nodes to stop, and waits until they have.
fn stop(nodes: &mut Vec<Child>) {
    for child in nodes.iter() {
        // One that was killed before is gone already.
        let _ = ashlar_io::ask_to_stop(child.id());
    }
    for (number, mut child) in (1..).zip(nodes.drain(..)) {
        match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => println!("n{number} ended before: {}", how(status)),
            Err(error) => println!("n{number}: {error}"),
        }
    }
}

fn how(status: ExitStatus) -> String {
    status.to_string()
}
