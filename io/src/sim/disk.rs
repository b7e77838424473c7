//! One simulated disk: its files by name, its space, and what it does when ops complete or power is
//! lost. Not when ops complete nor which of them fail (`files.rs`); not how content and names
//! survive (`inode.rs`, `names.rs`).
//!
//! Invariant: a file is kept while a name or a handle can reach it, now or after a crash; those that nothing
//! reaches are never more than those that were reached at the last look, and a few.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::content::{Content, SECTOR_BYTES};
use super::faults::CrashFates;
use super::index;
use super::inode::{Fate, Inode};
use super::names::{Entry, Names};
use super::state::os;
use crate::op::{DirEntry, OpenOptions, Space};
use crate::rng::Rng;

/// Free space that a disk without a limit tells of, in bytes.
const UNLIMITED_BYTES: u64 = 1 << 40;
/// Files that nothing reaches are looked for when there are so many more than were left by the last look.
const UNREACHED_MIN: usize = 64;

/// One disk, shared by the shards of its node.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<u32, Inode>,
    inodes_made: u32,
    /// Files that the last look for those that nothing reaches has left.
    inodes_kept: usize,
    pub(super) capacity: Option<u64>,
    pub(super) stalled_until: u64,
    /// How many times as long as others it takes; 0 for as long.
    pub(super) slowness: u32,
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    pub(super) inode: u32,
    pub(super) writable: bool,
    pub(super) direct: bool,
}

/// Where content is seen that a failed sync has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// In the page cache, until a crash: so the file looks well (fsyncgate).
    Cached,
    /// Nowhere: a direct file has no cache that could hide it.
    Gone,
}

/// What happens to the disk when an op completes.
#[derive(Debug)]
pub(super) enum Effect {
    Nothing,
    Write {
        inode: u32,
        offset: u64,
        content: Content,
        durable: bool,
        whole: bool,
    },
    Sync {
        inode: u32,
        mark: u64,
        failed: Option<Lost>,
    },
    SyncDir {
        path: PathBuf,
        mark: u64,
    },
}

impl Disk {
    /// Returns the bytes that the visible files take, in whole sectors.
    pub(super) fn used(&self) -> u64 {
        let files = self.names.all().filter_map(|(_, entry)| match entry {
            Entry::File(inode) => self.inodes.get(&inode),
            Entry::Dir => None,
        });
        files
            .map(|inode| inode.size().next_multiple_of(SECTOR_BYTES as u64))
            .sum()
    }

    /// Returns the space of the disk; one without a limit has a tebibyte beside what is in use.
    pub(super) fn space(&self) -> Space {
        let used = self.used();
        let total_bytes = self.capacity.unwrap_or(used + UNLIMITED_BYTES);
        Space {
            free_bytes: total_bytes.saturating_sub(used),
            total_bytes,
        }
    }

    /// Says whether `inode` may grow to `bytes`.
    pub(super) fn has_room(&self, inode: u32, bytes: u64) -> bool {
        let Some(capacity) = self.capacity else {
            return true;
        };
        let size = self.inodes.get(&inode).map_or(0, Inode::size);
        bytes <= size || self.used() + (bytes - size) <= capacity
    }

    pub(super) fn file(&self, path: &Path) -> Option<&Inode> {
        match self.names.find(path)? {
            Entry::File(inode) => self.inodes.get(&inode),
            Entry::Dir => None,
        }
    }

    pub(super) fn file_mut(&mut self, path: &Path) -> Option<&mut Inode> {
        match self.names.find(path)? {
            Entry::File(inode) => self.inodes.get_mut(&inode),
            Entry::Dir => None,
        }
    }

    fn entry(&self, name: &[u8], entry: Entry) -> DirEntry {
        let last = name.rsplit(|byte| *byte == b'/').next();
        let name = String::from_utf8_lossy(last.unwrap_or_default()).into_owned();
        match entry {
            Entry::File(inode) => {
                let bytes = self.inodes.get(&inode).map_or(0, Inode::size);
                DirEntry {
                    name,
                    bytes,
                    is_dir: false,
                }
            }
            Entry::Dir => DirEntry {
                name,
                bytes: 0,
                is_dir: true,
            },
        }
    }

    /// Frees the files that no name and no handle can reach any more, when they may be many.
    pub(super) fn collect(&mut self) {
        if self.inodes.len() < 2 * self.inodes_kept + UNREACHED_MIN {
            return;
        }
        let named = self.names.files();
        self.inodes
            .retain(|number, inode| inode.open > 0 || named.binary_search(number).is_ok());
        self.inodes_kept = self.inodes.len();
    }

