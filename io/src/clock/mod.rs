//! How far this machine's wall clock may be off, and who says so. Not a clock: time is read where it
//! always is, and this is its error.
//!
//! One thread asks the source ([`keep`]) and puts what it says on a [`Board`], which every shard looks
//! at. Between two answers the error grows: by what the wall clock has moved against the raw clock of
//! the hardware, and by what that one may drift. So a clock that is set, slewed or stood still is found
//! out by whoever looks, not only by the next answer.
//!
//! | source | says | traps |
//! |---|---|---|
//! | ClockBound | a bound, in shared memory | stale, void, disrupted by a move of the virtual machine |
//! | chrony | offset, dispersion, delay | an estimate: it grows by a drift here; no update; `local` |
//! | PTP hardware clock | its time, and its driver its error | a driver that tells none; TAI for UTC |
//! | kernel | `maxerror` | 0 where systemd-timesyncd keeps the clock; unsynchronised; leap seconds |
//! | static | what the operator vouches for | the operator |
//!
//! `auto` takes the first of ClockBound, chrony and PTP that answers, then what the operator vouches for. The
//! kernel is believed only when it is asked for by name: nobody can tell whether its number is kept up.
//! A leap second that one machine smears and another does not is in no bound: members of a cluster compare
//! theirs.

mod board;
mod chrony;
mod clockbound;
pub(crate) mod kernel;
mod phc;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

pub use self::board::{Board, Known};
use self::chrony::Chrony;
use crate::sys::{self, SystemClock};

/// Most that the hardware's clock drifts, in parts per billion: 50 ppm, as vendors of it promise.
pub const DRIFT_PPB: u32 = 50_000;
/// Time between two answers.
const PERIOD: Duration = Duration::from_millis(200);
/// How long nothing is believed after the clock was set by more than [`STEP_NS`].
const STEP_PATIENCE_NS: u64 = 30_000_000_000;
/// A change of the wall clock, between two answers, that is no slew any more.
const STEP_NS: u64 = 50_000_000;

/// Who says how far a clock may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The daemon of that name, through shared memory.
    ClockBound,
    /// The daemon of that name, through its command port.
    Chrony,
    /// A clock in a network device, which keeps the time of its network.
    Ptp,
    /// The kernel's own estimate.
    Kernel,
    /// The operator.
    Static,
}

impl Source {
    /// Every source, best first.
    pub const EVERY: [Self; 5] = [
        Self::ClockBound,
        Self::Chrony,
        Self::Ptp,
        Self::Kernel,
        Self::Static,
    ];

    /// Returns its name in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ClockBound => "clockbound",
            Self::Chrony => "chrony",
            Self::Ptp => "ptp",
            Self::Kernel => "kernel",
            Self::Static => "static",
        }
    }
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best that answers.
    #[default]
    Auto,
    /// This one.
    Only(Source),
    /// Nobody.
    None,
}

/// What a keeper is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to ask.
    pub choice: Choice,
    /// What the operator vouches for; 0 for nothing.
    pub static_error_ns: u64,
    /// The shared memory of ClockBound.
    pub clockbound: PathBuf,
    /// The command port of chrony.
    pub chrony: SocketAddr,
}

/// Why a source is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untrusted(pub String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn untrusted<T>(why: impl Into<String>) -> Result<T, Untrusted> {
    Err(Untrusted(why.into()))
}

/// What a source says: the wall clock is off by at most so much now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Who says so.
    pub source: Source,
    /// How far it may be off, in nanoseconds.
    pub error_ns: u64,
    /// What that grows by, in parts per billion.
    pub drift_ppb: u32,
}

/// Asks the source.
#[derive(Debug)]
pub struct Keeper {
    options: Options,
    chrony: Chrony,
    /// The wall clock and the raw clock as of the last answer.
    last: Option<(u64, u64)>,
    /// Nothing is believed before it, on the raw clock.
    distrusted_until: u64,
}

