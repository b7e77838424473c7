//! Files and directories of a shard. Buffers are owned: they go in with the call and come back with
//! the answer. Reads and writes are whole: the reactor carries a partial one on to its end.

use std::io;
use std::path::{Path, PathBuf};

use crate::buffer::Buf;
use crate::op::{DirEntry, Handle, Op, OpenOptions, Space, Value};
use crate::reactor::{Operation, Reactor};

/// Whether a write is on stable storage when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// It is (`RWF_DSYNC`).
    Yes,
    /// It is after the next [`File::sync`].
    No,
}

/// An open file. Closed when dropped.
#[derive(Debug)]
pub struct File {
    reactor: Reactor,
    handle: Handle,
    path: PathBuf,
}

impl File {
    /// Opens a file.
    ///
    /// # Errors
    /// What the operating system said; `InvalidInput` (`EINVAL`) for a direct file on a file system
    /// without direct IO.
    pub async fn open(reactor: &Reactor, path: &Path, options: OpenOptions) -> io::Result<Self> {
        let finished = reactor
            .start(Op::Open {
                path: path.to_owned(),
                options,
            })
            .await;
        let Value::Handle(handle) = finished.result? else {
            unreachable!("an open answers a handle")
        };
        Ok(Self {
            reactor: reactor.clone(),
            handle,
            path: path.to_owned(),
        })
    }

    /// Returns the path that the file was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `buf.len()` bytes at `offset`, fewer only at the end of the file; returns how many,
    /// and the buffer.
    ///
    /// # Errors
    /// What the operating system said.
    pub async fn read_at(&self, buf: Buf, offset: u64) -> (io::Result<usize>, Buf) {
        split(self.start_read(buf, offset).await)
    }

    /// Starts a read that is waited for later.
    pub(crate) fn start_read(&self, buf: Buf, offset: u64) -> Operation {
        self.reactor.start(Op::ReadAt {
            file: self.handle,
            buf,
            offset,
            done: 0,
        })
    }

    /// Writes `buf` at `offset` and returns it. Durable on return with [`Durable::Yes`], else after
    /// [`File::sync`].
    ///
    /// # Errors
    /// What the operating system said; part of the bytes may have been written.
    pub async fn write_at(
        &self,
        buf: Buf,
        offset: u64,
        durable: Durable,
    ) -> (io::Result<usize>, Buf) {
        split(self.start_write(buf, offset, durable).await)
    }

    /// Starts a write whose owner looks for the answer each turn.
    pub(crate) fn start_write(&self, buf: Buf, offset: u64, durable: Durable) -> Operation {
        let durable = durable == Durable::Yes;
        self.reactor.start(Op::WriteAt {
            file: self.handle,
            buf,
            offset,
            done: 0,
            durable,
        })
    }

    /// Makes the completed writes durable.
    ///
    /// # Errors
    /// What the operating system said. Never try again after an error: the kernel may have dropped
    /// the pages.
    pub async fn sync(&self) -> io::Result<()> {
        self.start_sync().await.result.map(drop)
    }

    /// Starts a sync whose owner looks for the answer each turn.
    pub(crate) fn start_sync(&self) -> Operation {
        self.reactor.start(Op::Sync { file: self.handle })
    }

    /// Reserves space for the first `bytes` of the file, which becomes that long.
    ///
    /// # Errors
    /// `StorageFull` when there is no room.
    pub async fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.reactor
            .start(Op::Preallocate {
                file: self.handle,
                bytes,
            })
            .await
            .result
            .map(drop)
    }

    /// Returns the size in bytes.
    ///
    /// # Errors
    /// What the operating system said.
    pub async fn bytes(&self) -> io::Result<u64> {
        let answer = self
            .reactor
            .start(Op::Size { file: self.handle })
            .await
            .result?;
        let Value::Size(bytes) = answer else {
            unreachable!("a file has a size")
        };
        Ok(bytes)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.reactor.start_detached(Op::Close {
            handle: self.handle,
        });
    }
}

/// Takes a finished read or write apart.
pub(crate) fn split(finished: crate::slot::Finished) -> (io::Result<usize>, Buf) {
    let (Op::ReadAt { buf, .. } | Op::WriteAt { buf, .. }) = finished.op else {
        unreachable!("only reads and writes are taken apart")
    };
    let count = finished.result.map(|value| {
        let Value::Count(count) = value else {
            unreachable!("a read or write answers a count")
        };
        count
    });
    (count, buf)
}

/// Renames a file; durable after [`sync_dir`].
///
/// # Errors
/// What the operating system said.
pub async fn rename(reactor: &Reactor, from: &Path, to: &Path) -> io::Result<()> {
    let op = Op::Rename {
        from: from.to_owned(),
        to: to.to_owned(),
    };
    reactor.start(op).await.result.map(drop)
}

/// Removes a file; durable after [`sync_dir`].
///
/// # Errors
/// What the operating system said.
pub async fn unlink(reactor: &Reactor, path: &Path) -> io::Result<()> {
    reactor
        .start(Op::Unlink {
            path: path.to_owned(),
        })
        .await
        .result
        .map(drop)
}

/// Makes a directory, readable by its owner alone; one that is there already is no error.
///
/// # Errors
/// What the operating system said.
pub async fn create_dir(reactor: &Reactor, path: &Path) -> io::Result<()> {
    reactor
        .start(Op::CreateDir {
            path: path.to_owned(),
        })
        .await
        .result
        .map(drop)
}

/// Makes the entries of a directory durable: files made, renamed and removed in it.
///
/// # Errors
/// What the operating system said.
pub async fn sync_dir(reactor: &Reactor, path: &Path) -> io::Result<()> {
    reactor
        .start(Op::SyncDir {
            path: path.to_owned(),
        })
        .await
        .result
        .map(drop)
}

/// Lists a directory in order of name.
///
/// # Errors
/// What the operating system said.
pub async fn list(reactor: &Reactor, path: &Path) -> io::Result<Vec<DirEntry>> {
    let answer = reactor
        .start(Op::List {
            path: path.to_owned(),
        })
        .await
        .result?;
    let Value::Entries(entries) = answer else {
        unreachable!("a list answers entries")
    };
    Ok(entries)
}

/// Returns the space of the file system that `path` lies in.
///
/// # Errors
/// What the operating system said.
pub async fn space(reactor: &Reactor, path: &Path) -> io::Result<Space> {
    let answer = reactor
        .start(Op::Space {
            path: path.to_owned(),
        })
        .await
        .result?;
    let Value::Space(space) = answer else {
        unreachable!("a file system has space")
    };
    Ok(space)
}
