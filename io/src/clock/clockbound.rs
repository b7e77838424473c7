//! AWS ClockBound: a daemon that keeps the bound of the clock's error in a file in memory. Not its
//! client: the segment is read whole, twice if it is just being written.
//!
//! ```text
//! offset  0  magic           8 bytes
//!         8  segment bytes   u32
//!        12  version         u16   1 or 2
//!        14  generation      u16   odd while it is written
//!        16  as of           i64 seconds, i64 nanoseconds, of CLOCK_MONOTONIC_COARSE
//!        32  void after      the same
//!        48  bound           i64   nanoseconds, as of then
//!            version 1                          version 2
//!        56  max drift       u32 ppb        56  disruption marker  u64
//!        60  reserved        u32            64  max drift          u32 ppb
//!        64  status          i32            68  status             i32
//!                                           72  disruptions known  u8
//! ```
//!
//! A virtual machine that is moved or restored has another time than it thinks; the hypervisor says so by a
//! marker in `/dev/vmclock0`, which must be the one that the daemon has seen.
//!
//! Source: the protocol's description in the repository of ClockBound, `docs/PROTOCOL.md`.

use std::fs;
use std::path::Path;

use super::{Reading, Source, Untrusted, untrusted};
use crate::sys::{self, SystemClock};

const MAGIC: [u8; 8] = [0x41, 0x4d, 0x5a, 0x4e, 0x43, 0x42, 0x02, 0x00];
/// Bytes of the versions' fields.
const V1_BYTES: usize = 68;
const V2_BYTES: usize = 73;
/// How often a segment is read that is just being written.
const TRIES: u32 = 10;
/// Where the hypervisor tells of disruptions.
const VMCLOCK: &str = "/dev/vmclock0";
const VMCLOCK_MAGIC: u32 = 0x4b4c_4356;
/// The file that a version 1 daemon keeps, beside the one of version 2.
const V1_NAME: &str = "shm";

/// Reads the segment at `path`, or that of version 1 beside it.
pub(super) fn read(path: &Path) -> Result<Reading, Untrusted> {
    let older = path.with_file_name(V1_NAME);
    let is_older = !path.exists() && older.exists();
    let path = if is_older { older.as_path() } else { path };
    for _ in 0..TRIES {
        let bytes = fs::read(path);
        let bytes = bytes.map_err(|error| Untrusted(format!("{}: {error}", path.display())))?;
        // The same content twice was not written meanwhile.
        if fs::read(path).is_ok_and(|again| again == bytes) && generation(&bytes).is_multiple_of(2)
        {
            return parse(&bytes, sys::clock(SystemClock::Coarse), marker);
        }
    }
    untrusted("its segment is always being written")
}

