//! What a leader is and does: it proposes, counts what a quorum has, holds a lease while a quorum is
//! bound to it, and steps down when it cannot lead any longer.
//!
//! Invariants:
//! 1. An entry is committed when a quorum has it durably, the leader's own disk counted like any other,
//!    and an entry of the leader's term is among those committed with it.
//! 2. The lease holds until the first moment at which fewer than a quorum are bound. A leader that has
//!    asked another to stand for election has no lease any more in this term.
//! 3. A leader that has stepped down says so to everybody that may be bound to it.
//!
//! Source: Raft (thesis), sections 3.6.2, 6.4.1 and 10.2.1.

use super::read::Reads;
use super::transfer::Transfer;
use super::{Event, Gate, Mono, NodeId, Options, Output, OwnEntry, Planted, Raft, Role, send};
use crate::membership::{Member, Membership};
use crate::message::{EntryKind, EntryMeta, Signal};
use crate::progress::{Mode, Progress};
use crate::quorum;
use crate::support::Supports;
use crate::types::{Index, ReplicaId};

/// What only a leader has.
#[derive(Clone, Debug)]
pub(super) struct Lead {
    /// Every member but the leader.
    pub(super) peers: Vec<Progress>,
    /// The first entry of the term: the log up to it is committed when it is.
    pub(super) term_start: Index,
    /// A change that the host has asked for and has not yet proposed.
    pub(super) change: Option<Membership>,
    pub(super) reads: Reads,
    pub(super) transfer: Option<Transfer>,
    /// Whether another replica was asked to stand for election: then there is no lease in this term.
    pub(super) gave_up_lease: bool,
    /// Since when there is no lease.
    pub(super) lease_lost: Option<Mono>,
    /// When the peers that do not know the commit index are told.
    pub(super) notice_at: Option<Mono>,
}

impl Lead {
    /// Returns when something is due.
    pub(super) fn deadline(&self, options: &Options) -> Option<Mono> {
        let resend = |peer: &Progress| match peer.is_awake {
            true => peer.waiting_since,
            false => None,
        };
        let waiting = self.peers.iter().filter_map(resend).min();
        let resend = waiting.map(|since| since.plus_ms(options.resend_ms));
        let end = self.lease_lost.map(|since| since.plus_ms(options.lease_ms));
        let transfer = self.transfer.as_ref().map(|transfer| transfer.until);
        let all = [resend, end, transfer, self.notice_at];
        all.into_iter().flatten().min()
    }

    /// Returns a peer's progress.
    pub(super) fn peer(&self, replica: ReplicaId) -> Option<&Progress> {
        let mut peers = self.peers.iter();
        peers.find(|peer| peer.member.replica == replica)
    }

    /// Returns where a peer's progress is.
    pub(super) fn place(&self, replica: ReplicaId) -> Option<usize> {
        let mut peers = self.peers.iter();
        peers.position(|peer| peer.member.replica == replica)
    }
}

impl Raft {
    /// Begins to lead: the election is won.
    pub(super) fn begin_to_lead(&mut self, now: Mono, out: &mut Output) {
        self.role = Role::Leader;
        self.set_leader(Some(self.me), out);
        self.bond = None;
        self.attempts = 0;
        let next = self.journal.last().index.next();
        let others = self.membership().members();
        let others = others.filter(|member| member.replica != self.me.replica);
        let peers = others.map(|member| Progress::new(member, next)).collect();
        self.lead = Some(Box::new(Lead {
            peers,
            term_start: next,
            change: None,
            reads: Reads::default(),
            transfer: None,
            gave_up_lease: false,
            lease_lost: Some(now),
            notice_at: None,
        }));
        let term = self.term;
        out.events.push(Event::BecameLeader { term });
    }

    /// Stops leading, if the replica leads, and releases whoever is bound to it.
    pub(super) fn step_down(&mut self, now: Mono, out: &mut Output) {
        let Some(mut lead) = self.lead.take() else {
            return;
        };
        let term = self.term;
        for peer in &lead.peers {
            send(out, peer.member, Signal::Resigned { term }, Gate::Now);
        }
        lead.reads.fail(out);
        self.role = Role::Follower;
        self.set_leader(None, out);
        self.election_at = Some(now.plus_ns(self.election_delay_ns()));
        out.events.push(Event::SteppedDown { term });
    }

    /// Tells whether the host may propose: the replica leads, has its term's first entry in the log, is
    /// not handing over, and what is not committed is below its limit.
    #[must_use]
    pub fn may_propose(&self) -> bool {
        let Some(lead) = &self.lead else {
            return false;
        };
        let last = self.journal.last().index;
        let open_bytes = self.journal.bytes(self.committed, last);
        let has_room = open_bytes < self.options.uncommitted_bytes_max;
        last >= lead.term_start && lead.transfer.is_none() && has_room
    }

