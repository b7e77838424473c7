//! chrony: its daemon is asked for its tracking over the command port, as `chronyc tracking` does. Not a
//! client for anything else it knows.
//!
//! The error is |offset| + root dispersion + root delay / 2. chrony's dispersion grows by a drift that it
//! has *estimated*; so a drift that the hardware may have is added for the time since its last update.
//!
//! ```text
//! request: version u8 = 6, type u8 = 1, 2 bytes, command u16 = 33, attempt u16, sequence u32, 8 bytes,
//!          then zeroes up to the length of the answer
//! answer:  version u8 = 6, type u8 = 2, 2 bytes, command u16, reply u16 = 5, status u16 = 0, 6 bytes,
//!          sequence u32, 8 bytes, then at
//!   28 reference id u32   32 address 20 bytes   52 stratum u16   54 leap status u16
//!   56 last update: seconds u32 (high), u32 (low), nanoseconds u32
//!   68 correction, 72 last offset, 76 mean offset, 80 frequency, 84 residual, 88 skew,
//!   92 root delay, 96 root dispersion, 100 update interval: each a float of 32 bits
//! ```
//! All numbers are big-endian. A float has 7 bits of exponent and 25 of coefficient, both signed.
//!
//! Source: chrony's `candm.h`, as its clients describe it.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::{DRIFT_PPB, Reading, Source, Untrusted, untrusted};
use crate::sys::{self, SystemClock};

const ANSWER_BYTES: usize = 104;
const VERSION: u8 = 6;
const COMMAND_TRACKING: u16 = 33;
const REPLY_TRACKING: u16 = 5;
/// Status of a daemon that is not synchronised.
const LEAP_UNSYNCHRONISED: u16 = 3;
/// Reference of a daemon that serves its own clock for want of a better one.
const REFERENCE_LOCAL: u32 = 0x7f7f_0101;
/// Longest wait for an answer: it comes from this machine.
const PATIENCE: Duration = Duration::from_millis(100);
/// Updates that may be missing, and the shortest time that they are taken to need.
const MISSED_MAX: f64 = 8.0;
const INTERVAL_MIN_S: f64 = 16.0;
/// Answers that one is asked for: the daemon has not much more to say within a second.
const PERIOD_NS: u64 = 1_000_000_000;

/// Asks the daemon.
#[derive(Debug)]
pub(super) struct Chrony {
    addr: SocketAddr,
    sequence: u32,
    /// What it said last, and when it was asked.
    last: Option<(u64, Result<Reading, Untrusted>)>,
}

impl Chrony {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            sequence: 0,
            last: None,
        }
    }

    /// Asks the daemon, or says again what it has said within the last second.
    pub(super) fn read(&mut self) -> Result<Reading, Untrusted> {
        let raw = sys::clock(SystemClock::Raw);
        if let Some((asked, said)) = &self.last
            && raw.saturating_sub(*asked) < PERIOD_NS
        {
            return said
                .clone()
                .map(|reading| grown(reading, raw.saturating_sub(*asked)));
        }
        self.sequence = self.sequence.wrapping_add(1);
        let said = ask(self.addr, self.sequence)
            .map_err(|error| Untrusted(format!("no answer of {}: {error}", self.addr)))
            .and_then(|answer| parse(&answer, self.sequence, sys::clock(SystemClock::Real)));
        self.last = Some((raw, said.clone()));
        said
    }
}

/// Returns a reading of some time ago. What chrony has slewed meanwhile has made the error smaller.
fn grown(reading: Reading, ago_ns: u64) -> Reading {
    Reading {
        error_ns: reading
            .error_ns
            .saturating_add(ago_ns.saturating_mul(u64::from(DRIFT_PPB)) / 1_000_000_000),
        ..reading
    }
}

