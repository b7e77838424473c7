//! Blocks: sorted entries in one piece of memory, searched without being unpacked.
//!
//! ```text
//! block    0  magic         u32
//!          4  contents      u8    1 versions, 2 references to blocks, 3 a filter (see `filter`)
//!          5  reserved      u8
//!          6  count         u16   entries
//!          8  prefix_bytes  u16
//!         10  reserved      u16
//!         12  bytes         u32   of the block
//!         16  the prefix that all keys share
//!             heads         count x u32, the 4 bytes of the key behind the prefix as a number
//!             offsets       count x u16, from the first entry
//!             entries, one after another
//! entry    0  flags         u8    1 tombstone, 2 expires, 4 separate, 8 has older, 16 no timestamp,
//!                             32 root of a collection
//!             suffix_bytes  varint
//!             value_bytes   varint
//!             timestamp     u64   unless flag 16
//!             expire_at_ms  u64   if flag 2
//!             suffix of the key, behind the prefix
//!             value: the bytes; or a `ValueRef` (flag 4); or, in contents 2, a `Child`
//! child    0  block         `BlockRef`, 20 bytes
//!         20  min_timestamp u64   of the versions in the block
//!         28  max_timestamp u64
//!         36  tombstones    u16   65,535 for that many or more
//! ```
//! Entries ascend by key; those of one key descend by timestamp. A search compares heads, four bytes
//! each and next to one another, and looks at an entry only where heads are equal.
//!
//! Not here: checksums, which lie in whatever refers to the block, and compression (`table`).
//!
//! Invariant: a block is validated once, when it is loaded ([`validate`]). [`BlockView::parse`] then
//! looks at the header only, and no access to an entry of a validated block panics.

mod builder;
mod child;
mod slot;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

pub(crate) use builder::BlockBuilder;
pub(crate) use child::Child;
pub(crate) use slot::Spot;

use crate::lsm::{Malformed, Value, filter};
use crate::memtable::{Kind, Memtable};
use slot::{
    EXPIRES, HAS_OLDER, NO_TIMESTAMP, PLAIN_BYTES, ROOT, SEPARATE, Slot, TOMBSTONE, take_slot,
    value_of,
};
use wire::take_u32;

/// Size of a block's header, in bytes.
pub(crate) const HEADER_BYTES: usize = 16;
/// Longest prefix that is stored once, in bytes.
const PREFIX_BYTES_MAX: usize = u16::MAX as usize;
/// "ABLK".
const MAGIC: u32 = 0x4b4c_4241;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Contents {
    /// Versions of keys.
    Versions = 1,
    /// References to blocks, by the last key of each.
    Children = 2,
    /// Part of a filter.
    Filter = 3,
}

/// Whether a key has older versions in the old stream of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Older {
    /// It has none.
    Absent,
    /// It has.
    Present,
}

/// One version in a block; the key is `prefix` and then `suffix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockEntry<'a> {
    /// What the keys of the block share.
    pub(crate) prefix: &'a [u8],
    /// The rest of the key.
    pub(crate) suffix: &'a [u8],
    /// When the version was committed.
    pub(crate) timestamp: u64,
    /// Whether the key was set or deleted.
    pub(crate) kind: Kind,
    /// Milliseconds since 1970.
    pub(crate) expire_at_ms: Option<u64>,
    /// The value.
    pub(crate) value: Value<'a>,
    /// Whether the table has older versions of the key.
    pub(crate) older: Older,
}

/// Returns the number that stands for the first four bytes, in the order of the bytes.
#[inline]
fn head_of(suffix: &[u8]) -> u32 {
    if let Some(front) = suffix.first_chunk::<4>() {
        return u32::from_le_bytes(*front).swap_bytes();
    }
    let mut padded = [0; 4];
    padded[..suffix.len()].copy_from_slice(suffix);
    u32::from_le_bytes(padded).swap_bytes()
}

#[cold]
fn malformed(what: &str) -> Malformed {
    Malformed(format!("block {what}"))
}

/// A block of entries, where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockView<'a> {
    contents: Contents,
    prefix: &'a [u8],
    heads: &'a [[u8; 4]],
    offsets: &'a [[u8; 2]],
    entries: &'a [u8],
}

