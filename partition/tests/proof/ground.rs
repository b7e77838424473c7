//! A node with one shard whose partitions have tables, as small as it can be: log, checkpoints and
//! tables on one simulated disk. It drives them turn by turn as a shard does, fetches what is not in
//! memory, and checks each answer against the models. It does not choose what is asked.

mod ask;
mod check;
mod walk;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::{Clock, Index, PartitionId, Timestamp};
use ashlar_io::rng::Rng;
use ashlar_io::sim::{Faults, World};
use ashlar_io::wal::{self, Options, Position, Wal};
use ashlar_io::{Reactor, file};
use ashlar_partition::command::record_partition;
use ashlar_partition::lsm::manifest::{Checkpoint, Manifest};
use ashlar_partition::lsm::pick::Policy;
use ashlar_partition::lsm::{Ground, GroundOptions, Layout};
use ashlar_partition::{KeyRange, Partition, Recovering};

use crate::history::History;
use crate::node::TURNS_MAX;
use crate::recover::run;
use crate::reference::Reference;

const ROOM_BYTES: u64 = 96 << 10;
const IN_FLIGHT_BYTES_MAX: usize = 64 << 10;
/// Fetches that one question may take.
const FETCHES_MAX: usize = 5_000;

/// How the node is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) wal: Options,
    pub(crate) policy: Policy,
    pub(crate) layout: Layout,
    pub(crate) cache_bytes: u64,
    pub(crate) history_ms: u32,
    /// Bytes at which a memtable is frozen.
    pub(crate) memtable_bytes: u64,
}

impl Setup {
    /// Returns a small node of some kind.
    pub(crate) fn some(rng: &mut Rng, mut wal: Options) -> Self {
        wal.segments_spare = 6;
        (wal.segment_bytes, wal.batch_bytes) = match rng.coin() {
            true => (64 << 10, 8 << 10),
            false => (256 << 10, 32 << 10),
        };
        let fanout = 2 + u32::from(rng.coin());
        Self {
            wal,
            policy: match rng.coin() {
                true => Policy::LazyLeveled {
                    fanout,
                    upper_percent: [10, 25, 50][rng.index(3)],
                },
                false => Policy::Leveled { fanout },
            },
            layout: Layout {
                table_bytes: [8 << 10, 16 << 10, 64 << 10][rng.index(3)],
                separate_bytes: [64, 300, 1 << 20][rng.index(3)],
            },
            cache_bytes: [64 << 10, 1 << 20][rng.index(2)],
            history_ms: [0, 50, 10_000][rng.index(3)],
            memtable_bytes: [4 << 10, 16 << 10, 48 << 10][rng.index(3)],
        }
    }
}

/// The files beside the log, and how far they allow it to be released.
struct Saved {
    /// Absent while a checkpoint is being written.
    manifest: RefCell<Option<Manifest>>,
    releasable: Cell<Position>,
}

struct Life {
    reactor: Reactor,
    wal: Wal,
    clock: Clock,
    ground: Ground,
    saved: Rc<Saved>,
    partitions: Vec<Partition>,
}

/// Entry, timestamp of its first command, commands in it so far.
type OpenEntry = (Index, Timestamp, u64);

/// What the disk may do to answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Every answer is right.
    Right,
    /// An answer is right, or an error.
    RightOrError,
}

/// A question could not be answered: the node or the partition says so.
#[derive(Debug)]
pub(crate) struct Failed;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    pub(crate) fetches: u64,
    pub(crate) freezes: u64,
    pub(crate) checkpoints: u64,
}

pub(crate) struct TreeNode {
    pub(crate) world: World,
    pub(crate) rng: Rng,
    pub(crate) setup: Setup,
    pub(crate) trust: Trust,
    pub(crate) tally: Tally,
    ranges: Vec<KeyRange>,
    life: Option<Life>,
    pub(crate) references: Vec<Reference>,
    histories: Vec<History>,
    open: Vec<Option<OpenEntry>>,
    pub(crate) wall_us: u64,
    /// Whether tasks get slices.
    pub(crate) works: bool,
    /// Whether checkpoints are saved.
    pub(crate) saves: bool,
}

type Found = (Vec<Partition>, Clock, wal::Recovered, Ground, Manifest);

