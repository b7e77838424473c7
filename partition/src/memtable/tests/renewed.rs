//! Roots that are renewed in place, beside the same writes with a version for each: only counts of the past may differ.

use std::ops::Range;

use proptest::prelude::*;

use super::super::*;
use crate::collection::{Family, Root};

const KEY: &[u8] = b"\x00list";

#[derive(Clone, Debug)]
enum Write {
    Root { id: u64, expire_at_ms: Option<u64> },
    Delete,
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        30 => (1..3_u64, prop_oneof![20 => Just(None), 1 => Just(Some(5))])
            .prop_map(|(id, expire_at_ms)| Write::Root { id: id / 2, expire_at_ms }),
        1 => Just(Write::Delete),
    ]
}

/// Both memtables, and how the second one is written to.
struct Pair {
    exact: Memtable,
    renewed: Memtable,
    hash: u64,
}

impl Pair {
    fn write(&mut self, write: &Write, (timestamp, since, floor): (u64, u64, u64)) -> bool {
        let root = |id| Root {
            family: Family::List,
            id,
            count: timestamp,
            first: 0,
        };
        let value;
        let version = match write {
            Write::Delete => Version::tombstone(timestamp),
            Write::Root { id, expire_at_ms } => {
                value = root(*id).encode();
                Version {
                    kind: Kind::Root,
                    ..Version::put(timestamp, *expire_at_ms, &value)
                }
            }
        };
        let beneath = Beneath::Tables;
        self.exact.put(self.hash, KEY, version, floor, beneath);
        let is_renewed = self.renewed.renew(self.hash, KEY, version, since);
        if !is_renewed {
            self.renewed.put(self.hash, KEY, version, floor, beneath);
        }
        is_renewed
    }

    /// Compares all that readers from the floor on may ask.
    fn check(&self, times: Range<u64>) {
        let newest = |of: &Memtable| {
            of.newest(self.hash, KEY)
                .map(|v| (v.timestamp, v.value.to_vec()))
        };
        assert_eq!(newest(&self.renewed), newest(&self.exact));
        for at in times {
            let told = |of: &Memtable| {
                let found = of.as_of(self.hash, KEY, at);
                found.map(|v| (v.kind, v.expire_at_ms, v.value.get(..9).map(<[u8]>::to_vec)))
            };
            assert_eq!(told(&self.renewed), told(&self.exact), "as of {at}");
        }
    }
}

proptest! {
    #[test]
    fn of_the_past_only_counts_differ(
        entries in proptest::collection::vec((proptest::collection::vec(write(), 1..9), 1..40_u64), 1..80),
    ) {
        let (exact, renewed) = (Memtable::new(3), Memtable::new(3));
        let hash = exact.hash(KEY);
        let mut pair = Pair { exact, renewed, hash };
        let (mut now, mut floor) = (1_000, 0);
        for (writes, pause) in entries {
            now += pause;
            let since = now;
            floor = floor.max(now.saturating_sub(300));
            for write in &writes {
                pair.write(write, (now, since, floor));
                now += 1;
            }
            pair.check(floor..now);
        }
    }
}

#[test]
fn a_pipeline_of_pushes_leaves_two_versions() {
    let (exact, renewed) = (Memtable::new(3), Memtable::new(3));
    let hash = exact.hash(KEY);
    let mut pair = Pair {
        exact,
        renewed,
        hash,
    };
    let push = Write::Root {
        id: 7,
        expire_at_ms: None,
    };
    let renewed = (10..100).filter(|at| pair.write(&push, (*at, 10, 0)));
    assert_eq!(renewed.count(), 88);
    assert_eq!(pair.renewed.version_count(), 2);
    // The next entry's first push is a version of its own, for who looks back to the end of this one.
    assert!(!pair.write(&push, (100, 100, 0)));
    assert!(pair.write(&push, (101, 100, 0)));
    pair.check(1..200);
}
