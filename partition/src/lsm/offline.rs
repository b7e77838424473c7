//! Files of tables and values as offline tools see them: bytes that are all there. The node itself
//! reads blocks one by one, through `store`; nothing here reads a file, and nothing is cached.
//!
//! A table is opened by what it says of itself ([`TableFile::open`]), or by what the manifest says of
//! it ([`TableFile::open_known`]); [`TableFile::check`] looks at every byte that means something.
//!
//! Invariant: no bytes make any function panic; what is wrong is answered as [`Damage`].

mod check;
mod entries;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

pub use check::Figures;
pub use entries::Entries;

use super::block::wire::{take_u32, take_u64};
use super::block::{BlockView, Contents};
use super::manifest::{self, Checkpoint};
use super::store::FileName;
use super::table::{FOOTER_BYTES, Footer, TableMeta, Tail, TopIndex, decode_block};
use super::values::{self, ValueFileMeta};
use super::{BlockRef, FileId, Malformed, SECTOR_BYTES, ValueRef};

/// Where the footer has the partition and the number of its file, and its checksum.
const PARTITION_AT: usize = 12;
const NUMBER_AT: usize = 16;
const CHECKSUM_AT: usize = FOOTER_BYTES - 8;
/// No block is larger than what its stored bytes could be unpacked to, by this factor and this rest.
const UNPACKED_MAX: (u64, u64) = (255, 64 << 10);

/// Something in a file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset}: {what}")]
pub struct Damage {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is there instead, in a sentence.
    pub what: String,
}

impl Damage {
    fn new(offset: u64, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { offset, what }
    }

    /// Puts a place to what a decoder said.
    fn at(offset: u64) -> impl Fn(Malformed) -> Self {
        move |malformed| Self::new(offset, malformed.0)
    }
}

/// Which versions of a table: of the two sequences that it has of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// The newest version of each key in the table.
    Newest,
    /// The versions before those.
    Older,
}

/// What a block of a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Says which keys are surely absent.
    Filter,
    /// Says where versions are.
    Index(Age),
    /// Versions.
    Data(Age),
}

/// What the blocks of one part add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartFigures {
    /// Blocks.
    pub blocks: u64,
    /// Bytes in the file, without padding.
    pub stored_bytes: u64,
    /// Bytes in memory.
    pub bytes: u64,
}

impl PartFigures {
    fn count(&mut self, block: &BlockRef) {
        self.blocks += 1;
        self.stored_bytes += u64::from(block.stored_bytes);
        self.bytes += u64::from(block.bytes);
    }
}

/// The file of a table, all of whose bytes are at hand.
#[derive(Debug)]
pub struct TableFile<'a> {
    file: FileId,
    bytes: &'a [u8],
    meta: TableMeta,
    tail: Tail,
}

impl<'a> TableFile<'a> {
    /// Opens a table by what it says of itself.
    ///
    /// # Errors
    /// Footer or tail are not whole.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Damage> {
        let at = footer_offset(bytes);
        let footer = footer_of(bytes)?;
        let number = |at: usize| take_u64(&footer[at..]).map_or(0, |(number, _)| number);
        let file = FileId {
            partition: take_u32(&footer[PARTITION_AT..]).map_or(0, |(number, _)| number),
            number: number(NUMBER_AT),
        };
        let said = TableMeta {
            number: file.number,
            file_bytes: bytes.len() as u64,
            footer_checksum: number(CHECKSUM_AT),
            ..TableMeta::default()
        };
        let tail = read_tail(file, &said, bytes)?;
        if tail.meta.number != file.number {
            return Err(Damage::new(at, "the tail is of another table"));
        }
        let meta = TableMeta {
            file_hash: xxh3_128(bytes),
            file_bytes: said.file_bytes,
            footer_checksum: said.footer_checksum,
            ..tail.meta.clone()
        };
        Ok(Self {
            file,
            bytes,
            meta,
            tail,
        })
    }

    /// Opens a table by what the manifest says of it.
    ///
    /// # Errors
    /// The file has another size, footer or tail are not whole or are of another table.
    pub fn open_known(file: FileId, meta: &TableMeta, bytes: &'a [u8]) -> Result<Self, Damage> {
        check_size(meta.file_bytes, bytes)?;
        let tail = read_tail(file, meta, bytes)?;
        let said = TableMeta {
            file_bytes: meta.file_bytes,
            file_hash: meta.file_hash,
            footer_checksum: meta.footer_checksum,
            ..tail.meta.clone()
        };
        if said != *meta {
            let what = "the table says other things of itself than the manifest";
            return Err(Damage::new(footer_offset(bytes), what));
        }
        Ok(Self {
            file,
            bytes,
            meta: said,
            tail,
        })
    }

    /// Returns the name of the table.
    #[must_use]
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Returns what is known about the table as a whole.
    #[must_use]
    pub fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// Returns the versions of one age, in order of key and then from new to old.
    #[must_use]
    pub fn entries(&self, age: Age) -> Entries<'_> {
        Entries::new(self, age)
    }

    /// Returns what the blocks of each part add up to, as the index says.
    ///
    /// # Errors
    /// An index partition is damaged.
    pub fn parts(&self) -> Result<BTreeMap<Part, PartFigures>, Damage> {
        let mut parts: BTreeMap<Part, PartFigures> = BTreeMap::new();
        for index in 0..self.tail.filter.len() {
            let block = self.tail.filter.block(index);
            parts.entry(Part::Filter).or_default().count(&block);
        }
        for age in [Age::Newest, Age::Older] {
            for partition in 0..self.top(age).len() {
                let block = self.top(age).block(partition);
                parts.entry(Part::Index(age)).or_default().count(block);
                let index = self.index(block)?;
                let view = BlockView::of(&index);
                for child in (0..view.count()).map(|at| view.child(at)) {
                    parts
                        .entry(Part::Data(age))
                        .or_default()
                        .count(&child.block);
                }
            }
        }
        Ok(parts)
    }

    fn top(&self, age: Age) -> &TopIndex {
        match age {
            Age::Newest => &self.tail.main,
            Age::Older => &self.tail.old,
        }
    }

    fn index(&self, block: &BlockRef) -> Result<Vec<u8>, Damage> {
        let mut out = Vec::new();
        self.load(block, Contents::Children, &mut out)?;
        Ok(out)
    }

    /// Puts a block into `out`, checked.
    fn load(&self, block: &BlockRef, want: Contents, out: &mut Vec<u8>) -> Result<(), Damage> {
        let offset = block.offset();
        let stored = usize::try_from(offset).ok().and_then(|start| {
            let end = start.checked_add(block.stored_bytes as usize)?;
            self.bytes.get(start..end)
        });
        let Some(stored) = stored else {
            return Err(Damage::new(
                offset,
                "a block lies behind the end of the file",
            ));
        };
        let most = u64::from(block.stored_bytes) * UNPACKED_MAX.0 + UNPACKED_MAX.1;
        if u64::from(block.bytes) > most {
            return Err(Damage::new(
                offset,
                "a block is said to be larger than it can be",
            ));
        }
        out.clear();
        out.resize(block.bytes as usize, 0);
        decode_block(self.file, block, stored, out).map_err(Damage::at(offset))?;
        let found = match want {
            Contents::Filter => true,
            Contents::Versions | Contents::Children => {
                BlockView::parse(out).is_ok_and(|view| view.contents() == want)
            }
        };
        if found {
            return Ok(());
        }
        Err(Damage::new(
            offset,
            "a block holds something else than its index says",
        ))
    }
}

