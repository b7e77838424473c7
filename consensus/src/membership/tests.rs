//! Tests of memberships: every way from one to the next, what is refused, and the bytes.

use proptest::prelude::*;

use super::*;

fn member(id: u64) -> Member {
    Member {
        replica: ReplicaId(id),
        node: NodeId(100 + id),
    }
}

fn of(ids: &[u64]) -> Vec<Member> {
    ids.iter().map(|&id| member(id)).collect()
}

fn three() -> Membership {
    Membership::of(&of(&[1, 2, 3]))
}

#[test]
fn a_change_of_voters_is_joint_until_it_is_left() {
    let joint = three().change(&Change::AddVoter(member(4))).unwrap();
    assert_eq!(joint.voters, of(&[1, 2, 3, 4]));
    assert_eq!(joint.outgoing, of(&[1, 2, 3]));
    assert_eq!(joint.left(), Membership::of(&of(&[1, 2, 3, 4])));
}

#[test]
fn a_change_of_learners_is_not_joint() {
    let next = three().change(&Change::AddLearner(member(4))).unwrap();
    assert!(!next.is_joint());
    assert_eq!(next.learners, of(&[4]));
    let joint = next.change(&Change::Promote(ReplicaId(4))).unwrap();
    assert!(joint.is_joint() && joint.learners.is_empty());
    let without = next.change(&Change::Remove(ReplicaId(4))).unwrap();
    assert_eq!(without, three());
}

#[test]
fn a_demoted_voter_learns_only_when_the_change_is_done() {
    let joint = three().change(&Change::Demote(ReplicaId(2))).unwrap();
    assert!(joint.learners.is_empty() && joint.votes(ReplicaId(2)));
    assert_eq!(joint.left().learners, of(&[2]));
    assert_eq!(joint.left().voters, of(&[1, 3]));
}

#[test]
fn a_wiped_replica_is_replaced_by_a_new_one_on_its_node() {
    let new = Member {
        replica: ReplicaId(9),
        node: NodeId(102),
    };
    let old = ReplicaId(2);
    let joint = three().change(&Change::Replace { old, new }).unwrap();
    assert_eq!(joint.voters, [member(1), member(3), new]);
    assert_eq!(joint.members().count(), 4);
    assert_eq!(joint.left().members().count(), 3);
}

#[test]
fn a_learner_may_replace_a_voter() {
    let learning = three().change(&Change::AddLearner(member(4))).unwrap();
    let (old, new) = (ReplicaId(2), member(4));
    let joint = learning.change(&Change::Replace { old, new }).unwrap();
    assert_eq!(joint.left(), Membership::of(&of(&[1, 3, 4])));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let known = Err(Refused::AlreadyMember(ReplicaId(2)));
    assert_eq!(three().change(&Change::AddVoter(member(2))), known);
    assert_eq!(three().change(&Change::AddLearner(member(2))), known);
    let unknown = Err(Refused::UnknownReplica(ReplicaId(7)));
    assert_eq!(three().change(&Change::Remove(ReplicaId(7))), unknown);
    assert_eq!(three().change(&Change::Promote(ReplicaId(7))), unknown);
    let alone = Membership::of(&of(&[1]));
    let last = Err(Refused::LastVoter);
    assert_eq!(alone.change(&Change::Remove(ReplicaId(1))), last);
    assert_eq!(alone.change(&Change::Demote(ReplicaId(1))), last);
    let joint = three().change(&Change::Remove(ReplicaId(1))).unwrap();
    let second = joint.change(&Change::Remove(ReplicaId(2)));
    assert_eq!(second, Err(Refused::ChangeUnderWay));
    let full = Membership::of(&of(&[1, 2, 3, 4, 5, 6, 7]));
    let eighth = full.change(&Change::AddVoter(member(8)));
    assert_eq!(eighth, Err(Refused::TooManyMembers));
}

#[test]
fn a_node_has_one_replica_of_a_group() {
    let new = Member {
        replica: ReplicaId(9),
        node: NodeId(101),
    };
    let refused = Err(Refused::AlreadyMember(ReplicaId(9)));
    assert_eq!(three().change(&Change::AddVoter(new)), refused);
    let old = ReplicaId(2);
    assert_eq!(three().change(&Change::Replace { old, new }), refused);
}

proptest! {
    #[test]
    fn bytes_come_back(changes in proptest::collection::vec((0..6, 1..10_u64, 1..10_u64), 0..20)) {
        let mut membership = three();
        for (kind, a, b) in changes {
            let change = match kind {
                0 => Change::AddVoter(member(a)),
                1 => Change::AddLearner(member(a)),
                2 => Change::Promote(ReplicaId(a)),
                3 => Change::Demote(ReplicaId(a)),
                4 => Change::Remove(ReplicaId(a)),
                _ => Change::Replace { old: ReplicaId(a), new: member(b) },
            };
            let Ok(next) = membership.change(&change) else { continue };
            for next in [&next, &next.left()] {
                let mut bytes = Vec::new();
                next.encode(&mut bytes);
                prop_assert_eq!(&Membership::decode(&bytes).unwrap(), next);
                for cut in 0..bytes.len() {
                    prop_assert!(Membership::decode(&bytes[..cut]).is_err());
                }
            }
            membership = next.left();
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(mut bytes in proptest::collection::vec(0..4_u8, 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(membership) = Membership::decode(&bytes) {
            prop_assert!(membership.is_sound());
        }
    }
}
