//! `ashlar verify`: looks at every byte of a stopped node, or of a backup, that a checksum covers,
//! and at all that files
//! say of each other. Changes nothing, goes on after damage, and tells each by file and offset.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use ashlar_io::{DirLock, Mapped, map_read_only};
use ashlar_node::format::Format;
use ashlar_node::route::Routes;
use ashlar_partition::KeyRange;
use ashlar_partition::key::is_own;
use ashlar_partition::lsm::offline::{
    self, Damage, TableFile, check_value, check_values, table_path, values_path,
};
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::version::Version;
use ashlar_partition::lsm::{FileId, ValueRef};

use crate::backup::entries;
use crate::backup::listing::Listing;
use crate::disk::{Disk, Place};
use crate::inspect::chain::{Chain, Scope};
use crate::inspect::image::{Content, assemble, newest};
use crate::inspect::partition::{open_log, read_slots};
use crate::inspect::show;

/// Flags of `ashlar verify`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A data directory whose node is stopped, or the directory of a backup
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    tables: u64,
    blocks: u64,
    versions: u64,
    value_files: u64,
    values: u64,
    entries: u64,
    log_bytes: u64,
    file_bytes: u64,
    orphans: u64,
    damages: u64,
}

/// Verifies a data directory or a backup.
///
/// # Errors
/// One line: it is in use, is neither, or how much is damaged; each damage was printed.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let disk = Disk::new("verify", 0)?;
    if let Some(listing) = Listing::read(&disk, &args.data)? {
        return backup(&disk, &args.data, &listing);
    }
    let format = disk.format(&args.data)?;
    let _lock = DirLock::acquire(&args.data).map_err(|error| error.to_string())?;
    let summary = data(&disk, &args.data, &format)?;
    summary.print();
    summary.verdict(&args.data)
}

/// Verifies the files of a data directory, whose lock the caller has. Prints each damage.
pub(crate) fn data(disk: &Disk, data: &Path, format: &Format) -> Result<Summary, String> {
    let mut verify = Verify {
        disk,
        data,
        format,
        summary: Summary::default(),
        known: BTreeSet::new(),
    };
    for shard in 0..format.shards {
        verify.shard(shard)?;
    }
    verify.orphans()?;
    disk.done();
    Ok(verify.summary)
}

/// Verifies that each file of a backup is as it was written.
fn backup(disk: &Disk, dir: &Path, listing: &Listing) -> Result<(), String> {
    disk.expect_bytes(listing.bytes());
    let mut damages = 0_u64;
    for file in &listing.files {
        let path = dir.join(&file.stored);
        let damage = match disk.hash(Place::of_backup(path.clone())) {
            Ok(moved) if file.is(moved) => continue,
            Ok(moved) => file.damage(dir, moved),
            Err(error) => error.line(&path),
        };
        damages += 1;
        say(&damage);
    }
    disk.done();
    let (number, made) = (listing.number, &listing.made);
    let (files, bytes) = (listing.files.len(), show::size(listing.bytes()));
    say(&format!(
        "backup {number} of {made}: {files} files, {bytes}, {damages} damaged"
    ));
    match damages {
        0 => Ok(()),
        _ => Err(format!("{} is damaged; take another backup", dir.display())),
    }
}

/// Prints a line; a reader who has left is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl Summary {
    /// Prints it.
    pub(crate) fn print(&self) {
        say(&format!(
            "verified {}: {} tables with {} blocks and {} versions, {} value files with {} values, {} entries in {} of \
             log",
            show::size(self.file_bytes + self.log_bytes),
            self.tables,
            self.blocks,
            self.versions,
            self.value_files,
            self.values,
            self.entries,
            show::size(self.log_bytes)
        ));
        if self.orphans > 0 {
            say(&format!(
                "{} files belong to nothing: flushes and merges left them that were cut off",
                self.orphans
            ));
        }
    }

    /// Says whether all was whole.
    pub(crate) fn verdict(&self, data: &Path) -> Result<(), String> {
        match self.damages {
            0 => Ok(()),
            damages => Err(format!(
                "{} is damaged in {damages} places; restore a backup (ashlar restore), or replace the node",
                data.display()
            )),
        }
    }
}

/// A verification that goes on.
struct Verify<'a> {
    disk: &'a Disk,
    data: &'a Path,
    format: &'a Format,
    summary: Summary,
    /// Files that belong to a partition.
    known: BTreeSet<PathBuf>,
}

