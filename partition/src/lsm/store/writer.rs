//! A new file of tables or values: chunk by chunk, a few writes in flight, durable when finished, and
//! gone when not.
//!
//! The space of a chunk is reserved before it is written. A write that makes a file longer takes a
//! worker thread of the kernel and shuts others out of the file; one into reserved space does neither.
//! To reserve takes such a thread, too, and waits for the writes before: so a task of its own does that
//! for each chunk, and whoever fills the file goes on with the next one.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use ashlar_io::{Durable, File, OpenOptions, file};

use super::gate::{Gate, Permit, Urgency};
use super::names::partition_dir;
use super::stage::{CHUNK_BYTES, Staged};
use super::{FileKind, FileName, Store, WriteError};
use crate::lsm::{FileId, SECTOR_BYTES};
use crate::planted::{Planted, is_planted};

/// Buffers that are reserved and written together.
const PIECE_PARTS: usize = 4;
/// Most of such pieces of a file that wait to be written, or are being written.
const PIECES_MAX: u32 = 2;

/// A file that is being written. Unless it is finished, dropping it removes the file.
#[derive(Debug)]
pub(crate) struct FileWriter {
    store: Rc<Store>,
    name: FileName,
    /// Open from the first write on.
    file: Option<Rc<File>>,
    /// The end of what was taken, which is not yet to be written.
    gathered: Vec<Staged>,
    /// Bytes that were taken.
    bytes: u64,
    gate: Rc<Gate>,
    /// The first error of a write.
    failed: Rc<RefCell<Option<WriteError>>>,
    fate: Fate,
}

/// What becomes of the file when its writer is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing: it was not made.
    Unmade,
    /// It is removed.
    Unfinished,
    /// It stays, or is being removed already.
    Decided,
}

impl Store {
    /// Returns the writer of a file, which is made by the first write.
    pub(crate) fn create(self: &Rc<Self>, kind: FileKind, file: FileId) -> FileWriter {
        FileWriter {
            store: Rc::clone(self),
            name: FileName { file, kind },
            file: None,
            gathered: Vec::new(),
            bytes: 0,
            gate: Gate::new(PIECES_MAX),
            failed: Rc::default(),
            fate: Fate::Unmade,
        }
    }

    /// Makes the directory of a partition, durably.
    async fn make_dir(&self, partition: u32) -> Result<(), WriteError> {
        if self.dirs.borrow().contains(&partition) {
            return Ok(());
        }
        let dir = partition_dir(&self.options.dir, partition);
        let made = file::create_dir(&self.reactor, &dir).await;
        made.map_err(|error| WriteError::new(dir, error))?;
        let parent = &self.options.dir;
        let synced = file::sync_dir(&self.reactor, parent).await;
        synced.map_err(|error| WriteError::new(parent, error))?;
        self.dirs.borrow_mut().insert(partition);
        Ok(())
    }
}

impl FileWriter {
    /// Takes what the file goes on with, at `offset`, both multiples of 4 KiB; waits while too much waits to
    /// be written. The bytes are copied.
    ///
    /// # Errors
    /// The file cannot be made, or an earlier write failed. It is removed, and the writer is of no
    /// more use.
    pub(crate) async fn write(&mut self, offset: u64, chunk: &[u8]) -> Result<(), WriteError> {
        let is_aligned = |bytes: u64| bytes.is_multiple_of(SECTOR_BYTES);
        assert!(
            is_aligned(offset) && is_aligned(chunk.len() as u64),
            "sectors are written"
        );
        assert_eq!(
            offset, self.bytes,
            "a file is written from its beginning on"
        );
        for part in chunk.chunks(CHUNK_BYTES) {
            let mut staged = self.store.stage.take(part.len());
            staged.copy_from_slice(part);
            self.bytes += part.len() as u64;
            self.gathered.push(staged);
            if self.gathered.len() == PIECE_PARTS {
                self.write_gathered().await?;
            }
        }
        Ok(())
    }

    /// Begins to write what was gathered.
    async fn write_gathered(&mut self) -> Result<(), WriteError> {
        let file = self.file().await?;
        let permit = self.gate.enter(Urgency::Background).await;
        self.check()?;
        let parts = std::mem::take(&mut self.gathered);
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let piece = Piece {
            store: Rc::clone(&self.store),
            file,
            offset: self.bytes - bytes,
            parts,
            failed: Rc::clone(&self.failed),
            permit: Rc::new(permit),
        };
        self.store.reactor.spawn(piece.write(self.bytes));
        Ok(())
    }

