//! A moment of the past that a client has a timestamp of, and what a reader as of then may find.
//!
//! What was acknowledged when the timestamp was asked for is there; what was begun after it was
//! told is not, as long as no clock is set. Invariant checked: two reads of one key as of one timestamp find the
//! same, whatever happened between them, clocks that are set back while nodes are down included.

use std::collections::BTreeMap;

use super::model::{Clocks, Known, Write};

/// A timestamp, and what its client knew.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// The timestamp, once it was told.
    pub(super) at: Option<u64>,
    /// Virtual time when it was asked for, in nanoseconds.
    pub(super) asked_ns: u64,
    keys: BTreeMap<String, Then>,
    /// What was found of keys of other clients.
    others: BTreeMap<String, Option<u64>>,
}

/// What one key was.
#[derive(Clone, Debug, Default)]
struct Then {
    /// Definite writes, and those that floated.
    writes: Vec<Write>,
    /// It may not have been written at all.
    never: bool,
    last_asked: u64,
    last_told: u64,
    /// What a reader has found.
    seen: Option<Option<u64>>,
}

impl Moment {
    /// Notes what is known of keys when a timestamp is asked for.
    pub(super) fn begin(asked_ns: u64, known: &BTreeMap<String, Known>, keys: &[String]) -> Self {
        let then = |key: &String| {
            let then = known.get(key).map_or_else(
                || Then {
                    never: true,
                    ..Then::default()
                },
                |known| Then {
                    writes: known.open().copied().collect(),
                    never: known.is_new(),
                    last_asked: known.last(),
                    ..Then::default()
                },
            );
            (key.clone(), then)
        };
        Self {
            at: None,
            asked_ns,
            keys: keys.iter().map(then).collect(),
            others: BTreeMap::new(),
        }
    }

    /// Notes that the timestamp was told.
    pub(super) fn told(&mut self, at: u64, known: &BTreeMap<String, Known>) {
        self.at = Some(at);
        for (key, then) in &mut self.keys {
            then.last_told = known.get(key).map_or(0, Known::last);
        }
    }

    /// Checks what a reader as of the timestamp has found.
    pub(super) fn read(
        &mut self,
        key: &str,
        last: u64,
        found: Option<u64>,
        clocks: Clocks,
    ) -> Result<(), String> {
        let Some(then) = self.keys.get_mut(key) else {
            let seen = self.others.insert(key.to_owned(), found);
            return self.is_same(seen, found);
        };
        let until = match clocks {
            Clocks::Steady => then.last_told,
            Clocks::Jumping => last,
        };
        let later = then.last_asked + 1..=until;
        let allowed = match found {
            Some(number) => {
                let is_it = |write: &Write| write.number == number && !write.deletes;
                later.contains(&number) || then.writes.iter().any(is_it)
            }
            None => {
                let is_gone = |write: &Write| write.deletes || write.expiry.is_some();
                then.never || !later.is_empty() || then.writes.iter().any(is_gone)
            }
        };
        if !allowed {
            return Err(format!(
                "as of {:?} it was {found:?}, but it was one of {then:?}, or of {later:?}",
                self.at
            ));
        }
        let seen = then.seen.replace(found);
        self.is_same(seen, found)
    }

    /// Checks that what is found is what was seen before.
    fn is_same(&self, seen: Option<Option<u64>>, found: Option<u64>) -> Result<(), String> {
        match seen {
            Some(seen) if seen != found => Err(format!(
                "as of {:?} it was {seen:?} once, and now it is {found:?}",
                self.at
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(writes: u64) -> BTreeMap<String, Known> {
        let mut key = Known::default();
        for _ in 0..writes {
            let write = key.begin(false, None);
            key.acknowledged(write, 0);
        }
        BTreeMap::from([("k".to_owned(), key)])
    }

    #[test]
    fn the_past_holds_what_was_acknowledged_before_and_nothing_from_after() {
        let mut moment = Moment::begin(0, &known(3), &["k".to_owned()]);
        moment.told(5, &known(4));
        let read = |found| {
            let mut moment = moment.clone();
            moment.read("k", 6, found, Clocks::Steady).is_ok()
        };
        assert!(read(Some(3)) && read(Some(4)));
        assert!(!read(Some(2)) && !read(Some(5)));
    }

    #[test]
    fn the_past_does_not_change() {
        let mut moment = Moment::begin(0, &known(3), &["k".to_owned()]);
        let other = |moment: &mut Moment, found| moment.read("o", 9, found, Clocks::Steady);
        assert!(other(&mut moment, None).is_ok() && other(&mut moment, Some(1)).is_err());
        moment.told(5, &known(4));
        assert!(moment.read("k", 4, Some(4), Clocks::Steady).is_ok());
        assert!(moment.read("k", 4, Some(3), Clocks::Steady).is_err());
    }
}
