//! What was measured, and the table made of it: medians over the rounds, their spread, ratios, bars.

use ashlar_benches::program::Failures;
use ashlar_benches::report::{HEADER, Line, Summary, machine};

use crate::bars::{self, Peer, Row};
use crate::clients::CLIENTS;
use crate::device::Pattern;
use crate::load::Workload;
use crate::options::Options;
use crate::server::Kind;

/// One thing that is measured in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Operations per second.
    Rate(Workload),
    /// 99th percentile of the latency in milliseconds.
    P99(Workload),
    /// CPU time of the server for one operation in microseconds.
    CpuPerOp(Workload),
    /// Threads of the kernel that finish what a ring could not.
    RingWorkers,
    /// CPU of a server that nobody uses, in percent of one core.
    IdleCpu,
    /// Resident memory of a server that nobody has used, in MiB.
    IdleMemory,
    /// Resident memory of a server with [`CLIENTS`] idle clients, in MiB.
    ClientsMemory,
    /// What each of them added, in KiB.
    ClientMemory,
    /// Median latency of a durable write in microseconds.
    WriteP50(Pattern),
    /// 99th percentile of the latency of a durable write in microseconds.
    WriteP99(Pattern),
    /// Bandwidth of durable writes in MiB/s.
    WriteRate(Pattern),
}

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Server(Kind),
    Log,
    Device,
}

/// Everything that was measured, and what failed.
#[derive(Debug)]
pub(crate) struct Report {
    /// What did not run, in one line each.
    pub(crate) failures: Failures,
    figures: Vec<(Subject, Measure, f64)>,
    conditions: String,
}

impl Measure {
    /// Returns the name in the report, with the unit.
    fn title(self) -> String {
        match self {
            Self::Rate(workload) => format!("{}: operations/s", workload.title()),
            Self::P99(workload) => format!("{}: p99 ms", workload.title()),
            Self::CpuPerOp(workload) => format!("{}: server CPU us/operation", workload.title()),
            Self::RingWorkers => "iou-wrk threads".to_owned(),
            Self::IdleCpu => "idle CPU %".to_owned(),
            Self::IdleMemory => "idle memory MiB".to_owned(),
            Self::ClientsMemory => format!("{CLIENTS} idle clients: memory MiB"),
            Self::ClientMemory => "an idle client: memory KiB".to_owned(),
            Self::WriteP50(pattern) => format!("{}: p50 us", pattern.title()),
            Self::WriteP99(pattern) => format!("{}: p99 us", pattern.title()),
            Self::WriteRate(pattern) => format!("{}: MiB/s", pattern.title()),
        }
    }
}

impl Report {
    /// Makes an empty report of a run with these options.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            failures: Failures::default(),
            figures: Vec::new(),
            conditions: conditions(options),
        }
    }

    /// Adds a figure of a server.
    pub(crate) fn add(&mut self, kind: Kind, measure: Measure, figure: f64) {
        self.figures.push((Subject::Server(kind), measure, figure));
    }

    /// Adds a figure of the log of the node.
    pub(crate) fn add_log(&mut self, measure: Measure, figure: f64) {
        self.figures.push((Subject::Log, measure, figure));
    }

    /// Adds a figure of the device.
    pub(crate) fn add_device(&mut self, measure: Measure, figure: f64) {
        self.figures.push((Subject::Device, measure, figure));
    }

    /// Returns the report in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.conditions);
        text += HEADER;
        for row in bars::rows() {
            text += &self.row(row).unwrap_or_default();
        }
        text + &self.failures.markdown()
    }

    /// Returns a row, when either side was measured.
    fn row(&self, row: Row) -> Option<String> {
        let (ours, theirs, name) = match row.peer {
            Peer::Server(kind) => (
                Subject::Server(Kind::Ashlar),
                Some(Subject::Server(kind)),
                kind.name(),
            ),
            Peer::Device => (Subject::Log, Some(Subject::Device), "fio"),
            Peer::Nobody => (Subject::Server(Kind::Ashlar), None, ""),
        };
        let ours = self.summary(ours, row.measure);
        let theirs = theirs.and_then(|subject| self.summary(subject, row.measure));
        if ours.is_none() && theirs.is_none() {
            return None;
        }
        let judged = match row.peer {
            Peer::Nobody => ours.map(|ours| ours.median),
            Peer::Server(_) | Peer::Device => ours
                .zip(theirs)
                .and_then(|(ours, theirs)| ours.over(theirs)),
        };
        let line = Line {
            title: &row.measure.title(),
            ours,
            peer: name,
            theirs,
            bar: row.bar,
            judged,
        };
        Some(line.markdown())
    }

    /// Returns median and spread of what was measured of `subject`.
    fn summary(&self, subject: Subject, measure: Measure) -> Option<Summary> {
        let of_it = self
            .figures
            .iter()
            .filter(|figure| (figure.0, figure.1) == (subject, measure));
        let summary = Summary::of(of_it.map(|figure| figure.2).collect())?;
        // What must never happen counts if it happened once.
        let median = match measure {
            Measure::RingWorkers => summary.max,
            _ => summary.median,
        };
        Some(Summary { median, ..summary })
    }
}

/// Returns what a reader has to know about the machine and the run.
fn conditions(options: &Options) -> String {
    format!(
        "{}; server on CPU {}, client on CPU {}; medians (and spread) of {} rounds; \
         {} requests, five times as many with a pipeline; 50 clients, values of 100 bytes.",
        machine(),
        options.server_cpu,
        options.client_cpu,
        options.rounds,
        options.requests,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a report in which the node does `ours` and redis `theirs` operations per second.
    fn report(ours: &[f64], theirs: &[f64]) -> Report {
        let options = Options::parse(std::iter::empty()).unwrap();
        let mut report = Report::new(&options);
        for figure in ours {
            report.add(Kind::Ashlar, Measure::Rate(Workload::SetP1), *figure);
        }
        for figure in theirs {
            report.add(Kind::RedisAlways, Measure::Rate(Workload::SetP1), *figure);
        }
        report
    }

    #[test]
    fn medians_do_not_mind_one_bad_round() {
        let text = report(&[90_000.0, 10_000.0, 96_000.0], &[50_000.0]).markdown();
        assert!(
            text.contains(
                "| 90.0 k (10.0 k-96.0 k) | redis-always | 50.0 k | 1.80 | >= 1.5 | pass |"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_missed_bar_is_shown() {
        let text = report(&[40_000.0], &[50_000.0]).markdown();
        assert!(text.contains("| 0.80 | >= 1.5 | **miss** |"), "{text}");
    }

    #[test]
    fn a_side_that_is_missing_is_a_dash_and_no_verdict() {
        let text = report(&[], &[50_000.0]).markdown();
        assert!(
            text.contains("| - | redis-always | 50.0 k | - | >= 1.5 |  |"),
            "{text}"
        );
        assert!(
            !text.contains("GET"),
            "rows without figures are left out: {text}"
        );
    }

    #[test]
    fn one_worker_in_one_round_misses() {
        let mut report = report(&[], &[]);
        for workers in [0.0, 0.0, 1.0] {
            report.add(Kind::Ashlar, Measure::RingWorkers, workers);
        }
        let text = report.markdown();
        assert!(
            text.contains("| 1 (0-1) |") && text.contains("**miss**"),
            "{text}"
        );
    }
}
