//! Who belongs to a group, and the ways from one membership to the next. Not who leads it.
//!
//! A change of voters goes through a *joint* membership, in which the old voters (`outgoing`) and the
//! new ones (`voters`) must both agree; leaving it is a second entry. A change of learners only is
//! one entry. A membership counts from the moment its entry is in the log, committed or not.
//!
//! Invariants of every membership that this file makes or decodes:
//! 1. There is at least one voter; each list holds at most [`MEMBERS_MAX`]; no list repeats an id.
//! 2. A learner is not a voter and not outgoing; who is in `learners_next` is outgoing, not a voter.
//!
//! Bytes, little-endian: version u8 = 1, then four counts u8 (voters, outgoing, learners,
//! learners_next), then the members in that order, 16 bytes each: replica u64, node u64.
//!
//! Source: Ongaro's thesis, section 4.3; learners_next as in etcd.

use crate::quorum::VOTERS_MAX;
use crate::refused::Refused;
use crate::types::{NodeId, ReplicaId};
use crate::wire::{Malformed, Reader};

/// Most members of each list.
pub const MEMBERS_MAX: usize = VOTERS_MAX;

/// The version of the bytes.
const VERSION: u8 = 1;

/// A replica and the node that it lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Member {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
}

/// The members of a group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Membership {
    /// Who votes.
    pub voters: Vec<Member>,
    /// Who voted before the change that is under way; empty when none is.
    pub outgoing: Vec<Member>,
    /// Who is sent the log and does not vote.
    pub learners: Vec<Member>,
    /// Of the outgoing, those who become learners when the change is done.
    pub learners_next: Vec<Member>,
}

/// One change of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a voter. Better added as a learner and promoted when it has the log.
    AddVoter(Member),
    /// Adds a learner.
    AddLearner(Member),
    /// Makes a learner a voter.
    Promote(ReplicaId),
    /// Makes a voter a learner.
    Demote(ReplicaId),
    /// Removes a voter or a learner.
    Remove(ReplicaId),
    /// Puts one voter in the place of another; it may be a learner so far.
    Replace {
        /// Who goes.
        old: ReplicaId,
        /// Who comes.
        new: Member,
    },
}

/// Returns the place of a replica in a list.
fn place(list: &[Member], replica: ReplicaId) -> Option<usize> {
    list.iter().position(|member| member.replica == replica)
}

/// Tells whether a list names an id twice.
fn repeats(list: &[Member]) -> bool {
    let mut rest = list.iter().enumerate();
    rest.any(|(at, member)| place(&list[..at], member.replica).is_some())
}

impl Membership {
    /// Returns a membership of voters only.
    #[must_use]
    pub fn of(voters: &[Member]) -> Self {
        Self {
            voters: voters.to_vec(),
            ..Self::default()
        }
    }

    /// Tells whether a change of voters is under way.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Tells whether a replica votes, in either set.
    #[must_use]
    pub fn votes(&self, replica: ReplicaId) -> bool {
        place(&self.voters, replica).is_some() || place(&self.outgoing, replica).is_some()
    }

    /// Returns the member with this id.
    #[must_use]
    pub fn member(&self, replica: ReplicaId) -> Option<Member> {
        self.members().find(|member| member.replica == replica)
    }

