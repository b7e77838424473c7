//! Aligned buffers between files and frames: what a read brings waits here until it is decoded, and
//! what is to be written until it is. Buffers are used again; they are made in one place.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use ashlar_io::Buf;

/// Bytes of one read or write of a file as a whole.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// Sizes of the buffers that are used again, in bytes, and how many of each wait at most.
const SIZES: [(usize, usize); 3] = [(16 << 10, 64), (64 << 10, 16), (CHUNK_BYTES, 16)];

/// The waiting buffers of a shard.
#[derive(Debug, Default)]
pub(super) struct Stage {
    idle: [RefCell<Vec<Buf>>; SIZES.len()],
}

impl Stage {
    /// Takes a buffer of `bytes`, whose content is zero or stale.
    pub(super) fn take(self: &Rc<Self>, bytes: usize) -> Staged {
        let size = SIZES.iter().position(|(size, _)| bytes <= *size);
        let waiting = size.and_then(|size| self.idle[size].borrow_mut().pop());
        let mut buf = waiting.unwrap_or_else(|| make(size.map_or(bytes, |size| SIZES[size].0)));
        buf.set_len(bytes);
        Staged {
            stage: Rc::clone(self),
            buf: Some(buf),
        }
    }

    fn give_back(&self, buf: Buf) {
        let size = SIZES.iter().position(|(size, _)| buf.capacity() == *size);
        let Some(size) = size else { return };
        let mut idle = self.idle[size].borrow_mut();
        if idle.len() < SIZES[size].1 {
            idle.push(buf);
        }
    }
}

fn make(bytes: usize) -> Buf {
    Buf::heap(bytes)
}

/// A buffer in use. Dropping it gives the buffer back, unless the kernel has it.
#[derive(Debug)]
pub(super) struct Staged {
    stage: Rc<Stage>,
    buf: Option<Buf>,
}

impl Staged {
    /// Takes the buffer out, to be given to the kernel or kept.
    pub(super) fn lend(&mut self) -> Buf {
        self.buf.take().expect("a buffer is lent once")
    }

    /// Puts the buffer back that was lent.
    pub(super) fn restore(&mut self, buf: Buf) {
        self.buf = Some(buf);
    }
}

impl Deref for Staged {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buf.as_ref().map_or(&[], Buf::as_slice)
    }
}

impl DerefMut for Staged {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buf.as_mut().map_or(&mut [], Buf::as_mut_slice)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(buf) = self.buf.take() {
            self.stage.give_back(buf);
        }
    }
}
