//! Partitions with tables on a simulated disk, damaged here and there.

use std::path::{Path, PathBuf};

use ashlar_consensus::PartitionId;
use ashlar_io::sim::{Damage, Faults, World};
use ashlar_io::{Reactor, file};

use super::*;
use crate::key::KeyRange;
use crate::lsm::job::Context;
use crate::lsm::output::Output;
use crate::lsm::ranges::Ranges;
use crate::lsm::retain::Depth;
use crate::lsm::{Entry, GroundOptions, Layout};
use crate::memtable::Kind;
use crate::snapshot::Expected;

const DAY: Duration = Duration::from_secs(86_400);
const TICK: Duration = Duration::from_millis(100);
const KEYS: u64 = 3_000;

/// A shard with three partitions, a table and a value file in each.
struct Rig {
    world: World,
    reactor: Reactor,
    ground: Ground,
    scrub: Scrub,
    partitions: Vec<Partition>,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let world = World::new(seed, Faults::none());
        let reactor = Reactor::simulated(&world, 0, 0);
        let options = GroundOptions {
            dir: PathBuf::from("/data"),
            cache_bytes: 1 << 20,
            memtable_bytes: 1 << 20,
            reads_inflight_max: 4,
            open_files_max: 2,
            layout: Layout::default(),
        };
        let ground = Ground::new(&reactor, options);
        let mut rig = Self {
            scrub: Scrub::new(&ground),
            world,
            reactor,
            ground,
            partitions: Vec::new(),
        };
        let machine = rig.reactor.clone();
        rig.run(async move {
            file::create_dir(&machine, Path::new("/data"))
                .await
                .unwrap()
        });
        for number in 0..3 {
            let version = rig.run(written(rig.ground.clone(), number));
            let (id, range) = (PartitionId(number), KeyRange::all());
            let mut partition = Partition::on_ground(id, range, 7, &rig.ground);
            partition.tree.as_mut().unwrap().recovered(version);
            rig.partitions.push(partition);
        }
        rig
    }

    /// Runs a task to its end.
    fn run<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> T {
        let slot: Rc<RefCell<Option<T>>> = Rc::default();
        let landing = Rc::clone(&slot);
        self.reactor.spawn(async move {
            *landing.borrow_mut() = Some(task.await);
        });
        loop {
            self.turn(Duration::from_millis(1));
            if let Some(done) = slot.borrow_mut().take() {
                return done;
            }
        }
    }

    fn turn(&self, longest: Duration) {
        self.reactor
            .park(Some(self.reactor.now() + longest), || false);
        self.world.step().expect("a parked shard has a next turn");
        self.reactor.turn();
        self.ground.grant_slices(16);
    }

    /// Lets time pass, with a call to the search every 100 ms.
    fn pass(&mut self, time: Duration, cycle: Duration) {
        let until = self.reactor.now() + time;
        while self.reactor.now() < until {
            self.scrub.turn(cycle, self.partitions.iter_mut());
            let next = self.reactor.now() + TICK;
            while self.reactor.now() < next {
                self.turn(TICK);
            }
        }
    }

    fn damage(&self, path: &str, offset: u64) {
        let damage = Damage::FlipBit { offset, bit: 3 };
        self.world.disk_damage(0, Path::new(path), &damage).unwrap();
    }

    /// Returns the numbers of the damaged partitions.
    fn damaged(&self) -> Vec<u32> {
        let damaged = self.partitions.iter().filter(|of| of.damage().is_some());
        damaged.map(|partition| partition.id().0).collect()
    }
}

