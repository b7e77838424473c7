//! What to compact next. Pure: it looks at a version and says which runs are to become one; how, and
//! when, is decided elsewhere.
//!
//! **Lazy-leveled** (the default): runs of one level are merged into one run of the next level once
//! there are `fanout` of them; behind all levels is the bottom, one run, and everything is merged
//! into a new bottom once what lies above it comes to half of it. Few rewrites, space at most about
//! 1.5 times the data, some ten runs for a reader to look into. Source: Dayan, Idreos, "Dostoevsky",
//! SIGMOD 2018.
//!
//! **Leveled**: one run per level, each `fanout` times as large as the one above; fewer runs and less
//! space, at twice the rewriting.
//!
//! Sizes are those of keys and values before compression, so that well compressed data does not make
//! everything above the bottom look large.
//!
//! A merge that has begun is gone on with first, unless runs have gathered above it: a run with `into` is its input, that run its
//! output, and it is done once no run has that `into`.

use std::rc::Rc;

use ashlar_consensus::Timestamp;

use super::edit::Edit;
use super::table::TableMeta;
use super::version::{BOTTOM_LEVEL, Run, TableHandle, Version};

/// The share of the bottom that lies above it when everything is merged, unless told otherwise, in
/// percent.
pub const UPPER_PERCENT: u32 = 50;
/// Runs of flushes that leveled compaction lets gather, and that gather above a merge that goes on.
const FLUSHED_RUNS: usize = 4;
/// Levels between flushes and the bottom are at least this large in leveled compaction, in bytes.
const LEVEL_BYTES_MIN: u64 = 64 << 20;
/// A table of the last run is written anew when this share of its versions is of no use, in percent.
const STALE_PERCENT: u64 = 25;
/// Values are moved out of a value file when this share of it is not referred to, in percent.
const VALUE_GARBAGE_PERCENT: u64 = 30;
/// Bytes of values that are moved by one job, but for one file.
const VALUES_MOVED_MAX: u64 = 256 << 20;
/// Bytes of tables that are written anew by one job, but for one table: until it ends, both are
/// there.
const REWRITTEN_BYTES_MAX: u64 = 256 << 20;
/// How long an expired key may stay in the last run before its table is written anew, in
/// milliseconds. A table is so written at most once in that time.
const EXPIRED_LINGER_MS: u64 = 3_600_000;

/// How runs are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Levels of up to `fanout` runs above one bottom run.
    LazyLeveled {
        /// Runs that are merged into one; at least 2.
        fanout: u32,
        /// Everything is merged once what lies above the bottom is this share of it, in percent.
        upper_percent: u32,
    },
    /// Whatever frees space, be it much work for little: the disk is full.
    Reclaim,
    /// Levels of one run.
    Leveled {
        /// How many times larger the next level is; at least 2.
        fanout: u32,
    },
}

impl Default for Policy {
    fn default() -> Self {
        Self::LazyLeveled {
            fanout: 4,
            upper_percent: UPPER_PERCENT,
        }
    }
}

/// Why a job is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It had begun before.
    Begun,
    /// A level is full.
    Full,
    /// What lies above the bottom is large beside it.
    Space,
    /// Tombstones, and versions that nobody reads any more.
    Stale,
    /// Expired keys.
    Expired,
    /// Values that no table refers to.
    Values,
}

/// Something to be done to a version.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// An edit and nothing else: tables that are deleted as a whole, value files and range
    /// tombstones that nothing needs.
    Drop(Box<Edit>),
    /// Runs become one.
    Merge(Merge),
    /// Tables are written anew, in their place.
    Rewrite(Rewrite),
}

/// Runs that become one, from their lowest keys on. Each step is one edit: it adds tables to the
/// output, trims the inputs to the least key behind them, and removes the tables that are wholly
/// below. The first one also adds the output, and says of each input that it moves there; the last
/// one removes all that is left of the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The runs, newest first; neighbours. Of each only the keys from [`Run::from`] on.
    pub inputs: Vec<u64>,
    /// The output, if the merge has begun.
    pub output: Option<u64>,
    /// Age of the output.
    pub age: u64,
    /// Level of the output.
    pub output_level: u8,
    /// No run is older than the inputs: tombstones at or below the low-water mark are left out, and
    /// tables are written with large, compressed blocks.
    pub bottom: bool,
    /// Why.
    pub reason: Reason,
}

