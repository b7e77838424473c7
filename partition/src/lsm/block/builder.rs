//! Makes blocks: entries are laid out as they come, behind the prefix that all keys so far share.
//!
//! Not a check of what the entries mean. Nothing is allocated per entry once the buffers have grown
//! to the size of a block.
//!
//! The prefix is the first key at first, and becomes shorter when a key comes that shares less; then
//! what is laid out is laid out anew. Keys come in order, so that happens to the first few of a block.

use crate::lsm::{Entry, Value};
use crate::memtable::Kind;

use super::wire::{put_varint, varint_bytes};
use super::{
    Child, Contents, EXPIRES, HAS_OLDER, HEADER_BYTES, NO_TIMESTAMP, Older, PLAIN_BYTES,
    PREFIX_BYTES_MAX, ROOT, SEPARATE, Slot, TOMBSTONE, head_of, header, take_slot,
};

/// Largest target of a block, so that offsets fit in 16 bits.
pub(crate) const TARGET_BYTES_MAX: usize = 64 << 10;
/// Head and offset of an entry, in bytes.
const SLOT_BYTES: usize = 6;
/// A block of one large entry is filled up to a multiple of this.
const SECTOR_BYTES: usize = 4096;

/// A block in the making; used again for the next one.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    contents: Contents,
    target_bytes: usize,
    /// What this block may take: the target, or whole sectors when its first entry is larger.
    limit_bytes: usize,
    laid_out: LaidOut,
    /// The same while it is laid out anew.
    spare: Vec<u8>,
    /// What the entries would take if their keys shared nothing, at most; counted from above because
    /// a suffix is never longer than its key.
    unshared_bytes: usize,
    last_timestamp: u64,
}

/// How an entry would be laid out.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Bytes that all keys share once its key is among them.
    prefix_bytes: usize,
    /// What it adds to [`BlockBuilder::unshared_bytes`].
    added_bytes: usize,
    /// The block stays within its target.
    is_there: bool,
}

/// The parts of a block, as they will follow one another.
#[derive(Debug, Default)]
struct LaidOut {
    prefix: Vec<u8>,
    heads: Vec<[u8; 4]>,
    offsets: Vec<[u8; 2]>,
    entries: Vec<u8>,
}

impl LaidOut {
    /// Appends an entry whose key is the prefix, then `front`, then the suffix of the slot.
    #[inline]
    fn put(&mut self, front: &[u8], slot: &Slot<'_>) {
        let offset = u16::try_from(self.entries.len())
            .expect("a block with room begins no entry above 64 KiB");
        self.offsets.push(offset.to_le_bytes());
        let out = &mut self.entries;
        put_front(slot, front.len() + slot.suffix.len(), out);
        let suffix_at = out.len();
        out.extend_from_slice(front);
        out.extend_from_slice(slot.suffix);
        let head = head_of(&out[suffix_at..]);
        out.extend_from_slice(slot.value);
        self.heads.push(head.to_le_bytes());
    }

    /// Lets all keys share no more than `prefix_bytes` bytes.
    #[cold]
    fn share_less(&mut self, prefix_bytes: usize, spare: &mut Vec<u8>) {
        let front = self.prefix.split_off(prefix_bytes);
        spare.clear();
        std::mem::swap(&mut self.entries, spare);
        self.heads.clear();
        self.offsets.clear();
        let mut rest = spare.as_slice();
        while let Some((slot, behind)) = take_slot(rest) {
            self.put(&front, &slot);
            rest = behind;
        }
    }

    /// Returns the entry pushed last.
    fn last(&self) -> Option<Slot<'_>> {
        let offset = u16::from_le_bytes(*self.offsets.last()?);
        Some(take_slot(&self.entries[usize::from(offset)..])?.0)
    }

    fn clear(&mut self) {
        self.prefix.clear();
        self.heads.clear();
        self.offsets.clear();
        self.entries.clear();
    }
}

