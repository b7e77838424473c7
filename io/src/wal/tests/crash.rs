//! Power cuts: at every turn of a small run, inside recovery, and at random in long ones.

use super::*;
use crate::sim::CrashFates;

/// Does the same few things each time: records in bursts, some larger than a batch, a release, a
/// rest.
fn small_run(rig: &mut Rig, turn: usize) {
    let sizes: &[usize] = match turn % 6 {
        0 => &[100],
        1 => &[3_000, 5_000],
        2 => &[],
        3 => &[9_000, 10],
        4 => &[200, 0, 200],
        _ => &[4_000],
    };
    for &bytes in sizes {
        if rig.has_room(bytes) {
            rig.append(bytes);
        }
    }
    if turn % 7 == 6 {
        rig.release(rig.durable);
    }
    if turn % 9 == 8 {
        rig.wal().attest();
    }
}

fn small_options(durability: Durability, inflight_max: usize) -> Options {
    Options {
        segment_bytes: 24 << 10,
        batch_bytes: 8 << 10,
        inflight_max,
        durability,
        ..options()
    }
}

fn only(fate: usize) -> Faults {
    let mut faults = Faults::none();
    let weight = |n| u32::from(n == fate || fate == 4);
    faults.disk.crash = CrashFates {
        keep: weight(0),
        old: weight(1),
        torn: weight(2),
        garbage: weight(3),
    };
    faults
}

#[test]
fn a_power_cut_at_any_turn_loses_nothing_acknowledged() {
    for durability in [Durability::Dsync, Durability::Fdatasync] {
        for inflight_max in 1..=4 {
            for turns in 0..70 {
                let fate = turns % 5;
                let seed = turns as u64 * 17 + inflight_max as u64;
                let options = small_options(durability, inflight_max);
                let mut rig = Rig::new(seed, options, only(fate));
                rig.restart();
                for turn in 0..turns {
                    rig.turn(|rig| small_run(rig, turn));
                }
                if rig.rng.coin() {
                    // The event has happened, and the shard has not yet had its turn.
                    let _ = rig.world.step();
                }
                rig.crash();
                rig.restart();
                for turn in 0..rig.rng.index(20) {
                    rig.turn(|rig| small_run(rig, turn));
                }
                rig.crash();
                rig.restart();
                rig.append_durably(100);
            }
        }
    }
}

#[test]
fn a_power_cut_inside_recovery_changes_nothing() {
    for seed in 0..6 {
        for turns_max in 1..80 {
            let mut rig = Rig::new(seed, small_options(Durability::Dsync, 3), Faults::none());
            rig.restart();
            for turn in 0..30 {
                rig.turn(|rig| small_run(rig, turn));
            }
            rig.crash();
            for _ in 0..2 {
                rig.restart_or_crash(turns_max);
            }
            rig.append_durably(100);
            rig.crash();
            rig.restart();
        }
    }
}

/// Lives of random length with random work, each ended by a crash, a kill or a clean stop.
fn long_run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut faults = only(rng.index(5));
    faults.disk.short = if rng.coin() { 0.1 } else { 0.0 };
    faults.disk.interrupt = if rng.coin() { 0.02 } else { 0.0 };
    faults.disk.no_space = if rng.coin() { 0.05 } else { 0.0 };
    faults.schedule.hold = if rng.coin() { 0.2 } else { 0.0 };
    let mut rig = Rig::new(seed, some_options(&mut rng), faults);
    rig.restart();
    for _ in 0..12 {
        let turns = rng.index(120);
        let releases = rng.chance(0.7);
        for _ in 0..turns {
            rig.turn(|rig| some_work(rig, &mut rng, releases));
        }
        match rng.below(4) {
            0 => rig.kill(),
            1 => {
                rig.settle();
                rig.life.take().unwrap().end();
            }
            _ => rig.crash(),
        }
        if rng.coin() {
            // A process that ended, on a machine that goes on.
            rig.life = None;
            rig.restart();
        } else {
            rig.restart_or_crash(1 + rng.index(400));
        }
    }
}

fn some_work(rig: &mut Rig, rng: &mut Rng, releases: bool) {
    for _ in 0..rng.index(3) {
        let bytes = some_bytes(rng, &rig.options.clone());
        if rig.has_room(bytes) {
            rig.append(bytes);
        }
    }
    if releases && rng.chance(0.15) {
        let index = rig.released + rng.index(rig.durable - rig.released + 1);
        rig.release(index);
    }
    if rng.chance(0.05) {
        rig.wal().attest();
    }
}

#[test]
fn long_lives_of_crashes_and_releases_lose_nothing_acknowledged() {
    for seed in 0..250 {
        let outcome = std::panic::catch_unwind(|| long_run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_recovery_hands_on_survives_the_next_power_cut() {
    for seed in 0..40 {
        let options = small_options(Durability::Fdatasync, 2);
        let mut rig = Rig::new(seed, options, only(1));
        rig.restart();
        rig.append_durably(100);
        // Written and not synced when the process ends.
        rig.turn(|rig| {
            rig.append(3_000);
        });
        rig.kill();
        rig.restart();
        assert_eq!(rig.records.len(), 2);
        rig.crash();
        rig.restart();
        assert_eq!(rig.records.len(), 2, "seed {seed}");
    }
}
