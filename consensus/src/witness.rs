//! What other nodes say of the time, held against what this one believes. Not the time itself, and not how
//! far leases reach: those need no wall clock.
//!
//! A node says "it is between e and l" and the words take a while to arrive. On the receiver's own
//! monotonic clock the true time has an offset; of all that a node has said within some seconds, what
//! arrived fastest tells most of it: the offset is at least the largest `e - arrival`, and at most the
//! largest `l - arrival`, plus what the fastest message took. That is at most the shortest round trip.
//!
//! Invariant: if a node's intervals hold the true time, so does what is made of them.

use crate::bound::{Bound, SOURCES_MAX, agreed};
use crate::types::{Mono, NodeId};

/// How long what was said counts: one such time, or two.
const PERIOD_NS: u64 = 5_000_000_000;
/// What monotonic clocks may drift in that time, and a bit more.
const DRIFT_US: i64 = 2_000;

/// The best that was heard of one node in one period.
#[derive(Clone, Copy, Debug)]
struct Heard {
    earliest: i64,
    latest: i64,
    round_trip_us: i64,
}

const NOTHING: Heard = Heard {
    earliest: i64::MIN,
    latest: i64::MIN,
    round_trip_us: i64::MAX,
};

impl Heard {
    fn with(self, other: Self) -> Self {
        Self {
            earliest: self.earliest.max(other.earliest),
            latest: self.latest.max(other.latest),
            round_trip_us: self.round_trip_us.min(other.round_trip_us),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Witness {
    node: NodeId,
    /// This period's, and the one's before.
    heard: [Heard; 2],
}

/// What others make of a node's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Too few say what time it is.
    #[default]
    Unheard,
    /// A majority may be right together with it.
    Agrees,
    /// There is no such majority, or this node is outside of it: nobody should believe its clock.
    Disagrees,
}

/// What other nodes say of the time.
#[derive(Clone, Debug, Default)]
pub struct Witnesses {
    witnesses: Vec<Witness>,
    since: Mono,
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}

fn micros(at: Mono) -> i64 {
    signed(at.0 / 1_000)
}

impl Witnesses {
    /// Notes what a node said of the time, heard at `now`.
    pub fn note(&mut self, now: Mono, from: NodeId, said: Bound) {
        let heard = Heard {
            earliest: signed(said.earliest_us).saturating_sub(micros(now)),
            latest: signed(said.latest_us).saturating_sub(micros(now)),
            ..NOTHING
        };
        self.add(now, from, heard);
    }

    /// Notes how long a question to a node and its answer took together.
    pub fn note_round_trip(&mut self, now: Mono, from: NodeId, asked: Mono) {
        let Some(took_ns) = now.0.checked_sub(asked.0) else {
            return;
        };
        let heard = Heard {
            round_trip_us: signed(took_ns / 1_000).saturating_add(1),
            ..NOTHING
        };
        self.add(now, from, heard);
    }

    fn add(&mut self, now: Mono, from: NodeId, heard: Heard) {
        self.turn(now);
        let is_full = self.witnesses.len() >= SOURCES_MAX;
        let known = self
            .witnesses
            .iter_mut()
            .find(|witness| witness.node == from);
        match known {
            Some(witness) => witness.heard[0] = witness.heard[0].with(heard),
            // Whoever comes beyond is not asked.
            None if is_full => {}
            None => self.witnesses.push(Witness {
                node: from,
                heard: [heard, NOTHING],
            }),
        }
    }

    /// Begins a new period when this one is over; forgets who has said nothing for two.
    fn turn(&mut self, now: Mono) {
        let passed = now.0.saturating_sub(self.since.0);
        if passed < PERIOD_NS {
            return;
        }
        self.since = now;
        for witness in &mut self.witnesses {
            let before = if passed < 2 * PERIOD_NS {
                witness.heard[0]
            } else {
                NOTHING
            };
            witness.heard = [NOTHING, before];
        }
        let is_heard = |witness: &Witness| witness.heard[1].earliest > i64::MIN;
        self.witnesses.retain(is_heard);
    }

    /// Returns when it is now according to each node that says so.
    fn bounds(&self, now: Mono) -> impl Iterator<Item = Bound> {
        let now_us = micros(now);
        let all = self
            .witnesses
            .iter()
            .map(|witness| witness.heard[0].with(witness.heard[1]));
        let told = all.filter(|heard| heard.earliest > i64::MIN && heard.round_trip_us < i64::MAX);
        told.map(move |heard| {
            let latest = heard.latest.saturating_add(heard.round_trip_us);
            let at = |offset: i64| u64::try_from(offset.saturating_add(now_us)).unwrap_or(0);
            Bound {
                earliest_us: at(heard.earliest.saturating_sub(DRIFT_US)),
                latest_us: at(latest.saturating_add(DRIFT_US)),
            }
        })
    }

    /// Judges what this node believes at `now`, of a cluster of so many `members`, itself included.
    #[must_use]
    pub fn judge(&mut self, now: Mono, own: Bound, members: usize) -> Verdict {
        self.turn(now);
        let mut bounds = vec![own];
        bounds.extend(self.bounds(now));
        let quorum = members / 2 + 1;
        if bounds.len() < quorum.max(2) {
            return Verdict::Unheard;
        }
        match agreed(&bounds, quorum) {
            Some(agreed) if agreed.overlaps(&own) => Verdict::Agrees,
            _ => Verdict::Disagrees,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// True time at zero of the monotonic clock, in microseconds.
    const EPOCH_US: u64 = 1_000_000_000_000;
    const SECOND_US: u64 = 1_000_000;

    fn mono(us: u64) -> Mono {
        Mono(us * 1_000)
    }

    fn bound_at(us: u64, off_us: i64, error_us: u64) -> Bound {
        Bound::around((EPOCH_US + us).saturating_add_signed(off_us), error_us)
    }

    /// Has `node`, whose clock is off by so much, say what time it is, a millisecond away.
    fn say(witnesses: &mut Witnesses, node: u32, us: u64, off_us: i64) {
        let arrival = mono(us + 1_000);
        witnesses.note(arrival, NodeId(u64::from(node)), bound_at(us, off_us, 500));
        witnesses.note_round_trip(arrival, NodeId(u64::from(node)), mono(us - 1_000));
    }

    #[test]
    fn a_clock_that_lies_is_found_out_by_itself_and_not_by_others() {
        let mut witnesses = Witnesses::default();
        let second = 2 * SECOND_US;
        assert_eq!(
            witnesses.judge(mono(second), bound_at(second, 0, 500), 3),
            Verdict::Unheard
        );
        say(&mut witnesses, 2, SECOND_US, 100);
        say(&mut witnesses, 3, SECOND_US, 60_000_000);
        assert_eq!(
            witnesses.judge(mono(second), bound_at(second, 0, 500), 3),
            Verdict::Agrees
        );
        assert_eq!(
            witnesses.judge(mono(second), bound_at(second, -60_000_000, 500), 3),
            Verdict::Disagrees
        );
    }

    #[test]
    fn what_was_said_long_ago_does_not_count() {
        let mut witnesses = Witnesses::default();
        say(&mut witnesses, 2, SECOND_US, 0);
        let later = 7 * SECOND_US;
        assert_eq!(
            witnesses.judge(mono(later), bound_at(later, 0, 500), 3),
            Verdict::Agrees
        );
        let later = 13 * SECOND_US;
        assert_eq!(
            witnesses.judge(mono(later), bound_at(later, 0, 500), 3),
            Verdict::Unheard
        );
    }

    proptest! {
        #[test]
        fn honest_clocks_agree_however_slow_their_words(
            said in proptest::collection::vec((1..4_u32, 0..9_000_000_u64, 0..3_000_000_u64, -5_000..5_000_i64), 1..40),
            own_off in -5_000..5_000_i64,
        ) {
            let mut witnesses = Witnesses::default();
            let mut said = said;
            said.sort_by_key(|(_, us, took, _)| us + took);
            for (node, us, took_us, off) in &said {
                let arrival = mono(SECOND_US + us + took_us);
                witnesses.note(arrival, NodeId(u64::from(*node)), bound_at(SECOND_US + us, *off, off.unsigned_abs()));
                witnesses.note_round_trip(arrival, NodeId(u64::from(*node)), mono(SECOND_US + us));
            }
            let last = said.last().map_or(0, |(_, us, took, _)| us + took) + SECOND_US;
            let own = bound_at(last, own_off, own_off.unsigned_abs());
            prop_assert_ne!(witnesses.judge(mono(last), own, 3), Verdict::Disagrees);
        }
    }
}
