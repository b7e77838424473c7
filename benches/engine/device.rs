//! What the disk can do: fio, with direct IO on a file that was written before.

use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::options::Options;

/// How the device is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    way: &'static str,
    block_bytes: u32,
    depth: usize,
}

/// What fio reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reached {
    /// Operations in a second.
    pub(crate) per_s: f64,
    /// Bandwidth in MiB/s.
    pub(crate) mib_per_s: f64,
}

impl Pattern {
    /// Reads one piece after the other, as merges do.
    pub(crate) const READ: Self = Self {
        way: "read",
        block_bytes: 256 << 10,
        depth: 4,
    };
    /// Writes one piece after the other, as merges do.
    pub(crate) const WRITE: Self = Self {
        way: "write",
        ..Self::READ
    };

    /// Returns the pattern of reads of `block_bytes` at random places, `depth` at a time.
    pub(crate) fn random(block_bytes: u32, depth: usize) -> Self {
        Self {
            way: "randread",
            block_bytes,
            depth,
        }
    }

    /// Returns the section of fio's JSON that counts.
    fn section(self) -> &'static str {
        match self.way {
            "write" => "write",
            _ => "read",
        }
    }
}

/// Writes a file once, so that what is measured later finds all of it.
pub(crate) fn fill(file: &Path, bytes: u64) -> Result<(), Failure> {
    let arguments = format!(
        "--name=fill --size={}M --rw=write --bs=1M --direct=1 --ioengine=psync --end_fsync=1",
        (bytes >> 20).max(1)
    );
    let mut command = Command::new("fio");
    command.args(arguments.split(' '));
    said_by(command.arg(format!("--filename={}", file.display()))).map(|_| ())
}

/// Runs fio with `pattern`, on the CPU of the engines.
pub(crate) fn run(options: &Options, file: &Path, pattern: Pattern) -> Result<Reached, Failure> {
    let arguments = format!(
        "--name=run --rw={} --bs={} --iodepth={} --runtime={} --time_based --direct=1 \
         --ioengine=io_uring --fallocate=none --norandommap --output-format=json",
        pattern.way, pattern.block_bytes, pattern.depth, options.seconds
    );
    let mut command = Command::new("taskset");
    command
        .args(["-c", &options.cpu.to_string(), "fio"])
        .args(arguments.split_whitespace());
    let text = said_by(command.arg(format!("--filename={}", file.display())))?;
    parse(&text, pattern.section()).ok_or("cannot understand what fio says".to_owned())
}

/// Returns the longest of durable writes of 4 KiB, one at a time, in milliseconds: what this disk makes
/// a log wait for, while `beside_mib` MiB a second are written to other files as merges write them.
pub(crate) fn longest_write_ms(
    options: &Options,
    dir: &Path,
    beside_mib: u64,
) -> Result<f64, Failure> {
    let (log, tables) = (dir.join("fio-log.data"), dir.join("fio-tables.data"));
    fill(&log, 64 << 20)?;
    fill(&tables, 512 << 20)?;
    let mut arguments = format!(
        "--direct=1 --ioengine=io_uring --fallocate=none --rw=write --time_based --runtime={} \
         --output-format=json --name=log --bs=4096 --sync=dsync --filename={}",
        options.seconds,
        log.display()
    );
    if beside_mib > 0 {
        arguments += &format!(
            " --name=tables --bs=262144 --iodepth=2 --sync=none --rate={beside_mib}M --filename={}",
            tables.display()
        );
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &options.cpu.to_string(), "fio"]);
    let text = said_by(command.args(arguments.split_whitespace()))?;
    parse_longest_ms(&text).ok_or("cannot understand what fio says".to_owned())
}

/// Returns the longest latency of the writes of the first job in fio's JSON, in milliseconds.
fn parse_longest_ms(text: &str) -> Option<f64> {
    let (_, written) = text.split_once("\"write\" : {")?;
    let (_, latency) = written.split_once("\"clat_ns\" : {")?;
    let (_, rest) = latency.split_once("\"max\" : ")?;
    let longest_ns: f64 = rest.split([',', '\n']).next()?.trim().parse().ok()?;
    Some(longest_ns / 1e6)
}

/// Runs a command to its end and returns its output.
fn said_by(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = errors.lines().take(3).collect();
    Err(format!(
        "fio ended with {}: {}",
        output.status,
        lines.join(" | ")
    ))
}

/// Returns a section of fio's JSON; its layout is fixed, so that this is no parser.
fn parse(text: &str, section: &str) -> Option<Reached> {
    let (_, section) = text.split_once(&format!("\"{section}\" : {{"))?;
    let number = |name: &str| -> Option<f64> {
        let (_, rest) = section.split_once(&format!("\"{name}\" : "))?;
        rest.split([',', '\n']).next()?.trim().parse().ok()
    };
    Some(Reached {
        per_s: number("iops")?,
        mib_per_s: number("bw_bytes")? / f64::from(1 << 20),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_that_counts_is_read() {
        let text = "\"read\" : {\n\"bw_bytes\" : 2097152,\n\"iops\" : 12.5,\n},\n\"write\" : {\n\
                    \"bw_bytes\" : 1048576,\n\"iops\" : 3\n";
        let reached = |per_s, mib_per_s| Some(Reached { per_s, mib_per_s });
        assert_eq!(parse(text, "read"), reached(12.5, 2.0));
        assert_eq!(parse(text, "write"), reached(3.0, 1.0));
        assert_eq!(parse("fio: error", "read"), None);
    }

    #[test]
    fn the_longest_write_of_the_log_is_read() {
        let text = "\"read\" : {\n\"clat_ns\" : {\n\"min\" : 0,\n\"max\" : 9,\n}\n},\n\
                    \"write\" : {\n\"clat_ns\" : {\n\"min\" : 5,\n\"max\" : 2500000,\n}";
        assert_eq!(parse_longest_ms(text), Some(2.5));
        assert_eq!(parse_longest_ms("fio: error"), None);
    }
}
