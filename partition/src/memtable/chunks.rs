//! Chunks of memory that the memtables of a shard hand on to each other.
//!
//! A memtable that has been flushed gives all its memory back at once, and the next one takes about
//! as much. Through the pool it takes the very same chunks, so the heap stays as it is over any
//! number of generations. It is no budget: a chunk that is not there is asked of the system.
//!
//! Invariant: at most `free_max` chunks wait here; what comes back beyond that goes to the system. One may always
//! wait: where memory is so small that each flush empties the only chunk, the next memtable would else ask for a new
//! one, and have it zeroed, each time.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// Bytes of one chunk.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// The unit that is handed on; its content is what its last owner left.
pub(super) type Chunk = Box<[u8; CHUNK_BYTES]>;

/// Free chunks, shared by the memtables of one thread; a clone is the same pool.
#[derive(Clone)]
pub struct ChunkPool(Rc<RefCell<Free>>);

struct Free {
    chunks: Vec<Chunk>,
    free_max: usize,
}

impl ChunkPool {
    /// Returns an empty pool that keeps at most `free_bytes_max` of what is given back, rounded
    /// down to chunks of 1 MiB; but one at least.
    #[must_use]
    pub fn new(free_bytes_max: u64) -> Self {
        let free_max = usize::try_from(free_bytes_max / CHUNK_BYTES as u64).unwrap_or(usize::MAX);
        let free_max = free_max.max(1);
        let chunks = Vec::new();
        Self(Rc::new(RefCell::new(Free { chunks, free_max })))
    }

    /// Returns the bytes that wait for the next memtable; they belong to none, so no memtable's
    /// [`held_bytes`](super::Memtable::held_bytes) counts them.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        (self.0.borrow().chunks.len() * CHUNK_BYTES) as u64
    }

    /// Gives everything that waits back to the system.
    pub fn release(&self) {
        self.0.borrow_mut().chunks = Vec::new();
    }

    pub(super) fn take(&self) -> Chunk {
        let waiting = self.0.borrow_mut().chunks.pop();
        waiting.unwrap_or_else(|| {
            let zeroed = vec![0u8; CHUNK_BYTES].into_boxed_slice();
            zeroed.try_into().expect("the length is the array's")
        })
    }

    pub(super) fn give_back(&self, chunks: impl Iterator<Item = Chunk>) {
        let mut free = self.0.borrow_mut();
        let room = free.free_max - free.chunks.len();
        let mut chunks = chunks;
        free.chunks.extend(chunks.by_ref().take(room));
        // The rest goes to the system here, one by one.
        chunks.for_each(drop);
    }
}

impl fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkPool")
            .field("free_bytes", &self.free_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_no_more_than_its_maximum() {
        let pool = ChunkPool::new(3 * CHUNK_BYTES as u64 + 5);
        let taken: Vec<Chunk> = (0..5).map(|_| pool.take()).collect();
        assert_eq!(pool.free_bytes(), 0);
        pool.give_back(taken.into_iter());
        assert_eq!(pool.free_bytes(), 3 * CHUNK_BYTES as u64);
        drop(pool.take());
        assert_eq!(pool.free_bytes(), 2 * CHUNK_BYTES as u64);
        pool.release();
        assert_eq!(pool.free_bytes(), 0);
        let smallest = ChunkPool::new(0);
        let taken = [smallest.take(), smallest.take()];
        smallest.give_back(taken.into_iter());
        assert_eq!(smallest.free_bytes(), CHUNK_BYTES as u64);
    }
}
