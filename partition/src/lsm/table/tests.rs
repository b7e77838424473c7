//! Tables against sorted maps of versions.
#![expect(clippy::cast_possible_truncation, reason = "files of tests are small")]

mod cases;
mod damage;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::*;
use crate::lsm::filter::filter_hash;
use crate::lsm::{Entry, Miss, SECTOR_BYTES, Value, ValueRef};
use crate::memtable::Kind;
use block::BlockEntry;

const FILE: FileId = FileId {
    partition: 7,
    number: 42,
};

const OPTIONS: TableOptions = TableOptions {
    block_bytes: 4096,
    compression: Compression::Off,
    filter_bits: 16,
    level: 1,
    cleaned_to: 3,
};

/// A version, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    kind: Kind,
    expire_at_ms: Option<u64>,
    value: Result<Vec<u8>, ValueRef>,
}

/// Key and timestamp.
type Place = (Vec<u8>, Reverse<u64>);
/// Versions in the order of a table.
type Model = BTreeMap<Place, Version>;

impl Version {
    fn put(value: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: Kind::Put,
            expire_at_ms: None,
            value: Ok(value.into()),
        }
    }

    fn entry<'a>(&'a self, key: &'a [u8], timestamp: u64) -> Entry<'a> {
        Entry {
            key,
            timestamp,
            kind: self.kind,
            expire_at_ms: self.expire_at_ms,
            value: match &self.value {
                Ok(value) => Value::Inline(value),
                Err(value) => Value::Separate(*value),
            },
        }
    }

    fn is(&self, timestamp: u64, found: BlockEntry<'_>) -> bool {
        let entry = self.entry(b"", timestamp);
        (found.timestamp, found.kind, found.expire_at_ms, found.value)
            == (timestamp, entry.kind, entry.expire_at_ms, entry.value)
    }
}

/// A file in memory. Blocks are missing once each, until they are fetched, if `lazy`.
#[derive(Debug, Default)]
struct Disk {
    file: Vec<u8>,
    blocks: RefCell<BTreeMap<u32, Rc<Block>>>,
    lazy: bool,
    misses: Cell<u64>,
}

impl Disk {
    fn fetch(&self, block: &BlockRef) -> Result<Rc<Block>, Malformed> {
        let stored = &self.file[block.offset() as usize..][..block.stored_bytes as usize];
        let mut bytes = vec![0; block.bytes as usize];
        decode_block(FILE, block, stored, &mut bytes)?;
        let loaded = Block::detached(bytes);
        self.blocks
            .borrow_mut()
            .insert(block.sector, Rc::clone(&loaded));
        Ok(loaded)
    }

    /// Repeats a call, fetching what it misses.
    fn until<T>(&self, mut call: impl FnMut(&Self) -> Result<T, Miss>) -> T {
        loop {
            match call(self) {
                Ok(answer) => return answer,
                Err(miss) => {
                    assert_eq!(miss.file, FILE);
                    self.misses.set(self.misses.get() + 1);
                    self.fetch(&miss.block).unwrap();
                }
            }
        }
    }
}

impl Source for Disk {
    fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>> {
        assert_eq!(file, FILE);
        let found = self.blocks.borrow().get(&block.sector).cloned();
        if found.is_some() || self.lazy {
            return found;
        }
        Some(self.fetch(block).unwrap())
    }
}

fn written(model: &Model, options: TableOptions) -> (Disk, TableMeta) {
    let (mut writer, mut file) = (TableWriter::new(FILE, options), Vec::new());
    for ((key, timestamp), version) in model {
        writer.push(&version.entry(key, timestamp.0));
        assert_eq!(writer.last_key(), key);
        while let Some(chunk) = writer.take_output() {
            assert_eq!(
                (chunk.offset, chunk.bytes.len()),
                (file.len() as u64, output::CHUNK_BYTES)
            );
            file.extend_from_slice(chunk.bytes);
        }
    }
    let (mut rest, meta) = writer.finish();
    while let Some(chunk) = rest.take_rest() {
        assert_eq!(
            (chunk.offset, chunk.bytes.len() % 4096),
            (file.len() as u64, 0)
        );
        file.extend_from_slice(chunk.bytes);
    }
    let disk = Disk {
        file,
        lazy: true,
        ..Disk::default()
    };
    (disk, meta)
}

fn opened(disk: &Disk, meta: &TableMeta) -> Result<Rc<Table>, Malformed> {
    let footer = &disk.file[Footer::offset(meta) as usize..];
    let decoded = Footer::decode(FILE, meta, footer)?;
    let (start, bytes) = (decoded.tail_offset(), decoded.tail_read_bytes());
    let tail = &disk.file[start as usize..][..bytes as usize];
    Ok(Rc::new(Table::open(FILE, meta.clone(), footer, tail)?))
}

/// Splits a model into the streams of its table.
fn streams(model: &Model) -> [(Stream, Model); 2] {
    let (mut main, mut old, mut last) = (Model::new(), Model::new(), None);
    for (place, version) in model {
        let stream = if last == Some(&place.0) {
            &mut old
        } else {
            &mut main
        };
        stream.insert(place.clone(), version.clone());
        last = Some(&place.0);
    }
    [(Stream::Main, main), (Stream::Old, old)]
}

