//! The log of one replica that is alone: entries are numbered, given to the shard's log, and
//! committed once that says they are durable. The consensus core takes the place between propose
//! and commit without moving anything around it.
//!
//! An entry is open while the turn's commands go into it, pending from the end of the turn until it
//! is applied.
//!
//! Invariants:
//! 1. `applied <= committed <= last`; indexes have no gaps.
//! 2. An entry is committed only when it is durable, and applied only when it and all before it are
//!    committed.

use std::collections::VecDeque;

use ashlar_consensus::{Index, PartitionId, Term, Timestamp};
use ashlar_io::wal::{Mark, Position};

use crate::command::{Command, ENTRY_BYTES, EntryHeader, EntryKind, seal};
use crate::lsm::edit::Flushed;
use crate::overlay::{Overlay, Pending};

/// Entries kept for their buffers, once applied.
const SPARES_MAX: usize = 4;
/// Largest buffer that is kept, in bytes.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// An entry in flight.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    index: Index,
    timestamp: Timestamp,
    commands: u32,
    pub(crate) bytes: Vec<u8>,
    overlay: Overlay,
    mark: Mark,
    chain: u64,
    pub(crate) position: Position,
}

/// What is known of a key from entries in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight<'a> {
    pub(crate) pending: Pending<'a>,
    /// The entry that says so.
    pub(crate) index: Index,
}

/// The log of a replica.
#[derive(Debug)]
pub(crate) struct Replica {
    partition: PartitionId,
    term: Term,
    last: Index,
    committed: Index,
    applied: Index,
    /// Hash of the last entry and all before it.
    chain: u64,
    /// The same of the last one applied.
    applied_chain: u64,
    /// Above the timestamps of all that is applied.
    applied_timestamp: Timestamp,
    open: Option<Entry>,
    pending: VecDeque<Entry>,
    pending_bytes: usize,
    spares: Vec<Entry>,
    /// How far back readers may look, as of the entries to come.
    pub(crate) history_ms: u32,
}

