//! Who this shard is to others, and whether somebody who says hello is who it should be. Pure: the
//! answer depends on the arguments alone.

use ashlar_consensus::NodeId;

use super::greeting::{Hello, Reason, Refusal};
use crate::cluster::{ClusterId, Member, StoreId};

/// Least frame that a node must take, in bytes.
const FRAME_BYTES_MIN: u32 = 1000;

/// Who a shard says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// Which node it is of.
    pub node: NodeId,
    /// The node's disk.
    pub store: StoreId,
    /// Which life of the node this is.
    pub incarnation: u32,
    /// Which shard of the node it is.
    pub shard: u32,
    /// How many shards the node has; the same on all nodes of a cluster.
    pub shards: u32,
    /// In how many partitions the keys are cut; the same on all nodes of a cluster.
    pub partitions: u32,
}

/// What is known of a member when it says hello.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The member.
    pub(crate) member: &'a Member,
    /// The latest of its lives that was seen.
    pub(crate) incarnation: u32,
}

impl Identity {
    /// Returns what this shard says to `to`, when it takes frames of `frame_bytes_max`.
    #[must_use]
    pub fn hello(&self, to: NodeId, frame_bytes_max: u32) -> Hello {
        Hello {
            cluster: self.cluster,
            from: self.node,
            to,
            store: self.store,
            incarnation: self.incarnation,
            shard: self.shard,
            shards: self.shards,
            partitions: self.partitions,
            frame_bytes_max,
        }
    }

    /// Says whether this node calls `other`, or waits to be called.
    #[must_use]
    pub fn dials(&self, other: NodeId) -> bool {
        self.node > other
    }

