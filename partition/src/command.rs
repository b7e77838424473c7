//! Commands and entries as bytes: encoded once, by the proposer, and the same bytes are what the
//! log keeps, what replicas get, and what `apply` reads.
//!
//! ```text
//! entry    0  partition   u32
//!          4  version     u8   1
//!          5  kind        u8   0 commands, 1 empty, 2 members
//!          6  reserved    u16  0
//!          8  term        u64
//!         16  index       u64
//!         24  timestamp   u64   of the first command; command n has timestamp + n
//!         32  commands    u32
//!         36  history_ms  u32   how far back the leader lets readers look
//!         40  committed   u64   entries up to this one were committed when this one was made
//!         48  chain       u64   XXH3-64 of the entry with the chain of the entry before it in this place
//!         56  commands, one after another; or the members, as `Membership` encodes itself
//! command  0  kind        u8
//!          1  key_bytes   u32
//!          5  value_bytes u32
//!          9  expire_at   u64   only in kinds 2 and 8
//!             key, value
//! ```
//! Kinds: 1 put, 2 put with expiry, 7 and 8 the same of the root of a collection, 3 delete (no value), 4 clear (the
//! key is one byte, the database; or empty for all), 6 delete range (the value is the end, which stays). Kind 5 was
//! of an earlier layout.

use std::array;
use std::fmt;

pub use ashlar_consensus::message::EntryKind;
use ashlar_consensus::{Index, PartitionId, Term, Timestamp};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::memtable::Memtable;

/// Size of an entry's header, in bytes.
pub const ENTRY_BYTES: usize = 56;
/// Where the chain is.
const CHAIN_AT: usize = 48;
/// Most bytes that a command takes beside its key and value.
pub const COMMAND_BYTES_MAX: usize = 17;
const VERSION: u8 = 1;
/// Indexes and timestamps above this are damage: nothing could be counted on from them.
const COUNTED_MAX: u64 = u64::MAX - (1 << 40);

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Sets a key.
    Put {
        /// Internal key.
        key: &'a [u8],
        /// Whether the value is the root of a collection.
        is_root: bool,
        /// Milliseconds since 1970.
        expire_at_ms: Option<u64>,
        /// The value.
        value: &'a [u8],
    },
    /// Deletes a key.
    Delete {
        /// Internal key.
        key: &'a [u8],
    },
    /// Deletes every key of a database, or of all.
    Clear {
        /// The database.
        database: Option<u8>,
    },
    /// Deletes the keys of a range.
    DeleteRange {
        /// Internal key that the range begins with.
        start: &'a [u8],
        /// Internal key that it ends before.
        end: &'a [u8],
    },
}

impl<'a> Command<'a> {
    /// Returns the key that is changed; empty when it is not one key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
            Self::Clear { .. } | Self::DeleteRange { .. } => &[],
        }
    }

    /// Appends the command to an entry; returns the offset at which its value begins.
    ///
    /// # Panics
    /// When key or value have 4 GiB or more; admission keeps them far below.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let (kind, key, value, expire): (u8, &[u8], &[u8], Option<u64>) = match *self {
            Self::Put {
                key,
                is_root,
                expire_at_ms,
                value,
            } => (
                if is_root { 7 } else { 1 } + u8::from(expire_at_ms.is_some()),
                key,
                value,
                expire_at_ms,
            ),
            Self::Delete { key } => (3, key, &[], None),
            Self::Clear { database: None } => (4, &[], &[], None),
            Self::Clear {
                database: Some(database),
            } => {
                out.push(4);
                put_lengths(out, 1, 0);
                out.push(database);
                return out.len();
            }
            Self::DeleteRange { start, end } => (6, start, end, None),
        };
        out.push(kind);
        put_lengths(out, key.len(), value.len());
        if let Some(number) = expire {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(key);
        let value_at = out.len();
        out.extend_from_slice(value);
        value_at
    }

    /// Reads the command at the front of `bytes`; returns it and what follows.
    fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&kind, rest) = bytes.split_first()?;
        let (key_bytes, rest) = take_u32(rest)?;
        let (value_bytes, mut rest) = take_u32(rest)?;
        let mut expire = 0;
        if matches!(kind, 2 | 8) {
            (expire, rest) = take_u64(rest)?;
        }
        let (key, rest) = rest.split_at_checked(key_bytes as usize)?;
        let (value, rest) = rest.split_at_checked(value_bytes as usize)?;
        if key.len() > Memtable::KEY_BYTES_MAX || value.len() > Memtable::VALUE_BYTES_MAX {
            return None;
        }
        let expire_at_ms = if expire == 0 { None } else { Some(expire) };
        let command = match (kind, key, value) {
            (1 | 2 | 7 | 8, [_, ..], _) => Self::Put {
                key,
                is_root: kind >= 7,
                expire_at_ms,
                value,
            },
            (3, [_, ..], []) => Self::Delete { key },
            (4, [], []) => Self::Clear { database: None },
            (4, &[database], []) => Self::Clear {
                database: Some(database),
            },
            (6, [_, ..], [_, ..]) if key < value && value.len() <= Memtable::KEY_BYTES_MAX => {
                Self::DeleteRange {
                    start: key,
                    end: value,
                }
            }
            _ => return None,
        };
        Some((command, rest))
    }
}

