//! The writing end of the log: fill, seal, write, note what is durable.

mod release;
mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

pub use self::replay::Replay;
use super::format::{self, FRAME_BYTES, HEADER_BYTES, Header, Kind, Position};
use super::reader::Recovered;
use super::segment::Pool;
use super::{Durability, Failed, GrowthFailure, Mark, Options};
use crate::buffer::Buf;
use crate::file::{Durable, File};
use crate::reactor::{Operation, Reactor};
use crate::time::Monotonic;

/// A batch is large, and goes beside another write, from this part of the most that it may hold.
const LARGE_PART: usize = 4;

/// Powers of two that sizes of batches are counted by: from 4 KiB to the largest that the configuration allows.
pub const BATCH_SIZES: usize = 7;

/// A batch that takes records, or waits for its write.
#[derive(Debug)]
struct Batch {
    mark: Mark,
    buf: Buf,
    /// Bytes in use, header included.
    used: usize,
    frames: u32,
}

#[derive(Debug)]
struct InFlight {
    mark: Mark,
    segment: u64,
    position: Position,
    end: Position,
    write: Option<Operation>,
    since: Monotonic,
}

/// Most write times that are kept; more are not noted until they are taken.
const WRITE_TIMES_MAX: usize = 64;

#[derive(Debug)]
struct Syncing {
    sync: Operation,
    segment: u64,
    /// All marks below this are durable when the sync is done.
    upto: Mark,
}

/// The log of one shard, open for appending.
#[derive(Debug)]
pub struct Wal {
    reactor: Reactor,
    options: Options,
    generation: u32,
    /// Live segments by number; the last one is written to.
    segments: BTreeMap<u64, Rc<File>>,
    pool: Rc<Pool>,
    /// Where the next batch begins, unless it does not fit its segment.
    next: Position,
    /// Where the last sealed batch ended.
    previous: Position,
    filling: Option<Batch>,
    sealed: VecDeque<Batch>,
    /// Marks given: the batch being filled has this one.
    mark: Mark,
    in_flight: VecDeque<InFlight>,
    syncing: Option<Syncing>,
    durable: Mark,
    durable_position: Position,
    /// All before this is said to be durable by a batch behind it, or holds nothing.
    attested: Position,
    start: Position,
    /// Segments before `start`, reusable once this mark is durable.
    releasing: VecDeque<(Mark, File)>,
    /// The first failed write or sync: the log's end.
    failed: Option<Failed>,
    /// How long writes took until they were durable, since somebody asked.
    took_us: Vec<u32>,
    batches: u64,
    batch_bytes: u64,
    payload_bytes: u64,
    /// Batches by their size: see [`Wal::batch_sizes`].
    sizes: [u64; BATCH_SIZES],
}

impl Wal {
    /// Opens the log for appending where [`recover`](super::recover) found its end.
    ///
    /// # Panics
    /// When the options contradict each other: a batch is not a number of blocks, or does not fit a
    /// segment.
    #[must_use]
    pub fn open(reactor: &Reactor, options: Options, recovered: Recovered) -> Self {
        assert!(
            options.batch_bytes.is_multiple_of(format::BLOCK_BYTES) && options.inflight_max > 0
        );
        assert!(
            options.segment_bytes >= options.batch_bytes as u64,
            "a batch fits a segment"
        );
        let Recovered {
            segments,
            spares,
            next_name,
            end,
            start,
            generation,
            ..
        } = recovered;
        let pool = Pool::new(
            reactor,
            &options.dir,
            options.segment_bytes,
            options.segments_spare,
            next_name,
        );
        spares.into_iter().for_each(|spare| pool.put(spare));
        pool.refill();
        Self {
            reactor: reactor.clone(),
            options,
            generation,
            segments: segments
                .into_iter()
                .map(|(number, file)| (number, Rc::new(file)))
                .collect(),
            pool,
            next: end,
            previous: end,
            filling: None,
            sealed: VecDeque::new(),
            mark: Mark(1),
            in_flight: VecDeque::new(),
            syncing: None,
            durable: Mark(1),
            durable_position: end,
            attested: start,
            start,
            releasing: VecDeque::new(),
            failed: None,
            took_us: Vec::new(),
            batches: 0,
            batch_bytes: 0,
            payload_bytes: 0,
            sizes: [0; BATCH_SIZES],
        }
    }

