//! Nodes that found a cluster in simulated worlds: calm ones, and such where machines crash, disks
//! forget what was not synced, and the network cuts. Wiped disks are new data directories.

use std::collections::BTreeSet;

use ashlar_consensus::Timestamp;
use ashlar_io::rng::Rng;
use ashlar_io::sim::{Faults, World};
use ashlar_io::wal::Durability;

use super::*;
use crate::cluster::{Formed, form};
use crate::config::{Config, Overrides};
use crate::format::{self, Choice};
use crate::peer::frame::Interval;
use crate::peer::{Options, Peers, State};

/// What a node tells when it is done.
type Slot = Rc<RefCell<Option<Result<Formed, String>>>>;

/// One life of a node.
struct Life {
    reactor: Reactor,
    slot: Slot,
    /// Once it is a member.
    peers: Option<Rc<Peers>>,
}

impl Life {
    /// What a shard does at the end of its turn.
    fn end_turn(&self) {
        let tick = self.peers.as_ref().map(|peers| {
            while peers.next().is_some() {}
            peers.flush(Timestamp(1), Interval::default());
            self.reactor.now() + Duration::from_millis(100)
        });
        self.reactor.park(tick, || false);
    }
}

struct Net {
    world: World,
    nodes: u32,
    lives: BTreeMap<u32, Life>,
    /// How often the disk of each node was wiped.
    wiped: BTreeMap<u32, u32>,
    /// What nodes were formatted as.
    shards: BTreeMap<u32, u32>,
    /// Their lists, when they differ from the true one.
    lists: BTreeMap<u32, String>,
    /// Every cluster that any node has found in any life.
    clusters: BTreeSet<ClusterId>,
    errors: Vec<(u32, String)>,
    /// The records of promises, as they were last looked at.
    records: BTreeMap<u32, Option<Vec<u8>>>,
}

fn list(nodes: u32) -> String {
    let peer = |n| format!("n{n}={}:7000", World::ip(n));
    (0..nodes).map(peer).collect::<Vec<_>>().join(",")
}

impl Net {
    fn new(nodes: u32, seed: u64, faults: Faults) -> Self {
        Self {
            world: World::new(seed, faults),
            nodes,
            lives: BTreeMap::new(),
            wiped: BTreeMap::new(),
            shards: BTreeMap::new(),
            lists: BTreeMap::new(),
            clusters: BTreeSet::new(),
            errors: Vec::new(),
            records: BTreeMap::new(),
        }
    }

    fn config(&self, node: u32) -> Config {
        let mut config = Config::defaults();
        let wiped = self.wiped.get(&node).copied().unwrap_or(0);
        let listed = self.lists.get(&node).cloned();
        let flags = Overrides {
            data: Some(format!("data{wiped}")),
            name: Some(format!("n{node}")),
            peer_listen: Some("0.0.0.0:7000".to_owned()),
            peers: Some(listed.unwrap_or_else(|| list(self.nodes))),
            ..Overrides::default()
        };
        config.override_with(&flags).unwrap();
        config
    }

    fn boot(&mut self, node: u32) {
        let reactor = Reactor::simulated(&self.world, node, 0);
        let slot: Slot = Rc::default();
        let (machine, config, told) = (reactor.clone(), self.config(node), Rc::clone(&slot));
        let choice = Choice {
            shards: self.shards.get(&node).copied().unwrap_or(1),
            segment_bytes: 4096,
            durability: Some(Durability::Fdatasync),
            split_at: Vec::new(),
        };
        reactor.spawn(async move {
            let formed = start(&machine, &config, &choice).await;
            *told.borrow_mut() = Some(formed);
        });
        reactor.park(Some(reactor.now()), || false);
        let life = Life {
            reactor,
            slot,
            peers: None,
        };
        assert!(self.lives.insert(node, life).is_none());
    }

    fn crash(&mut self, node: u32) {
        self.world.crash(node);
        if let Some(life) = self.lives.remove(&node) {
            life.reactor.shut_down();
        }
    }

    /// Crashes a node and gives it an empty disk.
    fn wipe(&mut self, node: u32) {
        self.crash(node);
        *self.wiped.entry(node).or_default() += 1;
    }

    /// Gives one turn to whoever is next.
    fn step(&mut self, limit: Monotonic) {
        let Some((node, _)) = self.world.step_until(limit) else {
            return;
        };
        let Some(life) = self.lives.get_mut(&node) else {
            return;
        };
        life.reactor.turn();
        let told = life.slot.borrow_mut().take();
        match told {
            Some(Ok(formed)) => {
                let place = formed.place.unwrap();
                self.clusters.insert(place.membership.decree.cluster);
                let options = Options::of(&self.config(node)).unwrap();
                let identity = place.identity(0, 1, 1);
                let life = self.lives.get_mut(&node).unwrap();
                let peers = Peers::new(&life.reactor, identity, &place.roster.members, options);
                peers.set_cluster(place.membership.decree, place.roster);
                peers.start().unwrap();
                life.peers = Some(peers);
            }
            Some(Err(error)) => self.errors.push((node, error)),
            None => {}
        }
        self.lives[&node].end_turn();
    }

