//! The bytes of frames between two shards, and what a received one holds. Not how they travel.
//!
//! A frame is a header and a body; the body is sections, one after another, each for one partition.
//! All numbers are little-endian.
//!
//! ```text
//! header   0  magic        u32   "ASHF"
//!          4  version      u8    1
//!          5  flags        u8    0
//!          6  reserved     u16   0
//!          8  body_bytes   u32   length of the body; checked before the body is taken
//!         12  body_crc     u32   CRC-32C of the body
//!         16  from         u64   the node that sends
//!         24  sequence     u64   1 for the first frame of a connection, then one more each
//!         32  clock        u64   the sender's hybrid clock
//!         40  earliest_us  u64   the sender's wall clock was not before this, in microseconds since 1970
//!         48  latest_us    u64   and not after this
//!         56  incarnation  u32   which life of the sender this is
//!         60  header_crc   u32   CRC-32C of bytes 0..60
//! section  0  bytes        u32   length of the payload
//!          4  kind         u8    what the payload is; its owner knows
//!          5  part         u8    0 whole, 1 first part, 2 middle part, 3 last part
//!          6  reserved     u16   0
//!          8  partition    u32
//!         12  payload
//! ```
//!
//! A section that is larger than a frame travels in parts, in frames that follow each other; whole
//! sections may stand before and behind its parts.
//!
//! Invariants:
//! 1. A [`Frame`] was checked whole: its sections end where its body ends.
//! 2. At most one section in parts is under way on a connection, and at most one ends in a frame.

use ashlar_consensus::{NodeId, PartitionId, Timestamp};
use ashlar_io::wal::format::crc32c;

use super::cursor::Cursor;

/// Size of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 64;
/// Size of a section's header, in bytes.
pub const SECTION_BYTES: usize = 12;
/// Longest payload of a section, in bytes: above any command that a client may send.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 31) - 1;
/// Version of frames.
const VERSION: u8 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"ASHF");

const _: () = assert!(HEADER_BYTES == 4 * 4 + 8 * 5 + 2 * 4);

/// Between which moments a node's true time lies, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Interval {
    /// Not before this.
    pub earliest_us: u64,
    /// Not after this.
    pub latest_us: u64,
}

/// What a frame says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the body.
    pub body_bytes: u32,
    /// CRC-32C of the body.
    pub body_crc: u32,
    /// The node that sends.
    pub from: NodeId,
    /// Number of the frame on its connection, from 1.
    pub sequence: u64,
    /// The sender's hybrid clock.
    pub clock: Timestamp,
    /// The sender's wall clock.
    pub interval: Interval,
    /// Which life of the sender this is.
    pub incarnation: u32,
}

/// Why bytes are no frame that was expected here. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header is not a header, or was changed on the way.
    #[error("a frame's header is damaged")]
    Header,
    /// The body was changed on the way.
    #[error("a frame's body is damaged")]
    Body,
    /// The version is another.
    #[error("a frame has version {0}, this node knows version {VERSION}")]
    Version(u8),
    /// The body is too long.
    #[error("a frame has {0} bytes, more than peer.frame_bytes_max = {1} here")]
    Long(u32, u32),
    /// It is not from whom the connection is.
    #[error("a frame is from node {0}, incarnation {1}, and not from the node that said hello")]
    Sender(u64, u32),
    /// A frame is missing, or comes twice.
    #[error("a frame has number {found}, expected was {expected}")]
    Sequence {
        /// What it has.
        found: u64,
        /// What was its turn.
        expected: u64,
    },
    /// Its sections do not fit it.
    #[error("a frame's sections do not fit it")]
    Sections,
}

