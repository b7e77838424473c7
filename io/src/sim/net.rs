//! What travels between simulated nodes: byte streams that are delayed, chopped, cut and reset.
//! Not the operations on sockets (`sockets.rs`), nor when ways are cut and mended (`cuts.rs`).
//!
//! Invariants:
//! 1. The bytes of one direction arrive in order and once, or the connection ends with an error.
//! 2. `unread` of an end counts the bytes that its peer sent and it has not taken; it never exceeds
//!    [`SEND_BUFFER_BYTES`].
//! 3. A connection is forgotten when neither end has a handle; events that come later find nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::cuts::{PATIENCE_MAX_NS, PATIENCE_MIN_NS};
use super::heap::{EndId, Kind};
use super::state::{State, Stream, os};
use crate::buffer::Chunk;
use crate::op::{Completion, Handle, OpId, Value};

/// Bytes that a sender may be ahead of the receiver's reads.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Largest piece that one receive yields, in bytes.
const CHUNK_BYTES_MAX: usize = 16 << 10;

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// The peer sends no more.
    End,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) at: u64,
    piece: Piece,
}

/// Whether a send's bytes are the kernel's own once it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Copied,
    /// The sender gets them back some time after the answer.
    Lent,
}

/// A send that waits for room at the peer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: OpId,
    pub(super) bytes: Vec<u8>,
    pub(super) way: Way,
}

/// One end of a connection, and what is on its way to it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) shard: u32,
    pub(super) node: u32,
    pub(super) addr: SocketAddr,
    /// None once closed.
    pub(super) handle: Option<Handle>,
    pub(super) recv: Option<OpId>,
    /// Sends that wait for room.
    pub(super) sends: VecDeque<Waiting>,
    pub(super) inbox: VecDeque<u8>,
    pub(super) unread: usize,
    /// The peer's end of stream has arrived.
    pub(super) ended: bool,
    /// This end has sent its end of stream.
    pub(super) shut: bool,
    pub(super) error: Option<i32>,
    pub(super) arriving: VecDeque<Segment>,
    pub(super) latency_ns: u64,
    pub(super) last_arrival: u64,
    /// When a cut stopped what arrives.
    pub(super) held_since: Option<u64>,
    pub(super) reset_held: bool,
}

impl End {
    pub(super) fn new(shard: u32, node: u32, addr: SocketAddr, latency_ns: u64) -> Self {
        Self {
            shard,
            node,
            addr,
            handle: None,
            recv: None,
            sends: VecDeque::new(),
            inbox: VecDeque::new(),
            unread: 0,
            ended: false,
            shut: false,
            error: None,
            arriving: VecDeque::new(),
            latency_ns,
            last_arrival: 0,
            held_since: None,
            reset_held: false,
        }
    }

    /// Takes `n` bytes out of the inbox; all of them without a copy.
    fn take(&mut self, n: usize) -> Vec<u8> {
        self.unread -= n;
        if n == self.inbox.len() {
            return std::mem::take(&mut self.inbox).into();
        }
        let (front, _) = self.inbox.make_contiguous().split_at(n);
        let taken = front.to_vec();
        self.inbox.drain(..n);
        taken
    }

    /// Throws away what has arrived and was not read.
    pub(super) fn clear_inbox(&mut self) {
        self.unread -= self.inbox.len();
        self.inbox.clear();
    }

    fn pop_arrived(&mut self, now: u64) -> Option<Piece> {
        self.arriving.front().filter(|segment| segment.at <= now)?;
        self.arriving.pop_front().map(|segment| segment.piece)
    }
}

/// A connection request on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) shard: u32,
    pub(super) id: OpId,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) tries: u32,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) shard: u32,
    pub(super) addr: SocketAddr,
    pub(super) accept: Option<OpId>,
    pub(super) backlog: VecDeque<Handle>,
}

/// All connections, listeners and cuts of a world.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) conns: BTreeMap<u32, [End; 2]>,
    pub(super) conns_made: u32,
    pub(super) listeners: BTreeMap<Handle, Listener>,
    pub(super) attempts: BTreeMap<u32, Attempt>,
    pub(super) attempts_made: u32,
    /// Ways (from, to) that are cut, and until when.
    pub(super) cuts: BTreeMap<(u32, u32), u64>,
}

impl Net {
    pub(super) fn end(&mut self, end: EndId) -> Option<&mut End> {
        self.conns
            .get_mut(&end.conn)
            .map(|ends| &mut ends[usize::from(end.side)])
    }

    pub(super) fn is_cut(&self, from: u32, to: u32) -> bool {
        !self.cuts.is_empty() && self.cuts.contains_key(&(from, to))
    }

    fn is_cut_towards(&self, end: EndId) -> bool {
        let Some(ends) = self.conns.get(&end.conn) else {
            return false;
        };
        let (to, from) = (
            &ends[usize::from(end.side)],
            &ends[usize::from(1 - end.side)],
        );
        self.is_cut(from.node, to.node)
    }
}

