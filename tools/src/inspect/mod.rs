//! `ashlar inspect`: what the files of a data directory hold, offline and read-only. Never repairs.
//!
//! Here is `inspect wal`: batches, positions, generations, durable marks, the first thing that is wrong, and what
//! recovery would make of it.
//!
//! # Layout
//! - `segment`: one file of a log, block by block. `chain`: the log that files make up, and its end.
//! - `records`: the list of frames, entries and commands.
//! - `image`: what checkpoint and log of a shard make up. `manifest`, `partition`, `table`: the listings of these.
//! - `show`: numbers, keys and times as people read them.

pub(crate) mod chain;
pub(crate) mod image;
pub(crate) mod manifest;
pub(crate) mod partition;
mod records;
pub(crate) mod segment;
pub(crate) mod show;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ashlar_io::wal;

use chain::{Chain, Scope, Verdict};
use records::Lister;
use segment::{Scan, Segment};

/// Flags of `ashlar inspect wal`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory, a log in it (wal/NNN), or one segment; its node must not be running
    #[arg(value_name = "DIR or FILE")]
    path: PathBuf,
    /// List every frame, and the entry and commands in it
    #[arg(long)]
    records: bool,
    /// Frames to list at most [default: all]
    #[arg(long, value_name = "N", requires = "records")]
    limit: Option<u64>,
}

/// Prints what is in the log.
///
/// # Errors
/// One line: nothing can be read there, or bytes that were acknowledged are damaged.
pub(crate) fn run(args: Args) -> Result<(), String> {
    print(|out| inspect(&args, out))
}

