//! What this shard knows of the time beside what its clock shows: how far that may be off, whether peers
//! agree, and which replies wait for it.
//!
//! With `clock.wait` a write's timestamp is not below the latest that it may be now, and its reply (only
//! that) leaves when this moment has surely passed. So whoever was told of a write, and then writes
//! elsewhere, writes with a greater timestamp: timestamps of all partitions and nodes follow real time. The
//! wait overlaps with the log's write and with replication; a bound of 50 microseconds costs nothing.
//!
//! Invariant: with a bound that is honest, no reply that waits leaves before true time is above its entry's
//! timestamp. What was once known goes on being known: time passes at least as fast as the monotonic clock
//! less its drift.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use ashlar_consensus::bound::Bound;
use ashlar_consensus::witness::{Verdict, Witnesses};
use ashlar_consensus::{Index, Mono, NodeId, Timestamp};
use ashlar_io::Monotonic;
use ashlar_io::clock::{DRIFT_PPB, Known};

use super::{Core, Data};
use crate::config::CommitWait;
use crate::peer::frame::{Frame, Interval};

/// Longest time between two looks at a clock that replies wait for.
const LOOK_MAX: Duration = Duration::from_millis(10);

/// What the wait for the clock comes to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stance {
    /// It was not asked for.
    #[default]
    Off,
    /// Replies wait.
    Waits,
    /// It was asked for, but there is no bound to go by: writes are acknowledged without.
    Goes,
    /// There is no bound to go by, and none is worse than no write.
    Refuses,
}

/// What a shard knows of the time.
#[derive(Debug, Default)]
pub(super) struct Timekeeper {
    /// As of this turn.
    known: Cell<Option<Known>>,
    stance: Cell<Stance>,
    /// It was surely so late, then.
    floor: Cell<Option<(Monotonic, u64)>>,
    witnesses: RefCell<Witnesses>,
    verdict: Cell<Verdict>,
    /// When the first reply that waits may leave.
    due: Cell<Option<Monotonic>>,
}

fn bound_of(known: Known) -> Bound {
    Bound::around(known.wall_us, known.error_us)
}

impl Timekeeper {
    /// Returns the earliest that it may be at `now`, if that was ever known.
    fn earliest_us(&self, now: Monotonic) -> Option<u64> {
        let (at, us) = self.floor.get()?;
        let passed = u64::try_from(now.since(at).as_nanos()).unwrap_or(u64::MAX);
        let least = passed - passed / 1_000_000_000 * u64::from(DRIFT_PPB);
        let least = least.saturating_sub(u64::from(DRIFT_PPB));
        Some(us + least / 1_000)
    }

    /// Begins a turn with what is known of the time. `hybrid_us` is the last timestamp: when it is far ahead of
    /// the clock, which was set back, nobody can wait for it.
    fn begin(
        &self,
        known: Option<Known>,
        hybrid_us: u64,
        (wait, wait_ms_max): (CommitWait, u32),
        now: Monotonic,
    ) {
        let limit_us = u64::from(wait_ms_max) * 1_000;
        let believed = known.filter(|_| self.verdict.get() != Verdict::Disagrees);
        let is_usable = |known: &Known| {
            known.error_us <= limit_us && hybrid_us <= bound_of(*known).latest_us + limit_us
        };
        let usable = believed.filter(is_usable);
        self.known.set(believed);
        self.stance.set(match (wait, usable) {
            (CommitWait::Off, _) => Stance::Off,
            (_, Some(_)) => Stance::Waits,
            (CommitWait::On, None) => Stance::Goes,
            (CommitWait::Strict, None) => Stance::Refuses,
        });
        if let Some(known) = usable {
            let told = bound_of(known).earliest_us;
            let before = self.earliest_us(now).unwrap_or(0);
            self.floor.set(Some((now, told.max(before))));
        }
    }
}

/// Entries of a partition that are applied and whose timestamps may not have passed.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// The last entry before them, theirs, and the timestamp below which all of them are. At most one for
    /// each turn within `clock.wait_ms_max`, twice.
    held: VecDeque<(Index, Timestamp)>,
    /// What may be told: every entry up to it.
    told: Index,
    /// The timestamp that was waited for last.
    waited_for: Timestamp,
}

impl Waits {
    /// Returns the last entry whose replies may leave.
    pub(super) fn told(&self) -> Index {
        self.told
    }

    /// Notes what is applied; its replies wait if `until` says so.
    fn note(&mut self, applied: Index, until: Option<Timestamp>) {
        match until {
            Some(until) => self.held.push_back((applied, until)),
            None if self.held.is_empty() => self.told = self.told.max(applied),
            // Behind what waits: it leaves with it.
            None => self.held.push_back((applied, Timestamp(0))),
        }
    }

    /// Lets go of what has surely passed; returns the timestamp that the first of the rest waits for.
    fn pass(&mut self, earliest_us: u64) -> Option<Timestamp> {
        let has_passed = |(_, until): &mut (Index, Timestamp)| until.micros() < earliest_us;
        while let Some((index, until)) = self.held.pop_front_if(has_passed) {
            self.told = self.told.max(index);
            self.waited_for = self.waited_for.max(until);
        }
        self.held.front().map(|(_, until)| *until)
    }
}

