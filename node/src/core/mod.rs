//! What the tasks of one shard share: its partitions and log, its connections, what it has asked of
//! other shards and what it owes them. Borrowed inside one call only, never across an await.
//!
//! Invariants:
//! 1. Only the owner of a partition touches it; other shards ask by message.
//! 2. An answer to another shard leaves after what it says is durable, like a reply to a client.
//! 3. Requests for one partition run in the order in which they arrived from each connection.

mod admission;
mod blocking;
pub(crate) mod channels;
pub(crate) mod cluster;
mod counting;
mod data;
mod feed;
mod fetch;
mod heard;
mod lanes;
mod messages;
mod once;
mod pace;
mod questions;
mod relay;
mod release;
mod repair;
mod rest;
mod roster;
mod run;
mod sight;
mod snapshots;
pub mod space;
mod sweeper;
mod time;
mod upkeep;
mod warm;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use ashlar_consensus::Index;
use ashlar_io::Reactor;
use ashlar_io::queue::Sender;
use ashlar_io::wal::{Failed, Mark};
use ashlar_partition::collection::Family;
use ashlar_partition::lsm::Ground;
use ashlar_partition::lsm::manifest::Manifest;
use ashlar_partition::lsm::scrub::Scrub;

pub use self::admission::Admitted;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::data::Data;
use self::data::{Owned, Waiter};
pub use self::fetch::Fetched;
use self::lanes::Lanes;
pub(crate) use self::messages::AHEAD_COMMANDS;
pub(crate) use self::once::token_bytes;
use self::questions::Asking;
use self::repair::Repairs;
use self::rest::Rest;
pub use self::run::Ran;
pub(crate) use self::run::run_noticing;
use self::space::Watch;
use self::sweeper::Sweeper;
use self::time::Timekeeper;
pub use self::time::{Stance, Times};
use self::upkeep::Upkeep;
use self::warm::Warming;
pub(crate) use self::watch::Timer;
use self::watch::Watched;
use crate::blocked::Blocked;
use crate::client::batch::Batch;
use crate::command::spread::Answer;
use crate::config::Config;
use crate::connection::Connection;
use crate::message::{Forward, Message, Ticket};
use crate::pubsub::hub::Hub;
use crate::pubsub::notice::Notice;
use crate::route::Routes;
use crate::shared::Shared;
use crate::stats::ShardCounters;

/// What a recovered shard consists of.
pub(crate) type Parts = (Data, Ground, Manifest);

/// What was asked of another shard, and for whom.
enum Asked {
    /// A command's reply, for a connection, from the shard with this number.
    Reply(Rc<Connection>, u32),
    Task {
        answer: Option<Answer>,
        waker: Option<Waker>,
    },
}

#[derive(Default)]
struct Outbox {
    /// What the other shard's inbox had no room for.
    waiting: VecDeque<Message>,
}

