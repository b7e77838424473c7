//! Versions: which tables, value files and range tombstones a partition consists of at one moment.
//! A version never changes; an edit makes the next one. Pure: the tables are handles that the
//! caller has opened, or only what the manifest says of them.
//!
//! ```text
//! runs, newest first      age 9   level 0  [tables]
//!                         age 7   level 0  [tables]
//!   a merge goes on:      age 6   level 1  [a..f]              output: the keys below g
//!                         age 6   level 0        from g [g..z]  input of it
//!                         age 4   level 0        from g [e..y]  input of it
//!                         age 3   bottom   [tables]
//! ```
//! A merge moves keys from its inputs to its output from the lowest on, table by table; each step is
//! one edit. What is half done is complete in itself: it can be read, and gone on with after a crash
//! from what the version says.
//!
//! Invariants, checked in each version:
//! 1. Runs are in order of age and then of id, descending, and no id is used twice.
//! 2. The tables of a run ascend and do not overlap; no table is in two places; its value files are
//!    there.
//! 3. The inputs of a merge stand directly behind its output; its tables lie below their `from`, and
//!    each of their tables has a key at or above it.
//! 4. A run has tables.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Malformed;
use super::edit::{AddRun, AddTable, Edit, Effect, Flushed, StartMerge, TrimRun};
use super::ranges::{RangeTombstone, Ranges};
use super::table::{Table, TableMeta};
use super::values::ValueFileMeta;

/// The level of the run behind all others, once there is one.
pub const BOTTOM_LEVEL: u8 = u8::MAX;

/// A table as a version holds it: opened, or only described.
pub trait TableHandle: Clone {
    /// Returns what the manifest keeps about the table.
    fn meta(&self) -> &TableMeta;
}

impl TableHandle for TableMeta {
    fn meta(&self) -> &TableMeta {
        self
    }
}

impl TableHandle for Rc<Table> {
    fn meta(&self) -> &TableMeta {
        Table::meta(self)
    }
}

/// Tables in order of key that do not overlap.
#[derive(Clone, Debug, PartialEq)]
pub struct Run<T> {
    /// Its number.
    pub id: u64,
    /// Its place among the runs: one of larger age is newer.
    pub age: u64,
    /// Its level.
    pub level: u8,
    /// Keys below it have moved to the run `into`; empty for none.
    pub from: Vec<u8>,
    /// The run that its keys move to.
    pub into: Option<u64>,
    /// The tables.
    pub tables: Vec<T>,
}

impl<T: TableHandle> Run<T> {
    fn new(run: &AddRun) -> Self {
        Self {
            id: run.id,
            age: run.age,
            level: run.level,
            from: Vec::new(),
            into: None,
            tables: Vec::new(),
        }
    }

    /// Returns the table that holds `key`, if one does.
    #[must_use]
    #[inline]
    pub fn table_of(&self, key: &[u8]) -> Option<&T> {
        if key < self.from.as_slice() {
            return None;
        }
        let table = self.tables.get(self.first_from(key))?;
        (table.meta().first_key.as_slice() <= key).then_some(table)
    }

    /// Returns the tables that may hold keys of `[start, end)`; `None` is behind all keys. The first
    /// one may also hold keys below [`Run::from`], which count no more.
    #[must_use]
    pub fn overlapping(&self, start: &[u8], end: Option<&[u8]>) -> &[T] {
        let first = self.first_from(start.max(&self.from));
        let behind = match end {
            None => self.tables.len(),
            Some(end) => self
                .tables
                .partition_point(|table| table.meta().first_key.as_slice() < end),
        };
        self.tables.get(first..behind).unwrap_or(&[])
    }

    /// Returns the index of the first table that ends at or behind `key`.
    fn first_from(&self, key: &[u8]) -> usize {
        self.tables
            .partition_point(|table| table.meta().last_key.as_slice() < key)
    }

    /// Returns the bytes of keys and values.
    #[must_use]
    pub fn raw_bytes(&self) -> u64 {
        self.sum(|meta| meta.raw_bytes)
    }

    /// Returns the sum of a figure over the tables.
    #[must_use]
    pub fn sum(&self, figure: impl Fn(&TableMeta) -> u64) -> u64 {
        self.tables.iter().map(|table| figure(table.meta())).sum()
    }
}

/// How much of a value file is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueUse {
    /// Bytes of its values.
    pub value_bytes: u64,
    /// Bytes of those that tables refer to.
    pub referenced_bytes: u64,
}

impl ValueUse {
    /// Returns the bytes of values that no table refers to.
    #[must_use]
    pub fn garbage_bytes(&self) -> u64 {
        self.value_bytes.saturating_sub(self.referenced_bytes)
    }
}

