//! What is known about a table as a whole, as bytes: meta (in the manifest), footer and tail (in the
//! file).
//!
//! ```text
//! meta     0  number            u64
//!          8  file_bytes        u64
//!         16  file_hash         u128  XXH3-128 of the whole file
//!         32  footer_checksum   u64
//!         40  keys              u64
//!         48  versions          u64
//!         56  tombstones        u64
//!         64  min_timestamp     u64
//!         72  max_timestamp     u64
//!         80  min_expire_ms     u64   all ones for none
//!         88  raw_bytes         u64
//!         96  cleaned_to        u64
//!        104  level             u8
//!             first_key, last_key     u32 and bytes, each
//!             value files       u32, and for each: number u64, referenced bytes u64
//!
//! footer   0  magic             u64   "ASHTABLE"
//!          8  version           u32   1
//!         12  partition         u32
//!         16  number            u64
//!         24  sectors           u32   of the file
//!         28  tail_sector       u32
//!         32  tail_bytes        u32   without padding
//!         36  reserved          u32
//!         40  tail_hash         u128  XXH3-128
//!         56  reserved
//!       4088  checksum          u64   XXH3-64 of the bytes before, seeded like a block's
//!
//! tail     0  magic             u32   "ATAL"
//!             meta              without what follows from the whole file: `file_bytes`, `file_hash`
//!                               and `footer_checksum` are 0
//!             top index of the main stream, top index of the old stream (`top`)
//!             filter            first sector u32, blocks u32, and the checksum u64 of each
//! ```

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

use super::top::TopIndex;
use crate::lsm::block::wire::{put_bytes, take_bytes, take_u8, take_u32, take_u64, take_u128};
use crate::lsm::filter::FILTER_BLOCK_BYTES;
use crate::lsm::{BlockRef, FileId, Malformed, SECTOR_BYTES};
use crate::memtable::Memtable;

/// Size of a footer, in bytes.
pub(crate) const FOOTER_BYTES: usize = 4096;
/// "ASHTABLE".
const FOOTER_MAGIC: u64 = 0x454c_4241_5448_5341;
/// "ATAL".
const TAIL_MAGIC: u32 = 0x4c41_5441;
const FORMAT_VERSION: u32 = 1;
/// Where the checksum of a footer is.
const CHECKSUM_AT: usize = FOOTER_BYTES - 8;

/// What the manifest keeps about a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableMeta {
    /// Number of its file, within the partition.
    pub number: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// XXH3-128 of the whole file.
    pub file_hash: u128,
    /// Checksum that is in the footer.
    pub footer_checksum: u64,
    /// Level of the run that it was made for; 0 for a flush.
    pub level: u8,
    /// Smallest key.
    pub first_key: Vec<u8>,
    /// Largest key.
    pub last_key: Vec<u8>,
    /// Number of keys: entries of the main stream.
    pub keys: u64,
    /// Number of versions, in both streams.
    pub versions: u64,
    /// Keys whose newest version in the table is a tombstone.
    pub tombstones: u64,
    /// Oldest version.
    pub min_timestamp: u64,
    /// Newest version.
    pub max_timestamp: u64,
    /// When the first key expires, in milliseconds since 1970; `u64::MAX` for never.
    pub min_expire_ms: u64,
    /// Bytes of keys and values of all versions, wherever the values are.
    pub raw_bytes: u64,
    /// Range tombstones at or below this timestamp are applied: what they delete is not in here.
    pub cleaned_to: u64,
    /// Value files that are referred to, ascending, with the bytes of values that are.
    pub values: Vec<(u64, u64)>,
}

impl TableMeta {
    /// Says whether a key lies between the first and the last one.
    #[must_use]
    #[inline]
    pub fn covers(&self, key: &[u8]) -> bool {
        self.first_key.as_slice() <= key && key <= self.last_key.as_slice()
    }

