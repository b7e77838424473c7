//! What has been seen so far, and what must never be seen: the promises of Raft, judged by somebody who
//! sees all replicas at once.
//!
//! - Election safety (3.4): a term has at most one leader.
//! - Log matching (3.5): logs with the same entry have the same entries before it.
//! - Leader completeness (3.6): who is elected has all that is committed.
//! - State machine safety (3.6.3): what is committed is the same everywhere, and stays.
//! - What is committed is on the disks of a quorum when it is.
//! - Leases (6.4.1): at most one replica serves at a time, and it knows all that is committed.

use std::collections::BTreeMap;
use std::rc::Rc;

use ashlar_consensus::raft::Role;
use ashlar_consensus::types::{Chain, Index, Mono, Term};
use ashlar_consensus::{Member, Membership};

use crate::disk::Log;
use crate::world::Node;

/// What has been seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Who leads each term.
    leaders: BTreeMap<Term, usize>,
    /// The chains of what is committed, from index 1 on.
    committed: Vec<Chain>,
    /// The first thing that must not be.
    violation: Option<String>,
}

impl History {
    /// A replica was elected, with this log.
    pub(crate) fn elected(&mut self, term: Term, at: usize, log: &Log) {
        let first = *self.leaders.entry(term).or_insert(at);
        if first != at {
            self.violate(format!("{first} and {at} lead term {}", term.0));
        }
        for (chain, index) in self.committed.clone().into_iter().zip(1..) {
            let entry = log.entry(Index(index));
            if entry.is_none_or(|entry| entry.meta.chain != chain) {
                self.violate(format!("{at} leads without the committed entry {index}"));
            }
        }
    }

    fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Checks all replicas.
    pub(crate) fn check(&mut self, nodes: &[Rc<Node>], now: &[Mono]) -> Result<(), String> {
        for at in 0..nodes.len() {
            self.check_committed(nodes, at);
        }
        self.check_matching(nodes);
        self.check_leases(nodes, now);
        self.violation.take().map_or(Ok(()), Err)
    }

    fn check_committed(&mut self, nodes: &[Rc<Node>], at: usize) {
        let node = &nodes[at];
        for index in 1..=node.raft.committed().0 {
            let entry = node.log().entry(Index(index));
            let chain = entry.expect("it is in the log").meta.chain;
            match self.committed.get(index as usize - 1) {
                Some(known) if *known == chain => {}
                Some(_) => self.violate(format!("{at} has committed another entry {index}")),
                None => {
                    self.committed.push(chain);
                    // The first to commit is a leader, by the membership that counts for it.
                    if !is_on_quorum(nodes, node.raft.membership(), index, chain) {
                        self.violate(format!("entry {index} is committed but not durable"));
                    }
                }
            }
        }
    }

    fn check_matching(&mut self, nodes: &[Rc<Node>]) {
        let mut seen: BTreeMap<(u64, Term), Chain> = BTreeMap::new();
        for node in nodes {
            for (entry, index) in node.log().entries.iter().zip(1..) {
                let chain = entry.meta.chain;
                let first = *seen.entry((index, entry.meta.term)).or_insert(chain);
                if first != chain {
                    let what = format!("two entries {index} of term {}", entry.meta.term.0);
                    self.violate(what);
                }
            }
        }
    }

    fn check_leases(&mut self, nodes: &[Rc<Node>], now: &[Mono]) {
        let serving = serving(nodes, now);
        if serving.len() > 1 {
            self.violate(format!("{serving:?} serve at the same time"));
        }
        for at in serving {
            let raft = &nodes[at].raft;
            assert_eq!(raft.role(), Role::Leader, "only a leader serves");
            if (raft.committed().0 as usize) < self.committed.len() {
                self.violate(format!("{at} serves without knowing all that is committed"));
            }
        }
    }

    /// Returns how many terms had a leader.
    pub(crate) fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// Says whether a replica serves.
    pub(crate) fn is_served(&self, nodes: &[Rc<Node>], now: &[Mono]) -> bool {
        !serving(nodes, now).is_empty()
    }

    /// Returns how many entries are committed.
    pub(crate) fn committed(&self) -> usize {
        self.committed.len()
    }
}

/// Returns who serves.
fn serving(nodes: &[Rc<Node>], now: &[Mono]) -> Vec<usize> {
    let serves = |at: &usize| nodes[*at].raft.serves_reads(now[*at], &nodes[*at].supports);
    (0..nodes.len()).filter(serves).collect()
}

/// Says whether the disks of a quorum have an entry.
fn is_on_quorum(nodes: &[Rc<Node>], membership: &Membership, index: u64, chain: Chain) -> bool {
    let has = |voter: &&Member| {
        let log = &nodes[voter.node.0 as usize - 1].disk.log;
        let entry = log.entry(Index(index));
        entry.is_some_and(|entry| entry.meta.chain == chain)
    };
    let majority = |voters: &[Member]| {
        let count = voters.iter().filter(has).count();
        voters.is_empty() || count * 2 > voters.len()
    };
    majority(&membership.voters) && majority(&membership.outgoing)
}
