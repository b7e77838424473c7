//! Does what an entry says: on a leader, a follower and in recovery alike. Total: it never waits,
//! never refuses, and reads no disk.

use ashlar_consensus::Timestamp;

use crate::command::{Command, Commands, EntryHeader, Malformed};
use crate::key::{DATABASES, DUES, ELEMENTS};
use crate::lsm::ranges::Ranges;
use crate::memtable::{Beneath, Kind, Memtable, Version};

/// Commands whose keys are looked up together.
const GROUP: usize = 16;

/// What an entry changes.
pub(crate) struct Applied<'a> {
    pub(crate) memtable: &'a mut Memtable,
    pub(crate) ranges: &'a mut Ranges,
    /// Moves up to the entry's timestamp less the history that it tells to keep.
    pub(crate) low_water: &'a mut u64,
    /// Whether older versions may lie in frozen memtables or tables.
    pub(crate) beneath: Beneath,
}

/// Applies every command of an entry.
///
/// # Errors
/// The bytes are not an entry; nothing after the first bad command was applied. It happens only
/// with bytes from a log that something else wrote to: checksums have been checked before.
pub(crate) fn apply(applied: &mut Applied<'_>, entry: &[u8]) -> Result<EntryHeader, Malformed> {
    let (header, mut commands) = Commands::of(entry)?;
    *applied.low_water = (*applied.low_water).max(low_water(&header));
    let mut count = 0;
    let mut group = Vec::with_capacity(GROUP);
    let mut hashes = [0; GROUP];
    loop {
        group.clear();
        group.extend(commands.by_ref().take(GROUP));
        if group.is_empty() {
            break;
        }
        for (hash, (_, command)) in hashes.iter_mut().zip(&group) {
            *hash = applied.memtable.hash(command.key());
        }
        // The lookups of a group wait for memory together instead of one after another.
        applied.memtable.warm(&hashes[..group.len()]);
        for (hash, (timestamp, command)) in hashes.iter().zip(&group) {
            applied.command(*hash, *timestamp, *command, header.timestamp);
        }
        count += u32::try_from(group.len()).expect("a group is small");
    }
    if count == header.commands && commands.rest().is_empty() {
        Ok(header)
    } else {
        Err(Malformed("an entry whose commands do not add up"))
    }
}

/// Returns the timestamp beneath which nobody reads once the entry is applied. Without history every
/// version replaces the one before, those of the same entry too.
fn low_water(header: &EntryHeader) -> u64 {
    if header.history_ms == 0 {
        return header.timestamp.plus(u64::from(header.commands)).0;
    }
    let history_us = u64::from(header.history_ms) * 1000;
    let micros = header.timestamp.micros().saturating_sub(history_us);
    Timestamp::at_micros(micros).0
}

impl Applied<'_> {
    /// Applies a command of the entry that begins at `since`.
    fn command(&mut self, hash: u64, timestamp: Timestamp, command: Command<'_>, since: Timestamp) {
        let floor = *self.low_water;
        match command {
            Command::Put {
                key,
                is_root,
                expire_at_ms,
                value,
            } => {
                let version = Version {
                    kind: if is_root { Kind::Root } else { Kind::Put },
                    ..Version::put(timestamp.0, expire_at_ms, value)
                };
                if !is_root || !self.memtable.renew(hash, key, version, since.0) {
                    self.memtable.put(hash, key, version, floor, self.beneath);
                }
            }
            Command::Delete { key } => {
                self.memtable
                    .delete(hash, key, timestamp.0, floor, self.beneath);
            }
            Command::Clear { database } => self.clear(database, timestamp),
            Command::DeleteRange { start, end } => self.ranges.add(start, end, timestamp.0),
        }
    }

    /// Forgets a database, its history too: memory is free at once.
    fn clear(&mut self, database: Option<u8>, timestamp: Timestamp) {
        *self.low_water = (*self.low_water).max(timestamp.0);
        match database {
            None => self.memtable.clear_databases(),
            Some(database) => self.memtable.clear_prefix(database),
        }
        if self.beneath == Beneath::Nothing {
            return;
        }
        match database {
            None => {
                self.ranges.add(&[0], &[DATABASES], timestamp.0);
                self.ranges.add(&[ELEMENTS], &[DUES + 1], timestamp.0);
            }
            Some(database) => self.ranges.add(&[database], &[database + 1], timestamp.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{ENTRY_BYTES, EntryHeader};
    use crate::key::is_kept_by_clears;

    #[test]
    fn a_clear_of_all_databases_leaves_what_belongs_to_none() {
        let keys: [&[u8]; 6] = [
            b"\x00a",
            b"\x0fz",
            b"\xf0\x00",
            b"\xf1\x01a",
            b"\xf2\x01a",
            b"\xf3\x01a",
        ];
        let put = |key| Command::Put {
            is_root: false,
            key,
            expire_at_ms: None,
            value: b"v",
        };
        let mut entry = vec![0; ENTRY_BYTES];
        for key in keys {
            put(key).encode(&mut entry);
        }
        Command::Clear { database: None }.encode(&mut entry);
        let header = EntryHeader {
            timestamp: Timestamp(9),
            commands: 7,
            ..EntryHeader::default()
        };
        header.encode(&mut entry);
        let (mut memtable, mut ranges, mut low_water) = (Memtable::new(1), Ranges::default(), 0);
        let mut applied = Applied {
            memtable: &mut memtable,
            ranges: &mut ranges,
            low_water: &mut low_water,
            beneath: Beneath::Tables,
        };
        apply(&mut applied, &entry).unwrap();
        for key in keys {
            let is_there = memtable.newest(memtable.hash(key), key).is_some();
            let is_hidden = ranges.newest_over(key, u64::MAX).is_some();
            assert_eq!(
                (is_there, is_hidden),
                (is_kept_by_clears(key), !is_kept_by_clears(key)),
                "{key:?}"
            );
        }
    }
}