/// What a partition has told and proposed, for checks of their order.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The partition.
    pub partition: u32,
    /// Whether replies wait here for the clock.
    pub waits: bool,
    /// The greatest timestamp that replies have waited for, and left.
    pub waited_for: Timestamp,
    /// The newest entry in flight that this replica has proposed with commands in it, and the timestamp of the
    /// first.
    pub proposed: Option<(Index, Timestamp)>,
}

impl Core {
    /// Tells what the partitions have told and proposed.
    pub(crate) fn times(&self) -> Vec<Times> {
        let waits = self.stance() == Stance::Waits;
        let data = self.data.borrow();
        let owned = data.owned.iter().flatten();
        let times = owned.map(|owned| Times {
            partition: owned.partition.id().0,
            waits,
            waited_for: owned.waits.waited_for,
            proposed: owned.partition.proposed(),
        });
        times.collect()
    }

    /// Looks at the clock, for this turn.
    pub(super) fn keep_time(&self) {
        let clock = self.config.borrow().clock.waits();
        let is_needed = clock.0 != CommitWait::Off || self.cluster.is_some() || self.shard == 0;
        let known = is_needed.then(|| self.reactor.known_time()).flatten();
        let hybrid_us = self.data.borrow().clock.last().micros();
        self.timekeeper
            .begin(known, hybrid_us, clock, self.reactor.now());
    }

    /// Returns what timestamps begin at, in microseconds: the wall clock's time, or with a wait the latest
    /// that it may be.
    pub(super) fn reading_us(&self) -> u64 {
        let known = self.timekeeper.known.get();
        match known.filter(|_| self.timekeeper.stance.get() == Stance::Waits) {
            Some(known) => bound_of(known).latest_us,
            None => self.reactor.wall().0,
        }
    }

    /// Returns what the wait for the clock comes to now.
    pub(crate) fn stance(&self) -> Stance {
        self.timekeeper.stance.get()
    }

    /// Returns the error of a write that is refused because of the clock, if it is.
    pub(crate) fn clock_refusal(&self) -> Option<String> {
        let refuses = self.stance() == Stance::Refuses;
        refuses.then(|| {
            format!(
                "CLOCK nothing was written: clock.wait = strict, and {}",
                self.clock_trouble()
            )
        })
    }

    /// Returns why there is no bound to go by.
    fn clock_trouble(&self) -> String {
        let known = self.timekeeper.known.get();
        match (self.timekeeper.verdict.get(), known) {
            (Verdict::Disagrees, _) => {
                "this node's clock and those of a majority of its peers cannot all be right"
                    .to_owned()
            }
            (_, Some(known)) => format!(
                "this node's clock may be off by {} us, or is behind timestamps that were given, by more than clock.wait_ms_max = {}",
                known.error_us,
                self.config.borrow().clock.wait_ms_max
            ),
            (_, None) => {
                "nobody who is believed says how far this node's clock may be off".to_owned()
            }
        }
    }

    /// Returns the latest timestamp that is waited for. A follower applies what a leader has stamped whose clock is far
    /// ahead, and goes by its own; if it waited for that, it could tell nothing when it leads next, for as long.
    fn bearable_us(&self) -> u64 {
        let (wait, wait_ms_max) = self.config.borrow().clock.waits();
        match (wait, self.timekeeper.known.get()) {
            (CommitWait::On, Some(known)) => {
                bound_of(known).latest_us + u64::from(wait_ms_max) * 1_000
            }
            _ => u64::MAX,
        }
    }

    /// Notes what a partition has applied, and lets go of what has waited for the clock.
    pub(super) fn wait_for_clock(&self, data: &mut Data) {
        let now = self.reactor.now();
        let keeper = &self.timekeeper;
        let waits = keeper.stance.get() == Stance::Waits;
        let earliest_us = keeper.earliest_us(now).unwrap_or(u64::MAX);
        let bearable_us = self.bearable_us();
        let mut first: Option<Timestamp> = None;
        for owned in data.owned.iter_mut().flatten() {
            let (applied, upto) = (
                owned.partition.applied(),
                owned.partition.applied_timestamp(),
            );
            if applied > owned.noted {
                owned.noted = applied;
                let until = Some(upto).filter(|upto| waits && upto.micros() <= bearable_us);
                owned.waits.note(applied, until);
            }
            first = [first, owned.waits.pass(earliest_us)]
                .into_iter()
                .flatten()
                .min();
        }
        let left = |until: Timestamp| {
            let us = (until.micros() + 1).saturating_sub(earliest_us);
            now + Duration::from_micros(us).min(LOOK_MAX)
        };
        keeper.due.set(first.map(left));
        if first.is_some() {
            self.stir();
        }
    }

    /// Returns when a reply that waits for the clock may leave.
    pub(crate) fn clock_deadline(&self) -> Option<Monotonic> {
        self.timekeeper.due.get()
    }

