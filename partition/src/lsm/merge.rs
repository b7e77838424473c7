//! Merges runs to one, or writes tables anew: reads all their versions in order, leaves out what
//! nobody can read any more, writes tables.
//!
//! The output takes the place of the inputs table by table: the edit that adds a table also trims the
//! inputs up to its last key, and drops those of their tables that are wholly behind it. So a job
//! needs room for little more than one table, and a crash loses one table's work. At such a step a
//! job may also end, to be gone on with later: when runs have gathered meanwhile.
//!
//! It reads and writes past the cache, and works in slices that the shard grants.

use std::rc::Rc;

use super::edit::{AddRun, Edit, StartMerge, TrimRun};
use super::inputs::Inputs;
use super::job::{Context, Failure, Report};
use super::output::Output;
use super::pick::{Job, Merge, Rewrite};
use super::retain::{Depth, Retain, Verdict};
use super::table::Table;
use super::version::{Run, Version};
use super::{Entry, Miss, Value};
use crate::key::is_of_system;
use crate::memtable::Kind;

/// Entries looked at in one slice: about 100 microseconds.
const SLICE_ENTRIES: u32 = 512;

/// Does a job on `version`; reports an edit for each table that it has written.
pub(crate) async fn run_job(
    context: &Context,
    version: &Version<Rc<Table>>,
    job: Job,
    report: &Report,
) -> Result<(), Failure> {
    match job {
        Job::Drop(edit) => report.edit(*edit, Vec::new()),
        Job::Merge(merge) => {
            let runs = merge.inputs.iter().filter_map(|id| version.run(*id));
            let plan = Plan::merge(context, &merge, runs.cloned().collect());
            write_anew(context, plan, report).await?;
        }
        Job::Rewrite(rewrite) => {
            let run = version.run(rewrite.run).expect("a job is of its version");
            let plan = Plan::rewrite(&rewrite, run);
            write_anew(context, plan, report).await?;
        }
    }
    Ok(())
}

/// What is read, what it becomes, and what the edits say of it.
struct Plan {
    inputs: Vec<Rc<Run<Rc<Table>>>>,
    /// For each input, how many of its tables are dropped already.
    dropped: Vec<usize>,
    level: u8,
    depth: Depth,
    /// Value files whose values are written anew.
    values: Vec<u64>,
    output: u64,
    kind: PlanKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlanKind {
    /// The output is a new run, and not in the version yet.
    NewRun { age: u64 },
    /// The output is a run that grows at the cost of the inputs.
    Growing,
    /// Tables are replaced within their run.
    InPlace,
}

impl Plan {
    fn merge(context: &Context, merge: &Merge, inputs: Vec<Rc<Run<Rc<Table>>>>) -> Self {
        Self {
            dropped: vec![0; inputs.len()],
            inputs,
            level: merge.output_level,
            depth: depth(merge.bottom),
            values: Vec::new(),
            output: merge.output.unwrap_or_else(|| context.new_file().number),
            kind: match merge.output {
                Some(_) => PlanKind::Growing,
                None => PlanKind::NewRun { age: merge.age },
            },
        }
    }

    fn rewrite(rewrite: &Rewrite, run: &Rc<Run<Rc<Table>>>) -> Self {
        let chosen = |table: &&Rc<Table>| rewrite.tables.contains(&table.meta().number);
        let some = Run {
            tables: run.tables.iter().filter(chosen).cloned().collect(),
            ..(**run).clone()
        };
        Self {
            dropped: vec![0],
            level: run.level,
            inputs: vec![Rc::new(some)],
            depth: depth(rewrite.bottom),
            values: rewrite.values.clone(),
            output: run.id,
            kind: PlanKind::InPlace,
        }
    }

    /// Says in `edit`, which adds what the output has become since the last one, what leaves the
    /// inputs: every key up to `last`, or all that are left.
    fn advance(&mut self, edit: &mut Edit, last: Option<&[u8]>) {
        for add in &mut edit.add_tables {
            add.run = self.output;
        }
        if !edit.add_tables.is_empty() {
            self.begin(edit, last);
        }
        for (run, dropped) in self.inputs.iter().zip(&mut self.dropped) {
            let left = &run.tables[*dropped..];
            let is_done = |table: &&Rc<Table>| {
                last.is_none_or(|last| table.meta().last_key.as_slice() <= last)
            };
            let done = left.iter().take_while(is_done).count();
            let numbers = left[..done].iter().map(|table| table.meta().number);
            edit.remove_tables.extend(numbers);
            *dropped += done;
            if let (Some(last), true) = (last, *dropped < run.tables.len()) {
                // The least key behind the last one.
                let from = [last, &[0]].concat();
                edit.trim_runs.push(TrimRun { run: run.id, from });
            }
        }
    }

    /// Makes the output a run, unless it is one.
    fn begin(&mut self, edit: &mut Edit, last: Option<&[u8]>) {
        let PlanKind::NewRun { age } = self.kind else {
            return;
        };
        let (id, level) = (self.output, self.level);
        edit.add_runs.push(AddRun { id, age, level });
        if last.is_some() {
            edit.start_merges
                .extend(self.inputs.iter().map(|run| StartMerge {
                    input: run.id,
                    output: id,
                }));
        }
        self.kind = PlanKind::Growing;
    }