#[expect(clippy::big_endian_bytes, reason = "the protocol's byte order")]
fn ask(addr: SocketAddr, sequence: u32) -> io::Result<Vec<u8>> {
    let own: SocketAddr = match addr {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(own)?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; ANSWER_BYTES];
    request[..2].copy_from_slice(&[VERSION, 1]);
    request[4..6].copy_from_slice(&COMMAND_TRACKING.to_be_bytes());
    request[8..12].copy_from_slice(&sequence.to_be_bytes());
    socket.send(&request)?;
    let mut answer = vec![0; 2 * ANSWER_BYTES];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

#[expect(clippy::big_endian_bytes, reason = "the protocol's byte order")]
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[expect(clippy::big_endian_bytes, reason = "the protocol's byte order")]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Returns a float of the protocol.
fn float(bytes: &[u8], at: usize) -> f64 {
    let word = word(bytes, at).cast_signed();
    let (exponent, coefficient) = (word >> 25, (word << 7) >> 7);
    f64::from(coefficient) * f64::from(exponent - 25).exp2()
}

/// Returns what an answer says when the wall clock shows `wall`, in nanoseconds.
fn parse(answer: &[u8], sequence: u32, wall: u64) -> Result<Reading, Untrusted> {
    let is_answer = answer.len() >= ANSWER_BYTES
        && answer[..2] == [VERSION, 2]
        && half(answer, 4) == COMMAND_TRACKING
        && half(answer, 6) == REPLY_TRACKING
        && half(answer, 8) == 0
        && word(answer, 16) == sequence;
    if !is_answer {
        return untrusted("its answer cannot be read");
    }
    if half(answer, 54) == LEAP_UNSYNCHRONISED {
        return untrusted("it is not synchronised");
    }
    if word(answer, 28) == REFERENCE_LOCAL {
        return untrusted("it has no better clock than this machine's own");
    }
    let updated_s = f64::from(word(answer, 56)) * 2_f64.powi(32)
        + f64::from(word(answer, 60))
        + f64::from(word(answer, 64)) / 1e9;
    let age_s = (wall as f64 / 1e9 - updated_s).max(0.0);
    let interval_s = float(answer, 100).max(INTERVAL_MIN_S);
    if age_s > MISSED_MAX * interval_s {
        return untrusted(format!("its last update is {age_s:.0} s old"));
    }
    let drift = age_s * f64::from(DRIFT_PPB) / 1e9;
    let error_s = float(answer, 68).abs() + float(answer, 96) + float(answer, 92) / 2.0 + drift;
    if !error_s.is_finite() || !(0.0..3600.0).contains(&error_s) {
        return untrusted("its error is without bound");
    }
    Ok(Reading {
        source: Source::Chrony,
        error_ns: nanos(error_s),
        drift_ppb: DRIFT_PPB,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the seconds are within an hour, and not negative"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).ceil() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the protocol's float nearest to a small number.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the coefficient is below 2^24"
    )]
    fn encode(value: f64) -> u32 {
        let mut exponent = -40_i32;
        while (value * f64::from(25 - exponent).exp2()).abs() >= f64::from(1 << 24) {
            exponent += 1;
        }
        let coefficient = (value * f64::from(25 - exponent).exp2()) as i32;
        (exponent << 25).cast_unsigned() | (coefficient.cast_unsigned() & 0x01ff_ffff)
    }

    #[expect(clippy::big_endian_bytes, reason = "the protocol's byte order")]
    fn answer(leap: u16, reference: u32, updated_s: u32) -> Vec<u8> {
        let mut bytes = vec![0; ANSWER_BYTES];
        bytes[..2].copy_from_slice(&[VERSION, 2]);
        bytes[4..6].copy_from_slice(&COMMAND_TRACKING.to_be_bytes());
        bytes[6..8].copy_from_slice(&REPLY_TRACKING.to_be_bytes());
        bytes[16..20].copy_from_slice(&9_u32.to_be_bytes());
        bytes[28..32].copy_from_slice(&reference.to_be_bytes());
        bytes[54..56].copy_from_slice(&leap.to_be_bytes());
        bytes[60..64].copy_from_slice(&updated_s.to_be_bytes());
        for (at, value) in [(68, -0.001), (92, 0.004), (96, 0.0005), (100, 64.0)] {
            bytes[at..at + 4].copy_from_slice(&encode(value).to_be_bytes());
        }
        bytes
    }

    const NOW: u64 = 1_000_100_000_000_000;

    #[test]
    fn floats_are_those_of_the_protocol() {
        for value in [0.0, 1.0, -1.0, 0.25, 3.5e-6, -64.5, 1e-9] {
            #[expect(clippy::big_endian_bytes, reason = "the protocol's byte order")]
            let bytes = encode(value).to_be_bytes();
            assert!(
                (float(&bytes, 0) - value).abs() <= value.abs() * 1e-6,
                "{value}"
            );
        }
    }

    #[test]
    fn the_error_is_offset_dispersion_half_the_delay_and_a_drift() {
        let reading = parse(&answer(0, 1, 1_000_090), 9, NOW).unwrap();
        // 1 ms + 0.5 ms + 2 ms + ten seconds at 50 ppm.
        assert!(reading.error_ns.abs_diff(4_000_000) < 1_000, "{reading:?}");
    }

    #[test]
    fn what_cannot_be_believed_is_not() {
        let why = |bytes: &[u8]| parse(bytes, 9, NOW).unwrap_err().0;
        assert!(why(&answer(3, 1, 1_000_090)).contains("not synchronised"));
        assert!(why(&answer(0, REFERENCE_LOCAL, 1_000_090)).contains("no better clock"));
        assert!(why(&answer(0, 1, 999_000)).contains("1100 s old"));
        let late = parse(&answer(0, 1, 1_000_090), 8, NOW).unwrap_err();
        assert!(
            late.0.contains("cannot be read"),
            "the answer to another question"
        );
    }

    #[test]
    fn a_daemon_is_asked_and_one_that_is_silent_or_absent_is_not_believed() {
        let daemon = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let addr = daemon.local_addr().unwrap();
        let mut chrony = Chrony::new(addr);
        assert!(chrony.read().unwrap_err().0.contains("no answer"));
        let mut request = [0; 200];
        let (length, _) = daemon.recv_from(&mut request).unwrap();
        assert_eq!(
            (length, request[0], half(&request, 4)),
            (ANSWER_BYTES, VERSION, COMMAND_TRACKING)
        );
        drop(daemon);
        assert!(Chrony::new(addr).read().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            noise in proptest::collection::vec(any::<u8>(), 0..120),
            wall in any::<u64>(),
        ) {
            let _ = parse(&noise, 9, wall);
            let mut bytes = answer(0, 1, 1);
            bytes.iter_mut().skip(28).zip(&noise).for_each(|(to, from)| *to = *from);
            let _ = parse(&bytes, 9, wall);
        }
    }
}
