//! Scans, in steps of random size, either way, now and of the past.

use std::collections::BTreeMap;
use std::ops::Bound;

use ashlar_partition::{Order, Part, Scan, Scanned};

use super::{FETCHES_MAX, Failed, TreeNode};

impl TreeNode {
    /// Walks over a part of one partition, now or as of some moment, in steps of random size.
    pub(crate) fn walk(&mut self, keys: (Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Result<(), Failed> {
        let number = self.rng.index(self.ranges.len());
        let at = match self.rng.coin() {
            true => None,
            false => Some(self.some_moment(number)),
        };
        let life = self.life.as_mut().ok_or(Failed)?;
        if let Some(at) = at {
            if at < life.partitions[number].low_water() {
                return Ok(());
            }
            if let Some(index) = life.partitions[number].pending_at(at) {
                self.wait_for(number, index)?;
            }
        }
        let order = match self.rng.coin() {
            true => Order::Ascending,
            false => Order::Descending,
        };
        let part = match self.rng.chance(0.3) {
            true => Part::Key,
            false => Part::Value,
        };
        let whole = Scan {
            keys,
            order,
            part,
            at,
            keys_max: 1,
            bytes_max: 1,
        };
        for _ in 0..200 {
            if let Some(found) = self.walk_once(number, whole.clone())? {
                self.tally.answers += found;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Walks; `None` when what is to be found has changed meanwhile.
    fn walk_once(&mut self, number: usize, whole: Scan) -> Result<Option<u64>, Failed> {
        let at = whole.at;
        let now_ms = self.now_ms();
        let applied = self.life().partitions[number].applied();
        let all: BTreeMap<Vec<u8>, Vec<u8>> = match at {
            Some(at) => self.histories[number].all_seen(at),
            None => {
                let live = self.references[number].live(now_ms).into_iter();
                live.map(|(key, (value, _))| (key, value)).collect()
            }
        };
        let within = |key: &[u8]| within(&whole.keys, key);
        let mut expected: Vec<_> = all.into_iter().filter(|(key, _)| within(key)).collect();
        if whole.order == Order::Descending {
            expected.reverse();
        }
        let (mut scan, mut found) = (whole.clone(), Vec::new());
        let mut pins = Vec::new();
        for _ in 0..FETCHES_MAX {
            scan.keys_max = 1 + self.rng.index(12);
            scan.bytes_max = [100, 1_000, 1 << 20][self.rng.index(3)];
            let life = self.life.as_mut().ok_or(Failed)?;
            let partition = &mut life.partitions[number];
            if at.is_none() && partition.applied() != applied {
                return Ok(None);
            }
            if at.is_some_and(|at| at < partition.low_water()) {
                return Ok(Some(0));
            }
            if partition.damage().is_some() {
                return Err(Failed);
            }
            let before = found.len();
            let scanned = partition.scan(&mut scan, now_ms, |key, value| {
                found.push((key.to_vec(), value.to_vec()));
            });
            assert!(found.len() - before <= scan.keys_max);
            // Whoever needs more blocks than the cache has room for keeps what it has until it gets on.
            if found.len() > before || matches!(scanned, Scanned::Limit) {
                pins.clear();
            }
            match scanned {
                Scanned::End => {
                    check_walk(&expected, &found, &whole);
                    return Ok(Some(1));
                }
                Scanned::Limit => {
                    if self.rng.chance(0.2) {
                        self.turn(|_| {});
                    }
                }
                Scanned::Want(wants) => {
                    assert!(!wants.is_empty());
                    let first = wants.into_iter().take(3).collect();
                    pins.extend(self.bring(number, first)?);
                }
            }
        }
        panic!("a walk never ended");
    }
}

fn within((start, end): &(Bound<Vec<u8>>, Bound<Vec<u8>>), key: &[u8]) -> bool {
    let above = match start {
        Bound::Included(start) => key >= start.as_slice(),
        Bound::Excluded(start) => key > start.as_slice(),
        Bound::Unbounded => true,
    };
    let below = match end {
        Bound::Included(end) => key <= end.as_slice(),
        Bound::Excluded(end) => key < end.as_slice(),
        Bound::Unbounded => true,
    };
    above && below
}

fn check_walk(expected: &[(Vec<u8>, Vec<u8>)], found: &[(Vec<u8>, Vec<u8>)], scan: &Scan) {
    let keys =
        |of: &[(Vec<u8>, Vec<u8>)]| of.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(found), keys(expected), "keys of {scan:?}");
    if scan.part == Part::Value {
        assert!(found == expected, "values of {scan:?}");
    }
}
