//! Little-endian numbers at the front of bytes, for the formats of tables.
//!
//! Every function returns what it took and what follows, or `None` when there is too little.

use crate::lsm::{BlockRef, ValueRef};

/// Size of an encoded [`BlockRef`], in bytes.
pub(crate) const BLOCK_REF_BYTES: usize = 20;
/// Size of an encoded [`ValueRef`], in bytes.
pub(crate) const VALUE_REF_BYTES: usize = 28;

/// Takes a byte.
pub(crate) fn take_u8(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(&byte, rest)| (byte, rest))
}

/// Takes a number of two bytes.
pub(crate) fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_le_bytes(*number), rest))
}

/// Takes a number of four bytes.
#[inline]
pub(crate) fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// Takes a number of eight bytes.
#[inline]
pub(crate) fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// Takes a number of sixteen bytes.
pub(crate) fn take_u128(bytes: &[u8]) -> Option<(u128, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u128::from_le_bytes(*number), rest))
}

/// Takes bytes behind their number, a `u32`.
pub(crate) fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = take_u32(bytes)?;
    rest.split_at_checked(usize::try_from(count).ok()?)
}

/// Appends bytes behind their number, a `u32`.
///
/// # Panics
/// When there are 4 GiB or more.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let count = u32::try_from(bytes.len()).expect("nothing that is encoded here has 4 GiB");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes a number of seven bits per byte, low ones first, at most five bytes.
#[inline]
pub(crate) fn take_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), rest));
    }
    take_long_varint(usize::from(first & 0x7f), rest)
}

/// Takes the bytes behind the first of a varint.
fn take_long_varint(first: usize, mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = first;
    for shift in [7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number, bytes));
        }
    }
    None
}

/// Appends a varint.
#[inline]
pub(crate) fn put_varint(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Returns the bytes that a varint takes.
#[inline]
pub(crate) fn varint_bytes(number: usize) -> usize {
    if number < 0x80 {
        return 1;
    }
    1 + varint_bytes(number >> 7)
}

impl BlockRef {
    /// Encodes the reference: sector, stored bytes, bytes, checksum.
    pub(crate) fn encode(&self) -> [u8; BLOCK_REF_BYTES] {
        let mut out = [0; BLOCK_REF_BYTES];
        out[..4].copy_from_slice(&self.sector.to_le_bytes());
        out[4..8].copy_from_slice(&self.stored_bytes.to_le_bytes());
        out[8..12].copy_from_slice(&self.bytes.to_le_bytes());
        out[12..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// Reads a reference at the front of `bytes`; returns it and what follows.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (sector, rest) = take_u32(bytes)?;
        let (stored_bytes, rest) = take_u32(rest)?;
        let (bytes, rest) = take_u32(rest)?;
        let (checksum, rest) = take_u64(rest)?;
        let block = Self {
            sector,
            stored_bytes,
            bytes,
            checksum,
        };
        Some((block, rest))
    }
}

impl ValueRef {
    /// Encodes the reference: number, offset, bytes, checksum.
    pub(crate) fn encode(&self) -> [u8; VALUE_REF_BYTES] {
        let mut out = [0; VALUE_REF_BYTES];
        out[..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..20].copy_from_slice(&self.bytes.to_le_bytes());
        out[20..].copy_from_slice(&self.checksum.to_le_bytes());
        out
    }

    /// Reads a reference at the front of `bytes`; returns it and what follows.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (number, rest) = take_u64(bytes)?;
        let (offset, rest) = take_u64(rest)?;
        let (bytes, rest) = take_u32(rest)?;
        let (checksum, rest) = take_u64(rest)?;
        let value = Self {
            number,
            offset,
            bytes,
            checksum,
        };
        Some((value, rest))
    }
}
