//! Debian's etcd with three members on this machine, and the rate that its own check finds: `etcdctl check perf --load
//! xl` writes values of 1 KiB from a thousand clients for a minute, as fast as they are taken, up to its limit.

use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::nodes::{NODES, wait_until};
use crate::options::Options;
use crate::process::{Process, free_ports};

/// How long the check writes, in seconds.
const CHECK_S: f64 = 60.0;
/// What to do when it is not there.
const INSTALL: &str = "apt-get install etcd-server etcd-client";

/// Returns the writes per second of a fresh cluster below `dir`, and what one costs all members in microseconds of
/// CPU time: where the machine has much else to do, that is what compares.
///
/// # Errors
/// It is not installed, does not start, or its check says nothing that can be understood.
pub(crate) fn measure(options: &Options, dir: &Path) -> Result<(f64, f64), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {dir:?}: {error}"))?;
    for program in ["etcd", "etcdctl"] {
        let found = Command::new(program).arg("--help").output();
        found.map_err(|error| format!("{program}: {error}; {INSTALL}"))?;
    }
    let ports = free_ports(NODES * 2)?;
    let members: Result<Vec<Process>, Failure> = (0..NODES)
        .map(|node| start(options, dir, &ports, node))
        .collect();
    let members = members?;
    let cpu_s = || -> Result<f64, Failure> { members.iter().map(Process::cpu_s).sum() };
    let endpoints: Vec<String> = ports[..NODES]
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    wait_until("etcd is healthy", || {
        let health = ctl(&endpoints).args(["endpoint", "health"]).output();
        health.is_ok_and(|output| output.status.success())
    })?;
    let mut check = Command::new("taskset");
    check.args(["-c", &options.client_cpu.to_string(), "etcdctl"]);
    check.args([
        "--endpoints",
        &endpoints.join(","),
        "check",
        "perf",
        "--load",
        "xl",
    ]);
    let before_s = cpu_s()?;
    let output = check.env("ETCDCTL_API", "3").output();
    let output = output.map_err(|error| format!("cannot run etcdctl: {error}"))?;
    // It fails when the machine is no etcd machine; its rate counts all the same.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let rate = parse(&text);
    let rate = rate.ok_or_else(|| format!("etcdctl check perf says no rate: {:?}", text.trim()))?;
    let spent_us = (cpu_s()? - before_s) * 1e6;
    Ok((rate, spent_us / (rate * CHECK_S)))
}

fn start(options: &Options, dir: &Path, ports: &[u16], node: usize) -> Result<Process, Failure> {
    let url = |at: usize| format!("http://127.0.0.1:{}", ports[at]);
    let name = format!("e{}", node + 1);
    let all: Vec<String> = (0..NODES)
        .map(|node| format!("e{}={}", node + 1, url(NODES + node)))
        .collect();
    let mut words = vec!["etcd".to_owned()];
    for (flag, value) in [
        ("--name", name.clone()),
        ("--data-dir", dir.join(&name).display().to_string()),
        ("--listen-client-urls", url(node)),
        ("--advertise-client-urls", url(node)),
        ("--listen-peer-urls", url(NODES + node)),
        ("--initial-advertise-peer-urls", url(NODES + node)),
        ("--initial-cluster", all.join(",")),
        // The default is 2 GiB, which a minute does not reach here; a full store would be no measurement.
        ("--quota-backend-bytes", "8589934592".to_owned()),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    let log = dir.join(format!("{name}.log"));
    Process::start(options.node_cpus[node], &words, ports[node], &log)
}

fn ctl(endpoints: &[String]) -> Command {
    let mut command = Command::new("etcdctl");
    command
        .args(["--endpoints", &endpoints.join(",")])
        .env("ETCDCTL_API", "3");
    command
}

/// Returns the rate in what `etcdctl check perf` says.
fn parse(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("hroughput"))?;
    let before = line.split(" writes/s").next()?;
    before.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_whether_it_is_enough_or_not() {
        assert_eq!(parse("PASS: Throughput is 8 writes/s\n"), Some(8.0));
        assert_eq!(
            parse("..\nFAIL: Throughput too low: 4215 writes/s\nPASS: x"),
            Some(4215.0)
        );
        assert_eq!(parse("no idea"), None);
    }
}
