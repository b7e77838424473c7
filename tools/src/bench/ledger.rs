//! What was acknowledged of each key, and so which answers of a read are wrong. It judges by what is certain: a write
//! that was acknowledged before a later one was sent cannot be read any more once that later one is acknowledged.
//! Writes of a key that were under way at once may have been done in any order, and are never held against the server.
//!
//! Invariants, for each key:
//! 1. Versions are handed out from one up; `floor <= batch <= issued`, but for a `batch` of zero, before any write.
//! 2. A read sent when `floor` is `n` must not find a version below `n`.
//! 3. While the fate of a write is not known, `floor` stands.

use std::sync::{Mutex, PoisonError};

use super::sealed::Seal;

/// Parts that are locked apart, so that threads seldom meet.
const PARTS: u64 = 256;

/// What was sent and answered for one key.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// The last version handed out.
    issued: u32,
    /// The first version of the writes that were under way together last.
    batch: u32,
    /// Versions below cannot be read any more.
    floor: u32,
    /// The last version that deletes.
    deleted: u32,
    /// Writes under way, or of unknown fate.
    in_flight: u16,
    /// One of the batch was refused, so it says nothing of what is there.
    refused: bool,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was done.
    Done,
    /// It was not done, or done and told as an error; it will not be done later.
    Refused,
    /// It may yet be done.
    Unknown,
}

/// What a read has found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The bytes are not those of any write.
    Damaged,
    /// A whole value of another key.
    Misplaced,
    /// A write that was acknowledged is gone: an older value is there, or none.
    Lost,
    /// A version that nobody has written.
    Invented,
}

/// What must hold for a read that is sent now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Floor(u32);

impl std::fmt::Display for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("nothing"),
            version => write!(f, "version {version}"),
        }
    }
}

/// One part of the keys.
#[derive(Debug, Default)]
struct Part {
    records: Vec<Record>,
    /// The highest acknowledged number of each counter.
    counters: Vec<i64>,
}

/// The acknowledged writes of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    run: u32,
    parts: Vec<Mutex<Part>>,
    /// Keys from this one on are not remembered, their values only checked by themselves.
    keys_max: u64,
}

impl Ledger {
    /// Makes the ledger of a run, which remembers keys below `keys_max`.
    pub(crate) fn new(run: u32, keys_max: u64) -> Self {
        Self {
            run,
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            keys_max,
        }
    }

    /// Begins a write; returns its seal for a value of `owner`.
    pub(crate) fn write(&self, key: u64, owner: u64) -> Seal {
        let version = self.begin(key, false);
        Seal {
            run: self.run,
            version,
            owner,
        }
    }

    /// Begins a deletion.
    pub(crate) fn delete(&self, key: u64) {
        self.begin(key, true);
    }

    fn begin(&self, key: u64, deletes: bool) -> u32 {
        self.with(key, |record| {
            record.issued = record.issued.saturating_add(1);
            if record.in_flight == 0 {
                (record.batch, record.refused) = (record.issued, false);
            }
            record.in_flight = record.in_flight.saturating_add(1);
            if deletes {
                record.deleted = record.issued;
            }
            record.issued
        })
        .unwrap_or(1)
    }

    /// Ends a write.
    pub(crate) fn end(&self, key: u64, fate: Fate) {
        self.with(key, |record| {
            // A write of unknown fate is under way for ever.
            if fate == Fate::Unknown || record.in_flight == u16::MAX {
                record.in_flight = record.in_flight.max(1);
                return;
            }
            record.refused |= fate == Fate::Refused;
            record.in_flight = record.in_flight.saturating_sub(1);
            if record.in_flight == 0 && !record.refused {
                record.floor = record.batch;
            }
        });
    }

    /// Returns what a read that is sent now must respect.
    pub(crate) fn floor(&self, key: u64) -> Floor {
        Floor(self.with(key, |record| record.floor).unwrap_or(0))
    }

    /// Judges what a read has found, sent when `floor` was returned: a value, or none.
    pub(crate) fn judge(
        &self,
        key: u64,
        owner: u64,
        floor: Floor,
        found: Option<Option<Seal>>,
    ) -> Result<(), Wrong> {
        let Some(opened) = found else {
            return self.judge_absence(key, floor);
        };
        let seal = opened.ok_or(Wrong::Damaged)?;
        if seal.owner != owner {
            return Err(Wrong::Misplaced);
        }
        self.judge_version(key, floor, seal)
    }

