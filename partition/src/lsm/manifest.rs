//! Checkpoints of a shard: what its partitions consist of, whole, in one of two files. With the edits
//! in the log behind it, that is the manifest. Not the log, and not the rules of versions.
//!
//! ```text
//! NNN.0, NNN.1   of shard NNN, written in turn; a multiple of 4 KiB long, zeroes at the end, or what
//!                a longer checkpoint left there
//!  0  magic       8 bytes
//!  8  format      u32   2
//! 12  shard       u32
//! 16  log_id      u64   of the shard's log
//! 24  generation  u64   1 for the first checkpoint, and so on
//! 32  position    u64   in the log: every edit of an earlier record is part of this
//! 40  body_bytes  u64
//! 48  checksum    u128  XXH3-128 of bytes 0 to 48, and of the body
//! 64  body        for each partition: record_bytes u32, and its version as the record of one edit;
//!                then likewise its ballot, if it has one
//! ```
//!
//! Invariants:
//! 1. A slot's file is there only since a checkpoint in it was whole: the first one gets its name by
//!    a rename, when it is durable. Later ones overwrite it, while the other slot is whole.
//! 2. So of two slots at least one is whole, whenever the power is cut; when none is, they are
//!    damaged.
//! 3. A slot whose write failed is not overwritten but replaced.

use std::io;
use std::path::{Path, PathBuf};

use ashlar_io::file::{rename, sync_dir};
use ashlar_io::wal::Position;
use ashlar_io::{ALIGN_BYTES, BLOCK_BYTES, Durable, File, OpenOptions, Reactor};
use xxhash_rust::xxh3::Xxh3;

use super::Malformed;
use super::edit::{Edit, Fields, put_u32};
use crate::ballot::{BALLOT_BYTES, BallotRecord};

const MAGIC: [u8; 8] = *b"ashlarCP";
const FORMAT: u32 = 2;
const HEADER_BYTES: usize = 64;
const CHECKSUM_AT: usize = 48;

/// What a shard consists of at one position of its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The log.
    pub log_id: u64,
    /// Edits of records that begin before it are contained; later ones may be, and tell by their
    /// sequence.
    pub position: Position,
    /// Each partition, as [`super::version::Version::snapshot`] gives it.
    pub partitions: Vec<Edit>,
    /// What their replicas have promised in elections.
    pub ballots: Vec<BallotRecord>,
}

/// Why there is no checkpoint to be had, or none could be written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The operating system refused.
    #[error("manifest {}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// No slot is whole.
    #[error("manifest is damaged: {}", .slots.join("; "))]
    Damaged {
        /// Each file that is there, and what is wrong with it.
        slots: Vec<String>,
    },
}

/// The two files of a shard.
#[derive(Debug)]
pub struct Manifest {
    reactor: Reactor,
    dir: PathBuf,
    shard: u32,
    slots: [Option<Slot>; 2],
}

/// What is known to be in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) generation: u64,
    position: Position,
}

impl Manifest {
    /// Opens the manifest of `shard` in `dir`, which exists; returns the newest checkpoint, if one
    /// was ever written. The caller must see to it that the log does not begin behind it.
    ///
    /// # Errors
    /// There are files, and none of them holds a whole checkpoint.
    pub async fn open(
        reactor: &Reactor,
        dir: &Path,
        shard: u32,
    ) -> Result<(Self, Option<Checkpoint>), ManifestError> {
        let mut manifest = Self {
            reactor: reactor.clone(),
            dir: dir.to_owned(),
            shard,
            slots: [None, None],
        };
        let (mut newest, mut damaged) = (None, Vec::new());
        for at in 0..2 {
            match manifest.read(at).await {
                Ok(None) => {}
                Ok(Some((slot, checkpoint))) => {
                    manifest.slots[at] = Some(slot);
                    if newest.as_ref().is_none_or(|(newest, _)| *newest < slot) {
                        newest = Some((slot, checkpoint));
                    }
                }
                Err(what) => damaged.push(format!("{}: {what}", manifest.path(at).display())),
            }
        }
        if newest.is_none() && !damaged.is_empty() {
            return Err(ManifestError::Damaged { slots: damaged });
        }
        Ok((manifest, newest.map(|(_, checkpoint)| checkpoint)))
    }

