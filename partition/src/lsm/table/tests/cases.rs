//! What tables of a certain shape must do.

use super::*;

#[test]
fn large_tables_have_many_partitions_and_chunks() {
    for compression in [Compression::Off, Compression::Lz4] {
        let options = TableOptions {
            block_bytes: 1024,
            compression,
            ..OPTIONS
        };
        let model = ordered(20_000, 5);
        let (disk, meta) = written(&model, options);
        assert!(meta.file_bytes > 4 * (256 << 10));
        check_meta(&meta, &disk, &model, &options);
        let table = opened(&disk, &meta).unwrap();
        assert!(table.top(Stream::Main).len() > 2 && table.top(Stream::Old).len() > 2);
        for (stream, model) in streams(&model) {
            check_scans(
                &mut TableCursor::new(Rc::clone(&table), stream),
                &disk,
                &model,
            );
        }
        for key in (0..21_000).step_by(7) {
            let key = format!("user:{key:08}").into_bytes();
            check_find(&table, &disk, &model, &key, 102);
            check_find(&table, &disk, &model, &key, u64::MAX);
        }
        check_walk(&table, &disk, &model);
    }
}

#[test]
fn one_key_may_have_partitions_of_versions() {
    let versions = (0..40_000_u64).map(|at| {
        let place = (b"counter".to_vec(), Reverse(at));
        (place, Version::put(at.to_string()))
    });
    let model: Model = versions.collect();
    let options = TableOptions {
        block_bytes: 512,
        ..OPTIONS
    };
    let (disk, meta) = written(&model, options);
    let table = opened(&disk, &meta).unwrap();
    assert!(table.top(Stream::Old).len() > 10);
    for at in (0..41_000).step_by(13) {
        check_find(&table, &disk, &model, b"counter", at);
    }
    // Any one version is found by way of one partition and one block, not by a walk over them.
    disk.blocks.borrow_mut().clear();
    disk.misses.set(0);
    check_find(&table, &disk, &model, b"counter", 77);
    assert_eq!(
        disk.misses.get(),
        5,
        "filter, two of the main stream, two of the old one"
    );
}

#[test]
fn compression_saves_sectors() {
    let model = ordered(20_000, 1);
    let compressed = TableOptions {
        block_bytes: 16_384,
        compression: Compression::Lz4,
        ..OPTIONS
    };
    let plain = TableOptions {
        compression: Compression::Off,
        ..compressed
    };
    let sizes = [compressed, plain].map(|options| written(&model, options).1.file_bytes);
    println!("{} bytes compressed, {} plain", sizes[0], sizes[1]);
    assert!(sizes[0] * 3 < sizes[1] * 2);
}

#[test]
fn sectors_are_full_whatever_compression_makes_of_the_data() {
    // Bytes of each value that are the same in all values, of 200.
    for same in [0, 20, 60, 100, 160] {
        let versions = (0..10_000_u64).map(|key| {
            let random = (0..25).flat_map(|word| {
                filter_hash(&[key, word].map(u64::to_le_bytes).concat()).to_le_bytes()
            });
            let value: Vec<u8> = std::iter::repeat_n(7, same)
                .chain(random)
                .take(200)
                .collect();
            (
                (
                    key.to_le_bytes().iter().rev().copied().collect(),
                    Reverse(1),
                ),
                Version::put(value),
            )
        });
        let options = TableOptions {
            block_bytes: 16_384,
            compression: Compression::Lz4,
            ..OPTIONS
        };
        let (disk, meta) = written(&versions.collect(), options);
        let (mut walk, mut used, mut taken) = (Walk::new(opened(&disk, &meta).unwrap()), 0, 0);
        while let Some(block) = disk.until(|disk| walk.next(disk)) {
            used += u64::from(block.stored_bytes);
            taken += u64::from(block.stored_bytes).next_multiple_of(SECTOR_BYTES);
        }
        let share = used as f64 / taken as f64;
        println!(
            "{same} bytes the same: {share:.3} of the sectors used, {} bytes",
            meta.file_bytes
        );
        assert!(share > 0.93, "{same} bytes the same: {share}");
    }
}

#[test]
fn the_estimate_is_near_the_size() {
    let model = ordered(50_000, 3);
    let mut writer = TableWriter::new(FILE, OPTIONS);
    for ((key, timestamp), version) in &model {
        writer.push(&version.entry(key, timestamp.0));
    }
    let estimated = writer.estimated_bytes() as f64;
    while writer.seal(1000) == Sealing::Unfinished {}
    let (_, meta) = writer.finish();
    let ratio = estimated / meta.file_bytes as f64;
    assert!(
        (0.98..1.02).contains(&ratio),
        "estimated {ratio} times the size"
    );
}

#[test]
fn readers_learn_what_comes_next() {
    let (disk, meta) = written(&ordered(10_000, 1), OPTIONS);
    let table = opened(&disk, &meta).unwrap();
    let mut cursor = TableCursor::new(Rc::clone(&table), Stream::Main);
    assert!(cursor.upcoming(4).is_empty());
    disk.until(|disk| cursor.seek(disk, Bound::Unbounded));
    let upcoming = cursor.upcoming(4);
    assert_eq!(upcoming.len(), 4);
    assert_eq!(
        cursor.upcoming_partition(),
        Some(*table.top(Stream::Main).block(1))
    );
    disk.misses.set(0);
    upcoming.iter().for_each(|block| drop(disk.fetch(block)));
    let entries = |block: &BlockRef| {
        let loaded = disk.fetch(block).unwrap();
        block::BlockView::of(loaded.bytes()).count()
    };
    let steps: usize = upcoming.iter().map(entries).sum();
    for _ in 0..steps {
        disk.until(|disk| cursor.next(disk));
    }
    assert_eq!(disk.misses.get(), 0);
}

#[test]
#[should_panic(expected = "keys come in order")]
fn keys_out_of_order_stop_the_writer() {
    let mut writer = TableWriter::new(FILE, OPTIONS);
    let version = Version::put("v");
    writer.push(&version.entry(b"b", 1));
    writer.push(&version.entry(b"a", 1));
}

#[test]
#[should_panic(expected = "newest first")]
fn versions_out_of_order_stop_the_writer() {
    let mut writer = TableWriter::new(FILE, OPTIONS);
    let version = Version::put("v");
    writer.push(&version.entry(b"a", 1));
    writer.push(&version.entry(b"a", 1));
}
