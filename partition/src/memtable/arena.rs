//! Memory of a memtable: blocks of whole 16-byte units, named by `u32` references.
//!
//! Not an allocator for anything else: it knows no types, and a block's size is remembered by the
//! caller, who reads it from the record in the block. Values too big for a block live beside the
//! chunks, each in an allocation of its own (`Large`).
//!
//! ```text
//! reference  = chunk number (16 bits) | unit in the chunk (16 bits); 0 names no block
//! chunk      = 1 MiB = 65536 units
//! free block = next free block of its class (u32), rest undefined
//! ```
//!
//! Invariants:
//! 1. Every unit of a chunk is in exactly one of: a live block, a free list, the unused tail of the
//!    last chunk, or unit 0 of chunk 0 (so that no block has reference 0).
//! 2. `occupied` has bit `c` set if and only if the free list of class `c` is not empty.
//! 3. When the last live block is freed, everything but the first chunk goes back to the pool.

use super::chunks::{CHUNK_BYTES, Chunk, ChunkPool};

/// Bytes of one unit, the granularity of references and of small blocks.
pub(super) const UNIT_BYTES: usize = 16;
/// Units of one chunk.
const CHUNK_UNITS: u32 = 1 << 16;
/// Up to this many units, every size is a class of its own, so a block can be cut anywhere.
const EXACT_UNITS: u32 = 64;
/// Classes above the exact ones: eight for each doubling from 1 KiB to 256 KiB.
const CLASSES: usize = 128;

/// Bytes of the greatest block; longer values belong into [`Arena::store_large`].
pub(super) const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Bytes up to which [`Arena::shrink`] may cut a block.
pub(super) const EXACT_BYTES_MAX: usize = EXACT_UNITS as usize * UNIT_BYTES;

const _: () = assert!(CHUNK_UNITS as usize * UNIT_BYTES == CHUNK_BYTES);
const _: () = assert!(class_units(CLASSES - 1) as usize * UNIT_BYTES == BLOCK_BYTES_MAX);
const _: () = assert!(CLASSES == u128::BITS as usize);

/// Where a block is; [`Ref::NONE`] names no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ref(pub(super) u32);

impl Ref {
    /// Names no block.
    pub(super) const NONE: Self = Self(0);

    /// Whether this names a block.
    pub(super) const fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// Values that have an allocation of their own, by slot.
#[derive(Default)]
struct Large {
    slots: Vec<Option<Box<[u8]>>>,
    free: Vec<u32>,
    bytes: u64,
}

/// The chunks, their free lists and the large values.
pub(super) struct Arena {
    pool: ChunkPool,
    chunks: Vec<Chunk>,
    /// First unit of the last chunk that was never handed out; `CHUNK_UNITS` when there is none.
    unused: u32,
    /// First free block of each class.
    free: [Ref; CLASSES],
    /// Bit per class: its free list is not empty.
    occupied: u128,
    /// Units in live blocks, rounded up to their class.
    used_units: u64,
    large: Large,
    pub(super) tally: Tally,
}

/// Versions in the arena, counted by those who write and cut them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// All of them.
    pub(super) versions: u64,
    /// Those that delete their key.
    pub(super) tombstones: u64,
}

impl Tally {
    /// Counts a version that has been written.
    pub(super) fn write(&mut self, is_tombstone: bool) {
        self.versions += 1;
        if is_tombstone {
            self.tombstones += 1;
        }
    }

    /// Counts a version that has been cut.
    pub(super) fn cut(&mut self, is_tombstone: bool) {
        self.versions -= 1;
        if is_tombstone {
            self.tombstones -= 1;
        }
    }
}

impl Arena {
    /// Returns an arena that holds nothing and takes its chunks from `pool`.
    pub(super) fn new(pool: ChunkPool) -> Self {
        Self {
            pool,
            chunks: Vec::new(),
            unused: CHUNK_UNITS,
            free: [Ref::NONE; CLASSES],
            occupied: 0,
            used_units: 0,
            large: Large::default(),
            tally: Tally::default(),
        }
    }

