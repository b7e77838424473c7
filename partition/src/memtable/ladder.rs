//! Marks along a long chain of versions, so that nobody walks it from its newest end.
//!
//! A key that is written ten thousand times a second keeps a hundred thousand versions of the last
//! ten seconds. What the floor has passed lies at the far end of the chain, and that end cannot be
//! seen from the near one. So a chain of more than a few versions gets a *ladder*: some of its
//! versions with their places, near each other at the newest end and ever farther apart towards
//! the oldest. The version to cut behind is the oldest mark's, as soon as the floor has passed the
//! mark before it. A put looks at two marks and, if something is to be cut, frees a few versions.
//!
//! ```text
//! key word   bit 30: the key's `newest` refers to a ladder, the ladder's to the version
//! ladder     newest u32 | sequence u32 | marks u32 | capacity u32 | tail u32 | 0 u32 | mark*
//! mark       timestamp u64 | version u32 | sequence u32                        oldest first
//! ```
//!
//! A sequence says how many versions were before; only differences have a meaning. `tail` is 1
//! while something may lie behind the oldest mark.
//!
//! Invariants:
//! 1. There is at least one mark, and every mark is a version of the chain.
//! 2. Two neighbouring marks are at most [`gap_max`] of the newer one's distance apart, if versions
//!    come in order; else only counting gets worse, not what is seen.
//! 3. So unless a pause left more to free than has been freed yet, the versions that nobody sees
//!    are at most a quarter of those that somebody may see, and [`SLACK`] more.
//!
//! Source of the idea: exponential histograms, Datar et al., "Maintaining Stream Statistics over
//! Sliding Windows", SODA 2002.

use super::arena::{Arena, Ref, read_u32, read_u64, write_u32, write_u64};
use super::chain::Length;
use super::record::Inline;

/// Versions from one mark to the next at the newest end.
const STRIDE: u32 = 4;
/// Versions freed by one put at most.
const FREED_PER_PUT: usize = 64;
/// Versions that nobody sees and that stay however few are seen.
#[cfg(test)]
pub(super) const SLACK: u64 = 2 * STRIDE as u64;

const HEAD_BYTES: usize = 24;
const MARK_BYTES: usize = 16;
const CAPACITY_MIN: usize = 4;

/// One version of a chain and its place in it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    timestamp: u64,
    at: Ref,
    sequence: u32,
}

impl Arena {
    /// Returns the newest version of the chain that `ladder` stands on.
    #[inline]
    pub(super) fn ladder_newest(&self, ladder: Ref) -> Ref {
        Ref(read_u32(self.block(ladder), 0))
    }

    /// Enters the newest version of the chain that `ladder` stands on.
    pub(super) fn set_ladder_newest(&mut self, ladder: Ref, newest: Ref) {
        write_u32(self.block_mut(ladder), 0, newest.0);
    }

    /// Gives the chain of a key a ladder, down to the version that a reader at `floor` sees.
    #[cold]
    pub(super) fn raise_ladder(&mut self, key: Ref, floor: u64) {
        let newest = self.newest(key);
        let mut marks = Vec::new();
        let (mut at, mut distance, mut due) = (newest, 0, STRIDE);
        while at.is_some() {
            let timestamp = self.timestamp(key, at);
            if distance == due || timestamp <= floor {
                let sequence = 0u32.wrapping_sub(distance);
                marks.push(Mark {
                    timestamp,
                    at,
                    sequence,
                });
                due = distance + gap_max(distance);
            }
            if timestamp <= floor {
                break;
            }
            (at, distance) = (self.previous(key, at), distance + 1);
        }
        assert!(!marks.is_empty(), "a short chain gets no ladder");
        let capacity = marks.len().next_power_of_two().max(CAPACITY_MIN);
        let ladder = self.create_ladder(capacity);
        self.set_ladder_newest(ladder, newest);
        marks
            .iter()
            .rev()
            .for_each(|mark| self.push_mark(ladder, *mark));
        self.set_ladder(key, ladder);
    }

