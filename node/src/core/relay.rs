//! Commands whose partition another node leads: relayed to it, and its replies handed on. Commands
//! whose partition nobody leads wait a while for a leader. Not the commands of other shards of this
//! node, which come here like those of other nodes: see `messages`.
//!
//! Every command is in one place: here until it is sent, then with the node that it was sent to, then
//! here again if that node says that it does not lead and has done nothing. So a command runs once; when
//! the connection to the node is lost on the way, nobody knows whether it ran, and the reply says so.
//!
//! Invariant: what is relayed is bounded by what the connections of this node may await, and by what
//! other nodes may have queued.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::{NodeId, PartitionId};
use ashlar_io::Monotonic;
use ashlar_partition::Standing;

use super::Core;
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
    forward: Box<Forward>,
}

/// The commands of a shard that are with other nodes or wait for one.
#[derive(Debug, Default)]
pub(super) struct Relay {
    last: u64,
    /// With the node that leads their partition, by the ticket that it was given.
    sent: BTreeMap<Ticket, (NodeId, Held)>,
    waiting: VecDeque<Held>,
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

    /// Returns how many commands are with other nodes or wait for a leader.
    fn held(&self) -> usize {
        self.sent.len() + self.waiting.len()
    }

    /// Says whether any command waits for a leader.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
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
        let since = self.reactor.now();
        self.relay_held(Held { since, forward });
    }

    fn relay_held(self: &Rc<Self>, held: Held) {
        let Some(cluster) = &self.cluster else {
            unreachable!("a lone node leads everything");
        };
        let partition = held.forward.partition;
        let to = match self.standing(partition) {
            Standing::Follows(leader) if leader.node != cluster.node => leader.node,
            _ => return self.hold(held),
        };
        if let Origin::Node(node) = held.forward.from {
            // It may know better by now; if not, it waits there.
            return self.reply_to_node(node, held.forward.ticket, Outcome::Elsewhere, b"");
        }
        let mut relay = cluster.relay.borrow_mut();
        relay.last += 1;
        let ticket = Ticket(relay.last);
        let mut bytes = Vec::new();
        distant::encode_forward(&held.forward, ticket, &mut bytes);
        let id = partition_id(partition);
        let queued = cluster
            .peers
            .queue(to, Lane::Bulk, kind::FORWARD, id, &[&bytes]);
        if queued == Queued::Taken {
            relay.sent.insert(ticket, (to, held));
        } else {
            relay.waiting.push_back(held);
        }
    }

    fn hold(&self, held: Held) {
        let Some(cluster) = &self.cluster else { return };
        if let Origin::Node(node) = held.forward.from {
            self.reply_to_node(node, held.forward.ticket, Outcome::Elsewhere, b"");
        } else {
            cluster.relay.borrow_mut().waiting.push_back(held);
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
        for held in waiting {
            if now >= held.since + PATIENCE {
                self.give_up(&held.forward);
            } else if self.standing(held.forward.partition) == Standing::Serves {
                self.deferred.borrow_mut().push_back(held.forward);
            } else {
                self.relay_held(held);
            }
        }
        self.run_deferred();
    }

    fn give_up(&self, forward: &Forward) {
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
        let sent = cluster.relay.borrow_mut().sent.remove(&ticket);
        let Some((_, held)) = sent else { return };
        match outcome {
            Outcome::Ran => {
                let Forward { from, ticket, .. } = *held.forward;
                self.reply_to(from, ticket, reply.to_vec());
            }
            Outcome::Elsewhere => self.hold(held),
        }
    }

    /// Takes in that the connection to a node is lost: what it was asked may have been done.
    pub(super) fn relay_lost(&self, node: NodeId) {
        let Some(cluster) = &self.cluster else { return };
        let mut lost = Vec::new();
        {
            let mut relay = cluster.relay.borrow_mut();
            let of = relay.sent.extract_if(.., |_, (to, _)| *to == node);
            lost.extend(of.map(|(_, (_, held))| held));
        }
        for held in lost {
            if !held.forward.command.writes() {
                self.hold(held);
                continue;
            }
            let Forward {
                from,
                ticket,
                version,
                ..
            } = *held.forward;
            let mut reply = Vec::new();
            Encoder::new(&mut reply, version).error(UNKNOWN);
            self.reply_to(from, ticket, reply);
        }
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

/// Returns the number of a partition as nodes say it to each other.
pub(super) fn partition_id(partition: usize) -> PartitionId {
    PartitionId(u32::try_from(partition).expect("partitions are counted in u32"))
}
