//! The end of a shard that was asked to stop: what it waits for, in which order, and for how long. Not what begins
//! the stop (`Core::stop`), nor the process around it (`start`).
//!
//! It hands over what it leads; its connections get the replies of what they have sent; it leaves its peers, whose
//! entries would keep its log busy for as long as their clients write; its log becomes durable and says so. Nothing
//! of its own accord is begun meanwhile: no flush, merge, expiry or sweep. They could go on for minutes.
//!
//! Invariant: a stop ends, [`STOP_MAX`] after it began at the latest. What a shard has not done by then was not
//! acknowledged: it ends like a crash, and the log is the truth.

use std::fmt;
use std::time::Duration;

use ashlar_io::Monotonic;
use ashlar_io::wal::Backlog;

use super::{Fatal, Shard};
use crate::core::Core;

/// How long a stopping shard waits for another node to lead, and for its connections to take their last replies.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it stops before it tells what it waits for.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it takes to stop at most. A disk that others keep busy may take ten seconds and more for one sync.
pub const STOP_MAX: Duration = Duration::from_mins(1);

/// What a shard that stops waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// Another node is to lead what it leads.
    Leads,
    /// So many connections are to take their replies.
    Connections(usize),
    /// The log is to be durable.
    Log(Backlog),
    /// Nothing but that its end is attested.
    Attest,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leads => f.write_str("another node to lead its partitions"),
            Self::Connections(count) => write!(f, "{count} connections to take their replies"),
            Self::Log(backlog) => write!(f, "its log: {backlog}"),
            Self::Attest => f.write_str("the last write of its log"),
        }
    }
}

impl Shard {
    /// Says whether a stopping shard is done: all is durable and attested, and its connections have gone or had
    /// their time.
    pub(super) fn has_stopped(&mut self, core: &Core) -> Result<bool, Fatal> {
        let now = self.reactor.now();
        let (since, tell_at) = *self.stopping.get_or_insert((now, now + SILENCE));
        let Some(unfinished) = unfinished(core, now, since) else {
            return Ok(true);
        };
        if now >= tell_at {
            self.stopping = Some((since, now + STOP_MAX));
            let shard = core.shard;
            tracing::warn!("shard {shard} still stops: it waits for {unfinished}");
        }
        if now.since(since) > STOP_MAX {
            return Err(Fatal::Unfinished {
                shard: core.shard,
                waited_s: STOP_MAX.as_secs(),
                unfinished,
            });
        }
        Ok(false)
    }
}

/// Takes the next step of a stop that began at `since`; returns what it waits for.
fn unfinished(core: &Core, now: Monotonic, since: Monotonic) -> Option<Unfinished> {
    let is_patient = now.since(since) < PATIENCE;
    if is_patient && core.leads_others() {
        return Some(Unfinished::Leads);
    }
    core.end_settled();
    let connections = core.connections.borrow().len();
    if is_patient && connections > 0 {
        return Some(Unfinished::Connections(connections));
    }
    core.leave_peers();
    let mut data = core.data.borrow_mut();
    if let Some(backlog) = data.wal.backlog() {
        return Some(Unfinished::Log(backlog));
    }
    data.wal.attest();
    data.wal.backlog().map(|_| Unfinished::Attest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stop_waits_for_is_told_in_words() {
        let told = |unfinished: Unfinished| unfinished.to_string();
        assert_eq!(
            told(Unfinished::Connections(3)),
            "3 connections to take their replies"
        );
        let backlog = Backlog {
            writes: 2,
            oldest: Duration::from_millis(1500),
            batches: 7,
            growth_failure: None,
        };
        assert_eq!(
            told(Unfinished::Log(backlog)),
            "its log: 2 writes under way, the oldest for 1500 ms, and 7 batches behind them"
        );
    }
}
