//! Keys and ranges of keys. An internal key is one byte for the database (0 to 15) and then the
//! user's key, so that the databases lie one after another in the order of all keys. Behind them, from
//! the byte 16 on, are keys of the system, which no command on databases reads or clears.

use crate::collection::element_key;

/// Databases of a node; their numbers are the first bytes of internal keys.
pub const DATABASES: u8 = 16;
/// First byte of the keys of the system that each partition has for itself, in its range or not.
pub const OWN: u8 = 0xf1;
const _: () = assert!(OWN >= DATABASES);
/// First byte of the keys of elements of collections ([`crate::collection`]).
pub const ELEMENTS: u8 = 0xf2;
/// First byte of the keys that say when collections are to be looked at ([`crate::sweep`]).
pub const DUES: u8 = 0xf3;
/// Longest key of a user, in bytes.
pub const USER_KEY_BYTES_MAX: usize = 64 << 10;

/// Builds internal keys without allocating each time.
#[derive(Clone, Debug, Default)]
pub struct KeyBuf(Vec<u8>);

impl KeyBuf {
    /// Sets the key of `user` in `database` and returns it.
    pub fn set(&mut self, database: u8, user: &[u8]) -> &[u8] {
        self.0.clear();
        self.0.push(database);
        self.0.extend_from_slice(user);
        &self.0
    }

    /// Sets the key of an element of a collection and returns it.
    pub fn element(&mut self, id: u64, part: u8, sub_key: &[u8]) -> &[u8] {
        element_key(id, part, sub_key, &mut self.0);
        &self.0
    }
}

/// Says whether `key` is one of the system: no user sees it, and no deletion of databases deletes it.
#[must_use]
pub fn is_of_system(key: &[u8]) -> bool {
    key.first().is_some_and(|first| *first >= DATABASES)
}

/// Says whether a deletion of all databases leaves `key`: it belongs to none of them.
#[must_use]
pub fn is_kept_by_clears(key: &[u8]) -> bool {
    is_of_system(key) && !matches!(key.first(), Some(&ELEMENTS | &DUES))
}

/// Says whether each partition has `key` for itself, wherever its range is.
#[must_use]
pub fn is_own(key: &[u8]) -> bool {
    key.first().is_some_and(|first| *first >= OWN)
}

/// A contiguous range of internal keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range; empty for the very first.
    pub start: Vec<u8>,
    /// First key behind the range; `None` when it goes on to the end.
    pub end: Option<Vec<u8>>,
}

impl KeyRange {
    /// Returns the range of all keys.
    #[must_use]
    pub fn all() -> Self {
        Self {
            start: Vec::new(),
            end: None,
        }
    }

    /// Says whether the range holds `key`.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_slice() <= key && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Returns what of the keys from `start` up to `end` lies in the range; nothing when the first
    /// is not below the second.
    #[must_use]
    pub fn clamp(&self, start: &[u8], end: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let start = start.max(&self.start);
        let end = self.end.as_deref().map_or(end, |own| end.min(own));
        (start.to_vec(), end.to_vec())
    }

    /// Cuts all keys at the given internal keys, which ascend; returns the ranges in order.
    #[must_use]
    pub fn split_at(boundaries: &[Vec<u8>]) -> Vec<Self> {
        let mut start = Vec::new();
        let mut ranges = Vec::with_capacity(boundaries.len() + 1);
        for boundary in boundaries {
            ranges.push(Self {
                start: std::mem::replace(&mut start, boundary.clone()),
                end: Some(boundary.clone()),
            });
        }
        ranges.push(Self { start, end: None });
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_lies_in_exactly_one_range_of_a_split() {
        let ranges = KeyRange::split_at(&[b"\x00g".to_vec(), b"\x00p".to_vec()]);
        for key in [
            &b""[..],
            b"\x00",
            b"\x00a",
            b"\x00g",
            b"\x00g\x00",
            b"\x00oz",
            b"\x00p",
            b"\x0fz",
            b"\xff",
        ] {
            assert_eq!(
                ranges.iter().filter(|range| range.contains(key)).count(),
                1,
                "{key:?}"
            );
        }
    }
}