fn footer_offset(bytes: &[u8]) -> u64 {
    (bytes.len() as u64).saturating_sub(SECTOR_BYTES)
}

fn footer_of(bytes: &[u8]) -> Result<&[u8; FOOTER_BYTES], Damage> {
    let short = || Damage::new(0, format!("{} bytes are no table", bytes.len()));
    bytes.last_chunk().ok_or_else(short)
}

fn read_tail(file: FileId, meta: &TableMeta, bytes: &[u8]) -> Result<Tail, Damage> {
    let footer = Footer::decode(file, meta, footer_of(bytes)?);
    let footer = footer.map_err(Damage::at(footer_offset(bytes)))?;
    let at = footer.tail_offset();
    let stored = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    footer
        .tail(stored.unwrap_or_default())
        .map_err(Damage::at(at))
}

fn check_size(expected: u64, bytes: &[u8]) -> Result<(), Damage> {
    let found = bytes.len() as u64;
    if found == expected {
        return Ok(());
    }
    let what = format!("the file has {found} bytes, expected {expected}");
    Err(Damage::new(found.min(expected), what))
}

fn check_hash(expected: u128, bytes: &[u8]) -> Result<(), Damage> {
    let found = xxh3_128(bytes);
    if found == expected {
        return Ok(());
    }
    let what = format!("the file as a whole has hash {found:032x}, expected {expected:032x}");
    Err(Damage::new(0, what))
}

/// Checks a value file as a whole: its size, its header and its hash.
///
/// # Errors
/// The first of these that is wrong.
pub fn check_values(file: FileId, meta: &ValueFileMeta, bytes: &[u8]) -> Result<(), Damage> {
    check_size(meta.file_bytes, bytes)?;
    let header = bytes.get(..values::HEADER_BYTES).unwrap_or_default();
    values::check_header(file, header).map_err(Damage::at(0))?;
    check_hash(meta.file_hash, bytes)
}

/// Checks a value that a table refers to; `bytes` are those of the value file.
///
/// # Errors
/// It is not there, or not what was written.
pub fn check_value(value: &ValueRef, bytes: &[u8]) -> Result<(), Damage> {
    let found = usize::try_from(value.offset).ok().and_then(|start| {
        let end = start.checked_add(value.bytes as usize)?;
        bytes.get(start..end)
    });
    match found {
        None => Err(Damage::new(
            value.offset,
            "a value lies behind the end of the file",
        )),
        Some(found) if !values::check(value, found) => {
            let what = format!(
                "the {} bytes of a value do not match its checksum",
                value.bytes
            );
            Err(Damage::new(value.offset, what))
        }
        Some(_) => Ok(()),
    }
}

/// Reads a checkpoint from what one of the two files of a shard's manifest holds; returns its
/// generation too.
///
/// # Errors
/// It is not whole, or of another shard.
pub fn read_checkpoint(shard: u32, bytes: &[u8]) -> Result<(u64, Checkpoint), Malformed> {
    manifest::decode(shard, bytes).map(|(slot, checkpoint)| (slot.generation, checkpoint))
}

/// Returns the path of a table below the directory of all tables.
#[must_use]
pub fn table_path(file: FileId) -> String {
    FileName::table(file).to_string()
}

/// Returns the path of a value file below the directory of all tables.
#[must_use]
pub fn values_path(file: FileId) -> String {
    FileName::values(file.partition, file.number).to_string()
}

/// The hash that names what files hold, taken piece by piece: XXH3-128.
#[derive(Clone, Default)]
pub struct FileHash(Xxh3);

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileHash").field(&self.finish()).finish()
    }
}

impl FileHash {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all bytes so far.
    #[must_use]
    pub fn finish(&self) -> u128 {
        self.0.digest128()
    }
}
