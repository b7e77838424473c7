//! Access to the elements of collections: read, written and walked over as they will be once all that is proposed is
//! applied. So a command sees what the commands before it did, those of its own transaction too.
//!
//! What a walk finds in tables and memtables is merged with what entries in flight say of the same keys. Most walks
//! meet none: an entry knows roughly which collections it touches.
//!
//! Invariant: nothing here waits. What is not in memory is noted as a [`Want`], and the command run anew.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use ashlar_consensus::{Index, Timestamp};

use crate::collection::{Root, due_key, head_key};
use crate::command::Command;
use crate::memtable::Version;
use crate::partition::{LogRoom, Partition, Pressure};
use crate::read::{Held, Want};
use crate::request::{Refusal, Wait};
use crate::scan::{Merged, Order, Part, Scan};

/// Things that a command may want at once.
const WANTS_MAX: usize = 256;

/// What entries in flight say of keys: their values, none for one that is gone.
pub(crate) type Said<'a> = BTreeMap<&'a [u8], Option<&'a [u8]>>;

/// The root of a key that is a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rooted {
    /// The root.
    pub root: Root,
    /// When the key expires, in milliseconds since 1970.
    pub expire_at_ms: Option<u64>,
}

impl Partition {
    /// Says whether a command that writes may run: all of its writes are then taken.
    ///
    /// # Errors
    /// [`Refusal`]: nothing may be written now; `grows` tells those that make the partition larger.
    pub fn admit(&self, grows: bool) -> Result<(), Refusal> {
        if self.damage.is_some() {
            return Err(Refusal::Damaged(self.id.0));
        }
        match self.admission.log {
            LogRoom::Full => Err(Refusal::DiskFull),
            LogRoom::Deletes if grows => Err(Refusal::DiskFull),
            LogRoom::Open if grows && self.admission.pressure == Pressure::Full => {
                Err(Refusal::Busy)
            }
            LogRoom::Open | LogRoom::Deletes => Ok(()),
        }
    }

    /// Returns the root of `key`, an internal key; nothing when there is no such key.
    ///
    /// # Errors
    /// [`Refusal`]: it is no collection, or must be brought into memory first.
    pub fn root(&mut self, key: &[u8], now_ms: u64) -> Result<(Option<Rooted>, Wait), Refusal> {
        let (hash, mut held) = (self.memtable.hash(key), Held::default());
        match self.current(hash, key, now_ms, &mut held) {
            Err(want) => Err(self.note(want)),
            Ok((None, wait)) => Ok((None, wait)),
            Ok((Some(current), wait)) => {
                let root = Root::decode(current.value).filter(|_| current.is_root);
                let root = root.ok_or(Refusal::WrongType)?;
                let expire_at_ms = current.expire_at_ms;
                Ok((Some(Rooted { root, expire_at_ms }), wait))
            }
        }
    }

    /// Gives `answer` the value of an element; nothing when it is missing.
    ///
    /// # Errors
    /// [`Refusal::NotInMemory`]: it must be brought into memory first.
    pub fn element<A>(
        &mut self,
        key: &[u8],
        answer: impl FnOnce(Option<&[u8]>) -> A,
    ) -> Result<(A, Wait), Refusal> {
        let (hash, mut held) = (self.memtable.hash(key), Held::default());
        match self.current(hash, key, 0, &mut held) {
            Ok((current, wait)) => Ok((answer(current.map(|current| current.value)), wait)),
            Err(want) => Err(self.note(want)),
        }
    }

    /// Notes what must be brought into memory before an element can be read.
    ///
    /// # Errors
    /// [`Refusal::NotInMemory`]: something must be.
    pub fn expect_element(&mut self, key: &[u8]) -> Result<(), Refusal> {
        self.probe(key).map_or(Ok(()), |want| Err(self.note(want)))
    }

