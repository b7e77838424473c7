//! Filters: say of most keys that a table lacks that it lacks them, without reading its index.
//!
//! ```text
//! block of a filter, 4 KiB    0  header of a block, contents 3, `count` 0
//!                            64  63 lines of 512 bits
//! hash   64 bits, XXH3-64 of the key
//!        upper half   which block of the filter
//!        lower half   which line of the block
//!        the product of both with an odd number: 7 bits of that line, 9 bits of the product each
//! ```
//! A blocked Bloom filter: a key sets bits of one cache line only, so that asking costs one miss of
//! the processor's cache. The header takes the place of one line in 64.
//!
//! Not here: which blocks are in memory (`table`).
//! Source: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", WEA 2007.

use xxhash_rust::xxh3::xxh3_64;

use crate::lsm::{Malformed, block};

/// Size of a block of a filter, in bytes.
pub(crate) const FILTER_BLOCK_BYTES: usize = 4096;
/// Size of a line, in bytes.
const LINE_BYTES: usize = 64;
/// Lines that keys use; the first one is the header.
const LINES: usize = FILTER_BLOCK_BYTES / LINE_BYTES - 1;
/// Bits that a block has for keys.
const BLOCK_BITS: u64 = (LINES * LINE_BYTES * 8) as u64;
/// Bits that a key sets.
const PROBES: usize = 7;
/// 2 to the 64th over the golden ratio: spreads what it is multiplied with.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the hash under which filters know a key.
#[must_use]
pub(crate) fn filter_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Returns the block of a filter of `blocks` blocks that knows about `hash`.
///
/// # Panics
/// When `blocks` is 0.
#[inline]
#[must_use]
pub(crate) fn block_of(hash: u64, blocks: u32) -> u32 {
    assert!(blocks > 0, "a filter has blocks");
    u32::try_from(((hash >> 32) * u64::from(blocks)) >> 32).expect("the quotient is below `blocks`")
}

/// Returns the line of its block that a hash is in, the header not counted.
#[inline]
fn line_of(hash: u64) -> usize {
    let lower = hash & u64::from(u32::MAX);
    ((lower * LINES as u64) >> 32) as usize
}

/// Returns the bits that a hash sets in its line: index of a byte and mask.
#[inline]
fn probes(hash: u64) -> impl Iterator<Item = (usize, u8)> {
    let spread = (hash ^ (hash >> 32)).wrapping_mul(SPREAD);
    (0..PROBES).map(move |probe| {
        let bit = (spread >> (55 - 9 * probe)) & 511;
        ((bit >> 3) as usize, 1 << (bit & 7))
    })
}

/// Says whether a key may be in the table; `block` is the one that [`block_of`] names.
///
/// A block that is none says that it may.
#[inline]
#[must_use]
pub(crate) fn may_contain(block: &[u8], hash: u64) -> bool {
    let Some(line) = block.as_chunks::<LINE_BYTES>().0.get(1 + line_of(hash)) else {
        return true;
    };
    // All of them, without a branch for each: they are in one line, and most answers need them all.
    probes(hash).fold(true, |all, (byte, mask)| all & (line[byte] & mask != 0))
}

/// Checks a block that was just loaded.
///
/// # Errors
/// When it does not have the size of one.
pub(crate) fn validate(bytes: &[u8]) -> Result<(), Malformed> {
    if bytes.len() == FILTER_BLOCK_BYTES {
        return Ok(());
    }
    let found = bytes.len();
    Err(Malformed(format!(
        "block of a filter has {found} bytes, not {FILTER_BLOCK_BYTES}"
    )))
}

/// Gathers the hashes of a table's keys, 8 bytes each, until their number is known.
#[derive(Debug)]
pub(crate) struct FilterBuilder {
    bits_per_key: u64,
    hashes: Vec<u64>,
    /// Hashes that are in `blocks`.
    added: usize,
    blocks: Vec<u8>,
}

impl FilterBuilder {
    /// Returns a builder that spends `bits_per_key` bits; with 0 there is no filter.
    pub(crate) fn new(bits_per_key: u8) -> Self {
        Self {
            bits_per_key: u64::from(bits_per_key),
            hashes: Vec::new(),
            added: 0,
            blocks: Vec::new(),
        }
    }

