//! Doors for the fuzzer to what lies behind checksums, which no fuzzer guesses. Compiled with
//! `--cfg fuzzing` only.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::block::{self, BlockView, Contents};
use super::manifest::{self, Checkpoint};
use super::offline::{Age, TableFile};
use super::table::{self, Compression, TableMeta, TableOptions, TableWriter, Tail};
use super::{BlockRef, Entry, FileId, filter};

/// The table that is fuzzed.
const FILE: FileId = FileId {
    partition: 3,
    number: 9,
};

/// Reads a block whose stored bytes pass their checksum: unpacks it to `bytes` bytes, checks it, and
/// looks at all that is in it.
///
/// # Panics
/// When something is wrong with our code.
pub fn read_block(stored: &[u8], bytes: u32, key: &[u8], timestamp: u64) {
    let at = BlockRef {
        sector: 7,
        stored_bytes: u32::try_from(stored.len()).expect("inputs of a fuzzer are small"),
        bytes,
        checksum: xxh3_64_with_seed(stored, BlockRef::seed(FILE, 7)),
    };
    let mut out = vec![0; bytes as usize];
    if table::decode_block(FILE, &at, stored, &mut out).is_err() {
        return;
    }
    let Ok(view) = BlockView::parse(&out) else {
        assert_eq!(block::validate(&out), Ok(()), "it was checked");
        let _ = filter::may_contain(&out, timestamp);
        return;
    };
    assert!(view.seek_version(key, timestamp) <= view.count());
    let mut found = Vec::new();
    for index in 0..view.count() {
        view.key_into(index, &mut found);
        match view.contents() {
            Contents::Versions => drop(view.entry(index)),
            Contents::Children | Contents::Filter => drop(view.child(index)),
        }
        let place = view.seek_version(&found, view.timestamp(index));
        assert!(place == index, "entry {index} is found at {place}");
    }
}

/// Reads the tail of a table, and searches in it.
///
/// # Panics
/// When something is wrong with our code.
pub fn read_tail(bytes: &[u8], key: &[u8], timestamp: u64) {
    let Ok(tail) = Tail::decode(bytes) else {
        return;
    };
    let mut again = Vec::new();
    tail.encode(&mut again);
    assert!(again == bytes, "a tail is encoded as it was read");
    for top in [&tail.main, &tail.old] {
        assert!(top.seek(key, timestamp) <= top.len());
    }
}

/// Writes a table of these versions, which are in order, and returns its file and what the manifest
/// would keep of it.
///
/// # Panics
/// When there are no versions, or not in order, or something is wrong with our code.
#[must_use]
pub fn write_table(
    entries: &[Entry<'_>],
    block_bytes: u32,
    is_packed: bool,
) -> (Vec<u8>, TableMeta) {
    let options = TableOptions {
        block_bytes,
        compression: match is_packed {
            true => Compression::Lz4,
            false => Compression::Off,
        },
        filter_bits: 12,
        level: 1,
        cleaned_to: 3,
    };
    let mut writer = TableWriter::new(FILE, options);
    let mut file = Vec::new();
    for entry in entries {
        writer.push(entry);
        while let Some(chunk) = writer.take_output() {
            file.extend_from_slice(chunk.bytes);
        }
    }
    let (mut rest, meta) = writer.finish();
    while let Some(chunk) = rest.take_rest() {
        file.extend_from_slice(chunk.bytes);
    }
    (file, meta)
}

/// Returns what is wrong with the file of a table, in lines; empty when nothing is.
#[must_use]
pub fn check_table(bytes: &[u8], meta: &TableMeta) -> String {
    let mut found = String::new();
    match TableFile::open_known(FILE, meta, bytes) {
        Ok(table) => {
            table.check(&mut |_, _| {}, &mut |damage| {
                writeln!(found, "{damage}").expect("a string takes all");
            });
        }
        Err(damage) => writeln!(found, "{damage}").expect("a string takes all"),
    }
    found
}

/// Returns the timestamps of the versions of a table by age, the newest of each key first.
///
/// # Panics
/// When the table is damaged.
#[must_use]
pub fn timestamps(bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let table = TableFile::open(bytes).expect("it was just written");
    let mut found = Vec::new();
    for age in [Age::Newest, Age::Older] {
        let mut entries = table.entries(age);
        while let Some(entry) = entries.next_entry().expect("it was just written") {
            found.push((entry.key.to_vec(), entry.timestamp));
        }
    }
    found
}

/// Returns the file of a checkpoint.
#[must_use]
pub fn write_checkpoint(shard: u32, generation: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    manifest::encode(shard, generation, checkpoint)
}

/// Puts the length of what follows a checkpoint's header, and its checksum, into that header.
///
/// # Panics
/// When the bytes are shorter than a header.
pub fn seal_checkpoint(bytes: &mut [u8]) {
    manifest::seal(bytes);
}
