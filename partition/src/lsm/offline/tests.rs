//! Tables and value files that are whole pass every check; each flipped bit that means something is
//! told with its offset.
#![expect(clippy::cast_possible_truncation, reason = "files of tests are small")]

use ashlar_io::rng::Rng;

use super::*;
use crate::lsm::table::{Chunk, Compression, Output, TableOptions, TableWriter};
use crate::lsm::values::ValueWriter;
use crate::lsm::{Entry, Value};
use crate::memtable::Kind;

const TABLE: FileId = FileId {
    partition: 3,
    number: 9,
};
const VALUES: FileId = FileId {
    partition: 3,
    number: 8,
};

struct Made {
    table: Vec<u8>,
    meta: TableMeta,
    values: Vec<u8>,
    values_meta: ValueFileMeta,
}

fn append(file: &mut Vec<u8>, chunk: &Chunk<'_>) {
    assert_eq!(chunk.offset, file.len() as u64);
    file.extend_from_slice(chunk.bytes);
}

fn end(file: &mut Vec<u8>, mut rest: Output) {
    while let Some(chunk) = rest.take_rest() {
        append(file, &chunk);
    }
}

/// Makes a table of `keys` keys: some with older versions, some deleted, some with a value apart.
fn made(keys: u32, compression: Compression) -> Made {
    let options = TableOptions {
        block_bytes: 4096,
        compression,
        filter_bits: 12,
        level: 1,
        cleaned_to: 3,
    };
    let (mut writer, mut apart) = (TableWriter::new(TABLE, options), ValueWriter::new(VALUES));
    let (mut table, mut values) = (Vec::new(), Vec::new());
    for n in 0..keys {
        let key = format!("\0key:{n:06}");
        let large = vec![n as u8; 2000];
        for version in 0..=u64::from(n % 5 == 0) {
            let value = match n % 7 {
                3 => Value::Separate(apart.push(&large)),
                5 => Value::Inline(b""),
                _ => Value::Inline(&large[..40]),
            };
            writer.push(&Entry {
                key: key.as_bytes(),
                timestamp: 1000 - version,
                kind: if n % 7 == 5 {
                    Kind::Tombstone
                } else {
                    Kind::Put
                },
                expire_at_ms: (n % 7 == 2).then_some(5_000 + u64::from(n)),
                value,
            });
            while let Some(chunk) = writer.take_output() {
                append(&mut table, &chunk);
            }
            while let Some(chunk) = apart.take_output() {
                append(&mut values, &chunk);
            }
        }
    }
    let (rest, meta) = writer.finish();
    end(&mut table, rest);
    let (rest, values_meta) = apart.finish();
    end(&mut values, rest);
    Made {
        table,
        meta,
        values,
        values_meta,
    }
}

fn damages(made: &Made) -> Vec<Damage> {
    let mut found = Vec::new();
    let mut values = Vec::new();
    match TableFile::open_known(TABLE, &made.meta, &made.table) {
        Err(damage) => found.push(damage),
        Ok(table) => {
            table.check(&mut |_, value| values.push(*value), &mut |damage| {
                found.push(damage)
            });
        }
    }
    found.extend(check_values(VALUES, &made.values_meta, &made.values).err());
    let refs = values.iter();
    found.extend(refs.filter_map(|value| check_value(value, &made.values).err()));
    found
}

#[test]
fn a_whole_table_passes_and_is_listed_as_it_was_written() {
    for compression in [Compression::Off, Compression::Lz4] {
        let made = made(3000, compression);
        assert_eq!(damages(&made), []);
        let table = TableFile::open(&made.table).unwrap();
        assert_eq!((table.file(), table.meta()), (TABLE, &made.meta));
        let mut figures = table.check(&mut |_, _| {}, &mut |damage| panic!("{damage}"));
        assert_eq!(figures.versions, 3600);
        assert_eq!(table.parts().unwrap(), std::mem::take(&mut figures.parts));
        let mut entries = table.entries(Age::Newest);
        for n in 0..3000 {
            let entry = entries.next_entry().unwrap().unwrap();
            assert_eq!(entry.key, format!("\0key:{n:06}").as_bytes());
            assert_eq!(entry.timestamp, 1000);
        }
        assert!(entries.next_entry().unwrap().is_none());
        let mut older = table.entries(Age::Older);
        let mut count = 0;
        while let Some(entry) = older.next_entry().unwrap() {
            assert_eq!(entry.timestamp, 999);
            count += 1;
        }
        assert_eq!(count, 600);
    }
}

#[test]
fn every_flipped_bit_is_noticed_near_its_place() {
    let mut rng = Rng::new(5);
    let mut made = made(800, Compression::Lz4);
    for _ in 0..400 {
        let (at, bit) = (rng.index(made.table.len()), 1 << rng.below(8));
        made.table[at] ^= bit;
        let found = damages(&made);
        assert!(!found.is_empty(), "byte {at} of {}", made.table.len());
        let told = found[0].offset;
        // Padding belongs to no block: the file as a whole has another hash.
        let near = told <= at as u64 && told.next_multiple_of(4096) <= at as u64 + (64 << 10);
        assert!(near, "byte {at}: {found:?}");
        made.table[at] ^= bit;
        let at = rng.index(made.values.len());
        made.values[at] ^= bit;
        assert!(!damages(&made).is_empty(), "byte {at} of the values");
        made.values[at] ^= bit;
    }
    assert_eq!(damages(&made), []);
}

#[test]
fn cut_files_and_files_of_another_name_are_noticed() {
    let mut made = made(200, Compression::Off);
    for bytes in [
        0,
        1,
        4095,
        4096,
        made.table.len() - 4096,
        made.table.len() - 1,
    ] {
        let cut = &made.table[..bytes];
        assert!(
            TableFile::open_known(TABLE, &made.meta, cut).is_err(),
            "{bytes}"
        );
        assert!(TableFile::open(cut).is_err(), "{bytes}");
    }
    let other = FileId {
        number: 10,
        ..TABLE
    };
    assert!(TableFile::open_known(other, &made.meta, &made.table).is_err());
    assert!(check_values(other, &made.values_meta, &made.values).is_err());
    made.meta.keys += 1;
    assert!(TableFile::open_known(TABLE, &made.meta, &made.table).is_err());
}

#[test]
fn no_bytes_make_it_panic() {
    let mut rng = Rng::new(6);
    for _ in 0..200 {
        let bytes: Vec<u8> = (0..rng.index(20_000))
            .map(|_| rng.next_u64() as u8)
            .collect();
        assert!(TableFile::open(&bytes).is_err());
        assert!(read_checkpoint(0, &bytes).is_err());
    }
    // Numbers of the footer that are wild, under a checksum that is right.
    let made = made(100, Compression::Off);
    for field in [24, 28, 32] {
        let mut bytes = made.table.clone();
        let at = bytes.len() - 4096;
        bytes[at + field..at + field + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(TableFile::open(&bytes).is_err());
    }
}
