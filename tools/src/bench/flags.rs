//! The flags of `ashlar bench`, and what is made of them: a workload, a pace, a plan. Every wrong one is told what is
//! allowed. Nothing is done here.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ashlar_io::topology;

use super::engine::Times;
use super::feed::{Pace, Work};
use super::keys::{Distribution, KEYS_MAX, Names};
use super::knee::Limit;
use super::mix::{Kind, Mix, Preset, Template};
use super::run::Plan;
use super::schedule::{Arrivals, Rate, split_unit};
use super::target::{Login, Target};
use super::values::{Bodies, Sizes};
use super::workload::{Form, ScanBy, Workload};

/// Commands in a pipeline while keys are loaded or checked.
const LOAD_PIPELINE: u64 = 64;
/// Operations per second when no rate is given.
const RATE: Rate = Rate(10_000.0);
/// Fields of a hash are one digit or two.
const FIELDS_MAX: i64 = 100;
/// Commands on a connection that may wait for an answer in an open loop.
const IN_FLIGHT: usize = 4096;
/// Most connections.
const CONNECTIONS_MAX: i64 = 10_000;

/// What and how is loaded.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub(crate) struct Flags {
    /// Server to load; given again, the servers are compared in rounds
    #[arg(long, value_name = "[NAME=]ADDR:PORT")]
    pub(crate) target: Vec<Target>,
    /// Operations per second, due whether those before are answered or not [default: 10k]
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<Rate>,
    /// How operations are spread over time
    #[arg(long, value_name = "HOW", default_value = "poisson")]
    pub(crate) arrivals: Arrivals,
    /// Closed loop: each connection sends when its last commands are answered, so a slow server is asked less
    #[arg(long, conflicts_with_all = ["rate", "arrivals"])]
    pub(crate) closed: bool,
    /// Connections, over all threads
    #[arg(short, long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: u32,
    /// Commands that a connection sends at once in a closed loop
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) pipeline: u64,
    /// Threads of this client
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) threads: u32,
    /// CPUs of these threads, such as 0,2; as many as threads [default: any]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) cpu: Vec<usize>,
    /// Seconds to measure, behind the warm-up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub(crate) seconds: u64,
    /// Do exactly so many operations instead, in a closed loop and without a warm-up
    #[arg(long, value_name = "N", conflicts_with = "seconds", requires = "closed", value_parser = requests)]
    pub(crate) requests: Option<u64>,
    /// Seconds of load before measuring begins
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) warm_up: u64,
    /// Write every key before measuring
    #[arg(long)]
    pub(crate) load: bool,
    /// Read every key behind measuring, and check it
    #[arg(long)]
    pub(crate) check: bool,
    /// Commands of one connection that may wait for an answer in an open loop; more are sent late
    #[arg(long, value_name = "N", default_value_t = IN_FLIGHT, value_parser = in_flight)]
    pub(crate) in_flight: usize,
    /// Rounds in which several servers take turns, --seconds each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// Where the numbers of chance begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) login: LoginFlags,
    #[command(flatten)]
    pub(crate) told: Told,
}

/// Flags of a sweep over rates.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub(crate) struct SweepFlags {
    /// Lowest rate
    #[arg(long, value_name = "RATE", default_value = "1k")]
    pub(crate) from: Rate,
    /// Highest rate
    #[arg(long, value_name = "RATE", default_value = "10M")]
    pub(crate) to: Rate,
    /// A rate is too much when its p99 is above so many times that of the lowest
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) factor: u32,
    /// A rate is too much when its p99 is above so many milliseconds
    #[arg(long, value_name = "MS", conflicts_with = "factor", value_parser = milliseconds)]
    pub(crate) p99_max: Option<f64>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Flags of a comparison.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub(crate) struct CompareFlags {
    /// Servers to compare
    #[arg(value_name = "[NAME=]ADDR:PORT")]
    servers: Vec<Target>,
    #[command(flatten)]
    flags: Flags,
}