    /// Returns the interval that it is now in, for peers; nothing when it is not known.
    pub(super) fn own_interval(&self) -> Interval {
        let known = self.timekeeper.known.get().map(bound_of);
        known.map_or_else(Interval::default, |bound| Interval {
            earliest_us: bound.earliest_us,
            latest_us: bound.latest_us,
        })
    }

    /// Takes in what a peer says of the time.
    pub(super) fn take_interval(&self, from: NodeId, frame: &Frame) {
        let Interval {
            earliest_us,
            latest_us,
        } = frame.interval;
        if 0 < earliest_us && earliest_us <= latest_us {
            let said = Bound {
                earliest_us,
                latest_us,
            };
            let mut witnesses = self.timekeeper.witnesses.borrow_mut();
            witnesses.note(self.mono(), from, said);
        }
    }

    /// Takes in how long a peer took to answer what it was asked at `asked`.
    pub(super) fn take_round_trip(&self, from: NodeId, asked: Mono) {
        let mut witnesses = self.timekeeper.witnesses.borrow_mut();
        witnesses.note_round_trip(self.mono(), from, asked);
    }

    /// Compares clocks with the peers, and tells people how it is.
    pub(crate) fn tick_clock(&self) {
        let keeper = &self.timekeeper;
        let known = self.reactor.known_time();
        if let (Some(cluster), Some(known)) = (&self.cluster, known) {
            let members = cluster.members.count();
            let mut witnesses = keeper.witnesses.borrow_mut();
            let verdict = witnesses.judge(self.mono(), bound_of(known), members);
            if verdict == Verdict::Disagrees && keeper.verdict.get() != verdict {
                tracing::error!(
                    "this node's clock and those of a majority of its peers cannot all be right"
                );
            }
            keeper.verdict.set(verdict);
        } else {
            keeper.verdict.set(Verdict::Unheard);
        }
        if self.shard == 0 {
            self.shared
                .clock
                .note(known, keeper.verdict.get(), keeper.stance.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_io::clock::Source;

    use super::*;

    fn known(wall_us: u64, error_us: u64) -> Option<Known> {
        Some(Known {
            source: Source::Static,
            wall_us,
            error_us,
        })
    }

    fn at_ms(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    #[test]
    fn what_is_strict_refuses_where_what_is_not_goes_on() {
        let stance = |wait, known| {
            let keeper = Timekeeper::default();
            keeper.begin(known, 0, (wait, 10), at_ms(1));
            keeper.stance.get()
        };
        assert_eq!(stance(CommitWait::Off, known(1_000_000, 100)), Stance::Off);
        assert_eq!(
            stance(CommitWait::On, known(1_000_000, 10_000)),
            Stance::Waits
        );
        assert_eq!(
            stance(CommitWait::On, known(1_000_000, 10_001)),
            Stance::Goes
        );
        assert_eq!(
            stance(CommitWait::Strict, known(1_000_000, 10_001)),
            Stance::Refuses
        );
        assert_eq!(stance(CommitWait::Strict, None), Stance::Refuses);
        let keeper = Timekeeper::default();
        keeper.begin(
            known(1_000_000, 1),
            1_010_002,
            (CommitWait::Strict, 10),
            at_ms(1),
        );
        assert_eq!(
            keeper.stance.get(),
            Stance::Refuses,
            "timestamps are too far ahead"
        );
        keeper.verdict.set(Verdict::Disagrees);
        keeper.begin(known(1_000_000, 1), 0, (CommitWait::Strict, 10), at_ms(1));
        assert_eq!(keeper.stance.get(), Stance::Refuses);
    }

    #[test]
    fn time_that_was_known_goes_on_without_a_source() {
        let keeper = Timekeeper::default();
        assert_eq!(keeper.earliest_us(at_ms(1)), None);
        keeper.begin(known(1_000_000, 500), 0, (CommitWait::On, 10), at_ms(1));
        assert_eq!(keeper.earliest_us(at_ms(1)), Some(999_500));
        keeper.begin(None, 0, (CommitWait::On, 10), at_ms(50));
        let later = keeper.earliest_us(at_ms(1_001)).unwrap();
        assert!((1_999_400..1_999_500).contains(&later), "{later}");
        // A source that comes back and knows less does not take anything back.
        keeper.begin(
            known(2_000_000, 9_000),
            0,
            (CommitWait::On, 10),
            at_ms(1_001),
        );
        assert_eq!(keeper.earliest_us(at_ms(1_001)), Some(later));
    }

    #[test]
    fn replies_are_held_until_their_timestamps_have_passed_and_leave_in_order() {
        let mut waits = Waits::default();
        waits.note(Index(3), None);
        assert_eq!(waits.told(), Index(3));
        waits.note(Index(4), Some(Timestamp::at_micros(100)));
        waits.note(Index(5), None);
        assert_eq!(waits.pass(100), Some(Timestamp::at_micros(100)));
        assert_eq!(waits.told(), Index(3));
        assert_eq!(waits.pass(101), None);
        assert_eq!(waits.told(), Index(5));
    }
}