fn check_meta(meta: &TableMeta, disk: &Disk, model: &Model, options: &TableOptions) {
    let [(_, main), _] = streams(model);
    assert_eq!(meta.number, FILE.number);
    assert_eq!(
        (meta.level, meta.cleaned_to),
        (options.level, options.cleaned_to)
    );
    assert_eq!(meta.file_bytes, disk.file.len() as u64);
    assert_eq!(meta.file_hash, xxh3_128(&disk.file));
    assert_eq!(&meta.first_key, &model.keys().next().unwrap().0);
    assert_eq!(&meta.last_key, &model.keys().last().unwrap().0);
    assert_eq!(
        (meta.keys, meta.versions),
        (main.len() as u64, model.len() as u64)
    );
    let tombstones = main
        .values()
        .filter(|version| version.kind == Kind::Tombstone);
    assert_eq!(meta.tombstones, tombstones.count() as u64);
    let timestamps = || model.keys().map(|(_, timestamp)| timestamp.0);
    assert_eq!(Some(meta.min_timestamp), timestamps().min());
    assert_eq!(Some(meta.max_timestamp), timestamps().max());
    let expiries = model.values().filter_map(|version| version.expire_at_ms);
    assert_eq!(meta.min_expire_ms, expiries.min().unwrap_or(u64::MAX));
    let (mut raw_bytes, mut values) = (0, BTreeMap::new());
    for ((key, _), version) in model {
        raw_bytes += key.len() as u64;
        match &version.value {
            Ok(value) => raw_bytes += value.len() as u64,
            Err(value) => {
                raw_bytes += u64::from(value.bytes);
                *values.entry(value.number).or_insert(0) += u64::from(value.bytes);
            }
        }
    }
    assert_eq!(meta.raw_bytes, raw_bytes);
    assert_eq!(meta.values, values.into_iter().collect::<Vec<_>>());
}

fn check_find(table: &Table, disk: &Disk, model: &Model, key: &[u8], at: u64) {
    let newest = (key.to_vec(), Reverse(at));
    let expected = model
        .range(newest..)
        .next()
        .filter(|((own, _), _)| own == key);
    let found = disk.until(|disk| table.find(disk, key, filter_hash(key), at));
    match (found, expected) {
        (Found::Absent, None) => {}
        (Found::Hit(hit), Some(((_, timestamp), version))) => {
            assert!(version.is(timestamp.0, hit.entry()));
            assert_eq!([hit.entry().prefix, hit.entry().suffix].concat(), key);
        }
        (found, expected) => panic!("{key:?} at {at}: found {found:?}, expected {expected:?}"),
    }
}

/// Compares where a cursor is with where it should be.
fn check_place(cursor: &TableCursor, expected: Option<(&Place, &Version)>) {
    assert_eq!(cursor.is_valid(), expected.is_some());
    if let Some(((key, timestamp), version)) = expected {
        assert_eq!(cursor.key(), key);
        assert!(version.is(timestamp.0, cursor.entry()));
    }
}

fn check_scans(cursor: &mut TableCursor, disk: &Disk, model: &Model) {
    disk.until(|disk| cursor.seek(disk, Bound::Unbounded));
    for place in model {
        check_place(cursor, Some(place));
        disk.until(|disk| cursor.next(disk));
    }
    check_place(cursor, None);
    assert!(!disk.until(|disk| cursor.next(disk)));
    disk.until(|disk| cursor.seek_back(disk, Bound::Unbounded));
    for place in model.iter().rev() {
        check_place(cursor, Some(place));
        disk.until(|disk| cursor.previous(disk));
    }
    check_place(cursor, None);
    assert!(!disk.until(|disk| cursor.previous(disk)));
}

fn check_seeks(cursor: &mut TableCursor, disk: &Disk, model: &Model, key: &[u8], at: u64) {
    let (newest, oldest) = (
        (key.to_vec(), Reverse(u64::MAX)),
        (key.to_vec(), Reverse(0)),
    );
    let version = (key.to_vec(), Reverse(at));
    disk.until(|disk| cursor.seek_version(disk, key, at));
    check_place(cursor, model.range(version..).next());
    disk.until(|disk| cursor.seek(disk, Bound::Included(key)));
    check_place(cursor, model.range(newest.clone()..).next());
    let behind = (Bound::Excluded(oldest.clone()), Bound::Unbounded);
    disk.until(|disk| cursor.seek(disk, Bound::Excluded(key)));
    check_place(cursor, model.range(behind).next());
    disk.until(|disk| cursor.seek_back(disk, Bound::Excluded(key)));
    check_place(cursor, model.range(..newest).next_back());
    disk.until(|disk| cursor.seek_back(disk, Bound::Included(key)));
    check_place(cursor, model.range(..=oldest).next_back());
}

