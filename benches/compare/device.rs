//! The log against the device: `fio` on a file that was written before, and the node's own log bench, with writes of
//! the same size and number in flight, each durable before it counts.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::options::Options;
use crate::report::{Measure, Report};
use crate::server::said;

/// Size of the file that fio writes; a log writes to files of this order too.
const FILE_MIB: u32 = 256;

/// How the device is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pattern {
    /// 4 KiB, one at a time: latency.
    Small,
    /// 64 KiB, four at a time: bandwidth.
    Large,
}

/// What a pattern reached.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    /// Median of the latency in microseconds.
    p50_us: f64,
    /// 99th percentile of the latency in microseconds.
    p99_us: f64,
    /// Bandwidth in MiB/s.
    mib_per_s: f64,
}

impl Pattern {
    /// Every pattern.
    const EVERY: [Self; 2] = [Self::Small, Self::Large];

    /// Returns the size of a write in bytes.
    fn bytes(self) -> u32 {
        match self {
            Self::Small => 4096,
            Self::Large => 65_536,
        }
    }

    /// Returns how many writes are in flight.
    fn inflight(self) -> u32 {
        match self {
            Self::Small => 1,
            Self::Large => 4,
        }
    }

    /// Returns the name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Small => "durable write of 4 KiB, 1 in flight",
            Self::Large => "durable write of 64 KiB, 4 in flight",
        }
    }
}

/// Measures both sides with both patterns.
pub(crate) fn measure(options: &Options, directory: &Path, report: &mut Report) {
    let file = directory.join("fio.data");
    let filled = if file.exists() { Ok(()) } else { fill(&file) };
    if let Err(failure) = filled {
        return report.failures.note("fio", &failure);
    }
    for pattern in Pattern::EVERY {
        match fio(options, &file, pattern) {
            Ok(written) => add(report, Side::Device, pattern, written),
            Err(failure) => report.failures.note("fio", &failure),
        }
        if !options.has_ashlar() {
            continue;
        }
        match ashlar(options, &directory.join("bench-wal"), pattern) {
            Ok(written) => add(report, Side::Log, pattern, written),
            Err(failure) => report.failures.note("ashlar bench-wal", &failure),
        }
    }
}

/// Which side of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Log,
    Device,
}

/// Reports what counts of a pattern: latency of small writes, bandwidth of large ones.
fn add(report: &mut Report, side: Side, pattern: Pattern, written: Written) {
    let measures = match pattern {
        Pattern::Small => vec![
            (Measure::WriteP50(pattern), written.p50_us),
            (Measure::WriteP99(pattern), written.p99_us),
        ],
        Pattern::Large => vec![(Measure::WriteRate(pattern), written.mib_per_s)],
    };
    for (measure, value) in measures {
        match side {
            Side::Log => report.add_log(measure, value),
            Side::Device => report.add_device(measure, value),
        }
    }
}

/// Writes the whole file once, so that what is measured later overwrites and never allocates.
fn fill(file: &Path) -> Result<(), Failure> {
    let arguments = format!(
        "--name=fill --size={FILE_MIB}M --rw=write --bs=1M --direct=1 --ioengine=psync --end_fsync=1"
    );
    let mut command = Command::new("fio");
    command
        .args(arguments.split(' '))
        .arg(format!("--filename={}", file.display()));
    said_by(&mut command).map(|_| ())
}

/// Runs fio with `pattern`.
fn fio(options: &Options, file: &Path, pattern: Pattern) -> Result<Written, Failure> {
    let arguments = format!(
        "--name=write --size={FILE_MIB}M --rw=write --bs={} --iodepth={} --runtime={} --time_based \
         --direct=1 --ioengine=io_uring --sync=dsync --fallocate=none --lat_percentiles=1 \
         --clat_percentiles=0 --output-format=json",
        pattern.bytes(),
        pattern.inflight(),
        options.device_s
    );
    let mut command = pinned(options, "fio");
    command
        .args(arguments.split_whitespace())
        .arg(format!("--filename={}", file.display()));
    let text = said_by(&mut command)?;
    parse_fio(&text).ok_or("cannot understand what fio says".to_owned())
}

/// Runs the log bench of the node with `pattern`.
fn ashlar(options: &Options, data: &Path, pattern: Pattern) -> Result<Written, Failure> {
    // Each run begins with an empty log, as each server does; the first time there is nothing to remove.
    let _ = fs::remove_dir_all(data);
    fs::create_dir_all(data).map_err(said("cannot make", data))?;
    let mut command = pinned(options, &options.ashlar.display().to_string());
    command.arg("bench-wal").arg("--data").arg(data).args([
        "--bytes",
        &pattern.bytes().to_string(),
        "--inflight",
        &pattern.inflight().to_string(),
        "--seconds",
        &options.device_s.to_string(),
        // The method that fio is told to use.
        "--durability",
        "dsync",
    ]);
    let text = said_by(&mut command)?;
    let written = parse_ashlar(&text);
    written.ok_or(format!(
        "expected p50_us=.. p99_us=.. mib_per_s=.., got {}",
        text.trim()
    ))
}

/// Returns `program` pinned to the CPU of the servers.
fn pinned(options: &Options, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &options.server_cpu.to_string(), program]);
    command
}

/// Runs a command to its end and returns its output.
fn said_by(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors.lines().take(3).collect();
    Err(format!(
        "ended with {}: {}",
        output.status,
        lines.join(" | ")
    ))
}

/// Returns the write section of fio's JSON; its layout is fixed, so that this is no parser.
fn parse_fio(text: &str) -> Option<Written> {
    let (_, section) = text.split_once("\"write\" : {")?;
    let number = |name: &str| -> Option<f64> {
        let (_, rest) = section.split_once(&format!("\"{name}\" : "))?;
        rest.split([',', '\n']).next()?.trim().parse().ok()
    };
    Some(Written {
        p50_us: number("50.000000")? / 1000.0,
        p99_us: number("99.000000")? / 1000.0,
        mib_per_s: number("bw_bytes")? / f64::from(1 << 20),
    })
}

/// Returns what `ashlar bench-wal` prints: three fields with their units, anywhere in the text.
fn parse_ashlar(text: &str) -> Option<Written> {
    let number = |name: &str| -> Option<f64> {
        let mut words = text.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Some(Written {
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
        mib_per_s: number("mib_per_s")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_write_section_of_fio_is_read() {
        let text = "\"rw\" : \"write\",\n\"read\" : { \"bw_bytes\" : 5,\n},\n\"write\" : {\n\
                    \"bw_bytes\" : 2097152,\n\"percentile\" : {\n\"50.000000\" : 70500,\n\
                    \"99.000000\" : 105000\n";
        let written = Written {
            p50_us: 70.5,
            p99_us: 105.0,
            mib_per_s: 2.0,
        };
        assert_eq!(parse_fio(text), Some(written));
        assert_eq!(parse_fio("fio: error"), None);
    }

    #[test]
    fn the_fields_of_the_log_bench_are_read() {
        let written = Written {
            p50_us: 71.0,
            p99_us: 120.5,
            mib_per_s: 48.0,
        };
        let text = "device ok\np50_us=71 p99_us=120.5 mib_per_s=48.0 writes=9\n";
        assert_eq!(parse_ashlar(text), Some(written));
        assert_eq!(parse_ashlar("p50_us=71 p99_us=fast mib_per_s=48"), None);
    }
}
