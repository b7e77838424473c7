//! A place in the order of a memtable's keys: where a walk stands between two of them. It holds as long as nothing is
//! inserted or removed.

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
