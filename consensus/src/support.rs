//! Liveness, per node instead of per group: what the nodes of a cluster have promised each other, as
//! one shard of one node knows it. Not who leads what: the replicas ask here whether they are bound
//! to a leader and how long a lease lasts.
//!
//! Each node asks every node that it shares groups with for *support*, four times per lease. A promise
//! holds for its whole duration, counted by the supporter from when the request came in and by the
//! requester from when it sent it, less a margin for clocks that run differently. So the requester
//! stops relying on it before the supporter stops keeping it, without clocks that agree.
//!
//! A promise that lapses is never taken up again: the next one has another *epoch*. A replica that
//! follows a leader is bound to it by the promise in force at that time, and tells its epoch in its
//! answers; the leader counts it only while the promise that it hears of has the same epoch. A restart
//! of either side is another epoch too.
//!
//! Invariants:
//! 1. While a requester holds a promise of some epoch to be valid, its supporter keeps it.
//! 2. Epochs of a supporter towards a requester only grow, over restarts too.
//! 3. Promises are not durable: a node that was started anew may have given some, so it is
//!    *quarantined* for the longest duration of one: it neither votes nor stands for election.
//!
//! Bytes, little-endian: request: incarnation u32, duration in ms u32, sequence u64, sent u64.
//! support: incarnation u32, duration u32, sequence u64, sent u64 (all of the request), epoch u64.
//!
//! Source: CockroachDB's store liveness; the margin as in Gray and Cheriton, "Leases", SOSP 1989.

use crate::types::{Incarnation, Mono, NodeId};
use crate::wire::{Malformed, Reader};

/// Most nodes that a shard exchanges support with; requests of further ones are not answered.
pub const NODES_MAX: usize = 1024;

/// A promise's identity: the supporter's incarnation in the upper half, a counter in the lower. Zero
/// is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SupportEpoch(pub u64);

impl SupportEpoch {
    /// No promise.
    pub const NONE: Self = Self(0);
}

/// A node asks another one to support it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestSupport {
    /// The requester's life.
    pub incarnation: Incarnation,
    /// How long, in milliseconds.
    pub duration_ms: u32,
    /// Counts the requester's requests to this node.
    pub sequence: u64,
    /// When it was sent, by the requester's clock.
    pub sent: Mono,
}

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// What it answers.
    pub request: RequestSupport,
    /// The promise that was begun or prolonged.
    pub epoch: SupportEpoch,
}

impl RequestSupport {
    /// Appends the 24 bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.duration_ms.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.sent.0.to_le_bytes());
    }

    /// Decodes a request from exactly `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when there are not 24 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let request = Self::read(&mut reader)?;
        reader.end().map(|()| request)
    }

    /// Reads a request.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            incarnation: Incarnation(reader.u32()?),
            duration_ms: reader.u32()?,
            sequence: reader.u64()?,
            sent: Mono(reader.u64()?),
        })
    }
}

impl Support {
    /// Appends the 32 bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.request.encode(out);
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
    }

    /// Decodes a promise from exactly `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when there are not 32 bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let request = RequestSupport::read(&mut reader)?;
        let epoch = SupportEpoch(reader.u64()?);
        reader.end().map(|()| Self { request, epoch })
    }
}

/// Whether an earlier life of the node may have given promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierPromises {
    /// It may have: the node is quarantined.
    Possible,
    /// It never spoke to another node, or the host knows that all of them are over.
    None,
}

/// Whether the shard's disk gets writes done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// It does.
    Working,
    /// It has made no progress for too long: no support is asked for, so that what the node leads
    /// goes to nodes that can do the work.
    Stalled,
}

/// What support is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportOptions {
    /// How long a promise lasts, in milliseconds.
    pub lease_ms: u32,
    /// The longest promise that any node of the cluster asks for, in milliseconds: longer ones are
    /// not given, and this is how long a quarantine lasts.
    pub promise_max_ms: u32,
}

impl Default for SupportOptions {
    fn default() -> Self {
        Self {
            lease_ms: 400,
            promise_max_ms: 400,
        }
    }
}

/// What a shard knows of one other node.
#[derive(Clone, Copy, Debug)]
struct Peer {
    node: NodeId,
    /// Whether the host wants support of this node.
    wanted: bool,
    /// Its last request's number, of ours to it.
    sequence: u64,
    /// When the next request is due.
    request_at: Mono,
    /// The promise that it gave: until when it can be relied on.
    received: SupportEpoch,
    valid_until: Mono,
    /// Whether the host was told that it is valid.
    was_valid: bool,
    /// The promise that we gave, to which life, until when it is kept.
    given: SupportEpoch,
    incarnation: Incarnation,
    kept_until: Mono,
    /// Whether the host was told that it is kept.
    was_kept: bool,
}

