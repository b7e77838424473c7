//! A group of replicas as the search sees it: what each is and has on its disk, and what is on its way.
//! Everything that may happen next is an [`Action`]; nothing happens by itself.
//!
//! A message that is never delivered is lost, so there is no action that loses one. Writes become durable
//! one by one, in order; a crash loses the rest. A message that can never again have an effect is dropped.

mod host;

use std::rc::Rc;

use ashlar_consensus::message::{
    EntryKind, Message, Outgoing, Signal, decode, encode_head, encode_meta,
};
use ashlar_consensus::raft::{Accepted, Event, Gate, OwnEntry, Planted, Role};
use ashlar_consensus::support::{
    Disk as Health, EarlierPromises, RequestSupport, Support, SupportOptions, SupportOutput,
};
use ashlar_consensus::types::{Chain, Incarnation, Index, Mono, NodeId, Term};
use ashlar_consensus::{
    Change, Member, Membership, Options, Output, PartitionId, Raft, ReplicaId, Start, Supports,
};

use crate::disk::{Disk, Entry, Log, State, Write};
use crate::history::History;
use crate::print::Print;

/// One unit of the search's time, in milliseconds: a promise lasts for two.
const STEP_MS: u64 = 200;

/// What may happen, and how often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bounds {
    /// The first voters are the nodes 1 to this one.
    pub(crate) voters: u64,
    /// More nodes, each with an empty replica.
    pub(crate) outsiders: u64,
    /// Whether node 1 leads at the beginning, and all are in agreement.
    pub(crate) led: bool,
    pub(crate) campaigns: u8,
    pub(crate) proposals: u8,
    pub(crate) crashes: u8,
    /// Messages that arrive twice.
    pub(crate) repeats: u8,
    pub(crate) reconnects: u8,
    pub(crate) transfers: u8,
    /// Changes of the membership, in this order.
    pub(crate) changes: Vec<Change>,
    /// Steps of time; with none there are no promises, so no leases and no bonds.
    pub(crate) steps: u8,
    /// How often nodes ask for support and look at their timers.
    pub(crate) requests: u8,
    /// Whether writes take their time even when no crash can come any more.
    pub(crate) slow_disks: bool,
    /// A mistake that the replicas make.
    pub(crate) planted: Option<Planted>,
}

/// What has happened so far, of what is bounded.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    campaigns: u8,
    proposals: u8,
    crashes: u8,
    repeats: u8,
    reconnects: u8,
    transfers: u8,
    changes: u8,
    steps: u8,
    requests: u8,
}

/// Something that may happen next. Nodes are counted from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Campaign(usize),
    Propose(usize),
    Deliver(usize),
    /// The message arrives, and is still on its way.
    Repeat(usize),
    /// The node's first write becomes durable.
    Sync(usize),
    Crash(usize),
    /// The first node hears of a new connection to the second.
    Reconnect(usize, usize),
    Transfer(usize, usize),
    Change(usize),
    /// Time passes, and nobody is told.
    Advance,
    /// A node asks for support and looks at its timers.
    Tick(usize),
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Body {
    Raft(Vec<u8>, Vec<Rc<Entry>>),
    Request(RequestSupport),
    Support(Support),
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Packet {
    from: usize,
    to: usize,
    /// The life of its sender.
    life: u32,
    body: Body,
    print: u64,
}

/// A node with its replica.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) supports: Supports,
    pub(crate) disk: Disk,
    life: u32,
    /// Lives of others, as far as heard of.
    lives: Vec<u32>,
    log: Log,
    state: State,
    written: u64,
    /// Messages that wait for a write.
    gated: Vec<(u64, Rc<Packet>)>,
    print: u64,
}

/// All of it at one moment.
#[derive(Clone)]
pub(crate) struct World {
    bounds: Rc<Bounds>,
    done: Done,
    pub(crate) nodes: Vec<Rc<Node>>,
    wire: Vec<Rc<Packet>>,
    pub(crate) history: History,
}

/// Returns the replica of a node, counted from 0.
fn member(at: usize) -> Member {
    let id = at as u64 + 1;
    Member {
        replica: ReplicaId(id),
        node: NodeId(id),
    }
}

/// Returns a node's clock: the first is fast, the last is slow, as far as a promise allows for.
fn clock(at: usize, steps: u8) -> Mono {
    let elapsed_ns = (1 + u64::from(steps)) * STEP_MS * 1_000_000;
    let drift_ns = elapsed_ns / 2_000;
    Mono(match at {
        0 => elapsed_ns + drift_ns,
        1 => elapsed_ns - drift_ns,
        _ => elapsed_ns,
    })
}

