//! What is counted while operations run: latencies by kind, errors, wrong answers, bytes, lateness. Tallies of threads
//! and of seconds add up to that of a run. Not what follows from the numbers.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::ledger::Wrong;
use super::mix::Kind;

/// Longest latency told apart, in nanoseconds; longer ones count as this.
pub(crate) const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Latencies in nanoseconds, at three significant digits.
pub(crate) type Latencies = Histogram<u64>;

/// Makes an empty histogram of latencies.
pub(crate) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
        .expect("the bounds are constants that hdrhistogram accepts")
}

/// Returns a percentile in microseconds; 0 when nothing was recorded.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn percentile_us(latencies: &Latencies, percent: f64) -> f64 {
    latencies.value_at_percentile(percent) as f64 / 1000.0
}

/// What is counted of one kind of operations.
#[derive(Clone, Debug)]
pub(crate) struct OfKind {
    /// From when it was due to the reply: what a caller waits.
    pub(crate) response: Latencies,
    /// From when it was sent to the reply: what the server takes.
    pub(crate) service: Latencies,
    /// Operations that have ended in this time, with whichever answer.
    pub(crate) done: u64,
    /// Those among them that have ended behind the measured time; they are in no rate.
    pub(crate) drained: u64,
    /// Those among them that were answered with an error.
    pub(crate) errors: u64,
}

impl Default for OfKind {
    fn default() -> Self {
        Self {
            response: latencies(),
            service: latencies(),
            done: 0,
            drained: 0,
            errors: 0,
        }
    }
}

/// Wrong answers by what is wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct WrongAnswers {
    /// Bytes that nobody has written.
    pub(crate) damaged: u64,
    /// Values of other keys.
    pub(crate) misplaced: u64,
    /// Acknowledged writes that are gone.
    pub(crate) lost: u64,
    /// Versions that nobody has written.
    pub(crate) invented: u64,
}

impl WrongAnswers {
    /// Returns how many there are in all.
    pub(crate) fn sum(self) -> u64 {
        self.damaged + self.misplaced + self.lost + self.invented
    }

    fn note(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Damaged => self.damaged += 1,
            Wrong::Misplaced => self.misplaced += 1,
            Wrong::Lost => self.lost += 1,
            Wrong::Invented => self.invented += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.damaged += other.damaged;
        self.misplaced += other.misplaced;
        self.lost += other.lost;
        self.invented += other.invented;
    }
}

/// Operations that were sent later than they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Late {
    /// Since the server had too many unanswered.
    pub(crate) for_server: u64,
    /// Since this client was not quick enough.
    pub(crate) for_client: u64,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    kinds: [Option<Box<OfKind>>; Kind::EVERY.len()],
    /// Operations that were sent.
    pub(crate) sent: u64,
    pub(crate) late: Late,
    pub(crate) wrong: WrongAnswers,
    /// The first wrong answer in words.
    pub(crate) first_wrong: Option<String>,
    /// Text of the first error reply.
    pub(crate) first_error: Option<String>,
    /// Reads that found no value.
    pub(crate) misses: u64,
    /// Values that were checked.
    pub(crate) verified: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

impl Tally {
    /// Returns what is counted of a kind, to count more.
    pub(crate) fn of_mut(&mut self, kind: Kind) -> &mut OfKind {
        self.kinds[kind.index()].get_or_insert_default()
    }

    /// Returns what was counted of a kind, if anything was.
    pub(crate) fn of(&self, kind: Kind) -> Option<&OfKind> {
        self.kinds[kind.index()].as_deref()
    }

