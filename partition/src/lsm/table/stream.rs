//! One stream of a table in the making: its data blocks, and the index of them.
//!
//! A data block goes to the file as soon as it is full. Its entry in the index waits for the first
//! key of the next block, so that it can be short. Index partitions stay in memory, about 60 bytes
//! for each data block, until all data is in the file.

use std::fmt;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::output::Output;
use super::top::TopIndex;
use super::writer::{Compression, TableOptions};
use crate::lsm::block::{BlockBuilder, Child, Contents, Older};
use crate::lsm::{BlockRef, Entry, FileId, SECTOR_BYTES};
use crate::memtable::Kind;

/// Size that a partition of an index is to have, in bytes.
const PARTITION_BYTES: u32 = 4096;
/// Blocks that are not compressed, at most, behind one that was not worth it.
const UNTRIED_MAX: u32 = 63;
/// Stored bytes per 1024 up to which a block is worth being compressed: an eighth is saved. Below that
/// every reader and every merge would pay more than the disk gains.
const WORTH_RATIO: u64 = 896;

/// Puts blocks into a file.
pub(super) struct Sink {
    pub(super) file: FileId,
    pub(super) output: Output,
    compression: Compression,
    block_bytes: u32,
    /// What compression made of the last blocks: stored bytes per 1024, smoothed.
    ratio: u64,
    /// Blocks that are not compressed before it is tried again, and how many those were the last time.
    untried: u32,
    untried_last: u32,
    /// The block, before it is compressed.
    plain: Vec<u8>,
    /// And after.
    packed: Vec<u8>,
    table: CompressTable,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("file", &self.file)
            .field("output", &self.output)
            .field("ratio", &self.ratio)
            .finish_non_exhaustive()
    }
}

impl Sink {
    pub(super) fn new(file: FileId, options: &TableOptions) -> Self {
        Self {
            file,
            output: Output::new(),
            compression: options.compression,
            block_bytes: options.block_bytes,
            ratio: 0,
            untried: 0,
            untried_last: 0,
            plain: Vec::new(),
            packed: Vec::new(),
            table: CompressTable::small(),
        }
    }

    /// Puts the data block into the file and begins the next one.
    fn put_data(&mut self, block: &mut BlockBuilder) -> BlockRef {
        if self.compression == Compression::Off || self.untried > 0 {
            self.untried = self.untried.saturating_sub(1);
            let sector = self.output.sector();
            let bytes = block.finish(self.output.end());
            return self.close(sector, bytes);
        }
        self.plain.clear();
        let bytes = block.finish(&mut self.plain);
        let placed = self.put_compressed(bytes);
        block.aim_at(self.aim_bytes());
        // What lies together is alike: where a block was not worth it, the next ones hardly are.
        self.untried_last = match placed.is_compressed() {
            true => 0,
            false => (self.untried_last * 2 + 1).min(UNTRIED_MAX),
        };
        self.untried = self.untried_last;
        placed
    }

    /// Puts `plain` into the file, compressed if that is worth it and saves a sector.
    fn put_compressed(&mut self, bytes: u32) -> BlockRef {
        let packed_max = get_maximum_output_size(self.plain.len());
        if self.packed.len() < packed_max {
            self.packed.resize(packed_max, 0);
        }
        let packed = compress_into_with_table(&self.plain, &mut self.packed, &mut self.table)
            .expect("the output has the size that compression may need");
        let packed = &self.packed[..packed];
        let ratio = (packed.len() * 1024 / self.plain.len()) as u64;
        self.ratio = match self.ratio {
            0 => ratio,
            before => (7 * before + ratio) / 8,
        };
        let sectors = |bytes: usize| (bytes as u64).div_ceil(SECTOR_BYTES);
        let sector = self.output.sector();
        if ratio <= WORTH_RATIO && sectors(packed.len()) < sectors(self.plain.len()) {
            self.output.end().extend_from_slice(packed);
        } else {
            self.output.end().extend_from_slice(&self.plain);
        }
        self.close(sector, bytes)
    }

    /// Returns the size that the next block should have so that, compressed, it just fills sectors.
    fn aim_bytes(&self) -> u32 {
        let full_bytes = u64::from(self.block_bytes);
        let stored_bytes = full_bytes * self.ratio / 1024;
        let filled_bytes = stored_bytes - stored_bytes % SECTOR_BYTES;
        // 1/32 less than what would just fit, because blocks differ.
        let aim_bytes = filled_bytes * 1024 / self.ratio.max(1) * 31 / 32;
        if aim_bytes <= filled_bytes || self.ratio > WORTH_RATIO {
            // Less than a sector when compressed, or too little is gained by compression.
            return self.block_bytes;
        }
        u32::try_from(aim_bytes.min(full_bytes)).expect("it is not above the size of a block")
    }

    /// Pads what was appended since `sector`; returns the reference to it.
    fn close(&mut self, sector: u32, bytes: u32) -> BlockRef {
        let stored = self.output.since(sector);
        let block = BlockRef {
            sector,
            stored_bytes: u32::try_from(stored.len()).expect("values have at most 64 MiB"),
            bytes,
            checksum: xxh3_64_with_seed(stored, BlockRef::seed(self.file, sector)),
        };
        self.output.pad();
        block
    }

