//! Ordered reads of a memtable, upwards and downwards.
//!
//! A range borrows the memtable, so it cannot be kept across a write; a longer scan begins anew at
//! the key it has come to.

use super::arena::Ref;
use super::spot::Spot;
use super::tree::Tree;
use super::{Memtable, Version};
use std::ops::Bound;

/// Records touched at once when a range has gone on for a while.
const AHEAD_MAX: usize = 16;

/// How far records were touched ahead of where they are read.
///
/// Neighbours in key order lie anywhere in the arena, so each would be a cache miss of its own to
/// wait for; touched together, they are waited for once. It begins with one record, as many ranges
/// end early, and doubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    count: usize,
    left: usize,
}

impl Ahead {
    /// Of a range that begins.
    pub(super) const START: Self = Self { count: 1, left: 1 };

    /// Goes on by one key; touches the next ones of those that `upcoming` returns, at most its
    /// second argument, when all touched before have been read.
    #[inline]
    pub(super) fn step<'a>(
        &mut self,
        memtable: &'a Memtable,
        upcoming: impl FnOnce(&'a Tree, usize) -> &'a [Ref],
    ) {
        if self.left == 0 {
            self.count = AHEAD_MAX.min(self.count * 2);
            let upcoming = upcoming(&memtable.tree, self.count);
            memtable.arena.touch(upcoming);
            self.left = upcoming.len().max(1);
        }
        self.left -= 1;
    }
}

/// Keys in ascending order, each with one of its versions.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    memtable: &'a Memtable,
    spot: Spot,
    timestamp: u64,
    ahead: Ahead,
}

/// Keys in descending order, each with one of its versions.
#[derive(Clone, Debug)]
pub struct RangeRev<'a> {
    memtable: &'a Memtable,
    spot: Spot,
    timestamp: u64,
    ahead: Ahead,
}

impl Memtable {
    /// Returns the keys upwards from `from`, with their newest versions, tombstones included.
    pub fn range(&self, from: Bound<&[u8]>) -> Range<'_> {
        Range {
            memtable: self,
            spot: self.spot_of(from),
            timestamp: u64::MAX,
            ahead: Ahead::START,
        }
    }

    /// Returns the keys downwards from `from`, with their newest versions, tombstones included.
    pub fn range_rev(&self, from: Bound<&[u8]>) -> RangeRev<'_> {
        RangeRev {
            memtable: self,
            spot: self.spot_below(from),
            timestamp: u64::MAX,
            ahead: Ahead::START,
        }
    }

    /// Returns the lowest key, be its newest version a tombstone or not.
    pub fn first_key(&self) -> Option<&[u8]> {
        self.tree
            .next(&mut self.tree.start())
            .map(|key| self.arena.key(key))
    }

    /// Returns the highest key, be its newest version a tombstone or not.
    pub fn last_key(&self) -> Option<&[u8]> {
        self.tree
            .previous(&mut self.tree.end())
            .map(|key| self.arena.key(key))
    }
}

impl Range<'_> {
    /// Takes of each key the newest version whose timestamp is `timestamp` or less, and leaves out
    /// keys that have none.
    #[must_use]
    pub fn seen_at(self, timestamp: u64) -> Self {
        Self { timestamp, ..self }
    }
}

impl RangeRev<'_> {
    /// Takes of each key the newest version whose timestamp is `timestamp` or less, and leaves out
    /// keys that have none.
    #[must_use]
    pub fn seen_at(self, timestamp: u64) -> Self {
        Self { timestamp, ..self }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], Version<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let spot = self.spot;
            self.ahead.step(self.memtable, |tree, count| {
                let after = tree.around(spot).1;
                &after[..after.len().min(count)]
            });
            let key = self.memtable.tree.next(&mut self.spot)?;
            if let Some(version) = self.memtable.arena.version_as_of(key, self.timestamp) {
                return Some((self.memtable.arena.key(key), version));
            }
        }
    }
}

impl<'a> Iterator for RangeRev<'a> {
    type Item = (&'a [u8], Version<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let spot = self.spot;
            self.ahead.step(self.memtable, |tree, count| {
                let before = tree.around(spot).0;
                &before[before.len().saturating_sub(count)..]
            });
            let key = self.memtable.tree.previous(&mut self.spot)?;
            if let Some(version) = self.memtable.arena.version_as_of(key, self.timestamp) {
                return Some((self.memtable.arena.key(key), version));
            }
        }
    }
}
