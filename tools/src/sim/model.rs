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

/// Whether the node's clock may be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Clocks {
    /// It only drifts.
    #[default]
    Steady,
    /// It may be set, forward and back: a key may expire, and be there again, at any time.
    Jumping,
}

/// When a value expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// It may be gone from this virtual time on, in nanoseconds.
    pub(super) from_ns: u64,
    /// It is gone from this one on, once that is known.
    pub(super) by_ns: Option<u64>,
    /// How long it lives, in nanoseconds.
    pub(super) life_ns: u64,
}

/// A write of a key: its number, whether it deletes, and when it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) number: u64,
    pub(super) deletes: bool,
    pub(super) expiry: Option<Expiry>,
}

/// When a read was asked for and answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) asked_ns: u64,
    pub(super) now_ns: u64,
    pub(super) clocks: Clocks,
}

impl Write {
    /// Says whether a reader may find this, `None` for a missing key.
    fn shows(&self, found: Option<u64>, span: Span) -> bool {
        let jumping = span.clocks == Clocks::Jumping;
        match (found, self.expiry) {
            (Some(number), _) if number != self.number || self.deletes => false,
            (
                Some(_),
                Some(Expiry {
                    by_ns: Some(by), ..
                }),
            ) => jumping || span.asked_ns < by,
            (Some(_), _) => true,
            (None, Some(expiry)) => self.deletes || jumping || span.now_ns >= expiry.from_ns,
            (None, None) => self.deletes,
        }
    }
}

/// Milliseconds are cut off, and a turn has one time: so much later may a value expire, in
/// nanoseconds.
const EXPIRY_SLACK_NS: u64 = 10_000_000;

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What the key may be, if nothing that floats takes effect: one write unless a crash has left
    /// it open. Empty means never written.
    candidates: Vec<Write>,
    floating: Vec<Write>,
    last: u64,
    seen: Option<Seen>,
}

/// The newest write that another client has seen, which nothing definite was newer than.
#[derive(Clone, Copy, Debug)]
struct Seen {
    number: u64,
    /// Virtual time of the answer, in nanoseconds.
    at_ns: u64,
}

impl Known {
    /// Begins a write; returns its number.
    pub(super) fn begin(&mut self, deletes: bool, expiry: Option<Expiry>) -> Write {
        self.last += 1;
        let write = Write {
            number: self.last,
            deletes,
            expiry,
        };
        self.floating.push(write);
        write
    }

    /// The write was acknowledged.
    pub(super) fn acknowledged(&mut self, mut write: Write, now_ns: u64) {
        self.floating.retain(|floating| *floating != write);
        if let Some(expiry) = &mut write.expiry {
            // A clock may be slow by a thousandth.
            let life_ns = expiry.life_ns + expiry.life_ns / 1000 + EXPIRY_SLACK_NS;
            expiry.by_ns = Some(now_ns + life_ns);
        }
        self.settle(write, write.number);
    }

    /// The write was refused when a part of what it belonged to was done already: it has taken
    /// effect, or never will.
    pub(super) fn undecided(&mut self, write: Write) {
        self.floating.retain(|floating| *floating != write);
        self.begin_open();
        self.candidates.push(write);
    }

    /// Returns every write that the key may be.
    pub(super) fn open(&self) -> impl Iterator<Item = &Write> {
        self.candidates.iter().chain(&self.floating)
    }

