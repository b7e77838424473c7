//! One segment of a log, looked at block by block. It says what is wrong with a batch; what that means for the log is
//! decided in `chain`.
//!
//! Invariant: every number read from the file is checked before it is used, so no bytes make this panic.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ashlar_io::wal::Position;
use ashlar_io::wal::format::{BLOCK_BYTES, Frames, HEADER_BYTES, Header};
use ashlar_io::{Mapped, map_read_only};

/// Positions above this are taken for damage; no log grows so long, and sums with them could overflow.
const POSITION_MAX: u64 = u64::MAX / 4;

/// What a batch must say to follow another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// Which log it belongs to.
    pub(crate) log_id: u64,
    /// Its generation is this or above.
    pub(crate) generation: u32,
    /// Where it is.
    pub(crate) position: Position,
    /// Where the batch before it ends, if one was seen.
    pub(crate) previous: Option<Position>,
}

/// Why no whole batch of the log is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The segment is full.
    End,
    /// The segment is not there, or its first block is damaged, so that nobody knows that it is the one.
    Missing,
    /// Zeros.
    Unwritten,
    /// Something else than a header.
    NoHeader,
    /// A header whose own checksum fails.
    BadHeader,
    /// A batch of another log.
    OtherLog(u64),
    /// A batch of an earlier use of the file.
    Reused(Position),
    /// A batch of an earlier life of the log.
    Stale { found: u32, newest: u32 },
    /// A batch that follows another batch than the one before it.
    BrokenLink { found: Position, expected: Position },
    /// A batch that goes on behind the end of the segment.
    TooLong(u64),
    /// A payload whose checksum fails.
    BadPayload,
    /// A payload whose checksum holds, with another number of frames than the header says.
    BadFrames { found: u32, said: u32 },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the segment is full"),
            Self::Missing => f.write_str("no segment begins with the batch that follows"),
            Self::Unwritten => f.write_str("no header: zeros, never written"),
            Self::NoHeader => f.write_str("no header: bytes of something else"),
            Self::BadHeader => f.write_str("bad header checksum or unknown version"),
            Self::OtherLog(id) => write!(f, "a batch of another log, {id:016x}"),
            Self::Reused(position) => write!(
                f,
                "a batch of an earlier use of the file, position {}",
                position.0
            ),
            Self::Stale { found, newest } => {
                write!(f, "stale generation {found}, after generation {newest}")
            }
            Self::BrokenLink { found, expected } => {
                write!(
                    f,
                    "broken link: follows a batch that ends at {}, not at {}",
                    found.0, expected.0
                )
            }
            Self::TooLong(bytes) => write!(
                f,
                "a batch of {bytes} bytes, more than the segment has left"
            ),
            Self::BadPayload => f.write_str("bad payload checksum"),
            Self::BadFrames { found, said } => {
                write!(f, "{found} frames where the header says {said}")
            }
        }
    }
}

/// A file of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    bytes: Mapped,
}

impl Segment {
    /// Opens the file for reading.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            bytes: map_read_only(path)?,
        })
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the file, for people.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Returns the size of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns the header of the first block, if it is whole and begins a segment.
    pub(crate) fn first(&self) -> Option<Header> {
        let header = decode(&self.bytes)?;
        (self.len() > 0 && header.position.0.is_multiple_of(self.len())).then_some(header)
    }

    /// Returns the batch at `offset`, header and payload, if it is whole and continues `link`.
    pub(crate) fn batch(&self, offset: u64, link: &Link) -> Result<(Header, &[u8]), Flaw> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .unwrap_or_default();
        if rest.len() < HEADER_BYTES {
            return Err(Flaw::End);
        }
        let header = decode(rest).ok_or_else(|| no_header(rest))?;
        check_link(&header, link)?;
        if header.batch_bytes() > rest.len() as u64 {
            return Err(Flaw::TooLong(header.batch_bytes()));
        }
        let payload = header.payload(rest).ok_or(Flaw::BadPayload)?;
        let found = u32::try_from(Frames(payload).count()).unwrap_or(u32::MAX);
        if found == header.frames {
            return Ok((header, payload));
        }
        Err(Flaw::BadFrames {
            found,
            said: header.frames,
        })
    }

    /// Walks every whole header at `offset` and behind it, whatever is between them.
    pub(crate) fn headers(&self, offset: u64) -> impl Iterator<Item = Header> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .unwrap_or_default();
        rest.chunks(BLOCK_BYTES).filter_map(decode)
    }
}

/// Reads a header whose numbers can be reckoned with.
fn decode(block: &[u8]) -> Option<Header> {
    Header::decode(block).filter(|header| header.position.0 <= POSITION_MAX)
}

fn no_header(rest: &[u8]) -> Flaw {
    let block = &rest[..rest.len().min(BLOCK_BYTES)];
    match block {
        [b'A', b'L', b'O', b'G', ..] => Flaw::BadHeader,
        _ if block.iter().all(|byte| *byte == 0) => Flaw::Unwritten,
        _ => Flaw::NoHeader,
    }
}

fn check_link(header: &Header, link: &Link) -> Result<(), Flaw> {
    if header.log_id != link.log_id {
        return Err(Flaw::OtherLog(header.log_id));
    }
    if header.position != link.position {
        return Err(Flaw::Reused(header.position));
    }
    if header.generation < link.generation {
        return Err(Flaw::Stale {
            found: header.generation,
            newest: link.generation,
        });
    }
    match link.previous {
        Some(expected) if expected != header.previous => Err(Flaw::BrokenLink {
            found: header.previous,
            expected,
        }),
        _ => Ok(()),
    }
}

/// What one segment holds, from its first block to its first flaw.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Number of the segment in its log.
    pub(crate) number: u64,
    /// Whole batches.
    pub(crate) batches: u64,
    /// Frames in them.
    pub(crate) frames: u64,
    /// Lowest and highest generation.
    pub(crate) generations: (u32, u32),
    /// Where the first batch begins and the last one ends.
    pub(crate) positions: (Position, Position),
    /// Highest position that a batch says was durable.
    pub(crate) durable: Position,
    /// What comes after the last whole batch.
    pub(crate) flaw: Flaw,
}

impl Scan {
    /// Scans a segment by itself; `None` when its first block is no header that begins a segment.
    pub(crate) fn of(segment: &Segment) -> Option<Self> {
        let first = segment.first()?;
        let number = first.position.0 / segment.len();
        let mut link = Link {
            log_id: first.log_id,
            generation: first.generation,
            position: first.position,
            previous: None,
        };
        let mut scan = Self {
            number,
            batches: 0,
            frames: 0,
            generations: (first.generation, first.generation),
            positions: (first.position, first.position),
            durable: first.durable,
            flaw: Flaw::End,
        };
        scan.flaw = loop {
            match segment.batch(link.position.0 - first.position.0, &link) {
                Ok((header, _)) => scan.take(&header, &mut link),
                Err(flaw) => break flaw,
            }
        };
        Some(scan)
    }

    fn take(&mut self, header: &Header, link: &mut Link) {
        let end = header.end();
        (link.generation, link.position, link.previous) = (header.generation, end, Some(end));
        self.batches += 1;
        self.frames += u64::from(header.frames);
        self.generations.1 = header.generation;
        self.positions.1 = end;
        self.durable = self.durable.max(header.durable);
    }
}
