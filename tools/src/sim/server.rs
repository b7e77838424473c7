//! A simulated node: its lives, one after another, each recovering what the last left on the disk. Not
//! when it dies.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ashlar_consensus::NodeId;
use ashlar_consensus::support::EarlierPromises;
use ashlar_io::Reactor;
use ashlar_io::queue::{Sender, inbox};
use ashlar_io::rng::Rng;
use ashlar_io::sim::World;
use ashlar_io::wal::Durability;
use ashlar_node::cluster::{ClusterId, Decree, Formed, Member, Roster, StoreId, form};
use ashlar_node::config::{Compaction, Config, Listed};
use ashlar_node::format::{self, Choice, Format, FormatError};
use ashlar_node::message::Message;
use ashlar_node::peer::{self, Identity};
use ashlar_node::route::Routes;
use ashlar_node::shard::{Membership, Setup, Shard, Turn};
use ashlar_node::shared::{Facts, Shared};

/// Where shard 0 of each node listens for peers.
const PEER_PORT: u16 = 7000;
/// The cluster.
const CLUSTER: ClusterId = ClusterId(0xC1);

/// One life of the node.
pub(super) struct Life {
    reactors: Vec<Reactor>,
    /// None before the node has found its cluster.
    pub(super) shards: Vec<Shard>,
    /// Their inboxes.
    inboxes: Vec<Sender<Message>>,
    /// How many of them were asked to stop.
    asked: usize,
    /// Which have come to their end by themselves.
    stopped: BTreeSet<u32>,
    /// What comes of the search for it, and what ends that.
    search: Option<Search>,
}

/// A node that looks for its place.
struct Search {
    found: Rc<RefCell<Option<Result<Formed, String>>>>,
    _stop: Arc<AtomicBool>,
}

/// What a node was made as, and how it is configured in this run.
pub(super) struct Server {
    /// The simulated machine that it runs on.
    pub(super) machine: u32,
    /// How many nodes there are.
    pub(super) nodes: u32,
    pub(super) config: Config,
    pub(super) choice: Choice,
    pub(super) format: Format,
    /// Disks that it has lost.
    pub(super) lost: u32,
    pub(super) listen: SocketAddr,
    #[cfg(feature = "planted")]
    pub(super) planted: super::plant::Plant,
}

/// Draws a configuration: small segments and batches, so that rolls, recycling, flushes and merges happen
/// all the time.
pub(super) fn draw_config(rng: &mut Rng, nodes: u32) -> Config {
    let mut config = Config::defaults();
    config.data = PathBuf::from("data");
    // Little memory: memtables are flushed all the time, and blocks are evicted.
    config.memory_bytes = [1 << 20, 2 << 20, 8 << 20, 1 << 30][rng.index(4)];
    config.wal.segments_spare = 1 + u32::try_from(rng.below(3)).expect("small");
    config.wal.inflight = 1 + u32::try_from(rng.below(4)).expect("small");
    config.wal.batch_bytes = [4096, 16 << 10, 64 << 10, 256 << 10][rng.index(4)];
    config.wal.log_bytes_max = [64 << 10, 256 << 10, 1 << 20][rng.index(3)];
    config.io.turn_commands_max = [1, 3, 1024][rng.index(3)];
    config.partition.inflight_bytes_max = [8 << 10, 64 << 20][rng.index(2)];
    config.partition.history_ms = [0, 50, 10_000][rng.index(3)];
    config.partition.separate_bytes = [64, 1 << 10][rng.index(2)];
    config.partition.table_bytes = [64 << 10, 256 << 10, 64 << 20][rng.index(3)];
    config.partition.compaction = Compaction::EVERY[rng.index(2)];
    // Clocks may jump by minutes, and what is remembered must not expire by that.
    config.client.session_expire_s = 86_400;
    if nodes > 1 {
        draw_cluster(rng, &mut config);
    }
    config
}

