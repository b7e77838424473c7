//! Sweeps up the elements of collections that are gone. A collection goes when its root does: deleted, expired, or
//! overwritten; its elements stay behind, out of reach, and are deleted here in small steps by whoever leads.
//!
//! It learns of them in two ways. A *due* is a key that was written with the change that ends a collection, or that
//! sets when it expires: the front of the dues is all that must be looked at. And a *round* walks over the heads of
//! all collections, slowly: it finds those whose root went unread (`SET` does not look at what it overwrites).
//!
//! Invariants:
//! 1. What is swept up has no root: the head's key is looked at, as it will be once all that is proposed is applied.
//! 2. A head goes last, so that a sweep which was broken off is taken up again.
//! 3. Nothing but pace depends on what is remembered here; it may be lost.

use std::ops::{Bound, ControlFlow};

use ashlar_consensus::{Term, Timestamp};

use crate::collection::{Root, due_key, due_of, head_key, id_of};
use crate::key::{DUES, ELEMENTS};
use crate::partition::Partition;
use crate::read::{Held, Want};
use crate::request::Refusal;
use crate::scan::Order;

/// Elements deleted in one step.
const STEP_ELEMENTS: usize = 256;

/// How far a partition has been swept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sweep {
    /// Under which term the rest was found out: another leader may have written dues since.
    term: Term,
    /// No due lies before this moment, in milliseconds since 1970.
    next_due_ms: u64,
    /// The round goes on behind this collection.
    round_at: u64,
    /// The collection whose elements are being deleted.
    gone: Option<u64>,
}

impl Sweep {
    /// Notes that there is a due at that moment.
    pub(crate) fn note_due(&mut self, at_ms: u64) {
        self.next_due_ms = self.next_due_ms.min(at_ms);
    }
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swept {
    /// There is nothing to do now.
    Nothing,
    /// Something was done; there may be more.
    Some,
    /// These must be brought into memory first.
    Wants(Vec<Want>),
}

/// The time that a step is taken at.
pub(crate) struct Moment<'a> {
    now_ms: u64,
    timestamp: &'a mut dyn FnMut() -> Timestamp,
}

impl Partition {
    /// Takes a step: deletes some elements of a collection that is gone, or finds out about one. Dues come first; the
    /// round goes on only if `is_round`.
    pub fn sweep(
        &mut self,
        now_ms: u64,
        is_round: bool,
        timestamp: &mut dyn FnMut() -> Timestamp,
    ) -> Swept {
        if self.admit(false).is_err() || !self.may_propose() {
            return Swept::Nothing;
        }
        if self.sweep.term != self.replica.term {
            self.sweep = Sweep {
                term: self.replica.term,
                ..Sweep::default()
            };
        }
        let mut moment = Moment { now_ms, timestamp };
        let before = self.savepoint();
        match self.step(&mut moment, is_round) {
            Ok(swept) => swept,
            Err(_) => {
                self.go_back(before);
                Swept::Wants(self.take_wants())
            }
        }
    }

    fn step(&mut self, moment: &mut Moment<'_>, is_round: bool) -> Result<Swept, Refusal> {
        if let Some(id) = self.sweep.gone {
            return self.delete_some(id, moment);
        }
        if self.sweep.next_due_ms <= moment.now_ms && self.take_due(moment)? == Swept::Some {
            return Ok(Swept::Some);
        }
        match is_round {
            true => self.go_round(moment),
            false => Ok(Swept::Nothing),
        }
    }

    /// Deletes some elements, and the head when there are no others.
    fn delete_some(&mut self, id: u64, moment: &mut Moment<'_>) -> Result<Swept, Refusal> {
        let head = head_key(id);
        let keys = (
            Bound::Excluded(head.to_vec()),
            Bound::Excluded(head_key(id + 1).to_vec()),
        );
        let elements = self.some_keys(keys, STEP_ELEMENTS)?;
        for key in &elements {
            self.delete_element(key, &mut *moment.timestamp);
        }
        if elements.len() < STEP_ELEMENTS {
            self.delete_element(&head, &mut *moment.timestamp);
            self.sweep.gone = None;
        }
        Ok(Swept::Some)
    }

