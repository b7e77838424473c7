//! The search for damage: every file of a shard's tables and values is read once in a time that the
//! operator chooses, and compared with the hash that the manifest has of it. So rot is found while it
//! can still be repaired, and not when the data is needed.
//!
//! ```text
//! cycle    the files that there are when it begins, in order; the first cycle of a process begins
//!          anywhere, so that restarts do not leave the last files unread forever
//! turn     as much as the time since the last one is worth, in pieces of 256 KiB, one at a time
//! file     whole hash right: done. Wrong: its blocks are checked one by one, or the values that are
//!          referred to, to name the place
//! ```
//! A file that is not what was written ends the service of its partition, which would answer from it
//! otherwise. Where only bytes are wrong that nobody reads (padding, values that are no longer
//! referred to) the partition goes on, and the log says so.
//!
//! Invariant: what is read does not enter the cache, and waits behind every read that a client waits
//! for.

mod suspect;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::Monotonic;
use xxhash_rust::xxh3::Xxh3;

use super::inputs::Inputs;
use super::job::Failure;
use super::store::{CHUNK_BYTES, FileKind, FileName, Purpose, Store, Windows};
use super::table::{Table, Walk};
use super::version::{TableHandle, Version};
use super::{Class, FileId, Ground, Miss, Value};
use crate::partition::Partition;

/// Most bytes that are read in a second, whatever the operator chooses.
const RATE_MAX: u64 = 8 << 20;
/// Most bytes that are read at once after a pause.
const BURST_BYTES: u64 = 1 << 20;
/// Blocks checked in one slice, when a file is damaged: some 100 microseconds.
const SLICE_BLOCKS: u32 = 16;

/// How far the search is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Times that all files were read.
    pub cycles: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Files that could not be read, or are not what was written.
    pub errors: u64,
    /// Files that are left in this cycle.
    pub files_left: u64,
}

/// Searches the files of a shard for damage.
#[derive(Debug)]
pub struct Scrub {
    store: Rc<Store>,
    /// Files of this cycle that were not begun.
    plan: RefCell<VecDeque<FileName>>,
    /// The file that is being read; absent while a task reads.
    reading: RefCell<Option<Reading>>,
    /// How a file ended that was read.
    ended: Rc<RefCell<Option<Ended>>>,
    is_running: Cell<bool>,
    has_begun: Cell<bool>,
    /// Up to when time has been used.
    used_until: Cell<Option<Monotonic>>,
    /// Bytes of all files, as of the last file begun.
    total_bytes: Cell<u64>,
    figures: Rc<Cell<Figures>>,
}

/// A file that is being read.
struct Reading {
    name: FileName,
    bytes: u64,
    hash: u128,
    offset: u64,
    hasher: Box<Xxh3>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, offset, .. } = self;
        write!(f, "{name} up to {offset}")
    }
}

type Tables = Rc<Version<Rc<Table>>>;

/// What a task has found.
#[derive(Debug)]
enum Ended {
    /// There is more to be read.
    Paused(Reading),
    /// The file was read to its end, or cannot be.
    File(FileName, Result<(), Failure>),
}

impl Scrub {
    /// Returns a search that has read nothing.
    #[must_use]
    pub fn new(ground: &Ground) -> Self {
        Self {
            store: Rc::clone(&ground.store),
            plan: RefCell::default(),
            reading: RefCell::default(),
            ended: Rc::default(),
            is_running: Cell::default(),
            has_begun: Cell::default(),
            used_until: Cell::default(),
            total_bytes: Cell::default(),
            figures: Rc::default(),
        }
    }

