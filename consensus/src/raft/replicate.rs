//! How a leader brings its log to its peers: what is sent when, within which window, and what becomes of
//! the answers.
//!
//! Invariants:
//! 1. A peer's matched index is what it said itself in this term; it never exceeds the leader's log.
//! 2. Every append with an answer due is followed by another one if the answer does not come, as long
//!    as the peer's node supports this one.
//!
//! Source: Raft (thesis), sections 3.5 and 10.2; backtracking by term and index as in etcd.

use super::{Fetch, Gate, Heard, Mono, NodeId, Output, Raft, Role, Send, SnapshotWanted};
use crate::membership::Member;
use crate::message::{Append, AppendReply, EntryMeta, Outcome, Outgoing};
use crate::progress::{Mode, Progress, Stage};
use crate::support::Supports;
use crate::types::{Index, LogPosition, ReplicaId};

/// Most appends without an answer to a peer that is served from disk.
const FETCHED_MESSAGES_MAX: u32 = 2;

impl Raft {
    /// Returns a peer's progress.
    fn peer(&mut self, at: usize) -> &mut Progress {
        &mut self.lead_mut().peers[at]
    }

    /// Sends every peer what it may be sent.
    pub(super) fn pump_all(&mut self, now: Mono, out: &mut Output) {
        for at in 0..self.lead_mut().peers.len() {
            self.pump(now, at, out);
        }
    }

    /// Sends a peer what it may be sent.
    pub(super) fn pump(&mut self, now: Mono, at: usize, out: &mut Output) {
        while self.may_send(at) {
            let (first_held, base) = (self.journal.first_held(), self.journal.base().index);
            let (last, options) = (self.journal.last().index, self.options);
            let peer = self.peer(at);
            let (next, mode, messages) = (peer.next, peer.mode, peer.messages);
            if next.before() < base {
                return self.want_snapshot(now, at, out);
            }
            let is_held = next >= first_held && next <= last;
            if is_held {
                let (bytes_max, count_max) = (options.append_bytes_max, options.append_entries_max);
                let count = self.journal.count_within(next, bytes_max, count_max);
                self.send_append(now, at, count, out);
            } else if mode == Mode::Probe {
                self.send_append(now, at, 0, out);
            } else if messages < FETCHED_MESSAGES_MAX {
                self.fetch(at, out);
            } else {
                return;
            }
        }
    }

    /// Tells whether the peer's window is open and there is something to send.
    fn may_send(&self, at: usize) -> bool {
        let lead = self.lead.as_ref().expect("only a leader sends");
        let peer = &lead.peers[at];
        match peer.mode {
            _ if !peer.is_awake => false,
            Mode::Probe => peer.waiting_since.is_none(),
            Mode::Replicate => {
                let has_more = peer.next <= self.journal.last().index && !peer.is_fetching;
                let under_way = self.journal.bytes(peer.matched, peer.next.before());
                has_more
                    && peer.messages < self.options.inflight_messages_max
                    && under_way < self.options.inflight_bytes_max
            }
            Mode::Snapshot(_) => false,
        }
    }

    /// Asks the host for entries that it does not hold in memory.
    fn fetch(&mut self, at: usize, out: &mut Output) {
        let (bytes_max, entries_max) = (
            self.options.append_bytes_max,
            self.options.append_entries_max,
        );
        let peer = self.peer(at);
        peer.is_fetching = true;
        out.fetches.push(Fetch {
            to: peer.member,
            first: peer.next,
            bytes_max,
            entries_max,
        });
    }

    /// Sends an append with `count` entries from the peer's next one on.
    pub(super) fn send_append(&mut self, now: Mono, at: usize, count: u32, out: &mut Output) {
        let (position, last) = (self.peer(at).next.before(), self.journal.last());
        let prev = self.journal.position(position).unwrap_or(last);
        self.send_behind(now, at, (prev, count), out);
    }

    /// Sends an append with `count` entries behind `prev`.
    fn send_behind(
        &mut self,
        now: Mono,
        at: usize,
        (prev, count): (LogPosition, u32),
        out: &mut Output,
    ) {
        let lead = self.lead.as_mut().expect("only a leader sends");
        let peer = &mut lead.peers[at];
        let head = Append {
            term: self.term,
            prev,
            prev_chain: self.journal.chain(prev.index),
            commit: self.committed,
            probe: lead.reads.probe,
        };
        peer.told_commit = self.committed;
        peer.sent_probe = head.probe;
        peer.waiting_since.get_or_insert(now);
        let to = peer.member;
        if peer.mode == Mode::Replicate && count > 0 {
            peer.next = Index(peer.next.0 + u64::from(count));
            if self.extend(to, &head, count, out) {
                return;
            }
            self.peer(at).messages += 1;
        }
        let message = Outgoing::Append { head, count };
        let gate = Gate::Now;
        out.sends.push(Send { to, message, gate });
    }

