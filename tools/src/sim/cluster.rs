//! What must hold of the replicas of a cluster at every moment, judged from outside: by somebody who
//! sees all of them at once, and true time.
//!
//! Invariants checked:
//! 1. In a term of a partition at most one replica leads.
//! 2. At any moment at most one replica of a partition serves: leases do not overlap in true time.
//! 3. Replicas that have applied the same entry have applied the same entries before it, and hold the
//!    same keys.
//! 4. What waits in a node for others is bounded by what its clients may ask.

use std::collections::BTreeMap;

use ashlar_consensus::raft::Role;
use ashlar_consensus::{Mono, Supports};
use ashlar_node::peer::State;
use ashlar_node::shard::Digest;
use ashlar_partition::{Partition, Standing};

use super::run::Node;

/// Commands and messages that may wait in one shard.
const WAITING_MAX: usize = 100_000;

/// What was seen of replicas so far.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Who leads, by partition and term.
    leaders: BTreeMap<(u32, u64), u32>,
    /// The hash of the log, by partition and index.
    chains: BTreeMap<(u32, u64), u64>,
    /// Who was last seen to serve a partition.
    serving: BTreeMap<u32, u32>,
    /// What each replica was after its last turn, by machine and partition.
    before: BTreeMap<(u32, u32), Before>,
    marks: BTreeMap<&'static str, u64>,
}

/// What a replica was, in one life of its node.
#[derive(Clone, Copy, Debug)]
struct Before {
    life: u64,
    seen: Seen,
}

/// One replica at one moment.
#[derive(Clone, Copy, Debug)]
struct Seen {
    partition: u32,
    term: u64,
    leads: bool,
    serves: bool,
    applied: u64,
    chain: u64,
    base: u64,
    last: u64,
}

impl Seen {
    fn of(partition: &Partition, now: Mono, supports: Option<&Supports>) -> Option<Self> {
        let raft = partition.raft()?;
        let leads = raft.role() == Role::Leader;
        let serves =
            leads && supports.is_some_and(|s| partition.standing(now, s) == Standing::Serves);
        Some(Self {
            partition: partition.id().0,
            term: raft.term().0,
            leads,
            serves,
            applied: partition.applied().0,
            chain: partition.applied_chain(),
            base: raft.base().index.0,
            last: raft.last().index.0,
        })
    }
}

fn seen(node: &Node, shard: u32) -> Vec<Seen> {
    let mut all = Vec::new();
    if let Some(shard) = node
        .life
        .as_ref()
        .and_then(|life| life.shards.get(shard as usize))
    {
        shard.look_at_partitions(|partition, now, supports| {
            all.extend(Seen::of(partition, now, supports));
        });
    }
    all
}

impl Replicas {
    fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    pub(super) fn take_marks(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.marks)
    }

    /// Checks what a node's shard has become in the turn that it just made.
    pub(super) fn look(&mut self, nodes: &[Node], machine: u32, shard: u32) -> Result<(), String> {
        let node = &nodes[machine as usize];
        for seen_now in seen(node, shard) {
            self.note_change(machine, node.lives, &seen_now);
            self.check_term(machine, &seen_now)?;
            self.check_chain(machine, &seen_now)?;
            if seen_now.serves {
                self.check_alone(nodes, (machine, shard), &seen_now)?;
            }
        }
        Ok(())
    }

    /// Marks what has become of a replica since its last turn.
    fn note_change(&mut self, machine: u32, life: u64, now: &Seen) {
        let key = (machine, now.partition);
        let before = self.before.insert(key, Before { life, seen: *now });
        let Some(Before { seen: before, .. }) = before.filter(|before| before.life == life) else {
            return;
        };
        if before.leads && !now.leads {
            self.mark("leader stepped down");
        }
        if before.serves && now.leads && !now.serves {
            self.mark("lease lost");
        }
        if before.base < now.base {
            self.mark("snapshot installed");
        } else if before.last > now.last {
            self.mark("entries taken back");
        }
    }

    fn check_term(&mut self, machine: u32, seen: &Seen) -> Result<(), String> {
        if !seen.leads {
            return Ok(());
        }
        let key = (seen.partition, seen.term);
        if !self.leaders.contains_key(&key) {
            self.mark("leader elected");
        }
        let first = *self.leaders.entry(key).or_insert(machine);
        if first == machine {
            return Ok(());
        }
        Err(format!(
            "machines {first} and {machine} both lead partition {} in term {}",
            seen.partition, seen.term
        ))
    }

    fn check_chain(&mut self, machine: u32, seen: &Seen) -> Result<(), String> {
        let key = (seen.partition, seen.applied);
        let first = *self.chains.entry(key).or_insert(seen.chain);
        if first == seen.chain || seen.applied == 0 {
            return Ok(());
        }
        Err(format!(
            "machine {machine} has applied entry {} of partition {} with another history ({:016x}) than was seen before ({first:016x})",
            seen.applied, seen.partition, seen.chain
        ))
    }

    fn check_alone(
        &mut self,
        nodes: &[Node],
        (machine, shard): (u32, u32),
        mine: &Seen,
    ) -> Result<(), String> {
        if self.serving.insert(mine.partition, machine) != Some(machine) {
            self.mark("served by another node");
        }
        for (other, node) in (0_u32..).zip(nodes) {
            if other == machine {
                continue;
            }
            let also = seen(node, shard);
            let also = also
                .iter()
                .find(|of| of.partition == mine.partition && of.serves);
            if let Some(also) = also {
                return Err(format!(
                    "machine {machine} serves partition {} in term {} while machine {other} serves it in term {}",
                    mine.partition, mine.term, also.term
                ));
            }
        }
        Ok(())
    }

    /// Tells how things are with each replica, for people.
    pub(super) fn describe(nodes: &[Node]) -> String {
        let mut text = String::new();
        for (machine, node) in nodes.iter().enumerate() {
            let shards = node.life.iter().flat_map(|life| &life.shards);
            for shard in shards {
                text += &format!("machine {machine} {:?}; ", shard.load());
                for link in shard
                    .links()
                    .iter()
                    .filter(|link| link.state != State::Connected)
                {
                    let (name, state) = (&link.name, link.state.word());
                    text += &format!("{name} {state} {:?}; ", link.trouble);
                }
                shard.look_at_partitions(|partition, now, supports| {
                    let Some(raft) = partition.raft() else { return };
                    text += &format!(
                        "partition {} {:?} {:?} term {} last {} durable {} committed {} applied {} {:?}; ",
                        partition.id(),
                        raft.role(),
                        supports.map(|supports| partition.standing(now, supports)),
                        raft.term().0,
                        raft.last().index,
                        raft.durable_index(),
                        raft.committed(),
                        partition.applied(),
                        partition.damage(),
                    );
                });
            }
        }
        text
    }

    /// Checks that what waits is bounded.
    pub(super) fn check_load(&mut self, nodes: &[Node]) -> Result<(), String> {
        for (machine, node) in (0..).zip(nodes) {
            let shards = node.life.iter().flat_map(|life| &life.shards);
            for load in shards.map(ashlar_node::shard::Shard::load) {
                if load.relayed > 0 {
                    self.mark("commands wait for other nodes");
                }
                if load.relayed.max(load.deferred).max(load.gated) > WAITING_MAX {
                    return Err(format!("machine {machine:?} holds too much: {load:?}"));
                }
            }
        }
        Ok(())
    }
}

