//! Hash index of a memtable: from the hash of a key to the key's record.
//!
//! Extendible hashing: a directory, indexed by the upper bits of the hash, names segments of 2048
//! slots; each segment is an open-addressing table of its own. A segment that is three quarters
//! full is split in two, so that growth costs one insert about five microseconds and never more,
//! and a lookup never looks into two tables.
//!
//! It does not know keys: the caller compares them, and keeps entries distinct.
//!
//! ```text
//! slot      = upper 32 bits of the hash | reference of the key record; 0 is an empty slot
//! directory = upper `depth` bits of the hash -> segment
//! home slot = lower 11 of those 32 bits; then the next slots, round the end
//! ```
//!
//! Invariants:
//! 1. All slots from an entry's home to the entry are filled (removal shifts entries back).
//! 2. A segment of depth `d` is named by `2^(depth - d)` neighbouring entries of the directory.

use super::arena::Ref;

/// Slots of one segment.
const SLOTS: usize = 2048;
/// Filled slots at which a segment is split.
const FILLED_MAX: usize = SLOTS / 4 * 3;
/// Bits of the hash that are kept, the most a directory can tell apart.
const TAG_BITS: u32 = 32;

struct Segment {
    slots: Box<[u64; SLOTS]>,
    filled: usize,
    /// How many upper bits of the hash all entries of this segment share.
    depth: u32,
}

/// The directory and its segments.
pub(super) struct Index {
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    entries: u64,
}

impl Index {
    /// Returns an index without entries.
    pub(super) fn new() -> Self {
        Self {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment::new(0)],
            entries: 0,
        }
    }

    /// Returns the bytes of filled slots.
    pub(super) fn used_bytes(&self) -> u64 {
        self.entries * size_of::<u64>() as u64
    }

    /// Returns the bytes taken from the system.
    pub(super) fn held_bytes(&self) -> u64 {
        let segment_bytes = size_of::<[u64; SLOTS]>() + size_of::<Segment>();
        (self.segments.len() * segment_bytes + self.directory.len() * size_of::<u32>()) as u64
    }

    /// Returns the entry under `hash` for which `is_key` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_key: impl Fn(Ref) -> bool) -> Option<Ref> {
        let tag = tag_of(hash);
        let slots = &self.segments[self.segment_of(tag)].slots;
        let mut at = home(tag);
        while slots[at] != 0 {
            if slot_tag(slots[at]) == tag && is_key(slot_ref(slots[at])) {
                return Some(slot_ref(slots[at]));
            }
            at = (at + 1) % SLOTS;
        }
        None
    }

    /// Brings the home slots of hashes into the cache, waiting for all of them together.
    #[inline]
    pub(super) fn touch(&self, hashes: &[u64]) {
        let touched = hashes.iter().map(|hash| {
            let tag = tag_of(*hash);
            self.segments[self.segment_of(tag)].slots[home(tag)]
        });
        // The value is of no use, but without a use the reads would be left out.
        std::hint::black_box(touched.fold(0, |all, slot| all ^ slot));
    }

    /// Adds an entry, whose key must not be present.
    ///
    /// # Panics
    /// If 1536 keys share the upper 32 bits of their hashes, which a seeded hash makes impossible.
    pub(super) fn insert(&mut self, hash: u64, key: Ref) {
        let tag = tag_of(hash);
        let mut number = self.segment_of(tag);
        while self.segments[number].filled >= FILLED_MAX {
            self.split(number, tag);
            number = self.segment_of(tag);
        }
        self.segments[number].insert(u64::from(tag) << TAG_BITS | u64::from(key.0));
        self.entries += 1;
    }

    /// Removes the entry of `key`.
    ///
    /// # Panics
    /// If there is no such entry.
    pub(super) fn remove(&mut self, hash: u64, key: Ref) {
        let tag = tag_of(hash);
        let number = self.segment_of(tag);
        self.segments[number].remove(u64::from(tag) << TAG_BITS | u64::from(key.0));
        self.entries -= 1;
        if self.entries == 0 {
            *self = Self::new();
        }
    }

    /// Returns an entry chosen by `seed` among those that `accept`.
    ///
    /// Nearly uniform while a fair part of the slots is acceptable; otherwise the choice falls to
    /// the first acceptable entry past a chosen slot.
    pub(super) fn sample(&self, seed: u64, accept: impl Fn(Ref) -> bool) -> Option<Ref> {
        let accepted = |slot: u64| slot != 0 && accept(slot_ref(slot));
        for attempt in 0..64 {
            let random = mix(seed.wrapping_add(attempt));
            let slots = &self.segments[self.segment_of(tag_of(random))].slots;
            let slot = slots[home(slot_ref(random).0)];
            if accepted(slot) {
                return Some(slot_ref(slot));
            }
        }
        let random = mix(!seed);
        let total = self.segments.len() * SLOTS;
        let start = self.segment_of(tag_of(random)) * SLOTS + home(slot_ref(random).0);
        let mut slots = (start..start + total).map(|at| at % total);
        let found = slots.find(|at| accepted(self.segments[at / SLOTS].slots[at % SLOTS]))?;
        Some(slot_ref(self.segments[found / SLOTS].slots[found % SLOTS]))
    }

    fn segment_of(&self, tag: u32) -> usize {
        // In two steps, as a depth of 0 would shift out all 32 bits at once.
        let number = tag >> 1 >> (TAG_BITS - 1 - self.depth);
        self.directory[number as usize] as usize
    }

    /// Moves the entries of a segment into two, by the next bit of the hash.
    fn split(&mut self, number: usize, tag: u32) {
        let depth = self.segments[number].depth + 1;
        assert!(depth < TAG_BITS, "too many keys share a hash");
        if depth > self.depth {
            self.directory = self
                .directory
                .iter()
                .flat_map(|entry| [*entry; 2])
                .collect();
            self.depth = depth;
        }
        let upper = u32::try_from(self.segments.len()).expect("segments fill memory before u32");
        let old = std::mem::replace(&mut self.segments[number], Segment::new(depth));
        self.segments.push(Segment::new(depth));
        for slot in old.slots.iter().copied().filter(|slot| *slot != 0) {
            let goes_up = slot_tag(slot) >> (TAG_BITS - depth) & 1 == 1;
            self.segments[if goes_up { upper as usize } else { number }].insert(slot);
        }
        // The segment's directory entries agree in the upper `depth - 1` bits; of those, the half
        // with the next bit set now names the new segment.
        let span = 1usize << (self.depth - depth);
        let first = (tag >> (TAG_BITS - depth) | 1) as usize * span;
        self.directory[first..first + span].fill(upper);
    }
}

