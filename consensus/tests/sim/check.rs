//! What must never happen, checked when it could.
//!
//! - One leader per term; it has all that is committed; nobody else's lease holds when it is elected.
//! - One vote per replica and term. Equal positions have equal chains.
//! - What is committed stays, is the same everywhere, and is durable on a quorum when it is committed.
//! - A client that comes after another's answer sees at least what that one saw.

use std::collections::BTreeMap;

use ashlar_consensus::types::{Chain, Index, LogPosition, NodeId, ReplicaId, Term};
use ashlar_consensus::{Member, Membership};

use super::disk::{Entry, Log};
use super::host::voted;
use super::node::Node;
use super::{NODES, Packet, World};

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Checks {
    leaders: BTreeMap<Term, ReplicaId>,
    votes: BTreeMap<(ReplicaId, Term), NodeId>,
    chains: BTreeMap<LogPosition, Chain>,
    /// What is committed, from index 1 on, and by the leader of which term.
    pub(crate) committed: Vec<(Term, Chain, Term)>,
    /// The logs of replicas that have lost everything, as they were: they did have it.
    pub(crate) dead: BTreeMap<ReplicaId, Log>,
    /// The greatest index that a client was told of.
    pub(crate) floor: Index,
    pub(crate) answers: u64,
    pub(crate) lease_reads: u64,
    pub(crate) quorum_reads: u64,
    /// Replicas that had forgotten what they promised and have everything again.
    pub(crate) remembered: u64,
}

impl Checks {
    /// A replica has forgotten what it promised, and entries of its log as it was.
    pub(crate) fn forgot(&mut self, replica: ReplicaId, log: Log) {
        self.votes.retain(|(voter, _), _| *voter != replica);
        self.dead.insert(replica, log);
    }

    /// An entry was put into some log.
    pub(crate) fn entry(&mut self, index: Index, entry: &Entry) {
        let term = entry.meta.term;
        let position = LogPosition { term, index };
        let chain = *self.chains.entry(position).or_insert(entry.meta.chain);
        assert_eq!(chain, entry.meta.chain, "two entries at {position:?}");
    }

    /// A packet leaves for a node: what it says is durable.
    pub(crate) fn vote(&mut self, node: &Node, to: usize, packet: &Packet) {
        if let Some(reply) = voted(packet) {
            let candidate = NodeId(to as u64 + 1);
            let voter = node.replica.expect("it hosts a replica");
            let key = (voter, reply.asked);
            let vote = *self.votes.entry(key).or_insert(candidate);
            assert_eq!(vote, candidate, "{voter} voted twice in {:?}", reply.asked);
            let kept = node.disk.ballot.term >= reply.asked;
            assert!(kept, "{voter} voted in {:?} and may forget it", reply.asked);
        }
    }

    /// A client that came when `floor` was known was told of `index`.
    pub(crate) fn answered(&mut self, floor: Index, index: Index, what: &str) {
        assert!(
            index >= floor,
            "{what}: {index} is older than {floor}, which was known before"
        );
        self.floor = self.floor.max(index);
        self.answers += 1;
    }
}

impl World {
    /// A replica became leader.
    pub(crate) fn check_leader(&mut self, at: usize, term: Term) {
        let node = &self.nodes[at];
        let replica = node.replica.expect("it hosts a replica");
        let leader = *self.checks.leaders.entry(term).or_insert(replica);
        assert_eq!(leader, replica, "two leaders in {term:?}");
        assert!(
            node.damaged.is_empty(),
            "{replica} leads with a damaged log"
        );
        let base = node.log.base.applied.index.0;
        for (place, (of, chain, by)) in self.checks.committed.iter().enumerate() {
            let index = Index(place as u64 + 1);
            if *by >= term {
                // An election of long ago that is won late: such a leader commits nothing.
                continue;
            }
            let entry = node.log.entry(index);
            let has =
                entry.is_some_and(|entry| entry.meta.term == *of && entry.meta.chain == *chain);
            assert!(
                has || index.0 <= base,
                "the leader of {:?} lacks {index}",
                self.nodes[at].raft().term()
            );
        }
        for other in (0..NODES).filter(|&other| other != at && self.nodes[other].leads()) {
            let node = &self.nodes[other];
            if node.raft().term() > term {
                continue;
            }
            let supports = node.supports.as_ref().expect("it was started");
            let holds = node.raft().serves_reads(node.clock(self.now), supports);
            assert!(
                !holds,
                "{replica} is elected while node {} has a lease",
                other + 1
            );
        }
    }