impl Node {
    /// Returns the replica of a node as its disk has it.
    fn recover((at, life): (usize, u32), disk: Disk, now: Mono, bounds: &Bounds) -> Self {
        let log = disk.log.clone();
        let metas: Vec<_> = log.entries.iter().map(|entry| entry.meta).collect();
        let memberships = log.entries.iter().zip(1..);
        let memberships = memberships.filter_map(|(entry, index)| {
            let membership = entry.membership.clone()?;
            Some((Index(index), membership))
        });
        let has_first = log
            .entries
            .first()
            .is_some_and(|entry| entry.meta.term == Term(1));
        let start = Start {
            partition: PartitionId(1),
            me: member(at),
            ballot: disk.ballot,
            base: log.base.applied,
            base_chain: log.base.chain,
            membership: log.base.membership.clone(),
            entries: &metas,
            memberships: memberships.collect(),
            committed: Index(u64::from(has_first)),
            applied: Index(0),
            has_forgotten: false,
            seed: 1,
        };
        let options = Options {
            election_jitter_ms: 0,
            planted: bounds.planted,
            ..Options::default()
        };
        // Where no time passes nobody has promised anything.
        let earlier = match life > 1 && bounds.steps > 0 {
            true => EarlierPromises::Possible,
            false => EarlierPromises::None,
        };
        let raft = Raft::new(start, options, now);
        let promises = SupportOptions::default();
        Self {
            supports: Supports::new(Incarnation(life), earlier, promises, now),
            raft,
            life,
            lives: Vec::new(),
            state: log.base.clone(),
            disk,
            log,
            written: 0,
            gated: Vec::new(),
            print: 0,
        }
    }

    /// Notes what the node is by now.
    fn note(&mut self) {
        let mut print = Print::default();
        print.take(&(&self.raft, &self.supports, &self.lives, self.written));
        let last = self.disk.log.entries.last().map(|entry| entry.meta.chain);
        print.take(&(self.disk.ballot, self.disk.log.last(), last));
        print.take(&self.disk.queue);
        for (after, packet) in &self.gated {
            print.take(&(after, packet.print));
        }
        self.print = print.finish();
    }
}

