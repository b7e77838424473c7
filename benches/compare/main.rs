//! Compares an Ashlar node with redis-server under the same load, and its log with fio, on this machine.
//!
//! One server lives at a time, each time fresh, pinned to one CPU; the client has another. Rounds of all servers are
//! interleaved, because machines change their speed while one looks; the report shows medians and their spread. The
//! bars that a ratio must reach stand in `bars.rs`: a missed bar is a line of the report, not a failure. This is not a
//! load generator: `redis-benchmark` and `fio` are, so that nobody has to trust ours.
//!
//! Exit code: 0 when everything ran, 1 when something did not, 2 when the options are wrong.

#![forbid(unsafe_code)]

mod bars;
mod clients;
mod device;
mod fanout;
mod load;
mod options;
mod report;
mod server;
mod transactions;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, thread};

use ashlar_benches::directory::RunDir;
use ashlar_benches::program::{self, Failure, Told};

use load::Workload;
use options::Options;
use report::{Measure, Report};
use server::{Kind, Server};

/// Programs that must be on the path, and the Debian package of each.
const PROGRAMS: [(&str, &str); 4] = [
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("fio", "fio"),
    ("taskset", "util-linux"),
];

fn main() -> ExitCode {
    let words = Options::parse(env::args().skip(1));
    let words = words.map(|options| (!options.help).then_some(options));
    program::run("compare", options::USAGE, words, |options| {
        let report = compare(options)?;
        Ok(Told {
            report: report.markdown(),
            is_whole: report.failures.is_empty(),
        })
    })
}

/// Runs every round and returns what was measured; a part that fails is noted and the others still run.
fn compare(options: &Options) -> Result<Report, Failure> {
    check_programs()?;
    let directory = RunDir::create(&options.directory, "ashlar-compare")?;
    let mut report = Report::new(options);
    for round in 0..options.rounds {
        for kind in turn(options.kinds(), round) {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, kind.name());
            let data = directory.path().join(format!("{}-{round}", kind.name()));
            let measured = serve(options, kind, &data, round, &mut report);
            measured.unwrap_or_else(|failure| report.failures.note(kind.name(), &failure));
        }
        if options.wal {
            eprintln!("round {} of {}: log and fio", round + 1, options.rounds);
            device::measure(options, directory.path(), &mut report);
        }
    }
    Ok(report)
}

/// Returns `kinds` with another one first in each round, so that none profits from its place.
fn turn(mut kinds: Vec<Kind>, round: u32) -> Vec<Kind> {
    if let Some(places) = (round as usize).checked_rem(kinds.len()) {
        kinds.rotate_left(places);
    }
    kinds
}

/// Measures one fresh server: idle in the first round, then every workload that was asked for.
fn serve(
    options: &Options,
    kind: Kind,
    data: &Path,
    round: u32,
    report: &mut Report,
) -> Result<(), Failure> {
    let server = Server::start(options, kind, data)?;
    if options.idle && round == 0 {
        idle(options, &server, report)?;
    }
    // Before any load: what it leaves in memory is not the clients'.
    if options.clients && round == 0 && kind == Kind::Ashlar {
        clients::measure(&server, report)?;
    }
    let workloads = options.workloads().into_iter();
    for workload in workloads.filter(|workload| kind.runs(*workload)) {
        run(options, &server, workload, report)?;
    }
    Ok(())
}

/// Measures what a server costs that nobody uses.
fn idle(options: &Options, server: &Server, report: &mut Report) -> Result<(), Failure> {
    // What start-up left to do must not count.
    thread::sleep(Duration::from_secs(1));
    let before_s = server.cpu_s()?;
    thread::sleep(Duration::from_secs(options.idle_s));
    let percent = (server.cpu_s()? - before_s) / options.idle_s as f64 * 100.0;
    report.add(server.kind, Measure::IdleCpu, percent);
    report.add(server.kind, Measure::IdleMemory, server.resident_mib()?);
    Ok(())
}

/// Measures one workload: operations per second, latency, and CPU time of the server per operation.
fn run(
    options: &Options,
    server: &Server,
    workload: Workload,
    report: &mut Report,
) -> Result<(), Failure> {
    load::preload(options, server.port, workload)?;
    let before_s = server.cpu_s()?;
    let result = load::run(options, server.port, workload)?;
    let spent_s = server.cpu_s()? - before_s;
    let requests = workload.requests(options);
    report.add(server.kind, Measure::Rate(workload), result.per_second);
    report.add(server.kind, Measure::P99(workload), result.p99_ms);
    report.add(
        server.kind,
        Measure::CpuPerOp(workload),
        spent_s * 1e6 / requests as f64,
    );
    // Workers of the kernel's pool linger for seconds, so that they are still there after the load.
    report.add(
        server.kind,
        Measure::RingWorkers,
        server.ring_workers()? as f64,
    );
    Ok(())
}

/// Checks that the programs are there, and names the packages of those that are not.
fn check_programs() -> Result<(), Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found =
        |program: &str| env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<String> = PROGRAMS
        .iter()
        .filter(|(program, _)| !found(program))
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("not on PATH: {}", missing.join(", "))),
    }
}
