//! What file operations do on a simulated disk, how long they take and how they fail. Not what the
//! disk holds (`disk.rs`).
//!
//! Invariants:
//! 1. A read shows the content as of its submission; a write is visible, and with `durable`
//!    durable, when it completes; a sync covers what had completed when it was submitted.
//! 2. Names, sizes and reservations change at submission, and are durable after a sync.
//! 3. Every op on a `direct` file keeps to multiples of 4 KiB, or fails with `EINVAL`.

use std::io;
use std::path::Path;

use super::content::{Content, SECTOR_BYTES};
use super::disk::{Disk, Effect, File, Lost};
use super::heap::{digest, mix};
use super::inode::Inode;
use super::names::Entry;
use super::state::{Object, Pending, State, os};
use crate::buffer::Buf;
use crate::op::{Handle, OpId, OpenOptions, Value};
use crate::rng::Rng;

/// A place in a file: where an op begins, and how many bytes it is about.
#[derive(Clone, Copy, Debug)]
struct Span {
    file: File,
    at: u64,
    len: usize,
}

impl Span {
    fn check_alignment(&self, address: usize) -> io::Result<()> {
        let sector = SECTOR_BYTES as u64;
        let aligned = self.at.is_multiple_of(sector)
            && self.len.is_multiple_of(SECTOR_BYTES)
            && address.is_multiple_of(SECTOR_BYTES);
        if self.file.direct && !aligned {
            Err(os(libc::EINVAL))
        } else {
            Ok(())
        }
    }

    /// Returns a shorter length that the file's alignment allows, if there is one.
    fn shorter(&self, rng: &mut Rng) -> Option<usize> {
        let unit = if self.file.direct { SECTOR_BYTES } else { 1 };
        let units = self.len / unit;
        (units > 1).then(|| unit * (1 + rng.index(units - 1)))
    }
}

/// The file operations, as the driver submits them.
impl State {
    fn disk(&mut self, shard: u32) -> &mut Disk {
        let node = self.shards[shard as usize].node;
        &mut self.node(node).disk
    }

    fn file(&self, shard: u32, handle: Handle) -> io::Result<File> {
        match self.object(shard, handle)? {
            Object::File(file) => Ok(file),
            Object::Listener | Object::Socket(_) => Err(os(libc::EBADF)),
        }
    }

    fn inode(&mut self, shard: u32, file: File) -> &mut Inode {
        let inode = self.disk(shard).inodes.get_mut(&file.inode);
        inode.expect("a file stays while a handle is open")
    }

    fn disk_chance(&mut self, p: f64, name: &'static str) -> bool {
        let hit = self.streams.disk.chance(p);
        if hit {
            self.mark(name);
        }
        hit
    }

    /// Like `disk_chance`, for faults that lose what a disk held: only on the nodes that may suffer
    /// them.
    fn damage_chance(&mut self, shard: u32, p: f64, name: &'static str) -> bool {
        let node = self.shards[shard as usize].node;
        let allowed = 1_u64.checked_shl(node).unwrap_or(0) & self.faults.disk.damaged_nodes != 0;
        allowed && self.disk_chance(p, name)
    }

    /// Draws when an op that takes `mean_ns` on average will be done.
    fn disk_due(&mut self, shard: u32, mean_ns: u64) -> u64 {
        let now = self.now();
        if self.disk_chance(self.faults.disk.stall, "disk stalled") {
            let until = now + self.streams.disk.range(10_000_000..5_000_000_000);
            self.disk(shard).stalled_until = until;
        }
        let mean_ns = mean_ns * u64::from(self.disk(shard).slowness.max(1));
        let latency = mean_ns / 2 + self.streams.disk.exponential(mean_ns.div_ceil(2));
        now.max(self.disk(shard).stalled_until) + 1 + latency
    }

    /// Schedules the completion of a disk op.
    fn finish(
        &mut self,
        shard: u32,
        id: OpId,
        mean_ns: u64,
        result: io::Result<Value>,
        effect: Effect,
    ) {
        let at = self.disk_due(shard, mean_ns);
        self.schedule(
            at,
            Pending::Disk {
                shard,
                id,
                effect,
                result,
            },
        );
    }

    fn finish_name(&mut self, shard: u32, id: OpId, result: io::Result<Value>) {
        self.finish(
            shard,
            id,
            self.faults.disk.read_latency_ns / 2,
            result,
            Effect::Nothing,
        );
    }

    pub(super) fn take_effect(&mut self, node: u32, effect: Effect) {
        let disk = &mut self
            .nodes
            .get_mut(&node)
            .expect("its shard made the node")
            .disk;
        disk.take_effect(effect, &mut self.streams.disk);
    }