impl TreeNode {
    pub(crate) fn new(seed: u64, setup: Setup, faults: Faults) -> Self {
        let ranges = KeyRange::split_at(&[b"\x01c".to_vec()]);
        Self {
            world: World::new(seed, faults),
            rng: Rng::new(seed ^ 0x7EE5),
            setup,
            trust: Trust::Right,
            tally: Tally::default(),
            life: None,
            references: ranges.iter().map(|_| Reference::default()).collect(),
            histories: ranges.iter().map(|_| History::default()).collect(),
            open: vec![None; ranges.len()],
            ranges,
            wall_us: 1_000_000_000,
            works: true,
            saves: true,
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.wall_us / 1000
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("the node is up")
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Recovers, and checks how far the log came. `Some(false)` when it took more turns than
    /// `turns_max` and the power was cut; `None` when recovery said that something is wrong.
    pub(crate) fn try_start(&mut self, turns_max: usize) -> Option<bool> {
        let reactor = Reactor::simulated(&self.world, 0, 0);
        let seed = self.rng.next_u64();
        let recovering = recover(
            reactor.clone(),
            self.setup.clone(),
            self.ranges.clone(),
            seed,
        );
        let Some(found) = run(&self.world, &reactor, turns_max, recovering) else {
            drop(reactor);
            self.world.crash(0);
            return Some(false);
        };
        let (mut partitions, clock, recovered, ground, manifest) = match found {
            Ok(found) => found,
            Err(what) => {
                assert!(self.trust == Trust::RightOrError, "recovery failed: {what}");
                assert!(what.contains('/'), "it names no file: {what}");
                drop(reactor);
                self.world.crash(0);
                return None;
            }
        };
        for (number, partition) in partitions.iter_mut().enumerate() {
            partition.keep_history(self.setup.history_ms);
            let last = partition.last_index();
            self.references[number].cut(last);
            self.histories[number].cut(last);
            self.open[number] = None;
            let newest = self.histories[number].timestamps();
            assert!(newest.is_none_or(|all| clock.last().0 >= *all.end()));
        }
        let saved = Saved {
            releasable: Cell::new(manifest.releasable()),
            manifest: RefCell::new(Some(manifest)),
        };
        let wal = Wal::open(&reactor, self.setup.wal.clone(), recovered);
        self.life = Some(Life {
            reactor,
            wal,
            clock,
            ground,
            saved: Rc::new(saved),
            partitions,
        });
        Some(true)
    }

    pub(crate) fn start(&mut self) {
        assert_eq!(self.try_start(TURNS_MAX), Some(true));
    }

    pub(crate) fn crash(&mut self) {
        self.world.crash(0);
        self.life = None;
    }

    pub(crate) fn kill(&mut self) {
        self.world.kill(0);
        self.life = None;
    }

    /// Goes on to some moment before the next turn, and cuts the power then.
    pub(crate) fn crash_between_turns(&mut self) {
        let limit = self.world.now() + Duration::from_micros(self.rng.below(120));
        let _ = self.world.step_until(limit);
        self.crash();
    }

    /// Makes one turn, with `work` in it. The node ends when its log fails.
    pub(crate) fn turn(&mut self, work: impl FnOnce(&mut Self)) {
        self.world.step().expect("a parked shard has a next turn");
        self.life().reactor.reap();
        if self.life().wal.poll().is_err() {
            return self.kill();
        }
        self.settle();
        self.life().reactor.run_ready();
        work(self);
        if self.life.is_none() {
            return;
        }
        self.upkeep();
        self.drain();
        self.park();
    }

    fn park(&mut self) {
        let pause = Duration::from_micros(1 + self.rng.below(150));
        let reactor = &self.life().reactor;
        reactor.park(Some(reactor.now() + pause), || false);
    }

    pub(crate) fn has_room(&mut self) -> bool {
        let life = self.life();
        life.wal.want(ROOM_BYTES);
        let in_flight: usize = life.partitions.iter().map(Partition::in_flight_bytes).sum();
        life.wal.capacity_bytes() >= ROOM_BYTES && in_flight < IN_FLIGHT_BYTES_MAX
    }

    fn settle(&mut self) {
        let life = self.life.as_mut().unwrap();
        let durable = life.wal.durable();
        for (number, partition) in life.partitions.iter_mut().enumerate() {
            partition.settle(durable);
            self.references[number].settle(partition.applied());
            let damaged = partition.damage().is_some();
            assert!(
                !damaged || self.trust == Trust::RightOrError,
                "{:?}",
                partition.damage()
            );
        }
    }

    pub(crate) fn drain(&mut self) {
        let life = self.life.as_mut().unwrap();
        for (number, partition) in life.partitions.iter_mut().enumerate() {
            partition.drain(&mut life.wal, &mut life.clock);
            self.open[number] = None;
        }
        life.wal.flush();
    }

    /// Freezes, flushes, merges, saves checkpoints and releases the log, as a shard does, but at
    /// random moments.
    fn upkeep(&mut self) {
        let (rng, setup) = (&mut self.rng, &self.setup);
        let life = self.life.as_mut().unwrap();
        let (mut pinned, mut edits) = (life.wal.position(), life.wal.position());
        let mut unsaved = 0;
        for partition in &mut life.partitions {
            let full = partition.active_bytes() >= setup.memtable_bytes;
            if self.works && (full || rng.chance(0.01)) && partition.freeze() {
                self.tally.freezes += 1;
            }
            if self.works && rng.chance(0.5) {
                partition.start_flush();
            }
            if self.works && rng.chance(0.3) {
                partition.start_merge(&setup.policy);
            }
            pinned = pinned.min(partition.pinned(&life.wal));
            edits = edits.min(partition.edits_pinned(&life.wal));
            unsaved += partition.unsaved_edits();
        }
        life.wal.release(pinned.min(life.saved.releasable.get()));
        if self.saves && unsaved > 0 && rng.chance(0.2) {
            self.tally.checkpoints += 1;
            save_checkpoint(life, setup.wal.log_id, edits);
        }
        if self.works && rng.chance(0.7) {
            life.ground.grant_slices(rng.index(4));
        }
    }
}

fn save_checkpoint(life: &mut Life, log_id: u64, position: Position) {
    let Some(mut manifest) = life.saved.manifest.borrow_mut().take() else {
        return;
    };
    let mut partitions = Vec::new();
    for partition in &mut life.partitions {
        partition.take_unsaved_edits();
        partitions.extend(partition.checkpoint());
    }
    let saved = Rc::clone(&life.saved);
    life.reactor.spawn(async move {
        let checkpoint = Checkpoint {
            log_id,
            position,
            partitions,
            ballots: Vec::new(),
        };
        if manifest.write(&checkpoint).await.is_ok() {
            saved.releasable.set(manifest.releasable());
        }
        *saved.manifest.borrow_mut() = Some(manifest);
    });
}

/// Recovers a shard, in the order in which a node does it.
async fn recover(
    reactor: Reactor,
    setup: Setup,
    ranges: Vec<KeyRange>,
    seed: u64,
) -> Result<Found, String> {
    for dir in ["/log", "/tables", "/manifest"] {
        let made = file::create_dir(&reactor, Path::new(dir)).await;
        made.map_err(|error| format!("{dir}: {error}"))?;
    }
    let synced = file::sync_dir(&reactor, Path::new("/")).await;
    synced.map_err(|error| format!("/: {error}"))?;
    let ground = Ground::new(
        &reactor,
        GroundOptions {
            dir: PathBuf::from("/tables"),
            cache_bytes: setup.cache_bytes,
            memtable_bytes: 1 << 20,
            reads_inflight_max: 4,
            open_files_max: 6,
            layout: setup.layout,
        },
    );
    let manifest = Manifest::open(&reactor, Path::new("/manifest"), 0).await;
    let (manifest, saved) = manifest.map_err(|error| error.to_string())?;
    let saved = saved.unwrap_or_default();
    let position = saved.position;
    let mut saved: BTreeMap<u32, _> = saved
        .partitions
        .into_iter()
        .map(|e| (e.partition, e))
        .collect();
    let mut clock = Clock::default();
    let mut recovering = Vec::new();
    for (number, range) in (0..).zip(ranges) {
        let partition = Partition::on_ground(PartitionId(number), range, seed, &ground);
        recovering.push(Recovering::begin(
            partition,
            saved.remove(&number),
            &mut clock,
        )?);
    }
    let recovered = wal::recover(&reactor, &setup.wal, |position, record| {
        let number = record_partition(record).ok_or("too short for a record")?;
        recovering[number as usize].take(position, record, &mut clock)
    })
    .await;
    let recovered = recovered.map_err(|error| error.to_string())?;
    if recovered.start > position {
        return Err(format!(
            "/log begins at {:?}, /manifest is of {position:?}",
            recovered.start
        ));
    }
    let mut partitions = Vec::new();
    for of in recovering {
        partitions.push(of.finish().await.map_err(|error| error.to_string())?);
    }
    Ok((partitions, clock, recovered, ground, manifest))
}
