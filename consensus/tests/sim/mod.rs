//! A group of replicas in memory: nodes with clocks that run differently, disks that lose what was not
//! synced, a network that loses, repeats, delays and cuts, and clients that write and read. One seed,
//! one history. What must never happen is checked as it happens (`check.rs`).
//!
//! Time is in nanoseconds of true time; each node has its own clock.
#![expect(
    clippy::cast_possible_truncation,
    reason = "few nodes, short logs and 64-bit hosts"
)]

pub(crate) mod arrive;
pub(crate) mod check;
pub(crate) mod clients;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod host;
pub(crate) mod node;
pub(crate) mod random;

use std::collections::BTreeMap;
use std::rc::Rc;

use ashlar_consensus::raft::{Options, Planted, Snapshot};
use ashlar_consensus::support::{RequestSupport, Support, SupportOptions};
use ashlar_consensus::types::{Index, Mono, NodeId, ReplicaId};
use ashlar_consensus::{Member, Membership};

use check::Checks;
use disk::Entry;
use node::Node;
use random::Random;

/// A millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// What travels.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// Between replicas: the bytes of head and metas, and the entries.
    Raft {
        from: Member,
        to: ReplicaId,
        bytes: Rc<Vec<u8>>,
        entries: Vec<Rc<Entry>>,
    },
    Request(RequestSupport),
    Support(Support),
}

/// What happens at some time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        incarnation: u32,
        packet: Packet,
    },
    DiskDone {
        node: usize,
        incarnation: u32,
    },
    Wake {
        node: usize,
        incarnation: u32,
        at: u64,
    },
    Fetched {
        node: usize,
        incarnation: u32,
        to: ReplicaId,
        first: Index,
    },
    Offer {
        node: usize,
        incarnation: u32,
        to: ReplicaId,
    },
    /// The data of a snapshot have arrived.
    Install {
        node: usize,
        incarnation: u32,
        from: usize,
        snapshot: Box<(Snapshot, disk::State)>,
    },
    Restart {
        node: usize,
    },
    Reconnect {
        from: usize,
        to: usize,
    },
    Client,
    Fault,
    Repaired {
        node: usize,
        incarnation: u32,
        index: Index,
    },
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) voters: usize,
    pub(crate) fault_ms: u64,
    pub(crate) loss: f64,
    pub(crate) repeats: f64,
    pub(crate) delay_max_ms: u64,
    /// Mean time between faults; none when zero.
    pub(crate) fault_every_ms: u64,
    pub(crate) client_every_ms: u64,
    pub(crate) churn: bool,
    pub(crate) told_of_connections: bool,
    /// Longest time of one write of a disk.
    pub(crate) disk_max_ms: u64,
}

impl Plan {
    /// Draws a plan.
    pub(crate) fn draw(random: &mut Random) -> Self {
        Self {
            voters: [1, 2, 3, 3, 3, 3, 5, 5, 4][random.below(9) as usize],
            fault_ms: 3_000 + random.below(6_000),
            loss: [0.0, 0.01, 0.1, 0.3][random.below(4) as usize],
            repeats: [0.0, 0.02, 0.2][random.below(3) as usize],
            delay_max_ms: [1, 5, 30, 200][random.below(4) as usize],
            fault_every_ms: [30, 100, 300, 1_000][random.below(4) as usize],
            client_every_ms: [2, 10, 40][random.below(3) as usize],
            churn: random.chance(0.5),
            told_of_connections: random.chance(0.5),
            disk_max_ms: [1, 5, 50, 300][random.below(4) as usize],
        }
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    pub(crate) checks: Checks,
    pub(crate) planted: Option<Planted>,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// Which links are cut, by from and to.
    pub(crate) cuts: Vec<Vec<bool>>,
    pub(crate) loss: f64,
    pub(crate) repeats: f64,
    pub(crate) is_healed: bool,
    pub(crate) next_replica: u64,
    pub(crate) next_value: u64,
    pub(crate) steps: u64,
    /// A wiped replica that must be replaced before anything else changes, and the new one.
    pub(crate) wiped: Option<(ReplicaId, Member)>,
    pub(crate) trace: bool,
}

/// Events that may be waited for: more are an avalanche.
const EVENTS_MAX: usize = 100_000;

/// Nodes of every world.
pub(crate) const NODES: usize = 8;

impl World {
    /// Returns the world of a seed, with a mistake or none.
    pub(crate) fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut random = Random(seed);
        let plan = Plan::draw(&mut random);
        Self::with_plan(random, plan, planted)
    }

    /// Returns a world.
    pub(crate) fn with_plan(mut random: Random, plan: Plan, planted: Option<Planted>) -> Self {
        let members: Vec<Member> = (1..=plan.voters as u64).map(member).collect();
        let initial = Membership::of(&members);
        let mut nodes: Vec<Node> = (0..NODES).map(|at| Node::new(at, &mut random)).collect();
        for (at, node) in nodes.iter_mut().enumerate() {
            if at < plan.voters {
                node.host(ReplicaId(at as u64 + 1), Some(initial.clone()));
            }
        }
        let mut world = Self {
            now: 0,
            random,
            plan,
            nodes,
            checks: Checks::default(),
            planted,
            events: BTreeMap::new(),
            sequence: 0,
            cuts: vec![vec![false; NODES]; NODES],
            loss: plan.loss,
            repeats: plan.repeats,
            is_healed: false,
            next_replica: 100,
            next_value: 1,
            steps: 0,
            wiped: None,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        };
        for at in 0..NODES {
            world.start(at);
        }
        world.after(1, Event::Client);
        world.after(1, Event::Fault);
        world
    }