    /// Walks over elements in order, until `take` breaks off.
    ///
    /// # Errors
    /// [`Refusal::NotInMemory`]: something must be brought into memory first; what `take` was given is void.
    pub fn walk_elements(
        &mut self,
        keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
        order: Order,
        take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<Wait, Refusal> {
        let scan = Scan {
            keys,
            order,
            part: Part::Value,
            at: None,
            keys_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let (said, wait) = self.replica.said_of(&scan.keys);
        if said.is_empty() && self.is_in_one_memtable() {
            self.walk_memtable(&scan, take);
            return Ok(wait);
        }
        match self.merge_walk(&scan, said, take) {
            Ok(()) => Ok(wait),
            Err(wants) => {
                for want in wants {
                    self.note(want);
                }
                Err(Refusal::NotInMemory)
            }
        }
    }

    /// Gives `take` what is applied and what is said, in order; of a key that both have, what is said.
    fn merge_walk(
        &self,
        scan: &Scan,
        mut said: Said<'_>,
        mut take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Vec<Want>> {
        let mut merged = Merged::begin(self, scan, u64::MAX)?;
        let mut next_said = || match scan.order {
            Order::Ascending => said.pop_first(),
            Order::Descending => said.pop_last(),
        };
        let mut waiting = next_said();
        loop {
            let below = merged.key().filter(|key| !scan.is_past(key));
            let order = match (&waiting, below) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((key, _)), Some(below)) if scan.order == Order::Ascending => key.cmp(&below),
                (Some((key, _)), Some(below)) => below.cmp(key),
            };
            if order.is_le()
                && let Some((key, value)) = waiting.take()
            {
                if value.is_some_and(|value| take(key, value).is_break()) {
                    return Ok(());
                }
                waiting = next_said();
            }
            if order.is_ge()
                && let Some(key) = below
            {
                let tied = merged.tied();
                let mut flow = ControlFlow::Continue(());
                // What was said of the key hides what is applied.
                if order.is_gt() {
                    let mut give = |version: Option<Version<'_>>| {
                        if let Some(version) = version {
                            flow = take(key, version.value);
                        }
                    };
                    let looked = merged.look(key, tied, u64::MAX, Part::Value, &mut give);
                    looked.map_err(|want| vec![want])?;
                }
                if flow.is_break() {
                    return Ok(());
                }
                merged.advance(tied)?;
            }
        }
    }

    /// Notes what must be brought into memory.
    pub(crate) fn note(&mut self, want: Want) -> Refusal {
        if self.wants.len() < WANTS_MAX && !self.wants.contains(&want) {
            self.wants.push(want);
        }
        Refusal::NotInMemory
    }

    /// Begins a collection under `key`, an internal key: writes its head. Its root is written with its elements.
    pub fn begin_collection(&mut self, key: &[u8], timestamp: impl FnOnce() -> Timestamp) -> u64 {
        let id = self.replica.next_timestamp(timestamp).0;
        self.name_head(id, key, unasked);
        id
    }

    /// Has the head of a collection say which key its root has.
    pub fn name_head(&mut self, id: u64, key: &[u8], timestamp: impl FnOnce() -> Timestamp) {
        self.put(&head_key(id), key, (false, None), timestamp);
    }

