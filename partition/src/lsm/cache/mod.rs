//! The blocks that a shard keeps in memory, by file and place. Not a reader: what is not here is
//! fetched by the `store`, which then puts it here.
//!
//! Three queues in the manner of S3-FIFO, each in order of arrival, and one of blocks to be
//! forgotten. A hit only counts in its block's heat (up to 3); blocks move when room is needed:
//!
//! ```text
//! what scans read        -> scan    evicted first, beyond 1/32 of the budget; touched again: small
//! what points read       -> small   evicted beyond 1/10 of the budget; touched again: main
//! ghosts of small, index
//! and filter blocks      -> main    a block of heat above 0 goes round once more, one colder
//! ```
//!
//! So a scan of everything passes through a thirtieth of the memory, and a block read once through
//! a tenth. A block is touched *again* at its second hit, since whoever missed it asks once more
//! when it is here.
//!
//! Most questions need no search: a table remembers where its filter blocks and index partitions were
//! ([`Recall`], which keeps nothing in memory), and an index partition in which entry the blocks were
//! that it refers to. What they remember is checked, and searched for anew when it is gone; so eviction
//! and the budget know nothing of it. Beside the budget it takes 4 bytes for each data block and some
//! 100 for each index or filter block of open tables.
//!
//! Invariants:
//! 1. A block that somebody else holds is not evicted: it would free nothing. Instead it moves one
//!    queue on.
//! 2. After an insertion, frames are within their budget, or [`STEPS_MAX`] blocks were looked at.
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.

mod block;
mod index;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::rc::Rc;

pub(crate) use block::{Block, Recall};
use index::{Ghosts, Index};

use super::frames::Frames;
use super::table::Source;
use super::{BlockRef, FileId, ValueRef};

/// Blocks looked at in one insertion, so that a turn ends even when all of them are held or hot. A
/// block costs at most four looks, so eviction is sixty times faster than insertion.
const STEPS_MAX: usize = 256;
/// Heat at which a block in `scan` or `small` is worth keeping.
const HEAT_AGAIN: u8 = 2;
/// Marks the number of a value file in a key.
const VALUES_BIT: u64 = 1 << 63;
/// No entry.
const NONE: u32 = u32::MAX;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A filter or an index: worth more than what it leads to.
    Meta,
    /// Versions, or a value.
    Data,
}

/// Who asked for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A question about one key.
    Point,
    /// A walk over many.
    Scan,
}

/// What the cache knows a block by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    number: u64,
    place: u64,
}

impl Key {
    /// Returns the key of a block of a table, or of whatever else lies at a sector of a file.
    #[inline]
    pub(crate) fn block(file: FileId, sector: u32) -> Self {
        Self {
            number: file.number,
            place: u64::from(file.partition) << 32 | u64::from(sector),
        }
    }

    /// Returns the key of a separated value; nothing for one that lies where none can: values start
    /// at multiples of 8, in files below 32 GiB.
    pub(crate) fn value(partition: u32, value: &ValueRef) -> Option<Self> {
        let slot = u32::try_from(value.offset / 8).ok()?;
        let is_possible = value.offset.is_multiple_of(8) && value.number < VALUES_BIT;
        is_possible.then(|| Self {
            number: value.number | VALUES_BIT,
            place: u64::from(partition) << 32 | u64::from(slot),
        })
    }

    #[inline]
    fn hash(self) -> u64 {
        let mixed = (self.place ^ self.number.rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 32 ^ self.number).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        mixed ^ mixed >> 32
    }
}

/// Where a block waits for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Forgotten,
    Scan,
    Small,
    Main,
}

/// One block, a link of its queue. An unused one is a link of the free list.
#[derive(Debug)]
struct Entry {
    key: Key,
    block: Option<Rc<Block>>,
    before: u32,
    after: u32,
    charged_bytes: u32,
    place: Place,
    class: Class,
}

/// A queue of entries, oldest first.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
    bytes: u64,
}

impl Queue {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        bytes: 0,
    };
}

/// What the cache has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheCounters {
    /// Questions answered from memory.
    pub(crate) hits: u64,
    /// Questions that were not.
    pub(crate) misses: u64,
    /// Blocks taken in.
    pub(crate) insertions: u64,
    /// Blocks let go of for others.
    pub(crate) evictions: u64,
    /// Bytes of index and filter blocks held now.
    pub(crate) meta_bytes: u64,
    /// Bytes of all other blocks held now.
    pub(crate) data_bytes: u64,
    /// Blocks held now.
    pub(crate) blocks: u64,
}

/// The blocks in memory.
#[derive(Debug)]
pub(crate) struct Cache {
    index: Index,
    entries: Vec<Entry>,
    free: u32,
    queues: [Queue; 4],
    ghosts: Ghosts,
    frames: Rc<Frames>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    /// All but hits and misses.
    counters: CacheCounters,
}

