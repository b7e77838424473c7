//! Files as offline tools move them: read past the page cache where a node may have them open, hashed on the way,
//! durable at the end. Not what the files mean.
//!
//! A running node writes its log past the page cache, and slower while the cache holds a segment; so what belongs to a
//! node is read directly, and what belongs to a backup as usual.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ashlar_io::{Buf, Durable, File, OpenOptions, Reactor, Settings, file};
use ashlar_node::format::{self, Format};
use ashlar_partition::lsm::offline::FileHash;

/// Bytes of one read or write.
const PIECE_BYTES: usize = 1 << 20;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(500);

/// Where a file is, and how it is opened.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Past the page cache, as a node opens it.
    pub(crate) direct: bool,
}

impl Place {
    /// A file of a node's data directory.
    pub(crate) fn of_node(path: PathBuf) -> Self {
        Self { path, direct: true }
    }

    /// A file of a backup.
    pub(crate) fn of_backup(path: PathBuf) -> Self {
        Self {
            path,
            direct: false,
        }
    }
}

/// How much of a file was moved, and what it hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Bytes, those that were filled in aside.
    pub(crate) bytes: u64,
    /// XXH3-128 of them.
    pub(crate) hash: u128,
}

/// Why a file could not be moved.
#[derive(Debug)]
pub(crate) enum MoveError {
    /// There is none to be read.
    Missing,
    /// One line that names the file.
    Other(String),
}

impl MoveError {
    /// Returns the line; `path` is the file that is missing.
    pub(crate) fn line(self, path: &Path) -> String {
        match self {
            Self::Missing => format!("{} is missing", path.display()),
            Self::Other(line) => line,
        }
    }
}

/// A file that is open for reading.
#[derive(Clone, Debug)]
pub(crate) struct Pinned(Rc<File>);

/// Reads and writes for a tool, one operation at a time.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    reactor: Reactor,
    /// Most bytes read in a second; 0 for as many as there are.
    rate_bytes: u64,
    /// Until when what was done takes at that rate.
    paced_to: Cell<Instant>,
    progress: Rc<RefCell<Progress>>,
}

/// What was done so far, said now and then to a person who waits.
#[derive(Debug)]
struct Progress {
    what: &'static str,
    bytes: u64,
    /// 0 while it is not known.
    of_bytes: u64,
    said: Instant,
    told: bool,
}

impl Disk {
    /// Makes one; `what` it is for is said with the progress.
    pub(crate) fn new(what: &'static str, rate_bytes: u64) -> Result<Self, String> {
        let settings = Settings {
            chunk_count: 16,
            registered_blocks: 0,
            ..Settings::default()
        };
        let reactor = Reactor::new(&settings).map_err(|error| error.to_string())?;
        Ok(Self {
            reactor,
            rate_bytes,
            paced_to: Cell::new(Instant::now()),
            progress: Rc::new(RefCell::new(Progress {
                what,
                bytes: 0,
                of_bytes: 0,
                said: Instant::now(),
                told: false,
            })),
        })
    }

    /// Says how much there is to do in all.
    pub(crate) fn expect_bytes(&self, bytes: u64) {
        self.progress.borrow_mut().of_bytes += bytes;
    }

    /// Counts what was done, and waits when it was too much for the rate.
    pub(crate) fn did(&self, bytes: u64) {
        let mut progress = self.progress.borrow_mut();
        progress.bytes += bytes;
        progress.tell();
        drop(progress);
        let takes_us = bytes.saturating_mul(1_000_000).checked_div(self.rate_bytes);
        if let Some(takes_us) = takes_us {
            let now = Instant::now();
            let until = self.paced_to.get().max(now) + Duration::from_micros(takes_us);
            self.paced_to.set(until);
            std::thread::sleep(until - now);
        }
    }

    /// Returns the same without a limit to its rate.
    pub(crate) fn at_full_rate(&self) -> Self {
        Self {
            rate_bytes: 0,
            ..self.clone()
        }
    }

    /// Ends the line of progress, if there is one.
    pub(crate) fn done(&self) {
        if self.progress.borrow().told {
            eprintln!();
        }
    }

