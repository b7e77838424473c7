//! The files of a shard's tables and values, and the blocks of them that are in memory. Not the
//! knowledge of which files count: that is the version's.
//!
//! A question is answered from memory or with a [`Miss`](super::Miss). Whoever may wait calls [`Store::fetch`],
//! which reads, checks, decodes and caches the block, and asks again. Compaction reads through a
//! [`Window`], and nothing of it stays in the cache. New files are written by a [`FileWriter`].
//!
//! ```text
//! fetch     the asker's future -> flight of that block -> gate -> file -> frame -> cache
//! Window    lane -> piece of up to 256 KiB, the next one on its way -> gate -> file
//! ```
//!
//! Invariants:
//! 1. No borrow of a part of the store is held while something is awaited.
//! 2. A block is read once for all who want it at the same time. Reads are tasks of their own: an
//!    asker that goes away stops nobody's read, and leaks nothing.
//! 3. What is returned was checked against the checksum in its reference.

mod error;
mod fetch;
mod gate;
mod names;
mod open;
mod pace;
mod promise;
mod remove;
mod stage;
#[cfg(test)]
mod tests;
mod window;
mod windows;
mod writer;

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use ashlar_io::Reactor;

pub(crate) use error::{Fault, ReadError, WriteError};
use gate::Gate;
pub(crate) use gate::Urgency;
pub(crate) use names::{FileKind, FileName};
use open::OpenFiles;
use pace::Pace;
use remove::Removals;
pub(crate) use stage::CHUNK_BYTES;
use stage::{Stage, Staged};
pub(crate) use window::Window;
pub(crate) use windows::Windows;
pub(crate) use writer::FileWriter;

use super::Malformed;
use super::cache::{Block, Cache, Key};
use super::frames::Frames;

/// How a store is set up.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Directory of the store; it exists.
    pub(crate) dir: PathBuf,
    /// Memory for blocks, in bytes.
    pub(crate) cache_bytes: u64,
    /// Most reads in flight; the others wait in line.
    pub(crate) reads_inflight_max: u32,
    /// Files kept open for reading; more are only while they are being read.
    pub(crate) open_files_max: usize,
}

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A question about one key.
    Point,
    /// A client's walk over many keys.
    Scan,
    /// A separated value.
    Value,
    /// The end of a table that is being opened.
    Open,
    /// A merge of tables.
    Merge,
    /// A search for damage.
    Scrub,
}

/// How many purposes there are.
pub(crate) const PURPOSES: usize = 6;

impl Purpose {
    fn urgency(self) -> Urgency {
        match self {
            Self::Point | Self::Scan | Self::Value | Self::Open => Urgency::Foreground,
            Self::Merge | Self::Scrub => Urgency::Background,
        }
    }
}

/// What a store has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Reads, by [`Purpose`].
    pub(crate) reads: [u64; PURPOSES],
    /// Bytes read, by [`Purpose`].
    pub(crate) read_bytes: [u64; PURPOSES],
    /// Fetches that found the same block on its way.
    pub(crate) shared: u64,
    /// Reads that failed, and blocks that were not what they should be.
    pub(crate) read_errors: u64,
    /// Writes.
    pub(crate) writes: u64,
    /// Bytes written.
    pub(crate) write_bytes: u64,
    /// Files that were given up because the disk had no room.
    pub(crate) refused: u64,
    /// Files removed.
    pub(crate) removals: u64,
    /// Files that could not be removed; they are found as orphans at the next start.
    pub(crate) removal_errors: u64,
}

type Flight = promise::Promise<Result<Rc<Block>, ReadError>>;

/// The files and cached blocks of a shard, shared by its partitions.
#[derive(Debug)]
pub(crate) struct Store {
    reactor: Reactor,
    options: Options,
    cache: RefCell<Cache>,
    frames: Rc<Frames>,
    /// Blocks and values on their way.
    flights: RefCell<BTreeMap<Key, Rc<Flight>>>,
    /// Values too large for the cache, as long as somebody holds them.
    large: RefCell<BTreeMap<Key, Weak<Block>>>,
    files: RefCell<OpenFiles>,
    /// Partitions whose directory is known to be durable.
    dirs: RefCell<BTreeSet<u32>>,
    gate: Rc<Gate>,
    stage: Rc<Stage>,
    removals: RefCell<Removals>,
    pace: Pace,
    counters: Cell<Counters>,
}