impl Header {
    /// Writes the header over the first [`HEADER_BYTES`] of a frame whose body is in place.
    ///
    /// # Panics
    /// When there is no room for a header, or the body is above 4 GiB.
    pub fn seal(self, frame: &mut [u8]) {
        let (header, body) = frame.split_at_mut(HEADER_BYTES);
        let body_bytes = u32::try_from(body.len()).expect("a frame is limited");
        header[..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&[VERSION, 0, 0, 0]);
        header[8..12].copy_from_slice(&body_bytes.to_le_bytes());
        header[12..16].copy_from_slice(&crc32c(body).to_le_bytes());
        let numbers = [
            self.from.0,
            self.sequence,
            self.clock.0,
            self.interval.earliest_us,
            self.interval.latest_us,
        ];
        for (place, number) in header[16..56].chunks_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        header[56..60].copy_from_slice(&self.incarnation.to_le_bytes());
        let crc = crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        Self::read(bytes).unwrap_or(Err(FrameError::Header))
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Result<Self, FrameError>> {
        let mut at = Cursor(bytes);
        let magic = at.u32()?;
        let (version, flags, reserved) = (at.u8()?, at.u8()?, at.u16()?);
        let header = Self {
            body_bytes: at.u32()?,
            body_crc: at.u32()?,
            from: NodeId(at.u64()?),
            sequence: at.u64()?,
            clock: Timestamp(at.u64()?),
            interval: Interval {
                earliest_us: at.u64()?,
                latest_us: at.u64()?,
            },
            incarnation: at.u32()?,
        };
        if magic != MAGIC || at.u32()? != crc32c(&bytes[..60]) {
            return None;
        }
        if version != VERSION {
            return Some(Err(FrameError::Version(version)));
        }
        (flags == 0 && reserved == 0).then_some(Ok(header))
    }
}

/// Whether a section is whole, or which part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The whole payload.
    Whole = 0,
    /// Its beginning.
    First = 1,
    /// Something between.
    Middle = 2,
    /// Its end.
    Last = 3,
}

impl Part {
    fn of(byte: u8) -> Option<Self> {
        let every = [Self::Whole, Self::First, Self::Middle, Self::Last];
        every.into_iter().find(|part| *part as u8 == byte)
    }
}

/// The header of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionHeader {
    /// Length of the payload.
    pub bytes: u32,
    /// What the payload is.
    pub kind: u8,
    /// How much of the section it is.
    pub part: Part,
    /// Whom it is for.
    pub partition: PartitionId,
}

impl SectionHeader {
    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&[self.kind, self.part as u8, 0, 0]);
        out.extend_from_slice(&self.partition.0.to_le_bytes());
    }

    /// Takes the first section of a body: its header and its payload.
    #[must_use]
    pub fn split(body: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let mut at = Cursor(body);
        let (bytes, kind) = (at.u32()?, at.u8()?);
        let part = Part::of(at.u8()?)?;
        let reserved = at.u16()?;
        let partition = PartitionId(at.u32()?);
        let payload = at.bytes(usize::try_from(bytes).ok()?)?;
        let header = Self {
            bytes,
            kind,
            part,
            partition,
        };
        (reserved == 0).then_some((header, payload, at.0))
    }
}

/// A section of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// What the payload is; its owner knows.
    pub kind: u8,
    /// Whom it is for.
    pub partition: PartitionId,
    /// The payload.
    pub bytes: &'a [u8],
}

/// A received frame: what its sender said of its clock, and its sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The sender's hybrid clock when it sealed the frame.
    pub clock: Timestamp,
    /// The sender's wall clock when it sealed the frame.
    pub interval: Interval,
    pub(super) body: Vec<u8>,
    /// The section whose last part is in this frame.
    pub(super) large: Option<Vec<u8>>,
}

impl Frame {
    /// Returns the sections in the order in which they are to be taken: urgent ones first. A section
    /// that came in parts stands where its last part is.
    pub fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        let mut rest = self.body.as_slice();
        let next = move || {
            let (header, payload, behind) = SectionHeader::split(rest)?;
            rest = behind;
            Some((header, payload))
        };
        std::iter::from_fn(next).filter_map(|(header, payload)| {
            let bytes = match header.part {
                Part::Whole => payload,
                Part::Last => self.large.as_deref()?,
                Part::First | Part::Middle => return None,
            };
            Some(Section {
                kind: header.kind,
                partition: header.partition,
                bytes,
            })
        })
    }

    /// Returns how many bytes of memory the frame holds, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let large = self.large.as_ref().map_or(0, Vec::capacity);
        HEADER_BYTES + self.body.capacity() + large
    }
}
