//! The tree of one partition: what is beneath its active memtable, and the tasks that keep it in shape.
//!
//! It starts tasks and takes what they have done; the tasks themselves are in `flush` and `merge`.
//! A task changes nothing: it writes files that nobody knows, and answers an [`Edit`]. The edit goes
//! through the log, and when it is durable the tree has a new version.
//!
//! Invariants:
//! 1. The version is what a recovery from checkpoint and durable log would find.
//! 2. A file leaves the disk after the edit that drops it is durable.
//! 3. At most one flush and one merge run at a time; frozen memtables are flushed in order.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use ashlar_consensus::PartitionId;
use ashlar_io::wal::{Mark, Position, Wal};

use super::edit::{Edit, Effect, Flushed};
use super::filter::filter_hash;
use super::flush::flush;
use super::job::{Context, Done, Failure, Numbers, Report, Task};
use super::merge::run_job;
use super::pick::{self, Policy};
use super::ranges::{RangeTombstone, Ranges};
use super::retain::Depth;
use super::store::{FileKind, FileName, Store};
use super::table::{Found, Hit, Table};
use super::version::Version;
use super::{FileId, Ground, Miss};
use crate::memtable::{Memtable, Version as MemoryVersion};

/// Frozen memtables that a partition may have.
pub(crate) const FROZEN_MAX: usize = 2;

/// A memtable that no longer changes, on its way to a table.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) memtable: Memtable,
    /// What a table of it makes flushed.
    pub(crate) flushed: Flushed,
    /// Who the replicas are as of then, encoded.
    pub(crate) members: Vec<u8>,
    /// Where in the log its oldest entry may begin.
    pub(crate) begin: Position,
    /// The range deletions up to its end.
    pub(crate) ranges: Ranges,
}

/// An edit that the log has taken.
#[derive(Debug)]
struct Logged {
    /// Durable once the log says so of this; at once for what needs no log.
    mark: Option<Mark>,
    position: Position,
    done: Done,
}

/// What lies beneath a partition's active memtable.
#[derive(Debug)]
pub(crate) struct Tree {
    partition: PartitionId,
    ground: Ground,
    /// Oldest first.
    frozen: VecDeque<Rc<Frozen>>,
    version: Rc<Version<Rc<Table>>>,
    /// What a checkpoint says when tables could not be opened: then the version is not known here.
    unopened: Option<Box<Edit>>,
    /// What tasks have done, in order; the log has not seen it yet.
    done: Rc<RefCell<VecDeque<Done>>>,
    logged: VecDeque<Logged>,
    /// Sequence of the last edit that the log has taken, and the low-water mark that it says.
    sequence: u64,
    low_water: u64,
    numbers: Rc<Numbers>,
    /// A version whose files stay though later ones have dropped them, and those files.
    held: Option<Rc<Version<Rc<Table>>>>,
    held_back: Vec<FileName>,
    is_flushing: bool,
    is_merging: bool,
    /// A version of another replica is on its way into the log: no task is started.
    is_installing: bool,
    /// There may be something to merge: the version has changed, or time has passed.
    may_merge: bool,
    /// Set while the merge that runs should let another go first.
    should_yield: Rc<Cell<bool>>,
    /// What waits to be merged, as of the last look.
    debt_bytes: u64,
    /// Edits published since the last checkpoint.
    pub(crate) unsaved_edits: u64,
}

/// What publishing found out.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Range deletions that no table needs any more.
    pub(crate) ranges_gone: Vec<RangeTombstone>,
    /// A file is damaged.
    pub(crate) damage: Option<String>,
    /// A version of another replica has taken the place of the one before.
    pub(crate) installed: bool,
    /// The same, of one whose files were damaged; what is in memory stays.
    pub(crate) repaired: bool,
}

impl Tree {
    pub(crate) fn new(partition: PartitionId, ground: &Ground) -> Self {
        Self {
            partition,
            ground: ground.clone(),
            frozen: VecDeque::new(),
            version: Rc::new(Version::empty(partition.0)),
            unopened: None,
            done: Rc::default(),
            logged: VecDeque::new(),
            sequence: 0,
            low_water: 0,
            numbers: Rc::default(),
            held: None,
            held_back: Vec::new(),
            is_flushing: false,
            is_merging: false,
            is_installing: false,
            may_merge: true,
            should_yield: Rc::default(),
            debt_bytes: 0,
            unsaved_edits: 0,
        }
    }

