//! The state of a simulated world: its nodes, its shards, and how ops in flight become completions.
//! Not whose turn it is (`turns.rs`), nor what files do (`files.rs`) and connections do (`net.rs`,
//! `sockets.rs`).
//!
//! Invariants:
//! 1. Nothing here depends on an address, on real time or on the order of a hash table.
//! 2. A shard that died is never used again: its next life has another index, so late events find
//!    it dead.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::clock::Clock;
use super::disk::{Disk, Effect, File};
use super::driver::SimWake;
use super::faults::Faults;
use super::heap::{EndId, Heap, Kind, digest, mix};
use super::net::{Net, Way};
use crate::buffer::Arena;
use crate::op::{Completion, Handle, OpId, Value};
use crate::rng::Rng;

/// Virtual time at the beginning, in nanoseconds.
const START_NS: u64 = 1_000_000_000;
/// Buffers for files that all shards of a world share; who finds none takes memory of the heap.
const BUFFERS: u16 = 256;

/// An error with the operating system's number, as a kernel would answer.
pub(super) fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// One independent stream of random numbers per domain, so that a draw in one does not reshuffle
/// the others.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) schedule: Rng,
    pub(super) disk: Rng,
    pub(super) net: Rng,
    pub(super) crash: Rng,
    pub(super) workload: Rng,
    nodes: Rng,
}

impl Streams {
    fn new(seed: u64) -> Self {
        let master = Rng::new(seed);
        Self {
            schedule: master.fork("schedule"),
            disk: master.fork("disk"),
            net: master.fork("net"),
            crash: master.fork("crash"),
            workload: master.fork("workload"),
            nodes: master.fork("nodes"),
        }
    }
}

/// One machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) disk: Disk,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) incarnation: u32,
    pub(super) paused_until: u64,
    pub(super) next_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Idle,
    /// Has something to do and waits for a release or for the end of a pause.
    Held,
    /// Is in the list of the ready.
    Listed,
}

/// What of an op can be cancelled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Accept(Handle),
    Connect(u32),
    Recv(EndId),
    Send(EndId),
}

/// One life of one shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) node: u32,
    pub(super) shard: u32,
    pub(super) alive: bool,
    pub(super) completed: Vec<Completion>,
    /// What can be cancelled, and by which arming: an id may be armed again.
    pub(super) streams: BTreeMap<OpId, (u64, Stream)>,
    pub(super) wake: Arc<SimWake>,
    pub(super) readiness: Readiness,
    pub(super) wake_scheduled: bool,
    pub(super) wanted: Option<u64>,
    /// Times of the timer events in the heap, the earliest last.
    pub(super) timers: Vec<u64>,
}

/// What a handle stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object {
    File(File),
    Listener,
    Socket(EndId),
}

/// A handle's owner and meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned {
    pub(super) shard: u32,
    pub(super) node: u32,
    pub(super) object: Object,
}

/// An op whose time of completion is settled.
#[derive(Debug)]
pub(super) enum Pending {
    Free,
    Answer {
        shard: u32,
        id: OpId,
        result: io::Result<Value>,
    },
    /// The first of the two answers of a send without a copy.
    Sent {
        shard: u32,
        id: OpId,
        result: io::Result<Value>,
    },
    Cancel {
        shard: u32,
        id: OpId,
        arming: u64,
    },
    Disk {
        shard: u32,
        id: OpId,
        effect: Effect,
        result: io::Result<Value>,
    },
}

