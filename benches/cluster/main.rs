//! Measures three nodes on this machine that act as one: durable writes beside redis-server and etcd, reads beside a
//! single node, what an idle cluster costs, and what clients feel when a node is killed or paused.
//!
//! Nodes, peers and clients share the machine, as they share it in nobody's production: the cluster does three times
//! the work of its peers on the same CPUs. Rounds are interleaved, because machines change their speed while one
//! looks; the report shows medians and their spread. The bars stand in `report.rs`: a missed bar is a line, not a
//! failure. This is not a load generator: `redis-benchmark` and `etcdctl` are, so that nobody has to trust ours.
//!
//! Exit code: 0 when everything ran, 1 when something did not, 2 when the options are wrong.

#![forbid(unsafe_code)]

mod etcd;
mod load;
mod nodes;
mod options;
mod process;
mod report;
mod troubles;
mod wire;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use ashlar_benches::directory::RunDir;
use ashlar_benches::program::{self, Failure, Told};

use load::Workload;
use nodes::Cluster;
use options::Options;
use process::{Process, free_ports};
use report::{Measure, Report, Side};

fn main() -> ExitCode {
    let words = Options::parse(env::args().skip(1));
    let words = words.map(|options| (!options.help).then_some(options));
    program::run("cluster", options::USAGE, words, |options| {
        let report = measure(options)?;
        Ok(Told {
            report: report.markdown(),
            is_whole: report.failures.is_empty(),
        })
    })
}

/// Measures every part; one that fails is noted, and the others still run.
fn measure(options: &Options) -> Result<Report, Failure> {
    let directory = RunDir::create(&options.directory, "ashlar-cluster")?;
    let mut report = Report::new(options);
    if options.has("load") {
        for round in 0..options.rounds {
            loads(options, directory.path(), round, &mut report);
        }
    }
    if options.has("etcd") {
        eprintln!("etcd, a minute");
        match etcd::measure(options, &directory.path().join("etcd")) {
            Ok((rate, cpu_us)) => {
                eprintln!("{rate} writes/s, {cpu_us:.0} us of CPU time for one");
                for workload in [Workload::WideP1, Workload::WideP16] {
                    report.add(Side::Etcd, Measure::Rate(workload), rate);
                    report.add(Side::Etcd, Measure::CpuPerOp(workload), cpu_us);
                }
            }
            Err(failure) => report.failures.note("etcd", &failure),
        }
    }
    type Part = fn(&Options, &Path, &mut Report) -> Result<(), Failure>;
    let parts: [(&str, Part); 3] = [
        ("idle", troubles::idle),
        ("kill", troubles::kills),
        ("pause", troubles::pauses),
    ];
    for (name, part) in parts {
        if options.has(name) {
            eprintln!("{name}");
            let measured = part(options, &directory.path().join(name), &mut report);
            measured.unwrap_or_else(|failure| report.failures.note(name, &failure));
        }
    }
    Ok(report)
}

/// Loads each server in turn, another one first in each round, so that none profits from its place.
fn loads(options: &Options, directory: &Path, round: u32, report: &mut Report) {
    let mut sides = [Side::Cluster, Side::Redis, Side::Single];
    sides.rotate_left(round as usize % 3);
    for side in sides {
        eprintln!("round {} of {}: {side:?}", round + 1, options.rounds);
        let dir = directory.join(format!("{side:?}-{round}"));
        let loaded = load_one(options, &dir, side, report);
        loaded.unwrap_or_else(|failure| report.failures.note(&format!("{side:?}"), &failure));
        // The disk is for the next one.
        let _ = std::fs::remove_dir_all(&dir);
    }
}

fn load_one(options: &Options, dir: &Path, side: Side, report: &mut Report) -> Result<(), Failure> {
    use Workload::{GetP16, SetP1, SetP16, WideP1, WideP16};
    std::fs::create_dir_all(dir).map_err(|error| format!("cannot make {dir:?}: {error}"))?;
    if side == Side::Cluster {
        let cluster = Cluster::start(options, dir, 1)?;
        cluster.lead(0)?;
        let cpu_s = || cluster.cpu_s().map(|all| all.iter().sum());
        for workload in [SetP1, SetP16, GetP16, WideP1, WideP16] {
            run(options, side, (cluster.port(0), &cpu_s), workload, report)?;
        }
        return Ok(());
    }
    let process = start_alone(options, dir, side)?;
    let cpu_s = || process.cpu_s();
    for workload in [SetP1, SetP16, GetP16] {
        if workload != GetP16 || side == Side::Single {
            run(options, side, (process.port, &cpu_s), workload, report)?;
        }
    }
    Ok(())
}

/// Starts redis-server or a single node.
fn start_alone(options: &Options, dir: &Path, side: Side) -> Result<Process, Failure> {
    let port = free_ports(1)?[0];
    let words = match side {
        Side::Redis => format!(
            // Rewriting the file in between would only slow the peer down.
            "redis-server --port {port} --dir {} --save  --appendonly yes --appendfsync always \
             --auto-aof-rewrite-percentage 0",
            dir.display()
        ),
        _ => {
            nodes::format(options, &dir.join("data"), 1)?;
            format!(
                "{} start --data {} --listen 127.0.0.1:{port} --cpus {}",
                options.ashlar.display(),
                dir.join("data").display(),
                options.server_cpu
            )
        }
    };
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let mut process = Process::start(options.server_cpu, &words, port, &dir.join("log"))?;
    process.wait_until_it_answers()?;
    Ok(process)
}

/// Measures one workload: operations per second, latency, and CPU time of the servers per operation.
fn run(
    options: &Options,
    side: Side,
    (port, cpu_s): (u16, &dyn Fn() -> Result<f64, Failure>),
    workload: Workload,
    report: &mut Report,
) -> Result<(), Failure> {
    if workload == Workload::GetP16 {
        load::preload(options, port)?;
    }
    let before_s = cpu_s()?;
    let seen = load::run(options, port, workload)?;
    let spent_s = cpu_s()? - before_s;
    report.add(side, Measure::Rate(workload), seen.per_second);
    report.add(side, Measure::P99(workload), seen.p99_ms);
    let per_op = spent_s * 1e6 / workload.requests(options) as f64;
    report.add(side, Measure::CpuPerOp(workload), per_op);
    Ok(())
}
