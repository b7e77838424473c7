//! An entry of a block: its parts where they lie ([`Slot`]), and as numbers ([`Spot`]). Not the order of
//! entries, nor what finds one.

use super::wire::{take_u64, take_varint};
use crate::lsm::{Entry, Value, ValueRef};
use crate::memtable::Kind;

pub(super) const TOMBSTONE: u8 = 1;
pub(super) const EXPIRES: u8 = 2;
pub(super) const SEPARATE: u8 = 4;
pub(super) const HAS_OLDER: u8 = 8;
pub(super) const NO_TIMESTAMP: u8 = 16;
pub(super) const ROOT: u8 = 32;
/// Bytes before the suffix of an entry that is plain (see [`take_slot`]).
pub(super) const PLAIN_BYTES: usize = 1 + 1 + 1 + 8;

/// An entry but for its key, found once to be looked at again: by numbers, not by references, so that
/// a cursor can keep it beside its block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spot {
    flags: u8,
    timestamp: u64,
    expire_at_ms: u64,
    value_at: usize,
    value_bytes: usize,
}

impl Spot {
    /// Returns the entry of `key` in the block `bytes` that the spot was found in.
    ///
    /// # Panics
    /// When the block is another one, and not by chance alike, or was not validated.
    #[inline]
    pub(crate) fn entry<'a>(&self, key: &'a [u8], bytes: &'a [u8]) -> Entry<'a> {
        let slot = Slot {
            flags: self.flags,
            timestamp: self.timestamp,
            expire_at_ms: self.expire_at_ms,
            suffix: &[],
            value: &bytes[self.value_at..self.value_at + self.value_bytes],
        };
        Entry {
            key,
            timestamp: slot.timestamp,
            kind: slot.kind(),
            expire_at_ms: slot.expire_at_ms(),
            value: value_of(&slot).expect("entries are validated when their block is loaded"),
        }
    }

    /// Makes the spot of a slot whose value ends at `value_end` in its block.
    #[inline]
    pub(super) fn of(slot: &Slot<'_>, value_end: usize) -> Self {
        Self {
            flags: slot.flags,
            timestamp: slot.timestamp,
            expire_at_ms: slot.expire_at_ms,
            value_at: value_end - slot.value.len(),
            value_bytes: slot.value.len(),
        }
    }

    /// Returns the timestamp of the entry.
    #[inline]
    pub(crate) fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Returns the spot of the entry behind this one in the block `bytes`, and puts the rest of its key
    /// into `key` behind the `prefix_bytes` that all keys of the block share.
    ///
    /// # Panics
    /// When there is no entry behind it, or the block was not validated.
    #[inline]
    pub(crate) fn behind(&self, bytes: &[u8], prefix_bytes: usize, key: &mut Vec<u8>) -> Self {
        let (slot, behind) = take_slot(&bytes[self.value_at + self.value_bytes..])
            .expect("entries are validated when their block is loaded");
        key.truncate(prefix_bytes);
        key.extend_from_slice(slot.suffix);
        Self::of(&slot, bytes.len() - behind.len())
    }
}

/// An entry as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'a> {
    pub(super) flags: u8,
    pub(super) timestamp: u64,
    pub(super) expire_at_ms: u64,
    pub(super) suffix: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Slot<'_> {
    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match self.flags & (TOMBSTONE | ROOT) {
            0 => Kind::Put,
            ROOT => Kind::Root,
            _ => Kind::Tombstone,
        }
    }

    #[inline]
    pub(super) fn expire_at_ms(&self) -> Option<u64> {
        (self.flags & EXPIRES != 0).then_some(self.expire_at_ms)
    }
}

/// Takes the entry at the front of `bytes`.
#[inline]
pub(super) fn take_slot(bytes: &[u8]) -> Option<(Slot<'_>, &[u8])> {
    // Most entries have a timestamp, do not expire, and say each length in one byte: their parts lie at
    // fixed places.
    if let Some((front, rest)) = bytes.split_first_chunk::<PLAIN_BYTES>() {
        let [flags, suffix_bytes, value_bytes, timestamp @ ..] = *front;
        if flags & (NO_TIMESTAMP | EXPIRES) == 0 && (suffix_bytes | value_bytes) < 0x80 {
            let (suffix, rest) = rest.split_at_checked(usize::from(suffix_bytes))?;
            let (value, rest) = rest.split_at_checked(usize::from(value_bytes))?;
            let slot = Slot {
                flags,
                timestamp: u64::from_le_bytes(timestamp),
                expire_at_ms: 0,
                suffix,
                value,
            };
            return Some((slot, rest));
        }
    }
    take_any_slot(bytes)
}

/// As [`take_slot`], whatever the entry has.
fn take_any_slot(bytes: &[u8]) -> Option<(Slot<'_>, &[u8])> {
    let (&flags, rest) = bytes.split_first()?;
    let (suffix_bytes, rest) = take_varint(rest)?;
    let (value_bytes, mut rest) = take_varint(rest)?;
    let (mut timestamp, mut expire_at_ms) = (0, 0);
    if flags & NO_TIMESTAMP == 0 {
        (timestamp, rest) = take_u64(rest)?;
    }
    if flags & EXPIRES != 0 {
        (expire_at_ms, rest) = take_u64(rest)?;
    }
    let (suffix, rest) = rest.split_at_checked(suffix_bytes)?;
    let (value, rest) = rest.split_at_checked(value_bytes)?;
    let slot = Slot {
        flags,
        timestamp,
        expire_at_ms,
        suffix,
        value,
    };
    Some((slot, rest))
}

/// Returns the value of a version.
#[inline]
pub(super) fn value_of<'a>(slot: &Slot<'a>) -> Option<Value<'a>> {
    if slot.flags & SEPARATE == 0 {
        return Some(Value::Inline(slot.value));
    }
    let (value, rest) = ValueRef::decode(slot.value)?;
    rest.is_empty().then_some(Value::Separate(value))
}
