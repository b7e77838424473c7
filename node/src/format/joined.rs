//! The cluster that a node is a member of, as its data directory keeps it.

use ashlar_consensus::NodeId;

use crate::cluster::decree::are_members;
use crate::cluster::{ClusterId, Decree, Member, StoreId};

/// A node's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// What the cluster's first members have decided.
    pub decree: Decree,
    /// This node, as it became a member: one of the first, or later.
    pub own: Member,
}

/// The TOML of a [`Membership`]. Integers of TOML have 63 bits, so ids are hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Joined {
    id: String,
    node: u32,
    members: Vec<JoinedMember>,
    /// This node, when it is none of the first members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<JoinedMember>,
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

impl JoinedMember {
    fn new(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            node: number(member.node),
            store: member.store.to_string(),
            addr: member.addr.to_string(),
        }
    }

    fn read(&self) -> Option<Member> {
        Some(Member {
            name: self.name.clone(),
            node: NodeId(u64::from(self.node)),
            store: StoreId(id(&self.store)?),
            addr: self.addr.parse().ok()?,
        })
    }
}

impl Joined {
    pub(super) fn new(decree: &Decree, own: &Member) -> Self {
        let is_founder = decree.members.contains(own);
        Self {
            id: decree.cluster.to_string(),
            node: number(own.node),
            members: decree.members.iter().map(JoinedMember::new).collect(),
            own: (!is_founder).then(|| JoinedMember::new(own)),
        }
    }

    /// Returns what it says, if that is a cluster and a place in it.
    pub(super) fn read(&self) -> Option<Membership> {
        let members: Option<Vec<Member>> = self.members.iter().map(JoinedMember::read).collect();
        let decree = Decree {
            cluster: ClusterId(id(&self.id)?),
            members: members?,
        };
        let node = NodeId(u64::from(self.node));
        let founder = decree.members.iter().find(|member| member.node == node);
        let own = match (&self.own, founder) {
            (Some(own), None) => own.read().filter(|own| own.node == node)?,
            (None, Some(founder)) => founder.clone(),
            _ => return None,
        };
        are_members(&decree.members).then_some(Membership { decree, own })
    }
}