    pub(super) fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<u32> {
        match self.names.find(path) {
            Some(Entry::Dir) => Err(os(libc::EISDIR)),
            Some(Entry::File(_)) if options.create_new => Err(os(libc::EEXIST)),
            Some(Entry::File(inode)) => Ok(inode),
            None if !(options.create || options.create_new) => Err(os(libc::ENOENT)),
            None if !self.names.has_parent(path) => Err(os(libc::ENOENT)),
            None => {
                self.inodes_made += 1;
                self.inodes.insert(self.inodes_made, Inode::default());
                self.names.link(path, Entry::File(self.inodes_made));
                Ok(self.inodes_made)
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let entry = self.names.find(from).ok_or_else(|| os(libc::ENOENT))?;
        if !self.names.has_parent(to) {
            return Err(os(libc::ENOENT));
        }
        match (entry, self.names.find(to)) {
            (Entry::Dir, _) if to != from && to.starts_with(from) => Err(os(libc::EINVAL)),
            (Entry::Dir, Some(Entry::File(_))) => Err(os(libc::ENOTDIR)),
            (Entry::File(_), Some(Entry::Dir)) => Err(os(libc::EISDIR)),
            (Entry::Dir, Some(Entry::Dir)) if self.names.list(to).next().is_some() => {
                Err(os(libc::ENOTEMPTY))
            }
            _ if from == to => Ok(()),
            _ => {
                self.names.rename(from, to, entry);
                Ok(())
            }
        }
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        match self.names.find(path) {
            None => Err(os(libc::ENOENT)),
            Some(Entry::Dir) => Err(os(libc::EISDIR)),
            Some(entry @ Entry::File(_)) => {
                self.names.unlink(path, entry);
                Ok(())
            }
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.names.find(path) {
            Some(Entry::Dir) => Ok(()),
            Some(Entry::File(_)) => Err(os(libc::EEXIST)),
            None if !self.names.has_parent(path) => Err(os(libc::ENOENT)),
            None => {
                self.names.link(path, Entry::Dir);
                Ok(())
            }
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        match self.names.find(path) {
            None => Err(os(libc::ENOENT)),
            Some(Entry::File(_)) => Err(os(libc::ENOTDIR)),
            Some(Entry::Dir) => Ok(self
                .names
                .list(path)
                .map(|(name, entry)| self.entry(name, entry))
                .collect()),
        }
    }

    /// Does what a completed op does. A write that is not `whole` failed half-way.
    pub(super) fn take_effect(&mut self, effect: Effect, rng: &mut Rng) {
        match effect {
            Effect::Nothing => {}
            Effect::SyncDir { path, mark } => {
                self.names.synced(&path, mark);
                self.collect();
            }
            Effect::Sync {
                inode,
                mark,
                failed,
            } => {
                let Some(inode) = self.inodes.get_mut(&inode) else {
                    return;
                };
                match failed {
                    Some(lost) => inode.sync_failed(mark, lost, rng),
                    None => inode.synced(mark),
                }
            }
            Effect::Write {
                inode,
                offset,
                content,
                durable,
                whole,
            } => {
                let Some(inode) = self.inodes.get_mut(&inode) else {
                    return;
                };
                if !whole {
                    write_parts(inode, offset, &content, rng);
                } else if durable {
                    inode.write_durable(offset, &content);
                } else {
                    inode.write(offset, &content);
                }
            }
        }
    }

    /// Loses power while `in_flight` was being done.
    pub(super) fn crash(&mut self, in_flight: Vec<Effect>, fates: CrashFates, rng: &mut Rng) {
        for inode in self.inodes.values_mut() {
            inode.freeze();
            inode.open = 0;
        }
        for effect in in_flight {
            if let Effect::Write {
                inode,
                offset,
                content,
                ..
            } = effect
                && let Some(inode) = self.inodes.get_mut(&inode)
                && rng.coin()
            {
                inode.write(offset, &content);
            }
        }
        for inode in self.inodes.values_mut() {
            inode.crash(rng, |rng, _| draw_fate(fates, rng));
        }
        self.names.crash(rng);
        self.collect();
        self.stalled_until = 0;
    }
}

fn draw_fate(fates: CrashFates, rng: &mut Rng) -> Fate {
    let weights = [
        (fates.keep, Fate::Keep),
        (fates.old, Fate::Old),
        (fates.torn, Fate::Torn),
        (fates.garbage, Fate::Garbage),
    ];
    let sum: u64 = weights.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let mut drawn = if sum == 0 { 0 } else { rng.below(sum) };
    for (weight, fate) in weights {
        match drawn.checked_sub(u64::from(weight)) {
            Some(rest) => drawn = rest,
            None => return fate,
        }
    }
    Fate::Old
}

/// Writes some of the sectors of a write that failed.
fn write_parts(inode: &mut Inode, offset: u64, content: &Content, rng: &mut Rng) {
    for start in (0..content.len()).step_by(SECTOR_BYTES) {
        if rng.coin() {
            let end = content.len().min(start + SECTOR_BYTES);
            inode.write(offset + start as u64, &content.part(start..end));
        }
    }
}

/// Reads a whole file as it is visible.
pub(super) fn content(inode: &Inode) -> Vec<u8> {
    let mut bytes = vec![0; index(inode.size())];
    inode.read(0, &mut bytes);
    bytes
}
