//! From an [`Op`] to the submission that the kernel takes. What needs no submission is answered here
//! at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use io_uring::{opcode, squeue, types};
use socket2::{Domain, Protocol, SockAddr, Socket as Socket2, Type};

use super::{Driver, Side, bufring};
use crate::op::{DirEntry, Handle, Op, OpId, OpenOptions, Value};

/// `RWF_DSYNC` of `pwritev2(2)`: this write is on stable storage when it completes.
const RWF_DSYNC: u32 = 0x2;

impl Driver {
    /// Makes the submission of an op, or answers it at once (`None`).
    pub(super) fn entry(&mut self, id: OpId, op: &mut Op) -> io::Result<Option<squeue::Entry>> {
        Ok(Some(match op {
            Op::Close { handle } => opcode::Close::new(types::Fd(handle.0)).build(),
            Op::ReadAt {
                file,
                buf,
                offset,
                done,
            } => read_entry(*file, buf, *offset, *done),
            Op::WriteAt {
                file,
                buf,
                offset,
                done,
                durable,
            } => {
                self.durable_in_flight += usize::from(*durable);
                write_entry(*file, buf, *offset, *done, *durable)
            }
            Op::Sync { file } => {
                self.durable_in_flight += 1;
                opcode::Fsync::new(types::Fd(file.0))
                    .flags(types::FsyncFlags::DATASYNC)
                    .build()
            }
            Op::Preallocate { file, bytes } => {
                opcode::Fallocate::new(types::Fd(file.0), *bytes).build()
            }
            Op::SyncDir { path } => {
                // Counted before anything can fail: every completion of a sync is counted off.
                self.durable_in_flight += 1;
                let dir = OwnedFd::from(std::fs::File::open(path)?);
                let fd = dir.as_raw_fd();
                *self.side_mut(id) = Side::Dir(dir);
                opcode::Fsync::new(types::Fd(fd)).build()
            }
            Op::Open { .. } | Op::Rename { .. } | Op::Unlink { .. } => self.path_entry(id, op)?,
            Op::Size { file } => return self.answer_now(id, file_bytes(*file).map(Value::Size)),
            Op::CreateDir { path } => return self.answer_now(id, create_dir(path)),
            Op::List { path } => return self.answer_now(id, list(path).map(Value::Entries)),
            Op::Accept { .. }
            | Op::Connect { .. }
            | Op::Recv { .. }
            | Op::Send { .. }
            | Op::Shutdown { .. } => {
                return self.socket_entry(id, op).map(Some);
            }
        }))
    }

