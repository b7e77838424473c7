//! Why a replica does not do what its host asked of it: answers that are to be expected, not faults.

use std::fmt;

use crate::types::ReplicaId;

/// A refusal. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The replica does not lead.
    NotLeader,
    /// The leader has not yet committed an entry of its term; ask again when it has.
    TermNotCommitted,
    /// A change of the membership is under way.
    ChangeUnderWay,
    /// The change would remove the last voter.
    LastVoter,
    /// The change would make more members than a group may have.
    TooManyMembers,
    /// The replica is a member already, or its node has one.
    AlreadyMember(ReplicaId),
    /// The replica is not a member, or not of the kind that the request is about.
    UnknownReplica(ReplicaId),
    /// The leader is handing leadership over.
    Transferring,
    /// The replica does not vote.
    NotVoter,
    /// The replica has promised its support to a leader, or may have, before it was started anew.
    Promised,
    /// The log holds an entry whose bytes are lost.
    Damaged,
    /// The replica has forgotten what it promised.
    Forgetful,
    /// The replica leads already.
    AlreadyLeader,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("this replica does not lead the partition"),
            Self::TermNotCommitted => f.write_str("the leader is new; try again shortly"),
            Self::ChangeUnderWay => f.write_str("a change of the membership is under way"),
            Self::LastVoter => f.write_str("the last voter cannot be removed"),
            Self::TooManyMembers => f.write_str("more than 7 voters or 7 learners"),
            Self::AlreadyMember(replica) => {
                write!(f, "replica {replica} or its node is a member already")
            }
            Self::UnknownReplica(replica) => {
                write!(
                    f,
                    "replica {replica} is not a member that this can be done to"
                )
            }
            Self::Transferring => f.write_str("leadership is being handed over"),
            Self::NotVoter => f.write_str("the replica does not vote"),
            Self::Promised => f.write_str("the replica has promised to support a leader"),
            Self::Damaged => f.write_str("the replica's log holds an entry that is damaged"),
            Self::Forgetful => f.write_str(
                "the replica's log was damaged, and it does not vote before it has everything again",
            ),
            Self::AlreadyLeader => f.write_str("the replica leads already"),
        }
    }
}

impl std::error::Error for Refused {}
