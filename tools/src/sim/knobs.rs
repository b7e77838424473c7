//! The rates and bounds of a simulated world by their names, for a schedule to say them and a shrinker to turn them
//! off.

use ashlar_io::sim::Faults;

/// A number of a world.
#[derive(Debug)]
pub(super) enum Knob<'a> {
    Rate(&'a mut f64),
    Large(&'a mut u64),
    Small(&'a mut u32),
}

impl Knob<'_> {
    /// Returns the number as it is written.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Rate(rate) => rate.to_string(),
            Self::Large(number) => number.to_string(),
            Self::Small(number) => number.to_string(),
        }
    }

    /// Takes a number over as it was written.
    pub(super) fn set(&mut self, text: &str) -> Option<()> {
        match self {
            Self::Rate(rate) => **rate = text.parse().ok().filter(|rate| *rate >= 0.0)?,
            Self::Large(number) => **number = text.parse().ok()?,
            Self::Small(number) => **number = text.parse().ok()?,
        }
        Some(())
    }
}

/// Returns every number of a world by its name.
pub(super) fn of(faults: &mut Faults) -> [(&'static str, Knob<'_>); 36] {
    use Knob::{Large, Rate, Small};
    let Faults {
        disk,
        net,
        clock,
        schedule,
    } = faults;
    [
        ("disk.write_latency_ns", Large(&mut disk.write_latency_ns)),
        ("disk.read_latency_ns", Large(&mut disk.read_latency_ns)),
        ("disk.sync_latency_ns", Large(&mut disk.sync_latency_ns)),
        ("disk.short", Rate(&mut disk.short)),
        ("disk.interrupt", Rate(&mut disk.interrupt)),
        ("disk.read_error", Rate(&mut disk.read_error)),
        ("disk.write_error", Rate(&mut disk.write_error)),
        ("disk.sync_error", Rate(&mut disk.sync_error)),
        ("disk.no_space", Rate(&mut disk.no_space)),
        ("disk.stall", Rate(&mut disk.stall)),
        ("disk.rot", Rate(&mut disk.rot)),
        ("disk.misdirect", Rate(&mut disk.misdirect)),
        ("disk.lost_write", Rate(&mut disk.lost_write)),
        ("disk.damaged_nodes", Large(&mut disk.damaged_nodes)),
        ("disk.crash.keep", Small(&mut disk.crash.keep)),
        ("disk.crash.old", Small(&mut disk.crash.old)),
        ("disk.crash.torn", Small(&mut disk.crash.torn)),
        ("disk.crash.garbage", Small(&mut disk.crash.garbage)),
        ("net.latency_min_ns", Large(&mut net.latency_min_ns)),
        ("net.latency_max_ns", Large(&mut net.latency_max_ns)),
        ("net.latency_tail_ns", Large(&mut net.latency_tail_ns)),
        ("net.chop", Rate(&mut net.chop)),
        ("net.partial_send", Rate(&mut net.partial_send)),
        ("net.reset", Rate(&mut net.reset)),
        ("net.cut", Rate(&mut net.cut)),
        ("net.cut_mean_ns", Large(&mut net.cut_mean_ns)),
        ("net.no_buffers", Rate(&mut net.no_buffers)),
        ("net.refuse", Rate(&mut net.refuse)),
        ("clock.offset_max_us", Large(&mut clock.offset_max_us)),
        ("clock.drift_max_ppm", Small(&mut clock.drift_max_ppm)),
        ("clock.jump_interval_ns", Large(&mut clock.jump_interval_ns)),
        ("clock.jump_max_us", Large(&mut clock.jump_max_us)),
        ("clock.bound_slack_us", Large(&mut clock.bound_slack_us)),
        ("clock.bound_lies", Rate(&mut clock.bound_lies)),
        ("schedule.hold", Rate(&mut schedule.hold)),
        ("schedule.hold_max_ns", Large(&mut schedule.hold_max_ns)),
    ]
}
