//! What a replica is started with: its identity, what its host recovered, and its settings.

use crate::membership::{Member, Membership};
use crate::message::EntryMeta;
use crate::raft::output::Ballot;
use crate::types::{Chain, Index, LogPosition, PartitionId};

/// What a host recovered of a replica.
///
/// A group begins with one entry that all its first voters have, committed: their membership, at index
/// 1 in term 1, behind a base of zeros and an empty membership. A replica that joins later begins with
/// nothing at all, and learns from its leader whom it belongs to.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The group.
    pub partition: PartitionId,
    /// The replica.
    pub me: Member,
    /// The ballot that was last made durable.
    pub ballot: Ballot,
    /// What the log begins behind: the last entry that was compacted, or that a snapshot stands for;
    /// all zero when it begins with the first.
    pub base: LogPosition,
    /// The chain of that entry.
    pub base_chain: Chain,
    /// The membership as of that entry.
    pub membership: Membership,
    /// Every entry of the log behind the base, in order, all durable.
    pub entries: &'a [EntryMeta],
    /// The memberships among them, in order.
    pub memberships: Vec<(Index, Membership)>,
    /// What is known to be committed; at least the base and what was applied.
    pub committed: Index,
    /// What was applied.
    pub applied: Index,
    /// Whether the ballot and the end of the log may be lost: then the replica takes part in nothing until a leader
    /// has told it where to go on.
    pub has_forgotten: bool,
    /// Seed of the random delays of elections; another one for each replica and start.
    pub seed: u64,
}

/// A snapshot, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it stands for.
    pub at: LogPosition,
    /// Its chain.
    pub chain: Chain,
    /// The membership as of that entry.
    pub membership: Membership,
}

/// The settings of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a leader without a quorum's support waits before it steps down, in milliseconds; the
    /// duration of promises of support.
    pub lease_ms: u32,
    /// The random delay before an election is at most this, in milliseconds.
    pub election_jitter_ms: u32,
    /// Who stands for election first: each step up waits one jitter more.
    pub election_rank: u8,
    /// How long an idle follower waits at most to hear that an entry is committed, in milliseconds.
    pub notice_ms: u32,
    /// When an append without an answer is sent again, in milliseconds.
    pub resend_ms: u32,
    /// How long a transfer of leadership may take, in milliseconds.
    pub transfer_ms: u32,
    /// Most appends to one peer without an answer; more wait.
    pub inflight_messages_max: u32,
    /// Most payload bytes to one peer without an answer, exceeded by at most one append; more wait.
    pub inflight_bytes_max: u64,
    /// Most payload bytes of one append, unless its first entry has more.
    pub append_bytes_max: u32,
    /// Most entries of one append.
    pub append_entries_max: u32,
    /// Payload bytes that are not committed, from which on [`super::Raft::may_propose`] says no.
    pub uncommitted_bytes_max: u64,
    /// Most reads that wait for a quorum's word; more are [`super::ReadAnswer::Busy`].
    pub reads_max: u32,
    /// A mistake that a test wants found.
    #[cfg(feature = "planted")]
    pub planted: Option<super::Planted>,
}

impl Options {
    /// Tells whether a test has planted this mistake.
    #[cfg(feature = "planted")]
    pub(super) fn makes(&self, mistake: super::Planted) -> bool {
        self.planted == Some(mistake)
    }

    /// No mistakes are planted.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "in another build there is something")]
    pub(super) fn makes(&self, _: super::Planted) -> bool {
        false
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease_ms: 400,
            election_jitter_ms: 150,
            election_rank: 0,
            notice_ms: 20,
            resend_ms: 500,
            transfer_ms: 1_000,
            inflight_messages_max: 256,
            inflight_bytes_max: 4 << 20,
            append_bytes_max: 1 << 20,
            append_entries_max: 1_024,
            uncommitted_bytes_max: 64 << 20,
            reads_max: 16_384,
            #[cfg(feature = "planted")]
            planted: None,
        }
    }
}