    /// Says whether nothing was ever definitely written.
    pub(super) fn is_new(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Makes "never written" one of the things that the key may be, if it is one.
    fn begin_open(&mut self) {
        if self.candidates.is_empty() {
            self.candidates.push(Write {
                number: 0,
                deletes: true,
                expiry: None,
            });
        }
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
    ///
    /// # Errors
    /// Another client has seen it.
    pub(super) fn refused(&mut self, write: Write) -> Result<(), String> {
        self.floating.retain(|floating| *floating != write);
        match self.seen.is_some_and(|seen| seen.number == write.number) {
            true => Err(format!("{} was refused after it was seen", write.number)),
            false => Ok(()),
        }
    }

    /// The node died: what floats is in its log or nowhere.
    pub(super) fn crashed(&mut self) {
        if !self.floating.is_empty() {
            self.begin_open();
        }
        self.candidates.append(&mut self.floating);
    }

    /// Checks what the owner read, `None` for a missing key, having asked when `upto` was the last
    /// write begun.
    pub(super) fn read_by_owner(
        &mut self,
        upto: u64,
        found: Option<u64>,
        span: Span,
    ) -> Result<(), String> {
        let seen = self.seen.filter(|seen| seen.at_ns < span.asked_ns);
        let is_past = |write: &Write| seen.is_some_and(|seen| write.number < seen.number);
        let matches = |write: &&Write| write.shows(found, span);
        let mut candidates = self.candidates.iter().filter(|write| !is_past(write));
        let candidate = candidates.find(matches).copied();
        let floating = self.floating.iter().find(matches).copied();
        let never = found.is_none() && self.candidates.is_empty() && seen.is_none();
        let mut now = match (candidate, floating, never) {
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
        if let (None, Some(expiry), Clocks::Steady) = (found, &mut now.expiry, span.clocks) {
            // Once gone, it stays so.
            let by_ns = expiry.by_ns.unwrap_or(u64::MAX);
            expiry.by_ns = Some(by_ns.min(span.now_ns));
        }
        self.settle(now, upto);
        Ok(())
    }

    /// Checks that the key may be there: its owner has seen its name.
    pub(super) fn named_to_owner(&self, span: Span) -> Result<(), String> {
        let may_be = |write: &Write| write.shows(Some(write.number), span);
        if self.open().any(may_be) {
            return Ok(());
        }
        Err(format!("it was named, but it is one of {self:?}"))
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
            definite: definite.max(self.seen.map_or(0, |seen| seen.number)),
            floating: self.floating.iter().map(|write| write.number).collect(),
        }
    }

    /// Checks what another client read, having begun when `horizon` was taken. What it has seen has taken effect:
    /// nobody who asks later may find less.
    pub(super) fn read_by_other(
        &mut self,
        horizon: &Horizon,
        found: Option<u64>,
        now_ns: u64,
    ) -> Result<(), String> {
        // A missing key carries no number; only the owner can check it.
        let Some(number) = found else { return Ok(()) };
        let allowed = (number >= horizon.definite && number <= self.last)
            || horizon.floating.contains(&number);
        if !allowed {
            return Err(format!(
                "another client read {number}, outside {horizon:?} of {self:?}"
            ));
        }
        let is_older = |other: &Write| other.number < number;
        let before = self.seen.is_none_or(|seen| seen.number < number);
        if before && self.candidates.iter().all(is_older) {
            let at_ns = now_ns;
            self.seen = Some(Seen { number, at_ns });
        }
        Ok(())
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
    /// Refusals because nobody led a partition, or it could not be said what became of a command.
    pub(super) leaderless: u64,
    pub(super) clocks: Clocks,
    /// What clients have seen happen, and how often.
    pub(super) marks: BTreeMap<&'static str, u64>,
    /// Clients that have checked all their keys at the end.
    pub(super) finished: u32,
}

impl Model {
    /// The node died.
    pub(super) fn crashed(&mut self) {
        self.keys.values_mut().for_each(Known::crashed);
    }

    /// Counts something that tests are to have seen.
    pub(super) fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
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

    const SPAN: Span = Span {
        asked_ns: 0,
        now_ns: 0,
        clocks: Clocks::Steady,
    };

    #[test]
    fn a_lost_write_is_a_violation() {
        let mut key = Known::default();
        let first = key.begin(false, None);
        key.acknowledged(first, 0);
        let second = key.begin(false, None);
        assert!(
            key.clone().read_by_owner(9, Some(1), SPAN).is_ok(),
            "the second is not acknowledged yet"
        );
        key.acknowledged(second, 0);
        assert!(
            key.clone().read_by_owner(9, Some(1), SPAN).is_err(),
            "the second is acknowledged"
        );
        assert!(key.clone().read_by_owner(9, None, SPAN).is_err());
        assert!(key.read_by_owner(9, Some(2), SPAN).is_ok());
    }

    #[test]
    fn a_refused_write_must_not_appear() {
        let mut key = Known::default();
        let write = key.begin(false, None);
        assert!(key.refused(write).is_ok());
        assert!(key.clone().read_by_owner(9, Some(1), SPAN).is_err());
        assert!(key.read_by_owner(9, None, SPAN).is_ok());
    }

    #[test]
    fn what_one_has_seen_nobody_misses_later() {
        let mut key = Known::default();
        let first = key.begin(false, None);
        key.acknowledged(first, 0);
        let early = key.horizon();
        let second = key.begin(false, None);
        assert!(key.read_by_other(&early, Some(2), 5).is_ok());
        assert!(
            key.read_by_other(&early, Some(1), 6).is_ok(),
            "it asked before"
        );
        let late = key.horizon();
        assert!(key.clone().read_by_other(&late, Some(1), 7).is_err());
        let later = Span {
            asked_ns: 6,
            ..SPAN
        };
        assert!(
            key.clone().read_by_owner(2, Some(1), SPAN).is_ok(),
            "it asked before"
        );
        assert!(key.clone().read_by_owner(2, Some(1), later).is_err());
        assert!(key.clone().refused(second).is_err(), "it was seen");
        key.acknowledged(second, 8);
        assert!(key.read_by_owner(2, Some(2), later).is_ok());
    }

    #[test]
    fn an_unknown_write_is_decided_by_the_first_read_after_a_crash() {
        let mut key = Known::default();
        let first = key.begin(false, None);
        key.acknowledged(first, 0);
        key.begin(true, None);
        key.crashed();
        assert!(key.clone().read_by_owner(9, None, SPAN).is_ok());
        assert!(key.read_by_owner(9, Some(1), SPAN).is_ok());
        assert!(
            key.read_by_owner(9, None, SPAN).is_err(),
            "it was there after the crash, so the deletion never happened"
        );
    }

    #[test]
    fn an_answer_from_before_a_crash_leaves_later_writes_open() {
        let mut key = Known::default();
        let first = key.begin(false, None);
        key.acknowledged(first, 0);
        let asked = key.last();
        key.begin(false, None);
        key.crashed();
        assert!(key.read_by_owner(asked, Some(1), SPAN).is_ok());
        assert!(
            key.read_by_owner(9, Some(2), SPAN).is_ok(),
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

    #[test]
    fn a_value_expires_in_its_time_and_stays_gone() {
        let mut key = Known::default();
        let expiry = Expiry {
            from_ns: 100,
            by_ns: None,
            life_ns: 100,
        };
        let write = key.begin(false, Some(expiry));
        key.acknowledged(write, 10);
        let span = |asked_ns, now_ns| Span {
            asked_ns,
            now_ns,
            clocks: Clocks::Steady,
        };
        assert!(key.read_by_owner(1, None, span(40, 50)).is_err());
        let late = 2 * EXPIRY_SLACK_NS;
        assert!(
            key.clone()
                .read_by_owner(1, Some(1), span(late, late))
                .is_err()
        );
        assert!(
            key.clone()
                .read_by_owner(1, Some(1), span(150, 160))
                .is_ok()
        );
        assert!(key.read_by_owner(1, None, span(150, 160)).is_ok());
        assert!(key.read_by_owner(1, Some(1), span(170, 180)).is_err());
    }
}
