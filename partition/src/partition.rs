//! One partition on its shard: its memtable, its log of entries, and what may still be admitted.

use ashlar_consensus::{Clock, Index, PartitionId, Timestamp};
use ashlar_io::wal::{Mark, Position, Wal};

use crate::apply::apply;
use crate::cleaning::Cleaning;
use crate::command::EntryHeader;
use crate::key::KeyRange;
use crate::memtable::Memtable;
use crate::replica::Replica;

/// What the shard can still take in this turn. Set anew each turn; requests use it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Bytes that the memory budget has left; below zero, requests that grow the partition are
    /// refused.
    pub memory_left: i64,
    /// The log has room.
    pub log: LogRoom,
    /// Most bytes of a value.
    pub value_bytes_max: usize,
}

/// Whether the log takes writes in this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRoom {
    /// All.
    Open,
    /// Deletions only: the disk is full, and what room is left is kept for them.
    Deletes,
    /// None.
    Full,
}

/// A partition on its shard.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    range: KeyRange,
    pub(crate) memtable: Memtable,
    pub(crate) replica: Replica,
    pub(crate) cleaning: Cleaning,
    /// What may be admitted; the shard sets it.
    pub admission: Admission,
}

impl Partition {
    /// Makes an empty partition whose hash table depends on `seed`.
    #[must_use]
    pub fn new(id: PartitionId, range: KeyRange, seed: u64) -> Self {
        Self {
            id,
            range,
            memtable: Memtable::new(seed),
            replica: Replica::new(id),
            cleaning: Cleaning::default(),
            admission: Admission {
                memory_left: i64::MAX,
                log: LogRoom::Open,
                value_bytes_max: usize::MAX,
            },
        }
    }

    /// Returns which partition this is.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Returns its keys.
    #[must_use]
    pub fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Returns its content, as applied.
    #[must_use]
    pub fn memtable(&self) -> &Memtable {
        &self.memtable
    }

    /// Takes in an entry that the log holds, at start: the same apply as ever. `position` is one at
    /// or before which the record begins; `clock` is moved above the entry's timestamps.
    ///
    /// # Errors
    /// The bytes are not the entry that follows; a sentence says why.
    pub fn recover(&mut self, entry: &[u8], clock: &mut Clock) -> Result<(), String> {
        let header = EntryHeader::decode(entry).map_err(|malformed| malformed.to_string())?;
        if header.partition != self.id {
            return Err(format!(
                "entry {} is of partition {}, not {}",
                header.index, header.partition, self.id
            ));
        }
        self.replica.recovered(&header)?;
        apply(&mut self.memtable, entry).map_err(|malformed| malformed.to_string())?;
        clock.observe(header.timestamp.plus(u64::from(header.commands)));
        Ok(())
    }

    /// Notes where the log begins, once it is recovered: all of it is needed, for this partition
    /// may have written there.
    pub fn recovered(&mut self, start: Position) {
        self.cleaning.pinned = start;
    }

    /// Ends the turn: gives the open entry to the log. Says whether there was one.
    pub fn drain(&mut self, wal: &mut Wal, clock: &mut Clock) -> bool {
        let Some((bytes, last)) = self.replica.seal() else {
            return false;
        };
        clock.observe(last);
        let position = wal.position();
        let mark = wal.append(&[bytes]);
        self.replica.persisted(position, mark);
        true
    }

    /// Applies what the log has made durable; returns the applied index if it moved.
    ///
    /// # Panics
    /// When an entry that this very process encoded cannot be decoded: memory is damaged.
    pub fn settle(&mut self, durable: Mark) -> Option<Index> {
        self.replica.durable(durable);
        let before = self.replica.applied();
        while let Some(entry) = self.replica.next_committed() {
            apply(&mut self.memtable, &entry.bytes).expect("an entry of our own is well formed");
            self.replica.applied_entry(entry);
        }
        let applied = self.replica.applied();
        if applied > before {
            Some(applied)
        } else {
            None
        }
    }

    /// Returns the index up to which all is applied: an answer that waits for an index may leave
    /// once it is reached.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.replica.applied()
    }

    /// Returns the last index given to an entry.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.replica.last()
    }

    /// Returns the bytes proposed and not yet applied.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.replica.in_flight_bytes()
    }

    /// Returns the bytes of memory that the content takes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.memtable.used_bytes() + self.replica.in_flight_bytes() as u64
    }

    /// Opens an entry without commands, which carries index and clock to a log that is cleaned.
    pub(crate) fn open_entry(&mut self, timestamp: Timestamp) -> Index {
        self.replica.open_entry(timestamp)
    }
}
