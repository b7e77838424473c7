//! Deadlines of one shard: a hierarchical wheel of 1 ms ticks. Not a clock: it is told the time.
//!
//! Four levels of 64 slots reach 4.6 hours; a deadline further off waits in the last slot and is
//! placed again when the wheel gets there. Setting and cancelling are O(1); finding the next
//! deadline scans at most 4 x 64 slots by bitmap.
//!
//! Invariants:
//! 1. A timer fires in the first `advance` whose time is at or past its deadline rounded up to the
//!    tick, never before.
//! 2. Timers of one tick fire in the order in which they were set, so that a simulated run repeats.

use std::task::Waker;

use crate::time::Monotonic;

const TICK_NS: u64 = 1_000_000;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;

/// Names a timer that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    deadline_tick: u64,
    sequence: u64,
    waker: Option<Waker>,
}

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    now_tick: u64,
    sequence: u64,
    levels: [[Vec<u32>; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    entries: Vec<Entry>,
    free: Vec<u32>,
    live: usize,
}

impl Wheel {
    pub(crate) fn new(now: Monotonic) -> Self {
        Self {
            now_tick: now.0 / TICK_NS,
            sequence: 0,
            levels: std::array::from_fn(|_| std::array::from_fn(|_| Vec::new())),
            occupied: [0; LEVELS],
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
        }
    }

    /// Sets a timer that wakes `waker` at `deadline`, rounded up to the tick.
    pub(crate) fn set(&mut self, deadline: Monotonic, waker: Waker) -> TimerId {
        let deadline_tick = deadline.0.div_ceil(TICK_NS).max(self.now_tick + 1);
        self.sequence += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                deadline_tick: 0,
                sequence: 0,
                waker: None,
            });
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 timers")
        });
        let entry = &mut self.entries[index as usize];
        entry.deadline_tick = deadline_tick;
        entry.sequence = self.sequence;
        entry.waker = Some(waker);
        let generation = entry.generation;
        self.live += 1;
        self.place(index);
        TimerId { index, generation }
    }

    /// Replaces the waker of a timer; says whether the timer is still set.
    pub(crate) fn rewake(&mut self, id: TimerId, waker: &Waker) -> bool {
        let entry = &mut self.entries[id.index as usize];
        if entry.generation != id.generation {
            return false;
        }
        entry.waker = Some(waker.clone());
        true
    }

    /// Cancels a timer; one that fired already is left alone.
    pub(crate) fn cancel(&mut self, id: TimerId) {
        let entry = &mut self.entries[id.index as usize];
        if entry.generation == id.generation && entry.waker.take().is_some() {
            // Its place in the wheel stays until the wheel passes it; `expire` frees the entry
            // then.
            self.live -= 1;
        }
    }

    fn place(&mut self, index: u32) {
        let deadline_tick = self.entries[index as usize].deadline_tick;
        let distance = deadline_tick - self.now_tick;
        let level = (0..LEVELS - 1).find(|l| distance >> (SLOT_BITS as usize * (l + 1)) == 0);
        let level = level.unwrap_or(LEVELS - 1);
        let reach = (1_u64 << (SLOT_BITS as usize * LEVELS)) - 1;
        let tick = self.now_tick + distance.min(reach - (1 << (SLOT_BITS as usize * (LEVELS - 1))));
        let tick = if level == LEVELS - 1 {
            tick
        } else {
            deadline_tick
        };
        let slot = slot_of(tick, level);
        self.levels[level][slot].push(index);
        self.occupied[level] |= 1 << slot;
    }

    /// Moves the wheel to `now` and wakes what is due.
    pub(crate) fn advance(&mut self, now: Monotonic) {
        let target = now.0 / TICK_NS;
        while self.now_tick < target {
            if self.live == 0 && self.occupied == [0; LEVELS] {
                self.now_tick = target;
                return;
            }
            self.now_tick = self.next_busy_tick().min(target);
            self.cascade();
            self.expire();
        }
    }

    /// Returns the next tick at which a slot of some level comes up, so that empty stretches are
    /// skipped.
    fn next_busy_tick(&self) -> u64 {
        let mut next = u64::MAX;
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = SLOT_BITS as usize * level;
            let current = self.now_tick >> shift;
            let position = u32::try_from(current & (SLOTS as u64 - 1)).expect("below 64");
            // Distance to the next occupied slot after the current one, 1..=64.
            let ahead = self.occupied[level]
                .rotate_right(position)
                .rotate_right(1)
                .trailing_zeros()
                + 1;
            next = next.min((current + u64::from(ahead)) << shift);
        }
        next
    }

    /// Brings the timers of higher levels down whose slot begins at this tick.
    fn cascade(&mut self) {
        for level in 1..LEVELS {
            let shift = SLOT_BITS as usize * level;
            if self.now_tick & ((1 << shift) - 1) != 0 {
                return;
            }
            let slot = slot_of(self.now_tick, level);
            self.occupied[level] &= !(1 << slot);
            for index in std::mem::take(&mut self.levels[level][slot]) {
                self.place(index);
            }
        }
    }

    fn expire(&mut self) {
        let slot = slot_of(self.now_tick, 0);
        self.occupied[0] &= !(1 << slot);
        let mut due = std::mem::take(&mut self.levels[0][slot]);
        due.sort_unstable_by_key(|index| self.entries[*index as usize].sequence);
        for index in due.drain(..) {
            let entry = &mut self.entries[index as usize];
            entry.generation = entry.generation.wrapping_add(1);
            if let Some(waker) = entry.waker.take() {
                self.live -= 1;
                waker.wake();
            }
            self.free.push(index);
        }
        self.levels[0][slot] = due;
    }

    /// Returns when the wheel wants to be advanced next; early when a far timer has to come down a
    /// level.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        if self.live == 0 {
            None
        } else {
            Some(Monotonic(self.next_busy_tick() * TICK_NS))
        }
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    usize::try_from(tick >> (SLOT_BITS as usize * level) & (SLOTS as u64 - 1)).expect("below 64")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Fired {
        deadline_ms: u64,
        log: Arc<Mutex<Vec<u64>>>,
        count: Arc<AtomicU64>,
    }

    impl Wake for Fired {
        fn wake(self: Arc<Self>) {
            self.log.lock().unwrap().push(self.deadline_ms);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_timer_fires_once_and_never_early() {
        let mut rng = crate::rng::Rng::new(3);
        let mut wheel = Wheel::new(Monotonic(0));
        let log = Arc::new(Mutex::new(Vec::new()));
        let count = Arc::new(AtomicU64::new(0));
        let mut pending: Vec<(u64, TimerId)> = Vec::new();
        let (mut now_ms, mut expected) = (0_u64, 0_u64);
        for _ in 0..20_000 {
            let after = [3, 70, 5_000, 400_000, 40_000_000][rng.index(5)];
            let deadline_ms = now_ms + 1 + rng.below(after);
            let fired = Fired {
                deadline_ms,
                log: Arc::clone(&log),
                count: Arc::clone(&count),
            };
            let id = wheel.set(
                Monotonic(deadline_ms * TICK_NS),
                Waker::from(Arc::new(fired)),
            );
            pending.push((deadline_ms, id));
            if rng.below(10) == 0 {
                let (_, id) = pending.swap_remove(rng.index(pending.len()));
                wheel.cancel(id);
            }
            let next = wheel.next_deadline().map(|d| d.0 / TICK_NS);
            assert!(
                pending.is_empty() || next.unwrap() <= pending.iter().map(|p| p.0).min().unwrap()
            );
            now_ms += [0, 1, 9, 700][rng.index(4)];
            wheel.advance(Monotonic(now_ms * TICK_NS));
            let due = pending.iter().filter(|p| p.0 <= now_ms).count() as u64;
            pending.retain(|p| p.0 > now_ms);
            expected += due;
            assert_eq!(count.load(Ordering::Relaxed), expected);
            assert!(
                log.lock()
                    .unwrap()
                    .drain(..)
                    .all(|deadline| deadline <= now_ms)
            );
        }
        assert_eq!(wheel.live, pending.len());
    }
}
