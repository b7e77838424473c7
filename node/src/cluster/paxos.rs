//! Single-decree Paxos: how the first members of a cluster agree on one id, whatever crashes. Pure:
//! no messages, no files, no time. Not the log of a partition: that is Raft's.
//!
//! An acceptor is a disk, not a name: one that is wiped has forgotten its promises. So each acceptor
//! *endorses* one list of members with their disks, for good, and nothing is proposed before every
//! member has endorsed the list. A list with a wiped disk is another list, which those that kept
//! theirs do not endorse; so a second cluster could come to be only when all disks of the first were
//! wiped.
//!
//! Invariants:
//! 1. An acceptor's state is durable before its answer leaves.
//! 2. An acceptor promises and accepts in growing ballots only.
//! 3. A proposer's own acceptor has promised a ballot, durably, before anybody else hears of it: after
//!    a crash the ballot is not used again.
//! 4. A proposer proposes one decree per ballot: the one of the highest ballot that a majority knows
//!    of, or its own when they know none.
//!
//! Source: Lamport, "Paxos Made Simple", 2001, section 2.2; the endorsement is ours.

use std::collections::BTreeSet;

use ashlar_consensus::NodeId;

use super::{ClusterId, Decree, Member, StoreId};

/// An attempt to decide; attempts of different proposers differ, and later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ballot {
    /// Which attempt it is; 0 is none.
    pub round: u64,
    /// Whose it is.
    pub proposer: NodeId,
}

/// What an acceptor has promised and accepted. This is what must not be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Acceptor {
    /// The members for whom it will accept anything.
    pub endorsed: Option<Vec<Member>>,
    /// Nothing below this is accepted any more.
    pub promised: Ballot,
    /// What was accepted last.
    pub accepted: Option<(Ballot, Decree)>,
}

/// The answer of an acceptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Vote {
    /// Nothing below the ballot will be accepted; this was accepted before.
    Promised(Option<(Ballot, Decree)>),
    /// The decree is accepted.
    Accepted,
    /// A higher ballot was promised.
    Outrun(Ballot),
    /// Other members are endorsed; these.
    Elsewhere(Vec<Member>),
    /// The list has another disk for this acceptor than it has.
    Mistaken,
}

impl Acceptor {
    /// Answers a proposer who wants to know what may be proposed among `members`; `own` is this
    /// acceptor's disk.
    pub fn prepare(&mut self, own: (NodeId, StoreId), members: &[Member], ballot: Ballot) -> Vote {
        if let Err(vote) = self.endorse(own, members) {
            return vote;
        }
        if ballot <= self.promised {
            return Vote::Outrun(self.promised);
        }
        self.promised = ballot;
        Vote::Promised(self.accepted.clone())
    }

    fn endorse(&mut self, own: (NodeId, StoreId), members: &[Member]) -> Result<(), Vote> {
        let listed = |member: &Member| (member.node, member.store) == own;
        if !members.iter().any(listed) {
            return Err(Vote::Mistaken);
        }
        match &self.endorsed {
            Some(endorsed) if endorsed != members => Err(Vote::Elsewhere(endorsed.clone())),
            Some(_) => Ok(()),
            None => {
                self.endorsed = Some(members.to_vec());
                Ok(())
            }
        }
    }

    /// Answers a proposer who proposes a decree, after every member has endorsed its members.
    pub fn accept(&mut self, own: (NodeId, StoreId), ballot: Ballot, decree: &Decree) -> Vote {
        match &self.endorsed {
            Some(endorsed) if *endorsed == decree.members => {}
            Some(endorsed) => return Vote::Elsewhere(endorsed.clone()),
            // It was wiped since it has endorsed; or it never has, and the proposer is wrong.
            None => return Vote::Mistaken,
        }
        let listed = |member: &Member| (member.node, member.store) == own;
        if !decree.members.iter().any(listed) {
            return Vote::Mistaken;
        }
        if ballot < self.promised {
            return Vote::Outrun(self.promised);
        }
        self.promised = ballot;
        self.accepted = Some((ballot, decree.clone()));
        Vote::Accepted
    }
}

/// One attempt of a proposer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Preparing,
    Proposing(ClusterId),
}