/// Draws what only a cluster has. Half of the runs write few tables: what a node that was away has
/// missed is then sent as entries, and as a snapshot in the others.
fn draw_cluster(rng: &mut Rng, config: &mut Config) {
    if rng.coin() {
        config.wal.log_bytes_max = 64 << 20;
        config.memory_bytes = 1 << 30;
    }
    config.cluster.lease_ms = [100, 400, 1000][rng.index(3)];
    config.cluster.election_jitter_ms = [50, 150][rng.index(2)];
}

/// Draws what the data directory is made as.
pub(super) fn draw_choice(rng: &mut Rng, shards: u32) -> Choice {
    let splits: &[&[&str]] = &[&[], &["key:3:15"], &["key:2", "key:5:2", "z"]];
    Choice {
        shards,
        segment_bytes: [64 << 10, 256 << 10, 512 << 10][rng.index(3)],
        durability: Some(if rng.coin() {
            Durability::Dsync
        } else {
            Durability::Fdatasync
        }),
        split_at: splits[rng.index(3)]
            .iter()
            .map(|key| key.as_bytes().to_vec())
            .collect(),
    }
}

/// Tells a node of a cluster who it is, and where all are.
pub(super) fn place(config: &mut Config, machine: u32, nodes: u32) {
    let listed = |member: Member| Listed {
        name: member.name,
        addr: member.addr,
    };
    config.cluster.name = format!("n{}", machine + 1);
    config.cluster.peer_listen = Some((World::ip(machine), PEER_PORT).into());
    config.cluster.peers = decree(nodes).members.into_iter().map(listed).collect();
}

/// Returns how a cluster of so many nodes begins.
fn decree(nodes: u32) -> Decree {
    let member = |machine: u32| Member {
        name: format!("n{}", machine + 1),
        node: NodeId(u64::from(machine) + 1),
        store: store_of(machine),
        addr: (World::ip(machine), PEER_PORT).into(),
    };
    Decree {
        cluster: CLUSTER,
        members: (0..nodes).map(member).collect(),
    }
}

fn store_of(machine: u32) -> StoreId {
    StoreId(0x5708E + u128::from(machine))
}

/// Formats a node's data directory, in a life of its own that may crash like any other.
pub(super) fn make_format(
    world: &World,
    machine: u32,
    config: &Config,
    choice: &Choice,
) -> Result<Format, FormatError> {
    let reactor = Reactor::simulated(world, machine, 0);
    let result = Rc::new(RefCell::new(None));
    let (host, data, choice, slot) = (
        reactor.clone(),
        config.data.clone(),
        choice.clone(),
        result.clone(),
    );
    reactor.spawn(async move {
        let made = match format::read(&host, &data).await {
            Ok(Some(format)) => Ok(format),
            Ok(None) => format::make(&host, &data, &choice).await,
            Err(error) => Err(error),
        };
        *slot.borrow_mut() = Some(made);
    });
    reactor.park(Some(reactor.now()), || false);
    loop {
        world.step().expect("formatting never waits for nothing");
        reactor.turn();
        reactor.park(None, || false);
        if let Some(made) = result.borrow_mut().take() {
            reactor.shut_down();
            return made;
        }
    }
}

impl Server {
    /// Returns what operators call it.
    pub(super) fn name(&self) -> String {
        format!("n{}", self.machine + 1)
    }

    /// Returns where it listens for peers.
    pub(super) fn peer_addr(&self) -> SocketAddr {
        (World::ip(self.machine), PEER_PORT).into()
    }

    /// Returns how others list it.
    pub(super) fn listed(&self) -> Listed {
        Listed {
            name: self.name(),
            addr: self.peer_addr(),
        }
    }

    /// Makes it a node with an empty disk that knows these members, and lists itself with them.
    pub(super) fn enter(&mut self, members: Vec<Listed>) {
        self.lose_disk();
        self.config.cluster.peers = members;
        let own = self.listed();
        self.config.cluster.peers.push(own);
    }

    /// Takes the disk away; the next life begins with an empty one.
    pub(super) fn lose_disk(&mut self) {
        self.lost += 1;
        self.config.data = PathBuf::from(format!("data{}", self.lost));
    }

