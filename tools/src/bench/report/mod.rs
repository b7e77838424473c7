//! What is told when all is over: the facts of a session as one value, from which table, JSON and HTML are made. Not
//! where they come from.

mod chart;
pub(crate) mod hdr;
mod html;
mod machine;
pub(crate) mod table;

use super::feed::Pace;
pub(crate) use super::knee::Sample;
use super::run::Outcome;
pub(crate) use super::run::Point;
use super::tally::{Latencies, WrongAnswers, percentile_us};
use super::target::{Server, Target};
use super::verdict::Verdict;
use crate::inspect::show::utc;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// All that is known of a session.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Session {
    /// The command line, without passwords.
    pub(crate) command_line: String,
    /// When it began, in words, and in microseconds since 1970.
    pub(crate) began: String,
    pub(crate) started_us: u64,
    /// The machine of the load.
    pub(crate) machine: BTreeMap<&'static str, String>,
    /// The workload in words.
    pub(crate) workload: String,
    /// The user has ended it early: what was measured is of the time until then.
    pub(crate) is_ended_early: bool,
    pub(crate) subjects: Vec<Subject>,
}

/// A server and what was measured of it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) addr: String,
    #[serde(flatten)]
    pub(crate) server: Server,
    pub(crate) phases: Vec<Phase>,
    pub(crate) sweep: Option<Sweep>,
}

/// What a sweep over rates has found.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Sweep {
    pub(crate) samples: Vec<Sample>,
    pub(crate) knee: Option<Sample>,
    pub(crate) words: String,
}

/// One of several rounds of the same phase.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

/// One phase: a load, a run at a rate, a check.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Phase {
    pub(crate) what: String,
    /// Operations per second that were due; none in a closed loop.
    pub(crate) due_per_second: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) misses: u64,
    pub(crate) verified: u64,
    pub(crate) wrong: WrongAnswers,
    pub(crate) first_wrong: Option<String>,
    /// Operations sent late by this client, and held back by the server.
    pub(crate) late_for_client: u64,
    pub(crate) late_for_server: u64,
    /// Operations that were due and never sent, and never answered.
    pub(crate) unsent: u64,
    pub(crate) unanswered: u64,
    pub(crate) connections_lost: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// Share of a CPU that each thread of this client used.
    pub(crate) client_busy: Vec<f64>,
    pub(crate) client_saturated: bool,
    pub(crate) verdict: String,
    pub(crate) kinds: Vec<Row>,
    /// Every kind together.
    pub(crate) all: Row,
    pub(crate) course: Vec<Point>,
    /// The rounds that it is the sum of, when there were several.
    pub(crate) rounds: Vec<Round>,
}

/// The latencies of a kind of operations, or of all.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) errors: u64,
    /// From when operations were due.
    pub(crate) response: Percentiles,
    /// From when they were sent.
    pub(crate) service: Percentiles,
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Percentiles {
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) p9999_us: f64,
    pub(crate) max_us: f64,
    /// The curve: percentile and microseconds.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Subject {
    /// Makes a subject of which nothing was measured yet.
    pub(crate) fn new(target: &Target, server: Server) -> Self {
        let addr = target.addr.to_string();
        let name = match target.name.is_empty() {
            true => addr.clone(),
            false => target.name.clone(),
        };
        Self {
            name,
            addr,
            server,
            phases: Vec::new(),
            sweep: None,
        }
    }

    /// Returns the phase that its numbers are those of: the last run, else what there is.
    pub(crate) fn main_phase(&self) -> Option<&Phase> {
        let is_run = |phase: &&Phase| phase.what != "load" && phase.what != "check";
        self.phases.iter().rfind(is_run).or(self.phases.last())
    }
}

impl Round {
    /// Makes the numbers of a round.
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let response = outcome.tally.response();
        let us = |percent| percentile_us(&response, percent);
        Self {
            per_second: outcome.per_second(),
            p50_us: us(50.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
        }
    }
}

