//! One replica of one group: what happens to its log, who leads, and when reads may be served. Pure: it
//! never waits, reads no clock and knows no payload; its host carries out what it answers.
//!
//! ## Calls
//! Every call takes the time and leaves its wishes in an [`Output`], which the host drains before it
//! calls another replica: first the ballot and the accepted entries go to the log, in this order; then
//! messages leave, those with [`Gate::Durable`] when all that was given to the log so far is durable.
//!
//! - Writing: [`Raft::may_propose`], [`Raft::propose`]; then [`Raft::durable`] with the [`LogMark`] that
//!   was taken when the entries were handed to the disk; [`Raft::committed`] says how far to apply (but
//!   never beyond what is durable here), [`Raft::applied`] that it was done.
//! - After every call, a leader's host asks [`Raft::next_own_entry`] and proposes what it finds there.
//! - Receiving: [`Raft::receive`] says which entries of an append go to the log.
//! - Time: [`Raft::tick`] when [`Raft::deadline`] has come, [`Raft::support_changed`] when the promises
//!   between this node and one of the group's begin or end ([`crate::support`]), [`Raft::reachable`] and
//!   [`Raft::unreachable`] as connections come and go.
//! - Reading: [`Raft::serves_reads`] when the lease holds; else [`Raft::read`].
//!
//! ## Where this differs from other cores
//! Groups send no heartbeats: nodes do, and a follower is *bound* to the leader that it follows while
//! its node's promise to the leader's node lasts. A bound replica rejects candidates without taking
//! over their term, unless the leader itself has asked for the election. It is released when the
//! promise ends, or by the leader's word that it has resigned, which it asks for when in doubt. A
//! leader's lease is the time until which a quorum is bound to it.
//!
//! A membership counts from when it is in the log. Metas carry the bytes of memberships.
//!
//! ## Invariants, asserted in every build
//! 1. Term, commit index and applied index only grow; within a term the vote does not change.
//! 2. `base <= applied <= committed <= last`, and `durable <= last`; nothing committed is dropped.
//! 3. A leader never drops its own entries, and counts only those of its term to commit.
//! 4. There is one leader in a term; at most one membership of its log is not committed when it
//!    proposes another.
//!
//! Source: Raft (Ongaro's thesis), chapters 3, 4 and 6, and section 10.2.1; CockroachDB's leader leases.

mod amnesia;
mod change;
mod election;
mod follow;
mod lead;
mod marks;
mod options;
mod output;
mod planted;
mod read;
mod replicate;
mod snapshot;
mod transfer;

pub use options::{Options, Snapshot, Start};
pub use output::{
    Accepted, Alarm, Ballot, DiskPace, Event, Fetch, Gate, Installed, LogMark, NotLeader, Output,
    OwnEntry, ReadAnswer, ReadReady, Role, Send, SnapshotWanted,
};
#[doc(hidden)]
pub use planted::Planted;

use self::amnesia::Amnesia;
use crate::journal::Journal;
use crate::membership::{Member, Membership};
use crate::message::{Message, Outgoing, Signal};
use crate::support::{SupportEpoch, Supports};
use crate::types::{Chain, Index, LogPosition, Mono, NodeId, PartitionId, ReplicaId, Term};

/// What binds a follower to a leader: while its node keeps the promise of this epoch to the leader's
/// node, it lets nobody else be elected.
#[derive(Clone, Copy, Debug)]
struct Bond {
    leader: Member,
    term: Term,
    epoch: SupportEpoch,
}

/// What comes with every message: who sent it, when it came, and which promises are in force.
#[derive(Clone, Copy, Debug)]
struct Heard<'a> {
    now: Mono,
    from: Member,
    supports: &'a Supports,
}

/// A replica.
#[derive(Clone, Debug)]
pub struct Raft {
    partition: PartitionId,
    me: Member,
    options: Options,
    /// State of the generator of election delays.
    random: u64,

    term: Term,
    /// Whom this replica voted for in `term`.
    vote: Option<ReplicaId>,
    /// How many ballots were given to the host.
    ballots: u64,
    role: Role,
    /// Who leads `term`, if known.
    leader: Option<Member>,

    journal: Journal,
    /// The log is durable up to here, of this replica; `durable <= last`.
    durable: Index,
    /// Known to be committed; `committed <= last`, may be above `durable`.
    committed: Index,
    /// `applied <= committed`.
    applied: Index,
    /// How often entries were dropped, and what each time stayed, as long as a mark that was taken
    /// before may still come.
    truncations: u64,
    truncated: Vec<(u64, Index)>,
    /// The memberships of the log: the first is committed, the last counts.
    memberships: Vec<(Index, Membership)>,

