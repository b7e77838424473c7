//! What a shard does for its files beside what partitions need: it has them searched for damage, and
//! watches the space of the data directory's disk.
//!
//! The space is looked at by the first shard, each second or with each tick when there is little, and
//! told to all. What a full disk means for a command is said in [`super::admission`].
//!
//! ```text
//! spare   100 % ........ low_percent ........ stop_percent ............ 0
//! level   plenty         low: a warning       full: what makes the data
//!                                             larger is refused
//! ```
//! What memtables hold is on its way to tables, so it counts as taken: else a node with much memory
//! would find out that a small disk is full when it is too late to write to it what frees space.
//!
//! A disk is full as well when a flush, a merge or the log finds no room, whatever is said to be free.
//! Then merges are looked for that would not be worth their work otherwise, and deletions are flushed
//! early, so that merges meet them.
//!
//! The reserve is a file of zeros, `RESERVE`. When a flush, a merge or the log finds no room at all,
//! the file is removed, so that deletions, flushes and merges can go on, which is how space comes back
//! on a disk that is used by nobody else. The reserve is made again before writes are taken again:
//! while it is gone, what is free counts only as far as it goes beyond it.
//!
//! Invariant: a level that was reached from above is left only when a quarter more is free than it
//! takes, so the answer to a writer does not change with every file.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use ashlar_io::{File, Monotonic, OpenOptions, Space, file};

use super::Core;
use crate::config::Disk;

/// Most time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// No disk is filled faster than this, in bytes of a microsecond: so long nobody needs to look.
const FILL_RATE_MAX: u64 = 4 << 10;
/// Time between two freezes of memtables on a full disk.
const FREEZE_INTERVAL: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);
/// Name of the reserve, in the data directory.
const RESERVE_NAME: &str = "RESERVE";
/// The reserve is at most this part of the disk: one in so many.
const RESERVE_PART: u64 = 20;

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Enough.
    #[default]
    Plenty,
    /// Less than `disk.low_percent`.
    Low,
    /// Less than `disk.stop_percent`: what makes the data larger is refused.
    Full,
}

impl Level {
    /// Returns the level in one word, as `INFO` shows it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Plenty => "ok",
            Self::Low => "low",
            Self::Full => "full",
        }
    }
}

/// What is known of the disk, for all shards.
#[derive(Debug, Default)]
pub struct Gauge {
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    reserve_bytes: AtomicU64,
    level: AtomicU8,
    /// A shard has found no room for what must go on.
    is_starved: AtomicBool,
}

impl Gauge {
    /// Returns the level, as of the last look.
    #[must_use]
    pub fn level(&self) -> Level {
        let level = self.level.load(Ordering::Relaxed);
        let mut known = [Level::Low, Level::Full].into_iter();
        known
            .find(|known| *known as u8 == level)
            .unwrap_or_default()
    }

    /// Returns the bytes that are free, of how many.
    #[must_use]
    pub fn space(&self) -> Space {
        Space {
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }

    /// Returns the size of the reserve, in bytes; 0 while it is let go.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes.load(Ordering::Relaxed)
    }

    fn is_starved(&self) -> bool {
        self.is_starved.load(Ordering::Relaxed)
    }

    /// Notes that there was no room for what must go on: a flush, a merge, a deletion.
    pub fn note_starved(&self) {
        self.is_starved.store(true, Ordering::Relaxed);
    }
}

/// What a shard keeps of its looks; only the first one looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When memtables may be frozen for the deletions in them.
    next_freeze: Cell<Monotonic>,
    next: Cell<Monotonic>,
    is_looking: Cell<bool>,
    /// Size of the reserve in bytes, once it is known.
    held: Cell<Option<u64>>,
    /// Writes of tables that the disk had no room for, as of the last turn.
    refused: Cell<u64>,
}

/// Returns the bytes that the reserve should have on a disk.
fn wanted_reserve(space: Space, knobs: &Disk) -> u64 {
    knobs.reserve_bytes.min(space.total_bytes / RESERVE_PART)
}

fn percent(total: u64, percent: u32) -> u64 {
    total / 100 * u64::from(percent)
}

/// Returns the level of a disk that has `spare` bytes to give.
fn judge(spare: u64, total: u64, knobs: &Disk, before: Level) -> Level {
    let is_below = |level: Level, limit: u64| {
        let margin = if before >= level { limit / 4 } else { 0 };
        limit > 0 && spare < limit + margin
    };
    if is_below(Level::Full, percent(total, knobs.stop_percent)) {
        Level::Full
    } else if is_below(Level::Low, percent(total, knobs.low_percent)) {
        Level::Low
    } else {
        Level::Plenty
    }
}