    /// Returns a node whose record of promises has changed since this was last asked.
    fn promised_just_now(&mut self) -> Option<u32> {
        let record = |node: u32| {
            let wiped = self.wiped.get(&node).copied().unwrap_or(0);
            let path = PathBuf::from(format!("data{wiped}/PAXOS"));
            self.world.read_file(node, &path)
        };
        let mut records = self.lives.keys().map(|node| (*node, record(*node)));
        let (node, record) =
            records.find(|(node, record)| self.records.get(node) != Some(record))?;
        drop(records);
        self.records.insert(node, record);
        Some(node)
    }

    fn run(&mut self, seconds: u64) {
        let end = self.world.now() + Duration::from_secs(seconds);
        while self.world.now() < end {
            self.step(end);
        }
    }

    /// Says whether every node is connected to all others.
    fn is_whole(&self) -> bool {
        let connected = |life: &Life| {
            let status = life.peers.as_ref().map(|peers| peers.status());
            status.is_some_and(|all| all.iter().all(|peer| peer.state == State::Connected))
        };
        self.lives.len() == self.nodes as usize && self.lives.values().all(connected)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.lives
            .values()
            .for_each(|life| life.reactor.shut_down());
    }
}

/// What a node does before its shards serve.
async fn start(reactor: &Reactor, config: &Config, choice: &Choice) -> Result<Formed, String> {
    let told = |error: FormatError| error.to_string();
    let format = match format::read(reactor, &config.data).await.map_err(told)? {
        Some(format) => format,
        None => format::make(reactor, &config.data, choice)
            .await
            .map_err(told)?,
    };
    let stop = Arc::default();
    let formed = form(reactor, config, &format, &stop).await;
    formed.map_err(|error| error.to_string())
}

#[test]
fn nodes_found_a_cluster_and_find_it_again() {
    for nodes in [1, 2, 3, 5, 7] {
        let mut net = Net::new(nodes, 1, Faults::none());
        (0..nodes).for_each(|node| net.boot(node));
        net.run(5);
        assert!(net.is_whole(), "{nodes} nodes: {:?}", net.errors);
        (0..nodes).for_each(|node| net.crash(node));
        (0..nodes).for_each(|node| net.boot(node));
        net.run(5);
        assert!(net.is_whole() && net.clusters.len() == 1);
        let status = net.lives[&0].peers.as_ref().unwrap().status();
        assert!(status.iter().all(|peer| peer.incarnation == Some(2)));
    }
}

#[test]
fn nothing_is_founded_before_all_are_there() {
    let mut net = Net::new(3, 2, Faults::none());
    net.boot(0);
    net.boot(1);
    net.run(60);
    assert!(net.clusters.is_empty());
    net.boot(2);
    net.run(10);
    assert!(net.is_whole());
}

#[test]
fn a_late_node_hears_from_those_that_serve() {
    for seed in 0..10 {
        let mut net = Net::new(3, seed, Faults::none());
        (0..3).for_each(|node| net.boot(node));
        // Node 2 is cut off as soon as anybody knows.
        while net.clusters.is_empty() {
            net.step(Monotonic(u64::MAX));
        }
        net.crash(2);
        net.run(5);
        net.boot(2);
        net.run(10);
        assert!(
            net.is_whole() && net.clusters.len() == 1,
            "{:?}",
            net.errors
        );
    }
}

#[test]
fn a_replaced_node_waits_to_be_made_a_member() {
    let mut net = Net::new(3, 3, Faults::none());
    (0..3).for_each(|node| net.boot(node));
    net.run(5);
    net.wipe(2);
    net.boot(2);
    net.run(10);
    assert!(!net.is_whole() && net.errors.is_empty(), "{:?}", net.errors);
    assert_eq!(net.clusters.len(), 1);
}

#[test]
fn nodes_with_other_lists_or_layouts_wait() {
    let mut net = Net::new(3, 4, Faults::none());
    net.lists.insert(2, list(3).replace("10.0.0.1", "10.0.0.9"));
    net.shards.insert(1, 2);
    (0..3).for_each(|node| net.boot(node));
    net.run(20);
    assert!(net.clusters.is_empty() && net.errors.is_empty());
    // Corrected, they find each other; the one with more shards has to be made anew.
    net.crash(2);
    net.lists.clear();
    net.boot(2);
    net.shards.clear();
    net.wipe(1);
    net.boot(1);
    net.run(10);
    assert!(net.is_whole(), "{:?}", net.errors);
}

