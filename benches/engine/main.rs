//! Measures the storage engine beside its peers, on this machine: RocksDB (its own db_bench), fjall
//! and redb under the same load, and fio, which says what the disk can do.
//!
//! Engines run one after the other, each on the same CPU, each from an empty directory; rounds are
//! interleaved, because machines change their speed while one looks. The report shows medians, their
//! spread, and the bars of `bars.rs`: a missed bar is a line of the report, not a failure.
//!
//! The engine is measured without its network (`engine.rs`: one shard's turns); what needs a node
//! runs the `ashlar` binary (`node.rs`).
//!
//! Exit code: 0 when everything ran, 1 when something did not, 2 when the options are wrong.

#![forbid(unsafe_code)]

mod bars;
mod cold;
mod cpu;
mod device;
mod engine;
mod keys;
mod node;
mod options;
mod overwrite;
#[cfg(feature = "peers")]
mod peers;
mod report;
mod rocks;
mod warm;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use ashlar_benches::directory::RunDir;
use ashlar_benches::program::{self, Failure, Told};

use options::Options;
use report::{Report, Side};

/// One part: it fills the report.
type Part = fn(&Options, &Path, &mut Report) -> Result<(), Failure>;

fn main() -> ExitCode {
    let words = Options::parse(env::args().skip(1));
    let words = words.map(|options| (!options.help).then_some(options));
    program::run("engine", options::USAGE, words, |options| {
        let report = run(options)?;
        Ok(Told {
            report: report.markdown(),
            is_whole: report.failures.is_empty(),
        })
    })
}

/// Runs every round; a part that fails is noted and the others still run.
fn run(options: &Options) -> Result<Report, Failure> {
    let directory = RunDir::create(&options.directory, "ashlar-engine")?;
    let mut report = Report::new(options);
    let parts: [(&str, Part); 6] = [
        ("cold", cold::measure),
        ("overwrite", overwrite::measure),
        ("merge", overwrite::measure_idle),
        ("restart", node::measure_restart),
        ("memory", node::measure_memory),
        ("p99", node::measure_p99),
    ];
    for round in 0..options.rounds {
        if options.has("warm") {
            warm_round(options, directory.path(), round, &mut report);
        }
        for (name, part) in parts {
            // The one with gigabytes is for one round.
            if options.has(name) && (round == 0 || name != "memory") {
                run_part(options, directory.path(), (name, part), &mut report);
            }
        }
    }
    Ok(report)
}

/// Runs the part `warm` of all who take part, with another one first in each round.
fn warm_round(options: &Options, directory: &Path, round: u64, report: &mut Report) {
    let mut peers = options.peers.clone();
    let first = usize::try_from(round).unwrap_or(0) % peers.len().max(1);
    peers.rotate_left(first);
    for peer in peers {
        let part: Option<Part> = match peer.as_str() {
            "ashlar" => Some(warm::measure),
            "rocksdb" => Some(|options, dir, report| {
                rocks::measure(
                    options,
                    (Side::RocksDb, &options.cpu.to_string()),
                    dir,
                    report,
                )
            }),
            "rocksdb-all" => Some(|options, dir, report| {
                rocks::measure(options, (Side::RocksDbAll, &every_cpu()), dir, report)
            }),
            #[cfg(feature = "peers")]
            "fjall" => Some(peers::measure_fjall),
            #[cfg(feature = "peers")]
            "redb" => Some(peers::measure_redb),
            _ => None,
        };
        if let Some(part) = part {
            run_part(options, directory, (&peer, part), report);
        }
    }
}

/// Runs a part in a directory of its own, on a thread that has a CPU of its own.
fn run_part(options: &Options, directory: &Path, (name, part): (&str, Part), report: &mut Report) {
    eprintln!("{name}");
    let dir = directory.join(name);
    let pinned = || {
        let id = usize::try_from(options.cpu).unwrap_or(0);
        core_affinity::set_for_current(core_affinity::CoreId { id });
        fs::create_dir_all(&dir).map_err(|error| format!("cannot make {dir:?}: {error}"))?;
        part(options, &dir, report)
    };
    let done = thread::scope(|scope| scope.spawn(pinned).join());
    match done {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => report.failures.note(name, &failure),
        Err(_) => report.failures.note(name, "it panicked"),
    }
    report.close_round();
    if let Err(error) = fs::remove_dir_all(&dir) {
        eprintln!("engine: cannot remove {dir:?}: {error}");
    }
}

/// Returns all CPUs as taskset wants them.
fn every_cpu() -> String {
    let last = thread::available_parallelism().map_or(1, usize::from) - 1;
    format!("0-{last}")
}
