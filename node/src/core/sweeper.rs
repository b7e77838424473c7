//! Has partitions sweep up the elements of collections that are gone, a little with each tick; what a step must read
//! from disk is fetched in the meantime.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ashlar_partition::{Partition, Swept, Want};

use super::{Core, Data, Fetched};

/// Steps that a partition takes in a tick, while it finds something to delete.
const STEPS_PER_TICK: usize = 8;
/// Collections that a round looks at in a tick: so many in all, on a shard.
const ROUND_PER_TICK: usize = 32;

/// How far a shard has swept.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    /// The partition whose round goes on.
    round_of: Cell<usize>,
    /// A step waits for the disk.
    is_fetching: Cell<bool>,
    /// What it waited for, kept in memory until it is taken anew.
    fetched: RefCell<Fetched>,
}

impl Core {
    /// Goes on sweeping; called with each tick. Says whether there is more to do at once.
    pub(crate) fn sweep(self: &Rc<Self>) -> bool {
        if self.sweeper.is_fetching.get() {
            return false;
        }
        let fetched = self.sweeper.fetched.take();
        let mut data = self.data.borrow_mut();
        let partitions = data.owned.len();
        let round_of = self.sweeper.round_of.get() % partitions.max(1);
        let mut has_more = false;
        for number in 0..partitions {
            let (is_round, steps) = match number == round_of {
                true => (true, ROUND_PER_TICK),
                false => (false, STEPS_PER_TICK),
            };
            let swept = self.sweep_one(&mut data, number, (is_round, steps));
            match swept {
                Swept::Some => has_more |= !is_round,
                Swept::Nothing if is_round => self.sweeper.round_of.set(round_of + 1),
                Swept::Nothing => {}
                Swept::Wants(wants) => {
                    self.fetch_for_sweep(number, wants);
                    break;
                }
            }
        }
        drop(fetched);
        has_more
    }

    /// Takes steps on a partition, if it is this shard's; returns how the last one went.
    fn sweep_one(&self, data: &mut Data, number: usize, (is_round, steps): (bool, usize)) -> Swept {
        let Data { owned, clock, .. } = data;
        let Some(owned) = &mut owned[number] else {
            return Swept::Nothing;
        };
        let (now_ms, now_us) = self.now();
        let partition: &mut Partition = &mut owned.partition;
        let before = partition.last_index();
        let mut swept = Swept::Nothing;
        for _ in 0..steps {
            swept = partition.sweep(now_ms, is_round, &mut || clock.take(now_us));
            if swept != Swept::Some {
                break;
            }
        }
        if partition.last_index() > before {
            self.stir();
        }
        swept
    }

    fn fetch_for_sweep(self: &Rc<Self>, number: usize, wants: Vec<Want>) {
        self.sweeper.is_fetching.set(true);
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            // What cannot be read is found out by who needs it; the sweep tries again with a later tick.
            if let Ok(fetched) = core.fetch(number, &wants, &[]).await {
                *core.sweeper.fetched.borrow_mut() = fetched;
            }
            core.sweeper.is_fetching.set(false);
        });
    }
}
