//! Fetching, values, windows, and what they say of damage.

use std::future::poll_fn;
use std::ops::Bound;
use std::pin::pin;
use std::task::Poll;

use super::*;
use crate::lsm::ValueRef;
use crate::lsm::table::{Stream, TableCursor};
use crate::lsm::values::ValueWriter;

const COMPRESSED: TableOptions = TableOptions {
    block_bytes: 16 << 10,
    compression: Compression::Lz4,
    ..TABLE
};

/// Polls a future once and drops it.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn a_table_that_was_written_answers_cold_and_warm() {
    in_simulation(1 << 20, |env| async move {
        for options in [TABLE, COMPRESSED] {
            let file = FileId {
                number: u64::from(options.block_bytes),
                ..FILE
            };
            let meta = write_table(&env.store, file, 3_000, options).await;
            let table = env.store.open_table(FILE.partition, meta).await.unwrap();
            let mut rng = Rng::new(1);
            for _ in 0..400 {
                let number = u32::try_from(rng.below(3_000)).unwrap();
                let at = rng.range(1..8);
                let oldest = if number % 7 == 0 { 1 } else { 5 };
                let expected = (at >= oldest).then_some(at.min(5));
                assert_eq!(find(&env, &table, number, at).await, expected);
            }
            assert_eq!(find(&env, &table, 5_000, 7).await, None);
        }
        let reads = env.store.counters().reads;
        assert!(reads[Purpose::Point as usize] > 100);
        assert_eq!(reads[Purpose::Open as usize], 4);
        let counted = env.store.cache().counters();
        assert!(counted.hits > 400 && counted.misses > 100);
    });
}

#[test]
fn concurrent_fetches_of_one_block_read_once() {
    in_simulation(1 << 20, |env| async move {
        let table = make_table(&env.store, 500, COMPRESSED).await;
        let blocks = blocks_of(&env, &table).await;
        let before = env.store.counters();
        for _ in 0..10 {
            for &block in &blocks {
                let store = Rc::clone(&env.store);
                env.reactor.spawn(async move {
                    let fetched = store.fetch(miss(block), Origin::Scan).await;
                    assert_eq!(fetched.unwrap().bytes().len(), block.bytes as usize);
                });
            }
        }
        env.reactor.sleep(Duration::from_millis(100)).await;
        let after = env.store.counters();
        let scan = Purpose::Scan as usize;
        let count = blocks.len() as u64;
        assert_eq!(after.reads[scan] - before.reads[scan], count);
        assert_eq!(after.shared, 9 * count);
        assert_eq!(env.store.in_flight(), 0);
    });
}

#[test]
fn a_dropped_fetch_goes_on_and_leaks_nothing() {
    in_simulation(1 << 20, |env| async move {
        let table = make_table(&env.store, 500, TABLE).await;
        let blocks = blocks_of(&env, &table).await;
        for &block in &blocks {
            let fetching = env.store.fetch(miss(block), Origin::Point);
            assert!(poll_once(fetching).await.is_none());
            let reading = env.store.read_block(miss(block), Purpose::Scrub);
            assert!(poll_once(reading).await.is_none());
        }
        let windows = Windows::new(&env.store, Purpose::Merge, 1);
        assert!(poll_once(windows.load(miss(blocks[0]))).await.is_none());
        drop(windows);
        env.reactor.sleep(Duration::from_millis(100)).await;
        assert_eq!(env.store.in_flight(), 0);
        assert!(
            blocks
                .iter()
                .all(|block| env.store.find(FILE, block).is_some())
        );
    });
}

#[test]
fn the_cache_stays_within_its_budget_under_load() {
    in_simulation(128 << 10, |env| async move {
        let table = make_table(&env.store, 6_000, COMPRESSED).await;
        let blocks = Rc::new(blocks_of(&env, &table).await);
        for seed in 0..40 {
            let (env, blocks) = (env.clone(), Rc::clone(&blocks));
            env.reactor.clone().spawn(async move {
                let mut rng = Rng::new(seed);
                for _ in 0..50 {
                    let block = blocks[rng.index(blocks.len())];
                    let class = [Class::Meta, Class::Data][rng.index(2)];
                    let origin = [Origin::Point, Origin::Scan][rng.index(2)];
                    let fetched = env
                        .store
                        .fetch(
                            Miss {
                                class,
                                ..miss(block)
                            },
                            origin,
                        )
                        .await
                        .unwrap();
                    assert_eq!(fetched.bytes().len(), block.bytes as usize);
                }
            });
        }
        env.reactor.sleep(Duration::from_secs(2)).await;
        let frames = &env.store.frames;
        assert!(env.store.cache().counters().evictions > 500);
        assert!(frames.taken_bytes() <= 128 << 10);
        // Sixteen reads are in flight, and forty readers may hold what they were brought.
        assert!(frames.taken_bytes_peak() <= (128 << 10) + 56 * (16 << 10));
    });
}

