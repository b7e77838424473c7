//! Files of tables and values as offline tools see them: bytes that are all there. The node itself
//! reads blocks one by one, through `store`; nothing here reads a file, and nothing is cached.
//!
//! A table is opened by what it says of itself ([`TableFile::open`]), or by what the manifest says of
//! it ([`TableFile::open_known`]); [`TableFile::check`] looks at every byte that means something.
//!
//! Invariant: no bytes make any function panic; what is wrong is answered as [`Damage`].

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

pub use check::Figures;

use super::block::{BlockView, Child, Contents};
use super::manifest::{self, Checkpoint};
use super::store::FileName;
use super::table::{FOOTER_BYTES, Footer, TableMeta, Tail, TopIndex, decode_block};
use super::values::{self, ValueFileMeta};
use super::{BlockRef, Entry, FileId, Malformed, SECTOR_BYTES, ValueRef};

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
#[derive(Clone, Copy)]
pub struct TableFile<'a, T> {
    file: FileId,
    bytes: &'a [u8],
    tail: T,
}

/// A table that was opened.
pub type OpenTable<'a> = TableFile<'a, Box<Ends>>;

/// What a table says of itself at its end.
#[derive(Debug)]
pub struct Ends {
    meta: TableMeta,
    tail: Tail,
}

impl<T> fmt::Debug for TableFile<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableFile")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl<'a> OpenTable<'a> {
    /// Opens a table by what it says of itself.
    ///
    /// # Errors
    /// Footer or tail are not whole.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Damage> {
        let at = footer_offset(bytes);
        let footer = footer_of(bytes)?;
        let number = |at: usize| {
            let bytes = footer[at..].first_chunk().expect("a footer has 4096 bytes");
            u64::from_le_bytes(*bytes)
        };
        let partition = footer[PARTITION_AT..].first_chunk();
        let file = FileId {
            partition: u32::from_le_bytes(*partition.expect("a footer has 4096 bytes")),
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
        let tail = Box::new(Ends { meta, tail });
        Ok(Self { file, bytes, tail })
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
        let meta = meta.clone();
        let tail = Box::new(Ends { meta, tail });
        Ok(Self { file, bytes, tail })
    }

    /// Returns the name of the table.
    #[must_use]
    pub fn file(&self) -> FileId {
        self.file
    }

    /// Returns what is known about the table as a whole.
    #[must_use]
    pub fn meta(&self) -> &TableMeta {
        &self.tail.meta
    }

    /// Returns the versions of one age, in order of key and then from new to old.
    #[must_use]
    pub fn entries(&self, age: Age) -> Entries<'_> {
        Entries {
            blocks: Blocks::new(self, age),
            block: Vec::new(),
            next: 0,
            key: Vec::new(),
        }
    }

    /// Returns what the blocks of each part add up to, as the index says.
    ///
    /// # Errors
    /// An index partition is damaged.
    pub fn parts(&self) -> Result<BTreeMap<Part, PartFigures>, Damage> {
        let mut parts: BTreeMap<Part, PartFigures> = BTreeMap::new();
        for index in 0..self.tail.tail.filter.len() {
            let block = self.tail.tail.filter.block(index);
            parts.entry(Part::Filter).or_default().count(&block);
        }
        for age in [Age::Newest, Age::Older] {
            for partition in 0..self.top(age).len() {
                let block = self.top(age).block(partition);
                parts.entry(Part::Index(age)).or_default().count(block);
                let index = self.index(block)?;
                let view = BlockView::of(&index);
                for child in (0..view.count()).map(|at| view.child(at)) {
                    parts.entry(Part::Data(age)).or_default().count(&child.block);
                }
            }
        }
        Ok(parts)
    }

    fn top(&self, age: Age) -> &TopIndex {
        match age {
            Age::Newest => &self.tail.tail.main,
            Age::Older => &self.tail.tail.old,
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
            return Err(Damage::new(offset, "a block lies behind the end of the file"));
        };
        let most = u64::from(block.stored_bytes) * UNPACKED_MAX.0 + UNPACKED_MAX.1;
        if u64::from(block.bytes) > most {
            return Err(Damage::new(offset, "a block is said to be larger than it can be"));
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
        Err(Damage::new(offset, "a block holds something else than its index says"))
    }
}

/// What an index says of a data block: nothing in it is behind `key` at `timestamp`.
#[derive(Debug)]
struct Indexed {
    key: Vec<u8>,
    timestamp: u64,
    child: Child,
}

/// The data blocks of one age, in order. What is damaged is passed over, once it was told.
struct Blocks<'t> {
    table: &'t OpenTable<'t>,
    age: Age,
    /// Index partitions entered.
    partitions: usize,
    index: Vec<u8>,
    child: usize,
}

impl fmt::Debug for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("age", &self.age)
            .field("partitions", &self.partitions)
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

impl<'t> Blocks<'t> {
    fn new(table: &'t OpenTable<'t>, age: Age) -> Self {
        Self {
            table,
            age,
            partitions: 0,
            index: Vec::new(),
            child: 0,
        }
    }

    /// Returns what the index says of the next block; `Err` for an index partition that is damaged.
    fn next_indexed(&mut self) -> Option<Result<Indexed, Damage>> {
        loop {
            if !self.index.is_empty() {
                let view = BlockView::of(&self.index);
                if self.child < view.count() {
                    let (at, mut key) = (self.child, Vec::new());
                    self.child += 1;
                    view.key_into(at, &mut key);
                    return Some(Ok(Indexed {
                        key,
                        timestamp: view.timestamp(at),
                        child: view.child(at),
                    }));
                }
            }
            let top = self.table.top(self.age);
            if self.partitions == top.len() {
                return None;
            }
            let block = *top.block(self.partitions);
            (self.partitions, self.child) = (self.partitions + 1, 0);
            match self.table.index(&block) {
                Ok(index) => self.index = index,
                Err(damage) => {
                    self.index.clear();
                    return Some(Err(damage));
                }
            }
        }
    }
}

/// The versions of one age of a table, one after another.
#[derive(Debug)]
pub struct Entries<'t> {
    blocks: Blocks<'t>,
    block: Vec<u8>,
    next: usize,
    key: Vec<u8>,
}

impl Entries<'_> {
    /// Returns the next version; after damage, the first one behind it.
    ///
    /// # Errors
    /// A block is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Damage> {
        while self.block.is_empty() || self.next == BlockView::of(&self.block).count() {
            self.block.clear();
            self.next = 0;
            let Some(indexed) = self.blocks.next_indexed() else {
                return Ok(None);
            };
            let block = indexed?.child.block;
            let loaded = self.blocks.table.load(&block, Contents::Versions, &mut self.block);
            if let Err(damage) = loaded {
                self.block.clear();
                return Err(damage);
            }
        }
        let view = BlockView::of(&self.block);
        view.key_into(self.next, &mut self.key);
        let entry = view.entry(self.next);
        self.next += 1;
        Ok(Some(Entry {
            key: &self.key,
            timestamp: entry.timestamp,
            kind: entry.kind,
            expire_at_ms: entry.expire_at_ms,
            value: entry.value,
        }))
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
    footer.tail(stored.unwrap_or_default()).map_err(Damage::at(at))
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
        None => Err(Damage::new(value.offset, "a value lies behind the end of the file")),
        Some(found) if !values::check(value, found) => {
            let what = format!("the {} bytes of a value do not match its checksum", value.bytes);
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
