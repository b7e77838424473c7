//! The latencies of each second as a log of HdrHistogram's format, version 2: a line for each second and kind, tagged
//! with server, phase and kind, in nanoseconds, compressed. Written while the run goes on, so that an early end keeps
//! what was.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use crate::bench::engine::{Part, Second};

/// An open log.
pub(crate) struct HdrLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl std::fmt::Debug for HdrLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HdrLog")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl HdrLog {
    /// Makes the file and writes its head.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn create(path: &Path, comment: &str, started: SystemTime) -> Result<Self, String> {
        let told = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let mut log = Self {
            path: path.to_owned(),
            file: BufWriter::new(File::create(path).map_err(told)?),
            serializer: V2DeflateSerializer::new(),
        };
        let mut head = IntervalLogWriterBuilder::new();
        head.add_comment("[Histogram log format version 1.3]");
        head.add_comment(comment).with_start_time(started);
        head.begin_log_with(&mut log.file, &mut log.serializer)
            .map_err(told)?;
        let legend = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";
        log.file.write_all(legend.as_bytes()).map_err(told)?;
        Ok(log)
    }

    /// Appends a second of a server and phase; `since` is from the start of the log to that of the phase.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn append(
        &mut self,
        (server, phase): (&str, &str),
        since: Duration,
        second: &Second,
    ) -> Result<(), String> {
        if second.part == Part::WarmUp {
            return Ok(());
        }
        // A builder without a head writes nothing but the lines.
        let plain = IntervalLogWriterBuilder::new();
        for (kind, of) in second
            .tally
            .kinds()
            .filter(|(_, of)| !of.response.is_empty())
        {
            let from = since + second.until.saturating_sub(second.length);
            let name =
                format!("{server}:{phase}:{}", kind.name()).replace([',', ' ', '\n', '\r'], "_");
            let written = plain
                .begin_log_with(&mut self.file, &mut self.serializer)
                .map_err(IntervalLogWriterError::IoError)
                .and_then(|mut log| {
                    log.write_histogram(&of.response, from, second.length, Tag::new(&name))
                });
            written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        }
        let flushed = self.file.flush();
        flushed.map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::mix::Kind;
    use crate::bench::tally::Tally;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn what_was_logged_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.hlog");
        let mut log = HdrLog::create(&path, "ashlar bench -c 3", SystemTime::UNIX_EPOCH).unwrap();
        let mut tally = Tally::default();
        for us in [10, 20, 30_000] {
            tally.record(
                Kind::Get,
                Duration::from_micros(us),
                Duration::from_micros(1),
            );
        }
        tally.record(Kind::Set, Duration::from_secs(2), Duration::from_micros(1));
        let mut second = Second {
            number: 0,
            part: Part::WarmUp,
            until: Duration::from_secs(3),
            length: Duration::from_secs(1),
            tally,
            in_flight: 0,
        };
        log.append(("a server, here", "run"), Duration::from_secs(5), &second)
            .unwrap();
        second.part = Part::Measured;
        log.append(("a server, here", "run"), Duration::from_secs(5), &second)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&bytes)
            .map(Result::unwrap)
            .collect();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 2, "the warm-up is not logged");
        assert_eq!(
            intervals[0].tag().unwrap().as_str(),
            "a_server__here:run:get"
        );
        assert_eq!(intervals[0].start_timestamp(), Duration::from_secs(7));
        let coded = base64_decode(intervals[0].encoded_histogram());
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut coded.as_slice())
            .unwrap();
        assert_eq!(read.len(), 3);
        assert!(
            (read.max() as f64 / 30e6 - 1.0).abs() < 0.001,
            "{}",
            read.max()
        );
    }

    /// The standard alphabet; the crate that has it is not ours.
    fn base64_decode(text: &str) -> Vec<u8> {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
        for byte in text.bytes().filter(|byte| *byte != b'=') {
            let value = alphabet.iter().position(|letter| *letter == byte).unwrap();
            let value = u32::try_from(value).unwrap();
            (bits, count) = ((bits << 6) | value, count + 6);
            if count >= 8 {
                count -= 8;
                out.push((bits >> count).to_le_bytes()[0]);
            }
        }
        out
    }
}
