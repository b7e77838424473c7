//! Walks over a memtable's newest versions that hand each on as they go: less per key than a range, which stops behind
//! each and can look into the past ([`super::range`]).
//!
//! Neighbours in key order lie anywhere in the arena. So keys are taken in groups whose records are touched together;
//! the first group is one key, as many walks end early, and they double. Whether a group lies within the bounds is
//! asked of the key at its far end alone.

use std::ops::{Bound, ControlFlow};

use super::arena::Ref;
use super::run::Side;
use super::spot::Spot;
use super::{Memtable, Version};

/// Keys of a group at most.
const GROUP_MAX: usize = 16;

impl Memtable {
    /// Gives `take` the keys upwards from `from` with their newest versions, tombstones included, until it breaks off
    /// or a key is not `inside`; no key behind that one may be.
    pub fn walk_up(
        &self,
        from: Bound<&[u8]>,
        inside: impl Fn(&[u8]) -> bool,
        mut take: impl FnMut(&[u8], Version<'_>) -> ControlFlow<()>,
    ) {
        let (mut spot, mut count) = (self.spot_of(from), 1);
        while spot.is_in_a_leaf() {
            let mut rest = self.tree.around(spot).1;
            while !rest.is_empty() {
                let (group, behind) = rest.split_at(rest.len().min(count));
                let within = self.touched(group, group.len() - 1, &inside);
                let within = within
                    .unwrap_or_else(|| group.partition_point(|key| inside(self.arena.key(*key))));
                let flow = group[..within]
                    .iter()
                    .try_for_each(|key| self.give(*key, &mut take));
                if flow.is_break() || within < group.len() {
                    return;
                }
                (rest, count) = (behind, GROUP_MAX.min(count * 2));
            }
            spot = self.tree.leaf_after(spot);
        }
    }

    /// Gives `take` the keys downwards from `from`; otherwise as [`Memtable::walk_up`].
    pub fn walk_down(
        &self,
        from: Bound<&[u8]>,
        inside: impl Fn(&[u8]) -> bool,
        mut take: impl FnMut(&[u8], Version<'_>) -> ControlFlow<()>,
    ) {
        let (mut spot, mut count) = (self.spot_below(from), 1);
        while spot.is_in_a_leaf() {
            let mut rest = self.tree.around(spot).0;
            while !rest.is_empty() {
                let (before, group) = rest.split_at(rest.len().saturating_sub(count));
                let without = self.touched(group, 0, &inside).map(|_| 0);
                let without = without
                    .unwrap_or_else(|| group.partition_point(|key| !inside(self.arena.key(*key))));
                let mut each = group[without..].iter().rev();
                let flow = each.try_for_each(|key| self.give(*key, &mut take));
                if flow.is_break() || without > 0 {
                    return;
                }
                (rest, count) = (before, GROUP_MAX.min(count * 2));
            }
            spot = self.tree.leaf_before(spot);
        }
    }

    /// Touches the records of a group; returns how many they are if the key at `far` is inside.
    #[inline]
    fn touched(&self, group: &[Ref], far: usize, inside: &impl Fn(&[u8]) -> bool) -> Option<usize> {
        if group.len() > 1 {
            self.arena.touch(group);
        }
        inside(self.arena.key(group[far])).then_some(group.len())
    }

    #[inline]
    fn give(
        &self,
        key: Ref,
        take: &mut impl FnMut(&[u8], Version<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        take(self.arena.key(key), self.arena.newest_version(key))
    }

    /// Returns the place from which a walk downwards goes on.
    pub(super) fn spot_below(&self, from: Bound<&[u8]>) -> Spot {
        match from {
            Bound::Included(key) => self.tree.seek(&self.arena, key, Side::After),
            Bound::Excluded(key) => self.tree.seek(&self.arena, key, Side::Before),
            Bound::Unbounded => self.tree.end(),
        }
    }
}
