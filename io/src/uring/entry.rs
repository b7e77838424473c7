//! From an [`Op`] to the submission that the kernel takes. What needs no submission is answered here
//! at once.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use io_uring::{opcode, squeue, types};
use socket2::{Domain, Protocol, SockAddr, Socket as Socket2, Type};

use super::files::Target;
use super::{Driver, Side, bufring};
use crate::op::{DirEntry, Handle, Op, OpId, OpenOptions, Value};

/// Makes a submission on a file, by its number or by its descriptor: they are of different types.
macro_rules! on_file {
    ($target:expr, |$fd:ident| $entry:expr) => {
        match $target {
            Target::Numbered(number) => {
                let $fd = types::Fixed(number);
                $entry
            }
            Target::Descriptor(fd) => {
                let $fd = types::Fd(fd);
                $entry
            }
        }
    };
}

/// `RWF_DSYNC` of `pwritev2(2)`: this write is on stable storage when it completes.
const RWF_DSYNC: u32 = 0x2;

impl Driver {
    /// Makes the submission of an op, or answers it at once (`None`).
    pub(super) fn entry(&mut self, id: OpId, op: &mut Op) -> io::Result<Option<squeue::Entry>> {
        Ok(Some(match op {
            Op::Close { handle } => {
                if self.files.close(*handle, id) {
                    return Ok(None);
                }
                opcode::Close::new(types::Fd(handle.0)).build()
            }
            Op::ReadAt {
                file,
                buf,
                offset,
                done,
            } => read_entry(self.begin(id, *file), buf, *offset, *done),
            Op::WriteAt {
                file,
                buf,
                offset,
                done,
                durable,
            } => {
                self.durable_in_flight += usize::from(*durable);
                write_entry(self.begin(id, *file), buf, *offset, *done, *durable)
            }
            Op::Sync { file } => {
                self.durable_in_flight += 1;
                let data = types::FsyncFlags::DATASYNC;
                on_file!(self.begin(id, *file), |fd| opcode::Fsync::new(fd)
                    .flags(data)
                    .build())
            }
            Op::Preallocate { file, bytes } => {
                let target = self.begin(id, *file);
                on_file!(target, |fd| opcode::Fallocate::new(fd, *bytes).build())
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
            Op::Space { path } => {
                let space = c_path(path).and_then(|path| crate::sys::space(&path));
                return self.answer_now(id, space.map(Value::Space));
            }
            Op::Accept { .. }
            | Op::Connect { .. }
            | Op::Recv { .. }
            | Op::Send { .. }
            | Op::Shutdown { .. }
            | Op::Abort { .. } => {
                return self.socket_entry(id, op).map(Some);
            }
        }))
    }

    /// Counts an op as in flight on its file, until its completion; returns how it names the file.
    fn begin(&mut self, id: OpId, file: Handle) -> Target {
        *self.side_mut(id) = Side::File(file);
        self.files.begin(file)
    }

    /// Makes the submission of an op on names, which stay in `side` until it completes.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only the ops on names are handed on to here"
    )]
    fn path_entry(&mut self, id: OpId, op: &mut Op) -> io::Result<squeue::Entry> {
        Ok(match op {
            Op::Open { path, options } => {
                *self.side_mut(id) = Side::Open(c_path(path)?, *options);
                let Side::Open(path, _) = self.side_mut(id) else {
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
            Op::Send {
                socket,
                data,
                done,
                zero_copy,
            } => send_entry(*socket, &data[*done..], *zero_copy),
            Op::Abort { socket } => {
                // With no time to linger, the close throws away what is unsent and resets. The
                // shutdown ends the send that is in flight, which keeps the socket open.
                super::borrow_socket(*socket).set_linger(Some(std::time::Duration::ZERO))?;
                opcode::Shutdown::new(types::Fd(socket.0), libc::SHUT_RDWR).build()
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

fn send_entry(socket: Handle, bytes: &[u8], zero_copy: bool) -> squeue::Entry {
    let (fd, flags) = (types::Fd(socket.0), libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if zero_copy {
        return opcode::SendZc::new(fd, bytes.as_ptr(), len)
            .flags(flags)
            .build();
    }
    opcode::Send::new(fd, bytes.as_ptr(), len)
        .flags(flags)
        .build()
}

fn read_entry(file: Target, buf: &crate::buffer::Buf, offset: u64, done: usize) -> squeue::Entry {
    let (pointer, len) = rest_of(buf, done);
    let at = offset + done as u64;
    match buf.registered_index() {
        Some(index) => on_file!(file, |fd| {
            opcode::ReadFixed::new(fd, pointer, len, index)
                .offset(at)
                .build()
        }),
        None => on_file!(file, |fd| opcode::Read::new(fd, pointer, len)
            .offset(at)
            .build()),
    }
}

/// Makes the submission of a read for the ring that polls, which knows no registered buffer and no
/// numbered file.
pub(super) fn polled_read(op: &Op) -> squeue::Entry {
    let Op::ReadAt {
        file,
        buf,
        offset,
        done,
    } = op
    else {
        unreachable!("only reads are polled for")
    };
    let (pointer, len) = rest_of(buf, *done);
    opcode::Read::new(types::Fd(file.0), pointer, len)
        .offset(offset + *done as u64)
        .build()
}

fn write_entry(
    file: Target,
    buf: &crate::buffer::Buf,
    offset: u64,
    done: usize,
    durable: bool,
) -> squeue::Entry {
    let (pointer, len) = rest_of(buf, done);
    let at = offset + done as u64;
    let flags = if durable { RWF_DSYNC } else { 0 }.cast_signed();
    match buf.registered_index() {
        Some(index) => on_file!(file, |fd| {
            opcode::WriteFixed::new(fd, pointer, len, index)
                .offset(at)
                .rw_flags(flags)
                .build()
        }),
        None => on_file!(file, |fd| opcode::Write::new(fd, pointer, len)
            .offset(at)
            .rw_flags(flags)
            .build()),
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
