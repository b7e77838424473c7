//! Memtable: the versions of a partition's keys that are in memory, in key order.
//!
//! Keys are opaque bytes whose first byte is the database number. Each key has a chain of versions,
//! newest first; the caller says with every write which timestamps are still read (`floor`), and
//! what nobody can see any more is freed at once. It belongs to one thread, reads no clock and does
//! no IO; expiry is recorded and ordered here but judged by the caller.
//!
//! ```text
//! hash of a key -> Index --+
//!                          +--> key record -> newest version -> older -> ... (Arena)
//! order of keys -> Tree  --+
//! expire_at_ms  -> expiries (newest versions only)
//! ```
//!
//! Invariants:
//! 1. Index and tree hold the same key records, each with at least one version.
//! 2. Timestamps descend strictly along a chain.
//! 3. `expiries` and `counts` describe the newest version of each key.
//! 4. At most one version of a key is at or below the last floor given for that key, and it is no
//!    tombstone if nothing is beneath; a long chain may have more of them, see `ladder`.

mod arena;
mod chain;
mod chunks;
mod clear;
mod index;
mod ladder;
mod node;
mod pool;
pub(crate) mod range;
mod record;
mod renew;
mod run;
mod spot;
mod tree;
mod versions;
mod walk;

#[cfg(test)]
mod tests;

pub use chunks::ChunkPool;
pub use versions::{Parked, Versions};

use arena::{Arena, Ref};
use index::Index;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use tree::Tree;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes an entry of `expiries` takes, with its share of the tree it is in.
const EXPIRY_ENTRY_BYTES: u64 = 32;
/// Bytes that a memtable keeps of its own, while it has no pool to share.
const OWN_FREE_BYTES_MAX: u64 = 0;
/// Hashes that are warmed at once: about as many reads as a core keeps in flight.
const WARM_HASHES: usize = 16;
/// Bytes of a memtable that the cache of a core holds beside all else: to warm it costs more than it brings.
const NEAR_BYTES: u64 = 512 << 10;

/// What a version says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The key has the version's value.
    Put,
    /// The key is a collection, of which the value is the root ([`crate::collection`]).
    Root,
    /// The key does not exist.
    Tombstone,
}

impl Kind {
    /// Says whether the key is there.
    #[must_use]
    pub const fn is_there(self) -> bool {
        matches!(self, Self::Put | Self::Root)
    }
}

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// When the version was committed.
    pub timestamp: u64,
    /// Whether the key was set or deleted.
    pub kind: Kind,
    /// When the key ceases to exist, in milliseconds since 1970; `None` for never.
    pub expire_at_ms: Option<u64>,
    /// The value; empty for a tombstone.
    pub value: &'a [u8],
}

impl<'a> Version<'a> {
    /// Returns a version that sets the key.
    pub const fn put(timestamp: u64, expire_at_ms: Option<u64>, value: &'a [u8]) -> Self {
        Self {
            timestamp,
            kind: Kind::Put,
            expire_at_ms,
            value,
        }
    }

    /// Returns a version that deletes the key.
    pub const fn tombstone(timestamp: u64) -> Self {
        Self {
            timestamp,
            kind: Kind::Tombstone,
            expire_at_ms: None,
            value: &[],
        }
    }
}

/// Whether older versions of a memtable's keys may lie beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beneath {
    /// What is not in the memtable does not exist.
    Nothing,
    /// Older versions may be in tables or older memtables, and a tombstone hides them.
    Tables,
}

/// What the caller of a write says about its readers.
#[derive(Clone, Copy, Debug)]
struct Horizon {
    /// The least timestamp that is still read.
    floor: u64,
    beneath: Beneath,
}

impl Horizon {
    /// Whether a tombstone that everybody sees is of use.
    fn keeps_tombstones(self) -> bool {
        self.beneath == Beneath::Tables
    }