fn put_lengths(out: &mut Vec<u8>, key: usize, value: usize) {
    for length in [key, value] {
        let length = u32::try_from(length).expect("admission keeps keys and values below 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
    }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn take_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

/// What an entry is, beside its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Whose entry it is.
    pub partition: PartitionId,
    /// Under which leader it was proposed.
    pub term: Term,
    /// Its place in the partition's log.
    pub index: Index,
    /// Timestamp of its first command.
    pub timestamp: Timestamp,
    /// How many commands it has.
    pub commands: u32,
    /// How far back readers may look, in milliseconds: all replicas keep the versions of this long.
    pub history_ms: u32,
    /// What follows the header.
    pub kind: EntryKind,
    /// Entries up to this one were committed when this one was made: whoever has it may apply them.
    pub committed: Index,
    /// The hash of this entry and all before it, once it is sealed ([`seal`]).
    pub chain: u64,
}

/// Returns the members that an entry says, encoded; nothing when it is of another kind.
#[must_use]
pub fn members_of(entry: &[u8]) -> &[u8] {
    match EntryHeader::decode(entry) {
        Ok(header) if header.kind == EntryKind::Membership => &entry[ENTRY_BYTES..],
        Ok(_) | Err(_) => &[],
    }
}

/// Writes the chain of an entry, which follows the one whose chain is `previous`; returns it.
///
/// # Panics
/// When `entry` is shorter than [`ENTRY_BYTES`].
pub fn seal(entry: &mut [u8], previous: u64) -> u64 {
    entry[CHAIN_AT..ENTRY_BYTES].copy_from_slice(&previous.to_le_bytes());
    let chain = xxh3_64(entry);
    entry[CHAIN_AT..ENTRY_BYTES].copy_from_slice(&chain.to_le_bytes());
    chain
}

/// Returns what the chain of an entry must be that follows the one whose chain is `previous`.
///
/// # Panics
/// When `entry` is shorter than [`ENTRY_BYTES`].
#[must_use]
pub fn chain_of(entry: &[u8], previous: u64) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&entry[..CHAIN_AT]);
    hasher.update(&previous.to_le_bytes());
    hasher.update(&entry[ENTRY_BYTES..]);
    hasher.digest()
}

impl Default for EntryHeader {
    fn default() -> Self {
        Self {
            partition: PartitionId(0),
            term: Term(1),
            index: Index(1),
            timestamp: Timestamp(0),
            commands: 0,
            history_ms: 0,
            kind: EntryKind::Commands,
            committed: Index(0),
            chain: 0,
        }
    }
}

impl EntryHeader {
    /// Writes the header over the first bytes of an entry.
    ///
    /// # Panics
    /// When `out` is shorter than [`ENTRY_BYTES`].
    pub fn encode(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.partition.0.to_le_bytes());
        let kind = match self.kind {
            EntryKind::Commands => 0,
            EntryKind::Empty => 1,
            EntryKind::Membership => 2,
        };
        out[4..8].copy_from_slice(&[VERSION, kind, 0, 0]);
        out[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.index.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.timestamp.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.commands.to_le_bytes());
        out[36..40].copy_from_slice(&self.history_ms.to_le_bytes());
        out[40..CHAIN_AT].copy_from_slice(&self.committed.0.to_le_bytes());
        out[CHAIN_AT..ENTRY_BYTES].copy_from_slice(&self.chain.to_le_bytes());
    }

    /// Reads the header of an entry.
    ///
    /// # Errors
    /// The bytes are not an entry of this version.
    pub fn decode(entry: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; ENTRY_BYTES] = entry
            .first_chunk()
            .ok_or(Malformed("shorter than an entry's header"))?;
        if header[4] != VERSION {
            return Err(Malformed("an entry of an unknown version"));
        }
        let kind = match header[5] {
            0 => EntryKind::Commands,
            1 => EntryKind::Empty,
            2 => EntryKind::Membership,
            _ => return Err(Malformed("an entry of an unknown kind")),
        };
        let u64_at = |at: usize| u64::from_le_bytes(array::from_fn(|n| header[at + n]));
        let u32_at = |at: usize| u32::from_le_bytes(array::from_fn(|n| header[at + n]));
        let (index, timestamp) = (u64_at(16), u64_at(24));
        if index == 0 || index > COUNTED_MAX {
            return Err(Malformed("an entry whose index no log reaches"));
        }
        if timestamp > COUNTED_MAX {
            return Err(Malformed("an entry whose timestamp no clock reaches"));
        }
        Ok(Self {
            partition: PartitionId(u32_at(0)),
            term: Term(u64_at(8)),
            index: Index(index),
            timestamp: Timestamp(timestamp),
            commands: u32_at(32),
            history_ms: u32_at(36),
            kind,
            committed: Index(u64_at(40)),
            chain: u64_at(CHAIN_AT),
        })
    }
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Walks the commands of an entry with the timestamp of each. Ends early when the bytes are
/// malformed; what is left then is not empty.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: &'a [u8],
    timestamp: Timestamp,
}

