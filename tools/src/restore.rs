//! `ashlar restore`: makes a data directory of a backup. Every file is hashed on its way, and the whole is verified
//! before the directory can be started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ashlar_io::DirLock;
use ashlar_node::format::{self, Format};

use crate::backup::listing::{Listed, Listing};
use crate::backup::{make_dir, remove_dir};
use crate::disk::{Disk, Place};
use crate::inspect::show;
use crate::verify;

/// Name of the file ASHLAR until all else is whole.
const UNFINISHED: &str = "ASHLAR.new";

/// Flags of `ashlar restore`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The data directory to be made: one that is empty or not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Restores a backup.
///
/// # Errors
/// One line that names the file: the backup is damaged, or something cannot be read or written. The data directory is
/// left as empty as it was.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let disk = Disk::new("restore", 0)?;
    let listing = Listing::read(&disk, &args.from)?.ok_or_else(|| {
        let from = args.from.display();
        format!("{from} holds no backup: it has no file BACKUP; give the directory of `ashlar backup --to`")
    })?;
    let of_shards = args.from.join(Listing::shards_dir(listing.number));
    let format = disk.format(&of_shards)?;
    refuse_content(&args.data)?;
    make_dir(&args.data)?;
    let _lock = DirLock::acquire(&args.data).map_err(|error| error.to_string())?;
    refuse_content(&args.data)?;
    disk.expect_bytes(listing.bytes());
    let restored = Restore {
        disk: &disk,
        args,
        listing: &listing,
    }
    .make(&format);
    disk.done();
    if restored.is_err() {
        for dir in ["wal", "tables", "manifest"] {
            remove_dir(&args.data.join(dir))?;
        }
        let _ = std::fs::remove_file(args.data.join(UNFINISHED));
    }
    restored
}

/// Refuses a directory that holds anything but a lock.
fn refuse_content(data: &Path) -> Result<(), String> {
    let entries = crate::inspect::entries(data)?;
    let ours = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name != "LOCK" && name != "lost+found"
    };
    if data.exists() && !data.is_dir() {
        return Err(format!(
            "{} is no directory; give another with --data",
            data.display()
        ));
    }
    match entries.iter().find(ours) {
        None => Ok(()),
        Some(path) => Err(format!(
            "{} is not empty ({} is there); give an empty directory with --data",
            data.display(),
            path.file_name().unwrap_or_default().to_string_lossy()
        )),
    }
}

struct Restore<'a> {
    disk: &'a Disk,
    args: &'a Args,
    listing: &'a Listing,
}

impl Restore<'_> {
    fn make(&self, format: &Format) -> Result<(), String> {
        let data = &self.args.data;
        let mut dirs = BTreeSet::from([
            data.clone(),
            data.join("wal"),
            Format::tables_dir(data),
            Format::manifest_dir(data),
        ]);
        dirs.extend((0..format.shards).map(|shard| Format::wal_dir(data, shard)));
        let files = self.listing.files.iter();
        let (last, files): (Vec<_>, Vec<_>) =
            files.partition(|file| file.path == format::FILE_NAME);
        dirs.extend(
            files
                .iter()
                .filter_map(|file| Some(data.join(&file.path).parent()?.to_owned())),
        );
        for dir in &dirs {
            make_dir(dir)?;
        }
        for file in files {
            self.copy(file, Place::of_node(data.join(&file.path)))?;
        }
        for dir in &dirs {
            self.disk.sync_dir(dir)?;
        }
        let summary = verify::data(self.disk, data, format)?;
        summary.verdict(data)?;
        // The directory is one from here on.
        let unfinished = data.join(UNFINISHED);
        let [file] = last[..] else {
            return Err(format!("{} lists no file ASHLAR", self.args.from.display()));
        };
        self.copy(file, Place::of_backup(unfinished.clone()))?;
        let failed = |error| format!("cannot rename {}: {error}", unfinished.display());
        std::fs::rename(&unfinished, data.join(format::FILE_NAME)).map_err(failed)?;
        self.disk.sync_dir(data)?;
        self.disk.done();
        let parent = data
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        self.disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
        summary.print();
        println!(
            "restored backup {} of {} ({}) to {}; start it with: ashlar start --data {}",
            self.listing.number,
            self.listing.made,
            show::size(self.listing.bytes()),
            data.display(),
            data.display()
        );
        Ok(())
    }

    fn copy(&self, file: &Listed, to: Place) -> Result<(), String> {
        let from = self.args.from.join(&file.stored);
        // Before it is written to a file that takes whole blocks only.
        let found = std::fs::metadata(&from).map_or(file.bytes, |metadata| metadata.len());
        if found != file.bytes {
            return Err(file.wrong_size(&self.args.from, found));
        }
        let moved = self
            .disk
            .copy(Place::of_backup(from.clone()), to, file.fill_to);
        let moved = moved.map_err(|error| error.line(&from))?;
        if file.is(moved) {
            return Ok(());
        }
        Err(file.damage(&self.args.from, moved))
    }
}
