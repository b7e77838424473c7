//! One shard without its network: a partition on its tables, its log on a reactor, turn after turn.
//! What a shard of the node does in a turn is done here in the same order and with the same limits;
//! no connection, no parsing, no checkpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_consensus::{Clock, PartitionId};
use ashlar_io::wal::{Durability, Options, Wal, recover};
use ashlar_io::{Reactor, Settings};
use ashlar_partition::lsm::pick::Policy;
use ashlar_partition::lsm::{Ground, GroundOptions, Layout, Pin};
use ashlar_partition::{
    Condition, Expiry, KeyRange, Partition, Put, Refusal, Request, Response, Return, Scan, Scanned,
    Want,
};

use crate::Failure;
use crate::keys::{KEY_BYTES, VALUE_BYTES};

/// Commands in a turn.
pub(crate) const TURN_COMMANDS: u64 = 64;
// The limits from here on are those of `node/src/core/upkeep.rs` and of the default configuration.

/// Slices of flushes and merges in a turn with commands in it, and without.
const SLICES_BUSY: u64 = 1;
const SLICES_IDLE: u64 = 16;
/// Shares of the memtables' memory: active ones are frozen above the first, nothing is taken above
/// the second; in percent.
const ACTIVE_PERCENT: u64 = 40;
const HARD_PERCENT: u64 = 95;
/// Bytes proposed and not yet durable, at most.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// Bytes that a turn may add to the log.
const TURN_BYTES: u64 = TURN_COMMANDS * (KEY_BYTES + VALUE_BYTES + 128) as u64;
/// Log above which the oldest memtable is frozen.
const LOG_BYTES_MAX: u64 = 512 << 20;

/// The memory of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// For blocks of tables, in bytes.
    pub(crate) cache_bytes: u64,
    /// For memtables, in bytes.
    pub(crate) memtable_bytes: u64,
}

/// Whether a turn had commands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// It had.
    Busy,
    /// It had none.
    Idle,
}

/// Whether tables are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merging {
    /// As soon as there is something to merge.
    On,
    /// Not yet.
    Off,
}

/// What a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A value.
    Found,
    /// There is none.
    Absent,
    /// Something has to be read first.
    Wanted(Want),
}

/// A shard without its network.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Its machine.
    pub(crate) reactor: Reactor,
    /// What its tables stand on.
    pub(crate) ground: Ground,
    /// Whether tables are merged.
    pub(crate) merging: Merging,
    wal: Wal,
    clock: Clock,
    partition: Partition,
    memtable_bytes: u64,
    now_ms: u64,
    wall_us: u64,
    key: Vec<u8>,
}

impl Engine {
    /// Makes an empty engine below `dir`, which keeps history for `history_ms`.
    pub(crate) fn create(dir: &Path, memory: Memory, history_ms: u32) -> Result<Self, Failure> {
        let (wal_dir, tables_dir) = (dir.join("wal"), dir.join("tables"));
        for made in [&wal_dir, &tables_dir] {
            fs::create_dir_all(made).map_err(|e| format!("cannot make {made:?}: {e}"))?;
        }
        let reactor = Reactor::new(&Settings::default()).map_err(|error| error.to_string())?;
        let options = log_options(wal_dir);
        let (own, wanted) = (reactor.clone(), options.clone());
        let recovered =
            reactor.block_on(async move { recover(&own, &wanted, |_, _| Ok(())).await });
        let recovered = recovered.map_err(|error| error.to_string())?;
        let wal = Wal::open(&reactor, options, recovered);
        let ground = Ground::new(
            &reactor,
            GroundOptions {
                dir: tables_dir,
                cache_bytes: memory.cache_bytes,
                memtable_bytes: memory.memtable_bytes,
                reads_inflight_max: 128,
                open_files_max: 4096,
                layout: Layout::default(),
            },
        );
        let mut partition = Partition::on_ground(PartitionId(0), KeyRange::all(), 42, &ground);
        partition.keep_history(history_ms);
        Ok(Self {
            reactor,
            ground,
            merging: Merging::On,
            wal,
            clock: Clock::default(),
            partition,
            memtable_bytes: memory.memtable_bytes,
            now_ms: 0,
            wall_us: 0,
            key: Vec::new(),
        })
    }

    /// Begins a turn: takes what has completed, applies what the log holds, runs tasks.
    pub(crate) fn begin(&mut self) {
        self.reactor.reap();
        let wall = self.reactor.wall();
        (self.now_ms, self.wall_us) = (wall.millis(), wall.0);
        let durable = self.wal.poll().expect("the disk takes the log");
        self.partition.settle(durable);
        self.reactor.run_ready();
    }

    /// Ends a turn: starts and paces flushes and merges, gives the turn's entry to the log.
    pub(crate) fn end(&mut self, load: Load) {
        let hurried = self.work(load) || load == Load::Busy;
        self.partition.drain(&mut self.wal, &mut self.clock);
        self.wal.flush();
        let wait = Duration::from_millis(10);
        self.reactor
            .park(Some(self.reactor.now() + wait), || hurried);
    }