    /// Returns the settings of replicas.
    pub(crate) fn options(&self) -> Options {
        Options {
            append_entries_max: 8,
            append_bytes_max: 4_000,
            inflight_bytes_max: 16_000,
            inflight_messages_max: 8,
            planted: self.planted,
            ..Options::default()
        }
    }

    /// Returns the settings of promises.
    pub(crate) fn support_options(&self) -> SupportOptions {
        SupportOptions::default()
    }

    /// Adds an event in `ns` from now.
    pub(crate) fn after(&mut self, ns: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + ns, self.sequence), event);
        assert!(self.events.len() < EVENTS_MAX, "messages multiply");
    }

    /// Runs until `until`.
    pub(crate) fn run(&mut self, until: u64) {
        while let Some((&(at, sequence), _)) = self.events.first_key_value() {
            if at > until {
                break;
            }
            let event = self
                .events
                .remove(&(at, sequence))
                .expect("it is the first");
            self.now = self.now.max(at);
            self.step(event);
        }
        self.now = until;
    }

    /// Does one thing.
    fn step(&mut self, event: Event) {
        self.steps += 1;
        if let Some(node) = target(&event) {
            let wait = self.nodes[node].paused_until.saturating_sub(self.now);
            if wait > 0 {
                return self.after(wait, event);
            }
        }
        match event {
            Event::Deliver {
                from,
                to,
                incarnation,
                packet,
            } => self.deliver(from, to, incarnation, packet),
            Event::DiskDone { node, incarnation } if self.is_alive(node, incarnation) => {
                self.disk_done(node);
            }
            Event::Wake {
                node,
                incarnation,
                at,
            } if self.is_alive(node, incarnation) && self.nodes[node].wake_at == Some(at) => {
                // Else an earlier time has been set since.
                self.nodes[node].wake_at = None;
                self.wake(node);
            }
            Event::Fetched {
                node,
                incarnation,
                to,
                first,
            } if self.is_alive(node, incarnation) => self.fetched(node, to, first),
            Event::Offer {
                node,
                incarnation,
                to,
            } if self.is_alive(node, incarnation) => self.offer(node, to),
            Event::Install {
                node,
                incarnation,
                from,
                snapshot,
            } => match self.is_alive(node, incarnation) {
                true => self.install(node, from, *snapshot),
                false => self.lose_snapshot(node, from),
            },
            Event::Restart { node } if !self.nodes[node].is_up => self.start(node),
            Event::Reconnect { from, to } => self.reconnect(from, to),
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Repaired {
                node,
                incarnation,
                index,
            } if self.is_alive(node, incarnation) => self.repair(node, index),
            _ => {}
        }
    }

    /// Tells whether a node is in this life.
    pub(crate) fn is_alive(&self, node: usize, incarnation: u32) -> bool {
        self.nodes[node].is_up && self.nodes[node].incarnation == incarnation
    }

    /// Sends a packet through the network.
    pub(crate) fn post(&mut self, from: usize, to: usize, packet: Packet) {
        let copies = 1 + u64::from(self.random.chance(self.repeats));
        self.checks.vote(&self.nodes[from], to, &packet);
        for _ in 0..copies {
            if self.cuts[from][to] || self.random.chance(self.loss) {
                continue;
            }
            let delay = MS / 20 + self.random.below(self.plan.delay_max_ms * MS);
            // Now and then something is very late.
            let late = match self.random.chance(0.002) && !self.is_healed {
                true => self.random.below(3_000 * MS),
                false => 0,
            };
            let event = Event::Deliver {
                from,
                to,
                incarnation: self.nodes[from].incarnation,
                packet: packet.clone(),
            };
            self.after(delay + late, event);
        }
    }

    /// No client comes any more.
    pub(crate) fn remove_clients(&mut self) {
        self.events
            .retain(|_, event| !matches!(event, Event::Client));
    }

    /// Returns the place of the node that leads the latest term, if one leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = (0..NODES).filter(|&at| self.nodes[at].leads());
        leads.max_by_key(|&at| self.nodes[at].raft().term())
    }
}

/// Returns the first replica of a node.
pub(crate) fn member(id: u64) -> Member {
    Member {
        replica: ReplicaId(id),
        node: NodeId(id),
    }
}

/// Returns the node that an event happens on, if pausing it holds the event back.
fn target(event: &Event) -> Option<usize> {
    match event {
        Event::Deliver { to, .. } => Some(*to),
        Event::DiskDone { node, .. }
        | Event::Wake { node, .. }
        | Event::Fetched { node, .. }
        | Event::Offer { node, .. }
        | Event::Install { node, .. }
        | Event::Repaired { node, .. } => Some(*node),
        _ => None,
    }
}

/// Returns a node's clock at a true time.
pub(crate) fn local(offset: u64, ppm: i64, now: u64) -> Mono {
    let drift = i128::from(now) * i128::from(ppm) / 1_000_000;
    Mono((i128::from(offset) + i128::from(now) + drift) as u64)
}
