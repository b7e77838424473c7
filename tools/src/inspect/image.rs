//! What the files of a shard make up: its newest checkpoint, and what the log behind it adds. Decides as recovery does,
//! opens no table and changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ashlar_io::wal::format::{Frames, Header, Kind};
use ashlar_node::format::Format;
use ashlar_node::route::Routes;
use ashlar_partition::ballot::BallotRecord;
use ashlar_partition::command::{Commands, EntryHeader, record_partition};
use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::lsm::manifest::Checkpoint;
use ashlar_partition::lsm::offline::read_checkpoint;
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::version::Version;

use super::chain::{Chain, Verdict};

/// One of the two files of a shard's manifest.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Generation and content, or what is wrong with them.
    pub(crate) content: Result<(u64, Checkpoint), String>,
}

impl Slot {
    /// Takes in what a file holds.
    pub(crate) fn of(shard: u32, path: PathBuf, bytes: Vec<u8>) -> Self {
        let content = read_checkpoint(shard, &bytes).map_err(|malformed| malformed.to_string());
        Self {
            path,
            bytes,
            content,
        }
    }
}

/// Returns the paths of the two files of a shard's manifest.
pub(crate) fn slot_paths(dir: &Path, shard: u32) -> [PathBuf; 2] {
    [0, 1].map(|slot| dir.join(format!("{shard:03}.{slot}")))
}

/// Returns the newest whole one.
pub(crate) fn newest(slots: &[Slot]) -> Option<(&Slot, &Checkpoint)> {
    let whole = slots.iter().filter_map(|slot| {
        let (generation, checkpoint) = slot.content.as_ref().ok()?;
        Some((*generation, slot, checkpoint))
    });
    let newest = whole.max_by_key(|(generation, ..)| *generation);
    newest.map(|(_, slot, checkpoint)| (slot, checkpoint))
}

/// What a shard consists of.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its partitions.
    pub(crate) partitions: BTreeMap<u32, Content>,
    /// What the walk along the log found; absent when the log was never written.
    pub(crate) verdict: Option<Verdict>,
}

/// What a partition consists of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// What is in tables.
    pub(crate) version: Version<TableMeta>,
    /// Entries of the log that are in no table.
    pub(crate) entries: u64,
    /// The commands in them.
    pub(crate) commands: u64,
    /// Edits that the checkpoint does not contain.
    pub(crate) edits: u64,
    /// What its replica has promised last in elections, behind the checkpoint.
    pub(crate) ballot: Option<BallotRecord>,
    /// Index and term of the last entry.
    last: (u64, u64),
    /// The first entry of the log that the checkpoint does not know to be in tables.
    first: Option<u64>,
}

/// Puts checkpoint and log together.
pub(crate) fn assemble(
    format: &Format,
    shard: u32,
    checkpoint: Option<&Checkpoint>,
    chain: Option<&Chain<'_>>,
) -> Result<Image, String> {
    let log_id = format.log_id(shard);
    let routes = Routes::new(&format.boundaries(), format.shards);
    let mut partitions = BTreeMap::new();
    for number in routes.partitions_of(shard) {
        let id = u32::try_from(number).expect("partitions are counted in u32");
        let version = Version::empty(id);
        partitions.insert(
            id,
            Content {
                version,
                ..Content::default()
            },
        );
    }
    let position = checkpoint.map_or(0, |checkpoint| checkpoint.position.0);
    for edit in checkpoint
        .iter()
        .flat_map(|checkpoint| &checkpoint.partitions)
    {
        let of = partitions.get_mut(&edit.partition);
        of.ok_or_else(|| foreign(edit.partition))?.restore(edit)?;
    }
    if checkpoint.is_some_and(|checkpoint| checkpoint.log_id != log_id) {
        return Err("the checkpoint is of another log".to_owned());
    }
    let Some(chain) = chain else {
        if position > 0 {
            return Err(format!(
                "the log is gone; the checkpoint is of position {position}"
            ));
        }
        let verdict = None;
        return Ok(Image {
            partitions,
            verdict,
        });
    };
    if chain.log_id != log_id {
        return Err(format!(
            "the log has id {:016x}, expected {log_id:016x}",
            chain.log_id
        ));
    }
    let mut records = Records::default();
    let verdict = chain.walk(|_, header, payload| {
        let at = header.position.0;
        let taken = records.batch(header, payload, &mut |record| take(&mut partitions, record));
        taken.map_err(|what| format!("the batch at position {at}: {what}"))
    })?;
    if verdict.start.0 > position {
        return Err(format!(
            "the log begins at position {}, but the checkpoint is of {position}: a newer checkpoint was lost",
            verdict.start.0
        ));
    }
    partitions.values().try_for_each(Content::check_beginning)?;
    let verdict = Some(verdict);
    Ok(Image {
        partitions,
        verdict,
    })
}

