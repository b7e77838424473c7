//! A writer: random commands in pipelines over its own keys, checked against a model, and the check
//! of what a crash has left of them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{self, Chance, Client, Reply};

/// Keys of each writer that are set and deleted.
const SLOTS: u64 = 1500;
/// Pairs of keys of each writer that are set together.
const PAIRS: u64 = 40;
/// Most commands that a writer sends before it reads.
const PIPELINE_MAX: u64 = 96;
/// A key that all writers count up.
pub(crate) const SHARED: &str = "w3:shared";

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

/// Returns the value that `n` stands for: its length and bytes follow from it, some do not fit one
/// write of the log.
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
pub(crate) struct Writer {
    id: u64,
    chance: Chance,
    next: u64,
    /// What its acknowledged commands have made of its keys.
    state: BTreeMap<String, Vec<u8>>,
    /// Commands sent and not acknowledged, oldest first.
    unsure: VecDeque<Op>,
    /// How often it has counted [`SHARED`] up, and was told so.
    pub(crate) shared_acknowledged: u64,
    /// How often it has asked for that.
    pub(crate) shared_sent: u64,
    shared_seen: i64,
    /// The node may refuse writes: its disk is going.
    pub(crate) refusable: bool,
}

impl Writer {
    /// Makes a writer of keys that are not there yet.
    pub(crate) fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            chance: Chance::new(seed.wrapping_add(id)),
            next: 1,
            state: BTreeMap::new(),
            unsure: VecDeque::new(),
            shared_acknowledged: 0,
            shared_sent: 0,
            shared_seen: 0,
            refusable: false,
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

    /// Does a command to the model; returns the reply that the node must give, where one can be
    /// told.
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
    pub(crate) fn write(&mut self, addr: SocketAddr, acknowledged: &AtomicU64) {
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
        if self.refusable
            && matches!(reply, Reply::Error(text) if text.starts_with("DISKFULL") || text.starts_with("IOERR"))
        {
            return;
        }
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

    /// Checks what the node has of this writer's keys, and goes on from there. Returns how many
    /// keys it has.
    pub(crate) fn check(&mut self, client: &mut Client) -> u64 {
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

/// Reads a number that the node counts with.
pub(crate) fn decimal(digits: &[u8]) -> i64 {
    std::str::from_utf8(digits).unwrap().parse().unwrap()
}

/// Returns those of `keys` that the node has, with their values.
pub(crate) fn read_all(client: &mut Client, keys: &[String]) -> BTreeMap<String, Vec<u8>> {
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