/// What the tasks of a shard share.
pub struct Core {
    /// Number of this shard.
    pub shard: u32,
    /// Its machine.
    pub reactor: Reactor,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// Where keys are.
    pub routes: Routes,
    config: RefCell<Rc<Config>>,
    config_version: Cell<u64>,
    pub(crate) data: RefCell<Data>,
    /// What the tables of this shard stand on.
    pub(crate) ground: Ground,
    upkeep: Upkeep,
    space: Watch,
    timekeeper: Timekeeper,
    scrub: Scrub,
    sweeper: Sweeper,
    pub(crate) connections: RefCell<BTreeMap<u64, Rc<Connection>>>,
    /// Those of them that are subscribed to channels.
    pub(crate) hub: Hub,
    /// What happened to keys and waits for nothing.
    due_notices: RefCell<Vec<Notice>>,
    /// Connections whose messages wait for their sockets.
    choked: RefCell<Vec<Rc<Connection>>>,
    peers: Vec<Sender<Message>>,
    outboxes: RefCell<Vec<Outbox>>,
    asked: RefCell<BTreeMap<Ticket, Asked>>,
    /// What was asked of other nodes.
    asking: RefCell<BTreeMap<Ticket, Asking>>,
    /// The other nodes, if there are any.
    pub(crate) cluster: Option<Cluster>,
    next_ticket: Cell<u64>,
    /// Commands of other shards that were not admitted yet.
    deferred: RefCell<VecDeque<Box<Forward>>>,
    /// One of them, or of those in lanes, waits for blocks.
    fetching: Cell<bool>,
    /// What it waited for; and what it is answered with when that could not be read.
    fetched: RefCell<Fetched>,
    unreadable: RefCell<Option<(Ticket, String)>>,
    /// Commands that wait for elements.
    blocked: RefCell<Blocked>,
    /// Of the connection that is running its commands.
    pub(crate) batch: RefCell<Batch>,
    warming: RefCell<Warming>,
    /// Keys that have got elements, by partition, which those are to be run for.
    ready: RefCell<VecDeque<(usize, Family, Vec<u8>)>>,
    /// They are being run.
    is_serving: Cell<bool>,
    /// Large answers on their way to connections of other shards.
    lanes: RefCell<Lanes>,
    /// Connections that took such, which their shards have not been told of.
    owing: RefCell<Vec<Rc<Connection>>>,
    /// Tasks that wait for the next turn.
    turn_waiters: RefCell<Vec<Waker>>,
    hurry: Cell<bool>,
    turn_commands: Cell<u32>,
    now: Cell<(u64, u64)>,
    repairs: Repairs,
    rest: Rest,
    watched: Watched,
    /// The log's durable mark as of this turn.
    durable: Cell<Mark>,
    /// How long that command took.
    last_nanos: Cell<u64>,
    stopping: Cell<bool>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn new(
        shard: u32,
        reactor: &Reactor,
        shared: Arc<Shared>,
        routes: Routes,
        peers: Vec<Sender<Message>>,
        ((data, ground, manifest), cluster): (Parts, Option<Cluster>),
    ) -> Self {
        let outboxes = peers.iter().map(|_| Outbox::default()).collect();
        let config = Rc::new(shared.config());
        let is_timed = config.io.timing;
        Self {
            shard,
            reactor: reactor.clone(),
            routes,
            config: RefCell::new(config),
            config_version: Cell::new(shared.config_version()),
            shared,
            data: RefCell::new(data),
            scrub: Scrub::new(&ground),
            sweeper: Sweeper::default(),
            ground,
            upkeep: Upkeep::new(manifest),
            space: Watch::default(),
            timekeeper: Timekeeper::default(),
            connections: RefCell::default(),
            hub: Hub::default(),
            due_notices: RefCell::default(),
            choked: RefCell::default(),
            peers,
            outboxes: RefCell::new(outboxes),
            asked: RefCell::default(),
            asking: RefCell::default(),
            next_ticket: Cell::new(cluster.as_ref().map_or(0, |cluster| cluster.first_ticket)),
            cluster,
            deferred: RefCell::default(),
            fetching: Cell::new(false),
            fetched: RefCell::default(),
            unreadable: RefCell::default(),
            blocked: RefCell::default(),
            batch: RefCell::default(),
            warming: RefCell::default(),
            ready: RefCell::default(),
            is_serving: Cell::new(false),
            lanes: RefCell::default(),
            owing: RefCell::default(),
            turn_waiters: RefCell::default(),
            hurry: Cell::new(false),
            turn_commands: Cell::new(0),
            now: Cell::new((0, 0)),
            repairs: Repairs::default(),
            rest: Rest::default(),
            watched: Watched::new(is_timed),
            durable: Cell::default(),
            last_nanos: Cell::new(0),
            stopping: Cell::new(false),
        }
    }

    /// Returns the counters of this shard.
    #[must_use]
    pub fn counters(&self) -> &ShardCounters {
        &self.shared.stats.shards()[self.shard as usize]
    }

    /// Returns the configuration, as of the last tick.
    #[must_use]
    pub fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    /// Takes the time: that of the wall, unless the hybrid clock or an earlier turn was ahead of
    /// it. What has expired does not come back when a clock is set.
    fn time(&self) -> (u64, u64) {
        let given_us = self.data.borrow().clock.last().micros();
        let now_us = self.reading_us().max(given_us).max(self.now.get().1);
        (now_us / 1000, now_us)
    }

    /// Returns the time of this turn, in milliseconds and microseconds since 1970.
    #[must_use]
    pub fn now(&self) -> (u64, u64) {
        self.now.get()
    }