fn check_walk(table: &Rc<Table>, disk: &Disk, model: &Model) {
    let (mut walk, mut sectors, mut entries) = (Walk::new(Rc::clone(table)), BTreeSet::new(), 0);
    while let Some(block) = disk.until(|disk| walk.next(disk)) {
        assert!(sectors.insert(block.sector), "visited once");
        let loaded = disk.fetch(&block).unwrap();
        if let Ok(view) = block::BlockView::parse(loaded.bytes())
            && view.contents() == block::Contents::Versions
        {
            entries += view.count();
        }
    }
    assert_eq!(entries, model.len());
}

fn check(model: &Model, options: TableOptions, asked: &[(Vec<u8>, u64)]) {
    let (disk, meta) = written(model, options);
    check_meta(&meta, &disk, model, &options);
    let table = opened(&disk, &meta).unwrap();
    assert_eq!(table.meta(), &meta);
    let own = model
        .keys()
        .map(|(key, timestamp)| (key.clone(), timestamp.0));
    let empty = [(Vec::new(), 5)];
    let asked: Vec<_> = own.chain(empty).chain(asked.iter().cloned()).collect();
    for (key, at) in &asked {
        for at in [*at, at.saturating_sub(1), at.saturating_add(1), u64::MAX, 0] {
            check_find(&table, &disk, model, key, at);
        }
    }
    for (stream, model) in streams(model) {
        let mut cursor = TableCursor::new(Rc::clone(&table), stream);
        check_place(&cursor, None);
        check_scans(&mut cursor, &disk, &model);
        for (key, at) in &asked {
            check_seeks(&mut cursor, &disk, &model, key, *at);
        }
        disk.blocks.borrow_mut().clear();
        check_scans(&mut cursor, &disk, &model);
    }
    disk.blocks.borrow_mut().clear();
    check_walk(&table, &disk, model);
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 1..9),
        8 => "user:[0-9]{1,6}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 1..300),
        1 => (0..3_u8, 0..4_usize).prop_map(|(byte, cut)| vec![byte; 65_537 - cut]),
    ]
}

fn versions() -> impl Strategy<Value = Version> {
    let reference = (0..4_u64, any::<u64>(), any::<u32>(), any::<u64>()).prop_map(
        |(number, offset, bytes, checksum)| ValueRef {
            number,
            offset,
            bytes,
            checksum,
        },
    );
    let value = prop_oneof![
        8 => vec(any::<u8>(), 0..60).prop_map(Ok),
        2 => "[ab]{100,1000}".prop_map(|text| Ok(text.into_bytes())),
        1 => vec(any::<u8>(), 3000..9000).prop_map(Ok),
        1 => reference.prop_map(Err),
    ];
    let put =
        (proptest::option::of(any::<u64>()), value).prop_map(|(expire_at_ms, value)| Version {
            kind: Kind::Put,
            expire_at_ms,
            value,
        });
    let tombstone = Just(Version {
        kind: Kind::Tombstone,
        expire_at_ms: None,
        value: Ok(Vec::new()),
    });
    prop_oneof![5 => put, 1 => tombstone]
}

/// Versions of random keys, some of them with many versions.
fn models() -> impl Strategy<Value = Model> {
    let timestamps = prop_oneof![0..6_u64, any::<u64>()].prop_map(Reverse);
    let spread = btree_map((keys(), timestamps), versions(), 1..80);
    let piled = btree_map(
        (0..3_usize, (0..500_u64).prop_map(Reverse)),
        versions(),
        0..120,
    );
    (spread, piled, vec(keys(), 3)).prop_map(|(mut model, piled, keys)| {
        let piled = piled.into_iter();
        model.extend(piled.map(|((key, at), version)| ((keys[key].clone(), at), version)));
        model
    })
}

fn options() -> impl Strategy<Value = TableOptions> {
    let block_bytes = prop_oneof![Just(128_u32), Just(700), Just(4096), Just(16_384)];
    let compression = prop_oneof![Just(Compression::Off), Just(Compression::Lz4)];
    let filter_bits = prop_oneof![Just(0_u8), Just(12), Just(16)];
    (
        block_bytes,
        compression,
        filter_bits,
        any::<u8>(),
        any::<u64>(),
    )
        .prop_map(
            |(block_bytes, compression, filter_bits, level, cleaned_to)| TableOptions {
                block_bytes,
                compression,
                filter_bits,
                level,
                cleaned_to,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn tables_hold_what_was_pushed_and_are_searched_right(
        model in models(),
        options in options(),
        asked in vec((keys(), any::<u64>()), 0..20),
    ) {
        check(&model, options, &asked);
    }
}

/// Returns `keys` keys of which every tenth has `versions` versions.
fn ordered(keys: u32, versions: u64) -> Model {
    let mut model = Model::new();
    for key in 0..keys {
        let count = if key % 10 == 0 { versions } else { 1 };
        for version in 0..count {
            let value = format!("{{\"key\":{key},\"version\":{version},\"name\":\"somebody\"}}");
            let place = (
                format!("user:{key:08}").into_bytes(),
                Reverse(100 + version),
            );
            model.insert(place, Version::put(value));
        }
    }
    model
}
