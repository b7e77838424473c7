//! Buffers that go to the kernel and come back: [`Buf`] for files, [`Chunk`] for received bytes.
//! Not a cache and not a pool of messages: a `Buf` has one owner at a time, and that owner may be
//! the kernel.
//!
//! Invariants:
//! 1. A `Buf`'s memory starts at a multiple of [`ALIGN_BYTES`], is a multiple of it in size, and is
//!    zeroed when made.
//! 2. A block of the arena is in exactly one place: the free list, or one `Buf`.
//! 3. The arena's memory is unmapped only when the arena and every `Buf` cut from it are gone.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

/// Alignment of addresses, offsets and lengths of direct file IO, in bytes.
pub const ALIGN_BYTES: usize = 4096;
/// Size of one registered block, in bytes; the largest write-ahead-log batch.
pub const BLOCK_BYTES: usize = 256 << 10;

/// An aligned piece of heap memory: it is a little larger than asked for, and aligned by hand. Asked for
/// aligned and zeroed memory, the allocator would write all of it, however little of it is used.
struct Region {
    start: NonNull<u8>,
    bytes: usize,
    memory: NonNull<u8>,
    layout: Layout,
}

impl Region {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.max(1).next_multiple_of(ALIGN_BYTES);
        let layout = Layout::from_size_align(bytes + ALIGN_BYTES, 1)
            .expect("sizes here are far below isize::MAX");
        // SAFETY: the layout has a non-zero size, by the `max(1)` above.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        let offset = memory.align_offset(ALIGN_BYTES);
        assert!(offset < ALIGN_BYTES, "byte pointers can be aligned");
        // SAFETY: `offset + bytes` is less than the size of the allocation.
        let start = unsafe { memory.add(offset) };
        Self {
            start,
            bytes,
            memory,
            layout,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `memory` came from `alloc_zeroed` with this very layout and is freed once, here.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

/// The registered blocks of one shard: a fixed number of [`BLOCK_BYTES`] blocks that the kernel
/// knows by index.
pub(crate) struct Arena {
    region: Rc<Region>,
    blocks: usize,
    free: RefCell<Vec<u16>>,
    registered: std::cell::Cell<bool>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

impl Arena {
    /// Makes an arena of `blocks` blocks (at most 65,535), none of them registered yet.
    pub(crate) fn new(blocks: u16) -> Rc<Self> {
        Rc::new(Self {
            region: Rc::new(Region::new(usize::from(blocks) * BLOCK_BYTES)),
            blocks: usize::from(blocks),
            free: RefCell::new((0..blocks).rev().collect()),
            registered: std::cell::Cell::new(false),
        })
    }

    /// Says that the kernel now knows every block by its index.
    pub(crate) fn mark_registered(&self) {
        self.registered.set(true);
    }

    /// Returns the address and length of each block, for registration.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (*mut u8, usize)> + '_ {
        (0..self.blocks).map(|i| (self.block_start(i).as_ptr(), BLOCK_BYTES))
    }

    fn block_start(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.blocks);
        // SAFETY: index < blocks, so the offset lies inside the region of blocks * BLOCK_BYTES
        // bytes.
        unsafe { self.region.start.add(index * BLOCK_BYTES) }
    }

    /// Returns a zero-or-stale buffer of `bytes`: a registered block when one is free and large
    /// enough, else heap memory.
    pub(crate) fn take(self: &Rc<Self>, bytes: usize) -> Buf {
        let block = if bytes <= BLOCK_BYTES {
            self.free.borrow_mut().pop()
        } else {
            None
        };
        match block {
            Some(index) => Buf {
                start: self.block_start(usize::from(index)),
                len: bytes,
                capacity: BLOCK_BYTES,
                home: Home::Block {
                    arena: Rc::clone(self),
                    index,
                },
            },
            None => Buf::heap(bytes),
        }
    }
}

enum Home {
    Block { arena: Rc<Arena>, index: u16 },
    Heap { _region: Region },
}

/// An owned, aligned buffer for file IO. Its length can be set up to its capacity.
pub struct Buf {
    start: NonNull<u8>,
    len: usize,
    capacity: usize,
    home: Home,
}

impl Buf {
    /// Makes a zeroed buffer of `bytes` outside any arena.
    #[must_use]
    pub fn heap(bytes: usize) -> Self {
        let region = Region::new(bytes);
        Self {
            start: region.start,
            len: bytes,
            capacity: region.bytes,
            home: Home::Heap { _region: region },
        }
    }

    /// Returns the bytes in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether no byte is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how long the buffer can be made.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the length.
    ///
    /// # Panics
    /// When `len` is over the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(
            len <= self.capacity,
            "length {len} over capacity {}",
            self.capacity
        );
        self.len = len;
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: start..start+len lies in memory that this Buf owns alone (invariant 2),
        // initialised since it was allocated zeroed, and len <= capacity.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Returns the bytes for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes this the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Returns the address, for the kernel.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Returns the index by which the kernel knows this buffer, when it does.
    pub(crate) fn registered_index(&self) -> Option<u16> {
        match &self.home {
            Home::Block { arena, index } if arena.registered.get() => Some(*index),
            Home::Block { .. } | Home::Heap { .. } => None,
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Home::Block { arena, index } = &self.home {
            arena.free.borrow_mut().push(*index);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {} bytes)", self.len, self.capacity)
    }
}

/// Received bytes. Dropping a chunk that lies in the kernel's buffer ring gives its buffer back.
pub struct Chunk(pub(crate) ChunkHome);

pub(crate) enum ChunkHome {
    Heap(Vec<u8>),
    Ring {
        ring: Rc<crate::uring::BufRing>,
        id: u16,
        len: usize,
    },
}

impl Chunk {
    /// Makes a chunk of bytes on the heap.
    pub(crate) fn heap(bytes: Vec<u8>) -> Self {
        Self(ChunkHome::Heap(bytes))
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            ChunkHome::Heap(bytes) => bytes,
            ChunkHome::Ring { ring, id, len } => ring.bytes(*id, *len),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let ChunkHome::Ring { ring, id, .. } = &self.0 {
            ring.give_back(*id);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}