/// Prints a listing.
fn print(
    list: impl FnOnce(&mut io::BufWriter<io::StdoutLock<'static>>) -> Result<(), Stopped>,
) -> Result<(), String> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let verdict = list(&mut out);
    match (out.flush(), verdict) {
        (Err(error), _) => quietly(error),
        (Ok(()), Err(Stopped::Output(error))) => quietly(error),
        (Ok(()), Err(Stopped::Because(why))) => Err(why),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// A reader that has seen enough, as `head` does, is no error.
fn quietly(error: io::Error) -> Result<(), String> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(format!("cannot print: {error}"))
}

/// Why the inspection ends with an error.
#[derive(Debug)]
enum Stopped {
    Output(io::Error),
    Because(String),
}

impl From<String> for Stopped {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn inspect(args: &Args, out: &mut impl Write) -> Result<(), Stopped> {
    let logs = find_logs(&args.path).map_err(Stopped::Because)?;
    let mut damage = None;
    for (scope, files) in logs {
        let found = one_log(args, (scope, &files), out)?;
        damage = damage.or(found);
    }
    damage.map_or(Ok(()), |damage| Err(Stopped::Because(damage)))
}

/// Returns the segments of each log that `path` names.
fn find_logs(path: &Path) -> Result<Vec<(Scope, Vec<PathBuf>)>, String> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if metadata.is_file() {
        return Ok(vec![(Scope::OneSegment, vec![path.to_owned()])]);
    }
    let mut dirs = vec![path.to_owned()];
    for parent in [path.to_owned(), path.join("wal")] {
        dirs.extend(entries(&parent)?.into_iter().filter(|entry| entry.is_dir()));
    }
    let mut logs = Vec::new();
    for dir in dirs {
        let mut files = entries(&dir)?;
        files.retain(|file| file.to_string_lossy().ends_with(wal::SUFFIX) && file.is_file());
        if !files.is_empty() {
            logs.push((Scope::Log, files));
        }
    }
    if logs.is_empty() {
        return Err(format!(
            "{} holds no log: neither it nor wal/NNN in it has files that end with {}",
            path.display(),
            wal::SUFFIX
        ));
    }
    Ok(logs)
}

/// Lists a directory in order of name; one that is not there is empty.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("cannot list {}: {error}", dir.display());
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let listed = std::fs::read_dir(dir).map_err(failed)?;
    let paths: io::Result<Vec<PathBuf>> = listed
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Prints one log; returns what is damaged in it.
fn one_log(
    args: &Args,
    (scope, files): (Scope, &[PathBuf]),
    out: &mut impl Write,
) -> Result<Option<String>, Stopped> {
    let mut segments = Vec::new();
    for file in files {
        let opened = Segment::open(file);
        segments.push(opened.map_err(|error| {
            Stopped::Because(format!("cannot read {}: {error}", file.display()))
        })?);
    }
    let dir = files
        .first()
        .and_then(|file| file.parent())
        .unwrap_or(Path::new("."));
    let Some(chain) = Chain::of(&segments, scope) else {
        return without_header(dir, &segments, out);
    };
    let (count, bytes, id) = (segments.len(), chain.segment_bytes, chain.log_id);
    writeln!(
        out,
        "log {}: {count} segments of {bytes} bytes, id {id:016x}",
        dir.display()
    )?;
    let mut wrong_size = None;
    for segment in &segments {
        if segment.len() != bytes {
            let (file, found) = (segment.path().display(), segment.len());
            wrong_size = Some(format!("{file} is {found} bytes long instead of {bytes}"));
        }
        print_segment(segment, &chain, out)?;
    }
    let mut lister = Lister::new(if args.records {
        args.limit.unwrap_or(u64::MAX)
    } else {
        0
    });
    let verdict =
        chain.walk(|segment, header, payload| lister.batch((segment, header, payload), out))?;
    print_verdict(&verdict, out)?;
    Ok(if verdict.is_damaged() {
        Some(damage(dir, &verdict))
    } else {
        wrong_size
    })
}

/// No first block is whole: an empty log, or one that is damaged in every segment.
fn without_header(
    dir: &Path,
    segments: &[Segment],
    out: &mut impl Write,
) -> Result<Option<String>, Stopped> {
    writeln!(
        out,
        "log {}: {} segments, none of which begins with a whole batch",
        dir.display(),
        segments.len()
    )?;
    for segment in segments {
        let headers = segment.headers(0).count();
        writeln!(
            out,
            "  {}: {} bytes, {headers} whole headers",
            segment.name(),
            segment.len()
        )?;
    }
    let durable = segments
        .iter()
        .flat_map(|segment| segment.headers(0))
        .map(|header| header.durable)
        .max();
    let lost = durable.filter(|durable| durable.0 > 0);
    Ok(lost.map(|durable| {
        format!(
            "log {} is damaged: bytes up to position {} were acknowledged, but no segment begins with a whole batch",
            dir.display(),
            durable.0
        )
    }))
}

fn print_segment(segment: &Segment, chain: &Chain<'_>, out: &mut impl Write) -> io::Result<()> {
    let name = segment.name();
    let Some(scan) = Scan::of(segment) else {
        let headers = segment.headers(0).count();
        return writeln!(
            out,
            "  {name}: begins with no whole batch; {headers} whole headers in it"
        );
    };
    let Scan {
        number,
        batches,
        frames,
        generations,
        positions,
        durable,
        flaw,
    } = scan;
    let (from, to) = (positions.0.0, positions.1.0);
    let spare = if chain.holds(segment) {
        ""
    } else {
        " (not part of the log)"
    };
    writeln!(
        out,
        "  {name}: number {number}{spare}, {batches} batches, {frames} frames, generations {}..{}, positions \
         {from}..{to}, {} bytes used, durable mark {}",
        generations.0,
        generations.1,
        to - from,
        durable.0
    )?;
    writeln!(out, "    at offset {}: {flaw}", to - from)
}

fn print_verdict(verdict: &Verdict, out: &mut impl Write) -> io::Result<()> {
    let Verdict {
        start,
        end,
        batches,
        durable,
        flaw,
        later,
        ..
    } = verdict;
    let state = match (verdict.is_damaged(), verdict.is_torn()) {
        (true, _) => "DAMAGED below its durable mark: recovery refuses it",
        (false, true) => "a torn tail that nobody was told of: recovery cuts it",
        (false, false) => "clean",
    };
    writeln!(
        out,
        "  log: start {}, end {}, {batches} batches, durable mark {}, {later} whole headers behind the end",
        start.0, end.0, durable.0
    )?;
    writeln!(out, "  end: {state} ({})", flaw.2)
}

/// Says in one line what is damaged in a log.
pub(crate) fn damage(dir: &Path, verdict: &Verdict) -> String {
    let (file, offset, flaw) = &verdict.flaw;
    let file = if file.as_os_str().is_empty() {
        dir
    } else {
        file
    };
    let (durable, end) = (verdict.durable.0, verdict.end.0);
    format!(
        "log {} is damaged at offset {offset}: {flaw}; bytes up to log position {durable} were acknowledged, but the \
         log is whole only up to {end}",
        file.display()
    )
}
