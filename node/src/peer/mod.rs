//! Other nodes, as one shard talks to them: one TCP connection per shard and peer, one frame per
//! peer and turn. What the sections of a frame say is not known here, nor who leads whom.
//!
//! Shard `s` of each node talks to shard `s` of every other. It listens at the port
//! `cluster.peer_listen + s`, so that no socket has to change its thread; therefore all nodes of a
//! cluster have the same number of shards. The node with the greater number calls, the other waits.
//!
//! # Layout
//! - [`greeting`], [`identity`]: what is said before frames flow, and whether somebody is who it
//!   should be.
//! - [`frame`], [`assembly`], `outbox`: the bytes of frames, received and sent.
//! - `link`: one peer; `connection`: the tasks that connect and receive, `patience`: how long they
//!   wait, `intake`: what they tell. `status`: what can be told of a peer.
//!
//! # A turn
//! ```text
//! reap, run tasks     frames become events       Peers::next until it has none
//! decide              answers become sections    Peers::queue
//! end of the turn     sections become frames     Peers::flush, then the reactor parks and sends
//! ```
//!
//! Invariants:
//! 1. Events of a peer are in order: connected, frames in the order in which they were sent and
//!    without a gap, disconnected. What is lost, is lost with the connection.
//! 2. For each peer at most [`Options::queue_bytes_max`], or one larger section, is queued and
//!    unsent; what comes on top is not taken. As many received bytes wait to be taken by this
//!    shard; then its sockets wait.

pub mod assembly;
pub(crate) mod connection;
pub(crate) mod cursor;
pub mod frame;
pub mod greeting;
pub mod identity;
mod intake;
mod link;
mod outbox;
pub(crate) mod patience;
mod status;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use ashlar_consensus::{NodeId, PartitionId, Timestamp};
use ashlar_io::{Listener, Reactor};

use self::frame::{Frame, Interval, SECTION_BYTES};
pub use self::identity::Identity;
use self::link::Link;
pub use self::outbox::Lane;
pub use self::status::{State, Status, Tally};
use crate::cluster::{Decree, Member, Roster, shard_addr};
use crate::config::Config;

/// Buffers of received frames that are kept for the next ones.
const SPARES_MAX: usize = 8;
/// Largest such buffer, in bytes.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// How a shard talks to its peers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where shard 0 listens for peers; shard `s` listens `s` ports above.
    pub listen: SocketAddr,
    /// Largest body of a frame, in bytes; of two nodes the smaller counts.
    pub frame_bytes_max: u32,
    /// Most bytes that are queued or unsent for one peer, and most that are received and not taken.
    pub queue_bytes_max: u64,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// Silence after which a peer is disconnected. This node lets none hear nothing for more than
    /// an eighth of it, as long as it flushes.
    pub silence: Duration,
}

impl Options {
    /// Returns the options of a configuration, when it has a cluster.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        Some(Self {
            listen: config.cluster.peer_listen?,
            frame_bytes_max: config.peer.frame_bytes_max,
            queue_bytes_max: config.peer.queue_bytes_max,
            handshake: ms(config.peer.handshake_ms),
            silence: ms(config.peer.silence_ms),
        })
    }
}

/// What became of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It leaves with the next flush.
    Taken,
    /// Too much waits for this peer: the circuit is broken until it has taken some of it.
    Full,
    /// There is no connection to this peer.
    Down,
}

/// What happened with a peer.
#[derive(Debug)]
pub enum Event {
    /// It is connected. What was sent on an earlier connection may be lost.
    Connected {
        /// Which of its lives the peer is in.
        incarnation: u32,
    },
    /// It is no longer connected.
    Disconnected,
    /// A frame came. Give it back with [`Peers::recycle`].
    Frame(Frame),
}

/// An event, and the peer that it is of.
#[derive(Debug)]
pub struct Incoming {
    /// The peer.
    pub from: NodeId,
    /// What happened.
    pub event: Event,
}

/// A shard cannot listen for its peers.
#[derive(Debug, thiserror::Error)]
#[error("shard {shard} cannot listen for peers on port {listen} + {shard}: {error}")]
pub struct ListenError {
    shard: u32,
    listen: SocketAddr,
    error: std::io::Error,
}