impl Store {
    /// Returns a store over the files of a directory.
    pub(crate) fn new(reactor: &Reactor, options: Options) -> Rc<Self> {
        let cache = Cache::new(options.cache_bytes);
        Rc::new(Self {
            reactor: reactor.clone(),
            frames: Rc::clone(cache.frames()),
            cache: RefCell::new(cache),
            flights: RefCell::default(),
            large: RefCell::default(),
            files: RefCell::default(),
            dirs: RefCell::default(),
            gate: Gate::new(options.reads_inflight_max),
            stage: Rc::default(),
            removals: RefCell::default(),
            pace: Pace::default(),
            counters: Cell::default(),
            options,
        })
    }

    /// Returns how the store was set up.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the machine of the shard.
    pub(crate) fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// Returns the blocks in memory, to be borrowed within one call only.
    pub(crate) fn cache(&self) -> Ref<'_, Cache> {
        self.cache.borrow()
    }

    /// Returns what was counted.
    pub(crate) fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// Returns how many blocks and values are on their way.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.borrow().len()
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Reads `bytes` bytes at `offset`, all of them or none; both are multiples of 4 KiB.
    async fn read(
        &self,
        name: FileName,
        offset: u64,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Staged, ReadError> {
        let staged = self.read_some(name, offset, bytes, purpose).await?;
        if staged.len() == bytes {
            return Ok(staged);
        }
        let end = offset + staged.len() as u64;
        let what = format!("the file ends at {end}, and {bytes} bytes were expected here");
        Err(self.damage(name, offset, Malformed(what)))
    }

    /// Reads `bytes` bytes at `offset` in search of damage, whatever they are, and shows them.
    ///
    /// # Errors
    /// The file cannot be read, is not there, or ends before.
    pub(crate) async fn read_raw(
        &self,
        name: FileName,
        offset: u64,
        bytes: usize,
        show: impl FnOnce(&[u8]),
    ) -> Result<(), ReadError> {
        match self.read(name, offset, bytes, Purpose::Scrub).await {
            Ok(staged) => show(&staged),
            Err(error) if error.is_missing() => {
                let what = "the file is not there".to_owned();
                return Err(self.damage(name, offset, Malformed(what)));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// As [`Store::read`], but brings what there is, up to the end of the file.
    async fn read_some(
        &self,
        name: FileName,
        offset: u64,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Staged, ReadError> {
        let _permit = self.gate.enter(purpose.urgency()).await;
        let opened = self.open(name).await;
        let file = opened.map_err(|error| self.io_error(name, offset, error))?;
        let mut staged = self.stage.take(bytes);
        let (read, mut buf) = file.read_at(staged.lend(), offset).await;
        buf.set_len(*read.as_ref().unwrap_or(&0));
        staged.restore(buf);
        self.count(|counters| {
            counters.reads[purpose as usize] += 1;
            counters.read_bytes[purpose as usize] += staged.len() as u64;
        });
        read.map_err(|error| self.io_error(name, offset, error))?;
        Ok(staged)
    }

    fn io_error(&self, name: FileName, offset: u64, error: io::Error) -> ReadError {
        self.read_error(name, offset, Fault::Io(Rc::new(error)))
    }

    fn damage(&self, name: FileName, offset: u64, malformed: Malformed) -> ReadError {
        self.read_error(name, offset, Fault::Damaged(malformed))
    }

    fn read_error(&self, name: FileName, offset: u64, what: Fault) -> ReadError {
        self.count(|counters| counters.read_errors += 1);
        let path = name.path(&self.options.dir);
        ReadError { path, offset, what }
    }
}
