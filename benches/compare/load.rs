//! The client: `redis-benchmark` on its own CPU, and what it says.

use std::process::Command;

use crate::Failure;
use crate::fanout;
use crate::options::Options;
use crate::transactions;

/// Keys that values are read back from; fewer than are written, so that nearly every read finds one.
const GET_KEYS: u64 = 100_000;

/// Keys that values are written to.
pub(crate) const SET_KEYS: u64 = 1_000_000;

/// What the client does, with 50 connections and values of 100 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Workload {
    /// `SET`, one command at a time on each connection.
    SetP1,
    /// `SET`, 16 commands at a time.
    SetP16,
    /// `GET`, 16 commands at a time, after a preload.
    GetP16,
    /// `INCR` of one key that all clients have, one command at a time.
    IncrP1,
    /// `MSET` of ten keys, 16 commands at a time.
    MsetP16,
    /// `MULTI`, five `SET`, `EXEC`; an operation is the whole of it.
    Multi,
    /// `HSET` to one hash, 16 commands at a time; the others with the same end likewise.
    HsetP16,
    SaddP16,
    ZaddP16,
    /// `HGET` from a hash of 100,000 fields.
    HgetP16,
    /// `ZSCORE` from a sorted set of 100,000 members.
    ZscoreP16,
    /// `SMEMBERS` of a set of 100 members.
    Smembers100,
    LpushP16,
    /// `LRANGE` of the first 100 elements of a list.
    Lrange100,
    /// `PUBLISH` to a thousand subscribers; an operation is a message that one of them has got.
    Publish,
}

/// What `redis-benchmark` is told to do: the name of one of its tests, or a command.
#[derive(Clone, Copy, Debug)]
struct Load {
    words: &'static str,
    pipeline: u32,
    /// What `__rand_int__` stays below.
    keys: u64,
}

impl Load {
    const fn new(words: &'static str, pipeline: u32, keys: u64) -> Self {
        Self {
            words,
            pipeline,
            keys,
        }
    }
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
    pub(crate) const EVERY: [Self; 15] = [
        Self::SetP1,
        Self::SetP16,
        Self::GetP16,
        Self::IncrP1,
        Self::MsetP16,
        Self::Multi,
        Self::HsetP16,
        Self::SaddP16,
        Self::ZaddP16,
        Self::HgetP16,
        Self::ZscoreP16,
        Self::Smembers100,
        Self::LpushP16,
        Self::Lrange100,
        Self::Publish,
    ];

