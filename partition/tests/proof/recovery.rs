//! Power cuts at any moment, with cleaning all the time: what was acknowledged is there, what is there
//! was proposed, and the log stays short.

use ashlar_io::rng::Rng;
use ashlar_io::sim::{CrashFates, Faults};
use ashlar_io::wal::Durability;
use ashlar_partition::{Admission, LogRoom};

use crate::node::{Cleaning, Node, TURNS_MAX, options};
use crate::workload::{Shape, request};

/// Small enough for a sweep to end in a turn or two.
const FEW_KEYS: Shape = Shape {
    databases: 3,
    keys_per_database: 12,
    value_bytes_max: 300,
};
/// More keys than one turn of a sweep looks at.
const MANY_KEYS: Shape = Shape {
    databases: 3,
    keys_per_database: 500,
    value_bytes_max: 30,
};
/// More bytes than one turn of a sweep writes.
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
        memory_left: i64::MAX,
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
            let mut node = Node::new(seed, small, only(turns % 5), Cleaning::Above(20 << 10));
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
        let mut node = Node::new(
            5,
            options(2, 8 << 10, Durability::Dsync),
            only(4),
            Cleaning::Above(96 << 10),
        );
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
fn long_lives_of_cleaning_and_power_cuts_lose_nothing_acknowledged() {
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
    let (shape, long) = [
        (FEW_KEYS, 32 << 10),
        (MANY_KEYS, 128 << 10),
        (LARGE_VALUES, 384 << 10),
    ][rng.index(3)];
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
    let mut node = Node::new(seed, options, faults, Cleaning::Above(long));
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

#[test]
fn cleaning_keeps_a_log_short_while_writes_go_on() {
    for (seed, shape) in [FEW_KEYS, MANY_KEYS, LARGE_VALUES].into_iter().enumerate() {
        let long = 512 << 10;
        let options = options(2, 16 << 10, Durability::Dsync);
        let segment_bytes = options.segment_bytes;
        let mut node = Node::new(seed as u64, options, Faults::none(), Cleaning::Above(long));
        assert!(node.start(TURNS_MAX));
        for turn in 0..6_000 {
            node.turn(|node| work(node, shape));
            if turn % 1_500 == 1_499 {
                node.check_at_rest();
            }
        }
        let written = node.wal().written().1;
        assert!(
            written > 4 * long,
            "{written} bytes are too few to say anything"
        );
        assert!(node.sweeps >= 10, "{} sweeps", node.sweeps);
        assert!(
            node.live_bytes_max < 2 * long,
            "the log grew to {} bytes",
            node.live_bytes_max
        );
        let files = node.world.list_files(0).len() as u64;
        assert!(
            files * segment_bytes < 3 * long,
            "{files} segments were made and not used again"
        );
        node.crash();
        assert!(node.start(TURNS_MAX));
        node.check_at_rest();
        node.check_sweep_at_rest();
        assert!(
            node.wal().live_bytes() < long,
            "the sweep let go of the log"
        );
    }
}