    fn judge_version(&self, key: u64, Floor(floor): Floor, seal: Seal) -> Result<(), Wrong> {
        let Some(issued) = self.with(key, |record| record.issued) else {
            return Ok(());
        };
        match seal.run == self.run {
            true if seal.version < floor => Err(Wrong::Lost),
            true if seal.version > issued => Err(Wrong::Invented),
            // What an earlier process wrote is overwritten as soon as anything is.
            false if floor > 0 => Err(Wrong::Lost),
            _ => Ok(()),
        }
    }

    fn judge_absence(&self, key: u64, Floor(floor): Floor) -> Result<(), Wrong> {
        let deleted = self.with(key, |record| record.deleted).unwrap_or(0);
        match floor > 0 && deleted < floor {
            true => Err(Wrong::Lost),
            false => Ok(()),
        }
    }

    /// Returns a seal with whether it was written in this run.
    pub(crate) fn own(&self, seal: Seal) -> (bool, Seal) {
        (seal.run == self.run, seal)
    }

    /// Returns the number that a counter must exceed when it is increased now.
    pub(crate) fn counter(&self, key: u64) -> i64 {
        self.with_counter(key, |number| *number).unwrap_or(i64::MIN)
    }

    /// Judges what an increase was answered, sent when the counter was `before`.
    pub(crate) fn count(&self, key: u64, before: i64, number: i64) -> Result<(), Wrong> {
        self.with_counter(key, |highest| *highest = (*highest).max(number));
        match number > before {
            true => Ok(()),
            false => Err(Wrong::Lost),
        }
    }

    fn with<T>(&self, key: u64, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let at = self.place(key)?;
        let mut part = self.lock(key);
        if part.records.len() <= at {
            part.records.resize(at + 1, Record::default());
        }
        Some(change(&mut part.records[at]))
    }

    fn with_counter<T>(&self, key: u64, change: impl FnOnce(&mut i64) -> T) -> Option<T> {
        let at = self.place(key)?;
        let mut part = self.lock(key);
        if part.counters.len() <= at {
            part.counters.resize(at + 1, i64::MIN);
        }
        Some(change(&mut part.counters[at]))
    }

    fn place(&self, key: u64) -> Option<usize> {
        let at = usize::try_from(key / PARTS).ok();
        at.filter(|_| key < self.keys_max)
    }

    fn lock(&self, key: u64) -> std::sync::MutexGuard<'_, Part> {
        let part = &self.parts[usize::try_from(key % PARTS).expect("below 256")];
        // A thread that died has left whole records behind.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_io::rng::Rng;

    const OWNER: u64 = 5;

    fn found(version: u32) -> Option<Option<Seal>> {
        Some(Some(Seal {
            run: 1,
            version,
            owner: OWNER,
        }))
    }

    fn ledger() -> Ledger {
        Ledger::new(1, 1_000)
    }

    #[test]
    fn an_acknowledged_write_must_be_found() {
        let ledger = ledger();
        assert_eq!(ledger.judge(9, OWNER, ledger.floor(9), None), Ok(()));
        ledger.write(9, OWNER);
        assert_eq!(ledger.judge(9, OWNER, ledger.floor(9), None), Ok(()));
        ledger.end(9, Fate::Done);
        let floor = ledger.floor(9);
        assert_eq!(ledger.judge(9, OWNER, floor, found(1)), Ok(()));
        assert_eq!(ledger.judge(9, OWNER, floor, None), Err(Wrong::Lost));
        assert_eq!(
            ledger.judge(9, OWNER, floor, found(2)),
            Err(Wrong::Invented)
        );
        assert_eq!(ledger.judge(9, 6, floor, found(1)), Err(Wrong::Misplaced));
        assert_eq!(
            ledger.judge(9, OWNER, floor, Some(None)),
            Err(Wrong::Damaged)
        );
    }

    #[test]
    fn writes_under_way_together_may_be_found_in_any_order() {
        let ledger = ledger();
        let sent = [1, 2, 3].map(|_| ledger.write(9, OWNER).version);
        assert_eq!(sent, [1, 2, 3]);
        (0..3).for_each(|_| ledger.end(9, Fate::Done));
        for version in sent {
            assert_eq!(
                ledger.judge(9, OWNER, ledger.floor(9), found(version)),
                Ok(())
            );
        }
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        assert_eq!(
            ledger.judge(9, OWNER, ledger.floor(9), found(3)),
            Err(Wrong::Lost)
        );
    }

