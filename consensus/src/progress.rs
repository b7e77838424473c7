//! What a leader knows of one peer's log, and how much it may have under way to it.
//!
//! - *Probe*: where the logs part is not known; one append at a time finds out.
//! - *Replicate*: appends follow each other without waiting, as far as the window allows.
//! - *Snapshot*: the leader no longer has what the peer needs; the host sends a snapshot.
//!
//! A peer that is not *awake* is sent nothing: its connection is down, or its node does not support
//! ours. It wakes when it is heard of.
//!
//! Invariants:
//! 1. `matched < next`; `matched` only grows, unless the peer says that it has forgotten.
//! 2. In Replicate, all entries before `next` have been sent and nothing was rejected since.

use crate::membership::Member;
use crate::support::SupportEpoch;
use crate::types::{Index, Mono};

/// How entries are sent to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One at a time.
    Probe,
    /// Pipelined.
    Replicate,
    /// Not at all: it needs a snapshot.
    Snapshot(Stage),
}

/// How far a snapshot for a peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The host was asked for one.
    Wanted,
    /// It was offered one that stands for entries up to this one.
    Offered(Index),
    /// It wants it; the host sends it.
    Accepted(Index),
}

/// What is known of a peer that has forgotten what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forgetful {
    /// Its life, by its own name for it.
    pub(crate) life: u64,
    /// The leader's last entry when it was heard of in this life. What is proposed behind it is nothing that the peer
    /// has acknowledged before.
    pub(crate) last: Index,
    /// It was told where to go on, at least once.
    pub(crate) is_told: bool,
}

/// A peer, as the leader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Who.
    pub(crate) member: Member,
    /// How.
    pub(crate) mode: Mode,
    /// The peer's log is durably the leader's up to here.
    pub(crate) matched: Index,
    /// The entry to be sent next.
    pub(crate) next: Index,
    /// The commit index that the peer was told, and the one that it has said.
    pub(crate) told_commit: Index,
    pub(crate) known_commit: Index,
    /// The counter of the last append that was sent, and the greatest that was answered.
    pub(crate) sent_probe: u64,
    pub(crate) acked_probe: u64,
    /// The promise that binds the peer to this leader in this term.
    pub(crate) bound_by: SupportEpoch,
    /// Appends with entries under way, at most: an answer to anything counts.
    pub(crate) messages: u32,
    /// Whether the host was asked for entries.
    pub(crate) is_fetching: bool,
    /// Whether it makes sense to send anything.
    pub(crate) is_awake: bool,
    /// When the peer was last sent or heard something while an answer is due.
    pub(crate) waiting_since: Option<Mono>,
    /// What it has forgotten.
    pub(crate) forgetful: Option<Forgetful>,
}

impl Progress {
    /// Returns the progress of a peer that nothing is known of.
    pub(crate) fn new(member: Member, next: Index) -> Self {
        Self {
            member,
            mode: Mode::Probe,
            matched: Index(0),
            next,
            told_commit: Index(0),
            known_commit: Index(0),
            sent_probe: 0,
            acked_probe: 0,
            bound_by: SupportEpoch::NONE,
            messages: 0,
            is_fetching: false,
            is_awake: true,
            waiting_since: None,
            forgetful: None,
        }
    }

    /// Begins to find out anew where the logs part.
    pub(crate) fn probe(&mut self, next: Index) {
        self.mode = Mode::Probe;
        self.next = next.max(self.matched.next());
        self.messages = 0;
        self.is_fetching = false;
        self.waiting_since = None;
    }

    /// Puts the peer to sleep.
    pub(crate) fn sleep(&mut self) {
        self.probe(self.matched.next());
        self.is_awake = false;
    }

    /// Takes in that the peer's log matches up to `index`.
    pub(crate) fn matches(&mut self, index: Index) {
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        match self.mode {
            Mode::Probe => {
                self.mode = Mode::Replicate;
                self.next = self.matched.next();
                self.messages = 0;
            }
            Mode::Replicate if self.next == self.matched.next() => self.messages = 0,
            Mode::Replicate => self.messages = self.messages.saturating_sub(1),
            Mode::Snapshot(Stage::Offered(at) | Stage::Accepted(at)) if self.matched >= at => {
                self.probe(self.matched.next());
            }
            Mode::Snapshot(_) => {}
        }
        assert!(self.matched < self.next);
    }

    /// Tells whether an answer of the peer is due.
    pub(crate) fn is_owed(&self) -> bool {
        let by_mode = match self.mode {
            Mode::Probe => self.waiting_since.is_some(),
            Mode::Replicate => {
                self.next > self.matched.next() || self.known_commit < self.told_commit
            }
            Mode::Snapshot(_) => true,
        };
        by_mode || self.acked_probe < self.sent_probe
    }
}