    /// Writes a checkpoint; it is durable on return. The other slot stays as it is.
    ///
    /// # Errors
    /// What the operating system said. The checkpoint before it still holds, and another attempt may
    /// be made.
    pub async fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), ManifestError> {
        let newest = self.slots.iter().flatten().max();
        let slot = Slot {
            generation: newest.map_or(1, |newest| newest.generation + 1),
            position: checkpoint.position,
        };
        let at = usize::from(self.slots[0] > self.slots[1]);
        let bytes = encode(self.shard, slot.generation, checkpoint);
        // Until all is written, nothing is known of the slot.
        let written = match self.slots[at].take() {
            Some(_) => self.overwrite(&self.path(at), &bytes).await,
            None => self.replace(at, &bytes).await,
        };
        written.map_err(|error| ManifestError::Io {
            path: self.path(at),
            error,
        })?;
        self.slots[at] = Some(slot);
        Ok(())
    }

    /// Returns the position before which the log is not needed, whichever of the two slots may turn
    /// out to be damaged; 0 until both are written.
    #[must_use]
    pub fn releasable(&self) -> Position {
        let [Some(a), Some(b)] = self.slots else {
            return Position(0);
        };
        a.position.min(b.position)
    }

    fn path(&self, at: usize) -> PathBuf {
        self.dir.join(format!("{:03}.{at}", self.shard))
    }

    /// Reads a slot; nothing when there is no file.
    async fn read(&self, at: usize) -> Result<Option<(Slot, Checkpoint)>, String> {
        let options = OpenOptions {
            direct: true,
            ..OpenOptions::default()
        };
        let file = match File::open(&self.reactor, &self.path(at), options).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let bytes = self.read_whole(&file).await.map_err(|e| e.to_string())?;
        let (slot, checkpoint) = decode(self.shard, &bytes).map_err(|e| e.to_string())?;
        Ok(Some((slot, checkpoint)))
    }

    async fn read_whole(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let buf = self.reactor.buffer(BLOCK_BYTES);
            let (count, buf) = file.read_at(buf, bytes.len() as u64).await;
            let count = count?;
            bytes.extend_from_slice(&buf.as_slice()[..count]);
            if count < BLOCK_BYTES {
                return Ok(bytes);
            }
        }
    }

    async fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let options = OpenOptions {
            write: true,
            create: true,
            direct: true,
            ..OpenOptions::default()
        };
        let file = File::open(&self.reactor, path, options).await?;
        let length = bytes.len().next_multiple_of(ALIGN_BYTES) as u64;
        if file.bytes().await? < length {
            // In large steps, so that most checkpoints find their room reserved.
            let reserved = length.next_multiple_of(BLOCK_BYTES as u64);
            file.preallocate(reserved).await?;
        }
        for (chunk, offset) in bytes.chunks(BLOCK_BYTES).zip((0..).step_by(BLOCK_BYTES)) {
            let mut buf = self
                .reactor
                .buffer(chunk.len().next_multiple_of(ALIGN_BYTES));
            let out = buf.as_mut_slice();
            out[..chunk.len()].copy_from_slice(chunk);
            out[chunk.len()..].fill(0);
            file.write_at(buf, offset, Durable::No).await.0?;
        }
        file.sync().await
    }

    /// Writes a file of its own and gives it the slot's name.
    async fn replace(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.dir.join(format!("{:03}.new", self.shard));
        self.overwrite(&fresh, bytes).await?;
        rename(&self.reactor, &fresh, &self.path(at)).await?;
        sync_dir(&self.reactor, &self.dir).await
    }
}

pub(super) fn encode(shard: u32, generation: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&shard.to_le_bytes());
    for number in [checkpoint.log_id, generation, checkpoint.position.0, 0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.resize(HEADER_BYTES, 0);
    let mut record = Vec::new();
    for partition in &checkpoint.partitions {
        record.clear();
        partition.encode(&mut record);
        put_u32(&mut bytes, record.len());
        bytes.extend_from_slice(&record);
    }
    for ballot in &checkpoint.ballots {
        put_u32(&mut bytes, BALLOT_BYTES);
        bytes.extend_from_slice(&ballot.encode());
    }
    seal(&mut bytes);
    bytes
}

/// Puts length and checksum of the body into the header before it.
pub(super) fn seal(bytes: &mut [u8]) {
    let body_bytes = (bytes.len() - HEADER_BYTES) as u64;
    bytes[40..48].copy_from_slice(&body_bytes.to_le_bytes());
    let checksum = checksum(&bytes[..CHECKSUM_AT], &bytes[HEADER_BYTES..]);
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(header: &[u8], body: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(body);
    hasher.digest128()
}

pub(super) fn decode(shard: u32, bytes: &[u8]) -> Result<(Slot, Checkpoint), Malformed> {
    let mut fields = Fields(bytes);
    let wrong = |what: &str| Err(Malformed(what.to_owned()));
    if fields.bytes(8, "magic")? != MAGIC || fields.u32("format")? != FORMAT {
        return wrong("not a checkpoint of this format");
    }
    let of_shard = fields.u32("shard")?;
    let log_id = fields.u64("log id")?;
    let slot = Slot {
        generation: fields.u64("generation")?,
        position: Position(fields.u64("position")?),
    };
    let body_bytes = fields.u64("length of the body")?;
    let stored = fields.bytes(16, "checksum")?;
    let body = usize::try_from(body_bytes)
        .ok()
        .and_then(|n| fields.0.get(..n));
    let Some(body) = body else {
        return wrong("the file ends within the checkpoint");
    };
    if stored != checksum(&bytes[..CHECKSUM_AT], body).to_le_bytes() {
        return wrong("the checksum is wrong");
    }
    if of_shard != shard {
        return wrong(&format!("it is of shard {of_shard}"));
    }
    let mut fields = Fields(body);
    let (mut partitions, mut ballots) = (Vec::new(), Vec::new());
    while !fields.0.is_empty() {
        let record = fields.key("version of a partition")?;
        if BallotRecord::is_ballot(record) {
            ballots.push(BallotRecord::decode(record)?);
        } else {
            partitions.push(Edit::decode(record)?);
        }
    }
    let checkpoint = Checkpoint {
        log_id,
        position: slot.position,
        partitions,
        ballots,
    };
    Ok((slot, checkpoint))
}

#[cfg(test)]
mod tests;