    /// Takes over what recovery found.
    pub(crate) fn recovered(&mut self, version: Version<Rc<Table>>) {
        (self.sequence, self.low_water) = (version.sequence, version.low_water);
        self.numbers.skip_to(version.next_number);
        self.version = Rc::new(version);
    }

    /// Takes over what recovery found of a partition whose tables cannot be opened: checkpoints go
    /// on to tell of them.
    pub(crate) fn recovered_unopened(&mut self, snapshot: Edit) {
        (self.sequence, self.low_water) = (snapshot.sequence, snapshot.low_water);
        self.numbers.skip_to(snapshot.next_number);
        self.unopened = Some(Box::new(snapshot));
    }

    /// Says whether the tables are open. If not, nothing is flushed or merged: the version is not
    /// what it should be.
    pub(crate) fn is_open(&self) -> bool {
        self.unopened.is_none()
    }

    /// Returns the last entry that tables hold, or will when the edits are durable that the log has.
    pub(crate) fn flushed_to(&self) -> u64 {
        let unopened = self.unopened.iter().map(|edit| edit.flushed);
        let logged = self
            .logged
            .iter()
            .filter_map(|logged| logged.done.edit.as_ref());
        let all = unopened.chain(logged.map(|edit| edit.flushed));
        let all = all.chain([self.version.flushed]).flatten();
        all.map(|flushed| flushed.index).max().unwrap_or(0)
    }

    /// Says whether the version has a file.
    pub(crate) fn has_file(&self, number: u64) -> bool {
        self.version.files().any(|file| file == number)
    }

    /// Returns the whole version as one edit, for a checkpoint.
    pub(crate) fn checkpoint(&self) -> Edit {
        let unopened = self.unopened.as_deref();
        unopened.map_or_else(|| self.version.snapshot(), Edit::clone)
    }

    pub(crate) fn store(&self) -> &Rc<Store> {
        &self.ground.store
    }

    /// Returns an empty memtable in the shard's memory, whose hashes are those of `seed`.
    pub(crate) fn new_memtable(&self, seed: u64) -> Memtable {
        Memtable::with_pool(seed, &self.ground.chunks)
    }

    /// Says whether a merge is running.
    pub(crate) fn is_merging(&self) -> bool {
        self.is_merging
    }

    pub(crate) fn version(&self) -> &Rc<Version<Rc<Table>>> {
        &self.version
    }

    /// Says whether nothing lies beneath the active memtable. Beneath that of a partition whose tables cannot be opened
    /// there will be something again, when they are repaired.
    pub(crate) fn is_empty(&self) -> bool {
        self.frozen.is_empty() && !self.has_tables() && self.is_open()
    }

    pub(crate) fn has_tables(&self) -> bool {
        !self.version.runs.is_empty()
    }

    pub(crate) fn frozen(&self) -> impl DoubleEndedIterator<Item = &Rc<Frozen>> {
        self.frozen.iter()
    }

    pub(crate) fn frozen_bytes(&self) -> u64 {
        self.frozen.iter().map(|f| f.memtable.used_bytes()).sum()
    }

    pub(crate) fn may_freeze(&self) -> bool {
        self.frozen.len() < FROZEN_MAX
    }

    pub(crate) fn freeze(&mut self, frozen: Frozen) {
        assert!(self.may_freeze(), "a partition has few frozen memtables");
        self.frozen.push_back(Rc::new(frozen));
    }

    /// Returns the first position of the log that the frozen memtables need.
    pub(crate) fn oldest_frozen(&self) -> Option<Position> {
        self.frozen.front().map(|frozen| frozen.begin)
    }

    /// Returns where in the log the first edit begins that is not part of the version yet.
    pub(crate) fn oldest_edit(&self) -> Option<Position> {
        self.logged.front().map(|logged| logged.position)
    }

