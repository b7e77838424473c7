//! A follower's side of replication: which entries of an append are new, which of its own must go, and
//! what it answers.
//!
//! Invariants:
//! 1. An answer leaves only when all that it speaks of is durable.
//! 2. Only entries that the leader's append has shown to be the leader's are committed by its word.
//! 3. Where index and term are equal, so are the chains; or an alarm is raised and nothing is taken.
//!
//! Source: Raft (thesis), section 3.5.

use super::{Accepted, Alarm, Bond, Event, Gate, Heard, Output, Planted, Raft, Role, send};
use crate::membership::Membership;
use crate::message::{Append, AppendReply, EntryMeta, Metas, Outcome, Signal};
use crate::support::SupportEpoch;
use crate::types::{Chain, Index, LogPosition, Term};

impl Raft {
    /// Takes in an append.
    pub(super) fn receive_append(
        &mut self,
        heard: Heard<'_>,
        head: &Append,
        metas: &Metas<'_>,
        out: &mut Output,
    ) -> Accepted {
        let behind = Index(head.prev.index.0 + u64::from(metas.count()));
        if head.term < self.term {
            self.reject(heard, head, LogPosition::default(), out);
            return Accepted::default();
        }
        self.follow(heard, head.term, out);
        if self.parts_at(head.prev.index, head.prev.term, head.prev_chain) {
            return diverged(head.prev.index, out);
        }
        if behind <= self.committed {
            // All of it is old. What is committed is the leader's, whoever it is.
            let index = self.committed;
            self.answer(heard, head, Outcome::Matched { index }, out);
            return Accepted::default();
        }
        if head.prev.index > self.committed && !self.journal.contains(head.prev) {
            let hint = self.journal.latest_within(head.prev);
            self.reject(heard, head, hint, out);
            return Accepted::default();
        }
        let accepted = match self.compare(head.prev.index, metas) {
            Ok(accepted) => accepted,
            Err(index) => return diverged(index, out),
        };
        self.take(&accepted, metas, out);
        let told = match self.planted(Planted::CommitsUnverified) {
            true => head.commit.min(self.journal.last().index),
            false => head.commit.min(behind),
        };
        self.commit_to(told, out);
        self.answer(heard, head, Outcome::Matched { index: behind }, out);
        accepted
    }

    /// Follows the sender, which leads `term`, and binds itself to it.
    pub(super) fn follow(&mut self, heard: Heard<'_>, term: Term, out: &mut Output) {
        self.release_from(heard.from, term);
        if term > self.term {
            self.adopt(heard.now, term, out);
        }
        assert!(self.role != Role::Leader, "two leaders in one term");
        self.role = Role::Follower;
        if term <= self.resigned {
            // Old news of a leader that has resigned since.
            return;
        }
        let other = self.leader.filter(|leader| *leader != heard.from);
        assert!(other.is_none(), "two leaders in one term");
        self.set_leader(Some(heard.from), out);
        (self.attempts, self.is_left) = (0, false);
        let given = heard.supports.given(heard.now, heard.from.node);
        self.bond = Some(Bond {
            leader: heard.from,
            term,
            epoch: given.unwrap_or(SupportEpoch::NONE),
        });
        if given.is_none() {
            // The leader's node has not asked for support, or not in time: it has a while to do so.
            let delay_ns = self.election_delay_ns();
            let at = heard.now.plus_ms(self.options.lease_ms);
            self.election_at = Some(at.plus_ns(delay_ns));
        }
    }

    /// Tells whether this log differs from the leader's at an entry where they must be equal: because
    /// it is committed, or of one term.
    fn parts_at(&self, index: Index, term: Term, chain: Option<Chain>) -> bool {
        let Some(mine) = self.journal.term(index) else {
            return false;
        };
        if mine != term {
            return index <= self.committed;
        }
        let known = self.journal.chain(index);
        known.is_some() && chain.is_some() && known != chain
    }

    /// Compares an append's entries with the log: those that it has are skipped, and from the first
    /// that differs on its own go.
    ///
    /// # Errors
    /// The index of an entry that differs where it must not.
    fn compare(&self, prev: Index, metas: &Metas<'_>) -> Result<Accepted, Index> {
        let (last, mut index, mut skip) = (self.journal.last().index, prev, 0);
        let mut truncate_after = None;
        for (meta, _) in metas.iter() {
            index = index.next();
            if index > last {
                break;
            }
            if self.parts_at(index, meta.term, Some(meta.chain)) {
                return Err(index);
            }
            let same = self
                .journal
                .term(index)
                .is_none_or(|term| term == meta.term);
            let redo = self.planted(Planted::TruncatesMatching) && index > self.committed;
            if !same || redo {
                truncate_after = Some(index.before());
                break;
            }
            skip += 1;
        }
        let count = usize::try_from(metas.count()).expect("a u32 fits");
        Ok(Accepted {
            truncate_after,
            skip,
            take: count - skip,
        })
    }

    /// Takes the new entries of an append into the log.
    fn take(&mut self, accepted: &Accepted, metas: &Metas<'_>, out: &mut Output) {
        if let Some(index) = accepted.truncate_after {
            self.truncate_after(index, out);
        }
        for (meta, membership) in metas.iter().skip(accepted.skip) {
            self.push(&meta, membership, out);
        }
    }

    /// Appends one entry of the leader's.
    fn push(&mut self, meta: &EntryMeta, membership: Option<&[u8]>, out: &mut Output) {
        let index = self.journal.push(meta);
        if let Some(bytes) = membership {
            let membership = Membership::decode(bytes).expect("checked when it was decoded");
            self.memberships.push((index, membership));
            out.events.push(Event::MembershipActive { index });
        }
    }

    /// Says that the entry before those sent is missing, and where the logs may meet.
    fn reject(&self, heard: Heard<'_>, head: &Append, hint: LogPosition, out: &mut Output) {
        let prev = head.prev.index;
        self.answer(heard, head, Outcome::Rejected { prev, hint }, out);
    }

    /// Answers an append.
    fn answer(&self, heard: Heard<'_>, head: &Append, outcome: Outcome, out: &mut Output) {
        let bond = self
            .bond
            .filter(|bond| bond.term == head.term && bond.leader == heard.from);
        let reply = AppendReply {
            term: self.term,
            outcome,
            probe: head.probe,
            commit: self.committed,
            epoch: bond.map_or(SupportEpoch::NONE, |bond| bond.epoch),
        };
        let gate = match self.planted(Planted::AcksBeforeDurable) {
            true => Gate::Now,
            false => Gate::Durable,
        };
        send(out, heard.from, Signal::AppendReply(reply), gate);
    }
}

/// Raises the alarm that this log and the leader's differ where they must not.
fn diverged(index: Index, out: &mut Output) -> Accepted {
    out.events.push(Event::Alarm(Alarm::Diverged { index }));
    Accepted::default()
}