/// Tables of one run to be written anew, by one edit: it removes them, and adds to the same run what
/// is left of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The run.
    pub run: u64,
    /// The tables, in order of key, without another between them.
    pub tables: Vec<u64>,
    /// Value files that the new tables must not refer to: their values are written anew as well.
    pub values: Vec<u64>,
    /// As [`Merge::bottom`].
    pub bottom: bool,
    /// Why.
    pub reason: Reason,
}

/// Returns what to do next, for readers at `low_water` or later; `None` when all is in shape. To be
/// asked when no job runs on the version.
///
/// # Panics
/// When the policy's fanout is below 2.
#[must_use]
pub fn pick<T: TableHandle>(version: &Version<T>, policy: &Policy, low_water: u64) -> Option<Job> {
    let rewrite = || {
        let rewrite = rewrite_stale(version, low_water).or_else(|| rewrite_for_values(version));
        let reclaim = || match policy {
            Policy::Reclaim => rewrite_deleted(version, low_water),
            Policy::LazyLeveled { .. } | Policy::Leveled { .. } => None,
        };
        rewrite.or_else(reclaim).map(Job::Rewrite)
    };
    let merge = || {
        merge_fresh(version)
            .or_else(|| resume(version))
            .or_else(|| merge_runs(version, policy))
            .map(Job::Merge)
    };
    let edit = drop_useless(version, low_water).map(Box::new);
    edit.map(Job::Drop).or_else(merge).or_else(rewrite)
}

/// Returns how many bytes must be read until [`pick`] finds no runs to merge, if nothing is flushed
/// meanwhile.
///
/// # Panics
/// When the policy's fanout is below 2.
#[must_use]
pub fn debt_bytes<T: TableHandle>(version: &Version<T>, policy: &Policy) -> u64 {
    let (mut debt, mut shapes): (u64, Vec<Shape>) = (0, Vec::new());
    for (run, shape) in version.runs.iter().zip(shapes_of(version)) {
        match (run.into, shapes.last_mut()) {
            // An input stands behind its output: see it as merged already.
            (Some(_), Some(output)) => {
                debt += shape.bytes;
                *output = output.with(&shape);
            }
            _ => shapes.push(shape),
        }
    }
    while let Some(choice) = choose(&shapes, policy) {
        debt += shapes[..choice.runs]
            .iter()
            .map(|shape| shape.bytes)
            .sum::<u64>();
        apply_choice(&mut shapes, &choice);
    }
    debt
}

/// A run as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) level: u8,
    /// Of its keys and values.
    pub(crate) bytes: u64,
    /// Those, and the bytes further down that its tombstones make useless.
    pub(crate) weight: u64,
}

impl Shape {
    /// Returns about what a merge with an older run gives.
    fn with(self, older: &Self) -> Self {
        let merge = |a: u64, b: u64| match older.level {
            // What is above the bottom mostly repeats its keys.
            BOTTOM_LEVEL => a.max(b),
            _ => a + b,
        };
        Self {
            level: self.level.max(older.level),
            bytes: merge(self.bytes, older.bytes),
            weight: merge(self.weight, older.weight),
        }
    }
}

fn apply_choice(shapes: &mut Vec<Shape>, choice: &Choice) {
    let merged = shapes
        .drain(..choice.runs)
        .reduce(|newer, older| newer.with(&older));
    let merged = merged.expect("a choice has runs");
    let level = choice.level;
    shapes.insert(0, Shape { level, ..merged });
}

/// How many of the newest runs become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) runs: usize,
    pub(crate) level: u8,
    pub(crate) reason: Reason,
}

