//! Letting go of the log's beginning, and what the log tells of itself.

use std::rc::Rc;

use super::Wal;
use crate::wal::{Mark, Position};

impl Wal {
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
