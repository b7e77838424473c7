//! A place in the order of a memtable's keys: where a walk stands between two of them. It holds as long as nothing is
//! inserted or removed.

use super::arena::Ref;
use super::node::Inner;
use super::tree::Tree;

/// Names no node of the tree.
pub(super) const NONE: u32 = u32::MAX;

/// A place between two keys: before `slot` of `leaf`, or past its last key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) leaf: u32,
    pub(super) slot: usize,
}

impl Spot {
    /// Returns the place before the first key of `leaf`; past all keys for `NONE`.
    pub(super) const fn start_of(leaf: u32) -> Self {
        Self { leaf, slot: 0 }
    }

    /// Says whether it is in a leaf: none is past all keys.
    pub(super) const fn is_in_a_leaf(self) -> bool {
        self.leaf != NONE
    }
}

impl Tree {
    /// Returns the place before the first key.
    pub(super) fn start(&self) -> Spot {
        Spot::start_of(self.edge(|_| 0))
    }

    /// Returns the place after the last key.
    pub(super) fn end(&self) -> Spot {
        self.end_of(self.edge(|inner| inner.run.len()))
    }

    /// Returns the key after `spot`, and moves past it.
    #[inline]
    pub(super) fn next(&self, spot: &mut Spot) -> Option<Ref> {
        while spot.leaf != NONE {
            let leaf = self.leaves.node(spot.leaf);
            if let Some(key) = leaf.run.refs().get(spot.slot) {
                spot.slot += 1;
                return Some(*key);
            }
            *spot = Spot::start_of(leaf.next);
        }
        None
    }

    /// Returns the key before `spot`, and moves before it.
    #[inline]
    pub(super) fn previous(&self, spot: &mut Spot) -> Option<Ref> {
        while spot.leaf != NONE {
            let leaf = self.leaves.node(spot.leaf);
            if spot.slot > 0 {
                spot.slot -= 1;
                return Some(leaf.run.refs()[spot.slot]);
            }
            *spot = self.end_of(leaf.previous);
        }
        None
    }

    /// Returns the keys before and after `spot` in its leaf.
    #[inline]
    pub(super) fn around(&self, spot: Spot) -> (&[Ref], &[Ref]) {
        if spot.leaf == NONE {
            return (&[], &[]);
        }
        self.leaves.node(spot.leaf).run.refs().split_at(spot.slot)
    }

    /// Returns the place before the first key of the leaf behind that of `spot`, which is in a leaf.
    pub(super) fn leaf_after(&self, spot: Spot) -> Spot {
        Spot::start_of(self.leaves.node(spot.leaf).next)
    }

    /// Returns the place after the last key of the leaf before that of `spot`, which is in a leaf.
    pub(super) fn leaf_before(&self, spot: Spot) -> Spot {
        self.end_of(self.leaves.node(spot.leaf).previous)
    }

    /// Returns the place after the last key of `leaf`; past all keys for `NONE`.
    fn end_of(&self, leaf: u32) -> Spot {
        let slot = match leaf {
            NONE => 0,
            _ => self.leaves.node(leaf).run.len(),
        };
        Spot { leaf, slot }
    }

    fn edge(&self, child: impl Fn(&Inner) -> usize) -> u32 {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = self.inners.node(node);
            node = inner.children[child(inner)];
        }
        node
    }
}
