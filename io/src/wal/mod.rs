//! The write-ahead log of one shard: the only log, and the only thing that makes a write durable.
//! Payloads are opaque records; which of them are needed is told by the owner through
//! [`Wal::release`].
//!
//! Write path: [`Wal::append`] copies a record into the batch being filled; [`Wal::flush`], at the
//! end of the turn, seals it and starts its write when fewer than `inflight_max` are in flight;
//! [`Wal::poll`], in a later turn, takes completed writes and moves the durable mark up to the
//! first one that is missing. What arrives during a write is the next batch: no timer, no delay.
//!
//! Recovery: [`recover`] opens and syncs every segment, walks the chain of batches from the log's
//! start, hands each record on, and tells a torn tail (cut) from damage (refused). An owner that can get back elsewhere
//! what was damaged has the log begin anew ([`begin_anew`]).
//!
//! Invariants:
//! 1. A record is durable when its [`Mark`] is below the durable mark, and not known to be before.
//! 2. Marks become durable in order, whatever order the writes complete in.
//! 3. After a failed write or sync nothing is written any more, and nothing further becomes
//!    durable. Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC
//!    2020.
//! 4. A segment is reused only after a batch whose `start` excludes it is durable.

mod anew;
mod calibrate;
pub mod format;
mod reader;
mod scan;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use anew::{Anew, begin_anew, remove_lost};
pub use calibrate::calibrate;
pub use format::Position;
pub use reader::{RecoverError, Recovered, recover};

pub use segment::{LOST, SUFFIX, UNFINISHED};
pub use writer::{BATCH_SIZES, Replay, Wal};

/// How a batch is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Each write by itself (`RWF_DSYNC`).
    Dsync,
    /// One `fdatasync` after the writes that have completed.
    Fdatasync,
    /// Not at all: a power cut loses acknowledged writes. For tests only.
    None,
}

impl Durability {
    const EVERY: [Self; 3] = [Self::Dsync, Self::Fdatasync, Self::None];

    /// Returns its name, as files and people know it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Dsync => "dsync",
            Self::Fdatasync => "fdatasync",
            Self::None => "none",
        }
    }

    /// Returns the one of a name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|one| one.word() == word)
    }
}

/// How a log is laid out and written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the segments; it exists.
    pub dir: PathBuf,
    /// Chosen at random when the log was made.
    pub log_id: u64,
    /// Size of a segment: a multiple of 1 MiB... or of 4 KiB in tests.
    pub segment_bytes: u64,
    /// Segments kept ready.
    pub segments_spare: usize,
    /// Most writes in flight.
    pub inflight_max: usize,
    /// Most bytes of a batch, header included: a multiple of 4 KiB, at most [`crate::BLOCK_BYTES`].
    pub batch_bytes: usize,
    /// How batches are made durable.
    pub durability: Durability,
}

/// Names the batch that a record ends in; durable when [`Wal::durable`] is above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mark(pub u64);

/// A write or sync of the log failed: the node must stop.
#[derive(Debug, thiserror::Error)]
#[error("log {} failed at offset {offset}: {error}; stopping, since what the disk holds is no longer known", .path.display())]
pub struct Failed {
    /// The segment.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What the operating system said.
    pub error: io::Error,
}

impl Failed {
    /// Says the same once more.
    fn again(&self) -> Self {
        Self {
            path: self.path.clone(),
            offset: self.offset,
            error: again(&self.error),
        }
    }
}

/// Returns an error that says the same: errors cannot be copied.
fn again(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// A segment could not be made; it is tried again.
#[derive(Debug)]
pub struct GrowthFailure {
    /// The segment.
    pub path: PathBuf,
    /// What the operating system said.
    pub error: io::Error,
}

/// What a log has taken that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Writes under way, or waiting for a sync.
    pub writes: usize,
    /// How long the oldest of them has been.
    pub oldest: Duration,
    /// Batches that have not begun to be written.
    pub batches: usize,
    /// What keeps a segment from being made for them.
    pub growth_failure: Option<io::ErrorKind>,
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            writes,
            oldest,
            batches,
            growth_failure,
        } = self;
        let oldest_ms = oldest.as_millis();
        write!(
            f,
            "{writes} writes under way, the oldest for {oldest_ms} ms, and {batches} batches behind them"
        )?;
        match growth_failure {
            Some(error) => write!(f, "; no new segment can be made: {error}"),
            None => Ok(()),
        }
    }
}
