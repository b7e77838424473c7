//! Warming ahead of a pipeline: before its commands run, one after the other, the memory in which their keys and
//! elements lie is brought into the cache, all together ([`ashlar_partition`] says how). No command is run here, and
//! none is answered otherwise because of it.

use ashlar_partition::collection::ELEMENT;

use super::{Core, Data};
use crate::command::Command;
use crate::core::data::Owned;
use crate::resp::Words;

/// Keys that are warmed together at most.
const KEYS_MAX: usize = 64;

/// Calls that are passed over once one has found nothing to be gained: data does not grow large between two of them.
const CALLS_PASSED: u32 = 64;

/// Partitions and hashes of keys; their memory is used again.
#[derive(Debug, Default)]
pub(super) struct Warming {
    /// Calls that are still passed over.
    pass: u32,
    keys: Vec<(usize, u64)>,
    hashes: Vec<u64>,
}

impl Warming {
    fn add(&mut self, partition: usize, hash: u64) {
        if self.keys.len() < KEYS_MAX {
            self.keys.push((partition, hash));
        }
    }

    /// Warms what was added, partition by partition, and forgets it. One key alone gains nothing.
    fn warm(&mut self, owned: &[Option<Owned>]) {
        if owned.len() > 1 {
            self.keys.sort_unstable();
        }
        for keys in self.keys.chunk_by(|a, b| a.0 == b.0) {
            let partition = owned[keys[0].0].as_ref().filter(|_| keys.len() > 1);
            if let Some(owned) = partition {
                self.hashes.clear();
                self.hashes.extend(keys.iter().map(|(_, hash)| *hash));
                owned.partition.warm(&self.hashes);
            }
        }
        self.keys.clear();
    }
}

impl Core {
    /// Brings what commands will look at into the cache, as far as their words tell, if there is so much data that it
    /// is not there.
    pub(crate) fn warm<'a>(
        &self,
        database: u8,
        commands: impl Iterator<Item = (&'static Command, Words<'a>)> + Clone,
    ) {
        let mut warming = self.warming.borrow_mut();
        if warming.pass > 0 {
            warming.pass -= 1;
            return;
        }
        let mut data = self.data.borrow_mut();
        let Data { owned, key, .. } = &mut *data;
        let mut before = &[][..];
        for (command, words) in commands.clone() {
            for place in command.key_places(words) {
                // Many pipelines are about one key, such as a list.
                if words[place] == *before {
                    continue;
                }
                before = words.get(place).unwrap_or_default();
                let key = key.set(database, before);
                let partition = self.routes.partition_of(key);
                if let Some(partition_here) = gaining(owned, partition) {
                    warming.add(partition, partition_here.hash(key));
                }
            }
        }
        if warming.keys.is_empty() {
            warming.pass = CALLS_PASSED;
            return;
        }
        warming.warm(owned);
        // The elements lie under their collection's number, which its key tells.
        let (mut opened, mut id) = (&[][..], None);
        let in_collections = commands.filter(|(command, _)| command.has_elements());
        for (command, words) in in_collections.filter(|(_, words)| words.len() > 2) {
            let partition = self.routes.partition_of(key.set(database, &words[1]));
            let Some(partition_here) = gaining(owned, partition) else {
                continue;
            };
            if words[1] != *opened || opened.is_empty() {
                opened = words.get(1).unwrap_or_default();
                id = partition_here.collection_at(key.set(database, opened));
            }
            let Some(id) = id else { continue };
            for place in command.element_places(words.len()).take(KEYS_MAX) {
                let key = key.element(id, ELEMENT, &words[place]);
                warming.add(partition, partition_here.hash(key));
            }
        }
        warming.warm(owned);
    }
}

/// Returns a partition of this shard, if it gains by warming.
fn gaining(owned: &[Option<Owned>], partition: usize) -> Option<&ashlar_partition::Partition> {
    let owned = owned[partition].as_ref()?;
    Some(&owned.partition).filter(|partition| partition.gains_by_warming())
}