impl Verify<'_> {
    fn damaged(&mut self, path: &Path, damage: &Damage) {
        self.line(&format!("{} {damage}", path.display()));
    }

    fn line(&mut self, what: &str) {
        self.summary.damages += 1;
        say(&format!("damaged: {what}"));
    }

    fn shard(&mut self, shard: u32) -> Result<(), String> {
        let slots = read_slots(self.data, shard)?;
        let checkpoint = newest(&slots);
        for slot in &slots {
            let Err(what) = &slot.content else { continue };
            let path = slot.path.display();
            match checkpoint {
                // A power cut while it was written leaves it so.
                Some(_) => say(&format!("{path} is not whole ({what}); the other one is")),
                None => self.line(&format!("{path} offset 0: {what}")),
            }
        }
        let segments = open_log(self.data, shard)?;
        for segment in &segments {
            let (found, expected) = (segment.len(), self.format.segment_bytes);
            if found != expected {
                let path = segment.path().display();
                self.line(&format!(
                    "{path} offset {found}: it has {found} bytes, expected {expected}"
                ));
            }
        }
        let chain = Chain::of(&segments, Scope::Log);
        let dir = Format::wal_dir(self.data, shard);
        let verdict = chain.as_ref().map(Chain::verdict);
        if let Some(verdict) = &verdict {
            self.summary.log_bytes += verdict.end.0 - verdict.start.0;
            if verdict.is_damaged() {
                self.line(&crate::inspect::damage(&dir, verdict));
            }
        }
        let known = checkpoint.map(|(_, checkpoint)| checkpoint);
        match assemble(self.format, shard, known, chain.as_ref()) {
            Err(what) => self.line(&format!("{}: {what}", dir.display())),
            Ok(image) => {
                for content in image.partitions.values() {
                    self.partition(content);
                }
            }
        }
        Ok(())
    }

    fn partition(&mut self, content: &Content) {
        self.summary.entries += content.entries;
        let version = &content.version;
        self.disk.expect_bytes(version.file_bytes());
        let values = self.value_files(version);
        let routes = Routes::new(&self.format.boundaries(), self.format.shards);
        let range = routes.range(version.partition as usize);
        for (_, meta) in version.tables() {
            self.table(version, meta, range, &values);
        }
    }

    fn open(&mut self, path: &Path) -> Option<Mapped> {
        self.known.insert(path.to_owned());
        match map_read_only(path) {
            Ok(bytes) => {
                self.summary.file_bytes += bytes.len() as u64;
                Some(bytes)
            }
            Err(error) => {
                self.line(&format!(
                    "{} offset 0: cannot be read: {error}",
                    path.display()
                ));
                None
            }
        }
    }

    /// Checks the value files of a partition; returns them by number.
    fn value_files(&mut self, version: &Version<TableMeta>) -> BTreeMap<u64, (PathBuf, Mapped)> {
        let mut files = BTreeMap::new();
        for meta in version.values.values() {
            let file = FileId {
                partition: version.partition,
                number: meta.number,
            };
            let path = Format::tables_dir(self.data).join(values_path(file));
            let Some(bytes) = self.open(&path) else {
                continue;
            };
            self.summary.value_files += 1;
            if let Err(damage) = check_values(file, meta, &bytes) {
                self.damaged(&path, &damage);
            }
            self.disk.did(meta.file_bytes);
            files.insert(meta.number, (path, bytes));
        }
        files
    }

    fn table(
        &mut self,
        version: &Version<TableMeta>,
        meta: &TableMeta,
        range: &KeyRange,
        values: &BTreeMap<u64, (PathBuf, Mapped)>,
    ) {
        let file = FileId {
            partition: version.partition,
            number: meta.number,
        };
        let path = Format::tables_dir(self.data).join(table_path(file));
        let Some(bytes) = self.open(&path) else {
            return;
        };
        self.summary.tables += 1;
        self.disk.did(meta.file_bytes);
        let table = match TableFile::open_known(file, meta, &bytes) {
            Ok(table) => table,
            Err(damage) => return self.damaged(&path, &damage),
        };
        let mut refs: Vec<ValueRef> = Vec::new();
        let mut found = Vec::new();
        let figures = table.check(&mut |_, value| refs.push(*value), &mut |damage| {
            found.push(damage)
        });
        found.iter().for_each(|damage| self.damaged(&path, damage));
        self.take(&figures);
        for key in [&meta.first_key, &meta.last_key] {
            if !range.contains(key) && !is_own(key) {
                let what = format!("key {} is not of the partition", show::key(key));
                self.line(&format!("{} offset 0: {what}", path.display()));
            }
        }
        let newest = version.flushed.map_or(0, |flushed| flushed.timestamp);
        if meta.max_timestamp > newest {
            let what = "it has versions that are newer than what is flushed";
            self.line(&format!("{} offset 0: {what}", path.display()));
        }
        self.values(&path, &refs, values);
    }

    fn take(&mut self, figures: &offline::Figures) {
        let blocks = figures.parts.values().map(|part| part.blocks);
        self.summary.blocks += blocks.sum::<u64>();
        self.summary.versions += figures.versions;
    }

    /// Checks what a table refers to.
    fn values(
        &mut self,
        table: &Path,
        refs: &[ValueRef],
        values: &BTreeMap<u64, (PathBuf, Mapped)>,
    ) {
        for value in refs {
            self.summary.values += 1;
            match values.get(&value.number) {
                // A file that cannot be read was told of.
                None if self.summary.damages > 0 => {}
                None => {
                    let what = format!("there is no value file {}", value.number);
                    self.line(&format!("{} offset 0: {what}", table.display()));
                }
                Some((path, bytes)) => {
                    if let Err(damage) = check_value(value, bytes) {
                        self.damaged(path, &damage);
                    }
                }
            }
        }
    }

    /// Names the files that belong to nothing: what flushes and merges left that were cut off. They are no damage.
    fn orphans(&mut self) -> Result<(), String> {
        for dir in entries(&Format::tables_dir(self.data))? {
            let files = entries(&dir)?.into_iter();
            for path in files.filter(|path| !self.known.contains(path)) {
                self.summary.orphans += 1;
                say(&format!("{} belongs to nothing", path.display()));
            }
        }
        Ok(())
    }
}