    /// Returns the newest version of `key` at `at` in the frozen memtables.
    pub(crate) fn find_frozen(&self, hash: u64, key: &[u8], at: u64) -> Option<MemoryVersion<'_>> {
        let newest_first = self.frozen.iter().rev();
        newest_first
            .filter_map(|frozen| frozen.memtable.as_of(hash, key, at))
            .next()
    }

    /// Returns the newest version of `key` at `at` in the tables. Those with nothing above `hidden`
    /// are left out.
    pub(crate) fn find(&self, key: &[u8], at: u64, hidden: u64) -> Result<Option<Hit>, Miss> {
        if self.version.runs.is_empty() {
            return Ok(None);
        }
        let cache = self.store().cache();
        let hash = filter_hash(key);
        for run in &self.version.runs {
            let Some(table) = run.table_of(key) else {
                continue;
            };
            if table.meta().max_timestamp <= hidden {
                continue;
            }
            if let Found::Hit(hit) = table.find(&*cache, key, hash, at)? {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// Starts a flush if there is something to flush, for readers at `low_water` or later.
    pub(crate) fn start_flush(&mut self, low_water: u64, ranges: &Ranges) {
        if self.is_open()
            && !self.is_flushing
            && !self.is_installing
            && let Some(frozen) = self.frozen.front()
        {
            self.is_flushing = true;
            let (context, frozen) = (self.context(low_water, ranges), Rc::clone(frozen));
            // A merge that runs now may drop tombstones that hide what is in the memtable's past.
            let depth = match self.version.runs.is_empty() {
                true => Depth::Bottom,
                false => Depth::Upper,
            };
            self.spawn(Task::Flush, async move |report| {
                flush(&context, &frozen, depth, &report).await
            });
        }
    }

    /// Starts a merge if there is something to merge, for readers at `low_water` or later. It is
    /// looked for only when the version has changed, or [`Tree::look_again`] was called.
    pub(crate) fn start_merge(&mut self, policy: &Policy, low_water: u64, ranges: &Ranges) {
        let is_busy = !self.is_open() || self.is_merging || self.is_installing;
        if is_busy || !std::mem::take(&mut self.may_merge) {
            return;
        }
        self.debt_bytes = pick::debt_bytes(&self.version, policy);
        if let Some(job) = pick::pick(&self.version, policy, low_water) {
            self.is_merging = true;
            let (context, version) = (self.context(low_water, ranges), Rc::clone(&self.version));
            self.spawn(Task::Merge, async move |report| {
                run_job(&context, &version, job, &report).await
            });
        }
    }

    /// Has the next [`Tree::start_merge`] look for something to merge: with time, versions become
    /// useless, and keys expire.
    pub(crate) fn look_again(&mut self) {
        self.may_merge = true;
    }

    /// Returns what waits to be merged, in bytes.
    pub(crate) fn debt_bytes(&self) -> u64 {
        self.debt_bytes
    }

    fn context(&self, low_water: u64, ranges: &Ranges) -> Context {
        Context {
            store: Rc::clone(&self.ground.store),
            layout: self.ground.layout,
            partition: self.partition.0,
            numbers: Rc::clone(&self.numbers),
            low_water,
            ranges: ranges.clone(),
            should_yield: Rc::clone(&self.should_yield),
        }
    }

    fn spawn(&self, task: Task, work: impl AsyncFnOnce(Report) -> Result<(), Failure> + 'static) {
        let (done, store) = (Rc::clone(&self.done), Rc::clone(self.store()));
        let name = match task {
            Task::Flush => "a flush",
            Task::Merge => "a merge",
        };
        self.store().reactor().spawn_named(name, async move {
            let failed = work(Report::new(Rc::clone(&done))).await.err();
            if let Some(failure) = &failed {
                failure.pause(&store).await;
            }
            done.borrow_mut().push_back(Done::end(task, failed));
        });
    }

    /// Gives the edits of what tasks have done to the log; says whether there were any.
    pub(crate) fn drain(&mut self, wal: &mut Wal) -> bool {
        let before = self.sequence;
        loop {
            let Some(mut done) = self.done.borrow_mut().pop_front() else {
                return self.sequence > before;
            };
            let position = wal.position();
            let mark = done.edit.as_mut().map(|edit| {
                self.sequence += 1;
                (edit.partition, edit.sequence) = (self.partition.0, self.sequence);
                edit.next_number = edit.next_number.max(self.numbers.next());
                self.low_water = self.low_water.max(edit.low_water);
                edit.low_water = self.low_water;
                let mut bytes = Vec::new();
                edit.encode(&mut bytes);
                wal.append(&[&bytes])
            });
            self.logged.push_back(Logged {
                mark,
                position,
                done,
            });
        }
    }

    /// Gives numbers to files that no other replica gives.
    pub(crate) fn share_numbers(&self, replica: u64) {
        self.numbers.share(replica);
    }

    /// Keeps the files of the version that is now, until [`Tree::let_go`].
    pub(crate) fn hold(&mut self) {
        self.let_go();
        self.held = Some(Rc::clone(&self.version));
    }

    /// Removes the files that were kept and that no version needs.
    pub(crate) fn let_go(&mut self) {
        self.held = None;
        for name in std::mem::take(&mut self.held_back) {
            self.store().remove(name.kind, name.file);
        }
    }

    /// Puts a version of another replica in the place of this one, once the log has it. What tasks do
    /// meanwhile is forgotten; files that they leave are removed at the next start.
    pub(crate) fn install(&mut self, edit: Edit, opened: Vec<Rc<Table>>) {
        self.should_yield.set(true);
        self.is_installing = true;
        self.done = Rc::default();
        self.numbers.skip_to(edit.next_number);
        self.done.borrow_mut().push_back(Done::edit(edit, opened));
    }

    /// Makes the durable edits true.
    pub(crate) fn publish(&mut self, durable: Mark) -> Published {
        let mut published = Published::default();
        let is_durable = |logged: &Logged| logged.mark.is_none_or(|mark| mark < durable);
        while self.logged.front().is_some_and(is_durable) {
            let logged = self.logged.pop_front().expect("looked at above");
            self.publish_one(logged.done, &mut published);
        }
        published
    }

    fn publish_one(&mut self, done: Done, published: &mut Published) {
        self.may_merge = true;
        match done.ended {
            Some(Task::Flush) => self.is_flushing = false,
            Some(Task::Merge) => self.is_merging = false,
            None => {}
        }
        if let Some(Failure::Damaged(what)) = done.failed {
            published.damage = Some(what);
        }
        let Some(edit) = done.edit else { return };
        let mut gone = self.files_of(&edit);
        let version = self
            .version
            .after(&edit, done.opened)
            .expect("an edit that a task made of this version fits it");
        if edit.effect != Effect::Change {
            let stays: BTreeSet<u64> = version.files().collect();
            gone = self.files();
            gone.retain(|name| !stays.contains(&name.file.number));
            (self.is_flushing, self.is_merging) = (false, false);
            (self.is_installing, self.unopened) = (false, None);
        }
        match edit.effect {
            Effect::Change => {}
            Effect::Install => {
                self.frozen.clear();
                published.installed = true;
            }
            Effect::Repair => {
                self.frozen
                    .retain(|frozen| Some(frozen.flushed) > edit.flushed);
                published.repaired = true;
            }
        }
        self.should_yield.set(pick::should_yield(&version));
        self.version = Rc::new(version);
        self.unsaved_edits += 1;
        if edit.flushed.is_some() && edit.effect == Effect::Change {
            let frozen = self.frozen.pop_front();
            assert!(
                frozen.is_some_and(|frozen| Some(frozen.flushed) == edit.flushed),
                "memtables are flushed in order"
            );
        }
        for name in gone {
            let number = name.file.number;
            let held = self.held.as_ref();
            if held.is_some_and(|held| held.files().any(|file| file == number)) {
                self.held_back.push(name);
            } else {
                self.store().remove(name.kind, name.file);
            }
        }
        published.ranges_gone.extend(edit.remove_ranges);
    }

    /// Returns all files of the version.
    fn files(&self) -> Vec<FileName> {
        let partition = self.partition.0;
        let table = |number| FileName::table(FileId { partition, number });
        let tables = self.version.tables().map(|(_, of)| table(of.meta().number));
        let values = self.version.values.keys();
        tables
            .chain(values.map(|number| FileName::values(partition, *number)))
            .collect()
    }

    /// Returns the files that an edit drops.
    fn files_of(&self, edit: &Edit) -> Vec<FileName> {
        let name = |number, kind| FileName {
            file: FileId {
                partition: self.partition.0,
                number,
            },
            kind,
        };
        let tables = edit.remove_tables.iter();
        let values = edit.remove_values.iter();
        tables
            .map(|number| name(*number, FileKind::Table))
            .chain(values.map(|number| name(*number, FileKind::Values)))
            .collect()
    }
}
