//! What needs a whole node: how soon it is back, how much memory it takes, and what its clients feel
//! while it merges. It runs the `ashlar` binary, and loads it with `ashlar bench`.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::Failure;
use crate::cpu::cpu_s;
use crate::device;
use crate::options::Options;
use crate::report::{Measure, Report, Side};
use crate::wire::{ask, write_paced};

/// How long a node may take until it answers.
const START_MAX: Duration = Duration::from_secs(120);
/// How long after the load a node may take to merge what is left.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Log that a restart has to read, in bytes.
const LOG_BYTES: u64 = 256 << 20;
/// Bytes of a value where many bytes are wanted; below those that have files of their own.
const LARGE_BYTES: u64 = 1000;
/// Bytes of a key of `ashlar bench`.
const KEY_BYTES: u64 = 16;
/// Share of the top rate at which latencies are measured.
const SHARE: f64 = 0.7;
/// Keys that are overwritten while latencies are measured.
const P99_KEYS: u64 = 2_000_000;

/// A running node; it is killed when it goes out of scope.
struct Node {
    child: Child,
    port: u16,
}

impl Node {
    /// Starts a node and waits until it answers.
    fn start(options: &Options, data: &Path, memory_mib: u64) -> Result<Self, Failure> {
        let port = free_port()?;
        let log = fs::File::create(data.with_extension("log"))
            .map_err(|error| format!("cannot make a log: {error}"))?;
        let child = Command::new("taskset")
            .args(["-c", &options.cpu.to_string()])
            .arg(&options.ashlar)
            .args(["start", "--cpus", &options.cpu.to_string()])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--memory", &format!("{memory_mib}MiB"), "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {:?}: {error}", options.ashlar))?;
        let mut node = Self { child, port };
        let from = Instant::now();
        while from.elapsed() < START_MAX {
            if ask(port, "PING", Duration::from_millis(500)).is_some_and(|said| said == "+PONG\r\n")
            {
                return Ok(node);
            }
            if let Ok(Some(status)) = node.child.try_wait() {
                return Err(format!("the node ended with {status}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("the node did not answer in {START_MAX:?}"))
    }

    /// Runs `ashlar bench` on the node.
    fn load(&self, options: &Options, arguments: &str) -> Result<String, Failure> {
        let mut command = Command::new("taskset");
        command
            .args(["-c", &options.client_cpu.to_string()])
            .arg(&options.ashlar)
            .args(["bench", "run", "--closed", "--json", "-", "--target"])
            .arg(format!("127.0.0.1:{}", self.port))
            .args(arguments.split_whitespace());
        let output = command
            .output()
            .map_err(|error| format!("cannot load the node: {error}"))?;
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        if !status.success() {
            let said = String::from_utf8_lossy(&stderr);
            let last = said.lines().last().unwrap_or_default();
            return Err(format!("ashlar bench {arguments}: {last}"));
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Returns a field of `INFO`.
    fn info(&self, field: &str) -> Option<u64> {
        let said = ask(self.port, "INFO", Duration::from_secs(5))?;
        let mut lines = said.lines();
        lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.parse().ok())
    }

    /// Returns a line of `/proc/PID/NAME`, in the unit that it is in.
    fn proc(&self, name: &str, field: &str) -> Option<u64> {
        let path = format!("/proc/{}/{name}", self.child.id());
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Returns the bytes that the node has written but for batches of its log: tables, and segments
    /// for the log.
    fn written_beside_log(&self) -> Option<u64> {
        let written = self.proc("io", "write_bytes:")?;
        Some(written.saturating_sub(self.info("log_bytes")?))
    }

    /// Waits until the node has written nothing for two seconds, or for long enough.
    fn settle(&self) {
        let from = Instant::now();
        let mut before = None;
        while from.elapsed() < SETTLE_MAX {
            thread::sleep(Duration::from_secs(2));
            let written = self.proc("io", "write_bytes:");
            if written == before {
                return;
            }
            before = written;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures how soon a killed node answers again.
pub(crate) fn measure_restart(
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let data = dir.join("data");
    // Memory enough that the log grows to what is wanted before its entries are flushed.
    let node = Node::start(options, &data, 4096)?;
    let keys = (options.restart_gib << 30) / (LARGE_BYTES + KEY_BYTES);
    let shape = format!("--keys {keys} --value-bytes {LARGE_BYTES} --mix set=1 --pipeline 16");
    node.load(options, &format!("{shape} --load --requests 16"))?;
    node.settle();
    let mut live = 0;
    for _ in 0..200 {
        node.load(options, &format!("{shape} --requests 20000"))?;
        // It is published ten times a second.
        thread::sleep(Duration::from_millis(200));
        live = node
            .info("log_live_bytes")
            .ok_or("INFO has no log_live_bytes")?;
        if (LOG_BYTES..LOG_BYTES * 9 / 8).contains(&live) {
            break;
        }
    }
    drop(node);
    let from = Instant::now();
    let node = Node::start(options, &data, 4096)?;
    let took_s = from.elapsed().as_secs_f64();
    let used_s = cpu_s(&node.child.id().to_string());
    eprintln!(
        "  {} MiB of log, {} MiB on disk",
        live >> 20,
        disk_mib(&data)
    );
    drop(node);
    report.add(Side::Ashlar, Measure::Restart, took_s);
    report.add(Side::Ashlar, Measure::RestartCpu, used_s);
    Ok(())
}

/// Measures the memory of a node with much more data than memory, under a mixed load.
pub(crate) fn measure_memory(
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let data = dir.join("data");
    let node = Node::start(options, &data, options.memory_mib)?;
    let keys = (options.memory_gib << 30) / (LARGE_BYTES + KEY_BYTES);
    let shape = format!("--keys {keys} --value-bytes {LARGE_BYTES}");
    let is_over = AtomicBool::new(false);
    let (peak_mib, loaded) = thread::scope(|scope| {
        let sampler = scope.spawn(|| sample_mib(&node, &is_over));
        let loaded = node
            .load(
                options,
                &format!("{shape} --load --requests 16 --mix set=1"),
            )
            .and_then(|_| {
                eprintln!("  loaded: {:?} KiB resident", node.proc("status", "VmRSS:"));
                let seconds = options.seconds * 3;
                node.load(
                    options,
                    &format!("{shape} --seconds {seconds} --pipeline 4 --mix get=1,set=1"),
                )
            });
        is_over.store(true, Ordering::Relaxed);
        (sampler.join().unwrap_or(0), loaded)
    });
    loaded.map(|said| eprintln!("  {}", said.trim()))?;
    eprintln!("  {} MiB on disk", disk_mib(&data));
    report.add(Side::Ashlar, Measure::Resident, peak_mib as f64);
    let share = peak_mib as f64 / options.memory_mib as f64;
    report.add(Side::Ashlar, Measure::ResidentShare, share);
    Ok(())
}

/// Looks at the memory ten times a second, and returns the most there was in MiB.
fn sample_mib(node: &Node, is_over: &AtomicBool) -> u64 {
    let mut peak_kib = 0;
    while !is_over.load(Ordering::Relaxed) {
        peak_kib = peak_kib.max(node.proc("status", "VmRSS:").unwrap_or(0));
        thread::sleep(Duration::from_millis(100));
    }
    peak_kib >> 10
}

/// Measures the latency of durable writes with and without flushes and merges.
pub(crate) fn measure_p99(
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let time = Duration::from_secs(options.seconds);
    let shape = format!("--keys {P99_KEYS} --mix set=1");
    let preload = format!("{shape} --load --requests 16 --value-bytes 100");
    let mut rate = 0.0;
    let nodes = [(8192, Measure::P99Quiet), (64, Measure::P99Merging)];
    for (memory_mib, measure) in nodes {
        let node = Node::start(options, &dir.join(format!("data-{memory_mib}")), memory_mib)?;
        node.load(options, &preload)?;
        node.settle();
        if measure == Measure::P99Quiet {
            let said = node.load(options, &format!("{shape} --seconds {}", options.seconds))?;
            let top = json_number(&said, "per_second").ok_or(format!("no rate in {said}"))?;
            report.add(Side::Ashlar, Measure::TopRate, top);
            rate = top * SHARE;
        }
        let before = node.written_beside_log();
        let id = usize::try_from(options.client_cpu).unwrap_or(0);
        core_affinity::set_for_current(core_affinity::CoreId { id });
        let latencies = write_paced(node.port, P99_KEYS, rate, time)?;
        let written = node.written_beside_log().zip(before);
        let beside_mib = written.map_or(0, |(after, before)| after.saturating_sub(before) >> 20);
        let at = |permille: usize| latencies[latencies.len() * permille / 1000];
        eprintln!(
            "  {memory_mib} MiB of memory: p50 {} p99 {} p99.9 {} max {:?} us, {beside_mib} MiB written beside the log",
            at(500),
            at(990),
            at(999),
            latencies.last(),
        );
        report.add(Side::Ashlar, measure, at(990) as f64);
        let stall = match measure {
            Measure::P99Quiet => Measure::StallQuiet,
            _ => Measure::StallMerging,
        };
        let longest_us = latencies.last().copied().unwrap_or(0);
        report.add(Side::Ashlar, stall, longest_us as f64 / 1000.0);
        drop(node);
        // The disk alone, asked for the same: what it makes wait, no node can help.
        let longest_ms = device::longest_write_ms(options, dir, beside_mib / options.seconds)?;
        report.add(Side::FioDurable, stall, longest_ms);
    }
    Ok(())
}

/// Returns a number of a JSON object, wherever it is in it.
fn json_number(text: &str, name: &str) -> Option<f64> {
    let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}', '\n']).next()?.trim().parse().ok()
}

/// Returns the MiB of all files below a directory.
fn disk_mib(dir: &Path) -> u64 {
    fn bytes(dir: &Path) -> u64 {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.metadata() {
                Ok(data) if data.is_dir() => bytes(&entry.path()),
                Ok(data) => data.len(),
                Err(_) => 0,
            })
            .sum()
    }
    bytes(dir) >> 20
}

/// Returns a port that was free a moment ago.
fn free_port() -> Result<u16, Failure> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_json() {
        let text = "{\"seconds\":10.0,\"ops_per_s\": 1234.5,\"errors\":0}";
        assert_eq!(json_number(text, "ops_per_s"), Some(1234.5));
        assert_eq!(json_number(text, "errors"), Some(0.0));
        assert_eq!(json_number(text, "p99"), None);
    }
}
