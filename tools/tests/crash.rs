//! Real nodes killed under full load, again and again: what was acknowledged is there after every
//! restart, nothing else is, and what was written as one is whole.
//!
//! Each writer owns its keys, sends pipelines of random commands over them on one connection, and
//! checks every reply against a model. After a crash its keys must hold what the model holds after
//! *some prefix* of its commands that is no shorter than what was acknowledged.
//!
//! `ASHLAR_CRASH_CYCLES` sets how often the node is killed (8). The power cut is asked for by
//! `.ci/power-cut`.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;
#[path = "crash/writer.rs"]
mod writer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::{Chance, Client, Ended, Node, Reply, wait_until};
use writer::{SHARED, Writer, decimal, read_all};

/// Writers at a time.
const WRITERS: u64 = 6;

/// A data directory and those who write to it, over many lives of a node.
struct World {
    data: PathBuf,
    flags: Vec<&'static str>,
    writers: Vec<Writer>,
    chance: Chance,
}

impl World {
    fn new(data: PathBuf, flags: &[&'static str], seed: u64) -> Self {
        let writers = (0..WRITERS).map(|id| Writer::new(id, seed)).collect();
        Self {
            data,
            flags: flags.to_vec(),
            writers,
            chance: Chance::new(seed ^ 0xC0FFEE),
        }
    }

    fn format(&self, format: &[&str]) {
        let data = self.data.to_str().unwrap();
        let args: Vec<_> = ["format", "--data", data]
            .into_iter()
            .chain(format.iter().chain(&self.flags).copied())
            .collect();
        let ended = support::run(&args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// Starts a node, and kills it once or twice while it starts.
    fn start(&mut self) -> Node {
        for _ in 0..self.chance.below(3) {
            let data = self.data.to_str().unwrap();
            let args: Vec<_> = ["start", "--data", data, "--listen", "127.0.0.1:0"]
                .into_iter()
                .chain(self.flags.clone())
                .collect();
            let node = Node::spawn(&args);
            std::thread::park_timeout(Duration::from_micros(self.chance.below(60_000)));
            node.kill();
        }
        Node::start(&self.data, &self.flags)
    }

    /// Starts a node, checks all there is, and writes to it until `end` has ended it. Returns how
    /// it ended.
    fn live(&mut self, end: impl FnOnce(Node) -> Ended) -> Ended {
        let node = self.start();
        self.check(&node);
        let acknowledged = AtomicU64::new(0);
        let target = 200 + self.chance.below(20_000);
        let addr = node.addr;
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .writers
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.write(addr, &acknowledged)))
                .collect();
            wait_until("enough is acknowledged, or a writer has ended", || {
                acknowledged.load(Ordering::Relaxed) >= target
                    || threads.iter().any(|thread| thread.is_finished())
            });
            end(node)
        })
    }

    fn check(&mut self, node: &Node) {
        let mut client = node.connect();
        let keys: u64 = self
            .writers
            .iter_mut()
            .map(|writer| writer.check(&mut client))
            .sum();
        let shared = read_all(&mut client, &[SHARED.to_owned()]);
        let count = shared.values().map(|digits| decimal(digits)).sum::<i64>();
        let sum = |of: fn(&Writer) -> u64| {
            i64::try_from(self.writers.iter().map(of).sum::<u64>()).unwrap()
        };
        let (low, high) = (
            sum(|writer| writer.shared_acknowledged),
            sum(|writer| writer.shared_sent),
        );
        assert!(
            (low..=high).contains(&count),
            "the shared counter is {count}: {low} were acknowledged, {high} sent"
        );
        // DBSIZE is an estimate once there are tables.
        let found = client.call(&["KEYS", "*"]).elements().len() as u64;
        assert_eq!(found, keys + shared.len() as u64);
    }

    fn check_last(&mut self) {
        let node = self.start();
        self.check(&node);
        assert_eq!(node.stop("TERM").code, Some(0));
    }
}

const SMALL: [&str; 4] = [
    "--set",
    "wal.segment_bytes=1 MiB",
    "--set",
    "wal.log_bytes_max=1 MiB",
];
const LARGE: [&str; 2] = ["--set", "wal.segment_bytes=32 MiB"];
const SPLIT: [&str; 4] = ["--shards", "2", "--split-at", "w3"];

fn cycles() -> u64 {
    let given = std::env::var("ASHLAR_CRASH_CYCLES").ok();
    given.map_or(8, |cycles| {
        cycles.parse().expect("ASHLAR_CRASH_CYCLES is a number")
    })
}