impl Keeper {
    /// Makes a keeper; nothing is asked yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            chrony: Chrony::new(options.chrony),
            options,
            last: None,
            distrusted_until: 0,
        }
    }

    /// Asks the source, and puts what it says on the board.
    pub fn ask(&mut self, board: &Board) {
        let reading = self.read();
        let (wall, raw) = (sys::clock(SystemClock::Real), sys::clock(SystemClock::Raw));
        board.publish(self.judge(reading, wall, raw), (wall, raw));
    }

    /// Believes a reading, unless the clock was set a short time ago: who keeps it may not know yet.
    fn judge(
        &mut self,
        reading: Result<Reading, Untrusted>,
        wall: u64,
        raw: u64,
    ) -> Result<Reading, Untrusted> {
        if let Some((wall_before, raw_before)) = self.last.replace((wall, raw)) {
            let moved = wall.cast_signed() - wall_before.cast_signed();
            let passed = raw.cast_signed() - raw_before.cast_signed();
            if moved.abs_diff(passed) > STEP_NS {
                self.distrusted_until = raw.saturating_add(STEP_PATIENCE_NS);
            }
        }
        match raw < self.distrusted_until {
            true => untrusted("the wall clock was set, or stood still, a short time ago"),
            false => reading,
        }
    }

    fn read(&mut self) -> Result<Reading, Untrusted> {
        match self.options.choice {
            Choice::None => untrusted("clock.source = none: nobody is asked"),
            Choice::Only(source) => self.read_from(source),
            Choice::Auto => self.read_best(),
        }
    }

    /// Asks one after the other; says of all why not when none is believed.
    fn read_best(&mut self) -> Result<Reading, Untrusted> {
        let mut whys = Vec::new();
        for source in [
            Source::ClockBound,
            Source::Chrony,
            Source::Ptp,
            Source::Static,
        ] {
            match self.read_from(source) {
                Ok(reading) => return Ok(reading),
                Err(why) => whys.push(format!("{}: {why}", source.word())),
            }
        }
        if let Err(why) = kernel::read() {
            whys.push(format!("kernel: {why}"));
        }
        untrusted(whys.join("; "))
    }

    fn read_from(&mut self, source: Source) -> Result<Reading, Untrusted> {
        match source {
            Source::ClockBound => clockbound::read(&self.options.clockbound),
            Source::Chrony => self.chrony.read(),
            Source::Ptp => phc::read(),
            Source::Kernel => kernel::read(),
            Source::Static => match self.options.static_error_ns {
                0 => untrusted("clock.error_bound_ms is not given"),
                error_ns => Ok(Reading {
                    source,
                    error_ns,
                    drift_ppb: DRIFT_PPB,
                }),
            },
        }
    }
}

/// Asks the source once, for people; returns how far the clock may be off, in microseconds, and who says so.
///
/// # Errors
/// Why nobody is believed.
pub fn ask_once(options: Options) -> Result<(Source, u64), Untrusted> {
    let reading = Keeper::new(options).read()?;
    Ok((reading.source, reading.error_ns / 1_000 + 1))
}

/// Asks the source again and again, until nobody looks at the board any more. It is the whole work of a
/// thread.
pub fn keep(mut keeper: Keeper, board: &Weak<Board>) {
    while let Some(board) = board.upgrade() {
        keeper.ask(&board);
        drop(board);
        sys::pause(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(choice: Choice, static_error_ns: u64) -> Keeper {
        Keeper::new(Options {
            choice,
            static_error_ns,
            clockbound: PathBuf::from("/nonexistent/clockbound"),
            chrony: ([127, 0, 0, 1], 1).into(),
        })
    }

    #[test]
    fn the_operator_is_asked_last() {
        let mut keeper = keeper(Choice::Auto, 7_000_000);
        let reading = keeper.read_from(Source::Static).unwrap();
        assert_eq!(
            (reading.source, reading.error_ns),
            (Source::Static, 7_000_000)
        );
        let none = self::keeper(Choice::None, 7_000_000).read();
        assert!(none.unwrap_err().0.contains("clock.source = none"));
        let why = self::keeper(Choice::Only(Source::ClockBound), 0).read();
        assert!(why.unwrap_err().0.contains("/nonexistent/clockbound"));
    }

    #[test]
    fn a_clock_that_was_set_is_not_believed_for_a_while() {
        let mut keeper = keeper(Choice::None, 0);
        let good = Ok(Reading {
            source: Source::Chrony,
            error_ns: 1,
            drift_ppb: 0,
        });
        let second = 1_000_000_000;
        assert_eq!(keeper.judge(good.clone(), 5 * second, second), good);
        assert_eq!(
            keeper.judge(good.clone(), 6 * second + 1_000, 2 * second),
            good
        );
        assert!(keeper.judge(good.clone(), 5 * second, 3 * second).is_err());
        assert!(
            keeper
                .judge(good.clone(), 34 * second, 32 * second)
                .is_err()
        );
        assert_eq!(keeper.judge(good.clone(), 35 * second, 33 * second), good);
    }
}