    /// Returns the bytes of live blocks and large values.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_units * UNIT_BYTES as u64 + self.large.bytes
    }

    /// Returns the bytes taken from the pool and the system.
    pub(super) fn held_bytes(&self) -> u64 {
        let slots = self.large.slots.capacity() * size_of::<Option<Box<[u8]>>>();
        let free = self.large.free.capacity() * size_of::<u32>();
        (self.chunks.len() * CHUNK_BYTES + slots + free) as u64 + self.large.bytes
    }

    /// Returns the pool the chunks come from.
    pub(super) const fn pool(&self) -> &ChunkPool {
        &self.pool
    }

    /// Returns the bytes from the start of a block to the end of its chunk.
    #[inline]
    pub(super) fn block(&self, at: Ref) -> &[u8] {
        &self.chunks[chunk_of(at)][offset_of(at)..]
    }

    /// Returns the bytes from the start of a block to the end of its chunk, for writing.
    #[inline]
    pub(super) fn block_mut(&mut self, at: Ref) -> &mut [u8] {
        &mut self.chunks[chunk_of(at)][offset_of(at)..]
    }

    /// Brings the first 128 bytes of blocks into the cache, waiting for all of them together.
    #[inline]
    pub(super) fn touch(&self, blocks: &[Ref]) {
        let touched = blocks.iter().map(|at| {
            let block = self.block(*at);
            let last = |units: usize| block[block.len().min(units * UNIT_BYTES) - 1];
            block[0] ^ last(4) ^ last(8)
        });
        // The value is of no use, but without a use the reads would be left out.
        std::hint::black_box(touched.fold(0, |all, byte| all ^ byte));
    }

    /// Returns a block of at least `bytes`, its content undefined.
    ///
    /// # Panics
    /// If `bytes` is zero or above [`BLOCK_BYTES_MAX`], or when 64 GiB are held.
    pub(super) fn allocate(&mut self, bytes: usize) -> Ref {
        let class = class_of(units(bytes));
        let size = class_units(class);
        self.used_units += u64::from(size);
        if self.free[class].is_some() {
            return self.pop(class);
        }
        if size > CHUNK_UNITS - self.unused {
            if let Some(at) = self.carve(class) {
                return at;
            }
            self.grow();
        }
        let at = self.last_chunk_ref(self.unused);
        self.unused += size;
        at
    }

    /// Takes back a block that was allocated with `bytes`.
    pub(super) fn free(&mut self, at: Ref, bytes: usize) {
        assert!(at.is_some());
        let class = class_of(units(bytes));
        self.used_units -= u64::from(class_units(class));
        if self.used_units == 0 {
            self.reset();
        } else {
            self.push(class, at);
        }
    }

    /// Cuts a block from `bytes` to `shorter` bytes; its beginning keeps place and content.
    ///
    /// # Panics
    /// If `bytes` is above [`EXACT_BYTES_MAX`], or `shorter` needs more units.
    pub(super) fn shrink(&mut self, at: Ref, bytes: usize, shorter: usize) {
        let (old, new) = (units(bytes), units(shorter));
        assert!(new <= old && old <= EXACT_UNITS);
        if new < old {
            self.used_units -= u64::from(old - new);
            self.push(class_of(old - new), Ref(at.0 + new));
        }
    }

    /// Copies `value` into an allocation of its own; returns its slot.
    pub(super) fn store_large(&mut self, value: &[u8]) -> u32 {
        self.large.bytes += value.len() as u64;
        let value = Some(Box::from(value));
        if let Some(slot) = self.large.free.pop() {
            self.large.slots[slot as usize] = value;
            return slot;
        }
        self.large.slots.push(value);
        u32::try_from(self.large.slots.len() - 1).expect("large values fill memory before u32")
    }

    /// Returns the large value in `slot`.
    pub(super) fn large(&self, slot: u32) -> &[u8] {
        self.large.slots[slot as usize]
            .as_deref()
            .expect("a version names a filled slot")
    }

    /// Drops the large value in `slot`.
    pub(super) fn free_large(&mut self, slot: u32) {
        let value = self.large.slots[slot as usize]
            .take()
            .expect("a large value is freed once");
        self.large.bytes -= value.len() as u64;
        self.large.free.push(slot);
    }

    /// Cuts a block out of a free block of a greater class, or finds none.
    ///
    /// Done only when the last chunk has no room, so that a change of the common size reuses what
    /// the sizes before it have left.
    fn carve(&mut self, class: usize) -> Option<Ref> {
        let greater = self.occupied & u128::MAX.checked_shl(class_bit(class) + 1).unwrap_or(0);
        if greater == 0 {
            return None;
        }
        let found = greater.trailing_zeros() as usize;
        let at = self.pop(found);
        let size = class_units(class);
        self.scatter(at.0 + size, class_units(found) - size);
        Some(at)
    }

    /// Adds a chunk; what the one before it has left over becomes free blocks.
    fn grow(&mut self) {
        let rest = CHUNK_UNITS - self.unused;
        if rest > 0 {
            let first = self.last_chunk_ref(self.unused);
            self.scatter(first.0, rest);
        }
        let number = u32::try_from(self.chunks.len()).expect("chunks are numbered by 16 bits");
        assert!(number < 1 << 16, "a memtable holds at most 64 GiB");
        self.chunks.push(self.pool.take());
        self.unused = u32::from(number == 0);
    }

    /// Turns a run of units into free blocks, greatest first.
    fn scatter(&mut self, first: u32, count: u32) {
        let (mut at, mut rest) = (first, count);
        while rest > 0 {
            let above = class_of(rest.min(class_units(CLASSES - 1)));
            let class = if class_units(above) > rest {
                above - 1
            } else {
                above
            };
            self.push(class, Ref(at));
            at += class_units(class);
            rest -= class_units(class);
        }
    }

    /// Forgets all blocks, when none is live; keeps one chunk so that a key set and deleted by
    /// turns does not ask for one each time.
    fn reset(&mut self) {
        self.pool.give_back(self.chunks.drain(1..));
        self.unused = 1;
        self.free = [Ref::NONE; CLASSES];
        self.occupied = 0;
    }

    fn last_chunk_ref(&self, unit: u32) -> Ref {
        let number = u32::try_from(self.chunks.len()).expect("chunks are numbered by 16 bits") - 1;
        Ref(number << 16 | unit)
    }

    fn push(&mut self, class: usize, at: Ref) {
        let next = self.free[class].0;
        write_u32(self.block_mut(at), 0, next);
        self.free[class] = at;
        self.occupied |= 1 << class;
    }

    fn pop(&mut self, class: usize) -> Ref {
        let at = self.free[class];
        self.free[class] = Ref(read_u32(self.block(at), 0));
        if !self.free[class].is_some() {
            self.occupied &= !(1 << class);
        }
        at
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.pool.give_back(self.chunks.drain(..));
    }
}