impl<'a> Commands<'a> {
    /// Begins behind the header of `entry`.
    ///
    /// # Errors
    /// The bytes are not an entry of this version.
    pub fn of(entry: &'a [u8]) -> Result<(EntryHeader, Self), Malformed> {
        let header = EntryHeader::decode(entry)?;
        let rest = match header.kind {
            EntryKind::Commands => &entry[ENTRY_BYTES..],
            EntryKind::Empty | EntryKind::Membership => &[],
        };
        let timestamp = header.timestamp;
        Ok((header, Self { rest, timestamp }))
    }

    /// Returns the bytes that were not understood.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = (Timestamp, Command<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (command, rest) = Command::decode(self.rest)?;
        let timestamp = self.timestamp;
        self.timestamp = timestamp.plus(1);
        self.rest = rest;
        Some((timestamp, command))
    }
}

/// Returns which partition a record of the log is of: an entry, or an edit.
#[must_use]
pub fn record_partition(record: &[u8]) -> Option<u32> {
    record.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Reads the command at `offset` of an entry.
pub(crate) fn command_at(entry: &[u8], offset: usize) -> Command<'_> {
    let (command, _) =
        Command::decode(&entry[offset..]).expect("the offset is one that encode began at");
    command
}

/// Walks the commands of an entry of our own, open or not, with the offset of each.
pub(crate) fn commands_in(entry: &[u8]) -> impl Iterator<Item = (usize, Command<'_>)> {
    let mut rest = &entry[ENTRY_BYTES..];
    std::iter::from_fn(move || {
        let offset = entry.len() - rest.len();
        let command;
        (command, rest) = Command::decode(rest)?;
        Some((offset, command))
    })
}

/// Returns how many commands of an entry lie before the one at `offset`.
pub(crate) fn commands_before(entry: &[u8], offset: usize) -> u64 {
    let before = commands_in(entry).take_while(|(at, _)| *at < offset);
    before.count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_come_back_as_they_went_in() {
        let commands = [
            Command::Put {
                key: b"\x00k",
                is_root: false,
                expire_at_ms: None,
                value: b"v",
            },
            Command::Put {
                key: b"\x00k",
                is_root: true,
                expire_at_ms: Some(5),
                value: b"",
            },
            Command::Delete { key: b"\x00k" },
            Command::Clear { database: None },
            Command::Clear { database: Some(3) },
            Command::DeleteRange {
                start: b"\x00a",
                end: b"\x00b",
            },
        ];
        let header = EntryHeader {
            partition: PartitionId(7),
            term: Term(1),
            index: Index(3),
            timestamp: Timestamp(100),
            commands: 6,
            history_ms: 10_000,
            kind: EntryKind::Commands,
            committed: Index(2),
            chain: 9,
        };
        let mut entry = vec![0; ENTRY_BYTES];
        for command in &commands {
            command.encode(&mut entry);
        }
        header.encode(&mut entry);
        let (found, walk) = Commands::of(&entry).unwrap();
        assert_eq!(found, header);
        let walked: Vec<_> = walk.collect();
        assert_eq!(
            walked
                .iter()
                .map(|(_, command)| *command)
                .collect::<Vec<_>>(),
            commands
        );
        assert_eq!(walked[5].0, Timestamp(105));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..10) {
            let mut entry = vec![0; 4];
            entry.push(VERSION);
            entry.resize(ENTRY_BYTES, 0);
            entry[16] = 1;
            entry.push(kind);
            entry.extend(bytes);
            let (_, mut walk) = Commands::of(&entry).unwrap();
            let count = walk.by_ref().count();
            prop_assert!(count <= entry.len());
        }
    }
}
