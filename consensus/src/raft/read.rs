//! Reads without a lease: the leader remembers its commit index, has a quorum confirm that it still
//! leads, and serves the read when it has applied so much.
//!
//! Confirmations are counted: every append carries the number of the latest round and every answer
//! returns it, so an old answer confirms nothing new. Reads that come while a round is under way share
//! the next one.
//!
//! Invariant: the round that confirms a read begins after the read came, and the read's index is at
//! least the first entry of the term, with which all that was committed before is committed.
//!
//! Source: Raft (thesis), section 6.4; counters as in etcd 3.7.

use std::collections::VecDeque;

use super::{Mono, NotLeader, Output, Planted, Raft, ReadAnswer, ReadReady};
use crate::membership::Member;
use crate::quorum;
use crate::support::Supports;
use crate::types::Index;

/// A read that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: u64,
    /// The round that confirms it.
    round: u64,
    index: Index,
}

/// The reads that wait, and the rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// The number that appends carry; grows by one with each round, and when one peer is asked.
    pub(super) probe: u64,
    /// The number that was last sent to all.
    sent_to_all: u64,
    waiting: VecDeque<Waiting>,
}

impl Reads {
    /// Gives memory back that is not in use.
    pub(super) fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
    }

    /// Says to all who wait that the replica does not lead.
    pub(super) fn fail(&mut self, out: &mut Output) {
        for read in self.waiting.drain(..) {
            let result = Err(NotLeader);
            let ticket = read.ticket;
            out.reads.push(ReadReady { ticket, result });
        }
    }
}

impl Raft {
    /// Asks for what must be applied before a read that comes now is served. `ticket` names the read
    /// in the [`ReadReady`] that follows if it has to wait.
    pub fn read(
        &mut self,
        now: Mono,
        ticket: u64,
        supports: &Supports,
        out: &mut Output,
    ) -> ReadAnswer {
        let Some(lead) = &self.lead else {
            return ReadAnswer::NotLeader(self.leader);
        };
        let mut index = self.committed.max(lead.term_start);
        if self.planted(Planted::ReadsBeforeTermCommits) {
            index = self.committed;
        }
        if self.lease_holds(now, supports) {
            return ReadAnswer::Now(index);
        }
        let reads = &mut self.lead_mut().reads;
        let (is_first, round) = (reads.waiting.is_empty(), reads.probe + 1);
        let count = reads.waiting.len();
        if u32::try_from(count).is_ok_and(|count| count >= self.options.reads_max) {
            return ReadAnswer::Busy;
        }
        let read = Waiting {
            ticket,
            round,
            index,
        };
        self.lead_mut().reads.waiting.push_back(read);
        if is_first {
            self.begin_round(now, out);
        }
        ReadAnswer::Wait
    }

    /// Asks all voters to confirm that this replica leads.
    fn begin_round(&mut self, now: Mono, out: &mut Output) {
        let reads = &mut self.lead_mut().reads;
        reads.probe += 1;
        reads.sent_to_all = reads.probe;
        for at in 0..self.lead_mut().peers.len() {
            let peer = &self.lead_mut().peers[at];
            let (replica, is_awake) = (peer.member.replica, peer.is_awake);
            if is_awake && self.membership().votes(replica) {
                self.send_probe(now, at, out);
            }
        }
    }

    /// Answers the reads that are confirmed, and begins another round if some still wait.
    pub(super) fn answer_reads(&mut self, now: Mono, out: &mut Output) {
        let lead = self.lead.as_ref().expect("only a leader has reads");
        if lead.reads.waiting.is_empty() {
            return;
        }
        let confirmed = quorum::reached(self.membership(), u64::MAX, |voter: &Member| {
            if voter.replica == self.me.replica {
                return u64::MAX;
            }
            lead.peer(voter.replica).map_or(0, |peer| peer.acked_probe)
        });
        let reads = &mut self.lead_mut().reads;
        while let Some(read) = reads.waiting.front().filter(|read| read.round <= confirmed) {
            let (ticket, result) = (read.ticket, Ok(read.index));
            out.reads.push(ReadReady { ticket, result });
            reads.waiting.pop_front();
        }
        let waits = reads.waiting.front();
        if waits.is_some_and(|read| read.round > reads.sent_to_all) {
            self.begin_round(now, out);
        }
    }
}
