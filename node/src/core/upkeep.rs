//! What a shard does for its partitions beside their requests: freezes memtables that have grown or
//! hold the log back, starts flushes and merges and grants them their slices, saves checkpoints, lets
//! go of the log's beginning. It takes changes of the configuration over, too.
//!
//! Memory of a shard, of its share of `memory_bytes`:
//!
//! | part | share | what keeps it so |
//! |---|---|---|
//! | blocks of tables | 55 % | the cache evicts before it takes |
//! | memtables, entries in flight | 25 % | writers are slowed, then refused ([`super::admission`]) |
//! | tables' indexes, buffers of files and sockets, replies, the rest | 20 % | limits of each |

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ashlar_consensus::PartitionId;
use ashlar_io::Monotonic;
use ashlar_io::wal::Position;
use ashlar_partition::Partition;
use ashlar_partition::lsm::manifest::{Checkpoint, Manifest};
use ashlar_partition::lsm::pick::Policy;

use super::Core;
use super::space::Level;
use crate::config::Compaction;

/// Slices that flushes and merges get in a turn: with commands in it, and without.
const SLICES_BUSY: usize = 1;
const SLICES_IDLE: usize = 16;
/// Share of the memtables' memory that active ones may take before the largest is frozen, in
/// percent; the rest is for those that are being flushed.
const ACTIVE_PERCENT: u64 = 40;
/// Bytes of the log behind the last checkpoint at which a new one is saved, in any case.
const CHECKPOINT_BYTES: u64 = 32 << 20;
/// Edits since the last checkpoint at which a new one is saved.
const CHECKPOINT_EDITS: u64 = 64;
/// Part of the memtables' memory that entries kept for other replicas may take: one in this many, and
/// sixteen times that while a snapshot is being given.
const KEPT_PART: u64 = 32;
/// Most bytes of entries that a replica keeps for others.
const KEPT_BYTES_MAX: u64 = 1 << 20;
/// Least rate of flushes that admission counts on, in bytes of a millisecond.
const FLUSH_RATE_MIN: u64 = 16 << 10;

/// The state of a shard's upkeep.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// Absent while a checkpoint is being saved.
    manifest: RefCell<Option<Manifest>>,
    /// Edits before it are in the last checkpoint.
    saved: Cell<Position>,
    /// Bytes of frozen memtables as of the last measure, when that was, and the rate since then.
    flushing: Cell<Option<(u64, Monotonic)>>,
    flush_rate: Cell<u64>,
    /// The partition whose runs are being merged.
    merging: Cell<Option<PartitionId>>,
    /// Bytes of the log that are kept for replicas elsewhere only.
    held_bytes: Cell<u64>,
}

impl Upkeep {
    pub(super) fn new(manifest: Manifest) -> Self {
        Self {
            saved: Cell::new(manifest.releasable()),
            manifest: RefCell::new(Some(manifest)),
            flushing: Cell::new(None),
            flush_rate: Cell::new(FLUSH_RATE_MIN),
            merging: Cell::new(None),
            held_bytes: Cell::new(0),
        }
    }

    /// Returns the bytes of memtables that flushes take out of memory in a millisecond.
    pub(super) fn flushed_bytes_per_ms(&self) -> u64 {
        self.flush_rate.get()
    }

    /// Measures flushes: how long it took until frozen memtables were gone.
    fn measure(&self, frozen_bytes: u64, now: Monotonic) {
        match self.flushing.get() {
            None if frozen_bytes > 0 => self.flushing.set(Some((frozen_bytes, now))),
            Some((bytes, since)) if frozen_bytes < bytes => {
                let took = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
                let rate = (bytes - frozen_bytes) / took.max(1);
                // Halfway to what was just measured: one slow flush is not the device.
                let rate = u64::midpoint(self.flush_rate.get(), rate);
                self.flush_rate.set(rate.max(FLUSH_RATE_MIN));
                self.flushing
                    .set((frozen_bytes > 0).then_some((frozen_bytes, now)));
            }
            None | Some(_) => {}
        }
    }
}

impl Core {
    /// Takes a changed configuration over.
    pub(crate) fn refresh_config(&self) {
        let version = self.shared.config_version();
        if self.config_version.replace(version) != version {
            *self.config.borrow_mut() = Rc::new(self.shared.config());
            self.watched.is_on.set(self.config.borrow().io.timing);
        }
    }

    /// Bounds what replicas keep of applied entries for others: it counts as memory of memtables, which
    /// must not be full of it.
    pub(crate) fn bound_kept(&self) {
        let mut data = self.data.borrow_mut();
        let partitions = data.partitions().count() as u64;
        let share = self.shared.memtable_bytes() / KEPT_PART / partitions.max(1);
        let bytes = usize::try_from(share.min(KEPT_BYTES_MAX)).unwrap_or(0);
        data.partitions()
            .for_each(|partition| partition.keep_entries(bytes));
    }

