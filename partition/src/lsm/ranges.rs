//! Range tombstones of a partition: deletions of whole ranges of keys, each at one timestamp. Not
//! in tables and not in memtables: they are part of the version, since a partition has few of them,
//! and a reader asks here before it believes what a table holds.
//!
//! A tombstone `[start, end)` at `t` deletes every version of a key in it that is older than `t`.
//!
//! ```text
//! added        a ──────── 5 ──────── m          fragments   a ─ 5 ─ f ─ 9 5 ─ m ─ 9 ─ z
//!                    f ────── 9 ────── z
//! encoded   0  start_bytes u32
//!           4  end_bytes   u32
//!           8  timestamp   u64
//!          16  start, end
//! ```
//!
//! Invariants:
//! 1. Fragments do not overlap; the timestamps of one are not empty, and descend.
//! 2. Two fragments that touch have different timestamps: what is held depends on what was added
//!    and removed, not on the order.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Malformed;
use super::edit::{Fields, put_u32};

/// The deletion of a range of keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RangeTombstone {
    /// First internal key that is deleted.
    pub start: Vec<u8>,
    /// First internal key behind the range.
    pub end: Vec<u8>,
    /// Versions older than this are deleted.
    pub timestamp: u64,
}

impl RangeTombstone {
    /// Appends the tombstone to a record.
    ///
    /// # Panics
    /// When a key has 4 GiB or more; admission keeps them far below.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.start.len());
        put_u32(out, self.end.len());
        out.extend_from_slice(&self.timestamp.to_le_bytes());
        out.extend_from_slice(&self.start);
        out.extend_from_slice(&self.end);
    }

    /// Takes a tombstone from the front of `fields`.
    ///
    /// # Errors
    /// The bytes end too early, or the range is empty.
    pub fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let start_bytes = fields.u32("length of a range's start")?;
        let end_bytes = fields.u32("length of a range's end")?;
        let timestamp = fields.u64("timestamp of a range")?;
        let start = fields.bytes(start_bytes, "start of a range")?.to_vec();
        let end = fields.bytes(end_bytes, "end of a range")?.to_vec();
        if start >= end {
            return Err(Malformed(format!(
                "range tombstone at {timestamp} ends before it starts"
            )));
        }
        Ok(Self {
            start,
            end,
            timestamp,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fragment {
    end: Vec<u8>,
    /// Newest first.
    timestamps: Vec<u64>,
}

impl Fragment {
    fn newest(&self, at: u64) -> Option<u64> {
        let mut newest_first = self.timestamps.iter().copied();
        newest_first.find(|timestamp| *timestamp <= at)
    }
}

/// Every range tombstone of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// By start.
    fragments: BTreeMap<Vec<u8>, Fragment>,
}

impl Ranges {
    /// Says whether there is no tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    /// Returns the number of fragments.
    #[must_use]
    pub fn fragments(&self) -> usize {
        self.fragments.len()
    }

    /// Returns about how much memory they take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let each = |(start, fragment): (&Vec<u8>, &Fragment)| {
            let keys = start.capacity() + fragment.end.capacity();
            keys + fragment.timestamps.capacity() * 8 + size_of::<(Vec<u8>, Fragment)>()
        };
        self.fragments.iter().map(each).sum()
    }

    /// Deletes `[start, end)` as of `timestamp`; nothing when that is known already.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn add(&mut self, start: &[u8], end: &[u8], timestamp: u64) {
        assert!(start < end, "a range tombstone has keys");
        self.split_at(start);
        self.split_at(end);
        let mut at = start.to_vec();
        while at.as_slice() < end {
            let next = self.starts_within(&at, end).next().cloned();
            let gap_end = next.as_deref().unwrap_or(end);
            if at.as_slice() < gap_end {
                let fragment = Fragment {
                    end: gap_end.to_vec(),
                    timestamps: vec![timestamp],
                };
                self.fragments.insert(at, fragment);
            }
            let Some(next) = next else { break };
            let fragment = self.fragments.get_mut(&next).expect("just found");
            let place = fragment.timestamps.partition_point(|t| *t > timestamp);
            if fragment.timestamps.get(place) != Some(&timestamp) {
                fragment.timestamps.insert(place, timestamp);
            }
            at = fragment.end.clone();
        }
        self.join(start, end);
    }

    /// Undoes [`Ranges::add`]; what is not there is left out.
    ///
    /// # Panics
    /// When the range is empty.
    pub fn remove(&mut self, start: &[u8], end: &[u8], timestamp: u64) {
        assert!(start < end, "a range tombstone has keys");
        self.split_at(start);
        self.split_at(end);
        let within: Vec<Vec<u8>> = self.starts_within(start, end).cloned().collect();
        for key in within {
            let fragment = self.fragments.get_mut(&key).expect("just found");
            fragment.timestamps.retain(|t| *t != timestamp);
            if fragment.timestamps.is_empty() {
                self.fragments.remove(&key);
            }
        }
        self.join(start, end);
    }

    /// Forgets what no read at or above `low_water` can tell: where several tombstones are at or
    /// below it, the newest of them says all.
    pub fn drop_below(&mut self, low_water: u64) {
        let mut changed = false;
        for fragment in self.fragments.values_mut() {
            let above = fragment.timestamps.partition_point(|t| *t > low_water);
            changed |= above + 1 < fragment.timestamps.len();
            fragment.timestamps.truncate(above + 1);
        }
        if changed {
            self.join_all();
        }
    }

    /// Returns the newest tombstone at or below `at` that covers `key`: versions older than it are
    /// deleted.
    #[must_use]
    #[inline]
    pub fn newest_over(&self, key: &[u8], at: u64) -> Option<u64> {
        if self.fragments.is_empty() {
            return None;
        }
        self.over(key)?.newest(at)
    }

    /// Returns the newest tombstone that covers any key of `[start, end)`.
    #[must_use]
    pub fn newest_over_range(&self, start: &[u8], end: &[u8]) -> Option<u64> {
        if self.fragments.is_empty() || start >= end {
            return None;
        }
        let first = self.over(start).into_iter();
        let rest = (Bound::Excluded(start), Bound::Excluded(end));
        let rest = self.fragments.range::<[u8], _>(rest).map(|(_, f)| f);
        first.chain(rest).map(|f| f.timestamps[0]).max()
    }

    /// Says whether each key from `first` to `last`, both included, is covered by a tombstone above
    /// `after` and at or below `at`; returns the lowest of the newest ones.
    #[must_use]
    pub fn covers_all(&self, first: &[u8], last: &[u8], after: u64, at: u64) -> Option<u64> {
        let mut fragment = self.over(first)?;
        let mut lowest = u64::MAX;
        loop {
            let newest = fragment.newest(at).filter(|newest| *newest > after)?;
            lowest = lowest.min(newest);
            if fragment.end.as_slice() > last {
                return Some(lowest);
            }
            fragment = self.fragments.get(&fragment.end)?;
        }
    }

    /// Returns the tombstones, as few as say the same: those of one timestamp that touch are one.
    /// In order of end.
    #[must_use]
    pub fn tombstones(&self) -> Vec<RangeTombstone> {
        let mut whole = Vec::new();
        // By timestamp, where a tombstone starts and how far it goes so far.
        let mut open: BTreeMap<u64, (&[u8], &[u8])> = BTreeMap::new();
        for (start, fragment) in &self.fragments {
            open.retain(|timestamp, range| {
                let goes_on = range.1 == start && fragment.timestamps.contains(timestamp);
                if !goes_on {
                    whole.push(tombstone(*timestamp, *range));
                }
                goes_on
            });
            for timestamp in &fragment.timestamps {
                let range = open.entry(*timestamp).or_insert((start, start));
                range.1 = &fragment.end;
            }
        }
        let rest = open.into_iter();
        whole.extend(rest.map(|(timestamp, range)| tombstone(timestamp, range)));
        whole
    }

    /// Returns the fragment that covers `key`.
    fn over(&self, key: &[u8]) -> Option<&Fragment> {
        let below = (Bound::Unbounded, Bound::Included(key));
        let (_, fragment) = self.fragments.range::<[u8], _>(below).next_back()?;
        (key < fragment.end.as_slice()).then_some(fragment)
    }

    /// Returns the starts of the fragments that start in `[start, end)`.
    fn starts_within(&self, start: &[u8], end: &[u8]) -> impl Iterator<Item = &Vec<u8>> {
        let within = (Bound::Included(start), Bound::Excluded(end));
        self.fragments.range::<[u8], _>(within).map(|(key, _)| key)
    }

    /// Makes a fragment boundary of `key`, if it lies within a fragment.
    fn split_at(&mut self, key: &[u8]) {
        let below = (Bound::Unbounded, Bound::Excluded(key));
        let Some((_, fragment)) = self.fragments.range_mut::<[u8], _>(below).next_back() else {
            return;
        };
        if key < fragment.end.as_slice() {
            let behind = fragment.clone();
            fragment.end = key.to_vec();
            self.fragments.insert(key.to_vec(), behind);
        }
    }

    /// Makes one of the fragments that touch and say the same, around and within `[start, end]`.
    fn join(&mut self, start: &[u8], end: &[u8]) {
        let before = (Bound::Unbounded, Bound::Excluded(start));
        let before = self.fragments.range::<[u8], _>(before).next_back();
        let within = (Bound::Included(start), Bound::Included(end));
        let within = self.fragments.range::<[u8], _>(within);
        let keys: Vec<Vec<u8>> = before
            .into_iter()
            .chain(within)
            .map(|(key, _)| key.clone())
            .collect();
        self.join_at(keys);
    }

    fn join_all(&mut self) {
        self.join_at(self.fragments.keys().cloned().collect());
    }

    /// Joins the fragments at `keys`, which are neighbours, where they can be.
    fn join_at(&mut self, keys: Vec<Vec<u8>>) {
        let mut keys = keys.into_iter();
        let Some(mut kept) = keys.next() else { return };
        for key in keys {
            let (left, right) = (&self.fragments[&kept], &self.fragments[&key]);
            if left.end == key && left.timestamps == right.timestamps {
                let right = self.fragments.remove(&key).expect("just found");
                let left = self.fragments.get_mut(&kept).expect("just found");
                left.end = right.end;
            } else {
                kept = key;
            }
        }
    }
}

fn tombstone(timestamp: u64, (start, end): (&[u8], &[u8])) -> RangeTombstone {
    RangeTombstone {
        start: start.to_vec(),
        end: end.to_vec(),
        timestamp,
    }
}

#[cfg(test)]
mod tests;
