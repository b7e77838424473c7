//! What the kernel tells of a process that is measured.

use std::fs;

/// Ticks per second in `/proc`; the kernel reports 100 to programs whatever its own rate is.
const TICKS_PER_S: f64 = 100.0;

/// Returns the CPU time that all threads of a process have used, in seconds; the process is a number, or `self`.
///
/// # Errors
/// One line: there is no such process, or what is told of it cannot be understood.
pub fn cpu_s(process: &str) -> Result<f64, String> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| format!("cannot understand {path}"))?;
    Ok(ticks as f64 / TICKS_PER_S)
}

/// Returns user and system time from `/proc/PID/stat`, in ticks; the name in parentheses may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
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
        assert_eq!(cpu_ticks(stat), Some(275));
        assert_eq!(cpu_ticks("7 (a) S 1 2"), None);
        assert!(cpu_s("self").is_ok() && cpu_s("0").is_err());
    }
}
