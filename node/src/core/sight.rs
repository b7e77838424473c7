//! Tells the rest of the process, and people, how this shard sees the cluster: once a tick, into
//! [`crate::cluster::view`]. Decides nothing.

use std::net::SocketAddr;

use ashlar_consensus::raft::Role;
use ashlar_consensus::{NodeId, PartitionId};
use ashlar_partition::{Partition, Standing};

use super::Core;
use crate::cluster::Roster;
use crate::cluster::view::{Health, Part, Seen, Sight, seats};
use crate::distant::kind;
use crate::peer::Lane;

impl Core {
    /// Notes who the members are. Called by shard 0.
    pub(crate) fn note_members(&self, roster: &Roster) {
        let Some(cluster) = &self.cluster else { return };
        let (own, listen) = (cluster.node, self.shared.listen);
        self.shared.cluster.note(|sight| {
            let before = std::mem::take(&mut sight.members);
            let known = |node: NodeId| before.iter().find(|seen| seen.node == node);
            let seen = roster.members.iter().map(|member| Seen {
                name: member.name.clone(),
                node: member.node,
                addr: member.addr,
                clients: match member.node == own {
                    true => Some(listen),
                    false => known(member.node).and_then(|seen| seen.clients),
                },
                is_connected: member.node == own
                    || known(member.node).is_some_and(|of| of.is_connected),
            });
            (sight.node, sight.roster) = (own, roster.version);
            sight.members = seen.collect();
            sight
                .parts
                .resize(self.routes.partitions(), Part::default());
        });
    }

    /// Notes how the partitions of this shard are, and shard 0 who is connected.
    pub(crate) fn publish_cluster(&self) {
        let Some(cluster) = &self.cluster else { return };
        let supports = cluster.supports.borrow();
        let (now, own) = (self.mono(), cluster.node);
        let mut parts = Vec::new();
        for partition in self.data.borrow_mut().partitions() {
            let serves = partition.standing(now, &supports) == Standing::Serves;
            parts.push((partition.id(), part_of(partition, own, serves)));
        }
        self.shared.cluster.note(|sight| {
            for (id, part) in parts {
                if let Some(place) = sight.parts.get_mut(id.0 as usize) {
                    *place = part;
                }
            }
            if self.shard == 0 {
                let connected = |node: NodeId| node == own || cluster.peers.is_connected(node);
                for seen in &mut sight.members {
                    seen.is_connected = connected(seen.node);
                }
            }
        });
    }

    /// Hands over what this shard leads: the node stops.
    pub(super) fn hand_over(&self) {
        self.stir();
        for partition in self.data.borrow_mut().partitions() {
            partition.hand_over(None);
        }
    }

    /// Says whether others would wait for this shard if it stopped now.
    pub(crate) fn leads_others(&self) -> bool {
        let mut data = self.data.borrow_mut();
        data.partitions().any(|partition| partition.leads_others())
    }

    /// Leaves the other nodes: the shard stops, and takes in nothing more.
    pub(crate) fn leave_peers(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.peers.stop();
        }
    }

    /// Tells a peer where clients reach this node.
    pub(super) fn tell_address(&self, to: NodeId) {
        let Some(cluster) = &self.cluster else { return };
        if self.shard == 0 {
            let addr = self.shared.listen.to_string();
            let id = PartitionId(0);
            let parts = [addr.as_bytes()];
            let _ = cluster
                .peers
                .queue(to, Lane::Bulk, kind::CLIENTS, id, &parts);
        }
    }

    /// Takes in where clients reach a peer.
    pub(super) fn take_address(&self, from: NodeId, bytes: &[u8]) -> Option<()> {
        let addr: SocketAddr = std::str::from_utf8(bytes).ok()?.parse().ok()?;
        self.shared.cluster.note(|sight: &mut Sight| {
            let seen = sight.members.iter_mut().find(|seen| seen.node == from);
            seen.into_iter().for_each(|seen| seen.clients = Some(addr));
        });
        Some(())
    }
}

fn part_of(partition: &Partition, own: NodeId, serves: bool) -> Part {
    let Some(raft) = partition.raft() else {
        return Part::default();
    };
    let last = raft.last().index;
    let matched = |node: NodeId| match raft.role() {
        Role::Leader if node == own => Some(last),
        Role::Leader => {
            let mut others = raft.followers();
            others.find(|(of, _)| of.node == node).map(|(_, at)| at)
        }
        _ => None,
    };
    let (voters, learners) = seats(raft.committed_membership().1, raft.membership());
    Part {
        leader: raft.leader().map(|leader| leader.node),
        serves,
        health: match (partition.has_forgotten(), partition.damage()) {
            (true, _) => Health::Forgetful,
            (false, Some(_)) => Health::Damaged,
            (false, None) => Health::Whole,
        },
        term: raft.term(),
        last,
        committed: raft.committed(),
        applied: partition.applied(),
        replicas: voters
            .iter()
            .map(|of| (of.node, matched(of.node)))
            .collect(),
        learners: learners.iter().map(|of| of.node).collect(),
    }
}
