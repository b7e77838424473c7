//! The other nodes, in a shard's turn: what they have sent is handed to the replicas, what the replicas
//! decide is sent, and promises of support are asked for and given. What the bytes are is known to
//! `peer` (frames), `consensus` (messages of replicas) and `distant` (commands).
//!
//! A turn: the log's news and what peers sent first, then the clients' commands, then this turn's
//! entries, which leave in the same frame as the answers to what was received.
//!
//! Invariants:
//! 1. A message that says what this node has made durable leaves after it is.
//! 2. The time that leases are judged by was read after the turn's input was received.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::raft::Event as RaftEvent;
use ashlar_consensus::support::{Disk, SupportOutput};
use ashlar_consensus::{Incarnation, Index, Mono, NodeId, PartitionId, Supports};
use ashlar_io::Monotonic;
use ashlar_io::wal::Mark;
use ashlar_partition::{Outbox, Turn, Urgency};

use super::feed::Feeds;
use super::pace::Measured;
use super::relay::{RETRY, Relay, UNKNOWN};
use super::roster::Members;
use super::snapshots::Snapshots;
use super::{Core, Data, Owned, Waiter};
use crate::cluster::roster::KEY;
use crate::cluster::{Decree, Roster};
use crate::distant::{Outcome, kind};
use crate::message::Origin;
use crate::peer::{Event, Lane, Peers};
use crate::resp::encode::Encoder;

/// Tickets that one life of a node may give, as a power of two.
const LIFE_SHIFT: u32 = 40;

/// A message that leaves once this node's log has made true what it says.
#[derive(Debug)]
pub(super) struct Gated {
    mark: Mark,
    to: NodeId,
    partition: PartitionId,
    lane: Lane,
    bytes: Vec<u8>,
}

/// What a shard has beside its data because there are other nodes.
pub(crate) struct Cluster {
    /// The number of this node.
    pub(crate) node: NodeId,
    /// Tickets of this life are above it: an answer to an earlier life of this node finds nobody.
    pub(super) first_ticket: u64,
    pub(crate) peers: Rc<Peers>,
    pub(crate) supports: RefCell<Supports>,
    pub(super) relay: RefCell<Relay>,
    pub(super) snapshots: RefCell<Snapshots>,
    pub(super) feeds: Feeds,
    pub(super) pace: Measured,
    asked: RefCell<SupportOutput>,
    pub(super) outbox: RefCell<Outbox>,
    pub(super) gated: RefCell<VecDeque<Gated>>,
    lease_ms: u32,
    /// The durable mark when it last moved, and when that was.
    progress: Cell<(Mark, Monotonic)>,
    /// When something is due by itself, and when something of the groups is.
    deadline: Cell<Option<Mono>>,
    pub(super) members: Members,
    groups_due: Cell<Option<Mono>>,
    /// A clock that is too far ahead was told of.
    pub(super) warned: Cell<bool>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Makes the shard's part of a cluster: how it began, and who its members are.
    pub(crate) fn new(
        (node, life): (NodeId, Incarnation),
        peers: Rc<Peers>,
        mut supports: Supports,
        (decree, roster): (Decree, Roster),
        (lease_ms, now): (u32, Monotonic),
    ) -> Self {
        let others = roster.members.iter().filter(|member| member.node != node);
        others.for_each(|member| supports.want(member.node));
        Self {
            node,
            peers,
            supports: RefCell::new(supports),
            first_ticket: u64::from(life.0) << LIFE_SHIFT,
            relay: RefCell::new(Relay::new(u64::from(life.0) << LIFE_SHIFT)),
            snapshots: RefCell::new(Snapshots::new(u64::from(life.0) << LIFE_SHIFT)),
            feeds: Feeds::default(),
            pace: Measured::default(),
            asked: RefCell::default(),
            outbox: RefCell::default(),
            gated: RefCell::default(),
            lease_ms,
            progress: Cell::default(),
            deadline: Cell::new(None),
            members: Members::new(decree, roster, now),
            groups_due: Cell::new(None),
            warned: Cell::new(false),
        }
    }

