//! The file `PAXOS` of a data directory: what this node has promised while its cluster comes to be.
//! Not needed any more once the directory says which cluster it belongs to.
//!
//! All numbers are little-endian.
//!
//! ```text
//!  0  magic     u32  "APAX"
//!  4  crc       u32  CRC-32C of what follows
//!  8  version   u8   1
//!  9  endorsed  u8   1 when members follow
//! 10  accepted  u8   1 when a ballot and a decree follow
//! 11  reserved  u8   0
//! 12  promised       ballot: round u64, proposer u64
//! 28  members, ballot, decree, as far as they are there (see `decree`)
//! ```
//!
//! Invariant: a record that cannot be read is an error, never an empty one: an acceptor that forgets
//! may help to decide twice.

use std::path::Path;

use ashlar_consensus::NodeId;
use ashlar_io::Reactor;
use ashlar_io::wal::format::crc32c;

use super::decree::{Decree, put_members, take_members};
use super::paxos::{Acceptor, Ballot};
use crate::format::{self, FormatError};
use crate::peer::cursor::Cursor;

/// Name of the file.
pub const FILE_NAME: &str = "PAXOS";
/// Largest record, in bytes: two lists of seven members have less than half of it.
const BYTES_MAX: usize = 4096;
const MAGIC: u32 = u32::from_le_bytes(*b"APAX");
const VERSION: u8 = 1;

pub(super) fn put_ballot(out: &mut Vec<u8>, ballot: Ballot) {
    out.extend_from_slice(&ballot.round.to_le_bytes());
    out.extend_from_slice(&ballot.proposer.0.to_le_bytes());
}

pub(super) fn take_ballot(from: &mut Cursor<'_>) -> Option<Ballot> {
    let round = from.u64()?;
    let proposer = NodeId(from.u64()?);
    Some(Ballot { round, proposer })
}

/// Returns the bytes of a record.
#[must_use]
pub fn encode(acceptor: &Acceptor) -> Vec<u8> {
    let Acceptor {
        endorsed,
        promised,
        accepted,
    } = acceptor;
    let mut out = vec![0; 8];
    let flags = [endorsed.is_some(), accepted.is_some()].map(u8::from);
    out.extend_from_slice(&[VERSION, flags[0], flags[1], 0]);
    put_ballot(&mut out, *promised);
    if let Some(members) = endorsed {
        put_members(&mut out, members);
    }
    if let Some((ballot, decree)) = accepted {
        put_ballot(&mut out, *ballot);
        decree.encode(&mut out);
    }
    let crc = crc32c(&out[8..]);
    out[..4].copy_from_slice(&MAGIC.to_le_bytes());
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads a record.
///
/// # Errors
/// The bytes are none, or damaged; what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Acceptor, &'static str> {
    let mut at = Cursor(bytes);
    if at.u32() != Some(MAGIC) {
        return Err("it is no record of promises");
    }
    if at.u32() != Some(crc32c(at.0)) {
        return Err("it is damaged");
    }
    if at.u8() != Some(VERSION) {
        return Err("it has another version");
    }
    take(&mut at)
        .filter(|_| at.is_empty())
        .ok_or("its parts do not fit it")
}

fn take(at: &mut Cursor<'_>) -> Option<Acceptor> {
    let flags = [at.u8()?, at.u8()?, at.u8()?];
    if flags[0] > 1 || flags[1] > 1 || flags[2] > 0 {
        return None;
    }
    let promised = take_ballot(at)?;
    let endorsed = match flags[0] {
        0 => None,
        _ => Some(take_members(at)?),
    };
    let accepted = match flags[1] {
        0 => None,
        _ => Some((take_ballot(at)?, Decree::take(at)?)),
    };
    Some(Acceptor {
        endorsed,
        promised,
        accepted,
    })
}

/// Reads the record of a data directory; without a file nothing was promised.
///
/// # Errors
/// The file cannot be read or understood.
pub(super) async fn load(reactor: &Reactor, data: &Path) -> Result<Acceptor, FormatError> {
    let bytes = format::load(reactor, data, FILE_NAME, BYTES_MAX).await?;
    let acceptor = bytes.map_or(Ok(Acceptor::default()), |bytes| decode(&bytes));
    acceptor.map_err(|what| FormatError::Unreadable {
        path: data.join(FILE_NAME),
        what: what.to_owned(),
    })
}

/// Writes the record of a data directory, durably.
///
/// # Errors
/// A file operation failed.
pub(super) async fn save(
    reactor: &Reactor,
    data: &Path,
    acceptor: &Acceptor,
) -> Result<(), FormatError> {
    let bytes = encode(acceptor);
    assert!(bytes.len() <= BYTES_MAX, "names and addresses are short");
    format::replace(reactor, data, FILE_NAME, &bytes).await
}