/// Returns the little-endian number at `offset`.
#[inline]
pub(super) fn read_u32(block: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(
        *block[offset..]
            .first_chunk()
            .expect("a header lies within its block"),
    )
}

/// Returns the little-endian number at `offset`.
#[inline]
pub(super) fn read_u64(block: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(
        *block[offset..]
            .first_chunk()
            .expect("a header lies within its block"),
    )
}

/// Writes a little-endian number at `offset`.
#[inline]
pub(super) fn write_u32(block: &mut [u8], offset: usize, value: u32) {
    block[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes a little-endian number at `offset`.
#[inline]
pub(super) fn write_u64(block: &mut [u8], offset: usize, value: u64) {
    block[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

fn chunk_of(at: Ref) -> usize {
    (at.0 >> 16) as usize
}

fn offset_of(at: Ref) -> usize {
    (at.0 & (CHUNK_UNITS - 1)) as usize * UNIT_BYTES
}

fn units(bytes: usize) -> u32 {
    assert!(0 < bytes && bytes <= BLOCK_BYTES_MAX);
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).expect("a block has at most 16384 units")
}

/// Returns the least class whose blocks have `units`.
fn class_of(units: u32) -> usize {
    if units <= EXACT_UNITS {
        return units as usize - 1;
    }
    let group = ((units - 1) / EXACT_UNITS).ilog2();
    let steps = (units - (EXACT_UNITS << group)).div_ceil(8 << group);
    (EXACT_UNITS + group * 8 + steps) as usize - 1
}

/// Returns the units of a block of `class`.
const fn class_units(class: usize) -> u32 {
    let class = class_bit(class);
    if class < EXACT_UNITS {
        return class + 1;
    }
    let (group, step) = ((class - EXACT_UNITS) / 8, (class - EXACT_UNITS) % 8 + 1);
    (EXACT_UNITS << group) + step * (8 << group)
}

#[expect(clippy::cast_possible_truncation, reason = "a class is less than 128")]
const fn class_bit(class: usize) -> u32 {
    class as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_class_is_the_least_that_fits() {
        for size in 1..=16384 {
            let class = class_of(size);
            assert!(class_units(class) >= size);
            assert!(class == 0 || class_units(class - 1) < size);
            assert!(class_units(class) <= size + size / 8 + 1);
        }
    }

    #[test]
    fn freeing_all_resets_to_one_chunk() {
        let mut arena = Arena::new(ChunkPool::new(0));
        let blocks: Vec<Ref> = (0..100).map(|_| arena.allocate(200_000)).collect();
        assert!(arena.held_bytes() > 20_000_000);
        blocks
            .into_iter()
            .for_each(|block| arena.free(block, 200_000));
        assert_eq!(
            (arena.used_bytes(), arena.held_bytes()),
            (0, CHUNK_BYTES as u64)
        );
    }

    #[test]
    fn smaller_blocks_come_out_of_freed_greater_ones() {
        let mut arena = Arena::new(ChunkPool::new(0));
        let anchor = arena.allocate(16);
        let great: Vec<Ref> = (0..64).map(|_| arena.allocate(100_000)).collect();
        great
            .into_iter()
            .for_each(|block| arena.free(block, 100_000));
        let held = arena.held_bytes();
        for _ in 0..6_000_000 / 64 {
            arena.allocate(64);
        }
        assert_eq!(arena.held_bytes(), held);
        arena.free(anchor, 16);
    }

    proptest! {
        #[test]
        fn live_blocks_never_overlap(
            steps in prop::collection::vec((any::<u16>(), prop_oneof![1usize..300, 1usize..260_000]), 1..400)
        ) {
            let mut arena = Arena::new(ChunkPool::new(0));
            let mut live: Vec<(Ref, usize, u8)> = Vec::new();
            for (number, (choice, bytes)) in steps.into_iter().enumerate() {
                let mark = u8::try_from(number % 251).unwrap();
                if choice % 5 < 3 {
                    let block = arena.allocate(bytes);
                    arena.block_mut(block)[..bytes].fill(mark);
                    live.push((block, bytes, mark));
                } else if !live.is_empty() {
                    let (block, bytes, mark) = live.swap_remove(choice as usize % live.len());
                    prop_assert!(arena.block(block)[..bytes].iter().all(|byte| *byte == mark));
                    let shorter = bytes.div_ceil(2);
                    if choice % 5 == 3 && bytes <= EXACT_BYTES_MAX {
                        arena.shrink(block, bytes, shorter);
                        live.push((block, shorter, mark));
                    } else {
                        arena.free(block, bytes);
                    }
                }
            }
            for (block, bytes, mark) in live {
                prop_assert!(arena.block(block)[..bytes].iter().all(|byte| *byte == mark));
                arena.free(block, bytes);
            }
            prop_assert_eq!(arena.used_bytes(), 0);
        }
    }
}
