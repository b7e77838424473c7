//! The bars of the engine. They are goals of this project and stand here only; a test that failed on
//! them would fail on every slow machine.
//!
//! Two are meant for more data than is the default: a restart with 20 GiB of tables (`--restart-gib`)
//! and 256 MiB of log, and memory with 8 GiB of data under a budget of 256 MiB.

use ashlar_benches::report::Bar;

use crate::report::{Measure, Side};

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
        (Measure::Fill, AtLeast(1.5)),
        (Measure::FillSettled, AtLeast(1.5)),
        (Measure::ReadRandom, AtLeast(2.0)),
        (Measure::SeekRandom, AtLeast(2.0)),
        (Measure::ReadSeq, AtLeast(1.0)),
        (Measure::FillCpu, AtMost(1.0 / 1.5)),
        (Measure::ReadRandomCpu, AtMost(0.5)),
        (Measure::SeekRandomCpu, AtMost(0.5)),
        (Measure::ReadSeqCpu, AtMost(1.0)),
    ] {
        rows.push(row(measure, Beside(Side::RocksDb), Some(bar)));
        for side in [Side::RocksDbAll, Side::Fjall, Side::Redb] {
            rows.push(row(measure, Beside(side), None));
        }
    }
    rows.extend([
        row(Measure::ColdReads, Alone, Some(AtMost(1.05))),
        row(Measure::ColdBytes, Alone, None),
        row(
            Measure::ColdRate1,
            Beside(Side::FioSame),
            Some(AtLeast(0.8)),
        ),
        row(
            Measure::ColdRate16,
            Beside(Side::FioSame),
            Some(AtLeast(0.8)),
        ),
        row(Measure::ColdCpu16, Alone, None),
        row(Measure::ColdRate1, Beside(Side::Fio4), None),
        row(Measure::ColdRate16, Beside(Side::Fio4), None),
        row(Measure::AbsentReads, Alone, Some(AtMost(2.0))),
        row(Measure::WriteAmplification, Alone, Some(AtMost(6.0))),
        row(Measure::WriteAmplificationLog, Alone, None),
        row(Measure::Space, Alone, Some(AtMost(1.6))),
        row(Measure::SpacePeak, Alone, None),
        row(
            Measure::Compaction,
            Beside(Side::FioMerge),
            Some(AtLeast(0.8)),
        ),
        row(Measure::CompactionCpu, Alone, None),
        row(Measure::Restart, Alone, Some(AtMost(2.0))),
        row(Measure::RestartCpu, Alone, None),
        row(Measure::Resident, Alone, None),
        row(Measure::ResidentShare, Alone, Some(AtMost(1.15))),
        row(Measure::TopRate, Alone, None),
        row(Measure::P99Quiet, Alone, None),
        row(
            Measure::P99Merging,
            Over(Measure::P99Quiet),
            Some(AtMost(2.0)),
        ),
        row(Measure::StallQuiet, Beside(Side::FioDurable), None),
        row(Measure::StallMerging, Alone, Some(AtMost(50.0))),
        row(Measure::StallMerging, Beside(Side::FioDurable), None),
    ]);
    rows
}
