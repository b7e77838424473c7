//! What an operator chooses of the machine's clock: who is asked about it, and what waits for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ashlar_io::clock::{self, Choice};

use super::CommitWait;

/// The machine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Who is asked how far it may be off.
    pub source: Choice,
    /// How far it may be off, as the operator vouches for, in milliseconds; 0 for nothing.
    pub error_bound_ms: u32,
    /// The shared memory of ClockBound.
    pub clockbound: PathBuf,
    /// The command port of chrony.
    pub chrony: SocketAddr,
    /// Whether replies of writes wait for it.
    pub wait: CommitWait,
    /// How far it may be off at most for that, in milliseconds.
    pub wait_ms_max: u32,
}

impl Clock {
    /// Returns what who asks is made with.
    #[must_use]
    pub fn options(&self) -> clock::Options {
        clock::Options {
            choice: self.source,
            static_error_ns: u64::from(self.error_bound_ms) * 1_000_000,
            clockbound: self.clockbound.clone(),
            chrony: self.chrony,
        }
    }

    /// Returns what the wait goes by.
    #[must_use]
    pub fn waits(&self) -> (CommitWait, u32) {
        (self.wait, self.wait_ms_max)
    }

    /// Returns one of which nothing is chosen yet.
    pub(super) fn blank() -> Self {
        Self {
            source: Choice::Auto,
            error_bound_ms: 0,
            clockbound: PathBuf::new(),
            chrony: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            wait: CommitWait::Off,
            wait_ms_max: 0,
        }
    }
}
