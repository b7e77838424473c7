//! What was measured, and the table made of it: medians over the rounds, their spread, ratios, bars.

use ashlar_benches::program::Failures;
use ashlar_benches::report::{HEADER, Line, Summary, machine, show};

use crate::bars::{self, Judged, Row};
use crate::cpu::Took;
use crate::options::Options;

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Keys set in a second, in random order.
    Fill,
    /// The same, up to when nothing is left to merge.
    FillSettled,
    /// Keys read in a second, from memory.
    ReadRandom,
    /// Seeks in a second, each with the ten keys behind it, from memory.
    SeekRandom,
    /// Keys walked over in a second, from memory.
    ReadSeq,
    /// CPU time of the four in microseconds; of a fill with all that went on beside it.
    FillCpu,
    /// See there.
    ReadRandomCpu,
    /// See there.
    SeekRandomCpu,
    /// See there.
    ReadSeqCpu,
    /// Reads of the disk for a key that is there.
    ColdReads,
    /// KiB of such a read, on average and in whole sectors.
    ColdBytes,
    /// Keys read in a second from disk, one at a time.
    ColdRate1,
    /// The same, sixteen at a time.
    ColdRate16,
    /// Microseconds of CPU time for each of these.
    ColdCpu16,
    /// Share of the reads of keys that are not there that go to the disk, in percent.
    AbsentReads,
    /// Bytes written to tables for each byte of keys and values.
    WriteAmplification,
    /// The same with the log.
    WriteAmplificationLog,
    /// Bytes of tables for each byte of keys and values, when nothing is left to merge.
    Space,
    /// The most there ever were.
    SpacePeak,
    /// MiB written in a second by merges when there is nothing else to do.
    Compaction,
    /// Milliseconds of CPU time for each of them.
    CompactionCpu,
    /// Seconds until a killed node answers again.
    Restart,
    /// Seconds of CPU time in these: what is left of them where others use the machine as well.
    RestartCpu,
    /// MiB of resident memory, the most there were.
    Resident,
    /// The same, for each MiB that the node was given.
    ResidentShare,
    /// Durable writes in a second, as many as go.
    TopRate,
    /// 99th percentile of a durable write at 70 % of that, in microseconds, nothing being merged.
    P99Quiet,
    /// The same while tables are flushed and merged.
    P99Merging,
    /// The longest durable write meanwhile, in milliseconds.
    StallMerging,
    /// The longest when nothing is merged.
    StallQuiet,
}

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// This engine, or the node.
    Ashlar,
    /// db_bench on one CPU.
    RocksDb,
    /// db_bench on as many as there are.
    RocksDbAll,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// fio: blocks of 4 KiB where the size matters.
    Fio4,
    /// fio: blocks as large as what is read here on average.
    FioSame,
    /// fio: durable writes one at a time, and as many bytes written beside them as the node wrote.
    FioDurable,
    /// fio: what a merge of so many bytes would take if it only read and wrote.
    FioMerge,
}

impl Measure {
    /// Returns the measure of the CPU time of an operation, if there is one.
    pub(crate) fn cpu(self) -> Option<Self> {
        match self {
            Self::Fill => Some(Self::FillCpu),
            Self::ReadRandom => Some(Self::ReadRandomCpu),
            Self::SeekRandom => Some(Self::SeekRandomCpu),
            Self::ReadSeq => Some(Self::ReadSeqCpu),
            _ => None,
        }
    }

    /// Returns the name in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Fill => "fillrandom, op/s",
            Self::FillSettled => "fillrandom with all merges, op/s",
            Self::ReadRandom => "readrandom from memory, op/s",
            Self::SeekRandom => "seekrandom and 10 next from memory, op/s",
            Self::ReadSeq => "readseq from memory, keys/s",
            Self::FillCpu => "fillrandom, CPU us per op, flushes and merges included",
            Self::ReadRandomCpu => "readrandom from memory, CPU us per op",
            Self::SeekRandomCpu => "seekrandom and 10 next from memory, CPU us per op",
            Self::ReadSeqCpu => "readseq from memory, CPU us per key",
            Self::ColdReads => "cold get of a present key, reads of the disk",
            Self::ColdBytes => "size of such a read, KiB, mean in whole sectors",
            Self::ColdRate1 => "cold get of a present key, 1 at a time, op/s",
            Self::ColdRate16 => "cold get of a present key, 16 at a time, op/s",
            Self::ColdCpu16 => "the same, CPU us for each",
            Self::AbsentReads => "cold get of an absent key, % that touch the disk",
            Self::WriteAmplification => "write amplification of uniform overwrites, tables",
            Self::WriteAmplificationLog => "the same, log included",
            Self::Space => "space, x of the live bytes, settled",
            Self::SpacePeak => "space, x of the live bytes, at most",
            Self::Compaction => "merges of an idle engine, MiB/s written",
            Self::CompactionCpu => "merges of an idle engine, CPU ms per MiB written",
            Self::Restart => "restart after kill -9, s",
            Self::RestartCpu => "the same, CPU s",
            Self::Resident => "resident memory, MiB",
            Self::ResidentShare => "resident memory, x of the budget",
            Self::TopRate => "durable SET, top rate, op/s",
            Self::P99Quiet => "p99 of durable SET at 70 %, no merges, us",
            Self::P99Merging => "p99 of durable SET at 70 %, with merges, us",
            Self::StallQuiet => "longest durable SET at 70 %, no merges, ms",
            Self::StallMerging => "longest durable SET at 70 %, with merges, ms",
        }
    }
}

