//! Every changed byte is noticed, and nothing that is read makes a panic.

use super::*;
use crate::lsm::table::format::Tail;
use crate::lsm::table::top::TopIndex;

/// Changes each byte in turn, and expects every change to be noticed.
fn each_change(bytes: &mut [u8], notices: impl Fn(&[u8]) -> bool) {
    assert!(!notices(bytes));
    for index in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            bytes[index] ^= mask;
            assert!(notices(bytes), "byte {index} with {mask:02x}");
            bytes[index] ^= mask;
        }
    }
}

#[test]
fn a_changed_block_is_noticed() {
    for compression in [Compression::Off, Compression::Lz4] {
        let options = TableOptions {
            block_bytes: 16_384,
            compression,
            ..OPTIONS
        };
        let (disk, meta) = written(&ordered(800, 3), options);
        let table = opened(&disk, &meta).unwrap();
        let mut walk = Walk::new(table);
        while let Some(block) = disk.until(|disk| walk.next(disk)) {
            let start = block.offset() as usize;
            let mut stored = disk.file[start..start + block.stored_bytes as usize].to_vec();
            let mut out = vec![0; block.bytes as usize];
            each_change(&mut stored.clone(), |stored| {
                decode_block(FILE, &block, stored, &mut out.clone()).is_err()
            });
            stored.pop();
            assert!(decode_block(FILE, &block, &stored, &mut out).is_err());
        }
    }
}

#[test]
fn a_block_in_the_wrong_place_is_noticed() {
    let (disk, meta) = written(&ordered(500, 1), OPTIONS);
    let mut walk = Walk::new(opened(&disk, &meta).unwrap());
    let block = disk.until(|disk| walk.next(disk)).unwrap();
    let stored = &disk.file[block.offset() as usize..];
    let mut out = vec![0; block.bytes as usize];
    assert_eq!(decode_block(FILE, &block, stored, &mut out), Ok(()));
    let elsewhere = BlockRef {
        sector: block.sector + 1,
        ..block
    };
    assert!(decode_block(FILE, &elsewhere, stored, &mut out).is_err());
    let other = FileId { number: 43, ..FILE };
    let wrong = decode_block(other, &block, stored, &mut out).unwrap_err();
    assert!(
        wrong.to_string().starts_with("00007/0000000043 sector "),
        "{wrong}"
    );
}

#[test]
fn a_changed_tail_or_footer_is_noticed() {
    let (disk, meta) = written(&ordered(400, 2), OPTIONS);
    let footer_at = Footer::offset(&meta) as usize;
    let mut footer = disk.file[footer_at..].to_vec();
    let decoded = Footer::decode(FILE, &meta, &footer).unwrap();
    let tail_at = decoded.tail_offset() as usize;
    let mut tail = disk.file[tail_at..][..decoded.tail_bytes as usize].to_vec();
    let open = |footer: &[u8], tail: &[u8]| Table::open(FILE, meta.clone(), footer, tail);
    each_change(&mut footer.clone(), |footer| open(footer, &tail).is_err());
    each_change(&mut tail.clone(), |tail| open(&footer, tail).is_err());
    assert!(open(&footer[1..], &tail).is_err());
    tail.pop();
    assert!(open(&footer, &tail).is_err());
    footer.clear();
    assert!(Footer::decode(FILE, &meta, &footer).is_err());
}

#[test]
fn a_file_that_was_replaced_is_noticed() {
    let (disk, meta) = written(&ordered(400, 2), OPTIONS);
    let (other, other_meta) = written(&ordered(401, 2), OPTIONS);
    let sizes = (disk.file.len(), other.file.len());
    assert_eq!(sizes.0, sizes.1, "the test wants files of the same size");
    assert!(opened(&other, &other_meta).is_ok());
    let wrong = opened(&other, &meta).unwrap_err();
    assert!(wrong.to_string().contains("footer has checksum"), "{wrong}");
    let footer = &disk.file[Footer::offset(&meta) as usize..];
    let elsewhere = FileId { number: 43, ..FILE };
    assert!(Footer::decode(elsewhere, &meta, footer).is_err());
}

#[test]
fn metas_survive_their_encoding_and_cuts_are_noticed() {
    let meta = TableMeta {
        number: 1,
        file_bytes: 2,
        file_hash: 3 << 100,
        footer_checksum: 4,
        level: 5,
        first_key: b"a".to_vec(),
        last_key: b"bc".to_vec(),
        keys: 6,
        versions: 7,
        tombstones: 8,
        min_timestamp: 9,
        max_timestamp: 10,
        min_expire_ms: 11,
        raw_bytes: 12,
        cleaned_to: 13,
        values: vec![(14, 15), (16, 17)],
    };
    let mut bytes = Vec::new();
    meta.encode(&mut bytes);
    let cuts = (0..bytes.len()).map(|end| TableMeta::decode(&mut &bytes[..end]));
    assert!(cuts.into_iter().all(|cut| cut.is_err()));
    bytes.push(99);
    let mut rest = bytes.as_slice();
    assert_eq!(TableMeta::decode(&mut rest), Ok(meta));
    assert_eq!(rest, [99]);
}

#[test]
fn numbers_that_promise_too_much_take_no_memory() {
    let mut bytes = Vec::new();
    TopIndex::default().encode(&mut bytes);
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(TopIndex::decode(&mut bytes.as_slice()).is_err());
    let meta = TableMeta {
        first_key: b"a".to_vec(),
        last_key: b"b".to_vec(),
        ..TableMeta::default()
    };
    let mut bytes = Vec::new();
    meta.encode(&mut bytes);
    let count_at = bytes.len() - 4;
    bytes[count_at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(TableMeta::decode(&mut bytes.as_slice()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_a_panic(
        changes in vec((any::<usize>(), any::<u8>()), 0..6),
        cut in any::<usize>(),
        random in vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = Vec::new();
        let (disk, meta) = written(&ordered(60, 2), OPTIONS);
        let footer = &disk.file[Footer::offset(&meta) as usize..];
        let footer = Footer::decode(FILE, &meta, footer).unwrap();
        let tail_at = footer.tail_offset() as usize;
        let tail = &disk.file[tail_at..][..footer.tail_bytes as usize];
        bytes.extend_from_slice(tail);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(if cut % 3 == 0 { cut / 3 % bytes.len() } else { bytes.len() });
        let _ = Tail::decode(&bytes);
        let _ = Tail::decode(&random);
        let _ = TableMeta::decode(&mut random.as_slice());
        let _ = TopIndex::decode(&mut random.as_slice());
        let mut random = random;
        random.resize(4096, 0);
        let _ = Footer::decode(FILE, &meta, &random);
        let block = BlockRef {
            sector: 1,
            stored_bytes: 100,
            bytes: 200,
            checksum: xxh3_64_with_seed(&random[..100], BlockRef::seed(FILE, 1)),
        };
        let _ = decode_block(FILE, &block, &random, &mut [0; 200]);
    }
}
