//! A simulated node: its lives, one after another, each recovering what the last left on the disk. Not
//! when it dies.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_consensus::NodeId;
use ashlar_consensus::support::EarlierPromises;
use ashlar_io::Reactor;
use ashlar_io::queue::inbox;
use ashlar_io::rng::Rng;
use ashlar_io::sim::World;
use ashlar_io::wal::Durability;
use ashlar_node::cluster::{ClusterId, Decree, Member, Roster, StoreId};
use ashlar_node::config::{Compaction, Config};
use ashlar_node::format::{self, Choice, Format, FormatError};
use ashlar_node::message::Message;
use ashlar_node::peer::{self, Identity};
use ashlar_node::route::Routes;
use ashlar_node::shard::{Fatal, Membership, Setup, Shard, Turn};
use ashlar_node::shared::{Facts, Shared};

/// Where shard 0 of each node listens for peers.
const PEER_PORT: u16 = 7000;
/// The cluster.
const CLUSTER: ClusterId = ClusterId(0xC1);

/// One life of the node.
pub(super) struct Life {
    reactors: Vec<Reactor>,
    pub(super) shards: Vec<Shard>,
    pub(super) stopped: usize,
}

/// What a node was made as, and how it is configured in this run.
pub(super) struct Server {
    /// The simulated machine that it runs on.
    pub(super) machine: u32,
    /// How many nodes there are.
    pub(super) nodes: u32,
    pub(super) config: Config,
    pub(super) format: Format,
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
        segment_bytes: [256 << 10, 512 << 10, 1 << 20][rng.index(3)],
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
    let result = std::rc::Rc::new(std::cell::RefCell::new(None));
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
    /// Returns what the node is a member of in the life with this number, if it is not alone.
    fn membership(&self, life: u64, partitions: usize) -> Option<Membership> {
        (self.nodes > 1).then(|| Membership {
            identity: Identity {
                cluster: CLUSTER,
                node: NodeId(u64::from(self.machine) + 1),
                store: store_of(self.machine),
                incarnation: u32::try_from(life).expect("a run has few lives"),
                shard: 0,
                shards: self.format.shards,
                partitions: u32::try_from(partitions).expect("few partitions"),
            },
            roster: Roster::founded(&decree(self.nodes)),
            decree: decree(self.nodes),
            peer: peer::Options {
                listen: (World::ip(self.machine), PEER_PORT).into(),
                frame_bytes_max: 256 << 10,
                queue_bytes_max: 16 << 20,
                handshake: Duration::from_secs(2),
                silence: Duration::from_secs(3),
            },
            lease_ms: self.config.cluster.lease_ms,
            election_jitter_ms: self.config.cluster.election_jitter_ms,
            earlier: match life {
                1 => EarlierPromises::None,
                _ => EarlierPromises::Possible,
            },
            #[cfg(feature = "planted")]
            planted: self.planted.0,
        })
    }

    /// Begins the life with this number, the first of which is 1: every shard starts to recover.
    pub(super) fn boot(&self, world: &World, life: u64) -> Life {
        let shards = self.format.shards;
        let routes = Routes::new(&self.format.boundaries(), shards);
        let membership = self.membership(life, routes.partitions());
        let reactors: Vec<_> = (0..shards)
            .map(|shard| Reactor::simulated(world, self.machine, shard))
            .collect();
        let shared = Arc::new(Shared::new(Facts {
            format: self.format.clone(),
            config: self.config.clone(),
            started_ms: reactors[0].wall().millis(),
            run_id: format!("{:040x}", reactors[0].random()),
            listen: self.listen,
            memory_bytes: self.config.memory_bytes,
            process_id: 1,
        }));
        let (peers, inboxes): (Vec<_>, Vec<_>) = reactors
            .iter()
            .map(|reactor| inbox::<Message>(reactor.wake_cell(), 16))
            .unzip();
        let started = reactors.iter().zip(inboxes).zip(0..);
        let shards = started
            .map(|((reactor, inbox), shard)| {
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
            })
            .collect();
        Life {
            reactors,
            shards,
            stopped: 0,
        }
    }
}

impl Life {
    /// Gives one shard a turn.
    pub(super) fn turn(&mut self, shard: u32) -> Result<(), Fatal> {
        let shard = &mut self.shards[shard as usize];
        if shard.turn()? == Turn::Stopped {
            self.stopped += 1;
        } else {
            shard.park();
        }
        Ok(())
    }

    /// Returns the reads of tables from disk in this life, and the bytes written to tables.
    pub(super) fn table_traffic(&self) -> (u64, u64) {
        let shards = self.shards.iter().map(Shard::table_traffic);
        shards.fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1))
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