    /// Judges somebody who has called: it must be a member that calls this node, and rightly so. Who is not `known`
    /// may be one that `was_removed`; that is said by nobody but who was meant.
    pub(crate) fn judge_caller(
        &self,
        hello: &Hello,
        (known, was_removed): (Option<Known<'_>>, bool),
        own_name: &str,
    ) -> Result<(), Refusal> {
        self.judge_cluster(hello)?;
        let number = format!("node {}", hello.from.0);
        let name = known.map_or(number.as_str(), |known| &known.member.name);
        if hello.to != self.node {
            let text = format!(
                "{name} calls node {} and reaches {own_name}: its cluster.peers give the address of another node",
                hello.to.0
            );
            return Err(Refusal::new(Reason::Node, text));
        }
        let cluster = self.cluster;
        let known = known.ok_or_else(|| match was_removed {
            true => {
                let text = format!("{name} was removed from cluster {cluster}");
                Refusal::new(Reason::Removed, text)
            }
            false => {
                let text = format!("{name} is no member of cluster {cluster}");
                Refusal::new(Reason::Stranger, text)
            }
        })?;
        if hello.from <= self.node {
            let text = format!("{name} must wait to be called by {own_name}, which is the greater");
            return Err(Refusal::new(Reason::Node, text));
        }
        self.judge_member(hello, known)
    }

    /// Judges who has answered when `known` was called.
    pub(crate) fn judge_called(&self, hello: &Hello, known: Known<'_>) -> Result<(), Refusal> {
        self.judge_cluster(hello)?;
        if hello.from != known.member.node || hello.to != self.node {
            let Member { name, addr, .. } = known.member;
            let text = format!(
                "at {addr}, the address of {name}, node {} answers instead of node {}",
                hello.from.0, known.member.node.0
            );
            return Err(Refusal::new(Reason::Node, text));
        }
        self.judge_member(hello, known)
    }

    fn judge_cluster(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.cluster == self.cluster {
            return Ok(());
        }
        let text = format!(
            "node {} belongs to cluster {}, node {} to cluster {}",
            hello.from.0, hello.cluster, self.node.0, self.cluster
        );
        Err(Refusal::new(Reason::Cluster, text))
    }

    /// Judges a member for what it is, whoever has called.
    fn judge_member(&self, hello: &Hello, known: Known<'_>) -> Result<(), Refusal> {
        let Member { name, store, .. } = known.member;
        if hello.store != *store {
            let text = format!(
                "node {name} came back with another disk: store {}, and the cluster knows it with {store}; \
                 put its data directory back, or remove the member and add it anew",
                hello.store
            );
            return Err(Refusal::new(Reason::Store, text));
        }
        if hello.incarnation < known.incarnation {
            let text = format!(
                "{name} says it is in its life {}, and was seen in life {}: an old process, or an old copy of its data",
                hello.incarnation, known.incarnation
            );
            return Err(Refusal::new(Reason::Incarnation, text));
        }
        self.judge_layout(hello, name)
    }

    fn judge_layout(&self, hello: &Hello, name: &str) -> Result<(), Refusal> {
        if hello.frame_bytes_max < FRAME_BYTES_MIN {
            let text = format!(
                "{name} takes frames of {} bytes, at least {FRAME_BYTES_MIN} are needed",
                hello.frame_bytes_max
            );
            return Err(Refusal::new(Reason::Layout, text));
        }
        for (theirs, ours, what) in [
            (hello.shards, self.shards, "shards"),
            (hello.partitions, self.partitions, "partitions"),
        ] {
            if theirs != ours {
                let text = format!(
                    "{name} has {theirs} {what} and node {} has {ours}: all nodes of a cluster are formatted alike",
                    self.node.0
                );
                return Err(Refusal::new(Reason::Layout, text));
            }
        }
        if hello.shard != self.shard {
            let text = format!(
                "shard {} of {name} and shard {} of node {} reach each other: shard s listens at cluster.peer_listen + s",
                hello.shard, self.shard, self.node.0
            );
            return Err(Refusal::new(Reason::Layout, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(node: u64) -> Identity {
        Identity {
            cluster: ClusterId(7),
            node: NodeId(node),
            store: StoreId(u128::from(node)),
            incarnation: 5,
            shard: 0,
            shards: 2,
            partitions: 3,
        }
    }

    fn member(node: u64) -> Member {
        Member {
            name: format!("n{node}"),
            node: NodeId(node),
            store: StoreId(u128::from(node)),
            addr: ([10, 0, 0, 1], 7000).into(),
        }
    }

    fn caller(change: impl FnOnce(&mut Hello)) -> Result<(), (Reason, String)> {
        let mut hello = identity(2).hello(NodeId(1), 1000);
        change(&mut hello);
        let member = member(2);
        let known = Known {
            member: &member,
            incarnation: 5,
        };
        let known = (hello.from == NodeId(2)).then_some(known);
        let was_removed = hello.from == NodeId(8);
        let judged = identity(1).judge_caller(&hello, (known, was_removed), "n1");
        judged.map_err(|refusal| (refusal.reason, refusal.text))
    }

    #[test]
    fn a_member_may_call() {
        assert_eq!(caller(|_| ()), Ok(()));
        assert_eq!(caller(|hello| hello.incarnation = 6), Ok(()));
    }

    #[test]
    fn every_difference_is_told() {
        let refused = |change: fn(&mut Hello), reason, part: &str| {
            let (found, text) = caller(change).unwrap_err();
            assert!(found == reason && text.contains(part), "{text}");
            assert!(text.len() < 256, "it would be cut: {text}");
        };
        refused(|h| h.cluster.0 = 8, Reason::Cluster, "0000008, node 1");
        refused(|h| h.from.0 = 9, Reason::Stranger, "node 9 is no member");
        refused(|h| h.from.0 = 8, Reason::Removed, "node 8 was removed");
        // Who was not meant does not say so: the number at its address may be another's by now.
        refused(
            |h| (h.from.0, h.to.0) = (8, 3),
            Reason::Node,
            "node 8 calls node 3 and reaches n1",
        );
        refused(
            |h| h.to.0 = 3,
            Reason::Node,
            "n2 calls node 3 and reaches n1",
        );
        refused(
            |h| h.store.0 = 1,
            Reason::Store,
            "n2 came back with another",
        );
        refused(|h| h.incarnation = 4, Reason::Incarnation, "life 4");
        refused(|h| h.shards = 1, Reason::Layout, "n2 has 1 shards");
        refused(|h| h.partitions = 1, Reason::Layout, "n2 has 1 partitions");
        refused(|h| h.frame_bytes_max = 9, Reason::Layout, "of 9 bytes");
        refused(|h| h.shard = 1, Reason::Layout, "shard 1 of n2");
    }

    #[test]
    fn who_answers_must_be_who_was_called() {
        let member = member(1);
        let known = Known {
            member: &member,
            incarnation: 0,
        };
        let judge = |hello: &Hello| identity(2).judge_called(hello, known);
        assert_eq!(judge(&identity(1).hello(NodeId(2), 1000)), Ok(()));
        let refusal = judge(&identity(3).hello(NodeId(2), 1000)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Node);
        let refusal = judge(&identity(1).hello(NodeId(3), 1000)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Node);
    }

    #[test]
    fn the_greater_node_calls() {
        assert!(identity(2).dials(NodeId(1)) && !identity(1).dials(NodeId(2)));
        let mut hello = identity(2).hello(NodeId(1), 1000);
        hello.from = NodeId(1);
        let member = member(1);
        let known = Known {
            member: &member,
            incarnation: 0,
        };
        let refusal = identity(1).judge_caller(&hello, (Some(known), false), "n1");
        assert_eq!(refusal.unwrap_err().reason, Reason::Node);
    }
}
