//! What was measured, and the table that shows it beside its bars. The bars are goals of this project and stand here
//! only; a test that failed on them would fail on every slow machine.

use ashlar_benches::program::Failures;
use ashlar_benches::report::{Bar, HEADER, Line, Summary, machine};

use crate::load::Workload;
use crate::options::Options;

/// Whom a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Three nodes.
    Cluster,
    /// One node of the same build.
    Single,
    /// redis-server with every write synced before its reply.
    Redis,
    /// Three members of etcd.
    Etcd,
    /// The cluster before anything was done to it.
    Healthy,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Operations per second.
    Rate(Workload),
    /// 99th percentile of the latency, in milliseconds.
    P99(Workload),
    /// CPU time of all servers for one operation, in microseconds.
    CpuPerOp(Workload),
    /// Time to the first acknowledged write after a kill of the leader, in milliseconds: the median.
    KillP50,
    /// Its 99th percentile.
    KillP99,
    /// CPU of the busiest node of an idle cluster, in percent.
    IdleCpu,
    /// What one more group costs an idle node in resident memory, all in all, in KiB.
    IdleMemory,
    /// 99th percentile of writes from one second after a follower was paused, in milliseconds.
    PausedFollower,
    /// The same, of the leader.
    PausedLeader,
}

impl Measure {
    fn title(self) -> String {
        match self {
            Self::Rate(workload) => format!("{}, operations/s", workload.title()),
            Self::P99(workload) => format!("{}, p99 in ms", workload.title()),
            Self::CpuPerOp(workload) => format!(
                "{}, CPU of all servers in us per operation",
                workload.title()
            ),
            Self::KillP50 => {
                "first acknowledged write after kill -9 of the leader, p50 in ms".to_owned()
            }
            Self::KillP99 => "the same, p99 in ms".to_owned(),
            Self::IdleCpu => "idle, CPU of the busiest node in %".to_owned(),
            Self::IdleMemory => "idle, resident memory of one more partition in KiB".to_owned(),
            Self::PausedFollower => "SET p99 in ms from 1 s after a follower is paused".to_owned(),
            Self::PausedLeader => "SET p99 in ms from 1 s after the leader is paused".to_owned(),
        }
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Single => "one node",
            Self::Redis => "redis, fsync always",
            Self::Etcd => "etcd, check perf xl",
            Self::Healthy => "before",
        }
    }
}

/// Rows: what, beside whom (the bar is then about the ratio), and the bar.
fn rows() -> Vec<(Measure, Option<Side>, Option<Bar>)> {
    use Bar::{AtLeast, AtMost};
    use Measure::{
        CpuPerOp, IdleCpu, IdleMemory, KillP50, KillP99, P99, PausedFollower, PausedLeader, Rate,
    };
    use Workload::{GetP16, SetP1, SetP16, WideP1, WideP16};
    vec![
        (Rate(SetP1), Some(Side::Redis), Some(AtLeast(0.6))),
        (Rate(SetP16), Some(Side::Redis), Some(AtLeast(0.5))),
        (Rate(WideP1), Some(Side::Etcd), Some(AtLeast(5.0))),
        (Rate(WideP16), Some(Side::Etcd), Some(AtLeast(20.0))),
        (Rate(GetP16), Some(Side::Single), Some(AtLeast(0.9))),
        (CpuPerOp(SetP1), Some(Side::Redis), None),
        (CpuPerOp(SetP16), Some(Side::Redis), None),
        (CpuPerOp(WideP1), Some(Side::Etcd), None),
        (CpuPerOp(WideP16), Some(Side::Etcd), None),
        (Rate(SetP1), Some(Side::Single), None),
        (Rate(SetP16), Some(Side::Single), None),
        (P99(SetP1), Some(Side::Redis), None),
        (P99(SetP16), Some(Side::Redis), None),
        (P99(GetP16), Some(Side::Single), None),
        (IdleCpu, None, Some(AtMost(2.0))),
        (IdleMemory, None, None),
        (KillP50, None, Some(AtMost(600.0))),
        (KillP99, None, Some(AtMost(1000.0))),
        (PausedFollower, Some(Side::Healthy), Some(AtMost(2.0))),
        (PausedLeader, Some(Side::Healthy), Some(AtMost(2.0))),
    ]
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    conditions: String,
    figures: Vec<(Side, Measure, f64)>,
    /// What did not run.
    pub(crate) failures: Failures,
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let conditions = format!(
            "{}; nodes on CPUs {:?}, that of the leader first; redis-server and a single node on CPU {}, clients on \
             CPU {}; medians (and spread) of {} rounds of {} requests, five times as many with a pipeline; 64 \
             clients; {} kills; idle with {} partitions.",
            machine(),
            options.node_cpus,
            options.server_cpu,
            options.client_cpu,
            options.rounds,
            options.requests,
            options.kills,
            options.partitions,
        );
        Self {
            conditions,
            figures: Vec::new(),
            failures: Failures::default(),
        }
    }

    pub(crate) fn add(&mut self, side: Side, measure: Measure, figure: f64) {
        self.figures.push((side, measure, figure));
    }

    /// Returns the report in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n{HEADER}", self.conditions);
        for (measure, peer, bar) in rows() {
            text += &self.row(measure, peer, bar).unwrap_or_default();
        }
        text + &self.failures.markdown()
    }

    fn row(&self, measure: Measure, peer: Option<Side>, bar: Option<Bar>) -> Option<String> {
        let ours = Some(self.summary(Side::Cluster, measure)?);
        let theirs = peer.and_then(|side| self.summary(side, measure));
        let judged = match peer {
            None => ours.map(|ours| ours.median),
            Some(_) => ours
                .zip(theirs)
                .and_then(|(ours, theirs)| ours.over(theirs)),
        };
        let line = Line {
            title: &measure.title(),
            ours,
            peer: peer.map_or("", Side::name),
            theirs,
            bar,
            judged,
        };
        Some(line.markdown())
    }

    fn summary(&self, side: Side, measure: Measure) -> Option<Summary> {
        let of_it = self
            .figures
            .iter()
            .filter(|figure| (figure.0, figure.1) == (side, measure));
        Summary::of(of_it.map(|figure| figure.2).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::new(&Options::parse(std::iter::empty()).unwrap())
    }

    #[test]
    fn ratios_are_judged_and_what_was_not_measured_is_left_out() {
        let mut report = report();
        report.add(Side::Cluster, Measure::Rate(Workload::SetP1), 40.0);
        report.add(Side::Redis, Measure::Rate(Workload::SetP1), 50.0);
        let text = report.markdown();
        assert!(
            text.contains("| 40 | redis, fsync always | 50 | 0.80 | >= 0.6 | pass |"),
            "{text}"
        );
        assert!(!text.contains("GET"), "{text}");
    }
}
