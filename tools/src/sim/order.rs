//! Whether timestamps follow real time where replies wait for the clock: who proposes after something was told,
//! whichever node and partition, gives it a greater timestamp. Judged from outside, by who sees all nodes.
//!
//! It holds where bounds of the clocks' errors are honest. Where they lie it need not; then nodes should find
//! each other out.

use std::collections::BTreeMap;

use ashlar_consensus::Timestamp;
use ashlar_io::rng::Rng;
use ashlar_io::sim::{Bounds, ClockFaults, Faults};
use ashlar_node::config::{Clock, CommitWait};

use super::run::Node;

/// What is added to the truth, in microseconds, one of which a run has; with nothing, nothing is known.
const SLACKS_US: [u64; 4] = [0, 50, 500, 3_000];
/// Drift that nodes with an honest bound have at most: what they count on, and a bit less.
const DRIFT_MAX_PPM: u32 = 40;
/// Offset that they have at most, in microseconds: with more of it writes wait for long. Jumps are not bounded.
const OFFSET_MAX_US: u64 = 10_000;

/// What was told and proposed so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The greatest timestamp that a reply waited for and was told with.
    told: Timestamp,
    /// The last entry seen, by machine and partition.
    last: BTreeMap<(u32, u32), u64>,
    marks: BTreeMap<&'static str, u64>,
}

/// Draws what nodes know of their clocks, nothing, the truth, or a lie.
pub(super) fn draw_bounds(seed: u64, faults: &mut Faults) {
    let mut rng = Rng::new(seed).fork("bounds");
    let clock = &mut faults.clock;
    clock.bound_slack_us = SLACKS_US[rng.index(4)];
    clock.bound_lies = f64::from(u8::from(rng.coin()));
    if clock.bounds() == Bounds::Honest {
        clock.drift_max_ppm = clock.drift_max_ppm.min(DRIFT_MAX_PPM);
        clock.offset_max_us = clock.offset_max_us.min(OFFSET_MAX_US);
    }
}

/// Draws how nodes use what they know.
pub(super) fn draw_wait(rng: &Rng, faults: &ClockFaults, clock: &mut Clock) {
    let mut rng = rng.fork("commit wait");
    clock.wait_ms_max = 1_000;
    clock.wait = match faults.bounds() {
        Bounds::None => CommitWait::Off,
        // Where clocks have jumped by minutes, and back, nothing would be written for minutes.
        Bounds::Honest if faults.jump_interval_ns > 0 => CommitWait::On,
        Bounds::Honest => [CommitWait::On, CommitWait::Strict][rng.index(2)],
        // Nodes find each other out, and would refuse all writes.
        Bounds::Lying => CommitWait::On,
    };
}

impl Order {
    pub(super) fn take_marks(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.marks)
    }

    /// Checks what a node's shard has told and proposed in the turn that it just made.
    pub(super) fn look(
        &mut self,
        (machine, node): (u32, &Node),
        shard: u32,
        bounds: Bounds,
    ) -> Result<(), String> {
        let shards = node
            .life
            .iter()
            .flat_map(|life| life.shards.get(shard as usize));
        for times in shards.flat_map(ashlar_node::shard::Shard::times) {
            if times.waited_for > self.told {
                self.told = times.waited_for;
                *self.marks.entry("waited for the clock").or_default() += 1;
            }
            let Some((index, timestamp)) = times.proposed else {
                continue;
            };
            let before = self.last.insert((machine, times.partition), index.0);
            let is_new = before.is_some_and(|before| before < index.0);
            if is_new && times.waits && timestamp <= self.told && bounds == Bounds::Honest {
                return Err(format!(
                    "machine {machine} has given entry {index} of partition {} the timestamp {}, though {} was told of before",
                    times.partition, timestamp.0, self.told.0
                ));
            }
        }
        Ok(())
    }
}
