//! What a partition can tell of its content without reading it.
//!
//! While all is in memory the counts are exact. Tables know how many keys each of them has, but not
//! which of those an older run has, too; from then on the counts are estimates.

use crate::lsm::version::{TableHandle, Version};
use crate::partition::Partition;

impl Partition {
    /// Returns how many keys a database has here: exactly while nothing is in tables, about so many
    /// from then on. Keys whose expiry has passed count until they are removed.
    #[must_use]
    pub fn keys_of(&self, database: u8) -> u64 {
        let active = self.memtable.keys_of(database);
        let Some(tree) = &self.tree else {
            return active;
        };
        // What a range deletion has hidden as a whole does not count: a database that was cleared is
        // empty.
        let (first, last) = ([database], [database, u8::MAX]);
        let hidden = |after| {
            let ranges = &self.ranges;
            !ranges.is_empty() && ranges.covers_all(&first, &last, after, u64::MAX).is_some()
        };
        let frozen = tree.frozen();
        let frozen = frozen.filter(|frozen| !hidden(frozen.flushed.timestamp));
        let frozen: u64 = frozen.map(|frozen| frozen.memtable.keys_of(database)).sum();
        active + frozen + self.table_keys(tree.version(), database)
    }

    /// Returns how many keys of a database in memory have an expiry.
    #[must_use]
    pub fn expiring_of(&self, database: u8) -> u64 {
        self.memtable.expiring_of(database)
    }

    /// Returns the bytes of the files of the tables.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.tree
            .as_ref()
            .map_or(0, |tree| tree.version().file_bytes())
    }

    /// Returns an internal key of a database, chosen by `seed`; there need be nothing at it. Where
    /// there are more keys, it is more often.
    ///
    /// # Panics
    /// Never: what is picked is below a length.
    #[must_use]
    pub fn random_place(&self, database: u8, seed: u64) -> Vec<u8> {
        let in_memory = self.memtable.random_key_of(database, seed);
        let mut places: Vec<&[u8]> = in_memory.into_iter().collect();
        if let Some(tree) = &self.tree {
            let metas = tree.version().tables().map(|(_, table)| table.meta());
            places.extend(metas.map(|meta| meta.first_key.as_slice()));
        }
        places.retain(|place| place.first() == Some(&database));
        let pick = seed.checked_rem(places.len() as u64).unwrap_or(0);
        let pick = usize::try_from(pick).expect("below a length");
        places
            .get(pick)
            .map_or(vec![database], |place| place.to_vec())
    }

    /// Returns about how many keys of a database the tables hold.
    fn table_keys<T: TableHandle>(&self, version: &Version<T>, database: u8) -> u64 {
        let (mut keys, mut gone) = (0, 0);
        for (_, table) in version.tables() {
            let meta = table.meta();
            let (first, last) = (&meta.first_key, &meta.last_key);
            let is_hidden = || {
                let hidden = self
                    .ranges
                    .covers_all(first, last, meta.max_timestamp, u64::MAX);
                !self.ranges.is_empty() && hidden.is_some()
            };
            if first.first() == Some(&database) && !is_hidden() {
                keys += meta.keys - meta.tombstones;
                gone += meta.tombstones;
            }
        }
        keys.saturating_sub(gone)
    }
}
