//! A node finds its cluster at start, before its shards serve: in its data directory, or by
//! bootstrap.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ashlar_io::{Reactor, address_cure, file};

use super::bootstrap::{Found, Setup, found};
use super::question::{Asker, Layout};
use super::{Decree, Roster, roster};
use crate::config::{Cluster, Config, Listed};
use crate::format::{self, Format, FormatError, Membership};
use crate::peer::Identity;

/// Why a node has no place in a cluster. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The data directory cannot be read or written.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The address for peers cannot be listened on.
    #[error("cannot listen for peers on {addr}: {error}; {}", address_cure(.error, "--peer-listen"))]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// Ports overlap or end.
    #[error("{0}")]
    Ports(String),
    /// The node's disk is not the one that its cluster knows.
    #[error("this node cannot join: {0}")]
    Replaced(String),
    /// The data directory belongs to a cluster, and the configuration names none.
    #[error(
        "{} belongs to {name} of cluster {cluster}: start it with --name {name}, --peer-listen and --peers", .data.display()
    )]
    Alone {
        /// The data directory.
        data: PathBuf,
        /// The node's name in it.
        name: String,
        /// The cluster's id.
        cluster: String,
    },
    /// The data directory belongs to another member than the configuration says.
    #[error("{} belongs to {found}, and cluster.name = {given}", .data.display())]
    Name {
        /// The data directory.
        data: PathBuf,
        /// Whose it is.
        found: String,
        /// What the configuration says.
        given: String,
    },
    /// The data directory was used by a node that is alone.
    #[error(
        "{} was used by a node that is no member of a cluster: a cluster begins with directories that were not; give another with --data", .0.display()
    )]
    Used(PathBuf),
    /// The node is to stop.
    #[error("stopped before it was a member of a cluster")]
    Stopped,
}

/// A node's place in its cluster, for this life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster, and which of its members this node is.
    pub membership: Membership,
    /// Who the members are, as far as this node knew last, where the configuration says that they are now.
    pub roster: Roster,
    /// Which life of the node this is.
    pub incarnation: u32,
}

/// What a node knows of itself once it has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formed {
    /// What the data directory was made as, the cluster included.
    pub format: Format,
    /// The node's place in its cluster; `None` when it is alone.
    pub place: Option<Place>,
}

impl Place {
    /// Returns who a shard of this node is to its peers.
    #[must_use]
    pub fn identity(&self, shard: u32, shards: u32, partitions: u32) -> Identity {
        let own = &self.membership.own;
        Identity {
            cluster: self.membership.decree.cluster,
            node: own.node,
            store: own.store,
            incarnation: self.incarnation,
            shard,
            shards,
            partitions,
        }
    }
}

/// Finds the node's place in its cluster: in its data directory, or by bootstrap, which waits for all
/// listed members and keeps what is decided in the directory. Begins a life of the node.
///
/// # Errors
/// The configuration does not fit the directory, the node was replaced, something cannot be read,
/// written or listened on, or `stop` became true.
///
/// # Panics
/// Never, unless a directory that was just written does not say what was written.
pub async fn form(
    reactor: &Reactor,
    config: &Config,
    format: &Format,
    stop: &Arc<AtomicBool>,
) -> Result<Formed, ClusterError> {
    let data = config.data.as_path();
    let membership = format.membership();
    let Some((own, listen)) = config.cluster.own().zip(config.cluster.peer_listen) else {
        return match membership {
            None => Ok(Formed {
                format: format.clone(),
                place: None,
            }),
            Some(of) => Err(ClusterError::Alone {
                data: data.to_owned(),
                name: of.own.name.clone(),
                cluster: of.decree.cluster.to_string(),
            }),
        };
    };
    let ports = config.cluster.check_ports(format.shards, config.listen);
    ports.map_err(ClusterError::Ports)?;
    let format = match membership {
        Some(of) => {
            check_name(data, &of, own)?;
            format.clone()
        }
        None => {
            check_unused(reactor, data, format).await?;
            bootstrap(reactor, data, (format, &config.cluster), (listen, stop)).await?
        }
    };
    let incarnation = format::begin_life(reactor, data).await?;
    let membership = format.membership().expect("it was found or founded");
    let roster = known_roster(reactor, data, &membership).await?;
    let listed = &config.cluster.peers;
    let roster = roster_now(&membership.decree, roster, listed);
    warn_of_differences(&roster, listed);
    let place = Place {
        membership,
        roster,
        incarnation,
    };
    Ok(Formed {
        format,
        place: Some(place),
    })
}

