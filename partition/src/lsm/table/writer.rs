//! Writes tables: versions in, chunks of a file out, nothing read and no IO.
//!
//! Memory: two chunks of output, 8 bytes per key for the filter, about 60 bytes per data block for
//! the index.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_128;

use super::format::{FilterRefs, Footer, TableMeta, Tail};
use super::output::{Chunk, Output};
use super::stream::{Sink, StreamWriter};
use crate::lsm::filter::{FILTER_BLOCK_BYTES, FilterBuilder, filter_hash};
use crate::lsm::{Entry, FileId, Value, compare_keys};
use crate::memtable::{Kind, Memtable};

/// Whether data blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// They are stored as they are.
    Off,
    /// They are compressed where that saves a sector.
    Lz4,
}

/// What a table is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableOptions {
    /// Size of a data block in memory, at most 64 KiB; larger ones hold one large entry.
    pub(crate) block_bytes: u32,
    /// Whether data blocks are compressed.
    pub(crate) compression: Compression,
    /// Bits of the filter per key; 0 for no filter.
    pub(crate) filter_bits: u8,
    /// Level of the run that the table is for.
    pub(crate) level: u8,
    /// See [`TableMeta::cleaned_to`].
    pub(crate) cleaned_to: u64,
}

/// How far [`TableWriter::seal`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// It should be called again.
    Unfinished,
    /// It is done.
    Finished,
}

/// A table in the making.
#[derive(Debug)]
pub(crate) struct TableWriter {
    sink: Sink,
    main: StreamWriter,
    old: StreamWriter,
    filter: FilterBuilder,
    filter_bits: u8,
    meta: TableMeta,
    /// Key of the version pushed last; empty before the first.
    key: Vec<u8>,
    /// Its timestamp.
    timestamp: u64,
    sealed: bool,
}

impl TableWriter {
    /// Returns a table without versions.
    ///
    /// # Panics
    /// When blocks are to have more than 64 KiB.
    pub(crate) fn new(file: FileId, options: TableOptions) -> Self {
        Self {
            sink: Sink::new(file, &options),
            main: StreamWriter::new(options.block_bytes),
            old: StreamWriter::new(options.block_bytes),
            filter: FilterBuilder::new(options.filter_bits),
            filter_bits: options.filter_bits,
            meta: TableMeta {
                number: file.number,
                level: options.level,
                min_timestamp: u64::MAX,
                min_expire_ms: u64::MAX,
                cleaned_to: options.cleaned_to,
                ..TableMeta::default()
            },
            key: Vec::new(),
            timestamp: 0,
            sealed: false,
        }
    }

    /// Says whether no version was pushed.
    pub(crate) fn is_empty(&self) -> bool {
        self.meta.versions == 0
    }

