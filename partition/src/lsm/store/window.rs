//! What a merge sees of one table: a few pieces of the file that lie where it reads, the next ones
//! on their way. Nothing of it enters the cache.
//!
//! A table is read in several places at once: its blocks, its old versions' blocks, and the index
//! of each. Each place has a lane. A lane begins with a small piece; as long as it is read onward,
//! its pieces double up to 256 KiB, and the next is fetched while one is being used.
//!
//! ```text
//! lane   | piece in use | piece on its way |
//!          ^ read here      begun when the first block of the piece in use was found
//! ```
//!
//! Invariants:
//! 1. Pieces of a lane adjoin, in order.
//! 2. A block is returned only if it was checked; one that is damaged is not found, and loading it
//!    says why.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::promise::Promise;
use super::stage::{CHUNK_BYTES, Staged};
use super::{Block, FileName, Purpose, ReadError, Store};
use crate::lsm::table::Source;
use crate::lsm::{BlockRef, FileId, Malformed, Miss, SECTOR_BYTES};

/// Bytes of the first piece of a lane.
const FIRST_BYTES: u64 = 32 << 10;
/// Bytes that a lane may skip and still be the same.
const SKIP_BYTES: u64 = 64 << 10;
/// Lanes of a window: two streams and their indexes, and two to spare.
const LANES_MAX: usize = 6;
/// Decoded blocks kept, for questions that are asked again.
const RECENT_MAX: usize = 4;

type Loading = Promise<Result<Staged, ReadError>>;

/// Reads one table from its beginning to its end, or in a few places at once.
#[derive(Debug)]
pub(crate) struct Window {
    store: Rc<Store>,
    file: FileId,
    purpose: Purpose,
    lanes: RefCell<Vec<Lane>>,
    recent: RefCell<VecDeque<(u32, Rc<Block>)>>,
    /// Counts uses, to know the lane that was not used for longest.
    uses: Cell<u64>,
}

/// A place where the table is read.
#[derive(Debug)]
struct Lane {
    pieces: VecDeque<Piece>,
    /// Size of the next piece.
    next_bytes: u64,
    used: u64,
}

/// A part of the file, here or on its way.
#[derive(Debug)]
struct Piece {
    from: u64,
    to: u64,
    loading: Rc<Loading>,
}

impl Window {
    /// Returns a window on a table.
    pub(crate) fn new(store: &Rc<Store>, file: FileId, purpose: Purpose) -> Self {
        Self {
            store: Rc::clone(store),
            file,
            purpose,
            lanes: RefCell::default(),
            recent: RefCell::default(),
            uses: Cell::new(0),
        }
    }

    /// Returns a block if it lies in a piece that is here, and begins to fetch the piece behind.
    pub(crate) fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>> {
        if file != self.file {
            return None;
        }
        if let Some(block) = self.find_recent(block.sector) {
            return Some(block);
        }
        let range = stored_range(block);
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.iter_mut().find(|lane| lane.is_loaded(&range))?;
        let decoded = lane.decode(self, block).ok()?;
        self.advance(lane, range.start);
        drop(lanes);
        self.keep_recent(block.sector, &decoded);
        Some(decoded)
    }

    /// Waits until a block can be found.
    ///
    /// # Errors
    /// The file cannot be read, or what is there is not the block.
    pub(crate) async fn load(&self, miss: Miss) -> Result<(), ReadError> {
        assert_eq!(miss.file, self.file, "a window shows one file");
        let range = stored_range(&miss.block);
        while let Some(loading) = self.next_loading(&range) {
            if let Err(error) = loading.wait().await {
                self.lanes.borrow_mut().retain(|lane| !lane.has_failed());
                return Err(error.clone());
            }
        }
        let decoded = {
            let lanes = self.lanes.borrow();
            let Some(lane) = lanes.iter().find(|lane| lane.is_loaded(&range)) else {
                let what = format!("a block ends at {}, behind the end of the file", range.end);
                let name = FileName::table(self.file);
                return Err(self.store.damage(name, range.start, Malformed(what)));
            };
            lane.decode(self, &miss.block)?
        };
        self.keep_recent(miss.block.sector, &decoded);
        Ok(())
    }

    /// Sees to it that the pieces of a range are here or on their way; returns one that is not here.
    fn next_loading(&self, range: &Range<u64>) -> Option<Rc<Loading>> {
        let mut lanes = self.lanes.borrow_mut();
        if lanes.iter().any(|lane| lane.is_loaded(range)) {
            return None;
        }
        let at = self.lane_for(&mut lanes, range.start);
        let lane = &mut lanes[at];
        lane.pieces.retain(|piece| piece.to > range.start);
        while lane.to().is_none_or(|to| to < range.end) {
            let from = lane.to().unwrap_or(range.start);
            self.extend(lane, from, range.end - from);
        }
        self.advance(lane, range.start);
        let missing = lane.pieces.iter().find(|piece| piece.data().is_none());
        missing.map(|piece| Rc::clone(&piece.loading))
    }

