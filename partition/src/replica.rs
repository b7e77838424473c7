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
//! 3. No entry is stamped below the end of the one before it: newer versions of a key are in later entries.

mod in_flight;
mod recovered;

use std::collections::VecDeque;

use ashlar_consensus::message::EntryMeta;
use ashlar_consensus::raft::Role;
use ashlar_consensus::{Chain, Index, LogPosition, PartitionId, Term, Timestamp};
use ashlar_io::wal::{Mark, Position, Wal};

use crate::command::{
    Command, ENTRY_BYTES, EntryHeader, EntryKind, chain_of, commands_before, members_of, seal,
};
use crate::group::Group;
use crate::lsm::edit::Flushed;
use crate::overlay::{Overlay, Pending};
use crate::planted::{Planted, is_planted};

pub use self::in_flight::Savepoint;
use self::in_flight::Touched;

/// Entries kept for their buffers, once applied.
const SPARES_MAX: usize = 4;
/// Largest buffer that is kept, in bytes.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// An entry in flight.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) index: Index,
    term: Term,
    kind: EntryKind,
    timestamp: Timestamp,
    commands: u32,
    pub(crate) bytes: Vec<u8>,
    overlay: Overlay,
    touched: Touched,
    pub(crate) mark: Mark,
    chain: u64,
    pub(crate) position: Position,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            index: Index(0),
            term: Term(0),
            kind: EntryKind::Commands,
            timestamp: Timestamp(0),
            commands: 0,
            bytes: Vec::new(),
            overlay: Overlay::default(),
            touched: Touched::default(),
            mark: Mark(0),
            chain: 0,
            position: Position(0),
        }
    }
}

impl Entry {
    /// Returns a timestamp above those of all its commands.
    fn end(&self) -> Timestamp {
        self.timestamp.plus(u64::from(self.commands))
    }

    /// Returns an entry that was read back from the log; it is not pending any more.
    pub(crate) fn read_back(header: &EntryHeader, bytes: Vec<u8>) -> Self {
        Self {
            index: header.index,
            term: header.term,
            kind: header.kind,
            chain: header.chain,
            bytes,
            ..Self::default()
        }
    }

