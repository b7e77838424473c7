//! Every check that one table allows by itself: blocks, order, bounds, and what the table says of its
//! own content. Not what it takes other files to know: whether values resolve, whether runs overlap.

use std::collections::BTreeMap;

use super::entries::{Blocks, Indexed};
use super::{Age, Damage, Part, PartFigures, TableFile, check_hash};
use crate::lsm::block::{BlockEntry, BlockView, Contents, Older};
use crate::lsm::filter::{self, filter_hash};
use crate::lsm::table::TableMeta;
use crate::lsm::{Value, ValueRef};
use crate::memtable::Kind;

/// What a check has looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Blocks by what they are for.
    pub parts: BTreeMap<Part, PartFigures>,
    /// Versions.
    pub versions: u64,
    /// Of those, values in value files.
    pub separated: u64,
}

/// A key with older versions: its hash, and the timestamp of its newest version.
type WithOlder = (u64, u64);

/// A check that goes on.
struct Check<'t, 'c> {
    table: &'t TableFile<'t>,
    filter: Vec<Vec<u8>>,
    value: &'c mut dyn FnMut(&[u8], &ValueRef),
    damage: &'c mut dyn FnMut(Damage),
    damages: u64,
    figures: Figures,
    /// What the versions add up to; compared with what the table says.
    tally: TableMeta,
    with_older: Vec<WithOlder>,
    /// Keys of the old stream so far; `with_older` has them in the same order.
    older_keys: usize,
    key: Vec<u8>,
    last: Option<(Vec<u8>, u64)>,
    /// The last key that the index told, and its timestamp.
    bound: Option<(Vec<u8>, u64)>,
}

impl TableFile<'_> {
    /// Checks every block of the table and all that the table says of itself. Each value that lies in
    /// a value file is handed to `value` with its key, all that is wrong to `damage`.
    pub fn check(
        &self,
        value: &mut dyn FnMut(&[u8], &ValueRef),
        damage: &mut dyn FnMut(Damage),
    ) -> Figures {
        let mut check = Check {
            table: self,
            filter: Vec::new(),
            value,
            damage,
            damages: 0,
            figures: Figures::default(),
            tally: empty_tally(self.meta()),
            with_older: Vec::new(),
            older_keys: 0,
            key: Vec::new(),
            last: None,
            bound: None,
        };
        check.filter();
        check.stream(Age::Newest);
        check.stream(Age::Older);
        check.end();
        check.figures
    }
}

/// Returns what a table without versions would say, with all that versions do not tell.
fn empty_tally(meta: &TableMeta) -> TableMeta {
    TableMeta {
        first_key: Vec::new(),
        last_key: Vec::new(),
        keys: 0,
        versions: 0,
        tombstones: 0,
        min_timestamp: u64::MAX,
        max_timestamp: 0,
        min_expire_ms: u64::MAX,
        raw_bytes: 0,
        values: Vec::new(),
        ..meta.clone()
    }
}

impl Check<'_, '_> {
    fn found(&mut self, damage: Damage) {
        self.damages += 1;
        (self.damage)(damage);
    }

    fn wrong(&mut self, offset: u64, what: impl Into<String>) {
        self.found(Damage::new(offset, what));
    }

    fn filter(&mut self) {
        let filter = &self.table.tail.filter;
        for index in 0..filter.len() {
            let (block, mut bytes) = (filter.block(index), Vec::new());
            self.figures
                .parts
                .entry(Part::Filter)
                .or_default()
                .count(&block);
            if let Err(damage) = self.table.load(&block, Contents::Filter, &mut bytes) {
                // One that is no block says of every key that it may be there.
                bytes.clear();
                self.found(damage);
            }
            self.filter.push(bytes);
        }
    }

