//! B+tree over the keys of a memtable, for ordered reads.
//!
//! Leaves hold references to key records and are linked in both directions; inner nodes hold
//! separators, the shortest keys that tell two neighbours apart, which belong to the tree. Values
//! and versions are not known here.
//!
//! A leaf that is appended to beyond its end is not halved but followed by a new one, and one whose new key is beside
//! the last is split there, so keys that come in order leave full leaves. Nodes are not balanced when keys are
//! removed; one that becomes empty is unlinked.
//!
//! Invariants:
//! 1. Every leaf holds at least one key, and all leaves are `height` levels below the root.
//! 2. An inner node has one child more than separators; keys under child `i` are at or above
//!    separator `i - 1` and below separator `i`.

use super::arena::{Arena, Ref};
use super::node::{Inner, Leaf};
use super::pool::Pool;
use super::run::{RUN_MAX, Side, common_bytes};
use super::spot::{NONE, Spot};

/// Levels of inner nodes at most. Each level takes the split of a root that was full, so this
/// many need more than 32^16 inserts.
const HEIGHT_MAX: usize = 16;

/// The way from the root to a leaf: inner nodes, and the child taken in each.
struct Path {
    steps: [(u32, usize); HEIGHT_MAX],
    leaf: u32,
}

/// The nodes and which of them is the root.
pub(super) struct Tree {
    pub(super) leaves: Pool<Leaf>,
    pub(super) inners: Pool<Inner>,
    pub(super) root: u32,
    /// Levels of inner nodes; 0 if the root is a leaf.
    pub(super) height: usize,
    /// The key that was inserted last, if it is where it was then.
    last: Spot,
}

impl Tree {
    /// Returns a tree without keys.
    pub(super) const fn new() -> Self {
        Self {
            leaves: Pool::new(),
            inners: Pool::new(),
            root: NONE,
            height: 0,
            last: Spot::start_of(NONE),
        }
    }

    /// Returns the bytes of nodes in use; separators are in the arena.
    pub(super) fn used_bytes(&self) -> u64 {
        self.leaves.used_bytes() + self.inners.used_bytes()
    }

    /// Returns the bytes taken from the system.
    pub(super) fn held_bytes(&self) -> u64 {
        self.leaves.held_bytes() + self.inners.held_bytes()
    }

    /// Adds a key that is not present.
    pub(super) fn insert(&mut self, arena: &mut Arena, key: Ref) {
        if self.root == NONE {
            self.root = self.leaves.add(Leaf::new);
        }
        let beside = self.beside_last(arena, arena.key(key));
        if let Some(spot) = beside
            && self.leaves.node(spot.leaf).run.len() < RUN_MAX
        {
            return self.insert_at(arena, spot, key);
        }
        let path = self.descend(arena, arena.key(key));
        let (leaf, run) = (path.leaf, &self.leaves.node(path.leaf).run);
        let slot = run.position(arena, arena.key(key), Side::Before);
        if run.len() < RUN_MAX {
            return self.insert_at(arena, Spot { leaf, slot }, key);
        }
        // Where keys come in order, what lies on either side of them stays together.
        let at = match beside {
            _ if slot == RUN_MAX => RUN_MAX,
            Some(_) => slot,
            None => RUN_MAX / 2,
        };
        self.split_leaf(arena, &path, at, (slot, key));
        let is_lower = slot <= at && slot < RUN_MAX;
        self.last = match is_lower {
            true => Spot { leaf, slot },
            false => Spot::start_of(NONE),
        };
    }

    /// Inserts a key where it belongs, into a leaf that has room.
    fn insert_at(&mut self, arena: &Arena, spot: Spot, key: Ref) {
        let run = &mut self.leaves.node_mut(spot.leaf).run;
        run.insert(arena, spot.slot, key);
        self.last = spot;
    }

