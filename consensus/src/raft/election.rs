//! Elections: when a replica stands for one, whom it votes for, and what keeps it from both.
//!
//! Invariants:
//! 1. A replica that is bound to a leader, or was started anew so lately that it may be, neither votes
//!    nor stands for election, unless the leader itself asked for the election.
//! 2. A vote is durable before it leaves, and so is the log that a candidate boasts of.
//! 3. Who does not know the bytes of an entry of its log does not stand for election. Who has forgotten what it
//!    promised does not vote either.
//!
//! Source: Raft (thesis), sections 3.4, 3.6.1, 9.6 (pre-vote) and 6.4.1.

use super::{Bond, Event, Gate, Heard, Mono, Output, Planted, Raft, Role, send};
use crate::membership::Member;
use crate::message::{Round, Signal, Vote, VoteReply};
use crate::quorum::{self, Tally};
use crate::raft::DiskPace;
use crate::refused::Refused;
use crate::support::{SupportEpoch, Supports};
use crate::types::{ReplicaId, Term};

/// Where the leader's connections are gone, replicas stand two such parts of the jitter after each other.
const LEFT_PART: u64 = 16;
/// So often they try again soon: some promise may have been kept for a moment longer. And how soon.
const LEFT_ATTEMPTS: u32 = 3;
const LEFT_PATIENCE_PART: u64 = 4;

/// Whether a leader asked for an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody leads, as far as the candidate knows.
    Silence,
    /// The leader hands over.
    Transfer,
}

impl Raft {
    /// Stands for election, asking first whether it would succeed.
    ///
    /// # Errors
    /// [`Refused`] when the replica leads, does not vote, is bound to a leader or may be, or has lost
    /// the bytes of an entry.
    pub fn campaign(
        &mut self,
        now: Mono,
        supports: &Supports,
        out: &mut Output,
    ) -> Result<(), Refused> {
        if self.role == Role::Leader {
            return Err(Refused::AlreadyLeader);
        }
        self.refuse_campaign()?;
        if self.bound_to(now, supports).is_some() || self.is_quarantined(now, supports) {
            return Err(Refused::Promised);
        }
        self.ask_beforehand(now, out);
        Ok(())
    }

    /// Refuses what makes a replica unfit to lead.
    fn refuse_campaign(&self) -> Result<(), Refused> {
        // Who is not in the last membership, which may come to nothing, may be the only one whose log
        // is complete, as long as it is not committed.
        let me = self.me.replica;
        if !self
            .memberships
            .iter()
            .any(|(_, membership)| membership.votes(me))
        {
            return Err(Refused::NotVoter);
        }
        if self.has_forgotten() {
            return Err(Refused::Forgetful);
        }
        match self.damaged.is_empty() || self.planted(Planted::DamagedCampaigns) {
            true => Ok(()),
            false => Err(Refused::Damaged),
        }
    }

    /// Returns the leader that this replica is bound to: of a leader, itself while its lease holds.
    pub(super) fn bound_to(&self, now: Mono, supports: &Supports) -> Option<Member> {
        if self.lead.is_some() {
            return self.lease_holds(now, supports).then_some(self.me);
        }
        let bond = self.bond.filter(|bond| bond.epoch != SupportEpoch::NONE)?;
        let given = supports.given(now, bond.leader.node);
        let holds = given == Some(bond.epoch) && !self.planted(Planted::BoundVotes);
        holds.then_some(bond.leader)
    }

    /// Tells whether an earlier life of the node may have promised something.
    fn is_quarantined(&self, now: Mono, supports: &Supports) -> bool {
        now < supports.quarantined_until() && !self.planted(Planted::NoQuarantine)
    }

    /// Sets or clears the time of the next election, as the replica is bound or not.
    pub(super) fn set_timer(&mut self, now: Mono, supports: &Supports) {
        let idle = self.role == Role::Leader
            || self.refuse_campaign().is_err()
            || self.role == Role::Follower && self.bound_to(now, supports).is_some();
        if idle {
            self.election_at = None;
        } else if self.election_at.is_none() {
            let from = now.max(supports.quarantined_until());
            self.election_at = Some(from.plus_ns(self.election_delay_ns()));
        }
    }

    /// Returns how long to wait before an election: random, so that seldom two replicas stand at once. Whose
    /// connection to the leader is gone need not give it more time; then the replicas stand in their order.
    pub(super) fn election_delay_ns(&mut self) -> u64 {
        let jitter_ns = u64::from(self.options.election_jitter_ms) * 1_000_000;
        let slow = if self.pace == DiskPace::Slow { 2 } else { 0 };
        let steps = u64::from(self.options.election_rank) + slow;
        let (in_turn, chance_ns) = match self.is_left {
            true => (1 + 2 * self.place(), jitter_ns / LEFT_PART),
            false => (0, jitter_ns),
        };
        steps * jitter_ns + in_turn * chance_ns + self.random() % chance_ns.max(1)
    }