    pub(super) fn open(&mut self, shard: u32, id: OpId, path: &Path, options: OpenOptions) {
        let opened = self.disk(shard).open(path, options);
        let result = opened.map(|inode| {
            let file = File {
                inode,
                writable: options.write,
                direct: options.direct,
            };
            self.inode(shard, file).open += 1;
            Value::Handle(self.add_handle(shard, Object::File(file)))
        });
        self.finish_name(shard, id, result);
    }

    /// Forgets a handle of a file.
    pub(super) fn close_file(&mut self, node: u32, file: File) {
        let disk = &mut self.node(node).disk;
        if let Some(inode) = disk.inodes.get_mut(&file.inode) {
            inode.open -= 1;
            if inode.open == 0 {
                disk.collect();
            }
        }
    }

    pub(super) fn read_at(
        &mut self,
        shard: u32,
        id: OpId,
        file: Handle,
        range: (u64, usize),
        buf: &mut Buf,
    ) {
        let result = self.read_now(shard, file, range, buf);
        let latency = self.faults.disk.read_latency_ns + (buf.len() - range.1) as u64 / 4;
        self.finish(shard, id, latency, result, Effect::Nothing);
    }

    fn read_now(
        &mut self,
        shard: u32,
        file: Handle,
        (offset, done): (u64, usize),
        buf: &mut Buf,
    ) -> io::Result<Value> {
        let file = self.file(shard, file)?;
        let span = Span {
            file,
            at: offset + done as u64,
            len: buf.len() - done,
        };
        // As in Linux, a read that begins at the end of the file answers before its alignment is
        // looked at.
        if span.at >= self.inode(shard, file).size() {
            return Ok(Value::Count(0));
        }
        span.check_alignment(buf.as_ptr().addr() + done)?;
        if self.disk_chance(self.faults.disk.interrupt, "interrupted") {
            return Err(os(libc::EINTR));
        }
        if self.disk_chance(self.faults.disk.read_error, "read error") {
            return Err(os(libc::EIO));
        }
        if self.damage_chance(shard, self.faults.disk.rot, "sector rotted") {
            let mut rng = self.streams.disk.clone();
            self.inode(shard, file).rot(&mut rng, span.at, span.len);
            self.streams.disk = rng;
        }
        let mut len = span.len;
        if self.streams.disk.chance(self.faults.disk.short)
            && let Some(shorter) = span.shorter(&mut self.streams.disk)
        {
            self.mark("short read");
            len = shorter;
        }
        let out = &mut buf.as_mut_slice()[done..done + len];
        let (n, word) = self.inode(shard, file).read(span.at, out);
        self.hash = mix(self.hash, word);
        Ok(Value::Count(n))
    }

    pub(super) fn write_at(
        &mut self,
        shard: u32,
        id: OpId,
        file: Handle,
        (offset, durable): (u64, bool),
        (buf, done): (&Buf, usize),
    ) {
        let latency = self.faults.disk.write_latency_ns + (buf.len() - done) as u64 / 2;
        match self.write_now(shard, file, offset, (buf, done)) {
            Ok((result, at, len)) => {
                let content = Content::of(&buf.as_slice()[done..done + len]);
                let whole = result.is_ok();
                self.hash = match &content {
                    Content::Zeros(len) => mix(self.hash, *len as u64),
                    Content::Bytes(bytes) => mix(self.hash, digest(bytes)),
                };
                let effect = Effect::Write {
                    inode: at.file.inode,
                    offset: at.at,
                    content,
                    durable,
                    whole,
                };
                self.finish(shard, id, latency, result, effect);
            }
            Err(error) => self.finish(shard, id, latency, Err(error), Effect::Nothing),
        }
    }

    /// Settles the fate of a write: what it will answer, where it will land and how many bytes of
    /// it.
    fn write_now(
        &mut self,
        shard: u32,
        file: Handle,
        offset: u64,
        (buf, done): (&Buf, usize),
    ) -> io::Result<(io::Result<Value>, Span, usize)> {
        let file = self.file(shard, file)?;
        if !file.writable {
            return Err(os(libc::EBADF));
        }
        let mut span = Span {
            file,
            at: offset + done as u64,
            len: buf.len() - done,
        };
        span.check_alignment(buf.as_ptr().addr() + done)?;
        self.check_room(shard, file, span.at + span.len as u64)?;
        if self.disk_chance(self.faults.disk.interrupt, "interrupted") {
            return Err(os(libc::EINTR));
        }
        if self.disk_chance(self.faults.disk.write_error, "write error") {
            return Ok((Err(os(libc::EIO)), span, span.len));
        }
        let mut len = span.len;
        if self.streams.disk.chance(self.faults.disk.short)
            && let Some(shorter) = span.shorter(&mut self.streams.disk)
        {
            self.mark("short write");
            len = shorter;
        }
        let answer = Ok(Value::Count(len));
        if self.damage_chance(shard, self.faults.disk.lost_write, "write lost") {
            len = 0;
        }
        if self.damage_chance(shard, self.faults.disk.misdirect, "write misdirected") {
            span.at = self.elsewhere(shard, span);
        }
        Ok((answer, span, len))
    }