    /// Returns where `key` belongs if that is right beside the key inserted last: so it is with the elements of a list,
    /// and with all keys that come in order. Nothing is said of other keys.
    #[inline]
    fn beside_last(&self, arena: &Arena, key: &[u8]) -> Option<Spot> {
        let Spot { leaf, slot } = self.last;
        if leaf == NONE {
            return None;
        }
        let Leaf { run, next, .. } = self.leaves.node(leaf);
        let slot = run.beside(arena, key, slot)?;
        // At its ends, neighbours in other leaves would have to be asked.
        let is_inside = slot > 0 && (slot < run.len() || *next == NONE);
        is_inside.then_some(Spot { leaf, slot })
    }

    /// Removes `key`, whose record must still be there.
    ///
    /// # Panics
    /// If the key is not present.
    pub(super) fn remove(&mut self, arena: &mut Arena, key: &[u8]) {
        assert!(self.root != NONE);
        let path = self.descend(arena, key);
        self.last = Spot::start_of(NONE);
        let run = &mut self.leaves.node_mut(path.leaf).run;
        let slot = run.position(arena, key, Side::Before);
        assert!(
            run.refs()
                .get(slot)
                .is_some_and(|found| arena.key(*found) == key)
        );
        run.remove(slot);
        if run.len() == 0 {
            self.unlink_leaf(path.leaf);
            self.drop_child(arena, &path);
        }
    }

    /// Returns the place before or after `key`, or where it would be.
    pub(super) fn seek(&self, arena: &Arena, key: &[u8], side: Side) -> Spot {
        if self.root == NONE {
            return Spot::start_of(NONE);
        }
        let leaf = self.descend(arena, key).leaf;
        Spot {
            leaf,
            slot: self.leaves.node(leaf).run.position(arena, key, side),
        }
    }

    #[inline]
    fn descend(&self, arena: &Arena, key: &[u8]) -> Path {
        let mut path = Path {
            steps: [(NONE, 0); HEIGHT_MAX],
            leaf: self.root,
        };
        for step in &mut path.steps[..self.height] {
            let inner = self.inners.node(path.leaf);
            let child = inner.run.position(arena, key, Side::After);
            *step = (path.leaf, child);
            path.leaf = inner.children[child];
        }
        path
    }

    /// Splits the full leaf at the end of `path` before the key `at`, and inserts one at what was its `slot`; both may
    /// be its end.
    fn split_leaf(&mut self, arena: &mut Arena, path: &Path, at: usize, (slot, key): (usize, Ref)) {
        let number = self.leaves.add(Leaf::new);
        let mut upper = Leaf::new();
        let lower = self.leaves.node_mut(path.leaf);
        lower.run.split_into(arena, at, &mut upper.run);
        if slot <= at && slot < RUN_MAX {
            lower.run.insert(arena, slot, key);
        } else {
            upper.run.insert(arena, slot - at, key);
        }
        (upper.previous, upper.next) = (path.leaf, lower.next);
        let last = lower.run.refs().last().expect("the lower half keeps keys");
        let separator = separator(arena.key(*last), arena.key(upper.run.refs()[0])).to_vec();
        let after = std::mem::replace(&mut lower.next, number);
        if after != NONE {
            self.leaves.node_mut(after).previous = number;
        }
        *self.leaves.node_mut(number) = upper;
        let separator = arena.create_separator(&separator);
        self.add_child(arena, path, separator, number);
    }

    /// Enters a new node, the right neighbour of the last one of `path`, into the levels above.
    fn add_child(&mut self, arena: &Arena, path: &Path, separator: Ref, child: u32) {
        let (mut separator, mut child) = (separator, child);
        for (number, position) in path.steps[..self.height].iter().rev().copied() {
            let inner = self.inners.node_mut(number);
            if inner.run.len() < RUN_MAX {
                return inner.insert(arena, position, separator, child);
            }
            (separator, child) = self.split_inner(arena, number, position, (separator, child));
        }
        assert!(self.height < HEIGHT_MAX);
        let root = self.inners.add(Inner::new);
        let inner = self.inners.node_mut(root);
        inner.children[0] = self.root;
        inner.insert(arena, 0, separator, child);
        (self.root, self.height) = (root, self.height + 1);
    }