    /// Looks at the first due.
    fn take_due(&mut self, moment: &mut Moment<'_>) -> Result<Swept, Refusal> {
        let keys = (
            Bound::Included(due_key(self.sweep.next_due_ms, 0).to_vec()),
            Bound::Excluded(vec![DUES + 1]),
        );
        let first = self.some_keys(keys, 1)?.pop();
        let Some((at_ms, id)) = first.as_deref().and_then(due_of) else {
            self.sweep.next_due_ms = u64::MAX;
            return Ok(Swept::Nothing);
        };
        if at_ms <= moment.now_ms {
            self.end_if_gone(id, moment)?;
            self.delete_element(&due_key(at_ms, id), &mut *moment.timestamp);
        }
        self.sweep.next_due_ms = at_ms;
        Ok(Swept::Some)
    }

    /// Looks at the next collection of the round.
    fn go_round(&mut self, moment: &mut Moment<'_>) -> Result<Swept, Refusal> {
        let from = self.sweep.round_at.saturating_add(1);
        let keys = (
            Bound::Included(head_key(from).to_vec()),
            Bound::Excluded(vec![ELEMENTS + 1]),
        );
        let first = self.some_keys(keys, 1)?.pop();
        let Some((id, _)) = first.as_deref().and_then(id_of) else {
            self.sweep.round_at = 0;
            return Ok(Swept::Nothing);
        };
        self.end_if_gone(id, moment)?;
        self.sweep.round_at = id;
        Ok(Swept::Some)
    }

    /// Begins to delete a collection if it is gone. Of one that has expired the root goes at once.
    fn end_if_gone(&mut self, id: u64, moment: &mut Moment<'_>) -> Result<(), Refusal> {
        let (key, _) = self.element(&head_key(id), |value| value.map(<[u8]>::to_vec))?;
        let Some(key) = key else {
            // Swept up already, or a head that was damaged: then nobody can say whose elements they are.
            self.sweep.gone = Some(id);
            return Ok(());
        };
        let (hash, mut held) = (self.memtable.hash(&key), Held::default());
        let found = self.current(hash, &key, 0, &mut held);
        let found = match found {
            Ok((found, _)) => found.filter(|current| current.is_root),
            Err(want) => return Err(self.note(want)),
        };
        let its = found.filter(|current| Root::decode(current.value).is_some_and(|r| r.id == id));
        let expire_at_ms = its.map(|current| current.expire_at_ms);
        match expire_at_ms {
            Some(Some(at_ms)) if at_ms <= moment.now_ms => {
                self.delete_element(&key, &mut *moment.timestamp);
                self.sweep.gone = Some(id);
            }
            Some(_) => {}
            None => self.sweep.gone = Some(id),
        }
        Ok(())
    }

