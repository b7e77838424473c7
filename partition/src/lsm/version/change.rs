//! How an edit changes a version, step by step, and what a version must be. The steps may be called
//! in the order of [`Version::apply_any`] only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{Run, TableHandle, Version};
use crate::lsm::Malformed;
use crate::lsm::edit::Edit;

impl<T: TableHandle> Version<T> {
    /// Does what `edit` says, whatever its sequence.
    pub(super) fn apply_any(&self, edit: &Edit, opened: Vec<T>) -> Result<Self, Malformed> {
        let mut next = self.clone();
        next.take_header(edit)?;
        next.take_values(edit)?;
        next.take_runs(edit)?;
        next.take_tables(edit, opened)?;
        next.take_merges(edit)?;
        next.lose_tables(edit)?;
        next.take_ranges(edit);
        next.sort();
        next.check()?;
        next.lose_values(edit)?;
        Ok(next)
    }

    fn wrong<R>(&self, what: &str) -> Result<R, Malformed> {
        Err(Malformed(format!(
            "partition {} at edit {}: {what}",
            self.partition, self.sequence
        )))
    }

    fn take_header(&mut self, edit: &Edit) -> Result<(), Malformed> {
        if self.sequence == 0 {
            self.partition = edit.partition;
        } else if edit.partition != self.partition {
            return self.wrong(&format!("an edit is of partition {}", edit.partition));
        }
        self.sequence = edit.sequence;
        self.low_water = self.low_water.max(edit.low_water);
        self.next_number = self.next_number.max(edit.next_number);
        let Some(flushed) = edit.flushed else {
            return Ok(());
        };
        let before = self.flushed.replace(flushed);
        let back = before
            .filter(|before| flushed.index < before.index || flushed.timestamp < before.timestamp);
        if let Some(before) = back {
            return self.wrong(&format!(
                "what is flushed goes back from entry {} at {} to entry {} at {}",
                before.index, before.timestamp, flushed.index, flushed.timestamp
            ));
        }
        if !edit.members.is_empty() {
            self.members.clone_from(&edit.members);
        }
        Ok(())
    }

    fn take_runs(&mut self, edit: &Edit) -> Result<(), Malformed> {
        for run in &edit.add_runs {
            if run.id >= self.next_number {
                return self.wrong(&format!("run {} has no number yet", run.id));
            }
            if self.run(run.id).is_some() {
                return self.wrong(&format!("run {} is there already", run.id));
            }
            self.runs.push(Rc::new(Run::new(run)));
        }
        Ok(())
    }

    fn take_merges(&mut self, edit: &Edit) -> Result<(), Malformed> {
        for merge in &edit.start_merges {
            let input = self.run_mut(merge.input)?;
            if let Some(output) = input.into.replace(merge.output) {
                return self.wrong(&format!("run {} moves to {output}", merge.input));
            }
        }
        for trim in &edit.trim_runs {
            // A run all of whose keys have moved is gone; a step of its merge need not know.
            let Ok(run) = self.run_mut(trim.run) else {
                continue;
            };
            if run.into.is_none() || trim.from < run.from {
                return self.wrong(&format!("run {} cannot be trimmed", trim.run));
            }
            run.from.clone_from(&trim.from);
        }
        Ok(())
    }

    fn run_mut(&mut self, id: u64) -> Result<&mut Run<T>, Malformed> {
        let Some(at) = self.runs.iter().position(|run| run.id == id) else {
            return self.wrong(&format!("there is no run {id}"));
        };
        Ok(Rc::make_mut(&mut self.runs[at]))
    }

    fn lose_tables(&mut self, edit: &Edit) -> Result<(), Malformed> {
        let mut unmoved = Vec::new();
        for number in &edit.remove_tables {
            let Some((at, place)) = self.place_of(*number) else {
                return self.wrong(&format!("there is no table {number}"));
            };
            let run = Rc::make_mut(&mut self.runs[at]);
            let table = run.tables.remove(place);
            if run.into.is_some() && table.meta().last_key >= run.from {
                unmoved.push((run.id, *number));
            }
        }
        // The last step of a merge takes all that is left; any other one only what has moved.
        for (run, number) in unmoved {
            let run = self.run(run);
            if run.is_some_and(|run| !run.tables.is_empty()) {
                return self.wrong(&format!("table {number} has keys that did not move"));
            }
        }
        Ok(())
    }

    /// Returns the index of a table's run, and its own in the run.
    fn place_of(&self, number: u64) -> Option<(usize, usize)> {
        let place = |run: &Rc<Run<T>>| {
            let mut numbers = run.tables.iter().map(|table| table.meta().number);
            numbers.position(|n| n == number)
        };
        let mut runs = self.runs.iter().enumerate();
        runs.find_map(|(at, run)| Some((at, place(run)?)))
    }

