//! What is known of the clock's error, where every shard can look at it. Not who says so.
//!
//! Invariant: an error that is told holds at the moment at which it is told, if what the source said
//! held when it said so.

use std::sync::{Mutex, PoisonError};

use super::{Reading, Source, Untrusted};

/// Age at which an answer is no longer believed: whoever asks the source hangs.
const AGE_MAX_NS: u64 = 3_000_000_000;

/// An answer, and the clocks as of then.
#[derive(Clone, Copy, Debug)]
struct Sample {
    reading: Reading,
    wall: u64,
    raw: u64,
}

/// The time, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who says so.
    pub source: Source,
    /// The wall clock's reading, in microseconds since 1970.
    pub wall_us: u64,
    /// How far it may be off, in microseconds.
    pub error_us: u64,
}

/// What is known of the clock's error.
#[derive(Debug)]
pub struct Board(Mutex<Result<Sample, Untrusted>>);

impl Default for Board {
    fn default() -> Self {
        Self(Mutex::new(Err(Untrusted(
            "nobody was asked yet".to_owned(),
        ))))
    }
}

impl Board {
    /// Puts an answer up, with the wall clock and the raw clock as of then, in nanoseconds.
    pub(super) fn publish(&self, reading: Result<Reading, Untrusted>, (wall, raw): (u64, u64)) {
        let sample = reading.map(|reading| Sample { reading, wall, raw });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sample;
    }

    /// Returns the time and how far it may be off; `wall` and `raw` are the clocks now, in nanoseconds.
    pub(crate) fn look(&self, wall: u64, raw: u64) -> Option<Known> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = board.as_ref().ok()?;
        let passed = raw.saturating_sub(sample.raw);
        if passed > AGE_MAX_NS {
            return None;
        }
        let moved = wall.cast_signed() - sample.wall.cast_signed();
        let slewed = moved.abs_diff(passed.cast_signed());
        let drifted = passed.saturating_mul(u64::from(sample.reading.drift_ppb)) / 1_000_000_000;
        let error = sample
            .reading
            .error_ns
            .saturating_add(slewed)
            .saturating_add(drifted);
        Some(Known {
            source: sample.reading.source,
            wall_us: wall / 1_000,
            // A microsecond more: the reading was cut to whole ones.
            error_us: error / 1_000 + 2,
        })
    }

    /// Returns why nothing is known, for people.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.as_ref().err().map(|why| why.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn board() -> Board {
        let board = Board::default();
        let reading = Reading {
            source: Source::Chrony,
            error_ns: MS,
            drift_ppb: 50_000,
        };
        board.publish(Ok(reading), (100 * MS, 10 * MS));
        board
    }

    fn error_us(board: &Board, wall_ms: u64, raw_ms: u64) -> Option<u64> {
        let known = board.look(wall_ms * MS, raw_ms * MS);
        known.map(|known| known.error_us)
    }

    #[test]
    fn the_error_grows_by_the_drift() {
        assert_eq!(error_us(&board(), 100, 10), Some(1_002));
        assert_eq!(error_us(&board(), 1_100, 1_010), Some(1_052));
        assert_eq!(board().look(150 * MS, 60 * MS).unwrap().wall_us, 150_000);
    }

    #[test]
    fn the_error_grows_by_what_the_wall_clock_was_moved() {
        // Five milliseconds forward, then back, in a millisecond; then a machine that was suspended.
        assert_eq!(error_us(&board(), 106, 11), Some(6_002));
        assert_eq!(error_us(&board(), 96, 11), Some(6_002));
        assert_eq!(error_us(&board(), 3_700, 10), Some(3_601_002));
    }

    #[test]
    fn an_old_answer_is_no_answer() {
        assert!(error_us(&board(), 3_090, 3_000).is_some());
        assert_eq!(error_us(&board(), 3_190, 3_100), None);
        let none = Board::default();
        assert_eq!((none.look(0, 0), none.why().is_some()), (None, true));
        none.publish(Err(Untrusted("no".to_owned())), (0, 0));
        assert_eq!(none.why().as_deref(), Some("no"));
    }
}
