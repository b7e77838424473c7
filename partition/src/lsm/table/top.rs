//! Top index: which partition of an index has a key. It is in memory while the table is open.
//!
//! ```text
//! encoded  0  count      u32
//!             entries: block `BlockRef`, timestamp u64, key_bytes u32, key
//! ```
//! Entries ascend by key; those of one key descend by timestamp.

use std::cmp::{Ordering, Reverse};

use crate::lsm::block::wire::{put_bytes, take_bytes, take_u32, take_u64};
use crate::lsm::{BlockRef, Malformed};

/// The last key of each partition, and where the partition is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopIndex {
    blocks: Vec<BlockRef>,
    timestamps: Vec<u64>,
    keys: Vec<u8>,
    /// Where each key ends in `keys`.
    key_ends: Vec<u32>,
    /// Bytes that all keys share.
    prefix_bytes: usize,
    /// The eight bytes behind the prefix of each key, as a number.
    heads: Vec<u64>,
}

impl TopIndex {
    /// Adds a partition behind the others, whose last entry is of `key` at `timestamp`.
    pub(crate) fn push(&mut self, key: &[u8], timestamp: u64, block: BlockRef) {
        self.blocks.push(block);
        self.timestamps.push(timestamp);
        self.keys.extend_from_slice(key);
        let end = u32::try_from(self.keys.len()).expect("the keys of a top index are few");
        self.key_ends.push(end);
    }

    /// Makes the index fit for searches, once all partitions are in it.
    pub(crate) fn seal(&mut self) {
        let Some(last) = self.len().checked_sub(1) else {
            return;
        };
        let shared = self.key(0).iter().zip(self.key(last));
        self.prefix_bytes = shared.take_while(|(a, b)| a == b).count();
        self.heads = (0..self.len())
            .map(|index| head_of(&self.key(index)[self.prefix_bytes..]))
            .collect();
    }

    /// Returns the number of partitions.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Returns a partition.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn block(&self, index: usize) -> &BlockRef {
        &self.blocks[index]
    }

    /// Returns the key at least as large as any in a partition.
    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let start = match index.checked_sub(1) {
            Some(before) => self.key_ends[before] as usize,
            None => 0,
        };
        &self.keys[start..self.key_ends[index] as usize]
    }

    /// Returns the partition that has the first version of `key` at `timestamp` or older, or of a
    /// key behind it; the count when there is none.
    pub(crate) fn seek(&self, key: &[u8], timestamp: u64) -> usize {
        let Some(prefix) = self.keys.get(..self.prefix_bytes) else {
            return 0;
        };
        let Some((front, rest)) = key.split_at_checked(prefix.len()) else {
            return if key <= &prefix[..key.len()] {
                0
            } else {
                self.len()
            };
        };
        match front.cmp(prefix) {
            Ordering::Less => 0,
            Ordering::Greater => self.len(),
            Ordering::Equal => self.seek_behind_prefix(key, head_of(rest), timestamp),
        }
    }

    fn seek_behind_prefix(&self, key: &[u8], head: u64, timestamp: u64) -> usize {
        let mut index = self.heads.partition_point(|&other| other < head);
        // Behind the prefix, few have the same eight bytes.
        while index < self.len()
            && self.heads[index] == head
            && self.is_before(index, key, timestamp)
        {
            index += 1;
        }
        index
    }

    #[inline]
    fn is_before(&self, index: usize, key: &[u8], timestamp: u64) -> bool {
        let order = self.key(index).cmp(key);
        order.is_lt() || (order.is_eq() && self.timestamps[index] > timestamp)
    }

    /// Appends the index to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.len()).expect("partitions are counted by sectors");
        out.extend_from_slice(&count.to_le_bytes());
        for index in 0..self.len() {
            out.extend_from_slice(&self.blocks[index].encode());
            out.extend_from_slice(&self.timestamps[index].to_le_bytes());
            put_bytes(self.key(index), out);
        }
    }

    /// Takes an index from the front of `bytes`.
    ///
    /// # Errors
    /// When it is cut off or not in order.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Result<Self, Malformed> {
        let mut index = Self::default();
        let taken = take_u32(bytes).and_then(|(count, mut rest)| {
            for _ in 0..count {
                rest = index.take_entry(rest)?;
            }
            Some(rest)
        });
        *bytes = taken.ok_or_else(|| Malformed("top index is cut off".into()))?;
        let place = |at: usize| (index.key(at), Reverse(index.timestamps[at]));
        if (1..index.len()).any(|at| place(at - 1) >= place(at)) {
            return Err(Malformed("top index is not in order".into()));
        }
        index.seal();
        Ok(index)
    }

    /// Takes an entry from the front of `bytes`; returns what follows.
    fn take_entry<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (block, rest) = BlockRef::decode(bytes)?;
        let (timestamp, rest) = take_u64(rest)?;
        let (key, rest) = take_bytes(rest)?;
        u32::try_from(self.keys.len() + key.len()).ok()?;
        self.push(key, timestamp, block);
        Some(rest)
    }
}

/// Returns the number that stands for the first eight bytes, in the order of the bytes.
#[inline]
fn head_of(rest: &[u8]) -> u64 {
    if let Some(front) = rest.first_chunk::<8>() {
        return u64::from_le_bytes(*front).swap_bytes();
    }
    let mut padded = [0; 8];
    padded[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(padded).swap_bytes()
}
