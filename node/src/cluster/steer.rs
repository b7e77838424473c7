//! What the leader of a group does next so that its replicas are on the members of the cluster, no more and
//! no less. Pure; one step at a time, each a change of its own in the group's log.
//!
//! A newcomer learns first and votes once it has caught up, in the place of one that leaves if there is one:
//! so a group never has fewer voters than before because somebody comes. Who leaves for nobody in its place
//! goes last. A leader that is to leave hands over first.

use std::fmt;

use ashlar_consensus::{Change, Member, Membership, NodeId, ReplicaId};

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Change the replicas.
    Change(Change),
    /// Have the replica on this node lead: who leads is to leave.
    HandOver(NodeId),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandOver(to) => write!(f, "node {} is to lead", to.0),
            Self::Change(Change::AddLearner(member)) => write!(f, "node {} learns", member.node.0),
            Self::Change(Change::AddVoter(member)) => write!(f, "node {} votes", member.node.0),
            Self::Change(Change::Promote(replica)) => write!(f, "replica {replica} votes"),
            Self::Change(Change::Demote(replica)) => write!(f, "replica {replica} votes no more"),
            Self::Change(Change::Remove(replica)) => write!(f, "replica {replica} is removed"),
            Self::Change(Change::Replace { old, new }) => {
                write!(f, "node {} votes in the place of replica {old}", new.node.0)
            }
        }
    }
}

/// Returns the replica of a partition on a node: it has the node's number, which is never given twice.
#[must_use]
pub fn replica_on(node: NodeId) -> Member {
    Member {
        replica: ReplicaId(node.0),
        node,
    }
}

/// Says whether a group is as it is to be.
#[must_use]
pub fn is_settled(group: &Membership, wanted: &[NodeId]) -> bool {
    let voters = group.voters.iter().map(|voter| voter.node);
    let settled = !group.is_joint() && group.learners.is_empty();
    settled
        && group.voters.len() == wanted.len()
        && voters.into_iter().all(|node| wanted.contains(&node))
}

/// Says whether a group needs the replica on `own` no more, as this replica can tell that has not heard so from its
/// log: a majority of the others has said that it was removed, so what removes it is in the log of one in every
/// majority of those that it leaves behind, and whoever leads next has it.
#[must_use]
pub fn is_let_go(group: &Membership, own: NodeId, denying: &[NodeId]) -> bool {
    let is_half_gone = |half: &[Member]| {
        let others = half.iter().filter(|voter| voter.node != own);
        let said = others.clone().filter(|voter| denying.contains(&voter.node));
        said.count() * 2 > others.count()
    };
    is_half_gone(&group.voters) && (!group.is_joint() || is_half_gone(&group.outgoing))
}