async fn bootstrap(
    reactor: &Reactor,
    data: &Path,
    (format, cluster): (&Format, &Cluster),
    (listen, stop): (SocketAddr, &Arc<AtomicBool>),
) -> Result<Format, ClusterError> {
    let format = format::name_store(reactor, data, format).await?;
    let asker = Asker {
        name: cluster.name.clone(),
        store: format.store().expect("it was named"),
        layout: Layout::of(&format),
        list: cluster.peers.clone(),
    };
    let setup = Setup {
        data: data.to_owned(),
        listen,
        asker,
        stop: Arc::clone(stop),
    };
    let Found {
        decree,
        roster,
        own,
    } = found(reactor, setup).await?;
    roster::write_file(reactor, data, &roster).await?;
    let joined = format::join(reactor, data, &format, (&decree, &own)).await?;
    tracing::info!(
        "{} is member {} of cluster {}",
        cluster.name,
        own.node.0,
        decree.cluster
    );
    Ok(joined)
}

/// Returns what this node knows of the members, which it is one of, or was: then groups may count on it still, and it
/// stops by itself once none does.
async fn known_roster(
    reactor: &Reactor,
    data: &Path,
    membership: &Membership,
) -> Result<Roster, ClusterError> {
    let kept = roster::read_file(reactor, data).await?;
    Ok(kept.unwrap_or_else(|| Roster::founded(&membership.decree)))
}

fn check_name(data: &Path, of: &Membership, own: &Listed) -> Result<(), ClusterError> {
    let found = &of.own.name;
    match *found == own.name {
        true => Ok(()),
        false => Err(ClusterError::Name {
            data: data.to_owned(),
            found: found.clone(),
            given: own.name.clone(),
        }),
    }
}

/// Refuses a directory that holds what a node has written alone: the other members would know
/// nothing of it.
async fn check_unused(reactor: &Reactor, data: &Path, format: &Format) -> Result<(), ClusterError> {
    for shard in 0..format.shards {
        let dir = Format::wal_dir(data, shard);
        let failed = |error| {
            let path = dir.clone();
            let what = "list";
            FormatError::from(ashlar_io::StartError::File { what, path, error })
        };
        if !file::list(reactor, &dir).await.map_err(failed)?.is_empty() {
            return Err(ClusterError::Used(data.to_owned()));
        }
    }
    Ok(())
}

/// Returns the roster with the addresses that the configuration gives the first members: they may have
/// moved. Who came later is where it was said to be then.
#[must_use]
pub fn roster_now(decree: &Decree, mut roster: Roster, listed: &[Listed]) -> Roster {
    for member in roster.members.iter_mut().chain(&mut roster.former) {
        let founder = decree.members.iter().any(|of| of.node == member.node);
        let listed = listed.iter().find(|peer| peer.name == member.name);
        if let (true, Some(peer)) = (founder, listed) {
            member.addr = peer.addr;
        }
    }
    roster
}

/// Says where the configuration lists others than the members are. The list founds a cluster and does not
/// change it.
fn warn_of_differences(roster: &Roster, listed: &[Listed]) {
    for member in &roster.members {
        if !listed.iter().any(|peer| peer.name == member.name) {
            tracing::info!(
                "cluster.peers does not list {}, which is a member: it is taken to be at {}",
                member.name,
                member.addr
            );
        }
    }
    for peer in listed
        .iter()
        .filter(|peer| roster.member(&peer.name).is_none())
    {
        tracing::warn!(
            "cluster.peers lists {peer}, which is no member: to make it one, ashlar member add {peer}"
        );
    }
}
