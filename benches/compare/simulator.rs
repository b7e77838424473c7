//! How fast the simulator is: virtual seconds of nodes under all faults in one second of one core. Nobody is compared
//! with; what a run is, its flags say.

use std::path::Path;

use crate::Failure;
use crate::device::{pinned, said_by};
use crate::options::Options;
use crate::report::{Measure, Report};
use crate::server::Kind;

/// How many nodes are simulated: one alone, and a cluster.
const NODES: [u32; 2] = [1, 3];
/// Seeds of a run: fast and slow ones are mixed, so only the sum says something.
const SEEDS: u32 = 20;
/// Virtual seconds of each seed.
const SECONDS: u32 = 20;

/// Measures how much faster than the clock simulated time goes.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    for nodes in NODES {
        match run(options, &options.ashlar, nodes) {
            Ok(speed) => report.add(Kind::Ashlar, Measure::Simulator(nodes), speed),
            Err(failure) => report.fail("simulator", failure),
        }
    }
}

fn run(options: &Options, ashlar: &Path, nodes: u32) -> Result<f64, Failure> {
    let (nodes, seeds, seconds) = (nodes.to_string(), SEEDS.to_string(), SECONDS.to_string());
    let mut command = pinned(options, &ashlar.display().to_string());
    command.args(["sim", "--faults", "all", "--repeat", "0", "--seed", "101"]);
    command.args(["--shards", "2", "--clients", "8", "--rate", "1000"]);
    command.args(["--nodes", &nodes, "--seeds", &seeds, "--seconds", &seconds]);
    let said = said_by(&mut command)?;
    speed(&said).ok_or(format!("ashlar sim says no speed: {said:?}"))
}

/// Finds the speed in what `ashlar sim` prints.
fn speed(said: &str) -> Option<f64> {
    let (before, _) = said.split_once(" x real time")?;
    before.rsplit('(').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_found_among_the_rest() {
        let said = "seed 1: hash 0\n20 seeds passed: 410 virtual seconds in 2.0 s (205 x real time), 9 operations\n";
        assert_eq!(speed(said), Some(205.0));
        assert_eq!(speed("20 seeds passed"), None);
    }
}
