//! The cache against a map, its budget, and what survives a scan.

use std::collections::BTreeMap;

use ashlar_io::rng::Rng;

use super::*;
use crate::lsm::block::{BlockBuilder, BlockView, Child, Contents};

const BLOCK_BYTES: u64 = 4096;

fn file(number: u64) -> FileId {
    let partition = 3;
    FileId { partition, number }
}

/// A block that tells where it belongs.
fn block(cache: &Cache, file: FileId, sector: u32, bytes: usize) -> Rc<Block> {
    let mut frame = cache.frames().take(bytes);
    let name = u64::from(sector) << 32 | file.number;
    frame.bytes_mut()[..8].copy_from_slice(&name.to_le_bytes());
    Block::new(frame)
}

fn name(block: &Block) -> (u64, u32) {
    let word = u64::from_le_bytes(block.bytes()[..8].try_into().unwrap());
    (word & 0xFFFF_FFFF, u32::try_from(word >> 32).unwrap())
}

/// Asks as a reader does: once, and again after the block was fetched. Says whether it was a hit.
fn ask(cache: &mut Cache, sector: u32, class: Class, origin: Origin) -> bool {
    if cache.find(file(1), sector).is_some() {
        return true;
    }
    let fetched = block(cache, file(1), sector, 4_000);
    cache.insert(file(1), sector, class, origin, Rc::clone(&fetched));
    assert!(cache.find(file(1), sector).is_some());
    false
}

/// Walks every queue both ways and compares it with the counts.
fn check(cache: &Cache) {
    let mut blocks = 0;
    let mut class_bytes = [0, 0];
    for queue in &cache.queues {
        let (mut at, mut before, mut bytes) = (queue.first, NONE, 0);
        while at != NONE {
            let entry = &cache.entries[at as usize];
            assert_eq!(entry.before, before);
            assert_eq!(cache.number_of(entry.key), Some(at));
            let block = entry.block.as_ref().expect("queues hold blocks");
            assert_eq!(u64::from(entry.charged_bytes), block.charged_bytes());
            bytes += block.charged_bytes();
            class_bytes[usize::from(entry.class == Class::Data)] += block.charged_bytes();
            blocks += 1;
            (before, at) = (at, entry.after);
        }
        assert_eq!((queue.last, queue.bytes), (before, bytes));
    }
    let counters = cache.counters();
    assert_eq!(counters.blocks, blocks);
    assert_eq!([counters.meta_bytes, counters.data_bytes], class_bytes);
    assert_eq!(counters.insertions, counters.blocks + counters.evictions);
}

#[test]
fn what_is_found_is_what_was_put_under_that_key() {
    let mut rng = Rng::new(11);
    let mut cache = Cache::new(100 * BLOCK_BYTES);
    let mut put: BTreeMap<(u64, u32), usize> = BTreeMap::new();
    let mut held: Vec<Rc<Block>> = Vec::new();
    for step in 0..60_000 {
        let (number, sector) = (rng.below(4), u32::try_from(rng.below(120)).unwrap());
        match cache.find(file(number), sector) {
            Some(found) => {
                assert_eq!(name(&found), (number, sector));
                assert_eq!(found.bytes().len(), put[&(number, sector)]);
                if rng.chance(0.1) && held.len() < 20 {
                    held.push(found);
                }
            }
            None => {
                let bytes = [4_096, 12_000, 70_000, 1_100][rng.index(4)];
                let class = [Class::Meta, Class::Data][rng.index(2)];
                let origin = [Origin::Point, Origin::Scan][rng.index(2)];
                let new = block(&cache, file(number), sector, bytes);
                cache.insert(file(number), sector, class, origin, new);
                put.insert((number, sector), bytes);
            }
        }
        if rng.chance(0.1) && !held.is_empty() {
            held.swap_remove(rng.index(held.len()));
        }
        if rng.chance(0.001) {
            cache.forget(file(rng.below(4)), 0..120);
        }
        if step % 500 == 0 {
            check(&cache);
        }
    }
    drop(held);
    cache.shrink();
    assert!(cache.counters().evictions > 1_000);
    assert_eq!(cache.frames().over_bytes(), 0);
}

#[test]
fn held_blocks_stay_and_what_they_exceed_is_counted() {
    let mut cache = Cache::new(8 * BLOCK_BYTES);
    let held: Vec<Rc<Block>> = (0..20)
        .map(|sector| {
            let held = block(&cache, file(1), sector, 4_096);
            cache.insert(file(1), sector, Class::Data, Origin::Scan, Rc::clone(&held));
            held
        })
        .collect();
    assert!((0..20).all(|sector| cache.find(file(1), sector).is_some()));
    assert_eq!(cache.frames().over_bytes(), 12 * BLOCK_BYTES);
    drop(held);
    cache.shrink();
    check(&cache);
    assert_eq!(cache.frames().over_bytes(), 0);
    assert_eq!(cache.counters().blocks, 8);
}

#[test]
fn forgotten_blocks_go_first() {
    let mut cache = Cache::new(16 * BLOCK_BYTES);
    for number in [1, 2] {
        for sector in 0..8 {
            let new = block(&cache, file(number), sector, 4_096);
            cache.insert(file(number), sector, Class::Meta, Origin::Point, new);
        }
    }
    cache.forget(file(1), 0..100);
    for sector in 0..8 {
        let new = block(&cache, file(3), sector, 4_096);
        cache.insert(file(3), sector, Class::Data, Origin::Scan, new);
    }
    check(&cache);
    assert!((0..8).all(|sector| cache.find(file(1), sector).is_none()));
    assert!((0..8).all(|sector| cache.find(file(2), sector).is_some()));
}

