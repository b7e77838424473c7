//! A partition among others, as its shard sees it: who serves it, what it is told, what it is asked. What
//! follows from that in the replica is in [`crate::group`].

use ashlar_consensus::raft::{Output, Raft, Role};
use ashlar_consensus::{Index, Member, Mono, NodeId, Supports, Timestamp};
use ashlar_io::wal::{Mark, Position};

use crate::ballot::BallotRecord;
use crate::command::Malformed;
use crate::group::Turn;
use crate::outbox::Feed;
use crate::partition::Partition;

/// Who serves a partition, as its replica here knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This replica does.
    Serves,
    /// It leads and will serve, or step down, within a lease: it must hear from the others first.
    Preparing,
    /// Another one leads.
    Follows(Member),
    /// Nobody that is known of.
    Leaderless,
}

impl Partition {
    /// Says who serves this partition. One without others serves itself.
    #[must_use]
    pub fn standing(&self, now: Mono, supports: &Supports) -> Standing {
        let Some(group) = &self.replica.group else {
            return Standing::Serves;
        };
        match (group.raft.role(), group.raft.leader()) {
            (Role::Leader, _) if group.serves(now, supports) && group.raft.may_propose() => {
                Standing::Serves
            }
            (Role::Leader, _) => Standing::Preparing,
            (_, Some(leader)) => Standing::Follows(leader),
            (_, None) => Standing::Leaderless,
        }
    }

    /// Says whether what is proposed here becomes part of the log: not by a follower, and not before a
    /// new leader's first entry is applied. What entries of earlier leaders say that are in flight is
    /// not known here, so nothing is decided before they are applied.
    #[must_use]
    pub fn may_propose(&self) -> bool {
        self.raft().is_none_or(|raft| {
            let knows_all = raft.term_of(self.applied()) == Some(raft.term());
            raft.role() == Role::Leader && knows_all && raft.may_propose()
        })
    }

    /// Says whether this replica leads, ready to serve or not.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raft().is_none_or(|raft| raft.role() == Role::Leader)
    }

    /// Says whether all that was proposed here was given to the log.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        !self.replica.is_open()
    }

    /// Returns the newest entry in flight that this replica has proposed, if there are commands in it, and the
    /// timestamp of the first.
    #[must_use]
    pub fn proposed(&self) -> Option<(Index, Timestamp)> {
        self.leads().then(|| self.replica.newest()).flatten()
    }

    /// Returns the hash of the last entry applied and all before it.
    #[must_use]
    pub fn applied_chain(&self) -> u64 {
        self.replica.state().chain
    }

    /// Returns the consensus core, if there are other replicas.
    #[must_use]
    pub fn raft(&self) -> Option<&Raft> {
        self.replica.group.as_ref().map(|group| &group.raft)
    }

    /// Has the core decide something, and does what it answers. Nothing happens without others.
    pub fn decide(
        &mut self,
        turn: &mut Turn<'_>,
        decide: impl FnOnce(&mut Raft, &Turn<'_>, &mut Output),
    ) {
        self.replica.step(turn, decide);
    }

    /// Hands leadership over to the replica on `to`, or to the one whose log is furthest; it is begun in
    /// this turn, and may fail. Says whether this replica leads and there is such a one.
    pub fn hand_over(&mut self, to: Option<NodeId>) -> bool {
        let Some(raft) = self.raft().filter(|raft| raft.role() == Role::Leader) else {
            return false;
        };
        let votes = |member: &Member| raft.membership().votes(member.replica);
        let wanted = |member: &Member| to.is_none_or(|to| member.node == to);
        let fit = raft.followers().filter(|(of, _)| votes(of) && wanted(of));
        let best = fit.max_by_key(|(_, matched)| *matched);
        let successor = best.map(|(member, _)| member.replica);
        self.replica.hand_over_to(successor);
        successor.is_some()
    }

    /// Says whether this replica leads others.
    #[must_use]
    pub fn leads_others(&self) -> bool {
        let raft = self.raft().filter(|raft| raft.role() == Role::Leader);
        raft.is_some_and(|raft| raft.followers().next().is_some())
    }

    /// Tells the core what the log has made durable: call it before [`Partition::settle`].
    pub fn note_durable(&mut self, durable: Mark, turn: &mut Turn<'_>) {
        self.replica.note_durable(durable, turn);
    }

    /// Proposes what this turn has sealed: call it behind [`Partition::drain`].
    pub fn agree(&mut self, turn: &mut Turn<'_>) {
        self.tell_installed(turn);
        self.replica.propose_sealed(turn);
    }

    /// Takes in the bytes of a message that a replica on the node `from` has sent.
    ///
    /// # Errors
    /// It is not one, or its entries are not what it says; nothing of it was taken in.
    pub fn receive(
        &mut self,
        from: NodeId,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<(), Malformed> {
        self.replica.receive(from, bytes, turn)
    }

    /// Says whether the replica may have forgotten what it promised, and has not got everything back.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.raft().is_some_and(Raft::has_forgotten)
    }

    /// Returns the newest ballot, for a checkpoint.
    #[must_use]
    pub fn ballot(&self) -> Option<BallotRecord> {
        self.replica.group.as_ref()?.ballot
    }

    /// Takes in entries that were read back from the log for a replica that lags behind.
    pub fn feed(&mut self, feed: &Feed, entries: Vec<Vec<u8>>, turn: &mut Turn<'_>) {
        self.replica.feed(feed, entries, turn);
    }

    /// Returns a position of the log at or before which begins what a follower lacks and this replica, which
    /// leads, has in the log only.
    #[must_use]
    pub fn laggard_at(&self) -> Option<Position> {
        self.replica.group.as_ref()?.laggard_at()
    }

    /// Sets how many bytes of applied entries are kept for others.
    pub fn keep_entries(&mut self, bytes: usize) {
        if let Some(group) = &mut self.replica.group {
            group.keep_bytes = bytes;
        }
    }
}