    /// Whether `version` is of use as the oldest version of its key.
    fn keeps(self, version: Version<'_>) -> bool {
        version.kind.is_there() || version.timestamp > self.floor || self.keeps_tombstones()
    }
}

/// Keys of one database, by first byte of the key.
#[derive(Clone, Copy, Default)]
struct Count {
    live: u64,
    expiring: u64,
}

/// What the newest version of a key counts as.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Standing {
    live: u64,
    expire_at_ms: Option<u64>,
}

impl Standing {
    /// Of a key that is not there.
    const ABSENT: Self = Self {
        live: 0,
        expire_at_ms: None,
    };

    fn of(version: Version<'_>) -> Self {
        let live = u64::from(version.kind.is_there());
        Self {
            live,
            expire_at_ms: version.expire_at_ms,
        }
    }
}

/// The in-memory multi-version ordered map of one partition.
pub struct Memtable {
    seed: u64,
    arena: Arena,
    index: Index,
    tree: Tree,
    expiries: BTreeSet<(u64, Ref)>,
    counts: Box<[Count; 256]>,
    live: u64,
    /// Least and greatest timestamp put since there was no version.
    timestamps: (u64, u64),
    /// Goes up with every write, so that a parked reader knows whether its place still holds.
    changes: u64,
}

impl Memtable {
    /// Bytes of the longest key, with its database number.
    pub const KEY_BYTES_MAX: usize = 65_537;
    /// Bytes of the longest value.
    pub const VALUE_BYTES_MAX: usize = 64 << 20;

    /// Returns an empty memtable whose hashes depend on `seed`, with memory of its own.
    pub fn new(seed: u64) -> Self {
        Self::with_pool(seed, &ChunkPool::new(OWN_FREE_BYTES_MAX))
    }

    /// Returns an empty memtable whose hashes depend on `seed` and whose memory comes from `pool`
    /// and goes back there.
    pub fn with_pool(seed: u64, pool: &ChunkPool) -> Self {
        Self {
            seed,
            arena: Arena::new(pool.clone()),
            index: Index::new(),
            tree: Tree::new(),
            expiries: BTreeSet::new(),
            counts: Box::new([Count::default(); 256]),
            live: 0,
            timestamps: (u64::MAX, 0),
            changes: 0,
        }
    }

