//! `ashlar sim --record FILE`, `--replay FILE` and `--shrink`: runs as data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::run::{Outcome, Plan, run_recorded};
use super::schedule::{Recorder, Schedule};
use super::shrink::shrink;

/// Runs that a shrinking takes at most.
const RUNS_MAX: u32 = 500;

/// Runs a plan and writes down what happens in it.
pub(super) fn record(plan: &Plan, path: &Path) -> Result<Outcome, String> {
    run_recorded(plan, None, &recorder(plan, path)?)
}

fn recorder(plan: &Plan, path: &Path) -> Result<Rc<Recorder>, String> {
    let file = File::create(path).and_then(|file| Recorder::to_file(file, plan));
    let recorder = file.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(Rc::new(recorder))
}

/// Reads a schedule.
pub(super) fn read(path: &Path) -> Result<Schedule, String> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Schedule::parse(&text).map_err(|what| format!("{}: {what}", path.display()))
}

/// Runs what a schedule says, and writes down what happens if that is wanted.
pub(super) fn replay(schedule: &Schedule, to: Option<&Path>) -> Result<Outcome, String> {
    let lines = Some(schedule.lines.as_slice());
    let recorder = match to {
        Some(path) => recorder(&schedule.plan, path)?,
        None => Rc::default(),
    };
    run_recorded(&schedule.plan, lines, &recorder)
}

/// What kind of failure a run ended with: a shrunk schedule is to fail in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Something was that must not be.
    Violation,
    /// An assertion did not hold.
    Panic,
    /// Something was not done in time.
    Late,
}

fn failure_in(told: &str) -> Option<Failure> {
    let (_, what) = told.split_once(" failed: ")?;
    Some(match what {
        what if what.starts_with("at ") => Failure::Violation,
        what if what.starts_with("panic") => Failure::Panic,
        _ => Failure::Late,
    })
}

/// Shrinks the schedule in `from`, which fails, and writes it to `to`.
pub(super) fn shrink_file(from: &Path, to: &Path) -> Result<(), String> {
    let schedule = read(from)?;
    let trial = to.with_extension("trial");
    let wanted = fails(&schedule, &trial)?;
    let wanted = wanted.ok_or_else(|| format!("{} does not fail", from.display()))?;
    let mut runs = 0;
    let small = shrink(&schedule, RUNS_MAX, |candidate| {
        runs += 1;
        fails(candidate, &trial) == Ok(Some(wanted))
    });
    let _ = fs::remove_file(&trial);
    let written = fs::write(to, small.to_string());
    written.map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    println!(
        "{} lines of {} still fail, after {runs} runs: {}",
        small.lines.len(),
        schedule.lines.len(),
        to.display()
    );
    Ok(())
}

/// Returns how a schedule fails, if it does, in a process of its own: a panic may end it.
fn fails(schedule: &Schedule, trial: &Path) -> Result<Option<Failure>, String> {
    let ran = fs::write(trial, schedule.to_string())
        .and_then(|()| std::env::current_exe())
        .and_then(|program| {
            let words = ["sim", "--replay"];
            Command::new(program).args(words).arg(trial).output()
        });
    let ran = ran.map_err(|error| format!("cannot try a schedule: {error}"))?;
    match ran.status.success() {
        true => Ok(None),
        false => Ok(failure_in(&String::from_utf8_lossy(&ran.stderr))),
    }
}

/// Returns where a shrunk schedule goes when nobody says.
pub(super) fn small_path(path: &Path) -> PathBuf {
    path.with_extension("small")
}
