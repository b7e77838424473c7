//! A block in memory, whole, checked and not compressed, shared by the cache and its readers.

use std::rc::Rc;

use crate::lsm::frames::Frame;

/// A block, or a separated value. It never changes; its memory goes back to the shard's frames when the
/// last who holds it lets go.
#[derive(Debug)]
pub(crate) struct Block(Frame);

impl Block {
    /// Makes a block of a frame that was filled and checked.
    pub(crate) fn new(frame: Frame) -> Rc<Self> {
        Rc::new(Self(frame))
    }

    /// Makes a block that belongs to no shard.
    #[cfg(test)]
    pub(crate) fn detached(bytes: Vec<u8>) -> Rc<Self> {
        Self::new(crate::lsm::frames::Frames::new(0).hold(bytes.into_boxed_slice()))
    }

    /// Returns the content.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Returns what the block counts for among the frames, in bytes.
    pub(crate) fn charged_bytes(&self) -> u64 {
        self.0.charged_bytes()
    }
}