    /// Does the upkeep of a turn; none of it is due on a shard that stops. `busy` tells whether clients had commands
    /// in it.
    pub(crate) fn work(self: &Rc<Self>, busy: bool) {
        if self.rest.passes() || self.is_stopping() {
            return;
        }
        let config = self.config();
        let policy = match config.partition.compaction {
            // Whatever a merge frees is worth its work.
            _ if self.shared.space.level() == Level::Full => Policy::Reclaim,
            Compaction::LazyLeveled => Policy::LazyLeveled {
                fanout: 4,
                upper_percent: upper_percent(config.partition.space_ratio),
            },
            Compaction::Leveled => Policy::Leveled { fanout: 8 },
        };
        self.freeze_full();
        self.freeze_straggler(config.wal.log_bytes_max);
        let mut data = self.data.borrow_mut();
        let (mut frozen_bytes, mut debt_bytes) = (0, 0);
        let (_, wal, partitions) = data.parts();
        let (mut pinned, mut edits) = (wal.position(), wal.position());
        let (mut unsaved, mut merging) = (0, self.upkeep.merging.get());
        for partition in partitions {
            partition.start_flush();
            // One merge at a time: the others wait for it, and for its share of the device.
            if merging.is_none_or(|id| id == partition.id()) {
                merging = partition.start_merge(&policy).then(|| partition.id());
            }
            frozen_bytes += partition.frozen_bytes();
            debt_bytes += partition.debt_bytes();
            pinned = pinned.min(partition.pinned(wal));
            edits = edits.min(partition.edits_pinned(wal));
            unsaved += partition.unsaved_edits();
        }
        let position = wal.position();
        self.upkeep.merging.set(merging);
        if frozen_bytes > 0 || merging.is_some() {
            self.stir();
        }
        self.upkeep.measure(frozen_bytes, self.reactor.now());
        let needed = pinned.min(self.upkeep.saved.get());
        drop(data);
        let lagging = self.laggards_pin(position, config.wal.log_bytes_max);
        let mut data = self.data.borrow_mut();
        let wal = &mut data.wal;
        wal.release(lagging.map_or(needed, |lagging| lagging.min(needed)));
        // What is kept for others is no reason to flush or to save.
        self.upkeep
            .held_bytes
            .set(needed.0.saturating_sub(wal.start().0));
        let live_bytes = wal.live_bytes() - self.upkeep.held_bytes.get();
        let behind = edits.0 - self.upkeep.saved.get().0.min(edits.0);
        // The log is held by what the checkpoint does not know of, or nearly.
        let holds = unsaved > 0 && live_bytes > config.wal.log_bytes_max / 2;
        drop(data);
        if behind > CHECKPOINT_BYTES || unsaved > CHECKPOINT_EDITS || holds {
            self.save_checkpoint(edits);
        }
        self.grant_slices(busy, (frozen_bytes, debt_bytes));
    }

    /// Freezes the largest memtable when all of them take too much.
    fn freeze_full(&self) {
        let limit = self.shared.memtable_bytes() * ACTIVE_PERCENT / 100;
        let mut data = self.data.borrow_mut();
        let (mut active, mut largest) = (0, None);
        for partition in data.partitions() {
            let bytes = partition.active_bytes();
            active += bytes;
            if largest.is_none_or(|(most, _)| bytes > most) {
                largest = Some((bytes, partition.id()));
            }
        }
        if active > limit
            && let Some((_, id)) = largest
            && let Some(partition) = data.partitions().find(|partition| partition.id() == id)
        {
            partition.freeze();
        }
    }

    /// Freezes the memtable that holds the beginning of a log that has grown too long.
    fn freeze_straggler(&self, log_bytes_max: u64) {
        let mut data = self.data.borrow_mut();
        if data
            .wal
            .live_bytes()
            .saturating_sub(self.upkeep.held_bytes.get())
            <= log_bytes_max
        {
            return;
        }
        let (_, wal, partitions) = data.parts();
        let mut stragglers: Vec<_> = partitions
            .filter(|partition| partition.pinned(wal) < wal.position())
            .collect();
        stragglers.sort_by_key(|partition| partition.pinned(wal));
        // One that cannot be flushed, for its tables are damaged, does not hold up the others.
        stragglers.into_iter().any(Partition::freeze_oldest);
    }

    /// Grants slices to flushes and merges: few while clients are served, more as work piles up.
    fn grant_slices(&self, busy: bool, (frozen_bytes, debt_bytes): (u64, u64)) {
        let memtable_bytes = self.shared.memtable_bytes().max(1);
        // Flushes press more than merges: writers are slowed before all memory is frozen.
        let pressing = debt_bytes / memtable_bytes / 4 + frozen_bytes * 8 / memtable_bytes;
        let slices = if busy {
            SLICES_BUSY + usize::try_from(pressing).unwrap_or(SLICES_IDLE)
        } else {
            SLICES_IDLE
        };
        if self.ground.grant_slices(slices.min(SLICES_IDLE)) {
            self.hurry();
        }
    }

    /// Saves a checkpoint, unless one is being saved. Edits before `position` are in it.
    fn save_checkpoint(self: &Rc<Self>, position: Position) {
        let Some(mut manifest) = self.upkeep.manifest.borrow_mut().take() else {
            return;
        };
        let (mut partitions, mut ballots) = (Vec::new(), Vec::new());
        for partition in self.data.borrow_mut().partitions() {
            partition.take_unsaved_edits();
            partitions.extend(partition.checkpoint());
            ballots.extend(partition.ballot());
        }
        let core = Rc::clone(self);
        self.reactor.spawn_named("a checkpoint", async move {
            let checkpoint = Checkpoint {
                log_id: core.shared.format.log_id(core.shard),
                position,
                partitions,
                ballots,
            };
            match manifest.write(&checkpoint).await {
                Ok(()) => core.upkeep.saved.set(manifest.releasable()),
                Err(error) => tracing::warn!("{error}; the log is kept until it can be"),
            }
            *core.upkeep.manifest.borrow_mut() = Some(manifest);
        });
    }
}

/// Returns how large what lies above the bottom may be beside it, for tables that take `space_ratio`
/// times the data.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the configuration bounds the ratio to 1.1 to 10"
)]
fn upper_percent(space_ratio: f64) -> u32 {
    ((space_ratio - 1.0) * 100.0) as u32
}
