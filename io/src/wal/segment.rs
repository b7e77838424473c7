//! Segments: the files of the log, and the pool of those that are ready to be written.
//!
//! A segment is made in the background: reserved, filled with zeros, synced, renamed into place,
//! and its directory synced. So writing a batch never changes metadata of the file system, which is
//! what makes a durable write one IO.
//!
//! Making one takes a worker thread of the kernel, one at a time, for its five calls that may block
//! (open, reserve, two syncs, rename), and for nothing else: zeros written past the page cache into
//! reserved space take none on ext4 (Linux 6.18, writes of 4 KiB to 1 MiB: 0 of 16,384 and 0 of 64),
//! while each write into a file that was only made long (`ftruncate`), or that the page cache still
//! holds, takes one. So space is reserved first, and a segment is never touched through the cache.
//! The worker ends after some idle seconds; appending never needs it.
//!
//! Invariants:
//! 1. A file with a segment's name has its full size and is zeroed or was once written: it is never
//!    extended.
//! 2. A pooled segment holds nothing that the log needs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::{GrowthFailure, again};
use crate::buffer::Buf;
use crate::file::{self, Durable, File};
use crate::op::OpenOptions;
use crate::reactor::Reactor;

/// End of the name of a segment; what is being made has [`UNFINISHED`] after it.
pub const SUFFIX: &str = ".wal";
/// End of the name of a file that is not a segment yet. Removed at start.
pub const UNFINISHED: &str = ".new";
/// End of the name of a segment that was set aside, for it is damaged. It is not read any more.
pub const LOST: &str = ".lost";
/// Size of one write of zeros, in bytes.
const ZERO_BYTES: usize = 1 << 20;
/// Pause after a failure before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// How segments are opened for the log.
pub(super) const OPEN: OpenOptions = OpenOptions {
    write: true,
    create: false,
    create_new: false,
    direct: true,
};

/// Segments ready to be written, and the task that makes them.
#[derive(Debug)]
pub(super) struct Pool {
    reactor: Reactor,
    dir: PathBuf,
    segment_bytes: u64,
    ready: RefCell<VecDeque<File>>,
    wanted: Cell<usize>,
    /// Kept ready in any case.
    base: Cell<usize>,
    next_name: Cell<u64>,
    /// Why the last try to make a segment failed; cleared by the next success.
    /// What kept the last segment from being made, and its path.
    failure: RefCell<Option<(io::Error, PathBuf)>>,
    working: Cell<bool>,
    stopped: Cell<bool>,
}