/// What a level adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelTotals {
    /// Runs.
    pub runs: u64,
    /// Tables.
    pub tables: u64,
    /// Bytes of files.
    pub file_bytes: u64,
    /// Bytes of keys and values.
    pub raw_bytes: u64,
    /// Keys, each counted in every run that has it.
    pub keys: u64,
}

/// What a partition consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Version<T> {
    /// The partition.
    pub partition: u32,
    /// Sequence of the last edit; 0 before the first.
    pub sequence: u64,
    /// Reads below this timestamp are refused.
    pub low_water: u64,
    /// Files and runs below it have been numbered.
    pub next_number: u64,
    /// What is in tables; `None` when nothing is.
    pub flushed: Option<Flushed>,
    /// Newest first.
    pub runs: Vec<Rc<Run<T>>>,
    /// Value files, by number.
    pub values: BTreeMap<u64, ValueFileMeta>,
    /// Range tombstones.
    pub ranges: Ranges,
    /// Who the replicas were as of what is flushed, encoded; empty when that was never told.
    pub members: Vec<u8>,
}

impl<T> Default for Version<T> {
    fn default() -> Self {
        Self::empty(0)
    }
}

impl<T> Version<T> {
    /// Returns the version that has nothing.
    #[must_use]
    pub fn empty(partition: u32) -> Self {
        Self {
            partition,
            sequence: 0,
            low_water: 0,
            next_number: 1,
            flushed: None,
            runs: Vec::new(),
            values: BTreeMap::new(),
            ranges: Ranges::default(),
            members: Vec::new(),
        }
    }
}

impl<T: TableHandle> Version<T> {
    /// Begins the next edit of this version: one that changes nothing so far.
    #[must_use]
    pub fn edit(&self) -> Edit {
        Edit {
            partition: self.partition,
            sequence: self.sequence + 1,
            low_water: self.low_water,
            next_number: self.next_number,
            ..Edit::default()
        }
    }

    /// Returns the version behind an edit; `opened` are the handles of the tables that it adds, in
    /// order.
    ///
    /// # Errors
    /// The edit does not fit; a sentence says why.
    pub fn after(&self, edit: &Edit, opened: Vec<T>) -> Result<Self, Malformed> {
        match edit.effect {
            Effect::Change => self.apply(edit, opened),
            Effect::Install | Effect::Repair => Self::restore(edit, opened),
        }
    }

    /// Says whether the version contains an edit already: a log is read again from where a
    /// checkpoint was, or a little before.
    #[must_use]
    pub fn contains(&self, edit: &Edit) -> bool {
        edit.sequence <= self.sequence
    }

    /// Returns the runs in which `key` may be, newest first, each with the table.
    pub fn tables_for<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = (&'a Run<T>, &'a T)> {
        self.runs
            .iter()
            .filter_map(move |run| Some((&**run, run.table_of(key)?)))
    }