    /// Writes the root of a collection, and when its key expires.
    pub fn put_root(
        &mut self,
        key: &[u8],
        rooted: &Rooted,
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Index {
        let value = rooted.root.encode();
        self.put(key, &value, (true, rooted.expire_at_ms), timestamp)
    }

    /// Writes an element.
    pub fn put_element(
        &mut self,
        key: &[u8],
        value: &[u8],
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Index {
        self.put(key, value, (false, None), timestamp)
    }

    fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        (is_root, expire_at_ms): (bool, Option<u64>),
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Index {
        let command = Command::Put {
            key,
            is_root,
            expire_at_ms,
            value,
        };
        self.replica
            .propose(self.memtable.hash(key), command, timestamp)
    }

    /// Deletes an element, or a root whose elements are gone.
    pub fn delete_element(&mut self, key: &[u8], timestamp: impl FnOnce() -> Timestamp) -> Index {
        let hash = self.memtable.hash(key);
        self.replica
            .propose(hash, Command::Delete { key }, timestamp)
    }

    /// Notes that a collection is to be looked at: its key is gone, or may be by then.
    pub(crate) fn put_due(&mut self, at_ms: u64, id: u64) {
        self.put(&due_key(at_ms, id), &[], (false, None), unasked);
        self.sweep.note_due(at_ms);
    }
}

/// The timestamp of a command that does not open its entry.
fn unasked() -> Timestamp {
    unreachable!("an entry is open: a command has written to it")
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::{Clock, PartitionId};
    use ashlar_io::wal::{Mark, Position};
    use proptest::prelude::*;

    use super::*;
    use crate::collection::{ELEMENT, element_key, sub_key};
    use crate::key::KeyRange;

    /// What happens to a partition.
    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u8, u8),
        Delete(u64, u8),
        /// The turn ends.
        Seal,
        /// The log makes all durable.
        Settle,
        /// A command that is taken back.
        Undo(u64, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..70_u64, 0..20_u8, any::<u8>()).prop_map(|(id, n, v)| Step::Put(id, n, v)),
            2 => (1..70_u64, 0..20_u8).prop_map(|(id, n)| Step::Delete(id, n)),
            1 => Just(Step::Seal),
            1 => Just(Step::Settle),
            1 => (1..70_u64, 0..20_u8).prop_map(|(id, n)| Step::Undo(id, n)),
        ]
    }

    fn seal(partition: &mut Partition, clock: &mut Clock, mark: &mut u64) {
        if let Some((_, last)) = partition.replica.seal() {
            clock.observe(last);
            partition.replica.persisted(Position(*mark), Mark(*mark));
            *mark += 1;
        }
    }

    fn walked(partition: &mut Partition, id: u64, order: Order) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut key = Vec::new();
        element_key(id, ELEMENT, &[], &mut key);
        let mut end = Vec::new();
        element_key(id, ELEMENT + 1, &[], &mut end);
        let mut found = Vec::new();
        let keys = (Bound::Included(key), Bound::Excluded(end));
        let walk = partition.walk_elements(keys, order, |key, value| {
            found.push((sub_key(key).to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        walk.expect("all is in memory");
        found
    }

    proptest! {
        #[test]
        fn a_walk_sees_what_is_applied_and_what_is_in_flight(steps in proptest::collection::vec(step(), 1..120)) {
            let mut partition = Partition::new(PartitionId(0), KeyRange::all(), 7);
            let (mut clock, mut mark) = (Clock::default(), 1);
            let mut model: BTreeMap<(u64, u8), u8> = BTreeMap::new();
            let mut key = Vec::new();
            for step in steps {
                match step {
                    Step::Put(id, n, value) => {
                        element_key(id, ELEMENT, &[n], &mut key);
                        partition.put_element(&key, &[value], || clock.take(1));
                        model.insert((id, n), value);
                    }
                    Step::Delete(id, n) => {
                        element_key(id, ELEMENT, &[n], &mut key);
                        partition.delete_element(&key, || clock.take(1));
                        model.remove(&(id, n));
                    }
                    Step::Undo(id, n) => {
                        let before = partition.savepoint();
                        element_key(id, ELEMENT, &[n], &mut key);
                        partition.put_element(&key, b"never", || clock.take(1));
                        partition.delete_element(&key, || clock.take(1));
                        partition.go_back(before);
                    }
                    Step::Seal => seal(&mut partition, &mut clock, &mut mark),
                    Step::Settle => {
                        seal(&mut partition, &mut clock, &mut mark);
                        partition.settle(Mark(mark));
                    }
                }
            }
            for id in [1, 2, 65, 66] {
                let mut expected: Vec<_> = model
                    .range((id, 0)..(id + 1, 0))
                    .map(|((_, n), value)| (vec![*n], vec![*value]))
                    .collect();
                prop_assert_eq!(&walked(&mut partition, id, Order::Ascending), &expected);
                expected.reverse();
                prop_assert_eq!(&walked(&mut partition, id, Order::Descending), &expected);
                for n in 0..20 {
                    element_key(id, ELEMENT, &[n], &mut key);
                    let value = partition.element(&key, |value| value.map(<[u8]>::to_vec));
                    let (value, _) = value.expect("all is in memory");
                    prop_assert_eq!(value, model.get(&(id, n)).map(|value| vec![*value]));
                }
            }
        }
    }
}