    /// Returns what a first member is in the life with this number, if it is not alone.
    fn membership(&self, world: &World, life: u64) -> Option<Membership> {
        let file = self.config.data.join("ROSTER");
        let kept = world.read_file(self.machine, &file);
        let kept = kept.and_then(|bytes| Roster::decode(bytes.get(8..)?));
        let identity = Identity {
            cluster: CLUSTER,
            node: NodeId(u64::from(self.machine) + 1),
            store: store_of(self.machine),
            incarnation: u32::try_from(life).expect("a run has few lives"),
            shard: 0,
            shards: self.format.shards,
            partitions: self.partitions(&self.format),
        };
        let decree = decree(self.nodes);
        let roster = kept.unwrap_or_else(|| Roster::founded(&decree));
        (self.nodes > 1).then(|| self.member(identity, decree, roster))
    }

    fn partitions(&self, format: &Format) -> u32 {
        let routes = Routes::new(&format.boundaries(), format.shards);
        u32::try_from(routes.partitions()).expect("few partitions")
    }

    fn member(&self, identity: Identity, decree: Decree, roster: Roster) -> Membership {
        Membership {
            earlier: match identity.incarnation {
                ..=1 => EarlierPromises::None,
                _ => EarlierPromises::Possible,
            },
            identity,
            roster,
            decree,
            peer: peer::Options {
                listen: (World::ip(self.machine), PEER_PORT).into(),
                frame_bytes_max: 256 << 10,
                queue_bytes_max: 16 << 20,
                handshake: Duration::from_secs(2),
                silence: Duration::from_secs(3),
            },
            lease_ms: self.config.cluster.lease_ms,
            election_jitter_ms: self.config.cluster.election_jitter_ms,
            election_rank: u8::try_from(self.config.cluster.election_rank).unwrap_or(0),
            #[cfg(feature = "planted")]
            planted: self.planted.of_core(),
        }
    }

    /// Begins the life with this number, the first of which is 1: every shard starts to recover. A node
    /// that has lost a disk looks for its place first.
    pub(super) fn boot(&self, world: &World, life: u64) -> Life {
        let reactors: Vec<_> = (0..self.format.shards)
            .map(|shard| Reactor::simulated(world, self.machine, shard))
            .collect();
        let ((shards, inboxes), search) = match self.lost {
            0 => {
                let membership = self.membership(world, life);
                (self.shards(&reactors, &self.format, membership), None)
            }
            _ => (Default::default(), Some(self.search(&reactors[0]))),
        };
        Life {
            reactors,
            shards,
            inboxes,
            asked: 0,
            stopped: BTreeSet::new(),
            search,
        }
    }

    /// Returns the configuration that the node runs with.
    fn effective_config(&self) -> Config {
        let config = self.config.clone();
        #[cfg(feature = "planted")]
        let config = self.planted.spoil(config);
        config
    }

    fn search(&self, reactor: &Reactor) -> Search {
        let (found, stop) = (Rc::default(), Arc::new(AtomicBool::new(false)));
        let search = Search {
            found: Rc::clone(&found),
            _stop: Arc::clone(&stop),
        };
        let (host, config, choice) = (reactor.clone(), self.config.clone(), self.choice.clone());
        reactor.spawn(async move {
            let place = find_place(&host, &config, &choice, &stop).await;
            *found.borrow_mut() = Some(place);
        });
        reactor.park(Some(reactor.now()), || false);
        search
    }