    fn work(&mut self, load: Load) -> bool {
        let partition = &mut self.partition;
        if partition.active_bytes() > self.memtable_bytes * ACTIVE_PERCENT / 100 {
            partition.freeze();
        }
        if self.wal.live_bytes() > LOG_BYTES_MAX {
            partition.freeze_oldest();
        }
        partition.start_flush();
        let policy = Policy::default();
        if self.merging == Merging::On {
            partition.start_merge(&policy);
        }
        let pinned = partition.pinned(&self.wal);
        self.wal
            .release(pinned.min(partition.edits_pinned(&self.wal)));
        let pressing = partition.debt_bytes() / self.memtable_bytes;
        let slices = match load {
            Load::Busy => (SLICES_BUSY + pressing / 4).min(SLICES_IDLE),
            Load::Idle => SLICES_IDLE,
        };
        self.ground
            .grant_slices(usize::try_from(slices).expect("a few"))
    }

    /// Says whether a turn may take its commands: memory and log have room.
    pub(crate) fn takes(&self) -> bool {
        self.wal.want(TURN_BYTES);
        self.wal.capacity_bytes() >= TURN_BYTES
            && self.partition.in_flight_bytes() < IN_FLIGHT_BYTES_MAX
            && self.partition.used_bytes() < self.memtable_bytes * HARD_PERCENT / 100
    }

    /// Sets a value.
    pub(crate) fn put(&mut self, user_key: &[u8], value: &[u8]) {
        let put = Request::Put(Put {
            value,
            condition: Condition::Always,
            expiry: Expiry::Never,
            returns: Return::Outcome,
        });
        set_key(&mut self.key, user_key);
        let (clock, wall_us) = (&mut self.clock, self.wall_us);
        let (done, _) = self.partition.serve(
            &self.key,
            &put,
            self.now_ms,
            || clock.take(wall_us),
            |response| response == Response::Done,
        );
        assert!(done, "a turn that takes commands refuses none");
    }

    /// Reads a value.
    pub(crate) fn get(&mut self, user_key: &[u8]) -> Got {
        set_key(&mut self.key, user_key);
        let (clock, wall_us) = (&mut self.clock, self.wall_us);
        let (got, _) = self.partition.serve(
            &self.key,
            &Request::Get,
            self.now_ms,
            || clock.take(wall_us),
            |response| match response {
                Response::Value(value, _) => {
                    std::hint::black_box(value.len());
                    Some(Got::Found)
                }
                Response::Missing => Some(Got::Absent),
                Response::Refused(Refusal::NotInMemory) => None,
                other => unreachable!("a read is not answered {other:?}"),
            },
        );
        let wanted = |partition: &mut Partition| {
            Got::Wanted(
                partition
                    .take_wants()
                    .pop()
                    .expect("what is not in memory is named"),
            )
        };
        got.unwrap_or_else(|| wanted(&mut self.partition))
    }

    /// Walks over keys; `take` is given each with its value.
    pub(crate) fn scan(&self, scan: &mut Scan, take: impl FnMut(&[u8], &[u8])) -> Scanned {
        self.partition.scan(scan, self.now_ms, take)
    }

    /// Brings something into memory, and waits for it.
    pub(crate) fn fetch(&self, want: Want) -> Pin {
        let ground = self.ground.clone();
        self.reactor
            .block_on(async move { ground.fetch(want).await })
            .expect("the tables can be read")
    }

    /// Brings several things into memory at once, and waits for all of them.
    pub(crate) fn fetch_all(&self, wants: &[Want]) -> Vec<Pin> {
        for want in wants.iter().skip(1) {
            let (ground, want) = (self.ground.clone(), *want);
            self.reactor
                .spawn(async move { drop(ground.fetch(want).await) });
        }
        wants.iter().map(|want| self.fetch(*want)).collect()
    }

    /// Waits until nothing is in flight, and nothing left to flush or to merge.
    pub(crate) fn finish_debt(&mut self) {
        loop {
            self.begin();
            self.end(Load::Idle);
            if !self.has_debt() {
                return;
            }
        }
    }

    /// Says whether something is in flight, being flushed or merged, or waits for it.
    fn has_debt(&self) -> bool {
        let unsettled = self.partition.in_flight_bytes() > 0 || self.partition.frozen_bytes() > 0;
        unsettled || (self.merging == Merging::On && self.partition.is_merging())
    }

    /// Moves all that is in memory to tables.
    pub(crate) fn flush_all(&mut self) {
        self.finish_debt();
        while self.partition.active_bytes() > 0 && !self.partition.freeze() {
            self.begin();
            self.end(Load::Idle);
        }
        self.finish_debt();
    }

    /// Returns the bytes of the tables' files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.partition.file_bytes()
    }

    /// Returns the bytes of payload and of all that was written to the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.wal.written().1
    }
}

/// Returns the options of a log that is not durable: neither are the peers' as they are run.
fn log_options(dir: PathBuf) -> Options {
    Options {
        dir,
        log_id: 1,
        segment_bytes: 64 << 20,
        segments_spare: 4,
        inflight_max: 2,
        batch_bytes: 256 << 10,
        durability: Durability::None,
    }
}

/// Makes an internal key of database 0.
fn set_key(key: &mut Vec<u8>, user_key: &[u8]) {
    key.clear();
    key.push(0);
    key.extend_from_slice(user_key);
}