/// What happens on the way.
impl State {
    pub(super) fn net_chance(&mut self, p: f64, name: &'static str) -> bool {
        let hit = self.streams.net.chance(p);
        if hit {
            self.mark(name);
        }
        hit
    }

    /// Draws the base latency of a direction.
    pub(super) fn draw_latency(&mut self, from: u32, to: u32) -> u64 {
        let (min, max) = (
            self.faults.net.latency_min_ns,
            self.faults.net.latency_max_ns,
        );
        let range = if from == to {
            5_000..30_000
        } else {
            min..max.max(min + 1)
        };
        self.streams.net.range(range)
    }

    /// Draws when something that leaves now reaches `end`.
    pub(super) fn draw_arrival(&mut self, latency_ns: u64) -> u64 {
        let tail = self
            .streams
            .net
            .exponential(self.faults.net.latency_tail_ns);
        self.now() + 1 + latency_ns + tail
    }

    fn transmit(&mut self, to: EndId, piece: Piece) {
        let Some(latency_ns) = self.net.end(to).map(|end| end.latency_ns) else {
            return;
        };
        let drawn = self.draw_arrival(latency_ns);
        let Some(end) = self.net.end(to) else { return };
        let at = drawn.max(end.last_arrival);
        end.last_arrival = at;
        end.arriving.push_back(Segment { at, piece });
        self.heap.push(at, Kind::Arrive(to));
    }

    /// Takes as many bytes as there is room for; returns how many.
    pub(super) fn send_bytes(&mut self, from: EndId, bytes: &[u8]) -> usize {
        let to = from.peer();
        let Some(peer) = self.net.end(to) else {
            return 0;
        };
        let mut n = bytes.len().min(SEND_BUFFER_BYTES - peer.unread);
        if n > 1 && self.net_chance(self.faults.net.partial_send, "partial send") {
            n = 1 + self.streams.net.index(n - 1);
        }
        if n > 0 {
            self.weather(from);
            self.net.end(to).expect("it was there above").unread += n;
            self.transmit(to, Piece::Bytes(bytes[..n].to_vec()));
        }
        n
    }

    /// Draws whether a segment's leaving is the moment of a reset or the beginning of a cut.
    fn weather(&mut self, from: EndId) {
        if self.net_chance(self.faults.net.reset, "connection reset") {
            self.send_reset(from);
            self.send_reset(from.peer());
        }
        if self.net_chance(self.faults.net.cut, "way cut") {
            let ends = &self.net.conns[&from.conn];
            let nodes = (
                ends[usize::from(from.side)].node,
                ends[usize::from(1 - from.side)].node,
            );
            let length = 1 + self.streams.net.exponential(self.faults.net.cut_mean_ns);
            self.cut(nodes.0, nodes.1, self.now() + length);
        }
    }

    pub(super) fn send_end(&mut self, from: EndId) {
        self.transmit(from.peer(), Piece::End);
    }

    pub(super) fn send_reset(&mut self, to: EndId) {
        let Some(end) = self.net.end(to) else { return };
        let latency_ns = end.latency_ns;
        let at = self.draw_arrival(latency_ns);
        self.heap.push(at, Kind::Reset(to));
    }

    pub(super) fn arrive(&mut self, to: EndId) {
        let now = self.now();
        let cut = self.net.is_cut_towards(to);
        let Some(end) = self.net.end(to) else { return };
        if end.held_since.is_some() {
            return;
        }
        if cut && !end.arriving.is_empty() {
            end.held_since = Some(now);
            let patience = self.streams.net.range(PATIENCE_MIN_NS..PATIENCE_MAX_NS);
            self.heap.push(now + patience, Kind::GiveUp(to));
            return;
        }
        while let Some(piece) = end.pop_arrived(now) {
            let deaf = end.handle.is_none() || end.error.is_some();
            match piece {
                Piece::End => end.ended = true,
                // Data for a closed or broken socket is answered with a reset.
                Piece::Bytes(_) if deaf => return self.send_reset(to.peer()),
                Piece::Bytes(bytes) if end.shut => end.unread -= bytes.len(),
                Piece::Bytes(bytes) if end.inbox.is_empty() => end.inbox = bytes.into(),
                Piece::Bytes(bytes) => end.inbox.extend(bytes),
            }
        }
        self.pump(to);
        self.unblock(to.peer());
    }

