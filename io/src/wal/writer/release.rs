//! Letting go of the log's beginning, and what the log tells of itself.

use std::rc::Rc;
use std::time::Duration;

use super::Wal;
use crate::wal::{Backlog, Mark, Position};

/// A write that is under way says nothing of the disk before it has been for so long, in microseconds.
const UNDER_WAY_US_MIN: u32 = 1_000;

impl Wal {
    /// Takes how long writes took until they were durable, in microseconds: of some since the last call, or, when
    /// there was none, how long the oldest has been under way.
    pub fn take_write_times(&mut self) -> Vec<u32> {
        let mut took_us = std::mem::take(&mut self.took_us);
        if let (true, Some(oldest)) = (took_us.is_empty(), self.in_flight.front()) {
            let under_way = self.reactor.now().since(oldest.since).as_micros();
            let under_way_us = u32::try_from(under_way).unwrap_or(u32::MAX);
            took_us.extend(Some(under_way_us).filter(|us| *us >= UNDER_WAY_US_MIN));
        }
        took_us
    }

    /// Writes an empty batch when the last record is durable but nothing on disk says so yet: from
    /// then on its damage is told from a torn tail. Does so too when segments wait to be reused,
    /// which takes a batch with the new start. Called when the shard has been idle for a while, and
    /// before a clean stop.
    pub fn attest(&mut self) {
        let wanted = self.attested < self.durable_position || !self.releasing.is_empty();
        if wanted && self.is_idle() && self.failed.is_none() {
            self.batch_with_room();
            self.flush();
            // The empty batch holds nothing whose damage would matter.
            self.attested = self.next;
        }
    }

    /// Makes no more segments than what was appended needs: the log is about to end.
    pub fn wind_down(&self) {
        self.pool.wind_down();
    }

    /// Says that nothing before `below` is needed, as far as it is durable. Whole segments before
    /// it are reused, later.
    pub fn release(&mut self, below: Position) {
        self.start = self.start.max(below.min(self.durable_position));
        self.let_go();
    }

    /// Takes the segments before the start out of the log; those that are still written to wait for
    /// a later turn.
    fn let_go(&mut self) {
        let last = self
            .segments
            .last_key_value()
            .map_or(0, |(number, _)| *number);
        let keep = (self.start.0 / self.options.segment_bytes).min(last);
        while let Some(entry) = self.segments.first_entry() {
            let number = *entry.key();
            let is_written = self.in_flight.iter().any(|flight| flight.segment == number);
            // Whoever reads it back holds it, too.
            if number >= keep || is_written || Rc::strong_count(entry.get()) > 1 {
                return;
            }
            let file = Rc::into_inner(entry.remove()).expect("writes of this segment have ended");
            // The batch being filled is sealed after this, so it carries the new start.
            self.releasing.push_back((self.mark, file));
        }
    }

    pub(super) fn reuse_released(&mut self) {
        self.let_go();
        while self
            .releasing
            .front()
            .is_some_and(|(mark, _)| *mark < self.durable)
        {
            let (_, file) = self.releasing.pop_front().expect("looked at above");
            self.pool.put(file);
        }
    }

    /// Returns the mark below which every record is durable, as of the last [`Wal::poll`].
    #[must_use]
    pub fn durable(&self) -> Mark {
        self.durable
    }

    /// Returns a position at or before which the next record will begin.
    #[must_use]
    pub fn position(&self) -> Position {
        self.next
    }

    /// Returns the first position that is still needed.
    #[must_use]
    pub fn start(&self) -> Position {
        self.start
    }

    /// Returns the bytes between the first needed position and the end.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.next.0.saturating_sub(self.start.0)
    }

    /// Says whether every record appended is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.filling.is_none() && self.sealed.is_empty() && self.in_flight.is_empty()
    }

    /// Returns what is not durable, if anything is not.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        let oldest = self.in_flight.front();
        (!self.is_idle()).then(|| Backlog {
            writes: self.in_flight.len(),
            oldest: oldest.map_or(Duration::ZERO, |oldest| {
                self.reactor.now().since(oldest.since)
            }),
            batches: self.sealed.len() + usize::from(self.filling.is_some()),
            growth_failure: self.failure(),
        })
    }

    /// Returns batches written, the bytes they took on disk, and the bytes of records in them.
    #[must_use]
    pub fn written(&self) -> (u64, u64, u64) {
        (self.batches, self.batch_bytes, self.payload_bytes)
    }

    /// Returns the segments ready to be written.
    #[must_use]
    pub fn segments_ready(&self) -> usize {
        self.pool.ready()
    }
}
