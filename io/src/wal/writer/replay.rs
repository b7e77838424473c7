//! Reads durable records of a log back while it is written to: for those elsewhere that lag behind. Not
//! recovery: nothing is decided here, and whatever is not as it should be ends the reading.
//!
//! Invariant: while a replay is there, the log reuses none of the segments that it reads.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::Wal;
use crate::buffer::Buf;
use crate::file::File;
use crate::wal::format::{BLOCK_BYTES, Frames, Header, Kind, Position};

/// Size of one read, in bytes: at least the largest batch.
const READ_BYTES: u64 = 256 << 10;

/// A reading of a log from some position on.
#[derive(Debug)]
pub struct Replay {
    log_id: u64,
    segment_bytes: u64,
    segments: BTreeMap<u64, Rc<File>>,
    at: Position,
    end: Position,
    /// The record that is being put together; nothing before the first that begins here.
    record: Option<Vec<u8>>,
    read_bytes: u64,
}

impl Wal {
    /// Begins to read what is durable from `from` on, a position that [`Wal::position`] has given; nothing
    /// when that is not kept any more.
    #[must_use]
    pub fn replay(&self, from: Position) -> Option<Replay> {
        let is_kept = self.start <= from && from < self.durable_position;
        is_kept.then(|| Replay {
            log_id: self.options.log_id,
            segment_bytes: self.options.segment_bytes,
            segments: self
                .segments
                .range(from.0 / self.options.segment_bytes..)
                .map(|(number, file)| (*number, Rc::clone(file)))
                .collect(),
            at: from,
            end: self.durable_position,
            record: None,
            read_bytes: 0,
        })
    }
}

impl Replay {
    /// Returns the bytes read so far.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Reads some batches and hands on the records that end in them; `false` when there are none any more, or
    /// what is there cannot be read.
    ///
    /// # Errors
    /// What the operating system said.
    pub async fn read(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        if self.at >= self.end {
            return Ok(false);
        }
        let number = self.at.0 / self.segment_bytes;
        let offset = self.at.0 % self.segment_bytes;
        let Some(file) = self.segments.get(&number).cloned() else {
            return Ok(false);
        };
        let bytes = READ_BYTES.min(self.segment_bytes - offset);
        let buf = Buf::heap(usize::try_from(bytes).unwrap_or(0));
        let (result, buf) = file.read_at(buf, offset).await;
        let read = result?;
        self.read_bytes += read as u64;
        let taken = self.batches(&buf.as_slice()[..read], &mut take);
        if taken == 0 {
            // The rest of a segment is skipped when the next batch does not fit it.
            self.at = Position((number + 1) * self.segment_bytes);
            return Ok(offset > 0 && self.at < self.end);
        }
        Ok(true)
    }

    /// Takes the whole batches at the beginning of `bytes`; returns how many there were.
    fn batches(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> usize {
        let (mut rest, mut count) = (bytes, 0);
        while self.at < self.end && rest.len() >= BLOCK_BYTES {
            let header = Header::decode(rest);
            let own = |header: &Header| header.log_id == self.log_id && header.position == self.at;
            let Some(header) = header.filter(own) else {
                break;
            };
            let length = usize::try_from(header.batch_bytes()).unwrap_or(usize::MAX);
            let Some(payload) = rest.get(..length).and_then(|batch| header.payload(batch)) else {
                break;
            };
            for (kind, body) in Frames(payload) {
                self.frame(kind, body, take);
            }
            (rest, self.at) = (&rest[length..], header.end());
            count += 1;
        }
        count
    }

    fn frame(&mut self, kind: Kind, body: &[u8], take: &mut impl FnMut(&[u8])) {
        match kind {
            Kind::Whole => {
                self.record = None;
                take(body);
            }
            Kind::First => self.record = Some(body.to_vec()),
            Kind::Middle | Kind::Last => {
                if let Some(record) = &mut self.record {
                    record.extend_from_slice(body);
                }
                if kind == Kind::Last
                    && let Some(record) = self.record.take()
                {
                    take(&record);
                }
            }
        }
    }
}