    /// Says whether the log gets its writes done.
    fn disk(&self, durable: Mark, is_idle: bool, now: Monotonic) -> Disk {
        let (mark, since) = self.progress.get();
        if is_idle || durable > mark {
            self.progress.set((durable, now));
            return Disk::Working;
        }
        if now.since(since) > Duration::from_millis(u64::from(self.lease_ms / 2)) {
            return Disk::Stalled;
        }
        Disk::Working
    }

    /// Sends what is gathered; what must wait for the log is kept.
    fn send(&self, durable: Mark) {
        let mut outbox = self.outbox.borrow_mut();
        for (section, bytes) in outbox.sections() {
            let lane = match section.urgency {
                Urgency::Urgent => Lane::Urgent,
                Urgency::Bulk => Lane::Bulk,
            };
            let (to, partition) = (section.to, section.partition);
            match section.gate.filter(|mark| *mark >= durable) {
                // What does not leave is lost, and found out by the core.
                None => {
                    let _ = self
                        .peers
                        .queue(to, lane, kind::REPLICA, partition, &[bytes]);
                }
                Some(mark) => self.gated.borrow_mut().push_back(Gated {
                    mark,
                    to,
                    partition,
                    lane,
                    bytes: bytes.to_vec(),
                }),
            }
        }
        outbox.clear();
    }

    /// Sends what waited for the log.
    fn release(&self, durable: Mark) {
        let mut gated = self.gated.borrow_mut();
        while let Some(ready) = gated.pop_front_if(|gated| gated.mark < durable) {
            let Gated {
                to,
                partition,
                lane,
                bytes,
                ..
            } = ready;
            let _ = self
                .peers
                .queue(to, lane, kind::REPLICA, partition, &[&bytes]);
        }
    }

    pub(super) fn queue_urgent(&self, to: NodeId, kind: u8, bytes: &[u8]) {
        let _ = self
            .peers
            .queue(to, Lane::Urgent, kind, PartitionId(0), &[bytes]);
    }
}

impl Data {
    /// Runs something with a partition of this shard and what its group needs in this turn.
    fn with_turn<T>(
        &mut self,
        cluster: &Cluster,
        now: Mono,
        mut run: impl FnMut(&mut Owned, &mut Turn<'_>) -> T,
    ) {
        let Self {
            owned, clock, wal, ..
        } = self;
        let supports = cluster.supports.borrow();
        let mut outbox = cluster.outbox.borrow_mut();
        for owned in owned.iter_mut().flatten() {
            let mut turn = Turn {
                now,
                supports: &supports,
                wal: &mut *wal,
                clock: &mut *clock,
                outbox: &mut outbox,
            };
            run(owned, &mut turn);
        }
    }
}

impl Core {
    /// Returns this turn's time, as the consensus core counts it.
    pub(crate) fn mono(&self) -> Mono {
        Mono(self.reactor.now().0)
    }

    /// Tells the groups what the log has made durable, before it is applied, and sends what waited for
    /// that.
    pub(super) fn note_durable(&self, data: &mut Data, durable: Mark) {
        let Some(cluster) = &self.cluster else { return };
        data.with_turn(cluster, self.mono(), |owned, turn| {
            owned.partition.note_durable(durable, turn);
        });
        cluster.release(durable);
        cluster.send(durable);
    }

    /// Takes in what peers have sent, and does what is due.
    pub(super) fn hear(self: &Rc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        while let Some(incoming) = cluster.peers.next() {
            match incoming.event {
                Event::Connected { .. } => {
                    self.tell_address(incoming.from);
                    self.tell_roster(incoming.from);
                    self.tell_groups(cluster, |raft, turn, out| {
                        raft.reachable(turn.now, incoming.from, out);
                    });
                }
                Event::Disconnected => {
                    self.tell_groups(cluster, |raft, _, _| raft.unreachable(incoming.from));
                    self.relay_lost(incoming.from);
                    self.forget_waits_of(incoming.from);
                    self.asks_lost(incoming.from);
                    self.pieces_lost(incoming.from);
                }
                Event::Frame(frame) => {
                    self.take_frame(cluster, incoming.from, &frame);
                    cluster.peers.recycle(frame);
                }
            }
        }
        self.tick_support(cluster);
        self.tick_groups(cluster);
        self.take_events(cluster);
        self.run_waiting();
    }

