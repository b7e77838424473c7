//! Memory for the blocks of a shard: frames of 4 KiB and of 16 KiB that are used again and again,
//! larger pieces of their own size, and one count of all of it. Not the cache: what a frame holds,
//! and for how long, is decided there.
//!
//! The two sizes share one budget, so that neither starves: a frame that comes back waits in the
//! list of its size, and when the budget is used up, a new frame of one size is paid for by
//! releasing waiting frames of the other to the allocator. What is taken may exceed the budget,
//! since readers hold blocks and reads are in flight; the cache evicts until it does not, and
//! [`Frames::over_bytes`] says by how much it failed.
//!
//! Frames are not aligned for direct IO: a block is read into an aligned buffer of the store and
//! decoded from there into its frame. An aligned allocation of 4 KiB costs 8 KiB of a common heap,
//! while the copy costs a tenth of a microsecond beside a read of fifty.
//!
//! Invariants:
//! 1. `taken` is the sum of the charges of the frames that live; `idle` that of the waiting ones.
//! 2. Frames wait only while taken and waiting ones together are within the budget and a little more:
//!    what a cache that is full evicts for a block is the frame of the next one, and need not go
//!    through the allocator, which would have it zeroed.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use ashlar_io::Buf;

/// How much waiting frames may exceed the budget: a part of it, at most so many bytes.
const SPARE_PART: u64 = 32;
const SPARE_BYTES_MAX: u64 = 1 << 20;

/// Sizes of the frames that are used again, in bytes.
const SIZES_BYTES: [usize; 2] = [4 << 10, 16 << 10];

/// The frames of one shard.
#[derive(Debug)]
pub(crate) struct Frames {
    budget_bytes: u64,
    taken_bytes: Cell<u64>,
    taken_bytes_peak: Cell<u64>,
    idle_bytes: Cell<u64>,
    /// Waiting frames, by size.
    idle: [RefCell<Vec<Box<[u8]>>>; SIZES_BYTES.len()],
}

impl Frames {
    /// Returns the frames of a shard, none of them made yet.
    pub(crate) fn new(budget_bytes: u64) -> Rc<Self> {
        Rc::new(Self {
            budget_bytes,
            taken_bytes: Cell::new(0),
            taken_bytes_peak: Cell::new(0),
            idle_bytes: Cell::new(0),
            idle: Default::default(),
        })
    }