    /// Returns the first keys of a range, as they will be once all that is proposed is applied.
    fn some_keys(
        &mut self,
        keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        count: usize,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut found = Vec::new();
        self.walk_elements(keys, Order::Ascending, |key, _| {
            found.push(key.to_vec());
            match found.len() < count {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::{Clock, PartitionId};

    use super::*;
    use crate::collection::{ELEMENT, Family, element_key};
    use crate::elements::Rooted;
    use crate::key::KeyRange;
    use crate::request::{Condition, ExpireCondition, Expiry, Put, Request, Return};

    const KEY: &[u8] = b"\0k";

    struct Ground {
        partition: Partition,
        clock: Clock,
        now_ms: u64,
    }

    impl Ground {
        fn new() -> Self {
            Self {
                partition: Partition::new(PartitionId(0), KeyRange::all(), 7),
                clock: Clock::default(),
                now_ms: 10,
            }
        }

        /// Makes a collection of so many elements.
        fn make(&mut self, elements: u64) -> u64 {
            let now_us = self.now_ms * 1000;
            let clock = &mut self.clock;
            let id = self.partition.begin_collection(KEY, || clock.take(now_us));
            let mut key = Vec::new();
            for n in 0..elements {
                element_key(id, ELEMENT, &n.to_le_bytes(), &mut key);
                self.partition
                    .put_element(&key, b"v", || clock.take(now_us));
            }
            let root = Root {
                family: Family::Hash,
                id,
                count: elements,
                first: 0,
            };
            let rooted = Rooted {
                root,
                expire_at_ms: None,
            };
            self.partition.put_root(KEY, &rooted, || clock.take(now_us));
            id
        }

        fn ask(&mut self, request: &Request<'_>) {
            let (clock, now_ms) = (&mut self.clock, self.now_ms);
            let timestamp = || clock.take(now_ms * 1000);
            self.partition
                .serve(KEY, request, now_ms, timestamp, |_| ());
        }

        /// Sweeps until there is nothing to do; returns the steps.
        fn sweep(&mut self, is_round: bool) -> usize {
            let (clock, now_us) = (&mut self.clock, self.now_ms * 1000);
            let mut timestamp = || clock.take(now_us);
            let mut step = || self.partition.sweep(self.now_ms, is_round, &mut timestamp);
            (0..1000).take_while(|_| step() == Swept::Some).count()
        }

        /// Returns how many keys of elements and dues there are.
        fn left(&mut self) -> usize {
            let keys = (
                Bound::Included(vec![ELEMENTS]),
                Bound::Excluded(vec![DUES + 1]),
            );
            self.partition.some_keys(keys, usize::MAX).unwrap().len()
        }
    }

    #[test]
    fn what_is_deleted_is_swept_up_in_steps() {
        let mut ground = Ground::new();
        ground.make(600);
        assert_eq!((ground.sweep(true), ground.left()), (1, 601));
        ground.ask(&Request::Delete);
        assert_eq!(ground.left(), 602, "a deletion takes no elements along");
        assert!(ground.sweep(false) >= 4);
        assert_eq!(ground.left(), 0);
    }

    #[test]
    fn what_expires_is_swept_up_then_and_its_root_with_it() {
        let mut ground = Ground::new();
        ground.make(3);
        let expire = |at_ms| Request::Expire {
            at_ms,
            condition: ExpireCondition::Always,
        };
        ground.ask(&expire(50));
        ground.ask(&Request::Persist);
        ground.now_ms = 60;
        ground.sweep(false);
        assert_eq!(ground.left(), 4, "it was made to last");
        ground.ask(&expire(100));
        ground.now_ms = 99;
        ground.sweep(true);
        assert_eq!(ground.left(), 5);
        ground.now_ms = 100;
        ground.sweep(false);
        assert_eq!(ground.left(), 0);
        let (stamp, _) = ground.partition.stamp(KEY, 0).unwrap();
        assert!(!stamp.is_there, "the root is deleted, not only passed over");
    }

    #[test]
    fn what_was_overwritten_unseen_is_found_by_the_round() {
        let mut ground = Ground::new();
        let first = ground.make(3);
        ground.ask(&Request::Put(Put {
            value: b"v",
            condition: Condition::Always,
            expiry: Expiry::Never,
            returns: Return::Outcome,
        }));
        ground.sweep(false);
        assert_eq!(ground.left(), 4);
        let second = ground.make(2);
        assert!(second > first, "an id is never given twice");
        ground.sweep(true);
        assert_eq!(ground.left(), 3);
    }

    #[test]
    fn a_collection_that_has_another_key_now_stays() {
        let mut ground = Ground::new();
        let id = ground.make(3);
        let (rooted, _) = ground.partition.root(KEY, 0).unwrap();
        let timestamp = || unreachable!("an entry is open");
        ground
            .partition
            .put_root(b"\0other", &rooted.unwrap(), timestamp);
        ground.partition.name_head(id, b"\0other", timestamp);
        ground.partition.delete_element(KEY, timestamp);
        ground.partition.put_due(10, id);
        ground.sweep(true);
        assert_eq!(ground.left(), 4);
    }
}
