//! The cluster as this node sees it, for people and for clients: who the members are, who leads which
//! partition, who lags. Written by each shard once a tick, read by commands; nothing decides by it.

use std::net::SocketAddr;
use std::sync::Mutex;

use ashlar_consensus::{Index, NodeId, Term};

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

/// A partition, as its replica here sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// Whether that is this node, with a lease.
    pub serves: bool,
    /// The latest term.
    pub term: Term,
    /// The last entry of the log, the last that is committed, and the last that is applied.
    pub last: Index,
    /// See above.
    pub committed: Index,
    /// See above.
    pub applied: Index,
    /// The nodes of its replicas that vote, and up to where their logs are the leader's: told only by
    /// the leader.
    pub replicas: Vec<(NodeId, Option<Index>)>,
    /// The nodes of its replicas that learn and do not vote yet.
    pub learners: Vec<NodeId>,
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
    use super::*;

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
