//! Which entry of the cache holds a key: an open-addressed table of numbers, and the ghosts of what
//! was evicted. Neither knows keys: the caller compares them.
//!
//! ```text
//! slot (u64)  bits 32..64  tag: the upper half of the key's hash; its low bits are the home slot
//!             bits  0..32  number of the entry, plus one; 0 is an empty slot
//! ```
//!
//! Invariants:
//! 1. Between an entry's home slot and its slot, no slot is empty.
//! 2. At most half of the slots are used.

/// Slots of a table that was just made; a power of two.
const SLOTS_MIN: usize = 1 << 10;

/// A table from hashes to numbers of entries.
#[derive(Debug)]
pub(crate) struct Index {
    slots: Vec<u64>,
    used: usize,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "takes the two halves of a slot or a hash apart"
)]
fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    low(word >> 32)
}

impl Index {
    /// Returns an empty table with room for `entries` before it has to grow.
    pub(crate) fn new(entries: usize) -> Self {
        let slots = (entries * 2).next_power_of_two().max(SLOTS_MIN);
        Self {
            slots: vec![0; slots],
            used: 0,
        }
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    /// Returns the number whose tag is that of `hash` and of which `is_it` says yes.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.slot_of(hash, is_it)
            .map(|slot| low(self.slots[slot]) - 1)
    }

    #[inline]
    fn slot_of(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let tag = high(hash);
        let mut slot = self.home(tag);
        loop {
            let word = self.slots[slot];
            if word == 0 {
                return None;
            }
            if high(word) == tag && is_it(low(word) - 1) {
                return Some(slot);
            }
            slot = self.after(slot);
        }
    }

    /// Adds a number that is not there.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.used += 1;
        self.place(u64::from(high(hash)) << 32 | (u64::from(number) + 1));
    }

    fn place(&mut self, word: u64) {
        let mut slot = self.home(high(word));
        while self.slots[slot] != 0 {
            slot = self.after(slot);
        }
        self.slots[slot] = word;
    }

    fn grow(&mut self) {
        let doubled = vec![0; self.slots.len() * 2];
        let old = std::mem::replace(&mut self.slots, doubled);
        old.into_iter()
            .filter(|word| *word != 0)
            .for_each(|word| self.place(word));
    }

    /// Removes a number that is there, and closes the gap that it leaves (invariant 1).
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let found = self.slot_of(hash, |other| other == number);
        let mut gap = found.expect("what is removed is there");
        self.used -= 1;
        let mut slot = self.after(gap);
        while self.slots[slot] != 0 {
            // A word may move to the gap unless its home lies behind it, seen from the gap.
            let home = self.home(high(self.slots[slot]));
            let mask = self.slots.len() - 1;
            if (slot.wrapping_sub(home) & mask) >= (slot.wrapping_sub(gap) & mask) {
                self.slots[gap] = self.slots[slot];
                gap = slot;
            }
            slot = self.after(slot);
        }
        self.slots[gap] = 0;
    }
}

/// Remembers the hashes of what was evicted a short while ago, each until another takes its place.
#[derive(Debug)]
pub(crate) struct Ghosts(Vec<u32>);

impl Ghosts {
    /// Returns no ghosts, and room for about `entries`.
    pub(crate) fn new(entries: usize) -> Self {
        Self(vec![0; entries.next_power_of_two().max(SLOTS_MIN)])
    }

    fn place(&self, hash: u64) -> usize {
        high(hash) as usize & (self.0.len() - 1)
    }

    /// Remembers a hash.
    pub(crate) fn remember(&mut self, hash: u64) {
        let place = self.place(hash);
        self.0[place] = low(hash) | 1;
    }

    /// Says whether a hash is remembered, and forgets it.
    pub(crate) fn take(&mut self, hash: u64) -> bool {
        let place = self.place(hash);
        let known = self.0[place] == low(hash) | 1;
        if known {
            self.0[place] = 0;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ashlar_io::rng::Rng;

    use super::*;

    #[test]
    fn the_table_equals_a_map_under_random_use() {
        let mut rng = Rng::new(1);
        for mask in [0x3F_u64 << 32, 0x3FF << 32, u64::MAX] {
            let mut index = Index::new(0);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for _ in 0..30_000 {
                let number = u32::try_from(rng.below(2_000)).unwrap();
                // Few distinct hashes make long runs of slots.
                let hash = rng.next_u64() & mask;
                match model.get(&number).copied() {
                    Some(hash) => {
                        assert_eq!(index.find(hash, |other| other == number), Some(number));
                        if rng.coin() {
                            index.remove(hash, number);
                            model.remove(&number);
                        }
                    }
                    None => {
                        assert_eq!(index.find(hash, |other| other == number), None);
                        index.insert(hash, number);
                        model.insert(number, hash);
                    }
                }
            }
            for (number, hash) in &model {
                assert_eq!(index.find(*hash, |other| other == *number), Some(*number));
            }
            assert_eq!(index.used, model.len());
        }
    }

    #[test]
    fn a_ghost_is_known_once() {
        let mut ghosts = Ghosts::new(0);
        assert!(!ghosts.take(5 << 32));
        ghosts.remember(5 << 32);
        assert!(!ghosts.take(6 << 32));
        assert!(ghosts.take(5 << 32));
        assert!(!ghosts.take(5 << 32));
    }
}
