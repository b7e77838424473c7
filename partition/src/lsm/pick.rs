//! What to compact next. Pure: it looks at a version and says which runs are to become one; how, and
//! when, is decided elsewhere.
//!
//! **Lazy-leveled** (the default): runs of one level are merged into one run of the next level once
//! there are `fanout` of them; behind all levels is the bottom, one run, and everything is merged
//! into a new bottom once what lies above it comes to about a third of it. Few rewrites, space at most
//! 1.35 times the data, some ten runs for a reader to look into. Source: Dayan, Idreos, "Dostoevsky",
//! SIGMOD 2018.
//!
//! **Leveled**: one run per level, each `fanout` times as large as the one above; fewer runs and less
//! space, at twice the rewriting.
//!
//! Sizes are those of keys and values before compression, so that well compressed data does not make
//! everything above the bottom look large.
//!
//! A merge that has begun is gone on with first, unless runs have gathered above it: a run with
//! `into` is its input, that run its output, and it is done once no run has that `into`.

mod rewrite;

use std::rc::Rc;

use self::rewrite::{rewrite_deleted, rewrite_for_values, rewrite_stale};
use super::edit::Edit;
use super::version::{BOTTOM_LEVEL, Run, TableHandle, Version};

/// The share of the bottom that lies above it when everything is merged, unless told otherwise, in
/// percent. Values of 100 bytes take 1.17 times themselves in tables, so that all of it stays below 1.6
/// times the data; half instead of this saves a tenth of the writing.
pub const UPPER_PERCENT: u32 = 35;
/// Runs of flushes that leveled compaction lets gather, and that gather above a merge that goes on.
const FLUSHED_RUNS: usize = 4;
/// Levels between flushes and the bottom are at least this large in leveled compaction, in bytes.
const LEVEL_BYTES_MIN: u64 = 64 << 20;

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
        let stale = rewrite_stale(version, low_water);
        let rewrite = stale.or_else(|| rewrite_for_values(version, policy));
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

#[cfg(test)]
mod tests;
