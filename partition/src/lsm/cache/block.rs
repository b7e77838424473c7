//! A block in memory, whole, checked and not compressed, shared by the cache and its readers; and
//! places where a reader has seen blocks.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};

use crate::lsm::block::BlockView;
use crate::lsm::frames::Frame;

/// Highest heat of a block.
const HEAT_MAX: u8 = 3;

/// A block, or a separated value. It never changes; its memory goes back to the shard's frames when the
/// last who holds it lets go.
#[derive(Debug)]
pub(crate) struct Block {
    frame: Frame,
    /// How often it was asked for lately. It lies here and not in the cache's entry, because whoever
    /// finds the block has this in the processor's cache next.
    heat: Cell<u8>,
    /// Of an index partition: which entry of the cache had each block that it refers to. Four bytes for
    /// each, beside what is charged.
    children: OnceCell<Box<[Cell<u32>]>>,
}

impl Block {
    /// Makes a block of a frame that was filled and checked.
    pub(crate) fn new(frame: Frame) -> Rc<Self> {
        Rc::new(Self {
            frame,
            heat: Cell::new(0),
            children: OnceCell::new(),
        })
    }

    /// Makes a block that belongs to no shard.
    #[cfg(test)]
    pub(crate) fn detached(bytes: Vec<u8>) -> Rc<Self> {
        Self::new(crate::lsm::frames::Frames::new(0).hold(bytes.into_boxed_slice()))
    }

    /// Returns the content.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.frame.bytes()
    }

    /// Returns what the block counts for among the frames, in bytes.
    pub(crate) fn charged_bytes(&self) -> u64 {
        self.frame.charged_bytes()
    }

    /// Returns where the cache may note which entry has the block that is referred to by entry
    /// `child` of this one, an index partition.
    #[inline]
    pub(super) fn child(&self, child: usize) -> Option<&Cell<u32>> {
        let children = self.children.get_or_init(|| self.unknown_children());
        children.get(child)
    }

    #[cold]
    fn unknown_children(&self) -> Box<[Cell<u32>]> {
        let count = BlockView::parse(self.bytes()).map_or(0, |view| view.count());
        vec![Cell::new(u32::MAX); count].into_boxed_slice()
    }

    /// Makes the block hotter.
    #[inline]
    pub(super) fn warm(&self) {
        let heat = self.heat.get();
        if heat < HEAT_MAX {
            self.heat.set(heat + 1);
        }
    }

    /// Returns how hot the block is.
    pub(super) fn heat(&self) -> u8 {
        self.heat.get()
    }

    /// Changes how hot the block is.
    pub(super) fn set_heat(&self, heat: u8) {
        self.heat.set(heat);
    }
}

/// Where blocks were found before, by number: they are found again without a search for as long as they
/// are in memory. Nothing is kept in memory by it but some 80 bytes for each block that was evicted.
#[derive(Debug, Default)]
pub(crate) struct Recall(RefCell<Vec<Weak<Block>>>);

impl Recall {
    /// Returns the block of a number, if it was found before and is in memory still.
    #[inline]
    pub(super) fn find(&self, number: usize) -> Option<Rc<Block>> {
        self.0.borrow().get(number)?.upgrade()
    }

    /// Remembers where the block of a number is.
    pub(super) fn keep(&self, number: usize, block: &Rc<Block>) {
        let mut known = self.0.borrow_mut();
        if known.len() <= number {
            known.resize(number + 1, Weak::new());
        }
        known[number] = Rc::downgrade(block);
    }
}
