//! Feeds replicas that lag behind what their leader keeps in memory: reads entries back from the log, as long as
//! that has them, and hands them to the leader, which sends them. What the log has not got any more goes as a
//! snapshot.
//!
//! Invariants:
//! 1. At most [`FEEDS_MAX`] readings of a shard are under way, each of at most an append and
//!    [`SCAN_BYTES_MAX`] of the log.
//! 2. The log is held back for such a replica by at most `wal.laggard_bytes_max`, and half of `wal.log_bytes_max`;
//!    by nothing on a full disk.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use ashlar_consensus::Index;
use ashlar_io::wal::{Position, Replay};
use ashlar_partition::command::EntryHeader;
use ashlar_partition::{Feed, Turn};

use super::space::Level;
use super::{Cluster, Core};

/// Readings under way.
const FEEDS_MAX: u32 = 2;
/// Bytes of the log that one of them looks through: entries of other partitions lie between.
const SCAN_BYTES_MAX: u64 = 16 << 20;

/// What is to be read, and how much is.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    /// Each replica that lags waits for one at most.
    waiting: RefCell<VecDeque<Feed>>,
    under_way: Cell<u32>,
    /// Entries handed on so far.
    pub(super) entries: Cell<u64>,
}

impl Core {
    /// Takes in what replicas elsewhere are to be fed with.
    pub(super) fn feed(self: &Rc<Self>, wanted: Vec<Feed>) {
        let Some(cluster) = &self.cluster else { return };
        cluster.feeds.waiting.borrow_mut().extend(wanted);
        while cluster.feeds.under_way.get() < FEEDS_MAX {
            let Some(feed) = cluster.feeds.waiting.borrow_mut().pop_front() else {
                return;
            };
            cluster
                .feeds
                .under_way
                .set(cluster.feeds.under_way.get() + 1);
            let core = Rc::clone(self);
            self.reactor.spawn(async move {
                let replay = core.data.borrow().wal.replay(feed.from);
                let entries = match replay {
                    Some(replay) => read_entries(replay, &feed).await,
                    None => Vec::new(),
                };
                core.fed(&feed, entries);
            });
        }
    }

    /// Hands on what was read, and goes on with what waits.
    fn fed(self: &Rc<Self>, feed: &Feed, entries: Vec<Vec<u8>>) {
        let Some(cluster) = &self.cluster else { return };
        let feeds = &cluster.feeds;
        feeds.under_way.set(feeds.under_way.get() - 1);
        feeds
            .entries
            .set(feeds.entries.get() + entries.len() as u64);
        self.hand_on(cluster, feed, entries);
        self.stir();
        self.hurry();
        self.feed(Vec::new());
    }

    fn hand_on(&self, cluster: &Cluster, feed: &Feed, entries: Vec<Vec<u8>>) {
        let mut data = self.data.borrow_mut();
        let data = &mut *data;
        let owned = data.owned.get_mut(feed.partition.0 as usize);
        if let Some(owned) = owned.and_then(Option::as_mut) {
            let mut turn = Turn {
                now: self.mono(),
                supports: &cluster.supports.borrow(),
                wal: &mut data.wal,
                clock: &mut data.clock,
                outbox: &mut cluster.outbox.borrow_mut(),
            };
            owned.partition.feed(feed, entries, &mut turn);
        }
    }

    /// Returns how many entries were read back for replicas that lagged behind.
    pub(crate) fn fed_entries(&self) -> u64 {
        self.cluster
            .as_ref()
            .map_or(0, |cluster| cluster.feeds.entries.get())
    }

    /// Returns the first position of the log that is kept for replicas that lag behind.
    pub(super) fn laggards_pin(&self, position: Position, log_bytes_max: u64) -> Option<Position> {
        let limit = self
            .config
            .borrow()
            .wal
            .laggard_bytes_max
            .min(log_bytes_max / 2);
        if self.shared.space.level() == Level::Full {
            return None;
        }
        let mut data = self.data.borrow_mut();
        let oldest = data.partitions().filter_map(|of| of.laggard_at()).min()?;
        Some(oldest.max(Position(position.0.saturating_sub(limit))))
    }
}

/// Entries that were read back.
#[derive(Default)]
struct Found {
    entries: Vec<Vec<u8>>,
    bytes: usize,
    /// What comes next does not fit.
    is_full: bool,
}

impl Found {
    /// Takes in a record of the log. Of two entries with one index the later counts.
    fn take(&mut self, wanted: &Feed, record: &[u8]) {
        let Ok(header) = EntryHeader::decode(record) else {
            return;
        };
        let fetch = &wanted.fetch;
        let next = Index(fetch.first.0 + self.entries.len() as u64);
        if header.partition != wanted.partition || header.index < fetch.first || next < header.index
        {
            return;
        }
        let place = usize::try_from(header.index.0 - fetch.first.0).expect("below the count");
        let dropped: usize = self.entries.drain(place..).map(|entry| entry.len()).sum();
        self.bytes -= dropped;
        self.is_full = place >= fetch.entries_max as usize
            || place > 0 && self.bytes + record.len() > fetch.bytes_max as usize;
        if !self.is_full {
            self.bytes += record.len();
            self.entries.push(record.to_vec());
        }
    }
}

/// Reads the entries that are wanted, one after another.
async fn read_entries(mut replay: Replay, feed: &Feed) -> Vec<Vec<u8>> {
    let mut found = Found::default();
    while !found.is_full && replay.read_bytes() < SCAN_BYTES_MAX {
        let more = replay.read(|record| found.take(feed, record));
        match more.await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::warn!("the log cannot be read for a replica that lags: {error}");
                break;
            }
        }
    }
    found.entries
}
