//! Wrong passwords, by address: whoever gives one waits before the next is looked at, longer each time.
//! Passwords from one address are looked at one after another, so more connections do not help.
//!
//! Invariant: [`ADDRESSES_MAX`] addresses are remembered; the one that has been silent longest is forgotten first.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::shared::lock;

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4096;
/// Wait after the first wrong password, in milliseconds; it doubles with each.
const WAIT_MS: u64 = 50;
/// Times that it doubles.
const DOUBLINGS_MAX: u32 = 6;
/// Longest wait, however many attempts wait before, in milliseconds.
const WAIT_MS_MAX: u64 = 30_000;
/// Silence after which an address is as good as new, in milliseconds.
const FORGOTTEN_AFTER_MS: u64 = 600_000;

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    free_at_ms: u64,
}

/// Wrong passwords, by address.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<String, Failures>>);

impl Attempts {
    /// Notes an attempt from an address without its port, and how it went; returns how long it is to wait for
    /// its answer, in milliseconds. A right password waits too while wrong ones are waited for.
    #[must_use]
    pub fn note(&self, addr: &str, is_right: bool, now_ms: u64) -> u64 {
        let mut known = lock(&self.0);
        let found = known.get(addr).copied().unwrap_or_default();
        let is_old = now_ms.saturating_sub(found.free_at_ms) > FORGOTTEN_AFTER_MS;
        let mut failures = if is_old { Failures::default() } else { found };
        if is_right {
            known.remove(addr);
            return failures.free_at_ms.saturating_sub(now_ms);
        }
        let wait_ms = WAIT_MS << failures.count.min(DOUBLINGS_MAX);
        let free_at_ms = failures.free_at_ms.max(now_ms) + wait_ms;
        failures.count += 1;
        failures.free_at_ms = free_at_ms.min(now_ms + WAIT_MS_MAX);
        if known.len() >= ADDRESSES_MAX && !known.contains_key(addr) {
            let oldest = known.iter().min_by_key(|(_, failures)| failures.free_at_ms);
            let oldest = oldest.map(|(addr, _)| addr.clone());
            oldest.map(|addr| known.remove(&addr));
        }
        known.insert(addr.to_owned(), failures);
        failures.free_at_ms - now_ms
    }
}

/// Says whether two secrets are the same, in a time that depends on the length of the one given alone.
#[must_use]
pub fn is_same(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != secret.len());
    for (place, byte) in given.iter().enumerate() {
        let of = secret
            .get(place % secret.len().max(1))
            .copied()
            .unwrap_or(0);
        difference |= std::hint::black_box(byte ^ of);
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_password_is_waited_for_longer() {
        let attempts = Attempts::default();
        assert_eq!(attempts.note("a", true, 1_000), 0);
        assert_eq!(attempts.note("a", false, 1_000), 50);
        assert_eq!(attempts.note("a", false, 1_050), 100);
        assert_eq!(
            attempts.note("a", false, 1_050),
            300,
            "behind the one that waits"
        );
        assert_eq!(attempts.note("b", false, 1_050), 50, "another address");
        for _ in 0..100 {
            assert!(attempts.note("a", false, 1_050) <= WAIT_MS_MAX);
        }
        assert_eq!(
            attempts.note("a", true, 1_050),
            WAIT_MS_MAX,
            "the right one, too"
        );
        assert_eq!(attempts.note("a", false, 1_050), 50);
        assert_eq!(attempts.note("b", false, 10_000_000), 50, "long ago");
    }

    #[test]
    fn few_addresses_are_remembered() {
        let attempts = Attempts::default();
        for n in 0..5_000_u64 {
            let _ = attempts.note(&n.to_string(), false, 1_000 + n);
        }
        assert_eq!(lock(&attempts.0).len(), ADDRESSES_MAX);
    }

    #[test]
    fn secrets_are_the_same_when_they_are() {
        for (one, other, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("aa", "a", false),
            ("a", "aa", false),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
        ] {
            assert_eq!(
                is_same(one.as_bytes(), other.as_bytes()),
                expected,
                "{one} {other}"
            );
        }
    }
}
