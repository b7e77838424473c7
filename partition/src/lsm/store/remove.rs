//! Files that are not needed any more, and files that never were: removal, one at a time and at a
//! pace that leaves the device to others; and the list of what is there.
//!
//! A file system that tells the device of freed space does so when it commits, for all that was freed
//! since it last did, up to five seconds before, and the log's writes wait meanwhile: 10 ms for 56 MiB
//! were measured on ext4 with `discard`. So it is made to commit after each large file. Files are not
//! cut shorter first: a backup may be reading them.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::file;

use super::names::partition_dir;
use super::{FileKind, FileName, Store};
use crate::lsm::{FileId, SECTOR_BYTES};

/// Size above which a removal is followed by a pause: freeing its space occupies the device.
const LARGE_BYTES: u64 = 1 << 20;
/// Length of that pause.
const PAUSE: Duration = Duration::from_millis(20);
/// Sectors looked for in the cache in one turn: some tens of microseconds.
const SECTORS_PER_TURN: u32 = 1024;
/// Time until the next turn.
const TURN: Duration = Duration::from_millis(1);

/// Files to be removed, in order.
#[derive(Debug, Default)]
pub(super) struct Removals {
    waiting: VecDeque<FileName>,
    is_running: bool,
}

impl Store {
    /// Removes a file, in its time; nothing refers to it any more. A removal that a crash undoes
    /// leaves an orphan, which the next start finds.
    pub(crate) fn remove(self: &Rc<Self>, kind: FileKind, file: FileId) {
        self.remove_later(FileName { file, kind });
        self.start_removals();
    }

    /// As [`Store::remove`], but it may not start before another removal or a new file does.
    pub(crate) fn remove_later(&self, name: FileName) {
        self.removals.borrow_mut().waiting.push_back(name);
    }

    /// Returns how many files wait to be removed.
    #[cfg(test)]
    pub(crate) fn removals_waiting(&self) -> usize {
        self.removals.borrow().waiting.len()
    }

    /// Starts the task that removes, unless it runs or has nothing to do.
    pub(super) fn start_removals(self: &Rc<Self>) {
        let mut removals = self.removals.borrow_mut();
        if removals.is_running || removals.waiting.is_empty() {
            return;
        }
        removals.is_running = true;
        drop(removals);
        let store = Rc::clone(self);
        self.reactor.spawn(async move {
            while let Some(name) = store.next_removal() {
                store.run_removal(name).await;
            }
        });
    }

    fn next_removal(&self) -> Option<FileName> {
        let mut removals = self.removals.borrow_mut();
        let next = removals.waiting.pop_front();
        removals.is_running = next.is_some();
        next
    }

    /// Removes a file, if it is there, and all that is known of it.
    pub(crate) async fn run_removal(&self, name: FileName) {
        let bytes = match self.open(name).await {
            Ok(file) => file.bytes().await.unwrap_or(0),
            Err(_) => 0,
        };
        self.files.borrow_mut().remove(name);
        if name.kind == FileKind::Table {
            self.forget(name.file, bytes).await;
        }
        let dir = &self.options.dir;
        let removed = file::unlink(&self.reactor, &name.path(dir)).await;
        self.count(|counters| match removed {
            Ok(()) => counters.removals += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => counters.removal_errors += 1,
        });
        if bytes > LARGE_BYTES {
            // Only for the pace: a removal that is undone is done again.
            let dir = partition_dir(dir, name.file.partition);
            let _ = file::sync_dir(&self.reactor, &dir).await;
            self.reactor.sleep(PAUSE).await;
        }
    }

    /// Makes the cache forget a table. Values are left to be evicted in their turn: where they lie
    /// is not known here, and file numbers are not used again.
    async fn forget(&self, file: FileId, bytes: u64) {
        let sectors = u32::try_from(bytes / SECTOR_BYTES).unwrap_or(u32::MAX);
        let mut from = 0;
        while from < sectors {
            let to = sectors.min(from.saturating_add(SECTORS_PER_TURN));
            self.cache.borrow_mut().forget(file, from..to);
            from = to;
            self.reactor.sleep(TURN).await;
        }
    }

    /// Lists the files of all partitions with their sizes in bytes, in order of name, so that those
    /// which no version knows can be removed. Other files are left out.
    ///
    /// # Errors
    /// What the operating system said.
    #[cfg(test)]
    pub(crate) async fn list(&self) -> io::Result<Vec<(FileName, u64)>> {
        let mut found = Vec::new();
        for entry in file::list(&self.reactor, &self.options.dir).await? {
            let Some(partition) =
                super::names::parse_partition(&entry.name).filter(|_| entry.is_dir)
            else {
                continue;
            };
            found.extend(self.list_of(partition).await?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Lists the files of a partition with their sizes in bytes; none when it has no directory.
    ///
    /// # Errors
    /// What the operating system said.
    pub(crate) async fn list_of(&self, partition: u32) -> io::Result<Vec<(FileName, u64)>> {
        let dir = partition_dir(&self.options.dir, partition);
        let files = match file::list(&self.reactor, &dir).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let named = |name| FileName::parse(partition, name);
        let mut found: Vec<_> = files
            .iter()
            .filter_map(|file| Some((named(&file.name)?, file.bytes)))
            .collect();
        found.sort_unstable();
        Ok(found)
    }
}
