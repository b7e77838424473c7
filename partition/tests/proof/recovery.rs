//! Power cuts at any moment of partitions that stay in memory: what was acknowledged is there, and
//! what is there was proposed.

use ashlar_io::rng::Rng;
use ashlar_io::sim::{CrashFates, Faults};
use ashlar_io::wal::Durability;
use ashlar_partition::{Admission, LogRoom, Pressure};

use crate::node::{Node, TURNS_MAX, options};
use crate::workload::{Shape, request};

const FEW_KEYS: Shape = Shape {
    databases: 3,
    keys_per_database: 12,
    value_bytes_max: 300,
};
const MANY_KEYS: Shape = Shape {
    databases: 3,
    keys_per_database: 500,
    value_bytes_max: 30,
};
const LARGE_VALUES: Shape = Shape {
    databases: 3,
    keys_per_database: 60,
    value_bytes_max: 4_000,
};

/// Requests of every kind in a turn, with clears and expiries now and then.
fn work(node: &mut Node, shape: Shape) {
    node.now_ms += node.rng.below(3);
    node.wall_us += node.rng.below(200);
    node.admit(Admission {
        pressure: Pressure::Open,
        log: LogRoom::Open,
        value_bytes_max: 5_000,
    });
    for _ in 0..node.rng.below(6) {
        match node.rng.below(400) {
            0 => node.clear(None),
            1 | 2 => {
                let database = u8::try_from(node.rng.below(shape.databases)).unwrap();
                node.clear(Some(database));
            }
            3..=20 => node.expire(),
            _ => {
                let (key, value) = (shape.key(&mut node.rng), shape.value(&mut node.rng));
                let request = request(&mut node.rng, node.now_ms, &value);
                node.ask(&key, &request);
            }
        }
    }
}

fn only(fate: usize) -> Faults {
    let mut faults = Faults::none();
    let none = CrashFates {
        keep: 0,
        old: 0,
        torn: 0,
        garbage: 0,
    };
    faults.disk.crash = match fate {
        0 => CrashFates { keep: 1, ..none },
        1 => CrashFates { old: 1, ..none },
        2 => CrashFates { torn: 1, ..none },
        3 => CrashFates { garbage: 1, ..none },
        _ => faults.disk.crash,
    };
    faults
}

#[test]
fn a_power_cut_at_any_turn_loses_nothing_acknowledged() {
    for (run, durability) in [Durability::Dsync, Durability::Fdatasync]
        .into_iter()
        .enumerate()
    {
        for turns in 0..260 {
            let mut small = options(1 + turns % 3, 8 << 10, durability);
            small.segment_bytes = 16 << 10;
            let seed = 1_000 + run as u64;
            let mut node = Node::new(seed, small, only(turns % 5));
            assert!(node.start(TURNS_MAX));
            (0..turns).for_each(|_| node.turn(|node| work(node, FEW_KEYS)));
            node.crash();
            assert!(node.start(TURNS_MAX), "after {turns} turns");
            (0..10).for_each(|_| node.turn(|node| work(node, FEW_KEYS)));
            node.crash();
            assert!(node.start(TURNS_MAX));
            node.check_at_rest();
        }
    }
}

#[test]
fn a_power_cut_at_any_turn_of_a_recovery_changes_nothing() {
    for turns_max in 1..80 {
        let mut node = Node::new(5, options(2, 8 << 10, Durability::Dsync), only(4));
        assert!(node.start(TURNS_MAX));
        (0..150).for_each(|_| node.turn(|node| work(node, LARGE_VALUES)));
        node.crash();
        if !node.start(turns_max) {
            assert!(node.start(TURNS_MAX));
        }
        node.check_at_rest();
    }
}

#[test]
fn long_lives_of_power_cuts_lose_nothing_acknowledged() {
    for seed in 0..160 {
        let outcome = std::panic::catch_unwind(|| long_run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

fn long_run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut faults = only(rng.index(5));
    faults.disk.short = if rng.coin() { 0.1 } else { 0.0 };
    faults.disk.interrupt = if rng.coin() { 0.02 } else { 0.0 };
    faults.schedule.hold = if rng.coin() { 0.2 } else { 0.0 };
    let shape = [FEW_KEYS, MANY_KEYS, LARGE_VALUES][rng.index(3)];
    let durability = if rng.coin() {
        Durability::Dsync
    } else {
        Durability::Fdatasync
    };
    let options = options(
        1 + rng.index(4),
        [4 << 10, 8 << 10, 32 << 10][rng.index(3)],
        durability,
    );
    let mut node = Node::new(seed, options, faults);
    assert!(node.start(TURNS_MAX));
    for _ in 0..6 {
        for _ in 0..rng.below(300) {
            node.turn(|node| work(node, shape));
        }
        match rng.below(4) {
            0 => node.kill(),
            1 => {
                node.quiesce();
                node.crash();
            }
            _ => node.crash(),
        }
        // The wall clock may come back behind where it was.
        node.wall_us -= rng.below(2_000).min(node.wall_us / 2);
        while !node.start(1 + rng.index(600)) {}
    }
    node.check_at_rest();
}
