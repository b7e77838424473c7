//! `ashlar inspect partition`: runs, tables, value files and range deletions of a partition, as recovery would find
//! them: from checkpoint and log.

use std::io::Write;
use std::path::PathBuf;

use ashlar_node::format::Format;
use ashlar_node::route::Routes;
use ashlar_partition::lsm::pick::{Policy, debt_bytes};
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::version::{BOTTOM_LEVEL, Run, Version};

use super::chain::{Chain, Scope};
use super::image::{self, Slot, assemble, newest};
use super::segment::Segment;
use super::{Stopped, entries, show, table};
use crate::disk::Disk;

/// Flags of `ashlar inspect partition`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory; its node must not be running
    #[arg(value_name = "DATA")]
    data: PathBuf,
    /// Number of the partition
    #[arg(value_name = "N")]
    partition: u32,
    /// Say everything about each table
    #[arg(long)]
    tables: bool,
}

/// Prints what a partition consists of.
///
/// # Errors
/// One line: there is no such partition, or checkpoint or log of its shard are damaged.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    super::print(|out| inspect(args, out))
}

/// Reads the files of a shard's manifest, as many as there are.
pub(crate) fn read_slots(data: &std::path::Path, shard: u32) -> Result<Vec<Slot>, String> {
    let mut slots = Vec::new();
    for path in image::slot_paths(&Format::manifest_dir(data), shard) {
        match std::fs::read(&path) {
            Ok(bytes) => slots.push(Slot::of(shard, path, bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        }
    }
    Ok(slots)
}

/// Opens the segments of a shard's log.
pub(crate) fn open_log(data: &std::path::Path, shard: u32) -> Result<Vec<Segment>, String> {
    let mut segments = Vec::new();
    for path in entries(&Format::wal_dir(data, shard))? {
        if path.to_string_lossy().ends_with(ashlar_io::wal::SUFFIX) {
            let failed = |error| format!("cannot read {}: {error}", path.display());
            segments.push(Segment::open(&path).map_err(failed)?);
        }
    }
    Ok(segments)
}

fn inspect(args: &Args, out: &mut impl Write) -> Result<(), Stopped> {
    let format = Disk::new("inspect", 0)?.format(&args.data)?;
    let routes = Routes::new(&format.boundaries(), format.shards);
    let number = args.partition as usize;
    if number >= routes.partitions() {
        let last = routes.partitions() - 1;
        let data = args.data.display();
        return Err(format!("{data} has no partition {number}; they are 0 to {last}").into());
    }
    let shard = routes.shard_of(number);
    let slots = read_slots(&args.data, shard)?;
    let checkpoint = newest(&slots);
    if let (None, Some(slot)) = (checkpoint, slots.first()) {
        let path = slot.path.display();
        return Err(format!("no checkpoint of shard {shard} is whole: {path}").into());
    }
    let segments = open_log(&args.data, shard)?;
    let chain = Chain::of(&segments, Scope::Log);
    let known = checkpoint.map(|(_, checkpoint)| checkpoint);
    let image = assemble(&format, shard, known, chain.as_ref())?;
    let Some(content) = image.partitions.get(&args.partition) else {
        return Err(format!("partition {number} is not of shard {shard}").into());
    };
    let range = routes.range(number);
    let end = range.end.as_deref().map_or("the end".to_owned(), show::key);
    let start = match range.start.as_slice() {
        [] => "the beginning".to_owned(),
        start => show::key(start),
    };
    writeln!(
        out,
        "partition {number} of shard {shard}: keys from {start} up to {end}"
    )?;
    summary(&content.version, out)?;
    writeln!(
        out,
        "  log: {} edits behind the checkpoint; {} entries with {} commands are in no table",
        content.edits, content.entries, content.commands
    )?;
    runs(&content.version, out)?;
    if args.tables {
        for (_, meta) in content.version.tables() {
            writeln!(out, "table {}", meta.number)?;
            table::properties(meta, out)?;
        }
    }
    match image.verdict.filter(super::chain::Verdict::is_damaged) {
        Some(verdict) => {
            let dir = Format::wal_dir(&args.data, shard);
            Err(Stopped::Because(super::damage(&dir, &verdict)))
        }
        None => Ok(()),
    }
}

/// Prints what a version is in numbers.
pub(super) fn summary(version: &Version<TableMeta>, out: &mut impl Write) -> Result<(), Stopped> {
    let tables = version.tables().count();
    let policy = Policy::default();
    writeln!(
        out,
        "  partition {}: edit {}, {} runs, {tables} tables, {} value files, {}, about {} keys, {} to be merged",
        version.partition,
        version.sequence,
        version.runs.len(),
        version.values.len(),
        show::size(version.file_bytes()),
        version.keys_estimate(),
        show::size(debt_bytes(version, &policy)),
    )?;
    match version.flushed {
        None => writeln!(out, "  tables hold nothing of the log")?,
        Some(flushed) => writeln!(
            out,
            "  tables hold the log up to entry {} of term {}, timestamp {}",
            flushed.index,
            flushed.term,
            show::timestamp(flushed.timestamp)
        )?,
    }
    writeln!(
        out,
        "  readers look as of {} or later",
        show::timestamp(version.low_water)
    )?;
    Ok(())
}

/// Prints runs with their tables, value files and range deletions.
pub(super) fn runs(version: &Version<TableMeta>, out: &mut impl Write) -> Result<(), Stopped> {
    for run in &version.runs {
        print_run(run, out)?;
    }
    for (number, used) in version.value_uses() {
        let (value_bytes, garbage_bytes) = (used.value_bytes, used.garbage_bytes());
        let percent = garbage_bytes * 100 / value_bytes.max(1);
        writeln!(
            out,
            "  value file {number}: {} of values, {} of them garbage ({percent} %)",
            show::size(value_bytes),
            show::size(garbage_bytes)
        )?;
    }
    for range in version.ranges.tombstones() {
        let (start, end) = (show::key(&range.start), show::key(&range.end));
        let at = show::timestamp(range.timestamp);
        writeln!(out, "  range deletion: {start} up to {end}, before {at}")?;
    }
    Ok(())
}

fn print_run(run: &Run<TableMeta>, out: &mut impl Write) -> Result<(), Stopped> {
    let level = match run.level {
        BOTTOM_LEVEL => "the bottom".to_owned(),
        level => format!("level {level}"),
    };
    let moving = match run.into {
        Some(into) => format!(
            ", moves to run {into}, keys below {} have",
            show::key(&run.from)
        ),
        None => String::new(),
    };
    writeln!(
        out,
        "  run {} of {level}, age {}: {} tables, {} keys, {}{moving}",
        run.id,
        run.age,
        run.tables.len(),
        run.sum(|meta| meta.keys),
        show::size(run.sum(|meta| meta.file_bytes)),
    )?;
    for meta in &run.tables {
        writeln!(
            out,
            "    table {}: {}, {} keys, {} versions, {} deleted, {} to {}",
            meta.number,
            show::size(meta.file_bytes),
            meta.keys,
            meta.versions,
            meta.tombstones,
            show::key(&meta.first_key),
            show::key(&meta.last_key)
        )?;
    }
    Ok(())
}
