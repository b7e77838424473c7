//! The bytes of a request for a piece of a snapshot, behind its ticket.
//!
//! ```text
//! index u64 of the snapshot, what u8 (0 the list of files, 1 a table, 2 a value file, 3 the list of files of the
//! newest snapshot at that index or later), number u64, offset u64, bytes u32
//! ```

use ashlar_consensus::Index;
use ashlar_partition::snapshot::SnapshotFile;

/// Bytes of a request.
const REQUEST_BYTES: usize = 29;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum What {
    /// The list of the files of the snapshot at the index.
    Manifest,
    /// A piece of one of them.
    File(SnapshotFile),
    /// The list of the files of some snapshot at that index or a later one.
    Newest,
}

/// Appends a request to `out`.
pub(super) fn encode_request(
    at: Index,
    what: What,
    (offset, length): (u64, u32),
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&at.0.to_le_bytes());
    let (kind, number) = match what {
        What::Manifest => (0, 0),
        What::File(SnapshotFile::Table(number)) => (1, number),
        What::File(SnapshotFile::Values(number)) => (2, number),
        What::Newest => (3, 0),
    };
    out.push(kind);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
}

/// Reads a request.
pub(super) fn decode_request(bytes: &[u8]) -> Option<(Index, What, u64, u32)> {
    let bytes: &[u8; REQUEST_BYTES] = bytes.try_into().ok()?;
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
    let number = u64_at(9);
    let what = match bytes[8] {
        0 => What::Manifest,
        1 => What::File(SnapshotFile::Table(number)),
        2 => What::File(SnapshotFile::Values(number)),
        3 => What::Newest,
        _ => return None,
    };
    let length = u32::from_le_bytes(std::array::from_fn(|n| bytes[25 + n]));
    Some((Index(u64_at(0)), what, u64_at(17), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_as_it_went() {
        for what in [
            What::Manifest,
            What::Newest,
            What::File(SnapshotFile::Table(7)),
            What::File(SnapshotFile::Values(u64::MAX)),
        ] {
            let mut bytes = Vec::new();
            encode_request(Index(3), what, (4096, 9), &mut bytes);
            assert_eq!(decode_request(&bytes), Some((Index(3), what, 4096, 9)));
            assert_eq!(decode_request(&bytes[1..]), None);
        }
    }
}