    /// Returns the lane that is read at an offset; a new one takes the place of the lane that was
    /// not used for longest.
    fn lane_for(&self, lanes: &mut Vec<Lane>, offset: u64) -> usize {
        self.uses.set(self.uses.get() + 1);
        let used = self.uses.get();
        if let Some(at) = lanes.iter().position(|lane| lane.continues_at(offset)) {
            lanes[at].used = used;
            return at;
        }
        let lane = Lane {
            pieces: VecDeque::new(),
            next_bytes: FIRST_BYTES,
            used,
        };
        if lanes.len() < LANES_MAX {
            lanes.push(lane);
            return lanes.len() - 1;
        }
        let oldest = (0..lanes.len()).min_by_key(|at| lanes[*at].used);
        let at = oldest.expect("there are lanes");
        lanes[at] = lane;
        at
    }

    /// Drops the pieces behind an offset, and begins to fetch the one after the last when that is
    /// in use and the lane was read onward before.
    fn advance(&self, lane: &mut Lane, offset: u64) {
        self.uses.set(self.uses.get() + 1);
        lane.used = self.uses.get();
        lane.pieces.retain(|piece| piece.to > offset);
        let is_onward = lane.next_bytes > FIRST_BYTES * 2;
        if let [last] = lane.pieces.make_contiguous()
            && is_onward
            && !last.is_at_end()
        {
            let to = last.to;
            self.extend(lane, to, 1);
        }
    }

    /// Begins to fetch a piece of at least `bytes_min` bytes behind the others of a lane.
    fn extend(&self, lane: &mut Lane, from: u64, bytes_min: u64) {
        let bytes = lane
            .next_bytes
            .max(bytes_min.next_multiple_of(SECTOR_BYTES));
        let to = from + bytes;
        lane.next_bytes = (lane.next_bytes * 2).min(CHUNK_BYTES as u64);
        let loading: Rc<Loading> = Rc::default();
        let (store, landing) = (Rc::clone(&self.store), Rc::clone(&loading));
        let name = FileName::table(self.file);
        let bytes = usize::try_from(bytes).expect("blocks fit in memory");
        let purpose = self.purpose;
        self.store.reactor.spawn(async move {
            landing.keep(store.read_some(name, from, bytes, purpose).await);
        });
        lane.pieces.push_back(Piece { from, to, loading });
    }

    fn find_recent(&self, sector: u32) -> Option<Rc<Block>> {
        let recent = self.recent.borrow();
        let found = recent.iter().find(|(at, _)| *at == sector);
        found.map(|(_, block)| Rc::clone(block))
    }

    fn keep_recent(&self, sector: u32, block: &Rc<Block>) {
        let mut recent = self.recent.borrow_mut();
        recent.truncate(RECENT_MAX - 1);
        recent.push_front((sector, Rc::clone(block)));
    }
}

impl Source for Window {
    fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>> {
        Self::find(self, file, block)
    }
}

/// Returns where the stored bytes of a block lie.
fn stored_range(block: &BlockRef) -> Range<u64> {
    block.offset()..block.offset() + u64::from(block.stored_bytes)
}

impl Lane {
    /// Returns the end of the last piece.
    fn to(&self) -> Option<u64> {
        self.pieces.back().map(|piece| piece.to)
    }

    /// Says whether a read at an offset goes on in this lane.
    fn continues_at(&self, offset: u64) -> bool {
        let (Some(first), Some(to)) = (self.pieces.front(), self.to()) else {
            return false;
        };
        (first.from..=to + SKIP_BYTES).contains(&offset)
    }

    fn has_failed(&self) -> bool {
        let failed = |piece: &Piece| piece.loading.now().is_some_and(Result::is_err);
        self.pieces.iter().any(failed)
    }

    /// Says whether the whole of a range is here.
    fn is_loaded(&self, range: &Range<u64>) -> bool {
        let mut at = range.start;
        for piece in &self.pieces {
            if piece.from <= at {
                at = at.max(piece.end());
            }
        }
        at >= range.end
    }

    /// Decodes a block whose range is loaded.
    fn decode(&self, window: &Window, block: &BlockRef) -> Result<Rc<Block>, ReadError> {
        let range = stored_range(block);
        let mut parts = self.pieces.iter().filter_map(|piece| piece.part(&range));
        let first = parts.next().unwrap_or_default();
        if first.len() == block.stored_bytes as usize {
            return window.store.decode(window.file, block, first);
        }
        // The block lies across the border of two pieces.
        let mut whole = first.to_vec();
        parts.for_each(|part| whole.extend_from_slice(part));
        window.store.decode(window.file, block, &whole)
    }
}

impl Piece {
    fn data(&self) -> Option<&Staged> {
        self.loading.now()?.as_ref().ok()
    }

    /// Returns the end of what is here.
    fn end(&self) -> u64 {
        self.from + self.data().map_or(0, |data| data.len() as u64)
    }

    /// Says whether the file is known to end in this piece.
    fn is_at_end(&self) -> bool {
        self.data().is_some() && self.end() < self.to
    }

    /// Returns the bytes of a range that lie in this piece.
    fn part(&self, range: &Range<u64>) -> Option<&[u8]> {
        let (from, to) = (range.start.max(self.from), range.end.min(self.end()));
        let at = |offset: u64| usize::try_from(offset - self.from).expect("pieces fit in memory");
        (from < to).then(|| self.data().map(|data| &data[at(from)..at(to)]))?
    }
}
