//! Snapshots: the state of a partition as of one entry, as the immutable files that hold it. A leader
//! gives one to a replica whose next entries it does not hold any more; the files travel as they are.
//! Not the sending: the node does that.
//!
//! A file has the same number on all replicas and is the same file: replicas give different numbers
//! ([`crate::lsm`]'s jobs), so that what a receiver has already is not sent again, and an interrupted
//! transfer goes on where it was.
//!
//! Invariants:
//! 1. A snapshot is offered only while the entries behind it are in memory: who has installed it can go
//!    on from there.
//! 2. An installed snapshot takes the place of version, memtables and log in one durable step. Until
//!    that is durable the replica hears nothing; what it had before is whole.
//! 3. What takes the place of damaged tables holds all that they held, and nothing that is not applied here: the log
//!    and what is in memory stay as they are, and so does all that the replica has promised.
//! 4. What is received is what the manifest says, to the last byte: damage that its sender does not know of stays
//!    there.
//! 5. Before the core is told of it the clock is above all that it holds: who has it may lead next, and
//!    what it stamps then is newer.

use std::fmt;
use std::rc::Rc;

use ashlar_consensus::raft::{self, Installed};
use ashlar_consensus::{Chain, Index, LogPosition, Membership, Term, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::group::Turn;
use crate::lsm::edit::{Edit, Effect};
use crate::lsm::store::{FileName, FileWriter};
use crate::lsm::table::Table;
use crate::lsm::tree::Tree;
use crate::lsm::{FileId, Ground, Unreadable};
use crate::partition::Partition;
use crate::planted::{Planted, is_planted};

/// A snapshot that can be offered.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The version whose files it consists of.
    pub edit: Edit,
    /// What the consensus core knows of it.
    pub core: raft::Snapshot,
}

/// A file of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFile {
    /// A table, by its number.
    Table(u64),
    /// A file of separated values, by its number.
    Values(u64),
}

/// What the manifest says of a file of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Which one it is.
    pub file: SnapshotFile,
    /// Its length.
    pub bytes: u64,
    hash: u128,
}

impl Expected {
    /// Returns what is said of all files of a snapshot.
    #[must_use]
    pub fn all_of(edit: &Edit) -> Vec<Self> {
        let tables = edit.add_tables.iter().map(|table| Self {
            file: SnapshotFile::Table(table.meta.number),
            bytes: table.meta.file_bytes,
            hash: table.meta.file_hash,
        });
        let values = edit.add_values.iter().map(|meta| Self {
            file: SnapshotFile::Values(meta.number),
            bytes: meta.file_bytes,
            hash: meta.file_hash,
        });
        tables.chain(values).collect()
    }
}

impl SnapshotFile {
    fn name(self, partition: u32) -> FileName {
        match self {
            Self::Table(number) => FileName::table(FileId { partition, number }),
            Self::Values(number) => FileName::values(partition, number),
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Table(number) | Self::Values(number) => number,
        }
    }
}

/// A file of a snapshot that is being received.
pub struct Sink {
    writer: FileWriter,
    hasher: Box<Xxh3>,
    hash: u128,
}

impl Sink {
    /// Writes a piece at `offset`, both multiples of 4 KiB.
    ///
    /// # Errors
    /// The file cannot be written; it is removed.
    ///
    /// # Panics
    /// When it does not follow the piece before.
    pub async fn write(&mut self, offset: u64, piece: &[u8]) -> Result<(), Unreadable> {
        self.hasher.update(piece);
        let written = self.writer.write(offset, piece).await;
        written.map_err(|error| Unreadable::new(error.to_string()))
    }

    /// Makes the file durable.
    ///
    /// # Errors
    /// It cannot be, or is not what the manifest says: the sender's is damaged. It is removed.
    pub async fn finish(self) -> Result<(), Unreadable> {
        let is_whole = self.hasher.digest128() == self.hash;
        if !is_whole {
            let what = "it is not the file that the manifest tells of: damaged where it comes from";
            return Err(Unreadable::new(what.to_owned()));
        }
        let finished = self.writer.finish().await;
        finished.map_err(|error| Unreadable::new(error.to_string()))
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.writer).finish()
    }
}

/// The tables of a snapshot, opened.
#[derive(Debug)]
pub struct Opened(pub(crate) Vec<Rc<Table>>);

impl Ground {
    /// Reads a part of a file; offset and length are multiples of 4 KiB.
    ///
    /// # Errors
    /// It cannot be read, or ends before.
    pub async fn read_file(
        &self,
        partition: u32,
        file: SnapshotFile,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, Unreadable> {
        let mut out = Vec::new();
        let name = file.name(partition);
        let read = self
            .store
            .read_raw(name, offset, bytes, |read| out.extend_from_slice(read));
        read.await?;
        Ok(out)
    }

    /// Returns where a file is written to that is received. What an earlier attempt has left of it is
    /// removed.
    pub async fn write_file(&self, partition: u32, expected: Expected) -> Sink {
        let name = expected.file.name(partition);
        self.store.run_removal(name).await;
        Sink {
            writer: self.store.create(name.kind, name.file),
            hasher: Box::default(),
            hash: expected.hash,
        }
    }

    /// Opens the tables of a snapshot whose files have all been received.
    ///
    /// # Errors
    /// One of them is not what the snapshot says.
    pub async fn open_snapshot(&self, edit: &Edit) -> Result<Opened, Unreadable> {
        let mut opened = Vec::new();
        for table in &edit.add_tables {
            let table = self.store.open_table(edit.partition, table.meta.clone());
            opened.push(table.await?);
        }
        Ok(Opened(opened))
    }
}

/// Returns what the core is told of a version.
fn core_of(edit: &Edit) -> Option<raft::Snapshot> {
    let flushed = edit.flushed?;
    Some(raft::Snapshot {
        at: LogPosition {
            term: Term(flushed.term),
            index: Index(flushed.index),
        },
        chain: Chain(flushed.chain),
        membership: Membership::decode(&edit.members).ok()?,
    })
}

impl Partition {
    /// Returns a snapshot, and keeps its files until [`Partition::release_snapshot`]. When the entries
    /// behind what is in tables are not all in memory, it begins a flush instead, and there is one
    /// later.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        let tree = self.tree.as_mut().filter(|tree| tree.is_open())?;
        let edit = tree.checkpoint();
        let flushed = edit.flushed.map_or(0, |flushed| flushed.index);
        if flushed == 0 || !self.replica.holds_from(Index(flushed).next()) {
            self.replica.keep_all_from(self.replica.applied().next());
            self.freeze();
            return None;
        }
        tree.hold();
        self.replica.keep_all_from(Index(flushed).next());
        let core = core_of(&edit)?;
        Some(Snapshot { edit, core })
    }