    /// Returns how far the search is.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let reading = u64::from(self.is_running.get() || self.reading.borrow().is_some());
        Figures {
            files_left: self.plan.borrow().len() as u64 + reading,
            ..self.figures.get()
        }
    }

    /// Goes on as far as the time since the last call is worth when all files are to be read in
    /// `cycle`; called some times in a second with all partitions of the shard. A partition with a
    /// damaged file is quarantined.
    pub fn turn<'a>(&self, cycle: Duration, partitions: impl Iterator<Item = &'a mut Partition>) {
        let mut partitions: Vec<_> = partitions.collect();
        if let Some(ended) = self.ended.borrow_mut().take() {
            self.is_running.set(false);
            self.take_in(ended, &mut partitions);
        }
        if self.is_running.get() || !self.has_file(&partitions) {
            return;
        }
        let bytes = self.allowed_bytes(cycle);
        if bytes == 0 {
            return;
        }
        let Some(reading) = self.reading.borrow_mut().take() else {
            return;
        };
        let Some((version, ..)) = find(&partitions, reading.name) else {
            // A merge has removed it.
            return;
        };
        self.is_running.set(true);
        let (store, ended) = (Rc::clone(&self.store), Rc::clone(&self.ended));
        let figures = Rc::clone(&self.figures);
        self.store
            .reactor()
            .spawn_named("the search for damage", async move {
                let found = reading.read_on((&store, &version), bytes, &figures).await;
                *ended.borrow_mut() = Some(found);
            });
    }

    fn take_in(&self, ended: Ended, partitions: &mut [&mut Partition]) {
        let (name, failure) = match ended {
            Ended::Paused(reading) => {
                *self.reading.borrow_mut() = Some(reading);
                return;
            }
            Ended::File(_, Ok(())) => return,
            Ended::File(name, Err(failure)) => (name, failure),
        };
        if find(partitions, name).is_none() {
            return;
        }
        self.count(|figures| figures.errors += 1);
        match failure {
            Failure::Damaged(what) => {
                let id = name.file.partition;
                let of = |partition: &&mut &mut Partition| partition.id().0 == id;
                if let Some(partition) = partitions.iter_mut().find(of) {
                    partition.quarantine(&what);
                }
            }
            Failure::Io(what) => tracing::warn!("{what}; read again in the next cycle"),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Figures)) {
        let mut figures = self.figures.get();
        change(&mut figures);
        self.figures.set(figures);
    }

    /// Sees to it that there is a file to read; says whether there is.
    fn has_file(&self, partitions: &[&mut Partition]) -> bool {
        if self.reading.borrow().is_some() {
            return true;
        }
        loop {
            let next = self.plan.borrow_mut().pop_front();
            match next.map(|name| find(partitions, name)) {
                Some(None) => {}
                Some(Some((_, reading))) => {
                    self.total_bytes.set(total_bytes(partitions));
                    *self.reading.borrow_mut() = Some(reading);
                    return true;
                }
                None if self.begin_cycle(partitions) => {}
                None => return false,
            }
        }
    }

    /// Plans the next cycle; says whether there is anything to read in it.
    fn begin_cycle(&self, partitions: &[&mut Partition]) -> bool {
        let mut plan: VecDeque<FileName> = partitions.iter().flat_map(|of| files(of)).collect();
        let Ok(count @ 1..) = u64::try_from(plan.len()) else {
            self.used_until.set(None);
            return false;
        };
        if self.has_begun.replace(true) {
            self.count(|figures| figures.cycles += 1);
        } else {
            let start = self.store.reactor().random() % count;
            plan.rotate_left(usize::try_from(start).expect("below a length"));
        }
        *self.plan.borrow_mut() = plan;
        true
    }

    /// Returns how many bytes of the file may be read now: whole pieces, or its rest.
    fn allowed_bytes(&self, cycle: Duration) -> u64 {
        let now = self.store.reactor().now();
        let until = self.used_until.get().unwrap_or(now);
        self.used_until.set(Some(until));
        let reading = self.reading.borrow();
        let rest = reading.as_ref().map_or(0, |of| of.bytes - of.offset);
        let total = u128::from(self.total_bytes.get().max(1));
        let cycle_us = cycle
            .as_micros()
            .max(total * 1_000_000 / u128::from(RATE_MAX))
            .max(1);
        let earned = now.since(until).as_micros() * total / cycle_us;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        let piece = CHUNK_BYTES as u64;
        let bytes = (earned.min(BURST_BYTES) / piece * piece).min(rest);
        let bytes = if earned >= rest && rest <= piece {
            rest
        } else {
            bytes
        };
        if bytes > 0 {
            let took_us = u128::from(bytes) * cycle_us / total;
            let took = Duration::from_micros(u64::try_from(took_us).unwrap_or(u64::MAX));
            let used = if earned > BURST_BYTES {
                now
            } else {
                until + took
            };
            self.used_until.set(Some(used));
        }
        bytes
    }
}

/// Returns the files of a partition, unless it is damaged already.
fn files(partition: &Partition) -> Vec<FileName> {
    let tree = partition.tree.as_ref();
    let Some(tree) = tree.filter(|_| partition.damage.is_none()) else {
        return Vec::new();
    };
    let (version, partition) = (tree.version(), partition.id().0);
    let file = |number| FileId { partition, number };
    let tables = version.tables().map(|(_, table)| table.meta().number);
    let values = version.values.keys();
    tables
        .map(|number| FileName::table(file(number)))
        .chain(values.map(|number| FileName::values(partition, *number)))
        .collect()
}