    /// Returns the name in options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SetP1 => "set-p1",
            Self::SetP16 => "set-p16",
            Self::GetP16 => "get-p16",
            Self::IncrP1 => "incr-p1",
            Self::MsetP16 => "mset-p16",
            Self::Multi => "multi",
            Self::HsetP16 => "hset-p16",
            Self::SaddP16 => "sadd-p16",
            Self::ZaddP16 => "zadd-p16",
            Self::HgetP16 => "hget-p16",
            Self::ZscoreP16 => "zscore-p16",
            Self::Smembers100 => "smembers-100",
            Self::LpushP16 => "lpush-p16",
            Self::Lrange100 => "lrange-100",
            Self::Publish => "publish",
        }
    }

    /// Returns the name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::SetP1 => "SET, no pipeline",
            Self::SetP16 => "SET, pipeline 16",
            Self::GetP16 => "GET, pipeline 16",
            Self::IncrP1 => "INCR of one key, no pipeline",
            Self::MsetP16 => "MSET of 10 keys, pipeline 16",
            Self::Multi => "MULTI, 5 SETs, EXEC",
            Self::HsetP16 => "HSET, pipeline 16",
            Self::SaddP16 => "SADD, pipeline 16",
            Self::ZaddP16 => "ZADD, pipeline 16",
            Self::HgetP16 => "HGET, pipeline 16",
            Self::ZscoreP16 => "ZSCORE, pipeline 16",
            Self::Smembers100 => "SMEMBERS of 100",
            Self::LpushP16 => "LPUSH, pipeline 16",
            Self::Lrange100 => "LRANGE of 100",
            Self::Publish => "PUBLISH to 1,000 subscribers, messages delivered",
        }
    }

    /// Returns how many requests it makes.
    pub(crate) fn requests(self, options: &Options) -> u64 {
        match self.load() {
            Some(load) if load.pipeline == 1 => options.requests,
            Some(_) => options.requests * 5,
            None if self == Self::Multi => options.requests,
            None => options.requests * 50,
        }
    }

    /// Returns what `redis-benchmark` is told, if it is the client.
    fn load(self) -> Option<Load> {
        let (words, pipeline, keys) = match self {
            Self::SetP1 => ("set", 1, SET_KEYS),
            Self::SetP16 => ("set", 16, SET_KEYS),
            Self::GetP16 => ("get", 16, GET_KEYS),
            Self::IncrP1 => ("INCR hot", 1, SET_KEYS),
            Self::MsetP16 => ("mset", 16, SET_KEYS),
            Self::HsetP16 => ("hset", 16, SET_KEYS),
            Self::SaddP16 => ("sadd", 16, SET_KEYS),
            Self::ZaddP16 => ("zadd", 16, SET_KEYS),
            Self::HgetP16 => ("HGET myhash element:__rand_int__", 16, GET_KEYS),
            Self::ZscoreP16 => ("ZSCORE myzset element:__rand_int__", 16, GET_KEYS),
            Self::Smembers100 => ("SMEMBERS hundred", 1, GET_KEYS),
            Self::LpushP16 => ("lpush", 16, SET_KEYS),
            Self::Lrange100 => ("LRANGE mylist 0 99", 1, GET_KEYS),
            Self::Multi | Self::Publish => return None,
        };
        Some(Load::new(words, pipeline, keys))
    }

    /// Returns what has to be there before, and how many requests make it: of keys that are drawn, 98 % are then there.
    fn preload(self) -> Option<(Load, u64)> {
        match self {
            Self::GetP16 => Some((Load::new("set", 16, GET_KEYS), GET_KEYS * 4)),
            Self::HgetP16 => Some((Load::new("hset", 16, GET_KEYS), GET_KEYS * 4)),
            Self::ZscoreP16 => Some((Load::new("zadd", 16, GET_KEYS), GET_KEYS * 4)),
            Self::Smembers100 => Some((
                Load::new("SADD hundred element:__rand_int__", 16, 100),
                4_000,
            )),
            Self::Lrange100 => Some((Load::new("lpush", 16, GET_KEYS), 1_000)),
            Self::SetP1
            | Self::IncrP1
            | Self::MsetP16
            | Self::Multi
            | Self::Publish
            | Self::SetP16
            | Self::HsetP16
            | Self::SaddP16
            | Self::ZaddP16
            | Self::LpushP16 => None,
        }
    }
}

/// Runs a workload against the server on `port`.
pub(crate) fn run(options: &Options, port: u16, workload: Workload) -> Result<LoadResult, Failure> {
    let requests = workload.requests(options);
    match workload.load() {
        Some(load) => benchmark(options, port, load, requests),
        None if workload == Workload::Multi => {
            transactions::run(options.client_cpu, port, requests)
        }
        None => fanout::run(options.client_cpu, port, requests / fanout::SUBSCRIBERS),
    }
}

/// Writes what a workload reads.
pub(crate) fn preload(options: &Options, port: u16, workload: Workload) -> Result<(), Failure> {
    match workload.preload() {
        None => Ok(()),
        Some((load, requests)) => benchmark(options, port, load, requests).map(|_| ()),
    }
}

/// Runs `redis-benchmark` once.
fn benchmark(
    options: &Options,
    port: u16,
    load: Load,
    requests: u64,
) -> Result<LoadResult, Failure> {
    let Load {
        words,
        pipeline,
        keys,
    } = load;
    let numbers = format!("-p {port} -c 50 -d 100 -n {requests} -r {keys} -P {pipeline} --csv");
    // A command is several words; a test has one.
    let is_test = !words.contains(' ');
    let output = Command::new("taskset")
        .args([
            "-c",
            &options.client_cpu.to_string(),
            "redis-benchmark",
            "-h",
            "127.0.0.1",
        ])
        .args(numbers.split(' '))
        .args(is_test.then_some("-t"))
        .args(words.split(' '))
        .output()
        .map_err(|error| format!("cannot start redis-benchmark: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = parse(&text, words).filter(|_| output.status.success());
    result.ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = errors
            .lines()
            .chain(text.lines())
            .take(3)
            .collect::<Vec<_>>()
            .join(" | ");
        format!(
            "redis-benchmark {words} ended with {}: {said}",
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
    // Some names say more: "MSET (10 keys)".
    let is_it = |name: &&str| {
        let short = name.split(" (").next().unwrap_or_default();
        short.eq_ignore_ascii_case(test)
    };
    let row = rows.iter().find(|row| row.first().is_some_and(is_it))?;
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
