//! Recovery: reads the log back, from its start to its end, and decides what its end is.
//!
//! The decision, for the first batch that is not there or not whole, at position `p`:
//! - some whole batch header further on says that a position above `p` was durable when it was
//!   sealed: acknowledged bytes are damaged. Refused, with file and offset; nothing is cut. A segment whose
//!   beginning is damaged, or which is missing, ends the log before it and is told by the same.
//! - otherwise the bytes at `p` were never acknowledged: a torn tail. The log ends at `p`.
//!
//! What lies behind a cut tail stays on disk, so the log goes on in a generation above every one
//! that was seen anywhere.
//!
//! Invariants:
//! 1. Every file is synced before it is read: what recovery hands on survives the next power cut.
//! 2. An unreadable sector is an error, never an end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::Options;
use super::format::{self, Frames, Header, Kind, Position};
use super::scan::{Later, Stream};
use super::segment;
use crate::buffer::Buf;
use crate::file::{self, Durable, File};
use crate::reactor::Reactor;

/// What recovery found: the log's end, and its files.
#[derive(Debug)]
pub struct Recovered {
    /// Live segments by number, up to the one that holds the end.
    pub(super) segments: BTreeMap<u64, File>,
    /// Files that hold nothing needed.
    pub(super) spares: Vec<File>,
    pub(super) next_name: u64,
    /// First position that the log needs.
    pub start: Position,
    /// Where the log ends and writing goes on.
    pub end: Position,
    /// Generation that writing goes on in.
    pub generation: u32,
    /// Records handed on.
    pub records: u64,
    /// Bytes of the records handed on.
    pub record_bytes: u64,
    /// The log did not end where a clean stop would have left it: something unacknowledged was cut.
    pub torn: bool,
}

/// Why the log could not be recovered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// A file operation failed.
    #[error("cannot {what} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Bytes that were acknowledged are damaged or gone.
    #[error(
        "log {} is damaged at offset {offset}: bytes up to log position {durable} were acknowledged, but the batch at position {position} is not whole; restore this file from a backup or replace the node",
        .path.display()
    )]
    Damaged {
        /// The segment, or the directory when the segment itself is missing.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// Where in the log.
        position: u64,
        /// What is known to have been acknowledged.
        durable: u64,
    },
    /// A segment has the wrong size.
    #[error("log segment {} is {found} bytes long instead of {expected}; it was cut or written to by something else", .path.display())]
    WrongSize {
        /// The segment.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size of every segment.
        expected: u64,
    },
    /// A whole batch holds what no writer writes.
    #[error("log {} holds a record that cannot be understood, in the batch at offset {offset}: {what}", .path.display())]
    BadRecord {
        /// The segment.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoverError {
    let path = path.to_owned();
    move |error| RecoverError::Io { what, path, error }
}

/// Recovers the log in `options.dir`: hands every record to `take`, with a position at or before
/// which it begins, in order. `take` may refuse a record with a reason.
///
/// # Errors
/// [`RecoverError`]: a file cannot be read, acknowledged bytes are damaged, or `take` refused a
/// record.
pub async fn recover(
    reactor: &Reactor,
    options: &Options,
    mut take: impl FnMut(Position, &[u8]) -> Result<(), String>,
) -> Result<Recovered, RecoverError> {
    let files = open_all(reactor, options).await?;
    let (mut numbered, mut spares) = by_number(files.files, options);
    let start = log_start(reactor, options, &numbered).await?;
    let first = start.0 / options.segment_bytes;
    let mut walk = Walk::new(reactor, options, first, start);
    let end = walk.run(&numbered, &mut take).await?;
    let later = Later::scan(reactor, options, &numbered, &spares, (first, end)).await?;
    // What was released had been durable, too.
    let durable = later.durable.max(start);
    if durable > end {
        return Err(walk.damaged(&numbered, end, durable));
    }
    // An end at the very beginning of a segment lies in the one before, as far as files are
    // concerned.
    let past = end.0.div_ceil(options.segment_bytes);
    let mut segments = BTreeMap::new();
    while let Some((number, (header, file))) = numbered.pop_first() {
        if (first..past).contains(&number) {
            segments.insert(number, file);
        } else {
            spares.push((Some(header), file));
        }
    }
    Ok(Recovered {
        segments,
        spares: abandon(spares, end).await?,
        next_name: files.next_name,
        start,
        end,
        generation: walk.generation.max(later.generation) + 1,
        records: walk.records,
        record_bytes: walk.record_bytes,
        torn: later.found || walk.assembling,
    })
}

/// Wipes the first block of those segments that begin at or behind the end: their numbers will be
/// given again, and until the new segment's first batch is on disk, nothing else may pass for it.
async fn abandon(
    spares: Vec<(Option<Header>, File)>,
    end: Position,
) -> Result<Vec<File>, RecoverError> {
    let mut wiped = Vec::new();
    for (header, file) in spares {
        if header.is_some_and(|header| header.position >= end) {
            let (result, _) = file
                .write_at(Buf::heap(format::BLOCK_BYTES), 0, Durable::Yes)
                .await;
            result.map_err(io_error("wipe", file.path()))?;
        }
        wiped.push(file);
    }
    Ok(wiped)
}