/// Chooses runs to merge, of runs given newest first.
///
/// # Panics
/// When the policy's fanout is below 2.
pub(crate) fn choose(runs: &[Shape], policy: &Policy) -> Option<Choice> {
    match *policy {
        Policy::LazyLeveled {
            fanout,
            upper_percent,
        } => {
            assert!(fanout >= 2, "a merge has two runs at least");
            let fanout = usize::try_from(fanout).unwrap_or(usize::MAX);
            choose_lazy_leveled(runs, fanout, u64::from(upper_percent))
        }
        Policy::Reclaim => choose_lazy_leveled(runs, 2, 1),
        Policy::Leveled { fanout } => {
            assert!(fanout >= 2, "the next level is larger");
            choose_leveled(runs, u64::from(fanout))
        }
    }
}

fn choose_lazy_leveled(runs: &[Shape], fanout: usize, upper_percent: u64) -> Option<Choice> {
    let bottom = runs.last().filter(|run| run.level == BOTTOM_LEVEL);
    let upper = &runs[..runs.len() - usize::from(bottom.is_some())];
    let weight: u64 = upper.iter().map(|run| run.weight).sum();
    let everything = match bottom {
        Some(bottom) => !upper.is_empty() && weight * 100 >= bottom.bytes * upper_percent,
        None => upper.len() >= fanout,
    };
    if everything {
        return Some(Choice {
            runs: runs.len(),
            level: BOTTOM_LEVEL,
            reason: Reason::Space,
        });
    }
    choose_full_level(upper, fanout)
}

/// Chooses the levels from the newest to one that is full. A level that would be full by the merge
/// goes along: it would be next.
fn choose_full_level(upper: &[Shape], fanout: usize) -> Option<Choice> {
    let mut chosen: Option<Choice> = None;
    for level in upper.chunk_by(|a, b| a.level == b.level) {
        let start = upper.partition_point(|run| run.level < level[0].level);
        let joined = chosen.is_some_and(|chosen| chosen.runs == start);
        if level.len() + usize::from(joined) >= fanout {
            chosen = Some(Choice {
                runs: start + level.len(),
                level: (level[0].level + 1).min(BOTTOM_LEVEL - 1),
                reason: Reason::Full,
            });
        }
    }
    chosen
}

fn choose_leveled(runs: &[Shape], fanout: u64) -> Option<Choice> {
    let bottom = runs.last().filter(|run| run.level == BOTTOM_LEVEL);
    let targets = targets(bottom.map_or(0, |bottom| bottom.bytes), fanout);
    // Runs of levels that are no more, since the bottom was larger once, count as the bottom.
    let deepest = targets.len() + 1;
    let level_of = |run: &Shape| usize::from(run.level).min(deepest);
    let through = |level| &runs[..runs.partition_point(|run| level_of(run) <= level)];
    let overflows = |level: &usize| {
        let here = runs.iter().filter(|run| level_of(run) == *level);
        let target = level.checked_sub(1).and_then(|at| targets.get(at));
        let count_max = if *level == 0 { FLUSHED_RUNS - 1 } else { 1 };
        here.clone().count() > count_max
            || target.is_some_and(|target| here.map(|run| run.weight).sum::<u64>() > *target)
    };
    let full = (0..=deepest).find(overflows)?;
    let fits = |level: &usize| {
        let weight: u64 = through(*level).iter().map(|run| run.weight).sum();
        targets
            .get(level - 1)
            .is_none_or(|target| weight <= *target)
    };
    let next = (full + 1).min(deepest);
    let level = (next..=deepest).find(fits).unwrap_or(deepest);
    let name = u8::try_from(level).ok().filter(|_| level < deepest);
    Some(Choice {
        runs: through(level).len(),
        level: name.unwrap_or(BOTTOM_LEVEL),
        reason: Reason::Full,
    })
}

/// Returns the most bytes of each level between the flushed runs and a bottom of `bottom` bytes.
fn targets(bottom: u64, fanout: u64) -> Vec<u64> {
    let smaller = |target: &u64| Some(target / fanout);
    let targets = std::iter::successors(Some(bottom / fanout), smaller);
    let mut targets: Vec<u64> = targets
        .take_while(|target| *target >= LEVEL_BYTES_MIN)
        .collect();
    targets.reverse();
    targets
}