/// Writes a table and a value file; returns the version that has them.
async fn written(ground: Ground, partition: u32) -> Version<Rc<Table>> {
    let context = Context {
        store: Rc::clone(&ground.store),
        layout: ground.layout,
        partition,
        numbers: Rc::default(),
        low_water: 0,
        ranges: Ranges::default(),
        should_yield: Rc::default(),
    };
    let mut output = Output::new(&context, 0, Depth::Upper);
    for n in 0..KEYS {
        let (key, bytes) = (format!("\0key:{n:06}"), [b'v'; 2000]);
        let value = match n % 100 {
            0 => Value::Separate(output.separate(&bytes).await.unwrap()),
            _ => Value::Inline(&bytes[..100]),
        };
        let entry = Entry {
            key: key.as_bytes(),
            timestamp: n + 1,
            kind: Kind::Put,
            expire_at_ms: None,
            value,
        };
        output.push(&entry);
    }
    let (mut edit, opened) = output.finish().await.unwrap();
    let id = context.new_file().number;
    edit.add_runs.push(crate::lsm::edit::AddRun {
        id,
        age: id,
        level: 0,
    });
    edit.add_tables.iter_mut().for_each(|add| add.run = id);
    (edit.partition, edit.sequence) = (partition, 1);
    edit.next_number = context.numbers.next();
    Version::empty(partition).apply(&edit, opened).unwrap()
}

#[test]
fn healthy_files_are_read_in_the_time_that_is_given() {
    let mut rig = Rig::new(1);
    let total: u64 = rig.partitions.iter().map(Partition::file_bytes).sum();
    let cycle = Duration::from_secs(20);
    rig.pass(cycle / 2, cycle);
    let half = rig.scrub.figures();
    assert!(half.cycles == 0 && half.errors == 0, "{half:?}");
    assert!((total / 4..total * 3 / 4).contains(&half.bytes), "{half:?}");
    rig.pass(cycle * 3, cycle);
    let figures = rig.scrub.figures();
    assert!((2..=4).contains(&figures.cycles), "{figures:?}");
    assert_eq!((figures.errors, rig.damaged()), (0, Vec::new()));
    assert!(
        rig.ground.store.cache().counters().data_bytes == 0,
        "nothing is cached"
    );
}

#[test]
fn a_shard_reads_no_faster_than_it_may() {
    let mut rig = Rig::new(2);
    rig.pass(Duration::from_secs(10), Duration::from_millis(1));
    let figures = rig.scrub.figures();
    assert!(figures.bytes <= RATE_MAX * 10 + BURST_BYTES, "{figures:?}");
    assert!(figures.cycles > 10, "{figures:?}");
    let before = figures.bytes;
    rig.pass(Duration::from_secs(10), DAY * 14);
    assert!(rig.scrub.figures().bytes <= before + BURST_BYTES);
}

#[test]
fn rot_is_found_before_a_reader_meets_it() {
    for offset in [0, 5_000, 100_000, 250_000] {
        let mut rig = Rig::new(3);
        rig.damage("/data/00001/0000000002.table", offset);
        rig.pass(Duration::from_secs(5), Duration::from_secs(2));
        assert_eq!(rig.damaged(), [1], "offset {offset}");
        let what = rig.partitions[1].damage().unwrap().to_string();
        let place = format!("00001/0000000002.table at offset {}", offset / 4096 * 4096);
        assert!(what.contains(&place), "{what}");
        let figures = rig.scrub.figures();
        assert!(
            figures.errors == 1 && figures.cycles > 1,
            "the others go on: {figures:?}"
        );
    }
}

#[test]
fn a_lost_sector_at_the_end_of_a_table_is_found() {
    let mut rig = Rig::new(4);
    let path = "/data/00002/0000000002.table";
    let bytes = rig.world.read_file(0, Path::new(path)).unwrap().len() as u64;
    let lost = Damage::ZeroSector {
        offset: bytes - 4096,
    };
    rig.world.disk_damage(0, Path::new(path), &lost).unwrap();
    rig.pass(Duration::from_secs(5), Duration::from_secs(2));
    assert_eq!(rig.damaged(), [2]);
}

#[test]
fn a_file_that_is_cut_off_or_gone_is_found() {
    let mut rig = Rig::new(5);
    let path = |partition| PathBuf::from(format!("/data/{partition:05}/0000000002.table"));
    let cut = Damage::Truncate { bytes: 8192 };
    rig.world.disk_damage(0, &path(0), &cut).unwrap();
    let (machine, gone) = (rig.reactor.clone(), path(2));
    rig.run(async move { file::unlink(&machine, &gone).await.unwrap() });
    rig.pass(Duration::from_secs(5), Duration::from_secs(2));
    assert_eq!(rig.damaged(), [0, 2]);
    let what = rig.partitions[2].damage().unwrap();
    assert!(
        what.contains("00002/0000000002.table") && what.contains("not there"),
        "{what}"
    );
}