#[test]
fn damage_is_an_error_that_names_file_and_offset() {
    in_simulation(1 << 20, |env| async move {
        let table = make_table(&env.store, 1_000, COMPRESSED).await;
        let blocks = blocks_of(&env, &table).await;
        let mut rng = Rng::new(2);
        for block in blocks {
            let byte = rng.below(u64::from(block.stored_bytes));
            let damage = Damage::FlipBit {
                offset: block.offset() + byte,
                bit: 3,
            };
            env.world
                .disk_damage(0, &path(FileKind::Table), &damage)
                .unwrap();
            let fetched = env.store.fetch(miss(block), Origin::Point).await;
            let error = fetched.unwrap_err();
            assert!(error.is_damage());
            let place = format!(
                "/data/00007/0000000012.table at offset {}: ",
                block.offset()
            );
            assert!(error.to_string().starts_with(&place), "{error}");
            let windows = Windows::new(&env.store, Purpose::Merge, 1);
            assert!(windows.load(miss(block)).await.unwrap_err().is_damage());
            assert!(windows.find(FILE, &block).is_none());
            assert!(
                env.store.find(FILE, &block).is_none(),
                "damage is not cached"
            );
        }
    });
}

#[test]
fn a_file_that_is_cut_or_gone_is_damaged_or_not_found() {
    in_simulation(1 << 20, |env| async move {
        let meta = write_table(&env.store, FILE, 1_000, TABLE).await;
        let table = env
            .store
            .open_table(FILE.partition, meta.clone())
            .await
            .unwrap();
        let block = *blocks_of(&env, &table).await.last().unwrap();
        let bytes = block.offset();
        let cut = Damage::Truncate { bytes };
        env.world
            .disk_damage(0, &path(FileKind::Table), &cut)
            .unwrap();
        let fetched = env.store.fetch(miss(block), Origin::Point).await;
        assert!(
            fetched
                .unwrap_err()
                .to_string()
                .contains("the file ends at")
        );
        let windows = Windows::new(&env.store, Purpose::Merge, 1);
        let error = windows.load(miss(block)).await.unwrap_err();
        assert!(
            error.to_string().contains("behind the end of the file"),
            "{error}"
        );
        assert!(
            env.store
                .open_table(FILE.partition, meta.clone())
                .await
                .is_err()
        );
        let number = 99;
        let gone = TableMeta { number, ..meta };
        let error = env
            .store
            .open_table(FILE.partition, gone)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("0000000099.table"), "{error}");
    });
}

#[test]
fn a_failed_read_is_told_to_all_and_may_be_tried_again() {
    in_simulation(1 << 20, |env| async move {
        let table = make_table(&env.store, 200, TABLE).await;
        let block = blocks_of(&env, &table).await[1];
        let windows = Windows::new(&env.store, Purpose::Merge, 1);
        let mut faults = Faults::none();
        faults.disk.read_error = 1.0;
        env.world.set_faults(faults);
        let fetching = (0..3).map(|_| env.store.fetch(miss(block), Origin::Point));
        for fetch in fetching.collect::<Vec<_>>() {
            let error = fetch.await.unwrap_err();
            assert!(!error.is_damage());
            assert!(error.to_string().contains("cannot be read"), "{error}");
        }
        assert!(!windows.load(miss(block)).await.unwrap_err().is_damage());
        env.world.heal();
        assert!(env.store.fetch(miss(block), Origin::Point).await.is_ok());
        windows.load(miss(block)).await.unwrap();
        assert!(windows.find(FILE, &block).is_some());
    });
}

/// Writes a value file; returns references to its values.
async fn write_values(store: &Rc<Store>, lengths: &[usize]) -> Vec<(ValueRef, Vec<u8>)> {
    let mut values = ValueWriter::new(FILE);
    let mut writer = store.create(FileKind::Values, FILE);
    let mut written = Vec::new();
    for (number, len) in lengths.iter().enumerate() {
        let bytes: Vec<u8> = (0..*len)
            .map(|at| (at * 31 + number * 7).to_le_bytes()[0])
            .collect();
        written.push((values.push(&bytes), bytes));
        while let Some(chunk) = values.take_output() {
            writer.write(chunk.offset, chunk.bytes).await.unwrap();
        }
    }
    let (mut output, _) = values.finish();
    while let Some(chunk) = output.take_rest() {
        writer.write(chunk.offset, chunk.bytes).await.unwrap();
    }
    writer.finish().await.unwrap();
    written
}