    /// Says whether the version has a file already.
    #[must_use]
    pub fn has_file(&self, file: SnapshotFile) -> bool {
        let tree = self.tree.as_ref();
        tree.is_some_and(|tree| tree.has_file(file.number()))
    }

    /// Lets go of the files of the last snapshot, and of the entries behind it.
    pub fn release_snapshot(&mut self) {
        if let Some(tree) = &mut self.tree {
            tree.let_go();
        }
        self.replica.keep_as_usual();
    }

    /// Has a received snapshot take the place of all that this replica has; says whether it is needed
    /// still. It takes effect when the log has it.
    pub fn install(&mut self, edit: Edit, opened: Opened) -> bool {
        let Some(core) = core_of(&edit) else {
            return false;
        };
        let needed = self
            .raft()
            .is_some_and(|raft| core.at.index > raft.committed());
        if !needed || self.replica.has_entry(core.at) || self.replica.is_installing() {
            return false;
        }
        let Some(tree) = &mut self.tree else {
            return false;
        };
        let edit = Edit {
            effect: Effect::Install,
            ..edit
        };
        tree.install(edit, opened.0);
        self.replica.set_installing(Some(core));
        true
    }

    /// Returns a snapshot of at least the entries up to `least`, and keeps its files until
    /// [`Partition::release_snapshot`]. When tables do not hold as much yet, it begins a flush instead.
    pub fn snapshot_of(&mut self, least: Index) -> Option<Snapshot> {
        if self.damage.is_some() {
            return None;
        }
        let tree = self.tree.as_mut().filter(|tree| tree.is_open())?;
        let edit = tree.checkpoint();
        if edit.flushed.is_none_or(|flushed| flushed.index < least.0) {
            self.freeze();
            return None;
        }
        let core = core_of(&edit)?;
        tree.hold();
        Some(Snapshot { edit, core })
    }

    /// Returns the last entry that tables hold, damaged or not.
    #[must_use]
    pub fn flushed_to(&self) -> Index {
        Index(self.tree.as_ref().map_or(0, Tree::flushed_to))
    }

    /// Has the tables of a received snapshot take the place of damaged ones; says whether it did. It takes effect when
    /// the log has it.
    pub fn repair(&mut self, edit: Edit, opened: Opened) -> bool {
        let Some(core) = core_of(&edit) else {
            return false;
        };
        let at = core.at.index;
        let is_held = at >= self.flushed_to() && at <= self.applied();
        let term = self.raft().map(|raft| raft.term_of(at));
        let is_same = term.is_some_and(|term| term.is_none_or(|term| term == core.at.term));
        if !self.needs_repair() || !is_held || !is_same || self.replica.is_installing() {
            return false;
        }
        let Some(tree) = &mut self.tree else {
            return false;
        };
        let edit = Edit {
            effect: Effect::Repair,
            ..edit
        };
        tree.install(edit, opened.0);
        true
    }

    /// Goes on with tables in the place of damaged ones: the log has them.
    pub(crate) fn take_repaired(&mut self) {
        let Some(tree) = &self.tree else { return };
        let version = Rc::clone(tree.version());
        if is_planted(Planted::RepairForgetsMemtable) {
            self.memtable = tree.new_memtable(self.memtable.seed());
        }
        for range in version.ranges.tombstones() {
            self.ranges.add(&range.start, &range.end, range.timestamp);
        }
        self.low_water = self.low_water.max(version.low_water);
        self.damage = None;
    }

    /// Takes the state of the snapshot over: the log has it.
    pub(crate) fn take_installed(&mut self) {
        let Some(tree) = &self.tree else { return };
        let version = Rc::clone(tree.version());
        if !is_planted(Planted::SnapshotKeepsMemtable) {
            self.memtable = tree.new_memtable(self.memtable.seed());
        }
        self.memtable_begin = None;
        self.ranges = version.ranges.clone();
        self.low_water = self.low_water.max(version.low_water);
        if let Some(flushed) = &version.flushed {
            self.replica.reset(flushed, &version.members);
        }
        if !self.is_beyond_repair {
            self.damage = None;
        }
    }

    /// Tells the core of a snapshot that has been installed.
    pub(crate) fn tell_installed(&mut self, turn: &mut Turn<'_>) {
        let Some(core) = self.replica.take_installed() else {
            return;
        };
        turn.clock
            .observe(Timestamp(self.replica.state().timestamp));
        self.decide(turn, |raft, turn, out| {
            let installed = raft.installed(turn.now, core, out);
            assert_eq!(
                installed,
                Installed::DropsLog,
                "nothing was heard while it was installed"
            );
            raft.released(raft.last().index.next());
        });
    }
}
