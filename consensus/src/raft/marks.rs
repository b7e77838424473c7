//! How far a replica's log is durable, committed and applied, and what happens when some of it is dropped.
//!
//! Invariants: see the module above, 1 and 2. An entry that was dropped and has come back is durable only
//! when it was written again.

use super::{Event, LogMark, Output, Planted, Raft, Role};
use crate::types::{Index, Mono};

impl Raft {
    /// Returns up to where the replica was told that its log is durable.
    #[must_use]
    pub fn durable_index(&self) -> Index {
        self.durable
    }

    /// Returns a mark for all that the replica has given to its host so far, ballot and entries: taken
    /// when that is handed to the disk, given back to [`Self::durable`] when it is durable.
    #[must_use]
    pub fn mark(&self) -> LogMark {
        LogMark {
            truncations: self.truncations,
            index: self.journal.last().index,
            ballots: self.ballots,
        }
    }

    /// Takes in that all up to `mark` is durable, if it is in the log still. To be called for ballots
    /// too: a candidate's own vote counts when it is durable.
    ///
    /// # Panics
    /// If the mark is another replica's.
    pub fn durable(&mut self, now: Mono, mark: LogMark, out: &mut Output) {
        let since = self.truncated.iter();
        let since = since.filter(|(count, _)| *count > mark.truncations);
        // What was dropped since and came back has not been written again.
        let stays = since.map(|(_, index)| *index).min().unwrap_or(mark.index);
        let mut index = mark.index.min(stays);
        if self.planted(Planted::DurableIgnoresTruncation) {
            index = mark.index.min(self.journal.last().index);
        }
        self.truncated
            .retain(|(count, _)| *count > mark.truncations);
        assert!(index <= self.journal.last().index, "durable beyond the log");
        self.durable = self.durable.max(index);
        if self.lead.is_some() {
            self.advance_commit(now, out);
        } else if self.role == Role::Candidate && mark.ballots == self.ballots {
            self.take_vote((self.me.replica, true), now, out);
        }
        self.recall(now, out);
    }

    /// Takes in that the entries up to `index` are applied.
    ///
    /// # Panics
    /// If they are not committed.
    pub fn applied(&mut self, index: Index) {
        assert!(index <= self.committed, "applied what is not committed");
        self.applied = self.applied.max(index);
    }

    /// Takes in that the host no longer holds entries before `first_kept` in memory. What is not
    /// committed stays held.
    pub fn released(&mut self, first_kept: Index) {
        self.journal.release(first_kept.min(self.committed.next()));
    }

    /// Gives back the memory that a burst has left: for a host to call when the replica has been quiet
    /// for a while.
    pub fn shrink(&mut self) {
        self.journal.shrink();
        self.votes.shrink_to_fit();
        self.truncated.shrink_to_fit();
        self.damaged.shrink_to_fit();
        if let Some(lead) = &mut self.lead {
            lead.reads.shrink();
        }
    }

    /// Drops the entries above `index`, which are not committed.
    pub(super) fn truncate_after(&mut self, index: Index, out: &mut Output) {
        assert!(self.lead.is_none(), "a leader drops nothing");
        assert!(index >= self.committed, "what is committed stays");
        self.journal.truncate_after(index);
        self.durable = self.durable.min(index);
        self.truncations += 1;
        self.truncated.push((self.truncations, index));
        self.damaged.retain(|damaged| *damaged <= index);
        let count = self.memberships.len();
        self.memberships.retain(|(at, _)| *at <= index);
        if self.memberships.len() < count {
            let (index, _) = self.memberships[self.memberships.len() - 1];
            out.events.push(Event::MembershipActive { index });
        }
    }

    /// Takes in that the log is committed up to `index`.
    pub(super) fn commit_to(&mut self, index: Index, out: &mut Output) {
        assert!(
            index <= self.journal.last().index,
            "committed beyond the log"
        );
        if index <= self.committed {
            return;
        }
        self.committed = index;
        let settled = self.memberships.iter().rposition(|(at, _)| *at <= index);
        let settled = settled.expect("the first membership is committed");
        if settled > 0 {
            let mut gone = self.memberships.drain(..settled);
            let was_member = gone.any(|(_, old)| old.member(self.me.replica).is_some());
            drop(gone);
            let (index, membership) = &self.memberships[0];
            out.events
                .push(Event::MembershipCommitted { index: *index });
            if was_member && membership.member(self.me.replica).is_none() {
                out.events.push(Event::Removed);
            }
        }
    }
}
