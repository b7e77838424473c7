//! db_bench: RocksDB under the same load, with the same memory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Failure;
use crate::cpu::Meter;
use crate::keys::{KEY_BYTES, VALUE_BYTES};
use crate::options::Options;
use crate::report::{Measure, Report, Side};
use crate::warm::SEEK_NEXTS;

/// The workloads; the first walk brings all into the cache.
const BENCHMARKS: &str = "fillrandom,waitforcompaction,readseq,readrandom,seekrandom,readseq";

/// Runs every workload once on the CPUs in `cpus`.
pub(crate) fn measure(
    options: &Options,
    (side, cpus): (Side, &str),
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    // As much for active and frozen memtables as the other engine has for its.
    let buffer_bytes = (options.memtable_mib << 20) * 2 / 5;
    let flags = [
        format!("--db={}", dir.display()),
        format!("--benchmarks={BENCHMARKS}"),
        format!("--num={}", options.keys),
        format!("--reads={}", options.reads),
        format!("--key_size={KEY_BYTES}"),
        format!("--value_size={VALUE_BYTES}"),
        format!("--cache_size={}", options.cache_mib << 20),
        format!("--write_buffer_size={buffer_bytes}"),
        format!("--seek_nexts={SEEK_NEXTS}"),
        "--max_write_buffer_number=2".to_owned(),
        "--bloom_bits=10".to_owned(),
        "--compression_type=none".to_owned(),
        "--sync=0".to_owned(),
        "--disable_wal=0".to_owned(),
        "--seed=1".to_owned(),
    ];
    let mut child = Command::new("taskset")
        .args(["-c", cpus, "stdbuf", "-oL", "db_bench"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start db_bench: {error}"))?;
    let out = child.stdout.take().expect("it was piped");
    // taskset and stdbuf become the program.
    let pid = child.id().to_string();
    let (begin, mut meter) = (Instant::now(), Meter::of(pid.clone()));
    let mut filled = None;
    for line in BufReader::new(out).lines() {
        let line = line.map_err(|error| format!("cannot read what db_bench says: {error}"))?;
        let parsed = parse(&line);
        if let Some((measure, rate)) = parsed {
            let count = match measure {
                Measure::Fill => options.keys,
                Measure::ReadSeq => operations(&line).unwrap_or(options.keys),
                _ => options.reads,
            };
            let cpu_us = meter.stop(count).cpu_us;
            report.set(side, measure, rate);
            report.set(side, measure.cpu().expect("each has one"), cpu_us);
            filled = filled
                .or_else(|| Some((begin.elapsed().as_secs_f64(), options.keys as f64 / rate)));
        }
        if line.starts_with("waitforcompaction")
            && line.ends_with("finished")
            && let Some((at_s, fill_s)) = filled
        {
            let waited_s = begin.elapsed().as_secs_f64() - at_s;
            let rate = options.keys as f64 / (fill_s + waited_s);
            report.set(side, Measure::FillSettled, rate);
        }
        // Between two figures there is nothing but what the second one measures.
        if parsed.is_some() || line.ends_with("finished") {
            meter = Meter::of(pid.clone());
        }
    }
    report.close_round();
    let status = child.wait().map_err(|error| error.to_string())?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("db_bench ended with {status}")),
    }
}

/// Returns what a line says was measured: `readrandom : 3.692 micros/op 270862 ops/sec ...`.
fn parse(line: &str) -> Option<(Measure, f64)> {
    let (name, said) = line.split_once(':')?;
    let measure = match name.trim() {
        "fillrandom" => Measure::Fill,
        "readrandom" => Measure::ReadRandom,
        "seekrandom" => Measure::SeekRandom,
        "readseq" => Measure::ReadSeq,
        _ => return None,
    };
    let (figures, _) = said.split_once("ops/sec")?;
    let rate = figures.split_whitespace().last()?.parse().ok()?;
    Some((measure, rate))
}

/// Returns how many operations a line tells of.
fn operations(line: &str) -> Option<u64> {
    let (said, _) = line.split_once(" operations;")?;
    said.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_db_bench_is_understood() {
        let line = "readrandom   :       3.692 micros/op 270862 ops/sec 3.692 seconds 1000000 operations;   19.0 MB/s";
        assert_eq!(parse(line), Some((Measure::ReadRandom, 270_862.0)));
        assert_eq!(operations(line), Some(1_000_000));
        assert_eq!(parse("Entries:    1000000"), None);
    }
}
