//! Values that verify themselves: each says whose it is, which write made it, and holds a checksum over all of itself.
//! Not whether it is the value that ought to be there; the ledger knows.
//!
//! ```text
//! offset  bytes  what
//!      0      4  run: a random number of the process that wrote it
//!      4      4  version: which write of the key it was, from one
//!      8      8  XXH3-64 of the key's number, and of the field's in a hash
//!     16      8  XXH3-64 of all the bytes before and behind, seeded with the size
//!     24    ...  body
//! ```

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes before the body; values that are shorter cannot be verified.
pub(crate) const HEAD_BYTES: usize = 24;
const CHECKED_BYTES: usize = 16;

/// What a value says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The process that wrote it.
    pub(crate) run: u32,
    /// Which write of its key, counted from one.
    pub(crate) version: u32,
    /// Whose it is.
    pub(crate) owner: u64,
}

/// Returns what the values of a key, or of a field of a hash, are marked with.
pub(crate) fn owner(key: u64, field: u32) -> u64 {
    xxh3_64_with_seed(&key.to_le_bytes(), u64::from(field))
}

/// Writes the head of a value whose body is there; leaves one that is too short as it is.
pub(crate) fn seal(value: &mut [u8], seal: Seal) {
    if value.len() < HEAD_BYTES {
        return;
    }
    value[..4].copy_from_slice(&seal.run.to_le_bytes());
    value[4..8].copy_from_slice(&seal.version.to_le_bytes());
    value[8..CHECKED_BYTES].copy_from_slice(&seal.owner.to_le_bytes());
    let sum = checksum(value);
    value[CHECKED_BYTES..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the head of a value; `None` when its bytes are not those that were written.
pub(crate) fn open(value: &[u8]) -> Option<Seal> {
    let (head, _) = value.split_first_chunk::<HEAD_BYTES>()?;
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let seal = Seal {
        run: u32_at(0),
        version: u32_at(4),
        owner: u64_at(8),
    };
    (u64_at(CHECKED_BYTES) == checksum(value)).then_some(seal)
}

fn checksum(value: &[u8]) -> u64 {
    let body = xxh3_64_with_seed(&value[HEAD_BYTES..], value.len() as u64);
    xxh3_64_with_seed(&value[..CHECKED_BYTES], body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal {
        run: 7,
        version: 3,
        owner: 99,
    };

    #[test]
    fn what_was_sealed_opens_and_any_flipped_bit_does_not() {
        for bytes in [24, 25, 100, 1_000] {
            let mut value: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
            seal(&mut value, SEAL);
            assert_eq!(open(&value), Some(SEAL));
            for bit in 0..bytes * 8 {
                value[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&value), None, "bit {bit} of {bytes} bytes");
                value[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(open(&value[..bytes - 1]), None);
            value.push(0);
            assert_eq!(open(&value), None);
        }
    }

    #[test]
    fn short_values_are_left_alone() {
        let mut value = *b"twenty-three bytes long";
        seal(&mut value, SEAL);
        assert_eq!(&value, b"twenty-three bytes long");
        assert_eq!(open(&value), None);
    }

    #[test]
    fn owners_differ_by_key_and_field() {
        assert_ne!(owner(1, 0), owner(2, 0));
        assert_ne!(owner(1, 0), owner(1, 1));
    }
}
