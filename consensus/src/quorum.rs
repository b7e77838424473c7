//! What a quorum of voters agrees on: counted anew from at most seven values each time, so that
//! nothing incremental can go stale.
//!
//! Invariants:
//! 1. While a membership is joint, both sets of voters must agree, each by a majority of its own.
//! 2. Two quorums of one set have a voter in common.
//!
//! Source: Raft (Ongaro's thesis), sections 3.6.2 and 4.3.

use crate::membership::{Member, Membership};

/// Most voters of one set.
pub const VOTERS_MAX: usize = 7;

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A quorum has said yes.
    Won,
    /// No quorum can say yes any more.
    Lost,
    /// It depends on those who have not answered.
    Open,
}

/// Returns the greatest value that a quorum of `membership` has reached, where `value` says what a
/// voter has reached. An empty set of voters reaches `top`.
///
/// # Panics
/// If a set has more than [`VOTERS_MAX`] voters, which [`Membership`] never has.
pub fn reached<T: Copy + Ord>(
    membership: &Membership,
    top: T,
    mut value: impl FnMut(&Member) -> T,
) -> T {
    let incoming = majority(&membership.voters, top, &mut value);
    incoming.min(majority(&membership.outgoing, top, &mut value))
}

/// Returns the greatest value that a majority of `voters` has reached.
fn majority<T: Copy + Ord>(voters: &[Member], top: T, value: &mut impl FnMut(&Member) -> T) -> T {
    let mut values = [top; VOTERS_MAX];
    let values = &mut values[..voters.len()];
    for (slot, voter) in values.iter_mut().zip(voters) {
        *slot = value(voter);
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(voters.len() / 2).copied().unwrap_or(top)
}

/// Returns how a vote stands, where `vote` says what a voter answered, if it did.
pub fn tally(membership: &Membership, mut vote: impl FnMut(&Member) -> Option<bool>) -> Tally {
    let sure = reached(membership, 1, |voter| u8::from(vote(voter) == Some(true)));
    let possible = reached(membership, 1, |voter| u8::from(vote(voter) != Some(false)));
    match (sure, possible) {
        (1, _) => Tally::Won,
        (_, 0) => Tally::Lost,
        _ => Tally::Open,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{NodeId, ReplicaId};

    fn members(ids: &[u64]) -> Vec<Member> {
        let member = |&id| Member {
            replica: ReplicaId(id),
            node: NodeId(id),
        };
        ids.iter().map(member).collect()
    }

    fn membership(voters: &[u64], outgoing: &[u64]) -> Membership {
        Membership {
            voters: members(voters),
            outgoing: members(outgoing),
            ..Membership::default()
        }
    }

    /// Says how many of `ids` must agree, the long way.
    fn agrees(ids: &[u64], yes: impl Fn(u64) -> bool) -> bool {
        ids.is_empty() || 2 * ids.iter().filter(|&&id| yes(id)).count() > ids.len()
    }

    proptest! {
        #[test]
        fn what_is_reached_is_what_both_majorities_have(
            values in proptest::collection::vec(0..9_u64, 10),
            voters in proptest::sample::subsequence((0..10).collect::<Vec<u64>>(), 1..=7),
            outgoing in proptest::sample::subsequence((0..10).collect::<Vec<u64>>(), 0..=7),
        ) {
            let of = |id: u64| values[usize::try_from(id).unwrap()];
            let both = |least: u64| {
                agrees(&voters, |id| of(id) >= least) && agrees(&outgoing, |id| of(id) >= least)
            };
            let expected = (0..9).rev().find(|&least| both(least)).unwrap();
            let found = reached(&membership(&voters, &outgoing), u64::MAX, |m| of(m.replica.0));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_vote_is_decided_when_no_answer_can_change_it(
            answers in proptest::collection::vec(proptest::option::of(any::<bool>()), 10),
            voters in proptest::sample::subsequence((0..10).collect::<Vec<u64>>(), 1..=7),
            outgoing in proptest::sample::subsequence((0..10).collect::<Vec<u64>>(), 0..=7),
        ) {
            let of = |id: u64| answers[usize::try_from(id).unwrap()];
            let won = |missing: bool| {
                let yes = |id| of(id).unwrap_or(missing);
                agrees(&voters, yes) && agrees(&outgoing, yes)
            };
            let expected = match (won(false), won(true)) {
                (true, _) => Tally::Won,
                (_, false) => Tally::Lost,
                _ => Tally::Open,
            };
            let found = tally(&membership(&voters, &outgoing), |m| of(m.replica.0));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn of_two_both_are_needed_and_of_four_three() {
        let has = |found: &[u64], ids: &[u64]| {
            reached(&membership(ids, &[]), 1, |m| {
                u8::from(found.contains(&m.replica.0))
            })
        };
        assert_eq!(has(&[1], &[1, 2]), 0);
        assert_eq!(has(&[1, 2], &[1, 2]), 1);
        assert_eq!(has(&[1, 2], &[1, 2, 3, 4]), 0);
        assert_eq!(has(&[1, 2, 4], &[1, 2, 3, 4]), 1);
    }
}