    /// Returns another aligned place of the same file.
    fn elsewhere(&mut self, shard: u32, span: Span) -> u64 {
        let sectors = (self.inode(shard, span.file).size() / SECTOR_BYTES as u64).max(1);
        self.streams.disk.below(sectors) * SECTOR_BYTES as u64
    }

    fn check_room(&mut self, shard: u32, file: File, bytes: u64) -> io::Result<()> {
        let grows = bytes > self.inode(shard, file).size();
        let full = grows && self.disk_chance(self.faults.disk.no_space, "no space");
        if full || !self.disk(shard).has_room(file.inode, bytes) {
            self.mark("ENOSPC");
            return Err(os(libc::ENOSPC));
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, shard: u32, id: OpId, file: Handle) {
        let latency = self.faults.disk.sync_latency_ns;
        match self.file(shard, file) {
            Ok(file) => {
                let mark = self.inode(shard, file).freeze();
                let lost = if file.direct {
                    Lost::Gone
                } else {
                    Lost::Cached
                };
                let failed = self.disk_chance(self.faults.disk.sync_error, "sync error");
                let result = if failed {
                    Err(os(libc::EIO))
                } else {
                    Ok(Value::Nothing)
                };
                let effect = Effect::Sync {
                    inode: file.inode,
                    mark,
                    failed: if failed { Some(lost) } else { None },
                };
                self.finish(shard, id, latency, result, effect);
            }
            Err(error) => self.finish(shard, id, latency, Err(error), Effect::Nothing),
        }
    }

    pub(super) fn preallocate(&mut self, shard: u32, id: OpId, file: Handle, bytes: u64) {
        let result = self.file(shard, file).and_then(|file| {
            if !file.writable {
                return Err(os(libc::EBADF));
            }
            self.check_room(shard, file, bytes)?;
            self.inode(shard, file).grow(bytes);
            Ok(Value::Nothing)
        });
        self.finish_name(shard, id, result);
    }

    pub(super) fn size(&mut self, shard: u32, id: OpId, file: Handle) {
        let result = self
            .file(shard, file)
            .map(|file| Value::Size(self.inode(shard, file).size()));
        self.finish_name(shard, id, result);
    }

    pub(super) fn rename(&mut self, shard: u32, id: OpId, from: &Path, to: &Path) {
        let result = self.disk(shard).rename(from, to).map(|()| Value::Nothing);
        self.finish_name(shard, id, result);
    }

    pub(super) fn unlink(&mut self, shard: u32, id: OpId, path: &Path) {
        let result = self.disk(shard).unlink(path).map(|()| Value::Nothing);
        self.finish_name(shard, id, result);
    }

    pub(super) fn create_dir(&mut self, shard: u32, id: OpId, path: &Path) {
        let result = self.disk(shard).create_dir(path).map(|()| Value::Nothing);
        self.finish_name(shard, id, result);
    }

    pub(super) fn list_dir(&mut self, shard: u32, id: OpId, path: &Path) {
        let result = self.disk(shard).list(path).map(Value::Entries);
        self.finish_name(shard, id, result);
    }

    pub(super) fn space(&mut self, shard: u32, id: OpId, path: &Path) {
        let disk = self.disk(shard);
        let result = match disk.names.find(path) {
            Some(_) => Ok(Value::Space(disk.space())),
            None => Err(os(libc::ENOENT)),
        };
        self.finish_name(shard, id, result);
    }

    pub(super) fn sync_dir(&mut self, shard: u32, id: OpId, path: &Path) {
        let latency = self.faults.disk.sync_latency_ns;
        let names = &self.disk(shard).names;
        let (found, mark) = (names.find(path), names.mark());
        let (result, effect) = match found {
            Some(Entry::Dir) => (
                Ok(Value::Nothing),
                Effect::SyncDir {
                    path: path.into(),
                    mark,
                },
            ),
            Some(Entry::File(_)) => (Err(os(libc::ENOTDIR)), Effect::Nothing),
            None => (Err(os(libc::ENOENT)), Effect::Nothing),
        };
        self.finish(shard, id, latency, result, effect);
    }
}
