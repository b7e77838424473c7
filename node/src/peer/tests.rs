//! Whole peers in simulated worlds, and on the kernel where the world is calm. Here: how hosts are
//! made and driven.

mod calm;
mod faults;
mod limits;
mod strangers;

use std::collections::BTreeMap;

use ashlar_io::Monotonic;
use ashlar_io::sim::{Faults, World};

use super::greeting::{Greeting, Reason};
use super::*;
use crate::cluster::{ClusterId, StoreId};

/// The port of shard 0.
const PORT: u16 = 7000;
/// How often a host flushes when nothing happens.
const TICK: Duration = Duration::from_millis(50);

/// What a host has seen of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Connected(u32),
    Disconnected,
    Section(u8, u32, Vec<u8>),
}

/// One node with one shard.
struct Host {
    node: u64,
    reactor: Reactor,
    peers: Rc<Peers>,
    seen: Vec<(u64, Seen)>,
    /// Takes nothing from its peers.
    lazy: bool,
}

fn member(node: u64) -> Member {
    Member {
        name: format!("n{node}"),
        node: NodeId(node),
        store: StoreId(100 + u128::from(node)),
        addr: (World::ip(machine(node)), PORT).into(),
    }
}

/// Returns the simulated machine of a node.
fn machine(node: u64) -> u32 {
    u32::try_from(node).unwrap()
}

fn identity(node: u64, incarnation: u32) -> Identity {
    Identity {
        cluster: ClusterId(1),
        node: NodeId(node),
        store: StoreId(100 + u128::from(node)),
        incarnation,
        shard: 0,
        shards: 1,
        partitions: 1,
    }
}

fn options() -> Options {
    Options {
        listen: ([0, 0, 0, 0], PORT).into(),
        frame_bytes_max: 10_000,
        queue_bytes_max: 100_000,
        handshake: Duration::from_secs(5),
        silence: Duration::from_secs(10),
    }
}

impl Host {
    fn start(reactor: &Reactor, identity: Identity, members: &[Member], options: Options) -> Self {
        let peers = Peers::new(reactor, identity, members, options);
        peers.start().unwrap();
        Self {
            node: identity.node.0,
            reactor: reactor.clone(),
            peers,
            seen: Vec::new(),
            lazy: false,
        }
    }

    /// Takes what has come, and returns it.
    fn take(&mut self) -> Vec<(u64, Seen)> {
        let mut taken = Vec::new();
        while let Some(Incoming { from, event }) = self.peers.next() {
            match event {
                Event::Connected { incarnation } => {
                    taken.push((from.0, Seen::Connected(incarnation)));
                }
                Event::Disconnected => taken.push((from.0, Seen::Disconnected)),
                Event::Frame(frame) => {
                    assert!(frame.clock.0 > 0 && frame.interval.latest_us == 3);
                    taken.extend(frame.sections().map(|section| {
                        let bytes = section.bytes.to_vec();
                        let seen = Seen::Section(section.kind, section.partition.0, bytes);
                        (from.0, seen)
                    }));
                    self.peers.recycle(frame);
                }
            }
        }
        taken
    }

    fn flush(&self) {
        let interval = Interval {
            earliest_us: 2,
            latest_us: 3,
        };
        self.peers.flush(Timestamp(1 + self.node), interval);
    }

    fn queue(&self, to: u64, kind: u8, bytes: &[u8]) -> Queued {
        let partition = PartitionId(u32::from(kind));
        self.peers
            .queue(NodeId(to), Lane::Bulk, kind, partition, &[bytes])
    }

    fn trouble(&self, of: u64) -> String {
        let status = self.peers.status();
        let status = status.into_iter().find(|status| status.node.0 == of);
        status.unwrap().trouble.unwrap_or_default()
    }

    fn sections(&self) -> usize {
        let is_section = |(_, seen): &&(u64, Seen)| matches!(seen, Seen::Section(..));
        self.seen.iter().filter(is_section).count()
    }
}

/// A world of hosts, by node.
struct Net {
    world: World,
    hosts: BTreeMap<u64, Host>,
    /// Machines without a host, that tests drive by hand.
    others: BTreeMap<u32, Reactor>,
}

impl Net {
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            world: World::new(seed, faults),
            hosts: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// Makes a world of nodes 1 to `nodes`.
    fn of(nodes: u64, seed: u64, faults: Faults) -> Self {
        let mut net = Self::new(seed, faults);
        let members: Vec<Member> = (1..=nodes).map(member).collect();
        for node in 1..=nodes {
            let mut options = options();
            // Of two nodes the smaller counts.
            options.frame_bytes_max -= machine(node) * 1_000;
            net.boot(identity(node, 1), &members, options);
        }
        net
    }

    fn boot(&mut self, identity: Identity, members: &[Member], options: Options) {
        let node = identity.node.0;
        let reactor = Reactor::simulated(&self.world, machine(node), 0);
        let host = Host::start(&reactor, identity, members, options);
        reactor.park(Some(reactor.now()), || false);
        assert!(self.hosts.insert(node, host).is_none());
    }

    /// Makes a machine without a host, whose tasks the test spawns.
    fn other(&mut self, number: u32) -> Reactor {
        let reactor = Reactor::simulated(&self.world, number, 0);
        reactor.park(Some(reactor.now()), || false);
        self.others.insert(number, reactor.clone());
        reactor
    }

    fn crash(&mut self, node: u64) {
        self.world.crash(machine(node));
        self.hosts.remove(&node).unwrap().reactor.shut_down();
    }

    fn host(&mut self, node: u64) -> &mut Host {
        self.hosts.get_mut(&node).unwrap()
    }

    /// Gives turns for `length`; `each` acts in each turn of a host, after it has taken what came.
    fn run(&mut self, length: Duration, mut each: impl FnMut(&mut Host, &[(u64, Seen)])) {
        let end = self.world.now() + length;
        while self.world.now() < end {
            let Some((number, _)) = self.world.step_until(end) else {
                continue;
            };
            if let Some(other) = self.others.get(&number) {
                other.turn();
                other.park(None, || false);
                continue;
            }
            let Some(host) = self.hosts.get_mut(&u64::from(number)) else {
                continue;
            };
            host.reactor.turn();
            let taken = if host.lazy { Vec::new() } else { host.take() };
            each(host, &taken);
            host.seen.extend(taken);
            host.flush();
            host.reactor.park(Some(host.reactor.now() + TICK), || false);
        }
    }

    fn wait(&mut self, length: Duration) {
        self.run(length, |_, _| ());
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.hosts
            .values()
            .for_each(|host| host.reactor.shut_down());
        self.others.values().for_each(Reactor::shut_down);
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