    /// A replica may have learned that more is committed.
    pub(crate) fn check_committed(&mut self, at: usize) {
        let node = &self.nodes[at];
        let raft = node.raft();
        let (seen, committed) = (node.committed_seen, raft.committed());
        assert!(committed >= seen, "the commit index went back");
        for index in seen.0 + 1..=committed.0 {
            let index = Index(index);
            let Some(entry) = self.nodes[at].log.entry(index) else {
                assert!(index <= self.nodes[at].log.base.applied.index);
                continue;
            };
            let found = (entry.meta.term, entry.meta.chain);
            let by = self.nodes[at].raft().term();
            match self.checks.committed.get(index.0 as usize - 1) {
                Some((term, chain, _)) => {
                    assert_eq!((*term, *chain), found, "{index} is committed twice");
                }
                None => {
                    assert_eq!(index.0 as usize, self.checks.committed.len() + 1);
                    self.checks.committed.push((found.0, found.1, by));
                    if index == committed {
                        self.check_quorum(at, index, found.1);
                    }
                }
            }
        }
        self.nodes[at].committed_seen = committed;
        if committed > seen && self.nodes[at].leads() {
            let raft = self.nodes[at].raft();
            let of = raft.term_of(committed);
            assert_eq!(
                of,
                Some(raft.term()),
                "{committed} is committed by counting"
            );
        }
        self.check_durable(at);
    }

    /// What a replica believes to be durable is.
    fn check_durable(&self, at: usize) {
        let node = &self.nodes[at];
        let index = node.raft().durable_index();
        let (kept, held) = (node.disk.log.entry(index), node.log.entry(index));
        if let Some(held) = held {
            let is_kept = kept.is_some_and(|kept| kept.meta.chain == held.meta.chain);
            assert!(is_kept, "{index} of node {} is not durable", at + 1);
        }
    }

    /// A leader whose lease holds is the latest.
    pub(crate) fn check_lease(&self, at: usize) {
        let node = &self.nodes[at];
        let supports = node.supports.as_ref().expect("it was started");
        if node.leads() && node.raft().serves_reads(node.clock(self.now), supports) {
            let (latest, _) = self
                .checks
                .leaders
                .last_key_value()
                .expect("it leads itself");
            let term = node.raft().term();
            assert!(
                *latest <= term,
                "a lease in {term:?} while there is a leader of {latest:?}"
            );
        }
    }

    /// An entry is committed: a quorum has it durably.
    fn check_quorum(&self, at: usize, index: Index, chain: Chain) {
        let membership = self.nodes[at].raft().membership();
        let has = |member: &Member| {
            let node = &self.nodes[member.node.0 as usize - 1];
            let lives = node.replica == Some(member.replica);
            let holds = |log: &Log| {
                let entry = log.entry(index);
                let same = entry.is_some_and(|entry| entry.meta.chain == chain);
                same || log.base.applied.index >= index
            };
            let had = self.checks.dead.get(&member.replica).is_some_and(holds);
            had || lives && holds(&node.disk.log)
        };
        let quorum = |voters: &[Member]| {
            voters.is_empty()
                || 2 * voters.iter().filter(|&voter| has(voter)).count() > voters.len()
        };
        let Membership {
            voters, outgoing, ..
        } = membership;
        assert!(
            quorum(voters) && quorum(outgoing),
            "{index} is committed by node {} but not durable on a quorum of {membership:?}",
            at + 1
        );
    }
}
