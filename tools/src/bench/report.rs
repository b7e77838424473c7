//! What a run says: a line of progress each second, a table or a JSON object at its end.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use ashlar_io::Monotonic;

use super::client::{Phase, Shared};
use super::stats::{Latencies, Stats, percentile_us};
use super::workload::Kind;

/// Share of its CPU above which the client is taken for the bottleneck.
const CPU_PERCENT_MAX: f64 = 95.0;
/// Clock ticks per second in `/proc`: `USER_HZ`, the same on every Linux.
const TICKS_PER_S: f64 = 100.0;
/// Pause between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Returns the CPU time that this process has used, in seconds; 0 when `/proc` does not say.
pub(crate) fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    parse_cpu_time(&text).unwrap_or(0.0)
}

fn parse_cpu_time(stat: &str) -> Option<f64> {
    // The name of the process may hold anything, but no field after it holds a parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_S)
}

/// The line that tells, once a second on a terminal, how it goes.
#[derive(Debug)]
pub(crate) struct Progress {
    name: &'static str,
    on: bool,
    shown: Option<Monotonic>,
}

impl Progress {
    /// Makes the line of a phase; it stays silent unless it is `wanted` and standard error is a terminal.
    pub(crate) fn new(phase: Phase, wanted: bool) -> Self {
        let name = if phase == Phase::Preload {
            "preload"
        } else {
            "load"
        };
        Self {
            name,
            on: wanted && std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// Shows the line when a second has passed since the last one.
    pub(crate) fn show(&mut self, now: Monotonic, shared: &Shared) {
        let since = now.since(*self.shown.get_or_insert(now));
        if !self.on || since < PROGRESS {
            return;
        }
        self.shown = Some(now);
        let mut stats = shared.stats.borrow_mut();
        let (count, p50, p99) = stats.take_recent();
        let (name, rate, errors) = (self.name, rate(count, since), stats.errors());
        eprint!(
            "\r{name}: {rate:.0} op/s, p50 {p50:.0} us, p99 {p99:.0} us, {errors} errors\x1b[K"
        );
    }

    /// Wipes the line.
    pub(crate) fn end(&mut self) {
        if self.on {
            eprint!("\r\x1b[K");
            // What cannot be shown on a terminal has no other reader.
            let _ = std::io::stderr().flush();
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Summary {
    /// The load in words.
    pub(crate) what: String,
    /// What was counted.
    pub(crate) stats: Stats,
    /// From the end of the warm-up to the last reply.
    pub(crate) elapsed: Duration,
    /// Why the first connection was lost, and how many were.
    pub(crate) lost: Option<(String, usize)>,
    /// Connections at the start.
    pub(crate) clients: u32,
    /// CPU that this process used while measuring, in percent of one CPU.
    pub(crate) cpu_percent: f64,
}

/// A row of the table: the replies of one kind, or of all.
struct Row {
    name: &'static str,
    latencies: Latencies,
    errors: u64,
}

impl Summary {
    fn rows(&self) -> Vec<Row> {
        let kinds = Kind::EVERY
            .into_iter()
            .filter(|kind| !self.stats.of(*kind).is_empty());
        let mut rows: Vec<Row> = kinds
            .map(|kind| {
                let latencies = self.stats.of(kind).clone();
                Row {
                    name: kind.name(),
                    latencies,
                    errors: self.stats.errors_of(kind),
                }
            })
            .collect();
        if rows.len() != 1 {
            rows.push(Row {
                name: "all",
                latencies: self.stats.all(),
                errors: self.stats.errors(),
            });
        }
        rows
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("{}, {:.1} s\n", self.what, self.elapsed.as_secs_f64());
        let heads = [
            "", "op/s", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us", "errors",
        ];
        let mut line = |cells: [String; 8]| {
            let [name, rate, rest @ ..] = cells;
            let rest = rest.map(|cell| format!("{cell:>10}")).concat();
            writeln!(out, "{name:<4}{rate:>12}{rest}").expect("a string takes all");
        };
        line(heads.map(str::to_owned));
        for row in self.rows() {
            let [p50, p90, p99, p999, max] = row.percentiles().map(|us| format!("{us:.0}"));
            let per_second = format!("{:.0}", rate(row.latencies.len(), self.elapsed));
            line([
                row.name.to_owned(),
                per_second,
                p50,
                p90,
                p99,
                p999,
                max,
                row.errors.to_string(),
            ]);
        }
        out.push_str(&self.remarks());
        out
    }

    fn remarks(&self) -> String {
        let stats = &self.stats;
        let mut out = format!(
            "sent {} MiB, received {} MiB",
            stats.sent_bytes >> 20,
            stats.received_bytes >> 20
        );
        let gets = stats.of(Kind::Get).len();
        if gets > 0 {
            let found = percent(gets - stats.misses - stats.errors_of(Kind::Get), gets);
            write!(out, "; {found:.1} % of reads found a value").expect("a string takes all");
        }
        if let Some(text) = &stats.first_error {
            write!(out, "\nfirst error: {}", text.escape_debug()).expect("a string takes all");
        }
        write!(out, "\nclient CPU {:.0} %", self.cpu_percent).expect("a string takes all");
        if self.is_client_bound() {
            out.push_str(": this client was the bottleneck, the server may be faster; run it on a CPU of its own, ");
            out.push_str("or several clients at once");
        }
        out.push('\n');
        out
    }

    /// Returns one line of JSON.
    pub(crate) fn json(&self) -> String {
        let kinds: Vec<String> = self
            .rows()
            .iter()
            .map(|row| row.json(self.elapsed))
            .collect();
        let (stats, error) = (&self.stats, self.stats.first_error.as_deref());
        format!(
            "{{\"what\":{},\"seconds\":{:.3},\"replies\":{},\"errors\":{},\"first_error\":{},\"misses\":{},\
             \"connections_lost\":{},\"sent_bytes\":{},\"received_bytes\":{},\"client_cpu_percent\":{:.1},\
             \"client_bound\":{},\"kinds\":{{{}}}}}\n",
            json_string(&self.what),
            self.elapsed.as_secs_f64(),
            stats.replies(),
            stats.errors(),
            error.map_or("null".to_owned(), json_string),
            stats.misses,
            self.lost.as_ref().map_or(0, |(_, count)| *count),
            stats.sent_bytes,
            stats.received_bytes,
            self.cpu_percent,
            self.is_client_bound(),
            kinds.join(",")
        )
    }

    /// Says in one line what makes the numbers worthless, if anything does.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let stats = &self.stats;
        if let Some((why, count)) = &self.lost {
            let clients = self.clients;
            return Err(format!(
                "{count} of {clients} connections were lost, the first because {why}"
            ));
        }
        match &stats.first_error {
            Some(text) if stats.errors() == stats.replies() => Err(format!(
                "every command was answered with an error, the first: {text}"
            )),
            _ => Ok(()),
        }
    }

    fn is_client_bound(&self) -> bool {
        self.cpu_percent > CPU_PERCENT_MAX
    }
}

impl Row {
    /// Returns p50, p90, p99, p99.9 and the maximum in microseconds.
    fn percentiles(&self) -> [f64; 5] {
        [50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| percentile_us(&self.latencies, percent))
    }

    fn json(&self, elapsed: Duration) -> String {
        let [p50, p90, p99, p999, max] = self.percentiles().map(|us| format!("{us:.1}"));
        let (count, errors) = (self.latencies.len(), self.errors);
        let (name, rate) = (json_string(&self.name.to_lowercase()), rate(count, elapsed));
        format!(
            "{name}:{{\"replies\":{count},\"per_second\":{rate:.1},\"p50_us\":{p50},\"p90_us\":{p90},\
             \"p99_us\":{p99},\"p999_us\":{p999},\"max_us\":{max},\"errors\":{errors}}}"
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole as f64
}

fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes all")
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(errors: u64) -> Summary {
        let mut stats = Stats::default();
        stats.record(Kind::Set, Duration::from_micros(100), 20);
        (0..errors).for_each(|_| stats.error(Kind::Set, || "OOM \"full\"\n".to_owned()));
        let elapsed = Duration::from_secs(2);
        Summary {
            what: "load".to_owned(),
            stats,
            elapsed,
            lost: None,
            clients: 1,
            cpu_percent: 96.0,
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_kind_that_ran() {
        let table = summary(1).table();
        let row: Vec<&str> = table
            .lines()
            .find(|line| line.starts_with("SET"))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(row, ["SET", "10", "100", "100", "100", "100", "100", "1"]);
        assert!(!table.contains("GET") && !table.contains("all "), "{table}");
        assert!(table.contains("this client was the bottleneck"), "{table}");
        assert!(
            table.contains("first error: OOM \\\"full\\\"\\n"),
            "{table}"
        );
    }

    #[test]
    fn json_escapes_what_the_server_said() {
        let json = summary(1).json();
        assert!(
            json.contains(r#""first_error":"OOM \"full\"\u000a""#),
            "{json}"
        );
        assert!(
            json.contains(r#""kinds":{"set":{"replies":20,"per_second":10.0,"p50_us":100."#),
            "{json}"
        );
    }

    #[test]
    fn errors_alone_or_a_lost_connection_fail_the_run() {
        assert_eq!(summary(0).verdict(), Ok(()));
        assert_eq!(summary(19).verdict(), Ok(()));
        assert!(summary(20).verdict().unwrap_err().contains("every command"));
        let lost = Summary {
            lost: Some(("it closed".to_owned(), 1)),
            ..summary(0)
        };
        assert_eq!(
            lost.verdict().unwrap_err(),
            "1 of 1 connections were lost, the first because it closed"
        );
    }

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 96 0 0 0 150 50 0 0 20 0 1 0 5 5 5";
        assert_eq!(parse_cpu_time(stat), Some(2.0));
        assert_eq!(parse_cpu_time("7 (name) R 1"), None);
        assert!(parse_cpu_time(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}
