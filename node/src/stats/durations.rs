//! How long things took: a histogram that one shard writes, and the sum of several. What it tells is at most 1/16 above
//! the truth.

use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of a histogram in each power of two, as a power of two.
const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;
/// Durations from this power of two of nanoseconds on are counted as if they were of the last one
/// below: 68 seconds.
const POWERS: u32 = 36;
const BUCKETS: usize = (POWERS - STEP_BITS + 1) as usize * STEPS;
/// The longest duration that is told apart in powers of two of microseconds, as such a power: 8.4 seconds.
const POWERS_US: u32 = 23;

/// Returns where a duration is counted: its power of two, and the step in it.
fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.min((1 << POWERS) - 1);
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEP_BITS;
    (shift as usize) * STEPS + (nanos >> shift) as usize
}

/// Returns the longest duration that is counted in a bucket, in nanoseconds.
fn bucket_end(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let step = (bucket - shift * STEPS) as u64;
    ((step + 1) << shift) - 1
}

/// Durations as one shard counts them.
#[derive(Debug)]
pub struct Histogram {
    nanos: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            nanos: AtomicU64::default(),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Histogram {
    /// Counts a duration. Only one thread may.
    pub fn note(&self, nanos: u64) {
        self.note_many(nanos, 1);
    }

    /// Counts a duration that stands for so many.
    pub fn note_many(&self, nanos: u64, count: u64) {
        let bucket = &self.buckets[bucket_of(nanos)];
        for (counter, n) in [(&self.nanos, nanos.saturating_mul(count)), (bucket, count)] {
            let sum = counter.load(Ordering::Relaxed).wrapping_add(n);
            counter.store(sum, Ordering::Relaxed);
        }
    }

    /// Returns all counters, in a fixed order.
    pub(super) fn all(&self) -> impl Iterator<Item = &AtomicU64> {
        std::iter::once(&self.nanos).chain(&self.buckets)
    }

    /// Returns what was counted.
    #[must_use]
    pub fn durations(&self) -> Durations {
        Durations::of(self.all().map(|counter| counter.load(Ordering::Relaxed)))
    }
}

/// Durations that were counted, by one shard or by several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// All of them together, in nanoseconds.
    pub nanos: u64,
    buckets: Vec<u64>,
}

impl Durations {
    /// Makes them of the counters of a [`Histogram`], in their order.
    pub(super) fn of(mut counters: impl Iterator<Item = u64>) -> Self {
        Self {
            nanos: counters.next().unwrap_or(0),
            buckets: counters.collect(),
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.nanos = self.nanos.wrapping_add(other.nanos);
        self.buckets
            .resize(self.buckets.len().max(other.buckets.len()), 0);
        let pairs = self.buckets.iter_mut().zip(&other.buckets);
        pairs.for_each(|(to, from)| *to = to.wrapping_add(*from));
    }

    /// Takes others away, which were counted before and are among them.
    #[must_use]
    pub fn less(mut self, other: &Self) -> Self {
        self.nanos = self.nanos.wrapping_sub(other.nanos);
        let pairs = self.buckets.iter_mut().zip(&other.buckets);
        pairs.for_each(|(from, n)| *from = from.wrapping_sub(*n));
        self
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns, for each power of two of microseconds that one took, how many took at most as long.
    #[must_use]
    pub fn up_to_us(&self) -> Vec<(u64, u64)> {
        let mut steps: Vec<(u64, u64)> = Vec::new();
        let mut counted = 0;
        let buckets = self.buckets.iter().enumerate();
        for (bucket, count) in buckets.filter(|(_, count)| **count > 0) {
            counted += count;
            let us = (bucket_end(bucket) / 1000).max(1).next_power_of_two();
            match steps.last_mut() {
                Some((last, upto)) if *last == us => *upto = counted,
                _ => steps.push((us, counted)),
            }
        }
        steps
    }

    /// Returns how many took at most so many microseconds, for every power of two up to [`POWERS_US`].
    #[must_use]
    pub fn by_power_us(&self) -> Vec<(u64, u64)> {
        let powers = (0..=POWERS_US).map(|power| 1_u64 << power);
        let at_most = |us: u64| {
            let buckets = self.buckets.iter().enumerate();
            let within = buckets.filter(|(bucket, _)| bucket_end(*bucket) / 1000 < us);
            within.map(|(_, count)| count).sum()
        };
        powers.map(|us| (us, at_most(us))).collect()
    }

    /// Returns the duration, in nanoseconds, that `permille` of a thousand did not exceed; 0 when there are none.
    #[must_use]
    pub fn percentile(&self, permille: u64) -> u64 {
        let wanted = (u128::from(self.count()) * u128::from(permille)).div_ceil(1000);
        let mut seen = 0;
        let reached = self.buckets.iter().position(|count| {
            seen += u128::from(*count);
            seen >= wanted && seen > 0
        });
        reached.map_or(0, bucket_end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_tells_a_duration_to_a_sixteenth(nanos in 0_u64..1 << 36, less in 0_u32..36) {
            let nanos = nanos >> less;
            let end = bucket_end(bucket_of(nanos));
            prop_assert!(end >= nanos && end <= nanos + nanos / 16, "{nanos} is told as {end}");
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_list(mut all in proptest::collection::vec(0_u64..1 << 30, 1..200)) {
            let histogram = Histogram::default();
            all.iter().for_each(|nanos| histogram.note(*nanos));
            all.sort_unstable();
            let told = histogram.durations();
            prop_assert_eq!((told.count(), told.nanos), (all.len() as u64, all.iter().sum()));
            for permille in [500, 990, 999] {
                let place = (all.len() * permille).div_ceil(1000).max(1) - 1;
                prop_assert_eq!(told.percentile(permille as u64), bucket_end(bucket_of(all[place])));
            }
        }

        #[test]
        fn powers_count_all_that_is_shorter(all in proptest::collection::vec(0_u64..1 << 33, 0..100)) {
            let histogram = Histogram::default();
            all.iter().for_each(|nanos| histogram.note(*nanos));
            let told = histogram.durations();
            for (us, count) in told.by_power_us() {
                // What is told of a duration is up to a sixteenth above it.
                let surely = all.iter().filter(|nanos| **nanos + **nanos / 16 < us * 1000).count() as u64;
                let perhaps = all.iter().filter(|nanos| **nanos < us * 1000).count() as u64;
                prop_assert!(surely <= count && count <= perhaps, "{us} us: {surely} {count} {perhaps}");
            }
            let mut twice = told.clone();
            twice.add(&told);
            prop_assert_eq!(twice.count(), 2 * told.count());
            prop_assert_eq!(twice.less(&told).by_power_us(), told.by_power_us());
        }
    }
}
