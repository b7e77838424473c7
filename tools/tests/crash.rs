//! Real nodes killed under full load, again and again: what was acknowledged is there after every restart, nothing else
//! is, and what was written as one is whole.
//!
//! Each writer owns its keys, sends pipelines of random commands over them on one connection, and checks every reply
//! against a model. After a crash its keys must hold what the model holds after *some prefix* of its commands that is no
//! shorter than what was acknowledged.
//!
//! `ASHLAR_CRASH_CYCLES` sets how often the node is killed (8). The power cut is asked for by `.ci/power-cut`.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::{Chance, Client, Ended, Node, Reply, wait_until};

const WRITERS: u64 = 6;
/// Keys of each writer that are set and deleted.
const SLOTS: u64 = 1500;
/// Pairs of keys of each writer that are set together.
const PAIRS: u64 = 40;
/// Most commands that a writer sends before it reads.
const PIPELINE_MAX: u64 = 96;
/// A key that all writers count up.
const SHARED: &str = "w3:shared";

/// A command of a writer.
#[derive(Clone, Copy, Debug)]
enum Op {
    Set { slot: u64, n: u64 },
    Delete { slot: u64 },
    Read { slot: u64 },
    Count,
    Pair { pair: u64, n: u64 },
    Shared,
}

/// Returns the value that `n` stands for: its length and bytes follow from it, some do not fit one write of the log.
fn value(n: u64) -> Vec<u8> {
    let length = match n % 499 {
        0 => 300_000,
        1..20 => 5_000,
        rest => rest,
    };
    let mut value = format!("{n}:").into_bytes();
    value.extend((0..length).map(|at| {
        b"0123456789abcdefghijklmnopqrstuvwxyz!"[usize::try_from((n + at) % 37).unwrap()]
    }));
    value
}

/// A writer: its keys as the node must have them.
#[derive(Debug)]
struct Writer {
    id: u64,
    chance: Chance,
    next: u64,
    /// What its acknowledged commands have made of its keys.
    state: BTreeMap<String, Vec<u8>>,
    /// Commands sent and not acknowledged, oldest first.
    unsure: VecDeque<Op>,
    shared_acknowledged: u64,
    shared_sent: u64,
    shared_seen: i64,
}

