//! The recovery of a shard: from its checkpoint, its log and its tables to partitions that go on. What a record does is
//! known to `partition`, what a log's end is to `io`.
//!
//! A log that is damaged below what was acknowledged is refused by a lone node. A member of a cluster gets back from
//! the others what was in it: its log begins anew, and its replicas have forgotten what they promised
//! (`ashlar_consensus::raft`, `amnesia.rs`, tells what they may do until they have everything again).
//!
//! Invariant: that they have forgotten is durable before anything of the old log is out of reach.

use std::collections::BTreeMap;
use std::path::Path;

use ashlar_consensus::{Clock, PartitionId};
use ashlar_io::Reactor;
use ashlar_io::wal::{self, Position, RecoverError, Wal};
use ashlar_partition::ballot::BallotRecord;
use ashlar_partition::command::record_partition;
use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::lsm::manifest::{Checkpoint, Manifest};
use ashlar_partition::lsm::{Ground, GroundOptions, Layout};
use ashlar_partition::{Partition, Recovering};

use super::membership::{Membership, others};
use super::{Fatal, Recovery};
use crate::core::{Data, Parts};
use crate::format::Format;
use crate::route::Routes;
use crate::shared::Shared;

/// Most reads of tables in flight, on one shard.
const READS_INFLIGHT_MAX: u32 = 128;
/// Most files of tables that a shard keeps open.
const OPEN_FILES_MAX: usize = 4096;

/// Returns how the shard's log is set up.
fn wal_options(shard: u32, data: &Path, shared: &Shared) -> wal::Options {
    let (format, config) = (&shared.format, shared.config());
    wal::Options {
        dir: Format::wal_dir(data, shard),
        log_id: format.log_id(shard),
        segment_bytes: format.segment_bytes,
        segments_spare: config.wal.segments_spare as usize,
        inflight_max: config.wal.inflight as usize,
        batch_bytes: config.wal.batch_bytes as usize,
        durability: format.durability(),
    }
}

/// A shard in recovery: what its checkpoint says, and its partitions by their numbers.
struct Shelf<'a> {
    reactor: &'a Reactor,
    data: &'a Path,
    shared: &'a Shared,
    shard: u32,
    recovering: Vec<Option<Recovering>>,
    clock: Clock,
    manifest: Manifest,
    /// Where in the log the checkpoint was saved.
    saved: Position,
    /// The log goes on behind it: what is before it counts no more for replicas that have forgotten.
    least_end: Position,
}

/// Reads the shard's log back into its partitions.
pub(super) async fn recover(
    reactor: &Reactor,
    shard: u32,
    data: &Path,
    (shared, routes): (&Shared, &Routes),
    cluster: Option<&Membership>,
) -> Result<(Parts, Recovery), Fatal> {
    let options = wal_options(shard, data, shared);
    let ground = Ground::new(reactor, ground_options(data, shared));
    let mut shelf = Shelf::open(reactor, shard, data, (shared, routes), (&ground, cluster)).await?;
    let read = shelf.read_log(&options).await;
    let (recovered, lost) = match read {
        Err(Fatal::Recover(RecoverError::Damaged { path, offset, .. })) if cluster.is_some() => (
            None,
            Some(format!(
                "log {} is damaged at offset {offset}",
                path.display()
            )),
        ),
        // Nobody else has what was in it.
        Err(fatal) => return Err(fatal),
        Ok(recovered) if recovered.end < shelf.least_end => (
            None,
            Some(format!("log {} lacks its end", options.dir.display())),
        ),
        Ok(recovered) => (Some(recovered), None),
    };
    let found = recovered.as_ref();
    let recovery = Recovery {
        entries: found.map_or(0, |found| found.records),
        bytes: found.map_or(0, |found| found.record_bytes),
        torn: found.is_some_and(|found| found.torn),
    };
    if lost.is_some() {
        shelf
            .recovering
            .iter_mut()
            .flatten()
            .for_each(Recovering::forget);
    }
    let mut partitions = shelf.finish().await?;
    let recovered = match (recovered, lost) {
        (Some(recovered), _) => recovered,
        (None, what) => {
            let what = what.unwrap_or_default();
            shelf.begin_anew(&options, &mut partitions, &what).await?
        }
    };
    let wal = Wal::open(reactor, options, recovered);
    let data = Data::new(partitions, shelf.clock, wal);
    Ok(((data, ground, shelf.manifest), recovery))
}