/// Appends what stands before the suffix of an entry.
#[inline]
fn put_front(slot: &Slot<'_>, suffix_bytes: usize, out: &mut Vec<u8>) {
    if let (Ok(suffix_bytes), Ok(value_bytes)) =
        (u8::try_from(suffix_bytes), u8::try_from(slot.value.len()))
        && slot.flags & (NO_TIMESTAMP | EXPIRES) == 0
        && (suffix_bytes | value_bytes) < 0x80
    {
        // A plain entry, as most are: see `take_slot`.
        let mut front = [0; PLAIN_BYTES];
        front[..3].copy_from_slice(&[slot.flags, suffix_bytes, value_bytes]);
        front[3..].copy_from_slice(&slot.timestamp.to_le_bytes());
        out.extend_from_slice(&front);
        return;
    }
    out.push(slot.flags);
    put_varint(narrow(suffix_bytes), out);
    put_varint(narrow(slot.value.len()), out);
    if slot.flags & NO_TIMESTAMP == 0 {
        out.extend_from_slice(&slot.timestamp.to_le_bytes());
    }
    if slot.flags & EXPIRES != 0 {
        out.extend_from_slice(&slot.expire_at_ms.to_le_bytes());
    }
}

/// Returns the bytes that stand before the suffix, at most.
#[inline]
fn fixed_bytes(flags: u8, key_bytes: usize, value_bytes: usize) -> usize {
    let timestamp = if flags & NO_TIMESTAMP == 0 { 8 } else { 0 };
    let expire = if flags & EXPIRES == 0 { 0 } else { 8 };
    1 + varint_bytes(key_bytes) + varint_bytes(value_bytes) + timestamp + expire
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
            laid_out: LaidOut::default(),
            spare: Vec::new(),
            unshared_bytes: 0,
            last_timestamp: 0,
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
        self.count() == 0
    }

    /// Returns the number of entries.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.laid_out.heads.len()
    }

    /// Returns the size that the block would have, at most, in bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let (count, prefix_bytes) = (self.count(), self.laid_out.prefix.len());
        let entries_bytes = self.unshared_bytes - count * prefix_bytes;
        HEADER_BYTES + prefix_bytes + count * SLOT_BYTES + entries_bytes
    }

    /// Appends the last key to `out`; nothing when there is none.
    pub(crate) fn put_last_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.laid_out.prefix);
        out.extend_from_slice(self.laid_out.last().map_or(&[], |last| last.suffix));
    }

    /// Returns the timestamp of the last entry; 0 when there is none.
    pub(crate) fn last_timestamp(&self) -> u64 {
        self.last_timestamp
    }

    /// Says how an entry would be laid out whose suffix is the whole key as yet.
    #[inline]
    fn room_for(&self, slot: &Slot<'_>) -> Room {
        let (key, value_bytes) = (slot.suffix, slot.value.len());
        let added_bytes = fixed_bytes(slot.flags, key.len(), value_bytes) + key.len() + value_bytes;
        if self.is_empty() {
            return Room {
                prefix_bytes: key.len().min(PREFIX_BYTES_MAX),
                added_bytes,
                is_there: true,
            };
        }
        let (prefix_bytes, count) = (self.shared_bytes(key), self.count());
        let before = self.unshared_bytes - count * prefix_bytes;
        // The prefix is stored once more, and left out of this entry.
        let total = HEADER_BYTES + (count + 1) * SLOT_BYTES + before + added_bytes;
        Room {
            prefix_bytes,
            added_bytes,
            is_there: total <= self.limit_bytes && before < TARGET_BYTES_MAX,
        }
    }

    /// Returns the bytes that all keys share once `key` is among them.
    #[inline]
    fn shared_bytes(&self, key: &[u8]) -> usize {
        let prefix = self.laid_out.prefix.as_slice();
        if key.starts_with(prefix) {
            return prefix.len();
        }
        prefix.iter().zip(key).take_while(|(a, b)| a == b).count()
    }

    /// Adds a version, if the block stays within its target with it; an empty one takes any. Says whether
    /// it did. Entries come in order: keys ascending, timestamps of a key descending.
    #[inline]
    pub(crate) fn push(&mut self, entry: &Entry<'_>, older: Older) -> bool {
        let mut flags = flags_of(entry);
        if older == Older::Present {
            flags |= HAS_OLDER;
        }
        let reference;
        let value = match entry.value {
            Value::Inline(value) => value,
            Value::Separate(value) => {
                reference = value.encode();
                &reference
            }
        };
        self.lay_out(Slot {
            flags,
            timestamp: entry.timestamp,
            expire_at_ms: entry.expire_at_ms.unwrap_or(0),
            suffix: entry.key,
            value,
        })
    }

    /// As [`Self::push`], of a reference to a block whose last version is of `key` at `timestamp`, or
    /// whose keys all are `key` at most (with a timestamp of 0).
    pub(crate) fn push_child(&mut self, key: &[u8], timestamp: u64, child: &Child) -> bool {
        self.lay_out(Slot {
            flags: if timestamp == 0 { NO_TIMESTAMP } else { 0 },
            timestamp,
            expire_at_ms: 0,
            suffix: key,
            value: &child.encode(),
        })
    }

    /// Adds an entry whose suffix is the whole key as yet, if there is room for it.
    #[inline]
    fn lay_out(&mut self, mut slot: Slot<'_>) -> bool {
        let (key, is_first, room) = (slot.suffix, self.is_empty(), self.room_for(&slot));
        if !room.is_there {
            return false;
        }
        if is_first {
            self.laid_out
                .prefix
                .extend_from_slice(&key[..room.prefix_bytes]);
        } else if room.prefix_bytes < self.laid_out.prefix.len() {
            self.laid_out.share_less(room.prefix_bytes, &mut self.spare);
        }
        slot.suffix = &key[room.prefix_bytes..];
        self.unshared_bytes += room.added_bytes;
        self.last_timestamp = slot.timestamp;
        self.laid_out.put(&[], &slot);
        if is_first {
            self.limit_bytes = match self.bytes() {
                bytes if bytes > self.target_bytes => bytes.next_multiple_of(SECTOR_BYTES),
                _ => self.target_bytes,
            };
        }
        true
    }

    /// Says that the key pushed last has older versions.
    ///
    /// # Panics
    /// When nothing was pushed.
    pub(crate) fn mark_older(&mut self) {
        let last = self.laid_out.offsets.last();
        let last = last.expect("a version was pushed before its older ones");
        self.laid_out.entries[usize::from(u16::from_le_bytes(*last))] |= HAS_OLDER;
    }

    /// Appends the block to `out` and begins the next one; returns its size in bytes.
    ///
    /// # Panics
    /// When nothing was pushed.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> u32 {
        assert!(!self.is_empty(), "a block has entries");
        let LaidOut {
            prefix,
            heads,
            offsets,
            entries,
        } = &self.laid_out;
        let parts = [
            prefix,
            heads.as_flattened(),
            offsets.as_flattened(),
            entries,
        ];
        let bytes = HEADER_BYTES + parts.iter().map(|part| part.len()).sum::<usize>();
        assert!(bytes <= self.bytes());
        let count =
            u16::try_from(self.count()).expect("entries take more bytes than 16 bits count");
        let prefix_bytes = u16::try_from(prefix.len()).expect("prefixes are cut at 16 bits");
        out.reserve(bytes);
        let bytes = narrow(bytes);
        out.extend_from_slice(&header(self.contents, count, prefix_bytes, bytes));
        parts.iter().for_each(|part| out.extend_from_slice(part));
        self.clear();
        bytes
    }

    fn clear(&mut self) {
        self.laid_out.clear();
        (self.unshared_bytes, self.last_timestamp) = (0, 0);
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
