//! The content of one simulated file: what is visible, what is durable, and what a crash makes of
//! the difference. Not names (see `names.rs`) and not the timing or the errors of operations (see
//! `files.rs`).
//!
//! ```text
//!  read: newest first     dirty        written since the last sync was submitted
//!                         frozen[..]   written before a sync that is in flight (one layer per sync)
//!                         lost         visible, though a failed sync or a lying disk dropped it
//!                         durable      survives a crash
//! ```
//!
//! Invariants:
//! 1. A sector that is in no layer reads as zeros; an all-zero sector over nothing is not stored.
//! 2. Only `durable` and `durable_size` are left after a crash, and no byte at or past the size is
//!    stored other than as zero.

use std::collections::BTreeMap;
use std::ops::Range;

use super::content::{Content, Image, SECTOR_BYTES, Sector};
use super::disk::Lost;
use super::heap::{digest, mix};
use super::index;
use crate::rng::Rng;

/// Bytes that are written whole or not at all.
pub(super) const GRAIN_BYTES: usize = 512;

/// Sectors that are not durable.
type Sectors = BTreeMap<u64, Sector>;

/// What a crash does to one un-synced sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Old,
    Torn,
    Garbage,
}

#[derive(Debug)]
struct Layer {
    id: u64,
    size: u64,
    sectors: Sectors,
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct Inode {
    size: u64,
    durable_size: u64,
    durable: Image,
    lost: Sectors,
    frozen: Vec<Layer>,
    dirty: Sectors,
    layers: u64,
    /// Handles that are open.
    pub(super) open: u32,
}

/// The sectors that `len` bytes at `offset` touch: index, range within the sector, range within the
/// bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = index(at % SECTOR_BYTES as u64);
        let n = (SECTOR_BYTES - within).min(len - done);
        let piece = (at / SECTOR_BYTES as u64, within, done, n);
        done += n;
        Some(piece)
    })
}

/// Cuts sectors to `size` bytes.
fn cut(sectors: &mut Sectors, size: u64) {
    sectors.split_off(&size.div_ceil(SECTOR_BYTES as u64));
    let within = index(size % SECTOR_BYTES as u64);
    if within > 0
        && let Some(sector) = sectors.get_mut(&(size / SECTOR_BYTES as u64))
    {
        *sector = sector.cut(within);
    }
}

impl Inode {
    /// Returns the visible size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Makes the file at least `bytes` long.
    pub(super) fn grow(&mut self, bytes: u64) {
        self.size = self.size.max(bytes);
    }

    fn sector(&self, at: u64) -> Option<&Sector> {
        let frozen = || {
            self.frozen
                .iter()
                .rev()
                .find_map(|layer| layer.sectors.get(&at))
        };
        self.dirty
            .get(&at)
            .or_else(frozen)
            .or_else(|| {
                if self.lost.is_empty() {
                    None
                } else {
                    self.lost.get(&at)
                }
            })
            .or_else(|| self.durable.get(at))
    }

