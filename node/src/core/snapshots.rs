//! Snapshots between nodes: a leader offers one to a replica that lags too far behind, and gives it
//! piece by piece, as it is asked; the receiver asks for the files that it has not got, opens them, and
//! has its partition take them over.
//!
//! ```text
//! fetch    ticket u64, then what `request.rs` says
//! fetched  ticket u64, outcome u8 (0 here it is, 1 there is no such snapshot any more), bytes
//! ```
//!
//! Invariants:
//! 1. A shard gives at most one snapshot of a partition at a time, and receives at most one.
//! 2. A receiver has at most [`PIECES_INFLIGHT`] pieces on their way: it takes them as fast as it can
//!    write them, behind everything that is urgent.

mod request;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ashlar_consensus::{Index, LogPosition, Member, NodeId, PartitionId, ReplicaId};
use ashlar_io::Monotonic;
use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::snapshot::Expected;

pub(super) use self::request::What;
use self::request::{decode_request, encode_request};
use super::Core;
use super::relay::partition_id;
use crate::distant::kind;
use crate::peer::{Lane, Queued};

/// Size of a piece, in bytes.
const PIECE_BYTES: u32 = 256 << 10;
/// Pieces on their way to one receiver.
const PIECES_INFLIGHT: usize = 4;
/// How long a snapshot is kept that nobody asks for.
const IDLE: Duration = Duration::from_secs(5);

/// A snapshot that is given to others.
#[derive(Debug)]
struct Given {
    at: Index,
    manifest: Rc<[u8]>,
    to: BTreeSet<ReplicaId>,
    used: Monotonic,
}

/// A piece that was asked for.
#[derive(Debug)]
struct Piece {
    node: NodeId,
    bytes: Option<Option<Vec<u8>>>,
    waker: Option<Waker>,
}

/// The snapshots that a shard gives and receives.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Replicas that need one and were not offered it yet.
    wanted: BTreeSet<(PartitionId, ReplicaId)>,
    given: BTreeMap<PartitionId, Given>,
    /// The last snapshot that each replica was offered.
    offered: BTreeMap<(PartitionId, ReplicaId), Index>,
    receiving: BTreeSet<PartitionId>,
    last_ticket: u64,
    pieces: BTreeMap<u64, Piece>,
}

impl Snapshots {
    /// Makes one whose tickets are above `first`.
    pub(super) fn new(first: u64) -> Self {
        Self {
            last_ticket: first,
            ..Self::default()
        }
    }
}

impl Core {
    fn snapshots(&self) -> Option<&RefCell<Snapshots>> {
        self.cluster.as_ref().map(|cluster| &cluster.snapshots)
    }

    /// Notes that a replica needs a snapshot.
    pub(super) fn want_snapshot(&self, partition: PartitionId, to: Member) {
        if let Some(snapshots) = self.snapshots() {
            snapshots
                .borrow_mut()
                .wanted
                .insert((partition, to.replica));
        }
    }

    /// Offers the snapshots that are ready, and lets go of those that nobody asks for. Called each
    /// tick.
    pub(crate) fn tick_snapshots(self: &Rc<Self>) {
        let Some(snapshots) = self.snapshots() else {
            return;
        };
        let wanted = std::mem::take(&mut snapshots.borrow_mut().wanted);
        for (partition, to) in wanted {
            if !self.offer_snapshot(partition, to) {
                snapshots.borrow_mut().wanted.insert((partition, to));
            }
        }
        self.drop_idle_snapshots();
    }

