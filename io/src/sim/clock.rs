//! The clocks of one simulated node: a monotonic clock that drifts, and a wall clock that drifts,
//! is off and jumps. Not virtual time itself, which belongs to the world.
//!
//! Invariants:
//! 1. The monotonic clock never goes back, and its rate never changes.
//! 2. A jump is drawn when the wall clock is read and its time has come, so an idle world has no
//!    events for it.

use super::faults::ClockFaults;
use crate::rng::Rng;
use crate::time::{Monotonic, Wall};

/// True wall-clock time at virtual time zero, in microseconds since 1970.
pub(super) const EPOCH_US: u64 = 1_750_000_000_000_000;
const MILLION: i64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    drift_ppm: i64,
    offset_us: i64,
    jump_at: u64,
    rng: Rng,
}

/// Returns a number in `-max..=max`.
fn either_way(rng: &mut Rng, max: u64) -> i64 {
    let max = max.min(1 << 60);
    let drawn = if max == 0 { 0 } else { rng.below(2 * max + 1) };
    drawn.cast_signed() - max.cast_signed()
}

impl Clock {
    pub(super) fn new(mut rng: Rng, faults: &ClockFaults) -> Self {
        let drift_ppm = either_way(&mut rng, u64::from(faults.drift_max_ppm));
        let offset_us = either_way(&mut rng, faults.offset_max_us);
        Self {
            drift_ppm,
            offset_us,
            jump_at: 0,
            rng,
        }
    }

    /// Says whether the clocks run at another rate than virtual time.
    pub(super) fn drifts(&self) -> bool {
        self.drift_ppm != 0
    }

    /// Says what the node's monotonic clock shows at virtual time `now`, in nanoseconds.
    pub(super) fn local(&self, now: u64) -> Monotonic {
        if self.drift_ppm == 0 {
            return Monotonic(now);
        }
        assert!(now < 1 << 53, "a drifting world ends after a hundred days");
        Monotonic(now.saturating_add_signed(now.cast_signed() * self.drift_ppm / MILLION))
    }

    /// Returns a virtual time at which the monotonic clock shows `local` or little more.
    pub(super) fn virtual_at(&self, local: Monotonic) -> u64 {
        if self.drift_ppm == 0 || local.0 > 1 << 60 {
            return local.0;
        }
        let rate = u128::from((MILLION + self.drift_ppm).unsigned_abs());
        let guess = u128::from(local.0) * u128::from(MILLION.unsigned_abs()) / rate;
        let mut at = u64::try_from(guess).expect("drift is far below the clock's range");
        while self.local(at) < local {
            at += 1 + (local.0 - self.local(at).0);
        }
        at
    }

    /// Says what the node's wall clock shows.
    pub(super) fn wall(&mut self, now: u64, faults: &ClockFaults) -> Wall {
        if faults.jump_interval_ns > 0 && now >= self.jump_at {
            if self.jump_at > 0 {
                self.offset_us += either_way(&mut self.rng, faults.jump_max_us);
            }
            self.jump_at = now + 1 + self.rng.exponential(faults.jump_interval_ns);
        }
        Wall((EPOCH_US + self.local(now).0 / 1_000).saturating_add_signed(self.offset_us))
    }

    pub(super) fn set(&mut self, offset_us: i64) {
        self.offset_us = offset_us;
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::Faults;
    use super::*;

    #[test]
    fn a_deadline_turns_into_a_time_at_which_it_is_due() {
        for drift in [-500, -1, 0, 1, 500] {
            let clock = Clock {
                drift_ppm: drift,
                offset_us: 0,
                jump_at: 0,
                rng: Rng::new(1),
            };
            for local in [0, 1, 999_999, 1_000_000, 123_456_789_012_345] {
                let at = clock.virtual_at(Monotonic(local));
                assert!(clock.local(at) >= Monotonic(local));
                assert!(clock.local(at).0 - local < 2_000, "{drift} {local}");
            }
        }
    }

    #[test]
    fn the_wall_clock_jumps_only_when_asked_to() {
        let mut faults = Faults::none().clock;
        let mut clock = Clock::new(Rng::new(5), &faults);
        assert_eq!(clock.wall(7_000, &faults), Wall(EPOCH_US + 7));
        faults.jump_interval_ns = 1_000;
        faults.jump_max_us = 1_000_000;
        let jumps = (1..1_000).filter(|n| clock.wall(n * 100_000, &faults).0 != EPOCH_US + n * 100);
        assert!(jumps.count() > 900);
    }
}
