//! What one connection is subscribed to, and what its commands want done about channels: that is done by the
//! connection, which knows its shard.
//!
//! Invariant: the names of a connection are at most as many, and have at most as many bytes, as [`Bounds`] say.

use std::collections::BTreeSet;

use super::{Kind, Publication};

/// Bytes of all names that a connection is subscribed to, at most.
pub const NAMES_BYTES_MAX: usize = 8 << 20;
/// Longest pattern, in bytes: matching takes steps as its length times that of the channel.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Longest channel, in bytes: a key and what is put before it.
pub const CHANNEL_BYTES_MAX: usize = (64 << 10) + 64;

/// How many names a connection may be subscribed to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Channels, of both kinds.
    pub channels: u32,
    /// Patterns.
    pub patterns: u32,
}

/// One change of what a connection is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is subscribed now.
    Joined(Kind, Vec<u8>),
    /// It is not any more.
    Left(Kind, Vec<u8>),
}

/// What a connection is subscribed to.
#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    names: [BTreeSet<Vec<u8>>; 3],
    bytes: usize,
    /// What its commands have changed and the shard does not know.
    pub changes: Vec<Change>,
    /// What its commands are confirmed with; it is sent though replies are silenced.
    pub frames: Vec<u8>,
    /// What its commands have published and nobody was told.
    pub published: Option<Publication>,
}

impl Subscriber {
    /// Returns how many names of a kind it is subscribed to.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    /// Returns the number that a subscription of a kind is confirmed with.
    #[must_use]
    pub fn told(&self, kind: Kind) -> usize {
        match kind {
            Kind::Sharded => self.count(kind),
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }

    /// Says whether it is subscribed to anything.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.names.iter().any(|names| !names.is_empty())
    }

    /// Returns all names of a kind.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<Vec<u8>> {
        self.names[kind as usize].iter().cloned().collect()
    }

    /// Says whether names can be added, those that are there already included.
    ///
    /// # Errors
    /// The line to answer: none of them can.
    pub fn admits<'a>(
        &self,
        kind: Kind,
        names: impl Iterator<Item = &'a [u8]>,
        bounds: Bounds,
    ) -> Result<(), String> {
        let (noun, longest, most, key) = match kind {
            Kind::Pattern => (
                "pattern",
                PATTERN_BYTES_MAX,
                bounds.patterns,
                "pubsub.patterns_max",
            ),
            Kind::Channel | Kind::Sharded => (
                "channel",
                CHANNEL_BYTES_MAX,
                bounds.channels,
                "pubsub.channels_max",
            ),
        };
        let mut new = BTreeSet::new();
        for name in names {
            if name.len() > longest {
                return Err(format!("ERR a {noun} is longer than {longest} bytes"));
            }
            if !self.names[kind as usize].contains(name) {
                new.insert(name);
            }
        }
        let there = match kind {
            Kind::Pattern => self.count(kind),
            Kind::Channel | Kind::Sharded => self.count(Kind::Channel) + self.count(Kind::Sharded),
        };
        if there + new.len() > most as usize {
            return Err(format!(
                "ERR a connection subscribes to at most {most} {noun}s ({key})"
            ));
        }
        let bytes: usize = new.iter().map(|name| name.len()).sum();
        match self.bytes + bytes > NAMES_BYTES_MAX {
            true => Err(format!(
                "ERR the names that a connection subscribes to have at most {NAMES_BYTES_MAX} bytes"
            )),
            false => Ok(()),
        }
    }

    /// Adds a name, if it is not there.
    pub fn join(&mut self, kind: Kind, name: &[u8]) {
        if self.names[kind as usize].insert(name.to_vec()) {
            self.bytes += name.len();
            self.changes.push(Change::Joined(kind, name.to_vec()));
        }
    }

    /// Takes a name away, if it is there.
    pub fn leave(&mut self, kind: Kind, name: &[u8]) {
        if self.names[kind as usize].remove(name) {
            self.bytes -= name.len();
            self.changes.push(Change::Left(kind, name.to_vec()));
        }
    }

    /// Takes all names away, without a confirmation.
    pub fn leave_all(&mut self) {
        for kind in Kind::EVERY {
            for name in self.names(kind) {
                self.leave(kind, &name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_and_taken_away_is_told_once() {
        let mut subscriber = Subscriber::default();
        for name in [b"a", b"b", b"a"] {
            subscriber.join(Kind::Channel, name);
        }
        subscriber.join(Kind::Pattern, b"a");
        subscriber.join(Kind::Sharded, b"a");
        assert_eq!(subscriber.changes.len(), 4);
        assert_eq!(
            Kind::EVERY.map(|kind| subscriber.told(kind)),
            [3, 3, 1],
            "sharded channels are counted apart"
        );
        subscriber.leave(Kind::Channel, b"x");
        subscriber.leave_all();
        assert_eq!(subscriber.changes.len(), 8);
        assert!(!subscriber.is_active() && subscriber.bytes == 0);
    }

    #[test]
    fn bounds_count_what_is_new() {
        let bounds = Bounds {
            channels: 2,
            patterns: 1,
        };
        let mut subscriber = Subscriber::default();
        subscriber.join(Kind::Channel, b"a");
        let admits = |subscriber: &Subscriber, kind, names: &[&[u8]]| {
            subscriber.admits(kind, names.iter().copied(), bounds)
        };
        assert_eq!(
            admits(&subscriber, Kind::Channel, &[b"a", b"b", b"b"]),
            Ok(())
        );
        assert!(admits(&subscriber, Kind::Sharded, &[b"a", b"b"]).is_err());
        assert_eq!(admits(&subscriber, Kind::Pattern, &[b"a"]), Ok(()));
        let long = [b'*'; PATTERN_BYTES_MAX + 1];
        assert!(admits(&subscriber, Kind::Pattern, &[&long]).is_err());
        let large = vec![u8::MAX; CHANNEL_BYTES_MAX];
        let bounds = Bounds {
            channels: 1 << 20,
            patterns: 1,
        };
        for n in 0_u8..127 {
            subscriber.join(Kind::Channel, &[&large[1..], &[n]].concat());
        }
        let full = subscriber.admits(Kind::Channel, std::iter::once(large.as_slice()), bounds);
        assert!(full.is_err(), "{full:?}");
    }
}
