//! Ranges against the naive thing: for each of a few keys, the timestamps that cover it.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEYS: u8 = 12;

fn key(n: u8) -> Vec<u8> {
    // Some keys are prefixes of others.
    [&b"a"[..], b"ab", b"b"][usize::from(n % 3)]
        .iter()
        .map(|byte| byte + n / 3 * 2)
        .collect()
}

#[derive(Clone, Debug)]
enum Change {
    Add(u8, u8, u64),
    Remove(u8, u8, u64),
    DropBelow(u64),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let range = (0..KEYS, 1..=KEYS, 1_u64..12).prop_filter("not empty", |(a, b, _)| a < b);
    let change = prop_oneof![
        6 => range.clone().prop_map(|(a, b, t)| Change::Add(a, b, t)),
        3 => range.prop_map(|(a, b, t)| Change::Remove(a, b, t)),
        1 => (0_u64..12).prop_map(Change::DropBelow),
    ];
    vec(change, 0..24)
}

#[derive(Debug, Default)]
struct Model([BTreeSet<u64>; KEYS as usize]);

impl Model {
    fn of(&mut self, a: u8, b: u8, change: impl Fn(&mut BTreeSet<u64>) -> bool) {
        for timestamps in &mut self.0[usize::from(a)..usize::from(b)] {
            change(timestamps);
        }
    }

    fn change(&mut self, change: &Change) {
        match *change {
            Change::Add(a, b, t) => self.of(a, b, |timestamps| timestamps.insert(t)),
            Change::Remove(a, b, t) => self.of(a, b, |timestamps| timestamps.remove(&t)),
            Change::DropBelow(low_water) => {
                for timestamps in &mut self.0 {
                    let newest = timestamps.range(..=low_water).next_back().copied();
                    timestamps.retain(|t| *t > low_water || Some(*t) == newest);
                }
            }
        }
    }

    fn newest(&self, n: u8, at: u64) -> Option<u64> {
        self.0[usize::from(n)].range(..=at).next_back().copied()
    }

    /// As the ranges would be when each key had been deleted by itself.
    fn ranges(&self) -> Ranges {
        let mut ranges = Ranges::default();
        for (n, timestamps) in (0..).zip(&self.0) {
            for timestamp in timestamps {
                ranges.add(&key(n), &end(n + 1), *timestamp);
            }
        }
        ranges
    }
}

fn end(n: u8) -> Vec<u8> {
    if n < KEYS { key(n) } else { b"zz".to_vec() }
}

fn changed(changes: &[Change]) -> (Ranges, Model) {
    let (mut ranges, mut model) = (Ranges::default(), Model::default());
    for change in changes {
        match *change {
            Change::Add(a, b, t) => ranges.add(&key(a), &end(b), t),
            Change::Remove(a, b, t) => ranges.remove(&key(a), &end(b), t),
            Change::DropBelow(low_water) => ranges.drop_below(low_water),
        }
        model.change(change);
    }
    (ranges, model)
}

fn check_fragments(ranges: &Ranges) {
    let mut before: Option<(&Vec<u8>, &Fragment)> = None;
    for (start, fragment) in &ranges.fragments {
        assert!(start < &fragment.end && !fragment.timestamps.is_empty());
        assert!(fragment.timestamps.is_sorted_by(|a, b| a > b));
        if let Some((_, before)) = before {
            assert!(before.end <= *start);
            assert!(before.end < *start || before.timestamps != fragment.timestamps);
        }
        before = Some((start, fragment));
    }
}