    bond: Option<Bond>,
    /// The latest term whose leader said that it has resigned.
    resigned: Term,
    /// Who answered in the election under way.
    votes: Vec<(ReplicaId, bool)>,
    /// When to stand for election.
    election_at: Option<Mono>,
    /// Elections since a leader was last heard of.
    attempts: u32,
    /// There is no connection to the leader any more.
    is_left: bool,
    /// What only a leader has.
    lead: Option<Box<lead::Lead>>,

    /// Entries whose payload is lost.
    damaged: Vec<Index>,
    /// What the replica has forgotten, and the life in which it asks about that.
    amnesia: Amnesia,
    life: u64,
    pace: DiskPace,
}

impl Raft {
    /// Returns the replica that `start` tells of, a follower. [`Self::tick`] is due when it says.
    ///
    /// # Panics
    /// If `start` contradicts itself.
    #[must_use]
    pub fn new(start: Start<'_>, options: Options, now: Mono) -> Self {
        let mut journal = Journal::new(start.base, start.base_chain);
        for meta in start.entries {
            journal.push(meta);
        }
        let last = journal.last();
        let term = start.ballot.term.max(last.term);
        let vote = start.ballot.vote.filter(|_| term == start.ballot.term);
        let mut memberships = vec![(start.base.index, start.membership)];
        memberships.extend(start.memberships);
        assert!(memberships.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(start.base.index <= start.applied && start.applied <= start.committed);
        assert!(start.committed <= last.index);
        let settled = memberships
            .iter()
            .rposition(|(at, _)| *at <= start.committed);
        memberships.drain(..settled.expect("the first is that of the base"));
        let mut raft = Self {
            partition: start.partition,
            me: start.me,
            options,
            random: start.seed,
            term,
            vote,
            ballots: 0,
            role: Role::Follower,
            leader: None,
            journal,
            durable: last.index,
            committed: start.committed,
            applied: start.applied,
            truncations: 0,
            truncated: Vec::new(),
            memberships,
            bond: None,
            resigned: Term(0),
            votes: Vec::new(),
            election_at: None,
            attempts: 0,
            is_left: false,
            lead: None,
            damaged: Vec::new(),
            amnesia: Self::amnesia_of(start.has_forgotten, &options),
            life: start.seed,
            pace: DiskPace::Fine,
        };
        raft.election_at = Some(now.plus_ns(raft.election_delay_ns()));
        raft
    }

    /// Returns the group.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Returns the replica's own name.
    #[must_use]
    pub fn me(&self) -> Member {
        self.me
    }

    /// Returns the latest term that the replica knows.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Returns what the replica is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns who leads, if the replica knows.
    #[must_use]
    pub fn leader(&self) -> Option<Member> {
        self.leader
    }

    /// Returns the position of the last entry.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.journal.last()
    }

    /// Returns the chain of the last entry.
    #[must_use]
    pub fn last_chain(&self) -> Chain {
        self.journal.last_chain()
    }

