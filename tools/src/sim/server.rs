//! The simulated node: its lives, one after another, each recovering what the last left on the
//! disk.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_io::Reactor;
use ashlar_io::queue::inbox;
use ashlar_io::rng::Rng;
use ashlar_io::sim::World;
use ashlar_io::wal::Durability;
use ashlar_node::config::{Compaction, Config};
use ashlar_node::format::{self, Choice, Format, FormatError};
use ashlar_node::message::Message;
use ashlar_node::route::Routes;
use ashlar_node::shard::{Fatal, Setup, Shard, Turn};
use ashlar_node::shared::{Facts, Shared};

/// The simulated machine that the node runs on.
pub(super) const NODE: u32 = 0;

/// One life of the node.
pub(super) struct Life {
    reactors: Vec<Reactor>,
    shards: Vec<Shard>,
    pub(super) stopped: usize,
}

/// What the node was made as, and how it is configured in this run.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) format: Format,
    pub(super) listen: SocketAddr,
}

/// Draws a configuration: small segments and batches, so that rolls, recycling, flushes and merges happen
/// all the time.
pub(super) fn draw_config(rng: &mut Rng) -> Config {
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
    config
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

/// Formats the node's data directory, in a life of its own that may crash like any other.
pub(super) fn make_format(
    world: &World,
    config: &Config,
    choice: &Choice,
) -> Result<Format, FormatError> {
    let reactor = Reactor::simulated(world, NODE, 0);
    let result = std::rc::Rc::new(std::cell::RefCell::new(None));
    let (machine, data, choice, slot) = (
        reactor.clone(),
        config.data.clone(),
        choice.clone(),
        result.clone(),
    );
    reactor.spawn(async move {
        let made = match format::read(&machine, &data).await {
            Ok(Some(format)) => Ok(format),
            Ok(None) => format::make(&machine, &data, &choice).await,
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
    /// Begins a life: every shard starts to recover.
    pub(super) fn boot(&self, world: &World) -> Life {
        let shards = self.format.shards;
        let reactors: Vec<_> = (0..shards)
            .map(|shard| Reactor::simulated(world, NODE, shard))
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
                    routes: Routes::new(&self.format.boundaries(), shards),
                    inbox,
                    peers: peers.clone(),
                    cluster: None,
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
