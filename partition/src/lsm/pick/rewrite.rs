//! Tables that are written anew in their place: for what in them is of no use, for values that should
//! move. Not merges of runs: those are in [`super`].

use ashlar_consensus::Timestamp;

use super::{Policy, Reason, Rewrite};
use crate::lsm::table::TableMeta;
use crate::lsm::version::{Run, TableHandle, Version};

/// A table of the last run is written anew when this share of its versions is of no use, in percent.
const STALE_PERCENT: u64 = 25;
/// How much is done at once for values, and how little gain is worth it.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Values are moved out of a value file when this share of it is not referred to, in percent.
    garbage_percent: u64,
    /// Bytes of values that are moved by one job, but for one file.
    moved_bytes_max: u64,
    /// Bytes of tables that are written anew by one job, but for one table: until it ends, both are
    /// there.
    rewritten_bytes_max: u64,
}

const USUAL: Effort = Effort {
    garbage_percent: 30,
    moved_bytes_max: 256 << 20,
    rewritten_bytes_max: 256 << 20,
};
/// On a full disk little gain is worth much work, and a job must do with the room that is left: one
/// table at a time, and of it the values of one file.
const RECLAIM: Effort = Effort {
    garbage_percent: 5,
    moved_bytes_max: 0,
    rewritten_bytes_max: 0,
};

impl Effort {
    fn of(policy: &Policy) -> Self {
        match policy {
            Policy::Reclaim => RECLAIM,
            Policy::LazyLeveled { .. } | Policy::Leveled { .. } => USUAL,
        }
    }
}

/// How long an expired key may stay in the last run before its table is written anew, in
/// milliseconds. A table is so written at most once in that time.
pub(super) const EXPIRED_LINGER_MS: u64 = 3_600_000;

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
pub(super) fn rewrite_stale<T: TableHandle>(
    version: &Version<T>,
    low_water: u64,
) -> Option<Rewrite> {
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
pub(super) fn rewrite_deleted<T: TableHandle>(
    version: &Version<T>,
    low_water: u64,
) -> Option<Rewrite> {
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
pub(super) fn rewrite_for_values<T: TableHandle>(
    version: &Version<T>,
    policy: &Policy,
) -> Option<Rewrite> {
    let effort = Effort::of(policy);
    let values = garbage_files(version, &effort);
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
        refers(table) && (alone || file_bytes <= effort.rewritten_bytes_max)
    });
    let tables = &run.tables[first..first + fit.count()];
    Some(Rewrite {
        values,
        ..rewrite(version, run, tables, Reason::Values)
    })
}

/// Returns the value files that are worth emptying, with most garbage first, and no more than one
/// job should move.
fn garbage_files<T: TableHandle>(version: &Version<T>, effort: &Effort) -> Vec<u64> {
    let uses = version.value_uses().into_iter();
    let share = |(_, values): &(u64, _)| {
        let values: &crate::lsm::version::ValueUse = values;
        values.garbage_bytes() * 100 / values.value_bytes.max(1)
    };
    let mut files: Vec<_> = uses
        .filter(|file| share(file) >= effort.garbage_percent)
        .collect();
    files.sort_by_key(|file| (std::cmp::Reverse(share(file)), file.0));
    let mut moved = 0;
    let fit = files.into_iter().take_while(|(_, values)| {
        let first = moved == 0;
        moved += values.referenced_bytes;
        first || moved <= effort.moved_bytes_max
    });
    fit.map(|(number, _)| number).collect()
}
