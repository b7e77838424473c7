//! A sorted run of up to 64 key references: what every node of the tree is made of.
//!
//! Comparing keys in the arena costs a cache miss each. So a run keeps the prefix that its keys
//! have in common, and of each key the 8 bytes after it (*head*) as a number of the same order;
//! only among equal heads are keys compared. Which runs follow each other is not known here.
//!
//! Invariants:
//! 1. References are in ascending order of their keys, and all keys begin with the prefix.
//! 2. `heads[i]` belongs to `refs[i]`; unused heads are `u64::MAX`, so that no head is below them.

use super::arena::{Arena, Ref};
use std::cmp::Ordering;

/// References of a full run.
pub(super) const RUN_MAX: usize = 64;
/// Heads of one cache line.
const LINE: usize = 8;
/// Bytes of the prefix that are kept in the run; longer ones are read through the first key, which is rarely in the
/// cache. Elements of collections share 10 bytes and what their names begin with.
const PREFIX_KEPT_BYTES: usize = 48;

/// Up to 64 keys in order.
pub(super) struct Run {
    heads: [u64; RUN_MAX],
    refs: [Ref; RUN_MAX],
    len: u32,
    prefix_bytes: u32,
    prefix: [u8; PREFIX_KEPT_BYTES],
}

/// Which of the positions round an equal key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Before the equal key.
    Before,
    /// After the equal key.
    After,
}

impl Run {
    /// Returns a run without keys.
    pub(super) const fn new() -> Self {
        Self {
            heads: [u64::MAX; RUN_MAX],
            refs: [Ref::NONE; RUN_MAX],
            len: 0,
            prefix_bytes: 0,
            prefix: [0; PREFIX_KEPT_BYTES],
        }
    }

    /// Returns the number of keys.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// Returns the keys in order.
    #[inline]
    pub(super) fn refs(&self) -> &[Ref] {
        &self.refs[..self.len()]
    }

    /// Returns how many keys are below `key`, or, after its side, not above it.
    #[inline]
    pub(super) fn position(&self, arena: &Arena, key: &[u8], side: Side) -> usize {
        if self.len == 0 {
            return 0;
        }
        let skip = self.prefix_bytes as usize;
        match key[..key.len().min(skip)].cmp(self.prefix(arena)) {
            Ordering::Less => return 0,
            Ordering::Greater => return self.len(),
            Ordering::Equal => {}
        }
        let head = head(key, skip);
        let first = self.heads_below(head);
        if first == self.len() || self.heads[first] != head {
            return first;
        }
        let ties = self.heads[first..self.len()].partition_point(|other| *other == head);
        let tied = &self.refs[first..first + ties];
        first
            + tied.partition_point(|other| match arena.key(*other).cmp(key) {
                Ordering::Less => true,
                Ordering::Equal => side == Side::After,
                Ordering::Greater => false,
            })
    }

    /// Returns how many keys are below `key`, which is not one of them, if it belongs right before or behind the key at
    /// `slot`; nothing if it does not, or if that is not easily told.
    #[inline]
    pub(super) fn beside(&self, arena: &Arena, key: &[u8], slot: usize) -> Option<usize> {
        let skip = self.prefix_bytes as usize;
        if key.get(..skip)? != self.prefix(arena) {
            return None;
        }
        let head = head(key, skip);
        let is_below = |at: usize| match self.heads[at].cmp(&head) {
            Ordering::Equal => arena.key(self.refs[at]) < key,
            order => order.is_lt(),
        };
        let position = slot + usize::from(is_below(slot));
        let is_beside = match position == slot {
            true => slot == 0 || is_below(slot - 1),
            false => position == self.len() || !is_below(position),
        };
        is_beside.then_some(position)
    }

    /// Inserts `key` at `position`, where it belongs.
    ///
    /// # Panics
    /// If the run is full.
    pub(super) fn insert(&mut self, arena: &Arena, position: usize, key: Ref) {
        assert!(self.len() < RUN_MAX && position <= self.len());
        let bytes = arena.key(key);
        if self.len == 0 {
            self.set_prefix(bytes, bytes.len());
        } else {
            let shared = common_bytes(bytes, self.prefix(arena));
            if shared < self.prefix_bytes as usize {
                self.set_prefix(bytes, shared);
                self.rebuild(arena);
            }
        }
        let len = self.len();
        self.heads.copy_within(position..len, position + 1);
        self.refs.copy_within(position..len, position + 1);
        self.heads[position] = head(bytes, self.prefix_bytes as usize);
        self.refs[position] = key;
        self.len += 1;
    }

