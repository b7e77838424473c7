//! What an index says about a block: where it is, and which versions to expect there.
//!
//! Not the key by which it is found: that is the key of the entry.

use super::wire::{take_u16, take_u64};
use crate::lsm::BlockRef;

/// Size of an encoded [`Child`], in bytes.
pub(super) const CHILD_BYTES: usize = 38;

/// What an index knows about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// Where it is.
    pub(crate) block: BlockRef,
    /// Oldest version in it.
    pub(crate) min_timestamp: u64,
    /// Newest version in it.
    pub(crate) max_timestamp: u64,
    /// Tombstones in it, at most 65,535.
    pub(crate) tombstones: u16,
}

impl Child {
    /// Encodes the reference and what is known.
    pub(super) fn encode(&self) -> [u8; CHILD_BYTES] {
        let mut out = [0; CHILD_BYTES];
        out[..20].copy_from_slice(&self.block.encode());
        out[20..28].copy_from_slice(&self.min_timestamp.to_le_bytes());
        out[28..36].copy_from_slice(&self.max_timestamp.to_le_bytes());
        out[36..].copy_from_slice(&self.tombstones.to_le_bytes());
        out
    }

    /// Reads what takes up all of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (block, rest) = BlockRef::decode(bytes)?;
        let (min_timestamp, rest) = take_u64(rest)?;
        let (max_timestamp, rest) = take_u64(rest)?;
        let (tombstones, rest) = take_u16(rest)?;
        rest.is_empty().then_some(Self {
            block,
            min_timestamp,
            max_timestamp,
            tombstones,
        })
    }
}