    /// Returns the entry that the core itself wants in the log: the first of the term, or a membership.
    /// The host encodes and proposes it before anything else.
    #[must_use]
    pub fn next_own_entry(&self) -> Option<OwnEntry> {
        let lead = self.lead.as_ref()?;
        if self.journal.last().index < lead.term_start || self.is_entry_awaited() {
            return Some(OwnEntry::Empty);
        }
        if let Some(change) = &lead.change {
            return Some(OwnEntry::Membership(change.clone()));
        }
        // Whoever leads ends a change whose joint membership is committed.
        let (index, membership) = self.memberships.last()?;
        let ends = membership.is_joint() && *index <= self.committed;
        ends.then(|| OwnEntry::Membership(membership.left()))
    }

    /// Appends an entry to the leader's log and sends it; returns its index. A membership comes with
    /// the entry that holds it, and is what [`Self::next_own_entry`] said.
    ///
    /// # Panics
    /// If the replica does not lead, the entry is of another term, or an entry of its own is due.
    pub fn propose(
        &mut self,
        now: Mono,
        meta: &EntryMeta,
        membership: Option<Membership>,
        out: &mut Output,
    ) -> Index {
        let lead = self.lead.as_ref().expect("only a leader proposes");
        assert_eq!(meta.term, self.term, "an entry is of its leader's term");
        let is_first = self.journal.last().index < lead.term_start;
        let is_empty = meta.kind == EntryKind::Empty;
        assert!(is_empty || !is_first, "a term begins with an empty entry");
        assert!(
            !is_empty || is_first || self.is_entry_awaited(),
            "an empty entry that nobody waits for"
        );
        assert_eq!(membership.is_some(), meta.kind == EntryKind::Membership);
        if let Some(membership) = membership {
            self.propose_membership(now, meta, membership, out)
        } else {
            let index = self.journal.push(meta);
            self.pump_all(now, out);
            index
        }
    }

    /// Appends a membership to the log and goes by it.
    fn propose_membership(
        &mut self,
        now: Mono,
        meta: &EntryMeta,
        membership: Membership,
        out: &mut Output,
    ) -> Index {
        let due = self.next_own_entry();
        assert!(
            due == Some(OwnEntry::Membership(membership.clone())),
            "not the one that is due"
        );
        let (before, _) = self.memberships[self.memberships.len() - 1];
        let at_once = self.planted(Planted::ChangesAtOnce);
        assert!(before <= self.committed || at_once, "one change at a time");
        let index = self.journal.push(meta);
        // Those who leave are still sent the entry that says so, once.
        self.pump_all(now, out);
        self.memberships.push((index, membership));
        self.lead_mut().change = None;
        self.match_peers_to_membership();
        self.pump_all(now, out);
        out.events.push(Event::MembershipActive { index });
        index
    }

    /// Adds the peers that have come and drops those that have gone.
    fn match_peers_to_membership(&mut self) {
        let next = self.journal.last().index.next();
        let (_, membership) = self.memberships.last().expect("there is always one");
        let lead = self.lead.as_mut().expect("only a leader has peers");
        lead.peers
            .retain(|peer| membership.member(peer.member.replica).is_some());
        for member in membership.members() {
            let is_known = lead.peer(member.replica).is_some();
            if member.replica != self.me.replica && !is_known {
                lead.peers.push(Progress::new(member, next));
            }
        }
    }

    /// Returns what only a leader has.
    pub(super) fn lead_mut(&mut self) -> &mut Lead {
        self.lead.as_mut().expect("the replica leads")
    }

    /// Commits what a quorum has.
    pub(super) fn advance_commit(&mut self, now: Mono, out: &mut Output) {
        let reached = self.quorum_has();
        let is_own = self.journal.term(reached) == Some(self.term);
        let is_own = is_own || self.planted(Planted::CommitsOldTerms);
        if reached <= self.committed || !is_own {
            return;
        }
        self.commit_to(reached, out);
        let notice_at = now.plus_ms(self.options.notice_ms);
        self.lead_mut().notice_at.get_or_insert(notice_at);
        self.remind_all(now, out);
        let (_, membership) = &self.memberships[0];
        if !membership.votes(self.me.replica) && !self.planted(Planted::RemovedLeaderCounts) {
            self.retire(now, out);
        }
    }

    /// Returns the last entry that a quorum has durably.
    fn quorum_has(&self) -> Index {
        let lead = self.lead.as_ref().expect("only a leader counts");
        let own = match self.planted(Planted::CountsOwnUndurable) {
            true => self.journal.last().index,
            false => self.durable,
        };
        let removed = !self.membership().votes(self.me.replica);
        let has = |voter: &Member| {
            let stands_in = removed && voter == &self.membership().voters[0];
            if voter.replica == self.me.replica
                || stands_in && self.planted(Planted::RemovedLeaderCounts)
            {
                return own;
            }
            let peer = lead.peer(voter.replica);
            peer.map_or(Index(0), |peer| peer.matched)
        };
        if self.planted(Planted::QuorumUnsorted) {
            let voters = &self.membership().voters;
            return has(&voters[voters.len() / 2]);
        }
        if self.planted(Planted::JointNeedsNewOnly) {
            let new = Membership::of(&self.membership().voters);
            return quorum::reached(&new, self.journal.last().index, has);
        }
        quorum::reached(self.membership(), self.journal.last().index, has)
    }

