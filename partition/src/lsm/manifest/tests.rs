//! Checkpoints on simulated disks: the power is cut at every step of writing one.

use std::cell::RefCell;
use std::rc::Rc;

use ashlar_io::file::create_dir;
use ashlar_io::rng::Rng;
use ashlar_io::sim::{Damage, Faults, World};

use ashlar_consensus::{Index, PartitionId, Term};

use super::*;
use crate::lsm::edit::tests::meta;
use crate::lsm::edit::{AddRun, AddTable};

const DIR: &str = "/data";
const STEPS_MAX: usize = 100_000;

/// A checkpoint that is told apart by its position; `tables` make it long.
fn checkpoint(position: u64, tables: u64) -> Checkpoint {
    let table = |number| {
        let key = format!("{number:08}").into_bytes();
        let (run, meta) = (1, meta(number, &key, &key));
        AddTable { run, meta }
    };
    let partition = |partition| Edit {
        partition,
        sequence: position + 1,
        next_number: tables + 2,
        add_runs: vec![AddRun {
            id: 1,
            age: 1,
            level: 0,
        }],
        add_tables: (0..tables).map(table).collect(),
        ..Edit::default()
    };
    let ballot = |partition| BallotRecord {
        partition: PartitionId(partition),
        term: Term(position),
        vote: 2,
        committed: Index(position),
        has_forgotten: false,
    };
    Checkpoint {
        log_id: 7,
        position: Position(position),
        partitions: (0..3).map(partition).collect(),
        ballots: (0..3).map(ballot).collect(),
    }
}

/// Runs a future on a new reactor of the node; `None` when it has not ended after `steps_max` turns.
fn run<T: 'static, F>(world: &World, steps_max: usize, work: impl FnOnce(Reactor) -> F) -> Option<T>
where
    F: Future<Output = T> + 'static,
{
    let reactor = Reactor::simulated(world, 0, 0);
    let answer = Rc::new(RefCell::new(None));
    let (slot, future) = (Rc::clone(&answer), work(reactor.clone()));
    reactor.spawn(async move {
        let value = future.await;
        *slot.borrow_mut() = Some(value);
    });
    for _ in 0..steps_max {
        reactor.turn();
        if answer.borrow().is_some() || world.step().is_none() {
            break;
        }
    }
    answer.take()
}

async fn open(reactor: Reactor) -> Result<(Manifest, Option<Checkpoint>), ManifestError> {
    create_dir(&reactor, Path::new(DIR)).await.unwrap();
    sync_dir(&reactor, Path::new("/")).await.unwrap();
    Manifest::open(&reactor, Path::new(DIR), 5).await
}

fn read(world: &World) -> Result<Option<Checkpoint>, ManifestError> {
    let opened = run(world, STEPS_MAX, open).expect("opening ends");
    world.kill(0);
    opened.map(|(_, checkpoint)| checkpoint)
}

/// Writes checkpoints; says how many were written when the steps were used up, and cuts the power.
fn write(world: &World, steps_max: usize, checkpoints: Vec<Checkpoint>) -> usize {
    let written = Rc::new(RefCell::new(0));
    let count = Rc::clone(&written);
    run(world, steps_max, |reactor| async move {
        let (mut manifest, _) = open(reactor).await.unwrap();
        for checkpoint in checkpoints {
            manifest.write(&checkpoint).await.unwrap();
            *count.borrow_mut() += 1;
        }
    });
    world.crash(0);
    written.take()
}

#[test]
fn the_newest_checkpoint_is_found_again() {
    let world = World::new(1, Faults::none());
    assert_eq!(read(&world).unwrap(), None);
    // Shorter ones follow longer ones.
    for (position, tables) in (1..).zip([2000, 10, 0, 3000, 1]) {
        let checkpoint = checkpoint(position, tables);
        assert_eq!(write(&world, STEPS_MAX, vec![checkpoint.clone()]), 1);
        assert_eq!(read(&world).unwrap(), Some(checkpoint));
    }
    let files = world.list_files(0).into_iter().map(|(path, _)| path);
    let expected = ["005.0", "005.1"].map(|name| Path::new(DIR).join(name));
    assert_eq!(files.collect::<Vec<_>>(), expected);
}