/// Has a node killed a quarter of [`cycles`] times.
fn kill_again_and_again(flags: &[&'static str], format: &[&str]) {
    let (dir, seed) = (tempfile::tempdir().unwrap(), support::seed());
    let mut world = World::new(dir.path().join("data"), flags, seed);
    world.format(format);
    for _ in 0..cycles().div_ceil(4) {
        let ended = world.live(Node::kill);
        assert_eq!(ended.code, None, "it was killed: {ended:?}");
    }
    world.check_last();
    for shard in 0..2 {
        let segments = support::segments(&world.data, shard).len();
        assert!(
            segments < 40,
            "shard {shard} has {segments} segments: its log is not kept short"
        );
    }
}

#[test]
fn killing_loses_nothing() {
    kill_again_and_again(&LARGE, &["--shards", "2"]);
}

#[test]
fn killing_loses_nothing_while_segments_roll_and_the_log_is_cleaned() {
    kill_again_and_again(&SMALL, &["--shards", "2"]);
}

#[test]
fn killing_loses_nothing_of_two_partitions() {
    kill_again_and_again(&LARGE, &SPLIT);
}

#[test]
fn killing_loses_nothing_of_two_partitions_while_segments_roll_and_the_logs_are_cleaned() {
    kill_again_and_again(&SMALL, &SPLIT);
}

/// Returns the names of the files of tables and values.
fn table_files(data: &Path) -> BTreeSet<PathBuf> {
    let dirs = std::fs::read_dir(data.join("tables")).into_iter().flatten();
    let files = dirs.flatten().flat_map(|dir| std::fs::read_dir(dir.path()));
    files.flatten().flatten().map(|file| file.path()).collect()
}

/// Has a node killed a quarter of [`cycles`] times, each time a moment after it began to write a table:
/// within a flush or a merge, or where its edit goes to the log.
#[test]
fn killing_loses_nothing_within_flushes_and_merges() {
    let (dir, seed) = (tempfile::tempdir().unwrap(), support::seed());
    let mut world = World::new(dir.path().join("data"), &SMALL, seed);
    world.format(&SPLIT);
    let data = world.data.clone();
    for _ in 0..cycles().div_ceil(4) {
        let moment = Duration::from_micros(world.chance.below(8_000));
        let ended = world.live(|node| {
            let before = table_files(&data);
            wait_until("a table is begun", || {
                !table_files(&data).is_subset(&before)
            });
            std::thread::park_timeout(moment);
            node.kill()
        });
        assert_eq!(ended.code, None, "it was killed: {ended:?}");
    }
    world.check_last();
    let verified = support::run(&["verify", "--data", data.to_str().unwrap()]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

#[test]
fn stopping_under_load_is_clean() {
    let (dir, seed) = (tempfile::tempdir().unwrap(), support::seed());
    let mut world = World::new(dir.path().join("data"), &SMALL, seed);
    world.format(&SPLIT);
    for signal in ["TERM", "INT", "TERM"] {
        let ended = world.live(|node| node.stop(signal));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.out.contains(&format!("SIG{signal}: stopping"))
                && ended.out.ends_with("stopped\n"),
            "{ended:?}"
        );
    }
    world.check_last();
}

/// Starts a node, and a client that has asked for more than it reads: the node waits for it when it stops.
fn with_slow_client(dir: &Path) -> (Node, Client) {
    let node = Node::start(&dir.join("data"), &["--memory", "64MiB"]);
    let mut client = node.connect();
    assert_eq!(
        client.call(&["SET", "large", &"x".repeat(4 << 20)]),
        Reply::ok()
    );
    let mut asked = Vec::new();
    (0..8).for_each(|_| support::encode(&mut asked, &[b"GET", b"large"]));
    client.send(&asked).unwrap();
    (node, client)
}

#[test]
fn a_second_signal_ends_a_stop_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _client) = with_slow_client(dir.path());
    // Both are there when it looks for the first time.
    for signal in ["STOP", "TERM", "INT", "CONT"] {
        node.signal(signal);
    }
    let ended = node.wait_until_stopped();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    assert!(
        last.starts_with("ashlar: a second SIG") && last.ends_with("nothing acknowledged is lost"),
        "{ended:?}"
    );
    let mut node = Node::start(&dir.path().join("data"), &[]);
    assert_eq!(
        node.connect().call(&["STRLEN", "large"]),
        Reply::Integer(4 << 20)
    );
    assert!(node.is_alive());
}

#[test]
fn a_client_that_does_not_read_does_not_keep_a_node_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _client) = with_slow_client(dir.path());
    let ended = node.stop("TERM");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.ends_with("stopped\n"), "{ended:?}");
}

/// Runs a command of the variable `name` in a shell.
fn shell(name: &str) {
    let command =
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run .ci/power-cut"));
    assert!(
        Command::new("bash")
            .args(["-c", &command])
            .status()
            .unwrap()
            .success(),
        "{name}: {command}"
    );
}

/// Cuts the power of a file system: `ASHLAR_POWER_CUT` is the command that cuts it,
/// `ASHLAR_POWER_RESTORE` the one that unmounts and mounts it again, `ASHLAR_POWER_DIR` a directory
/// on it.
#[test]
#[ignore = "needs a file system whose power can be cut: run .ci/power-cut"]
fn power_cuts_lose_nothing() {
    let dir = std::env::var("ASHLAR_POWER_DIR").expect("ASHLAR_POWER_DIR is set by .ci/power-cut");
    let (dir, seed) = (PathBuf::from(dir), support::seed());
    let mut world = World::new(dir.join("data"), &SMALL, seed);
    world.format(&SPLIT);
    shell("ASHLAR_POWER_RESTORE");
    world
        .writers
        .iter_mut()
        .for_each(|writer| writer.refusable = true);
    for _ in 0..cycles().div_ceil(2) {
        world.live(|node| {
            shell("ASHLAR_POWER_CUT");
            node.kill()
        });
        shell("ASHLAR_POWER_RESTORE");
    }
    world.check_last();
}