    /// Says whether the node is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn stop(&self) {
        if !self.stopping.replace(true) {
            self.hand_over();
            self.end_waits();
            self.data.borrow().wal.wind_down();
        }
        self.hurry.set(true);
    }

    /// Ends the connections that have taken all their replies. Called while the node is stopping.
    pub(crate) fn end_settled(&self) {
        for connection in self.connections.borrow().values() {
            if connection.replies.borrow().is_empty() && connection.sender.unsent_bytes() == 0 {
                connection.sender.shut_down();
            }
        }
    }

    /// Begins a turn: takes the time, applies what the log has made durable, releases what waited
    /// for it.
    pub(crate) fn settle(self: &Rc<Self>) -> Result<(), Failed> {
        self.keep_time();
        self.now.set(self.time());
        self.turn_commands.set(0);
        self.hurry.set(false);
        self.watch_turn();
        let mut batch = None;
        let mut released = Vec::new();
        {
            let mut data = self.data.borrow_mut();
            let durable = data.wal.poll()?;
            self.rest.begin_turn(self.reactor.now());
            if self.durable.replace(durable) != durable || self.is_stopping() {
                self.stir();
            }
            if self.rest.begins() {
                self.shrink_groups(&mut data);
            }
            if !self.rest.passes() {
                batch = self.note_batch(durable);
                self.apply_durable(&mut data, durable, &mut released);
                self.admit_turn(&mut data);
            }
        }
        released
            .into_iter()
            .for_each(|(_, waiter)| self.release(waiter));
        self.release_choked();
        self.note_applied(batch);
        self.hear();
        self.turn_waiters.take().into_iter().for_each(Waker::wake);
        self.tell_taken();
        self.run_lanes();
        self.run_deferred();
        self.end_due();
        Ok(())
    }

    /// Applies what the log has made durable, and gathers those who waited for it.
    fn apply_durable(&self, data: &mut Data, durable: Mark, released: &mut Vec<(Index, Waiter)>) {
        self.note_durable(data, durable);
        for owned in data.owned.iter_mut().flatten() {
            owned.partition.settle(durable);
        }
        self.wait_for_clock(data);
        for owned in data.owned.iter_mut().flatten() {
            let told = owned.waits.told();
            let is_done = |(index, _): &mut (Index, Waiter)| *index <= told;
            while let Some(done) = owned.waiters.pop_front_if(is_done) {
                released.push(done);
            }
        }
    }

    /// Has this turn, and those of the next second, look at every partition.
    pub(crate) fn stir(&self) {
        self.rest.stir(self.reactor.now());
    }

    /// Counts a command of this turn; `false` when the turn has had enough.
    pub(crate) fn count_command(&self) -> bool {
        self.stir();
        let commands = self.turn_commands.get() + 1;
        self.turn_commands.set(commands);
        commands <= self.config.borrow().io.turn_commands_max
    }

    /// Says whether commands were run in this turn.
    pub(crate) fn has_run_commands(&self) -> bool {
        self.turn_commands.get() > 0
    }

    /// Waits for the next turn. `hurry` has the turn come at once; without, it comes when something
    /// has happened.
    pub(crate) async fn next_turn(&self, hurry: bool) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.turn_waiters.borrow_mut().push(context.waker().clone());
            if hurry {
                self.hurry.set(true);
            }
            Poll::Pending
        })
        .await;
    }

    /// Says whether the next turn should come at once.
    pub(crate) fn is_hurried(&self) -> bool {
        self.hurry.get()
            || self
                .outboxes
                .borrow()
                .iter()
                .any(|outbox| !outbox.waiting.is_empty())
    }

    /// Makes the next turn come at once.
    pub(crate) fn hurry(&self) {
        self.hurry.set(true);
    }

    /// Ends a turn: gives the entries of this turn to the log, starts its writes, sends the
    /// messages.
    pub(crate) fn drain(&self) {
        self.tell_due_notices();
        {
            let mut data = self.data.borrow_mut();
            let Data {
                owned, clock, wal, ..
            } = &mut *data;
            let mut partitions = owned.iter_mut().flatten().map(|owned| &mut owned.partition);
            if self.rest.passes() {
                debug_assert!(
                    partitions.all(|partition| partition.is_drained()),
                    "who proposes stirs"
                );
            } else {
                partitions.for_each(|partition| {
                    partition.drain(wal, clock);
                });
            }
            self.drain_groups(&mut data);
            self.watch_batch(&data);
            data.wal.flush();
            self.flush_peers(&data);
            // Told before the replies leave: a reader of the past asks for all that was acknowledged.
            (self.counters().last_timestamp).store(data.clock.last().0, Ordering::Release);
        }
        for (outbox, peer) in self.outboxes.borrow_mut().iter_mut().zip(&self.peers) {
            let mut sent = false;
            while let Some(message) = outbox.waiting.pop_front() {
                if let Err(message) = peer.push(message) {
                    outbox.waiting.push_front(message);
                    break;
                }
                sent = true;
            }
            if sent {
                peer.notify();
            }
        }
    }
}
