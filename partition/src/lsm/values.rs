//! Value files: values that are too large to be moved with every merge, apart from their keys.
//!
//! ```text
//! header   0  magic      u64   "ASHVALUE"
//!          8  version    u32   1
//!         12  partition  u32
//!         16  number     u64
//!         24  reserved
//!       4088  checksum   u64   XXH3-64 of the bytes before
//! 4096     values, each at a multiple of 8, the gaps zero
//!          zeros up to a multiple of 4096
//! ```
//! There is no footer and no list: tables refer to values ([`ValueRef`]), each reference has the
//! checksum of its value, and the manifest knows size and hash of the file ([`ValueFileMeta`]).
//!
//! Not here: IO, and what becomes of values that nobody refers to any more.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::lsm::block::wire::{take_u64, take_u128};
use crate::lsm::table::{Chunk, Output};
use crate::lsm::{FileId, Malformed, SECTOR_BYTES, ValueRef};

/// Size of the header, in bytes.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Values begin at multiples of this.
const ALIGN_BYTES: usize = 8;
/// "ASHVALUE".
const MAGIC: u64 = 0x4555_4c41_5648_5341;
const FORMAT_VERSION: u32 = 1;
const CHECKSUM_AT: usize = HEADER_BYTES - 8;

/// What the manifest keeps about a value file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueFileMeta {
    /// Number of the file, within the partition.
    pub number: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// XXH3-128 of the whole file.
    pub file_hash: u128,
    /// Bytes of the values in it.
    pub value_bytes: u64,
}

impl ValueFileMeta {
    /// Appends the meta to `out`: number, `file_bytes`, `file_hash`, `value_bytes`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        out.extend_from_slice(&self.file_hash.to_le_bytes());
        out.extend_from_slice(&self.value_bytes.to_le_bytes());
    }

    /// Takes a meta from the front of `bytes`.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, Malformed> {
        let (meta, rest) = Self::take(bytes)
            .ok_or_else(|| Malformed("description of a value file is cut off".into()))?;
        *bytes = rest;
        Ok(meta)
    }

    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (number, rest) = take_u64(bytes)?;
        let (file_bytes, rest) = take_u64(rest)?;
        let (file_hash, rest) = take_u128(rest)?;
        let (value_bytes, rest) = take_u64(rest)?;
        let meta = Self {
            number,
            file_bytes,
            file_hash,
            value_bytes,
        };
        Some((meta, rest))
    }
}

/// Returns the header of a value file.
fn header(file: FileId) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC.to_le_bytes());
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&file.partition.to_le_bytes());
    out[16..24].copy_from_slice(&file.number.to_le_bytes());
    let checksum = xxh3_64_with_seed(&out[..CHECKSUM_AT], file.number);
    out[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Checks the header of a value file.
///
/// # Errors
/// When `bytes` are not the header of this file.
pub(crate) fn check_header(file: FileId, bytes: &[u8]) -> Result<(), Malformed> {
    if bytes == header(file) {
        return Ok(());
    }
    Err(Malformed(format!("{file}: value file has another header")))
}

/// Says whether `bytes` are the value that is referred to.
pub(crate) fn check(value: &ValueRef, bytes: &[u8]) -> bool {
    bytes.len() == value.bytes as usize && xxh3_64_with_seed(bytes, value.offset) == value.checksum
}

/// What to read of a file to have a value: whole sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadRange {
    /// Where to begin, in bytes from the start of the file.
    pub(crate) offset: u64,
    /// How much to read, in bytes.
    pub(crate) bytes: u64,
    /// Where the value is in what was read.
    pub(crate) value: Range<usize>,
}

/// Returns what to read of its file to have a value.
///
/// # Panics
/// When the value would end behind what offsets can count; its reference was not checked then.
pub(crate) fn read_range(value: &ValueRef) -> ReadRange {
    let skipped = value.offset % SECTOR_BYTES;
    let offset = value.offset - skipped;
    let start = usize::try_from(skipped).expect("less than a sector");
    ReadRange {
        offset,
        bytes: (skipped + u64::from(value.bytes)).next_multiple_of(SECTOR_BYTES),
        value: start..start + value.bytes as usize,
    }
}

/// A value file in the making.
#[derive(Debug)]
pub(crate) struct ValueWriter {
    file: FileId,
    output: Output,
    value_bytes: u64,
}

impl ValueWriter {
    /// Returns a file without values.
    pub(crate) fn new(file: FileId) -> Self {
        let mut output = Output::new();
        output.end().extend_from_slice(&header(file));
        Self {
            file,
            output,
            value_bytes: 0,
        }
    }