#[test]
fn a_directory_is_of_one_member_and_not_alone() {
    let mut net = Net::new(2, 5, Faults::none());
    net.boot(0);
    net.boot(1);
    net.run(5);
    net.crash(0);
    // Its directory under the name of the other.
    let reactor = Reactor::simulated(&net.world, 0, 0);
    let mut other = net.config(1);
    other.data = net.config(0).data;
    let mut alone = Config::defaults();
    alone.data = other.data.clone();
    let told = Rc::new(RefCell::new(Vec::new()));
    let (slot, machine) = (Rc::clone(&told), reactor.clone());
    reactor.spawn(async move {
        for config in [other, alone] {
            let format = format::read(&machine, &config.data).await.unwrap().unwrap();
            let formed = form(&machine, &config, &format, &Arc::default()).await;
            slot.borrow_mut().push(formed.unwrap_err().to_string());
        }
    });
    reactor.park(Some(reactor.now()), || false);
    while told.borrow().len() < 2 {
        if let Some((0, _)) = net.world.step() {
            reactor.turn();
            reactor.park(None, || false);
        }
    }
    reactor.shut_down();
    assert_eq!(
        told.borrow()[0],
        "data0 belongs to n0, and cluster.name = n1"
    );
    assert!(told.borrow()[1].ends_with("start it with --name n0, --peer-listen and --peers"));
}

#[test]
fn a_stop_ends_the_wait() {
    let world = World::new(6, Faults::none());
    let mut net = Net::new(2, 6, Faults::none());
    net.world = world;
    let reactor = Reactor::simulated(&net.world, 0, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let (machine, config, flag) = (reactor.clone(), net.config(0), Arc::clone(&stop));
    let told = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&told);
    let choice = Choice {
        shards: 1,
        segment_bytes: 4096,
        durability: Some(Durability::Fdatasync),
        split_at: Vec::new(),
    };
    reactor.spawn(async move {
        let format = format::make(&machine, &config.data, &choice).await.unwrap();
        let formed = form(&machine, &config, &format, &flag).await;
        *slot.borrow_mut() = Some(formed.unwrap_err().to_string());
    });
    reactor.park(Some(reactor.now()), || false);
    let at = net.world.now() + Duration::from_secs(5);
    while told.borrow().is_none() {
        net.world.step().unwrap();
        reactor.turn();
        reactor.park(None, || false);
        stop.store(net.world.now() >= at, Ordering::Release);
    }
    assert!(net.world.now() < at + Duration::from_secs(4));
    assert_eq!(
        told.take().unwrap(),
        "stopped before it was a member of a cluster"
    );
    reactor.shut_down();
}

fn faults(rng: &mut Rng) -> Faults {
    let mut faults = Faults::none();
    let net = &mut faults.net;
    net.chop = 0.5 * rng.unit();
    net.partial_send = 0.5 * rng.unit();
    net.reset = 0.03 * rng.unit();
    net.cut = 0.01 * rng.unit();
    net.cut_mean_ns = 2_000_000_000;
    net.refuse = 0.3 * rng.unit();
    net.latency_max_ns = [1_000_000, 50_000_000][rng.index(2)];
    net.latency_tail_ns = 20_000_000;
    faults.disk.sync_error = 0.02 * rng.unit();
    faults.disk.write_error = 0.02 * rng.unit();
    faults.schedule.hold = 0.3 * rng.unit();
    faults
}

/// Runs nodes that crash again and again while they found a cluster, some of whose disks are wiped;
/// then heals everything. Returns whether a cluster was founded before that.
fn founded_under_faults(nodes: u32, seed: u64, wipes: usize) -> bool {
    let mut rng = Rng::new(seed).fork("bootstrap");
    let mut net = Net::new(nodes, seed, faults(&mut rng));
    let mut wiped = BTreeSet::new();
    let mean_ns = [100_000_000, 500_000_000][rng.index(2)];
    let end = net.world.now() + Duration::from_secs(15);
    let mut fate = net.world.now();
    while net.world.now() < end {
        if net.world.now() >= fate {
            let node = u32::try_from(rng.below(u64::from(nodes))).unwrap();
            let is_spare = wiped.contains(&node) || wiped.len() < wipes;
            if !net.lives.contains_key(&node) {
                net.boot(node);
            } else if is_spare && rng.chance(0.05) {
                wiped.insert(node);
                net.wipe(node);
            } else if rng.chance(0.2) {
                net.crash(node);
            }
            fate = net.world.now() + Duration::from_nanos(rng.exponential(mean_ns));
        }
        net.step(fate.min(end));
        // The moments after a promise are those that matter.
        if let Some(node) = net.promised_just_now()
            && rng.chance(0.1)
        {
            net.crash(node);
        }
    }
    let before = net.clusters.len();
    net.world.heal();
    for node in 0..nodes {
        net.crash(node);
        net.boot(node);
    }
    net.run(60);
    assert!(net.clusters.len() <= 1, "seed {seed}: {:?}", net.clusters);
    if wiped.is_empty() {
        assert!(net.is_whole(), "seed {seed}: {:?}", net.errors);
    }
    before > 0
}

#[test]
fn two_clusters_never_come_to_be() {
    for (nodes, wipes) in [(3, 0), (5, 0), (3, 2), (5, 3)] {
        let founded = |seed| founded_under_faults(nodes, seed, wipes);
        let count = (0..40).filter(|seed| founded(*seed)).count();
        assert!(
            count > 0,
            "{nodes} nodes never found a cluster under faults"
        );
        println!("{nodes} nodes, {wipes} wiped: {count} of 40 founded under faults");
    }
}