    /// Appends a block that is laid out; returns the reference to it.
    pub(super) fn put(&mut self, block: &[u8]) -> BlockRef {
        let sector = self.output.sector();
        self.output.end().extend_from_slice(block);
        let bytes = u32::try_from(block.len()).expect("blocks of an index are small");
        self.close(sector, bytes)
    }
}

/// What the index is to say of the block that is being filled.
#[derive(Clone, Copy, Debug)]
struct Properties {
    min_timestamp: u64,
    max_timestamp: u64,
    tombstones: u16,
}

impl Properties {
    const NONE: Self = Self {
        min_timestamp: u64::MAX,
        max_timestamp: 0,
        tombstones: 0,
    };
}

/// An index partition that is laid out: where it ends in the buffer, and its last entry.
#[derive(Clone, Copy, Debug)]
struct Partition {
    end: usize,
    key_end: usize,
    timestamp: u64,
}

/// One stream of a table in the making.
#[derive(Debug)]
pub(super) struct StreamWriter {
    block: BlockBuilder,
    properties: Properties,
    /// The block before `block`, whose key in the index is not decided yet.
    waiting: Option<Child>,
    /// Last key and timestamp of that block.
    last_key: Vec<u8>,
    last_timestamp: u64,
    /// The partition that is being filled.
    index: BlockBuilder,
    partitions: Vec<Partition>,
    /// The partitions, one after another.
    partition_bytes: Vec<u8>,
    /// Their last keys, one after another.
    partition_keys: Vec<u8>,
}

impl StreamWriter {
    pub(super) fn new(block_bytes: u32) -> Self {
        Self {
            block: BlockBuilder::new(block_bytes),
            properties: Properties::NONE,
            waiting: None,
            last_key: Vec::new(),
            last_timestamp: 0,
            index: BlockBuilder::of(Contents::Children, PARTITION_BYTES),
            partitions: Vec::new(),
            partition_bytes: Vec::new(),
            partition_keys: Vec::new(),
        }
    }

    /// Returns what is not in the file yet, in bytes.
    pub(super) fn staged_bytes(&self) -> u64 {
        (self.block.bytes() + self.index.bytes() + self.partition_bytes.len()) as u64
    }

    /// Adds a version behind the others.
    #[inline]
    pub(super) fn push(&mut self, entry: &Entry<'_>, sink: &mut Sink) {
        if !self.block.push(entry, Older::Absent) {
            self.close_block(sink);
            self.place_waiting(Some(entry.key));
            let is_in = self.block.push(entry, Older::Absent);
            assert!(is_in, "an empty block takes any entry");
        }
        let properties = &mut self.properties;
        properties.min_timestamp = properties.min_timestamp.min(entry.timestamp);
        properties.max_timestamp = properties.max_timestamp.max(entry.timestamp);
        let tombstone = u16::from(entry.kind == Kind::Tombstone);
        properties.tombstones = properties.tombstones.saturating_add(tombstone);
    }

    /// Says that the key pushed last has versions in the old stream.
    pub(super) fn mark_older(&mut self) {
        self.block.mark_older();
    }

    /// Puts the block into the file.
    fn close_block(&mut self, sink: &mut Sink) {
        assert!(self.waiting.is_none());
        self.last_key.clear();
        self.block.put_last_key(&mut self.last_key);
        self.last_timestamp = self.block.last_timestamp();
        let block = sink.put_data(&mut self.block);
        self.waiting = Some(Child {
            block,
            min_timestamp: self.properties.min_timestamp,
            max_timestamp: self.properties.max_timestamp,
            tombstones: self.properties.tombstones,
        });
        self.properties = Properties::NONE;
    }

    /// Puts the block that waits into the index; `next` is the first key behind it, if any.
    fn place_waiting(&mut self, next: Option<&[u8]>) {
        let Some(child) = self.waiting.take() else {
            return;
        };
        let mut timestamp = 0;
        match next {
            Some(next) if next == self.last_key => timestamp = self.last_timestamp,
            Some(next) => shorten(&mut self.last_key, next),
            None => {}
        }
        if !self.index.push_child(&self.last_key, timestamp, &child) {
            self.close_partition();
            let is_in = self.index.push_child(&self.last_key, timestamp, &child);
            assert!(is_in, "an empty partition takes any reference");
        }
    }

    fn close_partition(&mut self) {
        self.index.put_last_key(&mut self.partition_keys);
        let timestamp = self.index.last_timestamp();
        self.index.finish(&mut self.partition_bytes);
        self.partitions.push(Partition {
            end: self.partition_bytes.len(),
            key_end: self.partition_keys.len(),
            timestamp,
        });
    }

    /// Puts the last block into the file, and all there is into the index.
    pub(super) fn close(&mut self, sink: &mut Sink) {
        if !self.block.is_empty() {
            self.close_block(sink);
        }
        self.place_waiting(None);
        if !self.index.is_empty() {
            self.close_partition();
        }
    }

