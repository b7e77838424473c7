//! One connection of the load: sends a pipeline of commands, waits for all its replies, sends the next.
//! It decides nothing about when the run ends: the run does, through what both share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::{Monotonic, Reactor, Socket};

use super::reply::{Replies, Reply};
use super::stats::Stats;
use super::workload::{Kind, Workload};

/// What the connections do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Write every key once, in order.
    Preload,
    /// The workload.
    Load,
}

/// What all connections and the run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) workload: Workload,
    pub(crate) phase: Phase,
    pub(crate) pipeline: u64,
    /// Operations that may still be sent.
    pub(crate) left: Cell<u64>,
    /// Connections at work.
    pub(crate) live: Cell<usize>,
    pub(crate) stats: RefCell<Stats>,
    /// Why the first connection was lost, and how many were.
    pub(crate) lost: RefCell<Option<(String, usize)>>,
}

impl Shared {
    /// Makes the state of a phase that sends at most `operations` in pipelines of `pipeline`.
    pub(crate) fn new(
        phase: Phase,
        workload: Workload,
        (operations, pipeline): (u64, u64),
    ) -> Rc<Self> {
        Rc::new(Self {
            workload,
            phase,
            pipeline,
            left: Cell::new(operations),
            live: Cell::new(0),
            stats: RefCell::default(),
            lost: RefCell::default(),
        })
    }

    /// Takes the next operations; returns how many.
    fn take(&self) -> u64 {
        let count = self.left.get().min(self.pipeline);
        self.left.set(self.left.get() - count);
        count
    }

    fn lose(&self, why: String) {
        let mut lost = self.lost.borrow_mut();
        lost.get_or_insert((why, 0)).1 += 1;
    }
}

/// A connection and what it has received of a reply.
#[derive(Debug)]
pub(crate) struct Client {
    reactor: Reactor,
    socket: Socket,
    replies: Replies,
    rng: Rng,
    out: Vec<u8>,
    /// The kinds of a pipeline; those before `answered` have their reply.
    sent: Vec<Kind>,
    answered: usize,
    sent_at: Monotonic,
}

impl Client {
    /// Makes the client of a connection; `seed` sets its choices apart from other clients'.
    pub(crate) fn new(reactor: &Reactor, socket: Socket, seed: u64) -> Self {
        Self {
            reactor: reactor.clone(),
            socket,
            replies: Replies::default(),
            rng: Rng::new(seed),
            out: Vec::new(),
            sent: Vec::new(),
            answered: 0,
            sent_at: reactor.now(),
        }
    }

    /// Works until no operation is left or the connection is lost; returns itself in the first case.
    pub(crate) async fn run(mut self, shared: Rc<Shared>) -> Option<Self> {
        let kept = loop {
            let count = shared.take();
            if count == 0 {
                break Some(self);
            }
            self.send(&shared, count);
            if let Err(why) = self.receive(&shared).await {
                shared.lose(why);
                break None;
            }
        };
        shared.live.set(shared.live.get() - 1);
        kept
    }

    /// Sends a pipeline of `count` commands.
    fn send(&mut self, shared: &Shared, count: u64) {
        self.sent.clear();
        self.answered = 0;
        for n in 0..count {
            let kind = match shared.phase {
                Phase::Load => shared.workload.encode_next(&mut self.rng, &mut self.out),
                Phase::Preload => {
                    // What is taken and what is left add up to all keys, so this names each key once.
                    let key = shared.workload.keys() - shared.left.get() - count + n;
                    shared
                        .workload
                        .encode_set(key, &mut self.rng, &mut self.out);
                    Kind::Set
                }
            };
            self.sent.push(kind);
        }
        shared.stats.borrow_mut().sent_bytes += self.out.len() as u64;
        self.sent_at = self.reactor.read_clock();
        self.socket.sender().send_vec(&mut self.out);
    }

    /// Receives the replies of a pipeline.
    async fn receive(&mut self, shared: &Shared) -> Result<(), String> {
        while self.answered < self.sent.len() {
            let chunk = self.socket.receive().await;
            let chunk = chunk.map_err(|error| format!("the connection broke: {error}"))?;
            if chunk.is_empty() {
                return Err("the server closed the connection".to_owned());
            }
            let latency = self.reactor.now().since(self.sent_at);
            self.take_in(&chunk, latency, &mut shared.stats.borrow_mut())?;
        }
        Ok(())
    }

    /// Counts the replies that end in `bytes`.
    fn take_in(
        &mut self,
        bytes: &[u8],
        latency: Duration,
        stats: &mut Stats,
    ) -> Result<(), String> {
        stats.received_bytes += bytes.len() as u64;
        stats.last_reply = self.reactor.now();
        let mut counts = [0; Kind::EVERY.len()];
        let mut rest = bytes;
        while let Some(reply) = self.replies.next(&mut rest)? {
            let kind = *self
                .sent
                .get(self.answered)
                .ok_or("the server sent a reply that nobody asked for")?;
            self.answered += 1;
            counts[kind.index()] += 1;
            stats.check(kind, reply);
        }
        for kind in Kind::EVERY {
            stats.record(kind, latency, counts[kind.index()]);
        }
        Ok(())
    }
}

impl Stats {
    /// Notes what a reply says beside that it came.
    fn check(&mut self, kind: Kind, reply: Reply) {
        match (kind, reply) {
            (Kind::Get, Reply::Bulk) | (Kind::Set, Reply::Status) => {}
            (Kind::Get, Reply::Null) => self.misses += 1,
            (_, Reply::Error(text)) => self.error(kind, || text),
            (_, other) => self.error(kind, || {
                format!("unexpected reply to {}: {other:?}", kind.name())
            }),
        }
    }
}