impl Writer {
    fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            chance: Chance::new(seed.wrapping_add(id)),
            next: 1,
            state: BTreeMap::new(),
            unsure: VecDeque::new(),
            shared_acknowledged: 0,
            shared_sent: 0,
            shared_seen: 0,
        }
    }

    fn slot(&self, slot: u64) -> String {
        format!("w{}:{slot}", self.id)
    }

    fn pair(&self, pair: u64) -> [String; 2] {
        ["left", "right"].map(|side| format!("w{}:{side}:{pair}", self.id))
    }

    fn counter(&self) -> String {
        format!("w{}:counter", self.id)
    }

    fn keys(&self) -> Vec<String> {
        let pairs = (0..PAIRS).flat_map(|pair| self.pair(pair));
        (0..SLOTS)
            .map(|slot| self.slot(slot))
            .chain(pairs)
            .chain([self.counter()])
            .collect()
    }

    fn draw(&mut self) -> Op {
        self.next += 1;
        let n = self.next;
        let slot = self.chance.below(SLOTS);
        match self.chance.below(20) {
            0..10 => Op::Set { slot, n },
            10 => Op::Delete { slot },
            11..13 => Op::Read { slot },
            13..16 => Op::Count,
            16..19 => Op::Pair {
                pair: slot % PAIRS,
                n,
            },
            _ => Op::Shared,
        }
    }

    fn encode(&self, op: Op, out: &mut Vec<u8>) {
        let mut words: Vec<Vec<u8>> = Vec::new();
        match op {
            Op::Set { slot, n } => {
                words.extend([b"SET".to_vec(), self.slot(slot).into(), value(n)])
            }
            Op::Delete { slot } => words.extend([b"DEL".to_vec(), self.slot(slot).into()]),
            Op::Read { slot } => words.extend([b"GET".to_vec(), self.slot(slot).into()]),
            Op::Count => words.extend([b"INCR".to_vec(), self.counter().into()]),
            Op::Pair { pair, n } => {
                let [left, right] = self.pair(pair);
                words.extend([
                    b"MSET".to_vec(),
                    left.into(),
                    value(n),
                    right.into(),
                    value(n),
                ]);
            }
            Op::Shared => words.extend([b"INCR".to_vec(), SHARED.into()]),
        }
        support::encode(out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    /// Does a command to the model; returns the reply that the node must give, where one can be told.
    fn apply(&self, op: Op, state: &mut BTreeMap<String, Vec<u8>>) -> Option<Reply> {
        Some(match op {
            Op::Set { slot, n } => {
                state.insert(self.slot(slot), value(n));
                Reply::ok()
            }
            Op::Delete { slot } => {
                Reply::Integer(i64::from(state.remove(&self.slot(slot)).is_some()))
            }
            Op::Read { slot } => Reply::Bulk(state.get(&self.slot(slot)).cloned()),
            Op::Count => {
                let before = state
                    .get(&self.counter())
                    .map_or(0, |digits| decimal(digits));
                state.insert(self.counter(), (before + 1).to_string().into());
                Reply::Integer(before + 1)
            }
            Op::Pair { pair, n } => {
                state.extend(self.pair(pair).map(|key| (key, value(n))));
                Reply::ok()
            }
            Op::Shared => return None,
        })
    }

    /// Writes until the connection ends; counts what is acknowledged.
    fn write(&mut self, addr: SocketAddr, acknowledged: &AtomicU64) {
        let mut client = Client::connect(addr);
        while let Ok(()) = self.write_pipeline(&mut client, acknowledged) {}
    }

    fn write_pipeline(&mut self, client: &mut Client, acknowledged: &AtomicU64) -> io::Result<()> {
        let mut bytes = Vec::new();
        for _ in 0..=self.chance.below(PIPELINE_MAX) {
            let op = self.draw();
            self.encode(op, &mut bytes);
            self.unsure.push_back(op);
            self.shared_sent += u64::from(matches!(op, Op::Shared));
        }
        client.send(&bytes)?;
        while let Some(op) = self.unsure.front().copied() {
            let reply = client.read().inspect_err(|error| {
                assert_ne!(
                    error.kind(),
                    io::ErrorKind::WouldBlock,
                    "writer {}: no answer to {op:?}",
                    self.id
                );
            })?;
            self.acknowledge(op, &reply);
            self.unsure.pop_front();
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn acknowledge(&mut self, op: Op, reply: &Reply) {
        let mut state = std::mem::take(&mut self.state);
        let expected = self.apply(op, &mut state);
        self.state = state;
        match (expected, reply) {
            (Some(expected), reply) => assert!(
                *reply == expected,
                "writer {}: {op:?} is answered by {reply:?}",
                self.id
            ),
            (None, Reply::Integer(seen)) => {
                assert!(
                    *seen > self.shared_seen,
                    "the shared counter went back from {} to {seen}",
                    self.shared_seen
                );
                self.shared_seen = *seen;
                self.shared_acknowledged += 1;
            }
            (None, other) => panic!("writer {}: {op:?} is answered by {other:?}", self.id),
        }
    }

    /// Checks what the node has of this writer's keys, and goes on from there. Returns how many keys it has.
    fn check(&mut self, client: &mut Client) -> u64 {
        let found = read_all(client, &self.keys());
        let mut state = self.state.clone();
        let mut reached = state == found;
        for op in &self.unsure {
            if reached {
                break;
            }
            self.apply(*op, &mut state);
            reached = state == found;
        }
        assert!(reached, "writer {}: {}", self.id, self.difference(&found));
        self.state = state;
        self.unsure.clear();
        found.len() as u64
    }

    /// Says where `found` differs from what was acknowledged.
    fn difference(&self, found: &BTreeMap<String, Vec<u8>>) -> String {
        let show = |value: Option<&Vec<u8>>| {
            value.map(|value| String::from_utf8_lossy(&value[..value.len().min(24)]).into_owned())
        };
        let keys = self
            .keys()
            .into_iter()
            .filter(|key| self.state.get(key) != found.get(key));
        let differences = keys.map(|key| {
            format!(
                "{key} is {:?}, acknowledged was {:?}",
                show(found.get(&key)),
                show(self.state.get(&key))
            )
        });
        format!(
            "no prefix of its commands leads here; against what was acknowledged: {:#?}; in flight were {:?}",
            differences.collect::<Vec<_>>(),
            self.unsure
        )
    }
}

fn decimal(digits: &[u8]) -> i64 {
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

fn read_all(client: &mut Client, keys: &[String]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for keys in keys.chunks(100) {
        let words: Vec<_> = [b"MGET".as_slice()]
            .into_iter()
            .chain(keys.iter().map(|key| key.as_bytes()))
            .collect();
        for (key, value) in keys.iter().zip(client.call_bytes(&words).elements()) {
            match value {
                Reply::Bulk(Some(value)) => drop(found.insert(key.clone(), value)),
                Reply::Bulk(None) => {}
                other => panic!("{key}: {other:?}"),
            }
        }
    }
    found
}

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

    /// Starts a node, checks all there is, and writes to it until `end` has ended it. Returns how it ended.
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
        assert_eq!(
            client.call(&["DBSIZE"]),
            Reply::Integer(i64::try_from(keys).unwrap() + shared.len() as i64)
        );
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
    "wal.log_bytes_min=1 MiB",
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

/// Runs a command of the variable `name` in a shell.
fn shell(name: &str) {
    let command =
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run .ci/power-cut"));
    assert!(
        Command::new("sh")
            .args(["-c", &command])
            .status()
            .unwrap()
            .success(),
        "{name}: {command}"
    );
}

/// Cuts the power of a file system: `ASHLAR_POWER_CUT` is the command that cuts it, `ASHLAR_POWER_RESTORE` the one that
/// unmounts and mounts it again, `ASHLAR_POWER_DIR` a directory on it.
#[test]
#[ignore = "needs a file system whose power can be cut: run .ci/power-cut"]
fn power_cuts_lose_nothing() {
    let dir = std::env::var("ASHLAR_POWER_DIR").expect("ASHLAR_POWER_DIR is set by .ci/power-cut");
    let (dir, seed) = (PathBuf::from(dir), support::seed());
    let mut world = World::new(dir.join("data"), &SMALL, seed);
    world.format(&SPLIT);
    shell("ASHLAR_POWER_RESTORE");
    for _ in 0..cycles().div_ceil(2) {
        world.live(|node| {
            shell("ASHLAR_POWER_CUT");
            node.kill()
        });
        shell("ASHLAR_POWER_RESTORE");
    }
    world.check_last();
}
