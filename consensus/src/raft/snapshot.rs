//! Snapshots in the place of entries that are gone, and entries whose bytes are lost. The core decides
//! who needs one and what follows from it; the hosts make, send and install them.
//!
//! Invariants:
//! 1. A snapshot stands for committed entries only, so it never contradicts a log that has them, and one
//!    of which everything is committed already is forgotten.
//! 2. An entry whose bytes are lost is still known by its position: it is acknowledged and voted with,
//!    and never dropped but by a leader's word. Its replica does not lead.
//!
//! Source: Raft (thesis), chapter 5; Alagappan et al., "Protocol-Aware Recovery", FAST 2018.

use super::{Event, Gate, Heard, Installed, Mono, Output, Raft, Role, Snapshot, send};
use crate::journal::Journal;
use crate::message::{AppendReply, Offer, Outcome, Signal};
use crate::progress::{Mode, Stage};
use crate::support::SupportEpoch;
use crate::types::{Chain, Index, LogPosition, ReplicaId, Term};

impl Raft {
    /// Offers a peer a snapshot that it needs. Does nothing if it does not need one any more.
    ///
    /// # Panics
    /// If the snapshot stands for what is not committed.
    pub fn offer_snapshot(
        &mut self,
        now: Mono,
        to: ReplicaId,
        snapshot: Snapshot,
        out: &mut Output,
    ) {
        assert!(
            snapshot.at.index <= self.committed,
            "a snapshot of what is not committed"
        );
        let term = self.term;
        let peers = self.lead.as_mut().map(|lead| lead.peers.iter_mut());
        let mut peers = peers.into_iter().flatten();
        let Some(peer) = peers.find(|peer| peer.member.replica == to) else {
            return;
        };
        if matches!(peer.mode, Mode::Snapshot(_)) {
            peer.mode = Mode::Snapshot(Stage::Offered(snapshot.at.index));
            peer.waiting_since = Some(now);
            let offer = Offer {
                term,
                at: snapshot.at,
                chain: snapshot.chain,
                membership: snapshot.membership,
            };
            let member = peer.member;
            send(out, member, Signal::Snapshot(Box::new(offer)), Gate::Now);
        }
    }

    /// Takes in that a peer has installed the snapshot at `at`: entries follow.
    pub fn snapshot_done(&mut self, now: Mono, to: ReplicaId, at: Index, out: &mut Output) {
        let Some(place) = self.lead.as_ref().and_then(|lead| lead.place(to)) else {
            return;
        };
        let peer = &mut self.lead_mut().peers[place];
        if matches!(peer.mode, Mode::Snapshot(_)) {
            peer.probe(at.next());
            self.pump(now, place, out);
        }
    }

    /// Takes in that sending a snapshot has failed: after a while the peer is asked where it stands.
    pub fn snapshot_failed(&mut self, now: Mono, to: ReplicaId) {
        let Some(place) = self.lead.as_ref().and_then(|lead| lead.place(to)) else {
            return;
        };
        let peer = &mut self.lead_mut().peers[place];
        if matches!(peer.mode, Mode::Snapshot(_)) {
            let next = peer.next;
            peer.probe(next);
            peer.waiting_since = Some(now);
        }
    }

    /// Takes in the offer of a snapshot.
    pub(super) fn receive_offer(&mut self, heard: Heard<'_>, offer: &Offer, out: &mut Output) {
        if offer.term < self.term {
            return self.answer_offer(heard, offer.at.index, false, out);
        }
        self.follow(heard, offer.term, out);
        if self.journal.contains(offer.at) {
            // The log has all that the snapshot stands for, which is committed.
            self.commit_to(offer.at.index, out);
        }
        let is_needed = offer.at.index > self.committed;
        if is_needed {
            let (from, at) = (heard.from, offer.at);
            out.events.push(Event::SnapshotAccepted { from, at });
        } else {
            self.tell_matched(self.committed, out);
        }
        self.answer_offer(heard, offer.at.index, is_needed, out);
    }

    /// Answers the offer of a snapshot.
    fn answer_offer(&self, heard: Heard<'_>, index: Index, accepted: bool, out: &mut Output) {
        let reply = Signal::SnapshotReply {
            term: self.term,
            index,
            accepted,
        };
        send(out, heard.from, reply, Gate::Durable);
    }

