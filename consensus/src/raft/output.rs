//! What a replica answers: what its host is to send, persist, fetch and tell. Values only; the host
//! drains them after each call, before it calls another replica with the same [`Output`].

use crate::membership::{Member, Membership};
use crate::message::Outgoing;
use crate::types::{Index, LogPosition, ReplicaId, Term};

/// What a replica must not forget: what it would contradict itself without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ballot {
    /// The latest term that it knows.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
}

/// All that a replica had given to its disk at some time; see [`super::Raft::mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// How often entries had been dropped: an entry may be dropped and come back, and be durable only
    /// as what it was the first time.
    pub(super) truncations: u64,
    /// The last entry.
    pub(super) index: Index,
    /// How many ballots had been given.
    pub(super) ballots: u64,
}

/// When a message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// At once.
    Now,
    /// When all that the replica gave its host so far, ballot and entries, is durable. The host
    /// releases such messages in order.
    Durable,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// To whom.
    pub to: Member,
    /// What.
    pub message: Outgoing,
    /// When.
    pub gate: Gate,
}

/// The answer to a read that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// The host's name for the read.
    pub ticket: u64,
    /// The index that must be applied before the read is served.
    ///
    /// # Errors
    /// The replica does not lead any more: the read is to be sent to the leader.
    pub result: Result<Index, NotLeader>,
}

/// The replica does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader;

/// The answer to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    /// It can be served as soon as this index is applied.
    Now(Index),
    /// A [`ReadReady`] will follow.
    Wait,
    /// Too many wait; nothing follows.
    Busy,
    /// The replica does not lead; this one does, if known.
    NotLeader(Option<Member>),
}

/// Entries are wanted that the host does not hold in memory. It answers by [`super::Raft::fetched`] or
/// [`super::Raft::gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// For whom.
    pub to: Member,
    /// The first entry.
    pub first: Index,
    /// How many payload bytes at most, but at least one entry.
    pub bytes_max: u32,
    /// How many entries at most.
    pub entries_max: u32,
}

/// A peer needs a snapshot. The host makes one and calls [`super::Raft::offer_snapshot`]. May be said
/// again when the offer was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotWanted {
    /// Who needs it.
    pub to: Member,
}

/// Something that the host may want to know or must act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The replica leads `term`; [`super::Raft::next_own_entry`] has its first entry.
    BecameLeader {
        /// The term.
        term: Term,
    },
    /// The replica led `term` and does not any more. What it proposed may or may not be committed.
    SteppedDown {
        /// The term.
        term: Term,
    },
    /// Another replica leads, or nobody is known to.
    LeaderKnown {
        /// The leader.
        leader: Option<Member>,
    },
    /// The membership has changed: this one counts from now on, and may still be taken back.
    MembershipActive {
        /// The index of its entry.
        index: Index,
    },
    /// The membership is committed: it stays.
    MembershipCommitted {
        /// The index of its entry.
        index: Index,
    },
    /// The replica is not a member any more, for ever: its data may be dropped.
    Removed,
    /// A transfer of leadership did not come about; the replica leads on if it says nothing else.
    TransferFailed,
    /// The offer of a snapshot was accepted: the host receives its data from `from`, then calls
    /// [`super::Raft::installed`].
    SnapshotAccepted {
        /// Who offers.
        from: Member,
        /// What it stands for.
        at: LogPosition,
    },
    /// The replica had forgotten what it promised, and has everything again.
    Remembers,
    /// Something is wrong that no protocol can mend.
    Alarm(Alarm),
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alarm {
    /// This log and the leader's differ where they must be equal. The append was not taken.
    Diverged {
        /// The entry that differs.
        index: Index,
    },
}

/// All that a replica wants of its host. One serves all replicas of a shard, drained in between;
/// nothing here is allocated anew while it is used over and over.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Messages, in order.
    pub sends: Vec<Send>,
    /// To be made durable before any gated message of this output leaves, and before the entries that
    /// the same call accepted or that are proposed after it.
    pub ballot: Option<Ballot>,
    /// Reads that waited.
    pub reads: Vec<ReadReady>,
    /// Entries that are wanted from disk.
    pub fetches: Vec<Fetch>,
    /// Snapshots that are wanted.
    pub offers: Vec<SnapshotWanted>,
    /// Events, in order.
    pub events: Vec<Event>,
}

impl Output {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.ballot = None;
        self.reads.clear();
        self.fetches.clear();
        self.offers.clear();
        self.events.clear();
    }

    /// Tells whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let lists = self.sends.is_empty() && self.reads.is_empty() && self.fetches.is_empty();
        lists && self.ballot.is_none() && self.offers.is_empty() && self.events.is_empty()
    }
}

/// What a host must do to its log after an append: drop its entries above `truncate_after`, then
/// append `take` of the append's entries, beginning behind the first `skip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Accepted {
    /// The last entry that stays, when some must go.
    pub truncate_after: Option<Index>,
    /// How many of the message's entries are in the log already.
    pub skip: usize,
    /// How many are new.
    pub take: usize,
}

/// An entry that the leader wants proposed for itself: the host encodes it, then calls
/// [`super::Raft::propose`] before any of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnEntry {
    /// Nothing: the first entry of the term, or one that a replica which has forgotten waits for.
    Empty,
    /// A membership.
    Membership(Membership),
}

/// What became of a snapshot that was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// It stands for the whole log: all entries are dropped, and the log goes on behind it.
    DropsLog,
    /// The log holds all that it stands for; nothing is dropped.
    KeepsLog,
    /// The replica has committed more already: the snapshot is to be forgotten.
    Ignored,
}

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows, or waits for somebody to follow.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It asks to be elected.
    Candidate,
    /// It leads.
    Leader,
}

/// How fast the replica's disk is, compared with its peers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskPace {
    /// As fast as others.
    Fine,
    /// The slowest: the replica hands leadership over, and stands for election after others.
    Slow,
}
