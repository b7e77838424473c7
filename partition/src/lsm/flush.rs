//! Writes a frozen memtable to tables: one run at level 0.
//!
//! All its tables are added by one edit, which also says up to which entry the log is no longer
//! needed. Values of some size go to a value file of their own.

use std::ops::Bound;

use super::edit::{AddRun, Edit};
use super::job::{Context, Failure, Report};
use super::merge::buried;
use super::output::Output;
use super::retain::{Depth, Retain, Verdict};
use super::tree::Frozen;
use super::{Entry, Value};
use crate::key::is_of_system;

/// Versions looked at in one slice: about 100 microseconds.
const SLICE_VERSIONS: u32 = 512;

/// Flushes `frozen`; `depth` tells whether there are tables beneath it.
pub(crate) async fn flush(
    context: &Context,
    frozen: &Frozen,
    depth: Depth,
    report: &Report,
) -> Result<(), Failure> {
    let mut output = Output::new(context, 0, Depth::Upper);
    let mut retain = Retain::new(context.low_water, depth, &context.ranges);
    let mut last_key: &[u8] = &[];
    let mut slice = 0;
    for (key, version) in frozen.memtable.versions(Bound::Unbounded) {
        slice += 1;
        if slice >= SLICE_VERSIONS {
            slice = 0;
            context.store.slice().await;
        }
        if key != last_key {
            // What is of the system has tables of its own, which count for no database.
            if output.is_table_full() || (is_of_system(key) && !is_of_system(last_key)) {
                output.end_table().await?;
            }
            retain.begin(key);
            last_key = key;
        }
        let mut entry = Entry {
            key,
            timestamp: version.timestamp,
            kind: version.kind,
            expire_at_ms: version.expire_at_ms,
            value: Value::Inline(version.value),
        };
        match retain.judge(&entry) {
            Verdict::Drop => continue,
            Verdict::Keep => {}
            Verdict::Bury => entry = buried(entry),
        }
        if let Value::Inline(value) = entry.value
            && value.len() >= context.layout.separate_bytes
        {
            entry.value = Value::Separate(output.separate(value).await?);
        }
        output.push(&entry);
        if output.is_due() {
            output.write().await?;
        }
    }
    let (mut edit, opened) = output.finish().await?;
    name_run(context, &mut edit);
    edit.flushed = Some(frozen.flushed);
    edit.members.clone_from(&frozen.members);
    edit.add_ranges = frozen.ranges.tombstones();
    report.edit(edit, opened);
    Ok(())
}

/// Makes the tables of an edit a run of their own.
fn name_run(context: &Context, edit: &mut Edit) {
    if edit.add_tables.is_empty() {
        return;
    }
    let id = context.new_file().number;
    edit.add_runs.push(AddRun {
        id,
        age: id,
        level: 0,
    });
    edit.add_tables.iter_mut().for_each(|add| add.run = id);
}
