//! Requests and reads of the past: each answer is compared with the models.

use std::cell::RefCell;
use std::rc::Rc;

use ashlar_consensus::{Index, Timestamp};
use ashlar_partition::lsm::{Pin, Unreadable};
use ashlar_partition::{Held, Refusal, Request, Response, Want};

use super::{FETCHES_MAX, Failed, TreeNode, Trust};
use crate::node::{TURNS_MAX, owned};
use crate::reference::Change;

impl TreeNode {
    /// Waits for a read, turn by turn. `None`: the node ended meanwhile.
    pub(super) fn fetch(&mut self, want: Want) -> Option<Result<Pin, Unreadable>> {
        self.tally.fetches += 1;
        let life = self.life.as_mut()?;
        let answer = Rc::new(RefCell::new(None));
        let (slot, ground) = (Rc::clone(&answer), life.ground.clone());
        life.reactor.spawn(async move {
            let fetched = ground.fetch(want).await;
            *slot.borrow_mut() = Some(fetched);
        });
        for _ in 0..TURNS_MAX {
            self.turn(|_| {});
            self.life.as_ref()?;
            if let Some(fetched) = answer.borrow_mut().take() {
                return Some(fetched);
            }
        }
        panic!("a fetch never ended");
    }

    /// Brings what is wanted into memory; the pins are kept until the question was asked again.
    pub(super) fn bring(&mut self, number: usize, wants: Vec<Want>) -> Result<Vec<Pin>, Failed> {
        let mut pins = Vec::new();
        for want in wants {
            if let Want::Applied(index) = want {
                self.wait_for(number, index)?;
                continue;
            }
            match self.fetch(want).ok_or(Failed)? {
                Ok(pin) => pins.push(pin),
                Err(error) => {
                    assert!(self.trust == Trust::RightOrError, "{error}");
                    assert!(error.to_string().contains("/tables/"), "{error}");
                    if error.is_damage {
                        self.life().partitions[number].quarantine(&error.to_string());
                    }
                    self.tally.errors += 1;
                    return Err(Failed);
                }
            }
        }
        Ok(pins)
    }

    pub(super) fn wait_for(&mut self, number: usize, index: Index) -> Result<(), Failed> {
        for _ in 0..TURNS_MAX {
            self.turn(|_| {});
            let life = self.life.as_ref().ok_or(Failed)?;
            if life.partitions[number].applied() >= index {
                return Ok(());
            }
        }
        panic!("entry {index} was never applied");
    }

    pub(super) fn number_of(&self, key: &[u8]) -> usize {
        let mut ranges = self.ranges.iter();
        ranges.position(|range| range.contains(key)).unwrap()
    }

    /// Notes what one command changed, and at which timestamp.
    pub(super) fn note(&mut self, number: usize, opened: Option<Timestamp>, change: Change) {
        let last = self.life().partitions[number].last_index();
        let (index, base, count) = match (opened, self.open[number]) {
            (Some(base), _) => (last, base, 0),
            (None, Some(open)) => open,
            (None, None) => panic!("a command opens an entry or joins one"),
        };
        assert_eq!(index, last, "the open entry is the last");
        self.references[number].last_index = last;
        self.references[number].note(last, change.clone());
        self.histories[number].note(last, base.plus(count), change);
        self.open[number] = Some((index, base, count + 1));
    }

    /// Serves one request, and checks its answer.
    pub(crate) fn ask(&mut self, key: &[u8], request: &Request<'_>) -> Result<(), Failed> {
        let number = self.number_of(key);
        let mut pins = Vec::new();
        for _ in 0..FETCHES_MAX {
            let (now_ms, wall_us) = (self.now_ms(), self.wall_us);
            let life = self.life.as_mut().ok_or(Failed)?;
            let partition = &mut life.partitions[number];
            let decision =
                self.references[number].decide(key, request, now_ms, partition.admission);
            let (mut opened, clock) = (None, &mut life.clock);
            let stamp = || *opened.insert(clock.take(wall_us));
            let (response, wait) = partition.serve(key, request, now_ms, stamp, owned);
            match response {
                Response::Refused(Refusal::NotInMemory) => {
                    assert!(opened.is_none() && wait.is_none(), "it changed nothing");
                    let wants = partition.take_wants();
                    assert!(!wants.is_empty(), "it says what it wants");
                    pins.extend(self.bring(number, wants)?);
                    continue;
                }
                Response::Refused(Refusal::Damaged(_)) => {
                    assert!(self.trust == Trust::RightOrError);
                    self.tally.errors += 1;
                    return Err(Failed);
                }
                _ => {}
            }
            assert_eq!(
                response, decision.response,
                "{request:?} of {key:?} at {now_ms}"
            );
            self.tally.answers += 1;
            match decision.change {
                Some(change) => {
                    assert_eq!(wait, Some(partition.last_index()));
                    self.note(number, opened, change);
                }
                None if decision.looked && request.reads(now_ms) => {
                    assert_eq!(wait, self.references[number].in_flight(key), "{request:?}");
                }
                None => {}
            }
            return Ok(());
        }
        panic!("{key:?} was fetched again and again");
    }

