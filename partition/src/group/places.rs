//! Where in the log entries are that are not in memory any more: some of them, so that reading begins a little
//! before the one that is wanted. Not the reading.
//!
//! Invariant: there are at most [`PLACES_MAX`], in the order of the log, all at least so far apart; when they
//! become too many, every second one goes, and they are twice as far apart.

use std::collections::VecDeque;

use ashlar_consensus::Index;
use ashlar_io::wal::Position;

/// Most places: 16 KiB of memory.
const PLACES_MAX: usize = 1_024;
/// Bytes of the log that they are apart at least: a block of it.
const APART_BYTES_MIN: u64 = 4 << 10;

/// Places of entries in the log.
#[derive(Debug)]
pub(super) struct Places {
    places: VecDeque<(Index, Position)>,
    apart_bytes: u64,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            places: VecDeque::new(),
            apart_bytes: APART_BYTES_MIN,
        }
    }
}

impl Places {
    /// Notes where the next entry begins, or shortly before.
    pub(super) fn note(&mut self, index: Index, position: Position) {
        let is_near = |last: &(Index, Position)| position.0 < last.1.0 + self.apart_bytes;
        if self.places.back().is_some_and(is_near) {
            return;
        }
        if self.places.len() >= PLACES_MAX {
            let mut stays = false;
            self.places.retain(|_| {
                stays = !stays;
                stays
            });
            self.apart_bytes *= 2;
        }
        self.places.push_back((index, position));
    }

    /// Forgets those that the log, which begins at `start`, has not got any more.
    pub(super) fn release(&mut self, start: Position) {
        let is_gone = |place: &mut (Index, Position)| place.1 < start;
        while self.places.pop_front_if(is_gone).is_some() {}
        if self.places.len() < PLACES_MAX / 4 {
            self.apart_bytes = (self.apart_bytes / 2).max(APART_BYTES_MIN);
        }
    }

    /// Returns a position at or before which an entry begins.
    pub(super) fn find(&self, index: Index) -> Option<Position> {
        let after = self.places.partition_point(|(of, _)| *of <= index);
        Some(self.places.get(after.checked_sub(1)?)?.1)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_entry_is_found_within_two_hundredths_of_the_log() {
        let mut places = Places::default();
        let position_of = |index: u64| Position(index * 1_000);
        let count = 100_000;
        for index in 0..count {
            places.note(Index(index), position_of(index));
            assert!(places.places.len() <= PLACES_MAX);
        }
        for index in 0..count {
            let found = places.find(Index(index)).expect("from the first on");
            let before = position_of(index).0 - found.0;
            assert!(
                before <= position_of(count).0 / 200,
                "{before} bytes before"
            );
        }
        let start = position_of(count / 2);
        places.release(start);
        assert_eq!(places.find(Index(0)), None);
        assert!(places.places[0].1 >= start);
        let apart_bytes = places.apart_bytes;
        places.release(position_of(count * 9 / 10));
        assert_eq!(places.apart_bytes, apart_bytes / 2);
        places.clear();
        assert_eq!(places.find(Index(count)), None);
    }
}