    /// Puts the index into the file; returns the references to it.
    pub(super) fn put_index(&self, sink: &mut Sink) -> TopIndex {
        let mut top = TopIndex::default();
        let (mut start, mut key_start) = (0, 0);
        for partition in &self.partitions {
            let block = sink.put(&self.partition_bytes[start..partition.end]);
            let key = &self.partition_keys[key_start..partition.key_end];
            top.push(key, partition.timestamp, block);
            (start, key_start) = (partition.end, partition.key_end);
        }
        top.seal();
        top
    }
}

/// Makes `key` as short as it can be without falling below what it is, or reaching `next`.
///
/// # Panics
/// When `next` is not behind `key`.
fn shorten(key: &mut Vec<u8>, next: &[u8]) {
    let shared = key.iter().zip(next).take_while(|(a, b)| a == b).count();
    let differs = *next.get(shared).expect("the next key is behind this one");
    if shared + 1 >= key.len() {
        return;
    }
    // The front of `next`, one byte beyond what both share, if `next` goes on behind it.
    if shared + 1 < next.len() {
        key.truncate(shared);
        key.push(differs);
        return;
    }
    // Otherwise the front of `key` with its last byte raised: still below `next` behind `shared`.
    let raised = (shared + 1..key.len() - 1).find(|&at| key[at] < u8::MAX);
    if let Some(at) = raised {
        key.truncate(at + 1);
        key[at] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_io::rng::Rng;
    use proptest::prelude::*;

    /// Bytes of a value that fills a block.
    const FULL: usize = 16_000;

    fn sink() -> Sink {
        let file = FileId {
            partition: 0,
            number: 1,
        };
        let options = TableOptions {
            block_bytes: 16 << 10,
            compression: Compression::Lz4,
            filter_bits: 0,
            level: 0,
            cleaned_to: 0,
        };
        Sink::new(file, &options)
    }

    /// Puts blocks of one value each, of which so many bytes are plain and the others random; says of
    /// each whether it was stored compressed.
    fn put(sink: &mut Sink, plain: impl Iterator<Item = usize>) -> Vec<bool> {
        let (mut block, mut rng) = (BlockBuilder::new(16 << 10), Rng::new(1));
        let mut stored = Vec::new();
        for plain in plain {
            let mut value = vec![7; plain];
            value.resize_with(FULL, || rng.next_u64().to_le_bytes()[0]);
            let entry = Entry {
                key: b"key",
                timestamp: 1,
                kind: Kind::Put,
                expire_at_ms: None,
                value: crate::lsm::Value::Inline(&value),
            };
            block.push(&entry, Older::Absent);
            let placed = sink.put_data(&mut block);
            assert!(u64::from(placed.stored_bytes) <= 4 * SECTOR_BYTES);
            stored.push(placed.is_compressed());
        }
        stored
    }

    #[test]
    fn compression_is_given_up_for_a_while_where_it_is_in_vain() {
        let mut sink = sink();
        let all = |count: usize, plain: usize| std::iter::repeat_n(plain, count);
        assert!(!put(&mut sink, all(100, FULL)).contains(&false));
        assert!(!put(&mut sink, all(500, 0)).contains(&true));
        // It is tried again soon enough, and then goes on.
        let stored = put(&mut sink, all(200, FULL));
        let first = stored.iter().position(|stored| *stored);
        assert!(
            first.is_some_and(|first| first <= UNTRIED_MAX as usize),
            "{first:?}"
        );
        assert!(stored[first.unwrap()..].iter().all(|stored| *stored));
    }

    #[test]
    fn what_saves_less_than_an_eighth_is_stored_as_it_is() {
        let all = |plain: usize| std::iter::repeat_n(plain, 50);
        assert!(!put(&mut sink(), all(FULL / 10)).contains(&true));
        assert!(!put(&mut sink(), all(FULL / 3)).contains(&false));
    }

    fn shortened(key: &[u8], next: &[u8]) -> Vec<u8> {
        let mut key = key.to_vec();
        shorten(&mut key, next);
        key
    }

    #[test]
    fn keys_of_an_index_are_short() {
        assert_eq!(shortened(b"user:123", b"user:234"), b"user:2");
        assert_eq!(shortened(b"user:123", b"user:2"), b"user:13");
        assert_eq!(shortened(b"a", b"ab"), b"a");
        assert_eq!(shortened(b"a\xff\xff\xff", b"b"), b"a\xff\xff\xff");
    }

    proptest! {
        #[test]
        fn short_keys_lie_between(
            a in proptest::collection::vec(0..3_u8, 1..8),
            b in proptest::collection::vec(0..3_u8, 1..8),
        ) {
            let widen = |key: &Vec<u8>| -> Vec<u8> {
                key.iter().map(|&byte| [0, 1, 255][usize::from(byte)]).collect()
            };
            let (a, b) = (widen(&a), widen(&b));
            prop_assume!(a < b);
            let short = shortened(&a, &b);
            prop_assert!(a <= short && short < b && short.len() <= a.len());
        }
    }
}