    /// Returns what a data directory was made as.
    pub(crate) fn format(&self, data: &Path) -> Result<Format, String> {
        let (reactor, dir) = (self.reactor.clone(), data.to_owned());
        let read = async move { format::read(&reactor, &dir).await };
        match self.reactor.block_on(read) {
            Ok(Some(format)) => Ok(format),
            Ok(None) => Err(format!(
                "{} is no data directory: it has no file ASHLAR; give the one that `ashlar start --data` was given",
                data.display()
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads a file as a whole.
    pub(crate) fn read(&self, from: Place) -> Result<Vec<u8>, MoveError> {
        let mut bytes = Vec::new();
        self.pieces(&self.pin(from)?, |piece| {
            bytes.extend_from_slice(piece);
            true
        })?;
        Ok(bytes)
    }

    /// Reads the first `bytes` of a file, fewer when it ends before.
    pub(crate) fn read_front(
        &self,
        Pinned(file): &Pinned,
        bytes: usize,
    ) -> Result<Vec<u8>, MoveError> {
        let buf = Buf::heap(bytes);
        let read = |file: Rc<File>| async move { file.read_at(buf, 0).await };
        let (read, buf) = self.run(file, read);
        let count = read.map_err(refused("read", file.path()))?;
        Ok(buf.as_slice()[..count].to_vec())
    }

    /// Returns what a file hashes to.
    pub(crate) fn hash(&self, from: Place) -> Result<Moved, MoveError> {
        let (mut hash, mut bytes) = (FileHash::default(), 0);
        self.pieces(&self.pin(from)?, |piece| {
            hash.update(piece);
            bytes += piece.len() as u64;
            self.did(piece.len() as u64);
            true
        })?;
        let hash = hash.finish();
        Ok(Moved { bytes, hash })
    }

    /// Opens a file for reading: what it holds is there as long as this is, also when its name is gone.
    pub(crate) fn pin(&self, from: Place) -> Result<Pinned, MoveError> {
        match self.open(&from, Access::Read) {
            Ok(file) => Ok(Pinned(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MoveError::Missing),
            Err(error) => Err(refused("read", &from.path)(error)),
        }
    }

    /// Copies a file, and fills the copy with zeros up to `fill_to` bytes. The copy is durable on return, its name
    /// after [`Disk::sync_dir`].
    pub(crate) fn copy(&self, from: Place, to: Place, fill_to: u64) -> Result<Moved, MoveError> {
        self.copy_pinned(&self.pin(from)?, to, fill_to)
    }

    /// As [`Disk::copy`], of a file that was opened before.
    pub(crate) fn copy_pinned(
        &self,
        from: &Pinned,
        to: Place,
        fill_to: u64,
    ) -> Result<Moved, MoveError> {
        // What is left of an earlier copy may be longer.
        match std::fs::remove_file(&to.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused("replace", &to.path)(error));
            }
            _ => {}
        }
        let target = self.open(&to, Access::Write);
        let target = target.map_err(refused("make", &to.path))?;
        if to.direct && fill_to > 0 {
            // In one piece, as the node makes its segments.
            let failed = refused("make room for", &to.path);
            self.run(
                &target,
                |file| async move { file.preallocate(fill_to).await },
            )
            .map_err(failed)?;
        }
        let (mut hash, mut bytes, mut failure) = (FileHash::default(), 0, None);
        self.pieces(from, |piece| {
            hash.update(piece);
            failure = self.write(&target, piece, bytes).err();
            bytes += piece.len() as u64;
            self.did(piece.len() as u64);
            failure.is_none()
        })?;
        let hash = hash.finish();
        let moved = Moved { bytes, hash };
        let zeros = vec![0; PIECE_BYTES];
        while failure.is_none() && bytes < fill_to {
            let step = (fill_to - bytes).min(PIECE_BYTES as u64);
            let step = usize::try_from(step).expect("at most a piece");
            failure = self.write(&target, &zeros[..step], bytes).err();
            bytes += step as u64;
        }
        let synced = match failure {
            Some(error) => Err(error),
            None => self.run(&target, |file| async move { file.sync().await }),
        };
        synced.map_err(refused("write", &to.path))?;
        Ok(moved)
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), String> {
        let (reactor, path) = (self.reactor.clone(), dir.to_owned());
        let synced = self
            .reactor
            .block_on(async move { file::sync_dir(&reactor, &path).await });
        synced.map_err(|error| format!("cannot sync {}: {error}", dir.display()))
    }

    fn open(&self, place: &Place, access: Access) -> io::Result<Rc<File>> {
        let (reactor, place) = (self.reactor.clone(), place.clone());
        let write = access == Access::Write;
        let options = OpenOptions {
            write,
            create: write,
            direct: place.direct,
            ..OpenOptions::default()
        };
        let open = async move { File::open(&reactor, &place.path, options).await };
        self.reactor.block_on(open).map(Rc::new)
    }

    fn run<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        file: &Rc<File>,
        operation: impl FnOnce(Rc<File>) -> F,
    ) -> T {
        self.reactor.block_on(operation(Rc::clone(file)))
    }

    /// Hands a file on piece by piece, until `take` has enough.
    fn pieces(
        &self,
        Pinned(file): &Pinned,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), MoveError> {
        let (mut offset, mut buf) = (0, Buf::heap(PIECE_BYTES));
        loop {
            let (read, back) =
                self.run(
                    file,
                    move |file| async move { file.read_at(buf, offset).await },
                );
            let count = read.map_err(refused("read", file.path()))?;
            buf = back;
            offset += count as u64;
            if count > 0 && !take(&buf.as_slice()[..count]) || count < PIECE_BYTES {
                return Ok(());
            }
        }
    }

    fn write(&self, file: &Rc<File>, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut buf = Buf::heap(bytes.len());
        buf.as_mut_slice().copy_from_slice(bytes);
        let write = |file: Rc<File>| async move {
            file.write_at(buf, offset, Durable::No).await.0.map(drop)
        };
        self.run(file, write)
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Progress {
    fn tell(&mut self) {
        if self.said.elapsed() < PROGRESS || !io::stderr().is_terminal() {
            return;
        }
        (self.said, self.told) = (Instant::now(), true);
        let (what, done) = (self.what, self.bytes >> 20);
        match self.of_bytes >> 20 {
            0 => eprint!("\r{what}: {done} MiB"),
            all => eprint!("\r{what}: {done} of {all} MiB"),
        }
    }
}

fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MoveError {
    let path = path.to_owned();
    move |error| MoveError::Other(format!("cannot {what} {}: {error}", path.display()))
}