/// Returns the next step of the leader on `leader`; nothing when all is as it is to be, or somebody must be
/// waited for. `is_ready` says whether a replica has caught up and can be reached, and `is_near` whether a
/// node can be reached.
pub fn next_step(
    group: &Membership,
    leader: NodeId,
    wanted: &[NodeId],
    is_ready: impl Fn(&Member) -> bool,
    is_near: impl Fn(NodeId) -> bool,
) -> Option<Step> {
    if group.is_joint() {
        return None;
    }
    let stays = |member: &&Member| wanted.contains(&member.node);
    let change = |change| Some(Step::Change(change));
    let known = |node: &&NodeId| group.members().any(|member| member.node == **node);
    if let Some(learner) = group.learners.iter().find(|learner| !stays(learner)) {
        return change(Change::Remove(learner.replica));
    }
    let mut absent = wanted.iter().filter(|node| !known(node));
    if let Some(node) = absent.clone().find(|node| is_near(**node)) {
        return change(Change::AddLearner(replica_on(*node)));
    }
    if !wanted.contains(&leader) {
        let mut heirs = group.voters.iter().filter(stays);
        if let Some(heir) = heirs.find(|heir| is_ready(heir)) {
            return Some(Step::HandOver(heir.node));
        }
    }
    let leaving = |voter: &&Member| !stays(voter) && voter.node != leader;
    let leaving = group.voters.iter().find(leaving);
    let ready = group.learners.iter().find(|learner| is_ready(learner));
    match (ready, leaving) {
        (Some(new), Some(old)) => change(Change::Replace {
            old: old.replica,
            new: *new,
        }),
        (Some(new), None) => change(Change::Promote(new.replica)),
        (None, Some(old)) if group.learners.is_empty() && absent.next().is_none() => {
            change(Change::Remove(old.replica))
        }
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    fn group(voters: &[u64]) -> Membership {
        let voters: Vec<Member> = nodes(voters).into_iter().map(replica_on).collect();
        Membership::of(&voters)
    }

    /// Steps until nothing is left to do; returns what was done.
    fn steer(mut group: Membership, mut leader: u64, wanted: &[u64]) -> (Membership, Vec<Step>) {
        let wanted = nodes(wanted);
        let mut steps = Vec::new();
        while let Some(step) = next_step(&group, NodeId(leader), &wanted, |_| true, |_| true) {
            steps.push(step);
            assert!(steps.len() < 50, "{steps:?}");
            match step {
                Step::HandOver(to) => leader = to.0,
                Step::Change(change) => group = group.change(&change).unwrap().left(),
            }
        }
        assert!(is_settled(&group, &wanted), "{group:?}");
        (group, steps)
    }

    #[test]
    fn a_replica_is_let_go_by_a_majority_of_the_others() {
        let goes =
            |voters: &[u64], denying: &[u64]| is_let_go(&group(voters), NodeId(9), &nodes(denying));
        assert!(goes(&[1, 9], &[1]) && !goes(&[1, 9], &[]));
        assert!(goes(&[1, 2, 9], &[1, 2]) && !goes(&[1, 2, 9], &[2]));
        assert!(goes(&[1, 2, 3, 9], &[1, 3]) && !goes(&[1, 2, 3, 9], &[3, 4]));
        // Who learns only is let go by those that vote, and the last voter by nobody.
        assert!(goes(&[1, 2], &[1, 2]) && !goes(&[1, 2], &[1]));
        assert!(!goes(&[9], &[1, 2]));
        let mut joint = group(&[1, 2]);
        joint.outgoing = group(&[1, 2, 3, 4, 9]).voters;
        assert!(!is_let_go(&joint, NodeId(9), &nodes(&[1, 2])));
        assert!(is_let_go(&joint, NodeId(9), &nodes(&[1, 2, 4])));
    }

    #[test]
    fn from_any_members_to_any_others_that_overlap() {
        for from in 1_u64..32 {
            for to in 1_u64..32 {
                let list = |bits: u64| -> Vec<u64> {
                    (0..5)
                        .filter(|n| bits >> n & 1 == 1)
                        .map(|n| n + 1)
                        .collect()
                };
                let (group, _) = steer(group(&list(from)), list(from)[0], &list(to));
                assert_eq!(group.voters.len(), list(to).len());
            }
        }
    }

    #[test]
    fn one_is_replaced_without_ever_having_fewer_voters() {
        let (_, steps) = steer(group(&[1, 2, 3]), 1, &[1, 3, 4]);
        let new = replica_on(NodeId(4));
        let replace = Change::Replace {
            old: ReplicaId(2),
            new,
        };
        assert_eq!(steps, [Change::AddLearner(new), replace].map(Step::Change));
    }

    #[test]
    fn a_leader_that_leaves_hands_over_first() {
        let (_, steps) = steer(group(&[1, 2, 3]), 2, &[1, 3]);
        let remove = Step::Change(Change::Remove(ReplicaId(2)));
        assert_eq!(steps, [Step::HandOver(NodeId(1)), remove]);
    }

    #[test]
    fn nobody_goes_before_who_comes_has_caught_up() {
        let mut of = group(&[1, 2, 3]);
        let wanted = nodes(&[1, 3, 4]);
        let step = |of: &Membership, ready: bool, near: bool| {
            next_step(of, NodeId(1), &wanted, |_| ready, |_| near)
        };
        assert_eq!(step(&of, false, false), None);
        of.learners.push(replica_on(NodeId(4)));
        assert_eq!(step(&of, false, true), None);
        assert!(step(&of, true, true).is_some());
    }
}