impl Segment {
    fn new(depth: u32) -> Self {
        let zeroed = vec![0u64; SLOTS].into_boxed_slice();
        let slots = zeroed.try_into().expect("the length is the array's");
        Self {
            slots,
            filled: 0,
            depth,
        }
    }

    fn insert(&mut self, slot: u64) {
        let mut at = home(slot_tag(slot));
        while self.slots[at] != 0 {
            at = (at + 1) % SLOTS;
        }
        self.slots[at] = slot;
        self.filled += 1;
    }

    fn remove(&mut self, slot: u64) {
        let mut gap = home(slot_tag(slot));
        while self.slots[gap] != slot {
            assert!(self.slots[gap] != 0, "only a present key is removed");
            gap = (gap + 1) % SLOTS;
        }
        let mut at = gap;
        loop {
            at = (at + 1) % SLOTS;
            if self.slots[at] == 0 {
                break;
            }
            // An entry may fill the gap if the gap is not before the entry's home.
            let distance_home = at.wrapping_sub(home(slot_tag(self.slots[at]))) % SLOTS;
            if distance_home >= at.wrapping_sub(gap) % SLOTS {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
        }
        self.slots[gap] = 0;
        self.filled -= 1;
    }
}

const fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

const fn home(tag: u32) -> usize {
    tag as usize % SLOTS
}

const fn slot_tag(slot: u64) -> u32 {
    tag_of(slot)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the reference is the lower half"
)]
const fn slot_ref(slot: u64) -> Ref {
    Ref(slot as u32)
}

/// Spreads a seed over all bits. Source: the finaliser of SplitMix64, Steele et al., OOPSLA 2014.
const fn mix(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_entry_is_found_while_segments_split() {
        let mut index = Index::new();
        for key in 1..=200_000u32 {
            index.insert(mix(u64::from(key)), Ref(key));
            let earlier = key / 2 + 1;
            let found = index.find(mix(u64::from(earlier)), |found| found.0 == earlier);
            assert_eq!(found, Some(Ref(earlier)));
        }
        for key in 1..=200_000 {
            let hash = mix(u64::from(key));
            assert_eq!(index.find(hash, |found| found.0 == key), Some(Ref(key)));
        }
        assert!(
            index
                .segments
                .iter()
                .all(|segment| segment.filled <= FILLED_MAX)
        );
        for key in 1..=200_000 {
            index.remove(mix(u64::from(key)), Ref(key));
        }
        assert_eq!((index.used_bytes(), index.segments.len()), (0, 1));
    }

    #[test]
    fn a_sample_reaches_every_entry() {
        let mut index = Index::new();
        (1..=20).for_each(|key| index.insert(mix(u64::from(key)), Ref(key)));
        let reached: std::collections::BTreeSet<u32> = (0..1000)
            .filter_map(|seed| index.sample(seed, |_| true))
            .map(|key| key.0)
            .collect();
        assert!(reached.len() > 15);
        assert_eq!(index.sample(7, |key| key.0 == 13), Some(Ref(13)));
        assert_eq!(index.sample(7, |_| false), None);
    }

    proptest! {
        // Few distinct homes, near the end of the segment, so that probing wraps and shifts.
        #[test]
        fn removal_keeps_the_others_reachable(
            steps in prop::collection::vec((any::<bool>(), 1u32..60), 1..300)
        ) {
            let hash_of = |key: u32| u64::from(2040 + key % 13) << 32;
            let mut index = Index::new();
            let mut model = BTreeMap::new();
            for (adds, key) in steps {
                match (adds, model.contains_key(&key)) {
                    (true, false) => {
                        index.insert(hash_of(key), Ref(key));
                        model.insert(key, ());
                    }
                    (false, true) => {
                        index.remove(hash_of(key), Ref(key));
                        model.remove(&key);
                    }
                    _ => {}
                }
                for key in 1..60 {
                    let found = index.find(hash_of(key), |found| found.0 == key).is_some();
                    prop_assert_eq!(found, model.contains_key(&key));
                }
            }
        }
    }
}
