//! What readers of the past must see: every change that was proposed, by key and timestamp. Nothing
//! is ever forgotten here but what a power cut loses.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ashlar_consensus::{Index, Timestamp};

use crate::reference::Change;

/// A value and its expiry; `None` for nothing there.
type Seen = Option<(Vec<u8>, Option<u64>)>;

/// Every version of every key of one partition.
#[derive(Default)]
pub(crate) struct History {
    changes: Vec<(Index, Timestamp, Change)>,
    versions: BTreeMap<Vec<u8>, BTreeMap<Timestamp, Seen>>,
}

impl History {
    /// Takes in a change that went into entry `index`; changes come in order of timestamps.
    pub(crate) fn note(&mut self, index: Index, timestamp: Timestamp, change: Change) {
        let last = self.changes.last().map(|(_, last, _)| *last);
        assert!(last < Some(timestamp), "timestamps ascend");
        self.apply(timestamp, &change);
        self.changes.push((index, timestamp, change));
    }

    fn apply(&mut self, timestamp: Timestamp, change: &Change) {
        match change {
            Change::Set(key, value, at_ms) => {
                let versions = self.versions.entry(key.clone()).or_default();
                versions.insert(timestamp, Some((value.clone(), *at_ms)));
            }
            Change::Remove(_) | Change::Clear(_) | Change::RemoveRange(..) => {
                let touched = self
                    .versions
                    .iter_mut()
                    .filter(|(key, _)| change.touches(key));
                for (_, versions) in touched {
                    versions.insert(timestamp, None);
                }
            }
        }
    }

    /// Forgets every change behind entry `last`.
    pub(crate) fn cut(&mut self, last: Index) {
        self.changes.retain(|(index, ..)| *index <= last);
        self.versions.clear();
        for (index, timestamp, change) in std::mem::take(&mut self.changes) {
            self.apply(timestamp, &change);
            self.changes.push((index, timestamp, change));
        }
    }

    /// Returns what a reader at `at` sees of a key.
    pub(crate) fn seen(&self, key: &[u8], at: Timestamp) -> Option<&(Vec<u8>, Option<u64>)> {
        let versions = self.versions.get(key)?;
        let (_, seen) = versions.range(..=at).next_back()?;
        let live = |end: &Option<u64>| end.is_none_or(|end| end > at.micros() / 1000);
        seen.as_ref().filter(|(_, end)| live(end))
    }

    /// Returns the keys that ever were, with what a reader at `at` sees of them.
    pub(crate) fn all_seen(&self, at: Timestamp) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let keys = self.versions.keys();
        keys.filter_map(|key| Some((key.clone(), self.seen(key, at)?.0.clone())))
            .collect()
    }

    /// Returns the timestamps of the first and the last change.
    pub(crate) fn timestamps(&self) -> Option<RangeInclusive<u64>> {
        let (first, last) = (self.changes.first()?, self.changes.last()?);
        Some(first.1.0..=last.1.0)
    }
}