    /// Adds a key.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64) {
        if self.bits_per_key > 0 {
            self.hashes.push(hash);
        }
    }

    /// Returns the number of blocks that the filter takes.
    pub(crate) fn blocks(&self) -> u32 {
        let bits = self.hashes.len() as u64 * self.bits_per_key;
        u32::try_from(bits.div_ceil(BLOCK_BITS)).expect("a table has fewer keys than that")
    }

    /// Sets the bits of up to `keys_max` further keys; returns whether all are set.
    ///
    /// No key is added behind the first call: the size of the filter follows from their number.
    pub(crate) fn build(&mut self, keys_max: usize) -> bool {
        let blocks = self.blocks();
        if self.blocks.is_empty() {
            self.blocks = vec![0; blocks as usize * FILTER_BLOCK_BYTES];
        }
        let lines = self.blocks.as_chunks_mut::<LINE_BYTES>().0;
        let end = self.hashes.len().min(self.added.saturating_add(keys_max));
        for &hash in &self.hashes[self.added..end] {
            let block = block_of(hash, blocks) as usize;
            let line = &mut lines[block * (LINES + 1) + 1 + line_of(hash)];
            probes(hash).for_each(|(byte, mask)| line[byte] |= mask);
        }
        self.added = end;
        self.added == self.hashes.len()
    }

    /// Returns the blocks of the filter, one after another.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let done = self.build(usize::MAX);
        assert!(done);
        let size = u32::try_from(FILTER_BLOCK_BYTES).expect("4096 fits");
        let header = block::filter_header(size);
        for block in self.blocks.as_chunks_mut::<FILTER_BLOCK_BYTES>().0 {
            block[..header.len()].copy_from_slice(&header);
        }
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(keys: u64, bits_per_key: u8) -> Vec<u8> {
        let mut builder = FilterBuilder::new(bits_per_key);
        for key in 0..keys {
            builder.add(filter_hash(&key.to_le_bytes()));
        }
        builder.finish()
    }

    fn holds(filter: &[u8], hash: u64) -> bool {
        let blocks = filter.as_chunks::<FILTER_BLOCK_BYTES>().0;
        let block = block_of(hash, u32::try_from(blocks.len()).unwrap());
        may_contain(&blocks[block as usize], hash)
    }

    #[test]
    fn what_was_added_is_never_denied() {
        for keys in [1, 2, 100, 2_100, 50_000] {
            for bits_per_key in [1, 8, 12, 16] {
                let filter = built(keys, bits_per_key);
                assert!((0..keys).all(|key| holds(&filter, filter_hash(&key.to_le_bytes()))));
            }
        }
    }

    #[test]
    fn few_keys_are_taken_for_others() {
        let keys = 200_000;
        for (bits_per_key, allowed) in [(8, 0.04), (10, 0.02), (12, 0.01), (16, 0.003)] {
            let filter = built(keys, bits_per_key);
            let asked = 1_000_000;
            let wrong = (keys..keys + asked)
                .filter(|key| holds(&filter, filter_hash(&key.to_le_bytes())))
                .count();
            let share = wrong as f64 / asked as f64;
            println!("{bits_per_key} bits per key: {:.3} % wrong", share * 100.0);
            assert!(share < allowed, "{bits_per_key} bits per key: {share}");
        }
    }

    #[test]
    fn a_filter_built_in_steps_is_the_same() {
        let mut builder = FilterBuilder::new(12);
        for key in 0..10_000_u64 {
            builder.add(filter_hash(&key.to_le_bytes()));
        }
        while !builder.build(700) {}
        assert_eq!(builder.finish(), built(10_000, 12));
    }

    #[test]
    fn no_bits_are_no_filter() {
        assert!(built(1000, 0).is_empty());
    }

    #[test]
    fn blocks_of_a_wrong_size_are_malformed_and_deny_nothing() {
        let filter = built(1000, 12);
        assert_eq!(validate(&filter[..FILTER_BLOCK_BYTES]), Ok(()));
        assert!(validate(&filter[..FILTER_BLOCK_BYTES - 1]).is_err());
        assert!(may_contain(&[], 5));
    }
}