impl<'a> BlockView<'a> {
    /// Returns a view of the block; looks at its header only.
    ///
    /// # Errors
    /// When `bytes` are no block of versions or of references.
    #[inline]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::split(bytes).ok_or_else(|| malformed("has no header of entries, or a wrong one"))
    }

    #[inline]
    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [
            m0,
            m1,
            m2,
            m3,
            contents,
            _,
            c0,
            c1,
            p0,
            p1,
            _,
            _,
            b0,
            b1,
            b2,
            b3,
        ] = *header;
        let contents = match contents {
            1 => Contents::Versions,
            2 => Contents::Children,
            _ => return None,
        };
        let count = usize::from(u16::from_le_bytes([c0, c1]));
        let (prefix, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([p0, p1])))?;
        let (heads, rest) = rest.split_at_checked(4 * count)?;
        let (offsets, entries) = rest.split_at_checked(2 * count)?;
        let whole = u32::from_le_bytes([m0, m1, m2, m3]) == MAGIC
            && u32::from_le_bytes([b0, b1, b2, b3]) as usize == bytes.len();
        whole.then_some(Self {
            contents,
            prefix,
            heads: heads.as_chunks().0,
            offsets: offsets.as_chunks().0,
            entries,
        })
    }

    /// Returns a view of a block that was validated when it was loaded.
    ///
    /// # Panics
    /// When it was not.
    #[inline]
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self::split(bytes).expect("blocks are validated when they are loaded")
    }

    /// Returns what the block holds.
    pub(crate) fn contents(&self) -> Contents {
        self.contents
    }

    /// Returns the number of entries; never 0 in a validated block.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.heads.len()
    }

    /// Returns the number of bytes that all keys share and that stand at their front.
    #[inline]
    pub(crate) fn prefix_bytes(&self) -> usize {
        self.prefix.len()
    }

    #[inline]
    fn slot(&self, index: usize) -> Slot<'a> {
        let at = usize::from(u16::from_le_bytes(self.offsets[index]));
        take_slot(&self.entries[at..])
            .expect("entries are validated when their block is loaded")
            .0
    }

    /// Returns the first entry whose key is `key` or behind it; the count when there is none.
    #[inline]
    #[cfg(test)]
    pub(crate) fn seek(&self, key: &[u8]) -> usize {
        self.seek_version(key, u64::MAX)
    }

    /// Returns the first entry that is a version of `key` at `timestamp` or older, or of a key
    /// behind it; the count when there is none.
    #[inline]
    pub(crate) fn seek_version(&self, key: &[u8], timestamp: u64) -> usize {
        let Some((front, rest)) = key.split_at_checked(self.prefix.len()) else {
            let all_behind = key <= &self.prefix[..key.len()];
            return if all_behind { 0 } else { self.count() };
        };
        match front.cmp(self.prefix) {
            Ordering::Less => return 0,
            Ordering::Greater => return self.count(),
            Ordering::Equal => {}
        }
        let head = head_of(rest);
        let first = self.first_head_from(head);
        if self
            .heads
            .get(first)
            .is_none_or(|&at| u32::from_le_bytes(at) != head)
        {
            return first;
        }
        self.seek_among(first, head, rest, timestamp)
    }

    /// Returns the first entry whose head is `head` or more.
    #[inline]
    fn first_head_from(&self, head: u32) -> usize {
        self.heads
            .partition_point(|&other| u32::from_le_bytes(other) < head)
    }

    /// Finishes a search among the entries with an equal head, which begin at `first`.
    fn seek_among(&self, first: usize, head: u32, rest: &[u8], timestamp: u64) -> usize {
        let mut low = first;
        let mut high = first + 1;
        if self
            .heads
            .get(high)
            .is_some_and(|&at| u32::from_le_bytes(at) == head)
        {
            high = match head.checked_add(1) {
                Some(next) => self.first_head_from(next),
                None => self.count(),
            };
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            let slot = self.slot(middle);
            let order = slot.suffix.cmp(rest);
            if order.is_lt() || (order.is_eq() && slot.timestamp > timestamp) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Says whether an entry is of `key`.
    #[inline]
    pub(crate) fn is_key(&self, index: usize, key: &[u8]) -> bool {
        key.strip_prefix(self.prefix)
            .is_some_and(|rest| self.slot(index).suffix == rest)
    }

    /// Compares an entry's key with `key`.
    #[cfg(test)]
    pub(crate) fn key_cmp(&self, index: usize, key: &[u8]) -> Ordering {
        let (front, rest) = key.split_at(self.prefix.len().min(key.len()));
        self.prefix
            .cmp(front)
            .then_with(|| self.slot(index).suffix.cmp(rest))
    }

    /// Puts an entry's key into `out`, in place of what is there; returns the rest of the entry.
    pub(crate) fn key_into(&self, index: usize, out: &mut Vec<u8>) -> Spot {
        let (suffix, spot) = self.suffix_and_spot(index);
        out.clear();
        // The keys that follow are hardly longer.
        out.reserve(self.prefix.len() + suffix.len() + 16);
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(suffix);
        spot
    }

    /// As [`Self::key_into`], when `out` has the key of another entry of this block.
    #[inline]
    pub(crate) fn suffix_into(&self, index: usize, out: &mut Vec<u8>) -> Spot {
        let (suffix, spot) = self.suffix_and_spot(index);
        out.truncate(self.prefix.len());
        out.extend_from_slice(suffix);
        spot
    }

    #[inline]
    fn suffix_and_spot(&self, index: usize) -> (&'a [u8], Spot) {
        let at = usize::from(u16::from_le_bytes(self.offsets[index]));
        let (slot, behind) = take_slot(&self.entries[at..])
            .expect("entries are validated when their block is loaded");
        let entries_at =
            HEADER_BYTES + self.prefix.len() + 4 * self.heads.len() + 2 * self.offsets.len();
        let value_end = entries_at + self.entries.len() - behind.len();
        (slot.suffix, Spot::of(&slot, value_end))
    }

    /// Returns an entry's timestamp.
    #[inline]
    pub(crate) fn timestamp(&self, index: usize) -> u64 {
        self.slot(index).timestamp
    }

    /// Returns an entry of a block of versions.
    ///
    /// # Panics
    /// When the index is not below the count, or the block was not validated.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> BlockEntry<'a> {
        let slot = self.slot(index);
        BlockEntry {
            prefix: self.prefix,
            suffix: slot.suffix,
            timestamp: slot.timestamp,
            kind: slot.kind(),
            expire_at_ms: slot.expire_at_ms(),
            value: value_of(&slot).expect("entries are validated when their block is loaded"),
            older: match slot.flags & HAS_OLDER {
                0 => Older::Absent,
                _ => Older::Present,
            },
        }
    }

    /// Returns an entry of a block of references.
    ///
    /// # Panics
    /// When the block holds something else, the index is not below the count, or the block was not
    /// validated.
    #[inline]
    pub(crate) fn child(&self, index: usize) -> Child {
        assert_eq!(self.contents, Contents::Children);
        Child::decode(self.slot(index).value)
            .expect("entries are validated when their block is loaded")
    }

    /// Checks all that the other functions rely on.
    fn validate(&self) -> Result<(), Malformed> {
        if self.count() == 0 {
            return Err(malformed("has no entries"));
        }
        let (mut rest, mut last) = (self.entries, None::<(u32, Slot<'_>)>);
        for (head, offset) in self.heads.iter().zip(self.offsets) {
            let at = self.entries.len() - rest.len();
            let (slot, behind) =
                take_slot(rest).ok_or_else(|| malformed("has an entry that is cut off"))?;
            if usize::from(u16::from_le_bytes(*offset)) != at {
                return Err(malformed("has an entry that is not where it should be"));
            }
            let head = u32::from_le_bytes(*head);
            if head != head_of(slot.suffix) {
                return Err(malformed("has an entry whose head is not its key's"));
            }
            // Most heads differ, and then say what the keys would.
            if last.is_some_and(|(before, last)| {
                before > head || (before == head && !ascends(&last, &slot))
            }) {
                return Err(malformed("has entries out of order"));
            }
            self.validate_slot(&slot)?;
            (rest, last) = (behind, Some((head, slot)));
        }
        if rest.is_empty() {
            return Ok(());
        }
        Err(malformed("has bytes behind its entries"))
    }

    fn validate_slot(&self, slot: &Slot<'_>) -> Result<(), Malformed> {
        let known = TOMBSTONE | EXPIRES | SEPARATE | HAS_OLDER | NO_TIMESTAMP | ROOT;
        let tombstone = slot.flags & TOMBSTONE != 0;
        let value_fits = match self.contents {
            Contents::Versions if tombstone => {
                slot.value.is_empty() && slot.flags & (EXPIRES | SEPARATE | ROOT) == 0
            }
            Contents::Versions => value_of(slot).is_some(),
            _ => slot.flags & !NO_TIMESTAMP == 0 && Child::decode(slot.value).is_some(),
        };
        let key_bytes = self.prefix.len() + slot.suffix.len();
        if slot.flags & !known != 0 || !value_fits {
            return Err(malformed("has an entry whose flags and value do not agree"));
        }
        if key_bytes == 0 || key_bytes > Memtable::KEY_BYTES_MAX {
            return Err(malformed("has a key of a length that keys cannot have"));
        }
        Ok(())
    }
}

/// Says whether an entry may follow another.
fn ascends(before: &Slot<'_>, behind: &Slot<'_>) -> bool {
    match before.suffix.cmp(behind.suffix) {
        Ordering::Less => true,
        Ordering::Equal => before.timestamp > behind.timestamp,
        Ordering::Greater => false,
    }
}

/// Checks a block of any contents that was just loaded.
///
/// # Errors
/// When it is not what was written; then nothing may be read from it.
pub(crate) fn validate(bytes: &[u8]) -> Result<(), Malformed> {
    let header = take_u32(bytes).and_then(|(magic, rest)| Some((magic, *rest.first()?)));
    match header {
        Some((MAGIC, contents)) if contents == Contents::Filter as u8 => filter::validate(bytes),
        Some((MAGIC, _)) => BlockView::parse(bytes)?.validate(),
        _ => Err(malformed("does not begin like one")),
    }
}

/// Returns the header of a block.
fn header(contents: Contents, count: u16, prefix_bytes: u16, bytes: u32) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..4].copy_from_slice(&MAGIC.to_le_bytes());
    out[4] = contents as u8;
    out[6..8].copy_from_slice(&count.to_le_bytes());
    out[8..10].copy_from_slice(&prefix_bytes.to_le_bytes());
    out[12..].copy_from_slice(&bytes.to_le_bytes());
    out
}

/// Returns the header of a block of a filter.
pub(crate) fn filter_header(bytes: u32) -> [u8; HEADER_BYTES] {
    header(Contents::Filter, 0, 0, bytes)
}
