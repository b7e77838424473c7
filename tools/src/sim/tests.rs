//! Simulated clusters, as far as they are quick enough for every test run.

use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::sim::Faults;

use super::plant::Plant;
use super::run::{self, Deaths, Plan};

fn calm(seed: u64) -> Plan {
    Plan {
        seed,
        faults: Faults::none(),
        length: Duration::from_secs(5),
        nodes: 3,
        shards: 2,
        clients: 6,
        rate: 500,
        damages: 0,
        deaths: Deaths::None,
        plant: Plant::default(),
    }
}

#[test]
fn a_cluster_without_faults_elects_leaders_and_serves_from_every_node() {
    let outcome = run::run(&calm(1)).unwrap();
    assert!(outcome.acknowledged > 1000, "{outcome}");
    // Before the last check nodes may die, each client with a command on its way.
    assert!(outcome.unknown <= 6, "{outcome}");
}

/// A short run with some of all faults, of a cluster whose nodes die, stand still and are cut off.
fn stormy(seed: u64) -> Plan {
    let mut faults = Faults::swarm(&mut Rng::new(seed));
    faults.disk.rot = 0.0;
    Plan {
        faults,
        rate: 200,
        deaths: Deaths::Random,
        ..calm(seed)
    }
}

#[test]
fn a_cluster_keeps_its_promises_whatever_fails() {
    for seed in 1..=12 {
        let outcome = run::run(&stormy(seed));
        assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err());
    }
}

#[test]
fn a_run_of_a_cluster_repeats() {
    let hashes = [(); 2].map(|()| run::run(&stormy(100)).unwrap().hash);
    assert_eq!(hashes[0], hashes[1]);
}

/// A shard that recovered from a slow disk took turn after turn, for the time of its next tick had passed: a
/// stall of five seconds was millions of turns, and a real node kept its processor busy.
#[test]
fn a_node_that_recovers_from_a_slow_disk_sleeps() {
    let mut lives = 0;
    for seed in 1..12 {
        let mut faults = Faults::none();
        faults.disk.stall = 0.01;
        let plan = Plan {
            faults,
            rate: 50,
            deaths: Deaths::Random,
            nodes: 1,
            ..calm(seed)
        };
        let outcome = run::run(&plan).unwrap();
        lives += outcome.lives;
        assert!(outcome.turns < 60_000, "{} turns", outcome.turns);
    }
    assert!(lives > 12, "some of the nodes died and came back");
}