    /// Clears a database, or all, in every partition.
    pub(crate) fn clear(&mut self, database: Option<u8>) {
        for number in 0..self.ranges.len() {
            let wall_us = self.wall_us;
            let life = self.life.as_mut().unwrap();
            let (mut opened, clock) = (None, &mut life.clock);
            let stamp = || *opened.insert(clock.take(wall_us));
            if life.partitions[number].clear(database, stamp).is_ok() {
                self.note(number, opened, Change::Clear(database));
            }
        }
    }

    /// Deletes a range of keys in one partition.
    pub(crate) fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let (number, wall_us) = (self.number_of(start), self.wall_us);
        let end = end.min(match number {
            0 => b"\x01c",
            _ => b"\xff",
        });
        let life = self.life.as_mut().unwrap();
        let (mut opened, clock) = (None, &mut life.clock);
        let stamp = || *opened.insert(clock.take(wall_us));
        if let Ok(Some(_)) = life.partitions[number].delete_range(start, end, stamp) {
            self.note(
                number,
                opened,
                Change::RemoveRange(start.to_vec(), end.to_vec()),
            );
        }
    }

    /// Has every partition delete what has expired, in an entry of its own.
    pub(crate) fn expire(&mut self) {
        self.drain();
        let (now_ms, wall_us) = (self.now_ms(), self.wall_us);
        let life = self.life.as_mut().unwrap();
        for (partition, reference) in life.partitions.iter_mut().zip(&mut self.references) {
            partition.expire(now_ms, &mut life.clock, wall_us);
            reference.last_index = partition.last_index();
        }
        // Only keys of which nothing can be read any more are deleted: the models need not know. An
        // entry that says so of what is in flight makes answers wait for it.
        self.drain();
        for number in 0..self.ranges.len() {
            let last = self.life().partitions[number].last_index();
            let _ = self.wait_for(number, last);
            if self.life.is_none() {
                return;
            }
        }
    }

    /// Returns some moment: of the past, of now, or of a little later.
    pub(super) fn some_moment(&mut self, number: usize) -> Timestamp {
        let low = self.life().partitions[number].low_water().0;
        let Some(all) = self.histories[number].timestamps() else {
            return Timestamp(self.rng.next_u64() >> 8);
        };
        let (from, to) = (low.max(*all.start()), *all.end() + 3);
        match self.rng.below(8) {
            0 => Timestamp(low.saturating_sub(self.rng.below(3))),
            1 => Timestamp(to),
            _ if from < to => Timestamp(self.rng.range(from..to + 1)),
            _ => Timestamp(to),
        }
    }

    /// Reads a key as of some moment.
    pub(crate) fn read_past(&mut self, key: &[u8]) -> Result<(), Failed> {
        let number = self.number_of(key);
        let at = self.some_moment(number);
        let mut pins = Vec::new();
        for _ in 0..FETCHES_MAX {
            let life = self.life.as_mut().ok_or(Failed)?;
            let partition = &mut life.partitions[number];
            let read = partition.read_at(key, at, &mut Held::default(), |found| {
                found.map(<[u8]>::to_vec)
            });
            match read {
                Ok(found) => {
                    let expected = self.histories[number]
                        .seen(key, at)
                        .map(|seen| seen.0.clone());
                    assert_eq!(found, expected, "{key:?} at {at:?}");
                    self.tally.answers += 1;
                    return Ok(());
                }
                Err(Refusal::NotInMemory) => {
                    let wants = partition.take_wants();
                    assert!(!wants.is_empty(), "it says what it wants");
                    pins.extend(self.bring(number, wants)?);
                }
                Err(Refusal::TooOld) => {
                    assert!(at < partition.low_water());
                    return Ok(());
                }
                Err(refused) => {
                    assert_eq!(refused, Refusal::Damaged(partition.id().0));
                    assert!(self.trust == Trust::RightOrError);
                    self.tally.errors += 1;
                    return Err(Failed);
                }
            }
        }
        panic!("{key:?} was fetched again and again");
    }
}