/// What [`Supports::tick`] wants done.
#[derive(Clone, Debug, Default)]
pub struct SupportOutput {
    /// Requests to be sent.
    pub requests: Vec<(NodeId, RequestSupport)>,
    /// Nodes whose promise to us, or ours to them, has begun or ended: [`crate::raft::Raft::support_changed`]
    /// is to be called for the groups shared with them.
    pub changed: Vec<NodeId>,
}

/// The promises between one shard and its counterparts on other nodes.
#[derive(Clone, Debug)]
pub struct Supports {
    incarnation: Incarnation,
    options: SupportOptions,
    quarantined_until: Mono,
    /// Counts the promises that were begun, to whomever.
    begun: u32,
    /// Ordered by node.
    peers: Vec<Peer>,
}

impl Supports {
    /// Returns the state of a shard that was started at `now` in a life of its node.
    #[must_use]
    pub fn new(
        incarnation: Incarnation,
        earlier: EarlierPromises,
        options: SupportOptions,
        now: Mono,
    ) -> Self {
        let quarantined_until = match earlier {
            EarlierPromises::Possible => now.plus_ms(options.promise_max_ms),
            EarlierPromises::None => now,
        };
        Self {
            incarnation,
            options,
            quarantined_until,
            begun: 0,
            peers: Vec::new(),
        }
    }

    /// Asks `node` for support from now on.
    pub fn want(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_or_new(node) {
            peer.wanted = true;
        }
    }

    /// No longer asks `node` for support. Promises are kept until they lapse.
    pub fn unwant(&mut self, node: NodeId) {
        if let Some(peer) = self.peer_mut(node) {
            peer.wanted = false;
        }
    }

    /// Adds to `out` the requests that are due and the nodes whose support has begun or ended.
    pub fn tick(&mut self, now: Mono, disk: Disk, out: &mut SupportOutput) {
        let (incarnation, lease_ms) = (self.incarnation, self.options.lease_ms);
        for peer in &mut self.peers {
            if peer.note_changes(now) {
                out.changed.push(peer.node);
            }
            if !peer.wanted || now < peer.request_at {
                continue;
            }
            if disk == Disk::Stalled {
                // Asks again soon: the disk may be back.
                peer.request_at = now.plus_ms(lease_ms / 16 + 1);
            } else {
                peer.request_at = now.plus_ms(lease_ms / 4);
                peer.sequence += 1;
                let request = RequestSupport {
                    incarnation,
                    duration_ms: lease_ms,
                    sequence: peer.sequence,
                    sent: now,
                };
                out.requests.push((peer.node, request));
            }
        }
    }

