//! The ring of receive buffers that one shard shares with the kernel: the kernel takes one per
//! received piece, and gets it back when the [`Chunk`](crate::buffer::Chunk) made of it is dropped.
//!
//! Invariants:
//! 1. A buffer id is either offered to the kernel (between its head and our tail) or belongs to one
//!    live chunk.
//! 2. The tail is published with release order after the entry it covers is written.
//! 3. The memory outlives the ring file descriptor: the driver keeps this ring alive until the
//!    kernel is done with it.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::buffer::Buf;

/// The only buffer group of a shard's ring.
pub(crate) const GROUP: u16 = 0;

/// Receive buffers shared with the kernel.
pub(crate) struct BufRing {
    /// The entries, page-aligned, `count` of them; the tail lies in the first one.
    entries: Buf,
    /// The buffers, `count * chunk_bytes`.
    memory: Buf,
    count: u16,
    chunk_bytes: usize,
    tail: Cell<u16>,
    held: Cell<usize>,
}

impl fmt::Debug for BufRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufRing")
            .field("count", &self.count)
            .field("held", &self.held.get())
            .finish_non_exhaustive()
    }
}

impl BufRing {
    /// Registers `count` (a power of two) buffers of `chunk_bytes` with the ring behind
    /// `submitter`.
    pub(crate) fn register(
        submitter: &io_uring::Submitter<'_>,
        count: u16,
        chunk_bytes: usize,
    ) -> io::Result<Rc<Self>> {
        assert!(
            count.is_power_of_two(),
            "the kernel takes powers of two only"
        );
        let entries = Buf::heap(usize::from(count) * size_of::<BufRingEntry>());
        let memory = Buf::heap(usize::from(count) * chunk_bytes);
        let ring = Rc::new(Self {
            entries,
            memory,
            count,
            chunk_bytes,
            tail: Cell::new(0),
            held: Cell::new(0),
        });
        // SAFETY: `entries` is page-aligned, has room for `count` entries, is zeroed, and lives as
        // long as `ring`, which the driver keeps until after the io_uring is closed (invariant 3).
        unsafe {
            submitter.register_buf_ring_with_flags(ring.entries.as_ptr() as u64, count, GROUP, 0)
        }?;
        for id in 0..count {
            ring.offer(id);
        }
        Ok(ring)
    }

    fn offer(&self, id: u16) {
        assert!(id < self.count);
        let tail = self.tail.get();
        let slot = usize::from(tail & (self.count - 1));
        let base = self.entries.as_ptr().cast::<BufRingEntry>();
        // SAFETY: slot < count, and `entries` has room for `count` entries.
        let entry = unsafe { base.add(slot) };
        // SAFETY: the entry lies in our zeroed memory and only this thread writes it: it is outside
        // the kernel's part of the ring until the tail below covers it.
        let entry = unsafe { &mut *entry };
        // SAFETY: id < count, so the buffer lies inside `memory`.
        let address = unsafe { self.memory.as_ptr().add(usize::from(id) * self.chunk_bytes) };
        entry.set_addr(address as u64);
        entry.set_len(u32::try_from(self.chunk_bytes).expect("chunks are far below 4 GiB"));
        entry.set_bid(id);
        let next = tail.wrapping_add(1);
        self.tail.set(next);
        // SAFETY: `base` is the first entry of the ring, initialised (zeroed at least).
        let tail_field = unsafe { BufRingEntry::tail(base) };
        // SAFETY: the field is a 2-byte aligned u16 that only this thread writes and the kernel
        // reads.
        let shared = unsafe { AtomicU16::from_ptr(tail_field.cast_mut()) };
        shared.store(next, Ordering::Release);
    }

    /// Says that the kernel filled buffer `id`: a chunk owns it from now on.
    pub(crate) fn take(&self, id: u16) {
        assert!(id < self.count);
        self.held.set(self.held.get() + 1);
    }

    /// Returns how many buffers chunks hold.
    pub(crate) fn held(&self) -> usize {
        self.held.get()
    }

    /// Returns how many buffers there are.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Returns the first `len` bytes of a taken buffer.
    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        let start = usize::from(id) * self.chunk_bytes;
        assert!(id < self.count && len <= self.chunk_bytes);
        &self.memory.as_slice()[start..start + len]
    }

    /// Offers a taken buffer to the kernel again.
    pub(crate) fn give_back(&self, id: u16) {
        self.held.set(self.held.get() - 1);
        self.offer(id);
    }
}
