//! What a run counts: latencies by kind, errors, bytes.

use std::time::Duration;

use ashlar_io::Monotonic;
use hdrhistogram::Histogram;

use super::workload::Kind;

/// Longest latency told apart, in nanoseconds; longer ones count as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

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

/// What has been counted since the last [`Stats::clear`].
#[derive(Debug)]
pub(crate) struct Stats {
    kinds: [Latencies; Kind::EVERY.len()],
    errors: [u64; Kind::EVERY.len()],
    /// The latencies since the last line of progress.
    recent: Latencies,
    /// Text of the first error reply.
    pub(crate) first_error: Option<String>,
    /// Reads that found no value.
    pub(crate) misses: u64,
    /// Bytes of commands.
    pub(crate) sent_bytes: u64,
    /// Bytes of replies.
    pub(crate) received_bytes: u64,
    /// When the last reply came.
    pub(crate) last_reply: Monotonic,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            kinds: [latencies(), latencies()],
            errors: [0; Kind::EVERY.len()],
            recent: latencies(),
            first_error: None,
            misses: 0,
            sent_bytes: 0,
            received_bytes: 0,
            last_reply: Monotonic::default(),
        }
    }
}

impl Stats {
    /// Forgets what was counted, as at the end of the warm-up.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Counts `count` replies that came after `latency`.
    pub(crate) fn record(&mut self, kind: Kind, latency: Duration, count: u64) {
        if count > 0 {
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
            self.kinds[kind.index()].saturating_record_n(ns, count);
            self.recent.saturating_record_n(ns, count);
        }
    }

    /// Counts an error and keeps the text of the first.
    pub(crate) fn error(&mut self, kind: Kind, text: impl FnOnce() -> String) {
        self.errors[kind.index()] += 1;
        self.first_error.get_or_insert_with(text);
    }

    /// Returns the latencies of a kind.
    pub(crate) fn of(&self, kind: Kind) -> &Latencies {
        &self.kinds[kind.index()]
    }

    /// Returns the latencies of every kind together.
    pub(crate) fn all(&self) -> Latencies {
        let mut all = latencies();
        for kind in &self.kinds {
            all.add(kind).expect("all have the same bounds");
        }
        all
    }

    /// Returns the error replies to a kind.
    pub(crate) fn errors_of(&self, kind: Kind) -> u64 {
        self.errors[kind.index()]
    }

    /// Returns all error replies.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Returns all replies, errors among them.
    pub(crate) fn replies(&self) -> u64 {
        self.kinds.iter().map(Latencies::len).sum()
    }

    /// Returns the latencies since the last call, and begins anew.
    pub(crate) fn take_recent(&mut self) -> (u64, f64, f64) {
        let recent = &mut self.recent;
        let taken = (
            recent.len(),
            percentile_us(recent, 50.0),
            percentile_us(recent, 99.0),
        );
        recent.reset();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_and_together() {
        let mut stats = Stats::default();
        stats.record(Kind::Get, Duration::from_micros(10), 3);
        stats.record(Kind::Set, Duration::from_micros(1000), 1);
        stats.record(Kind::Set, Duration::from_secs(3600), 0);
        stats.error(Kind::Set, || "first".to_owned());
        stats.error(Kind::Set, || "second".to_owned());
        assert_eq!(
            (
                stats.of(Kind::Get).len(),
                stats.of(Kind::Set).len(),
                stats.replies()
            ),
            (3, 1, 4)
        );
        assert!((percentile_us(&stats.all(), 75.0) - 10.0).abs() < 0.1);
        assert_eq!((stats.errors_of(Kind::Get), stats.errors()), (0, 2));
        assert_eq!(stats.first_error.as_deref(), Some("first"));
        assert_eq!(stats.take_recent().0, 4);
        assert_eq!(stats.take_recent(), (0, 0.0, 0.0));
    }
}
