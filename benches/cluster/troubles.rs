//! What a cluster costs when nobody uses it, and what its clients feel when a node is killed or paused.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::load::{self, Workload};
use crate::nodes::{Cluster, NODES};
use crate::options::Options;
use crate::report::{Measure, Report, Side};
use crate::wire::Wire;

/// Writes before each kill, so that there is something to be taken over.
const WRITES_PER_KILL: usize = 200;
/// From so long after a pause on the cluster must be as before.
const GRACE: Duration = Duration::from_secs(1);

/// Kills the leader again and again; reports the times until the first write is acknowledged.
pub(crate) fn kills(options: &Options, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut cluster = Cluster::start(options, dir, 1)?;
    let mut times_ms = Vec::new();
    for number in 0..options.kills as usize {
        let leader = cluster.leader()?;
        let survivor = (leader + 1 + number % (NODES - 1)) % NODES;
        cluster.wait_until_equal(leader)?;
        let mut wire = Wire::connect(cluster.port(survivor))?;
        for n in 0..WRITES_PER_KILL {
            write(&mut wire, number * WRITES_PER_KILL + n)?;
        }
        if let Some(mut process) = cluster.nodes[leader].take() {
            process.kill();
            let from = Instant::now();
            while !write(&mut wire, number)? {}
            let took_ms = from.elapsed().as_secs_f64() * 1e3;
            eprintln!("kill {} of {}: {took_ms:.0} ms", number + 1, options.kills);
            times_ms.push(took_ms);
        }
        cluster.restart(leader)?;
    }
    times_ms.sort_by(f64::total_cmp);
    report.add(Side::Cluster, Measure::KillP50, percentile(&times_ms, 50));
    report.add(Side::Cluster, Measure::KillP99, percentile(&times_ms, 99));
    Ok(())
}

/// Writes once; says whether it was acknowledged.
fn write(wire: &mut Wire, number: usize) -> Result<bool, Failure> {
    let said = wire.ask(&[
        "SET",
        &format!("key:{}", number % 1000),
        &number.to_string(),
    ])?;
    let leaderless = ["-UNKNOWN", "-CLUSTERDOWN", "-TRYAGAIN"];
    match said.as_str() {
        "+OK" => Ok(true),
        error if leaderless.iter().any(|code| error.starts_with(code)) => Ok(false),
        other => Err(format!("a write was answered {other:?}")),
    }
}

/// Returns the figure below which so many of a hundred sorted figures lie.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100);
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// Leaves a cluster of many groups alone; reports what it costs, beside one of a single group.
pub(crate) fn idle(options: &Options, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let small_kib = quiet(options, &dir.join("one"), 1)?.1;
    let (percent, large_kib) = quiet(options, &dir.join("many"), options.partitions)?;
    report.add(Side::Cluster, Measure::IdleCpu, percent);
    let more = f64::from(options.partitions.saturating_sub(1).max(1));
    report.add(
        Side::Cluster,
        Measure::IdleMemory,
        (large_kib - small_kib) / more,
    );
    Ok(())
}

/// Returns CPU in percent and memory in KiB of the busiest and the largest node of a cluster that nobody uses.
fn quiet(options: &Options, dir: &Path, partitions: u32) -> Result<(f64, f64), Failure> {
    let cluster = Cluster::start(options, dir, partitions)?;
    cluster.leader()?;
    // What the founding left to do must not count.
    thread::sleep(Duration::from_secs(options.seconds.min(5)));
    let before_s = cluster.cpu_s()?;
    thread::sleep(Duration::from_secs(options.seconds));
    let spent = cluster
        .cpu_s()?
        .into_iter()
        .zip(before_s)
        .map(|(after, before)| after - before);
    let most_s = spent.fold(0.0, f64::max);
    let mut most_kib: f64 = 0.0;
    for node in cluster.nodes.iter().flatten() {
        most_kib = most_kib.max(node.resident_kib()?);
    }
    eprintln!(
        "{partitions} partitions: {:.2} % CPU, {:.0} MiB",
        most_s / options.seconds as f64 * 100.0,
        most_kib / 1024.0
    );
    Ok((most_s / options.seconds as f64 * 100.0, most_kib))
}

/// Pauses a follower, then the leader; reports the latencies of writes through a node that goes on.
pub(crate) fn pauses(options: &Options, dir: &Path, report: &mut Report) -> Result<(), Failure> {
    let cluster = Cluster::start(options, dir, 1)?;
    for (leader, measure) in [(0, Measure::PausedFollower), (1, Measure::PausedLeader)] {
        cluster.lead(leader)?;
        let healthy = load::run(options, cluster.port(0), Workload::SetP1)?;
        report.add(Side::Healthy, measure, healthy.p99_ms);
        let Some(paused) = &cluster.nodes[1] else {
            continue;
        };
        paused.signal("STOP")?;
        thread::sleep(GRACE);
        let seen = load::run(options, cluster.port(0), Workload::SetP1);
        paused.signal("CONT")?;
        report.add(Side::Cluster, measure, seen?.p99_ms);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (percentile(&sorted, 50), percentile(&sorted, 99)),
            (50.0, 99.0)
        );
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }
}