    fn stream(&mut self, age: Age) {
        let table = self.table;
        let top = table.top(age);
        for partition in 0..top.len() {
            let part = self.figures.parts.entry(Part::Index(age)).or_default();
            part.count(top.block(partition));
        }
        (self.last, self.bound) = (None, None);
        let (mut blocks, mut bytes) = (Blocks::new(table, age), Vec::new());
        while let Some(indexed) = blocks.next_indexed() {
            let partition = blocks.partitions - 1;
            let last_child = blocks.child == children(&blocks.index);
            let indexed = match indexed {
                Ok(indexed) => indexed,
                Err(damage) => {
                    self.found(damage);
                    continue;
                }
            };
            if last_child && indexed.key != top.key(partition) {
                let at = top.block(partition).offset();
                self.wrong(at, "the index ends with another key than the tail says");
            }
            self.block(age, &indexed, &mut bytes);
            self.bound = Some((indexed.key, indexed.timestamp));
        }
    }

    /// Checks a data block.
    fn block(&mut self, age: Age, indexed: &Indexed, bytes: &mut Vec<u8>) {
        let block = &indexed.child.block;
        self.figures
            .parts
            .entry(Part::Data(age))
            .or_default()
            .count(block);
        if let Err(damage) = self.table.load(block, Contents::Versions, bytes) {
            return self.found(damage);
        }
        let view = BlockView::of(bytes);
        let (mut oldest, mut newest, mut tombstones) = (u64::MAX, 0, 0_u16);
        for at in 0..view.count() {
            let entry = view.entry(at);
            oldest = oldest.min(entry.timestamp);
            newest = newest.max(entry.timestamp);
            tombstones = tombstones.saturating_add(u16::from(entry.kind == Kind::Tombstone));
            let mut key = std::mem::take(&mut self.key);
            view.key_into(at, &mut key);
            self.entry(age, block.offset(), &key, &entry);
            self.key = key;
        }
        let offset = block.offset();
        let behind = self.last.as_ref().is_some_and(|(key, timestamp)| {
            *key > indexed.key || (*key == indexed.key && *timestamp < indexed.timestamp)
        });
        if behind {
            self.wrong(offset, "a block has a key behind what its index says");
        }
        let child = &indexed.child;
        let said = (child.min_timestamp, child.max_timestamp, child.tombstones);
        if said != (oldest, newest, tombstones) {
            self.wrong(offset, "a block has other versions than its index says");
        }
    }

    fn entry(&mut self, age: Age, offset: u64, key: &[u8], entry: &BlockEntry<'_>) {
        let timestamp = entry.timestamp;
        let follows = |(last, last_timestamp): &(Vec<u8>, u64)| {
            let same = last == key;
            last.as_slice() < key || (same && age == Age::Older && *last_timestamp > timestamp)
        };
        let above = |(bound, bound_timestamp): &(Vec<u8>, u64)| {
            bound.as_slice() < key || (bound == key && *bound_timestamp > timestamp)
        };
        if !self.last.as_ref().is_none_or(follows) {
            self.wrong(
                offset,
                format!("key \"{}\" is out of order", key.escape_ascii()),
            );
        }
        if !self.bound.as_ref().is_none_or(above) {
            self.wrong(
                offset,
                "a block has a key that its index puts in the block before",
            );
        }
        let is_new_key = self.last.as_ref().is_none_or(|(last, _)| last != key);
        match age {
            Age::Newest => self.newest(offset, key, entry),
            Age::Older if is_new_key => self.first_older(offset, key, timestamp),
            Age::Older => {}
        }
        self.count(key, entry);
        match &mut self.last {
            Some((last, last_timestamp)) => {
                last.clear();
                last.extend_from_slice(key);
                *last_timestamp = timestamp;
            }
            None => self.last = Some((key.to_vec(), timestamp)),
        }
    }

