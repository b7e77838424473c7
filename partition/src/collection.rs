//! Collections (hashes, lists, sets, sorted sets) as ordered keys: a *root* under the user's key says what the
//! collection is, and each of its *elements* is a key of its own. So a collection may be larger than memory, and to
//! delete it is to delete its root; the elements are swept up later ([`crate::sweep`]). Not what commands do with
//! them: that is the business of `node`.
//!
//! ```text
//! root      the user's key, in the range of the partition
//!           0  family  u8    1 hash, 2 list, 3 set, 4 sorted set
//!           1  id      u64   of this collection; one that is made anew under the same key has another
//!           9  count   u64   elements
//!          17  first   i64   of a list: the place of its first element; the others follow without gaps
//! head      F2, id u64, 0                   value: the internal key of the root
//! element   F2, id u64, part u8, sub-key    value: as the family has it
//! due       F3, at_ms u64, id u64           when to look whether the collection is still there; no value
//! ```
//! Numbers in values are little-endian; those in keys are big-endian, so that keys ascend as they do.
//!
//! | family | part | sub-key | value |
//! |---|--:|---|---|
//! | hash | 1 | field | the field's value |
//! | list | 1 | place ([`place_bytes`]) | element |
//! | set | 1 | member | nothing |
//! | sorted set | 1 | member | score ([`score_bytes`]) |
//! | sorted set | 2 | score ([`score_bytes`]), member | nothing |
//!
//! Invariants:
//! 1. An id is the timestamp of the command that wrote the head, so a partition never gives it twice.
//! 2. A root counts its elements exactly, and there is none that counts 0: the last element takes the root along.
//! 3. Every change of a collection writes its root, in the same entry: who watches the key notices.
//! 4. An element whose id no root has is nobody's: no command can reach it.

use crate::key::{DUES, ELEMENTS};
use crate::memtable::Memtable;

/// Longest field or member, in bytes: its key is still a key.
pub const SUB_KEY_BYTES_MAX: usize = 65_500;
/// Part of most elements.
pub const ELEMENT: u8 = 1;
/// Part of a sorted set that is in the order of scores.
pub const BY_SCORE: u8 = 2;
const HEAD: u8 = 0;
const PREFIX_BYTES: usize = 9;
const _: () = assert!(SUB_KEY_BYTES_MAX + PREFIX_BYTES + 1 + 8 <= Memtable::KEY_BYTES_MAX);
const SIGN: u64 = 1 << 63;

/// What a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Fields with values.
    Hash,
    /// Elements in an order.
    List,
    /// Members.
    Set,
    /// Members with scores.
    SortedSet,
}

impl Family {
    const EVERY: [Self; 4] = [Self::Hash, Self::List, Self::Set, Self::SortedSet];

    /// Returns what `TYPE` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
        }
    }

    /// Returns its number in bytes that are kept.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Hash => 1,
            Self::List => 2,
            Self::Set => 3,
            Self::SortedSet => 4,
        }
    }

    /// Returns the family with a number.
    #[must_use]
    pub fn of_code(code: u8) -> Option<Self> {
        Self::EVERY.into_iter().find(|family| family.code() == code)
    }
}

/// What a collection's key has as its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// What it is.
    pub family: Family,
    /// Which one it is.
    pub id: u64,
    /// Its elements.
    pub count: u64,
    /// Of a list: the place of the first one.
    pub first: i64,
}

impl Root {
    /// Bytes of a root.
    pub const BYTES: usize = 25;

    /// Returns the bytes of the root.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.family.code();
        bytes[1..9].copy_from_slice(&self.id.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.count.to_le_bytes());
        bytes[17..].copy_from_slice(&self.first.to_le_bytes());
        bytes
    }

    /// Reads a root; `None` when the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let family = Family::of_code(bytes[0])?;
        let (id, rest) = bytes[1..].split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (first, _) = rest.split_first_chunk()?;
        Some(Self {
            family,
            id: u64::from_le_bytes(*id),
            count: u64::from_le_bytes(*count),
            first: i64::from_le_bytes(*first),
        })
    }

    /// Says whether two values are roots of the same collection.
    #[must_use]
    pub fn are_of_one(a: &[u8], b: &[u8]) -> bool {
        const NAME: usize = 9;
        a.len() == Self::BYTES && b.len() == Self::BYTES && a[..NAME] == b[..NAME]
    }

    /// Returns the place behind a list's last element.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.first.saturating_add_unsigned(self.count)
    }
}

/// Returns the key of a collection's head.
#[must_use]
pub fn head_key(id: u64) -> [u8; PREFIX_BYTES + 1] {
    let mut key = [HEAD; PREFIX_BYTES + 1];
    key[0] = ELEMENTS;
    key[1..PREFIX_BYTES].copy_from_slice(&ordered(id));
    key
}