    fn shards(
        &self,
        reactors: &[Reactor],
        format: &Format,
        membership: Option<Membership>,
    ) -> (Vec<Shard>, Vec<Sender<Message>>) {
        let routes = Routes::new(&format.boundaries(), format.shards);
        let shared = Arc::new(Shared::new(Facts {
            format: format.clone(),
            config: self.effective_config(),
            started_ms: reactors[0].wall().millis(),
            run_id: format!("{:040x}", reactors[0].random()),
            listen: self.listen,
            memory_bytes: self.config.memory_bytes,
            machine_bytes: 1 << 33,
            process_id: 1,
        }));
        let (peers, inboxes): (Vec<_>, Vec<_>) = reactors
            .iter()
            .map(|reactor| inbox::<Message>(reactor.wake_cell(), 16))
            .unzip();
        let started = reactors.iter().zip(inboxes).zip(0..);
        let shards = started.map(|((reactor, inbox), shard)| {
            let setup = Setup {
                shard,
                data: self.config.data.clone(),
                shared: Arc::clone(&shared),
                routes: routes.clone(),
                inbox,
                peers: peers.clone(),
                cluster: membership.clone(),
            };
            let shard = Shard::start(reactor, setup);
            shard.park();
            shard
        });
        (shards.collect(), peers.clone())
    }
}

/// Makes the data directory if need be, and finds the node's place in its cluster.
async fn find_place(
    reactor: &Reactor,
    config: &Config,
    choice: &Choice,
    stop: &Arc<AtomicBool>,
) -> Result<Formed, String> {
    let known = format::read(reactor, &config.data).await;
    let format = match known.map_err(|error| error.to_string())? {
        Some(format) => Ok(format),
        None => format::make(reactor, &config.data, choice).await,
    };
    let format = format.map_err(|error| error.to_string())?;
    let formed = form(reactor, config, &format, stop).await;
    formed.map_err(|error| error.to_string())
}

impl Life {
    /// Gives one shard a turn.
    pub(super) fn turn(&mut self, server: &Server, shard: u32) -> Result<(), String> {
        if self.search.is_some() {
            return self.look_around(server, shard);
        }
        let turned = &mut self.shards[shard as usize];
        if turned.turn().map_err(|fatal| fatal.to_string())? == Turn::Stopped {
            self.stopped.insert(shard);
        } else {
            turned.park();
        }
        Ok(())
    }

    /// Goes on looking for the node's place; once it is found, its shards start.
    fn look_around(&mut self, server: &Server, shard: u32) -> Result<(), String> {
        let reactor = &self.reactors[shard as usize];
        reactor.turn();
        let found = self.search.as_ref().and_then(|search| search.found.take());
        let Some(found) = found else {
            reactor.park(None, || false);
            return Ok(());
        };
        self.search = None;
        let Formed { format, place } = found?;
        let place = place.ok_or("it is in no cluster")?;
        let identity = place.identity(0, format.shards, server.partitions(&format));
        let member = server.member(identity, place.membership.decree, place.roster);
        (self.shards, self.inboxes) = server.shards(&self.reactors, &format, Some(member));
        Ok(())
    }

    /// Returns the reads of tables from disk in this life, and the bytes written to tables.
    pub(super) fn table_traffic(&self) -> (u64, u64) {
        let shards = self.shards.iter().map(Shard::table_traffic);
        shards.fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1))
    }

    /// Returns how many writes of sessions were answered from memory in this life.
    pub(super) fn repeats_answered(&self) -> u64 {
        self.shards.iter().map(Shard::repeats_answered).sum()
    }

    /// Returns how many entries were read back from logs for replicas that lagged, in this life.
    pub(super) fn fed_entries(&self) -> u64 {
        self.shards.iter().map(Shard::fed_entries).sum()
    }

    /// Returns how many replicas were repaired from other nodes in this life.
    pub(super) fn repairs(&self) -> u64 {
        self.shards.iter().map(Shard::repairs).sum()
    }

    /// Asks the shards to stop, as a signal does; says whether all were, which the full inbox of one may hinder.
    pub(super) fn stop(&mut self) -> bool {
        while let Some(inbox) = self.inboxes.get(self.asked) {
            if inbox.push(Message::Stop).is_err() {
                return false;
            }
            inbox.notify();
            self.asked += 1;
        }
        true
    }

    /// Says whether every shard has come to its end by itself.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.len() == self.shards.len()
    }

    /// Ends the life; the world has been told how.
    pub(super) fn end(self) {
        let Self {
            reactors, shards, ..
        } = self;
        reactors.iter().for_each(Reactor::shut_down);
        drop(shards);
    }
}