impl Cache {
    /// Returns an empty cache of `budget_bytes`.
    pub(crate) fn new(budget_bytes: u64) -> Self {
        let entries = usize::try_from(budget_bytes / 4096).expect("the budget fits in memory");
        Self {
            index: Index::new(entries),
            entries: Vec::new(),
            free: NONE,
            queues: [Queue::EMPTY; 4],
            ghosts: Ghosts::new(entries),
            frames: Frames::new(budget_bytes),
            hits: Cell::new(0),
            misses: Cell::new(0),
            counters: CacheCounters::default(),
        }
    }

    /// Returns the memory that the blocks lie in.
    pub(crate) fn frames(&self) -> &Rc<Frames> {
        &self.frames
    }

    /// Returns what was counted.
    #[cfg(test)]
    pub(crate) fn counters(&self) -> CacheCounters {
        CacheCounters {
            hits: self.hits.get(),
            misses: self.misses.get(),
            ..self.counters
        }
    }

    /// Returns the block at a sector of a table, if it is here.
    #[inline]
    pub(crate) fn find(&self, file: FileId, sector: u32) -> Option<Rc<Block>> {
        self.find_key(Key::block(file, sector))
    }

    /// Returns what is known by `key`, if it is here, and counts the question.
    #[inline]
    pub(crate) fn find_key(&self, key: Key) -> Option<Rc<Block>> {
        let number = self.number_of(key);
        self.ask(number).map(Rc::clone)
    }

    /// Returns what is known by `key`, which entry `child` of `parent` refers to, if it is here. The
    /// entry that has it is noted in `parent`: as long as it has, there is no search.
    #[inline]
    fn find_noted(&self, key: Key, (parent, child): (&Block, usize)) -> Option<Rc<Block>> {
        let noted = parent.child(child)?;
        let at = noted.get();
        let is_there = |entry: &Entry| entry.key == key && entry.block.is_some();
        if self.entries.get(at as usize).is_some_and(is_there) {
            return self.ask(Some(at)).map(Rc::clone);
        }
        let number = self.number_of(key);
        noted.set(number.unwrap_or(NONE));
        self.ask(number).map(Rc::clone)
    }

    /// Counts a question, and returns the block of the entry that answers it.
    #[inline]
    fn ask(&self, number: Option<u32>) -> Option<&Rc<Block>> {
        let Some(number) = number else {
            self.misses.set(self.misses.get() + 1);
            return None;
        };
        self.hits.set(self.hits.get() + 1);
        let block = self.entries[number as usize].block.as_ref();
        block.inspect(|block| block.warm())
    }

    /// Returns a block that `recall` knows, if it is in memory, and counts the question.
    #[inline]
    fn find_again(&self, recall: &Recall, number: usize) -> Option<Rc<Block>> {
        let block = recall.find(number)?;
        self.hits.set(self.hits.get() + 1);
        block.warm();
        Some(block)
    }

    /// Returns what is known by `key` without a trace: the block is no hotter, and nothing counts.
    pub(crate) fn peek(&self, key: Key) -> Option<Rc<Block>> {
        self.entries[self.number_of(key)? as usize].block.clone()
    }

    #[inline]
    fn number_of(&self, key: Key) -> Option<u32> {
        self.index.find(key.hash(), |number| {
            self.entries[number as usize].key == key
        })
    }

    /// Takes in the block at a sector of a table, and evicts others until all fit.
    #[cfg(test)]
    pub(crate) fn insert(
        &mut self,
        file: FileId,
        sector: u32,
        class: Class,
        origin: Origin,
        block: Rc<Block>,
    ) {
        self.insert_key(Key::block(file, sector), class, origin, block);
    }

    /// Takes in what is to be known by `key`, unless it is here already, and evicts others until all
    /// fit. What the caller holds is not evicted.
    pub(crate) fn insert_key(&mut self, key: Key, class: Class, origin: Origin, block: Rc<Block>) {
        let hash = key.hash();
        if self.number_of(key).is_none() {
            let place = match (class, origin) {
                (Class::Meta, Origin::Point) => Place::Main,
                (Class::Data, Origin::Point) if self.ghosts.take(hash) => Place::Main,
                (Class::Data, Origin::Point) | (Class::Meta, Origin::Scan) => Place::Small,
                (Class::Data, Origin::Scan) => Place::Scan,
            };
            let number = self.add_entry(key, class, place, block);
            self.index.insert(hash, number);
            self.counters.insertions += 1;
            self.push(number, place);
        }
        self.shrink();
    }

    /// Marks the blocks of some sectors of a file as the first to be evicted: the file is gone. It
    /// costs a look at each sector.
    pub(crate) fn forget(&mut self, file: FileId, sectors: std::ops::Range<u32>) {
        for sector in sectors {
            if let Some(number) = self.number_of(Key::block(file, sector)) {
                self.unlink(number);
                self.push(number, Place::Forgotten);
            }
        }
    }

