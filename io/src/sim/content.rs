//! Bytes of simulated files. Not which of them are durable, nor what a crash leaves of them (`inode.rs`).
//!
//! A write's bytes are copied once, when it is submitted; the sectors that it brings are views of them.
//!
//! Invariant: an [`Image`] holds no sector of zeros only, so pre-zeroed files cost nothing.

use std::ops::{Deref, Range};
use std::rc::Rc;

use super::index;

/// Bytes of a sector: the unit in which the disk keeps or drops what was not synced.
pub(super) const SECTOR_BYTES: usize = 4096;

static ZERO_SECTOR: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];

/// What a write writes.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// So many zeros.
    Zeros(usize),
    Bytes(Rc<[u8]>),
}

impl Content {
    /// Copies `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        // Most bytes differ from zero at the beginning; whole blocks are compared fast.
        let mut blocks = bytes.chunks(SECTOR_BYTES);
        match blocks.all(|block| *block == ZERO_SECTOR[..block.len()]) {
            true => Self::Zeros(bytes.len()),
            false => Self::Bytes(bytes.into()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Zeros(len) => *len,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Returns a part of it.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Zeros(_) => Self::Zeros(range.len()),
            Self::Bytes(bytes) => Self::of(&bytes[range]),
        }
    }

    /// Says whether `range` of it, of one sector at most, is zeros.
    pub(super) fn is_zero(&self, range: Range<usize>) -> bool {
        match self {
            Self::Zeros(_) => true,
            Self::Bytes(bytes) => bytes[range.clone()] == ZERO_SECTOR[..range.len()],
        }
    }

    /// Returns the sector that begins at byte `start` of it.
    pub(super) fn sector(&self, start: usize) -> Sector {
        match self {
            Self::Zeros(_) => Sector::new(&ZERO_SECTOR),
            Self::Bytes(bytes) => Sector {
                bytes: Rc::clone(bytes),
                start,
            },
        }
    }

    /// Returns `below` with `range` of this at byte `within` of it.
    pub(super) fn over(
        &self,
        below: Option<&Sector>,
        within: usize,
        range: Range<usize>,
    ) -> Sector {
        let mut sector = below.map_or(ZERO_SECTOR, Sector::copied);
        let out = &mut sector[within..within + range.len()];
        match self {
            Self::Zeros(_) => out.fill(0),
            Self::Bytes(bytes) => out.copy_from_slice(&bytes[range]),
        }
        Sector::new(&sector)
    }
}

/// One sector's bytes, which are never changed: another sector takes its place.
#[derive(Clone, Debug)]
pub(super) struct Sector {
    bytes: Rc<[u8]>,
    start: usize,
}

impl Sector {
    pub(super) fn new(bytes: &[u8; SECTOR_BYTES]) -> Self {
        Self {
            bytes: Rc::new(*bytes),
            start: 0,
        }
    }

    /// Returns a copy, to be changed.
    pub(super) fn copied(&self) -> [u8; SECTOR_BYTES] {
        let mut copy = [0; SECTOR_BYTES];
        copy.copy_from_slice(self);
        copy
    }

    fn is_zero(&self) -> bool {
        **self == ZERO_SECTOR
    }

    /// Returns the same with zeros from byte `within` on.
    pub(super) fn cut(&self, within: usize) -> Self {
        let mut sector = self.copied();
        sector[within..].fill(0);
        Self::new(&sector)
    }
}

impl Deref for Sector {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + SECTOR_BYTES]
    }
}

/// What is durable of a file, by sector; what is not there is zeros.
#[derive(Debug, Default)]
pub(super) struct Image(Vec<Option<Sector>>);

impl Image {
    pub(super) fn get(&self, at: u64) -> Option<&Sector> {
        self.0.get(index(at))?.as_ref()
    }

    /// Puts a sector in its place, where zeros are the same as nothing.
    pub(super) fn store(&mut self, at: u64, sector: Sector) {
        let (place, sector) = (index(at), Some(sector).filter(|sector| !sector.is_zero()));
        if place < self.0.len() {
            self.0[place] = sector;
        } else if sector.is_some() {
            self.0.resize(place, None);
            self.0.push(sector);
        }
    }

    /// Cuts it to `bytes`.
    pub(super) fn cut(&mut self, bytes: u64) {
        self.0.truncate(index(bytes.div_ceil(SECTOR_BYTES as u64)));
        let (at, within) = (
            bytes / SECTOR_BYTES as u64,
            index(bytes % SECTOR_BYTES as u64),
        );
        if within > 0
            && let Some(sector) = self.get(at)
        {
            let cut = sector.cut(within);
            self.store(at, cut);
        }
    }

    /// Returns the places of the sectors in `range` that hold something.
    pub(super) fn places(&self, range: Range<u64>) -> Vec<u64> {
        range.filter(|at| self.get(*at).is_some()).collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}