impl Pool {
    pub(super) fn new(
        reactor: &Reactor,
        dir: &Path,
        segment_bytes: u64,
        wanted: usize,
        next_name: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            reactor: reactor.clone(),
            dir: dir.to_owned(),
            segment_bytes,
            ready: RefCell::default(),
            wanted: Cell::new(wanted),
            base: Cell::new(wanted),
            next_name: Cell::new(next_name),
            failure: RefCell::default(),
            working: Cell::new(false),
            stopped: Cell::new(false),
        })
    }

    /// Takes a segment to write to.
    pub(super) fn take(self: &Rc<Self>) -> Option<File> {
        let taken = self.ready.borrow_mut().pop_front();
        self.refill();
        taken
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Returns what keeps new segments from being made, if anything does.
    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        self.failure
            .borrow()
            .as_ref()
            .map(|(error, _)| error.kind())
    }

    /// Returns the same with the segment that could not be made.
    pub(super) fn growth_failure(&self) -> Option<GrowthFailure> {
        let failure = self.failure.borrow();
        failure.as_ref().map(|(error, path)| GrowthFailure {
            path: path.clone(),
            error: again(error),
        })
    }

    /// Puts a segment back that the log no longer needs; one too many is removed.
    pub(super) fn put(&self, segment: File) {
        if self.ready() < self.base.get().max(self.wanted.get()) * 2 {
            self.ready.borrow_mut().push_back(segment);
            *self.failure.borrow_mut() = None;
            return;
        }
        let reactor = self.reactor.clone();
        self.reactor.spawn(async move {
            let path = segment.path().to_owned();
            drop(segment);
            if let Err(error) = file::unlink(&reactor, &path).await {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        });
    }

    /// Has at least `segments` made ready, once.
    pub(super) fn want(self: &Rc<Self>, segments: usize) {
        if segments > self.wanted.get() {
            self.wanted.set(segments);
        }
        self.refill();
    }

    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    /// Keeps none ready any more: what is wanted from now on is made, and nothing else.
    pub(super) fn wind_down(&self) {
        self.base.set(0);
        self.wanted.set(0);
    }

    /// Starts making segments until there are as many as wanted. One task at a time does so.
    pub(super) fn refill(self: &Rc<Self>) {
        if self.ready() >= self.wanted.get() || self.working.replace(true) {
            return;
        }
        let pool = Rc::clone(self);
        self.reactor.spawn(async move {
            while pool.ready() < pool.wanted.get() && !pool.stopped.get() {
                pool.make_one().await;
            }
            pool.wanted.set(pool.base.get());
            pool.working.set(false);
        });
    }

    async fn make_one(&self) {
        let name = self.next_name.get();
        self.next_name.set(name + 1);
        match make(&self.reactor, &self.dir, name, self.segment_bytes).await {
            Ok(segment) => {
                self.ready.borrow_mut().push_back(segment);
                *self.failure.borrow_mut() = None;
            }
            Err(error) => {
                if self.failure().is_none() {
                    tracing::warn!(
                        "cannot make a log segment in {}: {error}",
                        self.dir.display()
                    );
                }
                *self.failure.borrow_mut() = Some((error, path(&self.dir, name)));
                self.reactor.sleep(RETRY).await;
            }
        }
    }
}

/// Returns the path of segment file `name`.
pub(super) fn path(dir: &Path, name: u64) -> PathBuf {
    dir.join(format!("{name:08}{SUFFIX}"))
}

/// Makes one zeroed segment and opens it.
pub(super) async fn make(reactor: &Reactor, dir: &Path, name: u64, bytes: u64) -> io::Result<File> {
    let target = path(dir, name);
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", target.display()));
    let made = make_at(reactor, dir, (&unfinished, &target), bytes).await;
    if made.is_err() {
        // What was reserved must not stay: another segment may fit once space returns.
        let _ = file::unlink(reactor, &unfinished).await;
        let _ = file::unlink(reactor, &target).await;
    }
    made
}

async fn make_at(
    reactor: &Reactor,
    dir: &Path,
    (unfinished, target): (&Path, &Path),
    bytes: u64,
) -> io::Result<File> {
    fill(reactor, unfinished, bytes).await?;
    file::rename(reactor, unfinished, target).await?;
    file::sync_dir(reactor, dir).await?;
    File::open(reactor, target, OPEN).await
}

/// Makes a zeroed file that is no segment: a start removes it when it was left behind.
pub(super) async fn make_scratch(reactor: &Reactor, dir: &Path, bytes: u64) -> io::Result<File> {
    let path = dir.join(format!("scratch{UNFINISHED}"));
    fill(reactor, &path, bytes).await?;
    File::open(reactor, &path, OPEN).await
}

async fn fill(reactor: &Reactor, path: &Path, bytes: u64) -> io::Result<()> {
    let options = OpenOptions {
        create: true,
        ..OPEN
    };
    let segment = File::open(reactor, path, options).await?;
    segment.preallocate(bytes).await?;
    let largest = bytes.min(ZERO_BYTES as u64);
    let mut zeros = Buf::heap(usize::try_from(largest).expect("at most ZERO_BYTES"));
    let mut offset = 0;
    while offset < bytes {
        let step = (bytes - offset).min(ZERO_BYTES as u64);
        zeros.set_len(usize::try_from(step).expect("at most ZERO_BYTES"));
        let (result, back) = segment.write_at(zeros, offset, Durable::No).await;
        result?;
        zeros = back;
        offset += step;
    }
    segment.sync().await
}
