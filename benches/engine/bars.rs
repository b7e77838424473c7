//! The bars of the engine. They are goals of this project and stand here only; a test that failed on
//! them would fail on every slow machine.

use crate::report::{Measure, Side};

/// On which side of the bar it is good to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// The figure must not be below this.
    AtLeast(f64),
    /// The figure must not be above this.
    AtMost(f64),
}

/// What the bar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Our median itself.
    Alone,
    /// The ratio of our median to theirs.
    Beside(Side),
    /// The ratio of our median to that of another measure of ours.
    Over(Measure),
}

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    /// What is compared.
    pub(crate) measure: Measure,
    /// With what.
    pub(crate) judged: Judged,
    /// What has to be reached; a row without a bar is there to be read.
    pub(crate) bar: Option<Bar>,
}

impl Bar {
    /// Tells whether `figure` reaches the bar.
    pub(crate) fn is_reached(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bar) => figure >= bar,
            Self::AtMost(bar) => figure <= bar,
        }
    }

    /// Returns the bar as the report shows it.
    pub(crate) fn show(self) -> String {
        match self {
            Self::AtLeast(bar) => format!(">= {bar}"),
            Self::AtMost(bar) => format!("<= {bar}"),
        }
    }
}

/// Returns every row, in the order of the report.
pub(crate) fn rows() -> Vec<Row> {
    use Bar::{AtLeast, AtMost};
    use Judged::{Alone, Beside, Over};
    let row = |measure, judged, bar| Row {
        measure,
        judged,
        bar,
    };
    let mut rows = Vec::new();
    for (measure, bar) in [
        (Measure::Fill, AtLeast(1.0)),
        (Measure::FillSettled, AtLeast(1.0)),
        (Measure::ReadRandom, AtLeast(1.0)),
        (Measure::SeekRandom, AtLeast(1.0)),
        (Measure::ReadSeq, AtLeast(1.0)),
        (Measure::FillCpu, AtMost(1.0)),
        (Measure::ReadRandomCpu, AtMost(1.0)),
        (Measure::SeekRandomCpu, AtMost(1.0)),
        (Measure::ReadSeqCpu, AtMost(1.0)),
    ] {
        rows.push(row(measure, Beside(Side::RocksDb), Some(bar)));
        for side in [Side::RocksDbAll, Side::Fjall, Side::Redb] {
            rows.push(row(measure, Beside(side), None));
        }
    }
    rows.extend([
        row(Measure::ColdReads, Alone, Some(AtMost(1.05))),
        row(Measure::ColdRate1, Beside(Side::Fio16), Some(AtLeast(0.9))),
        row(Measure::ColdRate16, Beside(Side::Fio16), Some(AtLeast(0.9))),
        row(Measure::ColdRate1, Beside(Side::Fio4), None),
        row(Measure::ColdRate16, Beside(Side::Fio4), None),
        row(Measure::AbsentReads, Alone, Some(AtMost(2.0))),
        row(Measure::WriteAmplification, Alone, Some(AtMost(10.0))),
        row(Measure::WriteAmplificationLog, Alone, None),
        row(Measure::Space, Alone, Some(AtMost(1.6))),
        row(Measure::SpacePeak, Alone, None),
        row(
            Measure::Compaction,
            Beside(Side::FioMerge),
            Some(AtLeast(0.5)),
        ),
        row(Measure::CompactionCpu, Alone, None),
        row(Measure::Restart, Alone, None),
        row(Measure::Resident, Alone, Some(AtMost(256.0))),
        row(Measure::TopRate, Alone, None),
        row(Measure::P99Quiet, Alone, None),
        row(
            Measure::P99Merging,
            Over(Measure::P99Quiet),
            Some(AtMost(2.0)),
        ),
    ]);
    rows
}
