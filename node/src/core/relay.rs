//! Commands whose partition another node leads: relayed to it, and its replies handed on. Commands
//! whose partition nobody leads wait a while for a leader. Not the commands of other shards of this
//! node, which come here like those of other nodes: see `messages`.
//!
//! Every command is in one place: here until it is sent, then with the node that it was sent to, then
//! here again if that node says that it does not lead and has done nothing. So a command runs once; when
//! the connection to the node is lost on the way, nobody knows whether it ran. A write of a session is
//! then sent again, for some time, since whoever leads knows whether it was done. Of another write, and
//! after that time, the reply says that nobody knows.
//!
//! Writes without a session are not given one by the node. Remembering each takes a tenth more processor time of
//! three nodes together, and a sixth more of the leader (relayed SETs of 100 bytes, 48 in flight), all the time, for
//! what is of use in the moments after a crash.
//!
//! Invariants:
//! 1. What is relayed is bounded by what the connections of this node may await, and by what other nodes
//!    may have queued.
//! 2. Commands for one partition leave in the order in which they came, those that wait for a leader
//!    included.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::{NodeId, PartitionId};
use ashlar_io::Monotonic;
use ashlar_partition::Standing;
use ashlar_partition::planted::{Planted, is_planted};

use super::Core;
use super::once::is_passing;
use crate::blocked::Ending;
use crate::distant::{self, Outcome, kind};
use crate::message::{Forward, Origin, Ticket};
use crate::peer::{Lane, Queued};
use crate::resp::encode::Encoder;
use crate::shard::Load;

/// How long a command waits for a leader.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How often those that wait are looked at, at least.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// The reply of a write whose fate is not known.
pub(crate) const UNKNOWN: &[u8] =
    b"UNKNOWN the leader was lost before it said whether this was done: it may have been, or may yet be";

/// A command that waits for a leader, or for its reply.
#[derive(Debug)]
struct Held {
    since: Monotonic,
    /// Its place among the commands of this shard for its partition.
    order: i64,
    forward: Box<Forward>,
}

/// The commands of a shard that are with other nodes or wait for one.
#[derive(Debug, Default)]
pub(super) struct Relay {
    last: u64,
    /// With the node that leads their partition, by the ticket that it was given.
    sent: BTreeMap<Ticket, (NodeId, Held)>,
    /// How many of them are of sessions, by partition and node.
    sent_to: BTreeMap<(usize, NodeId), usize>,
    /// By partition and place.
    waiting: BTreeMap<(usize, i64), Held>,
    /// The places given so far: from the first one up to the last one.
    orders: (i64, i64),
    looked: Monotonic,
    /// Something has changed: look at those that wait.
    again: bool,
}

impl Relay {
    /// Makes one whose tickets are above `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            last: first,
            ..Self::default()
        }
    }

    /// Has those that wait looked at in the next turn.
    pub(super) fn wake(&mut self) {
        self.again = true;
    }

    /// Says whether commands for a partition wait for a leader.
    fn waits_for(&self, partition: usize) -> bool {
        let of = (partition, i64::MIN)..=(partition, i64::MAX);
        self.waiting.range(of).next().is_some()
    }

    /// Returns how many commands are with other nodes or wait for a leader.
    fn held(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// Says whether any command waits for a leader.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the next place, behind all others.
    fn place(&mut self) -> i64 {
        self.orders.1 += 1;
        self.orders.1
    }

    fn wait(&mut self, held: Held) {
        self.waiting
            .insert((held.forward.partition, held.order), held);
    }

    fn sent(&mut self, ticket: Ticket, to: NodeId, held: Held) {
        if held.forward.token.is_some() {
            let key = (held.forward.partition, to);
            *self.sent_to.entry(key).or_default() += 1;
        }
        self.sent.insert(ticket, (to, held));
    }

    fn take_sent(&mut self, ticket: Ticket) -> Option<Held> {
        let (to, held) = self.sent.remove(&ticket)?;
        let key = (held.forward.partition, to);
        if held.forward.token.is_some()
            && let Some(count) = self.sent_to.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.sent_to.remove(&key);
            }
        }
        Some(held)
    }

    /// Takes back what was sent to a node and fits, in its order.
    fn take_back(&mut self, fits: impl Fn(NodeId, &Held) -> bool) -> Vec<Held> {
        let fitting = self.sent.iter().filter(|(_, (to, held))| fits(*to, held));
        let tickets: Vec<Ticket> = fitting.map(|(ticket, _)| *ticket).collect();
        let taken = tickets.into_iter();
        taken.filter_map(|ticket| self.take_sent(ticket)).collect()
    }

    /// Has a command not wait for elements any more; returns the node that it is with, and what that node is to be
    /// told.
    pub(super) fn end_wait(
        &mut self,
        asked: (Origin, Ticket),
        ending: Ending,
    ) -> Option<(NodeId, Ticket, usize)> {
        let is_it = |held: &Held| (held.forward.from, held.forward.ticket) == asked;
        if let Some(held) = self.waiting.values_mut().find(|held| is_it(held)) {
            held.forward.ended = Some(ending);
            self.wake();
            return None;
        }
        let mut sent = self.sent.iter_mut();
        let (ticket, (node, held)) = sent.find(|(_, (_, held))| is_it(held))?;
        held.forward.ended = Some(ending);
        Some((*node, *ticket, held.forward.partition))
    }

    /// Says whether commands of sessions for a partition are with another node than `leader`.
    fn is_elsewhere(&self, partition: usize, leader: Option<NodeId>) -> bool {
        let of = (partition, NodeId(0))..=(partition, NodeId(u64::MAX));
        let mut nodes = self.sent_to.range(of);
        nodes.any(|((_, node), _)| Some(*node) != leader)
    }
}

