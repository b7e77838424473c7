//! When operations are due in an open loop: at a fixed distance, or as those of many independent callers (Poisson). It
//! looks at nothing but the rate: a server that is slow is asked no less.

use std::str::FromStr;

use ashlar_io::rng::Rng;

/// Nanoseconds of a second.
const SECOND_NS: f64 = 1e9;
/// Least and most operations per second.
const RATE_MIN: f64 = 0.1;
const RATE_MAX: f64 = 1e9;

/// Operations per second.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Rate(pub(crate) f64);

/// Returns the digits of a number that may end in `k` or `M`, and what that multiplies them by.
pub(crate) fn split_unit(text: &str) -> (&str, u32) {
    match (text.strip_suffix(['k', 'K']), text.strip_suffix(['m', 'M'])) {
        (Some(digits), _) => (digits, 1_000),
        (_, Some(digits)) => (digits, 1_000_000),
        _ => (text, 1),
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = split_unit(text);
        let rate = digits.parse::<f64>().ok();
        let rate = rate.map(|number| number * f64::from(unit));
        let rate = rate.filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate));
        rate.map(Self).ok_or_else(|| {
            format!("{text} is no rate; allowed is 0.1 to 1000M operations per second, such as 500, 20k or 1.5M")
        })
    }
}

/// How operations are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// As those of many independent callers.
    Poisson,
    /// At a fixed distance.
    Fixed,
}

/// Due times, in nanoseconds since the start.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    gap_ns: f64,
    /// The due time of the next operation.
    due_ns: f64,
    /// Operations before the next.
    count: u64,
    /// Due time of the first.
    first_ns: f64,
    rng: Rng,
}

impl Schedule {
    /// Makes the schedule number `index` of `of` that make up a rate together.
    pub(crate) fn new(rate: Rate, arrivals: Arrivals, (index, of): (u32, u32), seed: u64) -> Self {
        let gap_ns = SECOND_NS / rate.0 * f64::from(of);
        let mut rng = Rng::new(seed).fork("schedule");
        let first_ns = match arrivals {
            Arrivals::Fixed => SECOND_NS / rate.0 * f64::from(index),
            Arrivals::Poisson => exponential(gap_ns, &mut rng),
        };
        Self {
            arrivals,
            gap_ns,
            due_ns: first_ns,
            count: 0,
            first_ns,
            rng,
        }
    }

    /// Returns when the next operation is due.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds of a run, not negative"
    )]
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns as u64
    }

    /// Goes on to the operation behind it.
    #[expect(clippy::cast_precision_loss, reason = "no run has 2^53 operations")]
    pub(crate) fn advance(&mut self) {
        self.count += 1;
        self.due_ns = match self.arrivals {
            // Multiplied anew, so that errors do not add up.
            Arrivals::Fixed => self.first_ns + self.gap_ns * self.count as f64,
            Arrivals::Poisson => self.due_ns + exponential(self.gap_ns, &mut self.rng),
        };
    }
}

fn exponential(mean: f64, rng: &mut Rng) -> f64 {
    -(1.0 - rng.unit()).ln() * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(rate: f64, arrivals: Arrivals, part: (u32, u32), count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(Rate(rate), arrivals, part, 9);
        let next = |_| {
            let due = schedule.due_ns();
            schedule.advance();
            due
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn fixed_gaps_do_not_drift() {
        let dues = dues(4.0, Arrivals::Fixed, (0, 1), 400_001);
        assert_eq!(dues[4], 1_000_000_000);
        assert_eq!(dues[400_000], 100_000_000_000_000);
    }

    #[test]
    fn parts_of_a_fixed_schedule_interleave() {
        let mut all = [
            dues(1000.0, Arrivals::Fixed, (0, 2), 5),
            dues(1000.0, Arrivals::Fixed, (1, 2), 5),
        ]
        .concat();
        all.sort_unstable();
        let expected: Vec<u64> = (0..10).map(|n| n * 1_000_000).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_variance_of_the_law() {
        let dues = dues(10_000.0, Arrivals::Poisson, (0, 1), 200_000);
        // Arrivals in each 10 ms: mean and variance are both 100.
        let last = dues.last().unwrap() / 10_000_000;
        let mut counts = vec![0.0_f64; usize::try_from(last).unwrap()];
        for due in dues {
            if let Some(count) = counts.get_mut(usize::try_from(due / 10_000_000).unwrap()) {
                *count += 1.0;
            }
        }
        let n = counts.len() as f64;
        let mean = counts.iter().sum::<f64>() / n;
        let variance = counts
            .iter()
            .map(|count| (count - mean).powi(2))
            .sum::<f64>()
            / n;
        assert!((99.0..101.0).contains(&mean), "{mean}");
        assert!((90.0..110.0).contains(&variance), "{variance}");
    }

    #[test]
    fn rates_have_units_and_bounds() {
        assert_eq!("20k".parse(), Ok(Rate(20_000.0)));
        assert_eq!("1.5M".parse(), Ok(Rate(1_500_000.0)));
        assert_eq!("7".parse(), Ok(Rate(7.0)));
        for text in ["", "0", "-1", "x", "2000M", "nan", "inf", "1kk"] {
            assert!(
                text.parse::<Rate>().unwrap_err().contains("1000M"),
                "{text}"
            );
        }
    }
}
