//! The bytes of the log on disk. Not their order in time: that is the writer's and the reader's.
//!
//! A segment is a file of fixed size, filled from its start with batches. A batch begins at a
//! multiple of 4 KiB, takes a whole number of 4 KiB blocks, and never crosses the end of its
//! segment. All numbers are little-endian.
//!
//! ```text
//! batch    0  magic         u32   "ALOG"
//!          4  version       u16   1
//!          6  header_bytes  u16   80
//!          8  payload_crc   u32   CRC-32C of the payload
//!         12  length        u32   bytes of the payload, which follows the header; then zeros to the end of the block
//!         16  log_id        u64   chosen when the log was made: a block of another log never parses
//!         24  generation    u32   raised by every recovery: what an earlier life left behind a cut tail never parses
//!         28  frames        u32   in the payload
//!         32  position      u64   of this header in the log: segment number x segment bytes + offset in the file
//!         40  previous      u64   end of the batch before; the chain tells a skipped end of a segment from a hole
//!         48  durable       u64   position known durable when this batch was sealed
//!         56  start         u64   first position that the log still needs
//!         64  sealed_us     u64   wall clock, for people
//!         72  reserved      u32   0
//!         76  header_crc    u32   CRC-32C of bytes 0..76
//! frame    0  length        u32   bytes that follow the frame header
//!          4  kind          u8    1 whole record, 2 first part, 3 middle part, 4 last part
//!          5  reserved      3 x u8
//! ```

/// Batches begin and end at multiples of this, in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Size of a batch header, in bytes.
pub const HEADER_BYTES: usize = 80;
/// Size of a frame header, in bytes.
pub const FRAME_BYTES: usize = 8;
const MAGIC: u32 = u32::from_le_bytes(*b"ALOG");
const VERSION: u16 = 1;

const _: () = assert!(HEADER_BYTES.is_multiple_of(8) && HEADER_BYTES < BLOCK_BYTES);

/// A place in the log: bytes since its beginning. Positions only grow, over the whole life of the
/// log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// CRC-32C of the payload.
    pub payload_crc: u32,
    /// Payload, in bytes.
    pub length: u32,
    /// Which log this is.
    pub log_id: u64,
    /// Which life of the log wrote it.
    pub generation: u32,
    /// Frames in the payload.
    pub frames: u32,
    /// Where the batch begins.
    pub position: Position,
    /// Where the batch before it ends.
    pub previous: Position,
    /// All before this was durable when the batch was sealed.
    pub durable: Position,
    /// Nothing before this was needed any more.
    pub start: Position,
    /// Wall clock at sealing, in microseconds since 1970.
    pub sealed_us: u64,
}

impl Header {
    /// Returns the bytes that the batch takes on disk.
    #[must_use]
    pub fn batch_bytes(&self) -> u64 {
        batch_bytes(self.length)
    }

    /// Returns where the batch ends. A position that no log reaches is not counted on from.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.position.0.saturating_add(self.batch_bytes()))
    }

    /// Writes the header into the first bytes of `out`.
    ///
    /// # Panics
    /// When `out` is shorter than [`HEADER_BYTES`].
    pub fn encode(&self, out: &mut [u8]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&VERSION.to_le_bytes());
        put(&80_u16.to_le_bytes());
        put(&self.payload_crc.to_le_bytes());
        put(&self.length.to_le_bytes());
        put(&self.log_id.to_le_bytes());
        put(&self.generation.to_le_bytes());
        put(&self.frames.to_le_bytes());
        put(&self.position.0.to_le_bytes());
        put(&self.previous.0.to_le_bytes());
        put(&self.durable.0.to_le_bytes());
        put(&self.start.0.to_le_bytes());
        put(&self.sealed_us.to_le_bytes());
        put(&0_u32.to_le_bytes());
        let crc = crc32c(&out[..HEADER_BYTES - 4]);
        out[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header from the first bytes of `block`; `None` when there is none, or it is damaged.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<Self> {
        let header = block.get(..HEADER_BYTES)?;
        if u32_at(header, 0) != MAGIC || u32_at(header, 76) != crc32c(&header[..HEADER_BYTES - 4]) {
            return None;
        }
        if u16::from_le_bytes([header[4], header[5]]) != VERSION {
            return None;
        }
        Some(Self {
            payload_crc: u32_at(header, 8),
            length: u32_at(header, 12),
            log_id: u64_at(header, 16),
            generation: u32_at(header, 24),
            frames: u32_at(header, 28),
            position: Position(u64_at(header, 32)),
            previous: Position(u64_at(header, 40)),
            durable: Position(u64_at(header, 48)),
            start: Position(u64_at(header, 56)),
            sealed_us: u64_at(header, 64),
        })
    }

    /// Returns the payload of the batch that begins at `batch[0]`, if all of it is there and its
    /// checksum holds.
    #[must_use]
    pub fn payload<'a>(&self, batch: &'a [u8]) -> Option<&'a [u8]> {
        let payload = batch.get(HEADER_BYTES..HEADER_BYTES + self.length as usize)?;
        if crc32c(payload) == self.payload_crc {
            Some(payload)
        } else {
            None
        }
    }
}

