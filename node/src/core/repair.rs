//! What a shard does about damage to its own files, with the help of other nodes.
//!
//! *Tables.* A replica that has a damaged one is not served here and does not lead, but goes on to vote, to acknowledge
//! and to apply: its log is whole. It asks the leader for a snapshot of at least what its tables hold, receives all its
//! files, and has them take the place of its own, in one edit. What it has applied since stays in memory.
//!
//! *Logs.* What a damaged log has its replicas forget is the consensus core's to get back; here is what is done around
//! it.
//!
//! Invariants:
//! 1. Of a partition at most one repair is under way.
//! 2. Segments of a damaged log stay until every replica of the shard has everything again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ashlar_consensus::{Index, LogPosition, NodeId, PartitionId};
use ashlar_io::{Monotonic, wal};
use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::snapshot::Expected;

use super::snapshots::What;
use super::{Cluster, Core};
use crate::format::Format;
use crate::stats::ShardCounters;

/// Pause between two tries to repair a partition: the leader may have to flush first.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a replica looks whether it has applied what a snapshot holds before it gives that up.
const LOOKS: u32 = 50;

/// A partition whose tables are damaged.
#[derive(Debug)]
struct Case {
    /// What the core was told not to have, so that it does not lead.
    lacks: LogPosition,
    is_under_way: bool,
    next_try: Monotonic,
}

/// What is known of the shard's damage.
#[derive(Debug)]
pub(super) struct Repairs {
    cases: RefCell<BTreeMap<PartitionId, Case>>,
    /// Segments of a damaged log may lie in the log's directory.
    keeps_lost: Cell<bool>,
}

impl Default for Repairs {
    fn default() -> Self {
        Self {
            cases: RefCell::default(),
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
        let (mut forgetful, mut damaged) = (0, 0);
        let mut wounded = Vec::new();
        for partition in self.data.borrow_mut().partitions() {
            forgetful += u64::from(partition.has_forgotten());
            damaged += u64::from(partition.damage().is_some());
            if partition.damage().is_some() {
                wounded.push(partition.id());
            }
        }
        let counters = self.counters();
        counters.forgetful.store(forgetful, Ordering::Relaxed);
        counters.damaged.store(damaged, Ordering::Relaxed);
        let Some(cluster) = &self.cluster else { return };
        self.close_cases(cluster, &wounded);
        for partition in wounded {
            self.tend(cluster, partition);
        }
        if forgetful == 0 && self.repairs.keeps_lost.take() {
            self.remove_lost();
        }
    }

    /// Has the replicas lead again whose tables are whole.
    fn close_cases(&self, cluster: &Cluster, wounded: &[PartitionId]) {
        let mut cases = self.repairs.cases.borrow_mut();
        let healed: Vec<_> = cases
            .extract_if(.., |id, case| !case.is_under_way && !wounded.contains(id))
            .collect();
        drop(cases);
        for (partition, case) in healed {
            tracing::info!("partition {partition} is repaired: it is served again");
            ShardCounters::add(&self.counters().repaired, 1);
            let mut data = self.data.borrow_mut();
            self.decide_one(cluster, &mut data, partition, |raft, turn, _| {
                raft.repaired(turn.now, case.lacks);
            });
        }
    }

    /// Does what is due about a partition whose tables are damaged.
    fn tend(self: &Rc<Self>, cluster: &Cluster, partition: PartitionId) {
        let now = self.reactor.now();
        if !self.repairs.cases.borrow().contains_key(&partition) {
            self.open_case(cluster, partition);
        }
        let leader = self.with_partition(partition, |of| {
            let raft = of.raft().filter(|_| of.needs_repair());
            raft.and_then(|raft| raft.leader())
        });
        let Some(leader) = leader.filter(|leader| leader.node != cluster.node) else {
            return;
        };
        let mut cases = self.repairs.cases.borrow_mut();
        let Some(case) = cases.get_mut(&partition) else {
            return;
        };
        if !case.is_under_way && now >= case.next_try {
            case.is_under_way = true;
            drop(cases);
            self.begin_repair(partition, leader.node);
        }
    }

    /// Has the replica lead no more.
    fn open_case(&self, cluster: &Cluster, partition: PartitionId) {
        let mut data = self.data.borrow_mut();
        self.decide_one(cluster, &mut data, partition, |raft, turn, out| {
            let case = Case {
                lacks: raft.base(),
                is_under_way: false,
                next_try: Monotonic(0),
            };
            raft.corrupt(turn.now, case.lacks, out);
            self.repairs.cases.borrow_mut().insert(partition, case);
        });
    }

    fn begin_repair(self: &Rc<Self>, partition: PartitionId, from: NodeId) {
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            match core.repair_tables(partition, from).await {
                Ok(bytes) => tracing::info!(
                    "received tables of partition {partition} in the place of damaged ones: {bytes} bytes"
                ),
                Err(error) => tracing::debug!("partition {partition} is not repaired yet: {error}"),
            }
            let next_try = core.reactor.now() + PAUSE;
            if let Some(case) = core.repairs.cases.borrow_mut().get_mut(&partition) {
                (case.is_under_way, case.next_try) = (false, next_try);
            }
            core.hurry();
        });
    }

    /// Has tables of the leader take the place of damaged ones; returns the bytes received.
    async fn repair_tables(
        self: &Rc<Self>,
        partition: PartitionId,
        from: NodeId,
    ) -> Result<u64, String> {
        let least = self.with_partition(partition, |of| of.flushed_to());
        let newest = (partition, least);
        let manifest = self.fetch_piece(from, newest, What::Newest, (0, 0)).await?;
        let edit = Edit::decode(&manifest).map_err(|malformed| malformed.to_string())?;
        let at = Index(edit.flushed.map_or(0, |flushed| flushed.index));
        if edit.partition != partition.0 || at < least {
            return Err("the snapshot is of another partition or entry".to_owned());
        }
        let mut bytes = 0;
        // Which of the files here are whole is not known, whatever their names.
        for expected in Expected::all_of(&edit) {
            self.receive_file(from, (partition, at), expected).await?;
            bytes += expected.bytes;
        }
        let opened = self.ground.open_snapshot(&edit).await;
        let opened = opened.map_err(|error| error.to_string())?;
        self.wait_applied(partition, at).await?;
        match self.with_partition(partition, |of| of.repair(edit, opened)) {
            true => Ok(bytes),
            false => Err("the snapshot does not fit any more".to_owned()),
        }
    }

    /// Waits until the replica has applied an entry that its leader has.
    async fn wait_applied(&self, partition: PartitionId, at: Index) -> Result<(), String> {
        for _ in 0..LOOKS {
            if self.with_partition(partition, |of| of.applied() >= at) {
                return Ok(());
            }
            self.reactor.sleep(PAUSE / 5).await;
        }
        Err(format!("entry {at} is not applied here"))
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