fn shapes_of<T: TableHandle>(version: &Version<T>) -> Vec<Shape> {
    let bottom = version.runs.last();
    let key_bytes = bottom.map_or(0, |run| run.raw_bytes() / run.sum(|meta| meta.keys).max(1));
    let shape = |run: &Rc<Run<T>>| {
        let bytes = run.raw_bytes();
        Shape {
            level: run.level,
            bytes,
            weight: bytes.saturating_add(run.sum(|meta| meta.tombstones).saturating_mul(key_bytes)),
        }
    };
    version.runs.iter().map(shape).collect()
}

fn merge_runs<T: TableHandle>(version: &Version<T>, policy: &Policy) -> Option<Merge> {
    let choice = choose(&shapes_of(version), policy)?;
    let inputs = &version.runs[..choice.runs];
    Some(Merge {
        inputs: inputs.iter().map(|run| run.id).collect(),
        output: None,
        age: inputs.first()?.age,
        output_level: choice.level,
        bottom: inputs.len() == version.runs.len(),
        reason: choice.reason,
    })
}

/// Merges runs that have gathered above a merge that has begun: it may be long, and readers must not
/// have to look into ever more runs.
fn merge_fresh<T: TableHandle>(version: &Version<T>) -> Option<Merge> {
    let fresh = fresh_runs(version)?;
    let shapes = shapes_of(version);
    let choice = choose_full_level(&shapes[..fresh], FLUSHED_RUNS)?;
    let inputs = &version.runs[..choice.runs];
    Some(Merge {
        inputs: inputs.iter().map(|run| run.id).collect(),
        output: None,
        age: inputs.first()?.age,
        output_level: choice.level,
        bottom: false,
        reason: choice.reason,
    })
}

/// Returns how many runs are newer than the output of a merge that has begun, if one has.
fn fresh_runs<T: TableHandle>(version: &Version<T>) -> Option<usize> {
    let output = version.runs.iter().find_map(|run| run.into)?;
    version.runs.iter().position(|run| run.id == output)
}

/// Says whether a merge that has begun should let another go first.
#[must_use]
pub fn should_yield<T: TableHandle>(version: &Version<T>) -> bool {
    fresh_runs(version).is_some_and(|fresh| fresh >= FLUSHED_RUNS) && merge_fresh(version).is_some()
}

/// Goes on with a merge that has begun.
fn resume<T: TableHandle>(version: &Version<T>) -> Option<Merge> {
    let id = version.runs.iter().find_map(|run| run.into)?;
    let output = version.run(id)?;
    Some(Merge {
        inputs: version.inputs(id).map(|run| run.id).collect(),
        output: Some(id),
        age: output.age,
        output_level: output.level,
        bottom: version.is_last(id),
        reason: Reason::Begun,
    })
}

/// Drops what takes no reading: tables whose every version is deleted by a range tombstone that all
/// readers see, value files and range tombstones that nothing needs.
fn drop_useless<T: TableHandle>(version: &Version<T>, low_water: u64) -> Option<Edit> {
    let mut edit = version.edit();
    edit.remove_values = version.unreferenced_values();
    if !version.ranges.is_empty() {
        // Tables of a merge that goes on leave with it.
        let merging = |run: &Run<T>| run.into.is_some() || version.inputs(run.id).next().is_some();
        let tables = version.tables().filter(|(run, _)| !merging(run));
        let deleted = tables.map(|(_, table)| table.meta()).filter(|meta| {
            let (first, last) = (&meta.first_key, &meta.last_key);
            let ranges = &version.ranges;
            let over = ranges.covers_all(first, last, meta.max_timestamp, low_water);
            over.is_some()
        });
        edit.remove_tables = deleted.map(|meta| meta.number).collect();
        edit.remove_ranges = version.drop_ranges();
    }
    (edit != version.edit()).then_some(edit)
}

/// Makes a job that writes `tables` of a run anew.
fn rewrite<T: TableHandle>(
    version: &Version<T>,
    run: &Run<T>,
    tables: &[T],
    reason: Reason,
) -> Rewrite {
    Rewrite {
        run: run.id,
        tables: tables.iter().map(|table| table.meta().number).collect(),
        values: Vec::new(),
        bottom: version.is_last(run.id),
        reason,
    }
}