    fn take_tables(&mut self, edit: &Edit, opened: Vec<T>) -> Result<(), Malformed> {
        let numbered = opened.into_iter().map(|table| (table.meta().number, table));
        let mut opened: BTreeMap<u64, T> = numbered.collect();
        for added in &edit.add_tables {
            let number = added.meta.number;
            if number >= self.next_number {
                return self.wrong(&format!("table {number} has no number yet"));
            }
            let table = opened.remove(&number);
            let Some(table) = table.filter(|table| *table.meta() == added.meta) else {
                return self.wrong(&format!("table {number} is not the one that was opened"));
            };
            let run = self.run_mut(added.run)?;
            run.tables.push(table);
        }
        Ok(())
    }

    fn take_values(&mut self, edit: &Edit) -> Result<(), Malformed> {
        for values in &edit.add_values {
            let number = values.number;
            if number >= self.next_number {
                return self.wrong(&format!("value file {number} has no number yet"));
            }
            if self.values.insert(number, *values).is_some() {
                return self.wrong(&format!("value file {number} is there already"));
            }
        }
        Ok(())
    }

    fn lose_values(&mut self, edit: &Edit) -> Result<(), Malformed> {
        if edit.remove_values.is_empty() {
            return Ok(());
        }
        let unreferenced = self.unreferenced_values();
        for number in &edit.remove_values {
            if unreferenced.binary_search(number).is_err() || self.values.remove(number).is_none() {
                return self.wrong(&format!("value file {number} is in use or not there"));
            }
        }
        Ok(())
    }

    fn take_ranges(&mut self, edit: &Edit) {
        for range in &edit.remove_ranges {
            let (start, end) = (&range.start, &range.end);
            self.ranges.remove(start, end, range.timestamp);
        }
        for range in &edit.add_ranges {
            let (start, end) = (&range.start, &range.end);
            self.ranges.add(start, end, range.timestamp);
        }
        self.ranges.drop_below(self.low_water);
    }

    /// Puts runs and tables in order, and drops runs without tables.
    fn sort(&mut self) {
        self.runs.retain(|run| !run.tables.is_empty());
        self.runs.sort_by_key(|run| Reverse((run.age, run.id)));
        for run in &mut self.runs {
            let ascends = |a: &T, b: &T| a.meta().first_key <= b.meta().first_key;
            if !run.tables.is_sorted_by(ascends) {
                let tables = &mut Rc::make_mut(run).tables;
                tables.sort_by(|a, b| a.meta().first_key.cmp(&b.meta().first_key));
            }
        }
    }

    fn check(&self) -> Result<(), Malformed> {
        let mut files: BTreeSet<u64> = self.values.keys().copied().collect();
        let mut ids = BTreeSet::new();
        for (at, run) in self.runs.iter().enumerate() {
            if !ids.insert(run.id) {
                return self.wrong(&format!("run {} is there twice", run.id));
            }
            for table in run.tables.iter().map(T::meta) {
                if !files.insert(table.number) {
                    return self.wrong(&format!("file {} is there twice", table.number));
                }
                let mut values = table.values.iter().map(|(number, _)| number);
                if let Some(lost) = values.find(|number| !self.values.contains_key(number)) {
                    return self.wrong(&format!("table {} needs value file {lost}", table.number));
                }
            }
            self.check_order(run)?;
            self.check_merge(at, run)?;
        }
        Ok(())
    }

    fn check_order(&self, run: &Run<T>) -> Result<(), Malformed> {
        let mut last: Option<&[u8]> = None;
        for table in run.tables.iter().map(T::meta) {
            let follows = last.is_none_or(|last| last < table.first_key.as_slice());
            if !follows || table.first_key > table.last_key {
                return self.wrong(&format!("table {} overlaps another", table.number));
            }
            last = Some(&table.last_key);
        }
        Ok(())
    }

    /// Checks the run at index `at` against the run that its keys move to, which stands before it.
    fn check_merge(&self, at: usize, run: &Run<T>) -> Result<(), Malformed> {
        let Some(output) = run.into else {
            return Ok(());
        };
        let before = self.runs[..at].last();
        let stands = before.is_some_and(|run| run.id == output || run.into == Some(output));
        let Some(output) = self
            .run(output)
            .filter(|output| stands && output.into.is_none())
        else {
            return self.wrong(&format!("run {} is not behind the run it moves to", run.id));
        };
        let end = output.tables.last().map(|table| &table.meta().last_key);
        if end.is_some_and(|end| *end >= run.from) {
            return self.wrong(&format!("run {} holds keys that have moved", run.id));
        }
        let start = run.tables.first().map(|table| &table.meta().last_key);
        if start.is_some_and(|start| *start < run.from) {
            return self.wrong(&format!("a table of run {} has no keys left", run.id));
        }
        Ok(())
    }
}