impl Core {
    /// Returns what waits on this shard for others.
    pub(crate) fn load(&self) -> Load {
        let cluster = self.cluster.as_ref();
        Load {
            relayed: cluster.map_or(0, |of| of.relay.borrow().held()),
            deferred: self.deferred.borrow().len(),
            gated: cluster.map_or(0, |of| of.gated.borrow().len()),
        }
    }

    /// Says who serves a partition of this shard.
    pub(crate) fn standing(&self, partition: usize) -> Standing {
        let Some(cluster) = &self.cluster else {
            return Standing::Serves;
        };
        let mut data = self.data.borrow_mut();
        let owned = data.owned_mut(partition);
        let supports = cluster.supports.borrow();
        owned.partition.standing(self.mono(), &supports)
    }

    /// Takes a command that cannot run here now: sends it to the leader, or has it wait for one.
    pub(super) fn relay(self: &Rc<Self>, forward: Box<Forward>) {
        let Some(cluster) = &self.cluster else {
            unreachable!("a lone node leads everything");
        };
        let order = cluster.relay.borrow_mut().place();
        self.relay_held(Held {
            since: self.reactor.now(),
            order,
            forward,
        });
    }

    /// Says whether a command comes behind others that wait for a leader. Those of other nodes do not: they
    /// wait where they came from.
    pub(super) fn is_behind(&self, forward: &Forward) -> bool {
        let Some(cluster) = &self.cluster else {
            return false;
        };
        let relay = cluster.relay.borrow();
        matches!(forward.from, Origin::Shard(_)) && relay.waits_for(forward.partition)
    }

    fn relay_held(self: &Rc<Self>, held: Held) {
        let Some(cluster) = &self.cluster else { return };
        if let Some(ending) = held.forward.ended {
            return self.end_wait(&held.forward, ending);
        }
        let partition = held.forward.partition;
        let to = match self.standing(partition) {
            Standing::Follows(leader) if leader.node != cluster.node => leader.node,
            _ => return self.hold(held),
        };
        if let Origin::Node(node) = held.forward.from {
            // It may know better by now; if not, it waits there.
            return self.reply_to_node(node, held.forward.ticket, Outcome::Elsewhere, b"");
        }
        self.lose_elsewhere(partition, Some(to));
        let mut relay = cluster.relay.borrow_mut();
        if relay.waits_for(partition) && !is_planted(Planted::OvertakesWaiting) {
            relay.wake();
            return relay.wait(held);
        }
        relay.last += 1;
        let ticket = Ticket(relay.last);
        let mut bytes = Vec::new();
        distant::encode_forward(&held.forward, ticket, &mut bytes);
        let id = partition_id(partition);
        let queued = cluster
            .peers
            .queue(to, Lane::Bulk, kind::FORWARD, id, &[&bytes]);
        match queued {
            Queued::Taken => relay.sent(ticket, to, held),
            _ => relay.wait(held),
        }
    }

    /// Takes back the commands of sessions that are with a node which does not lead their partition any
    /// more: who leads now knows what has become of them.
    pub(super) fn lose_elsewhere(&self, partition: usize, leader: Option<NodeId>) {
        let Some(cluster) = &self.cluster else { return };
        if !cluster.relay.borrow().is_elsewhere(partition, leader) {
            return;
        }
        let fits = |to: NodeId, held: &Held| {
            let forward = &held.forward;
            forward.partition == partition && Some(to) != leader && forward.token.is_some()
        };
        let taken = cluster.relay.borrow_mut().take_back(fits);
        taken.into_iter().for_each(|held| self.lose(held));
    }

    fn hold(&self, held: Held) {
        let Some(cluster) = &self.cluster else { return };
        if let Origin::Node(node) = held.forward.from {
            self.reply_to_node(node, held.forward.ticket, Outcome::Elsewhere, b"");
        } else {
            cluster.relay.borrow_mut().wait(held);
        }
    }

    /// Takes commands of sessions back that ran here, of which nobody knows whether they were done: this
    /// replica does not lead any more. They come before all that came since.
    pub(super) fn send_again(&self, forwards: VecDeque<Box<Forward>>) {
        let Some(cluster) = &self.cluster else { return };
        let first = {
            let orders = &mut cluster.relay.borrow_mut().orders;
            orders.0 -= i64::try_from(forwards.len()).expect("commands in flight are few");
            orders.0
        };
        for (order, forward) in (first..).zip(forwards) {
            self.lose(Held {
                since: self.reactor.now(),
                order,
                forward,
            });
        }
    }