proptest! {
    #[test]
    fn every_key_is_covered_by_what_covers_it_in_the_model(changes in changes()) {
        let (ranges, model) = changed(&changes);
        check_fragments(&ranges);
        prop_assert_eq!(&ranges, &model.ranges(), "the order of changes leaves no trace");
        for n in 0..KEYS {
            for at in 0..13 {
                prop_assert_eq!(ranges.newest_over(&key(n), at), model.newest(n, at));
            }
        }
        prop_assert_eq!(ranges.newest_over(b"", 99), None);
        prop_assert_eq!(ranges.newest_over(b"zz", 99), None);
    }

    #[test]
    fn ranges_of_keys_are_covered_by_what_covers_their_keys(
        changes in changes(),
        first in 0..KEYS,
        count in 0..KEYS,
        after in 0_u64..12,
        at in 0_u64..13,
    ) {
        let (ranges, model) = changed(&changes);
        let last = (first + count).min(KEYS - 1);
        let newest = (first..=last).map(|n| model.newest(n, 99)).max().flatten();
        prop_assert_eq!(ranges.newest_over_range(&key(first), &end(last + 1)), newest);
        let each = (first..=last).map(|n| model.newest(n, at).filter(|t| *t > after));
        let lowest = each.collect::<Option<Vec<u64>>>().and_then(|all| all.into_iter().min());
        prop_assert_eq!(ranges.covers_all(&key(first), &key(last), after, at), lowest);
    }

    #[test]
    fn tombstones_say_all_of_it_in_memory_and_as_bytes(changes in changes()) {
        let (ranges, _) = changed(&changes);
        let mut again = Ranges::default();
        let mut bytes = Vec::new();
        for range in ranges.tombstones() {
            range.encode(&mut bytes);
        }
        let mut fields = Fields(&bytes);
        for range in ranges.tombstones() {
            let decoded = RangeTombstone::decode(&mut fields).unwrap();
            prop_assert_eq!(&decoded, &range);
            again.add(&decoded.start, &decoded.end, decoded.timestamp);
        }
        prop_assert!(fields.0.is_empty());
        prop_assert_eq!(again, ranges);
    }

    #[test]
    fn dropping_below_the_mark_changes_no_read_at_or_above_it(changes in changes(), mark in 0_u64..12) {
        let (ranges, _) = changed(&changes);
        let mut fewer = ranges.clone();
        fewer.drop_below(mark);
        for n in 0..KEYS {
            for at in mark..13 {
                prop_assert_eq!(fewer.newest_over(&key(n), at), ranges.newest_over(&key(n), at));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_tombstone_or_an_error(bytes in vec(any::<u8>(), 0..40)) {
        let _ = RangeTombstone::decode(&mut Fields(&bytes));
    }
}

#[test]
fn adjacent_ranges_of_one_timestamp_are_one_tombstone() {
    let mut ranges = Ranges::default();
    ranges.add(b"a", b"f", 5);
    ranges.add(b"f", b"m", 5);
    ranges.add(b"c", b"z", 9);
    let all: Vec<_> = ranges
        .tombstones()
        .into_iter()
        .map(|r| (r.start, r.end, r.timestamp))
        .collect();
    let expected = [(&b"a"[..], &b"m"[..], 5), (b"c", b"z", 9)];
    assert_eq!(all, expected.map(|(a, b, t)| (a.to_vec(), b.to_vec(), t)));
    assert_eq!(ranges.fragments(), 3);
}

#[test]
fn clearing_the_same_range_again_and_again_takes_no_room() {
    let mut ranges = Ranges::default();
    for timestamp in 1..10_000 {
        ranges.add(b"\x00", b"\x01", timestamp);
        ranges.drop_below(timestamp.saturating_sub(10));
    }
    assert_eq!(ranges.fragments(), 1);
    assert!(ranges.bytes() < 1000, "{} bytes", ranges.bytes());
    assert_eq!(ranges.newest_over(b"\x00key", u64::MAX), Some(9_999));
}

#[test]
fn a_range_that_ends_where_it_starts_is_malformed() {
    let range = RangeTombstone {
        start: b"k".to_vec(),
        end: b"k".to_vec(),
        timestamp: 3,
    };
    let mut bytes = Vec::new();
    range.encode(&mut bytes);
    let error = RangeTombstone::decode(&mut Fields(&bytes)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "range tombstone at 3 ends before it starts"
    );
}