    /// Adds `count` entries to an append to the same peer that has not left yet, and ends where they
    /// begin; tells whether there was one.
    fn extend(&self, to: Member, head: &Append, count: u32, out: &mut Output) -> bool {
        let recent = out
            .sends
            .iter_mut()
            .rev()
            .take(2 * crate::membership::MEMBERS_MAX);
        let mut same = recent.filter(|send| send.to == to);
        let Some(Send { message, .. }) = same.next() else {
            return false;
        };
        let Outgoing::Append {
            head: before,
            count: earlier,
        } = message
        else {
            return false;
        };
        let first = before.prev.index;
        let joins = before.term == head.term && first.0 + u64::from(*earlier) == head.prev.index.0;
        let upto = Index(head.prev.index.0 + u64::from(count));
        let bytes = self.journal.bytes(first, upto);
        let total = *earlier + count;
        let fits = total <= self.options.append_entries_max
            && bytes <= u64::from(self.options.append_bytes_max);
        let is_held = first.next() >= self.journal.first_held();
        if *earlier == 0 || !joins || !fits || !is_held {
            return false;
        }
        *earlier = total;
        (before.commit, before.probe) = (head.commit, head.probe);
        true
    }

    /// Sends a peer an append without entries whose answer shows that it still follows.
    pub(super) fn confirm(&mut self, now: Mono, at: usize, out: &mut Output) {
        let lead = self.lead_mut();
        lead.reads.probe += 1;
        self.send_probe(now, at, out);
    }

    /// Sends a peer an append without entries, whatever its window.
    pub(super) fn send_probe(&mut self, now: Mono, at: usize, out: &mut Output) {
        let last = self.journal.last();
        match self.peer(at).mode {
            Mode::Snapshot(_) => self.send_behind(now, at, (last, 0), out),
            _ => self.send_append(now, at, 0, out),
        }
    }

    /// Takes in entries that the host has fetched for a peer and is about to send: they begin at
    /// `first`, as was asked.
    ///
    /// # Panics
    /// If they go beyond the log.
    pub fn fetched(
        &mut self,
        now: Mono,
        to: ReplicaId,
        first: Index,
        metas: &[EntryMeta],
        out: &mut Output,
    ) {
        let Some(at) = self.lead.as_ref().and_then(|lead| lead.place(to)) else {
            return;
        };
        let peer = self.peer(at);
        let is_wanted = peer.is_fetching && peer.next == first && peer.is_awake;
        peer.is_fetching = false;
        let count = u32::try_from(metas.len()).expect("an append has few entries");
        if is_wanted && count > 0 && self.peer(at).mode == Mode::Replicate {
            let end = Index(first.0 + u64::from(count) - 1);
            assert!(end <= self.journal.last().index, "fetched beyond the log");
            self.send_append(now, at, count, out);
        } else {
            self.pump(now, at, out);
        }
    }

    /// Takes in that entries that were to be fetched for a peer are not in the log any more.
    pub fn gone(&mut self, now: Mono, to: ReplicaId, out: &mut Output) {
        let Some(at) = self.lead.as_ref().and_then(|lead| lead.place(to)) else {
            return;
        };
        if self.peer(at).is_fetching {
            self.want_snapshot(now, at, out);
        }
    }

    /// Asks the host for a snapshot for a peer.
    pub(super) fn want_snapshot(&mut self, now: Mono, at: usize, out: &mut Output) {
        let peer = self.peer(at);
        peer.mode = Mode::Snapshot(Stage::Wanted);
        peer.is_fetching = false;
        peer.waiting_since = Some(now);
        let to = peer.member;
        out.offers.push(SnapshotWanted { to });
    }

    /// Takes in the answer to an append.
    pub(super) fn receive_append_reply(
        &mut self,
        heard: Heard<'_>,
        reply: &AppendReply,
        out: &mut Output,
    ) {
        if self.role != Role::Leader || reply.term < self.term {
            return;
        }
        if reply.term > self.term {
            // The peer stood for election alone and can only be brought back by a later term.
            return self.adopt(heard.now, reply.term, out);
        }
        let place = self.lead_mut().place(heard.from.replica);
        let Some(at) = place else {
            return;
        };
        let (now, was_asleep) = (heard.now, !self.peer(at).is_awake);
        let matched = self.peer(at).matched;
        self.note_reply(at, reply);
        match reply.outcome {
            Outcome::Matched { index } => {
                assert!(
                    index <= self.journal.last().index,
                    "a peer has more than there is"
                );
                self.peer(at).matches(index);
            }
            Outcome::Rejected { prev, hint } => self.backtrack(at, prev, hint),
        }
        if self.peer(at).matched > matched {
            self.advance_commit(now, out);
        }
        if self.lead.is_none() {
            // The commit has ended this leader's time.
            return;
        }
        let peer = self.peer(at);
        match peer.mode {
            _ if !peer.is_owed() => peer.waiting_since = None,
            Mode::Replicate | Mode::Snapshot(Stage::Accepted(_)) => peer.waiting_since = Some(now),
            Mode::Probe | Mode::Snapshot(_) => {}
        }
        if was_asleep {
            self.wake(now, at, out);
        }
        if self.lead_mut().lease_lost.is_some() {
            self.check_lease(now, heard.supports);
        }
        self.pump(now, at, out);
        self.see_to_notice(now, at);
        self.answer_reads(now, out);
        self.hand_over(out);
    }

