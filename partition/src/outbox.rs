//! What the replicas of a shard want sent to others, gathered over a turn. Not a connection: whoever
//! has one takes the sections from here, those with a mark once the log says that it is durable.
//!
//! Invariant: of two sections to the same node and partition, the later one leaves no earlier; a mark
//! of the later is not below that of the earlier.

use std::ops::Range;

use ashlar_consensus::raft::{Event, Fetch};
use ashlar_consensus::{NodeId, PartitionId};
use ashlar_io::wal::{Mark, Position};

/// What must not wait behind entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Votes, acknowledgements: others wait for them.
    Urgent,
    /// Entries.
    Bulk,
}

/// One message to another node's replica of a partition.
#[derive(Clone, Debug)]
pub struct Section {
    /// The node.
    pub to: NodeId,
    /// The partition.
    pub partition: PartitionId,
    /// Which lane it takes.
    pub urgency: Urgency,
    /// The mark of the log that must be durable before it leaves; it leaves at once without.
    pub gate: Option<Mark>,
    bytes: Range<usize>,
}

/// Entries that a replica elsewhere lacks, and this one has in the log only.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// The partition.
    pub partition: PartitionId,
    /// Which entries, and for whom.
    pub fetch: Fetch,
    /// A position at or before which the first begins.
    pub from: Position,
}

/// The sections of a turn, and what happened in it.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sections: Vec<Section>,
    /// What the replicas have to tell their shard.
    pub events: Vec<(PartitionId, Event)>,
    /// Entries that are to be read back from the log for replicas that lag behind.
    pub feeds: Vec<Feed>,
    /// Who asks for a snapshot: a replica that lags too far behind.
    pub offers: Vec<(PartitionId, ashlar_consensus::Member)>,
}

impl Outbox {
    /// Adds a section; `write` appends its bytes.
    pub(crate) fn push(
        &mut self,
        (to, partition): (NodeId, PartitionId),
        urgency: Urgency,
        gate: Option<Mark>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.sections.push(Section {
            to,
            partition,
            urgency,
            gate,
            bytes: start..self.bytes.len(),
        });
    }

    /// Says whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }

    /// Walks the sections in their order, each with its bytes.
    pub fn sections(&self) -> impl Iterator<Item = (&Section, &[u8])> {
        let of = |section: &Section| &self.bytes[section.bytes.clone()];
        self.sections
            .iter()
            .map(move |section| (section, of(section)))
    }

    /// Forgets the sections; what happened stays.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sections.clear();
    }
}
