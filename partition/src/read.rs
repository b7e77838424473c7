//! Reads of one key, newest source first: memtable, frozen memtables, runs of tables. What lies in
//! entries in flight is looked at before, by `serve`.
//!
//! Invariant: nothing here waits. What is not in memory is named as a [`Want`].

use std::rc::Rc;

use ashlar_consensus::{Index, Timestamp};

use crate::lsm::cache::Block;
use crate::lsm::table::Hit;
use crate::lsm::{Miss, Value, ValueRef};
use crate::memtable::{Kind, Version};
use crate::partition::Partition;
use crate::planted::{Planted, is_planted};
use crate::request::Refusal;

/// What must be brought into memory before a request can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A block of a table, to find one key.
    Block(Miss),
    /// A block of a table, to walk over its keys.
    Walked(Miss),
    /// An entry of this partition.
    Applied(Index),
    /// A separated value.
    Value {
        /// The partition.
        partition: u32,
        /// The value.
        value: ValueRef,
    },
}

/// Keeps what a lookup has found in memory for as long as it is looked at.
#[derive(Debug, Default)]
pub struct Held {
    hit: Option<Hit>,
    value: Option<Rc<Block>>,
}

impl Partition {
    /// Returns the version of `key` that a reader at `at` sees, tombstones and expired ones left to
    /// the caller; `None` when there is none, or a range deletion hides it.
    ///
    /// # Errors
    /// [`Want`]: it lies in a block that is not in memory.
    pub(crate) fn find<'a>(
        &'a self,
        hash: u64,
        key: &[u8],
        at: u64,
        held: &'a mut Held,
    ) -> Result<Option<Version<'a>>, Want> {
        let hidden = self.ranges.newest_over(key, at);
        let hidden = hidden.filter(|_| !is_planted(Planted::IgnoresRangeDeletions));
        let visible =
            |version: &Version<'_>| hidden.is_none_or(|hidden| version.timestamp > hidden);
        if let Some(version) = self.memtable.as_of(hash, key, at) {
            return Ok(Some(version).filter(visible));
        }
        let Some(tree) = &self.tree else {
            return Ok(None);
        };
        if let Some(version) = tree.find_frozen(hash, key, at) {
            return Ok(Some(version).filter(visible));
        }
        let Some(hit) = tree
            .find(key, at, hidden.unwrap_or(0))
            .map_err(Want::Block)?
        else {
            return Ok(None);
        };
        let hit = held.hit.insert(hit);
        let found = hit.entry();
        let value = match found.value {
            _ if hidden.is_some_and(|hidden| found.timestamp <= hidden) => return Ok(None),
            Value::Inline(value) => value,
            Value::Separate(value) => {
                let block = tree.store().find_value(self.id.0, &value);
                let block = block.ok_or(Want::Value {
                    partition: self.id.0,
                    value,
                })?;
                held.value.insert(block).bytes()
            }
        };
        Ok(Some(Version {
            timestamp: found.timestamp,
            kind: found.kind,
            expire_at_ms: found.expire_at_ms,
            value,
        }))
    }

    /// Gives `answer` the value of `key` as a reader at `at` sees it. The caller has seen to it that
    /// no later write has an earlier timestamp.
    ///
    /// # Errors
    /// [`Refusal`]: nothing is told of that time, or something must be brought into memory or be
    /// applied first ([`Partition::take_wants`]).
    pub fn read_at<A>(
        &mut self,
        key: &[u8],
        at: Timestamp,
        held: &mut Held,
        answer: impl FnOnce(Option<&[u8]>) -> A,
    ) -> Result<A, Refusal> {
        if self.damage.is_some() {
            return Err(Refusal::Damaged(self.id.0));
        }
        if at.0 < self.low_water {
            return Err(Refusal::TooOld);
        }
        if let Some(index) = self.pending_at(at) {
            return Err(self.note(Want::Applied(index)));
        }
        let (hash, at_ms) = (self.memtable.hash(key), at.micros() / 1000);
        match self.find(hash, key, at.0, held) {
            Ok(Some(version)) if version.kind == Kind::Root => Err(Refusal::WrongType),
            Ok(version) => {
                let there = version
                    .filter(|v| v.kind.is_there() && v.expire_at_ms.is_none_or(|end| end > at_ms));
                Ok(answer(there.map(|version| version.value)))
            }
            Err(want) => Err(self.note(want)),
        }
    }

    /// Returns the entry that must be applied before all is applied that a reader at `at` sees.
    #[must_use]
    pub fn pending_at(&self, at: Timestamp) -> Option<Index> {
        self.replica.pending_at(at)
    }

    /// Says whether a want is still one. The file may have been merged into others, and removed,
    /// since the want was told: then the command is to be run anew without it.
    #[must_use]
    pub fn still_wants(&self, want: &Want) -> bool {
        let number = match want {
            Want::Applied(_) => return false,
            Want::Block(miss) | Want::Walked(miss) => miss.file.number,
            Want::Value { value, .. } => value.number,
        };
        self.tree.as_ref().is_some_and(|tree| tree.has_file(number))
    }

    /// Returns what must be brought into memory before the newest version of `key` is known, if
    /// anything must.
    #[must_use]
    pub fn probe(&self, key: &[u8]) -> Option<Want> {
        self.tree.as_ref().filter(|tree| tree.has_tables())?;
        let hash = self.memtable.hash(key);
        if self.replica.find(hash, key).is_some() {
            return None;
        }
        self.find(hash, key, u64::MAX, &mut Held::default()).err()
    }
}
