//! All versions of a memtable in order: keys ascending, and of each key the newest first.
//!
//! For flushes, merges and scans of the past. A reader that goes on in a later turn parks and
//! resumes: if nothing was written in between, as in a frozen memtable, it resumes where it was
//! without a search; else it seeks the key again.

use std::ops::Bound;

use super::arena::Ref;
use super::range::Ahead;
use super::run::Side;
use super::spot::Spot;
use super::{Memtable, Version};

/// Versions in order: key ascending, timestamp descending.
#[derive(Clone, Debug)]
pub struct Versions<'a> {
    memtable: &'a Memtable,
    /// Where keys not looked at begin, in two forms.
    from: Bound<&'a [u8]>,
    spot: Spot,
    /// The key looked at, and the version of it that comes next; `NONE` at its end.
    key: Ref,
    at: Ref,
    timestamp_max: u64,
    ahead: Ahead,
}

/// A place among the versions of a memtable that outlives a borrow of it.
#[derive(Clone, Debug)]
pub struct Parked {
    changes: u64,
    from: Bound<Vec<u8>>,
    spot: Spot,
    key: Ref,
    at: Ref,
    /// Timestamp of the version at `at`.
    timestamp: u64,
    timestamp_max: u64,
}

impl Memtable {
    /// Returns all versions upwards from the key `from`, tombstones included.
    ///
    /// Among them may be some that no reader at the floor or later sees.
    pub fn versions<'a>(&'a self, from: Bound<&'a [u8]>) -> Versions<'a> {
        Versions {
            memtable: self,
            from,
            spot: self.spot_of(from),
            key: Ref::NONE,
            at: Ref::NONE,
            timestamp_max: u64::MAX,
            ahead: Ahead::START,
        }
    }

    /// Returns the versions from where a reader of this memtable has parked.
    ///
    /// Keys and versions written since then are read if they come behind that place.
    pub fn resume<'a>(&'a self, parked: &'a Parked) -> Versions<'a> {
        let from = match &parked.from {
            Bound::Included(key) => Bound::Included(key.as_slice()),
            Bound::Excluded(key) => Bound::Excluded(key.as_slice()),
            Bound::Unbounded => Bound::Unbounded,
        };
        if parked.changes == self.changes {
            let in_key = parked.at.is_some();
            return Versions {
                memtable: self,
                from: if in_key {
                    Bound::Excluded(self.arena.key(parked.key))
                } else {
                    from
                },
                spot: parked.spot,
                key: parked.key,
                at: parked.at,
                timestamp_max: parked.timestamp_max,
                ahead: Ahead::START,
            };
        }
        let versions = self.versions(from).seen_at(parked.timestamp_max);
        if parked.at.is_some() {
            versions.within_key(parked.timestamp)
        } else {
            versions
        }
    }

    pub(super) fn spot_of(&self, from: Bound<&[u8]>) -> Spot {
        match from {
            Bound::Included(key) => self.tree.seek(&self.arena, key, Side::Before),
            Bound::Excluded(key) => self.tree.seek(&self.arena, key, Side::After),
            Bound::Unbounded => self.tree.start(),
        }
    }
}

impl Versions<'_> {
    /// Leaves out the versions whose timestamp is above `timestamp`.
    #[must_use]
    pub fn seen_at(self, timestamp: u64) -> Self {
        Self {
            timestamp_max: timestamp,
            ..self
        }
    }

    /// Returns the place of the next version, for [`Memtable::resume`].
    #[must_use]
    pub fn park(self) -> Parked {
        let arena = &self.memtable.arena;
        let in_key = self.at.is_some();
        let from = if in_key {
            Bound::Included(arena.key(self.key))
        } else {
            self.from
        };
        Parked {
            changes: self.memtable.changes,
            from: from.map(<[u8]>::to_vec),
            spot: self.spot,
            key: self.key,
            at: self.at,
            timestamp: if in_key {
                arena.timestamp(self.key, self.at)
            } else {
                0
            },
            timestamp_max: self.timestamp_max,
        }
    }

    /// Goes on in the key of the lower bound, at `timestamp` or below; behind it, if it is gone.
    fn within_key(mut self, timestamp: u64) -> Self {
        let Bound::Included(parked) = self.from else {
            return self;
        };
        let arena = &self.memtable.arena;
        let mut after = self.spot;
        if let Some(key) = self.memtable.tree.next(&mut after)
            && arena.key(key) == parked
        {
            self.key = key;
            self.at = arena.seen_at(key, timestamp.min(self.timestamp_max));
            self.spot = after;
            self.from = Bound::Excluded(arena.key(key));
        }
        self
    }

    /// Goes to the next key; `None` at the end.
    fn next_key(&mut self) -> Option<()> {
        let spot = self.spot;
        self.ahead.step(self.memtable, |tree, count| {
            let after = tree.around(spot).1;
            &after[..after.len().min(count)]
        });
        self.key = self.memtable.tree.next(&mut self.spot)?;
        self.at = self.memtable.arena.seen_at(self.key, self.timestamp_max);
        self.from = Bound::Excluded(self.memtable.arena.key(self.key));
        Some(())
    }
}

impl<'a> Iterator for Versions<'a> {
    type Item = (&'a [u8], Version<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.at.is_some() {
            self.next_key()?;
        }
        let arena = &self.memtable.arena;
        let version = arena.version(self.key, self.at);
        self.at = arena.previous(self.key, self.at);
        Some((arena.key(self.key), version))
    }
}
