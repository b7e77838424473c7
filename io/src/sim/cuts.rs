//! Ways between nodes that are cut: what is on them waits, and after long enough its sender gives
//! up. Not partitions of a cluster as such: each cut is one way between two nodes.
//!
//! Invariant: what was held arrives after the way is mended, in its order, unless its sender gave
//! up; then a reset arrives.

use super::heap::{EndId, Kind};
use super::state::State;

/// Shortest time that a sender waits for a cut to end, in nanoseconds.
pub(super) const PATIENCE_MIN_NS: u64 = 5_000_000_000;
/// Longest such time, in nanoseconds.
pub(super) const PATIENCE_MAX_NS: u64 = 30_000_000_000;

impl State {
    /// The sender of a segment that has been held by a cut since long ago stops trying.
    pub(super) fn give_up(&mut self, to: EndId) {
        let now = self.now();
        let Some(end) = self.net.end(to) else { return };
        if end
            .held_since
            .is_some_and(|since| now >= since + PATIENCE_MIN_NS)
        {
            end.reset_held = true;
            self.mark("connection timed out");
            self.fail(to.peer(), libc::ETIMEDOUT);
        }
    }

    /// Cuts the way from one node to another; what is on it is held.
    pub(super) fn cut(&mut self, from: u32, to: u32, until: u64) {
        let end = self.net.cuts.entry((from, to)).or_insert(until);
        *end = until.max(*end);
        if until < u64::MAX {
            self.heap.push(until, Kind::Mend(from, to));
        }
    }

    pub(super) fn mend_if_due(&mut self, from: u32, to: u32) {
        if self
            .net
            .cuts
            .get(&(from, to))
            .is_some_and(|until| *until <= self.now())
        {
            self.mend(from, to);
        }
    }

    pub(super) fn mend_all(&mut self) {
        let cuts: Vec<(u32, u32)> = self.net.cuts.keys().copied().collect();
        for (from, to) in cuts {
            self.mend(from, to);
        }
    }

    /// Opens a way again; what was held arrives after the usual delay.
    pub(super) fn mend(&mut self, from: u32, to: u32) {
        self.net.cuts.remove(&(from, to));
        let mut released = Vec::new();
        for (conn, ends) in &mut self.net.conns {
            for side in 0..2_u8 {
                let matches =
                    ends[usize::from(side)].node == to && ends[usize::from(1 - side)].node == from;
                let end = &mut ends[usize::from(side)];
                if matches && (end.held_since.take().is_some() || end.reset_held) {
                    released.push((EndId { conn: *conn, side }, end.reset_held));
                }
            }
        }
        for (end, reset) in released {
            self.release(end, reset);
        }
    }

    fn release(&mut self, to: EndId, reset: bool) {
        if reset {
            return self.send_reset(to);
        }
        let Some(end) = self.net.end(to) else { return };
        let latency_ns = end.latency_ns;
        let at = self.draw_arrival(latency_ns);
        let Some(end) = self.net.end(to) else { return };
        // The held segments travel again, together; those behind them keep their order.
        for segment in &mut end.arriving {
            segment.at = segment.at.max(at);
        }
        end.last_arrival = end.last_arrival.max(at);
        let times: Vec<u64> = end.arriving.iter().map(|segment| segment.at).collect();
        for at in times {
            self.heap.push(at, Kind::Arrive(to));
        }
    }
}