/// The peers of one shard. Not `Send`, and never shared between threads.
pub struct Peers {
    reactor: Reactor,
    identity: Identity,
    options: Options,
    own_name: RefCell<String>,
    links: RefCell<BTreeMap<NodeId, Rc<Link>>>,
    incoming: RefCell<VecDeque<Incoming>>,
    incoming_bytes: Cell<usize>,
    /// Tasks that wait until received bytes were taken.
    crowded: RefCell<Vec<Waker>>,
    spares: RefCell<Vec<Vec<u8>>>,
    connections: Cell<u64>,
    handshakes: Cell<u32>,
    /// What was last logged of callers that are no members.
    stranger: RefCell<String>,
    /// What nodes that look for their cluster are told.
    cluster: RefCell<Option<(Decree, Roster)>>,
    /// A newer roster that somebody told of.
    heard: RefCell<Option<Roster>>,
    started: Cell<bool>,
    stopping: Cell<bool>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Peers {
    /// Makes the peers of a shard: all `members` but its own node, which is one of them. Nothing
    /// happens before [`Peers::start`].
    #[must_use]
    pub fn new(
        reactor: &Reactor,
        identity: Identity,
        members: &[Member],
        options: Options,
    ) -> Rc<Self> {
        let peers = Rc::new(Self {
            reactor: reactor.clone(),
            identity,
            options,
            own_name: RefCell::new(format!("node {}", identity.node.0)),
            links: RefCell::default(),
            incoming: RefCell::default(),
            incoming_bytes: Cell::default(),
            crowded: RefCell::default(),
            spares: RefCell::default(),
            connections: Cell::default(),
            handshakes: Cell::default(),
            stranger: RefCell::default(),
            cluster: RefCell::default(),
            heard: RefCell::default(),
            started: Cell::default(),
            stopping: Cell::default(),
        });
        peers.set_members(members);
        peers
    }

    /// Listens for peers, and begins to call those that are to be called.
    ///
    /// # Errors
    /// The port cannot be listened on.
    ///
    /// # Panics
    /// When it was called before.
    pub fn start(self: &Rc<Self>) -> Result<(), ListenError> {
        let (shard, listen) = (self.identity.shard, self.options.listen);
        let failed = |error| ListenError {
            shard,
            listen,
            error,
        };
        let no_port = || std::io::Error::other("there is no such port");
        let addr = shard_addr(listen, shard).ok_or_else(|| failed(no_port()))?;
        let listener = Listener::bind(&self.reactor, addr).map_err(failed)?;
        assert!(!self.started.replace(true), "peers are started once");
        self.reactor
            .spawn(connection::listen(Rc::clone(self), listener));
        for link in self.links.borrow().values() {
            self.start_link(link);
        }
        Ok(())
    }

    fn start_link(self: &Rc<Self>, link: &Rc<Link>) {
        if self.identity.dials(link.node()) {
            let task = connection::dial(Rc::clone(self), Rc::clone(link));
            self.reactor.spawn(task);
        }
    }

    /// Takes the members as they are now: those that went are disconnected, those that moved are
    /// called at their new address.
    pub fn set_members(self: &Rc<Self>, members: &[Member]) {
        let own = |member: &&Member| member.node == self.identity.node;
        if let Some(own) = members.iter().find(own) {
            self.own_name.borrow_mut().clone_from(&own.name);
        }
        let gone = |link: &&Rc<Link>| {
            let node = link.node();
            let same =
                |member: &Member| member.node == node && member.store == link.member.borrow().store;
            !members.iter().any(same)
        };
        let gone: Vec<Rc<Link>> = self.links.borrow().values().filter(gone).cloned().collect();
        for link in gone {
            link.removed.set(true);
            self.end(&link);
            self.links.borrow_mut().remove(&link.node());
        }
        for member in members.iter().filter(|member| !own(member)) {
            self.set_member(member);
        }
    }

    fn set_member(self: &Rc<Self>, member: &Member) {
        let known = self.links.borrow().get(&member.node).cloned();
        if let Some(link) = known {
            let moved = link.addr() != member.addr;
            *link.member.borrow_mut() = member.clone();
            if moved {
                self.end(&link);
            }
            return;
        }
        let link = Rc::new(Link::new(member.clone(), self.apart(member.node)));
        self.links
            .borrow_mut()
            .insert(member.node, Rc::clone(&link));
        if self.started.get() {
            self.start_link(&link);
        }
    }

    /// Returns the state of a peer that is not connected.
    fn apart(&self, node: NodeId) -> State {
        if self.identity.dials(node) {
            State::Waiting
        } else {
            State::Awaited
        }
    }

    /// Has this shard tell who the members are: shard 0 those that look for their cluster, each those that
    /// take it for a stranger.
    pub fn set_cluster(&self, decree: Decree, roster: Roster) {
        *self.cluster.borrow_mut() = Some((decree, roster));
    }

    /// Has this shard tell them who the members are now.
    pub fn set_roster(&self, roster: &Roster) {
        if let Some((_, known)) = &mut *self.cluster.borrow_mut() {
            known.clone_from(roster);
        }
    }

    /// Returns a newer roster, if somebody who was taken for a stranger has told of one.
    pub fn take_heard(&self) -> Option<Roster> {
        self.heard.take()
    }

    /// Ends all connections; none is made again. What was not yet sent is lost.
    pub fn stop(&self) {
        if self.stopping.replace(true) {
            return;
        }
        let links: Vec<Rc<Link>> = self.links.borrow().values().cloned().collect();
        links.iter().for_each(|link| self.end(link));
    }

    fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Queues a section for a peer; its payload is the `parts`, one after another. It leaves with
    /// the next [`Peers::flush`].
    ///
    /// A section may be larger than a frame; it then travels in several. Larger than
    /// [`Options::queue_bytes_max`] it is taken when nothing else is queued.
    ///
    /// # Panics
    /// When the payload is above [`PAYLOAD_BYTES_MAX`](frame::PAYLOAD_BYTES_MAX).
    pub fn queue(
        &self,
        to: NodeId,
        lane: Lane,
        kind: u8,
        partition: PartitionId,
        parts: &[&[u8]],
    ) -> Queued {
        let links = self.links.borrow();
        let Some(link) = links.get(&to).filter(|link| link.is_connected()) else {
            return Queued::Down;
        };
        let bytes: usize = SECTION_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
        let unsent = link.unsent_bytes();
        if unsent > 0 && (unsent + bytes) as u64 > self.options.queue_bytes_max {
            link.count(|tally| tally.refused += 1);
            return Queued::Full;
        }
        let max = link.frame_bytes_max.get() as usize;
        link.outbox
            .borrow_mut()
            .push(lane, (kind, partition), parts, max);
        Queued::Taken
    }

    /// Returns the peers that are connected, in order of their numbers.
    #[must_use]
    pub fn reachable(&self) -> Vec<NodeId> {
        let links = self.links.borrow();
        let connected = links.values().filter(|link| link.is_connected());
        connected.map(|link| link.node()).collect()
    }

    /// Says whether so little waits for a peer that what may be lost can be queued without keeping out what may not.
    #[must_use]
    pub fn has_room(&self, node: NodeId) -> bool {
        let links = self.links.borrow();
        let unsent = links.get(&node).map_or(0, |link| link.unsent_bytes());
        (unsent as u64) < self.options.queue_bytes_max / 4
    }

    /// Ends a turn: makes a frame for each peer of what was queued for it, and gives it to its
    /// socket. A peer that has heard nothing for long gets a frame without sections.
    pub fn flush(&self, clock: Timestamp, interval: Interval) {
        let now = self.reactor.now();
        for link in self.links.borrow().values() {
            link.flush(&self.identity, (clock, interval), &self.options, now);
        }
    }

    /// Returns what happened next with any peer.
    pub fn next(&self) -> Option<Incoming> {
        let incoming = self.incoming.borrow_mut().pop_front()?;
        if let Event::Frame(frame) = &incoming.event {
            let left = self.incoming_bytes.get() - frame.memory_bytes();
            self.incoming_bytes.set(left);
            if !self.is_crowded() {
                self.crowded.take().into_iter().for_each(Waker::wake);
            }
        }
        Some(incoming)
    }

    /// Takes a frame back, for the memory that it holds.
    pub fn recycle(&self, frame: Frame) {
        let mut spares = self.spares.borrow_mut();
        if spares.len() < SPARES_MAX && frame.body.capacity() <= SPARE_BYTES_MAX {
            let mut spare = frame.body;
            spare.clear();
            spares.push(spare);
        }
    }

    /// Ends the connection to a peer, for a reason that is logged; it is made anew.
    pub fn disconnect(&self, node: NodeId, why: &str) {
        let link = self.links.borrow().get(&node).cloned();
        if let Some(link) = link.filter(|link| link.is_connected()) {
            tracing::warn!("the connection to node {} is ended: {why}", node.0);
            self.end(&link);
        }
    }

    /// Asks those that should call this node, and do not, why that is.
    pub fn knock(self: &Rc<Self>) {
        for link in self.links.borrow().values() {
            if !self.identity.dials(link.node()) && !link.is_connected() {
                let asking = connection::knock(Rc::clone(self), Rc::clone(link));
                self.reactor.spawn(asking);
            }
        }
    }

    /// Returns the peers that have said of this node that it was removed, and that no group of theirs counts on it.
    #[must_use]
    pub fn denied_by(&self) -> Vec<NodeId> {
        let links = self.links.borrow();
        let denying = links.values().filter(|link| link.denies.get());
        denying.map(|link| link.node()).collect()
    }

    /// Says whether a peer is connected.
    #[must_use]
    pub fn is_connected(&self, node: NodeId) -> bool {
        let links = self.links.borrow();
        links.get(&node).is_some_and(|link| link.is_connected())
    }

    /// Returns how things are with each peer, in order of their numbers.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let links = self.links.borrow();
        links.values().map(|link| link.status()).collect()
    }
}
