//! The cluster that a shard is started into: who the node is in it, and what its replicas and its part of
//! the connections are made of.

use ashlar_consensus::support::{EarlierPromises, SupportOptions};
use ashlar_consensus::{Incarnation, Member, Mono, Supports, raft};
use ashlar_io::Reactor;
use ashlar_io::wal::Position;
use ashlar_partition::Others;
use ashlar_partition::ballot::BallotRecord;

use crate::cluster::steer::replica_on;
use crate::cluster::{Decree, Roster};
use crate::core::Cluster;
use crate::peer::{self, Identity, Peers};

/// What a node is a member of, and as whom.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Who this node is; the number of the shard is that of shard 0.
    pub identity: Identity,
    /// What the first members have decided: who the replicas of each partition are before an entry of its log
    /// says otherwise.
    pub decree: Decree,
    /// All members, this node included, as it knew them last.
    pub roster: Roster,
    /// How shards talk to their peers.
    pub peer: peer::Options,
    /// How long a promise of support lasts, in milliseconds.
    pub lease_ms: u32,
    /// The random delay before an election is at most this, in milliseconds.
    pub election_jitter_ms: u32,
    /// Each step of it waits one jitter more.
    pub election_rank: u8,
    /// Whether an earlier life of this node may have promised something to others.
    pub earlier: EarlierPromises,
    /// A mistake that the replicas make, for a simulation to find.
    #[cfg(feature = "planted")]
    pub planted: Option<raft::Planted>,
}

/// Returns what the replicas of this node are started with.
pub(super) fn others(
    reactor: &Reactor,
    cluster: &Membership,
    (ballot, saved): (Option<BallotRecord>, Position),
) -> Others {
    let founders = cluster.decree.members.iter();
    let voters: Vec<Member> = founders.map(|founder| replica_on(founder.node)).collect();
    Others {
        me: replica_on(cluster.identity.node),
        membership: ashlar_consensus::Membership::of(&voters),
        options: raft::Options {
            lease_ms: cluster.lease_ms,
            election_jitter_ms: cluster.election_jitter_ms,
            election_rank: cluster.election_rank,
            #[cfg(feature = "planted")]
            planted: cluster.planted,
            ..raft::Options::default()
        },
        seed: reactor.random(),
        now: Mono(reactor.now().0),
        ballot,
        saved,
    }
}

/// Makes the shard's part of a cluster.
pub(super) fn join(reactor: &Reactor, shard: u32, cluster: &Membership) -> Cluster {
    let identity = Identity {
        shard,
        ..cluster.identity
    };
    let peers = Peers::new(
        reactor,
        identity,
        &cluster.roster.members,
        cluster.peer.clone(),
    );
    let (decree, roster) = (cluster.decree.clone(), cluster.roster.clone());
    peers.set_cluster(decree.clone(), roster.clone());
    let options = SupportOptions {
        lease_ms: cluster.lease_ms,
        promise_max_ms: cluster.lease_ms,
    };
    let life = Incarnation(identity.incarnation);
    let now = Mono(reactor.now().0);
    let supports = Supports::new(life, cluster.earlier, options, now);
    Cluster::new(
        (identity.node, life),
        peers,
        supports,
        (decree, roster),
        (cluster.lease_ms, reactor.now()),
    )
}