impl CompareFlags {
    /// Returns the flags, with all servers as targets.
    ///
    /// # Errors
    /// One line: one server cannot be compared.
    pub(crate) fn all(mut self) -> Result<Flags, String> {
        self.flags.target.extend(self.servers);
        match self.flags.target.len() {
            0 | 1 => Err(
                "compare needs two servers at least: [NAME=]ADDR:PORT [NAME=]ADDR:PORT ..."
                    .to_owned(),
            ),
            _ => Ok(self.flags),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[command(next_help_heading = "What is asked")]
pub(crate) struct Asked {
    /// Kinds of operations and their weights: get, set, insert, incr, del, scan, rmw [default: get=50,set=50]
    #[arg(long, value_name = "KIND=WEIGHT,...", conflicts_with_all = ["ycsb", "command"])]
    pub(crate) mix: Option<Mix>,
    /// Workload of YCSB; sets mix, distribution and value sizes unless they are given
    #[arg(
        long,
        value_name = "LETTER",
        ignore_case = true,
        conflicts_with = "command"
    )]
    pub(crate) ycsb: Option<Preset>,
    /// A command with __key__ and __value__ in it; given again, they are mixed
    #[arg(long, value_name = "WORDS")]
    pub(crate) command: Vec<Template>,
    /// Weights of these commands, in their order
    #[arg(long, value_name = "N,...", value_delimiter = ',', requires = "command", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) ratio: Vec<u32>,
    /// Keys, such as 50k or 20M
    #[arg(long, value_name = "N", default_value = "1M", value_parser = keys)]
    pub(crate) keys: u64,
    /// Which keys: uniform, zipfian[:THETA], latest[:THETA], hotspot[:KEYS%:OPS%], sequential [default: uniform]
    #[arg(long, value_name = "HOW")]
    pub(crate) distribution: Option<Distribution>,
    /// What names of keys begin with
    #[arg(long, value_name = "TEXT", default_value = "key:")]
    pub(crate) key_prefix: String,
    /// Size of a name
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(crate) key_bytes: u32,
    /// Size of a value: N, MIN-MAX, N:WEIGHT,..., lognormal:MEDIAN:SIGMA[:MAX] [default: 100]
    #[arg(long, value_name = "SIZES")]
    pub(crate) value_bytes: Option<Sizes>,
    /// Percentage of a value that a compressor can remove
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) compressible: u32,
    /// What a record is
    #[arg(long, value_name = "FORM", default_value = "string")]
    pub(crate) form: Form,
    /// Fields of a hash; a value is that of one field
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=FIELDS_MAX))]
    pub(crate) fields: u32,
    /// Most keys of a scan; each reads from one up to so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) scan_keys: u32,
    /// How keys are read in order [default: kv if the server knows KV.SCAN and records are strings]
    #[arg(long, value_name = "HOW")]
    pub(crate) scan_by: Option<ScanBy>,
    /// Values do not verify themselves, and answers are not checked
    #[arg(long, conflicts_with = "check")]
    pub(crate) no_verify: bool,
    /// Keys whose acknowledged writes are remembered (20 bytes each), so that a lost one is noticed
    #[arg(long, value_name = "N", default_value = "10M", value_parser = verified_keys)]
    pub(crate) verify_keys: u64,
}

/// How connections begin.
#[derive(Clone, Debug, PartialEq, clap::Args)]
#[command(next_help_heading = "Connections")]
pub(crate) struct LoginFlags {
    /// Password
    #[arg(long, value_name = "TEXT")]
    password: Option<String>,
    /// User of the password
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,
    /// Database
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1023))]
    database: u32,
}

/// What is told of it.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "What is told")]
pub(crate) struct Told {
    /// Write all numbers to a file as JSON; - is standard output, and the table is not printed then
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the latencies of each second to a file in HdrHistogram's log format
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,
    /// Write a report with charts to a file, which needs nothing else to be looked at
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print a line each second, also on a terminal
    #[arg(long)]
    pub(crate) no_tui: bool,
}

