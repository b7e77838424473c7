//! `ashlar demo`: a cluster of three nodes on this machine, each a process of its own, to be tried and
//! broken. It starts the nodes, says how to talk to them, and stops them when it is stopped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use ashlar_io::StopSignals;

use crate::node::StartArgs;
use crate::refusal::Failure;

/// Nodes of the cluster.
const NODES: u16 = 3;
/// Time between two looks at them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long nodes are given to end by themselves.
const BY_THEMSELVES: Duration = Duration::from_secs(5);

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

    fn log_of(&self, node: u16) -> PathBuf {
        self.data.join(format!("n{}.log", node + 1))
    }

    fn data_of(&self, node: u16) -> PathBuf {
        self.data.join(format!("n{}", node + 1))
    }

    /// Returns the words that start a node.
    fn words(&self, node: u16) -> Vec<String> {
        let data = self.data_of(node).display().to_string();
        let (listen, peer_listen) = (self.port_of(node), self.peer_port(node));
        let words = [
            ("--data", data),
            ("--listen", format!("127.0.0.1:{listen}")),
            ("--memory", self.memory.clone()),
            ("--name", format!("n{}", node + 1)),
            ("--peer-listen", format!("127.0.0.1:{peer_listen}")),
            ("--peers", self.peers()),
        ];
        let flags = words.map(|(flag, value)| [flag.to_owned(), value]);
        [&["start".to_owned()], flags.as_flattened()].concat()
    }
}

/// A node of the cluster.
struct Node {
    number: u16,
    child: Child,
    log: PathBuf,
}

/// Runs the cluster until it is stopped, or none of its nodes is left.
///
/// # Errors
/// One line: `--memory` is no size of memory, a node cannot be started, or none is left.
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
            Ok(node) => nodes.push(node),
            Err(error) => {
                stop(&mut nodes);
                return Err(error.into());
            }
        }
    }
    let (give, stopped) = mpsc::channel();
    std::thread::spawn(move || give.send(signals.wait()));
    let name = watch(args, &mut nodes, &stopped)?;
    println!("{name}: stopping the nodes");
    if name == "SIGINT" {
        await_ends(&mut nodes);
    }
    stop(&mut nodes);
    Ok(())
}

/// Tells when the cluster serves and which of its nodes end, until it is stopped; returns by which signal.
fn watch(
    args: &Args,
    nodes: &mut Vec<Node>,
    stopped: &Receiver<&'static str>,
) -> Result<&'static str, String> {
    let mut is_greeted = false;
    loop {
        if let Ok(name) = stopped.recv_timeout(LOOK_EVERY) {
            return Ok(name);
        }
        nodes.retain_mut(Node::lives);
        if nodes.is_empty() {
            return Err("none of the nodes is left".to_owned());
        }
        if !is_greeted && nodes.iter().all(|node| node.says(" listens on ").is_some()) {
            is_greeted = true;
            greet(args, nodes);
        }
    }
}

impl Node {
    /// Looks whether it still runs; tells how it has ended, and what it said last.
    fn lives(&mut self) -> bool {
        match self.child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                let last = self.says("").unwrap_or_default();
                println!("n{} has ended: {status}; it said: {last}", self.number + 1);
                false
            }
            Err(error) => {
                println!("n{}: {error}", self.number + 1);
                false
            }
        }
    }

    /// Tells how it has ended, if that is not how it should.
    fn tell_end(&self, status: ExitStatus) {
        if !status.success() {
            println!("n{} has ended: {status}", self.number + 1);
        }
    }

    /// Returns the last line of its log with a text in it.
    fn says(&self, part: &str) -> Option<String> {
        let log = std::fs::read_to_string(&self.log).ok()?;
        let line = log.lines().rfind(|line| line.contains(part));
        line.map(str::to_owned)
    }
}

fn start(args: &Args, program: &Path, node: u16) -> Result<Node, String> {
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
    let log = args.log_of(node);
    let file = std::fs::File::create(&log)
        .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
    let errors = file.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(args.words(node)).stdout(file).stderr(errors);
    let child = command.spawn();
    let child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
    Ok(Node {
        number: node,
        child,
        log,
    })
}

fn greet(args: &Args, nodes: &[Node]) {
    println!("a cluster of {NODES} nodes on this machine, each a process:");
    for node in nodes {
        let number = node.number;
        println!(
            "  n{}  redis-cli -p {}   process {}, data {}, log {}",
            number + 1,
            args.port_of(number),
            node.child.id(),
            args.data_of(number).display(),
            node.log.display()
        );
    }
    println!("any node serves any key; a write is acknowledged once two of them have it on disk");
    println!(
        "  see who leads   ashlar status --addr 127.0.0.1:{}",
        args.port
    );
    if let Some(first) = nodes.first() {
        let words = args.words(first.number).join(" ");
        println!("  break it        kill -9 {}", first.child.id());
        println!("  bring it back   ashlar {words}");
    }
    println!("Ctrl-C stops all of them; the data stay");
}

/// Waits some time for nodes to end by themselves: Ctrl-C is sent to all that the terminal runs, so to them, too, and a
/// second signal would end them as a crash does.
fn await_ends(nodes: &mut Vec<Node>) {
    let from = Instant::now();
    while from.elapsed() < BY_THEMSELVES && !nodes.is_empty() {
        nodes.retain_mut(|node| match node.child.try_wait() {
            Ok(Some(status)) => {
                node.tell_end(status);
                false
            }
            Ok(None) | Err(_) => true,
        });
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Asks the nodes to stop, and waits until they have.
fn stop(nodes: &mut Vec<Node>) {
    for node in nodes.iter() {
        // One that was killed before is gone already.
        let _ = ashlar_io::ask_to_stop(node.child.id());
    }
    for mut node in nodes.drain(..) {
        match node.child.wait() {
            Ok(status) => node.tell_end(status),
            Err(error) => println!("n{}: {error}", node.number + 1),
        }
    }
}
