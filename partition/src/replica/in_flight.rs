//! What entries in flight say, beyond single keys: of ranges of elements, and as of a point in the open entry that may
//! be gone back to.

use std::ops::{Bound, RangeBounds};

use ashlar_consensus::{Index, Timestamp};

use super::{Entry, Replica};
use crate::collection::id_of;
use crate::command::{Command, commands_in};
use crate::elements::Said;

/// Where the open entry stood when a command began.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    index: Option<Index>,
    bytes: usize,
    commands: u32,
}

/// Which collections an entry touches: a bit for each 64th of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched(u64);

impl Touched {
    /// Adds what a command touches.
    pub(super) fn add(&mut self, command: &Command<'_>) {
        if let Command::Put { key, .. } | Command::Delete { key } = command {
            self.0 |= id_of(key).map_or(0, |(id, _)| 1 << (id % 64));
        }
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns what a range of elements may touch: one collection, or any.
    fn by(start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> Self {
        let id = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => id_of(key).map(|(id, _)| id),
            Bound::Unbounded => None,
        };
        match (id(start), id(end)) {
            (Some(id), Some(other)) if id == other => Self(1 << (id % 64)),
            _ => Self(u64::MAX),
        }
    }
}

impl Replica {
    /// Returns the timestamp of the next command proposed in this turn.
    pub(crate) fn next_timestamp(&mut self, timestamp: impl FnOnce() -> Timestamp) -> Timestamp {
        if self.open.is_none() {
            self.open_entry(timestamp());
        }
        let entry = self.open.as_ref().expect("opened above");
        entry.timestamp.plus(u64::from(entry.commands))
    }

    /// Returns what entries in flight say of the keys of a range, and the last of those that say something.
    pub(crate) fn said_of(
        &self,
        (start, end): &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> (Said<'_>, Option<Index>) {
        let (mut said, mut last) = (Said::new(), None);
        let touched = Touched::by(start, end);
        let range = (
            start.as_ref().map(Vec::as_slice),
            end.as_ref().map(Vec::as_slice),
        );
        let in_flight = self.pending.iter().chain(&self.open);
        for entry in in_flight.filter(|entry| entry.touched.has(touched)) {
            if entry.say(range, &mut said) {
                last = Some(entry.index);
            }
        }
        (said, last)
    }

    /// Returns where the open entry stands.
    pub(crate) fn savepoint(&self) -> Savepoint {
        let open = self.open.as_ref();
        Savepoint {
            index: open.map(|entry| entry.index),
            bytes: open.map_or(0, |entry| entry.bytes.len()),
            commands: open.map_or(0, |entry| entry.commands),
        }
    }

    /// Takes back what was proposed since; `hash` is that of the memtable.
    pub(crate) fn go_back(&mut self, to: Savepoint, hash: impl Fn(&[u8]) -> u64) {
        let Some(index) = to.index else {
            return self.drop_open();
        };
        let entry = self.open.as_mut().expect("it was open");
        assert_eq!(entry.index, index, "no turn has ended since");
        if entry.bytes.len() == to.bytes {
            return;
        }
        entry.bytes.truncate(to.bytes);
        entry.commands = to.commands;
        entry.note_all(hash);
    }
}

impl Entry {
    /// Notes anew what the entry's commands change.
    fn note_all(&mut self, hash: impl Fn(&[u8]) -> u64) {
        self.overlay.clear();
        self.touched = Touched::default();
        for (offset, command) in commands_in(&self.bytes) {
            self.touched.add(&command);
            match command {
                Command::Put { key, .. } | Command::Delete { key } => {
                    self.overlay.note(hash(key), key, &self.bytes, offset);
                }
                Command::Clear { .. } | Command::DeleteRange { .. } => {
                    self.overlay.note_clear(offset);
                }
            }
        }
    }

    /// Adds what the entry says of a range; tells whether it says anything. Deletions of many keys are passed over:
    /// they take roots along, and nobody walks over elements without a root.
    fn say<'a>(&'a self, range: (Bound<&[u8]>, Bound<&[u8]>), said: &mut Said<'a>) -> bool {
        let mut says = false;
        for (_, command) in commands_in(&self.bytes) {
            let (key, value) = match command {
                Command::Put { key, value, .. } => (key, Some(value)),
                Command::Delete { key } => (key, None),
                Command::Clear { .. } | Command::DeleteRange { .. } => continue,
            };
            if range.contains(key) {
                said.insert(key, value);
                says = true;
            }
        }
        says
    }
}