    /// Returns this replica's place among the voters but the leader, from 0.
    fn place(&self) -> u64 {
        let led_by = self.bond.map(|bond| bond.leader).or(self.leader);
        let others = self.membership().all_voters();
        let mut others = others.filter(|voter| led_by != Some(*voter));
        let place = others.position(|voter| voter.replica == self.me.replica);
        place.map_or(0, |place| place as u64)
    }

    /// Puts the next election off until this one must have failed.
    fn put_off(&mut self, now: Mono) {
        let jitter_ns = u64::from(self.options.election_jitter_ms) * 1_000_000;
        let patience_ns = match self.is_left && self.attempts <= LEFT_ATTEMPTS {
            true => jitter_ns / LEFT_PATIENCE_PART,
            false => jitter_ns << self.attempts.min(3),
        };
        let delay_ns = patience_ns + self.election_delay_ns();
        self.election_at = Some(now.plus_ns(delay_ns));
    }

    /// Returns a random number. Source: Steele et al., "Fast Splittable Pseudorandom Number
    /// Generators", OOPSLA 2014.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Stands for election if it is time to.
    pub(super) fn tick_follower(&mut self, now: Mono, supports: &Supports, out: &mut Output) {
        if self.election_at.is_none_or(|at| now < at) {
            return;
        }
        self.election_at = None;
        if self.is_quarantined(now, supports) || self.refuse_campaign().is_err() {
            return;
        }
        if self.role != Role::Follower || self.bound_to(now, supports).is_none() {
            self.ask_beforehand(now, out);
        }
    }

    /// Asks the voters whether they would vote for this replica.
    fn ask_beforehand(&mut self, now: Mono, out: &mut Output) {
        self.role = Role::PreCandidate;
        self.set_leader(None, out);
        self.attempts = self.attempts.saturating_add(1);
        self.put_off(now);
        self.votes.clear();
        self.votes.push((self.me.replica, true));
        let term = self.term.next();
        self.ask_for_votes(Round::Pre, term, Cause::Silence, out);
        self.count_votes(now, out);
    }

    /// Begins a term and asks the voters for their votes.
    fn stand(&mut self, now: Mono, cause: Cause, out: &mut Output) {
        assert!(self.lead.is_none(), "a leader has no need of an election");
        self.role = Role::Candidate;
        self.set_leader(None, out);
        self.term = self.term.next();
        self.vote = Some(self.me.replica);
        self.give_ballot(out);
        self.put_off(now);
        // Its own vote counts when it is durable: entries of the term leave before they are, and no
        // later life may lead the same term.
        self.votes.clear();
        self.ask_for_votes(Round::Real, self.term, cause, out);
    }

    /// Asks all voters but this one.
    fn ask_for_votes(&self, round: Round, term: Term, cause: Cause, out: &mut Output) {
        let vote = Vote {
            round,
            term,
            last: self.journal.last(),
            transfer: cause == Cause::Transfer,
        };
        let others = self.membership().all_voters();
        for voter in others.filter(|voter| voter.replica != self.me.replica) {
            send(out, voter, Signal::Vote(vote), Gate::Durable);
        }
    }

    /// Acts on the votes if they decide something.
    fn count_votes(&mut self, now: Mono, out: &mut Output) {
        let answer = |voter: &Member| {
            let mut votes = self.votes.iter();
            let vote = votes.find(|(replica, _)| *replica == voter.replica);
            vote.map(|(_, granted)| *granted)
        };
        match (quorum::tally(self.membership(), answer), self.role) {
            (Tally::Won, Role::PreCandidate) => self.stand(now, Cause::Silence, out),
            (Tally::Won, Role::Candidate) => self.begin_to_lead(now, out),
            (Tally::Lost, _) => self.role = Role::Follower,
            _ => {}
        }
    }

    /// Takes in a request for a vote.
    pub(super) fn receive_vote(&mut self, heard: Heard<'_>, vote: &Vote, out: &mut Output) {
        self.release_from(heard.from, vote.term);
        if self.has_forgotten() && !self.planted(Planted::ForgetfulVotes) {
            return self.answer_vote(heard.from, vote, Err(None), out);
        }
        if !vote.transfer {
            if let Some(leader) = self.bound_to(heard.now, heard.supports) {
                self.ask_whether_leading(leader, out);
                return self.answer_vote(heard.from, vote, Err(Some(leader.replica)), out);
            }
            if self.is_quarantined(heard.now, heard.supports) {
                return self.answer_vote(heard.from, vote, Err(None), out);
            }
        }
        if vote.round == Round::Real && vote.term > self.term {
            self.adopt(heard.now, vote.term, out);
        }
        let granted = self.would_vote(heard.from.replica, vote);
        if granted && vote.round == Round::Real {
            self.vote = Some(heard.from.replica);
            self.give_ballot(out);
            self.put_off(heard.now);
        }
        let answer = if granted { Ok(()) } else { Err(None) };
        self.answer_vote(heard.from, vote, answer, out);
    }