/// The replicas of a healed cluster, being compared.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// By partition and machine: what was applied when the digest was begun, and the digest.
    digests: BTreeMap<(u32, u32), (u64, Digest)>,
    /// Comparisons that were begun anew because something was applied meanwhile.
    again: u32,
}

impl Comparison {
    /// Goes on comparing; says whether all replicas were found equal.
    pub(super) fn advance(&mut self, nodes: &[Node]) -> Result<bool, String> {
        let applied = applied(nodes);
        if self.digests.is_empty() {
            if is_converged(&applied) {
                self.begin(nodes, &applied);
            }
            return Ok(false);
        }
        // Who was removed from its cluster stops, and answers no more.
        if !self.digests.keys().all(|key| applied.contains_key(key)) {
            self.digests.clear();
            return Ok(false);
        }
        let done = |(_, digest): &(u64, Digest)| digest.get().is_some();
        if !self.digests.values().all(done) {
            return Ok(false);
        }
        // A file that was found damaged only now is repaired first.
        let unread = |(_, digest): &(u64, Digest)| digest.get() == Some(None);
        let is_unread = self.digests.values().any(unread);
        let same = !is_unread
            && self
                .digests
                .iter()
                .all(|(key, (then, _))| applied.get(key) == Some(then));
        if !same {
            self.digests.clear();
            self.again += 1;
            return Ok(false);
        }
        self.check().map(|()| true)
    }

    fn begin(&mut self, nodes: &[Node], applied: &BTreeMap<(u32, u32), u64>) {
        for (&(partition, machine), &index) in applied {
            let life = nodes[machine as usize].life.iter();
            for shard in life.flat_map(|life| &life.shards) {
                let mut owns = false;
                shard.look_at_partitions(|of, _, _| owns |= of.id().0 == partition);
                if owns && let Some(digest) = shard.digest(partition as usize) {
                    self.digests.insert((partition, machine), (index, digest));
                }
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let mut first: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
        for (&(partition, machine), (index, digest)) in &self.digests {
            let Some(Some(hash)) = digest.get() else {
                return Err(format!(
                    "machine {machine} cannot read partition {partition}"
                ));
            };
            let (other, expected) = *first.entry(partition).or_insert((machine, hash));
            if hash != expected {
                return Err(format!(
                    "at entry {index} of partition {partition} machine {machine} does not hold what machine {other} does"
                ));
            }
        }
        Ok(())
    }
}

/// Returns what each living replica has applied, by partition and machine.
fn applied(nodes: &[Node]) -> BTreeMap<(u32, u32), u64> {
    let mut all = BTreeMap::new();
    for (machine, node) in (0_u32..).zip(nodes) {
        let life = node.life.iter();
        for shard in life.flat_map(|life| &life.shards) {
            shard.look_at_partitions(|partition, _, _| {
                all.insert((partition.id().0, machine), partition.applied().0);
            });
        }
    }
    all
}

/// Says whether all replicas of each partition have applied the same, and it is no partition's first.
fn is_converged(applied: &BTreeMap<(u32, u32), u64>) -> bool {
    let mut of: BTreeMap<u32, u64> = BTreeMap::new();
    let same = applied
        .iter()
        .all(|((partition, _), index)| *of.entry(*partition).or_insert(*index) == *index);
    same && !applied.is_empty()
}