fn generation(bytes: &[u8]) -> u16 {
    bytes
        .get(14..16)
        .map_or(1, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// Reads the marker of the hypervisor.
fn marker() -> Option<u64> {
    let bytes = fs::read(VMCLOCK).ok()?;
    let magic = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let marker = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (magic == VMCLOCK_MAGIC).then_some(marker)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the length was checked")
}

/// Returns a moment in nanoseconds; the end of time for one that is none.
fn moment(bytes: &[u8], at: usize) -> u64 {
    let seconds = i64::from_le_bytes(number(bytes, at));
    let nanos = i64::from_le_bytes(number(bytes, at + 8));
    let whole = u64::try_from(seconds)
        .ok()
        .and_then(|s| s.checked_mul(1_000_000_000));
    let part = u64::try_from(nanos).ok();
    whole
        .zip(part)
        .map_or(u64::MAX, |(whole, part)| whole.saturating_add(part))
}

/// Returns what a segment says at `now`, on the coarse monotonic clock.
fn parse(
    bytes: &[u8],
    now: u64,
    marker: impl FnOnce() -> Option<u64>,
) -> Result<Reading, Untrusted> {
    if bytes.len() < V1_BYTES || bytes[..8] != MAGIC {
        return untrusted("its segment is none of ClockBound");
    }
    let version = u16::from_le_bytes(number(bytes, 12));
    let (drift_at, status_at) = match version {
        1 => (56, 64),
        2 if bytes.len() >= V2_BYTES => (64, 68),
        _ => {
            return untrusted(format!(
                "its segment has version {version}; 1 and 2 are known"
            ));
        }
    };
    if generation(bytes) == 0 {
        return untrusted("its segment was never written");
    }
    match i32::from_le_bytes(number(bytes, status_at)) {
        1 | 2 => {}
        3 => return untrusted("the virtual machine's clock was disrupted"),
        status => return untrusted(format!("the clock's status is unknown ({status})")),
    }
    if version == 2 && bytes[72] == 1 && marker() != Some(u64::from_le_bytes(number(bytes, 56))) {
        return untrusted(
            "the virtual machine was moved or restored since, or /dev/vmclock0 cannot be read",
        );
    }
    let (as_of, void_after) = (moment(bytes, 16), moment(bytes, 32));
    if as_of > now || now > void_after {
        return untrusted("the daemon has not written its segment for too long");
    }
    let Ok(bound_ns) = u64::try_from(i64::from_le_bytes(number(bytes, 48))) else {
        return untrusted("its bound is negative");
    };
    let drift_ppb = u32::from_le_bytes(number(bytes, drift_at));
    let grown = u128::from(now - as_of) * u128::from(drift_ppb) / 1_000_000_000;
    Ok(Reading {
        source: Source::ClockBound,
        error_ns: bound_ns.saturating_add(u64::try_from(grown).unwrap_or(u64::MAX)),
        drift_ppb,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn segment(version: u16, status: i32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&80_u32.to_le_bytes());
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&4_u16.to_le_bytes());
        for part in [100_i64, 0, 1100, 0, 25_000] {
            bytes.extend_from_slice(&part.to_le_bytes());
        }
        if version >= 2 {
            bytes.extend_from_slice(&77_u64.to_le_bytes());
        }
        bytes.extend_from_slice(&50_000_u32.to_le_bytes());
        if version == 1 {
            bytes.extend_from_slice(&0_u32.to_le_bytes());
        }
        bytes.extend_from_slice(&status.to_le_bytes());
        bytes.resize(80, 0);
        bytes
    }

    fn error_ns(bytes: &[u8], now_s: u64) -> Result<u64, Untrusted> {
        parse(bytes, now_s * SECOND, || None).map(|reading| reading.error_ns)
    }

    #[test]
    fn both_versions_are_read_and_their_bound_grows() {
        for version in [1, 2] {
            let bytes = segment(version, 1);
            assert_eq!(error_ns(&bytes, 100), Ok(25_000));
            // Ten seconds at 50 ppm.
            assert_eq!(error_ns(&bytes, 110), Ok(525_000));
            assert!(error_ns(&segment(version, 2), 110).is_ok(), "free running");
        }
    }

    #[test]
    fn what_cannot_be_believed_is_not() {
        let why = |bytes: &[u8], now_s| error_ns(bytes, now_s).unwrap_err().0;
        assert!(why(&segment(2, 1), 1_101).contains("too long"));
        assert!(
            why(&segment(2, 1), 99).contains("too long"),
            "of another boot"
        );
        assert!(why(&segment(2, 0), 100).contains("unknown"));
        assert!(why(&segment(2, 3), 100).contains("disrupted"));
        assert!(why(&segment(3, 1), 100).contains("version 3"));
        assert!(why(&[0; 80], 100).contains("none of ClockBound"));
    }

    #[test]
    fn a_machine_that_was_moved_is_found_out_before_the_daemon_knows() {
        let mut bytes = segment(2, 1);
        bytes[72] = 1;
        let read = |marker: Option<u64>| parse(&bytes, 100 * SECOND, || marker);
        assert!(read(Some(77)).is_ok());
        assert!(read(Some(78)).is_err() && read(None).is_err());
    }

    #[test]
    fn a_segment_is_read_from_its_file_and_from_that_of_version_1_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shm0");
        assert!(read(&path).is_err());
        let now = i64::try_from(sys::clock(SystemClock::Coarse) / SECOND).unwrap();
        let mut bytes = segment(1, 1);
        bytes[16..24].copy_from_slice(&now.to_le_bytes());
        bytes[32..40].copy_from_slice(&(now + 100).to_le_bytes());
        fs::write(dir.path().join("shm"), &bytes).unwrap();
        assert!(read(&path).is_ok());
        bytes[14] = 5;
        fs::write(&path, &bytes).unwrap();
        assert!(read(&path).unwrap_err().0.contains("being written"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..90), now in any::<u64>()) {
            let _ = parse(&bytes, now, || None);
            let mut segment = segment(2, 1);
            segment.iter_mut().skip(12).zip(&bytes).for_each(|(to, from)| *to = *from);
            let _ = parse(&segment, now, || None);
        }
    }
}