    /// Reads what is visible at `offset`; returns the bytes read, fewer only at the end of the
    /// file, and what they condense to.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> (usize, u64) {
        let len = index(self.size.saturating_sub(offset).min(out.len() as u64));
        let mut hash = 0;
        for (at, within, done, n) in pieces(offset, len) {
            let out = &mut out[done..done + n];
            // Most that is read is the zeros of a log's segments, which need no look.
            let word = match self.sector(at) {
                Some(sector) => {
                    out.copy_from_slice(&sector[within..within + n]);
                    digest(out)
                }
                None => {
                    out.fill(0);
                    n as u64
                }
            };
            hash = mix(hash, word);
        }
        (len, hash)
    }

    /// Makes `content` visible at `offset`; it is durable after the next sync.
    pub(super) fn write(&mut self, offset: u64, content: &Content) {
        for (at, within, done, n) in pieces(offset, content.len()) {
            if let Some(sector) = self.written(at, within, content, done..done + n) {
                self.dirty.insert(at, sector);
            }
        }
        self.grow(offset + content.len() as u64);
    }

    /// Returns what a sector is once `range` of `content` is written at byte `within` of it; nothing when that
    /// is zeros over nothing.
    fn written(
        &self,
        at: u64,
        within: usize,
        content: &Content,
        range: Range<usize>,
    ) -> Option<Sector> {
        let below = self.sector(at);
        if below.is_none() && content.is_zero(range.clone()) {
            return None;
        }
        Some(match range.len() {
            SECTOR_BYTES => content.sector(range.start),
            _ => content.over(below, within, range),
        })
    }

    /// Makes `content` visible and durable at `offset`, and the size that it needs.
    pub(super) fn write_durable(&mut self, offset: u64, content: &Content) {
        for (at, within, done, n) in pieces(offset, content.len()) {
            if let Some(sector) = self.written(at, within, content, done..done + n) {
                self.dirty.remove(&at);
                self.settle(at, sector);
            }
            for layer in &mut self.frozen {
                layer.sectors.remove(&at);
            }
        }
        let end = offset + content.len() as u64;
        self.grow(end);
        self.durable_size = self.durable_size.max(end);
    }

    fn settle(&mut self, at: u64, sector: Sector) {
        if !self.lost.is_empty() {
            self.lost.remove(&at);
        }
        self.durable.store(at, sector);
    }

    /// Marks what is written so far as what a sync that starts now will cover; returns the mark.
    pub(super) fn freeze(&mut self) -> u64 {
        self.layers += 1;
        let sectors = std::mem::take(&mut self.dirty);
        self.frozen.push(Layer {
            id: self.layers,
            size: self.size,
            sectors,
        });
        self.layers
    }

    fn take_frozen(&mut self, mark: u64) -> impl Iterator<Item = Layer> + use<> {
        let n = self
            .frozen
            .iter()
            .take_while(|layer| layer.id <= mark)
            .count();
        self.frozen.drain(..n).collect::<Vec<_>>().into_iter()
    }

    /// Makes all that `mark` covers durable.
    pub(super) fn synced(&mut self, mark: u64) {
        for layer in self.take_frozen(mark) {
            self.durable_size = self.durable_size.max(layer.size);
            for (at, sector) in layer.sectors {
                self.settle(at, sector);
            }
        }
    }

    /// A sync failed: all that `mark` covers is clean from now on, and each sector is durable or
    /// lost by coin; a direct file shows at once what is lost.
    pub(super) fn sync_failed(&mut self, mark: u64, lost: Lost, rng: &mut Rng) {
        for layer in self.take_frozen(mark) {
            if rng.coin() {
                self.durable_size = self.durable_size.max(layer.size);
            }
            for (at, sector) in layer.sectors {
                if rng.coin() {
                    self.settle(at, sector);
                } else if lost == Lost::Cached {
                    self.lost.insert(at, sector);
                }
            }
        }
    }

    /// Loses power: each un-synced sector meets the fate that `fate` names, and only what is
    /// durable remains.
    pub(super) fn crash(&mut self, rng: &mut Rng, mut fate: impl FnMut(&mut Rng, u64) -> Fate) {
        self.freeze();
        for layer in std::mem::take(&mut self.frozen) {
            if layer.size > self.durable_size && rng.coin() {
                self.durable_size = layer.size;
            }
            for (at, sector) in layer.sectors {
                let fate = fate(rng, at);
                self.suffer(rng, at, &sector, fate);
            }
        }
        self.lost.clear();
        self.size = self.durable_size;
        self.durable.cut(self.size);
    }

    fn suffer(&mut self, rng: &mut Rng, at: u64, new: &Sector, fate: Fate) {
        if fate == Fate::Old {
            return;
        }
        let below = self.durable.get(at);
        let mut sector = below.map_or([0; SECTOR_BYTES], Sector::copied);
        for (old, new) in sector.chunks_mut(GRAIN_BYTES).zip(new.chunks(GRAIN_BYTES)) {
            match fate {
                Fate::Garbage if rng.chance(0.25) => rng.fill(old),
                Fate::Torn | Fate::Garbage if rng.coin() => {}
                Fate::Keep | Fate::Old | Fate::Torn | Fate::Garbage => old.copy_from_slice(new),
            }
        }
        self.durable.store(at, Sector::new(&sector));
    }

    /// Flips one bit of a random durable sector among `len` bytes at `offset`; says whether there
    /// was one.
    pub(super) fn rot(&mut self, rng: &mut Rng, offset: u64, len: usize) -> bool {
        let end = (offset + len as u64)
            .min(self.size)
            .div_ceil(SECTOR_BYTES as u64);
        let start = (offset / SECTOR_BYTES as u64).min(end);
        let places = self.durable.places(start..end);
        if places.is_empty() {
            return false;
        }
        let at = places[rng.index(places.len())];
        let Some(sector) = self.durable.get(at) else {
            return false;
        };
        let mut sector = sector.copied();
        let bytes = (self.size - at * SECTOR_BYTES as u64).min(SECTOR_BYTES as u64);
        sector[index(rng.below(bytes))] ^= 1 << rng.below(8);
        self.durable.store(at, Sector::new(&sector));
        true
    }

    /// Overwrites durable and visible bytes behind the back of the file's user.
    pub(super) fn overwrite(&mut self, offset: u64, bytes: &[u8]) {
        let (size, durable_size) = (self.size, self.durable_size);
        self.write_durable(offset, &Content::of(bytes));
        self.truncate(size);
        self.durable_size = durable_size.min(size);
    }

    /// Cuts the file to `bytes`, durably.
    pub(super) fn truncate(&mut self, bytes: u64) {
        self.size = self.size.min(bytes);
        self.durable_size = self.durable_size.min(bytes);
        let frozen = self.frozen.iter_mut().map(|layer| {
            layer.size = layer.size.min(bytes);
            &mut layer.sectors
        });
        for sectors in frozen.chain([&mut self.dirty, &mut self.lost]) {
            cut(sectors, bytes);
        }
        self.durable.cut(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sectors(n: usize, byte: u8) -> Vec<u8> {
        vec![byte; n * SECTOR_BYTES]
    }

    fn content(inode: &Inode) -> Vec<u8> {
        let mut out = vec![0xEE; index(inode.size())];
        assert_eq!(inode.read(0, &mut out).0, out.len());
        out
    }

    fn synced(inode: &mut Inode) {
        let mark = inode.freeze();
        inode.synced(mark);
    }

    #[test]
    fn a_crash_keeps_exactly_the_sectors_it_is_told_to() {
        for subset in 0..8_u64 {
            let mut inode = Inode::default();
            inode.write(0, &Content::of(&sectors(3, 1)));
            synced(&mut inode);
            inode.write(0, &Content::of(&sectors(3, 2)));
            inode.crash(&mut Rng::new(subset), |_, at| {
                if subset >> at & 1 == 1 {
                    Fate::Keep
                } else {
                    Fate::Old
                }
            });
            let expected: Vec<u8> = (0..3)
                .flat_map(|at| sectors(1, 1 + (subset >> at & 1) as u8))
                .collect();
            assert_eq!(content(&inode), expected, "subset {subset}");
        }
    }

    #[test]
    fn every_mix_of_two_unsynced_generations_can_survive() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let mut inode = Inode::default();
            inode.write(0, &Content::of(&sectors(2, 1)));
            synced(&mut inode);
            inode.write(0, &Content::of(&sectors(2, 2)));
            inode.freeze();
            inode.write(0, &Content::of(&sectors(2, 3)));
            inode.crash(&mut Rng::new(seed), |rng, _| {
                if rng.coin() { Fate::Keep } else { Fate::Old }
            });
            let all = content(&inode);
            seen.insert((all[0], all[SECTOR_BYTES]));
        }
        assert_eq!(seen.len(), 9, "{seen:?}");
    }

    #[test]
    fn a_torn_sector_mixes_old_and_new_by_512_bytes() {
        let mut inode = Inode::default();
        inode.write(0, &Content::of(&sectors(1, 1)));
        synced(&mut inode);
        inode.write(0, &Content::of(&sectors(1, 2)));
        inode.crash(&mut Rng::new(9), |_, _| Fate::Torn);
        let all = content(&inode);
        let grains: Vec<&[u8]> = all.chunks(GRAIN_BYTES).collect();
        assert!(
            grains
                .iter()
                .all(|grain| grain.iter().all(|b| b == &grain[0]))
        );
        assert!(
            grains.iter().any(|grain| grain[0] == 1) && grains.iter().any(|grain| grain[0] == 2)
        );
    }

    #[test]
    fn garbage_is_neither_old_nor_new() {
        let mut inode = Inode::default();
        inode.write(0, &Content::of(&sectors(4, 2)));
        synced(&mut inode);
        inode.write(0, &Content::of(&sectors(4, 1)));
        inode.crash(&mut Rng::new(9), |_, _| Fate::Garbage);
        assert!(content(&inode).iter().any(|&b| b > 2));
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut inode = Inode::default();
        inode.write(0, &Content::of(&sectors(1, 1)));
        let mark = inode.freeze();
        inode.write(0, &Content::of(&sectors(2, 2)));
        inode.synced(mark);
        assert_eq!(content(&inode), sectors(2, 2));
        inode.crash(&mut Rng::new(0), |_, _| Fate::Old);
        assert_eq!(content(&inode)[..SECTOR_BYTES], sectors(1, 1));
    }

    #[test]
    fn a_failed_sync_leaves_content_visible_and_may_lose_it_at_a_crash() {
        let mut losses = 0;
        for seed in 0..20 {
            let (mut rng, mut inode) = (Rng::new(seed), Inode::default());
            inode.write(0, &Content::of(&sectors(1, 1)));
            synced(&mut inode);
            inode.write(0, &Content::of(&sectors(1, 2)));
            let mark = inode.freeze();
            inode.sync_failed(mark, Lost::Cached, &mut rng);
            assert_eq!(content(&inode), sectors(1, 2));
            synced(&mut inode);
            inode.crash(&mut rng, |_, _| Fate::Keep);
            losses += u32::from(content(&inode) == sectors(1, 1));
        }
        assert!((1..20).contains(&losses), "{losses}");
    }

    #[test]
    fn zeros_over_nothing_are_not_stored() {
        let mut inode = Inode::default();
        inode.write(0, &Content::of(&sectors(64, 0)));
        inode.write_durable(0, &Content::of(&sectors(64, 0)));
        assert!(inode.dirty.is_empty() && inode.durable.is_empty());
        assert_eq!(content(&inode), sectors(64, 0));
        inode.write_durable(0, &Content::of(&sectors(1, 5)));
        inode.write(0, &Content::of(&sectors(1, 0)));
        assert_eq!(content(&inode), sectors(64, 0));
    }

    #[test]
    fn random_writes_read_back_as_in_a_flat_model() {
        let mut rng = Rng::new(11);
        let (mut inode, mut model) = (Inode::default(), Vec::new());
        for _ in 0..2_000 {
            let (offset, len) = (rng.below(40_000), 1 + rng.index(9_000));
            let mut bytes = vec![0; len];
            if rng.coin() {
                rng.fill(&mut bytes);
            }
            let end = index(offset) + len;
            model.resize(model.len().max(end), 0);
            model[index(offset)..end].copy_from_slice(&bytes);
            match rng.below(4) {
                0 => inode.write_durable(offset, &Content::of(&bytes)),
                1 => {
                    inode.write(offset, &Content::of(&bytes));
                    synced(&mut inode);
                }
                2 => {
                    inode.write(offset, &Content::of(&bytes));
                    inode.freeze();
                }
                _ => inode.write(offset, &Content::of(&bytes)),
            }
            if rng.chance(0.1) {
                assert_eq!(content(&inode), model);
            }
        }
        synced(&mut inode);
        inode.crash(&mut rng, |_, _| Fate::Old);
        assert_eq!(content(&inode), model);
    }

    #[test]
    fn a_cut_file_grows_again_with_zeros() {
        let mut inode = Inode::default();
        inode.write_durable(0, &Content::of(&sectors(2, 7)));
        inode.truncate(100);
        inode.grow(5_000);
        let all = content(&inode);
        assert!(all[..100].iter().all(|&b| b == 7) && all[100..].iter().all(|&b| b == 0));
    }
}