impl Side {
    /// Returns the name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ashlar => "ashlar",
            Self::RocksDb => "RocksDB, 1 CPU",
            Self::RocksDbAll => "RocksDB, all CPUs",
            Self::Fjall => "fjall, 1 CPU",
            Self::Redb => "redb",
            Self::Fio4 => "fio 4 KiB",
            Self::FioSame => "fio, reads of that size",
            Self::FioDurable => "fio, durable writes",
            Self::FioMerge => "fio, read and write in turn",
        }
    }
}

/// All that was measured, and what could not be.
#[derive(Debug)]
pub(crate) struct Report {
    /// What did not run.
    pub(crate) failures: Failures,
    figures: Vec<(Side, Measure, f64)>,
    /// Figures from here on are of the part that runs.
    round: usize,
    conditions: String,
}

impl Report {
    /// Makes an empty report of a run with these options.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            failures: Failures::default(),
            figures: Vec::new(),
            round: 0,
            conditions: conditions(options),
        }
    }

    /// Adds a figure.
    pub(crate) fn add(&mut self, side: Side, measure: Measure, figure: f64) {
        eprintln!("  {}: {} = {}", side.name(), measure.title(), show(figure));
        self.figures.push((side, measure, figure));
    }

    /// Adds what operations took: their rate, and their CPU time.
    pub(crate) fn add_rate(&mut self, side: Side, measure: Measure, took: &Took) {
        self.add(side, measure, took.per_s);
        if let Some(cpu) = measure.cpu() {
            self.add(side, cpu, took.cpu_us);
        }
    }

    /// Adds a figure, in place of the one that this part has given before.
    pub(crate) fn set(&mut self, side: Side, measure: Measure, figure: f64) {
        let mut of_part = self.figures.drain(self.round..).collect::<Vec<_>>();
        of_part.retain(|known| (known.0, known.1) != (side, measure));
        self.figures.extend(of_part);
        self.add(side, measure, figure);
    }

    /// Ends a part: what follows is another round.
    pub(crate) fn close_round(&mut self) {
        self.round = self.figures.len();
    }

    /// Returns the report in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.conditions);
        text += HEADER;
        for row in bars::rows() {
            text += &self.row(row).unwrap_or_default();
        }
        text + &self.failures.markdown()
    }

    /// Returns a row, when our side was measured; one without the peer only if it has a bar.
    fn row(&self, row: Row) -> Option<String> {
        let ours = self.summary(Side::Ashlar, row.measure)?;
        let (name, theirs) = match row.judged {
            Judged::Alone => ("", None),
            Judged::Beside(side) => match self.summary(side, row.measure) {
                None if row.bar.is_none() => return None,
                theirs => (side.name(), theirs),
            },
            Judged::Over(measure) => (measure.title(), Some(self.summary(Side::Ashlar, measure)?)),
        };
        let judged = match row.judged {
            Judged::Alone => Some(ours.median),
            Judged::Beside(_) | Judged::Over(_) => theirs.and_then(|theirs| ours.over(theirs)),
        };
        let line = Line {
            title: row.measure.title(),
            ours: Some(ours),
            peer: name,
            theirs,
            bar: row.bar,
            judged,
        };
        Some(line.markdown())
    }

    /// Returns median and spread of what was measured of a side.
    fn summary(&self, side: Side, measure: Measure) -> Option<Summary> {
        let of_it = self
            .figures
            .iter()
            .filter(|figure| (figure.0, figure.1) == (side, measure));
        Summary::of(of_it.map(|figure| figure.2).collect())
    }
}

/// Returns what a reader has to know about the machine and the run.
fn conditions(options: &Options) -> String {
    format!(
        "{}; engines on CPU {}, clients on CPU {}; medians (and spread) of {} rounds; \
         {} keys of 16 bytes with values of 100 bytes, {} reads, {} MiB of cache, {} MiB for memtables.",
        machine(),
        options.cpu,
        options.client_cpu,
        options.rounds,
        options.keys,
        options.reads,
        options.cache_mib,
        options.memtable_mib,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ours: &[f64], theirs: &[f64]) -> Report {
        let mut report = Report::new(&Options::parse(std::iter::empty()).unwrap());
        for figure in ours {
            report.add(Side::Ashlar, Measure::ReadRandom, *figure);
        }
        for figure in theirs {
            report.add(Side::RocksDb, Measure::ReadRandom, *figure);
        }
        report
    }

    #[test]
    fn medians_do_not_mind_one_bad_round() {
        let text = report(&[600_000.0, 1.0, 600_000.0], &[300_000.0]).markdown();
        assert!(text.contains("| 300.0 k | 2.00 |"), "{text}");
    }

    #[test]
    fn without_the_peer_there_is_no_verdict() {
        let text = report(&[600_000.0], &[]).markdown();
        assert!(
            text.contains("| 600.0 k | RocksDB, 1 CPU | - | - | >= 2 |  |"),
            "{text}"
        );
        assert!(!text.contains("all CPUs"), "{text}");
    }

    #[test]
    fn a_figure_of_the_same_part_is_replaced() {
        let mut report = report(&[], &[1.0]);
        report.close_round();
        report.set(Side::RocksDb, Measure::ReadRandom, 5.0);
        report.set(Side::RocksDb, Measure::ReadRandom, 3.0);
        let figures: Vec<f64> = report.figures.iter().map(|figure| figure.2).collect();
        assert_eq!(figures, [1.0, 3.0]);
    }
}