    /// Returns the position of the entry that the log begins behind.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.journal.base()
    }

    /// Returns the term of an entry that the log holds, or of its base.
    #[must_use]
    pub fn term_of(&self, index: Index) -> Option<Term> {
        self.journal.term(index)
    }

    /// Returns up to where the log is known to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        self.committed
    }

    /// Returns the membership that counts: the last one in the log.
    ///
    /// # Panics
    /// Never: there is always one.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.memberships.last().expect("there is always one").1
    }

    /// Returns the other members, each with the last entry up to which its log is known to be this one;
    /// none unless this replica leads.
    pub fn followers(&self) -> impl Iterator<Item = (Member, Index)> {
        let peers = self.lead.iter().flat_map(|lead| &lead.peers);
        peers.map(|peer| (peer.member, peer.matched))
    }

    /// Returns the last membership that is committed and the index of its entry.
    #[must_use]
    pub fn committed_membership(&self) -> (Index, &Membership) {
        let (index, membership) = &self.memberships[0];
        (*index, membership)
    }

    /// Returns when [`Self::tick`] is due; none when the replica is quiet and costs nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match &self.lead {
            Some(lead) => lead.deadline(&self.options),
            None => self.election_at,
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Mono, supports: &Supports, out: &mut Output) {
        match self.role {
            Role::Leader => self.tick_leader(now, supports, out),
            _ => self.tick_follower(now, supports, out),
        }
        self.set_timer(now, supports);
    }

    /// Takes in a message from another replica of the group; returns which of its entries belong into
    /// the log. The host has checked that the message is of a life of its sender's node that is not
    /// over, and that it is for this replica.
    pub fn receive(
        &mut self,
        now: Mono,
        from: Member,
        message: &Message<'_>,
        supports: &Supports,
        out: &mut Output,
    ) -> Accepted {
        let heard = Heard {
            now,
            from,
            supports,
        };
        if from.replica == self.me.replica {
            return Accepted::default();
        }
        let accepted = match message {
            Message::Append(head, _) if self.knows_no_term() => {
                self.ask_to_remember(heard, head.term, out);
                Accepted::default()
            }
            Message::Append(head, metas) => self.receive_append(heard, head, metas, out),
            Message::Signal(signal) => {
                self.receive_signal(heard, signal, out);
                Accepted::default()
            }
        };
        self.set_timer(now, supports);
        accepted
    }

    /// Takes in a message without entries.
    fn receive_signal(&mut self, heard: Heard<'_>, signal: &Signal, out: &mut Output) {
        match signal {
            Signal::AppendReply(reply) => self.receive_append_reply(heard, reply, out),
            Signal::Vote(vote) => self.receive_vote(heard, vote, out),
            Signal::VoteReply(reply) => self.receive_vote_reply(heard, reply, out),
            Signal::TimeoutNow { term } => self.receive_timeout_now(heard, *term, out),
            Signal::Resigned { term } => self.receive_resigned(heard, *term, out),
            Signal::LeadingQuery { term } => self.receive_leading_query(heard, *term, out),
            Signal::Snapshot(offer) if self.knows_no_term() => {
                self.ask_to_remember(heard, offer.term, out);
            }
            Signal::Snapshot(offer) => self.receive_offer(heard, offer, out),
            Signal::SnapshotReply {
                term,
                index,
                accepted,
            } => self.receive_snapshot_reply(heard, (*term, *index, *accepted), out),
            Signal::Forgot { term, life } => self.receive_forgot(heard, (*term, *life), out),
            Signal::Remember { at, life } => self.receive_remember(heard, (*at, *life), out),
        }
    }

    /// Takes in that the promises between this node and `node` have begun or ended.
    pub fn support_changed(
        &mut self,
        now: Mono,
        node: NodeId,
        supports: &Supports,
        out: &mut Output,
    ) {
        if self.lead.is_some() {
            self.support_of_peer_changed(now, node, supports, out);
            self.check_lease(now, supports);
        }
        self.set_timer(now, supports);
    }

    /// Takes in that there is a new connection to `node`: what was sent before may be lost, and the
    /// node may have been started anew.
    pub fn reachable(&mut self, now: Mono, node: NodeId, out: &mut Output) {
        self.is_left &= !self.follows(node);
        if self.lead.is_some() {
            self.wake_peers(now, node, out);
        } else if let Some(bond) = self.bond.filter(|bond| bond.leader.node == node) {
            // Its word that it has resigned may be among what was lost.
            let term = bond.term;
            send(out, bond.leader, Signal::LeadingQuery { term }, Gate::Now);
        }
    }

    /// Says whether the leader that this replica knows, or is bound to, is on `node`.
    fn follows(&self, node: NodeId) -> bool {
        let bound_to = self.bond.map(|bond| bond.leader);
        let mut leaders = self.leader.into_iter().chain(bound_to);
        leaders.any(|leader| leader.node == node)
    }

    /// Takes in that there is no connection to `node` any more. What was promised to it is kept all the
    /// same: it may be alive behind a network that is not.
    pub fn unreachable(&mut self, node: NodeId) {
        self.is_left |= self.lead.is_none() && self.follows(node);
        let lead = self.lead.as_mut();
        let peers = lead.into_iter().flat_map(|lead| &mut lead.peers);
        for peer in peers.filter(|peer| peer.member.node == node) {
            peer.sleep();
        }
    }

    /// Takes over a later term: the replica follows, and leads no more.
    fn adopt(&mut self, now: Mono, term: Term, out: &mut Output) {
        assert!(term > self.term, "terms only grow");
        self.step_down(now, out);
        (self.term, self.vote, self.role) = (term, None, Role::Follower);
        self.leader = None;
        self.give_ballot(out);
    }

    /// Asks the host to make the ballot durable.
    fn give_ballot(&mut self, out: &mut Output) {
        self.ballots += 1;
        out.ballot = Some(Ballot {
            term: self.term,
            vote: self.vote,
        });
    }

    /// Tells whether a test has planted this mistake.
    fn planted(&self, mistake: Planted) -> bool {
        self.options.makes(mistake)
    }
}

/// Adds a message without entries.
fn send(out: &mut Output, to: Member, signal: Signal, gate: Gate) {
    out.sends.push(Send {
        to,
        message: Outgoing::Signal(signal),
        gate,
    });
}
