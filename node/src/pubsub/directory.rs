//! What the shards of a node know of each other's subscribers: which shard has how many, of which channels and
//! patterns.
//! So a message goes only to shards where somebody wants it, and `PUBLISH` knows at once how many that are.
//!
//! Not the subscribers themselves: those are in the `hub` of their shard.
//!
//! Invariants:
//! 1. A subscription is here before it is confirmed, and is gone before its end is.
//! 2. Of what is on its way to one shard there are at most [`WAITING_BYTES_MAX`] bytes and one message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Kind, Publication};
use crate::glob::{Case, matches};

/// Bytes of messages that wait in the inbox of a shard, at most. A client that publishes waits for room; what happened
/// to keys, and what other nodes have sent, is dropped and counted.
pub const WAITING_BYTES_MAX: u64 = 32 << 20;

/// Subscriptions to one name, by shard.
type ByShard = Vec<u64>;

#[derive(Debug, Default)]
struct Names {
    by_kind: [BTreeMap<Vec<u8>, ByShard>; 3],
}

/// Who is subscribed to what, by shard.
#[derive(Debug)]
pub struct Directory {
    /// Subscriptions of each shard, to whatever.
    totals: Box<[AtomicU64]>,
    /// Bytes on their way to each shard.
    waiting: Box<[AtomicU64]>,
    names: RwLock<Names>,
}

impl Directory {
    /// Makes that of a node with so many shards.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        let zeros = || (0..shards).map(|_| AtomicU64::new(0)).collect();
        Self {
            totals: zeros(),
            waiting: zeros(),
            names: RwLock::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a subscription of a connection of `shard`.
    pub fn join(&self, shard: u32, kind: Kind, name: &[u8]) {
        let at = shard as usize;
        let mut names = self.write();
        let of = names.by_kind[kind as usize]
            .entry(name.to_vec())
            .or_insert_with(|| vec![0; self.totals.len()]);
        of[at] += 1;
        self.totals[at].fetch_add(1, Ordering::Release);
    }

    /// Notes that a subscription has ended.
    ///
    /// # Panics
    /// When there was none.
    pub fn leave(&self, shard: u32, kind: Kind, name: &[u8]) {
        let at = shard as usize;
        let mut names = self.write();
        let names = &mut names.by_kind[kind as usize];
        let of = names.get_mut(name).expect("what ends has begun");
        assert!(of[at] > 0, "what ends has begun");
        of[at] -= 1;
        if of.iter().all(|count| *count == 0) {
            names.remove(name);
        }
        self.totals[at].fetch_sub(1, Ordering::Release);
    }

    /// Says whether anybody is subscribed to anything on another shard than `own`.
    #[must_use]
    pub fn any_elsewhere(&self, own: u32) -> bool {
        let mut others = self.totals.iter().enumerate();
        others.any(|(shard, total)| shard != own as usize && total.load(Ordering::Acquire) > 0)
    }

    /// Returns how often each shard will hand a message on to a connection.
    #[must_use]
    pub fn receivers(&self, publication: &Publication) -> Vec<u64> {
        let names = self.read();
        let mut sums = vec![0; self.totals.len()];
        let mut add = |of: &ByShard| {
            sums.iter_mut()
                .zip(of)
                .for_each(|(sum, count)| *sum += count);
        };
        let channels = &names.by_kind[publication.kind() as usize];
        channels
            .get(&publication.channel)
            .into_iter()
            .for_each(&mut add);
        if !publication.is_sharded {
            let patterns = names.by_kind[Kind::Pattern as usize].iter();
            patterns
                .filter(|(pattern, _)| matches(pattern, &publication.channel, Case::Sensitive))
                .for_each(|(_, of)| add(of));
        }
        sums
    }

    /// Returns the names of a kind that somebody is subscribed to, in order, those that match `pattern` alone if there
    /// is one.
    #[must_use]
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let names = self.read();
        let names = names.by_kind[kind as usize].keys();
        let is_wanted =
            |name: &&Vec<u8>| pattern.is_none_or(|pattern| matches(pattern, name, Case::Sensitive));
        names.filter(is_wanted).cloned().collect()
    }

    /// Returns how many names of a kind somebody is subscribed to.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.read().by_kind[kind as usize].len()
    }

    /// Returns how many connections are subscribed to a name.
    #[must_use]
    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> u64 {
        let names = self.read();
        let of = names.by_kind[kind as usize].get(name);
        of.map_or(0, |of| of.iter().sum())
    }

    /// Says whether the inbox of every other shard than `own` takes what a client publishes.
    #[must_use]
    pub fn has_room(&self, own: u32) -> bool {
        let mut others = self.waiting.iter().enumerate();
        others.all(|(shard, bytes)| {
            shard == own as usize || bytes.load(Ordering::Relaxed) < WAITING_BYTES_MAX / 2
        })
    }

    /// Takes room for a message on its way to a shard; `false` when there is none.
    #[must_use]
    pub fn take_room(&self, shard: u32, publication: &Publication) -> bool {
        let waiting = &self.waiting[shard as usize];
        if waiting.load(Ordering::Relaxed) >= WAITING_BYTES_MAX {
            return false;
        }
        waiting.fetch_add(publication.bytes() as u64, Ordering::Relaxed);
        true
    }

    /// Gives the room of a message back: its shard has it.
    pub fn give_room(&self, shard: u32, publication: &Publication) {
        self.waiting[shard as usize].fetch_sub(publication.bytes() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(channel: &[u8]) -> Publication {
        Publication {
            is_sharded: false,
            channel: channel.to_vec(),
            payload: b"x".to_vec(),
        }
    }

    #[test]
    fn receivers_are_those_of_the_channel_and_of_each_pattern() {
        let directory = Directory::new(3);
        for (shard, kind, name) in [
            (0, Kind::Channel, "news"),
            (2, Kind::Channel, "news"),
            (2, Kind::Channel, "news"),
            (2, Kind::Pattern, "n*"),
            (1, Kind::Pattern, "other"),
            (1, Kind::Sharded, "news"),
        ] {
            directory.join(shard, kind, name.as_bytes());
        }
        assert_eq!(directory.receivers(&publication(b"news")), [1, 0, 3]);
        assert_eq!(directory.subscribers(Kind::Channel, b"news"), 3);
        let sharded = Publication {
            is_sharded: true,
            ..publication(b"news")
        };
        assert_eq!(directory.receivers(&sharded), [0, 1, 0]);
        assert!(directory.any_elsewhere(0));
        directory.leave(2, Kind::Channel, b"news");
        directory.leave(2, Kind::Pattern, b"n*");
        assert_eq!(directory.receivers(&publication(b"news")), [1, 0, 1]);
        assert_eq!(directory.names(Kind::Channel, Some(b"x*")).len(), 0);
        assert_eq!(directory.names(Kind::Pattern, None), [b"other".to_vec()]);
    }

    #[test]
    fn what_is_on_its_way_to_a_shard_is_bounded() {
        let directory = Directory::new(2);
        let large = Publication {
            payload: vec![0; 20 << 20],
            ..publication(b"c")
        };
        assert!(directory.take_room(1, &large) && !directory.has_room(0) && directory.has_room(1));
        assert!(directory.take_room(1, &large) && !directory.take_room(1, &publication(b"c")));
        directory.give_room(1, &large);
        directory.give_room(1, &large);
        assert!(directory.has_room(0));
    }
}
