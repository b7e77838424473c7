//! The kernel's own estimate of its clock's error: `maxerror`, which who keeps the clock has set, and which
//! the kernel lets grow by 500 ppm since.
//!
//! Traps: chrony sets it only with `rtcsync`; systemd-timesyncd sets it to 0, which is a lie; a kernel that
//! was not told for long says that it is unsynchronised; around a leap second the clock is off by one.

use super::{DRIFT_PPB, Reading, Source, Untrusted, untrusted};
use crate::sys;

/// Seconds of a day, and how near to its end a leap second makes itself felt.
const DAY_S: u64 = 86_400;
const LEAP_MARGIN_S: u64 = 2;
/// States of the kernel's clock: a leap second is due at the end of the day, is now, was just.
const TIME_INS: i32 = 1;
const TIME_DEL: i32 = 2;
const TIME_OOP: i32 = 3;
const TIME_WAIT: i32 = 4;
const TIME_ERROR: i32 = 5;
/// Nobody keeps the clock.
const STA_UNSYNC: i32 = 0x40;
/// `offset` is in nanoseconds.
const STA_NANO: i32 = 0x2000;

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelClock {
    pub(crate) state: i32,
    pub(crate) status: i32,
    pub(crate) max_error_us: i64,
    /// What is still to be slewed.
    pub(crate) offset: i64,
    /// Seconds since 1970.
    pub(crate) now_s: u64,
    /// Seconds that TAI is ahead of UTC; 0 when nobody has said so.
    pub(crate) tai_s: i32,
}

pub(super) fn read() -> Result<Reading, Untrusted> {
    let clock = sys::kernel_clock();
    judge(&clock.map_err(|error| Untrusted(format!("adjtimex: {error}")))?)
}

fn judge(clock: &KernelClock) -> Result<Reading, Untrusted> {
    if clock.state == TIME_ERROR || clock.status & STA_UNSYNC != 0 {
        return untrusted("this machine's clock is unsynchronised");
    }
    let left_s = DAY_S - clock.now_s % DAY_S;
    let leaps = match clock.state {
        TIME_OOP | TIME_WAIT => true,
        TIME_INS | TIME_DEL => left_s <= LEAP_MARGIN_S,
        _ => false,
    };
    if leaps {
        return untrusted("a leap second is now");
    }
    let Some(max_error_us) = u64::try_from(clock.max_error_us).ok().filter(|us| *us > 0) else {
        return untrusted(
            "its largest error is 0, as systemd-timesyncd says of a clock whose error it does not know",
        );
    };
    let offset_ns = match clock.status & STA_NANO {
        0 => clock.offset.unsigned_abs().saturating_mul(1_000),
        _ => clock.offset.unsigned_abs(),
    };
    Ok(Reading {
        source: Source::Kernel,
        error_ns: max_error_us.saturating_mul(1_000).saturating_add(offset_ns),
        drift_ppb: DRIFT_PPB,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: KernelClock = KernelClock {
        state: 0,
        status: STA_NANO,
        max_error_us: 1_500,
        offset: -20_000,
        now_s: 1_000,
        tai_s: 37,
    };

    #[test]
    fn the_error_is_the_largest_and_what_is_still_to_be_slewed() {
        assert_eq!(judge(&GOOD).unwrap().error_ns, 1_520_000);
        let coarse = KernelClock { status: 0, ..GOOD };
        assert_eq!(judge(&coarse).unwrap().error_ns, 21_500_000);
    }

    #[test]
    fn what_cannot_be_believed_is_not() {
        let why = |clock: KernelClock| judge(&clock).unwrap_err().0;
        let unsynchronised = "this machine's clock is unsynchronised";
        assert_eq!(
            why(KernelClock {
                state: TIME_ERROR,
                ..GOOD
            }),
            unsynchronised
        );
        assert_eq!(
            why(KernelClock {
                status: STA_UNSYNC,
                ..GOOD
            }),
            unsynchronised
        );
        assert!(
            why(KernelClock {
                max_error_us: 0,
                ..GOOD
            })
            .contains("timesyncd")
        );
        assert!(
            why(KernelClock {
                max_error_us: -1,
                ..GOOD
            })
            .contains("timesyncd")
        );
        assert!(
            why(KernelClock {
                state: TIME_WAIT,
                ..GOOD
            })
            .contains("leap second")
        );
        let soon = KernelClock {
            state: TIME_INS,
            now_s: DAY_S - 1,
            ..GOOD
        };
        assert!(why(soon).contains("leap second"));
        assert!(
            judge(&KernelClock {
                now_s: DAY_S - 10,
                ..soon
            })
            .is_ok()
        );
    }

    #[test]
    fn this_machine_answers() {
        assert!(sys::kernel_clock().is_ok());
    }
}