    /// Appends the meta to `out`.
    ///
    /// # Panics
    /// When it refers to 2^32 value files.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.file_bytes.to_le_bytes());
        out.extend_from_slice(&self.file_hash.to_le_bytes());
        for number in self.numbers() {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.level);
        put_bytes(&self.first_key, out);
        put_bytes(&self.last_key, out);
        let count = u32::try_from(self.values.len()).expect("a table has fewer entries");
        out.extend_from_slice(&count.to_le_bytes());
        for (number, bytes) in &self.values {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
        }
    }

    /// Returns the numbers from `footer_checksum` to `cleaned_to`, as they are stored.
    fn numbers(&self) -> [u64; 9] {
        [
            self.footer_checksum,
            self.keys,
            self.versions,
            self.tombstones,
            self.min_timestamp,
            self.max_timestamp,
            self.min_expire_ms,
            self.raw_bytes,
            self.cleaned_to,
        ]
    }

    /// Takes a meta from the front of `bytes`.
    ///
    /// # Errors
    /// When it is cut off, or keys are missing or out of order.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, Malformed> {
        let (meta, rest) = Self::take(bytes)
            .ok_or_else(|| Malformed("description of a table is cut off".into()))?;
        let key_fits = |key: &[u8]| !key.is_empty() && key.len() <= Memtable::KEY_BYTES_MAX;
        let keys_fit = key_fits(&meta.first_key) && key_fits(&meta.last_key);
        if !keys_fit || meta.first_key > meta.last_key {
            return Err(Malformed("table has keys that cannot be".into()));
        }
        *bytes = rest;
        Ok(meta)
    }

    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (number, rest) = take_u64(bytes)?;
        let (file_bytes, rest) = take_u64(rest)?;
        let (file_hash, mut rest) = take_u128(rest)?;
        let mut numbers = [0; 9];
        for number in &mut numbers {
            (*number, rest) = take_u64(rest)?;
        }
        let (level, rest) = take_u8(rest)?;
        let (first_key, rest) = take_bytes(rest)?;
        let (last_key, rest) = take_bytes(rest)?;
        let (values, rest) = take_values(rest)?;
        let [footer_checksum, keys, versions, tombstones, ..] = numbers;
        let [
            ..,
            min_timestamp,
            max_timestamp,
            min_expire_ms,
            raw_bytes,
            cleaned_to,
        ] = numbers;
        let meta = Self {
            number,
            file_bytes,
            file_hash,
            footer_checksum,
            level,
            first_key: first_key.to_vec(),
            last_key: last_key.to_vec(),
            keys,
            versions,
            tombstones,
            min_timestamp,
            max_timestamp,
            min_expire_ms,
            raw_bytes,
            cleaned_to,
            values,
        };
        Some((meta, rest))
    }
}

/// A list that is read, and what follows it.
type Taken<'a, T> = Option<(Vec<T>, &'a [u8])>;

fn take_values(bytes: &[u8]) -> Taken<'_, (u64, u64)> {
    let (count, mut rest) = take_u32(bytes)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let (number, behind) = take_u64(rest)?;
        let (bytes, behind) = take_u64(behind)?;
        values.push((number, bytes));
        rest = behind;
    }
    Some((values, rest))
}

/// Where the blocks of a filter are, and what they must hash to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterRefs {
    /// Where the first one is; the others follow.
    pub(crate) sector: u32,
    /// Checksum of each.
    pub(crate) checksums: Vec<u64>,
}

impl FilterRefs {
    /// Returns the number of blocks; 0 when the table has no filter.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.checksums.len()).expect("blocks are counted by sectors")
    }

    /// Returns a block.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn block(&self, index: u32) -> BlockRef {
        let bytes = u32::try_from(FILTER_BLOCK_BYTES).expect("4096 fits");
        BlockRef {
            sector: self.sector + index,
            stored_bytes: bytes,
            bytes,
            checksum: self.checksums[index as usize],
        }
    }

    fn take(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (sector, rest) = take_u32(bytes)?;
        let (count, mut rest) = take_u32(rest)?;
        sector.checked_add(count)?;
        let mut checksums = Vec::new();
        for _ in 0..count {
            let (checksum, behind) = take_u64(rest)?;
            checksums.push(checksum);
            rest = behind;
        }
        Some((Self { sector, checksums }, rest))
    }
}

/// The last part of a table's file but the footer: what is in memory while the table is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// What is known about the table, but for its file as a whole.
    pub(crate) meta: TableMeta,
    /// Index partitions of the main stream.
    pub(crate) main: TopIndex,
    /// Index partitions of the old stream.
    pub(crate) old: TopIndex,
    /// The filter.
    pub(crate) filter: FilterRefs,
}

impl Tail {
    /// Appends the tail to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&TAIL_MAGIC.to_le_bytes());
        self.meta.encode(out);
        self.main.encode(out);
        self.old.encode(out);
        out.extend_from_slice(&self.filter.sector.to_le_bytes());
        out.extend_from_slice(&self.filter.len().to_le_bytes());
        for checksum in &self.filter.checksums {
            out.extend_from_slice(&checksum.to_le_bytes());
        }
    }

    /// Reads a tail that takes up all of `bytes`.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let wrong = |what: &str| Malformed(format!("tail of a table {what}"));
        let Some((TAIL_MAGIC, mut rest)) = take_u32(bytes) else {
            return Err(wrong("does not begin like one"));
        };
        let meta = TableMeta::decode(&mut rest)?;
        let main = TopIndex::decode(&mut rest)?;
        let old = TopIndex::decode(&mut rest)?;
        let (filter, rest) = FilterRefs::take(rest).ok_or_else(|| wrong("is cut off"))?;
        if !rest.is_empty() {
            return Err(wrong("has bytes behind its end"));
        }
        Ok(Self {
            meta,
            main,
            old,
            filter,
        })
    }
}

/// The last 4 KiB of a table's file: where its tail is, and what it must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// The table.
    pub(crate) file: FileId,
    /// Size of the file, in sectors.
    pub(crate) sectors: u32,
    /// Where the tail begins.
    pub(crate) tail_sector: u32,
    /// Size of the tail, without padding.
    pub(crate) tail_bytes: u32,
    /// XXH3-128 of the tail.
    pub(crate) tail_hash: u128,
}

