//! `ashlar sim --plants`: makes every planted mistake, one after another, and tells in how many seeds each was found. A
//! mistake is sought by a process of its own, since a panic may end it.

use std::process::Command;

use super::plant;

/// Mistakes that a lone node shows, sooner than a cluster; the others are sought in a cluster of three.
const ALONE: [&str; 7] = [
    "AppliesBeforeDurable",
    "ForgetsTombstones",
    "ForgetsHistory",
    "FlushesTooFar",
    "IgnoresRangeDeletions",
    "SkipsTableSync",
    "RepliesEarly",
];

/// Virtual seconds of each run.
const SECONDS: &str = "10";

/// Seeks every mistake in at most `seeds` seeds, or only those whose names are given.
pub(super) fn run(seeds: u64, only: &[String]) -> Result<(), String> {
    println!("| mistake | nodes | found by seed | as |\n|---|---|---|---|");
    let mut missed = Vec::new();
    for name in plant::names() {
        if !only.is_empty() && !only.iter().any(|of| of.eq_ignore_ascii_case(&name)) {
            continue;
        }
        let nodes = match ALONE.contains(&name.as_str()) {
            true => "1",
            false => "3",
        };
        match seek(&name, nodes, seeds)? {
            Some((seed, what)) => println!("| {name} | {nodes} | {seed} | {what} |"),
            None => {
                println!("| {name} | {nodes} | not by {seeds} | |");
                missed.push(name);
            }
        }
    }
    match missed.is_empty() {
        true => Ok(()),
        false => Err(format!("not found: {}", missed.join(", "))),
    }
}

/// Returns the first seed that shows a mistake, and what it shows.
fn seek(name: &str, nodes: &str, seeds: u64) -> Result<Option<(u64, String)>, String> {
    let seeds = seeds.to_string();
    let words = ["sim", "--plant", name, "--nodes", nodes, "--seeds", &seeds];
    let ran = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        let quick = ["--seconds", SECONDS, "--repeat", "0"];
        command.args(words).args(quick).output()
    });
    let ran = ran.map_err(|error| format!("no run for {name}: {error}"))?;
    if ran.status.success() {
        return Ok(None);
    }
    let told = String::from_utf8_lossy(&ran.stderr);
    found_in(&told)
        .map(Some)
        .ok_or_else(|| format!("a run for {name} ended with: {told}"))
}

/// Returns the seed that a failed run names, and the first words of why.
fn found_in(told: &str) -> Option<(u64, String)> {
    let line = told.lines().find(|line| line.contains(" failed: "))?;
    let (seed, what) = line.split_once(" failed: ")?;
    let seed = seed.rsplit(' ').next()?.parse().ok()?;
    let what = match what {
        "panic" => told.lines().nth(1).unwrap_or(what),
        _ => what,
    };
    Some((
        seed,
        what.chars().take(90).collect::<String>().replace('|', "/"),
    ))
}

#[test]
fn what_a_run_says_of_its_failure_is_understood() {
    let told = "seed 7 failed: at 1.5 s: key:1:2: read None\nrepeat it with: ashlar sim";
    assert_eq!(
        found_in(told),
        Some((7, "at 1.5 s: key:1:2: read None".to_owned()))
    );
    let told = "thread 'main' panicked at raft.rs:1:\ntwo leaders\nseed 3 failed: panic\nrepeat it";
    assert_eq!(found_in(told), Some((3, "two leaders".to_owned())));
    assert_eq!(found_in("error: no such mistake"), None);
}
