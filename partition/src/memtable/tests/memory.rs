//! What a memtable holds in bytes, and that it gives them back.

use super::*;

#[test]
fn memory_stays_bounded_while_values_change_size() {
    let mut memtable = Memtable::new(3);
    let value = vec![7; 3000];
    let mut held_after_warmup = 0;
    for (step, random) in numbers(0).take(5_000_000).enumerate() {
        let key = (random % 20_000).to_le_bytes();
        let value = &value[..(random >> 32) as usize % 500 + (random >> 50) as usize % 8 * 300];
        let timestamp = step as u64 + 1;
        let version = Version::put(timestamp, None, value);
        memtable.put(
            memtable.hash(&key),
            &key,
            version,
            timestamp.saturating_sub(5000),
            Beneath::Nothing,
        );
        if step == 1_000_000 {
            held_after_warmup = memtable.held_bytes();
        }
    }
    assert!(
        memtable.held_bytes() < held_after_warmup * 11 / 10,
        "{memtable:?}"
    );
    assert!(
        memtable.held_bytes() < memtable.used_bytes() * 3 / 2,
        "{memtable:?}"
    );
}

#[test]
fn space_returns_to_zero_when_all_is_deleted() {
    let mut memtable = Memtable::new(4);
    for random in numbers(0).take(300_000) {
        let (key, value) = (random.to_le_bytes(), vec![1; (random % 300) as usize]);
        memtable.put(
            memtable.hash(&key),
            &key,
            Version::put(5, Some(random), &value),
            0,
            Beneath::Nothing,
        );
    }
    assert!(memtable.keys() > 299_000 && memtable.expiring() == memtable.keys());
    for random in numbers(0).take(300_000) {
        let key = random.to_le_bytes();
        memtable.delete(memtable.hash(&key), &key, 6, 6, Beneath::Nothing);
    }
    assert_eq!(
        (memtable.keys(), memtable.expiring(), memtable.used_bytes()),
        (0, 0, 0)
    );
    assert!(memtable.held_bytes() < 2 << 20);
}

#[test]
fn a_small_key_costs_less_than_64_bytes_beside_its_own() {
    let mut memtable = Memtable::new(5);
    for random in numbers(0).take(1_000_000) {
        let key = [random.to_le_bytes(), random.rotate_left(7).to_le_bytes()].concat();
        memtable.put(
            memtable.hash(&key),
            &key,
            Version::put(1, None, &key[..8]),
            0,
            Beneath::Nothing,
        );
    }
    let overhead_bytes = memtable.held_bytes() / memtable.keys() - 24;
    assert!(overhead_bytes <= 64, "{overhead_bytes} {memtable:?}");
}

/// Puts keys in a random order until the memtable uses `bytes`.
fn fill(memtable: &mut Memtable, generation: u64, bytes: u64) {
    let value = [7; 300];
    for random in numbers(generation << 32) {
        if memtable.used_bytes() >= bytes {
            return;
        }
        let (key, value) = (
            random.to_le_bytes(),
            &value[..(random >> 40) as usize % 300],
        );
        let version = Version::put(generation + 1, None, value);
        memtable.put(memtable.hash(&key), &key, version, 0, Beneath::Tables);
    }
}

#[test]
fn chunks_go_back_to_the_pool_and_are_taken_from_there() {
    let pool = ChunkPool::new(64 << 20);
    let mut memtable = Memtable::with_pool(10, &pool);
    fill(&mut memtable, 0, 10 << 20);
    memtable.clear();
    let free_bytes = pool.free_bytes();
    assert!(free_bytes > 8 << 20, "{pool:?}");
    fill(&mut memtable, 1, 5 << 20);
    assert!(pool.free_bytes() < free_bytes);
    let next = Memtable::with_pool(memtable.seed(), &pool);
    assert_eq!(next.hash(b"k"), memtable.hash(b"k"));
    drop(memtable);
    assert_eq!(pool.free_bytes(), free_bytes);
}

/// Returns the resident bytes of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
#[ignore = "measures the whole process, so it must run alone"]
fn memory_of_the_process_stays_flat_over_generations() {
    let pool = ChunkPool::new(64 << 20);
    let mut frozen = Memtable::with_pool(11, &pool);
    let mut resident = Vec::new();
    for generation in 0..50 {
        let mut active = Memtable::with_pool(11, &pool);
        fill(&mut active, generation, 64 << 20);
        frozen = active;
        resident.push(resident_bytes() >> 10);
    }
    println!("{resident:?} KiB, {frozen:?}, {pool:?}");
    let early = resident[5..10].iter().max().unwrap();
    let late = resident[40..].iter().max().unwrap();
    assert!(late - late / 50 <= *early, "{early} {late} KiB");
}