/// Reads a number that may end in `k` or `M`.
fn count(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let count = digits.parse().ok();
    let count = count.and_then(|count: u64| count.checked_mul(u64::from(unit)));
    count
        .filter(|count| allowed.contains(count))
        .ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            format!("allowed is {least} to {most}, such as 500, 20k or 3M")
        })
}

fn keys(text: &str) -> Result<u64, String> {
    count(text, 1..=KEYS_MAX)
}

fn verified_keys(text: &str) -> Result<u64, String> {
    count(text, 0..=1_000_000_000)
}

fn requests(text: &str) -> Result<u64, String> {
    count(text, 1..=u64::MAX)
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let ms = text
        .parse()
        .ok()
        .filter(|ms| (0.001..=600_000.0).contains(ms));
    ms.ok_or_else(|| "allowed is 0.001 to 600000".to_owned())
}

fn in_flight(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count));
    count.ok_or_else(|| "allowed is 1 to 1000000".to_owned())
}

/// A command line of these flags alone.
#[derive(Clone, Debug, clap::Parser)]
struct Alone {
    #[command(flatten)]
    flags: Flags,
}

impl SweepFlags {
    /// Checks what flags say together.
    ///
    /// # Errors
    /// One line that names the flag and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self {
            from, to, flags, ..
        } = self;
        if flags.closed || flags.rate.is_some() {
            return Err(
                "a sweep is an open loop that chooses its rates; allowed are --from and --to"
                    .to_owned(),
            );
        }
        match from <= to {
            true => flags.check(),
            false => Err(format!("--from {} is above --to {}", from.0, to.0)),
        }
    }

    /// Returns when a rate is too much.
    pub(crate) fn limit(&self) -> Limit {
        match self.p99_max {
            Some(ms) => Limit::P99(ms * 1000.0),
            None => Limit::Factor(f64::from(self.factor)),
        }
    }
}

impl Flags {
    /// Returns the flags that some words are.
    pub(crate) fn of(words: &[&str]) -> Self {
        let words = ["bench"].iter().chain(words);
        let alone = <Alone as clap::Parser>::try_parse_from(words);
        alone.expect("words of this program are flags").flags
    }

    /// Says whether nothing was asked for, but for lines instead of a screen.
    pub(crate) fn is_default(&self) -> bool {
        let told = Told {
            no_tui: self.told.no_tui,
            ..Told::default()
        };
        *self
            == Self {
                told,
                ..Self::of(&[])
            }
    }

    /// Checks what flags say together.
    ///
    /// # Errors
    /// One line that names the flag and what is allowed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self {
            threads,
            connections,
            ..
        } = self;
        if connections < threads {
            return Err(format!(
                "--connections {connections} is less than --threads {threads}; each thread needs one"
            ));
        }
        if self.pipeline > 1 && !self.closed {
            return Err(
                "--pipeline is for a closed loop; give --closed, or a --rate alone".to_owned(),
            );
        }
        let allowed = topology::cpus();
        if let Some(cpu) = self.cpu.iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(format!(
                "--cpu {cpu}: this process may run on CPUs {allowed:?} only"
            ));
        }
        if !self.cpu.is_empty() && self.cpu.len() != *threads as usize {
            return Err(format!(
                "--cpu names {} CPUs for {threads} threads; name one for each",
                self.cpu.len()
            ));
        }
        self.asked.check()
    }

    /// Returns the targets, that of a node with its defaults when none is given.
    pub(crate) fn targets(&self) -> Vec<Target> {
        match self.target.is_empty() {
            true => vec![Target {
                name: String::new(),
                addr: ([127, 0, 0, 1], 6379).into(),
            }],
            false => self.target.clone(),
        }
    }

    /// Returns the pace of the measured phase.
    pub(crate) fn pace(&self) -> Pace {
        match self.closed {
            true => Pace::Closed(self.pipeline),
            false => Pace::Open(self.rate.unwrap_or(RATE), self.arrivals),
        }
    }

    /// Returns the plan of a phase against a target, which has so many keys.
    pub(crate) fn plan(&self, target: &Target, (work, keys): (Work, u64), pace: Pace) -> Plan {
        let cpus = self.cpu.iter().map(|cpu| Some(*cpu));
        let whole = Times {
            warm_up: Duration::ZERO,
            measured: None,
        };
        let (times, count, pace) = match (work, self.requests) {
            (Work::Load | Work::Check, _) => (whole, keys, Pace::Closed(LOAD_PIPELINE)),
            (Work::Run, Some(requests)) => (whole, requests, pace),
            (Work::Run, None) => (self.times(), u64::MAX, pace),
        };
        Plan {
            addr: target.addr,
            connections: self.connections,
            threads: cpus
                .chain(std::iter::repeat(None))
                .take(self.threads as usize)
                .collect(),
            greeting: self.login.login().greeting(),
            work,
            pace,
            times,
            count,
            in_flight_max: self.in_flight,
            seed: self.seed,
        }
    }

    fn times(&self) -> Times {
        Times {
            warm_up: Duration::from_secs(self.warm_up),
            measured: Some(Duration::from_secs(self.seconds)),
        }
    }
}