    /// Offers a snapshot; says whether that is settled.
    fn offer_snapshot(self: &Rc<Self>, partition: PartitionId, to: ReplicaId) -> bool {
        let (Some(cluster), Some(snapshots)) = (&self.cluster, self.snapshots()) else {
            return true;
        };
        let now = self.reactor.now();
        let mut data = self.data.borrow_mut();
        let owned = data.owned_mut(partition.0 as usize);
        // A leader may need it to commit its first entry: the others may all lag behind.
        if !owned.partition.leads() {
            return true;
        }
        let Some(snapshot) = owned.partition.snapshot() else {
            return false;
        };
        let mut manifest = Vec::new();
        snapshot.edit.encode(&mut manifest);
        let mut snapshots = snapshots.borrow_mut();
        let given = snapshots.given.entry(partition).or_insert_with(|| Given {
            at: Index(0),
            manifest: Rc::default(),
            to: BTreeSet::new(),
            used: now,
        });
        (given.at, given.manifest, given.used) = (snapshot.core.at.index, manifest.into(), now);
        given.to.insert(to);
        let at = given.at;
        // Who has asked for all of it and takes none of it over may have found damage.
        if snapshots.offered.insert((partition, to), at) == Some(at) {
            let looked = self.scrub.suspect(&mut owned.partition);
            self.reactor.spawn(Rc::clone(self).judge(partition, looked));
        }
        tracing::info!("offers replica {to} of partition {partition} a snapshot as of entry {at}");
        self.decide_one(cluster, &mut data, partition, |raft, turn, out| {
            raft.offer_snapshot(turn.now, to, snapshot.core, out);
        });
        true
    }

    /// Ends the service of a partition whose files turn out to be damaged: another replica may lead it.
    async fn judge(
        self: Rc<Self>,
        partition: PartitionId,
        looked: impl Future<Output = Option<String>>,
    ) {
        if let Some(what) = looked.await {
            self.with_partition(partition, |of| of.quarantine(&what));
        }
    }

    /// Lets go of snapshots that nobody has asked for a while.
    fn drop_idle_snapshots(&self) {
        let (Some(cluster), Some(snapshots)) = (&self.cluster, self.snapshots()) else {
            return;
        };
        let now = self.reactor.now();
        let idle: Vec<_> = snapshots
            .borrow_mut()
            .given
            .extract_if(.., |_, given| now.since(given.used) > IDLE)
            .collect();
        let mut data = self.data.borrow_mut();
        for (partition, given) in idle {
            data.owned_mut(partition.0 as usize)
                .partition
                .release_snapshot();
            for to in given.to {
                self.decide_one(cluster, &mut data, partition, |raft, turn, _| {
                    raft.snapshot_failed(turn.now, to);
                });
            }
        }
    }