    /// Checks the newest version of a key.
    fn newest(&mut self, offset: u64, key: &[u8], entry: &BlockEntry<'_>) {
        let hash = filter_hash(key);
        if let Ok(blocks @ 1..) = u32::try_from(self.filter.len()) {
            let block = &self.filter[filter::block_of(hash, blocks) as usize];
            if !filter::may_contain(block, hash) {
                let key = key.escape_ascii();
                self.wrong(
                    offset,
                    format!("the filter denies key \"{key}\", which is there"),
                );
            }
        }
        if entry.older == Older::Present {
            self.with_older.push((hash, entry.timestamp));
        }
        let tally = &mut self.tally;
        if tally.keys == 0 {
            tally.first_key = key.to_vec();
        }
        tally.keys += 1;
        tally.tombstones += u64::from(entry.kind == Kind::Tombstone);
        tally.last_key.clear();
        tally.last_key.extend_from_slice(key);
    }

    /// Checks the newest of the older versions of a key.
    fn first_older(&mut self, offset: u64, key: &[u8], timestamp: u64) {
        let newest = self.with_older.get(self.older_keys);
        let fits =
            newest.is_some_and(|(hash, newest)| *hash == filter_hash(key) && *newest > timestamp);
        self.older_keys += 1;
        // After damage, what is missing is no news.
        if !fits && self.damages == 0 {
            let key = key.escape_ascii();
            let what =
                format!("key \"{key}\" has older versions that its newest one does not tell of");
            self.wrong(offset, what);
        }
    }

    /// Counts a version.
    fn count(&mut self, key: &[u8], entry: &BlockEntry<'_>) {
        self.figures.versions += 1;
        let tally = &mut self.tally;
        tally.versions += 1;
        tally.min_timestamp = tally.min_timestamp.min(entry.timestamp);
        tally.max_timestamp = tally.max_timestamp.max(entry.timestamp);
        let expires = entry.expire_at_ms.unwrap_or(u64::MAX);
        tally.min_expire_ms = tally.min_expire_ms.min(expires);
        tally.raw_bytes += key.len() as u64;
        match entry.value {
            Value::Inline(value) => tally.raw_bytes += value.len() as u64,
            Value::Separate(value) => {
                let bytes = u64::from(value.bytes);
                tally.raw_bytes += bytes;
                match tally
                    .values
                    .binary_search_by_key(&value.number, |(number, _)| *number)
                {
                    Ok(at) => tally.values[at].1 += bytes,
                    Err(at) => tally.values.insert(at, (value.number, bytes)),
                }
                self.figures.separated += 1;
                (self.value)(key, &value);
            }
        }
    }

    /// Compares what the table says of itself with what was found, if all of it could be read.
    fn end(&mut self) {
        let meta = self.table.meta();
        if self.damages > 0 {
            return;
        }
        let at = self.table.bytes.len() as u64;
        let (found, said) = (&self.tally, meta);
        let numbers = [
            ("keys", found.keys, said.keys),
            ("versions", found.versions, said.versions),
            ("tombstones", found.tombstones, said.tombstones),
            (
                "as its oldest version",
                found.min_timestamp,
                said.min_timestamp,
            ),
            (
                "as its newest version",
                found.max_timestamp,
                said.max_timestamp,
            ),
            (
                "ms as its first expiry",
                found.min_expire_ms,
                said.min_expire_ms,
            ),
            ("bytes of keys and values", found.raw_bytes, said.raw_bytes),
            (
                "keys with older versions",
                self.older_keys as u64,
                self.with_older.len() as u64,
            ),
        ];
        let wrong: Vec<String> = numbers
            .iter()
            .filter(|(_, found, said)| found != said)
            .map(|(what, found, said)| format!("the table says {said} {what}, it has {found}"))
            .collect();
        let keys = (&found.first_key, &found.last_key) == (&said.first_key, &said.last_key);
        let values = found.values == said.values;
        wrong.into_iter().for_each(|what| self.wrong(at, what));
        if !keys {
            self.wrong(at, "the table says other first and last keys than it has");
        }
        if !values {
            self.wrong(at, "the table says other value files than it refers to");
        }
        if self.damages == 0
            && let Err(damage) = check_hash(meta.file_hash, self.table.bytes)
        {
            self.found(damage);
        }
    }
}

fn children(index: &[u8]) -> usize {
    if index.is_empty() {
        return 0;
    }
    BlockView::of(index).count()
}
