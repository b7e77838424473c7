//! Reading segments from front to back, and looking through them for batch headers that the walk
//! does not meet. Not the decision what they mean: that is the reader's.
//!
//! Invariant: what a whole header says of `durable` was true when it was sealed, whatever has
//! become of its batch, so the largest that is found anywhere counts.

use super::Options;
use super::format::{self, Header, Position};
use super::reader::{Numbered, RecoverError, io_error};
use crate::buffer::Buf;
use crate::file::{self, File};
use crate::reactor::{Operation, Reactor};

/// Size of one read, in bytes.
const READ_BYTES: usize = 1 << 20;

/// Reads a segment from front to back, one read ahead.
pub(super) struct Stream<'a> {
    file: &'a File,
    reactor: &'a Reactor,
    /// Bytes read and not consumed begin here.
    bytes: Vec<u8>,
    consumed: usize,
    next_offset: u64,
    end: u64,
    ahead: Option<Operation>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(file: &'a File, offset: u64, end: u64, reactor: &'a Reactor) -> Self {
        let mut stream = Self {
            file,
            reactor,
            bytes: Vec::new(),
            consumed: 0,
            next_offset: offset,
            end,
            ahead: None,
        };
        stream.read_ahead();
        stream
    }

    fn read_ahead(&mut self) {
        let bytes = (self.end - self.next_offset).min(READ_BYTES as u64);
        if bytes == 0 {
            return;
        }
        let buf = Buf::heap(usize::try_from(bytes).expect("at most READ_BYTES"));
        self.ahead = Some(self.file.start_read(buf, self.next_offset));
        self.next_offset += bytes;
    }

    /// Returns the unconsumed bytes, at least `count` of them unless the segment ends before.
    pub(super) async fn at_least(&mut self, count: usize) -> Result<&[u8], RecoverError> {
        while self.bytes.len() - self.consumed < count {
            let Some(ahead) = self.ahead.take() else {
                break;
            };
            let (result, buf) = file::split(ahead.await);
            let read = result.map_err(io_error("read", self.file.path()))?;
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
            self.bytes.extend_from_slice(&buf.as_slice()[..read]);
            self.read_ahead();
            // Long recoveries let the shard's other tasks run.
            if self.reactor.tasks() > 1 {
                crate::reactor::yield_now().await;
            }
        }
        Ok(&self.bytes[self.consumed..])
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
    }
}

/// Hands every whole batch header of this log in `file` from offset `from` on to `take`.
async fn headers(
    reactor: &Reactor,
    options: &Options,
    file: &File,
    from: u64,
    mut take: impl FnMut(&Header),
) -> Result<(), RecoverError> {
    let mut stream = Stream::new(file, from, options.segment_bytes, reactor);
    let mut offset = from;
    loop {
        let bytes = stream.at_least(READ_BYTES).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len();
        for block in bytes.chunks(format::BLOCK_BYTES) {
            // A header at a place that is not its own is content of a record.
            let here = |header: &Header| header.position.0 % options.segment_bytes == offset;
            if let Some(header) =
                Header::decode(block).filter(|h| h.log_id == options.log_id && here(h))
            {
                take(&header);
            }
            offset += block.len() as u64;
        }
        stream.consume(length);
    }
}

/// What whole batch headers at or behind the log's end say.
#[derive(Default)]
pub(super) struct Later {
    pub(super) durable: Position,
    pub(super) generation: u32,
    pub(super) found: bool,
}

impl Later {
    /// Looks at every block that the walk from segment `first` to `end` did not take in.
    pub(super) async fn scan(
        reactor: &Reactor,
        options: &Options,
        numbered: &Numbered,
        spares: &[(Option<Header>, File)],
        (first, end): (u64, Position),
    ) -> Result<Self, RecoverError> {
        let mut later = Self::default();
        let end_number = end.0 / options.segment_bytes;
        for (number, (_, file)) in numbered {
            if !(first..end_number).contains(number) {
                let from = if *number == end_number {
                    end.0 % options.segment_bytes
                } else {
                    0
                };
                headers(reactor, options, file, from, |header| {
                    later.note(header, end)
                })
                .await?;
            }
        }
        for (_, file) in spares {
            headers(reactor, options, file, 0, |header| later.note(header, end)).await?;
        }
        Ok(later)
    }

    fn note(&mut self, header: &Header, end: Position) {
        if header.position >= end {
            self.found = true;
            self.durable = self.durable.max(header.durable);
            self.generation = self.generation.max(header.generation);
        }
    }
}
