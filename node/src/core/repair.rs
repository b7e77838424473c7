//! What a shard does about damage to its own files, with the help of other nodes. What a damaged log has its replicas
//! forget is the consensus core's to get back; here is what is done around it.
//!
//! Invariant: segments of a damaged log stay until every replica of the shard has everything again.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use ashlar_consensus::PartitionId;
use ashlar_io::wal;

use super::Core;
use crate::format::Format;
use crate::stats::ShardCounters;

/// What is known of the shard's damage.
#[derive(Debug)]
pub(super) struct Repairs {
    /// Segments of a damaged log may lie in the log's directory.
    keeps_lost: Cell<bool>,
}

impl Default for Repairs {
    fn default() -> Self {
        Self {
            keeps_lost: Cell::new(true),
        }
    }
}

impl Core {
    /// Takes in that a replica has everything again that it may have promised.
    pub(super) fn note_remembers(&self, partition: PartitionId) {
        tracing::info!(
            "the replica of partition {partition} has everything again that its damaged log may have held: it votes"
        );
        ShardCounters::add(&self.counters().repaired, 1);
    }

    /// Looks after damage. Called each tick.
    pub(crate) fn tick_repairs(self: &Rc<Self>) {
        if self.cluster.is_none() {
            return;
        }
        let (mut forgetful, mut damaged) = (0, 0);
        for partition in self.data.borrow_mut().partitions() {
            forgetful += u64::from(partition.has_forgotten());
            damaged += u64::from(partition.damage().is_some());
        }
        let counters = self.counters();
        counters.forgetful.store(forgetful, Ordering::Relaxed);
        counters.damaged.store(damaged, Ordering::Relaxed);
        if forgetful == 0 && self.repairs.keeps_lost.take() {
            self.remove_lost();
        }
    }

    /// Removes the segments of a damaged log that were set aside.
    fn remove_lost(self: &Rc<Self>) {
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            let dir = Format::wal_dir(&core.config().data, core.shard);
            match wal::remove_lost(&core.reactor, &dir).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(
                    "removed {count} segments of a damaged log from {}",
                    dir.display()
                ),
                Err(error) => tracing::warn!(
                    "segments of a damaged log in {} cannot be removed: {error}",
                    dir.display()
                ),
            }
        });
    }
}