/// Returns how long a disk with `spare` bytes to give cannot come below `disk.low_percent`.
fn pause(spare: u64, total: u64, knobs: &Disk) -> Duration {
    let limit = percent(total, knobs.low_percent.max(knobs.stop_percent));
    Duration::from_micros(spare.saturating_sub(limit) / FILL_RATE_MAX).min(INTERVAL)
}

impl Core {
    /// Looks at the disk if it is time to; called with each tick.
    pub(crate) fn watch_space(self: &Rc<Self>) {
        self.note_refused_tables();
        self.freeze_deletions();
        let (watch, now) = (&self.space, self.reactor.now());
        let is_due = now >= watch.next.get() || self.shared.space.is_starved();
        if self.shard != 0 || watch.is_looking.get() || !is_due {
            return;
        }
        watch.is_looking.set(true);
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            let pause = core.look_at_space().await.unwrap_or_else(|error| {
                tracing::warn!("the space of the disk cannot be told: {error}");
                INTERVAL
            });
            core.space.next.set(core.reactor.now() + pause);
            core.space.is_looking.set(false);
        });
    }

    /// Goes on with the search for damage; called with each tick.
    pub(crate) fn scrub(&self) {
        let days = self.config().partition.scrub_days;
        if days > 0 {
            let mut data = self.data.borrow_mut();
            self.scrub.turn(DAY * days, data.partitions());
        }
    }

    /// Tells the first shard when a flush or a merge of this one found no room.
    fn note_refused_tables(&self) {
        let refused = self.ground.refused_writes();
        if self.space.refused.replace(refused) != refused {
            self.shared.space.note_starved();
        }
    }

    /// Freezes the memtables of a shard on a full disk now and then, and moves its low-water mark on:
    /// what was deleted gives its space back in a merge, which sees tables only, and drops only what
    /// nobody can read.
    fn freeze_deletions(&self) {
        let (gauge, now) = (&self.shared.space, self.reactor.now());
        if gauge.level() < Level::Full || now < self.space.next_freeze.get() {
            return;
        }
        self.space.next_freeze.set(now + FREEZE_INTERVAL);
        let (mut room, mut is_first) = (gauge.space().free_bytes / 2, true);
        let (_, now_us) = self.now();
        let mut data = self.data.borrow_mut();
        // An entry more waits for nothing but room, and one that waits is enough.
        let has_room = data.room_bytes > 0 || data.wal.is_idle();
        let (clock, _, partitions) = data.parts();
        for partition in partitions {
            if has_room {
                partition.advance(clock, now_us);
            }
            partition.look_again();
            let bytes = partition.active_bytes();
            // One of them in any case: when the disk has no room for it, the reserve has.
            let fits = bytes <= room || is_first;
            if fits && partition.frozen_bytes() == 0 && partition.freeze() {
                (room, is_first) = (room.saturating_sub(bytes), false);
            }
        }
    }

    /// Looks; returns the time until there may be something else to be seen.
    async fn look_at_space(&self) -> io::Result<Duration> {
        let config = self.config();
        let (knobs, gauge) = (&config.disk, &self.shared.space);
        let space = file::space(&self.reactor, &config.data).await?;
        let held = match self.space.held.get() {
            Some(held) => held,
            None => self.find_reserve().await,
        };
        let wanted = wanted_reserve(space, knobs);
        let unflushed = self.shared.stats.sum(|shard| &shard.used_bytes);
        // What the reserve will take again is not there to be given away.
        let taken = unflushed + wanted.saturating_sub(held);
        let spare = space.free_bytes.saturating_sub(taken);
        let before = gauge.level();
        let is_starved = gauge.is_starved.swap(false, Ordering::Relaxed);
        let level = match is_starved {
            true => Level::Full,
            false => judge(spare, space.total_bytes, knobs, before),
        };
        gauge.free_bytes.store(space.free_bytes, Ordering::Relaxed);
        gauge
            .total_bytes
            .store(space.total_bytes, Ordering::Relaxed);
        gauge.level.store(level as u8, Ordering::Relaxed);
        self.tell_level((before, level), (space, unflushed), is_starved);
        let held = if held > 0 && is_starved {
            tracing::warn!("the disk is full: the reserve of {held} bytes is let go");
            self.remove_reserve(held).await
        } else if held > wanted {
            self.remove_reserve(held).await
        } else if held < wanted && level < Level::Full && !is_starved && spare > 0 {
            self.make_reserve(wanted).await
        } else {
            held
        };
        self.space.held.set(Some(held));
        gauge.reserve_bytes.store(held, Ordering::Relaxed);
        Ok(pause(spare, space.total_bytes, knobs))
    }

    fn tell_level(
        &self,
        (before, level): (Level, Level),
        (space, unflushed): (Space, u64),
        is_starved: bool,
    ) {
        if before == level {
            return;
        }
        let dir = self.config().data.display().to_string();
        let Space {
            free_bytes,
            total_bytes,
        } = space;
        let free = format!(
            "{free_bytes} of {total_bytes} bytes are free on the disk of {dir}, and {unflushed} in memory are yet to \
             be written"
        );
        match level {
            Level::Plenty => tracing::info!("{free}: enough again"),
            Level::Low => tracing::warn!("{free}: less than disk.low_percent"),
            Level::Full if is_starved => tracing::error!(
                "{free}, and a write found no room; writes are refused until there is"
            ),
            Level::Full => tracing::error!(
                "{free}: less than disk.stop_percent; writes are refused until there is room"
            ),
        }
    }

    fn reserve_path(&self) -> PathBuf {
        self.config().data.join(RESERVE_NAME)
    }

    /// Returns the size of the reserve that an earlier life has left.
    async fn find_reserve(&self) -> u64 {
        let path = self.reserve_path();
        match File::open(&self.reactor, &path, OpenOptions::default()).await {
            Ok(file) => file.bytes().await.unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// Removes the reserve; returns the bytes that are left of it.
    async fn remove_reserve(&self, held: u64) -> u64 {
        match file::unlink(&self.reactor, &self.reserve_path()).await {
            Ok(()) => 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                tracing::warn!("the reserve cannot be removed: {error}");
                held
            }
        }
    }

    /// Makes the reserve; returns its size in bytes, 0 when there is no room.
    async fn make_reserve(&self, wanted: u64) -> u64 {
        let options = OpenOptions {
            write: true,
            create: true,
            ..OpenOptions::default()
        };
        let path = self.reserve_path();
        let made = match File::open(&self.reactor, &path, options).await {
            Ok(file) => file.preallocate(wanted).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::debug!("the reserve cannot be made: {error}");
            // Part of it may have been taken.
            drop(file::unlink(&self.reactor, &path).await);
            return 0;
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOBS: Disk = Disk {
        reserve_bytes: 256 << 20,
        low_percent: 10,
        stop_percent: 4,
    };

    #[test]
    fn a_level_is_left_a_quarter_above_where_it_was_reached() {
        let (total, mut level) = (100_000, Level::Plenty);
        let told = [
            (50_000, Level::Plenty),
            (10_000, Level::Plenty),
            (9_999, Level::Low),
            (12_499, Level::Low),
            (12_500, Level::Plenty),
            (4_000, Level::Low),
            (3_999, Level::Full),
            (4_999, Level::Full),
            (5_000, Level::Low),
            (0, Level::Full),
            (100_000, Level::Plenty),
        ];
        for (spare, expected) in told {
            level = judge(spare, total, &KNOBS, level);
            assert_eq!(level, expected, "{spare} bytes are left");
        }
    }

    /// A disk of 40 MiB was filled from a quarter to the last byte between two looks a second apart: then
    /// nothing was left for the flush that would have let go of the log.
    #[test]
    fn no_disk_is_filled_between_two_looks() {
        let (small, large) = (40 << 20, 1 << 40);
        assert_eq!(pause(small, small, &KNOBS), Duration::from_micros(9216));
        assert_eq!(pause(small / 10, small, &KNOBS), Duration::ZERO);
        assert_eq!(pause(0, small, &KNOBS), Duration::ZERO);
        assert_eq!(pause(large, large, &KNOBS), INTERVAL);
        let limit = percent(large, KNOBS.low_percent);
        let near = pause(limit + (1 << 30), large, &KNOBS);
        assert_eq!(near, Duration::from_micros((1 << 30) / FILL_RATE_MAX));
    }

    #[test]
    fn a_limit_of_nothing_is_never_reached() {
        let off = Disk {
            low_percent: 0,
            stop_percent: 0,
            ..KNOBS
        };
        assert_eq!(judge(0, 1 << 40, &off, Level::Plenty), Level::Plenty);
    }

    #[test]
    fn the_reserve_of_a_small_disk_is_small() {
        let of = |total_bytes| {
            let space = Space {
                free_bytes: 0,
                total_bytes,
            };
            wanted_reserve(space, &KNOBS)
        };
        assert_eq!(of(1 << 40), 256 << 20);
        assert_eq!(of(20 << 20), 1 << 20);
        assert_eq!(of(0), 0);
    }

    #[test]
    fn the_level_is_told_to_all_shards() {
        let gauge = Gauge::default();
        for level in [Level::Low, Level::Full, Level::Plenty] {
            gauge.level.store(level as u8, Ordering::Relaxed);
            assert_eq!(gauge.level(), level);
        }
    }
}