/// Returns the bytes that a batch with `length` bytes of payload takes on disk.
#[must_use]
pub fn batch_bytes(length: u32) -> u64 {
    (HEADER_BYTES as u64 + u64::from(length)).next_multiple_of(BLOCK_BYTES as u64)
}

/// Which part of a record a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All of it.
    Whole,
    /// Its beginning.
    First,
    /// Neither beginning nor end.
    Middle,
    /// Its end.
    Last,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Whole => 1,
            Self::First => 2,
            Self::Middle => 3,
            Self::Last => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Whole,
            2 => Self::First,
            3 => Self::Middle,
            4 => Self::Last,
            _ => return None,
        })
    }

    /// Returns the kind of a part, by whether it begins and ends its record.
    #[must_use]
    pub fn of_part(begins: bool, ends: bool) -> Self {
        match (begins, ends) {
            (true, true) => Self::Whole,
            (true, false) => Self::First,
            (false, false) => Self::Middle,
            (false, true) => Self::Last,
        }
    }
}

/// Writes a frame header for `length` bytes into the first bytes of `out`.
///
/// # Panics
/// When `out` is shorter than [`FRAME_BYTES`].
pub fn encode_frame(kind: Kind, length: u32, out: &mut [u8]) {
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..FRAME_BYTES].copy_from_slice(&[kind.to_byte(), 0, 0, 0]);
}

/// Walks the frames of a payload. A payload whose checksum held but whose frames do not add up ends
/// early; the count in the header tells.
#[derive(Clone, Debug)]
pub struct Frames<'a>(pub &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = (Kind, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.0.get(..FRAME_BYTES)?;
        let kind = Kind::from_byte(head[4])?;
        let end = FRAME_BYTES.checked_add(u32_at(head, 0) as usize)?;
        let body = self.0.get(FRAME_BYTES..end)?;
        self.0 = &self.0[end..];
        Some((kind, body))
    }
}

/// Computes CRC-32C (Castagnoli, as in iSCSI, RFC 3720).
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a 32-bit checksum in a 64-bit word"
)]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of CRC-32C for "123456789" (RFC 3720, appendix B.4 uses the same
        // polynomial).
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    fn header() -> Header {
        Header {
            payload_crc: crc32c(b"payload"),
            length: 7,
            log_id: 11,
            generation: 3,
            frames: 1,
            position: Position(8192),
            previous: Position(4096),
            durable: Position(4096),
            start: Position(0),
            sealed_us: 99,
        }
    }

    #[test]
    fn any_flipped_bit_of_a_batch_is_seen() {
        let mut batch = vec![0; HEADER_BYTES + 7];
        header().encode(&mut batch);
        batch[HEADER_BYTES..].copy_from_slice(b"payload");
        let whole = Header::decode(&batch).unwrap();
        assert_eq!(whole, header());
        assert_eq!(whole.payload(&batch).unwrap(), b"payload");
        for bit in 0..batch.len() * 8 {
            batch[bit / 8] ^= 1 << (bit % 8);
            let seen = Header::decode(&batch).and_then(|h| h.payload(&batch));
            assert!(seen.is_none(), "bit {bit} flipped unseen");
            batch[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_position_at_the_end_of_all_numbers_has_an_end() {
        let last = Header {
            position: Position(u64::MAX - 4095),
            ..header()
        };
        assert_eq!(last.end(), Position(u64::MAX));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(header) = Header::decode(&bytes) {
                let _ = header.payload(&bytes);
            }
            let total: usize = Frames(&bytes).map(|(_, body)| body.len() + FRAME_BYTES).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