    /// Makes the submission of an op on names, which stay in `side` until it completes.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only the ops on names are handed on to here"
    )]
    fn path_entry(&mut self, id: OpId, op: &mut Op) -> io::Result<squeue::Entry> {
        Ok(match op {
            Op::Open { path, options } => {
                *self.side_mut(id) = Side::Path(c_path(path)?);
                let Side::Path(path) = self.side_mut(id) else {
                    unreachable!("set above")
                };
                opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
                    .flags(open_flags(*options))
                    .mode(0o600)
                    .build()
            }
            Op::Rename { from, to } => {
                *self.side_mut(id) = Side::Paths(c_path(from)?, c_path(to)?);
                let Side::Paths(from, to) = self.side_mut(id) else {
                    unreachable!("set above")
                };
                let here = types::Fd(libc::AT_FDCWD);
                opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build()
            }
            Op::Unlink { path } => {
                *self.side_mut(id) = Side::Path(c_path(path)?);
                let Side::Path(path) = self.side_mut(id) else {
                    unreachable!("set above")
                };
                opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build()
            }
            other => unreachable!("not an op on names: {other:?}"),
        })
    }

    fn answer_now(
        &mut self,
        id: OpId,
        result: io::Result<Value>,
    ) -> io::Result<Option<squeue::Entry>> {
        self.answer(id, result);
        Ok(None)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only the ops on sockets are handed on to here"
    )]
    fn socket_entry(&mut self, id: OpId, op: &mut Op) -> io::Result<squeue::Entry> {
        Ok(match op {
            Op::Accept { listener } => opcode::AcceptMulti::new(types::Fd(listener.0))
                .flags(libc::SOCK_CLOEXEC)
                .build(),
            Op::Connect { addr } => {
                let socket = Socket2::new(
                    Domain::for_address(*addr),
                    Type::STREAM,
                    Some(Protocol::TCP),
                )?;
                socket.set_tcp_nodelay(true)?;
                let (fd, addr) = (socket.as_raw_fd(), Box::new(SockAddr::from(*addr)));
                let entry =
                    opcode::Connect::new(types::Fd(fd), addr.as_ptr().cast(), addr.len()).build();
                *self.side_mut(id) = Side::Addr(addr, OwnedFd::from(socket));
                entry
            }
            Op::Recv { socket } => {
                opcode::RecvMulti::new(types::Fd(socket.0), bufring::GROUP).build()
            }
            Op::Send { socket, data, done } => {
                let rest = &data[*done..];
                let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
                opcode::Send::new(types::Fd(socket.0), rest.as_ptr(), len)
                    .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                    .build()
            }
            Op::Shutdown { socket } => {
                opcode::Shutdown::new(types::Fd(socket.0), libc::SHUT_RDWR).build()
            }
            other => unreachable!("not a socket op: {other:?}"),
        })
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn open_flags(options: OpenOptions) -> i32 {
    let flag = |on: bool, bit: i32| if on { bit } else { 0 };
    flag(options.write, libc::O_RDWR)
        | flag(options.create || options.create_new, libc::O_CREAT)
        | flag(options.create_new, libc::O_EXCL)
        | flag(options.direct, libc::O_DIRECT)
        | libc::O_CLOEXEC
}

fn rest_of(buf: &crate::buffer::Buf, done: usize) -> (*mut u8, u32) {
    let len = u32::try_from(buf.len() - done).expect("file buffers are below 4 GiB");
    // SAFETY: done <= len, checked by the subtraction above (overflow checks are on), so it points
    // inside the buffer.
    (unsafe { buf.as_ptr().add(done) }, len)
}

fn read_entry(file: Handle, buf: &crate::buffer::Buf, offset: u64, done: usize) -> squeue::Entry {
    let (pointer, len) = rest_of(buf, done);
    let at = offset + done as u64;
    match buf.registered_index() {
        Some(index) => opcode::ReadFixed::new(types::Fd(file.0), pointer, len, index)
            .offset(at)
            .build(),
        None => opcode::Read::new(types::Fd(file.0), pointer, len)
            .offset(at)
            .build(),
    }
}

fn write_entry(
    file: Handle,
    buf: &crate::buffer::Buf,
    offset: u64,
    done: usize,
    durable: bool,
) -> squeue::Entry {
    let (pointer, len) = rest_of(buf, done);
    let at = offset + done as u64;
    let flags = if durable { RWF_DSYNC } else { 0 }.cast_signed();
    match buf.registered_index() {
        Some(index) => opcode::WriteFixed::new(types::Fd(file.0), pointer, len, index)
            .offset(at)
            .rw_flags(flags)
            .build(),
        None => opcode::Write::new(types::Fd(file.0), pointer, len)
            .offset(at)
            .rw_flags(flags)
            .build(),
    }
}

fn file_bytes(file: Handle) -> io::Result<u64> {
    // SAFETY: the handle is an open file of this process; ManuallyDrop leaves its ownership where
    // it was.
    let file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(file.0) });
    file.metadata().map(|m| m.len())
}

fn create_dir(path: &Path) -> io::Result<Value> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            Ok(Value::Nothing)
        }
        other => other.map(|()| Value::Nothing),
    }
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let bytes = if meta.is_dir() { 0 } else { meta.len() };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntry {
            name,
            bytes,
            is_dir: meta.is_dir(),
        });
    }
    entries.sort();
    Ok(entries)
}