    /// Returns the tables that may hold keys of `[start, end)`, newest runs first.
    pub fn overlapping<'a>(
        &'a self,
        start: &'a [u8],
        end: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Run<T>, &'a [T])> {
        self.runs
            .iter()
            .map(move |run| (&**run, run.overlapping(start, end)))
            .filter(|(_, tables)| !tables.is_empty())
    }

    /// Returns every table, with its run.
    pub fn tables(&self) -> impl Iterator<Item = (&Run<T>, &T)> {
        self.runs
            .iter()
            .flat_map(|run| run.tables.iter().map(move |table| (&**run, table)))
    }

    /// Returns a run.
    #[must_use]
    pub fn run(&self, id: u64) -> Option<&Rc<Run<T>>> {
        self.runs.iter().find(|run| run.id == id)
    }

    /// Returns the runs whose keys move to the run `output`, newest first.
    pub fn inputs(&self, output: u64) -> impl Iterator<Item = &Rc<Run<T>>> {
        self.runs.iter().filter(move |run| run.into == Some(output))
    }

    /// Says whether no run is older than this one, those that move into it aside: what it deletes
    /// need not be said any more.
    #[must_use]
    pub fn is_last(&self, run: u64) -> bool {
        let last = self.runs.last();
        last.is_some_and(|last| last.into.unwrap_or(last.id) == run)
    }

    /// Returns the bytes of all files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let values: u64 = self.values.values().map(|values| values.file_bytes).sum();
        let tables = self.runs.iter().map(|run| run.sum(|meta| meta.file_bytes));
        tables.sum::<u64>() + values
    }

    /// Returns about how many keys the tables hold: too many where runs repeat keys of others.
    #[must_use]
    pub fn keys_estimate(&self) -> u64 {
        // A tombstone mostly takes the place of a key in an older run.
        let keys = |run: &Rc<Run<T>>| run.sum(|meta| meta.keys.saturating_sub(meta.tombstones));
        let tombstones = |run: &Rc<Run<T>>| run.sum(|meta| meta.tombstones);
        let all: u64 = self.runs.iter().map(keys).sum();
        all.saturating_sub(self.runs.iter().map(tombstones).sum())
    }

    /// Returns what each level adds up to, in order of level.
    #[must_use]
    pub fn levels(&self) -> BTreeMap<u8, LevelTotals> {
        let mut levels: BTreeMap<u8, LevelTotals> = BTreeMap::new();
        for run in &self.runs {
            let totals = levels.entry(run.level).or_default();
            totals.runs += 1;
            totals.tables += run.tables.len() as u64;
            totals.file_bytes += run.sum(|meta| meta.file_bytes);
            totals.raw_bytes += run.raw_bytes();
            totals.keys += run.sum(|meta| meta.keys);
        }
        levels
    }

    /// Returns how much of each value file is in use, by number.
    #[must_use]
    pub fn value_uses(&self) -> BTreeMap<u64, ValueUse> {
        let used = |values: &ValueFileMeta| ValueUse {
            value_bytes: values.value_bytes,
            referenced_bytes: 0,
        };
        let each = self.values.iter();
        let mut uses: BTreeMap<u64, ValueUse> =
            each.map(|(n, values)| (*n, used(values))).collect();
        for (number, bytes) in self.tables().flat_map(|(_, table)| &table.meta().values) {
            if let Some(of) = uses.get_mut(number) {
                of.referenced_bytes += bytes;
            }
        }
        uses
    }

    /// Returns the value files that no table refers to.
    #[must_use]
    pub fn unreferenced_values(&self) -> Vec<u64> {
        let referenced: BTreeSet<u64> = self
            .tables()
            .flat_map(|(_, table)| table.meta().values.iter().map(|(number, _)| *number))
            .collect();
        let all = self.values.keys().copied();
        all.filter(|number| !referenced.contains(number)).collect()
    }

    /// Returns the range tombstones that nothing in tables needs any more: each table in their range
    /// has been written without what they delete, or never had it. What is not in tables yet is
    /// newer than [`Flushed::timestamp`]; a tombstone above it stays.
    #[must_use]
    pub fn drop_ranges(&self) -> Vec<RangeTombstone> {
        let flushed = self.flushed.map_or(0, |flushed| flushed.timestamp);
        let needed = |range: &RangeTombstone| {
            let tables = self.overlapping(&range.start, Some(&range.end));
            tables.flat_map(|(_, tables)| tables).any(|table| {
                let meta = table.meta();
                meta.min_timestamp <= range.timestamp && meta.cleaned_to < range.timestamp
            })
        };
        let mut ranges = self.ranges.tombstones();
        ranges.retain(|range| range.timestamp <= flushed && !needed(range));
        ranges
    }

    /// Returns the files that the version consists of: the numbers of tables and of value files.
    pub fn files(&self) -> impl Iterator<Item = u64> {
        let tables = self.tables().map(|(_, table)| table.meta().number);
        tables.chain(self.values.keys().copied())
    }

    /// Returns the whole version as one edit, for [`Version::restore`].
    #[must_use]
    pub fn snapshot(&self) -> Edit {
        let mut edit = Edit {
            flushed: self.flushed,
            sequence: self.sequence,
            members: self.members.clone(),
            ..self.edit()
        };
        for run in &self.runs {
            edit.add_runs.push(AddRun {
                id: run.id,
                age: run.age,
                level: run.level,
            });
            if let Some(output) = run.into {
                let input = run.id;
                edit.start_merges.push(StartMerge { input, output });
            }
            if !run.from.is_empty() {
                let (run, from) = (run.id, run.from.clone());
                edit.trim_runs.push(TrimRun { run, from });
            }
        }
        edit.add_tables
            .extend(self.tables().map(|(run, table)| AddTable {
                run: run.id,
                meta: table.meta().clone(),
            }));
        edit.add_values.extend(self.values.values());
        edit.add_ranges = self.ranges.tombstones();
        edit
    }

    /// Makes a version of what [`Version::snapshot`] said.
    ///
    /// # Errors
    /// As [`Version::apply`].
    pub fn restore(snapshot: &Edit, opened: Vec<T>) -> Result<Self, Malformed> {
        Self::empty(snapshot.partition).apply_any(snapshot, opened)
    }

    /// Returns the version after the next edit; `opened` are the tables that it adds, in any order.
    ///
    /// # Errors
    /// The edit does not fit this version, or would make one that breaks an invariant; a sentence
    /// says how.
    pub fn apply(&self, edit: &Edit, opened: Vec<T>) -> Result<Self, Malformed> {
        if edit.sequence != self.sequence + 1 {
            let (partition, sequence) = (self.partition, self.sequence);
            return Err(Malformed(format!(
                "edit {} of partition {partition} does not follow {sequence}",
                edit.sequence
            )));
        }
        self.apply_any(edit, opened)
    }
}

mod change;
#[cfg(test)]
pub(crate) mod tests;
