//! A node: a clock, a disk, promises, and at most one replica of the group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use ashlar_consensus::message::EntryKind;
use ashlar_consensus::raft::{Raft, Role};
use ashlar_consensus::types::{Chain, Index, Mono, NodeId, PartitionId, ReplicaId, Term};
use ashlar_consensus::{Member, Membership, Start, Supports};

use super::disk::{Disk, Entry, Log, State};
use super::random::Random;
use super::{Packet, local};

/// A node.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) is_up: bool,
    pub(crate) incarnation: u32,
    pub(crate) paused_until: u64,
    offset: u64,
    ppm: i64,
    /// The replica that it hosts, if any, over restarts.
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) disk: Disk,

    pub(crate) raft: Option<Raft>,
    pub(crate) supports: Option<Supports>,
    pub(crate) log: Log,
    pub(crate) state: State,
    /// Messages that wait for a write to be durable.
    pub(crate) gated: VecDeque<(u64, usize, Packet)>,
    pub(crate) written: u64,
    pub(crate) durable: u64,
    pub(crate) wake_at: Option<u64>,
    /// Entries before this one are not in memory.
    pub(crate) first_kept: Index,
    pub(crate) damaged: BTreeSet<Index>,
    /// Lives of other nodes, as far as known.
    pub(crate) lives: BTreeMap<usize, u32>,
    /// Writes that wait: what was the floor when they began.
    pub(crate) writes: VecDeque<(Index, Term, Index)>,
    /// Reads that wait for their index to be applied, and those that wait for a quorum.
    pub(crate) reads: Vec<(Index, Index)>,
    pub(crate) tickets: BTreeMap<u64, Index>,
    pub(crate) committed_seen: Index,
}

impl Node {
    /// Returns a node that hosts nothing.
    pub(crate) fn new(at: usize, random: &mut Random) -> Self {
        Self {
            id: NodeId(at as u64 + 1),
            is_up: false,
            incarnation: 0,
            paused_until: 0,
            offset: random.below(1 << 40),
            ppm: random.below(800) as i64 - 400,
            replica: None,
            disk: Disk::default(),
            raft: None,
            supports: None,
            log: Log::default(),
            state: State::default(),
            gated: VecDeque::new(),
            written: 0,
            durable: 0,
            wake_at: None,
            first_kept: Index(1),
            damaged: BTreeSet::new(),
            lives: BTreeMap::new(),
            writes: VecDeque::new(),
            reads: Vec::new(),
            tickets: BTreeMap::new(),
            committed_seen: Index(0),
        }
    }

    /// Hosts a replica that holds nothing yet but the membership that the group begins with, if it is
    /// among the first.
    pub(crate) fn host(&mut self, replica: ReplicaId, initial: Option<Membership>) {
        self.replica = Some(replica);
        self.disk = Disk::default();
        if initial.is_some() {
            let kind = EntryKind::Membership;
            let first = Entry::new(Chain(0), Term(1), kind, 0, initial);
            self.disk.log.entries.push(Rc::new(first));
        }
    }

    /// Returns the node's clock.
    pub(crate) fn clock(&self, now: u64) -> Mono {
        local(self.offset, self.ppm, now)
    }

    /// Returns the true time at which the node's clock will show `at`, or a little later.
    pub(crate) fn when(&self, now: u64, at: Mono) -> u64 {
        let left = at.0.saturating_sub(self.clock(now).0);
        now + left + left / 1_000 + 1_000
    }

    /// Returns the replica.
    pub(crate) fn raft(&self) -> &Raft {
        self.raft.as_ref().expect("the node hosts a replica")
    }

    /// Returns the replica's name.
    pub(crate) fn member(&self) -> Option<Member> {
        let replica = self.replica?;
        let node = self.id;
        Some(Member { replica, node })
    }

    /// Tells whether the replica leads.
    pub(crate) fn leads(&self) -> bool {
        let raft = self.raft.as_ref().filter(|_| self.is_up);
        raft.is_some_and(|raft| raft.role() == Role::Leader)
    }

    /// Starts the replica from what is durable.
    pub(crate) fn recover(&mut self, now: u64, options: ashlar_consensus::Options) {
        self.log = self.disk.log.clone();
        self.state = self.log.base.clone();
        self.gated.clear();
        (self.written, self.durable) = (0, 0);
        self.wake_at = None;
        self.damaged.clear();
        self.writes.clear();
        self.reads.clear();
        self.tickets.clear();
        let base = self.log.base.clone();
        self.first_kept = base.applied.index.next();
        self.committed_seen = base.applied.index;
        let metas: Vec<_> = self.log.entries.iter().map(|entry| entry.meta).collect();
        let first = base.applied.index.next().0;
        let memberships = self.log.entries.iter().zip(first..);
        let memberships = memberships.filter_map(|(entry, index)| {
            let membership = entry.membership.clone()?;
            Some((Index(index), membership))
        });
        let has_first = self
            .log
            .entries
            .first()
            .is_some_and(|entry| entry.meta.term == Term(1));
        let first_committed = Index(u64::from(has_first && first == 1));
        let start = Start {
            partition: PartitionId(7),
            me: self.member().expect("the node hosts a replica"),
            ballot: self.disk.ballot,
            base: base.applied,
            base_chain: base.chain,
            membership: base.membership,
            entries: &metas,
            memberships: memberships.collect(),
            committed: base.applied.index.max(first_committed),
            applied: base.applied.index,
            has_forgotten: self.disk.has_forgotten,
            seed: self.offset ^ u64::from(self.incarnation) << 50,
        };
        self.raft = Some(Raft::new(start, options, self.clock(now)));
    }

    /// Returns the entries that a message takes from the log.
    pub(crate) fn entries(&self, first: Index, count: u32) -> Vec<Rc<Entry>> {
        self.log.range(first, count as usize)
    }
}
