//! One operation: what a driver is asked to do, and what it answers. This is the seam between the
//! code that runs everywhere (reactor, files, sockets, log) and the two drivers beneath (kernel,
//! simulator).
//!
//! Invariants:
//! 1. An [`Op`] owns every byte the kernel may touch; it stays in its slot until its last
//!    completion.
//! 2. Every submitted op completes: exactly once, or for the streams ([`Op::Accept`], [`Op::Recv`])
//!    any number of times with `more` and then once without, or for an [`Op::Send`] without a copy
//!    once with `more` and then once without.
//! 3. An [`OpId`] carries the generation of its slot, so a late completion never reaches a later
//!    op.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::buffer::{Buf, Chunk};

/// A file, listener or socket as its driver knows it: a file descriptor, or the simulator's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle(pub(crate) i32);

/// Names an op in flight: the index of its slot and the generation of that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl OpId {
    /// Returns the id as the 64 bits that travel through the kernel.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`OpId::to_bits`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "takes the two halves apart"
    )]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Writing is allowed, not reading alone.
    pub write: bool,
    /// The file is made when it is not there.
    pub create: bool,
    /// Opening fails with `AlreadyExists` when the file is there.
    pub create_new: bool,
    /// Bypasses the page cache (`O_DIRECT`): offsets, lengths and addresses are multiples of 4 KiB.
    pub direct: bool,
}

/// A file of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Name without its directory.
    pub name: String,
    /// Size in bytes; 0 for a directory.
    pub bytes: u64,
    /// It is a directory.
    pub is_dir: bool,
}

/// The space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes that this process may still take.
    pub free_bytes: u64,
    /// Bytes of the whole, those that are kept for the system's administrator included.
    pub total_bytes: u64,
}

/// What a driver is asked to do.
#[derive(Debug)]
pub(crate) enum Op {
    /// Opens a file; answers [`Value::Handle`].
    Open { path: PathBuf, options: OpenOptions },
    /// Closes a file or socket.
    Close { handle: Handle },
    /// Reads `buf.len() - done` bytes at `offset + done`; answers [`Value::Count`], less only at
    /// the end of the file.
    ReadAt {
        file: Handle,
        buf: Buf,
        offset: u64,
        done: usize,
    },
    /// Writes `buf[done..]` at `offset + done`; answers [`Value::Count`]. With `durable`,
    /// completion means on stable storage (`RWF_DSYNC`).
    WriteAt {
        file: Handle,
        buf: Buf,
        offset: u64,
        done: usize,
        durable: bool,
    },
    /// Makes completed writes and the size durable (`fdatasync`).
    Sync { file: Handle },
    /// Reserves the bytes `0..bytes` and sets the size (`fallocate`).
    Preallocate { file: Handle, bytes: u64 },
    /// Answers [`Value::Size`].
    Size { file: Handle },
    /// Renames within one directory or across; durable after [`Op::SyncDir`].
    Rename { from: PathBuf, to: PathBuf },
    /// Removes a file.
    Unlink { path: PathBuf },
    /// Makes a directory; it is no error when it is there already.
    CreateDir { path: PathBuf },
    /// Makes a directory's entries durable.
    SyncDir { path: PathBuf },
    /// Lists a directory, in order of name; answers [`Value::Entries`].
    List { path: PathBuf },
    /// Answers [`Value::Space`] of the file system that the path lies in.
    Space { path: PathBuf },
    /// Stream of incoming connections; answers [`Value::Handle`] with `more`.
    Accept { listener: Handle },
    /// Connects; answers [`Value::Handle`].
    Connect { addr: SocketAddr },
    /// Stream of received bytes; answers [`Value::Chunk`] with `more`; an empty chunk without
    /// `more` is the end.
    Recv { socket: Handle },
    /// Sends `data[done..]`; answers [`Value::Count`], which may be less. With `zero_copy` that
    /// answer, or an error, may come with `more`: the kernel then goes on reading `data` until
    /// [`Value::Released`] comes.
    Send {
        socket: Handle,
        data: Vec<u8>,
        done: usize,
        zero_copy: bool,
    },
    /// Shuts down both directions; a receive in flight ends.
    Shutdown { socket: Handle },
    /// Gives a connection up: what waits to be sent is lost, and the peer sees a reset once the
    /// socket is closed.
    Abort { socket: Handle },
}

/// What an op answers when it went well.
#[derive(Debug)]
pub(crate) enum Value {
    Nothing,
    Count(usize),
    Size(u64),
    Handle(Handle),
    Chunk(Chunk),
    Entries(Vec<DirEntry>),
    Space(Space),
    /// The kernel no longer reads the bytes of a send that were not copied.
    Released,
}

/// One answer of a driver.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) id: OpId,
    /// Errors carry the operating system's number (`io::Error::from_raw_os_error`), simulated ones
    /// too.
    pub(crate) result: io::Result<Value>,
    /// The op is still in flight and will answer again.
    pub(crate) more: bool,
}
