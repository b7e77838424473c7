//! Every answer, every wait and all content against the model, on a disk without faults.

use ashlar_io::sim::Faults;
use ashlar_io::wal::Durability;
use ashlar_partition::{Admission, LogRoom, Pressure};

use crate::node::{Node, TURNS_MAX, options};
use crate::workload::{Shape, request};

const RUNS: u64 = 60;
const TURNS: usize = 400;

const SHAPE: Shape = Shape {
    databases: 3,
    keys_per_database: 14,
    value_bytes_max: 60,
};

#[test]
fn answers_waits_and_content_are_those_of_a_plain_map() {
    for seed in 0..RUNS {
        let outcome = std::panic::catch_unwind(|| random_run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

fn random_run(seed: u64) {
    let mut node = Node::new(seed, options(2, 8 << 10, Durability::Dsync), Faults::none());
    assert!(node.start(TURNS_MAX));
    for _ in 0..TURNS {
        node.bare_turn(some_turn);
    }
    node.admit(open());
    node.check_at_rest();
}

/// Some requests, with settling and draining before, between and behind them, or not at all.
fn some_turn(node: &mut Node) {
    node.now_ms += [0, 0, 1, 30][node.rng.index(4)];
    node.wall_us += node.rng.below(50);
    let admission = some_admission(node);
    node.admit(admission);
    for _ in 0..node.rng.below(6) {
        match node.rng.below(40) {
            0 => node.clear(None),
            1 => {
                let database = u8::try_from(node.rng.below(SHAPE.databases)).unwrap();
                node.clear(Some(database));
            }
            2 | 3 => node.expire(),
            4..=7 => node.settle(),
            8 => node.drain(),
            _ if node.has_room() => some_request(node),
            _ => node.settle(),
        }
    }
    if node.rng.chance(0.7) {
        node.drain();
    }
    if node.rng.chance(0.5) {
        node.settle();
    }
}

fn some_request(node: &mut Node) {
    let (key, value) = (SHAPE.key(&mut node.rng), SHAPE.value(&mut node.rng));
    let request = request(&mut node.rng, node.now_ms, &value);
    node.ask(&key, &request);
}

fn open() -> Admission {
    Admission {
        pressure: Pressure::Open,
        log: LogRoom::Open,
        value_bytes_max: 100,
    }
}

/// Mostly open; now and then a value is too long, memory is used up, or the log has no room.
fn some_admission(node: &mut Node) -> Admission {
    match node.rng.below(20) {
        0 => Admission {
            pressure: Pressure::Full,
            ..open()
        },
        1 => Admission {
            log: LogRoom::Deletes,
            ..open()
        },
        2 => Admission {
            log: LogRoom::Full,
            ..open()
        },
        3 => Admission {
            value_bytes_max: 20,
            ..open()
        },
        _ => open(),
    }
}
