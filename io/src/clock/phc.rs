//! The clock of a network device that keeps the time of its network (PTP): what it shows is compared with
//! the wall clock, and its driver says how far it is off itself. Not what sets the wall clock.
//!
//! Traps: most drivers do not tell their error, and a clock whose error is not known bounds nothing; many such
//! clocks show TAI, which is some whole seconds ahead.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DRIFT_PPB, Reading, Source, Untrusted, untrusted};
use crate::sys::{self, PhcReading};

/// Where the kernel lists such clocks, and the file in which a driver tells its error.
const CLASS: &str = "/sys/class/ptp";
const ERROR_FILE: &str = "device/phc_error_bound";
/// Errors from this on mean that the device does not know.
const ERROR_NS_MAX: u64 = 1_000_000_000;
/// Readings of which the quickest counts.
const TRIES: u32 = 5;
const SECOND_NS: i64 = 1_000_000_000;
/// What TAI can be ahead by, in seconds, when the kernel was not told.
const TAI_S_MIN: i64 = 30;
const TAI_S_MAX: i64 = 45;

pub(super) fn read() -> Result<Reading, Untrusted> {
    let mut whys = Vec::new();
    for name in names(Path::new(CLASS)) {
        match read_device(&name) {
            Ok(reading) => return Ok(reading),
            Err(why) => whys.push(format!("{name}: {why}")),
        }
    }
    match whys.is_empty() {
        true => untrusted("no network device has a clock"),
        false => untrusted(whys.join(", ")),
    }
}

fn names(class: &Path) -> Vec<String> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

fn read_device(name: &str) -> Result<Reading, Untrusted> {
    let file: PathBuf = Path::new(CLASS).join(name).join(ERROR_FILE);
    let told = fs::read_to_string(file).ok();
    let Some(own_error_ns) = told.and_then(|text| text.trim().parse().ok()) else {
        return untrusted("its driver does not tell its error");
    };
    let device = fs::File::open(Path::new("/dev").join(name));
    let device = device.map_err(|error| Untrusted(error.to_string()))?;
    let readings = (0..TRIES).map(|_| sys::read_phc(&device));
    let best = readings.flatten().min_by_key(|reading| reading.window_ns);
    let Some(best) = best else {
        return untrusted("it cannot be read");
    };
    let tai_s = sys::kernel_clock().map_or(0, |clock| clock.tai_s);
    judge(&best, own_error_ns, tai_s)
}

fn judge(reading: &PhcReading, own_error_ns: u64, tai_s: i32) -> Result<Reading, Untrusted> {
    if own_error_ns == 0 || own_error_ns >= ERROR_NS_MAX {
        return untrusted(format!(
            "its driver says that its error is {own_error_ns} ns"
        ));
    }
    let mut ahead = reading.device.cast_signed() - reading.wall.cast_signed();
    let whole_s = (ahead + SECOND_NS / 2).div_euclid(SECOND_NS);
    if (TAI_S_MIN..=TAI_S_MAX).contains(&whole_s) {
        if tai_s == 0 || i64::from(tai_s) != whole_s {
            return untrusted(
                "it seems to show TAI, and the kernel was not told how far that is ahead",
            );
        }
        ahead -= i64::from(tai_s) * SECOND_NS;
    }
    Ok(Reading {
        source: Source::Ptp,
        error_ns: ahead.unsigned_abs() + reading.window_ns + own_error_ns,
        drift_ppb: DRIFT_PPB,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(ahead_ns: i64) -> PhcReading {
        PhcReading {
            device: 5_000_000_000_u64.saturating_add_signed(ahead_ns),
            wall: 5_000_000_000,
            window_ns: 1_000,
        }
    }

    #[test]
    fn the_error_is_the_distance_the_time_of_reading_and_the_devices_own() {
        assert_eq!(judge(&reading(4_000), 20_000, 0).unwrap().error_ns, 25_000);
        assert_eq!(
            judge(&reading(-4_000), 20_000, 37).unwrap().error_ns,
            25_000
        );
    }

    #[test]
    fn tai_is_told_from_a_clock_that_is_off() {
        let tai = reading(37 * SECOND_NS + 4_000);
        assert_eq!(judge(&tai, 20_000, 37).unwrap().error_ns, 25_000);
        assert!(judge(&tai, 20_000, 0).is_err() && judge(&tai, 20_000, 36).is_err());
        let off = judge(&reading(10 * SECOND_NS), 20_000, 37).unwrap();
        assert!(off.error_ns > 10_000_000_000);
    }

    #[test]
    fn a_device_that_does_not_know_its_error_bounds_nothing() {
        assert!(judge(&reading(0), 0, 0).is_err() && judge(&reading(0), 0xffff_ffff, 0).is_err());
        assert!(names(Path::new("/nonexistent")).is_empty());
    }
}