    #[test]
    fn a_read_is_judged_by_what_was_acknowledged_when_it_was_sent() {
        let ledger = ledger();
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        let floor = ledger.floor(9);
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        assert_eq!(ledger.judge(9, OWNER, floor, found(1)), Ok(()));
    }

    #[test]
    fn a_deletion_explains_absence_until_the_next_write() {
        let ledger = ledger();
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        let floor = ledger.floor(9);
        ledger.delete(9);
        assert_eq!(ledger.judge(9, OWNER, floor, None), Ok(()));
        ledger.end(9, Fate::Done);
        assert_eq!(
            ledger.judge(9, OWNER, ledger.floor(9), found(1)),
            Err(Wrong::Lost)
        );
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        assert_eq!(
            ledger.judge(9, OWNER, ledger.floor(9), None),
            Err(Wrong::Lost)
        );
    }

    #[test]
    fn refused_and_unknown_writes_prove_nothing() {
        let ledger = ledger();
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Refused);
        assert_eq!(ledger.judge(9, OWNER, ledger.floor(9), None), Ok(()));
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Unknown);
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        assert_eq!(ledger.judge(9, OWNER, ledger.floor(9), None), Ok(()));
    }

    #[test]
    fn values_of_an_earlier_process_are_good_until_something_is_written() {
        let ledger = Ledger::new(2, 1_000);
        assert_eq!(ledger.judge(9, OWNER, ledger.floor(9), found(70)), Ok(()));
        ledger.write(9, OWNER);
        ledger.end(9, Fate::Done);
        assert_eq!(
            ledger.judge(9, OWNER, ledger.floor(9), found(70)),
            Err(Wrong::Lost)
        );
    }

    #[test]
    fn a_counter_never_goes_back() {
        let ledger = ledger();
        assert_eq!(ledger.count(3, ledger.counter(3), 1), Ok(()));
        let before = ledger.counter(3);
        assert_eq!(ledger.count(3, before, 3), Ok(()));
        assert_eq!(ledger.count(3, before, 2), Ok(()));
        assert_eq!(ledger.count(3, ledger.counter(3), 3), Err(Wrong::Lost));
    }

    #[test]
    fn keys_beyond_the_last_that_is_remembered_are_only_checked_by_themselves() {
        let ledger = Ledger::new(1, 10);
        ledger.write(10, OWNER);
        ledger.end(10, Fate::Done);
        assert_eq!(ledger.judge(10, OWNER, ledger.floor(10), None), Ok(()));
        assert_eq!(
            ledger.judge(10, 6, ledger.floor(10), found(1)),
            Err(Wrong::Misplaced)
        );
    }

    /// A register behind a network that reorders: what it answers is never called wrong.
    #[test]
    fn a_linearizable_register_is_never_accused() {
        for seed in 0..200 {
            let (ledger, mut rng) = (ledger(), Rng::new(seed));
            // The register; writes sent, done or not; reads sent, done or not.
            let mut value = None;
            let mut writes: Vec<(Option<u32>, bool)> = Vec::new();
            let mut reads: Vec<(Floor, Option<Option<u32>>)> = Vec::new();
            for _ in 0..300 {
                match rng.below(6) {
                    0 => writes.push((Some(ledger.write(1, OWNER).version), false)),
                    1 if rng.chance(0.3) => {
                        ledger.delete(1);
                        writes.push((None, false));
                    }
                    2 if !writes.is_empty() => {
                        let at = rng.index(writes.len());
                        if !writes[at].1 {
                            (value, writes[at].1) = (writes[at].0, true);
                        }
                    }
                    3 if !writes.is_empty() => {
                        let at = rng.index(writes.len());
                        if writes[at].1 {
                            writes.swap_remove(at);
                            ledger.end(1, Fate::Done);
                        }
                    }
                    4 => reads.push((ledger.floor(1), None)),
                    _ if !reads.is_empty() => {
                        let at = rng.index(reads.len());
                        match reads[at] {
                            (_, None) => reads[at].1 = Some(value),
                            (floor, Some(read)) => {
                                reads.swap_remove(at);
                                let verdict = ledger.judge(1, OWNER, floor, read.and_then(found));
                                assert_eq!(verdict, Ok(()), "seed {seed}: {read:?}");
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
