//! What clients know of the keys that they own, and what an answer may therefore be.
//!
//! Each key is written by one client, one write at a time, and each write has a number of its own.
//! A write whose answer never came floats: its bytes may still be on their way, and it may take
//! effect at any later time, or never. A crash ends that: what floats then either is in the log or
//! never will be.
//!
//! Invariant checked: an answer is the last definite write, or one that floats, or (for those who
//! read while the owner writes) one begun since.

use std::collections::BTreeMap;

/// A write of a key: its number, and whether it deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) number: u64,
    pub(super) deletes: bool,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What the key may be, if nothing that floats takes effect: one write unless a crash has left
    /// it open. Empty means never written.
    candidates: Vec<Write>,
    floating: Vec<Write>,
    last: u64,
}

impl Known {
    /// Begins a write; returns its number.
    pub(super) fn begin(&mut self, deletes: bool) -> Write {
        self.last += 1;
        let write = Write {
            number: self.last,
            deletes,
        };
        self.floating.push(write);
        write
    }

    /// The write was acknowledged.
    pub(super) fn acknowledged(&mut self, write: Write) {
        self.floating.retain(|floating| *floating != write);
        self.settle(write, write.number);
    }

    /// The key was `write` when nothing later than `upto` had been begun. What was begun later stays
    /// open: the answer may have been on its way when the node died with a later write at hand.
    fn settle(&mut self, write: Write, upto: u64) {
        self.candidates.retain(|other| other.number > upto);
        self.candidates.insert(0, write);
    }

    /// Returns the last write begun so far.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The write was refused: it certainly has no effect.
    pub(super) fn refused(&mut self, write: Write) {
        self.floating.retain(|floating| *floating != write);
    }

    /// The node died: what floats is in its log or nowhere.
    pub(super) fn crashed(&mut self) {
        if self.candidates.is_empty() && !self.floating.is_empty() {
            self.candidates.push(Write {
                number: 0,
                deletes: true,
            });
        }
        self.candidates.append(&mut self.floating);
    }

    /// Checks what the owner read, `None` for a missing key, having asked when `upto` was the last
    /// write begun.
    pub(super) fn read_by_owner(&mut self, upto: u64, found: Option<u64>) -> Result<(), String> {
        let matches = |write: &&Write| match found {
            Some(number) => write.number == number && !write.deletes,
            None => write.deletes,
        };
        let candidate = self.candidates.iter().find(matches).copied();
        let floating = self.floating.iter().find(matches).copied();
        let never = found.is_none() && self.candidates.is_empty();
        let now = match (candidate, floating, never) {
            (_, _, true) => return Ok(()),
            (Some(write), _, _) => write,
            (None, Some(write), _) => {
                self.floating.retain(|other| *other != write);
                write
            }
            (None, None, false) => {
                return Err(format!("read {found:?}, but the key is one of {self:?}"));
            }
        };
        self.settle(now, upto);
        Ok(())
    }

    /// Returns what a read by another client may find from now on: numbers from the first on, or
    /// one that floats.
    pub(super) fn horizon(&self) -> Horizon {
        let definite = self
            .candidates
            .iter()
            .map(|write| write.number)
            .min()
            .unwrap_or(0);
        Horizon {
            definite,
            floating: self.floating.iter().map(|write| write.number).collect(),
        }
    }

    /// Checks what another client read, having begun when `horizon` was taken.
    pub(super) fn read_by_other(
        &self,
        horizon: &Horizon,
        found: Option<u64>,
    ) -> Result<(), String> {
        // A missing key carries no number; only the owner can check it.
        let Some(number) = found else { return Ok(()) };
        let allowed = (number >= horizon.definite && number <= self.last)
            || horizon.floating.contains(&number);
        if allowed {
            Ok(())
        } else {
            Err(format!(
                "another client read {number}, outside {horizon:?} of {self:?}"
            ))
        }
    }
}

