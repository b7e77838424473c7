//! One shard of a backup: its checkpoint, its log, and the tables and value files that both together name.

use std::path::Path;

use ashlar_node::format::Format;
use ashlar_partition::lsm::FileId;
use ashlar_partition::lsm::manifest::Checkpoint;
use ashlar_partition::lsm::offline::{table_path, values_path};
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::version::Version;

use super::listing::{Listed, Listing, ShardEnd, TABLES, hex};
use super::log::{Gone, Log};
use super::{Backup, entries, make_dir, remove_dir};
use crate::disk::{MoveError, Moved, Pinned, Place};
use crate::inspect::chain::{Chain, Scope, Verdict};
use crate::inspect::image::{Image, Slot, assemble, newest, slot_paths};
use crate::inspect::segment::Segment;

/// Why a shard was not copied.
#[derive(Debug)]
pub(super) enum Again {
    /// Another attempt may find it whole: the node works on it.
    Later(String),
    /// It would find the same.
    Never(String),
}

/// A file that never changes.
#[derive(Debug)]
struct Immutable {
    /// Path below the directory of tables.
    path: String,
    bytes: u64,
    hash: u128,
}

impl Immutable {
    /// Describes it as it is in a backup.
    fn listed(&self) -> Listed {
        let (number, suffix) = self.path.split_once('.').expect("a name has a suffix");
        let (bytes, hash) = (self.bytes, self.hash);
        let stored = format!("{TABLES}/{number}.{}.{suffix}", &hex(hash)[..16]);
        let path = format!("{TABLES}/{}", self.path);
        Listed::new(path, stored, Moved { bytes, hash }, 0)
    }
}

/// Returns the files that a version consists of.
fn files_of(version: &Version<TableMeta>) -> Vec<Immutable> {
    let file = |number| FileId {
        partition: version.partition,
        number,
    };
    let tables = version.tables().map(|(_, meta)| Immutable {
        path: table_path(file(meta.number)),
        bytes: meta.file_bytes,
        hash: meta.file_hash,
    });
    let values = version.values.values().map(|meta| Immutable {
        path: values_path(file(meta.number)),
        bytes: meta.file_bytes,
        hash: meta.file_hash,
    });
    tables.chain(values).collect()
}

/// A shard that is being copied.
pub(super) struct Shard<'b, 'a> {
    backup: &'b mut Backup<'a>,
    number: u32,
    /// Where its log and checkpoint go, within the backup.
    stored: String,
}

impl<'b, 'a> Shard<'b, 'a> {
    pub(super) fn new(backup: &'b mut Backup<'a>, number: u32) -> Self {
        let stored = Listing::shards_dir(backup.listing.number);
        Self {
            backup,
            number,
            stored,
        }
    }

    /// Copies it.
    pub(super) fn copy(mut self) -> Result<(), Again> {
        let before = self.slots()?;
        self.pin_known(&before);
        let to = self.backup.to.join(self.log_dir());
        let log = Log {
            disk: self.backup.disk,
            dir: &Format::wal_dir(self.backup.data, self.number),
            log_id: self.backup.format.log_id(self.number),
            to: &to,
        };
        let gone = self.copy_log(&log)?;
        let after = self.slots()?;
        let (image, checkpoint) = self.assemble((&to, gone), [before, after])?;
        let versions = image.partitions.values().map(|content| &content.version);
        let files: Vec<Immutable> = versions.flat_map(files_of).collect();
        for file in &files {
            self.pin(file)?;
        }
        for file in &files {
            self.immutable(file)?;
        }
        self.backup.pinned.clear();
        if let Some(bytes) = checkpoint {
            self.put_checkpoint(&bytes).map_err(Again::Never)?;
        }
        let (start, end) = match &image.verdict {
            Some(verdict) => (verdict.start.0, verdict.end.0),
            None => (0, 0),
        };
        if let Some(verdict) = &image.verdict {
            self.list_log(verdict).map_err(Again::Never)?;
        }
        let shard = self.number;
        self.backup
            .listing
            .shards
            .push(ShardEnd { shard, start, end });
        Ok(())
    }

