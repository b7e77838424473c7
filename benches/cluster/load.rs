//! The client: `redis-benchmark` on its own CPU, and what it says.

use std::process::Command;

use crate::Failure;
use crate::options::Options;

/// Keys that values are read back from; fewer than are written, so that nearly every read finds one.
const GET_KEYS: u64 = 100_000;
/// Keys that values are written to.
const SET_KEYS: u64 = 1_000_000;

/// What the client does, with 64 connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// `SET` of 100 bytes, one command at a time on each connection.
    SetP1,
    /// The same, 16 commands at a time.
    SetP16,
    /// `SET` of 1 KiB, one command at a time.
    WideP1,
    /// The same, 16 commands at a time.
    WideP16,
    /// `GET`, 16 commands at a time, after a preload.
    GetP16,
}

/// What the client saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seen {
    /// Operations per second.
    pub(crate) per_second: f64,
    /// 99th percentile of the latency in milliseconds.
    pub(crate) p99_ms: f64,
}

impl Workload {
    /// Returns the name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SetP1 => "durable SET, no pipeline",
            Self::SetP16 => "durable SET, pipeline 16",
            Self::WideP1 => "durable SET of 1 KiB, no pipeline",
            Self::WideP16 => "durable SET of 1 KiB, pipeline 16",
            Self::GetP16 => "linearizable GET, pipeline 16",
        }
    }

    /// Returns how many requests it makes.
    pub(crate) fn requests(self, options: &Options) -> u64 {
        match self {
            Self::SetP1 | Self::WideP1 => options.requests,
            Self::SetP16 | Self::WideP16 | Self::GetP16 => options.requests * 5,
        }
    }

    /// Returns the arguments that differ: test, pipeline, keys, bytes of a value.
    fn arguments(self) -> (&'static str, u32, u64, u32) {
        match self {
            Self::SetP1 => ("set", 1, SET_KEYS, 100),
            Self::SetP16 => ("set", 16, SET_KEYS, 100),
            Self::WideP1 => ("set", 1, SET_KEYS, 1024),
            Self::WideP16 => ("set", 16, SET_KEYS, 1024),
            Self::GetP16 => ("get", 16, GET_KEYS, 100),
        }
    }
}

/// Runs a workload against the server on `port`.
///
/// # Errors
/// `redis-benchmark` fails, or says nothing that can be understood.
pub(crate) fn run(options: &Options, port: u16, workload: Workload) -> Result<Seen, Failure> {
    benchmark(
        options,
        port,
        workload.arguments(),
        workload.requests(options),
    )
}

/// Writes the keys that [`Workload::GetP16`] reads, four times over: 98 % of them are then there.
///
/// # Errors
/// As [`run`].
pub(crate) fn preload(options: &Options, port: u16) -> Result<(), Failure> {
    benchmark(options, port, ("set", 16, GET_KEYS, 100), GET_KEYS * 4).map(|_| ())
}

fn benchmark(
    options: &Options,
    port: u16,
    (test, pipeline, keys, bytes): (&str, u32, u64, u32),
    requests: u64,
) -> Result<Seen, Failure> {
    let numbers = format!(
        "-h 127.0.0.1 -p {port} -c 64 -d {bytes} -n {requests} -r {keys} -P {pipeline} -t {test}"
    );
    let output = Command::new("taskset")
        .args(["-c", &options.client_cpu.to_string(), "redis-benchmark"])
        .args(numbers.split(' '))
        .arg("--csv")
        .output()
        .map_err(|error| format!("cannot start redis-benchmark: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seen = parse(&text, test).filter(|_| output.status.success());
    seen.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = errors.lines().chain(text.lines()).take(3).collect();
        format!(
            "redis-benchmark {test} ended with {}: {}",
            output.status,
            said.join(" | ")
        )
    })
}

/// Returns the line of `test` from the table that `redis-benchmark --csv` prints.
fn parse(text: &str, test: &str) -> Option<Seen> {
    let fields = |line: &str| -> Vec<String> {
        line.split(',')
            .map(|field| field.trim_matches('"').to_owned())
            .collect()
    };
    let rows: Vec<Vec<String>> = text.lines().map(fields).collect();
    let header = rows.iter().find(|row| row[0] == "test")?;
    let row = rows.iter().find(|row| row[0].eq_ignore_ascii_case(test))?;
    let column = |name: &str| -> Option<f64> {
        let index = header.iter().position(|field| field == name)?;
        row.get(index)?.parse().ok()
    };
    Some(Seen {
        per_second: column("rps")?,
        p99_ms: column("p99_latency_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"p99_latency_ms\"\n\"SET\",\"476190.47\",\"1.388\",\"2.911\"\n";
        let seen = Seen {
            per_second: 476_190.47,
            p99_ms: 2.911,
        };
        assert_eq!(parse(text, "set"), Some(seen));
        assert_eq!(parse(text, "get"), None);
        assert_eq!(parse("ERROR: no server", "set"), None);
    }
}
