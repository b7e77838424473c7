//! A replica that may have forgotten what it promised: its log was damaged, and what of it is left was cut. Which
//! entries it acknowledged, whom it voted for and in which terms, nobody can tell it. It must not contradict itself
//! all the same, so it is no use to anybody until a leader has told it where to go on.
//!
//! First it takes part in nothing: it acknowledges nothing, is bound to nobody, votes for nobody. It answers a leader
//! that it has forgotten, and in which *life* it asks. The leader of term T forgets in turn what this replica has ever
//! acknowledged, and sees to it that an entry e which was proposed behind that question is committed: without this
//! replica, whose old answers cannot reach e. Then it tells where e is. From then on the replica follows as any other,
//! in term T and with a vote for the leader of T. When its log is durable up to e, it votes and stands again.
//!
//! Why nothing is lost by that. Let K be the quorum that has e; the replica is not in it.
//! 1. *No promise of a later term is left.* Suppose that it had promised something in a term T' above T: a vote for Z,
//!    an acknowledgement, a lease. Then Z stood in T' before e was proposed, so its log lacks e. Whoever elects Z has a
//!    member in common with K, which is another replica. That one had e before it voted in T', since no replica goes
//!    back from T' to T; it has e still, since by induction all leaders of terms between have e; so it does not vote
//!    for a log without e. Z is never elected with that vote: it binds nobody, and may be forgotten.
//! 2. *Promises of earlier terms are kept.* It is in term T now, with a vote that is given.
//! 3. *What it acknowledged is there again.* An entry that was committed with its help before it forgot was so in a
//!    term up to T, by 1. Leaders of later terms have it, the leader of T too, and before e: for e was proposed later.
//!    Before the replica has e it neither votes nor stands, so it helps nobody to lead who lacks such an entry.
//!
//! When this takes the word of a majority without the replica, a group of which a majority has forgotten waits. It says
//! so and drops nothing: those who know may come back.
//!
//! Invariants:
//! 1. Between the start and the leader's word nothing leaves this replica but the question.
//! 2. A leader counts of a replica that asks only what it has acknowledged since it was answered.
//!
//! Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018, for what is to be told
//! apart; Michael et al., "Recovering Shared Objects Without Stable Storage", DISC 2017, for asking a quorum anew.

use super::{Event, Gate, Heard, Mono, Output, Planted, Raft, Role, send};
use crate::message::Signal;
use crate::progress::{Forgetful, Progress};
use crate::types::{LogPosition, Term};

/// What a replica has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amnesia {
    /// Nothing.
    None,
    /// What it promised, as far as it knows.
    Promises,
    /// It knows its term again. Up to this entry its log may lack what it has acknowledged.
    Entries(LogPosition),
}

impl Raft {
    /// Says whether the replica may have forgotten what it promised, and has not got all of it back. The host keeps
    /// that with the ballot, from the start on.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.amnesia != Amnesia::None
    }

    /// Says whether no leader has told the replica yet where to go on.
    pub(super) fn knows_no_term(&self) -> bool {
        self.amnesia == Amnesia::Promises
    }

    /// Asks the sender, which leads or believes to, where to go on. What it sent is not looked at.
    pub(super) fn ask_to_remember(&self, heard: Heard<'_>, term: Term, out: &mut Output) {
        let forgot = Signal::Forgot {
            term: self.term.max(term),
            life: self.life,
        };
        send(out, heard.from, forgot, Gate::Now);
    }

    /// Takes in that a peer has forgotten what it promised.
    pub(super) fn receive_forgot(
        &mut self,
        heard: Heard<'_>,
        (term, life): (Term, u64),
        out: &mut Output,
    ) {
        if self.role != Role::Leader {
            return;
        }
        if term > self.term {
            // It has kept the ballot of a later term, and can only be brought back by one that is later still.
            return self.adopt(heard.now, term, out);
        }
        let last = self.journal.last().index;
        let Some(at) = self.lead_mut().place(heard.from.replica) else {
            return;
        };
        let peer = &mut self.lead_mut().peers[at];
        if peer.forgetful.is_none_or(|known| known.life != life) {
            let member = peer.member;
            *peer = Progress::new(member, last.next());
            peer.forgetful = Some(Forgetful {
                life,
                last,
                is_told: false,
            });
        }
        peer.waiting_since = None;
        self.remind(heard.now, at, out);
    }

    /// Tells those who have forgotten where to go on, once that is committed.
    pub(super) fn remind_all(&mut self, now: Mono, out: &mut Output) {
        for at in 0..self.lead_mut().peers.len() {
            let forgetful = self.lead_mut().peers[at].forgetful;
            if forgetful.is_some_and(|forgetful| !forgetful.is_told) {
                self.remind(now, at, out);
            }
        }
    }

    /// Tells a peer that has forgotten where to go on, if it is known.
    fn remind(&mut self, now: Mono, at: usize, out: &mut Output) {
        let (term, index) = (self.term, self.committed);
        let is_own = self.journal.term(index) == Some(term);
        let peer = &mut self.lead_mut().peers[at];
        let Some(forgetful) = &mut peer.forgetful else {
            return;
        };
        if index <= forgetful.last || !is_own {
            return;
        }
        forgetful.is_told = true;
        let remember = Signal::Remember {
            at: LogPosition { term, index },
            life: forgetful.life,
        };
        send(out, peer.member, remember, Gate::Now);
        let next = peer.next;
        peer.probe(next);
        self.pump(now, at, out);
    }

    /// Says whether a peer waits for an entry that is not proposed yet.
    pub(super) fn is_entry_awaited(&self) -> bool {
        let last = self.journal.last().index;
        let mut peers = self.lead.iter().flat_map(|lead| &lead.peers);
        peers.any(|peer| peer.forgetful.is_some_and(|of| last <= of.last))
    }

    /// Takes in where to go on.
    pub(super) fn receive_remember(
        &mut self,
        heard: Heard<'_>,
        (at, life): (LogPosition, u64),
        out: &mut Output,
    ) {
        if !self.knows_no_term() || life != self.life || at.term < self.term {
            return;
        }
        if at.term > self.term {
            self.adopt(heard.now, at.term, out);
        }
        self.vote.get_or_insert(heard.from.replica);
        self.amnesia = Amnesia::Entries(at);
        self.give_ballot(out);
    }

    /// Sees whether the replica has all again that it may have acknowledged.
    pub(super) fn recall(&mut self, now: Mono, out: &mut Output) {
        let Amnesia::Entries(at) = self.amnesia else {
            return;
        };
        let holds = self.journal.base().index >= at.index || self.journal.contains(at);
        if !holds || self.durable < at.index {
            return;
        }
        self.amnesia = Amnesia::None;
        self.give_ballot(out);
        out.events.push(Event::Remembers);
        self.election_at = Some(now.plus_ns(self.election_delay_ns()));
    }

    /// Returns what a replica has forgotten that is started.
    pub(super) fn amnesia_of(has_forgotten: bool, options: &super::Options) -> Amnesia {
        match has_forgotten && !options.makes(Planted::ForgetsAmnesia) {
            true => Amnesia::Promises,
            false => Amnesia::None,
        }
    }
}
