//! How fast counters grow: samples of a clock's time and their sums, taken ten times a second, and the mean over the
//! last one and a half seconds, as in Redis.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::shared::lock;

/// Samples that are kept.
const SAMPLES: usize = 16;

/// What grows, or how much of it comes in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSecond {
    /// Commands.
    pub commands: u64,
    /// Bytes received.
    pub in_bytes: u64,
    /// Bytes sent.
    pub out_bytes: u64,
}

/// The last samples, and the most that data took at any of them.
#[derive(Debug, Default)]
pub struct Rates {
    samples: Mutex<VecDeque<(u64, PerSecond)>>,
    peak_bytes: Mutex<u64>,
}

impl Rates {
    /// Takes a sample at a moment, in milliseconds since 1970: sums until then, and what data take.
    pub fn sample(&self, now_ms: u64, sums: PerSecond, used_bytes: u64) {
        let mut samples = lock(&self.samples);
        samples.truncate(SAMPLES - 1);
        samples.push_front((now_ms, sums));
        let mut peak = lock(&self.peak_bytes);
        *peak = used_bytes.max(*peak);
    }

    /// Returns the most bytes that data took, as far as was looked.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        *lock(&self.peak_bytes)
    }

    /// Returns the mean growth of the last samples.
    #[must_use]
    pub fn per_second(&self) -> PerSecond {
        let samples = lock(&self.samples);
        let (Some((to_ms, to)), Some((from_ms, from))) = (samples.front(), samples.back()) else {
            return PerSecond::default();
        };
        let Some(passed_ms) = to_ms.checked_sub(*from_ms).filter(|ms| *ms > 0) else {
            return PerSecond::default();
        };
        let rate = |to: u64, from: u64| {
            let grown = u128::from(to.saturating_sub(from)) * 1000 / u128::from(passed_ms);
            u64::try_from(grown).unwrap_or(u64::MAX)
        };
        PerSecond {
            commands: rate(to.commands, from.commands),
            in_bytes: rate(to.in_bytes, from.in_bytes),
            out_bytes: rate(to.out_bytes, from.out_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mean_of_the_last_samples() {
        let rates = Rates::default();
        assert_eq!(rates.per_second(), PerSecond::default());
        for step in 0..100 {
            let sums = PerSecond {
                commands: if step < 50 { 0 } else { (step - 50) * 20 },
                in_bytes: step * 1_000,
                out_bytes: 7,
            };
            rates.sample(step * 100, sums, 100 - step);
        }
        let told = rates.per_second();
        let wanted = PerSecond {
            commands: 200,
            in_bytes: 10_000,
            out_bytes: 0,
        };
        assert_eq!((told, rates.peak_bytes()), (wanted, 100));
    }
}
