//! What the threads of a phase have to do together, and when: which operations, how many, and at which pace. Not who
//! does them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::author::Task;
use super::schedule::{Arrivals, Rate};

/// What a phase does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Write every key once, in order.
    Load,
    /// The mix.
    Run,
    /// Read every key once, in order, and check it.
    Check,
}

impl Work {
    /// Returns the name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Run => "run",
            Self::Check => "check",
        }
    }
}

/// When operations are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// When they are due, whatever becomes of those before.
    Open(Rate, Arrivals),
    /// So many on each connection at once, when those before are answered.
    Closed(u64),
}

/// Operations that are handed out once each.
#[derive(Debug)]
pub(crate) struct Feed {
    work: Work,
    next: AtomicU64,
    end: u64,
}

impl Feed {
    /// Makes a feed of `count` operations.
    pub(crate) fn new(work: Work, count: u64) -> Self {
        Self {
            work,
            next: AtomicU64::new(0),
            end: count,
        }
    }

    /// Takes up to `count` operations, none when all are taken.
    pub(crate) fn take(&self, count: u64) -> Range<u64> {
        let from = self.next.fetch_add(count, Ordering::Relaxed).min(self.end);
        from..from.saturating_add(count).min(self.end)
    }

    /// Says whether all operations are taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.end
    }

    /// Returns what an operation is to be.
    pub(crate) fn task(&self, number: u64) -> Task {
        match self.work {
            Work::Load => Task::Fill(number),
            Work::Run => Task::Any,
            Work::Check => Task::Check(number),
        }
    }

    /// Returns how much of it was taken, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn share(&self) -> f64 {
        let taken = self.next.load(Ordering::Relaxed).min(self.end);
        taken as f64 / self.end.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_handed_out_once() {
        let feed = Feed::new(Work::Load, 10);
        assert_eq!(
            (feed.take(4), feed.take(4), feed.take(4)),
            (0..4, 4..8, 8..10)
        );
        assert!(feed.take(4).is_empty() && feed.is_empty());
        assert_eq!(feed.task(3), Task::Fill(3));
        assert!((feed.share() - 1.0).abs() < 1e-9);
    }
}
