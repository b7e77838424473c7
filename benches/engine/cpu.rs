//! How long something took, by the clock and by the CPU. Where others use the machine as well, the
//! CPU time is what can be compared.

use std::time::Instant;

use ashlar_benches::process;

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

/// Returns the CPU time that all threads of a process have used, in seconds; 0 when it is gone.
pub(crate) fn cpu_s(process: &str) -> f64 {
    process::cpu_s(process).unwrap_or(0.0)
}
