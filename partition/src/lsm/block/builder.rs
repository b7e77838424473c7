//! Makes blocks: entries are staged in order, then laid out once the prefix they share is known.
//!
//! Not a check of what the entries mean. Nothing is allocated per entry once the buffers have grown
//! to the size of a block.

use crate::lsm::{Entry, Value};
use crate::memtable::Kind;

use super::child::CHILD_BYTES;
use super::wire::{VALUE_REF_BYTES, put_varint, varint_bytes};
use super::{
    Child, Contents, EXPIRES, HAS_OLDER, HEADER_BYTES, NO_TIMESTAMP, Older, PREFIX_BYTES_MAX, ROOT,
    SEPARATE, TOMBSTONE, head_of, header,
};

/// Largest target of a block, so that offsets fit in 16 bits.
pub(crate) const TARGET_BYTES_MAX: usize = 64 << 10;
/// Head and offset of an entry, in bytes.
const SLOT_BYTES: usize = 6;
/// A block of one large entry is filled up to a multiple of this.
const SECTOR_BYTES: usize = 4096;

/// A staged entry; key and value end there in the buffers.
#[derive(Clone, Copy, Debug)]
struct Staged {
    flags: u8,
    timestamp: u64,
    expire_at_ms: u64,
    key_end: u32,
    value_end: u32,
}

impl Staged {
    /// Returns the bytes that stand before the suffix, at most.
    #[inline]
    fn fixed_bytes(flags: u8, key_bytes: usize, value_bytes: usize) -> usize {
        let timestamp = if flags & NO_TIMESTAMP == 0 { 8 } else { 0 };
        let expire = if flags & EXPIRES == 0 { 0 } else { 8 };
        1 + varint_bytes(key_bytes) + varint_bytes(value_bytes) + timestamp + expire
    }
}

/// A block in the making; used again for the next one.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    contents: Contents,
    target_bytes: usize,
    /// What this block may take: the target, or whole sectors when its first entry is larger.
    limit_bytes: usize,
    /// The keys, whole, one after another.
    keys: Vec<u8>,
    /// The values, one after another.
    values: Vec<u8>,
    staged: Vec<Staged>,
    /// Bytes that the first key shares with the last one.
    prefix_bytes: usize,
    /// What stands before the suffixes, at most; counted from above because a suffix is never
    /// longer than its key.
    fixed_bytes: usize,
}

impl BlockBuilder {
    /// Returns an empty block of versions that is to take `target_bytes`.
    ///
    /// # Panics
    /// When the target is above [`TARGET_BYTES_MAX`].
    pub(crate) fn new(target_bytes: u32) -> Self {
        Self::of(Contents::Versions, target_bytes)
    }

    /// Returns an empty block that is to hold `contents` and to take `target_bytes`.
    ///
    /// # Panics
    /// When the target is above [`TARGET_BYTES_MAX`].
    pub(crate) fn of(contents: Contents, target_bytes: u32) -> Self {
        let mut block = Self {
            contents,
            target_bytes: 0,
            limit_bytes: 0,
            keys: Vec::new(),
            values: Vec::new(),
            staged: Vec::new(),
            prefix_bytes: 0,
            fixed_bytes: 0,
        };
        block.aim_at(target_bytes);
        block
    }

    /// Changes the size that blocks are to have.
    ///
    /// # Panics
    /// When the target is above [`TARGET_BYTES_MAX`].
    pub(crate) fn aim_at(&mut self, target_bytes: u32) {
        self.target_bytes = target_bytes as usize;
        assert!(self.target_bytes <= TARGET_BYTES_MAX);
    }