    /// Returns what the consensus core knows of it.
    pub(crate) fn meta(&self) -> EntryMeta {
        EntryMeta {
            term: self.term,
            bytes: u32::try_from(self.bytes.len()).expect("an entry is below 4 GiB"),
            chain: Chain(self.chain),
            kind: self.kind,
        }
    }
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
    pub(crate) partition: PartitionId,
    /// That of the next entry proposed here.
    pub(crate) term: Term,
    last: Index,
    committed: Index,
    applied: Index,
    /// Hash of the last entry and all before it.
    chain: u64,
    /// Whether that is known: at a start the log may begin behind what the checkpoint knows of.
    chain_is_known: bool,
    /// The same of the last one applied.
    applied_chain: u64,
    applied_term: Term,
    /// Above the timestamps of all that is applied.
    applied_timestamp: Timestamp,
    open: Option<Entry>,
    pub(crate) pending: VecDeque<Entry>,
    pending_bytes: usize,
    spares: Vec<Entry>,
    /// How far back readers may look, as of the entries to come.
    pub(crate) history_ms: u32,
    /// Who the replicas are, as of what is applied, encoded.
    members: Vec<u8>,
    /// What is to be agreed on with others; `None` for a replica that is alone.
    pub(crate) group: Option<Box<Group>>,
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
            chain_is_known: true,
            applied_chain: 0,
            applied_term: Term(0),
            applied_timestamp: Timestamp(0),
            open: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            spares: Vec::new(),
            history_ms: 0,
            members: Vec::new(),
            group: None,
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
        entry.touched.add(&command);
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
        entry.kind = EntryKind::Commands;
        entry.timestamp = timestamp;
        entry.commands = 0;
        entry.touched = Touched::default();
        entry.bytes.clear();
        entry.bytes.resize(ENTRY_BYTES, 0);
        self.open = Some(entry);
        self.last
    }

    /// Closes the open entry: returns its bytes for the log, and the timestamp of its last command.
    pub(crate) fn seal(&mut self) -> Option<(&[u8], Timestamp)> {
        if !self.leads() {
            self.drop_open();
        }
        let entry = self.open.take()?;
        Some(self.push_sealed(entry))
    }

    /// Makes an entry of no commands, which is pending then. It is given to the log by
    /// [`Replica::write_last`].
    pub(crate) fn seal_own(&mut self, kind: EntryKind, body: &[u8], timestamp: Timestamp) {
        assert!(
            self.open.is_none(),
            "the core's own entries come behind those of the turn"
        );
        self.open_entry(timestamp);
        let mut entry = self.open.take().expect("just opened");
        entry.kind = kind;
        entry.bytes.extend_from_slice(body);
        self.push_sealed(entry);
    }

    /// Returns a timestamp above those of all that is applied.
    pub(crate) fn applied_timestamp(&self) -> Timestamp {
        self.applied_timestamp
    }

    /// Says whether an entry is yet to be applied.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.open.is_some() || !self.pending.is_empty()
    }

    /// Returns a timestamp above all that the log holds, as far as it is known here.
    fn end_of_last(&self) -> Timestamp {
        let last = self.pending.back();
        last.map_or(self.applied_timestamp, Entry::end)
    }

    fn push_sealed(&mut self, mut entry: Entry) -> (&[u8], Timestamp) {
        assert!(
            entry.timestamp >= self.end_of_last(),
            "entry {} of partition {} is stamped below the one before it",
            entry.index,
            self.partition
        );
        entry.term = self.term;
        let header = EntryHeader {
            partition: self.partition,
            term: self.term,
            index: entry.index,
            timestamp: entry.timestamp,
            commands: entry.commands,
            history_ms: self.history_ms,
            kind: entry.kind,
            committed: self.committed,
            chain: 0,
        };
        header.encode(&mut entry.bytes);
        self.chain = seal(&mut entry.bytes, self.chain);
        entry.chain = self.chain;
        self.pending_bytes += entry.bytes.len();
        self.pending.push_back(entry);
        let entry = self.pending.back().expect("just pushed");
        (&entry.bytes, entry.end())
    }

    /// Takes an entry of the leader over; it is given to the log by [`Replica::write_last`].
    pub(crate) fn take_over(&mut self, header: &EntryHeader, bytes: &[u8]) {
        assert_eq!(header.index, self.last.next(), "entries come without gaps");
        let mut entry = self.spares.pop().unwrap_or_default();
        (entry.index, entry.term) = (header.index, header.term);
        (entry.kind, entry.chain) = (header.kind, header.chain);
        (entry.timestamp, entry.commands) = (header.timestamp, header.commands);
        entry.touched = Touched::default();
        entry.bytes.clear();
        entry.bytes.extend_from_slice(bytes);
        (self.last, self.chain) = (header.index, header.chain);
        self.pending_bytes += entry.bytes.len();
        self.pending.push_back(entry);
    }

    /// Gives the last entry to the log.
    pub(crate) fn write_last(&mut self, wal: &mut Wal) {
        let position = wal.position();
        let entry = self.pending.back_mut().expect("an entry was made");
        entry.mark = wal.append(&[&entry.bytes]);
        entry.position = position;
    }

    /// Drops the entries above `last`, which another leader has not got.
    pub(crate) fn truncate(&mut self, last: Index) {
        assert!(last >= self.applied, "what is applied is never taken back");
        self.open = None;
        while let Some(entry) = self.pending.back().filter(|entry| entry.index > last) {
            self.pending_bytes -= entry.bytes.len();
            self.pending.pop_back();
        }
        self.last = last;
        self.chain = self
            .pending
            .back()
            .map_or(self.applied_chain, |entry| entry.chain);
    }

    /// Says whether this replica leads.
    fn leads(&self) -> bool {
        let group = self.group.as_ref();
        group.is_none_or(|group| group.raft.role() == Role::Leader)
    }

    /// Drops the entry that is open: this replica does not lead any more.
    fn drop_open(&mut self) {
        if self.open.take().is_some() {
            self.last = Index(self.last.0 - 1);
        }
    }

    /// Notes where the entry sealed last went in the log.
    pub(crate) fn persisted(&mut self, position: Position, mark: Mark) {
        let entry = self.pending.back_mut().expect("an entry was sealed");
        assert_eq!(entry.index, self.last, "entries go to the log in order");
        (entry.position, entry.mark) = (position, mark);
    }

    /// Moves the commit index over every entry that is durable.
    pub(crate) fn durable(&mut self, durable: Mark) {
        let agreed = self.group.as_ref().map(|group| group.raft.committed());
        let early = is_planted(Planted::AppliesBeforeDurable);
        let committed = self
            .pending
            .iter()
            .take_while(|entry| {
                (early || entry.mark < durable) && agreed.is_none_or(|agreed| entry.index <= agreed)
            })
            .last();
        if let Some(entry) = committed {
            assert!(entry.index > self.applied, "a pending entry is not applied");
            self.committed = self.committed.max(entry.index);
        }
    }

    /// Says whether an entry is open, which commands still join.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns the newest entry in flight and its first timestamp, if there are commands in it.
    pub(crate) fn newest(&self) -> Option<(Index, Timestamp)> {
        let newest = self.pending.back().filter(|entry| entry.commands > 0)?;
        Some((newest.index, newest.timestamp))
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
        (self.applied_term, self.applied_chain) = (entry.term, entry.chain);
        self.applied_timestamp = entry.end();
        self.pending_bytes -= entry.bytes.len();
        if entry.kind == EntryKind::Membership {
            self.members = entry.bytes[ENTRY_BYTES..].to_vec();
        }
        entry.overlay.clear();
        if let Some(group) = &mut self.group {
            group.raft.applied(entry.index);
            match group.keep(entry) {
                Some(gone) => entry = gone,
                None => return,
            }
        }
        if self.spares.len() < SPARES_MAX && entry.bytes.capacity() <= SPARE_BYTES_MAX {
            self.spares.push(entry);
        }
    }

    /// Returns what is applied: the last entry, its term, and a timestamp above all of it.
    pub(crate) fn state(&self) -> Flushed {
        Flushed {
            index: self.applied.0,
            term: self.applied_term.0,
            timestamp: self.applied_timestamp.0,
            chain: self.applied_chain,
        }
    }

    /// Returns who the replicas are, encoded.
    pub(crate) fn members(&self) -> Vec<u8> {
        self.members.clone()
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

    /// Returns the newest word of the entries in flight on a key, and the timestamp of the command that says so; 0 when
    /// that is a deletion of many keys.
    pub(crate) fn find_stamped(&self, hash: u64, key: &[u8]) -> Option<(Timestamp, InFlight<'_>)> {
        let found = self.find(hash, key)?;
        let mut in_flight = self.open.iter().chain(self.pending.iter().rev());
        let entry = in_flight.find(|entry| entry.index == found.index)?;
        let offset = entry.overlay.offset_of(hash, key, &entry.bytes);
        let timestamp = offset.map_or(Timestamp(0), |offset| {
            entry.timestamp.plus(commands_before(&entry.bytes, offset))
        });
        Some((timestamp, found))
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

    /// Returns the bytes of applied entries that are kept for others.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.group.as_ref().map_or(0, |group| group.kept_bytes())
    }

    /// Returns where in the log the oldest pending entry may begin.
    pub(crate) fn oldest_pending(&self) -> Option<Position> {
        self.pending.front().map(|entry| entry.position)
    }
}