    /// Removes and returns the key at `position`.
    pub(super) fn remove(&mut self, position: usize) -> Ref {
        let len = self.len();
        let removed = self.refs()[position];
        self.heads.copy_within(position + 1..len, position);
        self.refs.copy_within(position + 1..len, position);
        self.heads[len - 1] = u64::MAX;
        self.refs[len - 1] = Ref::NONE;
        self.len -= 1;
        removed
    }

    /// Moves the keys from `position` on into `upper`, which is empty.
    pub(super) fn split_into(&mut self, arena: &Arena, position: usize, upper: &mut Self) {
        assert!(upper.len == 0 && position <= self.len());
        let count = self.len() - position;
        upper.heads[..count].copy_from_slice(&self.heads[position..][..count]);
        upper.refs[..count].copy_from_slice(&self.refs[position..][..count]);
        (upper.prefix_bytes, upper.prefix) = (self.prefix_bytes, self.prefix);
        upper.len = self.len;
        self.truncate(position);
        upper.truncate(count);
        self.tighten(arena);
        upper.tighten(arena);
    }

    fn truncate(&mut self, len: usize) {
        self.heads[len..].fill(u64::MAX);
        self.refs[len..].fill(Ref::NONE);
        self.len = u32::try_from(len).expect("a run has at most 64 keys");
    }

    /// Makes the prefix as long as it can be, if the heads do not tell all keys apart.
    fn tighten(&mut self, arena: &Arena) {
        let (Some(first), Some(last)) = (self.refs().first(), self.refs().last()) else {
            return;
        };
        let first = arena.key(*first);
        let shared = common_bytes(first, arena.key(*last));
        let tied = self.heads[..self.len()]
            .windows(2)
            .any(|pair| pair[0] == pair[1]);
        if tied && shared > self.prefix_bytes as usize {
            self.set_prefix(first, shared);
            self.rebuild(arena);
        }
    }

    fn rebuild(&mut self, arena: &Arena) {
        let len = self.len();
        for (head_kept, key) in self.heads[..len].iter_mut().zip(&self.refs[..len]) {
            *head_kept = head(arena.key(*key), self.prefix_bytes as usize);
        }
    }

    fn set_prefix(&mut self, key: &[u8], bytes: usize) {
        let kept = bytes.min(PREFIX_KEPT_BYTES);
        self.prefix[..kept].copy_from_slice(&key[..kept]);
        self.prefix_bytes = u32::try_from(bytes).expect("a key has at most 65537 bytes");
    }

    /// Returns the common prefix; the run must not be empty.
    #[inline]
    fn prefix<'a>(&'a self, arena: &'a Arena) -> &'a [u8] {
        let bytes = self.prefix_bytes as usize;
        if bytes <= PREFIX_KEPT_BYTES {
            &self.prefix[..bytes]
        } else {
            &arena.key(self.refs[0])[..bytes]
        }
    }

    /// Returns how many heads are below `head`.
    ///
    /// First whole lines are counted, by their last head: these reads do not wait for each other as
    /// those of a binary search would, which matters when the run is not in the cache.
    #[inline]
    fn heads_below(&self, head: u64) -> usize {
        let lines = self.heads.chunks_exact(LINE);
        let full: usize = lines.map(|line| usize::from(line[LINE - 1] < head)).sum();
        if full * LINE == RUN_MAX {
            return RUN_MAX;
        }
        let line = &self.heads[full * LINE..][..LINE];
        full * LINE
            + line
                .iter()
                .map(|other| usize::from(*other < head))
                .sum::<usize>()
    }
}

/// Returns the 8 bytes of `key` after the first `skip`, padded with zeros, as a number that is
/// ordered as they are.
#[inline]
fn head(key: &[u8], skip: usize) -> u64 {
    let rest = &key[skip.min(key.len())..];
    if let Some(bytes) = rest.first_chunk() {
        return u64::from_le_bytes(*bytes).swap_bytes();
    }
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(padded).swap_bytes()
}

/// Returns how many bytes `a` and `b` have in common from their start.
pub(super) fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    let words = a
        .chunks_exact(8)
        .zip(b.chunks_exact(8))
        .take_while(|(a, b)| a == b)
        .count();
    let rest = a[words * 8..]
        .iter()
        .zip(&b[words * 8..])
        .take_while(|(a, b)| a == b)
        .count();
    words * 8 + rest
}