    /// Says whether nothing was pushed.
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.is_empty()
    }

    /// Returns the number of entries.
    pub(crate) fn count(&self) -> usize {
        self.staged.len()
    }

    /// Returns the size that the block would have, at most, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let count = self.count();
        HEADER_BYTES + self.prefix_bytes + count * SLOT_BYTES + self.entries_bytes()
    }

    /// Returns the size of the entries, at most.
    #[inline]
    fn entries_bytes(&self) -> usize {
        self.fixed_bytes + self.keys.len() + self.values.len() - self.count() * self.prefix_bytes
    }

    /// Returns the first key; empty when there is none.
    #[cfg(test)]
    pub(crate) fn first_key(&self) -> &[u8] {
        let end = self.staged.first().map_or(0, |first| first.key_end);
        &self.keys[..end as usize]
    }

    /// Returns the last key; empty when there is none.
    pub(crate) fn last_key(&self) -> &[u8] {
        let before = self.staged.iter().rev().nth(1);
        let start = before.map_or(0, |before| before.key_end);
        &self.keys[start as usize..]
    }

    /// Returns the timestamp of the last entry; 0 when there is none.
    pub(crate) fn last_timestamp(&self) -> u64 {
        self.staged.last().map_or(0, |last| last.timestamp)
    }

    /// Says whether the block would stay within its target with `entry`; an empty one takes any.
    #[inline]
    pub(crate) fn fits(&self, entry: &Entry<'_>) -> bool {
        let value_bytes = match entry.value {
            Value::Inline(value) => value.len(),
            Value::Separate(_) => VALUE_REF_BYTES,
        };
        self.has_room(entry.key, flags_of(entry), value_bytes)
    }

    /// Says whether the block would stay within its target with a reference behind `key`.
    pub(crate) fn fits_child(&self, key: &[u8]) -> bool {
        self.has_room(key, 0, CHILD_BYTES)
    }

    #[inline]
    fn has_room(&self, key: &[u8], flags: u8, value_bytes: usize) -> bool {
        if self.is_empty() {
            return true;
        }
        let (prefix_bytes, count) = (self.shared_bytes(key), self.count());
        let added = Staged::fixed_bytes(flags, key.len(), value_bytes) + key.len() + value_bytes;
        let before = self.fixed_bytes + self.keys.len() + self.values.len() - count * prefix_bytes;
        let total =
            HEADER_BYTES + prefix_bytes + (count + 1) * SLOT_BYTES + before + added - prefix_bytes;
        total <= self.limit_bytes && before < TARGET_BYTES_MAX
    }

    /// Returns the bytes that all keys share once `key` is among them.
    #[inline]
    fn shared_bytes(&self, key: &[u8]) -> usize {
        let prefix = &self.keys[..self.prefix_bytes];
        if key.starts_with(prefix) {
            return prefix.len();
        }
        prefix.iter().zip(key).take_while(|(a, b)| a == b).count()
    }

    /// Adds a version. Entries come in order: keys ascending, timestamps of a key descending.
    ///
    /// # Panics
    /// When the block has 65,535 entries already; [`Self::fits`] says so long before.
    #[inline]
    pub(crate) fn push(&mut self, entry: &Entry<'_>, older: Older) {
        let mut flags = flags_of(entry);
        if older == Older::Present {
            flags |= HAS_OLDER;
        }
        match entry.value {
            Value::Inline(value) => self.values.extend_from_slice(value),
            Value::Separate(value) => self.values.extend_from_slice(&value.encode()),
        }
        self.stage(
            entry.key,
            flags,
            entry.timestamp,
            entry.expire_at_ms.unwrap_or(0),
        );
    }

    /// Adds a reference to a block whose last version is of `key` at `timestamp`, or whose keys all
    /// are `key` at most (with a timestamp of 0).
    pub(crate) fn push_child(&mut self, key: &[u8], timestamp: u64, child: &Child) {
        self.values.extend_from_slice(&child.encode());
        let flags = if timestamp == 0 { NO_TIMESTAMP } else { 0 };
        self.stage(key, flags, timestamp, 0);
    }

    /// Adds an entry whose value was just appended.
    #[inline]
    fn stage(&mut self, key: &[u8], flags: u8, timestamp: u64, expire_at_ms: u64) {
        self.prefix_bytes = if self.is_empty() {
            key.len().min(PREFIX_BYTES_MAX)
        } else {
            self.shared_bytes(key)
        };
        let value_start = self.staged.last().map_or(0, |last| last.value_end);
        let value_bytes = self.values.len() - value_start as usize;
        self.fixed_bytes += Staged::fixed_bytes(flags, key.len(), value_bytes);
        self.keys.extend_from_slice(key);
        self.staged.push(Staged {
            flags,
            timestamp,
            expire_at_ms,
            key_end: narrow(self.keys.len()),
            value_end: narrow(self.values.len()),
        });
        if self.count() == 1 {
            self.limit_bytes = match self.bytes() {
                bytes if bytes > self.target_bytes => bytes.next_multiple_of(SECTOR_BYTES),
                _ => self.target_bytes,
            };
        }
    }

    /// Says that the key pushed last has older versions.
    ///
    /// # Panics
    /// When nothing was pushed.
    pub(crate) fn mark_older(&mut self) {
        let last = self
            .staged
            .last_mut()
            .expect("a version was pushed before its older ones");
        last.flags |= HAS_OLDER;
    }

    /// Appends the block to `out` and begins the next one; returns its size in bytes.
    ///
    /// # Panics
    /// When nothing was pushed.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> u32 {
        assert!(!self.is_empty(), "a block has entries");
        let start = out.len();
        let bytes_max = self.bytes();
        out.reserve(bytes_max);
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(&self.keys[..self.prefix_bytes]);
        let heads_at = out.len();
        let offsets_at = heads_at + 4 * self.count();
        out.resize(offsets_at + 2 * self.count(), 0);
        self.lay_out(heads_at, offsets_at, out);
        let bytes = narrow(out.len() - start);
        assert!(bytes as usize <= bytes_max);
        let count =
            u16::try_from(self.count()).expect("entries take more bytes than 16 bits count");
        let prefix_bytes = u16::try_from(self.prefix_bytes).expect("prefixes are cut at 16 bits");
        out[start..start + HEADER_BYTES].copy_from_slice(&header(
            self.contents,
            count,
            prefix_bytes,
            bytes,
        ));
        self.clear();
        bytes
    }

    /// Appends the entries to `out`, and puts their heads and offsets where they belong.
    fn lay_out(&self, heads_at: usize, offsets_at: usize, out: &mut Vec<u8>) {
        let entries_at = out.len();
        let (mut key_start, mut value_start) = (0, 0);
        for (index, staged) in self.staged.iter().enumerate() {
            let (key_end, value_end) = (staged.key_end as usize, staged.value_end as usize);
            let suffix = &self.keys[key_start + self.prefix_bytes..key_end];
            let value = &self.values[value_start..value_end];
            let offset = u16::try_from(out.len() - entries_at)
                .expect("a block with room begins no entry above 64 KiB");
            let (head, slot) = (heads_at + 4 * index, offsets_at + 2 * index);
            out[head..head + 4].copy_from_slice(&head_of(suffix).to_le_bytes());
            out[slot..slot + 2].copy_from_slice(&offset.to_le_bytes());
            out.push(staged.flags);
            put_varint(narrow(suffix.len()), out);
            put_varint(narrow(value.len()), out);
            if staged.flags & NO_TIMESTAMP == 0 {
                out.extend_from_slice(&staged.timestamp.to_le_bytes());
            }
            if staged.flags & EXPIRES != 0 {
                out.extend_from_slice(&staged.expire_at_ms.to_le_bytes());
            }
            out.extend_from_slice(suffix);
            out.extend_from_slice(value);
            (key_start, value_start) = (key_end, value_end);
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.staged.clear();
        (self.prefix_bytes, self.fixed_bytes) = (0, 0);
    }
}

/// Returns the flags that an entry has by itself.
#[inline]
fn flags_of(entry: &Entry<'_>) -> u8 {
    let kind = match entry.kind {
        Kind::Put => 0,
        Kind::Root => ROOT,
        Kind::Tombstone => TOMBSTONE,
    };
    let expires = if entry.expire_at_ms.is_some() {
        EXPIRES
    } else {
        0
    };
    let separate = if matches!(entry.value, Value::Separate(_)) {
        SEPARATE
    } else {
        0
    };
    kind | expires | separate
}

#[inline]
fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("values have at most 64 MiB, and a block one of them")
}
