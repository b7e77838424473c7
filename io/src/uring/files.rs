//! The open files of a ring: the number under which the kernel's table has each, and how many ops
//! are in flight on it. An op on a numbered file saves the kernel the look-up of its descriptor and
//! the counting of its users.
//!
//! Invariants:
//! 1. A file is closed, and its number given away, only when nothing is in flight on it and nothing
//!    that was begun on it goes on: no op ever finds another file under its number.
//! 2. Number 0 is the lock file's.

use std::os::fd::RawFd;

use io_uring::Submitter;

use crate::op::{Handle, OpId, OpenOptions};

/// The number of the lock file.
const LOCK: u32 = 0;

/// How an op names its file to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// By its number in the table.
    Numbered(u32),
    /// By its descriptor.
    Descriptor(RawFd),
}

#[derive(Debug)]
struct OpenFile {
    number: Option<u32>,
    in_flight: u32,
    direct: bool,
    /// It was closed by this op, which waits for what is in flight.
    closed_by: Option<OpId>,
}

/// The files that are open on a ring, and the kernel's table of them.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// By descriptor. What is not here is no file: a socket, a listener.
    open: Vec<Option<OpenFile>>,
    /// Numbers that no file has.
    free: Vec<u32>,
    /// The kernel has a table.
    registered: bool,
    /// Closed by their owners, open until nothing is in flight.
    closing: Vec<RawFd>,
}

impl Files {
    /// Has the kernel make a table for `count` files beside the lock; without one all works, slower.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16) -> Self {
        let mut files = Self::default();
        if count == 0 {
            return files;
        }
        match submitter.register_files_sparse(u32::from(count) + 1) {
            Ok(()) => {
                files.registered = true;
                files.free = (LOCK + 1..=u32::from(count)).rev().collect();
            }
            Err(error) => tracing::warn!(
                "cannot register {count} files with the kernel ({error}); going on without. \
                 Raise the limit of open files (ulimit -n, systemd LimitNOFILE=) to get them"
            ),
        }
        files
    }

    /// Has the ring keep the lock file open until its last op has ended.
    pub(super) fn keep_lock(&self, submitter: &Submitter<'_>, fd: RawFd) -> std::io::Result<()> {
        if self.registered {
            submitter.register_files_update(LOCK, &[fd]).map(drop)
        } else {
            submitter.register_files(&[fd])
        }
    }

    /// Takes a file in that was opened, and numbers it if a number is free.
    pub(super) fn opened(&mut self, submitter: &Submitter<'_>, fd: RawFd, options: OpenOptions) {
        let number = self.free.pop().filter(|number| {
            let told = submitter.register_files_update(*number, &[fd]);
            told.inspect_err(|error| tracing::warn!("cannot register a file: {error}"))
                .is_ok()
        });
        let index = index(fd);
        if self.open.len() <= index {
            self.open.resize_with(index + 1, || None);
        }
        self.open[index] = Some(OpenFile {
            number,
            in_flight: 0,
            direct: options.direct,
            closed_by: None,
        });
    }

    fn file(&mut self, handle: Handle) -> &mut OpenFile {
        let file = self.open.get_mut(index(handle.0)).and_then(Option::as_mut);
        file.expect("an op on a file is begun while it is open")
    }

    /// Counts an op that begins; returns how it names its file.
    pub(super) fn begin(&mut self, handle: Handle) -> Target {
        let file = self.file(handle);
        file.in_flight += 1;
        match file.number {
            Some(number) => Target::Numbered(number),
            None => Target::Descriptor(handle.0),
        }
    }

    /// Counts an op that ended.
    pub(super) fn end(&mut self, handle: Handle) {
        self.file(handle).in_flight -= 1;
    }

    /// Says whether a file was opened for direct IO.
    pub(super) fn is_direct(&mut self, handle: Handle) -> bool {
        self.file(handle).direct
    }

    /// Takes the close of a file; says no when the handle is not a file's.
    pub(super) fn close(&mut self, handle: Handle, id: OpId) -> bool {
        let Some(Some(file)) = self.open.get_mut(index(handle.0)) else {
            return false;
        };
        file.closed_by = Some(id);
        self.closing.push(handle.0);
        true
    }

    /// Says whether closed files are still open.
    pub(super) fn has_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Returns a closed file on which nothing is in flight, and the op that closed it; its number is
    /// free again. Called at the end of a turn, when whatever goes on has been begun again.
    pub(super) fn next_idle(&mut self, submitter: &Submitter<'_>) -> Option<(RawFd, OpId)> {
        let idle = |fd: &RawFd| matches!(&self.open[index(*fd)], Some(file) if file.in_flight == 0);
        let at = self.closing.iter().position(idle)?;
        let fd = self.closing.swap_remove(at);
        let file = self.open[index(fd)].take().expect("matched above");
        if let Some(number) = file.number {
            match submitter.register_files_update(number, &[-1]) {
                Ok(_) => self.free.push(number),
                Err(error) => tracing::warn!("cannot take a file out of the table: {error}"),
            }
        }
        Some((fd, file.closed_by.expect("what is closing was closed")))
    }
}

fn index(fd: RawFd) -> usize {
    usize::try_from(fd).expect("descriptors are not negative")
}