    /// Tells the leader, unasked, that the log matches its own up to `index`.
    fn tell_matched(&self, index: Index, out: &mut Output) {
        let Some(leader) = self.leader.filter(|_| self.lead.is_none()) else {
            return;
        };
        let bond = self.bond.filter(|bond| bond.term == self.term);
        let reply = AppendReply {
            term: self.term,
            outcome: Outcome::Matched { index },
            probe: 0,
            commit: self.committed,
            epoch: bond.map_or(SupportEpoch::NONE, |bond| bond.epoch),
        };
        send(out, leader, Signal::AppendReply(reply), Gate::Durable);
    }

    /// Takes in the answer to the offer of a snapshot.
    pub(super) fn receive_snapshot_reply(
        &mut self,
        heard: Heard<'_>,
        (term, index, accepted): (Term, Index, bool),
        out: &mut Output,
    ) {
        if self.role != Role::Leader || term < self.term {
            return;
        }
        if term > self.term {
            return self.adopt(heard.now, term, out);
        }
        let place = self.lead_mut().place(heard.from.replica);
        let Some(place) = place else {
            return;
        };
        let peer = &mut self.lead_mut().peers[place];
        if peer.mode == Mode::Snapshot(Stage::Offered(index)) && accepted {
            // The host sends it, and says what becomes of it.
            peer.mode = Mode::Snapshot(Stage::Accepted(index));
            peer.waiting_since = Some(heard.now);
        }
    }

    /// Takes in that a snapshot was received and its state is durable. If the log is to be dropped, the
    /// host does so in the same durable step.
    ///
    /// # Panics
    /// If the replica leads and has not committed what the snapshot stands for.
    pub fn installed(&mut self, now: Mono, snapshot: Snapshot, out: &mut Output) -> Installed {
        let at = snapshot.at;
        if at.index <= self.committed {
            return Installed::Ignored;
        }
        assert!(
            self.lead.is_none(),
            "a leader has committed all that others have"
        );
        self.damaged.retain(|damaged| *damaged > at.index);
        let keeps = self.journal.contains(at);
        if keeps {
            self.commit_to(at.index, out);
        } else {
            self.replace_log(snapshot, out);
        }
        self.applied = self.applied.max(at.index);
        self.tell_matched(at.index, out);
        if self.role == Role::Candidate || self.role == Role::PreCandidate {
            // It was a candidate for what its log was; now there is more.
            self.role = Role::Follower;
            self.election_at = Some(now.plus_ns(self.election_delay_ns()));
        }
        self.recall(now, out);
        match keeps {
            true => Installed::KeepsLog,
            false => Installed::DropsLog,
        }
    }

    /// Puts a snapshot in the place of the log.
    fn replace_log(&mut self, snapshot: Snapshot, out: &mut Output) {
        let Snapshot {
            at,
            chain,
            membership,
        } = snapshot;
        self.journal = Journal::new(at, chain);
        self.damaged.clear();
        self.truncations += 1;
        // A mark that was taken before speaks of a log that is gone.
        self.truncated.push((self.truncations, at.index));
        (self.durable, self.committed) = (at.index, at.index);
        self.memberships.clear();
        self.memberships.push((at.index, membership));
        let index = at.index;
        out.events.push(Event::MembershipActive { index });
        out.events.push(Event::MembershipCommitted { index });
    }

    /// Takes in that the log does not hold the entries up to `index` any more: `chain` is that of the
    /// last of them. They are applied.
    ///
    /// # Panics
    /// If they are not applied, or the log never held them.
    pub fn compacted(&mut self, index: Index, chain: Chain) {
        assert!(index <= self.applied, "what is compacted is applied");
        self.journal.compact(index, chain);
    }

    /// Takes in that the bytes of an entry of the log are lost; a leader steps down.
    pub fn corrupt(&mut self, now: Mono, at: LogPosition, out: &mut Output) {
        if self.journal.contains(at) && !self.damaged.contains(&at.index) {
            self.damaged.push(at.index);
            self.step_down(now, out);
            self.role = Role::Follower;
        }
    }

    /// Takes in that the bytes of an entry are there again.
    pub fn repaired(&mut self, now: Mono, at: LogPosition) {
        self.damaged.retain(|damaged| *damaged != at.index);
        if self.lead.is_none() && self.election_at.is_none() {
            // It may be the only one that can lead; when the time comes it sees whether it may.
            self.election_at = Some(now.plus_ns(self.election_delay_ns()));
        }
    }
}