    /// Returns the seed, for a memtable that is to share its hashes with this one.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the hash of `key` that the other functions ask for.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// Says whether the memtable is larger than what the caches nearest to a core surely hold.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.used_bytes() > NEAR_BYTES
    }

    /// Brings what the next reads and writes of these hashes need into the cache.
    ///
    /// A lookup among many keys waits two or three times for memory. A caller that has several requests
    /// at hand hashes them all and warms them first, so that they wait together; answers do not change.
    pub fn warm(&self, hashes: &[u64]) {
        for hashes in hashes.chunks(WARM_HASHES) {
            self.index.touch(hashes);
            let mut found = [Ref::NONE; WARM_HASHES];
            let mut count = 0;
            for key in hashes
                .iter()
                .filter_map(|hash| self.index.find(*hash, |_| true))
            {
                found[count] = key;
                count += 1;
            }
            let found = &mut found[..count];
            self.arena.touch(found);
            for key in &mut *found {
                *key = self.arena.newest_apart(*key);
            }
            self.arena.touch(found);
        }
    }

    /// Returns the newest version of `key`, which may be a tombstone or expired.
    #[inline]
    pub fn newest(&self, hash: u64, key: &[u8]) -> Option<Version<'_>> {
        self.find(hash, key)
            .map(|found| self.arena.newest_version(found))
    }

    /// Returns the newest version of `key` whose timestamp is `timestamp` or less; it may be a
    /// tombstone or expired.
    ///
    /// Right for timestamps at or above the floors given for the key; below them, versions that
    /// were visible may have been freed.
    pub fn as_of(&self, hash: u64, key: &[u8], timestamp: u64) -> Option<Version<'_>> {
        let found = self.find(hash, key)?;
        self.arena.version_as_of(found, timestamp)
    }

    /// Adds a version of `key`, at its place by timestamp.
    ///
    /// Nobody reads below `floor`: versions older than the newest one at or below it are freed, and
    /// so is that one if it is a tombstone with nothing `beneath`; a key without versions is removed.
    /// Of a long chain some go now and some with the next writes of the key, so that a write costs
    /// the same whatever the length. A timestamp that the key has already changes nothing, so a log
    /// may be replayed.
    ///
    /// # Panics
    /// If `hash` is not the key's, or the key is empty or longer than [`Memtable::KEY_BYTES_MAX`], or the
    /// value is longer than [`Memtable::VALUE_BYTES_MAX`], or a tombstone has a value or an expiry.
    pub fn put(
        &mut self,
        hash: u64,
        key: &[u8],
        version: Version<'_>,
        floor: u64,
        beneath: Beneath,
    ) {
        debug_assert!(hash == self.hash(key));
        assert!(!key.is_empty() && key.len() <= Self::KEY_BYTES_MAX);
        assert!(version.value.len() <= Self::VALUE_BYTES_MAX);
        if version.kind == Kind::Tombstone {
            assert!(version.value.is_empty() && version.expire_at_ms.is_none());
        }
        self.note(version.timestamp);
        let horizon = Horizon { floor, beneath };
        if let Some(found) = self.find(hash, key) {
            self.amend(hash, key, found, version, horizon);
        } else if horizon.keeps(version) {
            let created = self.arena.create_key(key, version);
            self.index.insert(hash, created);
            self.tree.insert(&mut self.arena, created);
            self.recount(key[0], created, Standing::ABSENT, Standing::of(version));
        }
    }

    /// Adds a tombstone of `key`; otherwise as [`Memtable::put`].
    ///
    /// # Panics
    /// As [`Memtable::put`].
    pub fn delete(&mut self, hash: u64, key: &[u8], timestamp: u64, floor: u64, beneath: Beneath) {
        self.put(hash, key, Version::tombstone(timestamp), floor, beneath);
    }

    /// Returns the number of keys whose newest version is not a tombstone.
    pub fn keys(&self) -> u64 {
        self.live
    }

    /// Returns the number of keys of database `first_byte` whose newest version is not a tombstone.
    pub fn keys_of(&self, first_byte: u8) -> u64 {
        self.counts[usize::from(first_byte)].live
    }

    /// Returns the number of versions of all keys, those included that nobody sees any more.
    pub const fn version_count(&self) -> u64 {
        self.arena.tally.versions
    }

    /// Returns how many of the versions are tombstones.
    pub const fn tombstone_count(&self) -> u64 {
        self.arena.tally.tombstones
    }

    /// Returns the least and the greatest timestamp put since the memtable was last empty; `None`
    /// if it is. The versions that had them may have been freed.
    pub fn timestamps(&self) -> Option<RangeInclusive<u64>> {
        let (least, greatest) = self.timestamps;
        (self.version_count() > 0).then_some(least..=greatest)
    }

    /// Returns the number of keys whose newest version has an expiry.
    pub fn expiring(&self) -> u64 {
        self.expiries.len() as u64
    }

    /// Returns the number of keys of database `first_byte` whose newest version has an expiry.
    pub fn expiring_of(&self, first_byte: u8) -> u64 {
        self.counts[usize::from(first_byte)].expiring
    }

    /// Returns the bytes in use: records rounded up to their blocks, index entries, tree nodes;
    /// zero when there is no version.
    pub fn used_bytes(&self) -> u64 {
        let tables = self.index.used_bytes() + self.tree.used_bytes();
        self.arena.used_bytes() + tables + self.expiring() * EXPIRY_ENTRY_BYTES
    }

    /// Returns the bytes taken from the pool and the system, free space included.
    pub fn held_bytes(&self) -> u64 {
        let tables = self.index.held_bytes() + self.tree.held_bytes();
        self.arena.held_bytes() + tables + self.expiring() * EXPIRY_ENTRY_BYTES
    }

    /// Returns the key that expires first, and when, if that is at or before `now_ms`; both times
    /// in milliseconds since 1970.
    pub fn next_expired(&self, now_ms: u64) -> Option<(&[u8], u64)> {
        let (expire_at_ms, key) = *self.expiries.first()?;
        (expire_at_ms <= now_ms).then(|| (self.arena.key(key), expire_at_ms))
    }

    /// Returns the keys that expire at or before `now_ms`, the first to expire first.
    pub fn expired(&self, now_ms: u64) -> impl Iterator<Item = &[u8]> {
        let due = self
            .expiries
            .iter()
            .take_while(move |(expire_at_ms, _)| *expire_at_ms <= now_ms);
        due.map(|(_, key)| self.arena.key(*key))
    }

    /// Returns a key, chosen by `seed`, whose newest version is not a tombstone.
    pub fn random_key(&self, seed: u64) -> Option<&[u8]> {
        self.random_of(self.live, seed, |_| true)
    }

    /// Returns a key of database `first_byte`, chosen by `seed`, whose newest version is not a
    /// tombstone.
    pub fn random_key_of(&self, first_byte: u8, seed: u64) -> Option<&[u8]> {
        let is_of = |key: &[u8]| key[0] == first_byte;
        self.random_of(self.keys_of(first_byte), seed, is_of)
    }

    fn random_of(&self, live: u64, seed: u64, accept: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        if live == 0 {
            return None;
        }
        let is_live = |key| self.arena.newest_version(key).kind.is_there();
        let chosen = self
            .index
            .sample(seed, |key| is_live(key) && accept(self.arena.key(key)));
        chosen.map(|key| self.arena.key(key))
    }

    /// Counts a write, whatever comes of it.
    #[inline]
    fn note(&mut self, timestamp: u64) {
        self.changes += 1;
        if self.version_count() == 0 {
            self.timestamps = (u64::MAX, 0);
        }
        let (least, greatest) = self.timestamps;
        self.timestamps = (least.min(timestamp), greatest.max(timestamp));
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<Ref> {
        self.index.find(hash, |found| self.arena.key(found) == key)
    }

    fn amend(&mut self, hash: u64, key: &[u8], found: Ref, version: Version<'_>, horizon: Horizon) {
        let before = Standing::of(self.arena.newest_version(found));
        if self.arena.amend(found, version, horizon) {
            let after = Standing::of(self.arena.newest_version(found));
            self.recount(key[0], found, before, after);
        } else {
            self.remove(hash, key, found, before);
        }
    }

    /// Removes a key; `before` is what it counted as, since its versions may be gone already.
    fn remove(&mut self, hash: u64, key: &[u8], found: Ref, before: Standing) {
        self.recount(key[0], found, before, Standing::ABSENT);
        self.index.remove(hash, found);
        self.tree.remove(&mut self.arena, key);
        self.arena.free_key(found);
    }

    fn recount(&mut self, first_byte: u8, key: Ref, before: Standing, after: Standing) {
        if before == after {
            return;
        }
        let count = &mut self.counts[usize::from(first_byte)];
        count.live = count.live + after.live - before.live;
        self.live = self.live + after.live - before.live;
        if let Some(expire_at_ms) = before.expire_at_ms {
            assert!(self.expiries.remove(&(expire_at_ms, key)));
            count.expiring -= 1;
        }
        if let Some(expire_at_ms) = after.expire_at_ms {
            assert!(self.expiries.insert((expire_at_ms, key)));
            count.expiring += 1;
        }
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable")
            .field("keys", &self.live)
            .field("expiring", &self.expiring())
            .field("versions", &self.version_count())
            .field("used_bytes", &self.used_bytes())
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}
