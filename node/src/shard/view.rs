//! A shard as those see it who watch over it from outside between its turns: simulations and tests. Not
//! what operators are told: that is in `stats`.
//!
//! Invariant: looking changes nothing.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use ashlar_consensus::{Mono, Supports};
use ashlar_partition::{Order, Part, Partition, Scan, Scanned};

use super::Shard;
use crate::core::{Core, Fetched, Times};
use crate::peer::Status;

/// Keys of one step of a digest.
const DIGEST_KEYS: usize = 1000;
/// Steps of a digest whose blocks are kept in memory.
const PINNED_STEPS: usize = 4;
/// FNV-1a, 64 bits: the offset and the prime.
const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);

/// A hash of what a partition holds, once it is known: nothing when it could not be read.
pub type Digest = Rc<Cell<Option<Option<u64>>>>;

/// What a shard holds for others than its partitions, for checks that it is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Commands with other nodes, or waiting for a leader.
    pub relayed: usize,
    /// Commands of other shards and nodes that were not admitted yet.
    pub deferred: usize,
    /// Messages that wait for the log.
    pub gated: usize,
}

impl Shard {
    /// Returns the reads of tables from disk so far, and the bytes that flushes and merges have
    /// written.
    #[must_use]
    pub fn table_traffic(&self) -> (u64, u64) {
        let core = self.core.as_ref();
        core.map_or((0, 0), |core| {
            let traffic = core.ground.traffic();
            (traffic.reads, traffic.written_bytes)
        })
    }

    /// Returns how many writes of sessions this shard has answered from what its partitions remember.
    #[must_use]
    pub fn repeats_answered(&self) -> u64 {
        let core = self.core.as_ref();
        core.map_or(0, |core| core.counters().recalled.load(Ordering::Relaxed))
    }

    /// Returns how many entries this shard has read back from its log for replicas that lagged behind.
    #[must_use]
    pub fn fed_entries(&self) -> u64 {
        self.core.as_ref().map_or(0, |core| core.fed_entries())
    }

    /// Returns how many replicas of this shard were repaired from other nodes.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        let core = self.core.as_ref();
        core.map_or(0, |core| core.counters().repaired.load(Ordering::Relaxed))
    }

    /// Says whether the shard has recovered and every replica has all that it may have promised, durably.
    #[must_use]
    pub fn remembers(&self) -> bool {
        let Some(core) = &self.core else {
            return false;
        };
        let mut data = core.data.borrow_mut();
        let forgets = data.partitions().any(|partition| partition.has_forgotten());
        !forgets && data.wal.is_idle()
    }

    /// Shows each partition of a shard that has recovered, with what it needs to tell who serves it at
    /// this very moment.
    pub fn look_at_partitions(&self, mut look: impl FnMut(&Partition, Mono, Option<&Supports>)) {
        let Some(core) = &self.core else { return };
        let now = Mono(self.reactor.read_clock().0);
        let supports = core.cluster.as_ref().map(|of| of.supports.borrow());
        for partition in core.data.borrow_mut().partitions() {
            look(partition, now, supports.as_deref());
        }
    }

    /// Returns what the partitions of a shard that has recovered have told and proposed.
    #[must_use]
    pub fn times(&self) -> Vec<Times> {
        let core = self.core.as_ref();
        core.map_or_else(Vec::new, |core| core.times())
    }

    /// Returns what waits here for others.
    #[must_use]
    pub fn load(&self) -> Load {
        self.core
            .as_ref()
            .map_or(Load::default(), |core| core.load())
    }

    /// Returns how things are with each other node.
    #[must_use]
    pub fn links(&self) -> Vec<Status> {
        let cluster = self.core.as_ref().and_then(|core| core.cluster.as_ref());
        cluster.map_or_else(Vec::new, |cluster| cluster.peers.status())
    }

    /// Begins to hash what this replica of a partition holds, whoever leads: keys and values, as of
    /// what is applied. It is done some turns later.
    #[must_use]
    pub fn digest(&self, partition: usize) -> Option<Digest> {
        let core = Rc::clone(self.core.as_ref()?);
        let digest = Digest::default();
        let slot = Rc::clone(&digest);
        self.reactor.spawn(async move {
            slot.set(Some(digest_of(&core, partition).await));
        });
        Some(digest)
    }
}

async fn digest_of(core: &Core, partition: usize) -> Option<u64> {
    let mut walk = Scan {
        keys: (Bound::Unbounded, Bound::Unbounded),
        order: Order::Ascending,
        part: Part::Value,
        at: None,
        keys_max: DIGEST_KEYS,
        bytes_max: usize::MAX,
    };
    let mut hash = FNV.0;
    let mut fetched: VecDeque<Fetched> = VecDeque::new();
    loop {
        let scanned = core.scan_here(partition, &mut walk, |key, value| {
            for part in [key, value] {
                let length = (part.len() as u64).to_le_bytes();
                for byte in length.iter().chain(part) {
                    hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV.1);
                }
            }
        });
        match scanned? {
            Scanned::End => return Some(hash),
            Scanned::Limit => core.next_turn(true).await,
            Scanned::Want(wants) => {
                // An index is needed until the block is there that it leads to.
                fetched.truncate(PINNED_STEPS - 1);
                fetched.push_front(core.fetch(partition, &wants, &[]).await.ok()?);
            }
        }
    }
}