#[test]
fn small_values_are_cached_and_large_ones_found_while_held() {
    in_simulation(1 << 20, |env| async move {
        let lengths = [
            1_024,
            1_500,
            16 << 10,
            (16 << 10) + 1,
            300_000,
            5_000_001,
            1_100,
        ];
        let written = write_values(&env.store, &lengths).await;
        for (value, bytes) in &written {
            assert!(env.store.find_value(7, value).is_none());
            let fetched = env.store.fetch_value(7, *value).await.unwrap();
            assert_eq!(fetched.bytes(), bytes);
            let found = env.store.find_value(7, value).expect("it is held");
            assert!(Rc::ptr_eq(&found, &fetched));
            drop((fetched, found));
            let stays = env.store.find_value(7, value).is_some();
            assert_eq!(stays, bytes.len() <= 16 << 10);
        }
        let (mut value, _) = written[0].clone();
        value.checksum ^= 1;
        value.offset += 8;
        assert!(
            env.store
                .fetch_value(7, value)
                .await
                .unwrap_err()
                .is_damage()
        );
        value.offset = u64::MAX;
        let error = env.store.fetch_value(7, value).await.unwrap_err();
        assert!(
            error.to_string().contains("no value can lie here"),
            "{error}"
        );
    });
}

/// Walks through a stream of a table.
async fn scan(windows: &Windows, table: &Rc<Table>, stream: Stream) -> Vec<(Vec<u8>, u64)> {
    let mut cursor = TableCursor::new(Rc::clone(table), stream);
    while let Err(miss) = cursor.seek(windows, Bound::Unbounded) {
        windows.load(miss).await.unwrap();
    }
    let mut seen = Vec::new();
    while cursor.is_valid() {
        seen.push((cursor.key().to_vec(), cursor.entry().timestamp));
        while let Err(miss) = cursor.next(windows) {
            windows.load(miss).await.unwrap();
        }
    }
    seen
}

#[test]
fn a_merge_reads_a_table_in_large_pieces_past_the_cache() {
    in_simulation(16 << 20, |env| async move {
        for options in [TABLE, COMPRESSED] {
            let file = FileId {
                number: u64::from(options.block_bytes),
                ..FILE
            };
            let meta = write_table(&env.store, file, 20_000, options).await;
            let table = env
                .store
                .open_table(FILE.partition, meta.clone())
                .await
                .unwrap();
            let before = env.store.counters();
            let windows = Windows::new(&env.store, Purpose::Merge, 1);
            let main = scan(&windows, &table, Stream::Main).await;
            let expected: Vec<_> = (0..20_000).map(|number| (key(number), 5)).collect();
            assert!(main == expected);
            let after = env.store.counters();
            let merge = Purpose::Merge as usize;
            let read = after.read_bytes[merge] - before.read_bytes[merge];
            let reads = after.reads[merge] - before.reads[merge];
            let spare = 4 * CHUNK_BYTES as u64;
            assert!(
                read < meta.file_bytes + spare,
                "{read} of {}",
                meta.file_bytes
            );
            assert!(read / reads > 60 << 10, "{reads} reads of {read} bytes");
            let old = scan(&windows, &table, Stream::Old).await;
            let with_old = (0..20_000).filter(|number| number % 7 == 0);
            let expected =
                with_old.flat_map(|number| (1..5).rev().map(move |at| (key(number), at)));
            assert!(old.into_iter().eq(expected));
        }
        assert_eq!(env.store.cache().counters().blocks, 0);
    });
}

#[test]
fn a_window_serves_blocks_in_any_order() {
    in_simulation(1 << 20, |env| async move {
        let table = make_table(&env.store, 20_000, TABLE).await;
        let blocks = blocks_of(&env, &table).await;
        let file = env.world.read_file(0, &path(FileKind::Table)).unwrap();
        let windows = Windows::new(&env.store, Purpose::Merge, 2);
        let mut rng = Rng::new(9);
        let mut at = 0;
        for _ in 0..2_000 {
            at = if rng.chance(0.9) {
                at + 1
            } else {
                rng.index(blocks.len())
            };
            let block = blocks[at % blocks.len()];
            if windows.find(FILE, &block).is_none() {
                windows.load(miss(block)).await.unwrap();
            }
            let found = windows.find(FILE, &block).expect("it was loaded");
            let from = usize::try_from(block.offset()).unwrap();
            assert!(found.bytes() == &file[from..from + block.bytes as usize]);
        }
    });
}