    /// Returns the file; the first call makes it.
    async fn file(&mut self) -> Result<Rc<File>, WriteError> {
        if let Some(file) = &self.file {
            return Ok(Rc::clone(file));
        }
        self.store.start_removals();
        self.store.make_dir(self.name.file.partition).await?;
        let options = OpenOptions {
            write: true,
            create: true,
            create_new: true,
            direct: true,
        };
        // Set before the wait: it may be dropped while the file is being made.
        self.fate = Fate::Unfinished;
        let path = self.path();
        let opened = File::open(&self.store.reactor, &path, options).await;
        let opened = opened.map_err(|error| {
            self.fate = Fate::Unmade;
            let error = WriteError::new(path, error);
            self.count_refusal(&error);
            error
        })?;
        let file = Rc::new(opened);
        self.file = Some(Rc::clone(&file));
        Ok(file)
    }

    fn path(&self) -> PathBuf {
        self.name.path(&self.store.options.dir)
    }

    /// Waits for the writes, and makes the file and its name durable.
    ///
    /// # Errors
    /// A write or a sync failed; the file is removed.
    pub(crate) async fn finish(mut self) -> Result<(), WriteError> {
        if !self.gathered.is_empty() {
            self.write_gathered().await?;
        }
        let file = self.file().await?;
        let gate = Rc::clone(&self.gate);
        let mut permits = Vec::new();
        for _ in 0..PIECES_MAX {
            permits.push(gate.enter(Urgency::Background).await);
        }
        self.check()?;
        if is_planted(Planted::SkipsTableSync) {
            self.fate = Fate::Decided;
            return Ok(());
        }
        let synced = file.sync().await;
        synced.map_err(|error| self.abort(error))?;
        let dir = partition_dir(&self.store.options.dir, self.name.file.partition);
        let synced = file::sync_dir(&self.store.reactor, &dir).await;
        synced.map_err(|error| self.abort(error))?;
        self.fate = Fate::Decided;
        Ok(())
    }

    fn check(&mut self) -> Result<(), WriteError> {
        let failed = self.failed.borrow().clone();
        let Some(error) = failed else { return Ok(()) };
        self.count_refusal(&error);
        self.discard();
        self.store.start_removals();
        Err(error)
    }

    /// Gives the file up, and names what went wrong with it.
    fn abort(&mut self, error: io::Error) -> WriteError {
        let error = WriteError::new(self.path(), error);
        self.count_refusal(&error);
        self.discard();
        self.store.start_removals();
        error
    }

    fn count_refusal(&self, error: &WriteError) {
        if error.is_full() {
            self.store.count(|counters| counters.refused += 1);
        }
    }

    /// Has the file removed. Writes in flight may go on: it has no name any more.
    fn discard(&mut self) {
        if self.fate == Fate::Unfinished {
            self.store.remove_later(self.name);
            self.fate = Fate::Decided;
        }
    }
}

/// A piece of a file that is to be written.
struct Piece {
    store: Rc<Store>,
    file: Rc<File>,
    offset: u64,
    parts: Vec<Staged>,
    failed: Rc<RefCell<Option<WriteError>>>,
    /// Given back when all parts are written.
    permit: Rc<Permit>,
}

impl Piece {
    /// Reserves the file's space up to the end of the piece, all of which is going to be written, and writes
    /// its parts at once.
    async fn write(self, end: u64) {
        if self.parts.len() > 1 {
            let reserved = self.file.preallocate(end).await;
            if let Err(error) = reserved {
                return note_failure(&self.failed, &self.file, error);
            }
        }
        let mut offset = self.offset;
        for part in self.parts {
            let (store, file) = (Rc::clone(&self.store), Rc::clone(&self.file));
            let (failed, permit) = (Rc::clone(&self.failed), Rc::clone(&self.permit));
            let (at, bytes) = (offset, part.len() as u64);
            self.store.reactor.spawn(async move {
                write_part(&store, &file, (at, part), &failed).await;
                drop(permit);
            });
            offset += bytes;
        }
    }
}

async fn write_part(
    store: &Store,
    file: &File,
    (offset, mut part): (u64, Staged),
    failed: &RefCell<Option<WriteError>>,
) {
    let (written, buf) = file.write_at(part.lend(), offset, Durable::No).await;
    part.restore(buf);
    store.count(|counters| {
        counters.writes += 1;
        counters.write_bytes += *written.as_ref().unwrap_or(&0) as u64;
    });
    if let Err(error) = written {
        note_failure(failed, file, error);
    }
}

/// Keeps the first error of a file.
fn note_failure(failed: &RefCell<Option<WriteError>>, file: &File, error: io::Error) {
    let error = WriteError::new(file.path(), error);
    failed.borrow_mut().get_or_insert(error);
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // No task may be started here: the shard may be ending. The next file or removal does it.
        self.discard();
    }
}