fn foreign(partition: u32) -> String {
    format!("partition {partition} is not of this shard")
}

fn take(partitions: &mut BTreeMap<u32, Content>, record: &[u8]) -> Result<(), String> {
    let id = record_partition(record).ok_or("a record is shorter than any")?;
    let of = partitions.get_mut(&id).ok_or_else(|| foreign(id))?;
    if Edit::is_edit(record) {
        let edit = Edit::decode(record).map_err(|malformed| malformed.to_string())?;
        return of.edit(&edit);
    }
    if BallotRecord::is_ballot(record) {
        let ballot = BallotRecord::decode(record).map_err(|malformed| malformed.to_string())?;
        of.ballot = Some(ballot);
        return Ok(());
    }
    of.entry(record)
}

impl Content {
    fn restore(&mut self, snapshot: &Edit) -> Result<(), String> {
        let opened = snapshot.add_tables.iter().map(|add| add.meta.clone());
        let version = Version::restore(snapshot, opened.collect());
        self.take_over(version.map_err(|malformed| malformed.to_string())?);
        Ok(())
    }

    fn edit(&mut self, edit: &Edit) -> Result<(), String> {
        if self.version.contains(edit) {
            return Ok(());
        }
        let opened = edit.add_tables.iter().map(|add| add.meta.clone());
        let version = self.version.after(edit, opened.collect());
        self.take_over(version.map_err(|malformed| malformed.to_string())?);
        self.edits += 1;
        Ok(())
    }

    fn take_over(&mut self, version: Version<TableMeta>) {
        if let Some(flushed) = version
            .flushed
            .filter(|flushed| flushed.index >= self.last.0)
        {
            self.last = (flushed.index, flushed.term);
            (self.entries, self.commands) = (0, 0);
        }
        self.version = version;
    }

    /// Says whether every entry is in the log or in tables.
    fn check_beginning(&self) -> Result<(), String> {
        let flushed = self.version.flushed.map_or(0, |flushed| flushed.index);
        match self.first {
            Some(first) if first > flushed + 1 => Err(format!(
                "the log of partition {} begins with entry {first}, and tables hold entries up to {flushed}",
                self.version.partition
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn entry(&mut self, record: &[u8]) -> Result<(), String> {
        let decoded = Commands::of(record).map_err(|malformed| malformed.to_string())?;
        let (header, mut commands): (EntryHeader, Commands<'_>) = decoded;
        let index = header.index.0;
        if index <= self.version.flushed.map_or(0, |flushed| flushed.index) {
            return Ok(());
        }
        // The log may begin behind what the checkpoint knows of: a later edit then tells of the rest.
        if self.first.is_none() && self.last.0 < index {
            self.last.0 = index - 1;
        }
        self.first.get_or_insert(index);
        let (last, term) = self.last;
        // A new leader may put its entries in the place of some that were never committed.
        let replaces = index <= last && header.term.0 > term;
        if last > 0 && !replaces && index != last + 1 || header.term.0 < term {
            return Err(format!("entry {index} follows entry {last}"));
        }
        let count = commands.by_ref().count() as u64;
        if count != u64::from(header.commands) || !commands.rest().is_empty() {
            return Err(format!(
                "entry {index} has {count} commands that can be read"
            ));
        }
        self.last = (index, header.term.0);
        self.entries += 1;
        self.commands += count;
        Ok(())
    }
}

/// Puts records together that were cut in parts.
#[derive(Debug, Default)]
struct Records {
    generation: u32,
    record: Vec<u8>,
    assembling: bool,
}

impl Records {
    /// Hands on the records that end in a batch.
    fn batch(
        &mut self,
        header: &Header,
        payload: &[u8],
        take: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        if header.generation > self.generation {
            // A record left unfinished by an earlier life ends here, unacknowledged.
            (self.generation, self.assembling) = (header.generation, false);
        }
        for (kind, body) in Frames(payload) {
            match kind {
                Kind::Whole | Kind::First if self.assembling => {
                    return Err("a record begins inside another one".to_owned());
                }
                Kind::Whole => {
                    take(body)?;
                    continue;
                }
                Kind::First => {
                    self.record.clear();
                    self.assembling = true;
                }
                // It begins before the log's start, or in an earlier life.
                Kind::Middle | Kind::Last if !self.assembling => continue,
                Kind::Middle | Kind::Last => {}
            }
            self.record.extend_from_slice(body);
            if kind == Kind::Last {
                self.assembling = false;
                take(&self.record)?;
            }
        }
        Ok(())
    }
}