    /// Says whether an entry's value is written anew.
    #[inline]
    fn moves(&self, entry: &Entry<'_>) -> bool {
        matches!(entry.value, Value::Separate(value) if self.values.contains(&value.number))
    }

    /// Says whether the output can be published up to a key, when it has tables. Tables within a
    /// run have no keys that could be trimmed, so they are replaced whole.
    fn is_divisible(&self) -> bool {
        self.kind != PlanKind::InPlace
    }
}

fn depth(bottom: bool) -> Depth {
    if bottom { Depth::Bottom } else { Depth::Upper }
}

/// A merge at work.
struct Work<'a> {
    plan: Plan,
    inputs: Inputs,
    retain: Retain<'a>,
    output: Output<'a>,
    /// The key that it is at, and its front among the inputs; empty before the first.
    key: Vec<u8>,
    front: u64,
    /// Entries that are left of its slice.
    slice: u32,
}

/// What has to be done before a merge goes on.
enum Step {
    /// Nothing, but it has had its slice.
    Rest,
    /// A block is to be loaded, for the version behind this one.
    Load(Miss),
    /// What has become a whole chunk is to be written.
    Write,
    /// The table is to end before this version.
    EndTable,
    /// This version's value is to be written anew.
    Move,
    /// There is no version left.
    End,
}

impl Work<'_> {
    /// Merges until something has to be waited for.
    fn run(&mut self) -> Step {
        while self.slice > 0 {
            self.slice -= 1;
            if self.output.is_due() {
                return Step::Write;
            }
            let Some(entry) = self.inputs.entry() else {
                return Step::End;
            };
            let front = self.inputs.front();
            if front != self.front || entry.key != self.key {
                if self.output.has_table() && self.is_boundary(entry.key) {
                    return Step::EndTable;
                }
                self.key.clear();
                self.key.extend_from_slice(entry.key);
                self.front = front;
                self.retain.begin(&self.key);
            }
            match self.retain.judge(&entry) {
                Verdict::Drop => {}
                Verdict::Keep if self.plan.moves(&entry) => return Step::Move,
                Verdict::Keep => self.output.push(&entry),
                Verdict::Bury => self.output.push(&buried(entry)),
            }
            if let Err(miss) = self.inputs.advance() {
                return Step::Load(miss);
            }
        }
        self.slice = SLICE_ENTRIES;
        Step::Rest
    }

    /// Says whether a table ends before `key`. What is of the system has tables of its own, which
    /// count for no database.
    #[inline]
    fn is_boundary(&self, key: &[u8]) -> bool {
        self.output.is_table_full() || (is_of_system(key) && !is_of_system(&self.key))
    }

    /// Goes to the next version.
    async fn advance(&mut self) -> Result<(), Failure> {
        while let Err(miss) = self.inputs.advance() {
            self.inputs.load(miss).await?;
        }
        Ok(())
    }

    /// Writes this version, and its value anew.
    async fn move_value(&mut self, context: &Context) -> Result<(), Failure> {
        let mut entry = self.inputs.entry().expect("the version was looked at");
        if let Value::Separate(value) = entry.value {
            let block = context.store.fetch_value(context.partition, value).await?;
            entry.value = Value::Separate(self.output.separate(block.bytes()).await?);
        }
        self.output.push(&entry);
        self.advance().await
    }

    /// Ends the table; when it is full, and the output can be published so far, reports it and says so.
    async fn end_table(&mut self, report: &Report) -> Result<bool, Failure> {
        let is_published = self.output.is_table_full() && self.plan.is_divisible();
        self.output.end_table().await?;
        if is_published {
            let (mut edit, opened) = self.output.finish().await?;
            self.plan.advance(&mut edit, Some(&self.key));
            report.edit(edit, opened);
        }
        Ok(is_published)
    }
}

async fn write_anew(context: &Context, plan: Plan, report: &Report) -> Result<(), Failure> {
    let mut work = Work {
        inputs: Inputs::new(&context.store, &plan.inputs),
        retain: Retain::new(context.low_water, plan.depth, &context.ranges),
        output: Output::new(context, plan.level, plan.depth),
        key: Vec::new(),
        front: 0,
        slice: SLICE_ENTRIES,
        plan,
    };
    work.inputs.begin().await?;
    loop {
        match work.run() {
            Step::Rest => context.store.slice().await,
            Step::Load(miss) => {
                work.inputs.load(miss).await?;
                work.advance().await?;
            }
            Step::Write => work.output.write().await?,
            Step::EndTable => {
                if work.end_table(report).await? && context.should_yield.get() {
                    return Ok(());
                }
            }
            Step::Move => work.move_value(context).await?,
            Step::End => break,
        }
    }
    let (mut edit, opened) = work.output.finish().await?;
    work.plan.advance(&mut edit, None);
    report.edit(edit, opened);
    Ok(())
}

/// Returns a tombstone of the entry's timestamp.
pub(crate) fn buried(entry: Entry<'_>) -> Entry<'_> {
    Entry {
        kind: Kind::Tombstone,
        expire_at_ms: None,
        value: Value::Inline(&[]),
        ..entry
    }
}