    /// Splits a full inner node and inserts a separator and the child after it at what was its
    /// `position`; returns the separator of the two halves, and the upper one.
    fn split_inner(
        &mut self,
        arena: &Arena,
        number: u32,
        position: usize,
        (separator, child): (Ref, u32),
    ) -> (Ref, u32) {
        let upper_number = self.inners.add(Inner::new);
        let mut upper = Inner::new();
        let lower = self.inners.node_mut(number);
        let promoted;
        if position == RUN_MAX {
            upper.children[0] = child;
            promoted = separator;
        } else {
            let half = RUN_MAX / 2;
            lower.run.split_into(arena, half + 1, &mut upper.run);
            promoted = lower.run.remove(half);
            upper.children[..half].copy_from_slice(&lower.children[half + 1..]);
            if position <= half {
                lower.insert(arena, position, separator, child);
            } else {
                upper.insert(arena, position - half - 1, separator, child);
            }
        }
        *self.inners.node_mut(upper_number) = upper;
        (promoted, upper_number)
    }

    fn unlink_leaf(&mut self, number: u32) {
        let leaf = self.leaves.node(number);
        let (previous, next) = (leaf.previous, leaf.next);
        if previous != NONE {
            self.leaves.node_mut(previous).next = next;
        }
        if next != NONE {
            self.leaves.node_mut(next).previous = previous;
        }
        self.leaves.remove(number);
    }

    /// Removes the entry of the leaf at the end of `path`, with the inner nodes left empty.
    fn drop_child(&mut self, arena: &mut Arena, path: &Path) {
        for (number, position) in path.steps[..self.height].iter().rev().copied() {
            let inner = self.inners.node_mut(number);
            if inner.run.len() > 0 {
                let separator = inner.remove(position);
                arena.free_key(separator);
                return self.lower_root();
            }
            self.inners.remove(number);
        }
        *self = Self::new();
    }

    /// Replaces a root that has a single child by that child.
    fn lower_root(&mut self) {
        while self.height > 0 && self.inners.node(self.root).run.len() == 0 {
            let child = self.inners.node(self.root).children[0];
            self.inners.remove(self.root);
            (self.root, self.height) = (child, self.height - 1);
        }
    }
}

