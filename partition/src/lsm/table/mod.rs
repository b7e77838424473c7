//! Tables: sorted files of versions, written once.
//!
//! ```text
//! data blocks and blocks of old versions, as they fill
//! filter blocks
//! index partitions of the main stream: blocks of references to its data blocks
//! index partitions of the old stream
//! tail      properties, references to all index partitions and filter blocks (`format`)
//! footer    4 KiB; where the tail is (`format`)
//! ```
//! Every block begins at a multiple of 4 KiB. The *main* stream has the newest version of each key
//! in the table, the *old* stream the others: a reader of the present never meets history.
//!
//! A reference to a block has its checksum: the manifest knows the footer, the footer the tail, the
//! tail the index partitions, and these the data blocks.
//!
//! An index has, for each block, a key: at least the block's last one, and below the next block's
//! first. Where a key's versions go on in the next block the timestamp of the last one counts too;
//! otherwise it is 0, behind every version. So one search, by key and timestamp, serves both levels
//! of the index and the block.
//!
//! Not here: IO. A reader asks a [`Source`] for blocks and answers with a [`Miss`] when one is not
//! in memory; a writer hands out the bytes of its file in chunks.

mod cursor;
mod format;
mod output;
mod reader;
mod stream;
mod top;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use lz4_flex::block::decompress_into;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use cursor::TableCursor;
pub use format::TableMeta;
pub(crate) use format::{FOOTER_BYTES, Footer, Tail};
pub(crate) use output::{Chunk, Output};
pub(crate) use reader::{Found, Hit, Table};
pub(crate) use top::TopIndex;
pub(crate) use walk::Walk;
pub(crate) use writer::{Compression, Sealing, TableOptions, TableWriter};

use crate::lsm::cache::{Block, Recall};
use crate::lsm::{BlockRef, FileId, Malformed, block};

/// What knows which blocks are in memory.
pub(crate) trait Source {
    /// Returns a block of a file, if it is in memory.
    fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>>;

    /// As [`Source::find`], for a block that `known` may remember from before.
    #[inline]
    fn find_known(
        &self,
        file: FileId,
        block: &BlockRef,
        known: (&Recall, usize),
    ) -> Option<Rc<Block>> {
        let _ = known;
        self.find(file, block)
    }

    /// As [`Source::find`], for the block that an entry of an index partition refers to.
    #[inline]
    fn find_child(
        &self,
        file: FileId,
        block: &BlockRef,
        place: (&Block, usize),
    ) -> Option<Rc<Block>> {
        let _ = place;
        self.find(file, block)
    }
}

/// One of the two sequences of versions in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The newest version of each key.
    Main,
    /// The other versions.
    Old,
}

/// Checks and unpacks a block: `stored` is what the file has there, with or without padding, and
/// `out` takes the block.
///
/// # Errors
/// When the checksum is wrong, or the block is not what was written; `out` is then of no use.
///
/// # Panics
/// When `out` does not have [`BlockRef::bytes`] bytes.
pub(crate) fn decode_block(
    file: FileId,
    block: &BlockRef,
    stored: &[u8],
    out: &mut [u8],
) -> Result<(), Malformed> {
    assert_eq!(out.len(), block.bytes as usize);
    let sector = block.sector;
    let wrong = |what: &str| Malformed(format!("{file} sector {sector}: block {what}"));
    let stored = stored
        .get(..block.stored_bytes as usize)
        .ok_or_else(|| wrong("is cut off"))?;
    let checksum = xxh3_64_with_seed(stored, BlockRef::seed(file, sector));
    if checksum != block.checksum {
        let expected = block.checksum;
        return Err(wrong(&format!(
            "has checksum {checksum:016x}, expected {expected:016x}"
        )));
    }
    if block.is_compressed() {
        let bytes = decompress_into(stored, out).map_err(|_| wrong("cannot be decompressed"))?;
        if bytes != out.len() {
            return Err(wrong("has another size once decompressed"));
        }
    } else {
        out.copy_from_slice(stored);
    }
    block::validate(out).map_err(|found| wrong(&found.0))
}