    /// Returns the kinds that were counted.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, &OfKind)> {
        let of = |kind| self.of(kind).map(|of| (kind, of));
        Kind::EVERY.into_iter().filter_map(of)
    }

    /// Records the latencies of an operation.
    pub(crate) fn record(&mut self, kind: Kind, response: Duration, service: Duration) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let of = self.of_mut(kind);
        of.response.saturating_record(ns(response));
        of.service.saturating_record(ns(service));
    }

    /// Counts an error and keeps the text of the first.
    pub(crate) fn error(&mut self, kind: Kind, text: impl FnOnce() -> String) {
        self.of_mut(kind).errors += 1;
        self.first_error.get_or_insert_with(text);
    }

    /// Counts a verified answer; the first wrong one is kept in words.
    pub(crate) fn verdict(&mut self, verdict: Result<(), Wrong>, words: impl FnOnce() -> String) {
        self.verified += 1;
        if let Err(wrong) = verdict {
            self.wrong.note(wrong);
            self.first_wrong
                .get_or_insert_with(|| format!("{wrong:?}: {}", words()));
        }
    }

    /// Adds what another one has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, theirs) in other.kinds() {
            let ours = self.of_mut(kind);
            let same = "all have the same bounds";
            ours.response.add(&theirs.response).expect(same);
            ours.service.add(&theirs.service).expect(same);
            ours.done += theirs.done;
            ours.drained += theirs.drained;
            ours.errors += theirs.errors;
        }
        self.sent += other.sent;
        self.late.for_server += other.late.for_server;
        self.late.for_client += other.late.for_client;
        self.wrong.add(other.wrong);
        keep_first(&mut self.first_wrong, other.first_wrong.as_ref());
        keep_first(&mut self.first_error, other.first_error.as_ref());
        self.misses += other.misses;
        self.verified += other.verified;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
    }

    /// Notes that all of it has ended behind the measured time.
    pub(crate) fn note_drained(&mut self) {
        for of in self.kinds.iter_mut().flatten() {
            of.drained = of.done;
        }
    }

    /// Returns the operations that have ended.
    pub(crate) fn done(&self) -> u64 {
        self.kinds().map(|(_, of)| of.done).sum()
    }

    /// Returns the error replies.
    pub(crate) fn errors(&self) -> u64 {
        self.kinds().map(|(_, of)| of.errors).sum()
    }

    /// Returns the latencies of every kind together, from when operations were due.
    pub(crate) fn response(&self) -> Latencies {
        self.merged(|of| &of.response)
    }

    /// Returns the latencies of every kind together, from when operations were sent.
    pub(crate) fn service(&self) -> Latencies {
        self.merged(|of| &of.service)
    }

    fn merged(&self, pick: impl Fn(&OfKind) -> &Latencies) -> Latencies {
        let mut all = latencies();
        for (_, of) in self.kinds() {
            all.add(pick(of)).expect("all have the same bounds");
        }
        all
    }
}

fn keep_first(ours: &mut Option<String>, theirs: Option<&String>) {
    if ours.is_none() {
        *ours = theirs.cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        let us = Duration::from_micros;
        one.record(Kind::Get, us(10), us(5));
        one.of_mut(Kind::Get).done += 1;
        two.record(Kind::Set, us(1000), us(100));
        two.of_mut(Kind::Set).done += 1;
        two.error(Kind::Set, || "first".to_owned());
        two.error(Kind::Set, || "second".to_owned());
        two.verdict(Err(Wrong::Lost), || "of key 3".to_owned());
        two.verdict(Ok(()), || unreachable!("nothing is wrong"));
        one.add(&two);
        one.add(&Tally::default());
        assert_eq!((one.done(), one.errors(), one.verified), (2, 2, 2));
        assert_eq!((one.wrong.lost, one.wrong.sum()), (1, 1));
        assert_eq!(one.first_error.as_deref(), Some("first"));
        assert_eq!(one.first_wrong.as_deref(), Some("Lost: of key 3"));
        assert_eq!(one.kinds().count(), 2);
        assert!((percentile_us(&one.response(), 100.0) - 1000.0).abs() < 1.0);
        assert!((percentile_us(&one.service(), 50.0) - 5.0).abs() < 0.1);
    }

    #[test]
    fn a_latency_without_bounds_is_still_counted() {
        let mut tally = Tally::default();
        tally.record(Kind::Get, Duration::from_secs(1 << 40), Duration::ZERO);
        assert_eq!(tally.response().len(), 1);
    }
}