    /// Returns the key of the version pushed last; empty when there is none.
    #[cfg(test)]
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.key
    }

    /// Returns about how large the file would be if nothing followed.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        let filter_bytes = self.meta.keys * u64::from(self.filter_bits) / 8;
        let staged_bytes = self.main.staged_bytes() + self.old.staged_bytes();
        self.sink.output.position() + staged_bytes + filter_bytes
    }

    /// Adds a version. They come in order: keys ascending, timestamps of a key descending.
    ///
    /// # Panics
    /// When they do not, or the key is empty or too long, or the table was sealed.
    #[inline]
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        assert!(!self.sealed && entry.key.len() <= Memtable::KEY_BYTES_MAX);
        match compare_keys(entry.key, &self.key) {
            Ordering::Greater => self.push_newest(entry),
            Ordering::Equal => {
                assert!(
                    entry.timestamp < self.timestamp,
                    "versions of a key come newest first"
                );
                self.main.mark_older();
                self.old.push(entry, &mut self.sink);
            }
            Ordering::Less => panic!("keys come in order"),
        }
        self.timestamp = entry.timestamp;
        self.count(entry);
    }

    /// Adds the first version of a key.
    #[inline]
    fn push_newest(&mut self, entry: &Entry<'_>) {
        self.main.push(entry, &mut self.sink);
        self.filter.add(filter_hash(entry.key));
        if self.meta.keys == 0 {
            self.meta.first_key.extend_from_slice(entry.key);
        }
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        self.meta.keys += 1;
        self.meta.tombstones += u64::from(entry.kind == Kind::Tombstone);
    }

    /// Counts a version.
    #[inline]
    fn count(&mut self, entry: &Entry<'_>) {
        let meta = &mut self.meta;
        meta.versions += 1;
        meta.min_timestamp = meta.min_timestamp.min(entry.timestamp);
        meta.max_timestamp = meta.max_timestamp.max(entry.timestamp);
        if let Some(expire_at_ms) = entry.expire_at_ms {
            meta.min_expire_ms = meta.min_expire_ms.min(expire_at_ms);
        }
        let value_bytes = match entry.value {
            Value::Inline(value) => value.len() as u64,
            Value::Separate(value) => {
                refer(&mut meta.values, value.number, value.bytes);
                u64::from(value.bytes)
            }
        };
        meta.raw_bytes += entry.key.len() as u64 + value_bytes;
    }

    /// Says whether there is a full chunk to be handed out.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.sink.output.is_due()
    }

    /// Hands out the next full chunk of the file, if there is one; to be asked after every few
    /// versions, until there is none.
    pub(crate) fn take_output(&mut self) -> Option<Chunk<'_>> {
        self.sink.output.take()
    }

    /// Does part of what [`Self::finish`] would do: closes the streams, and puts up to `keys_max`
    /// keys into the filter, at some 5 ns each. No version is pushed from then on.
    pub(crate) fn seal(&mut self, keys_max: usize) -> Sealing {
        if !self.sealed {
            self.main.close(&mut self.sink);
            self.old.close(&mut self.sink);
            self.sealed = true;
        }
        if self.filter.build(keys_max) {
            return Sealing::Finished;
        }
        Sealing::Unfinished
    }

    /// Completes the file; returns what is left of it to be written, and what the manifest is to
    /// keep about it. The chunks of the output are then handed out by [`Output::take_rest`].
    ///
    /// # Panics
    /// When no version was pushed.
    pub(crate) fn finish(mut self) -> (Output, TableMeta) {
        assert!(!self.is_empty(), "a table has versions");
        let sealing = self.seal(usize::MAX);
        assert_eq!(sealing, Sealing::Finished);
        let filter = put_filter(self.filter, &mut self.sink);
        self.meta.last_key = self.key;
        let tail = Tail {
            main: self.main.put_index(&mut self.sink),
            old: self.old.put_index(&mut self.sink),
            meta: self.meta,
            filter,
        };
        let footer = put_tail(&tail, &mut self.sink);
        let (footer, footer_checksum) = footer.encode();
        let mut output = self.sink.output;
        output.end().extend_from_slice(&footer);
        let meta = TableMeta {
            file_bytes: output.position(),
            file_hash: output.file_hash(),
            footer_checksum,
            ..tail.meta
        };
        (output, meta)
    }
}

/// Puts the filter into the file; returns the references to it.
fn put_filter(filter: FilterBuilder, sink: &mut Sink) -> FilterRefs {
    let sector = sink.output.sector();
    let bytes = filter.finish();
    let blocks = bytes.as_chunks::<FILTER_BLOCK_BYTES>().0;
    let checksums = blocks
        .iter()
        .map(|block| sink.put(block).checksum)
        .collect();
    FilterRefs { sector, checksums }
}

/// Puts the tail into the file; returns the footer.
fn put_tail(tail: &Tail, sink: &mut Sink) -> Footer {
    let mut bytes = Vec::new();
    tail.encode(&mut bytes);
    let tail_sector = sink.output.sector();
    sink.output.end().extend_from_slice(&bytes);
    sink.output.pad();
    Footer {
        file: sink.file,
        sectors: sink.output.sector() + 1,
        tail_sector,
        tail_bytes: u32::try_from(bytes.len()).expect("a tail is a small part of its table"),
        tail_hash: xxh3_128(&bytes),
    }
}

/// Counts bytes of a value file as referred to.
fn refer(values: &mut Vec<(u64, u64)>, number: u64, bytes: u32) {
    match values.binary_search_by_key(&number, |&(number, _)| number) {
        Ok(at) => values[at].1 += u64::from(bytes),
        Err(at) => values.insert(at, (number, u64::from(bytes))),
    }
}
