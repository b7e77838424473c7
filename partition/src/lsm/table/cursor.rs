//! A place in a stream of a table, which moves in either direction.
//!
//! A cursor holds the blocks that it is in. A step that needs a block which is not in memory answers
//! with a [`Miss`] and leaves the cursor as it was; the caller fetches the block and repeats the call.

use std::ops::Bound;
use std::rc::Rc;

use super::{Source, Stream, Table};
use crate::lsm::block::{BlockEntry, BlockView, Spot};
use crate::lsm::cache::Block;
use crate::lsm::{BlockRef, Entry, Miss};

/// Where an entry is. In a search, `entry` may be the count of the block.
#[derive(Clone, Debug)]
struct Place {
    /// Index partition.
    partition: usize,
    index: Rc<Block>,
    /// Entry in that partition.
    child: usize,
    block: Rc<Block>,
    /// How many entries that block has, and bytes that all its keys share.
    count: usize,
    prefix_bytes: usize,
    /// Entry in that block.
    entry: usize,
}

/// A place in a stream of a table; made without one.
#[derive(Clone, Debug)]
pub(crate) struct TableCursor {
    table: Rc<Table>,
    stream: Stream,
    place: Option<Place>,
    /// Key of the entry.
    key: Vec<u8>,
    /// The rest of the entry.
    spot: Spot,
}

/// Which end of a block or of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    First,
    Last,
}

impl End {
    /// Returns the index of the first or of the last of `count`, which is not 0.
    fn of(self, count: usize) -> usize {
        match self {
            Self::First => 0,
            Self::Last => count - 1,
        }
    }
}

impl TableCursor {
    /// Returns a cursor that is nowhere yet.
    pub(crate) fn new(table: Rc<Table>, stream: Stream) -> Self {
        Self {
            table,
            stream,
            place: None,
            key: Vec::new(),
            spot: Spot::default(),
        }
    }

