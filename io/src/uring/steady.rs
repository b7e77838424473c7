//! The time that a driver counts: the raw clock of the hardware, which nobody slews, and the time for which
//! the machine was suspended, when the raw clock stands still. Leases count on it. Not the wall clock.
//!
//! Invariant: it never runs ahead of true time by more than the hardware drifts: a reading that was interrupted
//! is not believed, for it would look like a suspension.

use std::cell::Cell;

use crate::sys::{self, SystemClock};
use crate::time::Monotonic;

/// Time at which a driver is made: no deadline of an early turn is zero.
const EARLIEST_NS: u64 = 1_000_000_000;
/// Longest reading of three clocks that is believed.
const READING_NS_MAX: u64 = 100_000;
/// Shortest suspension that is noticed: what is less may lie between two readings.
const SLEEP_NS_MIN: u64 = 1_000_000;
/// Readings at the beginning, of which one should not be interrupted.
const TRIES: u32 = 100;

/// A clock that nobody sets or slews.
#[derive(Debug)]
pub(super) struct Steady {
    base: u64,
    /// For how long the machine was suspended since it was started, as of the last look.
    slept: Cell<u64>,
}

/// Returns for how long the machine was suspended since it was started: the clock that counts that is ahead of
/// the one that does not, which was read before and after it.
fn slept(before: u64, all: u64, after: u64) -> Option<u64> {
    let was_quick = after.saturating_sub(before) <= READING_NS_MAX;
    was_quick.then(|| all.saturating_sub(after))
}

fn read_slept() -> Option<u64> {
    let before = sys::clock(SystemClock::Monotonic);
    let all = sys::clock(SystemClock::Boot);
    slept(before, all, sys::clock(SystemClock::Monotonic))
}

impl Steady {
    pub(super) fn new() -> Self {
        let slept = (0..TRIES).find_map(|_| read_slept()).unwrap_or(0);
        Self {
            base: sys::clock(SystemClock::Raw) + slept,
            slept: Cell::new(slept),
        }
    }

    /// Returns the time since it was made, and a second.
    pub(super) fn now(&self) -> Monotonic {
        self.at(sys::clock(SystemClock::Raw))
    }

    fn at(&self, raw: u64) -> Monotonic {
        let elapsed = (raw + self.slept.get()).saturating_sub(self.base);
        Monotonic(elapsed + EARLIEST_NS)
    }

    /// Notes for how long the machine was suspended.
    pub(super) fn look(&self) {
        self.note(read_slept());
    }

    fn note(&self, slept: Option<u64>) {
        if let Some(slept) = slept.filter(|slept| *slept > self.slept.get() + SLEEP_NS_MIN) {
            self.slept.set(slept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_suspension_counts_and_an_interrupted_reading_does_not() {
        let steady = Steady {
            base: 5 * MS,
            slept: Cell::new(0),
        };
        assert_eq!(steady.at(6 * MS), Monotonic(EARLIEST_NS + MS));
        // The thread was put aside for ten milliseconds between two of the three readings.
        for late in [slept(0, 10 * MS, 10 * MS), slept(0, 0, 10 * MS)] {
            steady.note(late);
        }
        assert_eq!(steady.at(6 * MS), Monotonic(EARLIEST_NS + MS));
        steady.note(slept(7 * MS, 3_007 * MS, 7 * MS));
        assert_eq!(steady.at(6 * MS), Monotonic(EARLIEST_NS + 3_001 * MS));
        // Readings that differ a little do not add up.
        steady.note(Some(3_000 * MS + SLEEP_NS_MIN));
        assert_eq!(steady.at(6 * MS), Monotonic(EARLIEST_NS + 3_001 * MS));
    }

    #[test]
    fn it_goes_on() {
        let steady = Steady::new();
        let first = steady.now();
        assert!(first >= Monotonic(EARLIEST_NS));
        while steady.now() == first {
            steady.look();
        }
        assert!(steady.now() > first);
    }
}