    /// Takes in a request for a piece.
    pub(super) fn take_fetch(
        self: &Rc<Self>,
        from: NodeId,
        partition: PartitionId,
        bytes: &[u8],
    ) -> Option<()> {
        let (ticket, request) = bytes.split_first_chunk()?;
        let ticket = u64::from_le_bytes(*ticket);
        let (at, what, offset, length) = decode_request(request)?;
        let manifest = match what {
            What::Newest => self.newest_of(partition, at),
            What::Manifest | What::File(_) => self.piece_of(partition, at),
        };
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            let piece = match (manifest, what) {
                (None, _) => None,
                (Some(manifest), What::Manifest | What::Newest) => Some(manifest.to_vec()),
                (Some(_), What::File(file)) => {
                    let length = usize::try_from(length.min(PIECE_BYTES)).unwrap_or(0);
                    let read = core
                        .ground
                        .read_file(partition.0, file, offset, length)
                        .await;
                    read.inspect_err(|error| tracing::warn!("a snapshot: {error}"))
                        .ok()
                }
            };
            core.send_piece(from, ticket, piece.as_deref());
            core.hurry();
        });
        Some(())
    }

    /// Returns the list of files of a snapshot that is being given.
    fn piece_of(&self, partition: PartitionId, at: Index) -> Option<Rc<[u8]>> {
        let mut snapshots = self.snapshots()?.borrow_mut();
        let given = snapshots
            .given
            .get_mut(&partition)
            .filter(|given| given.at == at)?;
        given.used = self.reactor.now();
        Some(Rc::clone(&given.manifest))
    }

    /// Returns the list of files of a snapshot that holds the entries up to `least` at least: the one that is being
    /// given, or a new one, when this replica leads and has one.
    fn newest_of(&self, partition: PartitionId, least: Index) -> Option<Rc<[u8]>> {
        let mut snapshots = self.snapshots()?.borrow_mut();
        let now = self.reactor.now();
        let given = snapshots.given.get_mut(&partition);
        if let Some(given) = given.filter(|given| given.at >= least) {
            given.used = now;
            return Some(Rc::clone(&given.manifest));
        }
        let mut data = self.data.borrow_mut();
        let owned = data.owned.get_mut(partition.0 as usize)?.as_mut()?;
        let snapshot = match owned.partition.leads() {
            true => owned.partition.snapshot_of(least)?,
            false => return None,
        };
        let mut manifest = Vec::new();
        snapshot.edit.encode(&mut manifest);
        // Who was offered the one before is offered another when nobody asks any more.
        let before = snapshots.given.remove(&partition);
        let given = Given {
            at: snapshot.core.at.index,
            manifest: manifest.into(),
            to: before.map(|before| before.to).unwrap_or_default(),
            used: now,
        };
        let manifest = Rc::clone(&given.manifest);
        snapshots.given.insert(partition, given);
        Some(manifest)
    }

    fn send_piece(&self, to: NodeId, ticket: u64, piece: Option<&[u8]>) {
        let Some(cluster) = &self.cluster else { return };
        let head = [&ticket.to_le_bytes()[..], &[u8::from(piece.is_none())]].concat();
        let parts = [&head, piece.unwrap_or_default()];
        let id = PartitionId(0);
        // What is not taken is asked for again.
        if cluster
            .peers
            .queue(to, Lane::Bulk, kind::FETCHED, id, &parts)
            == Queued::Full
        {
            cluster
                .peers
                .disconnect(to, "it takes pieces of a snapshot too slowly");
        }
    }

    /// Takes in a piece that was asked for.
    pub(super) fn take_fetched(&self, bytes: &[u8]) -> Option<()> {
        let (ticket, rest) = bytes.split_first_chunk()?;
        let (outcome, piece) = rest.split_first()?;
        let piece = (*outcome == 0).then(|| piece.to_vec());
        let mut snapshots = self.snapshots()?.borrow_mut();
        if let Some(asked) = snapshots.pieces.get_mut(&u64::from_le_bytes(*ticket)) {
            asked.bytes = Some(piece);
            asked.waker.take().into_iter().for_each(Waker::wake);
        }
        Some(())
    }

    /// Takes in that the connection to a node is lost.
    pub(super) fn pieces_lost(&self, node: NodeId) {
        let Some(snapshots) = self.snapshots() else {
            return;
        };
        for piece in snapshots.borrow_mut().pieces.values_mut() {
            if piece.node == node && piece.bytes.is_none() {
                piece.bytes = Some(None);
                piece.waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Begins to receive a snapshot that was offered.
    pub(super) fn receive_snapshot(
        self: &Rc<Self>,
        partition: PartitionId,
        from: Member,
        at: LogPosition,
    ) {
        let Some(snapshots) = self.snapshots() else {
            return;
        };
        if !snapshots.borrow_mut().receiving.insert(partition) {
            return;
        }
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            let received = core.receive_files(partition, from.node, at.index).await;
            match received {
                Ok(bytes) => tracing::info!(
                    "received a snapshot of partition {partition} as of entry {}: {bytes} bytes",
                    at.index
                ),
                Err(error) => tracing::warn!("a snapshot of partition {partition}: {error}"),
            }
            if let Some(snapshots) = core.snapshots() {
                snapshots.borrow_mut().receiving.remove(&partition);
            }
            core.hurry();
        });
    }

    /// Receives the files of a snapshot that are not here, and has the partition take it over; returns
    /// the bytes received.
    async fn receive_files(
        self: &Rc<Self>,
        partition: PartitionId,
        from: NodeId,
        at: Index,
    ) -> Result<u64, String> {
        let request = (partition, at);
        let manifest = self
            .fetch_piece(from, request, What::Manifest, (0, 0))
            .await?;
        let edit = Edit::decode(&manifest).map_err(|malformed| malformed.to_string())?;
        let fits = edit.partition == partition.0
            && edit.flushed.is_some_and(|flushed| flushed.index == at.0);
        if !fits {
            return Err("it is of another partition or entry".to_owned());
        }
        let mut bytes = 0;
        for expected in Expected::all_of(&edit) {
            let has = self.with_partition(partition, |of| of.has_file(expected.file));
            if !has {
                self.receive_file(from, request, expected).await?;
                bytes += expected.bytes;
            }
        }
        let opened = self.ground.open_snapshot(&edit).await;
        let opened = opened.map_err(|error| error.to_string())?;
        self.with_partition(partition, |of| of.install(edit, opened));
        Ok(bytes)
    }

    /// Receives one file.
    pub(super) async fn receive_file(
        self: &Rc<Self>,
        from: NodeId,
        request: (PartitionId, Index),
        expected: Expected,
    ) -> Result<(), String> {
        let mut coming = VecDeque::new();
        let received = self
            .receive_pieces(from, request, expected, &mut coming)
            .await;
        if let Some(snapshots) = self.snapshots() {
            let pieces = &mut snapshots.borrow_mut().pieces;
            for (ticket, _) in coming {
                pieces.remove(&ticket);
            }
        }
        received
    }

    /// Receives the pieces of a file; those that are on their way when one fails stay in `coming`.
    async fn receive_pieces(
        self: &Rc<Self>,
        from: NodeId,
        request: (PartitionId, Index),
        expected: Expected,
        coming: &mut VecDeque<(u64, (u64, u32))>,
    ) -> Result<(), String> {
        let Expected { file, bytes, .. } = expected;
        let mut sink = self.ground.write_file(request.0.0, expected).await;
        let mut offsets = (0..bytes).step_by(PIECE_BYTES as usize);
        loop {
            while coming.len() < PIECES_INFLIGHT
                && let Some(offset) = offsets.next()
            {
                let left = u32::try_from(bytes - offset).unwrap_or(u32::MAX);
                let place = (offset, left.min(PIECE_BYTES));
                let ticket = self.ask_piece(from, request, What::File(file), place)?;
                coming.push_back((ticket, place));
            }
            let Some((ticket, (offset, length))) = coming.pop_front() else {
                break;
            };
            let piece = self.piece(ticket).await?;
            if piece.len() != length as usize {
                return Err(format!(
                    "a piece of {} bytes, expected {length}",
                    piece.len()
                ));
            }
            sink.write(offset, &piece)
                .await
                .map_err(|error| error.to_string())?;
        }
        sink.finish().await.map_err(|error| error.to_string())
    }

    pub(super) async fn fetch_piece(
        &self,
        from: NodeId,
        request: (PartitionId, Index),
        what: What,
        place: (u64, u32),
    ) -> Result<Vec<u8>, String> {
        let ticket = self.ask_piece(from, request, what, place)?;
        self.piece(ticket).await
    }

    /// Asks for a piece; returns the ticket to wait with.
    fn ask_piece(
        &self,
        from: NodeId,
        (partition, at): (PartitionId, Index),
        what: What,
        (offset, length): (u64, u32),
    ) -> Result<u64, String> {
        let (Some(cluster), Some(snapshots)) = (&self.cluster, self.snapshots()) else {
            return Err("there is no cluster".to_owned());
        };
        let mut snapshots = snapshots.borrow_mut();
        snapshots.last_ticket += 1;
        let ticket = snapshots.last_ticket;
        let mut bytes = ticket.to_le_bytes().to_vec();
        encode_request(at, what, (offset, length), &mut bytes);
        let queued = cluster
            .peers
            .queue(from, Lane::Bulk, kind::FETCH, partition, &[&bytes]);
        if queued != Queued::Taken {
            return Err(format!("node {} cannot be reached", from.0));
        }
        let piece = Piece {
            node: from,
            bytes: None,
            waker: None,
        };
        snapshots.pieces.insert(ticket, piece);
        Ok(ticket)
    }

    /// Waits for a piece.
    async fn piece(&self, ticket: u64) -> Result<Vec<u8>, String> {
        let piece = poll_fn(|context| {
            let Some(snapshots) = self.snapshots() else {
                return Poll::Ready(None);
            };
            let mut snapshots = snapshots.borrow_mut();
            let Some(piece) = snapshots.pieces.get_mut(&ticket) else {
                return Poll::Ready(None);
            };
            let Some(bytes) = piece.bytes.take() else {
                piece.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            snapshots.pieces.remove(&ticket);
            Poll::Ready(bytes)
        });
        piece
            .await
            .ok_or_else(|| "the node that gives it has let go of it, or was lost".to_owned())
    }

    pub(super) fn with_partition<T>(
        &self,
        partition: PartitionId,
        run: impl FnOnce(&mut ashlar_partition::Partition) -> T,
    ) -> T {
        let number = usize::try_from(partition.0).expect("partitions are counted in u32");
        debug_assert_eq!(partition_id(number), partition);
        run(&mut self.data.borrow_mut().owned_mut(number).partition)
    }
}
