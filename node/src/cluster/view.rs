//! The cluster as this node sees it, for people and for clients: who the members are, who leads which
//! partition, who lags. Written by each shard once a tick, read by commands; nothing decides by it.

use std::net::SocketAddr;
use std::sync::Mutex;

use ashlar_consensus::{Index, Member, Membership, NodeId, Term};

use crate::shared::lock;

/// A member, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What operators call it.
    pub name: String,
    /// Its number.
    pub node: NodeId,
    /// Where its shard 0 listens for peers.
    pub addr: SocketAddr,
    /// Where it listens for clients, once it has said so.
    pub clients: Option<SocketAddr>,
    /// Whether shard 0 is connected to it; always so of this node itself.
    pub is_connected: bool,
}

/// Whether a replica is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It is.
    #[default]
    Whole,
    /// A file of its tables is damaged: it does not lead, and is being repaired.
    Damaged,
    /// Its log was damaged: it does not vote before it has everything again.
    Forgetful,
}

impl Health {
    /// Returns it in a word, for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::Forgetful => "forgetful",
        }
    }
}

/// A partition, as its replica here sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// Whether that is this node, with a lease.
    pub serves: bool,
    /// Whether the replica here is whole.
    pub health: Health,
    /// The latest term.
    pub term: Term,
    /// The last entry of the log, the last that is committed, and the last that is applied.
    pub last: Index,
    /// See above.
    pub committed: Index,
    /// See above.
    pub applied: Index,
    /// The nodes of its replicas that vote, until the change that ends it is committed, and up to where their logs are
    /// the leader's: told only by the leader.
    pub replicas: Vec<(NodeId, Option<Index>)>,
    /// The nodes of its replicas that learn, or begin to vote by a change that is not committed yet.
    pub learners: Vec<NodeId>,
}

/// Returns the members that vote and those that are to. While a change is not committed, the majority of those before
/// it counts as well: so a newcomer votes for good, and another member may be lost in its place, only then.
#[must_use]
pub fn seats(committed: &Membership, last: &Membership) -> (Vec<Member>, Vec<Member>) {
    let is_newcomer = |member: &Member| {
        let is_settled = |of: &Membership| {
            of.voters.contains(member) && (!of.is_joint() || of.outgoing.contains(member))
        };
        last.voters.contains(member) && !(is_settled(committed) && is_settled(last))
    };
    let before = committed.all_voters();
    let before = before.filter(|member| last.all_voters().all(|other| other != *member));
    let all = last.all_voters().chain(before);
    let (mut learn, vote): (Vec<_>, Vec<_>) = all.partition(is_newcomer);
    learn.extend_from_slice(&last.learners);
    (vote, learn)
}

/// What there is to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// This node.
    pub node: NodeId,
    /// Version of the list of members.
    pub roster: u64,
    /// The members, this node among them, in order of number.
    pub members: Vec<Seen>,
    /// By number.
    pub parts: Vec<Part>,
}

impl Sight {
    /// Returns what operators call a node.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> &str {
        let found = self.members.iter().find(|seen| seen.node == node);
        found.map_or("?", |seen| &seen.name)
    }

    /// Walks the other members.
    pub fn others(&self) -> impl Iterator<Item = &Seen> {
        self.members.iter().filter(|seen| seen.node != self.node)
    }

    /// Returns the sum of what is applied here: it grows with every change.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.parts.iter().map(|part| part.applied.0).sum()
    }

    /// Returns how many replicas a write is on before it is acknowledged, beside the leader's own.
    #[must_use]
    pub fn acknowledged_by(&self) -> usize {
        self.members.len() / 2
    }
}

/// The cluster of a node, if it is in one.
#[derive(Debug, Default)]
pub struct View(Mutex<Option<Sight>>);

impl View {
    /// Returns what there is to see; nothing when the node is alone.
    #[must_use]
    pub fn look(&self) -> Option<Sight> {
        lock(&self.0).clone()
    }

    /// Changes what there is to see.
    pub fn note(&self, note: impl FnOnce(&mut Sight)) {
        note(lock(&self.0).get_or_insert_default());
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::ReplicaId;

    use super::*;

    /// `ashlar member add` returned while the last change was not committed. Two of five members were lost then, and
    /// the other three never served again: three of the four before it were still needed. Found by the simulator.
    #[test]
    fn who_comes_votes_and_who_leaves_does_not_once_the_change_is_committed() {
        let member = |number: u32| Member {
            replica: ReplicaId(number.into()),
            node: NodeId(number.into()),
        };
        let members = |numbers: &[u32]| numbers.iter().copied().map(member).collect::<Vec<_>>();
        let (four, five) = (members(&[1, 2, 3, 4]), members(&[1, 2, 3, 4, 5]));
        let (before, after) = (Membership::of(&four), Membership::of(&five));
        let change = |voters: &[Member], outgoing: &[Member]| Membership {
            outgoing: outgoing.to_vec(),
            ..Membership::of(voters)
        };
        let comes = change(&five, &four);
        for (committed, last) in [(&before, &comes), (&comes, &comes), (&comes, &after)] {
            assert_eq!(seats(committed, last), (four.clone(), members(&[5])));
        }
        assert_eq!(seats(&after, &after), (five.clone(), vec![]));
        let leaves = change(&four, &five);
        for (committed, last) in [(&after, &leaves), (&leaves, &leaves), (&leaves, &before)] {
            assert_eq!(seats(committed, last), (five.clone(), vec![]));
        }
        assert_eq!(seats(&before, &before), (four.clone(), vec![]));
        let mut learns = before.clone();
        learns.learners = members(&[6]);
        assert_eq!(seats(&before, &learns), (four, members(&[6])));
    }

    #[test]
    fn a_lone_node_sees_nothing_and_a_member_what_was_noted() {
        let view = View::default();
        assert_eq!(view.look(), None);
        let seen = |number, name: &str| Seen {
            name: name.to_owned(),
            node: NodeId(number),
            addr: ([127, 0, 0, 1], 7400).into(),
            clients: None,
            is_connected: true,
        };
        view.note(|sight| {
            sight.node = NodeId(2);
            sight.members = vec![seen(1, "a"), seen(2, "b"), seen(3, "c")];
            sight.parts = vec![Part {
                applied: Index(7),
                ..Part::default()
            }];
        });
        let sight = view.look().unwrap();
        let others: Vec<_> = sight.others().map(|seen| seen.name.as_str()).collect();
        assert_eq!(others, ["a", "c"]);
        assert_eq!(
            (sight.name_of(NodeId(3)), sight.name_of(NodeId(9))),
            ("c", "?")
        );
        assert_eq!((sight.offset(), sight.acknowledged_by()), (7, 1));
    }
}
