//! The names that nodes agree on. Numbers with a meaning each, so that one cannot stand where
//! another belongs.

use std::fmt;

/// A node: one process on one server, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub u64);

/// A partition: one key range, and the group of replicas that keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PartitionId(pub u32);

/// A replica: one node's copy of one partition. Never reused: a copy that was wiped comes back
/// under another id, or it would vote twice in one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReplicaId(pub u64);

/// A life of a node: greater after each start, and durable before the node says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u32);

/// A term: the time of one leader. Terms only grow. Source: Raft (Ongaro, Ousterhout, ATC 2014),
/// section 5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

impl Term {
    /// Returns the term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The place of an entry in a partition's log; the first entry has index 1. Source: Raft, section
/// 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Index(pub u64);

impl Index {
    /// Returns the index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the index before this one; that of zero is zero.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// An entry's identity: two logs that hold the same position hold the same entries up to it.
/// Ordered by term, then index: the order in which Raft calls a log more up to date. Source: Raft,
/// sections 5.3 and 5.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition {
    /// The term in which the entry was proposed.
    pub term: Term,
    /// Its place.
    pub index: Index,
}

/// A hash over all the entries up to one, so that what Raft proves about logs is also checked. The
/// host computes it; here it is only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Chain(pub u64);

/// A moment, in nanoseconds of a clock of this node that never goes back and is not steered. Means
/// nothing to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Returns the moment `ms` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, ms: u32) -> Self {
        self.plus_ns(u64::from(ms) * 1_000_000)
    }

    /// Returns the moment `ns` nanoseconds later.
    #[must_use]
    pub fn plus_ns(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
