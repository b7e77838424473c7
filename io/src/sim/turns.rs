//! Whose turn it is: readiness, timers, wakes, pauses, and the loop from event to event. Not what
//! events do to files and connections.
//!
//! Invariants:
//! 1. A shard that can do something is in `ready`, or an event that puts it there is scheduled, or
//!    its node is paused.
//! 2. Each shard's `timers` are strictly earlier the later they were pushed, and one of them comes
//!    no later than `wanted`.

use std::sync::atomic::Ordering;

use super::heap::Kind;
use super::state::{Readiness, State};
use crate::time::Monotonic;

/// Largest delay of a timer past its deadline, in nanoseconds.
const TIMER_SLACK_NS: u64 = 2_000;

impl State {
    pub(super) fn make_ready(&mut self, index: u32) {
        let shard = &self.shards[index as usize];
        if !shard.alive || shard.readiness != Readiness::Idle {
            return;
        }
        let paused = self.is_paused(shard.node);
        let held = !paused && self.streams.schedule.chance(self.faults.schedule.hold);
        if held {
            let delay = 1 + self
                .streams
                .schedule
                .below(self.faults.schedule.hold_max_ns.max(1));
            self.heap.push(self.now() + delay, Kind::Release(index));
            self.mark("shard held back");
        }
        self.shards[index as usize].readiness = Readiness::Held;
        if !paused && !held {
            self.list(index);
        }
    }

    /// Moves a shard that is held to the list of the ready.
    fn list(&mut self, index: u32) {
        let shard = &mut self.shards[index as usize];
        if shard.alive && shard.readiness == Readiness::Held {
            shard.readiness = Readiness::Listed;
            self.ready.push(index);
        }
    }

    /// Takes a paused node's shards off the list.
    pub(super) fn hold_all(&mut self, node: u32) {
        let shards = &mut self.shards;
        self.ready.retain(|index| {
            let shard = &mut shards[*index as usize];
            if shard.node == node {
                shard.readiness = Readiness::Held;
            }
            shard.node != node
        });
    }

    fn resume(&mut self, node: u32) {
        if self.is_paused(node) {
            return;
        }
        for index in self.live_on(node) {
            self.list(index);
        }
        self.pump_all(node);
    }

    /// Remembers when a shard wants its next turn, and schedules a timer unless one is due early
    /// enough.
    pub(super) fn park(&mut self, index: u32, deadline: Option<Monotonic>) {
        let shard = &self.shards[index as usize];
        let wanted = deadline.map(|local| self.nodes[&shard.node].clock.virtual_at(local));
        // A turn takes time: without that, a shard that polls would stop the world's clock.
        let least = if wanted.is_some_and(|at| at <= self.now()) {
            self.now() + self.streams.schedule.range(100..1_000)
        } else {
            0
        };
        self.shards[index as usize].wanted = wanted.map(|at| at.max(least));
        self.arm(index);
    }

    fn arm(&mut self, index: u32) {
        let Some(wanted) = self.shards[index as usize].wanted else {
            return;
        };
        let slack = self.streams.schedule.below(TIMER_SLACK_NS);
        let shard = &mut self.shards[index as usize];
        if shard
            .timers
            .last()
            .is_none_or(|earliest| *earliest > wanted + slack)
        {
            shard.timers.push(wanted + slack);
            self.heap.push(wanted + slack, Kind::Timer(index));
        }
    }

    fn timer(&mut self, index: u32) {
        let now = self.now();
        let shard = &mut self.shards[index as usize];
        if !shard.alive {
            return;
        }
        assert_eq!(shard.timers.pop(), Some(now), "timers fire in order");
        if shard.wanted.is_some_and(|wanted| wanted <= now) {
            shard.wanted = None;
            self.make_ready(index);
        } else {
            self.arm(index);
        }
    }

    fn collect_wakes(&mut self) {
        for n in 0..self.live.len() {
            let index = self.live[n];
            let shard = &mut self.shards[index as usize];
            if shard.wake.flag.load(Ordering::Relaxed) && !shard.wake_scheduled {
                shard.wake_scheduled = true;
                shard.wake.flag.store(false, Ordering::Relaxed);
                let delay = self.streams.schedule.range(500..50_000);
                self.heap.push(self.now() + delay, Kind::Wake(index));
            }
        }
    }

    /// Runs the world up to the next turn of a shard, but not past `limit`.
    pub(super) fn step(&mut self, limit: u64) -> Option<(u32, u32)> {
        self.collect_wakes();
        while self.ready.is_empty() {
            if self.heap.next_at().is_none_or(|at| at > limit) {
                return None;
            }
            let (at, kind) = self
                .heap
                .pop()
                .expect("the heap was just seen not to be empty");
            assert!(at >= self.now(), "time never goes back");
            self.clock.set(at);
            self.happen(kind);
        }
        let chosen = match self.ready.len() {
            1 => 0,
            n => self.streams.schedule.index(n),
        };
        let index = self.ready.swap_remove(chosen);
        let shard = &mut self.shards[index as usize];
        shard.readiness = Readiness::Idle;
        let turn = (shard.node, shard.shard);
        self.note(&[3, u64::from(turn.0), u64::from(turn.1)]);
        Some(turn)
    }

    fn happen(&mut self, kind: Kind) {
        match kind {
            Kind::Done(slot) => self.done(slot),
            Kind::Timer(index) => self.timer(index),
            Kind::Wake(index) => {
                self.shards[index as usize].wake_scheduled = false;
                self.make_ready(index);
            }
            Kind::Release(index) => {
                if !self.is_paused(self.shards[index as usize].node) {
                    self.list(index);
                }
            }
            Kind::Resume(node) => self.resume(node),
            Kind::Arrive(end) => self.arrive(end),
            Kind::Pump(end) => self.pump(end),
            Kind::Reset(end) => self.reset_arrives(end),
            Kind::GiveUp(end) => self.give_up(end),
            Kind::Connect(attempt) => self.connect_arrives(attempt),
            Kind::Mend(from, to) => self.mend_if_due(from, to),
        }
    }
}
