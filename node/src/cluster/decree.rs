//! What the first members of a cluster decide: its id and who they are. And the bytes of members,
//! for messages and records. Not how it is decided.
//!
//! All numbers are little-endian.
//!
//! ```text
//! members  count u8, then for each, in order of name:
//!          name  u16 length and UTF-8
//!          node  u64
//!          store u128
//!          addr  u16 length and text, "10.0.0.1:7379"
//! decree   cluster u128, then members
//! ```
//!
//! Invariant: members have different names, in order, and the node numbers 1, 2, 3 ...

use std::net::SocketAddr;

use ashlar_consensus::NodeId;

use super::{ClusterId, Member, StoreId};
use crate::config::{MEMBERS_MAX, NAME_BYTES_MAX};
use crate::peer::cursor::{Cursor, put_text};

/// A cluster and its first members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decree {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its members, in order of name.
    pub members: Vec<Member>,
}

impl Decree {
    /// Returns the member called `name`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        put_members(out, &self.members);
    }

    pub(crate) fn take(from: &mut Cursor<'_>) -> Option<Self> {
        let cluster = ClusterId(from.u128()?);
        let members = take_members(from)?;
        Some(Self { cluster, members })
    }
}

/// Says whether these can be the members of a cluster.
#[must_use]
pub fn are_members(members: &[Member]) -> bool {
    let fits = |member: &Member| !member.name.is_empty() && member.name.len() <= NAME_BYTES_MAX;
    let numbered = members
        .iter()
        .zip(1..)
        .all(|(member, n)| member.node.0 == n);
    let sorted = members.is_sorted_by(|a, b| a.name < b.name);
    (1..=MEMBERS_MAX).contains(&members.len()) && sorted && numbered && members.iter().all(fits)
}

/// Appends members.
pub(crate) fn put_members(out: &mut Vec<u8>, members: &[Member]) {
    out.push(u8::try_from(members.len()).expect("a cluster has a few members"));
    for member in members {
        put_text(out, &member.name);
        out.extend_from_slice(&member.node.0.to_le_bytes());
        out.extend_from_slice(&member.store.0.to_le_bytes());
        put_text(out, &member.addr.to_string());
    }
}

/// Takes the first members of a cluster, if that is what they are.
pub(crate) fn take_members(from: &mut Cursor<'_>) -> Option<Vec<Member>> {
    let members = take_list(from)?;
    are_members(&members).then_some(members)
}

/// Takes a few members.
pub(super) fn take_list(from: &mut Cursor<'_>) -> Option<Vec<Member>> {
    let count = usize::from(from.u8()?);
    let mut members = Vec::new();
    for _ in 0..count.min(MEMBERS_MAX + 1) {
        members.push(Member {
            name: from.text()?.to_owned(),
            node: NodeId(from.u64()?),
            store: StoreId(from.u128()?),
            addr: from.text()?.parse::<SocketAddr>().ok()?,
        });
    }
    Some(members)
}
