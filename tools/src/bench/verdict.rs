//! What an outcome is worth: whether the server kept up, or this client did not, and whether answers were wrong.
//! Decided from numbers alone.

use super::feed::Pace;
use super::run::Outcome;
use super::schedule::Rate;

/// Share of a CPU above which a thread of this client is taken for the bottleneck.
const BUSY_MAX: f64 = 0.95;
/// Share of operations that this client may send late.
const LATE_MAX: f64 = 0.01;
/// Share of the rate that must be reached.
const REACHED_MIN: f64 = 0.98;

/// What an outcome is worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing was measured.
    Empty,
    /// This client was the bottleneck; the numbers say nothing of the server.
    ClientSaturated(String),
    /// The server did as many operations as were due.
    Sustained,
    /// The server did fewer.
    FellBehind {
        /// Operations per second that were due.
        due: f64,
        /// Those that were done.
        done: f64,
    },
    /// A closed loop: the server was asked as much as it answered.
    Closed,
}

impl Verdict {
    /// Judges an outcome.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn of(outcome: &Outcome, pace: Pace) -> Self {
        if outcome.tally.sent == 0 || outcome.elapsed.is_zero() {
            return Self::Empty;
        }
        let late = outcome.tally.late;
        let late_share = late.for_client as f64 / outcome.tally.sent as f64;
        if late_share > LATE_MAX {
            let percent = 100.0 * late_share;
            return Self::ClientSaturated(format!(
                "{percent:.1} % of operations were sent late although the server had answered"
            ));
        }
        let busiest = outcome.busy.iter().copied().fold(0.0, f64::max);
        if busiest > BUSY_MAX {
            let percent = 100.0 * busiest;
            return Self::ClientSaturated(format!(
                "one of its threads used {percent:.0} % of a CPU"
            ));
        }
        let Pace::Open(Rate(due), _) = pace else {
            return Self::Closed;
        };
        let done = outcome.per_second();
        match outcome.ending.unsent == 0 && done >= due * REACHED_MIN - noise(due, outcome) {
            true => Self::Sustained,
            false => Self::FellBehind { due, done },
        }
    }

    /// Returns it in words, for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Empty => "nothing was measured".to_owned(),
            Self::ClientSaturated(why) => format!(
                "no verdict: this client was the bottleneck ({why}); run it on a CPU of its own, with more --threads, \
                 or at a lower --rate"
            ),
            Self::Sustained => "the server kept up with the rate".to_owned(),
            Self::FellBehind { due, done } => format!(
                "the server fell behind: {done:.0} of {due:.0} operations per second; latencies count the waiting, and \
                 grow as long as it goes on"
            ),
            Self::Closed => {
                "closed loop: a slow server was asked less, so the tail is that of callers who wait"
                    .to_owned()
            }
        }
    }
}

/// Returns what chance may take from the arrivals of a short run: three standard deviations.
fn noise(due: f64, outcome: &Outcome) -> f64 {
    let seconds = outcome.elapsed.as_secs_f64();
    3.0 * (due * seconds).sqrt() / seconds
}

/// Says in one line what makes the outcome a failure, if anything does.
pub(crate) fn failure(outcome: &Outcome) -> Option<String> {
    let tally = &outcome.tally;
    if tally.wrong.sum() > 0 {
        let first = tally.first_wrong.as_deref().unwrap_or_default();
        return Some(format!(
            "{} answers were wrong ({} acknowledged writes lost, {} damaged, {} misplaced, {} invented); the first: {first}",
            tally.wrong.sum(),
            tally.wrong.lost,
            tally.wrong.damaged,
            tally.wrong.misplaced,
            tally.wrong.invented
        ));
    }
    let ending = &outcome.ending;
    if let Some(why) = &ending.first_loss {
        return Some(format!(
            "{} connections were lost, the first because {why}",
            ending.lost
        ));
    }
    match &tally.first_error {
        Some(text) if tally.errors() >= tally.done() => Some(format!(
            "every command was answered with an error, the first: {text}"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::mix::Kind;
    use crate::bench::schedule::Arrivals;
    use std::time::Duration;

    const OPEN: Pace = Pace::Open(Rate(1000.0), Arrivals::Fixed);

    fn outcome(done: u64) -> Outcome {
        let mut outcome = Outcome {
            done,
            elapsed: Duration::from_secs(10),
            busy: vec![0.5],
            ..Outcome::default()
        };
        outcome.tally.sent = 10_000;
        outcome.tally.of_mut(Kind::Get).done = done;
        outcome
    }

    #[test]
    fn a_server_that_keeps_up_is_told_from_one_that_does_not() {
        assert_eq!(Verdict::of(&outcome(9_990), OPEN), Verdict::Sustained);
        let behind = Verdict::of(&outcome(5_000), OPEN);
        assert_eq!(
            behind,
            Verdict::FellBehind {
                due: 1000.0,
                done: 500.0
            }
        );
        let mut unsent = outcome(10_000);
        unsent.ending.unsent = 1;
        assert!(matches!(
            Verdict::of(&unsent, OPEN),
            Verdict::FellBehind { .. }
        ));
        assert_eq!(
            Verdict::of(&outcome(5_000), Pace::Closed(1)),
            Verdict::Closed
        );
        assert_eq!(Verdict::of(&Outcome::default(), OPEN), Verdict::Empty);
    }

    #[test]
    fn a_client_at_its_limit_gets_no_verdict() {
        let mut busy = outcome(9_990);
        busy.busy.push(0.99);
        assert!(matches!(
            Verdict::of(&busy, OPEN),
            Verdict::ClientSaturated(_)
        ));
        let mut late = outcome(9_990);
        late.tally.late.for_client = 200;
        assert!(Verdict::of(&late, OPEN).words().contains("2.0 %"));
        let mut server = outcome(9_990);
        server.tally.late.for_server = 5_000;
        assert_eq!(Verdict::of(&server, OPEN), Verdict::Sustained);
    }

    #[test]
    fn wrong_answers_lost_connections_and_errors_alone_are_failures() {
        use crate::bench::ledger::Wrong;
        assert_eq!(failure(&outcome(10)), None);
        let mut wrong = outcome(10);
        wrong.tally.verdict(Err(Wrong::Lost), || "key 3".to_owned());
        assert!(
            failure(&wrong)
                .unwrap()
                .contains("1 acknowledged writes lost")
        );
        let mut lost = outcome(10);
        (lost.ending.lost, lost.ending.first_loss) = (2, Some("it closed".to_owned()));
        assert_eq!(
            failure(&lost).unwrap(),
            "2 connections were lost, the first because it closed"
        );
        let mut errors = outcome(2);
        errors.tally.error(Kind::Get, || "ERR a".to_owned());
        assert_eq!(failure(&errors), None);
        errors.tally.error(Kind::Get, || "ERR b".to_owned());
        assert!(failure(&errors).unwrap().ends_with("ERR a"));
    }
}
