//! The client: `redis-benchmark` on its own CPU, and what it says.

use std::process::Command;

use crate::Failure;
use crate::fanout;
use crate::options::Options;

/// Keys that values are read back from; fewer than are written, so that nearly every read finds one.
const GET_KEYS: u64 = 100_000;

/// Keys that values are written to.
const SET_KEYS: u64 = 1_000_000;

/// What the client does, with 50 connections and values of 100 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// `SET`, one command at a time on each connection.
    SetP1,
    /// `SET`, 16 commands at a time.
    SetP16,
    /// `GET`, 16 commands at a time, after a preload.
    GetP16,
    /// `PUBLISH` to a thousand subscribers; an operation is a message that one of them has got.
    Publish,
}

/// What the client saw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LoadResult {
    /// Operations per second.
    pub(crate) per_second: f64,
    /// 99th percentile of the latency in milliseconds.
    pub(crate) p99_ms: f64,
}

impl Workload {
    /// Every workload, in the order in which they run.
    pub(crate) const EVERY: [Self; 4] = [Self::SetP1, Self::SetP16, Self::GetP16, Self::Publish];

    /// Returns the name in options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SetP1 => "set-p1",
            Self::SetP16 => "set-p16",
            Self::GetP16 => "get-p16",
            Self::Publish => "publish",
        }
    }

    /// Returns the name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SetP1 => "SET, no pipeline",
            Self::SetP16 => "SET, pipeline 16",
            Self::GetP16 => "GET, pipeline 16",
            Self::Publish => "PUBLISH to 1,000 subscribers, messages delivered",
        }
    }

    /// Returns how many requests it makes.
    pub(crate) fn requests(self, options: &Options) -> u64 {
        match self {
            Self::SetP1 => options.requests,
            Self::SetP16 | Self::GetP16 => options.requests * 5,
            Self::Publish => options.requests * 50,
        }
    }

    /// Returns the arguments that differ between workloads of `redis-benchmark`: test, pipeline, keys.
    fn arguments(self) -> Option<(&'static str, u32, u64)> {
        match self {
            Self::SetP1 => Some(("set", 1, SET_KEYS)),
            Self::SetP16 => Some(("set", 16, SET_KEYS)),
            Self::GetP16 => Some(("get", 16, GET_KEYS)),
            Self::Publish => None,
        }
    }
}

/// Runs a workload against the server on `port`.
pub(crate) fn run(options: &Options, port: u16, workload: Workload) -> Result<LoadResult, Failure> {
    let requests = workload.requests(options);
    match workload.arguments() {
        Some(arguments) => benchmark(options, port, arguments, requests),
        None => fanout::run(options.client_cpu, port, requests / fanout::SUBSCRIBERS),
    }
}

/// Writes the keys that [`Workload::GetP16`] reads, four times over: 98 % of them are then there.
pub(crate) fn preload(options: &Options, port: u16) -> Result<(), Failure> {
    benchmark(options, port, ("set", 16, GET_KEYS), GET_KEYS * 4).map(|_| ())
}

/// Runs `redis-benchmark` once.
fn benchmark(
    options: &Options,
    port: u16,
    (test, pipeline, keys): (&str, u32, u64),
    requests: u64,
) -> Result<LoadResult, Failure> {
    let numbers = format!("-p {port} -c 50 -d 100 -n {requests} -r {keys} -P {pipeline} -t {test}");
    let output = Command::new("taskset")
        .args([
            "-c",
            &options.client_cpu.to_string(),
            "redis-benchmark",
            "-h",
            "127.0.0.1",
        ])
        .args(numbers.split(' '))
        .arg("--csv")
        .output()
        .map_err(|error| format!("cannot start redis-benchmark: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = parse(&text, test).filter(|_| output.status.success());
    result.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = errors
            .lines()
            .chain(text.lines())
            .take(3)
            .collect::<Vec<_>>()
            .join(" | ");
        format!(
            "redis-benchmark {test} ended with {}: {said}",
            output.status
        )
    })
}

/// Returns the line of `test` from the table that `redis-benchmark --csv` prints.
fn parse(text: &str, test: &str) -> Option<LoadResult> {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split(',')
                .map(|field| field.trim_matches('"'))
                .collect()
        })
        .collect();
    let header = rows.iter().find(|row| row.first() == Some(&"test"))?;
    let row = rows.iter().find(|row| {
        row.first()
            .is_some_and(|name| name.eq_ignore_ascii_case(test))
    })?;
    let column = |name: &str| -> Option<f64> {
        let index = header.iter().position(|field| *field == name)?;
        row.get(index)?.parse().ok()
    };
    Some(LoadResult {
        per_second: column("rps")?,
        p99_ms: column("p99_latency_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"p99_latency_ms\"\n\
                    \"SET\",\"476190.47\",\"1.388\",\"2.911\"\n";
        let result = LoadResult {
            per_second: 476_190.47,
            p99_ms: 2.911,
        };
        assert_eq!(parse(text, "set"), Some(result));
        assert_eq!(parse(text, "get"), None);
        assert_eq!(parse("ERROR: no server", "set"), None);
    }
}