pub(super) struct Files {
    pub(super) files: Vec<(Option<Header>, File)>,
    pub(super) next_name: u64,
}

/// Opens and syncs every segment and reads its first header; removes what was being made.
pub(super) async fn open_all(reactor: &Reactor, options: &Options) -> Result<Files, RecoverError> {
    let dir = &options.dir;
    let mut found = Files {
        files: Vec::new(),
        next_name: 0,
    };
    let entries = file::list(reactor, dir)
        .await
        .map_err(io_error("list", dir))?;
    for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
        let path = dir.join(&entry.name);
        if entry.name.ends_with(segment::UNFINISHED) {
            file::unlink(reactor, &path)
                .await
                .map_err(io_error("remove", &path))?;
            continue;
        }
        let lost = entry.name.strip_suffix(segment::LOST);
        let name = lost.or_else(|| entry.name.strip_suffix(segment::SUFFIX));
        let Some(name) = name.and_then(|name| name.parse::<u64>().ok()) else {
            continue;
        };
        found.next_name = found.next_name.max(name + 1);
        if lost.is_some() {
            continue;
        }
        let segment = File::open(reactor, &path, segment::OPEN)
            .await
            .map_err(io_error("open", &path))?;
        let bytes = segment.bytes().await.map_err(io_error("measure", &path))?;
        if bytes != options.segment_bytes {
            return Err(RecoverError::WrongSize {
                path,
                found: bytes,
                expected: options.segment_bytes,
            });
        }
        segment.sync().await.map_err(io_error("sync", &path))?;
        let (result, block) = segment.read_at(Buf::heap(format::BLOCK_BYTES), 0).await;
        result.map_err(io_error("read", &path))?;
        let header = Header::decode(block.as_slice()).filter(|h| {
            h.log_id == options.log_id && h.position.0.is_multiple_of(options.segment_bytes)
        });
        found.files.push((header, segment));
    }
    file::sync_dir(reactor, dir)
        .await
        .map_err(io_error("sync", dir))?;
    Ok(found)
}

pub(super) type Numbered = BTreeMap<u64, (Header, File)>;

/// Sorts segments by their number in the log; of two with one number the newer generation counts.
fn by_number(
    files: Vec<(Option<Header>, File)>,
    options: &Options,
) -> (Numbered, Vec<(Option<Header>, File)>) {
    let (mut numbered, mut spares) = (Numbered::new(), Vec::new());
    for (header, file) in files {
        let Some(header) = header else {
            spares.push((None, file));
            continue;
        };
        let number = header.position.0 / options.segment_bytes;
        let older = match numbered.remove(&number) {
            Some((other, other_file)) if other.generation > header.generation => {
                numbered.insert(number, (other, other_file));
                Some((header, file))
            }
            other => {
                numbered.insert(number, (header, file));
                other
            }
        };
        spares.extend(older.map(|(header, file)| (Some(header), file)));
    }
    (numbered, spares)
}

/// Returns where the log starts: what its newest batch says, since `start` only grows.
///
/// Segments are reused and removed once a durable batch says that they are not needed, so that
/// batch must not be missed; and a batch that is cut with the tail must not count, since nothing
/// would tell the start once it is overwritten. So the last part of the chain is walked: from the
/// last segment that certainly belongs to it, because all before that segment is said to be
/// durable.
async fn log_start(
    reactor: &Reactor,
    options: &Options,
    numbered: &Numbered,
) -> Result<Position, RecoverError> {
    for (number, (first, _)) in numbered.iter().rev() {
        let mut walk = Walk::new(reactor, options, *number, Position(u64::MAX));
        walk.run(numbered, &mut |_, _| Ok(())).await?;
        if walk.previous.is_some() && walk.durable >= first.previous {
            return Ok(walk.newest_start);
        }
    }
    Ok(numbered
        .values()
        .map(|(first, _)| first.start)
        .max()
        .unwrap_or_default())
}

/// The walk along the chain of batches.
struct Walk<'a> {
    reactor: &'a Reactor,
    options: &'a Options,
    at: Position,
    /// Every batch has at least this generation; it only grows.
    generation: u32,
    /// End of the last batch: the link that the next one must carry. Nothing is known of the first
    /// one's.
    previous: Option<Position>,
    /// Records in batches before this are not handed on.
    start: Position,
    /// The largest `start` and `durable` of the batches walked.
    newest_start: Position,
    durable: Position,
    record: Vec<u8>,
    record_start: Position,
    assembling: bool,
    records: u64,
    record_bytes: u64,
}