#[test]
fn wherever_the_power_is_cut_a_whole_checkpoint_is_found() {
    let mut rng = Rng::new(3);
    for seed in 0..400 {
        let world = World::new(seed, Faults::none());
        let mut last: Option<u64> = None;
        for _ in 0..4 {
            let first = last.map_or(1, |last| last + 1);
            let count = 1 + rng.next_u64() % 3;
            let sizes = (0..count).map(|_| [0, 5, 2000][(rng.next_u64() % 3) as usize]);
            let checkpoints: Vec<_> = (first..)
                .zip(sizes)
                .map(|(n, s)| checkpoint(n, s))
                .collect();
            let steps = (rng.next_u64() % 60) as usize;
            let written = write(&world, steps, checkpoints.clone()) as u64;
            let found = read(&world).unwrap();
            let position = found.as_ref().map(|found| found.position.0);
            let durable = (written > 0).then(|| first + written - 1).or(last);
            assert!(
                position == durable || position == Some(durable.map_or(1, |durable| durable + 1)),
                "seed {seed}: {position:?} was found, {durable:?} was durable"
            );
            if position != last {
                let index = usize::try_from(position.unwrap() - first).unwrap();
                assert_eq!(found.as_ref(), Some(&checkpoints[index]), "seed {seed}");
            }
            last = position;
        }
    }
}

#[test]
fn one_damaged_slot_is_survived_and_two_are_named() {
    let world = World::new(1, Faults::none());
    let both = vec![checkpoint(1, 50), checkpoint(2, 50)];
    assert_eq!(write(&world, STEPS_MAX, both.clone()), 2);
    let paths = ["005.0", "005.1"].map(|name| Path::new(DIR).join(name));
    let flip = |path: &Path, offset| {
        world
            .disk_damage(0, path, &Damage::FlipBit { offset, bit: 3 })
            .unwrap();
    };
    flip(&paths[1], 5000);
    assert_eq!(read(&world).unwrap().as_ref(), Some(&both[0]));
    flip(&paths[0], 30);
    let error = read(&world).unwrap_err().to_string();
    let expected = "manifest is damaged: /data/005.0: the checksum is wrong; /data/005.1: the checksum is wrong";
    assert_eq!(error, expected);
    flip(&paths[1], 5000);
    assert_eq!(read(&world).unwrap().as_ref(), Some(&both[1]));
    // The damaged slot is the one that is written next, as a new file.
    assert_eq!(write(&world, STEPS_MAX, vec![checkpoint(3, 50)]), 1);
    assert_eq!(read(&world).unwrap(), Some(checkpoint(3, 50)));
    flip(&paths[0], 5000);
    assert_eq!(read(&world).unwrap().as_ref(), Some(&both[1]));
}

#[test]
fn the_log_is_needed_from_the_older_checkpoint_on() {
    let world = World::new(1, Faults::none());
    let positions = run(&world, STEPS_MAX, |reactor| async move {
        let (mut manifest, _) = open(reactor).await.unwrap();
        let mut positions = vec![manifest.releasable()];
        for position in [10, 20, 30] {
            manifest.write(&checkpoint(position, 1)).await.unwrap();
            positions.push(manifest.releasable());
        }
        positions
    });
    assert_eq!(positions.unwrap(), [0, 0, 10, 20].map(Position));
}

#[test]
fn after_a_failed_write_the_next_one_is_made_elsewhere() {
    for seed in 0..40 {
        let world = World::new(seed, Faults::none());
        assert_eq!(
            write(
                &world,
                STEPS_MAX,
                vec![checkpoint(1, 50), checkpoint(2, 50)]
            ),
            2
        );
        let faulty = world.clone();
        let done = run(&world, STEPS_MAX, |reactor| async move {
            let (mut manifest, _) = open(reactor).await.unwrap();
            let mut faults = Faults::none();
            faults.disk.write_error = 1.0;
            faulty.set_faults(faults);
            let failed = manifest
                .write(&checkpoint(3, 50))
                .await
                .unwrap_err()
                .to_string();
            assert!(failed.starts_with("manifest /data/005.0: "), "{failed}");
            faulty.set_faults(Faults::none());
            manifest.write(&checkpoint(4, 50)).await.unwrap();
        });
        assert_eq!(done, Some(()));
        world.crash(0);
        assert_eq!(read(&world).unwrap(), Some(checkpoint(4, 50)));
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_no_bytes_are_too_strange() {
    let bytes = encode(5, 9, &checkpoint(1, 2));
    let (slot, found) = decode(5, &bytes).unwrap();
    assert_eq!((slot.generation, &found), (9, &checkpoint(1, 2)));
    assert_eq!(
        decode(6, &bytes).unwrap_err().to_string(),
        "it is of shard 5"
    );
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(decode(5, &damaged).is_err(), "byte {at}");
        assert!(decode(5, &bytes[..at]).is_err(), "cut at {at}");
    }
    let mut rng = Rng::new(1);
    for _ in 0..1000 {
        let mut strange: Vec<u8> = (0..200).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        strange[..16].copy_from_slice(&bytes[..16]);
        assert!(decode(5, &strange).is_err());
    }
}