    /// Sees to it that a peer hears of the commit index, if it has not been told.
    fn see_to_notice(&mut self, now: Mono, at: usize) {
        let (committed, notice_ms) = (self.committed, self.options.notice_ms);
        let peer = self.peer(at);
        if peer.mode == Mode::Replicate && peer.told_commit < committed {
            let notice_at = &mut self.lead_mut().notice_at;
            notice_at.get_or_insert(now.plus_ms(notice_ms));
        }
    }

    /// Notes what every answer to an append says.
    fn note_reply(&mut self, at: usize, reply: &AppendReply) {
        let counts_old = self.planted(super::Planted::ReadsCountOldReplies);
        let latest = self.lead_mut().reads.probe;
        let peer = self.peer(at);
        peer.bound_by = peer.bound_by.max(reply.epoch);
        peer.known_commit = peer.known_commit.max(reply.commit);
        peer.acked_probe = peer.acked_probe.max(reply.probe);
        if matches!(peer.mode, Mode::Snapshot(_)) {
            // What the peer has committed is in the leader's log too.
            peer.matches(reply.commit);
        }
        if counts_old {
            peer.acked_probe = latest;
        }
    }

    /// Takes in that a peer lacks the entry at `prev`, and that the logs may meet at `hint`.
    fn backtrack(&mut self, at: usize, prev: Index, hint: LogPosition) {
        let found = self.journal.latest_within(hint);
        let base = self.journal.base();
        let peer = self.peer(at);
        let is_stale = match peer.mode {
            Mode::Replicate => prev <= peer.matched,
            Mode::Probe => prev != peer.next.before(),
            Mode::Snapshot(_) => true,
        };
        if is_stale {
            return;
        }
        // Before the base there is nothing to compare: the entry before it is asked for, which is gone.
        let parts_before_base = hint.index < base.index || found.term > hint.term;
        let meet = match parts_before_base && base.index > Index(0) {
            true => base.index.before(),
            false => found.index,
        };
        peer.probe(meet.next());
    }

    /// Finds out anew where a peer stands that was not heard of for a while.
    pub(super) fn wake(&mut self, now: Mono, at: usize, out: &mut Output) {
        let peer = self.peer(at);
        peer.is_awake = true;
        if !matches!(peer.mode, Mode::Snapshot(_)) {
            let next = peer.next;
            peer.probe(next);
        }
        self.confirm(now, at, out);
    }

    /// Wakes the peers on a node that there is a new connection to.
    pub(super) fn wake_peers(&mut self, now: Mono, node: NodeId, out: &mut Output) {
        for at in 0..self.lead_mut().peers.len() {
            if self.peer(at).member.node == node {
                self.wake(now, at, out);
            }
        }
    }

    /// Sends again what was not answered, and lets peers sleep whose node does not support this one.
    pub(super) fn tick_resend(&mut self, now: Mono, supports: &Supports, out: &mut Output) {
        let resend_ms = self.options.resend_ms;
        for at in 0..self.lead_mut().peers.len() {
            let peer = self.peer(at);
            let is_due = |since: Mono| now >= since.plus_ms(resend_ms);
            if !peer.is_awake || !peer.waiting_since.is_some_and(is_due) {
                continue;
            }
            if supports.received(now, peer.member.node).is_none() {
                peer.sleep();
            } else {
                self.resend(now, at, out);
            }
        }
    }

    /// Sends again what a peer has not answered.
    fn resend(&mut self, now: Mono, at: usize, out: &mut Output) {
        let peer = self.peer(at);
        match peer.mode {
            Mode::Probe | Mode::Replicate => {
                let next = match peer.mode {
                    Mode::Probe => peer.next,
                    _ => peer.matched.next(),
                };
                peer.probe(next);
                self.pump(now, at, out);
            }
            Mode::Snapshot(Stage::Accepted(_)) => {
                // Its word that it has installed the snapshot may be lost.
                peer.waiting_since = None;
                self.confirm(now, at, out);
            }
            Mode::Snapshot(_) => {
                let is_asked = peer.acked_probe < peer.sent_probe;
                self.want_snapshot(now, at, out);
                if is_asked {
                    self.send_probe(now, at, out);
                }
            }
        }
    }
}
