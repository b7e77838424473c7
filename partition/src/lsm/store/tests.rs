//! The store on simulated disks.

mod reading;
mod writing;

use std::path::Path;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::sim::{Damage, Faults, World};

use super::*;
use crate::lsm::cache::{Class, Origin};
use crate::lsm::filter::filter_hash;
use crate::lsm::table::{
    Compression, Found, Source, Table, TableMeta, TableOptions, TableWriter, Walk,
};
use crate::lsm::{BlockRef, Entry, FileId, Miss, Value};
use crate::memtable::Kind;

const TURNS_MAX: usize = 2_000_000;
const FILE: FileId = FileId {
    partition: 7,
    number: 12,
};
const TABLE: TableOptions = TableOptions {
    block_bytes: 4096,
    compression: Compression::Off,
    filter_bits: 12,
    level: 0,
    cleaned_to: 0,
};

/// What a test body gets.
#[derive(Clone)]
struct Env {
    world: World,
    reactor: Reactor,
    store: Rc<Store>,
}

fn options(cache_bytes: u64) -> Options {
    Options {
        dir: PathBuf::from("/data"),
        cache_bytes,
        reads_inflight_max: 16,
        open_files_max: 4,
    }
}

/// Faults that nobody notices.
fn unnoticeable(seed: u64) -> Faults {
    let mut faults = Faults::none();
    if seed > 0 {
        faults.disk.short = 0.3;
        faults.disk.interrupt = 0.05;
        faults.schedule.hold = 0.2;
    }
    faults
}

/// Runs a body in simulated worlds, and checks that nothing is left of it.
fn in_simulation<F: Future<Output = ()> + 'static>(cache_bytes: u64, body: impl Fn(Env) -> F) {
    for seed in 0..6 {
        let world = World::new(seed, unnoticeable(seed));
        let reactor = Reactor::simulated(&world, 0, 0);
        let store = Store::new(&reactor, options(cache_bytes));
        let env = Env {
            world: world.clone(),
            reactor: reactor.clone(),
            store: Rc::clone(&store),
        };
        let weak = Rc::downgrade(&store);
        let made = reactor.clone();
        let running = body(env);
        run(&world, &reactor, async move {
            make_root(&made).await;
            running.await;
            // What was begun and not waited for ends by itself.
            made.sleep(Duration::from_millis(200)).await;
            let cached = store.cache().counters();
            let cached_bytes = cached.meta_bytes + cached.data_bytes;
            assert_eq!(
                store.frames.taken_bytes(),
                cached_bytes,
                "nobody holds a block"
            );
            assert_eq!((store.in_flight(), store.gate.free()), (0, 16));
            drop(store);
            made.sleep(Duration::from_millis(50)).await;
        });
        assert_eq!(weak.strong_count(), 0, "nothing holds the store");
        assert_eq!(world.open_handles(0), 0, "handles are left open");
        reactor.shut_down();
    }
}

async fn make_root(reactor: &Reactor) {
    ashlar_io::file::create_dir(reactor, Path::new("/data"))
        .await
        .unwrap();
    ashlar_io::file::sync_dir(reactor, Path::new("/"))
        .await
        .unwrap();
}

/// Runs a future to its end.
fn run<T: 'static>(
    world: &World,
    reactor: &Reactor,
    future: impl Future<Output = T> + 'static,
) -> T {
    let answer = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&answer);
    reactor.spawn(async move {
        let value = future.await;
        *slot.borrow_mut() = Some(value);
    });
    for _ in 0..TURNS_MAX {
        assert!(world.step().is_some(), "nothing happens any more");
        reactor.turn();
        if let Some(value) = answer.borrow_mut().take() {
            return value;
        }
        reactor.park(None, || false);
    }
    panic!("the body goes on for ever");
}

fn key(number: u32) -> Vec<u8> {
    format!("key/{number:08}").into_bytes()
}

/// The value of version `version` of a key: text that compresses, and differs.
fn value(number: u32, version: u64) -> Vec<u8> {
    format!("value {number} of version {version}; ")
        .repeat(4)
        .into_bytes()
}

/// Writes a table of `keys` keys; every seventh has five versions.
async fn write_table(
    store: &Rc<Store>,
    file: FileId,
    keys: u32,
    options: TableOptions,
) -> TableMeta {
    let mut table = TableWriter::new(file, options);
    let mut writer = store.create(FileKind::Table, file);
    for number in 0..keys {
        let oldest = if number % 7 == 0 { 1 } else { 5 };
        for timestamp in (oldest..=5).rev() {
            table.push(&Entry {
                key: &key(number),
                timestamp,
                kind: Kind::Put,
                expire_at_ms: None,
                value: Value::Inline(&value(number, timestamp)),
            });
        }
        while let Some(chunk) = table.take_output() {
            writer.write(chunk.offset, chunk.bytes).await.unwrap();
        }
    }
    let (mut output, meta) = table.finish();
    while let Some(chunk) = output.take_rest() {
        writer.write(chunk.offset, chunk.bytes).await.unwrap();
    }
    writer.finish().await.unwrap();
    meta
}

/// Writes a table and opens it.
async fn make_table(store: &Rc<Store>, keys: u32, options: TableOptions) -> Rc<Table> {
    let meta = write_table(store, FILE, keys, options).await;
    store.open_table(FILE.partition, meta).await.unwrap()
}

/// Finds a version, fetching what is missing.
async fn find(env: &Env, table: &Table, number: u32, at: u64) -> Option<u64> {
    let key = key(number);
    let mut held = Vec::new();
    loop {
        let found = table.find(&*env.store.cache(), &key, filter_hash(&key), at);
        let miss = match found {
            Ok(Found::Absent) => return None,
            Ok(Found::Hit(hit)) => {
                let entry = hit.entry();
                let expected = value(number, entry.timestamp);
                assert_eq!(entry.value, Value::Inline(&expected));
                return Some(entry.timestamp);
            }
            Err(miss) => miss,
        };
        held.push(env.store.fetch(miss, Origin::Point).await.unwrap());
    }
}

/// Returns all blocks of a table.
async fn blocks_of(env: &Env, table: &Rc<Table>) -> Vec<BlockRef> {
    let windows = Windows::new(&env.store, Purpose::Scrub, 1);
    let mut walk = Walk::new(Rc::clone(table));
    let mut blocks = Vec::new();
    loop {
        match walk.next(&windows) {
            Ok(Some(block)) => blocks.push(block),
            Ok(None) => return blocks,
            Err(miss) => windows.load(miss).await.unwrap(),
        }
    }
}

fn miss(block: BlockRef) -> Miss {
    Miss {
        file: FILE,
        block,
        class: Class::Data,
    }
}

fn path(kind: FileKind) -> PathBuf {
    let name = FileName { file: FILE, kind };
    name.path(Path::new("/data"))
}