    /// Returns what the frames should take, in bytes.
    pub(crate) fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Returns the bytes of frames in use: cached, held by readers, or being filled.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.get()
    }

    /// Returns the most bytes that were ever in use at once.
    #[cfg(test)]
    pub(crate) fn taken_bytes_peak(&self) -> u64 {
        self.taken_bytes_peak.get()
    }

    /// Returns the bytes of frames that wait to be used again.
    pub(crate) fn idle_bytes(&self) -> u64 {
        self.idle_bytes.get()
    }

    /// Returns by how many bytes the frames in use exceed the budget.
    pub(crate) fn over_bytes(&self) -> u64 {
        self.taken_bytes().saturating_sub(self.budget_bytes)
    }

    /// Takes a frame for `bytes` bytes, whose content is zero or stale.
    pub(crate) fn take(self: &Rc<Self>, bytes: usize) -> Frame {
        let size = SIZES_BYTES.iter().position(|size| bytes <= *size);
        let waiting = size.and_then(|size| self.idle[size].borrow_mut().pop());
        let memory = match waiting {
            Some(memory) => {
                self.idle_bytes.set(self.idle_bytes() - charge(&memory));
                memory
            }
            None => self.make(size.map_or(bytes, |size| SIZES_BYTES[size])),
        };
        self.frame(Memory::Boxed(memory), 0, bytes)
    }

    /// Takes over a piece of memory that was filled already, of its own size.
    pub(crate) fn hold(self: &Rc<Self>, bytes: Box<[u8]>) -> Frame {
        let len = bytes.len();
        self.frame(Memory::Boxed(bytes), 0, len)
    }

    /// Takes over `len` bytes from `start` of a buffer that was filled already.
    pub(crate) fn hold_buf(self: &Rc<Self>, buf: Buf, start: usize, len: usize) -> Frame {
        assert!(start + len <= buf.len(), "the frame lies in its buffer");
        self.frame(Memory::Aligned(Box::new(buf)), start, len)
    }

    /// Makes the memory of a frame, after making room for it among the waiting ones.
    fn make(&self, bytes: usize) -> Box<[u8]> {
        for size in (0..SIZES_BYTES.len()).rev() {
            while self.held_bytes() + bytes as u64 > self.budget_bytes && self.release(size) {}
        }
        vec![0; bytes].into_boxed_slice()
    }

    fn held_bytes(&self) -> u64 {
        self.taken_bytes() + self.idle_bytes()
    }

    fn spare_bytes(&self) -> u64 {
        (self.budget_bytes / SPARE_PART).min(SPARE_BYTES_MAX)
    }

    /// Gives one waiting frame to the allocator; says whether there was one.
    fn release(&self, size: usize) -> bool {
        let Some(memory) = self.idle[size].borrow_mut().pop() else {
            return false;
        };
        self.idle_bytes.set(self.idle_bytes() - charge(&memory));
        true
    }

    fn frame(self: &Rc<Self>, memory: Memory, start: usize, len: usize) -> Frame {
        let narrow = |bytes: usize| u32::try_from(bytes).expect("a piece has less than 4 GiB");
        let frame = Frame {
            frames: Rc::clone(self),
            memory,
            start: narrow(start),
            len: narrow(len),
        };
        let taken = self.taken_bytes() + frame.charged_bytes();
        self.taken_bytes.set(taken);
        self.taken_bytes_peak
            .set(self.taken_bytes_peak.get().max(taken));
        frame
    }

    /// Takes back the memory of a frame: to wait if there is room for it, else to the allocator.
    fn give_back(&self, memory: Memory) {
        self.taken_bytes.set(self.taken_bytes() - memory.charge());
        let Memory::Boxed(memory) = memory else {
            return;
        };
        let size = SIZES_BYTES.iter().position(|size| memory.len() == *size);
        let (Some(size), bytes) = (size, charge(&memory)) else {
            return;
        };
        if self.held_bytes() + bytes <= self.budget_bytes + self.spare_bytes() {
            self.idle_bytes.set(self.idle_bytes() + bytes);
            self.idle[size].borrow_mut().push(memory);
        }
    }
}

fn charge(memory: &[u8]) -> u64 {
    memory.len() as u64
}

/// Where the bytes of a frame lie.
#[derive(Debug)]
enum Memory {
    /// On the heap.
    Boxed(Box<[u8]>),
    /// In a buffer of file IO, for what is too large to be copied.
    Aligned(Box<Buf>),
}

impl Memory {
    fn charge(&self) -> u64 {
        match self {
            Self::Boxed(memory) => charge(memory),
            Self::Aligned(buf) => buf.capacity() as u64,
        }
    }
}

/// A piece of a shard's block memory. Dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Frame {
    frames: Rc<Frames>,
    memory: Memory,
    start: u32,
    len: u32,
}

impl Frame {
    /// Returns the bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        let memory = match &self.memory {
            Memory::Boxed(memory) => memory,
            Memory::Aligned(buf) => buf.as_slice(),
        };
        &memory[self.range()]
    }

    #[inline]
    fn range(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }

    /// Returns the bytes for writing.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        let memory = match &mut self.memory {
            Memory::Boxed(memory) => memory,
            Memory::Aligned(buf) => buf.as_mut_slice(),
        };
        &mut memory[range]
    }

    /// Returns what the frame counts for, in bytes; at least its length.
    pub(crate) fn charged_bytes(&self) -> u64 {
        self.memory.charge()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let memory = std::mem::replace(&mut self.memory, Memory::Boxed(Box::default()));
        self.frames.give_back(memory);
    }
}

