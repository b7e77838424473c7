//! Who is a member of a cluster: name, numbers, disk and address. Not who is alive.

use std::fmt;
use std::net::SocketAddr;

use ashlar_consensus::NodeId;

/// A cluster, drawn at random when it comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub u128);

/// The disk of a node, drawn at random when its data directory is made: a node that lost its
/// directory comes back with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StoreId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// What operators call it.
    pub name: String,
    /// Its number in the cluster.
    pub node: NodeId,
    /// Its disk.
    pub store: StoreId,
    /// Where its shard 0 listens for peers; shard `s` listens `s` ports above.
    pub addr: SocketAddr,
}

/// Returns where a shard listens for peers, or nothing when there is no such port.
#[must_use]
pub fn shard_addr(addr: SocketAddr, shard: u32) -> Option<SocketAddr> {
    let port = u16::try_from(u32::from(addr.port()).checked_add(shard)?).ok()?;
    Some(SocketAddr::new(addr.ip(), port))
}
