//! `ashlar backup`: copies what a node consists of, also while it runs.
//!
//! Each shard by itself: checkpoint first, log second, and then the files that both together name.
//! Tables and value files never change, so one that the backup has is not copied again, and one that
//! is open may lose its name. If one is gone before it was opened, or the log has gone on past the
//! checkpoint meanwhile, the shard is begun anew with what there is then.
//!
//! # Why that is sound
//! The copy of a shard is what a power cut might have left: a checkpoint that was durable before the
//! log was read, and the log up to some batch, whole from where the checkpoint needs it. What was
//! acknowledged before the backup began was on disk before the log was read, so it is in the copy, or
//! the copy of the log tells that it has a hole:
//! - Every segment that the log had when it was listed is copied as it was then, or the log that was copied begins
//!   behind it. One that the node let go of meanwhile may have been removed, and then nothing that was copied tells of
//!   it: what follows it was not there to be listed. So `log` keeps count of those.
//! - A segment that is used again while it is read has batches of a higher position, and these say of all that was
//!   released that it was durable: the chain then ends below a durable mark, which is damage, and the shard is begun
//!   anew.
//! - An edit is in the log only when its tables are durable, and a table goes only after the edit that
//!   drops it.
//!
//! Shards are not copied at one moment. No operation spans shards, so each key is as of some moment
//! between begin and end of the backup.

pub(crate) mod listing;
mod log;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_io::DirLock;
use ashlar_node::format::{self, Format};

use crate::disk::{Disk, Pinned, Place};
use crate::inspect::show;
use listing::{Listed, Listing, SHARDS, TABLES};
use shard::{Again, Shard};

/// How often a shard is begun, and the first pause in between; each one is longer by as much.
const ATTEMPTS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(50);

/// Files that are open beside those of the node.
const OPEN_FILES_OWN: u64 = 64;

/// Flags of `ashlar backup`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The data directory; its node may be running
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Directory of the backup, empty or with an earlier backup of the same node: then only new files are copied
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Most MiB of tables copied in a second, so that a running node keeps its disk [default: no limit]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    rate: Option<u64>,
}

/// Makes a backup.
///
/// # Errors
/// One line that names the file: something cannot be read or written, or the node's files are damaged. An earlier
/// backup is as it was.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let pinned_max = ashlar_io::raise_open_files().saturating_sub(OPEN_FILES_OWN);
    let disk = Disk::new("backup", args.rate.unwrap_or(0) << 20)?;
    let format = disk.format(&args.data)?;
    let before = open(&disk, &args.to)?;
    let _lock = DirLock::acquire(&args.to).map_err(|_| {
        let to = args.to.display();
        format!("cannot write to {to}: another backup is being written there, or it is read-only")
    })?;
    let made = Backup::new(&disk, args, (&format, before), pinned_max)?.make();
    disk.done();
    made
}

/// Reads the backup that `to` has; refuses a directory of something else.
fn open(disk: &Disk, to: &Path) -> Result<Option<Listing>, String> {
    if let Some(listing) = Listing::read(disk, to)? {
        return Ok(Some(listing));
    }
    let ours = ["LOCK", "BACKUP.new", SHARDS, TABLES, "lost+found"];
    let entries = std::fs::read_dir(to).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    match names
        .into_iter()
        .find(|name| !ours.contains(&name.as_str()))
    {
        Some(name) => Err(format!(
            "{} is no backup and not empty ({name} is there); give an empty directory with --to",
            to.display()
        )),
        None => Ok(None),
    }
}

/// A backup in the making.
struct Backup<'a> {
    disk: &'a Disk,
    data: &'a Path,
    to: &'a Path,
    format: &'a Format,
    /// Files that are known to be in the backup, by where they are.
    known: BTreeMap<String, Listed>,
    /// Files of the shard that are open, by where their copies go.
    pinned: BTreeMap<String, Pinned>,
    /// Most of them; the others are opened when they are copied.
    pinned_max: u64,
    listing: Listing,
    /// Files copied now, and their bytes.
    copied: (u64, u64),
    /// How often a shard was begun anew.
    begun_anew: u64,
}