    /// Takes the ladder of a key away, if there is one; the chain stays.
    pub(super) fn drop_ladder(&mut self, key: Ref) {
        let Some(ladder) = self.ladder(key) else {
            return;
        };
        let newest = self.ladder_newest(ladder);
        self.free(ladder, ladder_bytes(self.capacity(ladder)));
        self.unset_ladder(key, newest);
    }

    /// Returns the oldest marked version that is newer than `timestamp`.
    pub(super) fn last_marked_newer(&self, ladder: Ref, timestamp: u64) -> Ref {
        let (mut from, mut to) = (0, self.marks(ladder));
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.mark(ladder, middle).timestamp > timestamp {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        if to == self.marks(ladder) {
            return Ref::NONE;
        }
        self.mark(ladder, to).at
    }

    /// Enters a version that has been added to the chain of `key`.
    pub(super) fn note_on_ladder(&mut self, key: Ref, ladder: Ref, at: Ref, timestamp: u64) {
        let sequence = self.sequence(ladder).wrapping_add(1);
        write_u32(self.block_mut(ladder), 4, sequence);
        if at != self.ladder_newest(ladder) {
            return self.shift_newer(ladder, timestamp);
        }
        let last = self.mark(ladder, self.marks(ladder) - 1);
        if sequence.wrapping_sub(last.sequence) < STRIDE {
            return;
        }
        let ladder = self.make_room(key, ladder);
        self.push_mark(
            ladder,
            Mark {
                timestamp,
                at,
                sequence,
            },
        );
    }

    /// Enters that the newest version of the chain has another timestamp.
    pub(super) fn renew_on_ladder(&mut self, ladder: Ref, newest: Ref, timestamp: u64) {
        let number = self.marks(ladder) - 1;
        let last = self.mark(ladder, number);
        if last.at == newest {
            self.set_mark(ladder, number, Mark { timestamp, ..last });
        }
    }

    /// Frees some of what no reader at `floor` or later sees; what is short then loses its ladder.
    pub(super) fn trim_ladder(&mut self, key: Ref, ladder: Ref, floor: u64) -> (Inline, Length) {
        let count = self.marks(ladder);
        let passed = |mark: &usize| self.mark(ladder, *mark).timestamp <= floor;
        let gone = (1..count).take_while(passed).count();
        if gone > 0 {
            self.drop_marks(ladder, gone);
        }
        let oldest = self.mark(ladder, 0);
        if oldest.timestamp > floor || !self.has_tail(ladder) {
            return (Inline::Unchanged, Length::Long);
        }
        let inline = self.cut_some(key, oldest.at, FREED_PER_PUT);
        if self.previous(key, oldest.at).is_some() {
            return (inline, Length::Long);
        }
        self.set_tail(ladder, 0);
        if self.sequence(ladder).wrapping_sub(oldest.sequence) > STRIDE {
            return (inline, Length::Long);
        }
        self.drop_ladder(key);
        (inline, Length::Short)
    }

    /// Counts a version that was added among others, `timestamp` being its own.
    fn shift_newer(&mut self, ladder: Ref, timestamp: u64) {
        for number in 0..self.marks(ladder) {
            let mark = self.mark(ladder, number);
            if mark.timestamp > timestamp {
                let sequence = mark.sequence.wrapping_add(1);
                self.set_mark(ladder, number, Mark { sequence, ..mark });
            }
        }
        self.set_tail(ladder, 1);
    }

    /// Makes room for one more mark; returns where the ladder is then.
    fn make_room(&mut self, key: Ref, ladder: Ref) -> Ref {
        let capacity = self.capacity(ladder);
        if self.marks(ladder) < capacity {
            return ladder;
        }
        self.thin(ladder);
        if self.marks(ladder) <= capacity / 2 {
            return ladder;
        }
        let wider = self.create_ladder(capacity * 2);
        self.set_ladder_newest(wider, self.ladder_newest(ladder));
        for number in 0..self.marks(ladder) {
            self.push_mark(wider, self.mark(ladder, number));
        }
        let (sequence, tail) = (self.sequence(ladder), self.has_tail(ladder));
        write_u32(self.block_mut(wider), 4, sequence);
        self.set_tail(wider, u32::from(tail));
        self.free(ladder, ladder_bytes(capacity));
        self.set_ladder(key, wider);
        wider
    }

    /// Drops marks whose neighbours are near enough to each other.
    fn thin(&mut self, ladder: Ref) {
        let (sequence, count) = (self.sequence(ladder), self.marks(ladder));
        let mut kept = 1;
        for number in 1..count {
            let mark = self.mark(ladder, number);
            let older = self.mark(ladder, kept - 1);
            let newer = (number + 1 < count).then(|| self.mark(ladder, number + 1));
            let needless = newer.is_some_and(|newer| {
                newer.sequence.wrapping_sub(older.sequence)
                    <= gap_max(sequence.wrapping_sub(newer.sequence))
            });
            if !needless {
                self.set_mark(ladder, kept, mark);
                kept += 1;
            }
        }
        self.set_marks(ladder, kept);
    }

    /// Drops the oldest marks.
    fn drop_marks(&mut self, ladder: Ref, gone: usize) {
        let count = self.marks(ladder);
        let bytes = HEAD_BYTES + gone * MARK_BYTES..HEAD_BYTES + count * MARK_BYTES;
        self.block_mut(ladder).copy_within(bytes, HEAD_BYTES);
        self.set_marks(ladder, count - gone);
        self.set_tail(ladder, 1);
    }

    fn create_ladder(&mut self, capacity: usize) -> Ref {
        let ladder = self.allocate(ladder_bytes(capacity));
        let block = self.block_mut(ladder);
        block[..HEAD_BYTES].fill(0);
        write_u32(block, 12, small(capacity));
        write_u32(block, 16, 1);
        ladder
    }

    fn push_mark(&mut self, ladder: Ref, mark: Mark) {
        let count = self.marks(ladder);
        assert!(count < self.capacity(ladder));
        self.set_mark(ladder, count, mark);
        self.set_marks(ladder, count + 1);
    }

    fn mark(&self, ladder: Ref, number: usize) -> Mark {
        let block = &self.block(ladder)[HEAD_BYTES + number * MARK_BYTES..][..MARK_BYTES];
        Mark {
            timestamp: read_u64(block, 0),
            at: Ref(read_u32(block, 8)),
            sequence: read_u32(block, 12),
        }
    }

    fn set_mark(&mut self, ladder: Ref, number: usize, mark: Mark) {
        let block = &mut self.block_mut(ladder)[HEAD_BYTES + number * MARK_BYTES..][..MARK_BYTES];
        write_u64(block, 0, mark.timestamp);
        write_u32(block, 8, mark.at.0);
        write_u32(block, 12, mark.sequence);
    }

    fn sequence(&self, ladder: Ref) -> u32 {
        read_u32(self.block(ladder), 4)
    }

    fn marks(&self, ladder: Ref) -> usize {
        read_u32(self.block(ladder), 8) as usize
    }

    fn set_marks(&mut self, ladder: Ref, count: usize) {
        write_u32(self.block_mut(ladder), 8, small(count));
    }

    fn capacity(&self, ladder: Ref) -> usize {
        read_u32(self.block(ladder), 12) as usize
    }

    fn has_tail(&self, ladder: Ref) -> bool {
        read_u32(self.block(ladder), 16) != 0
    }

    fn set_tail(&mut self, ladder: Ref, tail: u32) {
        write_u32(self.block_mut(ladder), 16, tail);
    }
}

/// Returns how far behind a mark the next older one may be, if the mark itself is `distance`
/// versions behind the newest.
const fn gap_max(distance: u32) -> u32 {
    let part = distance / 4;
    if part > STRIDE { part } else { STRIDE }
}

const fn ladder_bytes(capacity: usize) -> usize {
    HEAD_BYTES + capacity * MARK_BYTES
}

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("marks grow with the logarithm of the chain")
}