/// See [`Known::horizon`].
#[derive(Clone, Debug)]
pub(super) struct Horizon {
    definite: u64,
    floating: Vec<u64>,
}

/// What is known of a counter: how often it was certainly and perhaps increased.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    certain: u64,
    perhaps: u64,
    seen: u64,
}

impl Counter {
    pub(super) fn unknown(&mut self) {
        self.perhaps += 1;
    }

    /// Checks the sum that an acknowledged increment answered.
    pub(super) fn increased(&mut self, sum: u64) -> Result<(), String> {
        self.certain += 1;
        let allowed = self.certain.max(self.seen + 1)..=self.certain + self.perhaps;
        self.seen = sum;
        if allowed.contains(&sum) {
            Ok(())
        } else {
            Err(format!("an increment answered {sum}, outside {allowed:?}"))
        }
    }

    /// Checks what the counter is.
    pub(super) fn read(&mut self, sum: u64) -> Result<(), String> {
        let allowed = self.seen.max(self.certain)..=self.certain + self.perhaps;
        self.seen = sum;
        if allowed.contains(&sum) {
            Ok(())
        } else {
            Err(format!("the counter is {sum}, outside {allowed:?}"))
        }
    }
}

/// Everything that the clients know.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<String, Known>,
    pub(super) counters: BTreeMap<String, Counter>,
    pub(super) violation: Option<String>,
    pub(super) acknowledged: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    /// Clients that have checked all their keys at the end.
    pub(super) finished: u32,
}

impl Model {
    /// The node died.
    pub(super) fn crashed(&mut self) {
        self.keys.values_mut().for_each(Known::crashed);
    }

    /// Notes the first violation.
    pub(super) fn check(&mut self, what: &str, result: Result<(), String>) {
        if let Err(error) = result {
            self.violation.get_or_insert(format!("{what}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_write_is_a_violation() {
        let mut key = Known::default();
        let first = key.begin(false);
        key.acknowledged(first);
        let second = key.begin(false);
        assert!(
            key.clone().read_by_owner(9, Some(1)).is_ok(),
            "the second is not acknowledged yet"
        );
        key.acknowledged(second);
        assert!(
            key.clone().read_by_owner(9, Some(1)).is_err(),
            "the second is acknowledged"
        );
        assert!(key.clone().read_by_owner(9, None).is_err());
        assert!(key.read_by_owner(9, Some(2)).is_ok());
    }

    #[test]
    fn a_refused_write_must_not_appear() {
        let mut key = Known::default();
        let write = key.begin(false);
        key.refused(write);
        assert!(key.clone().read_by_owner(9, Some(1)).is_err());
        assert!(key.read_by_owner(9, None).is_ok());
    }

    #[test]
    fn an_unknown_write_is_decided_by_the_first_read_after_a_crash() {
        let mut key = Known::default();
        let first = key.begin(false);
        key.acknowledged(first);
        key.begin(true);
        key.crashed();
        assert!(key.clone().read_by_owner(9, None).is_ok());
        assert!(key.read_by_owner(9, Some(1)).is_ok());
        assert!(
            key.read_by_owner(9, None).is_err(),
            "it was there after the crash, so the deletion never happened"
        );
    }

    #[test]
    fn an_answer_from_before_a_crash_leaves_later_writes_open() {
        let mut key = Known::default();
        let first = key.begin(false);
        key.acknowledged(first);
        let asked = key.last();
        key.begin(false);
        key.crashed();
        assert!(key.read_by_owner(asked, Some(1)).is_ok());
        assert!(
            key.read_by_owner(9, Some(2)).is_ok(),
            "the second was in the log after all"
        );
    }

    #[test]
    fn a_counter_counts_each_acknowledged_increment_once() {
        let mut counter = Counter::default();
        assert!(counter.increased(1).is_ok());
        counter.unknown();
        assert!(counter.increased(3).is_ok());
        assert!(counter.increased(3).is_err());
        let mut counter = Counter::default();
        assert!(counter.increased(2).is_err());
    }
}
