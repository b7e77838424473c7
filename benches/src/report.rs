//! What reports of measurements are made of: medians over rounds, bars, and the rows of a table in
//! Markdown. Not what is measured: each program knows that.

use std::{fs, thread};

/// The head of the table that [`Line`]s are rows of.
pub const HEADER: &str =
    "| measure | ashlar | peer | | ratio | bar | |\n|---|--:|---|--:|--:|--:|---|\n";

/// What has to be reached, and on which side of it it is good to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// The figure must not be below this.
    AtLeast(f64),
    /// The figure must not be above this.
    AtMost(f64),
}

impl Bar {
    /// Tells whether `figure` reaches the bar.
    #[must_use]
    pub fn is_reached(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bar) => figure >= bar,
            Self::AtMost(bar) => figure <= bar,
        }
    }

    /// Returns the bar as a report shows it.
    #[must_use]
    pub fn show(self) -> String {
        match self {
            Self::AtLeast(bar) => format!(">= {}", show(bar)),
            Self::AtMost(bar) => format!("<= {}", show(bar)),
        }
    }
}

/// Median and spread over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The least figure.
    pub min: f64,
    /// The figure in the middle, or the mean of the two there.
    pub median: f64,
    /// The largest figure.
    pub max: f64,
}

impl Summary {
    /// Makes a summary of figures; of none there is none.
    #[must_use]
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let median = median(&figures);
        Some(Self { min, median, max })
    }

    /// Returns how many times `other` this is.
    #[must_use]
    pub fn over(self, other: Self) -> Option<f64> {
        (other.median != 0.0).then(|| self.median / other.median)
    }

    /// Returns the median, with the spread when there is one.
    #[must_use]
    pub fn show(self) -> String {
        let [min, median, max] = [self.min, self.median, self.max].map(show);
        match self.min == self.max {
            true => median,
            false => format!("{median} ({min}-{max})"),
        }
    }
}

/// A row of a report.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What is compared, with the unit.
    pub title: &'a str,
    /// What was measured of this project.
    pub ours: Option<Summary>,
    /// With whom it is compared; empty for nobody.
    pub peer: &'a str,
    /// What was measured of the peer.
    pub theirs: Option<Summary>,
    /// What has to be reached.
    pub bar: Option<Bar>,
    /// The figure that the bar is about: a ratio or a median.
    pub judged: Option<f64>,
}

impl Line<'_> {
    /// Returns the row in Markdown; what is not known is a dash.
    #[must_use]
    pub fn markdown(&self) -> String {
        let verdict = self.bar.zip(self.judged).map_or("", |(bar, judged)| {
            if bar.is_reached(judged) {
                "pass"
            } else {
                "**miss**"
            }
        });
        let dash = || "-".to_owned();
        let ratio = self.ours.zip(self.theirs);
        let ratio = ratio.and_then(|(ours, theirs)| ours.over(theirs));
        format!(
            "| {} | {} | {} | {} | {} | {} | {verdict} |\n",
            self.title,
            self.ours.map_or_else(dash, Summary::show),
            self.peer,
            self.theirs.map_or_else(dash, Summary::show),
            ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            self.bar.map_or_else(dash, Bar::show),
        )
    }
}

/// Returns the middle of sorted figures, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[half - 1], sorted[half]),
        _ => sorted[half],
    }
}

/// Returns a figure with as many digits as anyone can use.
#[must_use]
pub fn show(figure: f64) -> String {
    match figure {
        large if large >= 10_000.0 => format!("{:.1} k", large / 1000.0),
        middle if middle >= 100.0 => format!("{middle:.0}"),
        small => {
            let digits = format!("{small:.3}");
            digits
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
        }
    }
}

/// Returns what a reader has to know about the machine.
#[must_use]
pub fn machine() -> String {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown CPU", |model| {
        model.trim_start_matches([' ', '\t', ':'])
    });
    let cpus = thread::available_parallelism().map_or(0, usize::from);
    let release = text("/proc/sys/kernel/osrelease");
    format!("{model}, {cpus} CPUs, Linux {}", release.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_do_not_mind_one_bad_round() {
        assert_eq!(median(&[1.0, 2.0, 90.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 90.0]), 3.0);
        assert_eq!(Summary::of(Vec::new()), None);
        let summary = Summary::of(vec![90_000.0, 10_000.0, 96_000.0]);
        assert_eq!(summary.unwrap().show(), "90.0 k (10.0 k-96.0 k)");
    }

    #[test]
    fn figures_have_the_digits_that_count() {
        let shown = [0.5, 2.0, 1.0 / 1.5, 123.4, 4_321.0, 54_321.0].map(show);
        assert_eq!(shown, ["0.5", "2", "0.667", "123", "4321", "54.3 k"]);
    }

    #[test]
    fn a_bar_is_judged_only_with_a_figure() {
        let of = |figure: f64| Summary::of(vec![figure]);
        let line = |judged| Line {
            title: "GET",
            ours: of(40.0),
            peer: "redis",
            theirs: of(50.0),
            bar: Some(Bar::AtLeast(1.5)),
            judged,
        };
        let text = |judged| line(judged).markdown();
        assert_eq!(text(None), "| GET | 40 | redis | 50 | 0.80 | >= 1.5 |  |\n");
        assert!(text(Some(0.8)).ends_with("| **miss** |\n"));
        assert!(text(Some(1.5)).ends_with("| pass |\n"));
    }
}
