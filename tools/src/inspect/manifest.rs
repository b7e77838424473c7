//! `ashlar inspect manifest`: the checkpoints of shards, whole or not, and what they say.

use std::io::Write;
use std::path::{Path, PathBuf};

use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::version::Version;

use super::image::Slot;
use super::{Stopped, entries, partition, show};

/// Flags of `ashlar inspect manifest`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory, its directory manifest, or one file of that (NNN.0 or NNN.1)
    #[arg(value_name = "DIR or FILE")]
    path: PathBuf,
    /// List every table of every partition
    #[arg(long)]
    tables: bool,
}

/// Prints checkpoints.
///
/// # Errors
/// One line: there are none, or no file of a shard is whole.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    super::print(|out| inspect(args, out))
}

fn inspect(args: &Args, out: &mut impl Write) -> Result<(), Stopped> {
    let files = find(&args.path)?;
    let mut damaged = None;
    for files in files.chunk_by(|(a, _), (b, _)| a == b) {
        let mut whole = 0;
        for (shard, path) in files {
            let failed = |error| format!("cannot read {}: {error}", path.display());
            let slot = Slot::of(*shard, path.clone(), std::fs::read(path).map_err(failed)?);
            whole += u32::from(slot.content.is_ok());
            print(&slot, args, out)?;
        }
        if whole == 0 {
            let (shard, path) = &files[0];
            damaged = Some(format!(
                "no checkpoint of shard {shard} is whole: {}",
                path.display()
            ));
        }
    }
    damaged.map_or(Ok(()), |damaged| Err(Stopped::Because(damaged)))
}

/// Returns the files of a manifest, with the shards that they are of.
fn find(path: &Path) -> Result<Vec<(u32, PathBuf)>, String> {
    let shard = |path: &Path| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        let (shard, slot) = name.split_once('.')?;
        ["0", "1", "manifest"]
            .contains(&slot)
            .then(|| shard.parse().ok())?
    };
    if path.is_file() {
        let of = shard(path).ok_or_else(|| {
            format!(
                "{} is not named like a checkpoint: NNN.0 or NNN.1",
                path.display()
            )
        })?;
        return Ok(vec![(of, path.to_owned())]);
    }
    let inner = path.join("manifest");
    let dir = if inner.is_dir() { &inner } else { path };
    let files = entries(dir)?.into_iter();
    let files: Vec<_> = files
        .filter_map(|path| Some((shard(&path)?, path)))
        .collect();
    if files.is_empty() {
        return Err(format!(
            "{} holds no checkpoint: neither NNN.0 nor NNN.1 is in it or in its directory manifest",
            path.display()
        ));
    }
    Ok(files)
}

fn print(slot: &Slot, args: &Args, out: &mut impl Write) -> Result<(), Stopped> {
    let path = slot.path.display();
    let (generation, checkpoint) = match &slot.content {
        Ok(content) => content,
        Err(what) => {
            writeln!(out, "{path}: not whole: {what}")?;
            return Ok(());
        }
    };
    writeln!(
        out,
        "{path}: generation {generation}, log {:016x} up to position {}, {} partitions, {}",
        checkpoint.log_id,
        checkpoint.position.0,
        checkpoint.partitions.len(),
        show::size(slot.bytes.len() as u64)
    )?;
    for edit in &checkpoint.partitions {
        match version(edit) {
            Ok(version) => {
                partition::summary(&version, out)?;
                if args.tables {
                    partition::runs(&version, out)?;
                }
            }
            Err(what) => writeln!(out, "  does not fit together: {what}")?,
        }
    }
    Ok(())
}

fn version(edit: &Edit) -> Result<Version<TableMeta>, String> {
    let opened = edit.add_tables.iter().map(|add| add.meta.clone());
    Version::restore(edit, opened.collect()).map_err(|malformed| malformed.to_string())
}