    /// Leaves the lead to others: the leader is not a voter any more. They are told what is committed,
    /// and the one that has most of the log need not wait for an election.
    fn retire(&mut self, now: Mono, out: &mut Output) {
        let lead = self.lead.as_ref().expect("only a leader retires");
        let (term, peers) = (self.term, lead.peers.len());
        let (_, membership) = &self.memberships[0];
        let voters = lead.peers.iter();
        let voters = voters.filter(|peer| membership.votes(peer.member.replica));
        let heir = voters.max_by_key(|peer| peer.matched);
        let heir = heir.map(|peer| peer.member);
        for at in 0..peers {
            self.confirm(now, at, out);
        }
        if let Some(heir) = heir {
            send(out, heir, Signal::TimeoutNow { term }, Gate::Now);
        }
        self.step_down(now, out);
    }

    /// Returns until when a quorum is bound to this leader.
    fn lease_until(&self, supports: &Supports) -> Mono {
        let lead = self.lead.as_ref().expect("only a leader has a lease");
        quorum::reached(self.membership(), Mono(u64::MAX), |voter| {
            if voter.replica == self.me.replica {
                return Mono(u64::MAX);
            }
            let Some(peer) = lead.peer(voter.replica) else {
                return Mono(0);
            };
            let mut epoch = peer.bound_by;
            if self.planted(Planted::LeaseIgnoresEpoch) && peer.matched > Index(0) {
                epoch = supports.epoch(voter.node);
            }
            supports.valid_until(voter.node, epoch)
        })
    }

    /// Tells whether the lease holds.
    pub(super) fn lease_holds(&self, now: Mono, supports: &Supports) -> bool {
        let Some(lead) = &self.lead else {
            return false;
        };
        let gave_up = lead.gave_up_lease && !self.planted(Planted::TransferKeepsLease);
        !gave_up && self.lease_until(supports) > now
    }

    /// Tells whether this replica may answer reads by itself: it leads, has applied an entry of its term,
    /// and a quorum is bound to it.
    ///
    /// What it answers must show all that is committed by now ([`Self::committed`]), which may be more
    /// than is applied: the leader's own disk may be the last to have it, and others may have shown it.
    #[must_use]
    pub fn serves_reads(&self, now: Mono, supports: &Supports) -> bool {
        let lead = self.lead.as_ref();
        let knows = lead.is_some_and(|lead| lead.term_start <= self.applied);
        knows && self.lease_holds(now, supports)
    }

    /// Notes whether a quorum is bound to this leader.
    pub(super) fn check_lease(&mut self, now: Mono, supports: &Supports) {
        if self.lead.is_some() {
            let holds = self.lease_until(supports) > now;
            let lost = &mut self.lead_mut().lease_lost;
            *lost = match holds {
                true => None,
                false => Some(lost.unwrap_or(now)),
            };
        }
    }

    /// Does what is due of a leader.
    pub(super) fn tick_leader(&mut self, now: Mono, supports: &Supports, out: &mut Output) {
        self.check_lease(now, supports);
        let lease_ms = self.options.lease_ms;
        let lost = self.lead_mut().lease_lost;
        if lost.is_some_and(|since| now >= since.plus_ms(lease_ms)) {
            // Without a quorum nothing can be committed; others may have one.
            return self.step_down(now, out);
        }
        self.tick_transfer(now, out);
        if self.lead.is_some() {
            self.tick_notice(now, out);
            self.tick_resend(now, supports, out);
        }
    }

    /// Tells the commit index to peers that have not heard of it, if it is time to.
    fn tick_notice(&mut self, now: Mono, out: &mut Output) {
        let committed = self.committed;
        let lead = self.lead_mut();
        if lead.notice_at.is_none_or(|at| now < at) {
            return;
        }
        lead.notice_at = None;
        for at in 0..lead.peers.len() {
            let peer = &self.lead_mut().peers[at];
            let is_told = peer.told_commit >= committed;
            if peer.is_awake && peer.mode == Mode::Replicate && !is_told {
                self.send_append(now, at, 0, out);
            }
        }
    }

    /// Takes in that the promises between this leader's node and a peer's have begun or ended.
    pub(super) fn support_of_peer_changed(
        &mut self,
        now: Mono,
        node: NodeId,
        supports: &Supports,
        out: &mut Output,
    ) {
        let received = supports.received(now, node);
        for at in 0..self.lead_mut().peers.len() {
            let peer = &mut self.lead_mut().peers[at];
            match received {
                _ if peer.member.node != node => {}
                None => peer.sleep(),
                Some(_) if !peer.is_awake => self.wake(now, at, out),
                Some(epoch) if peer.bound_by != epoch => self.confirm(now, at, out),
                Some(_) => {}
            }
        }
    }
}
