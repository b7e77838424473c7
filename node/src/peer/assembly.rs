//! Received bytes made frames: a header, a body, and the parts of what is larger than a frame. Not
//! the sockets that they come from.
//!
//! Invariants:
//! 1. Memory grows as bytes come, never by a length that was only declared: at most by what is
//!    there already, and [`STEP_BYTES`].
//! 2. After an error nothing more can be read.

use ashlar_consensus::{NodeId, PartitionId};
use ashlar_io::wal::format::crc32c;

use super::frame::{
    Frame, FrameError, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Part, SectionHeader,
};

/// What a buffer may grow by beyond doubling, in bytes.
const STEP_BYTES: usize = 64 << 10;

/// Whose frames are expected.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: u32,
    /// Largest body, in bytes.
    pub body_bytes_max: u32,
}

/// A section of which some parts are there.
#[derive(Debug)]
struct Large {
    kind: u8,
    partition: PartitionId,
    bytes: Vec<u8>,
}

/// Makes frames of the bytes of one connection.
#[derive(Debug)]
pub struct Assembly {
    sender: Sender,
    sequence: u64,
    head: [u8; HEADER_BYTES],
    head_bytes: usize,
    header: Option<Header>,
    body: Vec<u8>,
    large: Option<Large>,
}

impl Assembly {
    /// Begins with the first frame of a connection.
    #[must_use]
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            sequence: 0,
            head: [0; HEADER_BYTES],
            head_bytes: 0,
            header: None,
            body: Vec::new(),
            large: None,
        }
    }

    /// Returns how many bytes of memory wait for the end of a frame or section.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        let large = self
            .large
            .as_ref()
            .map_or(0, |large| large.bytes.capacity());
        self.body.capacity() + large
    }

    /// Takes bytes from the front of `chunk` up to the end of a frame; returns how many, and the
    /// frame if it is whole. `spare` is called for a buffer to put a body in.
    ///
    /// # Errors
    /// The bytes are not what the sender's next frame has to be; the connection must end.
    pub fn take(
        &mut self,
        chunk: &[u8],
        spare: impl FnOnce() -> Vec<u8>,
    ) -> Result<(usize, Option<Frame>), FrameError> {
        let mut used = 0;
        let header = match self.header {
            Some(header) => header,
            None => {
                used = (HEADER_BYTES - self.head_bytes).min(chunk.len());
                let end = self.head_bytes + used;
                self.head[self.head_bytes..end].copy_from_slice(&chunk[..used]);
                self.head_bytes = end;
                if end < HEADER_BYTES {
                    return Ok((used, None));
                }
                self.body = spare();
                self.begin()?
            }
        };
        let missing = header.body_bytes as usize - self.body.len();
        let more = missing.min(chunk.len() - used);
        let step = missing.min(self.body.len().max(STEP_BYTES)).max(more);
        if self.body.capacity() - self.body.len() < more {
            self.body.reserve_exact(step);
        }
        self.body.extend_from_slice(&chunk[used..used + more]);
        used += more;
        if more < missing {
            return Ok((used, None));
        }
        self.finish(header).map(|frame| (used, Some(frame)))
    }

    /// Reads and judges the header.
    fn begin(&mut self) -> Result<Header, FrameError> {
        let header = Header::decode(&self.head)?;
        let Sender {
            node,
            incarnation,
            body_bytes_max,
        } = self.sender;
        if header.from != node || header.incarnation != incarnation {
            return Err(FrameError::Sender(header.from.0, header.incarnation));
        }
        if header.sequence != self.sequence + 1 {
            return Err(FrameError::Sequence {
                found: header.sequence,
                expected: self.sequence + 1,
            });
        }
        if header.body_bytes > body_bytes_max {
            return Err(FrameError::Long(header.body_bytes, body_bytes_max));
        }
        self.header = Some(header);
        Ok(header)
    }

    /// Checks a body that is all there.
    fn finish(&mut self, header: Header) -> Result<Frame, FrameError> {
        let body = std::mem::take(&mut self.body);
        assert!(body.len() == header.body_bytes as usize);
        if crc32c(&body) != header.body_crc {
            return Err(FrameError::Body);
        }
        let large = self.take_parts(&body).ok_or(FrameError::Sections)?;
        (self.head_bytes, self.header) = (0, None);
        self.sequence += 1;
        Ok(Frame {
            clock: header.clock,
            interval: header.interval,
            body,
            large,
        })
    }

    /// Goes through the sections of a body; returns the section that ends in it, or nothing when
    /// they do not fit together.
    fn take_parts(&mut self, body: &[u8]) -> Option<Option<Vec<u8>>> {
        let (mut rest, mut ended) = (body, None);
        while !rest.is_empty() {
            let (header, payload, behind) = SectionHeader::split(rest)?;
            rest = behind;
            if header.part == Part::Whole {
                continue;
            }
            if header.part == Part::First {
                let fresh = Large {
                    kind: header.kind,
                    partition: header.partition,
                    bytes: Vec::new(),
                };
                if self.large.replace(fresh).is_some() {
                    return None;
                }
            }
            let large = self.large.as_mut()?;
            let same = large.kind == header.kind && large.partition == header.partition;
            if !same || large.bytes.len() + payload.len() > PAYLOAD_BYTES_MAX {
                return None;
            }
            large.bytes.extend_from_slice(payload);
            if header.part == Part::Last && ended.replace(self.large.take()?.bytes).is_some() {
                return None;
            }
        }
        Some(ended)
    }
}
