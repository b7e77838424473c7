//! Whether a shard rests: nothing has happened for a while to any of its partitions, so that a turn need not look at
//! all of them. What wakes an idle shard a hundred times a second is the promises between nodes, which are none
//! of the partitions' business; with a thousand partitions, looking is what an idle node would spend its time with.
//!
//! Whoever may change what a partition has to do says so ([`Rest::stir`]). What says nothing is late, by the time
//! between two looks at most.
//!
//! Invariant: a shard looks at its partitions in every turn for a second after it was stirred, and four times a second
//! otherwise.

use std::cell::Cell;
use std::time::Duration;

use ashlar_io::Monotonic;

/// Quiet time after which a shard rests.
const CALM: Duration = Duration::from_secs(1);
/// Time between two looks of a shard that rests.
const LOOK: Duration = Duration::from_millis(250);

/// When a shard was last stirred, and when it last looked.
#[derive(Debug, Default)]
pub(super) struct Rest {
    stirred: Cell<Monotonic>,
    looked: Cell<Monotonic>,
    /// This turn passes over the partitions.
    passes: Cell<bool>,
    /// None has passed over them since something happened.
    is_new: Cell<bool>,
}

impl Rest {
    /// Begins a turn.
    pub(super) fn begin_turn(&self, now: Monotonic) {
        let passes = now >= self.stirred.get() + CALM && now < self.looked.get() + LOOK;
        self.passes.set(passes);
        if !passes {
            self.looked.set(now);
        }
    }

    /// Something may have happened to a partition.
    pub(super) fn stir(&self, now: Monotonic) {
        self.stirred.set(now);
        self.passes.set(false);
        self.is_new.set(true);
    }

    /// Says, once, that a shard that was stirred rests.
    pub(super) fn begins(&self) -> bool {
        self.passes.get() && self.is_new.replace(false)
    }

    /// Says whether this turn need not look at the partitions, as far as is known by now.
    pub(super) fn passes(&self) -> bool {
        self.passes.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_was_not_stirred_looks_four_times_a_second() {
        let rest = Rest::default();
        let turn = |ms: u64| {
            rest.begin_turn(Monotonic(ms * 1_000_000));
            rest.passes()
        };
        rest.stir(Monotonic(0));
        assert!((0..1000).step_by(10).all(|ms| !turn(ms)));
        assert!(!rest.begins());
        let looks = (1000..2000).step_by(10).filter(|ms| !turn(*ms)).count();
        assert_eq!(looks, 4);
        assert!(turn(2000) && rest.begins() && !rest.begins());
        rest.stir(Monotonic(2_000_000_000));
        assert!(!rest.passes() && !turn(2010));
    }
}