    /// Yields what has arrived to the receive stream, if one is armed.
    pub(super) fn pump(&mut self, at: EndId) {
        loop {
            let Some(end) = self.net.end(at) else { return };
            let (Some(id), shard, node) = (end.recv, end.shard, end.node) else {
                return;
            };
            let (waiting, ended) = (end.inbox.len(), end.ended || end.shut);
            if self.is_paused(node) || waiting == 0 && !ended {
                return;
            }
            if waiting == 0 {
                return self.end_recv(at, Ok(Value::Chunk(Chunk::heap(Vec::new()))));
            }
            if self.net_chance(self.faults.net.no_buffers, "no receive buffers") {
                return self.end_recv(at, Err(os(libc::ENOBUFS)));
            }
            let n = self.draw_chunk(waiting);
            let Some(end) = self.net.end(at) else { return };
            let chunk = Chunk::heap(end.take(n));
            let result = Ok(Value::Chunk(chunk));
            self.complete(
                shard,
                Completion {
                    id,
                    result,
                    more: true,
                },
            );
            self.unblock(at.peer());
        }
    }

    fn draw_chunk(&mut self, waiting: usize) -> usize {
        let max = waiting.min(CHUNK_BYTES_MAX);
        if max > 1 && self.net_chance(self.faults.net.chop, "chunk chopped") {
            // Small pieces are as likely as large ones, and bytes one by one the likeliest.
            let bits = self.streams.net.below(u64::from(max.ilog2()) + 1);
            return (1 + self.streams.net.index(1 << bits)).min(max);
        }
        max
    }

    /// Ends an armed receive stream with its last completion.
    pub(super) fn end_recv(&mut self, at: EndId, result: std::io::Result<Value>) {
        let Some(end) = self.net.end(at) else { return };
        let (shard, recv) = (end.shard, end.recv.take());
        if let Some(id) = recv {
            self.shards[shard as usize].streams.remove(&id);
            self.complete(
                shard,
                Completion {
                    id,
                    result,
                    more: false,
                },
            );
        }
    }

    /// Goes on with the sends that wait for room at the peer.
    pub(super) fn unblock(&mut self, from: EndId) {
        let Some(end) = self.net.end(from) else {
            return;
        };
        let shard = end.shard;
        if end.sends.is_empty() {
            return;
        }
        while let Some(send) = self.net.end(from).and_then(|end| end.sends.pop_front()) {
            let n = self.send_bytes(from, &send.bytes);
            if n == 0 && !send.bytes.is_empty() {
                if let Some(end) = self.net.end(from) {
                    end.sends.push_front(send);
                }
                return;
            }
            self.shards[shard as usize].streams.remove(&send.id);
            self.answer_send((shard, send.id), send.way, Ok(Value::Count(n)));
        }
    }

    /// Fails the sends that wait for room.
    pub(super) fn fail_sends(&mut self, at: EndId, errno: i32) {
        let Some(end) = self.net.end(at) else { return };
        let (shard, sends) = (end.shard, std::mem::take(&mut end.sends));
        for send in sends {
            self.shards[shard as usize].streams.remove(&send.id);
            self.answer_send((shard, send.id), send.way, Err(os(errno)));
        }
    }

    pub(super) fn reset_arrives(&mut self, at: EndId) {
        let cut = self.net.is_cut_towards(at);
        if let Some(end) = self.net.end(at) {
            end.reset_held = cut;
            if !cut {
                self.fail(at, libc::ECONNRESET);
            }
        }
    }

    /// The connection is broken at this end: what was received and not read is gone.
    pub(super) fn fail(&mut self, at: EndId, errno: i32) {
        let Some(end) = self.net.end(at) else { return };
        end.error = Some(end.error.unwrap_or(errno));
        end.arriving.clear();
        end.inbox.clear();
        end.unread = 0;
        self.end_recv(at, Err(os(errno)));
        self.fail_sends(at, errno);
    }

    /// Goes on with the receive streams of a node that was paused.
    pub(super) fn pump_all(&mut self, node: u32) {
        let mut ends = Vec::new();
        for (conn, pair) in &self.net.conns {
            for side in 0..2_u8 {
                if pair[usize::from(side)].node == node {
                    ends.push(EndId { conn: *conn, side });
                }
            }
        }
        for end in ends {
            self.pump(end);
        }
    }

    /// Removes an op that waits on a connection; says whether it was there.
    pub(super) fn cancel_on_end(&mut self, at: EndId, id: OpId, stream: Stream) -> bool {
        let Some(end) = self.net.end(at) else {
            return false;
        };
        if matches!(stream, Stream::Recv(_)) {
            return end.recv.take_if(|recv| *recv == id).is_some();
        }
        let before = end.sends.len();
        end.sends.retain(|send| send.id != id);
        end.sends.len() < before
    }

    /// Forgets a connection when both of its ends are closed.
    pub(super) fn forget_if_closed(&mut self, conn: u32) {
        let closed = |ends: &[End; 2]| ends.iter().all(|end| end.handle.is_none());
        if self.net.conns.get(&conn).is_some_and(closed) {
            self.net.conns.remove(&conn);
        }
    }
}
