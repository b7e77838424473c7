//! Walks over a table: its data blocks as the index names them, and the versions in them.
//!
//! What is damaged is told once and passed over: the walk goes on behind it.

use std::fmt;

use super::{Age, Damage, TableFile};
use crate::lsm::Entry;
use crate::lsm::block::{BlockView, Child, Contents};

/// What an index says of a data block: nothing in it is behind `key` at `timestamp`.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) key: Vec<u8>,
    pub(super) timestamp: u64,
    pub(super) child: Child,
}

/// The data blocks of one age, in order. What is damaged is passed over, once it was told.
pub(super) struct Blocks<'t> {
    table: &'t TableFile<'t>,
    age: Age,
    /// Index partitions entered.
    pub(super) partitions: usize,
    /// The partition that was entered last; empty when it is damaged.
    pub(super) index: Vec<u8>,
    /// Blocks of that partition which were returned.
    pub(super) child: usize,
}

impl fmt::Debug for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("age", &self.age)
            .field("partitions", &self.partitions)
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

impl<'t> Blocks<'t> {
    pub(super) fn new(table: &'t TableFile<'t>, age: Age) -> Self {
        Self {
            table,
            age,
            partitions: 0,
            index: Vec::new(),
            child: 0,
        }
    }

    /// Returns what the index says of the next block; `Err` for an index partition that is damaged.
    pub(super) fn next_indexed(&mut self) -> Option<Result<Indexed, Damage>> {
        loop {
            if !self.index.is_empty() {
                let view = BlockView::of(&self.index);
                if self.child < view.count() {
                    let (at, mut key) = (self.child, Vec::new());
                    self.child += 1;
                    view.key_into(at, &mut key);
                    return Some(Ok(Indexed {
                        key,
                        timestamp: view.timestamp(at),
                        child: view.child(at),
                    }));
                }
            }
            let top = self.table.top(self.age);
            if self.partitions == top.len() {
                return None;
            }
            let block = *top.block(self.partitions);
            (self.partitions, self.child) = (self.partitions + 1, 0);
            match self.table.index(&block) {
                Ok(index) => self.index = index,
                Err(damage) => {
                    self.index.clear();
                    return Some(Err(damage));
                }
            }
        }
    }
}

/// The versions of one age of a table, one after another.
#[derive(Debug)]
pub struct Entries<'t> {
    blocks: Blocks<'t>,
    block: Vec<u8>,
    next: usize,
    key: Vec<u8>,
}

impl<'t> Entries<'t> {
    pub(super) fn new(table: &'t TableFile<'t>, age: Age) -> Self {
        Self {
            blocks: Blocks::new(table, age),
            block: Vec::new(),
            next: 0,
            key: Vec::new(),
        }
    }

    /// Returns the next version; after damage, the first one behind it.
    ///
    /// # Errors
    /// A block is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Damage> {
        while self.block.is_empty() || self.next == BlockView::of(&self.block).count() {
            self.block.clear();
            self.next = 0;
            let Some(indexed) = self.blocks.next_indexed() else {
                return Ok(None);
            };
            let block = indexed?.child.block;
            let loaded = self
                .blocks
                .table
                .load(&block, Contents::Versions, &mut self.block);
            if let Err(damage) = loaded {
                self.block.clear();
                return Err(damage);
            }
        }
        let view = BlockView::of(&self.block);
        view.key_into(self.next, &mut self.key);
        let entry = view.entry(self.next);
        self.next += 1;
        Ok(Some(Entry {
            key: &self.key,
            timestamp: entry.timestamp,
            kind: entry.kind,
            expire_at_ms: entry.expire_at_ms,
            value: entry.value,
        }))
    }
}