impl Phase {
    /// Makes the facts of an outcome.
    pub(crate) fn new(what: &str, outcome: &Outcome, pace: Pace) -> Self {
        let tally = &outcome.tally;
        let verdict = Verdict::of(outcome, pace);
        let seconds = outcome.elapsed.as_secs_f64();
        let kinds = tally.kinds().map(|(kind, of)| {
            let latencies = (&of.response, &of.service);
            Row::new(
                kind.name(),
                (of.done - of.drained, of.errors),
                seconds,
                latencies,
            )
        });
        Self {
            what: what.to_owned(),
            due_per_second: match pace {
                Pace::Open(rate, _) => Some(rate.0),
                Pace::Closed(_) => None,
            },
            seconds,
            operations: outcome.done,
            per_second: outcome.per_second(),
            errors: tally.errors(),
            first_error: tally.first_error.clone(),
            misses: tally.misses,
            verified: tally.verified,
            wrong: tally.wrong,
            first_wrong: tally.first_wrong.clone(),
            late_for_client: tally.late.for_client,
            late_for_server: tally.late.for_server,
            unsent: outcome.ending.unsent,
            unanswered: outcome.ending.unanswered,
            connections_lost: outcome.ending.lost,
            sent_bytes: tally.sent_bytes,
            received_bytes: tally.received_bytes,
            client_busy: outcome.busy.clone(),
            client_saturated: matches!(verdict, Verdict::ClientSaturated(_)),
            verdict: verdict.words(),
            kinds: kinds.collect(),
            all: Row::new(
                "all",
                (outcome.done, tally.errors()),
                seconds,
                (&tally.response(), &tally.service()),
            ),
            course: outcome.course.clone(),
            rounds: Vec::new(),
        }
    }
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn new(
        name: &'static str,
        (operations, errors): (u64, u64),
        seconds: f64,
        (response, service): (&Latencies, &Latencies),
    ) -> Self {
        Self {
            name,
            operations,
            per_second: operations as f64 / seconds.max(1e-9),
            errors,
            response: Percentiles::new(response),
            service: Percentiles::new(service),
        }
    }
}

impl Percentiles {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn new(latencies: &Latencies) -> Self {
        let us = |percent| percentile_us(latencies, percent);
        let curve = latencies.iter_quantiles(2).map(|step| {
            (
                step.quantile_iterated_to() * 100.0,
                step.value_iterated_to() as f64 / 1000.0,
            )
        });
        Self {
            mean_us: latencies.mean() / 1000.0,
            p50_us: us(50.0),
            p90_us: us(90.0),
            p99_us: us(99.0),
            p999_us: us(99.9),
            p9999_us: us(99.99),
            max_us: us(100.0),
            curve: curve.take(200).collect(),
        }
    }
}

impl Session {
    /// Makes the facts of a session with these servers.
    pub(crate) fn new(
        command_line: String,
        started: SystemTime,
        workload: String,
        subjects: Vec<Subject>,
    ) -> Self {
        let since = started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let started_us = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        Self {
            command_line,
            began: utc(started_us / 1000),
            started_us,
            machine: machine::facts().into_iter().collect(),
            workload,
            is_ended_early: false,
            subjects,
        }
    }

    /// Returns all of it as a page.
    pub(crate) fn html(&self) -> String {
        html::page(self)
    }

    /// Returns all of it as JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and lists are JSON") + "\n"
    }
}

/// Returns a text as it may stand in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_what_was_measured_and_needs_nothing_else() {
        use crate::bench::mix::Kind;
        use std::time::Duration;
        let mut outcome = Outcome {
            done: 1,
            elapsed: Duration::from_secs(1),
            course: vec![Point::default(); 3],
            ..Outcome::default()
        };
        outcome.tally.record(
            Kind::Get,
            Duration::from_micros(150),
            Duration::from_micros(100),
        );
        outcome.tally.of_mut(Kind::Get).done = 1;
        let server = Server {
            version: "redis <7>".to_owned(),
            durability: "appendfsync always".to_owned(),
            is_durable: Some(true),
        };
        let target: Target = "r=127.0.0.1:1".parse().unwrap();
        let mut subject = Subject::new(&target, server);
        subject
            .phases
            .push(Phase::new("run", &outcome, Pace::Closed(1)));
        let session = Session::new(
            "ashlar bench".to_owned(),
            SystemTime::now(),
            "get 100 %".to_owned(),
            vec![subject],
        );
        let page = session.html();
        for part in [
            "redis &lt;7&gt;",
            "appendfsync always",
            "get 100 %",
            "<svg",
            "150 us",
            "kernel",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(
            !page.contains("http") && !page.contains("<script"),
            "the page must stand alone"
        );
        let json: serde_json::Value = serde_json::from_str(&session.json()).unwrap();
        assert_eq!(json["subjects"][0]["phases"][0]["kinds"][0]["name"], "get");
        assert!(table::table(&session).contains("150 us"));
    }
}