/// Appends the key of an element to `out`, which is emptied first.
pub fn element_key(id: u64, part: u8, sub_key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(ELEMENTS);
    out.extend_from_slice(&ordered(id));
    out.push(part);
    out.extend_from_slice(sub_key);
}

/// Returns what of an element's key is its sub-key.
#[must_use]
pub fn sub_key(key: &[u8]) -> &[u8] {
    key.get(PREFIX_BYTES + 1..).unwrap_or_default()
}

/// Returns the id in the key of a head or an element, and whether it is a head.
pub(crate) fn id_of(key: &[u8]) -> Option<(u64, bool)> {
    let (&first, rest) = key.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    (first == ELEMENTS).then(|| (from_ordered(*id), rest == [HEAD]))
}

/// Returns the key of a due.
pub(crate) fn due_key(at_ms: u64, id: u64) -> [u8; 17] {
    let mut key = [DUES; 17];
    key[1..9].copy_from_slice(&ordered(at_ms));
    key[9..].copy_from_slice(&ordered(id));
    key
}

/// Reads the key of a due: the moment and the id.
pub(crate) fn due_of(key: &[u8]) -> Option<(u64, u64)> {
    let key: &[u8; 17] = key.try_into().ok()?;
    let (at_ms, id) = key[1..].split_first_chunk()?;
    Some((from_ordered(*at_ms), from_ordered(*id.first_chunk()?)))
}

/// Returns a list's place as a sub-key.
#[must_use]
pub fn place_bytes(place: i64) -> [u8; 8] {
    ordered(place.cast_unsigned() ^ SIGN)
}

/// Reads a place.
#[must_use]
pub fn place_of(bytes: &[u8]) -> Option<i64> {
    let bytes = bytes.first_chunk()?;
    Some((from_ordered(*bytes) ^ SIGN).cast_signed())
}

/// Returns a score, which is not NaN, as bytes that ascend as scores do; 0 and -0 are the same.
///
/// # Panics
/// When it is NaN: commands refuse that.
#[must_use]
pub fn score_bytes(score: f64) -> [u8; 8] {
    assert!(!score.is_nan(), "a score is a number");
    let bits = (score + 0.0).to_bits();
    ordered(match bits & SIGN {
        0 => bits ^ SIGN,
        _ => !bits,
    })
}

/// Returns bytes behind those of all elements with a score, and before those of the next greater one.
#[must_use]
pub fn bytes_above(score: f64) -> [u8; 8] {
    ordered(from_ordered(score_bytes(score)) + 1)
}

/// Reads a score.
#[must_use]
pub fn score_of(bytes: &[u8]) -> Option<f64> {
    let bits = from_ordered(*bytes.first_chunk()?);
    let score = f64::from_bits(match bits & SIGN {
        0 => !bits,
        _ => bits ^ SIGN,
    });
    (!score.is_nan()).then_some(score)
}

/// Returns the bytes of a number, the most significant first.
fn ordered(number: u64) -> [u8; 8] {
    number.swap_bytes().to_le_bytes()
}

fn from_ordered(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes).swap_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_keep_their_order_as_bytes() {
        let scores = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -f64::MIN_POSITIVE,
            0.0,
            5e-324,
            1.0,
            1.000_000_000_000_000_2,
            f64::MAX,
            f64::INFINITY,
        ];
        for pair in scores.windows(2) {
            assert!(score_bytes(pair[0]) < score_bytes(pair[1]), "{pair:?}");
            assert!(bytes_above(pair[0]) <= score_bytes(pair[1]), "{pair:?}");
        }
        assert_eq!(score_bytes(-0.0), score_bytes(0.0));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_keeps_its_order(
            (a, b) in any::<(i64, i64)>(),
            (x, y) in (any::<f64>(), any::<f64>()),
            id in any::<u64>(),
        ) {
            prop_assert_eq!(place_of(&place_bytes(a)), Some(a));
            prop_assert_eq!(a.cmp(&b), place_bytes(a).cmp(&place_bytes(b)));
            if !x.is_nan() && !y.is_nan() {
                prop_assert_eq!(score_of(&score_bytes(x)), Some(x + 0.0));
                prop_assert_eq!(x.partial_cmp(&y), Some(score_bytes(x).cmp(&score_bytes(y))));
            }
            prop_assert_eq!(due_of(&due_key(id, !id)), Some((id, !id)));
            prop_assert_eq!(id_of(&head_key(id)), Some((id, true)));
            let root = Root { family: Family::List, id, count: id / 3, first: a };
            prop_assert_eq!(Root::decode(&root.encode()), Some(root));
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (_, _, _) = (Root::decode(&bytes), place_of(&bytes), score_of(&bytes));
            let (_, _) = (due_of(&bytes), id_of(&bytes));
            prop_assert!(sub_key(&bytes).len() <= bytes.len());
        }
    }
}
