//! Does what an entry says: on a leader, a follower and in recovery alike. Total: it never waits,
//! never refuses, and reads no disk.

use ashlar_consensus::Timestamp;

use crate::command::{Command, Commands, EntryHeader, Malformed};
use crate::memtable::{Memtable, Version};

/// Commands whose keys are looked up together.
const GROUP: usize = 16;

/// Applies every command of an entry.
///
/// # Errors
/// The bytes are not an entry; nothing after the first bad command was applied. It happens only
/// with bytes from a log that something else wrote to: checksums have been checked before.
pub(crate) fn apply(memtable: &mut Memtable, entry: &[u8]) -> Result<EntryHeader, Malformed> {
    let (header, mut commands) = Commands::of(entry)?;
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
            *hash = memtable.hash(command.key());
        }
        // The lookups of a group wait for memory together instead of one after another.
        memtable.warm(&hashes[..group.len()]);
        for (hash, (timestamp, command)) in hashes.iter().zip(&group) {
            apply_command(memtable, *hash, *timestamp, *command);
        }
        count += u32::try_from(group.len()).expect("a group is small");
    }
    if count == header.commands && commands.rest().is_empty() {
        Ok(header)
    } else {
        Err(Malformed("an entry whose commands do not add up"))
    }
}

fn apply_command(memtable: &mut Memtable, hash: u64, timestamp: Timestamp, command: Command<'_>) {
    // There are no readers of the past yet: each version replaces the one before.
    let floor = u64::MAX;
    match command {
        Command::Put {
            key,
            expire_at_ms,
            value,
        } => {
            memtable.put(
                hash,
                key,
                Version::put(timestamp.0, expire_at_ms, value),
                floor,
            );
        }
        Command::Delete { key } => {
            memtable.delete(hash, key, timestamp.0, floor);
        }
        Command::Clear { database: None } => memtable.clear(),
        Command::Clear {
            database: Some(database),
        } => memtable.clear_prefix(database),
        Command::Keep {
            key,
            expire_at_ms,
            timestamp,
            value,
        } => {
            memtable.put(
                hash,
                key,
                Version::put(timestamp.0, expire_at_ms, value),
                floor,
            );
        }
    }
}
