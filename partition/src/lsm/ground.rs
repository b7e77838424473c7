//! What the trees of a shard stand on, as the shard sees it: files, blocks in memory, memory of
//! memtables, and leave to compute.

use std::path::PathBuf;
use std::rc::Rc;

use ashlar_io::Reactor;

use super::cache::{Block, Origin};
use super::store::{Options, ReadError, Store};
use crate::memtable::ChunkPool;
use crate::read::Want;

/// How the ground is laid.
#[derive(Clone, Debug)]
pub struct GroundOptions {
    /// Directory of all tables; it exists.
    pub dir: PathBuf,
    /// Memory for blocks, in bytes.
    pub cache_bytes: u64,
    /// Memory for memtables, in bytes.
    pub memtable_bytes: u64,
    /// Most reads in flight; the others wait in line.
    pub reads_inflight_max: u32,
    /// Files kept open for reading.
    pub open_files_max: usize,
    /// How tables are written.
    pub layout: Layout,
}

/// How tables are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size at which a table ends and the next begins, in bytes.
    pub table_bytes: u64,
    /// Values of this size and larger have files of their own, in bytes.
    pub separate_bytes: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            table_bytes: 64 << 20,
            separate_bytes: 1 << 10,
        }
    }
}

/// What the trees of a shard stand on. Clones are the same ground.
#[derive(Clone, Debug)]
pub struct Ground {
    pub(crate) store: Rc<Store>,
    pub(crate) chunks: ChunkPool,
    pub(crate) layout: Layout,
}

/// Keeps what was fetched in memory.
#[derive(Clone, Debug)]
pub struct Pin(#[expect(dead_code, reason = "it is held, not looked at")] Rc<Block>);

/// Why something could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Unreadable {
    /// It names the file and the offset.
    what: String,
    /// The file is not what was written.
    pub is_damage: bool,
}

impl Unreadable {
    /// Says why, for another reason than what is in a file.
    pub(crate) fn new(what: String) -> Self {
        Self {
            what,
            is_damage: false,
        }
    }
}

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        Self {
            what: error.to_string(),
            is_damage: error.is_damage(),
        }
    }
}

impl Ground {
    /// Lays the ground on a shard's reactor.
    #[must_use]
    pub fn new(reactor: &Reactor, options: GroundOptions) -> Self {
        let store = Store::new(
            reactor,
            Options {
                dir: options.dir,
                cache_bytes: options.cache_bytes,
                reads_inflight_max: options.reads_inflight_max,
                open_files_max: options.open_files_max,
            },
        );
        Self {
            store,
            chunks: ChunkPool::new(options.memtable_bytes / 4),
            layout: options.layout,
        }
    }

    /// Brings a block or a value into memory, where it stays at least as long as the pin is kept.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    ///
    /// # Panics
    /// When an entry is wanted: that is not fetched but waited for.
    pub async fn fetch(&self, want: Want) -> Result<Pin, Unreadable> {
        let block = match want {
            Want::Block(miss) => self.store.fetch(miss, Origin::Point).await?,
            Want::Walked(miss) => self.store.fetch(miss, Origin::Scan).await?,
            Want::Value { partition, value } => self.store.fetch_value(partition, value).await?,
            Want::Applied(index) => unreachable!("entry {index} is not fetched"),
        };
        Ok(Pin(block))
    }

    /// Grants slices of the shard's time to flushes and merges; says whether any waited for one.
    pub fn grant_slices(&self, slices: usize) -> bool {
        self.store.grant_slices(slices) > 0
    }

    /// Returns how many files of tables were given up so far because the disk had no room.
    #[must_use]
    pub fn refused_writes(&self) -> u64 {
        self.store.counters().refused
    }

    /// Returns what went from disk and to it so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let counted = self.store.counters();
        Traffic {
            reads: counted.reads.iter().sum(),
            read_bytes: counted.read_bytes.iter().sum(),
            written_bytes: counted.write_bytes,
        }
    }
}

/// What went from disk and to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Reads.
    pub reads: u64,
    /// Bytes of those.
    pub read_bytes: u64,
    /// Bytes written by flushes and merges.
    pub written_bytes: u64,
}