/// Everything that a world is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) clock: Rc<Cell<u64>>,
    pub(super) buffers: Rc<Arena>,
    pub(super) heap: Heap,
    pub(super) faults: Faults,
    pub(super) streams: Streams,
    pub(super) nodes: BTreeMap<u32, Node>,
    pub(super) shards: Vec<Shard>,
    pub(super) handles: BTreeMap<Handle, Owned>,
    pub(super) net: Net,
    pub(super) pending: Vec<Pending>,
    free: Vec<u32>,
    pub(super) live: Vec<u32>,
    pub(super) ready: Vec<u32>,
    handles_made: i32,
    armings: u64,
    pub(super) hash: u64,
    pub(super) marks: BTreeMap<&'static str, u64>,
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            clock: Rc::new(Cell::new(START_NS)),
            buffers: Arena::new(BUFFERS),
            heap: Heap::default(),
            faults,
            streams: Streams::new(seed),
            nodes: BTreeMap::new(),
            shards: Vec::new(),
            handles: BTreeMap::new(),
            net: Net::default(),
            pending: Vec::new(),
            free: Vec::new(),
            live: Vec::new(),
            ready: Vec::new(),
            handles_made: 2,
            armings: 0,
            hash: mix(0, seed),
            marks: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.get()
    }

    pub(super) fn mark(&mut self, name: &'static str) {
        *self.marks.entry(name).or_insert(0) += 1;
    }

    /// Adds an event to the rolling hash.
    pub(super) fn note(&mut self, what: &[u64]) {
        let hash = mix(self.hash, self.now());
        self.hash = what.iter().fold(hash, |hash, word| mix(hash, *word));
    }

    /// Returns a node, which is made at its first use.
    pub(super) fn node(&mut self, node: u32) -> &mut Node {
        let (rngs, faults) = (&self.streams.nodes, &self.faults.clock);
        self.nodes.entry(node).or_insert_with(|| Node {
            disk: Disk::default(),
            clock: Clock::new(rngs.fork(&format!("clock {node}")), faults),
            rng: rngs.fork(&format!("node {node}")),
            incarnation: 0,
            paused_until: 0,
            next_port: 32_768,
        })
    }

    /// Starts a life of a shard; returns its index.
    pub(super) fn start_shard(&mut self, node: u32, shard: u32) -> u32 {
        self.node(node);
        let same = |index: &&u32| {
            let other = &self.shards[**index as usize];
            other.node == node && other.shard == shard
        };
        assert!(
            !self.live.iter().any(|index| same(&index)),
            "shard {node}/{shard} runs already"
        );
        let index = u32::try_from(self.shards.len()).expect("fewer lives than 2^32");
        self.shards.push(Shard {
            node,
            shard,
            alive: true,
            completed: Vec::new(),
            streams: BTreeMap::new(),
            wake: Arc::default(),
            readiness: Readiness::Idle,
            wake_scheduled: false,
            wanted: None,
            timers: Vec::new(),
        });
        self.live.push(index);
        self.note(&[1, u64::from(node), u64::from(shard)]);
        self.make_ready(index);
        index
    }

    /// Ends a life of a shard. Its handles are the caller's business.
    pub(super) fn end_shard(&mut self, index: u32) {
        let shard = &mut self.shards[index as usize];
        shard.alive = false;
        shard.completed = Vec::new();
        shard.streams = BTreeMap::new();
        self.live.retain(|other| *other != index);
        self.ready.retain(|other| *other != index);
    }

    /// Returns the shards that live on a node.
    pub(super) fn live_on(&self, node: u32) -> Vec<u32> {
        let on_node = |index: &&u32| self.shards[**index as usize].node == node;
        self.live.iter().filter(on_node).copied().collect()
    }

    pub(super) fn add_handle(&mut self, shard: u32, object: Object) -> Handle {
        self.handles_made += 1;
        let handle = Handle(self.handles_made);
        let node = self.shards[shard as usize].node;
        self.handles.insert(
            handle,
            Owned {
                shard,
                node,
                object,
            },
        );
        handle
    }

    /// Finds what a handle of the shard's node stands for.
    pub(super) fn object(&self, shard: u32, handle: Handle) -> io::Result<Object> {
        match self.handles.get(&handle) {
            Some(owned) if owned.node == self.shards[shard as usize].node => Ok(owned.object),
            Some(_) | None => Err(os(libc::EBADF)),
        }
    }

    pub(super) fn is_paused(&self, node: u32) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.paused_until > self.now())
    }

    /// Remembers what an op waits for, so that it can be cancelled.
    pub(super) fn arm_stream(&mut self, shard: u32, id: OpId, stream: Stream) {
        self.armings += 1;
        self.shards[shard as usize]
            .streams
            .insert(id, (self.armings, stream));
    }

    /// Schedules `pending` for `at`.
    pub(super) fn schedule(&mut self, at: u64, pending: Pending) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pending.push(Pending::Free);
            u32::try_from(self.pending.len() - 1).expect("fewer ops in flight than 2^32")
        });
        self.pending[slot as usize] = pending;
        self.heap.push(at, Kind::Done(slot));
    }

    /// Schedules the only completion of an op.
    pub(super) fn answer_at(&mut self, at: u64, shard: u32, id: OpId, result: io::Result<Value>) {
        self.schedule(at, Pending::Answer { shard, id, result });
    }

    /// Schedules an answer that needs no device: after a microsecond or so.
    pub(super) fn answer_soon(&mut self, shard: u32, id: OpId, result: io::Result<Value>) {
        let at = self.now() + self.streams.schedule.range(300..3_000);
        self.answer_at(at, shard, id, result);
    }

    /// Schedules what a send answers: at once with its bytes, or, when they were lent, before them. An
    /// error may keep them for a while too.
    pub(super) fn answer_send(
        &mut self,
        (shard, id): (u32, OpId),
        way: Way,
        result: io::Result<Value>,
    ) {
        if way == Way::Copied || result.is_err() && self.streams.schedule.coin() {
            return self.answer_soon(shard, id, result);
        }
        let at = self.now() + self.streams.schedule.range(300..3_000);
        self.schedule(at, Pending::Sent { shard, id, result });
    }

    /// Delivers the answer of a send whose bytes come back later.
    fn sent(&mut self, shard: u32, id: OpId, result: io::Result<Value>) {
        self.complete(
            shard,
            Completion {
                id,
                result,
                more: true,
            },
        );
        let delay = self.streams.schedule.range(1..200_000);
        self.answer_at(self.now() + delay, shard, id, Ok(Value::Released));
    }

    /// Delivers a completion now.
    pub(super) fn complete(&mut self, index: u32, completion: Completion) {
        let shard = &self.shards[index as usize];
        if !shard.alive {
            return;
        }
        let (node, number) = (u64::from(shard.node), u64::from(shard.shard));
        let what = [
            2,
            node,
            number,
            completion.id.to_bits(),
            digest_of(&completion),
        ];
        self.note(&what);
        self.shards[index as usize].completed.push(completion);
        self.make_ready(index);
    }

    pub(super) fn done(&mut self, slot: u32) {
        let pending = std::mem::replace(&mut self.pending[slot as usize], Pending::Free);
        self.free.push(slot);
        match pending {
            Pending::Free => {}
            Pending::Answer { shard, id, result } => {
                self.complete(
                    shard,
                    Completion {
                        id,
                        result,
                        more: false,
                    },
                );
            }
            Pending::Sent { shard, id, result } => self.sent(shard, id, result),
            Pending::Cancel { shard, id, arming } => self.cancel_now(shard, id, arming),
            Pending::Disk {
                shard,
                id,
                effect,
                result,
            } => {
                let node = self.shards[shard as usize].node;
                self.take_effect(node, effect);
                self.complete(
                    shard,
                    Completion {
                        id,
                        result,
                        more: false,
                    },
                );
            }
        }
    }

    /// Forgets what a dead node had in flight; returns what its disk was writing.
    pub(super) fn drop_in_flight(&mut self, node: u32) -> Vec<Effect> {
        let mut effects = Vec::new();
        for pending in &mut self.pending {
            let (Pending::Answer { shard, .. }
            | Pending::Sent { shard, .. }
            | Pending::Cancel { shard, .. }
            | Pending::Disk { shard, .. }) = pending
            else {
                continue;
            };
            // The slot stays taken until its event comes; only what it would do is dropped.
            if self.shards[*shard as usize].node == node
                && let Pending::Disk { effect, .. } = std::mem::replace(pending, Pending::Free)
            {
                effects.push(effect);
            }
        }
        effects
    }

    /// Returns how many handles of a node are open.
    pub(super) fn open_handles(&self, node: u32) -> usize {
        let on_node = |owned: &&Owned| owned.node == node;
        self.handles.values().filter(on_node).count()
    }

    /// Returns the nodes that have ever been used.
    pub(super) fn known_nodes(&self) -> BTreeSet<u32> {
        self.nodes.keys().copied().collect()
    }
}

/// Condenses what a completion says.
fn digest_of(completion: &Completion) -> u64 {
    let word = match &completion.result {
        Ok(Value::Nothing) => 1,
        Ok(Value::Count(n)) => mix(2, *n as u64),
        Ok(Value::Size(n)) => mix(3, *n),
        Ok(Value::Handle(handle)) => mix(4, u64::from(handle.0.unsigned_abs())),
        Ok(Value::Chunk(chunk)) => mix(5, digest(chunk)),
        Ok(Value::Space(space)) => mix(8, mix(space.free_bytes, space.total_bytes)),
        Ok(Value::Entries(entries)) => entries.iter().fold(6, |hash, entry| {
            mix(mix(hash, digest(entry.name.as_bytes())), entry.bytes)
        }),
        Ok(Value::Released) => 8,
        Err(error) => mix(
            7,
            u64::from(error.raw_os_error().unwrap_or(0).unsigned_abs()),
        ),
    };
    mix(word, u64::from(completion.more))
}