    /// Evicts until the frames are within their budget.
    pub(crate) fn shrink(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.frames.over_bytes() == 0 {
                return;
            }
            let Some(place) = self.next_place() else {
                return;
            };
            self.step(place);
        }
    }

    /// Returns the queue to evict from.
    fn next_place(&self) -> Option<Place> {
        let budget = self.frames.budget_bytes();
        let is_over = |place: Place, bytes: u64| {
            let queue = &self.queues[place as usize];
            queue.first != NONE && queue.bytes >= bytes
        };
        let limited = [
            (Place::Forgotten, 0),
            (Place::Scan, budget / 32),
            (Place::Small, budget / 10),
            (Place::Main, 0),
            (Place::Small, 0),
            (Place::Scan, 0),
        ];
        let over = limited
            .iter()
            .find(|(place, bytes)| is_over(*place, *bytes));
        over.map(|(place, _)| *place)
    }

    /// Decides about the oldest block of a queue: it moves, or it goes.
    fn step(&mut self, place: Place) {
        let number = self.queues[place as usize].first;
        self.unlink(number);
        let entry = &self.entries[number as usize];
        let block = entry.block.as_ref().expect("queues hold blocks");
        let (heat, is_held) = (block.heat(), Rc::strong_count(block) > 1);
        let next = match place {
            Place::Forgotten if is_held => Place::Scan,
            Place::Scan if is_held || heat >= HEAT_AGAIN => Place::Small,
            Place::Small if is_held || heat >= HEAT_AGAIN => Place::Main,
            Place::Main if is_held || heat > 0 => Place::Main,
            Place::Forgotten | Place::Scan | Place::Small | Place::Main => {
                return self.evict(number);
            }
        };
        let colder = if place == Place::Main {
            heat.saturating_sub(1)
        } else {
            0
        };
        block.set_heat(colder);
        self.push(number, next);
    }

    /// Drops a block that is in no queue any more.
    fn evict(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        let hash = entry.key.hash();
        entry.block = None;
        entry.after = self.free;
        let (place, class, bytes) = (entry.place, entry.class, entry.charged_bytes);
        self.free = number;
        self.index.remove(hash, number);
        if place == Place::Small {
            self.ghosts.remember(hash);
        }
        self.counters.evictions += 1;
        self.counters.blocks -= 1;
        *self.class_bytes(class) -= u64::from(bytes);
    }

    fn add_entry(&mut self, key: Key, class: Class, place: Place, block: Rc<Block>) -> u32 {
        let charged_bytes = u32::try_from(block.charged_bytes()).expect("blocks are below 4 GiB");
        *self.class_bytes(class) += u64::from(charged_bytes);
        self.counters.blocks += 1;
        let entry = Entry {
            key,
            block: Some(block),
            before: NONE,
            after: NONE,
            charged_bytes,
            place,
            class,
        };
        let number = self.free;
        if let Some(unused) = self.entries.get_mut(number as usize) {
            self.free = unused.after;
            *unused = entry;
            return number;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).expect("blocks of a cache are fewer than 4 billion")
    }

    fn class_bytes(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Meta => &mut self.counters.meta_bytes,
            Class::Data => &mut self.counters.data_bytes,
        }
    }

    /// Puts an entry that is in no queue at the end of one.
    fn push(&mut self, number: u32, place: Place) {
        let queue = &mut self.queues[place as usize];
        let entry = &mut self.entries[number as usize];
        (entry.place, entry.before, entry.after) = (place, queue.last, NONE);
        queue.bytes += u64::from(entry.charged_bytes);
        let last = std::mem::replace(&mut queue.last, number);
        match self.entries.get_mut(last as usize) {
            Some(last) => last.after = number,
            None => queue.first = number,
        }
    }

    /// Takes an entry out of its queue.
    fn unlink(&mut self, number: u32) {
        let entry = &self.entries[number as usize];
        let (before, after) = (entry.before, entry.after);
        let queue = &mut self.queues[entry.place as usize];
        queue.bytes -= u64::from(entry.charged_bytes);
        match self.entries.get_mut(before as usize) {
            Some(before) => before.after = after,
            None => queue.first = after,
        }
        match self.entries.get_mut(after as usize) {
            Some(after) => after.before = before,
            None => queue.last = before,
        }
    }
}

impl Source for Cache {
    #[inline]
    fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>> {
        Self::find(self, file, block.sector)
    }

    #[inline]
    fn find_child(
        &self,
        file: FileId,
        block: &BlockRef,
        place: (&Block, usize),
    ) -> Option<Rc<Block>> {
        self.find_noted(Key::block(file, block.sector), place)
    }

    #[inline]
    fn find_known(
        &self,
        file: FileId,
        block: &BlockRef,
        (recall, number): (&Recall, usize),
    ) -> Option<Rc<Block>> {
        if let Some(block) = self.find_again(recall, number) {
            return Some(block);
        }
        let found = Self::find(self, file, block.sector)?;
        recall.keep(number, &found);
        Some(found)
    }
}