/// Draws a sector with a probability of about one over its rank.
fn zipf(rng: &mut Rng, sectors: u32) -> u32 {
    let rank = f64::from(sectors).powf(rng.unit());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "1 <= rank"
    )]
    let rank = rank as u32 - 1;
    rank.wrapping_mul(2_654_435_761) % sectors
}

fn point_hits(cache: &mut Cache, rng: &mut Rng, count: u32) -> f64 {
    let mut hits = 0;
    for _ in 0..count {
        let sector = zipf(rng, 20_000);
        hits += u32::from(ask(cache, sector, Class::Data, Origin::Point));
    }
    f64::from(hits) / f64::from(count)
}

#[test]
fn the_hot_set_survives_a_scan_of_everything() {
    let mut rng = Rng::new(5);
    let mut cache = Cache::new(1_000 * BLOCK_BYTES);
    point_hits(&mut cache, &mut rng, 100_000);
    let before = point_hits(&mut cache, &mut rng, 20_000);
    for sector in 20_000..60_000 {
        ask(&mut cache, sector, Class::Data, Origin::Scan);
    }
    let after = point_hits(&mut cache, &mut rng, 5_000);
    println!("hits before the scan {before:.3}, right after it {after:.3}");
    assert!(before > 0.60 && after > before - 0.04);
    check(&cache);
}

#[test]
fn the_hot_set_survives_a_scan_by_points() {
    let mut rng = Rng::new(6);
    let mut cache = Cache::new(1_000 * BLOCK_BYTES);
    point_hits(&mut cache, &mut rng, 100_000);
    let before = point_hits(&mut cache, &mut rng, 20_000);
    for sector in 20_000..60_000 {
        ask(&mut cache, sector, Class::Data, Origin::Point);
    }
    let after = point_hits(&mut cache, &mut rng, 5_000);
    println!("hits before {before:.3}, right after {after:.3}");
    assert!(after > before - 0.12);
}

#[test]
fn indexes_outlive_the_blocks_they_lead_to() {
    let mut cache = Cache::new(1_000 * BLOCK_BYTES);
    let mut rng = Rng::new(7);
    // Each of 200 index blocks leads to 100 of 20,000 data blocks, asked for evenly.
    let mut index_hits = 0;
    for step in 0..60_000 {
        let sector = u32::try_from(rng.below(20_000)).unwrap();
        let is_hit = ask(
            &mut cache,
            100_000 + sector / 100,
            Class::Meta,
            Origin::Point,
        );
        index_hits += u32::from(is_hit && step >= 30_000);
        ask(&mut cache, sector, Class::Data, Origin::Point);
    }
    assert!(index_hits > 29_900, "{index_hits} of 30,000");
}

#[test]
fn keys_of_blocks_and_values_differ_and_impossible_values_have_none() {
    let value = |number, offset| ValueRef {
        number,
        offset,
        bytes: 5_000,
        checksum: 0,
    };
    let key = Key::value(3, &value(1, 4096)).unwrap();
    assert_ne!(key, Key::block(file(1), 512));
    assert_ne!(Some(key), Key::value(4, &value(1, 4096)));
    assert_ne!(Some(key), Key::value(3, &value(2, 4096)));
    assert_eq!(Key::value(3, &value(1, 4097)), None);
    assert_eq!(Key::value(3, &value(1, 1 << 36)), None);
    assert_eq!(Key::value(3, &value(u64::MAX, 0)), None);
}

/// An index partition that refers to the blocks at sectors below `count`.
fn partition(count: u32) -> Rc<Block> {
    let mut builder = BlockBuilder::of(Contents::Children, 1 << 15);
    for sector in 0..count {
        let block = BlockRef {
            sector,
            stored_bytes: 4096,
            bytes: 4096,
            checksum: 0,
        };
        let child = Child {
            block,
            min_timestamp: 0,
            max_timestamp: 0,
            tombstones: 0,
        };
        builder.push_child(format!("{sector:05}").as_bytes(), 0, &child);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    Block::detached(bytes)
}

#[test]
fn what_was_found_before_is_found_as_by_a_search() {
    let mut rng = Rng::new(5);
    let mut cache = Cache::new(30 * BLOCK_BYTES);
    let parent = partition(100);
    let parent_view = BlockView::of(parent.bytes());
    let recall = Recall::default();
    let (mut found, mut evicted) = (0, 0);
    for _ in 0..40_000 {
        let sector = u32::try_from(rng.below(100)).unwrap();
        let at = sector as usize;
        let wanted = parent_view.child(at).block;
        let searched = cache.peek(Key::block(file(1), sector));
        let counted = cache.counters();
        let again = match rng.coin() {
            true => cache.find_known(file(1), &wanted, (&recall, at)),
            false => cache.find_child(file(1), &wanted, (&parent, at)),
        };
        assert_eq!(
            again.as_ref().map(Rc::as_ptr),
            searched.as_ref().map(Rc::as_ptr)
        );
        let (hits, misses) = (cache.counters().hits, cache.counters().misses);
        let is_hit = u64::from(again.is_some());
        assert_eq!(
            (hits, misses),
            (counted.hits + is_hit, counted.misses + 1 - is_hit)
        );
        match again {
            Some(again) => {
                assert_eq!(name(&again), (1, sector));
                found += 1;
            }
            None => {
                let new = block(&cache, file(1), sector, 4_096);
                cache.insert(file(1), sector, Class::Data, Origin::Point, new);
                evicted = cache.counters().evictions;
            }
        }
    }
    assert!(
        found > 5_000 && evicted > 5_000,
        "{found} found, {evicted} evicted"
    );
    check(&cache);
}