/// Returns the shortest key that is above `lower` and not above `upper`.
fn separator<'a>(lower: &[u8], upper: &'a [u8]) -> &'a [u8] {
    &upper[..=common_bytes(lower, upper)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    struct Pair {
        arena: Arena,
        tree: Tree,
        model: BTreeMap<Vec<u8>, Ref>,
    }

    impl Pair {
        fn new() -> Self {
            Self {
                arena: Arena::new(super::super::ChunkPool::new(0)),
                tree: Tree::new(),
                model: BTreeMap::new(),
            }
        }

        fn toggle(&mut self, key: &[u8]) {
            if let Some(found) = self.model.remove(key) {
                self.tree.remove(&mut self.arena, key);
                self.arena.free_key(found);
            } else {
                let record = self.arena.create_separator(key);
                self.tree.insert(&mut self.arena, record);
                self.model.insert(key.to_vec(), record);
            }
        }

        fn check(&self) {
            let (mut spot, mut found) = (self.tree.start(), Vec::new());
            found.extend(std::iter::from_fn(|| self.tree.next(&mut spot)));
            assert!(found.iter().eq(self.model.values()));
            let (mut spot, mut found) = (self.tree.end(), Vec::new());
            found.extend(std::iter::from_fn(|| self.tree.previous(&mut spot)));
            assert!(found.iter().eq(self.model.values().rev()));
        }

        fn check_seek(&self, key: &[u8]) {
            let mut spot = self.tree.seek(&self.arena, key, Side::Before);
            let expected = self
                .model
                .range(key.to_vec()..)
                .next()
                .map(|(_, record)| *record);
            assert_eq!(self.tree.next(&mut spot), expected);
            let mut spot = self.tree.seek(&self.arena, key, Side::After);
            let expected = self
                .model
                .range(..=key.to_vec())
                .next_back()
                .map(|(_, record)| *record);
            assert_eq!(self.tree.previous(&mut spot), expected);
        }

        fn empty(&mut self) {
            for key in self.model.keys().cloned().collect::<Vec<_>>() {
                self.toggle(&key);
            }
            assert_eq!((self.tree.used_bytes(), self.arena.used_bytes()), (0, 0));
        }
    }

    /// Long shared prefixes, zero bytes, keys that are prefixes of others.
    fn adversarial_key() -> impl Strategy<Value = Vec<u8>> {
        let prefix = prop::sample::select(vec![0usize, 1, 7, 8, 9, 47, 48, 49, 90]);
        (
            prefix,
            prop::collection::vec(prop::sample::select(vec![0u8, 1, 97, 255]), 1..12),
        )
            .prop_map(|(prefix, rest)| [vec![97; prefix], rest].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn agrees_with_an_ordered_set(
            keys in prop::collection::vec(adversarial_key(), 1..3000),
            sought in prop::collection::vec(adversarial_key(), 50),
        ) {
            let mut pair = Pair::new();
            for (number, key) in keys.iter().enumerate() {
                pair.toggle(key);
                if number % 500 == 0 {
                    pair.check();
                }
            }
            pair.check();
            sought.iter().chain(keys.iter().take(200)).for_each(|key| pair.check_seek(key));
            pair.empty();
        }
    }

    proptest! {
        #[test]
        fn agrees_where_keys_come_in_order(
            stretches in prop::collection::vec((0..6_u8, any::<u16>(), 1..200_u16, any::<bool>()), 1..40),
        ) {
            let mut pair = Pair::new();
            for (list, from, count, is_upward) in stretches {
                for step in 0..count {
                    let place = if is_upward { from.wrapping_add(step) } else { from.wrapping_sub(step) };
                    let mut key = vec![list; 1 + usize::from(list % 2) * 11];
                    key.extend_from_slice(&place.swap_bytes().to_le_bytes());
                    pair.toggle(&key);
                }
                pair.check();
            }
            pair.empty();
        }
    }

    #[test]
    fn grows_and_shrinks_by_several_levels() {
        let mut pair = Pair::new();
        let key = |number: u32| number.wrapping_mul(0x9e37_79b1).to_le_bytes();
        (0..400_000).for_each(|number| pair.toggle(&key(number)));
        assert!(pair.tree.height >= 3);
        pair.check();
        (0..400_000)
            .filter(|number| number % 97 > 0)
            .for_each(|number| pair.toggle(&key(number)));
        pair.check();
        (0..1000).for_each(|number| pair.check_seek(&key(number)));
        (0..100_000)
            .filter(|number| number % 97 > 0)
            .for_each(|number| pair.toggle(&key(number)));
        pair.check();
        pair.empty();
    }

    #[test]
    fn ascending_keys_leave_full_leaves() {
        let mut pair = Pair::new();
        for number in 0..100_000u32 {
            pair.toggle(format!("key:{number:012}").as_bytes());
        }
        assert_eq!(pair.tree.leaves.live(), 100_000u32.div_ceil(64));
        assert_eq!(pair.tree.height, 2);
        pair.check();
        pair.empty();
    }

    #[test]
    fn a_list_that_grows_at_its_front_leaves_full_leaves() {
        let mut pair = Pair::new();
        let key = |number: u32| [b"list".as_slice(), &number.swap_bytes().to_le_bytes()].concat();
        ["list", "lisu"]
            .iter()
            .for_each(|around| pair.toggle(around.as_bytes()));
        (0..100_000u32)
            .rev()
            .for_each(|number| pair.toggle(&key(number)));
        assert!(pair.tree.leaves.live() <= 100_000u32.div_ceil(62) + 2);
        pair.check();
        pair.empty();
    }
}