impl Replica {
    pub(crate) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            term: Term(1),
            last: Index(0),
            committed: Index(0),
            applied: Index(0),
            chain: 0,
            applied_chain: 0,
            applied_timestamp: Timestamp(0),
            open: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            spares: Vec::new(),
            history_ms: 0,
        }
    }

    /// Takes a command into the open entry; returns the entry's index. `timestamp` is that of the
    /// first command, asked for only when this command opens the entry.
    pub(crate) fn propose(
        &mut self,
        hash: u64,
        command: Command<'_>,
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Index {
        if self.open.is_none() {
            self.open_entry(timestamp());
        }
        let entry = self.open.as_mut().expect("opened above");
        let offset = entry.bytes.len();
        command.encode(&mut entry.bytes);
        match command {
            Command::Put { key, .. } | Command::Delete { key } => {
                entry.overlay.note(hash, key, &entry.bytes, offset);
            }
            Command::Clear { .. } | Command::DeleteRange { .. } => {
                entry.overlay.note_clear(offset);
            }
        }
        entry.commands += 1;
        entry.index
    }

    /// Opens an entry if none is open; an entry may stay without commands.
    pub(crate) fn open_entry(&mut self, timestamp: Timestamp) -> Index {
        if let Some(entry) = &self.open {
            return entry.index;
        }
        let mut entry = self.spares.pop().unwrap_or_default();
        self.last = self.last.next();
        entry.index = self.last;
        entry.timestamp = timestamp;
        entry.commands = 0;
        entry.bytes.clear();
        entry.bytes.resize(ENTRY_BYTES, 0);
        self.open = Some(entry);
        self.last
    }

    /// Closes the open entry: returns its bytes for the log, and the timestamp of its last command.
    pub(crate) fn seal(&mut self) -> Option<(&[u8], Timestamp)> {
        let mut entry = self.open.take()?;
        let header = EntryHeader {
            partition: self.partition,
            term: self.term,
            index: entry.index,
            timestamp: entry.timestamp,
            commands: entry.commands,
            history_ms: self.history_ms,
            kind: EntryKind::Commands,
            committed: self.committed,
            chain: 0,
        };
        header.encode(&mut entry.bytes);
        self.chain = seal(&mut entry.bytes, self.chain);
        entry.chain = self.chain;
        self.pending_bytes += entry.bytes.len();
        self.pending.push_back(entry);
        let entry = self.pending.back().expect("just pushed");
        Some((
            &entry.bytes,
            entry.timestamp.plus(u64::from(entry.commands)),
        ))
    }

    /// Notes where the entry sealed last went in the log.
    pub(crate) fn persisted(&mut self, position: Position, mark: Mark) {
        let entry = self.pending.back_mut().expect("an entry was sealed");
        assert_eq!(entry.index, self.last, "entries go to the log in order");
        (entry.position, entry.mark) = (position, mark);
    }

    /// Moves the commit index over every entry that is durable.
    pub(crate) fn durable(&mut self, durable: Mark) {
        let committed = self
            .pending
            .iter()
            .take_while(|entry| entry.mark < durable)
            .last();
        if let Some(entry) = committed {
            assert!(entry.index > self.applied, "a pending entry is not applied");
            self.committed = self.committed.max(entry.index);
        }
    }

    /// Takes the next committed entry, to be applied and given back.
    pub(crate) fn next_committed(&mut self) -> Option<Entry> {
        let next = self.pending.front()?.index;
        if next > self.committed {
            return None;
        }
        assert_eq!(
            next,
            self.applied.next(),
            "entries are applied without gaps"
        );
        self.pending.pop_front()
    }

    /// Takes an applied entry back.
    pub(crate) fn applied_entry(&mut self, mut entry: Entry) {
        self.applied = entry.index;
        self.applied_chain = entry.chain;
        self.applied_timestamp = entry.timestamp.plus(u64::from(entry.commands));
        self.pending_bytes -= entry.bytes.len();
        if self.spares.len() < SPARES_MAX && entry.bytes.capacity() <= SPARE_BYTES_MAX {
            entry.overlay.clear();
            self.spares.push(entry);
        }
    }

    /// Takes in an entry that the log holds, at start.
    ///
    /// # Errors
    /// The entry does not follow the one before.
    pub(crate) fn recovered(&mut self, header: &EntryHeader) -> Result<(), String> {
        if self.last > Index(0) && header.index != self.last.next() {
            return Err(format!(
                "entry {} of partition {} follows entry {}",
                header.index, header.partition, self.last
            ));
        }
        if header.term < self.term {
            return Err(format!(
                "entry {} of partition {} goes back in term",
                header.index, header.partition
            ));
        }
        (self.last, self.committed, self.applied) = (header.index, header.index, header.index);
        self.term = header.term;
        (self.chain, self.applied_chain) = (header.chain, header.chain);
        self.applied_timestamp = header.timestamp.plus(u64::from(header.commands));
        Ok(())
    }

    /// Notes that the log begins with `first`: what is before it and not in tables yet will be in
    /// those of a later edit.
    pub(crate) fn begins_with(&mut self, first: Index) {
        if self.last < first {
            self.last = Index(first.0 - 1);
        }
    }

    /// Notes that tables hold everything up to `flushed`: what the log holds goes on behind it, or
    /// begins at or before it.
    pub(crate) fn flushed(&mut self, flushed: &Flushed) {
        let index = Index(flushed.index);
        if index > self.applied {
            (self.last, self.committed, self.applied) = (index, index, index);
            self.applied_timestamp = Timestamp(flushed.timestamp);
            self.term = Term(flushed.term);
            (self.chain, self.applied_chain) = (flushed.chain, flushed.chain);
        }
    }

    /// Returns what is applied: the last entry, its term, and a timestamp above all of it.
    pub(crate) fn state(&self) -> Flushed {
        Flushed {
            index: self.applied.0,
            term: self.term.0,
            timestamp: self.applied_timestamp.0,
            chain: self.applied_chain,
        }
    }

    /// Returns who the replicas are, encoded.
    pub(crate) fn members(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Returns the last entry in flight that has a version at or before `at`.
    pub(crate) fn pending_at(&self, at: Timestamp) -> Option<Index> {
        let in_flight = self.open.iter().chain(self.pending.iter().rev());
        in_flight
            .filter(|entry| entry.timestamp <= at)
            .map(|entry| entry.index)
            .next()
    }

    /// Returns the newest word of the entries in flight on a key.
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<InFlight<'_>> {
        if self.open.is_none() && self.pending.is_empty() {
            return None;
        }
        self.open
            .iter()
            .chain(self.pending.iter().rev())
            .find_map(|entry| match entry.overlay.find(hash, key, &entry.bytes) {
                Pending::Untouched => None,
                pending => Some(InFlight {
                    pending,
                    index: entry.index,
                }),
            })
    }

    /// Returns the last index given.
    pub(crate) fn last(&self) -> Index {
        self.last
    }

    /// Returns the index up to which all is applied.
    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    /// Returns the bytes of entries that are open or pending.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.pending_bytes + self.open.as_ref().map_or(0, |entry| entry.bytes.len())
    }

    /// Returns where in the log the oldest pending entry may begin.
    pub(crate) fn oldest_pending(&self) -> Option<Position> {
        self.pending.front().map(|entry| entry.position)
    }
}