    /// Looks at the commands that wait for a leader, when something has changed or some time has
    /// passed.
    pub(super) fn run_waiting(self: &Rc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let now = self.reactor.now();
        let waiting = {
            let mut relay = cluster.relay.borrow_mut();
            let is_time = now >= relay.looked + RETRY;
            if relay.waiting.is_empty() || !(relay.again || is_time) {
                return;
            }
            (relay.looked, relay.again) = (now, false);
            std::mem::take(&mut relay.waiting)
        };
        for held in waiting.into_values() {
            if self.is_over(&held, now) {
                self.give_up(&held);
            } else if self.standing(held.forward.partition) == Standing::Serves {
                self.deferred.borrow_mut().push_back(held.forward);
            } else {
                self.relay_held(held);
            }
        }
        self.run_deferred();
    }

    /// Says whether a command has waited for long enough.
    fn is_over(&self, held: &Held, now: Monotonic) -> bool {
        match held.forward.lost {
            None => now >= held.since + PATIENCE,
            Some(lost) => now >= lost + self.retries_for(),
        }
    }

    /// Returns how long a write is sent again of which nobody knows whether it was done.
    pub(super) fn retries_for(&self) -> Duration {
        Duration::from_millis(u64::from(self.config().cluster.retry_ms))
    }

    /// Answers that nobody knows whether a write was done.
    fn tell_unknown(&self, forward: &Forward) {
        let mut reply = Vec::new();
        Encoder::new(&mut reply, forward.version).error(UNKNOWN);
        self.reply_to(forward.from, forward.ticket, reply);
    }

    fn give_up(&self, held: &Held) {
        let forward = &held.forward;
        if forward.lost.is_some() {
            return self.tell_unknown(forward);
        }
        let mut reply = Vec::new();
        let text = format!(
            "CLUSTERDOWN partition {} has no leader that can be reached; nothing was done",
            forward.partition
        );
        Encoder::new(&mut reply, forward.version).error(text.as_bytes());
        self.reply_to(forward.from, forward.ticket, reply);
    }

    /// Takes in what became of a command that was relayed.
    pub(super) fn relayed(self: &Rc<Self>, ticket: Ticket, outcome: Outcome, reply: &[u8]) {
        let Some(cluster) = &self.cluster else { return };
        let sent = cluster.relay.borrow_mut().take_sent(ticket);
        let Some(held) = sent else { return };
        match outcome {
            // An earlier attempt may have been done all the same.
            Outcome::Ran if held.forward.lost.is_some() && is_undecided(reply) => {
                self.tell_unknown(&held.forward);
            }
            Outcome::Ran => {
                let Forward { from, ticket, .. } = *held.forward;
                self.reply_to(from, ticket, reply.to_vec());
            }
            Outcome::Elsewhere => self.hold(held),
            Outcome::Unknown => self.lose(held),
        }
    }

    /// Takes in that nobody knows whether a command was done.
    fn lose(&self, mut held: Held) {
        if !held.forward.command.writes() {
            return self.hold(held);
        }
        if held.forward.token.is_none() && !is_planted(Planted::RetriesUnknown) {
            return self.tell_unknown(&held.forward);
        }
        held.forward.lost.get_or_insert(self.reactor.now());
        self.hold(held);
    }

    /// Takes in that the connection to a node is lost: what it was asked may have been done.
    pub(super) fn relay_lost(&self, node: NodeId) {
        let Some(cluster) = &self.cluster else { return };
        let lost = cluster.relay.borrow_mut().take_back(|to, _| to == node);
        lost.into_iter().for_each(|held| self.lose(held));
    }

    /// Sends what became of a command to the node that asked for it.
    pub(super) fn reply_to_node(
        &self,
        node: NodeId,
        ticket: Ticket,
        outcome: Outcome,
        reply: &[u8],
    ) {
        let Some(cluster) = &self.cluster else { return };
        let mut head = Vec::new();
        distant::encode_replied(ticket, outcome, b"", &mut head);
        // When it does not leave, the connection has been lost or is about to be: the asker is told
        // by that.
        let id = PartitionId(0);
        let queued = cluster
            .peers
            .queue(node, Lane::Bulk, kind::REPLIED, id, &[&head, reply]);
        if queued == Queued::Full {
            cluster
                .peers
                .disconnect(node, "it takes replies too slowly");
        }
    }
}

/// Says whether a reply to a write that was sent again leaves open whether it was done the first time.
fn is_undecided(reply: &[u8]) -> bool {
    is_passing(reply) || reply.starts_with(b"-SESSIONOLD ") || reply.starts_with(b"-SESSIONFULL ")
}

/// Returns the number of a partition as nodes say it to each other.
pub(super) fn partition_id(partition: usize) -> PartitionId {
    PartitionId(u32::try_from(partition).expect("partitions are counted in u32"))
}