/// Writes a table of the last run anew that holds much of no use. Only when all of that can go: no
/// table is written anew in vain.
fn rewrite_stale<T: TableHandle>(version: &Version<T>, low_water: u64) -> Option<Rewrite> {
    let run = version.runs.last()?;
    let low_water_ms = Timestamp(low_water).micros() / 1000;
    let reason = |meta: &TableMeta| {
        let settled = meta.max_timestamp <= low_water;
        let stale = meta.versions.saturating_sub(meta.keys) + meta.tombstones;
        if settled && stale > 0 && stale * 100 >= meta.versions * STALE_PERCENT {
            return Some(Reason::Stale);
        }
        let expired = meta.min_expire_ms.saturating_add(EXPIRED_LINGER_MS) <= low_water_ms;
        (settled && expired).then_some(Reason::Expired)
    };
    let mut tables = run.tables.iter().enumerate();
    let (at, reason) = tables.find_map(|(at, table)| Some((at, reason(table.meta())?)))?;
    Some(rewrite(version, run, &run.tables[at..=at], reason))
}

/// Writes a table of the last run anew of which range deletions hide a part. They may hide little, so
/// it is not done while space can be had otherwise.
fn rewrite_deleted<T: TableHandle>(version: &Version<T>, low_water: u64) -> Option<Rewrite> {
    let run = version.runs.last()?;
    let is_hidden = |table: &T| {
        let meta = table.meta();
        let end = [&meta.last_key[..], &[0]].concat();
        let newest = version.ranges.newest_over_range(&meta.first_key, &end);
        newest.is_some_and(|newest| {
            newest <= low_water && newest > meta.cleaned_to && newest >= meta.min_timestamp
        })
    };
    let at = run.tables.iter().position(is_hidden)?;
    Some(rewrite(version, run, &run.tables[at..=at], Reason::Stale))
}

/// Moves values out of files that hold much garbage: from tables of one run that refer to them,
/// oldest run first. The others follow when this is done, and then the files are dropped.
fn rewrite_for_values<T: TableHandle>(version: &Version<T>) -> Option<Rewrite> {
    let values = garbage_files(version);
    if values.is_empty() {
        return None;
    }
    let refers = |table: &T| {
        let mut referred = table.meta().values.iter();
        referred.any(|(number, _)| values.contains(number))
    };
    let mut oldest_first = version.runs.iter().rev();
    let (run, first) =
        oldest_first.find_map(|run| Some((run, run.tables.iter().position(refers)?)))?;
    let mut file_bytes = 0;
    let fit = run.tables[first..].iter().take_while(|table| {
        let alone = file_bytes == 0;
        file_bytes += table.meta().file_bytes;
        refers(table) && (alone || file_bytes <= REWRITTEN_BYTES_MAX)
    });
    let tables = &run.tables[first..first + fit.count()];
    Some(Rewrite {
        values,
        ..rewrite(version, run, tables, Reason::Values)
    })
}

/// Returns the value files that are worth emptying, with most garbage first, and no more than one
/// job should move.
fn garbage_files<T: TableHandle>(version: &Version<T>) -> Vec<u64> {
    let uses = version.value_uses().into_iter();
    let share = |(_, values): &(u64, _)| {
        let values: &super::version::ValueUse = values;
        values.garbage_bytes() * 100 / values.value_bytes.max(1)
    };
    let mut files: Vec<_> = uses
        .filter(|file| share(file) >= VALUE_GARBAGE_PERCENT)
        .collect();
    files.sort_by_key(|file| (std::cmp::Reverse(share(file)), file.0));
    let mut moved = 0;
    let fit = files.into_iter().take_while(|(_, values)| {
        let first = moved == 0;
        moved += values.referenced_bytes;
        first || moved <= VALUES_MOVED_MAX
    });
    fit.map(|(number, _)| number).collect()
}

#[cfg(test)]
mod tests;
