//! How long something took, by the clock and by the CPU. Where others use the machine as well, the
//! CPU time is what can be compared.

use std::fs;
use std::time::Instant;

/// Ticks per second in `/proc`; the kernel reports 100 to programs whatever its own rate is.
const TICKS_PER_S: f64 = 100.0;

/// A measurement that goes on.
#[derive(Debug)]
pub(crate) struct Meter {
    process: String,
    since: Instant,
    cpu_s: f64,
}

/// What a measurement came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Took {
    /// Operations in a second of the clock.
    pub(crate) per_s: f64,
    /// Microseconds of CPU time of the whole process for an operation.
    pub(crate) cpu_us: f64,
}

impl Meter {
    /// Begins to measure this process.
    pub(crate) fn start() -> Self {
        Self::of("self".to_owned())
    }

    /// Begins to measure a process: its number, or `self`.
    pub(crate) fn of(process: String) -> Self {
        Self {
            cpu_s: cpu_s(&process),
            process,
            since: Instant::now(),
        }
    }

    /// Says what `count` operations took so far.
    pub(crate) fn stop(&self, count: u64) -> Took {
        let elapsed_s = self.since.elapsed().as_secs_f64();
        Took {
            per_s: count as f64 / elapsed_s,
            cpu_us: (cpu_s(&self.process) - self.cpu_s) * 1e6 / count.max(1) as f64,
        }
    }
}

/// Returns the CPU time that all threads of a process have used, in seconds.
pub(crate) fn cpu_s(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    ticks(&stat).unwrap_or(0) as f64 / TICKS_PER_S
}

/// Returns user and system time from `/proc/PID/stat`; the name in parentheses may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_an_odd_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 230 45 0 0 20 0 1 0 99";
        assert_eq!(ticks(stat), Some(275));
        assert_eq!(ticks("7 (a) S 1 2"), None);
    }
}