impl<'a> Walk<'a> {
    /// A walk from the beginning of a segment, also when the log starts within it: so that what
    /// lies at the start itself has a link and a generation to keep to.
    fn new(reactor: &'a Reactor, options: &'a Options, segment: u64, start: Position) -> Self {
        Self {
            reactor,
            options,
            at: Position(segment * options.segment_bytes),
            generation: 0,
            previous: None,
            start,
            newest_start: Position(0),
            durable: Position(0),
            record: Vec::new(),
            record_start: start,
            assembling: false,
            records: 0,
            record_bytes: 0,
        }
    }

    /// Walks to the first batch that is not whole; returns its position.
    async fn run(
        &mut self,
        numbered: &Numbered,
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), String>,
    ) -> Result<Position, RecoverError> {
        loop {
            let number = self.at.0 / self.options.segment_bytes;
            let Some((_, file)) = numbered.get(&number) else {
                return Ok(self.previous.unwrap_or(self.at));
            };
            self.segment(file, take).await?;
            let Some(end) = self.previous else {
                return Ok(self.at);
            };
            // The rest of a segment may have been skipped: the first batch of the next one tells,
            // by its link.
            let next = numbered.get(&(number + 1)).map(|(header, _)| header);
            match next.filter(|header| self.continues(header)) {
                Some(header) => self.at = header.position,
                None => return Ok(end),
            }
        }
    }

    fn continues(&self, header: &Header) -> bool {
        header.generation >= self.generation
            && self.previous.is_none_or(|end| header.previous == end)
    }

    /// Walks the batches of one segment.
    async fn segment(
        &mut self,
        file: &File,
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), String>,
    ) -> Result<(), RecoverError> {
        let base = self.at.0 - self.at.0 % self.options.segment_bytes;
        let mut stream = Stream::new(
            file,
            self.at.0 - base,
            self.options.segment_bytes,
            self.reactor,
        );
        loop {
            let Some(header) = Header::decode(stream.at_least(format::HEADER_BYTES).await?) else {
                return Ok(());
            };
            let in_place = header.log_id == self.options.log_id && header.position == self.at;
            let fits = header.end().0 <= base + self.options.segment_bytes;
            if !in_place || !fits || !self.continues(&header) {
                return Ok(());
            }
            let bytes = usize::try_from(header.batch_bytes()).expect("fits a segment");
            let batch = stream.at_least(bytes).await?;
            let Some(payload) = header.payload(batch) else {
                return Ok(());
            };
            self.batch(&header, payload, take)
                .map_err(|what| RecoverError::BadRecord {
                    path: file.path().to_owned(),
                    offset: self.at.0 - base,
                    what,
                })?;
            stream.consume(bytes);
            self.at = header.end();
            self.previous = Some(self.at);
            self.newest_start = self.newest_start.max(header.start);
            self.durable = self.durable.max(header.durable);
        }
    }

    /// Hands on the records that end in one batch.
    fn batch(
        &mut self,
        header: &Header,
        payload: &[u8],
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        if header.generation > self.generation {
            // A record left unfinished by an earlier life ends here, unacknowledged.
            self.generation = header.generation;
            self.assembling = false;
        }
        if header.end() <= self.start {
            return Ok(());
        }
        let mut count = 0;
        for (kind, body) in Frames(payload) {
            count += 1;
            self.frame(kind, body, take)?;
        }
        if count == header.frames {
            Ok(())
        } else {
            Err(format!(
                "{count} frames where the header says {}",
                header.frames
            ))
        }
    }

    fn frame(
        &mut self,
        kind: Kind,
        body: &[u8],
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        match kind {
            Kind::Whole | Kind::First if self.assembling => {
                return Err("a record begins inside another one".to_owned());
            }
            Kind::Whole => return self.hand_on(self.at, body, take),
            Kind::First => {
                self.record.clear();
                self.record_start = self.at;
                self.assembling = true;
            }
            // The beginning lies before the log's start, or in an earlier life: never acknowledged,
            // or not needed.
            Kind::Middle | Kind::Last if !self.assembling => return Ok(()),
            Kind::Middle | Kind::Last => {}
        }
        self.record.extend_from_slice(body);
        if kind == Kind::Last {
            self.assembling = false;
            let record = std::mem::take(&mut self.record);
            self.hand_on(self.record_start, &record, take)?;
        }
        Ok(())
    }

    fn hand_on(
        &mut self,
        start: Position,
        record: &[u8],
        take: &mut impl FnMut(Position, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.records += 1;
        self.record_bytes += record.len() as u64;
        take(start, record)
    }

    fn damaged(&self, numbered: &Numbered, end: Position, durable: Position) -> RecoverError {
        let number = end.0 / self.options.segment_bytes;
        let path = numbered
            .get(&number)
            .map_or(self.options.dir.as_path(), |(_, file)| file.path())
            .to_owned();
        let offset = end.0 % self.options.segment_bytes;
        RecoverError::Damaged {
            path,
            offset,
            position: end.0,
            durable: durable.0,
        }
    }
}
