//! The two kinds of nodes of the tree. How they hang together is its knowledge.

use super::arena::{Arena, Ref};
use super::run::{RUN_MAX, Run};
use super::spot::NONE;

/// Keys of the memtable, and the leaves beside.
pub(super) struct Leaf {
    pub(super) run: Run,
    pub(super) previous: u32,
    pub(super) next: u32,
}

/// Separators, and the nodes between them.
pub(super) struct Inner {
    pub(super) run: Run,
    pub(super) children: [u32; RUN_MAX + 1],
}

impl Leaf {
    /// Returns one without keys.
    pub(super) const fn new() -> Self {
        Self {
            run: Run::new(),
            previous: NONE,
            next: NONE,
        }
    }
}

impl Inner {
    /// Returns one without keys.
    pub(super) const fn new() -> Self {
        Self {
            run: Run::new(),
            children: [NONE; RUN_MAX + 1],
        }
    }

    /// Inserts a separator at `position` and `child` after it.
    pub(super) fn insert(&mut self, arena: &Arena, position: usize, separator: Ref, child: u32) {
        let children = self.run.len() + 1;
        self.children
            .copy_within(position + 1..children, position + 2);
        self.children[position + 1] = child;
        self.run.insert(arena, position, separator);
    }

    /// Removes the child at `position` and returns the separator that set it apart.
    pub(super) fn remove(&mut self, position: usize) -> Ref {
        let children = self.run.len() + 1;
        self.children.copy_within(position + 1..children, position);
        self.run.remove(position.saturating_sub(1))
    }
}