impl<'a> Backup<'a> {
    fn new(
        disk: &'a Disk,
        args: &'a Args,
        (format, before): (&'a Format, Option<Listing>),
        pinned_max: u64,
    ) -> Result<Self, String> {
        let node_id = format!("{:016x}", format.node_id);
        if let Some(other) = before.as_ref().filter(|before| before.node_id != node_id) {
            return Err(format!(
                "{} holds a backup of another node ({}); give another directory with --to",
                args.to.display(),
                other.from
            ));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let from = std::fs::canonicalize(&args.data).unwrap_or_else(|_| args.data.clone());
        let from = from.display().to_string();
        let number = before.as_ref().map_or(1, |before| before.number + 1);
        Ok(Self {
            disk,
            data: &args.data,
            to: &args.to,
            format,
            known: before
                .into_iter()
                .flat_map(|before| before.files)
                .map(|file| (file.stored.clone(), file))
                .collect(),
            pinned: BTreeMap::new(),
            pinned_max,
            listing: Listing::new(number, show::utc(now_ms), from, format.node_id),
            copied: (0, 0),
            begun_anew: 0,
        })
    }

    fn make(mut self) -> Result<(), String> {
        let own = Listing::shards_dir(self.listing.number);
        // What a backup of this number left that was cut off.
        remove_dir(&self.to.join(&own))?;
        make_dir(&self.to.join(&own))?;
        let stored = format!("{own}/{}", format::FILE_NAME);
        self.put(format::FILE_NAME.to_owned(), stored)?;
        for shard in 0..self.format.shards {
            self.shard(shard)?;
        }
        for dir in [self.to.join(own), self.to.join(SHARDS), self.to.to_owned()] {
            self.disk.sync_dir(&dir)?;
        }
        self.listing.write(self.disk, self.to)?;
        self.remove_old()?;
        let (files, bytes) = self.copied;
        self.disk.done();
        if self.begun_anew > 0 {
            let times = self.begun_anew;
            println!("the node went on meanwhile: {times} times a shard was begun anew");
        }
        println!(
            "backup {} of {}: {} files, {}; {files} files, {} copied now",
            self.listing.number,
            self.data.display(),
            self.listing.files.len(),
            show::size(self.listing.bytes()),
            show::size(bytes)
        );
        Ok(())
    }

    /// Copies a small file of the data directory, and lists it.
    fn put(&mut self, path: String, stored: String) -> Result<(), String> {
        let from = self.data.join(&path);
        let to = Place::of_backup(self.to.join(&stored));
        let moved = self.disk.copy(Place::of_backup(from.clone()), to, 0);
        let moved = moved.map_err(|error| error.line(&from))?;
        self.list(Listed::new(path, stored, moved, 0));
        Ok(())
    }

    /// Lists a file that was copied.
    fn list(&mut self, listed: Listed) {
        self.copied = (self.copied.0 + 1, self.copied.1 + listed.bytes);
        self.known.insert(listed.stored.clone(), listed.clone());
        self.listing.files.push(listed);
    }

    fn shard(&mut self, number: u32) -> Result<(), String> {
        let mut why = String::new();
        for attempt in 0..ATTEMPTS {
            let files = self.listing.files.len();
            match Shard::new(self, number).copy() {
                Ok(()) => return Ok(()),
                Err(Again::Never(why)) => return Err(why),
                Err(Again::Later(reason)) => why = reason,
            }
            // Tables that were copied stay; they are found to be there.
            self.listing.files.truncate(files);
            self.begun_anew += 1;
            std::thread::sleep(PAUSE * (attempt + 1));
        }
        Err(format!(
            "shard {number} could not be copied, {ATTEMPTS} times: {why}; `ashlar verify` of the stopped node tells \
             whether it is damaged"
        ))
    }

    /// Removes what only earlier backups needed.
    fn remove_old(&self) -> Result<(), String> {
        let own = format!("{:010}", self.listing.number);
        for dir in subdirs(&self.to.join(SHARDS))? {
            if dir
                .file_name()
                .is_some_and(|name| name.to_string_lossy() != own)
            {
                remove_dir(&dir)?;
            }
        }
        let stored = self
            .listing
            .files
            .iter()
            .map(|file| self.to.join(&file.stored));
        let needed: BTreeSet<PathBuf> = stored.collect();
        for dir in subdirs(&self.to.join(TABLES))? {
            for file in entries(&dir)? {
                if !needed.contains(&file) {
                    let failed = |error| format!("cannot remove {}: {error}", file.display());
                    std::fs::remove_file(&file).map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

/// Makes a directory and those above it.
pub(crate) fn make_dir(dir: &Path) -> Result<(), String> {
    let failed = |error| format!("cannot create directory {}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)
}

/// Removes a directory with all that is in it; one that is not there is no error.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Lists a directory in order of name; one that is not there is empty.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    crate::inspect::entries(dir)
}

fn subdirs(dir: &Path) -> Result<Vec<PathBuf>, String> {
    Ok(entries(dir)?
        .into_iter()
        .filter(|path| path.is_dir())
        .collect())
}
