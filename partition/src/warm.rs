//! Warming: bringing what several commands will look at into the processor's cache, all of it at once, before the first
//! of them runs. One command alone waits for memory two or three times, one after the other.
//!
//! It is no part of any answer: what is guessed wrong, or is not in memory, is found when the command runs.

use crate::collection::Root;
use crate::partition::Partition;
use crate::read::Held;

impl Partition {
    /// Says whether warming is worth its while.
    #[must_use]
    pub fn gains_by_warming(&self) -> bool {
        self.memtable.is_large()
    }

    /// Returns the hash of an internal key, for [`Partition::warm`].
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.memtable.hash(key)
    }

    /// Brings what commands on keys of these hashes will look at into the cache.
    pub fn warm(&self, hashes: &[u64]) {
        self.memtable.warm(hashes);
    }

    /// Returns which collection lies under an internal key, if that can be told from memory.
    #[must_use]
    pub fn collection_at(&self, key: &[u8]) -> Option<u64> {
        let mut held = Held::default();
        let (current, _) = self.current(self.hash(key), key, 0, &mut held).ok()?;
        let current = current.filter(|current| current.is_root)?;
        Root::decode(current.value).map(|root| root.id)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::{Clock, PartitionId};

    use super::*;
    use crate::collection::{ELEMENT, Family, element_key};
    use crate::elements::Rooted;
    use crate::key::KeyRange;

    #[test]
    fn a_collection_is_found_by_its_key_and_warming_changes_no_answer() {
        let mut partition = Partition::new(PartitionId(0), KeyRange::all(), 7);
        let mut clock = Clock::default();
        let id = partition.begin_collection(b"\x00h", || clock.take(1));
        let root = Root {
            family: Family::Hash,
            id,
            count: 1,
            first: 0,
        };
        let rooted = Rooted {
            root,
            expire_at_ms: None,
        };
        let mut element = Vec::new();
        element_key(id, ELEMENT, b"field", &mut element);
        partition.put_element(&element, b"value", || clock.take(1));
        partition.put_root(b"\x00h", &rooted, || clock.take(1));
        assert_eq!(partition.collection_at(b"\x00h"), Some(id));
        assert_eq!(partition.collection_at(b"\x00other"), None);
        assert!(!partition.gains_by_warming(), "it is nearly empty");
        let hashes = [partition.hash(&element), partition.hash(b"\x00other")];
        partition.warm(&hashes);
        let value = partition.element(&element, |value| value.map(<[u8]>::to_vec));
        assert_eq!(value.expect("it is in memory").0, Some(b"value".to_vec()));
    }
}