#[test]
fn a_value_that_is_needed_is_found_and_bytes_between_values_harm_nobody() {
    let mut rig = Rig::new(6);
    // The first value begins behind the header.
    rig.damage("/data/00000/0000000001.values", 4096 + 1000);
    let file = rig
        .world
        .read_file(0, Path::new("/data/00001/0000000001.values"))
        .unwrap();
    rig.damage("/data/00001/0000000001.values", file.len() as u64 - 1);
    rig.pass(Duration::from_secs(5), Duration::from_secs(2));
    assert_eq!(rig.damaged(), [0]);
    let what = rig.partitions[0].damage().unwrap();
    assert!(what.contains("0000000001.values at offset 4096"), "{what}");
    assert!(rig.scrub.figures().errors > 1, "both are told");
}

#[test]
fn a_file_that_a_merge_has_removed_is_passed_over() {
    let mut rig = Rig::new(7);
    let cycle = Duration::from_secs(20);
    rig.pass(Duration::from_secs(8), cycle);
    for number in 0..3 {
        let tree = rig.partitions[number].tree.as_mut().unwrap();
        tree.recovered(Version::empty(u32::try_from(number).unwrap()));
    }
    for (path, _) in rig.world.list_files(0) {
        let machine = rig.reactor.clone();
        rig.run(async move { file::unlink(&machine, &path).await.unwrap() });
    }
    rig.pass(cycle * 2, cycle);
    let figures = rig.scrub.figures();
    assert_eq!((figures.errors, rig.damaged()), (0, Vec::new()));
    assert_eq!(figures.files_left, 0);
}

#[test]
fn what_another_replica_refused_is_looked_at_at_once() {
    for (file, offset) in [("2.table", 5_000), ("1.values", 4096 + 1000)] {
        let mut rig = Rig::new(8);
        let suspect = rig.scrub.suspect(&mut rig.partitions[1]);
        assert_eq!(rig.run(suspect), None, "all is as it was written");
        rig.damage(&format!("/data/00001/000000000{file}"), offset);
        let suspect = rig.scrub.suspect(&mut rig.partitions[1]);
        let wrong = rig.run(suspect).expect("it is damaged");
        assert!(wrong.contains(file), "{wrong}");
    }
}

#[test]
fn damage_that_its_sender_does_not_know_of_is_not_taken_over() {
    let rig = Rig::new(9);
    let edit = rig.partitions[1].tree.as_ref().unwrap().checkpoint();
    for expected in Expected::all_of(&edit) {
        for is_damaged in [true, false] {
            let (from, to) = (rig.ground.clone(), rig.ground.clone());
            let bytes = usize::try_from(expected.bytes).unwrap();
            let received = rig.run(async move {
                let file = from.read_file(1, expected.file, 0, bytes).await.unwrap();
                let mut sent = file.clone();
                sent[bytes / 2] ^= u8::from(is_damaged);
                // Another partition's directory stands for another node's.
                let mut sink = to.write_file(2, expected).await;
                sink.write(0, &sent).await.unwrap();
                let finished = sink.finish().await;
                (
                    finished.is_ok(),
                    to.read_file(2, expected.file, 0, bytes).await.is_ok(),
                )
            });
            let expected = !is_damaged;
            assert_eq!(received, (expected, expected));
        }
    }
}

/// Tables that cannot be opened will be there again when they are repaired: what was deleted meanwhile must not be.
#[test]
fn deletions_beside_tables_that_cannot_be_opened_leave_a_trace() {
    let rig = Rig::new(10);
    let snapshot = rig.partitions[1].tree.as_ref().unwrap().checkpoint();
    let (id, range) = (PartitionId(1), KeyRange::all());
    let mut partition = Partition::on_ground(id, range, 7, &rig.ground);
    let tree = partition.tree.as_mut().unwrap();
    assert!(tree.is_empty());
    tree.recovered_unopened(snapshot);
    assert!(!tree.is_empty());
}