    /// Has one group decide something.
    pub(super) fn decide_one(
        &self,
        cluster: &Cluster,
        data: &mut Data,
        partition: PartitionId,
        decide: impl FnOnce(&mut ashlar_consensus::Raft, &Turn<'_>, &mut ashlar_consensus::Output),
    ) {
        self.stir();
        let Data {
            owned, clock, wal, ..
        } = data;
        let Some(owned) = owned.get_mut(partition.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let mut turn = Turn {
            now: self.mono(),
            supports: &cluster.supports.borrow(),
            wal,
            clock,
            outbox: &mut cluster.outbox.borrow_mut(),
        };
        owned.partition.decide(&mut turn, decide);
    }

    pub(super) fn tell_groups(
        &self,
        cluster: &Cluster,
        tell: impl Fn(&mut ashlar_consensus::Raft, &Turn<'_>, &mut ashlar_consensus::Output),
    ) {
        let mut data = self.data.borrow_mut();
        self.stir();
        data.with_turn(cluster, self.mono(), |owned, turn| {
            owned.partition.decide(turn, &tell);
        });
    }

    /// Asks for support where that is due, and tells the groups of promises that began or ended.
    fn tick_support(&self, cluster: &Cluster) {
        let durable = self.data.borrow().wal.durable();
        let is_idle = self.data.borrow().wal.is_idle();
        let disk = cluster.disk(durable, is_idle, self.reactor.now());
        let mut asked = cluster.asked.borrow_mut();
        cluster
            .supports
            .borrow_mut()
            .tick(self.mono(), disk, &mut asked);
        for (to, request) in asked.requests.drain(..) {
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            cluster.queue_urgent(to, kind::SUPPORT_REQUEST, &bytes);
        }
        for node in asked.changed.drain(..) {
            self.stir();
            self.tell_groups(cluster, |raft, turn, out| {
                raft.support_changed(turn.now, node, turn.supports, out);
            });
            cluster.relay.borrow_mut().wake();
        }
    }

    /// Lets the groups do what is due.
    fn tick_groups(&self, cluster: &Cluster) {
        let now = self.mono();
        if self.rest.passes() && cluster.groups_due.get().is_none_or(|due| due > now) {
            return;
        }
        let mut data = self.data.borrow_mut();
        data.with_turn(cluster, now, |owned, turn| {
            let due = owned.partition.raft().and_then(|raft| raft.deadline());
            if due.is_some_and(|due| due <= now) {
                self.stir();
                owned.partition.decide(turn, |raft, turn, out| {
                    raft.tick(turn.now, turn.supports, out)
                });
            }
        });
    }

    /// Has the groups give back the memory that a burst has left.
    pub(super) fn shrink_groups(&self, data: &mut Data) {
        let Some(cluster) = &self.cluster else { return };
        data.with_turn(cluster, self.mono(), |owned, turn| {
            owned.partition.decide(turn, |raft, _, _| raft.shrink());
        });
    }

    /// Acts on what happened in the groups.
    fn take_events(self: &Rc<Self>, cluster: &Cluster) {
        let offers = std::mem::take(&mut cluster.outbox.borrow_mut().offers);
        for (partition, to) in offers {
            self.want_snapshot(partition, to);
        }
        let feeds = std::mem::take(&mut cluster.outbox.borrow_mut().feeds);
        if !feeds.is_empty() {
            self.feed(feeds);
        }
        let events = std::mem::take(&mut cluster.outbox.borrow_mut().events);
        for (partition, event) in events {
            match event {
                RaftEvent::BecameLeader { term } => {
                    self.lose_elsewhere(partition.0 as usize, None);
                    tracing::info!("leads partition {partition}, term {}", term.0);
                    if partition.0 as usize == self.routes.partition_of(KEY) {
                        self.refresh_roster();
                    }
                }
                RaftEvent::SteppedDown { term } => {
                    tracing::info!("no longer leads partition {partition}, term {}", term.0);
                    self.fail_waiters(partition.0 as usize);
                    self.end_waits_of(partition.0 as usize);
                }
                RaftEvent::SnapshotAccepted { from, at } => {
                    self.receive_snapshot(partition, from, at);
                }
                RaftEvent::LeaderKnown {
                    leader: Some(leader),
                } => self.lose_elsewhere(partition.0 as usize, Some(leader.node)),
                RaftEvent::Removed => {
                    tracing::warn!(
                        "the replica of partition {partition} here is no member any more"
                    );
                }
                RaftEvent::Remembers => self.note_remembers(partition),
                RaftEvent::Alarm(alarm) => {
                    let what = format!("its log and its leader's differ: {alarm:?}");
                    let mut data = self.data.borrow_mut();
                    data.owned_mut(partition.0 as usize)
                        .partition
                        .give_up(&what);
                }
                _ => {}
            }
            cluster.relay.borrow_mut().wake();
        }
    }

    /// Answers everybody who waits for an entry of this partition that nobody knows what becomes of
    /// it.
    fn fail_waiters(self: &Rc<Self>, partition: usize) {
        let (waiters, applied) = {
            let mut data = self.data.borrow_mut();
            let owned = data.owned_mut(partition);
            owned.lives += 1;
            owned.applied_before = owned.partition.applied();
            // What is applied is known; it may wait for the clock.
            let known = |(index, _): &(Index, Waiter)| *index <= owned.applied_before;
            let unknown = owned.waiters.partition_point(known);
            (owned.waiters.split_off(unknown), owned.applied_before)
        };
        let mut again = VecDeque::new();
        for (_, waiter) in waiters {
            match waiter {
                Waiter::Connection(connection) => {
                    connection.registered.take();
                    let mut replies = connection.replies.borrow_mut();
                    replies.fail((partition, applied), UNKNOWN);
                    drop(replies);
                    self.release_replies(&connection);
                }
                Waiter::Forward(_, _, _, Some(forward)) => again.push_back(forward),
                Waiter::Forward(Origin::Node(node), ticket, ..) => {
                    self.reply_to_node(node, ticket, Outcome::Unknown, b"");
                }
                Waiter::Forward(to, ticket, ..) => {
                    let mut reply = Vec::new();
                    Encoder::new(&mut reply, crate::resp::Version::Resp2).error(UNKNOWN);
                    self.reply_to(to, ticket, reply);
                }
                Waiter::Task(waker) => waker.wake(),
                // Nobody knows whether it happened.
                Waiter::Notices(_) => {}
            }
        }
        self.send_again(again);
    }

    /// Has the groups agree on this turn's entries, and sends one frame to each peer. The log's writes
    /// have been started.
    pub(super) fn drain_groups(&self, data: &mut Data) {
        let Some(cluster) = &self.cluster else { return };
        if !self.rest.passes() {
            let mut groups_due = None;
            data.with_turn(cluster, self.mono(), |owned, turn| {
                owned.partition.agree(turn);
                let due = owned.partition.raft().and_then(|raft| raft.deadline());
                groups_due = [groups_due, due].into_iter().flatten().min();
            });
            cluster.groups_due.set(groups_due);
        }
        let support_due = cluster.supports.borrow().deadline();
        let due = [support_due, cluster.groups_due.get()]
            .into_iter()
            .flatten()
            .min();
        cluster.deadline.set(due);
    }

    /// Sends one frame to each peer.
    pub(super) fn flush_peers(&self, data: &Data) {
        let Some(cluster) = &self.cluster else { return };
        cluster.send(data.wal.durable());
        let interval = self.own_interval();
        cluster.peers.flush(data.clock.last(), interval);
    }

    /// Returns when something is due by itself.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        let due = [self.cluster_deadline(), self.clock_deadline()];
        due.into_iter().flatten().min()
    }

    /// Returns when something of the cluster is due by itself.
    fn cluster_deadline(&self) -> Option<Monotonic> {
        let cluster = self.cluster.as_ref()?;
        let retry = cluster
            .relay
            .borrow()
            .is_waiting()
            .then(|| self.reactor.now() + RETRY);
        let due = cluster.deadline.get().map(|due| Monotonic(due.0));
        [retry, due].into_iter().flatten().min()
    }
}