impl LoginFlags {
    /// Returns the login.
    pub(crate) fn login(&self) -> Login {
        Login {
            user: self.user.clone(),
            password: self.password.clone(),
            database: self.database,
        }
    }
}

impl Asked {
    fn check(&self) -> Result<(), String> {
        let (commands, ratios) = (self.command.len(), self.ratio.len());
        if ratios != 0 && ratios != commands {
            return Err(format!(
                "--ratio names {ratios} weights for {commands} commands; name one for each"
            ));
        }
        if self.form == Form::Hash && self.scan_by == Some(ScanBy::Kv) {
            return Err("--scan-by kv reads strings; allowed with --form hash is index".to_owned());
        }
        self.names().map(drop)
    }

    fn names(&self) -> Result<Names, String> {
        Names::new(&self.key_prefix, self.key_bytes as usize, self.keys)
    }

    /// Returns the workload.
    ///
    /// # Errors
    /// One line: names have no room for their digits.
    pub(crate) fn workload(&self, seed: u64) -> Result<Workload, String> {
        let names = self.names()?;
        let preset = self.ycsb.map(Preset::workload);
        let mix = match (self.command.is_empty(), &self.mix, &preset) {
            (false, ..) => Mix::only(Kind::Custom),
            (_, Some(mix), _) | (_, None, Some((mix, _))) => mix.clone(),
            _ => "get=50,set=50".parse().expect("it is a mix"),
        };
        let distribution = preset.map_or(Distribution::Uniform, |(_, distribution)| distribution);
        // A record of YCSB has ten fields of 100 bytes, or as many bytes.
        let size = match (self.ycsb, self.form) {
            (Some(_), Form::String) => 1000,
            _ => 100,
        };
        let sizes = self.value_bytes.clone().unwrap_or(Sizes::Fixed(size));
        let counters = format!("counter:{}", self.key_prefix);
        let digits = self.key_bytes as usize - self.key_prefix.len();
        let mut sum = 0;
        let weights = self.ratio.iter().copied().chain(std::iter::repeat(1));
        let templates = self
            .command
            .iter()
            .cloned()
            .zip(weights)
            .map(|(template, weight)| {
                sum += u64::from(weight);
                (template, sum)
            });
        Ok(Workload {
            names,
            counters: Names::new(&counters, counters.len() + digits, self.keys)?,
            index: format!("index:{}", self.key_prefix).into_bytes(),
            mix,
            distribution: self.distribution.unwrap_or(distribution),
            sizes,
            // What a command of the user's own has written is not known here.
            verifies: !self.no_verify && self.command.is_empty(),
            bodies: Bodies::new(f64::from(self.compressible) / 100.0, seed),
            form: self.form,
            field_names: Workload::name_fields(self.fields),
            scan_keys: self.scan_keys as usize,
            templates: templates.collect(),
        })
    }
}
