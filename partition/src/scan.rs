//! Walks the keys of a partition in order, over memtables and tables at once.
//!
//! Each call looks at a bounded number of keys and then answers where to go on; so a scan of any size
//! takes bounded memory, and nobody keeps a place in a structure that changes. What lies in entries in
//! flight is not seen: it is not acknowledged yet.

use std::cell::Ref;
use std::ops::{Bound, ControlFlow};

use ashlar_consensus::Timestamp;

use crate::lsm::block::{BlockEntry, Older};
use crate::lsm::cache::{Cache, Class};
use crate::lsm::filter::filter_hash;
use crate::lsm::run_cursor::RunCursor;
use crate::lsm::table::{Found, Stream};
use crate::lsm::{Miss, Value};
use crate::memtable::range::{Range, RangeRev};
use crate::memtable::{Kind, Memtable, Version};
use crate::partition::Partition;
use crate::read::Want;

/// Blocks of a run that are wanted together when one is missing: 256 KiB of upper runs.
const AHEAD_BLOCKS: usize = 64;
/// Keys looked at in one call, deleted ones too: a turn is not held up by tombstones.
const LOOKS_MAX: usize = 4096;

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lesser keys first.
    Ascending,
    /// Greater keys first.
    Descending,
}

/// What of a key is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key alone: separated values are not read.
    Key,
    /// Key and value.
    Value,
}

/// What to walk over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The keys: internal ones.
    pub keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// Direction.
    pub order: Order,
    /// What is wanted of them.
    pub part: Part,
    /// As of when; `None` for now.
    pub at: Option<Timestamp>,
    /// Keys taken at most.
    pub keys_max: usize,
    /// Keys and values taken at most, in bytes, but for one that is larger by itself.
    pub bytes_max: usize,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// There are no more keys.
    End,
    /// Enough were taken; there may be more behind the last one looked at.
    Limit,
    /// These must be brought into memory before it can go on behind the last key looked at.
    Want(Vec<Want>),
}

impl Scan {
    /// Goes on behind `key`.
    pub fn resume(&mut self, key: &[u8]) {
        match self.order {
            Order::Ascending => self.keys.0 = Bound::Excluded(key.to_vec()),
            Order::Descending => self.keys.1 = Bound::Excluded(key.to_vec()),
        }
    }

    fn begin(&self) -> Bound<&[u8]> {
        let (start, end) = &self.keys;
        let begin = match self.order {
            Order::Ascending => start,
            Order::Descending => end,
        };
        begin.as_ref().map(Vec::as_slice)
    }

    pub(crate) fn is_past(&self, key: &[u8]) -> bool {
        match (self.order, &self.keys.0, &self.keys.1) {
            (Order::Ascending, _, Bound::Included(end)) => key > end.as_slice(),
            (Order::Ascending, _, Bound::Excluded(end)) => key >= end.as_slice(),
            (Order::Descending, Bound::Included(start), _) => key < start.as_slice(),
            (Order::Descending, Bound::Excluded(start), _) => key <= start.as_slice(),
            (Order::Ascending, _, Bound::Unbounded) | (Order::Descending, Bound::Unbounded, _) => {
                false
            }
        }
    }
}

