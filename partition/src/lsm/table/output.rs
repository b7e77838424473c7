//! The bytes of a file in the making, handed out in chunks of 256 KiB to whoever writes them: as soon
//! as that, so that they are in the processor's cache still.
//!
//! Chunks come in order, begin and end at multiples of 4 KiB, and all but the last have the same
//! size. The hash of the whole file is taken on the way.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

use crate::lsm::SECTOR_BYTES;

/// Size of a chunk but the last, in bytes.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of a file, to be written as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// Where in the file, in bytes.
    pub(crate) offset: u64,
    /// The bytes.
    pub(crate) bytes: &'a [u8],
}

/// What was made of a file and not taken yet.
pub(crate) struct Output {
    /// Where in the file `bytes` begins.
    offset: u64,
    bytes: Vec<u8>,
    /// Bytes at the front of `bytes` that were handed out, and go when the next are asked for.
    taken: usize,
    hash: Xxh3,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("offset", &self.offset)
            .field("bytes", &self.bytes.len())
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// Returns the output of an empty file.
    pub(crate) fn new() -> Self {
        Self {
            offset: 0,
            bytes: Vec::with_capacity(2 * CHUNK_BYTES),
            taken: 0,
            hash: Xxh3::new(),
        }
    }

    /// Returns the size of the file so far, in bytes.
    pub(crate) fn position(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    /// Returns the position, in sectors.
    ///
    /// # Panics
    /// When it is not at the start of one, or the file is larger than sectors can be counted.
    pub(crate) fn sector(&self) -> u32 {
        let position = self.position();
        assert_eq!(position % SECTOR_BYTES, 0);
        u32::try_from(position / SECTOR_BYTES).expect("a file has less than 16 TiB")
    }

    /// Returns the buffer at whose end the file goes on. Nothing before its end may be changed.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Returns what was appended since `sector` began.
    ///
    /// # Panics
    /// When some of that was handed out.
    pub(crate) fn since(&self, sector: u32) -> &[u8] {
        let start = u64::from(sector) * SECTOR_BYTES - self.offset;
        let start = usize::try_from(start).expect("positions fit in memory's size");
        assert!(self.taken <= start);
        &self.bytes[start..]
    }

    /// Appends zeros up to the next sector.
    pub(crate) fn pad(&mut self) {
        let position = usize::try_from(self.position()).expect("positions fit in memory's size");
        let sector_bytes = usize::try_from(SECTOR_BYTES).expect("4096 fits");
        let padding = position.next_multiple_of(sector_bytes) - position;
        self.bytes.resize(self.bytes.len() + padding, 0);
    }

    /// Says whether there is a full chunk.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.bytes.len() - self.taken >= CHUNK_BYTES
    }

    /// Hands out the next full chunk, if there is one.
    pub(crate) fn take(&mut self) -> Option<Chunk<'_>> {
        self.forget_taken();
        if self.bytes.len() < CHUNK_BYTES {
            return None;
        }
        Some(self.hand_out(CHUNK_BYTES))
    }

    /// Hands out the next chunk of a file that is complete; the last one may be smaller.
    ///
    /// # Panics
    /// When the file does not end with a full sector.
    pub(crate) fn take_rest(&mut self) -> Option<Chunk<'_>> {
        self.forget_taken();
        assert_eq!(self.position() % SECTOR_BYTES, 0);
        let bytes = self.bytes.len().min(CHUNK_BYTES);
        (bytes > 0).then(|| self.hand_out(bytes))
    }

    /// Returns the XXH3-128 of the whole file.
    pub(crate) fn file_hash(&self) -> u128 {
        let mut hash = self.hash.clone();
        hash.update(&self.bytes[self.taken..]);
        hash.digest128()
    }

    fn hand_out(&mut self, bytes: usize) -> Chunk<'_> {
        self.taken = bytes;
        let bytes = &self.bytes[..bytes];
        self.hash.update(bytes);
        Chunk {
            offset: self.offset,
            bytes,
        }
    }

    fn forget_taken(&mut self) {
        self.bytes.drain(..self.taken);
        self.offset += self.taken as u64;
        self.taken = 0;
    }
}
