//! Makes a failing schedule smaller while it still fails: first the rates of the world are turned off, then lines are
//! left out, larger parts first, faults before what clients ask.
//!
//! Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002 (delta debugging).

use ashlar_io::sim::Faults;

use super::knobs;
use super::schedule::{Line, Schedule, Step};

/// Returns a smaller schedule of which `fails` still says that it fails; it is asked at most `runs_max` times.
pub(super) fn shrink(
    schedule: &Schedule,
    runs_max: u32,
    fails: impl FnMut(&Schedule) -> bool,
) -> Schedule {
    let mut shrinker = Shrinker {
        best: schedule.clone(),
        left: runs_max,
        fails,
    };
    loop {
        let before = shrinker.size();
        shrinker.turn_off();
        shrinker.leave_out(|line| matches!(line.1, Step::Ask { .. }));
        shrinker.leave_out(|line| matches!(line.1, Step::Fault(_)));
        if shrinker.left == 0 || shrinker.size() == before {
            return shrinker.best;
        }
    }
}

struct Shrinker<F> {
    best: Schedule,
    left: u32,
    fails: F,
}

impl<F: FnMut(&Schedule) -> bool> Shrinker<F> {
    fn size(&self) -> usize {
        let mut faults = self.best.plan.faults.clone();
        let rates = knobs::of(&mut faults);
        self.best.lines.len()
            + rates
                .iter()
                .map(|(_, knob)| knob.text().len())
                .sum::<usize>()
    }

    /// Takes a candidate over if it still fails.
    fn try_out(&mut self, candidate: Schedule) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let still = (self.fails)(&candidate);
        if still {
            self.best = candidate;
        }
        still
    }

    /// Turns each rate off, all at once if that does.
    fn turn_off(&mut self) {
        let mut calm = self.best.clone();
        calm.plan.faults = Faults::none();
        if calm.plan.faults == self.best.plan.faults || self.try_out(calm) {
            return;
        }
        let mut none = Faults::none();
        for (at, (_, usual)) in knobs::of(&mut none).into_iter().enumerate() {
            let mut candidate = self.best.clone();
            let (_, knob) = &mut knobs::of(&mut candidate.plan.faults)[at];
            if knob.text() != usual.text() && knob.set(&usual.text()).is_some() {
                self.try_out(candidate);
            }
        }
    }

    /// Leaves out as many lines of a kind as it can.
    fn leave_out(&mut self, is_such: impl Fn(&Line) -> bool) {
        let count =
            |schedule: &Schedule| schedule.lines.iter().filter(|line| is_such(line)).count();
        let mut part = count(&self.best).div_ceil(2);
        while part > 0 && self.left > 0 {
            let (mut from, mut left_out) = (0, false);
            while from < count(&self.best) && self.left > 0 {
                let mut place = 0;
                let mut candidate = self.best.clone();
                candidate.lines.retain(|line| {
                    let goes = is_such(line) && (from..from + part).contains(&place);
                    place += usize::from(is_such(line));
                    !goes
                });
                match self.try_out(candidate) {
                    true => left_out = true,
                    false => from += part,
                }
            }
            part = match part {
                1 if left_out => 1,
                part => part / 2,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::schedule::Fault;

    #[test]
    fn what_is_needed_stays_and_nothing_else() {
        let mut text = "seed 1\nnodes 3\nlength 9\ndisk.stall 0.5\nnet.reset 0.25\n".to_owned();
        for n in 0..40 {
            text += &format!("1.{n:09} boot {}\n1.{n:09} ask 1 {n}\n", n % 3);
        }
        let schedule = Schedule::parse(&text).unwrap();
        let asks = |schedule: &Schedule, wanted: u64| {
            let mut lines = schedule.lines.iter();
            lines.any(|line| matches!(line.1, Step::Ask { seed, .. } if seed == wanted))
        };
        let boots = |schedule: &Schedule| {
            let is_two = |line: &&Line| line.1 == Step::Fault(Fault::Boot(2));
            schedule.lines.iter().filter(is_two).count()
        };
        let mut runs = 0;
        let small = shrink(&schedule, 1000, |candidate| {
            runs += 1;
            let is_off = candidate.plan.faults.disk.stall == 0.0;
            !is_off && asks(candidate, 7) && asks(candidate, 31) && boots(candidate) > 1
        });
        assert_eq!(small.lines.len(), 4, "{small}");
        assert_eq!(
            (small.plan.faults.disk.stall, small.plan.faults.net.reset),
            (0.5, 0.0)
        );
        assert!(runs < 200, "{runs}");
        assert_eq!(
            shrink(&schedule, 0, |_| true).lines.len(),
            80,
            "nothing may be tried"
        );
    }
}
