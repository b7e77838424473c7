//! `ashlar inspect table`: what a table says of itself, what its blocks add up to, and its versions.

use std::io::Write;
use std::path::PathBuf;

use ashlar_io::map_read_only;
use ashlar_partition::Kind;
use ashlar_partition::collection::Root;
use ashlar_partition::lsm::offline::{Age, Entries, Part, PartFigures, TableFile};
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::{Entry, Value};

use super::{Stopped, show};

/// Flags of `ashlar inspect table`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A table: tables/NNNNN/NNNNNNNNNN.table of a data directory
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// List every version of every key
    #[arg(long)]
    keys: bool,
    /// Versions to list at most [default: all]
    #[arg(long, value_name = "N", requires = "keys")]
    limit: Option<u64>,
}

/// Prints what is in a table.
///
/// # Errors
/// One line: the file cannot be read, is no table, or is damaged where the listing came to.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    super::print(|out| inspect(args, out))
}

fn inspect(args: &Args, out: &mut impl Write) -> Result<(), Stopped> {
    let name = args.path.display();
    let bytes =
        map_read_only(&args.path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let damaged = |damage| Stopped::Because(format!("{name} is damaged or no table: {damage}"));
    let table = TableFile::open(&bytes).map_err(damaged)?;
    writeln!(out, "table {} in {name}", table.file())?;
    properties(table.meta(), out)?;
    for (part, figures) in table.parts().map_err(damaged)? {
        let PartFigures {
            blocks,
            stored_bytes,
            bytes,
        } = figures;
        let (stored, unpacked) = (show::size(stored_bytes), show::size(bytes));
        let part = part_name(part);
        writeln!(
            out,
            "  {part:<24} {blocks} blocks, {stored} in the file, {unpacked} in memory"
        )?;
    }
    if args.keys {
        let mut newest = table.entries(Age::Newest);
        let mut older = table.entries(Age::Older);
        let limit = args.limit.unwrap_or(u64::MAX);
        list((&mut newest, &mut older), limit, out, damaged)?;
    }
    Ok(())
}

/// Prints what is known about a table as a whole.
pub(super) fn properties(meta: &TableMeta, out: &mut impl Write) -> Result<(), Stopped> {
    let TableMeta {
        keys,
        versions,
        tombstones,
        ..
    } = meta;
    let (file, raw) = (show::size(meta.file_bytes), show::size(meta.raw_bytes));
    writeln!(
        out,
        "  size        {file}; {raw} of keys and values, level {}",
        meta.level
    )?;
    writeln!(
        out,
        "  content     {keys} keys, {versions} versions, {tombstones} of the keys deleted"
    )?;
    let (first, last) = (show::key(&meta.first_key), show::key(&meta.last_key));
    writeln!(out, "  keys        {first} to {last}")?;
    writeln!(out, "  oldest      {}", show::timestamp(meta.min_timestamp))?;
    writeln!(out, "  newest      {}", show::timestamp(meta.max_timestamp))?;
    match meta.min_expire_ms {
        u64::MAX => writeln!(out, "  expiry      never")?,
        at_ms => writeln!(out, "  expiry      from {}", show::utc(at_ms))?,
    }
    writeln!(out, "  cleaned to  {}", show::timestamp(meta.cleaned_to))?;
    for (number, bytes) in &meta.values {
        writeln!(
            out,
            "  values      {} of value file {number}",
            show::size(*bytes)
        )?;
    }
    let (hash, footer) = (meta.file_hash, meta.footer_checksum);
    writeln!(out, "  hash        {hash:032x}, footer {footer:016x}")?;
    Ok(())
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Filter => "filter",
        Part::Index(Age::Newest) => "index of newest versions",
        Part::Index(Age::Older) => "index of older versions",
        Part::Data(Age::Newest) => "newest versions",
        Part::Data(Age::Older) => "older versions",
    }
}

/// Prints the versions of each key, newest first.
fn list<D: Fn(ashlar_partition::lsm::offline::Damage) -> Stopped>(
    (newest, older): (&mut Entries<'_>, &mut Entries<'_>),
    limit: u64,
    out: &mut impl Write,
    damaged: D,
) -> Result<(), Stopped> {
    let mut left = limit;
    // The first older version that is not printed: its key, and its line.
    let line = |entry: Entry<'_>| (entry.key.to_vec(), describe(&entry));
    let mut waiting = older.next_entry().map_err(&damaged)?.map(line);
    while let Some(entry) = newest.next_entry().map_err(&damaged)? {
        let key = entry.key.to_vec();
        let mut lines = vec![describe(&entry)];
        while let Some((_, line_of_key)) = waiting.take_if(|(waiting, _)| *waiting == key) {
            lines.push(line_of_key);
            waiting = older.next_entry().map_err(&damaged)?.map(line);
        }
        writeln!(out, "{}", show::key(&key))?;
        for line in lines {
            if left == 0 {
                writeln!(out, "... more versions; --limit ends the list here")?;
                return Ok(());
            }
            left -= 1;
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

fn describe_root(value: &[u8]) -> String {
    match Root::decode(value) {
        Some(root) => format!(
            "root of {} {} with {} elements",
            root.family.name(),
            root.id,
            root.count
        ),
        None => "root of a collection that cannot be read".to_owned(),
    }
}

fn describe(entry: &Entry<'_>) -> String {
    let expiry = entry.expire_at_ms;
    let expiry = expiry.map_or(String::new(), |at| format!(", expires {}", show::utc(at)));
    let what = match (entry.kind, entry.value) {
        (Kind::Tombstone, _) => "deleted".to_owned(),
        (Kind::Root, Value::Inline(value)) => describe_root(value),
        (Kind::Put, Value::Inline(value)) => format!("{} bytes", value.len()),
        (_, Value::Separate(value)) => format!(
            "{} bytes in value file {} at offset {}",
            value.bytes, value.number, value.offset
        ),
    };
    format!("{}: {what}{expiry}", show::timestamp(entry.timestamp))
}
