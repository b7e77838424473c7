//! Looks for the knee: the highest rate that a server keeps up with before latency leaves what it was. It climbs by a
//! factor until a rate is too much, then halves the distance between the last that was good and the first that was not.
//! It decides from points alone; who measures them is not its business.

use super::schedule::Rate;

/// Factor between two rates while it climbs.
const CLIMB: f64 = 1.6;
/// Rates between the last good and the first bad one that are tried.
const HALVINGS: u32 = 3;
/// Most rates that are tried.
const POINTS_MAX: usize = 40;

/// What was measured at a rate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Sample {
    /// Operations per second that were due, and that were done.
    pub(crate) due: f64,
    pub(crate) done: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Whether the server kept up with the rate.
    pub(crate) is_sustained: bool,
    /// Whether the client was the bottleneck, so that the server's limit is not known.
    pub(crate) is_client_bound: bool,
}

/// When a rate is too much, beside that it is not reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    /// The p99 is above this, in microseconds.
    P99(f64),
    /// The p99 is above so many times that of the lowest rate.
    Factor(f64),
}

/// The search.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    limit: Limit,
    samples: Vec<Sample>,
    good: Option<f64>,
    bad: Option<f64>,
    halvings: u32,
    first: f64,
    highest: f64,
}

impl Search {
    /// Begins at a rate, and goes no higher than another one.
    pub(crate) fn new(first: Rate, highest: Rate, limit: Limit) -> Self {
        Self {
            limit,
            samples: Vec::new(),
            good: None,
            bad: None,
            halvings: 0,
            first: first.0,
            highest: highest.0.max(first.0),
        }
    }

    /// Returns the rate to be measured next; `None` when the knee is found, or cannot be.
    pub(crate) fn next(&self) -> Option<Rate> {
        if self.samples.len() >= POINTS_MAX
            || self
                .samples
                .last()
                .is_some_and(|sample| sample.is_client_bound)
        {
            return None;
        }
        match (self.good, self.bad) {
            (None, None) => Some(Rate(self.first)),
            (None, Some(_)) => None,
            (Some(good), None) => {
                (good < self.highest).then(|| Rate((good * CLIMB).min(self.highest)))
            }
            (Some(good), Some(bad)) => {
                (self.halvings < HALVINGS).then(|| Rate((good * bad).sqrt()))
            }
        }
    }

    /// Takes in what was measured at that rate.
    pub(crate) fn note(&mut self, sample: Sample) {
        let was_climbing = self.bad.is_none();
        self.samples.push(sample);
        // What the client could not do says nothing of the server.
        if sample.is_client_bound {
            return;
        }
        match self.is_good(&sample) {
            true => self.good = Some(sample.due),
            false => self.bad = Some(sample.due),
        }
        self.halvings += u32::from(!was_climbing);
    }

    fn is_good(&self, sample: &Sample) -> bool {
        let most_us = match self.limit {
            Limit::P99(us) => us,
            Limit::Factor(factor) => self.samples[0].p99_us * factor,
        };
        sample.is_sustained && sample.p99_us <= most_us
    }

    /// Returns what was measured, by rate.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let mut samples = self.samples.clone();
        samples.sort_by(|one, other| one.due.total_cmp(&other.due));
        samples
    }

    /// Returns the knee: the sample of the highest good rate.
    pub(crate) fn knee(&self) -> Option<Sample> {
        let good = self.good?;
        self.samples
            .iter()
            .find(|sample| sample.due.total_cmp(&good).is_eq())
            .copied()
    }

    /// Says what is known of the knee.
    pub(crate) fn words(&self) -> String {
        let client_bound = self
            .samples
            .last()
            .is_some_and(|sample| sample.is_client_bound);
        match (self.knee(), self.bad) {
            (None, _) if client_bound => {
                "no knee: this client was the bottleneck at the lowest rate".to_owned()
            }
            (None, _) => {
                "no knee: the lowest rate was too much already; begin lower with --from".to_owned()
            }
            (Some(knee), None) => format!(
                "no knee up to {:.0} operations per second: {}",
                knee.due,
                match client_bound {
                    true => "beyond, this client was the bottleneck",
                    false => "go on with a higher --to",
                }
            ),
            (Some(knee), Some(bad)) => format!(
                "the knee lies at {:.0} operations per second (p99 {:.0} us); {bad:.0} are too much",
                knee.due, knee.p99_us
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One server with one queue (M/M/1): at a rate it takes `1 / (capacity - rate)`, its p99 4.6 times that.
    fn measure(capacity: f64, rate: Rate) -> Sample {
        let is_sustained = rate.0 < capacity;
        let mean_us = match is_sustained {
            true => 1e6 / (capacity - rate.0),
            false => 1e7,
        };
        Sample {
            due: rate.0,
            done: rate.0.min(capacity),
            p50_us: mean_us * 0.69,
            p99_us: mean_us * 4.6,
            is_sustained,
            is_client_bound: false,
        }
    }

    fn search(capacity: f64, limit: Limit) -> Search {
        let mut search = Search::new(Rate(1_000.0), Rate(10_000_000.0), limit);
        while let Some(rate) = search.next() {
            search.note(measure(capacity, rate));
        }
        search
    }

    #[test]
    fn the_knee_of_a_queue_is_where_theory_says() {
        for capacity in [5_000.0, 80_000.0, 1_234_567.0] {
            // Four times the latency of an idle server: three quarters of its capacity.
            let search = search(capacity, Limit::Factor(4.0));
            let knee = search.knee().unwrap().due / capacity;
            assert!((0.65..=0.81).contains(&knee), "{capacity}: {knee}");
            assert!(
                search.words().contains("knee lies at"),
                "{}",
                search.words()
            );
            assert!(
                search
                    .samples()
                    .windows(2)
                    .all(|pair| pair[0].due < pair[1].due)
            );
        }
    }

    #[test]
    fn a_limit_of_latency_is_kept() {
        let search = search(100_000.0, Limit::P99(460.0));
        let knee = search.knee().unwrap();
        assert!(knee.p99_us <= 460.0 && knee.due > 80_000.0, "{knee:?}");
    }

    #[test]
    fn what_cannot_be_found_is_said() {
        assert!(
            search(10.0, Limit::Factor(4.0))
                .words()
                .contains("lowest rate was too much")
        );
        let mut endless = Search::new(Rate(1.0), Rate(100.0), Limit::Factor(4.0));
        while let Some(rate) = endless.next() {
            endless.note(measure(1e9, rate));
        }
        assert!(
            endless.words().contains("no knee up to 100 "),
            "{}",
            endless.words()
        );
        let mut weak = Search::new(Rate(1_000.0), Rate(1e6), Limit::Factor(4.0));
        while let Some(rate) = weak.next() {
            let is_client_bound = rate.0 > 3_000.0;
            weak.note(Sample {
                is_client_bound,
                ..measure(1e9, rate)
            });
        }
        assert!(
            weak.words().contains("this client was the bottleneck"),
            "{}",
            weak.words()
        );
    }
}
