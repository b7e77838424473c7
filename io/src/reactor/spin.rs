//! Whether and how long a shard spins before it sleeps. Not the sleep itself.

use std::time::Duration;

use crate::time::Monotonic;
use crate::uring;

/// Spins before sleeping when that has paid off lately.
///
/// A shard that spins on the CPU that must finish its durable write delays that write by a
/// scheduler tick (4 ms were measured at HZ=250), so there is no spin while one is in flight, and
/// each round gives the CPU away.
#[derive(Debug)]
pub(super) struct Spin {
    max: Duration,
    current: Duration,
}

impl Spin {
    pub(super) fn new(max_us: u32) -> Self {
        let max = Duration::from_micros(u64::from(max_us));
        Self { max, current: max }
    }

    /// Spins; says whether there is something to do.
    pub(super) fn spin(
        &mut self,
        driver: &mut uring::Driver,
        from: Monotonic,
        timeout: Duration,
        has_mail: &impl Fn() -> bool,
    ) -> bool {
        if self.max.is_zero() || driver.durable_in_flight() || timeout < self.max {
            return false;
        }
        loop {
            crate::sys::yield_cpu();
            if driver.has_completions() || has_mail() {
                self.current = (self.current * 2 + Duration::from_micros(1)).min(self.max);
                return true;
            }
            if driver.now().since(from) >= self.current {
                self.current /= 2;
                return false;
            }
        }
    }
}
