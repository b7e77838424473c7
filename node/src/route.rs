//! From a key to the partition that holds it, and from a partition to the shard that owns it. Fixed
//! when the data directory is made; the same on every shard.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use ashlar_partition::KeyRange;

/// Where every key is.
#[derive(Clone, Debug)]
pub struct Routes {
    ranges: Arc<[KeyRange]>,
    shards: u32,
}

impl Routes {
    /// Cuts all keys at `boundaries` (internal keys, ascending) and gives the partitions to
    /// `shards` shards in turn.
    ///
    /// # Panics
    /// Without a shard.
    #[must_use]
    pub fn new(boundaries: &[Vec<u8>], shards: u32) -> Self {
        assert!(shards > 0, "a node has at least one shard");
        Self {
            ranges: KeyRange::split_at(boundaries).into(),
            shards,
        }
    }

    /// Returns how many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.ranges.len()
    }

    /// Returns the keys of a partition.
    #[must_use]
    pub fn range(&self, partition: usize) -> &KeyRange {
        &self.ranges[partition]
    }

    /// Returns the partition that holds an internal key.
    #[must_use]
    pub fn partition_of(&self, key: &[u8]) -> usize {
        if self.ranges.len() == 1 {
            return 0;
        }
        self.ranges
            .partition_point(|range| range.start.as_slice() <= key)
            - 1
    }

    /// Returns the partitions that hold keys within bounds, in order; at least one.
    pub fn partitions_between(
        &self,
        (start, end): &(Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> RangeInclusive<usize> {
        let of = |bound: &Bound<Vec<u8>>, unbounded: usize| match bound {
            Bound::Included(key) | Bound::Excluded(key) => self.partition_of(key),
            Bound::Unbounded => unbounded,
        };
        let first = of(start, 0);
        first..=of(end, self.partitions() - 1).max(first)
    }

    /// Returns the shard that owns a partition.
    ///
    /// # Panics
    /// With more than 2^32 partitions.
    #[must_use]
    pub fn shard_of(&self, partition: usize) -> u32 {
        u32::try_from(partition).expect("partitions are counted in u32") % self.shards
    }

    /// Returns the partitions of a shard, in order.
    pub fn partitions_of(&self, shard: u32) -> impl Iterator<Item = usize> + '_ {
        (0..self.partitions()).filter(move |partition| self.shard_of(*partition) == shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_found_in_the_partition_whose_range_holds_it() {
        let routes = Routes::new(&[b"\x00g".to_vec(), b"\x00p".to_vec()], 2);
        for key in [
            &b"\x00"[..],
            b"\x00f",
            b"\x00g",
            b"\x00o",
            b"\x00p",
            b"\x0fa",
        ] {
            let partition = routes.partition_of(key);
            assert!(routes.range(partition).contains(key));
        }
        assert_eq!(routes.partitions_of(0).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(routes.partitions_of(1).collect::<Vec<_>>(), [1]);
    }
}