    /// Returns every member once: voters, outgoing, learners.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        let former = self.outgoing.iter();
        let former = former.filter(|member| place(&self.voters, member.replica).is_none());
        let all = self.voters.iter().chain(former).chain(&self.learners);
        all.copied()
    }

    /// Returns every voter of either set once.
    pub fn all_voters(&self) -> impl Iterator<Item = Member> {
        let learners = self.learners.len();
        let count = self.members().count() - learners;
        self.members().take(count)
    }

    /// Returns the membership that begins a change: joint when voters change, final otherwise.
    ///
    /// # Errors
    /// [`Refused`] when a change is under way, when the change would leave no voter or too many
    /// members, and when it names a replica that is there already, or is not there.
    pub fn change(&self, change: &Change) -> Result<Self, Refused> {
        if self.is_joint() {
            return Err(Refused::ChangeUnderWay);
        }
        let mut next = self.clone();
        next.edit(change)?;
        if next.voters.is_empty() {
            return Err(Refused::LastVoter);
        }
        if next.voters != self.voters {
            next.outgoing.clone_from(&self.voters);
        }
        match next.is_sound() {
            true => Ok(next),
            false => Err(Refused::TooManyMembers),
        }
    }

    /// Makes one change, without regard to the way there.
    fn edit(&mut self, change: &Change) -> Result<(), Refused> {
        match *change {
            Change::AddVoter(new) => {
                self.refuse_known(new, None)?;
                self.voters.push(new);
            }
            Change::AddLearner(new) => {
                self.refuse_known(new, None)?;
                self.learners.push(new);
            }
            Change::Promote(replica) => {
                let learner = take(&mut self.learners, replica)?;
                self.voters.push(learner);
            }
            Change::Demote(replica) => {
                let voter = take(&mut self.voters, replica)?;
                self.learners_next.push(voter);
            }
            Change::Remove(replica) => {
                let learner = take(&mut self.learners, replica);
                learner.or_else(|_| take(&mut self.voters, replica))?;
            }
            Change::Replace { old, new } => {
                take(&mut self.voters, old)?;
                if take(&mut self.learners, new.replica) != Ok(new) {
                    self.refuse_known(new, Some(old))?;
                }
                self.voters.push(new);
            }
        }
        Ok(())
    }

    /// Refuses a newcomer whose id is known, or whose node has a replica other than `leaving`.
    fn refuse_known(&self, new: Member, leaving: Option<ReplicaId>) -> Result<(), Refused> {
        let same = |member: &Member| member.replica == new.replica || member.node == new.node;
        match self.members().any(|member| same(&member)) || leaving == Some(new.replica) {
            true => Err(Refused::AlreadyMember(new.replica)),
            false => Ok(()),
        }
    }

    /// Returns the membership that ends a joint one.
    #[must_use]
    pub fn left(&self) -> Self {
        let mut next = self.clone();
        next.outgoing.clear();
        next.learners.append(&mut next.learners_next);
        next
    }

    /// Tells whether the invariants of this file hold.
    fn is_sound(&self) -> bool {
        let lists = [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ];
        let sizes = lists.iter().all(|list| list.len() <= MEMBERS_MAX);
        let room = self.learners.len() + self.learners_next.len() <= MEMBERS_MAX;
        let apart = self
            .learners
            .iter()
            .all(|member| !self.votes(member.replica));
        let next = self.learners_next.iter().all(|member| {
            let replica = member.replica;
            place(&self.outgoing, replica).is_some() && place(&self.voters, replica).is_none()
        });
        let unique = !lists.iter().any(|list| repeats(list));
        !self.voters.is_empty() && sizes && room && apart && next && unique
    }

    /// Appends the bytes to `out`.
    ///
    /// # Panics
    /// If a list is longer than [`MEMBERS_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let lists = [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.learners_next,
        ];
        assert!(lists.iter().all(|list| list.len() <= MEMBERS_MAX));
        out.push(VERSION);
        for list in lists {
            out.push(u8::try_from(list.len()).expect("a list holds at most seven"));
        }
        for member in lists.into_iter().flatten() {
            out.extend_from_slice(&member.replica.0.to_le_bytes());
            out.extend_from_slice(&member.node.0.to_le_bytes());
        }
    }

    /// Decodes a membership from exactly `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not those of a membership that holds the invariants.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Malformed("version of a membership"));
        }
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = reader.u8()?;
        }
        if counts.iter().any(|&count| usize::from(count) > MEMBERS_MAX) {
            return Err(Malformed("number of members"));
        }
        let [voters, outgoing, learners, learners_next] = counts;
        let membership = Self {
            voters: members(&mut reader, voters)?,
            outgoing: members(&mut reader, outgoing)?,
            learners: members(&mut reader, learners)?,
            learners_next: members(&mut reader, learners_next)?,
        };
        reader.end()?;
        match membership.is_sound() {
            true => Ok(membership),
            false => Err(Malformed("membership")),
        }
    }
}

/// Takes a replica out of a list.
fn take(list: &mut Vec<Member>, replica: ReplicaId) -> Result<Member, Refused> {
    let place = place(list, replica).ok_or(Refused::UnknownReplica(replica))?;
    Ok(list.remove(place))
}

/// Reads `count` members.
fn members(reader: &mut Reader<'_>, count: u8) -> Result<Vec<Member>, Malformed> {
    let mut member = || {
        let replica = ReplicaId(reader.u64()?);
        let node = NodeId(reader.u64()?);
        Ok(Member { replica, node })
    };
    (0..count).map(|_| member()).collect()
}

#[cfg(test)]
mod tests;