    /// Returns when [`Self::tick`] has something to do; none when no node is wanted and nothing is
    /// promised.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.peers.iter().filter_map(Peer::deadline).min()
    }

    /// Takes in the request of another node; returns the promise to send back, if one is given.
    pub fn requested(
        &mut self,
        now: Mono,
        from: NodeId,
        request: &RequestSupport,
    ) -> Option<Support> {
        if request.duration_ms > self.options.promise_max_ms {
            return None;
        }
        let next = u64::from(self.incarnation.0) << 32 | u64::from(self.begun + 1);
        let peer = self.peer_or_new(from)?;
        if request.incarnation < peer.incarnation {
            return None;
        }
        let prolongs = request.incarnation == peer.incarnation && peer.kept_until > now;
        let until = now.plus_ms(request.duration_ms);
        if prolongs {
            peer.kept_until = peer.kept_until.max(until);
        } else {
            // The host hears of the new promise at the next tick, even if it never heard that the
            // one before ended.
            peer.was_kept = false;
            (peer.given, peer.incarnation) = (SupportEpoch(next), request.incarnation);
            peer.kept_until = until;
        }
        let support = Support {
            request: *request,
            epoch: peer.given,
        };
        self.begun += u32::from(!prolongs);
        Some(support)
    }

    /// Takes in the promise of another node.
    pub fn supported(&mut self, now: Mono, from: NodeId, support: &Support) {
        let incarnation = self.incarnation;
        let Some(peer) = self.peer_mut(from) else {
            return;
        };
        let request = support.request;
        let ours = request.incarnation == incarnation && request.sequence <= peer.sequence;
        if !ours || support.epoch < peer.received {
            return;
        }
        if support.epoch > peer.received {
            peer.received = support.epoch;
            peer.valid_until = Mono(0);
        }
        if peer.valid_until <= now {
            // The host hears that it is valid again, even if it never heard that it was not.
            peer.was_valid = false;
        }
        let until = request.sent.plus_ns(relied_on_ns(request.duration_ms));
        peer.valid_until = peer.valid_until.max(until);
    }

    /// Returns until when the promise of `epoch` that `node` gave can be relied on; the beginning of
    /// time when it gave no such promise.
    #[must_use]
    pub fn valid_until(&self, node: NodeId, epoch: SupportEpoch) -> Mono {
        let peer = self.peer(node);
        let peer = peer.filter(|peer| epoch != SupportEpoch::NONE && peer.received == epoch);
        peer.map_or(Mono(0), |peer| peer.valid_until)
    }

    /// Returns the epoch of the promise that `node` gave, if it can be relied on at `now`.
    #[must_use]
    pub fn received(&self, now: Mono, node: NodeId) -> Option<SupportEpoch> {
        let peer = self.peer(node)?;
        (peer.valid_until > now).then_some(peer.received)
    }

    /// Returns the epoch of the latest promise that `node` gave, valid or not.
    #[must_use]
    pub fn epoch(&self, node: NodeId) -> SupportEpoch {
        self.peer(node)
            .map_or(SupportEpoch::NONE, |peer| peer.received)
    }

    /// Returns the epoch of the promise to `node` that is kept at `now`, if one is.
    #[must_use]
    pub fn given(&self, now: Mono, node: NodeId) -> Option<SupportEpoch> {
        let peer = self.peer(node)?;
        (peer.kept_until > now).then_some(peer.given)
    }

    /// Returns when the quarantine after the start ends.
    #[must_use]
    pub fn quarantined_until(&self) -> Mono {
        self.quarantined_until
    }

    /// Drops every promise that was received: the clock may have stood still while those of others
    /// went on, as it does when a machine is suspended.
    pub fn drop_received(&mut self) {
        for peer in &mut self.peers {
            peer.valid_until = Mono(0);
        }
    }

    /// Returns a node's state.
    fn peer(&self, node: NodeId) -> Option<&Peer> {
        let place = self.peers.binary_search_by_key(&node, |peer| peer.node);
        place.ok().map(|at| &self.peers[at])
    }

    /// Returns a node's state.
    fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        let place = self.peers.binary_search_by_key(&node, |peer| peer.node);
        place.ok().map(|at| &mut self.peers[at])
    }

    /// Returns a node's state, new if there is room.
    fn peer_or_new(&mut self, node: NodeId) -> Option<&mut Peer> {
        let place = self.peers.binary_search_by_key(&node, |peer| peer.node);
        match place {
            Ok(at) => Some(&mut self.peers[at]),
            Err(_) if self.peers.len() >= NODES_MAX => None,
            Err(at) => {
                self.peers.insert(at, Peer::new(node));
                Some(&mut self.peers[at])
            }
        }
    }
}

/// Returns how much of a promise its receiver relies on, in nanoseconds: a thousandth and a
/// millisecond less than all of it, as clocks run differently.
fn relied_on_ns(duration_ms: u32) -> u64 {
    let duration_ns = u64::from(duration_ms) * 1_000_000;
    duration_ns.saturating_sub(duration_ns / 1000 + 1_000_000)
}

impl Peer {
    /// Returns the state of a node that nothing is known of.
    fn new(node: NodeId) -> Self {
        Self {
            node,
            wanted: false,
            sequence: 0,
            request_at: Mono(0),
            received: SupportEpoch::NONE,
            valid_until: Mono(0),
            was_valid: false,
            given: SupportEpoch::NONE,
            incarnation: Incarnation(0),
            kept_until: Mono(0),
            was_kept: false,
        }
    }

    /// Notes which promises are in force, and forgets until when those were that are not; tells
    /// whether that has changed.
    fn note_changes(&mut self, now: Mono) -> bool {
        let (is_valid, is_kept) = (self.valid_until > now, self.kept_until > now);
        if !is_valid {
            self.valid_until = Mono(0);
        }
        if !is_kept {
            self.kept_until = Mono(0);
        }
        let changed = is_valid != self.was_valid || is_kept != self.was_kept;
        (self.was_valid, self.was_kept) = (is_valid, is_kept);
        changed
    }

    /// Returns when something is due.
    fn deadline(&self) -> Option<Mono> {
        let request = self.wanted.then_some(self.request_at);
        // What has begun and was not told of is due at once; what is told of, when it ends.
        let change = |until: Mono, told: bool| match (until, told) {
            (Mono(0), false) => None,
            (Mono(0), true) | (_, false) => Some(Mono(0)),
            (until, true) => Some(until),
        };
        let valid = change(self.valid_until, self.was_valid);
        let kept = change(self.kept_until, self.was_kept);
        [request, valid, kept].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