    /// Says whether the cursor is at an entry.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        self.place.is_some()
    }

    /// Returns the key of the entry.
    ///
    /// # Panics
    /// When the cursor is nowhere.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        assert!(self.place.is_some(), "the cursor is at an entry");
        &self.key
    }

    /// Returns the entry as a version.
    ///
    /// # Panics
    /// When the cursor is nowhere.
    #[inline]
    pub(crate) fn version(&self) -> Entry<'_> {
        let place = self.place.as_ref().expect("the cursor is at an entry");
        self.spot.entry(&self.key, place.block.bytes())
    }

    /// Returns the timestamp of the entry.
    #[inline]
    pub(crate) fn timestamp(&self) -> u64 {
        self.spot.timestamp()
    }

    /// Returns the entry as it is stored.
    ///
    /// # Panics
    /// When the cursor is nowhere.
    #[inline]
    pub(crate) fn entry(&self) -> BlockEntry<'_> {
        let place = self.place.as_ref().expect("the cursor is at an entry");
        BlockView::of(place.block.bytes()).entry(place.entry)
    }

    /// Moves to the first entry within the lower bound; nowhere if there is none.
    ///
    /// # Errors
    /// When a block is not in memory.
    pub(crate) fn seek<S: Source>(&mut self, source: &S, from: Bound<&[u8]>) -> Result<(), Miss> {
        let place = match from {
            Bound::Included(key) => self.first_from(source, key, u64::MAX)?,
            Bound::Excluded(key) => self.first_behind(source, key)?,
            Bound::Unbounded => self.end(source, End::First)?,
        };
        self.move_to(place);
        Ok(())
    }

    /// Moves to the first entry that is a version of `key` at `timestamp` or older, or of a key
    /// behind it; nowhere if there is none.
    ///
    /// # Errors
    /// When a block is not in memory.
    #[cfg(test)]
    pub(crate) fn seek_version<S: Source>(
        &mut self,
        source: &S,
        key: &[u8],
        timestamp: u64,
    ) -> Result<(), Miss> {
        let place = self.first_from(source, key, timestamp)?;
        self.move_to(place);
        Ok(())
    }

    /// Moves to the last entry within the upper bound; nowhere if there is none.
    ///
    /// # Errors
    /// When a block is not in memory.
    pub(crate) fn seek_back<S: Source>(
        &mut self,
        source: &S,
        to: Bound<&[u8]>,
    ) -> Result<(), Miss> {
        let behind = match to {
            Bound::Excluded(key) => self.spot(source, key, u64::MAX)?,
            Bound::Included(key) => match self.spot(source, key, 0)? {
                Some(spot) if is_at(&spot, key) => {
                    self.move_to(Some(spot));
                    return Ok(());
                }
                spot => spot,
            },
            Bound::Unbounded => None,
        };
        let place = match behind {
            Some(spot) => self.before(source, &spot)?,
            None => self.end(source, End::Last)?,
        };
        self.move_to(place);
        Ok(())
    }

    /// Moves to the next entry; returns whether there is one. If not, the cursor is nowhere.
    ///
    /// # Errors
    /// When a block is not in memory; the cursor is where it was.
    #[inline]
    pub(crate) fn next<S: Source>(&mut self, source: &S) -> Result<bool, Miss> {
        let Some(place) = &mut self.place else {
            return Ok(false);
        };
        if place.entry + 1 < place.count {
            place.entry += 1;
            let bytes = place.block.bytes();
            self.spot = self.spot.behind(bytes, place.prefix_bytes, &mut self.key);
            return Ok(true);
        }
        self.step(source, Self::block_behind)
    }

    /// Moves to the entry before; returns whether there is one. If not, the cursor is nowhere.
    ///
    /// # Errors
    /// When a block is not in memory; the cursor is where it was.
    #[inline]
    pub(crate) fn previous<S: Source>(&mut self, source: &S) -> Result<bool, Miss> {
        let Some(place) = &mut self.place else {
            return Ok(false);
        };
        if place.entry > 0 {
            place.entry -= 1;
            let view = BlockView::of(place.block.bytes());
            self.spot = view.suffix_into(place.entry, &mut self.key);
            return Ok(true);
        }
        self.step(source, Self::block_before)
    }

    /// Moves into another block.
    fn step<S: Source>(
        &mut self,
        source: &S,
        to: impl FnOnce(&Self, &S, &Place) -> Result<Option<Place>, Miss>,
    ) -> Result<bool, Miss> {
        let place = self.place.as_ref().expect("a step begins at an entry");
        let place = to(self, source, place)?;
        self.move_to(place);
        Ok(self.is_valid())
    }

    /// Returns up to `count` data blocks behind the one that the cursor is in, as far as its index
    /// partition reaches: what a reader of the stream needs next.
    pub(crate) fn upcoming(&self, count: usize) -> Vec<BlockRef> {
        let Some(place) = &self.place else {
            return Vec::new();
        };
        let index = BlockView::of(place.index.bytes());
        let children = place.child + 1..index.count();
        let blocks = children.map(|child| index.child(child).block);
        blocks.take(count).collect()
    }

    /// Returns the index partition behind the one that the cursor is in.
    #[cfg(test)]
    pub(crate) fn upcoming_partition(&self) -> Option<BlockRef> {
        let next = self.place.as_ref()?.partition + 1;
        let top = self.table.top(self.stream);
        (next < top.len()).then(|| *top.block(next))
    }

    fn move_to(&mut self, place: Option<Place>) {
        if let Some(place) = &place {
            let view = BlockView::of(place.block.bytes());
            self.spot = view.key_into(place.entry, &mut self.key);
        }
        self.place = place;
    }

    /// Returns where a search ends: in the block that has or would have the version.
    fn spot<S: Source>(
        &self,
        source: &S,
        key: &[u8],
        timestamp: u64,
    ) -> Result<Option<Place>, Miss> {
        let top = self.table.top(self.stream);
        let partition = top.seek(key, timestamp);
        if partition == top.len() {
            return Ok(None);
        }
        let index = self.table.load_partition(source, self.stream, partition)?;
        let child = BlockView::of(index.bytes()).seek_version(key, timestamp);
        let mut place = self.enter(source, partition, index, child)?;
        place.entry = BlockView::of(place.block.bytes()).seek_version(key, timestamp);
        Ok(Some(place))
    }

    /// Returns the first entry that is a version of `key` at `timestamp` or older, or of a key
    /// behind it.
    fn first_from<S: Source>(
        &self,
        source: &S,
        key: &[u8],
        timestamp: u64,
    ) -> Result<Option<Place>, Miss> {
        match self.spot(source, key, timestamp)? {
            Some(spot) if spot.entry == spot.count => self.block_behind(source, &spot),
            spot => Ok(spot),
        }
    }

    /// Returns the first entry of a key behind `key`.
    fn first_behind<S: Source>(&self, source: &S, key: &[u8]) -> Result<Option<Place>, Miss> {
        match self.first_from(source, key, 0)? {
            // The last version of the key itself, if it was made at 0.
            Some(mut place) if is_at(&place, key) => {
                place.entry += 1;
                if place.entry < place.count {
                    return Ok(Some(place));
                }
                self.block_behind(source, &place)
            }
            place => Ok(place),
        }
    }

    /// Returns the entry before a place.
    fn before<S: Source>(&self, source: &S, place: &Place) -> Result<Option<Place>, Miss> {
        if place.entry == 0 {
            return self.block_before(source, place);
        }
        let mut place = place.clone();
        place.entry -= 1;
        Ok(Some(place))
    }

    /// Returns the first or the last entry of the stream.
    fn end<S: Source>(&self, source: &S, end: End) -> Result<Option<Place>, Miss> {
        match self.table.top(self.stream).len() {
            0 => Ok(None),
            count => self.partition_end(source, end.of(count), end).map(Some),
        }
    }

    /// Returns the first entry of the next block.
    #[cold]
    fn block_behind<S: Source>(&self, source: &S, place: &Place) -> Result<Option<Place>, Miss> {
        if place.child + 1 < BlockView::of(place.index.bytes()).count() {
            let index = Rc::clone(&place.index);
            let place = self.enter(source, place.partition, index, place.child + 1)?;
            return Ok(Some(place));
        }
        let partition = place.partition + 1;
        if partition == self.table.top(self.stream).len() {
            return Ok(None);
        }
        self.partition_end(source, partition, End::First).map(Some)
    }

    /// Returns the last entry of the block before.
    #[cold]
    fn block_before<S: Source>(&self, source: &S, place: &Place) -> Result<Option<Place>, Miss> {
        if let Some(child) = place.child.checked_sub(1) {
            let mut place = self.enter(source, place.partition, Rc::clone(&place.index), child)?;
            place.entry = place.count - 1;
            return Ok(Some(place));
        }
        match place.partition.checked_sub(1) {
            Some(partition) => self.partition_end(source, partition, End::Last).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the first or the last entry of a partition.
    fn partition_end<S: Source>(
        &self,
        source: &S,
        partition: usize,
        end: End,
    ) -> Result<Place, Miss> {
        let index = self.table.load_partition(source, self.stream, partition)?;
        let child = end.of(BlockView::of(index.bytes()).count());
        let mut place = self.enter(source, partition, index, child)?;
        place.entry = end.of(place.count);
        Ok(place)
    }

    /// Returns the first entry of a data block.
    fn enter<S: Source>(
        &self,
        source: &S,
        partition: usize,
        index: Rc<Block>,
        child: usize,
    ) -> Result<Place, Miss> {
        let block = self.table.load(source, &index, child)?;
        let view = BlockView::of(block.bytes());
        let (count, prefix_bytes) = (view.count(), view.prefix_bytes());
        Ok(Place {
            partition,
            index,
            child,
            block,
            count,
            prefix_bytes,
            entry: 0,
        })
    }
}

/// Says whether a place is at an entry of `key`.
fn is_at(place: &Place, key: &[u8]) -> bool {
    let view = BlockView::of(place.block.bytes());
    place.entry < place.count && view.is_key(place.entry, key)
}
