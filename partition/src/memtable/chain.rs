//! The chain of a key's versions: where a version belongs, and which ones go when it comes.
//!
//! A short chain is walked and trimmed exactly; a long one has a ladder, which see. How a version
//! is stored is not known here.

use super::arena::{Arena, Ref};
use super::record::Inline;
use super::{Horizon, Version};

/// Versions of a chain that a put looks at to find where to cut; a longer one gets a ladder.
const NEAR: usize = 8;
/// How long a chain is, once it has been trimmed and before a version is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// A put may look at all of it.
    Short,
    /// It has a ladder or needs one.
    Long,
}

impl Arena {
    /// Returns the newest version of a key whose timestamp is `timestamp` or less.
    #[inline]
    pub(super) fn version_as_of(&self, key: Ref, timestamp: u64) -> Option<Version<'_>> {
        // Readers of the present need not compare timestamps.
        if timestamp == u64::MAX {
            return Some(self.newest_version(key));
        }
        let at = self.seen_at(key, timestamp);
        at.is_some().then(|| self.version(key, at))
    }

    /// Names the newest version of a key whose timestamp is `timestamp` or less.
    pub(super) fn seen_at(&self, key: Ref, timestamp: u64) -> Ref {
        self.next(key, self.last_newer(key, timestamp))
    }

    /// Puts `version` at its place in the chain and frees what no reader at the floor or later
    /// sees, of a long chain perhaps a part: all that is older than the newest version at or below
    /// the floor, and that one too if it is a tombstone with nothing beneath. Changes nothing else
    /// if there is a version of the same timestamp.
    ///
    /// Returns false if no version is left; the key is then to be freed by
    /// [`Arena::free_key`].
    pub(super) fn amend(&mut self, key: Ref, version: Version<'_>, horizon: Horizon) -> bool {
        if self.replaces_alone(key, version, horizon) {
            let at = self.add_version(key, version, Ref::NONE, Inline::Vacant);
            self.set_newest(key, at);
            return true;
        }
        let newer = self.last_newer(key, version.timestamp);
        let older = self.next(key, newer);
        let present = older.is_some() && self.timestamp(key, older) == version.timestamp;
        let hidden = newer.is_some() && self.timestamp(key, newer) <= horizon.floor;
        if present || hidden {
            let (inline, _) = self.trim(key, horizon);
            self.settle(key, inline);
            return self.newest(key).is_some();
        }
        if version.timestamp <= horizon.floor {
            return self.replace_older(key, newer, version, horizon);
        }
        self.add(key, newer, version, horizon);
        true
    }

    /// Puts `version`, which is at or below the floor, behind `newer` in place of all that is there.
    fn replace_older(
        &mut self,
        key: Ref,
        newer: Ref,
        version: Version<'_>,
        horizon: Horizon,
    ) -> bool {
        self.drop_ladder(key);
        let inline = self.cut(key, newer);
        if horizon.keeps(version) {
            let at = self.add_version(key, version, Ref::NONE, inline);
            self.link(key, newer, at);
        } else {
            self.settle(key, inline);
        }
        self.newest(key).is_some()
    }

    /// Puts `version`, which is above the floor, behind `newer`.
    fn add(&mut self, key: Ref, newer: Ref, version: Version<'_>, horizon: Horizon) {
        let (inline, length) = self.trim(key, horizon);
        // What was older may have been a tombstone that is cut now, so look again.
        let older = self.next(key, newer);
        let at = self.add_version(key, version, older, inline);
        self.link(key, newer, at);
        if length == Length::Long {
            match self.ladder(key) {
                Some(ladder) => self.note_on_ladder(key, ladder, at, version.timestamp),
                None => self.raise_ladder(key, horizon.floor),
            }
        }
    }

    /// Frees what no reader at the floor or later sees; of a long chain what its ladder finds.
    #[inline]
    fn trim(&mut self, key: Ref, horizon: Horizon) -> (Inline, Length) {
        if let Some(ladder) = self.ladder(key) {
            return self.trim_ladder(key, ladder, horizon.floor);
        }
        match self.find_cut(key, horizon) {
            Some(keep) => (self.cut(key, keep), Length::Short),
            None => (Inline::Unchanged, Length::Long),
        }
    }

    /// Returns the oldest version that a reader at the floor or later can see, [`Ref::NONE`] if
    /// there is none; `None` if it is farther than a put looks.
    #[inline]
    fn find_cut(&self, key: Ref, horizon: Horizon) -> Option<Ref> {
        let (mut last, mut at) = (Ref::NONE, self.newest(key));
        for _ in 0..NEAR {
            if !at.is_some() {
                return Some(last);
            }
            if self.timestamp(key, at) <= horizon.floor {
                let needless = self.is_tombstone(key, at) && !horizon.keeps_tombstones();
                return Some(if needless { last } else { at });
            }
            (last, at) = (at, self.previous(key, at));
        }
        (!at.is_some()).then_some(last)
    }

    /// Returns the oldest version that is newer than `timestamp`.
    fn last_newer(&self, key: Ref, timestamp: u64) -> Ref {
        let mut at = self.newest(key);
        if !at.is_some() || self.timestamp(key, at) <= timestamp {
            return Ref::NONE;
        }
        let marked = self
            .ladder(key)
            .map(|ladder| self.last_marked_newer(ladder, timestamp));
        let mut last = marked.filter(|marked| marked.is_some()).unwrap_or(at);
        at = self.previous(key, last);
        while at.is_some() && self.timestamp(key, at) > timestamp {
            (last, at) = (at, self.previous(key, at));
        }
        last
    }

    /// Frees all versions older than `keep`, or the whole chain for [`Ref::NONE`]. A vacant inline
    /// place is left to the caller, who may have a use for it.
    #[inline]
    pub(super) fn cut(&mut self, key: Ref, keep: Ref) -> Inline {
        self.cut_some(key, keep, usize::MAX)
    }

    /// Frees up to `count` versions, those next older than `keep`; otherwise as [`Arena::cut`].
    pub(super) fn cut_some(&mut self, key: Ref, keep: Ref, count: usize) -> Inline {
        let mut inline = Inline::Unchanged;
        let mut at = self.next(key, keep);
        if !at.is_some() {
            return inline;
        }
        let mut left = count;
        while at.is_some() && left > 0 {
            let older = self.previous(key, at);
            if self.free_version(key, at) == Inline::Vacant {
                inline = Inline::Vacant;
            }
            (at, left) = (older, left - 1);
        }
        self.link(key, keep, at);
        inline
    }
}
