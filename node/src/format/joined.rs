//! The cluster that a node is a member of, as its data directory keeps it.

use ashlar_consensus::NodeId;

use crate::cluster::decree::are_members;
use crate::cluster::{ClusterId, Decree, Member, StoreId};

/// A node's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// What the cluster's first members have decided.
    pub decree: Decree,
    /// Which of them this node is.
    pub node: NodeId,
}

impl Membership {
    /// Returns this node as a member.
    ///
    /// # Panics
    /// Never: a node is a member of its own cluster.
    #[must_use]
    pub fn own(&self) -> &Member {
        let mut members = self.decree.members.iter();
        let own = members.find(|member| member.node == self.node);
        own.expect("checked when it was made")
    }
}

/// The TOML of a [`Membership`]. Integers of TOML have 63 bits, so ids are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Joined {
    id: String,
    node: u32,
    members: Vec<JoinedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinedMember {
    name: String,
    node: u32,
    store: String,
    addr: String,
}

fn number(node: NodeId) -> u32 {
    u32::try_from(node.0).expect("members are numbered from 1")
}

fn id(hex: &str) -> Option<u128> {
    u128::from_str_radix(hex, 16).ok()
}

impl Joined {
    pub(super) fn new(decree: &Decree, node: NodeId) -> Self {
        let members = decree.members.iter().map(|member| JoinedMember {
            name: member.name.clone(),
            node: number(member.node),
            store: member.store.to_string(),
            addr: member.addr.to_string(),
        });
        Self {
            id: decree.cluster.to_string(),
            node: number(node),
            members: members.collect(),
        }
    }

    /// Returns what it says, if that is a cluster with this node in it.
    pub(super) fn read(&self) -> Option<Membership> {
        let member = |of: &JoinedMember| {
            Some(Member {
                name: of.name.clone(),
                node: NodeId(u64::from(of.node)),
                store: StoreId(id(&of.store)?),
                addr: of.addr.parse().ok()?,
            })
        };
        let members: Option<Vec<Member>> = self.members.iter().map(member).collect();
        let decree = Decree {
            cluster: ClusterId(id(&self.id)?),
            members: members?,
        };
        let node = NodeId(u64::from(self.node));
        let known = decree.members.iter().any(|member| member.node == node);
        (known && are_members(&decree.members)).then_some(Membership { decree, node })
    }
}