    /// Tells whether this replica votes for a candidate.
    fn would_vote(&self, candidate: ReplicaId, vote: &Vote) -> bool {
        let complete = vote.last >= self.journal.last();
        if !complete && !self.planted(Planted::IgnoresCandidateLog) {
            return false;
        }
        match vote.round {
            Round::Pre => vote.term > self.term,
            Round::Real if vote.term != self.term => false,
            Round::Real => match self.vote {
                Some(voted) => voted == candidate || self.planted(Planted::VotesTwice),
                None => self.leader.is_none(),
            },
        }
    }

    /// Answers a request for a vote: yes, or no and whom the voter is bound to.
    fn answer_vote(
        &self,
        to: Member,
        vote: &Vote,
        answer: Result<(), Option<ReplicaId>>,
        out: &mut Output,
    ) {
        let reply = VoteReply {
            round: vote.round,
            asked: vote.term,
            term: self.term,
            granted: answer.is_ok(),
            fortified_to: answer.err().flatten(),
        };
        let gate = match self.planted(Planted::VotesBeforeDurable) {
            true => Gate::Now,
            false => Gate::Durable,
        };
        send(out, to, Signal::VoteReply(reply), gate);
    }

    /// Takes in a vote.
    pub(super) fn receive_vote_reply(
        &mut self,
        heard: Heard<'_>,
        reply: &VoteReply,
        out: &mut Output,
    ) {
        if !reply.granted && reply.term > self.term {
            // The election is lost for its age. Who has found a leader since does not care.
            if matches!(self.role, Role::PreCandidate | Role::Candidate) {
                self.adopt(heard.now, reply.term, out);
            }
            return;
        }
        let awaited = match reply.round {
            Round::Pre => self.role == Role::PreCandidate && reply.asked == self.term.next(),
            Round::Real => self.role == Role::Candidate && reply.asked == self.term,
        };
        if awaited {
            self.take_vote((heard.from.replica, reply.granted), heard.now, out);
        }
    }

    /// Takes in an answer in the election under way.
    pub(super) fn take_vote(&mut self, vote: (ReplicaId, bool), now: Mono, out: &mut Output) {
        if !self.votes.iter().any(|(replica, _)| *replica == vote.0) {
            self.votes.push(vote);
            self.count_votes(now, out);
        }
    }

    /// Takes in that the leader wants this replica to stand for election.
    pub(super) fn receive_timeout_now(&mut self, heard: Heard<'_>, term: Term, out: &mut Output) {
        let fit = self.refuse_campaign().is_ok();
        if term == self.term && self.role != Role::Leader && fit {
            self.stand(heard.now, Cause::Transfer, out);
        }
    }

    /// Takes in that the sender does not lead `term` any more.
    pub(super) fn receive_resigned(&mut self, heard: Heard<'_>, term: Term, out: &mut Output) {
        self.resigned = self.resigned.max(term);
        self.release_from(heard.from, term.next());
        if self.term == term && self.leader == Some(heard.from) {
            self.set_leader(None, out);
        }
    }

    /// Answers whether this replica still leads `term`, if not.
    pub(super) fn receive_leading_query(&mut self, heard: Heard<'_>, term: Term, out: &mut Output) {
        let leads = self.role == Role::Leader && self.term == term;
        // Of a term that has not come nothing is said; nobody can be bound by it.
        if !leads && term <= self.term {
            send(out, heard.from, Signal::Resigned { term }, Gate::Now);
        }
    }

    /// Releases this replica from `leader` if it is bound to it by a term before `term`: a leader that
    /// speaks of a later term leads the earlier one no more.
    pub(super) fn release_from(&mut self, leader: Member, term: Term) {
        self.bond = self
            .bond
            .filter(|bond| bond.leader != leader || bond.term >= term);
    }

    /// Asks the leader that this replica is bound to whether it still leads: its word that it has
    /// resigned may be lost.
    fn ask_whether_leading(&self, leader: Member, out: &mut Output) {
        if let Some(Bond { term, .. }) = self.bond {
            send(out, leader, Signal::LeadingQuery { term }, Gate::Now);
        }
    }

    /// Sets who leads, and tells if that is news.
    pub(super) fn set_leader(&mut self, leader: Option<Member>, out: &mut Output) {
        if self.leader != leader {
            self.leader = leader;
            out.events.push(Event::LeaderKnown { leader });
        }
    }
}
