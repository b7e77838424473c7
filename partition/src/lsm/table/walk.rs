//! Visits every block of a table once, to check them all.
//!
//! The filter first, then each index partition and behind it the data blocks that it refers to. An
//! index partition must be in memory once its data blocks are asked for.

use std::rc::Rc;

use super::{Source, Stream, Table};
use crate::lsm::block::BlockView;
use crate::lsm::{BlockRef, Miss};

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    Filter(u32),
    Partition(Stream, usize),
    Child(Stream, usize, usize),
    Nothing,
}

/// A walk over the blocks of a table.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    table: Rc<Table>,
    next: Next,
}

impl Walk {
    /// Returns a walk that has visited nothing.
    pub(crate) fn new(table: Rc<Table>) -> Self {
        Self {
            table,
            next: Next::Filter(0),
        }
    }

    /// Returns the next block; `None` when all were visited.
    ///
    /// # Errors
    /// When an index partition is not in memory; the call may be repeated.
    pub(crate) fn next<S: Source>(&mut self, source: &S) -> Result<Option<BlockRef>, Miss> {
        loop {
            match self.next {
                Next::Filter(index) if index < self.table.filter().len() => {
                    self.next = Next::Filter(index + 1);
                    return Ok(Some(self.table.filter().block(index)));
                }
                Next::Filter(_) => self.next = Next::Partition(Stream::Main, 0),
                Next::Partition(stream, index) if index < self.table.top(stream).len() => {
                    self.next = Next::Child(stream, index, 0);
                    return Ok(Some(*self.table.top(stream).block(index)));
                }
                Next::Partition(Stream::Main, _) => self.next = Next::Partition(Stream::Old, 0),
                Next::Partition(Stream::Old, _) => self.next = Next::Nothing,
                Next::Child(stream, partition, child) => {
                    let block = self.table.load_partition(source, stream, partition)?;
                    let view = BlockView::of(block.bytes());
                    if child < view.count() {
                        self.next = Next::Child(stream, partition, child + 1);
                        return Ok(Some(view.child(child).block));
                    }
                    self.next = Next::Partition(stream, partition + 1);
                }
                Next::Nothing => return Ok(None),
            }
        }
    }
}