    /// Adds a value; returns the reference to it.
    ///
    /// # Panics
    /// When it is empty, or has 4 GiB or more.
    pub(crate) fn push(&mut self, value: &[u8]) -> ValueRef {
        assert!(
            !value.is_empty(),
            "an empty value takes no room in its table"
        );
        let offset = self.output.position();
        self.output.end().extend_from_slice(value);
        let padding = value.len().next_multiple_of(ALIGN_BYTES) - value.len();
        self.output
            .end()
            .extend_from_slice(&[0; ALIGN_BYTES][..padding]);
        self.value_bytes += value.len() as u64;
        ValueRef {
            number: self.file.number,
            offset,
            bytes: u32::try_from(value.len()).expect("values have at most 64 MiB"),
            checksum: xxh3_64_with_seed(value, offset),
        }
    }

    /// Hands out the next full chunk of the file, if there is one.
    pub(crate) fn take_output(&mut self) -> Option<Chunk<'_>> {
        self.output.take()
    }

    /// Completes the file; returns what is left of it to be written ([`Output::take_rest`]), and
    /// what the manifest is to keep about it.
    pub(crate) fn finish(mut self) -> (Output, ValueFileMeta) {
        self.output.pad();
        let meta = ValueFileMeta {
            number: self.file.number,
            file_bytes: self.output.position(),
            file_hash: self.output.file_hash(),
            value_bytes: self.value_bytes,
        };
        (self.output, meta)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "files of tests are small")]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    const FILE: FileId = FileId {
        partition: 3,
        number: 9,
    };

    fn sized(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 7 + bytes) as u8).collect()
    }

    /// Returns the file, its meta and the references, for values of these sizes.
    fn written(sizes: &[usize]) -> (Vec<u8>, ValueFileMeta, Vec<ValueRef>) {
        let (mut writer, mut file, mut refs) = (ValueWriter::new(FILE), Vec::new(), Vec::new());
        for &size in sizes {
            refs.push(writer.push(&sized(size)));
            while let Some(chunk) = writer.take_output() {
                assert_eq!(chunk.offset, file.len() as u64);
                file.extend_from_slice(chunk.bytes);
            }
        }
        let (mut rest, meta) = writer.finish();
        while let Some(chunk) = rest.take_rest() {
            assert_eq!(chunk.offset, file.len() as u64);
            file.extend_from_slice(chunk.bytes);
        }
        (file, meta, refs)
    }

    #[test]
    fn values_are_where_their_references_say() {
        let sizes = [1, 7, 8, 1024, 4096, 4097, 300_000, 1_000_000, 5];
        let (file, meta, refs) = written(&sizes);
        assert_eq!(meta.file_bytes, file.len() as u64);
        assert_eq!(meta.file_hash, xxh3_128(&file));
        assert_eq!(meta.value_bytes, sizes.iter().sum::<usize>() as u64);
        assert_eq!(check_header(FILE, &file[..HEADER_BYTES]), Ok(()));
        for (value, size) in refs.iter().zip(sizes) {
            let range = read_range(value);
            assert_eq!((range.offset % 4096, range.bytes % 4096), (0, 0));
            let read = &file[range.offset as usize..][..range.bytes as usize];
            assert_eq!(&read[range.value.clone()], &sized(size));
            assert!(check(value, &read[range.value]));
        }
    }

    #[test]
    fn a_changed_value_is_noticed() {
        let (file, _, refs) = written(&[1024, 1024]);
        let at = refs[0].offset as usize;
        let mut value = file[at..at + 1024].to_vec();
        for index in 0..value.len() {
            value[index] ^= 0x10;
            assert!(!check(&refs[0], &value));
            value[index] ^= 0x10;
        }
        assert!(check(&refs[0], &value));
        assert_ne!(
            refs[0].checksum, refs[1].checksum,
            "one value in two places"
        );
    }

    #[test]
    fn a_changed_header_is_noticed() {
        let mut bytes = header(FILE).to_vec();
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            assert!(check_header(FILE, &bytes).is_err());
            bytes[index] ^= 1;
        }
        let other = FileId { number: 8, ..FILE };
        assert!(check_header(other, &bytes).is_err());
    }

    #[test]
    fn metas_survive_their_encoding_and_cuts_are_noticed() {
        let (_, meta, refs) = written(&[2000]);
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        assert_eq!(ValueFileMeta::decode(&mut bytes.as_slice()), Ok(meta));
        for end in 0..bytes.len() {
            assert!(ValueFileMeta::decode(&mut &bytes[..end]).is_err());
        }
        let encoded = refs[0].encode();
        assert_eq!(ValueRef::decode(&encoded), Some((refs[0], &[][..])));
    }
}
