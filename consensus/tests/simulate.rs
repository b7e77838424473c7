//! Histories of a group under faults, one per seed; and mistakes that others have made, made on purpose:
//! each must show within so many histories, or the simulation proves nothing about it.
//!
//! `SIM_SEEDS=n` runs that many, `SIM_FIRST=f` from there on, `SIM_SEED=s` one of them, `SIM_TRACE=1`
//! tells what happens, `PLANTED=name` looks for one mistake only.

#![expect(
    clippy::disallowed_methods,
    reason = "which seeds to run is asked for from outside"
)]

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ashlar_consensus::raft::Planted;
use sim::World;

/// Returns a number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one seed; returns what was seen.
fn run(seed: u64, mistake: Option<Planted>) -> Result<World, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, mistake);
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
    let (mut steps, mut answers, mut remembered) = (0, 0, 0);
    let (mut lease_reads, mut quorum_reads) = (0, 0);
    let mut failures = Vec::new();
    for seed in first..first + count {
        match run(seed, None) {
            Ok(world) => {
                steps += world.steps;
                answers += world.checks.answers;
                lease_reads += world.checks.lease_reads;
                quorum_reads += world.checks.quorum_reads;
                remembered += world.checks.remembered;
            }
            Err(what) => failures.push(format!("seed {seed}: {what}")),
        }
    }
    println!(
        "{count} seeds, {steps} steps, {answers} answers, {lease_reads} lease reads, {quorum_reads} quorum reads, {remembered} remembered"
    );
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(count < 100 || remembered > 0, "nothing was forgotten");
}

/// Mistakes that others have made, and a seed that showed each once: it is tried first.
const PLANTED: [(Planted, u64); 22] = [
    (Planted::CommitsOldTerms, 4),
    (Planted::AcksBeforeDurable, 0),
    (Planted::VotesBeforeDurable, 0),
    (Planted::DurableIgnoresTruncation, 34),
    (Planted::CommitsUnverified, 4),
    (Planted::CountsOwnUndurable, 1),
    (Planted::QuorumUnsorted, 0),
    (Planted::JointNeedsNewOnly, 77),
    (Planted::VotesTwice, 0),
    (Planted::IgnoresCandidateLog, 0),
    (Planted::NoQuarantine, 3512),
    (Planted::ReadsBeforeTermCommits, 7),
    (Planted::ReadsCountOldReplies, 2499),
    (Planted::LeaseIgnoresEpoch, 47),
    (Planted::TransferKeepsLease, 24),
    (Planted::TruncatesMatching, 1),
    (Planted::RemovedLeaderCounts, 26),
    (Planted::BoundVotes, 0),
    (Planted::ChangesAtOnce, 200),
    (Planted::DamagedCampaigns, 7),
    (Planted::ForgetsAmnesia, 31),
    (Planted::ForgetfulVotes, 401),
];

/// The seeds within which every planted mistake must show.
const PLANTED_SEEDS: u64 = 4_000;

/// Returns a seed whose history shows the mistake, and what it shows.
fn find(mistake: Planted, hint: u64) -> Option<(u64, String)> {
    let mut seeds = std::iter::once(hint).chain(0..PLANTED_SEEDS);
    seeds.find_map(|seed| Some((seed, run(seed, Some(mistake)).err()?)))
}

#[test]
fn every_planted_mistake_is_found() {
    let only = std::env::var("PLANTED").ok();
    let mut missed = Vec::new();
    for (mistake, hint) in PLANTED {
        let name = format!("{mistake:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        match find(mistake, hint) {
            Some((seed, what)) => {
                let what = what.lines().next().unwrap_or_default();
                println!("{name}: seed {seed}: {what}");
            }
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
