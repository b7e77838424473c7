//! What the replicas of a group say to each other, and its bytes. The host frames the messages,
//! names sender and receiver, and checks the bytes' integrity; the payloads of entries are its own.
//!
//! Their bytes are told in `bytes.rs`.
//!
//! Invariant: no bytes make the decoder panic or allocate more than one membership; what it accepts
//! has terms that do not go back and are not above the message's.

mod bytes;

pub use bytes::{decode, encode_head, encode_meta};

use crate::membership::Membership;
use crate::support::SupportEpoch;
use crate::types::{Chain, Index, LogPosition, ReplicaId, Term};
use crate::wire::{Malformed, Reader};

/// Most entries of one append.
pub const ENTRIES_MAX: u32 = 65_536;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// What clients want done.
    Commands,
    /// Nothing: the first entry of a leader, which commits all before it.
    Empty,
    /// A membership.
    Membership,
}

/// What the core knows of an entry. Its index follows from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// The term in which it was proposed.
    pub term: Term,
    /// Bytes of its payload.
    pub bytes: u32,
    /// Hash over all the entries up to this one.
    pub chain: Chain,
    /// What it holds.
    pub kind: EntryKind,
}

/// An append without its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The entry before those that follow.
    pub prev: LogPosition,
    /// Its chain, when the leader still has it in memory.
    pub prev_chain: Option<Chain>,
    /// The leader's commit index.
    pub commit: Index,
    /// The leader's counter of rounds that confirm its leadership.
    pub probe: u64,
}

/// How a follower took an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The follower's log is the leader's up to `index`, durably.
    Matched {
        /// The last entry that is known to be the leader's.
        index: Index,
    },
    /// The follower does not have the entry before those that were sent.
    Rejected {
        /// The index of that entry.
        prev: Index,
        /// The follower's last position that may be the leader's: at most `prev`, of at most its
        /// term.
        hint: LogPosition,
    },
}

/// A follower's answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// The follower's term. Above the leader's: the append was not looked at.
    pub term: Term,
    /// What became of the append.
    pub outcome: Outcome,
    /// The append's counter.
    pub probe: u64,
    /// The follower's commit index.
    pub commit: Index,
    /// The promise of the follower's node to the leader's node that the follower is bound by.
    pub epoch: SupportEpoch,
}

/// Which vote is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Would you vote for me? Changes nothing.
    Pre,
    /// Vote for me.
    Real,
}

/// A request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Which vote.
    pub round: Round,
    /// The term that the candidate wants to lead; in the first round it has not begun.
    pub term: Term,
    /// The candidate's last entry.
    pub last: LogPosition,
    /// Whether the leader asked for this election and has given up its lease.
    pub transfer: bool,
}

/// An answer to a request for a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteReply {
    /// Which vote.
    pub round: Round,
    /// The term that was asked for.
    pub asked: Term,
    /// The voter's term.
    pub term: Term,
    /// Whether the candidate has the vote.
    pub granted: bool,
    /// The leader that the voter is bound to, when that is why it has not.
    pub fortified_to: Option<ReplicaId>,
}

/// The offer of a snapshot; its data are the hosts' business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The leader's term.
    pub term: Term,
    /// The last entry that the snapshot stands for.
    pub at: LogPosition,
    /// Its chain.
    pub chain: Chain,
    /// The membership as of that entry.
    pub membership: Membership,
}

/// A message without entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A follower's answer to an append.
    AppendReply(AppendReply),
    /// A request for a vote.
    Vote(Vote),
    /// Its answer.
    VoteReply(VoteReply),
    /// The leader of `term` asks the receiver to stand for election at once.
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// The sender does not lead `term` any more, and never will again.
    Resigned {
        /// The term that it led.
        term: Term,
    },
    /// Do you still lead `term`?
    LeadingQuery {
        /// The term.
        term: Term,
    },
    /// The offer of a snapshot.
    Snapshot(Box<Offer>),
    /// Its answer.
    SnapshotReply {
        /// The receiver's term.
        term: Term,
        /// The index of the snapshot.
        index: Index,
        /// Whether the receiver wants the data.
        accepted: bool,
    },
    /// The sender has forgotten what it promised: where is it to go on?
    Forgot {
        /// The latest term that it knows.
        term: Term,
        /// Its name for this life of its, in which it has promised nothing.
        life: u64,
    },
    /// The answer of a leader.
    Remember {
        /// An entry of the leader's term which is committed, and was proposed after the question had come.
        at: LogPosition,
        /// The life that has asked.
        life: u64,
    },
}

/// A message that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Entries, or none: then it says where the leader stands.
    Append(Append, Metas<'a>),
    /// All else.
    Signal(Signal),
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Entries from `head.prev.index + 1` on, which the host holds: it writes their metas behind the
    /// head ([`encode_meta`]), then their payloads.
    Append {
        /// All but the entries.
        head: Append,
        /// How many entries.
        count: u32,
    },
    /// All else.
    Signal(Signal),
}

/// The metas of the entries of an append, checked when they were decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metas<'a> {
    count: u32,
    payload_bytes: u64,
    bytes: &'a [u8],
}

impl<'a> Metas<'a> {
    /// No entries.
    pub const EMPTY: Self = Self {
        count: 0,
        payload_bytes: 0,
        bytes: &[],
    };

    /// Returns how many entries there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the bytes of all payloads.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Returns the metas in order, each with the bytes of its membership if it is one.
    ///
    /// # Panics
    /// Never: what is here was checked when it was decoded.
    pub fn iter(&self) -> impl Iterator<Item = (EntryMeta, Option<&'a [u8]>)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count)
            .map(move |_| bytes::meta(&mut reader).expect("metas are checked when decoded"))
    }

    /// Takes `count` metas from a reader: their terms lie between `least` and `most`, in order.
    fn take(
        reader: &mut Reader<'a>,
        count: u32,
        mut least: Term,
        most: Term,
    ) -> Result<Self, Malformed> {
        let (start, mut payload_bytes) = (reader.rest(), 0);
        for _ in 0..count {
            let (meta, membership) = bytes::meta(reader)?;
            if meta.term < least || meta.term > most {
                return Err(Malformed("term of an entry"));
            }
            membership.map(Membership::decode).transpose()?;
            least = meta.term;
            payload_bytes += u64::from(meta.bytes);
        }
        let used = start.len() - reader.rest().len();
        Ok(Self {
            count,
            payload_bytes,
            bytes: &start[..used],
        })
    }
}

#[cfg(test)]
mod tests;