impl<'a> Shelf<'a> {
    /// Begins with what the checkpoint says.
    async fn open(
        reactor: &'a Reactor,
        shard: u32,
        data: &'a Path,
        (shared, routes): (&'a Shared, &Routes),
        (ground, cluster): (&Ground, Option<&Membership>),
    ) -> Result<Self, Fatal> {
        let dir = Format::manifest_dir(data);
        let manifest = Manifest::open(reactor, &dir, shard).await;
        let (manifest, checkpoint) =
            manifest.map_err(|error| Fatal::Manifest(error.to_string()))?;
        let checkpoint = checkpoint.unwrap_or_default();
        let saved = checkpoint.position;
        let has_forgotten = checkpoint.ballots.iter().any(|of| of.has_forgotten);
        let ballots = checkpoint.ballots.into_iter();
        let mut ballots: BTreeMap<u32, BallotRecord> =
            ballots.map(|ballot| (ballot.partition.0, ballot)).collect();
        let edits = checkpoint.partitions.into_iter();
        let mut edits: BTreeMap<u32, Edit> = edits.map(|edit| (edit.partition, edit)).collect();
        let mut clock = Clock::default();
        let mut recovering: Vec<Option<Recovering>> =
            (0..routes.partitions()).map(|_| None).collect();
        for number in routes.partitions_of(shard) {
            let id = PartitionId(u32::try_from(number).expect("partitions are counted in u32"));
            let range = routes.range(number).clone();
            let mut partition = Partition::on_ground(id, range, reactor.random(), ground);
            partition.keep_history(shared.config().partition.history_ms);
            let begun = Recovering::begin(partition, edits.remove(&id.0), &mut clock);
            let begun = begun.map_err(Fatal::Manifest)?;
            let ballot = (ballots.remove(&id.0), saved);
            recovering[number] = Some(match cluster {
                None => begun,
                Some(cluster) => begun.among(others(reactor, cluster, ballot)),
            });
        }
        Ok(Self {
            reactor,
            data,
            shared,
            shard,
            recovering,
            clock,
            manifest,
            saved,
            least_end: if has_forgotten { saved } else { Position(0) },
        })
    }

    /// Takes in what the log holds.
    async fn read_log(&mut self, options: &wal::Options) -> Result<wal::Recovered, Fatal> {
        let (recovering, clock) = (&mut self.recovering, &mut self.clock);
        let recovered = wal::recover(self.reactor, options, |position, record| {
            let partition = record_partition(record).ok_or("it is shorter than any record")?;
            match recovering.get_mut(partition as usize) {
                Some(Some(of)) => of.take(position, record, clock),
                _ => Err(format!(
                    "it is of partition {partition}, which this shard does not own"
                )),
            }
        })
        .await?;
        match recovered.start > self.saved {
            false => Ok(recovered),
            true => Err(Fatal::Manifest(format!(
                "the log of shard {} begins at position {}, but the checkpoint in {} is of {}: an older checkpoint was put back, or a newer one was lost",
                self.shard,
                recovered.start.0,
                Format::manifest_dir(self.data).display(),
                self.saved.0,
            ))),
        }
    }

    /// Opens the tables, and returns the partitions.
    async fn finish(&mut self) -> Result<Vec<Option<Partition>>, Fatal> {
        let mut partitions = Vec::new();
        for of in std::mem::take(&mut self.recovering) {
            partitions.push(match of {
                None => None,
                Some(of) => {
                    let opened = of.finish().await;
                    Some(opened.map_err(|error| Fatal::Tables(error.to_string()))?)
                }
            });
        }
        Ok(partitions)
    }

    /// Has the log begin anew, for it is damaged as `what` says: the checkpoint says that the replicas have forgotten
    /// what they promised, in both its slots, before the old log is set aside.
    async fn begin_anew(
        &mut self,
        options: &wal::Options,
        partitions: &mut [Option<Partition>],
        what: &str,
    ) -> Result<wal::Recovered, Fatal> {
        let anew = wal::begin_anew(self.reactor, options, self.saved).await?;
        let partitions = || partitions.iter().flatten();
        let checkpoint = Checkpoint {
            log_id: self.shared.format.log_id(self.shard),
            position: anew.begin(),
            partitions: partitions().filter_map(Partition::checkpoint).collect(),
            ballots: partitions().filter_map(Partition::ballot).collect(),
        };
        for _ in 0..2 {
            let written = self.manifest.write(&checkpoint).await;
            written.map_err(|error| Fatal::Manifest(error.to_string()))?;
        }
        tracing::error!(
            "{what}, in what was acknowledged; its segments are set aside, and the replicas of shard {} vote for nobody and acknowledge nothing until their leaders have told them where to go on",
            self.shard
        );
        Ok(anew.set_aside(self.reactor, &options.dir).await?)
    }
}

/// Returns how the ground of a shard's tables is laid: it has its share of the memory.
fn ground_options(data: &Path, shared: &Shared) -> GroundOptions {
    let config = shared.config();
    GroundOptions {
        dir: Format::tables_dir(data),
        cache_bytes: shared.cache_bytes(),
        memtable_bytes: shared.memtable_bytes(),
        reads_inflight_max: READS_INFLIGHT_MAX,
        open_files_max: OPEN_FILES_MAX,
        layout: Layout {
            table_bytes: config.partition.table_bytes,
            separate_bytes: config.partition.separate_bytes as usize,
        },
    }
}
