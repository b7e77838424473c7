//! Histories of a group under faults, one per seed. `SIM_SEEDS=n` runs that many, `SIM_SEED=s` one of
//! them, `SIM_TRACE=1` tells what happens.

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::World;

/// Returns a number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; returns what was seen.
fn run(seed: u64) -> Result<World, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, None);
        world.live();
        world
    }));
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| format!("{:?}", panic.downcast_ref::<&str>()))
    })
}

#[test]
fn no_fault_breaks_a_promise() {
    if let Some(seed) = number("SIM_SEED") {
        World::new(seed, None).live();
        return;
    }
    let (first, count) = (
        number("SIM_FIRST").unwrap_or(0),
        number("SIM_SEEDS").unwrap_or(300),
    );
    let (mut steps, mut answers, mut lease_reads, mut quorum_reads) = (0, 0, 0, 0);
    let mut failures = Vec::new();
    for seed in first..first + count {
        match run(seed) {
            Ok(world) => {
                steps += world.steps;
                answers += world.checks.answers;
                lease_reads += world.checks.lease_reads;
                quorum_reads += world.checks.quorum_reads;
            }
            Err(what) => failures.push(format!("seed {seed}: {what}")),
        }
    }
    println!(
        "{count} seeds, {steps} steps, {answers} answers, {lease_reads} lease reads, {quorum_reads} quorum reads"
    );
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}