impl Footer {
    /// Encodes the footer; returns it and its checksum.
    pub(crate) fn encode(&self) -> ([u8; FOOTER_BYTES], u64) {
        let mut out = [0; FOOTER_BYTES];
        out[..8].copy_from_slice(&FOOTER_MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.file.partition.to_le_bytes());
        out[16..24].copy_from_slice(&self.file.number.to_le_bytes());
        out[24..28].copy_from_slice(&self.sectors.to_le_bytes());
        out[28..32].copy_from_slice(&self.tail_sector.to_le_bytes());
        out[32..36].copy_from_slice(&self.tail_bytes.to_le_bytes());
        out[40..56].copy_from_slice(&self.tail_hash.to_le_bytes());
        let checksum = xxh3_64_with_seed(&out[..CHECKSUM_AT], self.seed());
        out[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        (out, checksum)
    }

    fn seed(&self) -> u64 {
        BlockRef::seed(self.file, self.sectors.saturating_sub(1))
    }

    /// Returns where the footer of a table is, in bytes from the start of the file.
    pub(crate) fn offset(meta: &TableMeta) -> u64 {
        meta.file_bytes.saturating_sub(SECTOR_BYTES)
    }

    /// Reads the footer of a table; its checksum must be the one that the manifest knows.
    ///
    /// # Errors
    /// When `bytes` are not that footer.
    pub(crate) fn decode(file: FileId, meta: &TableMeta, bytes: &[u8]) -> Result<Self, Malformed> {
        let wrong = |what: &str| Malformed(format!("{file}: footer {what}"));
        let bytes: &[u8; FOOTER_BYTES] = bytes
            .try_into()
            .map_err(|_| wrong("does not have 4096 bytes"))?;
        match take_u64(bytes).and_then(|(magic, rest)| Some((magic, take_u32(rest)?.0))) {
            Some((FOOTER_MAGIC, FORMAT_VERSION)) => {}
            Some((FOOTER_MAGIC, version)) => {
                let known = FORMAT_VERSION;
                return Err(wrong(&format!("has format {version}, expected {known}")));
            }
            _ => return Err(wrong("does not begin like one")),
        }
        let footer = Self::take(bytes).ok_or_else(|| wrong("is cut off"))?;
        let stored = take_u64(&bytes[CHECKSUM_AT..]).map(|(stored, _)| stored);
        let checksum = xxh3_64_with_seed(&bytes[..CHECKSUM_AT], footer.seed());
        let expected = meta.footer_checksum;
        if stored != Some(checksum) || checksum != expected {
            return Err(wrong(&format!(
                "has checksum {checksum:016x}, expected {expected:016x}"
            )));
        }
        if footer.file != file {
            return Err(wrong(&format!("is of {}", footer.file)));
        }
        let file_bytes = u64::from(footer.sectors) * SECTOR_BYTES;
        let tail_end = footer.tail_offset() + footer.tail_read_bytes() + SECTOR_BYTES;
        if file_bytes != meta.file_bytes || tail_end != file_bytes {
            return Err(wrong("does not agree with the size of the file"));
        }
        Ok(footer)
    }

    fn take(bytes: &[u8; FOOTER_BYTES]) -> Option<Self> {
        let (_, rest) = take_u64(bytes)?;
        let (_, rest) = take_u32(rest)?;
        let (partition, rest) = take_u32(rest)?;
        let (number, rest) = take_u64(rest)?;
        let (sectors, rest) = take_u32(rest)?;
        let (tail_sector, rest) = take_u32(rest)?;
        let (tail_bytes, rest) = take_u32(rest)?;
        let (_, rest) = take_u32(rest)?;
        let (tail_hash, _) = take_u128(rest)?;
        Some(Self {
            file: FileId { partition, number },
            sectors,
            tail_sector,
            tail_bytes,
            tail_hash,
        })
    }

    /// Returns where the tail begins, in bytes from the start of the file.
    pub(crate) fn tail_offset(&self) -> u64 {
        u64::from(self.tail_sector) * SECTOR_BYTES
    }

    /// Returns how much to read for the tail: whole sectors, in bytes.
    pub(crate) fn tail_read_bytes(&self) -> u64 {
        u64::from(self.tail_bytes).next_multiple_of(SECTOR_BYTES)
    }

    /// Reads the tail from what the file has there, with or without padding.
    ///
    /// # Errors
    /// When its hash is wrong, or it is not what was written.
    pub(crate) fn tail(&self, stored: &[u8]) -> Result<Tail, Malformed> {
        let file = self.file;
        let bytes = stored
            .get(..self.tail_bytes as usize)
            .ok_or_else(|| Malformed(format!("{file}: tail is cut off")))?;
        let (found, expected) = (xxh3_128(bytes), self.tail_hash);
        if found != expected {
            return Err(Malformed(format!(
                "{file}: tail has hash {found:032x}, expected {expected:032x}"
            )));
        }
        Tail::decode(bytes).map_err(|found| Malformed(format!("{file}: {found}")))
    }
}