fn total_bytes(partitions: &[&mut Partition]) -> u64 {
    partitions
        .iter()
        .map(|partition| partition.file_bytes())
        .sum()
}

/// Returns a file to be read from its beginning, if it is part of its partition's version, with that.
fn find(partitions: &[&mut Partition], name: FileName) -> Option<(Tables, Reading)> {
    let id = name.file.partition;
    let partition = partitions.iter().find(|of| of.id().0 == id)?;
    let tree = partition.tree.as_ref();
    let version = tree.filter(|_| partition.damage.is_none())?.version();
    let (bytes, hash) = match name.kind {
        FileKind::Table => {
            let meta = find_table(version, name)?.meta();
            (meta.file_bytes, meta.file_hash)
        }
        FileKind::Values => {
            let meta = version.values.get(&name.file.number)?;
            (meta.file_bytes, meta.file_hash)
        }
    };
    let reading = Reading {
        name,
        bytes,
        hash,
        offset: 0,
        hasher: Box::default(),
    };
    Some((Rc::clone(version), reading))
}

fn find_table(version: &Version<Rc<Table>>, name: FileName) -> Option<&Rc<Table>> {
    let number = name.file.number;
    let mut tables = version.tables().map(|(_, table)| table);
    tables.find(|table| table.meta().number == number)
}

impl Reading {
    /// Reads up to `budget` bytes, and judges the file if that was its end.
    async fn read_on(
        mut self,
        (store, version): (&Rc<Store>, &Tables),
        budget: u64,
        figures: &Cell<Figures>,
    ) -> Ended {
        let end = (self.offset + budget).min(self.bytes);
        while self.offset < end {
            let bytes = (end - self.offset).min(CHUNK_BYTES as u64);
            let read = self.read_piece(store, bytes).await;
            if let Err(failure) = read {
                return Ended::File(self.name, Err(failure));
            }
            let mut counted = figures.get();
            counted.bytes += bytes;
            figures.set(counted);
        }
        if self.offset < self.bytes {
            return Ended::Paused(self);
        }
        let judged = if self.hasher.digest128() == self.hash {
            Ok(())
        } else {
            self.judge(store, version).await
        };
        Ended::File(self.name, judged)
    }

    async fn read_piece(&mut self, store: &Rc<Store>, bytes: u64) -> Result<(), Failure> {
        let len = usize::try_from(bytes).expect("a piece fits in memory");
        let read = store.read_raw(self.name, self.offset, len, |piece| {
            self.hasher.update(piece)
        });
        read.await?;
        self.offset += bytes;
        Ok(())
    }

    /// Says where a file with another hash is damaged.
    async fn judge(&self, store: &Rc<Store>, version: &Tables) -> Result<(), Failure> {
        match self.name.kind {
            FileKind::Table => self.check_table(store, version).await?,
            FileKind::Values => self.check_values(store, version).await?,
        }
        let path = self.name.path(&store.options().dir);
        Err(Failure::Io(format!(
            "{} is not what was written, but nothing in it that is needed is wrong",
            path.display()
        )))
    }

    async fn check_table(&self, store: &Rc<Store>, version: &Tables) -> Result<(), Failure> {
        let table = find_table(version, self.name).expect("it was found in this version");
        let meta = table.meta().clone();
        let table = store.open_table(self.name.file.partition, meta).await?;
        let windows = Windows::new(store, Purpose::Scrub, 1);
        let mut walk = Walk::new(table);
        let mut blocks = 0;
        loop {
            let miss = match walk.next(&windows) {
                Ok(None) => return Ok(()),
                Ok(Some(block)) => Miss {
                    file: self.name.file,
                    block,
                    class: Class::Data,
                },
                Err(miss) => miss,
            };
            windows.load(miss).await?;
            blocks += 1;
            if blocks % SLICE_BLOCKS == 0 {
                store.slice().await;
            }
        }
    }

    /// Checks the values of the file that the partition refers to.
    async fn check_values(&self, store: &Rc<Store>, version: &Tables) -> Result<(), Failure> {
        let mut inputs = Inputs::new(store, &version.runs);
        inputs.begin().await?;
        let mut entries = 0;
        while let Some(entry) = inputs.entry() {
            if let Value::Separate(value) = entry.value
                && value.number == self.name.file.number
            {
                store.read_value(self.name, value).await?;
            }
            entries += 1;
            if entries % (SLICE_BLOCKS * 32) == 0 {
                store.slice().await;
            }
            while let Err(miss) = inputs.advance() {
                inputs.load(miss).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
