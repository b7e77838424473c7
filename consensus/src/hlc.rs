//! The hybrid logical clock: timestamps that follow wall time and never repeat or go back. Not a
//! clock that can be read: it is told the wall time.
//!
//! A timestamp is 64 bits: microseconds since 1970 in the upper 52, a counter in the lower 12. The
//! counter may carry into the microseconds; the clock then runs ahead of the wall until the wall
//! catches up.
//!
//! Invariants:
//! 1. Each timestamp taken is above every one taken or observed before.
//! 2. The clock is never behind the wall time that it was last told.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014; the layout is Apache Kudu's.

/// Bits of the counter.
const COUNTER_BITS: u32 = 12;

/// A moment of the hybrid clock. Later moments compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the first timestamp of a microsecond. Source: layout above.
    #[must_use]
    pub fn at_micros(micros: u64) -> Self {
        Self(micros << COUNTER_BITS)
    }

    /// Returns the microseconds since 1970.
    #[must_use]
    pub fn micros(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Returns the timestamp `n` places further.
    #[must_use]
    pub fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

/// The hybrid clock of one shard.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Timestamp,
}

impl Clock {
    /// Takes the next timestamp, at or after `wall_us` microseconds since 1970.
    pub fn take(&mut self, wall_us: u64) -> Timestamp {
        self.last = self.last.plus(1).max(Timestamp::at_micros(wall_us));
        self.last
    }

    /// Makes sure that every later timestamp is above `seen`: one that another node sent, or that
    /// the log holds.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// Returns the last timestamp that was taken or observed.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timestamps_only_grow_whatever_the_wall_does(walls in proptest::collection::vec(0..1_u64 << 50, 1..200)) {
            let mut clock = Clock::default();
            let mut last = Timestamp::default();
            for wall_us in walls {
                let taken = clock.take(wall_us);
                prop_assert!(taken > last);
                prop_assert!(taken.micros() >= wall_us);
                last = taken;
                clock.observe(Timestamp(taken.0.wrapping_sub(wall_us % 7)));
                prop_assert_eq!(clock.last(), taken);
            }
        }
    }

    #[test]
    fn the_counter_carries_into_the_microseconds() {
        let mut clock = Clock::default();
        for _ in 0..5_000 {
            clock.take(1_000);
        }
        assert_eq!(clock.last(), Timestamp::at_micros(1_000).plus(4_999));
        assert_eq!(clock.last().micros(), 1_001);
        assert_eq!(clock.take(2_000), Timestamp::at_micros(2_000));
    }
}
