//! How fast a node's disk is beside those of its peers, so that a leader on a slow one steps aside. Not whether it
//! works at all: who gets no write done asks for no support.
//!
//! Each node tells the others how long its writes take; a node is slow when its own take many times as long as most
//! others', and not only a moment. It is fine again when they take only some times as long: between the two nothing
//! changes, so leadership does not go to and fro.
//!
//! Invariant: who knows nothing recent of itself, or of any peer, is not slow.

use std::collections::VecDeque;

use crate::membership::MEMBERS_MAX;
use crate::raft::DiskPace;
use crate::types::{Mono, NodeId};

/// Looks that count, and how many there must be.
const LOOKS_MAX: usize = 9;
const LOOKS_MIN: usize = 7;
/// How long a look counts, and what a peer has said.
const LOOK_AGE_NS: u64 = 5_000_000_000;
/// Slow is who takes so many times as long as its peers, and not fine before it takes fewer times as long.
const SLOW_FACTOR: u64 = 8;
const FINE_FACTOR: u64 = 3;
/// Nobody becomes slow whose writes take less, in microseconds, or stays so: turns of a busy shard count, too.
const SLOW_US_MIN: u32 = 10_000;
const FINE_US_MAX: u32 = 5_000;

/// How fast the disks of the members are.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// How long this node's writes took, as of each look at them.
    looks: VecDeque<(Mono, u32)>,
    /// How long each peer's take, and when it said so.
    peers: Vec<(NodeId, Mono, u32)>,
    is_slow: bool,
}

fn median(mut values: Vec<u32>) -> Option<u32> {
    values.sort_unstable();
    // Of an even number the smaller: leadership is to go to a fast one, if there is any.
    values.get(values.len().checked_sub(1)? / 2).copied()
}

impl Pace {
    /// Notes how long writes took that were under way since the last look.
    pub fn note(&mut self, now: Mono, took_us: &[u32]) {
        let Some(took_us) = median(took_us.to_vec()) else {
            return;
        };
        if self.looks.len() == LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back((now, took_us));
    }

    /// Notes what a peer has said of itself. Whoever comes beyond the most members is not listened to.
    pub fn said(&mut self, now: Mono, from: NodeId, took_us: u32) {
        self.peers
            .retain(|(peer, at, _)| *peer != from && is_recent(now, *at));
        if self.peers.len() < MEMBERS_MAX {
            self.peers.push((from, now, took_us));
        }
    }

    /// Returns how long this node's writes take, if that is known.
    #[must_use]
    pub fn own_us(&self, now: Mono) -> Option<u32> {
        let recent = self.looks.iter().filter(|(at, _)| is_recent(now, *at));
        let values: Vec<u32> = recent.map(|(_, took_us)| *took_us).collect();
        median(values.clone()).filter(|_| values.len() >= LOOKS_MIN)
    }

    /// Returns how long they took in the best of the looks.
    fn best_us(&self, now: Mono) -> Option<u32> {
        let recent = self.looks.iter().filter(|(at, _)| is_recent(now, *at));
        recent.map(|(_, took_us)| *took_us).min()
    }

    /// Judges this node's disk.
    pub fn judge(&mut self, now: Mono) -> DiskPace {
        let recent = self.peers.iter().filter(|(_, at, _)| is_recent(now, *at));
        let others = median(recent.map(|(.., took_us)| *took_us).collect());
        let own = self.own_us(now).zip(self.best_us(now)).zip(others);
        self.is_slow = own.is_some_and(|((usual, best), others)| {
            let others = u64::from(others);
            match self.is_slow {
                true => usual > FINE_US_MAX && u64::from(usual) >= others * FINE_FACTOR,
                // Where processors are short some writes take long; on a slow disk all of them do.
                false => best >= SLOW_US_MIN && u64::from(best) >= others * SLOW_FACTOR,
            }
        });
        match self.is_slow {
            true => DiskPace::Slow,
            false => DiskPace::Fine,
        }
    }
}

fn is_recent(now: Mono, at: Mono) -> bool {
    now.0.saturating_sub(at.0) <= LOOK_AGE_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Looks at writes that take so long, ten times a second, while peers say what they take.
    fn look(
        pace: &mut Pace,
        from_ms: u64,
        count: u64,
        own_us: u32,
        peers_us: [u32; 2],
    ) -> DiskPace {
        for at in 0..count {
            let now = Mono((from_ms + at * 100) * MS);
            pace.note(now, &[own_us, own_us / 2, own_us * 2]);
            pace.said(now, NodeId(2), peers_us[0]);
            pace.said(now, NodeId(3), peers_us[1]);
            pace.judge(now);
        }
        pace.judge(Mono((from_ms + count * 100) * MS))
    }

    #[test]
    fn the_slowest_by_far_is_slow_until_it_is_nearly_as_fast_again() {
        let mut pace = Pace::default();
        assert_eq!(
            look(&mut pace, 0, 20, 2_000, [1_000, 1_500]),
            DiskPace::Fine
        );
        assert_eq!(
            look(&mut pace, 2_000, 8, 200_000, [1_000, 1_500]),
            DiskPace::Fine
        );
        assert_eq!(
            look(&mut pace, 2_800, 2, 200_000, [1_000, 1_500]),
            DiskPace::Slow
        );
        assert_eq!(
            look(&mut pace, 3_000, 20, 6_000, [1_000, 1_500]),
            DiskPace::Slow
        );
        assert_eq!(
            look(&mut pace, 5_000, 20, 2_000, [1_000, 1_500]),
            DiskPace::Fine
        );
        assert_eq!(
            look(&mut pace, 7_000, 20, 6_000, [1_000, 1_500]),
            DiskPace::Fine
        );
    }

    #[test]
    fn who_is_as_slow_as_most_or_knows_nothing_is_not_slow() {
        let mut pace = Pace::default();
        assert_eq!(
            look(&mut pace, 0, 20, 90_000, [20_000, 90_000]),
            DiskPace::Fine
        );
        // Far slower than its peers, and fast all the same.
        let mut pace = Pace::default();
        assert_eq!(look(&mut pace, 0, 20, 4_000, [40, 40]), DiskPace::Fine);
        let mut pace = Pace::default();
        assert_eq!(look(&mut pace, 0, 20, 90_000, [40, 90_000]), DiskPace::Slow);
        assert_eq!(pace.judge(Mono(9_000 * MS)), DiskPace::Fine);
        assert_eq!(pace.own_us(Mono(9_000 * MS)), None);
        for at in 0..20 {
            pace.note(Mono((10_000 + at * 100) * MS), &[90_000]);
        }
        assert_eq!(pace.judge(Mono(12_000 * MS)), DiskPace::Fine);
    }

    /// On a machine that was short of processors some writes took long, on each node in turn, and leadership went
    /// to and fro.
    #[test]
    fn who_is_slow_now_and_then_is_not_slow() {
        let mut pace = Pace::default();
        for round in 0..50 {
            let slow = look(&mut pace, round * 400, 3, 60_000, [500, 900]);
            assert_eq!(slow, DiskPace::Fine, "round {round}");
            look(&mut pace, round * 400 + 300, 1, 3_000, [500, 900]);
        }
    }
}
