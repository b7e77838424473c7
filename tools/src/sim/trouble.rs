//! What happens to the machines of a cluster beside deaths: ways between them that are cut, one or both
//! ways, and nodes that stand still. Not what happens to single segments and disk operations: that is
//! drawn by the simulated world.

use std::time::Duration;

use ashlar_io::Monotonic;
use ashlar_io::rng::Rng;

use super::schedule::Fault;

/// Mean time between troubles, in nanoseconds, one of which a run has.
const INTERVALS_NS: [u64; 3] = [500_000_000, 2_000_000_000, 8_000_000_000];
/// Mean length of a trouble, in nanoseconds, one of which a run has.
const LENGTHS_NS: [u64; 3] = [100_000_000, 600_000_000, 2_000_000_000];

/// Which troubles there are in a run, and when the next one begins or ends.
#[derive(Debug)]
pub(super) struct Troubles {
    rng: Rng,
    nodes: u32,
    interval_ns: u64,
    length_ns: u64,
    cuts: bool,
    pauses: bool,
    next: Monotonic,
    /// Ways that are cut, and until when.
    cut: Vec<(Monotonic, u32, u32)>,
}

impl Troubles {
    /// Draws the troubles of a run of so many nodes.
    pub(super) fn draw(mut rng: Rng, nodes: u32) -> Self {
        let (cuts, pauses) = (rng.chance(0.7), rng.chance(0.5));
        let interval_ns = INTERVALS_NS[rng.index(3)];
        let length_ns = LENGTHS_NS[rng.index(3)];
        let next = match cuts || pauses {
            true => Monotonic(rng.exponential(interval_ns)),
            false => Monotonic(u64::MAX),
        };
        Self {
            rng,
            nodes,
            interval_ns,
            length_ns,
            cuts,
            pauses,
            next,
            cut: Vec::new(),
        }
    }

    /// Returns none, for a run that has none.
    pub(super) fn none() -> Self {
        let mut none = Self::draw(Rng::new(0), 1);
        none.next = Monotonic(u64::MAX);
        none
    }

    /// Returns when something happens next.
    pub(super) fn due(&self) -> Monotonic {
        let ends = self.cut.iter().map(|(until, ..)| *until).min();
        ends.map_or(self.next, |end| end.min(self.next))
    }

    /// Draws what is due at `now`; says what began.
    pub(super) fn happen(
        &mut self,
        now: Monotonic,
        faults: &mut Vec<Fault>,
    ) -> Option<&'static str> {
        let ended = self.cut.extract_if(.., |(until, ..)| *until <= now);
        faults.extend(ended.map(|(_, from, to)| Fault::Mend(from, to)));
        if now < self.next {
            return None;
        }
        self.next = now + Duration::from_nanos(1 + self.rng.exponential(self.interval_ns));
        let length = Duration::from_nanos(1 + self.rng.exponential(self.length_ns));
        let pauses = self.pauses && (!self.cuts || self.rng.chance(0.4));
        Some(match pauses {
            true => self.pause(length, faults),
            false => self.cut_some(now + length, faults),
        })
    }

    fn pause(&mut self, length: Duration, faults: &mut Vec<Fault>) -> &'static str {
        let machine = self.draw_node();
        faults.push(Fault::Pause(machine, length));
        "trouble: node paused"
    }

    fn draw_node(&mut self) -> u32 {
        u32::try_from(self.rng.below(u64::from(self.nodes))).expect("few nodes")
    }

    fn cut_some(&mut self, until: Monotonic, faults: &mut Vec<Fault>) -> &'static str {
        let one = self.draw_node();
        let kind = self.rng.below(4);
        // The machine of the clients has the number behind the last node.
        let with_clients = u32::from(self.rng.chance(0.3));
        for other in (0..self.nodes + with_clients).filter(|other| *other != one) {
            let picked = kind > 1 || self.rng.coin();
            if picked && kind != 3 {
                self.cut_way((one, other), until, faults);
            }
            if picked && kind != 2 {
                self.cut_way((other, one), until, faults);
            }
        }
        match kind {
            0 | 1 => "trouble: some ways cut",
            2 => "trouble: node mute",
            _ => "trouble: node deaf",
        }
    }

    /// Cuts a node off from the others for a while, but not from the clients.
    pub(super) fn cut_off(&mut self, now: Monotonic, machine: u32, faults: &mut Vec<Fault>) {
        let length = Duration::from_nanos(1 + self.rng.exponential(self.length_ns));
        for other in (0..self.nodes).filter(|other| *other != machine) {
            self.cut_way((machine, other), now + length, faults);
            self.cut_way((other, machine), now + length, faults);
        }
    }

    fn cut_way(&mut self, (from, to): (u32, u32), until: Monotonic, faults: &mut Vec<Fault>) {
        let mut cut = self.cut.iter_mut();
        if let Some(known) = cut.find(|(_, f, t)| (*f, *t) == (from, to)) {
            known.0 = known.0.max(until);
            return;
        }
        faults.push(Fault::Cut(from, to));
        self.cut.push((until, from, to));
    }

    /// Ends all of it: the world has been healed.
    pub(super) fn end(&mut self) {
        self.cut.clear();
        self.next = Monotonic(u64::MAX);
    }
}