#[cfg(test)]
mod tests {
    use ashlar_io::rng::Rng;

    use super::*;

    #[test]
    fn a_frame_that_comes_back_is_used_again() {
        let frames = Frames::new(64 << 10);
        let mut frame = frames.take(4_000);
        frame.bytes_mut().fill(7);
        assert_eq!((frame.bytes().len(), frame.charged_bytes()), (4_000, 4_096));
        let at = frame.bytes().as_ptr();
        drop(frame);
        assert_eq!((frames.taken_bytes(), frames.idle_bytes()), (0, 4_096));
        assert_eq!(frames.take(100).bytes().as_ptr(), at);
    }

    #[test]
    fn waiting_frames_of_one_size_pay_for_new_ones_of_the_other() {
        let frames = Frames::new(64 << 10);
        let small: Vec<Frame> = (0..16).map(|_| frames.take(4_096)).collect();
        drop(small);
        assert_eq!(frames.idle_bytes(), 64 << 10);
        let large: Vec<Frame> = (0..3).map(|_| frames.take(9_000)).collect();
        assert_eq!(frames.taken_bytes(), 48 << 10);
        assert_eq!(frames.idle_bytes(), 16 << 10);
        drop(large);
        let small: Vec<Frame> = (0..16).map(|_| frames.take(1)).collect();
        assert_eq!((frames.taken_bytes(), frames.idle_bytes()), (64 << 10, 0));
        drop(small);
    }

    #[test]
    fn what_exceeds_the_budget_is_counted_and_released() {
        let frames = Frames::new(10_000);
        let (a, b) = (
            frames.take(65_537),
            frames.hold(vec![1; 300].into_boxed_slice()),
        );
        let c = frames.hold_buf(Buf::heap(8_000), 100, 7_000);
        assert_eq!(c.bytes().len(), 7_000);
        assert_eq!(frames.taken_bytes(), 65_537 + 300 + 8_192);
        assert_eq!(frames.over_bytes(), frames.taken_bytes() - 10_000);
        drop((a, b, c));
        assert_eq!((frames.taken_bytes(), frames.idle_bytes()), (0, 0));
        assert_eq!(frames.taken_bytes_peak(), 65_537 + 300 + 8_192);
    }

    #[test]
    fn what_is_evicted_for_a_block_is_the_frame_of_the_next_one() {
        let frames = Frames::new(1 << 20);
        let mut cached: Vec<Frame> = (0..64).map(|_| frames.take(16 << 10)).collect();
        let mut known: Vec<_> = cached.iter().map(|frame| frame.bytes().as_ptr()).collect();
        for (evicted, block) in cached.iter_mut().enumerate() {
            let read = frames.take(16 << 10);
            let at = read.bytes().as_ptr();
            assert!(evicted == 0 || known.contains(&at), "a frame was made anew");
            known.push(at);
            *block = read;
        }
        assert_eq!(frames.over_bytes(), 0);
    }

    #[test]
    fn counts_equal_the_sums_after_random_use() {
        let mut rng = Rng::new(3);
        let frames = Frames::new(256 << 10);
        let mut live: Vec<Frame> = Vec::new();
        for _ in 0..20_000 {
            if rng.coin() && live.len() < 80 {
                live.push(frames.take(1 + rng.index(20_000)));
            } else if !live.is_empty() {
                live.swap_remove(rng.index(live.len()));
            }
            let taken: u64 = live.iter().map(Frame::charged_bytes).sum();
            assert_eq!(frames.taken_bytes(), taken);
            let waiting_max = frames.budget_bytes() + frames.spare_bytes();
            assert!(frames.idle_bytes() == 0 || frames.held_bytes() <= waiting_max);
        }
    }
}
