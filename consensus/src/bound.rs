//! What is known of the time: an interval that it lies in, and how intervals of many nodes show which
//! of them lie. Not a clock, and not where its bound comes from.
//!
//! Invariant: if a quorum of the intervals hold the true time, so does the agreed one, provided that
//! the true time's quorum is the largest set that agrees.
//!
//! Source: Marzullo and Owicki, "Maintaining the Time in a Distributed System", PODC 1983.

/// Most intervals that are compared.
pub const SOURCES_MAX: usize = 16;

/// The time lies between these, both included: microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// It is not earlier.
    pub earliest_us: u64,
    /// It is not later.
    pub latest_us: u64,
}

impl Bound {
    /// Returns the bound around a clock's reading that is off by at most `error_us`.
    #[must_use]
    pub fn around(reading_us: u64, error_us: u64) -> Self {
        Self {
            earliest_us: reading_us.saturating_sub(error_us),
            latest_us: reading_us.saturating_add(error_us),
        }
    }

    /// Tells whether a moment may be now.
    #[must_use]
    pub fn holds(&self, moment_us: u64) -> bool {
        self.earliest_us <= moment_us && moment_us <= self.latest_us
    }

    /// Tells whether a moment has certainly passed.
    #[must_use]
    pub fn is_past(&self, moment_us: u64) -> bool {
        moment_us < self.earliest_us
    }

    /// Tells whether both may be right.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.earliest_us <= other.latest_us && other.earliest_us <= self.latest_us
    }
}

/// Returns the part that most intervals have in common, the earliest of several, if at least `quorum`
/// of them have one; those that do not overlap it are wrong. Of more than [`SOURCES_MAX`] intervals
/// the first are looked at.
#[must_use]
pub fn agreed(bounds: &[Bound], quorum: usize) -> Option<Bound> {
    let bounds = &bounds[..bounds.len().min(SOURCES_MAX)];
    let mut best: Option<(usize, Bound)> = None;
    // Where most intervals meet, one of them begins.
    for start in bounds.iter().map(|bound| bound.earliest_us) {
        let meeting = || bounds.iter().filter(|bound| bound.holds(start));
        let latest_us = meeting().map(|bound| bound.latest_us).min()?;
        let found = Bound {
            earliest_us: start,
            latest_us,
        };
        let count = meeting().count();
        let better = best
            .is_none_or(|(most, bound)| count > most || count == most && start < bound.earliest_us);
        if better {
            best = Some((count, found));
        }
    }
    best.filter(|(count, _)| *count >= quorum)
        .map(|(_, bound)| bound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound(earliest_us: u64, latest_us: u64) -> Bound {
        Bound {
            earliest_us,
            latest_us,
        }
    }

    #[test]
    fn a_clock_that_lies_is_outvoted() {
        let bounds = [bound(10, 20), bound(15, 25), bound(90, 91)];
        assert_eq!(agreed(&bounds, 2), Some(bound(15, 20)));
        assert!(!bounds[2].overlaps(&bound(15, 20)));
        assert_eq!(agreed(&bounds, 3), None);
        assert_eq!(agreed(&[], 1), None);
    }

    #[test]
    fn a_moment_is_past_when_no_clock_of_the_bound_shows_it() {
        let now = Bound::around(100, 7);
        assert!(now.is_past(92) && !now.is_past(93));
        assert!(now.holds(107) && !now.holds(108));
    }

    proptest! {
        #[test]
        fn what_is_agreed_is_where_most_intervals_meet(
            ends in proptest::collection::vec((0..60_u64, 0..20_u64), 1..9),
            quorum in 1..6_usize,
        ) {
            let bounds: Vec<Bound> = ends.iter().map(|&(from, width)| bound(from, from + width)).collect();
            let count = |at: u64| bounds.iter().filter(|bound| bound.holds(at)).count();
            let most = (0..100).map(count).max().unwrap();
            let first = (0..100).find(|&at| count(at) == most).unwrap();
            let last = (first..100).take_while(|&at| count(at) == most).last().unwrap();
            match agreed(&bounds, quorum) {
                None => prop_assert!(most < quorum),
                Some(found) => {
                    prop_assert!(most >= quorum);
                    prop_assert_eq!(found.earliest_us, first);
                    // Where one set of intervals ends, another of the same size may begin.
                    prop_assert!(found.latest_us <= last && count(found.latest_us) == most);
                }
            }
        }
    }
}
