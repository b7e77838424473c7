//! One partition on its shard: its memtable, its tables, its log of entries, and what may still be
//! admitted.

use std::rc::Rc;

use ashlar_consensus::{Clock, Index, PartitionId, Timestamp};
use ashlar_io::wal::{Mark, Position, Wal};

use crate::apply::{Applied, apply};
use crate::key::KeyRange;
use crate::lsm::Ground;
use crate::lsm::ranges::Ranges;
use crate::lsm::tree::Tree;
use crate::memtable::{Beneath, Memtable};
use crate::read::Want;
use crate::replica::Replica;
use crate::sweep::Sweep;

/// What the shard can still take in this turn. Set anew each turn; requests use it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whether memory takes what makes the partition larger.
    pub pressure: Pressure,
    /// The log has room.
    pub log: LogRoom,
    /// Most bytes of a value.
    pub value_bytes_max: usize,
}

/// Whether the memtables take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// They do.
    Open,
    /// They are full and tables do not take their content fast enough: what makes the partition larger is refused.
    Full,
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
    pub(crate) id: PartitionId,
    pub(crate) range: KeyRange,
    /// What was applied since the last freeze.
    pub(crate) memtable: Memtable,
    /// Where in the log the oldest entry of the memtable may begin.
    pub(crate) memtable_begin: Option<Position>,
    /// Frozen memtables, and tables; `None` when all is to stay in memory.
    pub(crate) tree: Option<Tree>,
    /// Range deletions that tables or memtables may still hold keys of.
    pub(crate) ranges: Ranges,
    /// Timestamp beneath which versions may be gone: readers of the past are refused.
    pub(crate) low_water: u64,
    pub(crate) replica: Replica,
    /// What a command could not be served without, while it is run.
    pub(crate) wants: Vec<Want>,
    /// What is known of collections that are gone.
    pub(crate) sweep: Sweep,
    /// Why nothing is served: its files are damaged.
    pub(crate) damage: Option<Rc<str>>,
    /// Its files are not to blame: other ones would not help.
    pub(crate) is_beyond_repair: bool,
    /// What may be admitted; the shard sets it.
    pub admission: Admission,
}

impl Partition {
    /// Makes an empty partition that stays in memory, whose hash table depends on `seed`.
    #[must_use]
    pub fn new(id: PartitionId, range: KeyRange, seed: u64) -> Self {
        Self {
            id,
            range,
            memtable: Memtable::new(seed),
            memtable_begin: None,
            tree: None,
            ranges: Ranges::default(),
            low_water: 0,
            replica: Replica::new(id),
            wants: Vec::new(),
            sweep: Sweep::default(),
            damage: None,
            is_beyond_repair: false,
            admission: Admission {
                pressure: Pressure::Open,
                log: LogRoom::Open,
                value_bytes_max: usize::MAX,
            },
        }
    }

    /// Makes an empty partition that has tables.
    #[must_use]
    pub fn on_ground(id: PartitionId, range: KeyRange, seed: u64, ground: &Ground) -> Self {
        Self {
            memtable: Memtable::with_pool(seed, &ground.chunks),
            tree: Some(Tree::new(id, ground)),
            ..Self::new(id, range, seed)
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

    /// Returns what was applied since the last freeze.
    #[must_use]
    pub fn memtable(&self) -> &Memtable {
        &self.memtable
    }

    /// Sets how far back readers may look, as of the entries to come.
    pub fn keep_history(&mut self, history_ms: u32) {
        self.replica.history_ms = history_ms;
    }

    /// Returns the timestamp beneath which nobody can read.
    #[must_use]
    pub fn low_water(&self) -> Timestamp {
        Timestamp(self.low_water)
    }

    /// Says why nothing is served, if that is so.
    #[must_use]
    pub fn damage(&self) -> Option<&Rc<str>> {
        self.damage.as_ref()
    }

    /// Stops serving for good: what the replicas have agreed on is in doubt, as `what` says.
    pub fn give_up(&mut self, what: &str) {
        self.is_beyond_repair = true;
        self.quarantine(what);
    }

    /// Says whether files of another replica would help.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.damage.is_some() && !self.is_beyond_repair
    }

    /// Stops serving: a file is damaged, as `what` says.
    pub fn quarantine(&mut self, what: &str) {
        if self.damage.is_none() {
            tracing::error!(
                "partition {} is damaged and no longer served: {what}",
                self.id
            );
            self.damage = Some(what.into());
        }
    }

    /// Ends the turn: gives the open entry, and the edits of what tasks have done, to the log. Says
    /// whether there was anything.
    pub fn drain(&mut self, wal: &mut Wal, clock: &mut Clock) -> bool {
        let edits = self.tree.as_mut().is_some_and(|tree| tree.drain(wal));
        let Some((bytes, last)) = self.replica.seal() else {
            return edits;
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
        self.publish(durable);
        self.replica.durable(durable);
        let before = self.replica.applied();
        let beneath = self.beneath();
        self.apply_committed(beneath)
            .expect("an entry of our own is well formed");
        let applied = self.replica.applied();
        (applied > before).then_some(applied)
    }

    /// Applies what is committed.
    ///
    /// # Errors
    /// An entry cannot be read; a sentence says why.
    pub(crate) fn apply_committed(&mut self, beneath: Beneath) -> Result<(), String> {
        while let Some(entry) = self.replica.next_committed() {
            self.apply_entry(&entry.bytes, entry.position, beneath)
                .map_err(|malformed| malformed.to_string())?;
            self.replica.applied_entry(entry);
        }
        Ok(())
    }

    /// Applies an entry that begins at `position` or later.
    pub(crate) fn apply_entry(
        &mut self,
        entry: &[u8],
        position: Position,
        beneath: Beneath,
    ) -> Result<(), crate::command::Malformed> {
        self.memtable_begin.get_or_insert(position);
        let mut applied = Applied {
            memtable: &mut self.memtable,
            ranges: &mut self.ranges,
            low_water: &mut self.low_water,
            beneath,
        };
        apply(&mut applied, entry).map(drop)
    }

    /// Says what a deletion must leave a trace for.
    fn beneath(&self) -> Beneath {
        match &self.tree {
            Some(tree) if !tree.is_empty() => Beneath::Tables,
            Some(_) | None => Beneath::Nothing,
        }
    }

    /// Returns the index up to which all is applied: an answer that waits for an index may leave
    /// once it is reached.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.replica.applied()
    }

    /// Returns a timestamp above those of all that is applied.
    #[must_use]
    pub fn applied_timestamp(&self) -> Timestamp {
        Timestamp(self.replica.state().timestamp)
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

    /// Returns the bytes of memory that the memtables take, frozen ones included, and the entries
    /// in flight.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let frozen = self.tree.as_ref().map_or(0, Tree::frozen_bytes);
        let entries = self.replica.in_flight_bytes() + self.replica.kept_bytes();
        self.memtable.used_bytes() + frozen + entries as u64
    }
}
