//! Turns that kept everybody waiting for too long, newest first, and what took the time in them.
//!
//! Invariant: at most [`STALLS_MAX`] are kept. They come rarely, so one lock serves all shards.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use crate::shared::lock;

/// Stalls that are kept.
pub const STALLS_MAX: usize = 32;

/// A turn that took too long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// Shard that it was a turn of.
    pub shard: u32,
    /// When it was, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Of that: releasing what became durable, and messages of other shards.
    pub begin_us: u64,
    /// Of that: commands of connections, and background tasks.
    pub tasks_us: u64,
    /// Of that: expiry, upkeep, and giving entries to the log.
    pub end_us: u64,
    /// What took longest in it without a break, a command or a task.
    pub longest: &'static str,
    /// How long that took, in microseconds.
    pub longest_us: u64,
    /// Commands that ran in it.
    pub commands: u32,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a turn of shard {} took {} us: {} us at its begin, {} us for tasks and {} command{}, {} us at its end; longest was {}, {} us",
            self.shard,
            self.took_us,
            self.begin_us,
            self.tasks_us,
            self.commands,
            if self.commands == 1 { "" } else { "s" },
            self.end_us,
            self.longest,
            self.longest_us
        )
    }
}

/// The last stalls.
#[derive(Debug, Default)]
pub struct Stalls(Mutex<VecDeque<Stall>>);

impl Stalls {
    /// Keeps a stall, and forgets the oldest when there are too many.
    pub fn note(&self, stall: Stall) {
        let mut kept = lock(&self.0);
        kept.truncate(STALLS_MAX - 1);
        kept.push_front(stall);
    }

    /// Returns what is kept, newest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Stall> {
        lock(&self.0).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stalls_are_kept() {
        let stalls = Stalls::default();
        for took_us in 0..100 {
            stalls.note(Stall {
                took_us,
                ..Stall::default()
            });
        }
        let kept = stalls.recent();
        assert_eq!((kept.len(), kept[0].took_us), (STALLS_MAX, 99));
        assert!(kept[0].to_string().contains("took 99 us"));
    }
}
