//! What will happen in a simulated world, in order of time, and the rolling hash of what has
//! happened. Not the meaning of events (see `state.rs`).
//!
//! Invariant: of two events at the same time the one that was scheduled first comes first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One direction's receiving end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndId {
    pub(super) conn: u32,
    /// 0 for the end that connected, 1 for the end that accepted.
    pub(super) side: u8,
}

impl EndId {
    pub(super) fn peer(self) -> Self {
        Self {
            conn: self.conn,
            side: 1 - self.side,
        }
    }
}

/// What happens at an event's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The op in this slot of the pending slab is done.
    Done(u32),
    /// A shard asked for a turn.
    Timer(u32),
    /// A shard was woken by another.
    Wake(u32),
    /// A shard that was held back may run.
    Release(u32),
    /// A paused node goes on.
    Resume(u32),
    /// A segment arrives.
    Arrive(EndId),
    /// A receive stream looks at what is there already.
    Pump(EndId),
    /// A reset arrives.
    Reset(EndId),
    /// A segment has been held by a cut for too long.
    GiveUp(EndId),
    /// A connection request arrives.
    Connect(u32),
    /// The way between two nodes may be open again.
    Mend(u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Event {
    at: u64,
    order: u64,
    kind: Kind,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The events to come.
#[derive(Debug, Default)]
pub(super) struct Heap {
    events: BinaryHeap<Event>,
    scheduled: u64,
}

impl Heap {
    pub(super) fn push(&mut self, at: u64, kind: Kind) {
        self.scheduled += 1;
        self.events.push(Event {
            at,
            order: self.scheduled,
            kind,
        });
    }

    /// Returns the time of the next event, in nanoseconds.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.peek().map(|event| event.at)
    }

    pub(super) fn pop(&mut self) -> Option<(u64, Kind)> {
        self.events.pop().map(|event| (event.at, event.kind))
    }

    /// Returns how many events are waiting.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// Adds a word to a rolling hash.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the other half is asked for by itself"
)]
fn low_half(wide: u128) -> u64 {
    wide as u64
}

/// Multiplies two words and folds the product: every bit of both has its say.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    low_half(product) ^ low_half(product >> 64)
}

#[inline]
fn take_in(lane: u64, pair: &[u8; 16]) -> u64 {
    let pair = u128::from_le_bytes(*pair);
    let (low, high) = (low_half(pair), low_half(pair >> 64));
    fold(
        lane ^ low ^ 0x9E37_79B9_7F4A_7C15,
        high ^ 0xD6E8_FEB8_6659_FD93,
    ) ^ lane.rotate_left(32)
}

/// Each lane has its own pair of a block. Written out, for an iterator over both is not a few instructions everywhere.
#[inline]
fn take_in_all(lanes: [u64; 4], block: &[[u8; 16]; 4]) -> [u64; 4] {
    [
        take_in(lanes[0], &block[0]),
        take_in(lanes[1], &block[1]),
        take_in(lanes[2], &block[2]),
        take_in(lanes[3], &block[3]),
    ]
}

/// Condenses bytes to 64 bits, in four independent lanes for speed.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut lanes = [1_u64, 2, 3, 4];
    let (pairs, rest) = bytes.as_chunks::<16>();
    let (blocks, pairs) = pairs.as_chunks::<4>();
    for block in blocks {
        lanes = take_in_all(lanes, block);
    }
    let mut tail = [[0; 16]; 4];
    tail[..pairs.len()].copy_from_slice(pairs);
    tail[pairs.len()][..rest.len()].copy_from_slice(rest);
    take_in_all(lanes, &tail)
        .iter()
        .fold(bytes.len() as u64, |hash, lane| mix(hash, *lane))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let mut heap = Heap::default();
        for (at, shard) in [(5, 0), (3, 1), (5, 2), (1, 3), (3, 4)] {
            heap.push(at, Kind::Wake(shard));
        }
        let order: Vec<_> = std::iter::from_fn(|| heap.pop()).collect();
        assert_eq!(
            order,
            [(1, 3), (3, 1), (3, 4), (5, 0), (5, 2)].map(|(at, s)| (at, Kind::Wake(s)))
        );
        assert_eq!(heap.len(), 0);
    }

    #[test]
    fn a_digest_sees_every_bit_and_the_length() {
        let mut bytes = vec![0_u8; 100];
        let mut seen = std::collections::BTreeSet::from([digest(&bytes), digest(&bytes[1..])]);
        for bit in 0..800 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            seen.insert(digest(&bytes));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(seen.len(), 802);
    }
}