impl World {
    /// Returns the beginning.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let voters: Vec<Member> = (0..bounds.voters as usize).map(member).collect();
        let initial = Membership::of(&voters);
        let all = (bounds.voters + bounds.outsiders) as usize;
        let node = |at: usize| {
            let mut disk = Disk::default();
            if at < voters.len() {
                let kind = EntryKind::Membership;
                let first = Entry::new(Chain(0), Term(1), kind, 0, Some(initial.clone()));
                disk.log.entries.push(Rc::new(first));
            }
            let mut node = Node::recover((at, 1), disk, clock(at, 0), bounds);
            want(&mut node, at, all);
            Rc::new(node)
        };
        let mut world = Self {
            nodes: (0..all).map(node).collect(),
            bounds: Rc::new(bounds.clone()),
            done: Done::default(),
            wire: Vec::new(),
            history: History::default(),
        };
        (0..all).for_each(|at| world.after_call(at));
        if bounds.led {
            world.elect_first();
        }
        world
    }

    /// Has node 1 elected, with support if there is time, and everything delivered.
    fn elect_first(&mut self) {
        let mut first = vec![Action::Campaign(0)];
        if self.bounds.steps > 0 {
            first = vec![Action::Tick(0), Action::Campaign(0), Action::Tick(0)];
        }
        for action in first {
            self.act(action).expect("nothing is wrong yet");
            self.settle(|_, _| true);
        }
        self.done = Done::default();
    }

    /// Brings everything to where it belongs, over the ways that are there; what is on others is lost.
    pub(crate) fn settle(&mut self, is_linked: impl Fn(usize, usize) -> bool) {
        loop {
            self.wire.retain(|packet| is_linked(packet.from, packet.to));
            let Some(action) = self.settling() else {
                return;
            };
            self.act(action).expect("nothing is wrong");
        }
    }

    /// Returns what brings everything to where it belongs.
    fn settling(&self) -> Option<Action> {
        if !self.wire.is_empty() {
            return Some(Action::Deliver(0));
        }
        let mut nodes = self.nodes.iter();
        let writes = nodes.position(|node| !node.disk.queue.is_empty());
        writes.map(Action::Sync)
    }

    /// Returns the fingerprint of this moment.
    pub(crate) fn print(&self) -> u64 {
        let mut print = Print::default();
        print.take(&self.done);
        print.take(&self.history);
        for node in &self.nodes {
            print.take(&node.print);
        }
        let mut wire: Vec<u64> = self.wire.iter().map(|packet| packet.print).collect();
        wire.sort_unstable();
        print.take(&wire);
        print.finish()
    }

    /// Returns everything that may happen next.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let (bounds, done) = (&*self.bounds, self.done);
        let mut actions: Vec<_> = (0..self.wire.len()).map(Action::Deliver).collect();
        if done.repeats < bounds.repeats {
            actions.extend((0..self.wire.len()).map(Action::Repeat));
        }
        if done.steps < bounds.steps {
            actions.push(Action::Advance);
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let leads = node.raft.role() == Role::Leader;
            if !node.disk.queue.is_empty() {
                actions.push(Action::Sync(at));
            }
            // Where all nodes are alike the first candidate may as well be the first node.
            let is_symmetric = bounds.outsiders == 0 && bounds.steps == 0 && !bounds.led;
            let may_stand = done.campaigns > 0 || at == 0 || !is_symmetric;
            if done.campaigns < bounds.campaigns && !leads && may_stand {
                actions.push(Action::Campaign(at));
            }
            if done.crashes < bounds.crashes {
                actions.push(Action::Crash(at));
            }
            if done.requests < bounds.requests {
                actions.push(Action::Tick(at));
            }
            if leads {
                self.leader_actions(at, &mut actions);
            }
        }
        actions
    }

    /// Adds what only a leader is asked for.
    fn leader_actions(&self, at: usize, actions: &mut Vec<Action>) {
        let (bounds, done) = (&*self.bounds, self.done);
        if done.proposals < bounds.proposals && self.nodes[at].raft.may_propose() {
            actions.push(Action::Propose(at));
        }
        if usize::from(done.changes) < bounds.changes.len() {
            actions.push(Action::Change(at));
        }
        for other in (0..self.nodes.len()).filter(|&other| other != at) {
            if done.transfers < bounds.transfers {
                actions.push(Action::Transfer(at, other));
            }
            if done.reconnects < bounds.reconnects {
                actions.push(Action::Reconnect(at, other));
            }
        }
    }

    /// Does one thing.
    ///
    /// # Errors
    /// What must not be is.
    pub(crate) fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Campaign(at) => {
                self.done.campaigns += 1;
                self.call(at, |raft, now, supports, out| {
                    // Refused is as good as not asked.
                    let _ = raft.campaign(now, supports, out);
                });
            }
            Action::Propose(at) => {
                self.done.proposals += 1;
                let value = u64::from(self.done.proposals);
                self.append(at, EntryKind::Commands, value, None);
            }
            Action::Deliver(place) => {
                let packet = self.wire.remove(place);
                self.hear(&packet);
            }
            Action::Repeat(place) => {
                self.done.repeats += 1;
                let packet = Rc::clone(&self.wire[place]);
                self.hear(&packet);
            }
            Action::Sync(at) => self.sync(at),
            Action::Crash(at) => self.crash(at),
            Action::Reconnect(at, other) => {
                self.done.reconnects += 1;
                self.call(at, |raft, now, _, out| {
                    raft.reachable(now, member(other).node, out);
                });
            }
            Action::Transfer(at, to) => {
                self.done.transfers += 1;
                self.call(at, |raft, now, _, out| {
                    let _ = raft.transfer(now, member(to).replica, out);
                });
            }
            Action::Change(at) => {
                let change = self.bounds.changes[usize::from(self.done.changes)];
                self.done.changes += 1;
                self.call(at, |raft, _, _, _| {
                    let _ = raft.change_membership(&change);
                });
            }
            Action::Advance => self.done.steps += 1,
            Action::Tick(at) => self.tick(at),
        }
        if !self.bounds.slow_disks && self.done.crashes >= self.bounds.crashes {
            self.sync_all();
        }
        self.forget_packets();
        self.check()
    }

    /// Drops messages that can never have an effect: answers of a term that the disk of who asked has
    /// left behind.
    fn forget_packets(&mut self) {
        let nodes = &self.nodes;
        self.wire.retain(|packet| {
            let Body::Raft(bytes, _) = &packet.body else {
                return true;
            };
            let durable = nodes[packet.to].disk.ballot.term;
            match decode(bytes).expect("what was encoded").0 {
                Message::Signal(Signal::VoteReply(reply)) => {
                    // An election of a term is over once the next one has begun.
                    reply.asked >= durable || reply.term > durable
                }
                Message::Signal(Signal::AppendReply(reply)) => reply.term >= durable,
                Message::Signal(Signal::TimeoutNow { term }) => term >= durable,
                _ => true,
            }
        });
    }

    /// Returns how many proposals there were, which is the value of the last one.
    #[allow(
        dead_code,
        reason = "only the comparison with another implementation asks"
    )]
    pub(crate) fn proposals(&self) -> u64 {
        u64::from(self.done.proposals)
    }

    /// Says of each thing that a search is to have seen whether it is so now.
    pub(crate) fn shows(&self) -> [(&'static str, bool); 4] {
        let mut nodes = self.nodes.iter();
        let is_joint = nodes.any(|node| node.raft.membership().is_joint());
        let serves = self.history.is_served(&self.nodes, &self.clocks());
        [
            ("led twice", self.history.leaders() > 1),
            ("proposal committed", self.history.committed() > 2),
            ("joint", is_joint),
            ("served", serves),
        ]
    }

    fn clocks(&self) -> Vec<Mono> {
        (0..self.nodes.len()).map(|at| self.now(at)).collect()
    }

    /// Checks what must hold at every moment.
    fn check(&mut self) -> Result<(), String> {
        let now = self.clocks();
        self.history.check(&self.nodes, &now)
    }
}

/// Has a node want the support of every other.
fn want(node: &mut Node, at: usize, all: usize) {
    for other in (0..all).filter(|&other| other != at) {
        node.supports.want(member(other).node);
    }
}

impl Node {
    /// Returns the node's log, durable or not.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }
}