impl Partition {
    /// Walks over keys that are there, expired ones left out; `take` is given each with its value.
    /// `scan` is moved behind the last key looked at, so that the same call goes on.
    pub fn scan(
        &self,
        scan: &mut Scan,
        now_ms: u64,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Scanned {
        self.scan_versions(scan, now_ms, |key, version| take(key, version.value))
    }

    /// Walks as [`Partition::scan`] does; `take` is told of the versions, too.
    pub fn scan_versions(
        &self,
        scan: &mut Scan,
        now_ms: u64,
        mut take: impl FnMut(&[u8], &Version<'_>),
    ) -> Scanned {
        let at = scan.at.map_or(u64::MAX, |at| at.0);
        let now_ms = scan.at.map_or(now_ms, |at| at.micros() / 1000);
        let mut last = Vec::new();
        let scanned = self.walk(scan, at, |key, version| {
            let there = version.is_some_and(|version| {
                let live = version.expire_at_ms.is_none_or(|end| end > now_ms);
                if live {
                    take(key, &version);
                }
                live
            });
            last.clear();
            last.extend_from_slice(key);
            there
        });
        if !last.is_empty() {
            scan.resume(&last);
        }
        scanned
    }

    /// Says whether all that is applied lies in one memtable: nothing was frozen or flushed yet.
    pub(crate) fn is_in_one_memtable(&self) -> bool {
        let tree = self.tree.as_ref();
        tree.is_none_or(|tree| tree.version().runs.is_empty() && tree.frozen().next().is_none())
    }

    /// Walks over the keys in the memtable alone, until `take` breaks off: the most frequent of walks, and shorter than
    /// one that merges.
    pub(crate) fn walk_memtable(
        &self,
        scan: &Scan,
        mut take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) {
        let walk = |key: &[u8], version: Version<'_>| {
            let hidden = self.ranges.newest_over(key, u64::MAX);
            let is_there = version.kind.is_there();
            match is_there && hidden.is_none_or(|hidden| version.timestamp > hidden) {
                true => take(key, version.value),
                false => ControlFlow::Continue(()),
            }
        };
        let inside = |key: &[u8]| !scan.is_past(key);
        match scan.order {
            Order::Ascending => self.memtable.walk_up(scan.begin(), inside, walk),
            Order::Descending => self.memtable.walk_down(scan.begin(), inside, walk),
        }
    }

    /// Looks at every key; `look` says whether it counts as taken.
    fn walk(
        &self,
        scan: &Scan,
        at: u64,
        mut look: impl FnMut(&[u8], Option<Version<'_>>) -> bool,
    ) -> Scanned {
        let mut merged = match Merged::begin(self, scan, at) {
            Ok(merged) => merged,
            Err(wants) => return Scanned::Want(wants),
        };
        let (mut keys, mut bytes, mut looked_at) = (0, 0, 0);
        while let Some(key) = merged.key() {
            if scan.is_past(key) {
                return Scanned::End;
            }
            if keys >= scan.keys_max || bytes >= scan.bytes_max || looked_at >= LOOKS_MAX {
                return Scanned::Limit;
            }
            looked_at += 1;
            let tied = merged.tied();
            let looked = merged.look(key, tied, at, scan.part, |version| {
                if look(key, version) {
                    keys += 1;
                    bytes += key.len() + version.map_or(0, |version| version.value.len());
                }
            });
            if let Err(wants) = looked.map_err(|want| vec![want]) {
                return Scanned::Want(wants);
            }
            if let Err(wants) = merged.advance(tied) {
                return Scanned::Want(wants);
            }
        }
        Scanned::End
    }
}

/// One of the places that keys come from.
enum Source<'a> {
    Up(Range<'a>, Option<(&'a [u8], Version<'a>)>),
    Down(RangeRev<'a>, Option<(&'a [u8], Version<'a>)>),
    Run(RunCursor),
}

impl<'a> Source<'a> {
    fn memory(memtable: &'a Memtable, scan: &Scan, at: u64) -> Self {
        match scan.order {
            Order::Ascending => {
                let mut range = memtable.range(scan.begin()).seen_at(at);
                let first = range.next();
                Self::Up(range, first)
            }
            Order::Descending => {
                let mut range = memtable.range_rev(scan.begin()).seen_at(at);
                let first = range.next();
                Self::Down(range, first)
            }
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::Up(_, current) | Self::Down(_, current) => current.map_or(&[], |(key, _)| key),
            Self::Run(cursor) => cursor.key(),
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Up(_, current) | Self::Down(_, current) => current.is_some(),
            Self::Run(cursor) => cursor.is_valid(),
        }
    }
}

/// All sources at their places.
///
/// They wait in a queue in the order of the keys that they are at. Mostly the one that comes first comes
/// first again once it has gone on, so that a step takes one or two comparisons, however many there are.
pub(crate) struct Merged<'a> {
    partition: &'a Partition,
    /// Newest first.
    sources: Vec<Source<'a>>,
    /// Those that are at a key, by number: of equal keys the newest first.
    queue: Vec<usize>,
    order: Order,
    cache: Option<Ref<'a, Cache>>,
}

impl<'a> Merged<'a> {
    pub(crate) fn begin(partition: &'a Partition, scan: &Scan, at: u64) -> Result<Self, Vec<Want>> {
        let mut merged = Self {
            partition,
            sources: vec![Source::memory(&partition.memtable, scan, at)],
            queue: Vec::new(),
            order: scan.order,
            cache: None,
        };
        let Some(tree) = &partition.tree else {
            merged.line_up();
            return Ok(merged);
        };
        let frozen = tree.frozen().rev();
        merged
            .sources
            .extend(frozen.map(|frozen| Source::memory(&frozen.memtable, scan, at)));
        let cache = tree.store().cache();
        let mut wants = Vec::new();
        for run in &tree.version().runs {
            let mut cursor = RunCursor::new(run, Stream::Main);
            let sought = match scan.order {
                Order::Ascending => cursor.seek(&*cache, scan.begin()),
                Order::Descending => cursor.seek_back(&*cache, scan.begin()),
            };
            match sought {
                Ok(()) => merged.sources.push(Source::Run(cursor)),
                Err(miss) => wants.push(Want::Walked(miss)),
            }
        }
        merged.cache = Some(cache);
        if !wants.is_empty() {
            return Err(wants);
        }
        merged.line_up();
        Ok(merged)
    }

    /// Puts the sources that are at a key in order.
    fn line_up(&mut self) {
        let valid = |at: &usize| self.sources[*at].is_valid();
        self.queue = (0..self.sources.len()).filter(valid).collect();
        for at in (0..self.queue.len()).rev() {
            self.let_pass(at);
        }
    }

    /// Says whether a source comes behind another one.
    #[inline]
    fn is_behind(&self, source: usize, other: usize) -> bool {
        let order = self.sources[source].key().cmp(self.sources[other].key());
        let order = match self.order {
            Order::Ascending => order,
            Order::Descending => order.reverse(),
        };
        order.then(source.cmp(&other)).is_gt()
    }

    /// Moves a place of the queue behind those of the following ones, which are in order, that come
    /// before it.
    #[inline]
    fn let_pass(&mut self, mut at: usize) {
        while at + 1 < self.queue.len() && self.is_behind(self.queue[at], self.queue[at + 1]) {
            self.queue.swap(at, at + 1);
            at += 1;
        }
    }

    /// Returns the key that comes next.
    #[inline]
    pub(crate) fn key(&self) -> Option<&[u8]> {
        self.queue.first().map(|first| self.sources[*first].key())
    }

    /// Returns how many sources are at the key that comes next.
    #[inline]
    pub(crate) fn tied(&self) -> usize {
        let key = self.key();
        let others = self.queue.iter().skip(1);
        1 + others
            .take_while(|other| Some(self.sources[**other].key()) == key)
            .count()
    }

    /// Gives `look` what a reader at `at` sees of `key`, which is where the first `tied` sources are.
    pub(crate) fn look(
        &self,
        key: &[u8],
        tied: usize,
        at: u64,
        part: Part,
        look: impl FnOnce(Option<Version<'_>>),
    ) -> Result<(), Want> {
        let hidden = self.partition.ranges.newest_over(key, at);
        let visible = |timestamp: u64, kind: Kind| {
            kind.is_there() && hidden.is_none_or(|hidden| timestamp > hidden)
        };
        for source in &self.queue[..tied] {
            let cursor = match &self.sources[*source] {
                Source::Up(_, current) | Source::Down(_, current) => {
                    let version = current.map(|(_, version)| version);
                    look(version.filter(|v| visible(v.timestamp, v.kind)));
                    return Ok(());
                }
                Source::Run(cursor) => cursor,
            };
            let older;
            let mut entry = cursor.inner().entry();
            if entry.timestamp > at {
                if entry.older == Older::Absent {
                    continue;
                }
                let table = cursor.table();
                match table.find(self.cache(), key, filter_hash(key), at) {
                    Err(miss) => return Err(Want::Walked(miss)),
                    Ok(Found::Absent) => continue,
                    Ok(Found::Hit(hit)) => older = hit,
                }
                entry = older.entry();
            }
            if !visible(entry.timestamp, entry.kind) {
                look(None);
                return Ok(());
            }
            return self.look_at_value(entry, part, look);
        }
        look(None);
        Ok(())
    }

    fn look_at_value(
        &self,
        entry: BlockEntry<'_>,
        part: Part,
        look: impl FnOnce(Option<Version<'_>>),
    ) -> Result<(), Want> {
        let version = |value| Version {
            timestamp: entry.timestamp,
            kind: entry.kind,
            expire_at_ms: entry.expire_at_ms,
            value,
        };
        match (entry.value, part) {
            (Value::Inline(value), _) => look(Some(version(value))),
            (Value::Separate(_), Part::Key) => look(Some(version(&[]))),
            (Value::Separate(value), Part::Value) => {
                let partition = self.partition.id.0;
                let tree = self.partition.tree.as_ref().expect("it has tables");
                match tree.store().find_value(partition, &value) {
                    Some(block) => look(Some(version(block.bytes()))),
                    None => return Err(Want::Value { partition, value }),
                }
            }
        }
        Ok(())
    }

    fn cache(&self) -> &Cache {
        self.cache.as_ref().expect("there are tables")
    }

    /// Moves the first `tied` sources on, the last of them first: what is behind them is in order.
    pub(crate) fn advance(&mut self, tied: usize) -> Result<(), Vec<Want>> {
        for at in (0..tied).rev() {
            let source = self.queue[at];
            self.advance_one(source)?;
            if self.sources[source].is_valid() {
                self.let_pass(at);
            } else {
                self.queue.remove(at);
            }
        }
        Ok(())
    }

    #[inline]
    fn advance_one(&mut self, source: usize) -> Result<(), Vec<Want>> {
        match &mut self.sources[source] {
            Source::Up(range, current) => *current = range.next(),
            Source::Down(range, current) => *current = range.next(),
            Source::Run(cursor) => {
                let cache = self.cache.as_deref().expect("there are tables");
                let moved = match self.order {
                    Order::Ascending => cursor.next(cache),
                    Order::Descending => cursor.previous(cache),
                };
                return moved.map_err(|miss| wants_of(cursor, miss, self.order));
            }
        }
        Ok(())
    }
}

/// Returns what a run needs to go on, and the blocks that it will need next.
#[cold]
fn wants_of(cursor: &RunCursor, miss: Miss, order: Order) -> Vec<Want> {
    let mut wants = vec![Want::Walked(miss)];
    // A cursor that misses within its table is where it was.
    if order == Order::Ascending && cursor.is_valid() {
        let file = cursor.table().file();
        let upcoming = cursor.inner().upcoming(AHEAD_BLOCKS).into_iter();
        let more = upcoming.filter(|block| *block != miss.block);
        wants.extend(more.map(|block| {
            Want::Walked(Miss {
                file,
                block,
                class: Class::Data,
            })
        }));
    }
    wants
}