    /// Returns the bytes of records that can surely be appended now.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        let batch = self.options.batch_bytes as u64;
        let here = if self.segments.is_empty() {
            0
        } else {
            self.segment_end().saturating_sub(self.next.0)
        };
        // The end of each segment may be skipped, when the next batch does not fit it.
        let whole = self.options.segment_bytes - batch.min(self.options.segment_bytes / 2);
        let spare = self.pool.ready() as u64 * whole;
        let queued = (self.sealed.len() as u64 + 2) * batch;
        // Frames and headers take a little of each batch.
        (here + spare).saturating_sub(queued) / 64 * 60
    }

    /// Returns the mark of the batch that takes records, if there is one with any.
    #[must_use]
    pub fn filling(&self) -> Option<Mark> {
        self.filling.as_ref().map(|batch| batch.mark)
    }

    /// Returns how many batches were written whose size on disk is at most 4 KiB times this power of two and more than
    /// that of the one before; the last one counts all that are larger, too.
    #[must_use]
    pub fn batch_sizes(&self) -> [u64; BATCH_SIZES] {
        self.sizes
    }

    /// Has so many segments made ready that records of `bytes` fit.
    pub fn want(&self, bytes: u64) {
        let queued = (self.sealed.len() as u64 + 3) * self.options.batch_bytes as u64;
        let needed = (bytes / 60 * 64 + queued) / (self.options.segment_bytes / 2) + 1;
        self.pool
            .want(usize::try_from(needed).unwrap_or(usize::MAX));
    }

    /// Returns what keeps new segments from being made, if anything does: a full disk above all. It
    /// clears by itself.
    #[must_use]
    pub fn failure(&self) -> Option<io::ErrorKind> {
        self.pool.failure()
    }

    /// Returns what keeps new segments from being made with the file that could not be, for people.
    #[must_use]
    pub fn growth_failure(&self) -> Option<GrowthFailure> {
        self.pool.growth_failure()
    }

    /// Appends one record, in parts; returns the mark at which it is durable. The bytes are copied.
    ///
    /// # Panics
    /// When the log has failed: its owner has been told by [`Wal::poll`] and must have stopped.
    pub fn append(&mut self, parts: &[&[u8]]) -> Mark {
        assert!(self.failed.is_none(), "nothing is appended to a failed log");
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        self.payload_bytes += left as u64;
        let mut parts = parts.iter().copied();
        let (mut part, mut begins): (&[u8], bool) = (&[], true);
        loop {
            let batch = self.batch_with_room();
            let space = batch.buf.len() - batch.used - FRAME_BYTES;
            let length = space.min(left);
            let kind = Kind::of_part(begins, length == left);
            let at = batch.used;
            let out = &mut batch.buf.as_mut_slice()[at..at + FRAME_BYTES + length];
            format::encode_frame(
                kind,
                u32::try_from(length).expect("a batch is below 4 GiB"),
                out,
            );
            let mut filled = FRAME_BYTES;
            while filled < out.len() {
                if part.is_empty() {
                    part = parts.next().expect("as many bytes as were counted");
                    continue;
                }
                let n = part.len().min(out.len() - filled);
                out[filled..filled + n].copy_from_slice(&part[..n]);
                part = &part[n..];
                filled += n;
            }
            batch.used += FRAME_BYTES + length;
            batch.frames += 1;
            left -= length;
            begins = false;
            if left == 0 {
                return self.mark;
            }
        }
    }

    /// Returns the batch being filled, a new one when there is none or it is full.
    fn batch_with_room(&mut self) -> &mut Batch {
        let full = |batch: &Batch| batch.buf.len() - batch.used < FRAME_BYTES + 16;
        if self.filling.as_ref().is_some_and(full) {
            self.sealed.extend(self.filling.take());
            self.mark.0 += 1;
        }
        let (reactor, bytes, mark) = (&self.reactor, self.options.batch_bytes, self.mark);
        self.filling.get_or_insert_with(|| Batch {
            mark,
            buf: reactor.buffer(bytes),
            used: HEADER_BYTES,
            frames: 0,
        })
    }

    /// Starts the writes that may start: full batches first, then the one being filled. That one
    /// goes at once when nothing is in flight; beside another write it goes only when it is large,
    /// for many small writes in flight cost more than they bring (measured: durable SET without
    /// pipeline is a tenth faster with one). Called at the end of each turn.
    pub fn flush(&mut self) {
        loop {
            let in_flight = self.in_flight_writes();
            if in_flight >= self.options.inflight_max || self.failed.is_some() {
                return;
            }
            let large = self.options.batch_bytes / LARGE_PART;
            let small = self.filling.as_ref().is_none_or(|batch| batch.used < large);
            if in_flight > 0 && self.sealed.is_empty() && small {
                return;
            }
            let from_sealed = !self.sealed.is_empty();
            let next = if from_sealed {
                self.sealed.front()
            } else {
                self.filling.as_ref()
            };
            let Some(bytes) = next.map(|batch| batch.used.next_multiple_of(format::BLOCK_BYTES))
            else {
                return;
            };
            if !self.make_place(bytes as u64) {
                return;
            }
            let batch = if from_sealed {
                self.sealed.pop_front()
            } else {
                self.filling.take()
            };
            let Some(batch) = batch else { return };
            self.write(batch);
            if !from_sealed {
                self.mark.0 += 1;
            }
        }
    }

    fn in_flight_writes(&self) -> usize {
        self.in_flight
            .iter()
            .filter(|flight| flight.write.is_some())
            .count()
    }

    fn segment_end(&self) -> u64 {
        let number = self
            .segments
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        (number + 1) * self.options.segment_bytes
    }

    /// Makes sure that a batch of `bytes` fits at `next`, rolling to a new segment if it must; says
    /// whether it does.
    fn make_place(&mut self, bytes: u64) -> bool {
        if !self.segments.is_empty() && self.next.0 + bytes <= self.segment_end() {
            return true;
        }
        let number = self.next.0.div_ceil(self.options.segment_bytes);
        let number = self
            .segments
            .last_key_value()
            .map_or(number, |(last, _)| last + 1);
        let Some(file) = self.pool.take() else {
            self.pool.want(1);
            return false;
        };
        self.segments.insert(number, Rc::new(file));
        self.next = Position(number * self.options.segment_bytes);
        true
    }

    /// Seals a batch and starts its write.
    fn write(&mut self, batch: Batch) {
        let Batch {
            mark,
            mut buf,
            used,
            frames,
        } = batch;
        let bytes = used.next_multiple_of(format::BLOCK_BYTES);
        buf.set_len(bytes);
        buf.as_mut_slice()[used..].fill(0);
        let header = Header {
            payload_crc: format::crc32c(&buf.as_slice()[HEADER_BYTES..used]),
            length: u32::try_from(used - HEADER_BYTES).expect("a batch is below 4 GiB"),
            log_id: self.options.log_id,
            generation: self.generation,
            frames,
            position: self.next,
            previous: self.previous,
            durable: self.durable_position,
            start: self.start,
            sealed_us: self.reactor.wall().0,
        };
        header.encode(buf.as_mut_slice());
        let segment = self.next.0 / self.options.segment_bytes;
        let offset = self.next.0 % self.options.segment_bytes;
        let durable = if self.options.durability == Durability::Dsync {
            Durable::Yes
        } else {
            Durable::No
        };
        let write = self.segments[&segment].start_write(buf, offset, durable);
        let end = header.end();
        self.in_flight.push_back(InFlight {
            mark,
            segment,
            position: self.next,
            end,
            write: Some(write),
            since: self.reactor.now(),
        });
        (self.previous, self.next) = (end, end);
        let blocks = bytes / format::BLOCK_BYTES;
        let power = blocks.next_power_of_two().ilog2() as usize;
        self.sizes[power.min(BATCH_SIZES - 1)] += 1;
        self.batches += 1;
        self.batch_bytes += bytes as u64;
    }

    /// Takes completed writes and returns the durable mark: every record whose mark is below it is
    /// durable.
    ///
    /// # Errors
    /// A write or sync failed, now or in an earlier call. The node must stop: whether the bytes are
    /// on disk is not known, and the kernel may have dropped them from its cache, so trying again
    /// would prove nothing.
    pub fn poll(&mut self) -> Result<Mark, Failed> {
        if let Some(failed) = &self.failed {
            return Err(failed.again());
        }
        let mut failure = None;
        for flight in &mut self.in_flight {
            let Some(finished) = flight.write.as_mut().and_then(Operation::take) else {
                continue;
            };
            flight.write = None;
            if let Err(error) = finished.result {
                failure.get_or_insert((flight.segment, flight.position, error));
            }
        }
        if let Some((segment, position, error)) = failure {
            return Err(self.fail(segment, position, error));
        }
        match self.options.durability {
            Durability::Dsync | Durability::None => self.advance(Mark(u64::MAX)),
            Durability::Fdatasync => self.poll_sync()?,
        }
        self.reuse_released();
        Ok(self.durable)
    }

    fn fail(&mut self, segment: u64, position: Position, error: io::Error) -> Failed {
        self.pool.stop();
        let path = self.segments[&segment].path().to_owned();
        let failed = Failed {
            path,
            offset: position.0 % self.options.segment_bytes,
            error,
        };
        self.failed = Some(failed.again());
        failed
    }

    /// Counts the written batches at the front as durable, up to `upto`.
    fn advance(&mut self, upto: Mark) {
        while let Some(flight) = self.in_flight.front() {
            if flight.write.is_some() || flight.mark >= upto {
                break;
            }
            self.durable = Mark(flight.mark.0 + 1);
            self.durable_position = flight.end;
            let took = self.reactor.now().since(flight.since);
            self.in_flight.pop_front();
            if self.took_us.len() < WRITE_TIMES_MAX {
                self.took_us
                    .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
        }
    }

    /// The fdatasync method: a sync covers the writes that completed before it began, in one
    /// segment.
    fn poll_sync(&mut self) -> Result<(), Failed> {
        if let Some(syncing) = &mut self.syncing
            && let Some(finished) = syncing.sync.take()
        {
            let (segment, upto) = (syncing.segment, syncing.upto);
            self.syncing = None;
            if let Err(error) = finished.result {
                let position = self
                    .in_flight
                    .front()
                    .map_or(self.next, |flight| flight.position);
                return Err(self.fail(segment, position, error));
            }
            self.advance(upto);
        }
        let Some(first) = self.in_flight.front() else {
            return Ok(());
        };
        if self.syncing.is_some() || first.write.is_some() {
            return Ok(());
        }
        let segment = first.segment;
        let written = self
            .in_flight
            .iter()
            .take_while(|f| f.write.is_none() && f.segment == segment);
        let upto = Mark(written.last().expect("the first one is").mark.0 + 1);
        let sync = self.segments[&segment].start_sync();
        self.syncing = Some(Syncing {
            sync,
            segment,
            upto,
        });
        Ok(())
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.pool.stop();
    }
}
