//! The recovery of a shard: from its checkpoint, its log and its tables to partitions that go on. What a record does is
//! known to `partition`, what a log's end is to `io`.

use std::collections::BTreeMap;
use std::path::Path;

use ashlar_consensus::{Clock, PartitionId};
use ashlar_io::Reactor;
use ashlar_io::wal::{self, Wal};
use ashlar_partition::ballot::BallotRecord;
use ashlar_partition::command::record_partition;
use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::lsm::manifest::Manifest;
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

/// Reads the shard's log back into its partitions.
pub(super) async fn recover(
    reactor: &Reactor,
    shard: u32,
    data: &Path,
    (shared, routes): (&Shared, &Routes),
    cluster: Option<&Membership>,
) -> Result<(Parts, Recovery), Fatal> {
    let config = shared.config();
    let options = wal_options(shard, data, shared);
    let ground = Ground::new(reactor, ground_options(data, shared));
    let dir = Format::manifest_dir(data);
    let manifest = Manifest::open(reactor, &dir, shard).await;
    let (manifest, saved) = manifest.map_err(|error| Fatal::Manifest(error.to_string()))?;
    let mut clock = Clock::default();
    let saved = saved.unwrap_or_default();
    let position = saved.position;
    let ballots = saved.ballots.into_iter();
    let mut ballots: BTreeMap<u32, BallotRecord> =
        ballots.map(|ballot| (ballot.partition.0, ballot)).collect();
    let partitions = saved.partitions.into_iter();
    let mut saved: BTreeMap<u32, Edit> = partitions.map(|edit| (edit.partition, edit)).collect();
    let mut recovering: Vec<Option<Recovering>> = (0..routes.partitions()).map(|_| None).collect();
    for number in routes.partitions_of(shard) {
        let id = PartitionId(u32::try_from(number).expect("partitions are counted in u32"));
        let range = routes.range(number).clone();
        let mut partition = Partition::on_ground(id, range, reactor.random(), &ground);
        partition.keep_history(config.partition.history_ms);
        let begun = Recovering::begin(partition, saved.remove(&id.0), &mut clock);
        let begun = begun.map_err(Fatal::Manifest)?;
        recovering[number] = Some(match cluster {
            None => begun,
            Some(cluster) => begun.among(others(reactor, cluster, ballots.remove(&id.0))),
        });
    }
    let recovered = wal::recover(reactor, &options, |position, record| {
        let partition = record_partition(record).ok_or("it is shorter than any record")?;
        match recovering.get_mut(partition as usize) {
            Some(Some(of)) => of.take(position, record, &mut clock),
            _ => Err(format!(
                "it is of partition {partition}, which this shard does not own"
            )),
        }
    })
    .await?;
    if recovered.start > position {
        return Err(Fatal::Manifest(format!(
            "the log of shard {shard} begins at position {}, but the checkpoint in {} is of {}: an older checkpoint was put back, or a newer one was lost",
            recovered.start.0,
            dir.display(),
            position.0,
        )));
    }
    let recovery = Recovery {
        entries: recovered.records,
        bytes: recovered.record_bytes,
        torn: recovered.torn,
    };
    let mut partitions: Vec<Option<Partition>> = Vec::new();
    for of in recovering {
        partitions.push(match of {
            None => None,
            Some(of) => {
                let opened = of.finish().await;
                Some(opened.map_err(|error| Fatal::Tables(error.to_string()))?)
            }
        });
    }
    let wal = Wal::open(reactor, options, recovered);
    let data = Data::new(partitions, clock, wal);
    Ok(((data, ground, manifest), recovery))
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