/// A proposer among fixed members. It may be forgotten at any time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer {
    node: NodeId,
    members: Vec<Member>,
    ballot: Ballot,
    /// The highest ballot that was heard of.
    seen: Ballot,
    phase: Phase,
    endorsed: BTreeSet<NodeId>,
    promised: BTreeSet<NodeId>,
    accepted: BTreeSet<NodeId>,
    best: Option<(Ballot, Decree)>,
}

impl Proposer {
    /// Makes the proposer of `node`, which is one of `members`.
    #[must_use]
    pub fn new(node: NodeId, members: Vec<Member>) -> Self {
        Self {
            node,
            members,
            ballot: Ballot::default(),
            seen: Ballot::default(),
            phase: Phase::Preparing,
            endorsed: BTreeSet::new(),
            promised: BTreeSet::new(),
            accepted: BTreeSet::new(),
            best: None,
        }
    }

    /// Returns the members that it proposes for.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Begins an attempt above every one that was heard of, and above `promised`, which is what the
    /// own acceptor has promised. Returns its ballot, to be prepared by the own acceptor, and when it
    /// has promised durably by all other members.
    pub fn begin(&mut self, promised: Ballot) -> Ballot {
        self.ballot = Ballot {
            round: self.seen.max(promised).round + 1,
            proposer: self.node,
        };
        self.seen = self.ballot;
        self.phase = Phase::Preparing;
        self.promised.clear();
        self.accepted.clear();
        self.best = None;
        self.ballot
    }

    fn is_majority(&self, of: &BTreeSet<NodeId>) -> bool {
        of.len() > self.members.len() / 2
    }

    /// Takes the answer of a member to the prepare or proposal of `ballot`, by this proposer and not
    /// by one that was forgotten.
    ///
    /// # Panics
    /// When `from` is no member, or has accepted a decree for other members than it endorses.
    pub fn take(&mut self, from: NodeId, ballot: Ballot, vote: &Vote) {
        assert!(self.members.iter().any(|member| member.node == from));
        if let Vote::Outrun(promised) = vote {
            self.seen = self.seen.max(*promised);
        }
        // Endorsements are for good, whichever attempt has brought them.
        if matches!(vote, Vote::Promised(_) | Vote::Outrun(_)) {
            self.endorsed.insert(from);
        }
        if ballot != self.ballot {
            return;
        }
        match (vote, &self.phase) {
            (Vote::Promised(accepted), Phase::Preparing) => {
                self.promised.insert(from);
                let known = self.best.as_ref().map(|(ballot, _)| *ballot);
                if let Some(accepted) = accepted.as_ref().filter(|(at, _)| Some(*at) > known) {
                    assert!(accepted.1.members == self.members, "they endorse one list");
                    self.best = Some(accepted.clone());
                }
            }
            (Vote::Accepted, Phase::Proposing(_)) => {
                self.accepted.insert(from);
            }
            (_, _) => {}
        }
    }

    /// Returns the decree to be proposed to all members, once enough have promised; `fresh` becomes
    /// the cluster's id when nothing was accepted before.
    pub fn propose(&mut self, fresh: ClusterId) -> Option<Decree> {
        // Who has accepted something knows that all have endorsed.
        let endorsed = self.best.is_some() || self.endorsed.len() == self.members.len();
        let ready = self.phase == Phase::Preparing && self.is_majority(&self.promised);
        if !ready || !endorsed {
            return None;
        }
        let known = self.best.as_ref().map(|(_, decree)| decree.cluster);
        self.phase = Phase::Proposing(known.unwrap_or(fresh));
        self.proposal()
    }

    fn proposal(&self) -> Option<Decree> {
        match self.phase {
            Phase::Preparing => None,
            Phase::Proposing(cluster) => Some(Decree {
                cluster,
                members: self.members.clone(),
            }),
        }
    }

    /// Returns the decree once it is decided.
    #[must_use]
    pub fn decided(&self) -> Option<Decree> {
        self.proposal().filter(|_| self.is_majority(&self.accepted))
    }

    /// Returns who has not endorsed the members yet, as far as this proposer knows.
    #[must_use]
    pub fn unendorsed(&self) -> Vec<&str> {
        let absent = |member: &&Member| !self.endorsed.contains(&member.node);
        let absent = self.members.iter().filter(absent);
        absent.map(|member| member.name.as_str()).collect()
    }
}

#[cfg(test)]
#[path = "paxos/tests.rs"]
mod tests;
