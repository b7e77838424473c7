//! Simulated clusters, as far as they are quick enough for every test run.

use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::sim::Faults;

use super::plant::Plant;
use super::replay;
use super::run::{self, Deaths, Plan};
use super::schedule::{Recorder, Schedule};

fn calm(seed: u64) -> Plan {
    Plan {
        seed,
        faults: Faults::none(),
        length: Duration::from_secs(5),
        nodes: 3,
        spares: 2,
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

/// Runs a plan; returns what it came to, and what happened as a text.
fn recorded(plan: &Plan) -> (Result<run::Outcome, String>, String) {
    let recorder = Rc::new(Recorder::default());
    let outcome = run::run_recorded(plan, None, &recorder);
    let (plan, lines) = (plan.clone(), recorder.take());
    (outcome, Schedule { plan, lines }.to_string())
}

#[test]
fn a_recorded_run_replays_as_it_was() {
    for seed in [3, 7] {
        let (outcome, text) = recorded(&stormy(seed));
        let schedule = Schedule::parse(&text).unwrap();
        let (first, again) = (outcome.unwrap(), replay::replay(&schedule, None).unwrap());
        let asked = schedule.lines.len();
        assert!(asked > 100, "seed {seed}: {asked} lines");
        assert_eq!(again.hash, first.hash, "seed {seed}");
        let figures = |of: &run::Outcome| (of.acknowledged, of.unknown, of.lives, of.turns);
        assert_eq!(figures(&again), figures(&first), "seed {seed}");
    }
}

/// What a schedule says comes to its end on another disk: one that is kept while its failure is looked into is to fail
/// for nothing else, whatever the code that it runs costs by then.
#[test]
fn a_schedule_is_one_of_a_slower_disk_too() {
    for seed in 1..=8 {
        let (_, text) = recorded(&stormy(seed));
        let mut schedule = Schedule::parse(&text).unwrap();
        let disk = &mut schedule.plan.faults.disk;
        disk.write_latency_ns = disk.write_latency_ns * 5 + 700_000;
        disk.sync_latency_ns = disk.sync_latency_ns * 5 + 1_300_000;
        let outcome = replay::replay(&schedule, None);
        assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err());
    }
}

/// The mistake is found, the schedule that shows it becomes short, and still shows it.
#[cfg(feature = "planted")]
#[test]
fn a_schedule_that_shows_a_mistake_becomes_short() {
    let plant = Plant::named("OverlooksInFlight").unwrap();
    let failing = (1..20).find_map(|seed| {
        let plan = Plan {
            plant,
            ..stormy(seed)
        };
        let (outcome, text) = recorded(&plan);
        outcome.is_err().then_some(text)
    });
    let schedule = Schedule::parse(&failing.unwrap()).unwrap();
    let fails = |candidate: &Schedule| {
        let outcome = replay::replay(candidate, None);
        outcome.is_err_and(|what| what.starts_with("at "))
    };
    assert!(fails(&schedule), "a recorded failure is one again");
    let small = super::shrink::shrink(&schedule, 60, fails);
    assert!(fails(&small));
    let (long, short) = (schedule.lines.len(), small.lines.len());
    assert!(short * 10 < long, "{short} lines of {long}");
    let right = Schedule {
        plan: Plan {
            plant: Plant::default(),
            ..small.plan.clone()
        },
        ..small
    };
    assert!(!fails(&right), "without the mistake nothing is wrong");
}

/// Keys that expired were deleted by a shard that rested, which then did not give the entry to its log: it was proposed
/// with the next command, and had a timestamp below some that clients of the other shard had been told by then.
#[test]
fn what_expires_on_a_shard_that_rests_is_proposed_at_once() {
    for seed in 1..=5 {
        let plan = Plan {
            nodes: 1,
            rate: 2,
            length: Duration::from_secs(120),
            ..calm(seed)
        };
        let outcome = run::run(&plan);
        assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err());
    }
}
