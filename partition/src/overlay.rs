//! The keys that one entry in flight changes, so that a read finds what was proposed but not
//! applied: a hot counter then takes many increments per write of the log instead of one.
//!
//! A hash table of (tag, offset in the entry). One per entry: when the entry is applied, the table
//! is emptied whole, and no key is removed one by one.
//!
//! Invariant: for each key, the table holds the last command of the entry that changed it.

use crate::command::{Command, command_at};
use crate::key::is_kept_by_clears;

/// What an entry in flight says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending<'a> {
    /// It says nothing.
    Untouched,
    /// The key has this value.
    Put {
        value: &'a [u8],
        is_root: bool,
        expire_at_ms: Option<u64>,
    },
    /// The key is gone.
    Deleted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u32,
    /// Offset of the command in the entry, plus one; 0 for a free slot.
    offset: u32,
}

/// The changed keys of one entry.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    slots: Vec<Slot>,
    used: usize,
    /// Offsets of the commands that deleted a range, a database or all, plus one; rare.
    clears: Vec<u32>,
}

impl Overlay {
    pub(crate) fn clear(&mut self) {
        // A table that one large turn has grown is not carried along for ever.
        if self.slots.len() > 1 << 14 {
            self.slots = Vec::new();
        }
        if self.used > 0 {
            self.slots.fill(Slot::default());
        }
        self.used = 0;
        self.clears.clear();
    }

    /// Notes that the command at `offset` of `entry` changes `key`.
    pub(crate) fn note(&mut self, hash: u64, key: &[u8], entry: &[u8], offset: usize) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let offset = u32::try_from(offset + 1).expect("an entry is below 4 GiB");
        let place = self.place(hash, key, entry);
        if self.slots[place].offset == 0 {
            self.used += 1;
        }
        self.slots[place] = Slot {
            tag: tag(hash),
            offset,
        };
    }

    /// Notes that the command at `offset` deletes a range of keys, a database, or all.
    pub(crate) fn note_clear(&mut self, offset: usize) {
        self.clears
            .push(u32::try_from(offset + 1).expect("an entry is below 4 GiB"));
    }

    /// Returns what the entry says of `key`.
    pub(crate) fn find<'a>(&self, hash: u64, key: &[u8], entry: &'a [u8]) -> Pending<'a> {
        let slot = if self.used == 0 {
            Slot::default()
        } else {
            self.slots[self.place(hash, key, entry)]
        };
        let cleared = self
            .clears
            .iter()
            .rev()
            .find(|offset| clears(entry, **offset, key));
        if cleared.is_some_and(|offset| *offset > slot.offset) {
            return Pending::Deleted;
        }
        if slot.offset == 0 {
            return Pending::Untouched;
        }
        match command_at(entry, slot.offset as usize - 1) {
            Command::Put {
                value,
                is_root,
                expire_at_ms,
                ..
            } => Pending::Put {
                value,
                is_root,
                expire_at_ms,
            },
            Command::Delete { .. } | Command::Clear { .. } | Command::DeleteRange { .. } => {
                Pending::Deleted
            }
        }
    }

    /// Returns where in the entry the last command begins that changed `key` alone; nothing when there is none, or a
    /// deletion of many keys came after it.
    pub(crate) fn offset_of(&self, hash: u64, key: &[u8], entry: &[u8]) -> Option<usize> {
        let place = (self.used > 0).then(|| self.place(hash, key, entry))?;
        let offset = Some(self.slots[place].offset).filter(|offset| *offset > 0)?;
        let after = self.clears.iter().filter(|clear| **clear > offset);
        let mut after = after.filter(|clear| clears(entry, **clear, key));
        after.next().is_none().then_some(offset as usize - 1)
    }

    /// Returns the slot of `key`, or the free slot where it belongs.
    fn place(&self, hash: u64, key: &[u8], entry: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = tag(hash) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.offset == 0 || (slot.tag == tag(hash) && key_at(entry, slot.offset) == key) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let bigger = (self.slots.len() * 2).max(64);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); bigger]);
        for slot in old.into_iter().filter(|slot| slot.offset != 0) {
            // The keys differ from each other, so the first free slot is the right one.
            let mut at = slot.tag as usize & (bigger - 1);
            while self.slots[at].offset != 0 {
                at = (at + 1) & (bigger - 1);
            }
            self.slots[at] = slot;
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the tag is the lower half of the hash"
)]
fn tag(hash: u64) -> u32 {
    hash as u32
}

fn key_at(entry: &[u8], offset: u32) -> &[u8] {
    command_at(entry, offset as usize - 1).key()
}

/// Says whether the command at `offset` (plus one) deletes `key` among others.
fn clears(entry: &[u8], offset: u32, key: &[u8]) -> bool {
    match command_at(entry, offset as usize - 1) {
        Command::Clear { database: None } => !is_kept_by_clears(key),
        Command::Clear {
            database: Some(database),
        } => key.first() == Some(&database),
        Command::DeleteRange { start, end } => start <= key && key < end,
        Command::Put { .. } | Command::Delete { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_map_finds(steps in proptest::collection::vec((0_u8..8, 0_u8..3, 0_u16..200), 1..400)) {
            let (mut overlay, mut entry) = (Overlay::default(), Vec::new());
            let mut model: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
            let mut cleared = [false; 3];
            for (what, database, number) in steps {
                let key = [&[database][..], &number.to_le_bytes()].concat();
                // A poor hash on purpose: many keys share tags and slots.
                let hash = u64::from(number % 16);
                let offset = entry.len();
                match what {
                    0 => {
                        Command::Clear { database: Some(database) }.encode(&mut entry);
                        overlay.note_clear(offset);
                        model.retain(|key, _| key[0] != database);
                        cleared[usize::from(database)] = true;
                    }
                    1 => {
                        Command::Delete { key: &key }.encode(&mut entry);
                        overlay.note(hash, &key, &entry, offset);
                        model.insert(key, None);
                    }
                    _ => {
                        let value = offset.to_le_bytes();
                        let put = Command::Put { key: &key, is_root: false, expire_at_ms: None, value: &value };
                        put.encode(&mut entry);
                        overlay.note(hash, &key, &entry, offset);
                        model.insert(key, Some(value.to_vec()));
                    }
                }
            }
            for database in 0..3_u8 {
                for number in 0..200_u16 {
                    let key = [&[database][..], &number.to_le_bytes()].concat();
                    let found = overlay.find(u64::from(number % 16), &key, &entry);
                    let expected = match model.get(&key) {
                        Some(Some(value)) => Pending::Put { value, is_root: false, expire_at_ms: None },
                        Some(None) => Pending::Deleted,
                        None if cleared[usize::from(database)] => Pending::Deleted,
                        None => Pending::Untouched,
                    };
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