    /// Reads both files of the manifest.
    fn slots(&self) -> Result<Vec<Slot>, Again> {
        let dir = Format::manifest_dir(self.backup.data);
        let mut slots = Vec::new();
        for path in slot_paths(&dir, self.number) {
            match self.backup.disk.read(Place::of_node(path.clone())) {
                Ok(bytes) => slots.push(Slot::of(self.number, path, bytes)),
                Err(MoveError::Missing) => {}
                Err(MoveError::Other(line)) => return Err(Again::Never(line)),
            }
        }
        if !slots.is_empty() && newest(&slots).is_none() {
            return Err(Again::Later(format!(
                "no checkpoint in {} is whole",
                dir.display()
            )));
        }
        Ok(slots)
    }

    /// Copies the log; returns which of its segments the node let go of meanwhile.
    fn copy_log(&self, log: &Log<'_>) -> Result<Gone, Again> {
        remove_dir(log.to).map_err(Again::Never)?;
        make_dir(log.to).map_err(Again::Never)?;
        log.copy(&log.list()?)
    }

    fn log_dir(&self) -> String {
        format!("{}/{:03}", self.stored, self.number)
    }

    /// Puts the copied log and a checkpoint together. Of those read before the log any will do, of those read behind
    /// it one that does not know more than the log.
    fn assemble(
        &self,
        (log, gone): (&Path, Gone),
        slots: [Vec<Slot>; 2],
    ) -> Result<(Image, Option<Vec<u8>>), Again> {
        let mut segments = Vec::new();
        for path in entries(log).map_err(Again::Never)? {
            let failed = |error| Again::Never(format!("cannot read {}: {error}", path.display()));
            segments.push(Segment::open(&path).map_err(failed)?);
        }
        let chain = Chain::of(&segments, Scope::Log);
        let verdict = chain.as_ref().map(Chain::verdict);
        if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.is_damaged()) {
            return Err(Again::Later(crate::inspect::damage(log, verdict)));
        }
        let (start, end) =
            verdict.map_or_else(Default::default, |verdict| (verdict.start, verdict.end));
        gone.check(start, self.backup.format.segment_bytes)?;
        let [mut before, mut after] = slots;
        after.retain(|slot| whole(slot).is_some_and(|checkpoint| checkpoint.position <= end));
        before.append(&mut after);
        let checkpoint = newest(&before);
        let known = checkpoint.map(|(_, checkpoint)| checkpoint);
        let image = assemble(self.backup.format, self.number, known, chain.as_ref());
        let image = image.map_err(Again::Later)?;
        let bytes = checkpoint.map(|(slot, _)| slot.bytes.clone());
        Ok((image, bytes))
    }

    /// Opens the files that a checkpoint names, so that they can be copied when they are gone by then. One that is gone
    /// already may be needed no more.
    fn pin_known(&mut self, slots: &[Slot]) {
        let partitions = newest(slots).map(|(_, checkpoint)| &checkpoint.partitions);
        for edit in partitions.into_iter().flatten() {
            let opened = edit.add_tables.iter().map(|add| add.meta.clone());
            let Ok(version) = Version::restore(edit, opened.collect()) else {
                continue;
            };
            for file in files_of(&version) {
                let _ = self.pin(&file);
            }
        }
    }

    /// Opens a file, unless the backup has it.
    fn pin(&mut self, file: &Immutable) -> Result<(), Again> {
        let listed = file.listed();
        let known = self.backup.known.get(&listed.stored) == Some(&listed);
        let enough = self.backup.pinned.len() as u64 >= self.backup.pinned_max;
        if known || enough || self.backup.pinned.contains_key(&listed.stored) {
            return Ok(());
        }
        let pinned = self.open(file)?;
        self.backup.pinned.insert(listed.stored, pinned);
        Ok(())
    }

    fn open(&self, file: &Immutable) -> Result<Pinned, Again> {
        let from = Format::tables_dir(self.backup.data).join(&file.path);
        match self.backup.disk.pin(Place::of_node(from.clone())) {
            Ok(pinned) => Ok(pinned),
            Err(MoveError::Missing) => Err(Again::Later(format!("{} is missing", from.display()))),
            Err(MoveError::Other(line)) => Err(Again::Never(line)),
        }
    }

    /// Copies a file that never changes, unless the backup has it.
    fn immutable(&mut self, file: &Immutable) -> Result<(), Again> {
        let listed = file.listed();
        let (bytes, stored) = (listed.bytes, &listed.stored);
        if self.has(&listed)? {
            self.backup.listing.files.push(listed);
            return Ok(());
        }
        let target = self.backup.to.join(stored);
        let dir = target.parent().expect("it lies in the backup").to_owned();
        make_dir(&dir).map_err(Again::Never)?;
        let unfinished = target.with_extension("new");
        let from = Format::tables_dir(self.backup.data).join(&file.path);
        let to = Place::of_backup(unfinished.clone());
        let pinned = self
            .backup
            .pinned
            .get(stored)
            .expect("what is copied was pinned");
        let moved = self.backup.disk.copy_pinned(pinned, to, 0);
        let moved = moved.map_err(|error| Again::Never(error.line(&from)))?;
        if !listed.is(moved) {
            return Err(Again::Never(format!(
                "{} is damaged: {} bytes with hash {}, expected {bytes} with {}; the backup before this one is as it was",
                from.display(),
                moved.bytes,
                hex(moved.hash),
                listed.hash
            )));
        }
        let failed = |error| format!("cannot rename {}: {error}", unfinished.display());
        let renamed = std::fs::rename(&unfinished, &target).map_err(failed);
        let synced = renamed.and_then(|()| self.backup.disk.sync_dir(&dir));
        synced.map_err(Again::Never)?;
        self.backup.list(listed);
        Ok(())
    }

    /// Says whether the backup has a file: the backup before listed it, or it was copied by one that was cut off.
    fn has(&self, listed: &Listed) -> Result<bool, Again> {
        let path = self.backup.to.join(&listed.stored);
        let found = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if found != listed.bytes {
            return Ok(false);
        }
        if self.backup.known.get(&listed.stored) == Some(listed) {
            return Ok(true);
        }
        let hashed = self.backup.disk.hash(Place::of_backup(path.clone()));
        let moved = hashed.map_err(|error| Again::Never(error.line(&path)))?;
        Ok(listed.is(moved))
    }

    fn put_checkpoint(&mut self, bytes: &[u8]) -> Result<(), String> {
        let stored = format!("{}/{:03}.manifest", self.stored, self.number);
        let path = self.backup.to.join(&stored);
        let failed = |error| format!("cannot write {}: {error}", path.display());
        std::fs::write(&path, bytes).map_err(failed)?;
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(failed)?;
        let moved = self.backup.disk.hash(Place::of_backup(path.clone()));
        let moved = moved.map_err(|error| error.line(&path))?;
        let restored = format!("manifest/{:03}.0", self.number);
        self.backup.list(Listed::new(restored, stored, moved, 0));
        Ok(())
    }

    /// Cuts the copied segments where the log leaves them, removes those that it does not need, and lists the others.
    fn list_log(&mut self, verdict: &Verdict) -> Result<(), String> {
        let dir = self.backup.to.join(self.log_dir());
        for path in entries(&dir)? {
            let failed = |error| format!("cannot cut {}: {error}", path.display());
            let used = verdict.used.iter().find(|used| used.path == path);
            let Some(used) = used else {
                std::fs::remove_file(&path).map_err(failed)?;
                continue;
            };
            let segment = std::fs::File::options().write(true).open(&path);
            let cut = segment.and_then(|segment| {
                segment.set_len(used.bytes)?;
                segment.sync_all()
            });
            cut.map_err(failed)?;
            let moved = self.backup.disk.hash(Place::of_backup(path.clone()));
            let moved = moved.map_err(|error| error.line(&path))?;
            let name = path.file_name().expect("a listed file has a name");
            let name = name.to_string_lossy();
            let listed = Listed::new(
                format!("wal/{:03}/{name}", self.number),
                format!("{}/{name}", self.log_dir()),
                moved,
                self.backup.format.segment_bytes,
            );
            self.backup.list(listed);
        }
        self.backup.disk.sync_dir(&dir)
    }
}

fn whole(slot: &Slot) -> Option<&Checkpoint> {
    let (_, checkpoint) = slot.content.as_ref().ok()?;
    Some(checkpoint)
}
