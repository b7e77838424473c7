//! The log-structured tables of a partition: what lies beneath its memtable, on disk.
//!
//! ```text
//! active memtable      in `Partition`; newest
//! frozen memtables     being flushed
//! runs, newest first   each a sorted sequence of tables whose keys do not overlap
//!   level 0            one per flush
//!   level n            merged from runs of level n - 1
//!   bottom             one run; 16 KiB blocks, LZ4
//! ```
//!
//! Pure and synchronous: `block`, `filter`, `table` (but for its file), `ranges`, `version`, `edit`, `pick`, `merge`.
//! Those read blocks that are in memory only; what is missing is answered as a [`Miss`], fetched by
//! whoever may wait, and asked for again. With IO, asynchronous: `store`, `flush`, `compaction`, `scrub`, `manifest`.
//!
//! Invariants:
//! 1. A table's file is written once, synced, and never changed; it is named by an edit in the log
//!    before anybody reads it, and removed after the edit that drops it is durable.
//! 2. For one key, a run holds newer versions than every run behind it.
//! 3. A block is used only if its checksum, kept in the block that refers to it, is right.

pub(crate) mod block;
pub mod cache;
pub mod edit;
pub(crate) mod filter;
mod flush;
pub(crate) mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod ground;
mod inputs;
mod job;
pub mod manifest;
mod merge;
pub mod offline;
mod output;
pub mod pick;
pub mod ranges;
mod retain;
pub(crate) mod run_cursor;
pub mod scrub;
pub mod store;
pub mod table;
pub(crate) mod tree;
pub mod values;
pub mod version;

use std::cmp::Ordering;
use std::fmt;

pub use ground::{Ground, GroundOptions, Layout, Pin, Traffic, Unreadable};

pub use cache::Class;

/// Replicas that a partition may have in its life, plus one: their ids are below. One that comes later must
/// not give the numbers of one that went, whose files others may have.
pub const REPLICAS_EVER: u64 = 1024;

use crate::memtable::Kind;

/// Unit of files and of direct reads, in bytes.
pub(crate) const SECTOR_BYTES: u64 = 4096;

/// Names a file of tables: partition and number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The partition.
    pub partition: u32,
    /// Its number, never used again.
    pub number: u64,
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:05}/{:010}", self.partition, self.number)
    }
}

/// Compares keys, eight bytes at a time: most are short, and a call that compares memory takes longer.
#[inline]
pub(crate) fn compare_keys(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let (Some((front, behind_a)), Some((other, behind_b))) =
        (a.split_first_chunk::<8>(), b.split_first_chunk::<8>())
    {
        if front != other {
            return front.cmp(other);
        }
        (a, b) = (behind_a, behind_b);
    }
    a.cmp(b)
}

/// Where a block is, and what it must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Offset in the file, in sectors of 4 KiB.
    pub sector: u32,
    /// Bytes stored on disk, without padding.
    pub stored_bytes: u32,
    /// Bytes of the block in memory; equal to `stored_bytes` when it is not compressed.
    pub bytes: u32,
    /// XXH3-64 of the stored bytes, seeded by [`BlockRef::seed`]: a misdirected or stale block
    /// does not match.
    pub checksum: u64,
}

impl BlockRef {
    /// Returns the seed of the checksum of a block.
    #[must_use]
    pub fn seed(file: FileId, sector: u32) -> u64 {
        (u64::from(file.partition) << 48) ^ (file.number << 24) ^ u64::from(sector)
    }

    /// Says whether the stored bytes are LZ4 of the block.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.stored_bytes != self.bytes
    }

    /// Returns the offset in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::from(self.sector) * SECTOR_BYTES
    }
}

/// A block that must be read before a question can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The file.
    pub file: FileId,
    /// The block.
    pub block: BlockRef,
    /// What it is worth in the cache.
    pub class: Class,
}

/// Where a separated value is, and what it must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef {
    /// Number of the value file, of the same partition.
    pub number: u64,
    /// Offset in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u32,
    /// XXH3-64 of the value, seeded by the offset.
    pub checksum: u64,
}

/// The value of a version in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// The bytes themselves; empty for a tombstone.
    Inline(&'a [u8]),
    /// They are in a value file.
    Separate(ValueRef),
}

/// One version of a key, as tables hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Internal key.
    pub key: &'a [u8],
    /// When the version was committed.
    pub timestamp: u64,
    /// Whether the key was set or deleted.
    pub kind: Kind,
    /// Milliseconds since 1970.
    pub expire_at_ms: Option<u64>,
    /// The value.
    pub value: Value<'a>,
}

/// What a file, a record or a block should be and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_compare_as_their_bytes_do(
            front in vec(0..2_u8, 0..20),
            a in vec(any::<u8>(), 0..12),
            b in vec(any::<u8>(), 0..12),
        ) {
            let (a, b) = ([&front[..], &a].concat(), [&front[..], &b].concat());
            prop_assert_eq!(compare_keys(&a, &b), a.cmp(&b));
            prop_assert_eq!(compare_keys(&a, &front), a.cmp(&front));
        }
    }
}
