//! Collections, as their commands see them: opened by key, read and changed element by element, closed with their root
//! written. What a family keeps in its elements is its own business (`hash`, `list`, `set`, `sorted_set`).
//!
//! Invariants:
//! 1. A command that was refused on the way has changed nothing: [`DataCall::run`] takes back what it did.
//! 2. What is answered of a collection is bounded by [`ANSWER_BYTES_MAX`].

use std::ops::{Bound, ControlFlow};

use ashlar_partition::collection::{
    BY_SCORE, ELEMENT, Family, Root, SUB_KEY_BYTES_MAX, head_key, sub_key,
};
use ashlar_partition::{Order, Refusal, Rooted};

use super::DataCall;
use crate::pubsub::notice::Class;
use crate::resp::encode::Encoder;

/// Longest answer that one command gets of a collection, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Elements from which on a collection that goes is not deleted one by one.
const SWEPT_MIN: usize = 64;

/// Returns a number of elements or bytes as replies have it.
#[must_use]
pub fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A collection that a command works on.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// What is known of it.
    pub rooted: Rooted,
}

impl Opened<'_> {
    /// Returns the number of its elements.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.rooted.root.count
    }

    /// Returns which collection it is.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.rooted.root.id
    }

    /// Says whether its elements are left to the sweep when as many of them go: all, and many.
    #[must_use]
    pub fn is_swept(&self, going: usize) -> bool {
        going >= SWEPT_MIN && going as u64 == self.count()
    }

    /// Counts elements that came or went.
    ///
    /// # Panics
    /// When more went than there were: the caller has counted wrong.
    pub fn add(&mut self, elements: i64) {
        let root = &mut self.rooted.root;
        let count = root.count.checked_add_signed(elements);
        root.count = count.expect("a root counts its elements exactly");
    }
}

/// An element: sub-key and value.
pub type Element = (Vec<u8>, Vec<u8>);

/// Sub-keys from one to another.
pub type SubKeys<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// All sub-keys.
pub const ALL: SubKeys<'static> = (Bound::Unbounded, Bound::Unbounded);

impl<'a> DataCall<'a> {
    /// Runs a command that may be refused.
    pub fn attempt(&mut self, run: impl FnOnce(&mut Self) -> Result<(), Refusal>) {
        if let Err(refusal) = run(self) {
            self.fail(refusal);
        }
    }

    /// Has the command be answered an error; what it did is taken back.
    ///
    /// # Errors
    /// None: so a command ends.
    pub fn tell(&mut self, error: &'static str) -> Result<(), Refusal> {
        self.fail_with(error);
        Ok(())
    }

    /// Opens the collection under a key; nothing when the key is missing.
    ///
    /// # Errors
    /// [`Refusal`]: the key is something else.
    pub fn open<'k>(
        &mut self,
        key: &'k [u8],
        family: Family,
    ) -> Result<Option<Opened<'k>>, Refusal> {
        match self.open_any(key)? {
            Some(opened) if opened.rooted.root.family != family => Err(Refusal::WrongType),
            opened => Ok(opened),
        }
    }

    /// Opens the collection under a key, of whatever family; nothing when the key is missing.
    ///
    /// # Errors
    /// [`Refusal`]: the key is no collection.
    pub fn open_any<'k>(&mut self, key: &'k [u8]) -> Result<Option<Opened<'k>>, Refusal> {
        let internal = self.key.set(self.database, key);
        let (rooted, wait) = self.partition.root(internal, self.now_ms)?;
        self.wait = self.wait.max(wait);
        Ok(rooted.map(|rooted| Opened { key, rooted }))
    }

    /// Opens the collection under a key to read it, counts the read, and tells of a key that is missing.
    ///
    /// # Errors
    /// As [`DataCall::open`].
    pub fn open_to_read<'k>(
        &mut self,
        key: &'k [u8],
        family: Family,
    ) -> Result<Option<Opened<'k>>, Refusal> {
        let opened = self.open(key, family)?;
        self.count_read(opened.is_some());
        if opened.is_none() {
            self.notify(Class::Miss, "keymiss", key);
        }
        Ok(opened)
    }

    /// Opens the collection under a key to change it, without making it larger.
    ///
    /// # Errors
    /// As [`DataCall::open`]; or nothing may be written now.
    pub fn open_to_remove<'k>(
        &mut self,
        key: &'k [u8],
        family: Family,
    ) -> Result<Option<Opened<'k>>, Refusal> {
        self.partition.admit(false)?;
        self.open(key, family)
    }

    /// Opens the collection under a key to add to it; an empty one when the key is missing, which must get elements.
    ///
    /// # Errors
    /// As [`DataCall::open`]; or nothing may be added now.
    pub fn open_to_add<'k>(
        &mut self,
        key: &'k [u8],
        family: Family,
    ) -> Result<Opened<'k>, Refusal> {
        self.partition.admit(true)?;
        if let Some(opened) = self.open(key, family)? {
            return Ok(opened);
        }
        self.begin(key, family)
    }

    /// Begins an empty collection under a key, whatever it was.
    ///
    /// # Errors
    /// [`Refusal`]: nothing may be written now.
    pub fn begin<'k>(&mut self, key: &'k [u8], family: Family) -> Result<Opened<'k>, Refusal> {
        self.partition.admit(true)?;
        let internal = self.key.set(self.database, key);
        let (clock, now_us) = (&mut *self.clock, self.now_us);
        let id = self
            .partition
            .begin_collection(internal, || clock.take(now_us));
        let root = Root {
            family,
            id,
            count: 0,
            first: 0,
        };
        let expire_at_ms = None;
        Ok(Opened {
            key,
            rooted: Rooted { root, expire_at_ms },
        })
    }

    /// Begins an empty collection under a key; what was there goes.
    ///
    /// # Errors
    /// [`Refusal`]: nothing may be written now.
    pub fn begin_anew<'k>(&mut self, key: &'k [u8], family: Family) -> Result<Opened<'k>, Refusal> {
        self.remove(key)?;
        self.begin(key, family)
    }

    /// Gives `answer` the value of an element; nothing when it is missing.
    ///
    /// # Errors
    /// [`Refusal`]: it must be brought into memory first.
    pub fn element<A>(
        &mut self,
        opened: &Opened<'_>,
        (part, sub_key): (u8, &[u8]),
        answer: impl FnOnce(Option<&[u8]>) -> A,
    ) -> Result<A, Refusal> {
        if sub_key.len() > SUB_KEY_BYTES_MAX {
            return Ok(answer(None));
        }
        let key = self.key.element(opened.id(), part, sub_key);
        let (answer, wait) = self.partition.element(key, answer)?;
        self.wait = self.wait.max(wait);
        Ok(answer)
    }

    /// Answers from the value of an element; nothing when it is missing. The value is not copied before.
    ///
    /// # Errors
    /// As [`DataCall::element`].
    pub fn answer_element(
        &mut self,
        opened: &Opened<'_>,
        (part, sub_key): (u8, &[u8]),
        answer: impl FnOnce(Option<&[u8]>, &mut Encoder<'_>),
    ) -> Result<(), Refusal> {
        self.answering(|call, encoder| {
            call.element(opened, (part, sub_key), |value| answer(value, encoder))
        })
    }

    /// Has something answer while it reads.
    fn answering<A>(&mut self, run: impl FnOnce(&mut Self, &mut Encoder<'_>) -> A) -> A {
        let mut out = std::mem::take(self.out);
        let answer = run(self, &mut Encoder::new(&mut out, self.version));
        *self.out = out;
        answer
    }

    /// Says whether an element is there.
    ///
    /// # Errors
    /// As [`DataCall::element`].
    pub fn has_member(&mut self, opened: &Opened<'_>, member: &[u8]) -> Result<bool, Refusal> {
        self.element(opened, (ELEMENT, member), |value| value.is_some())
    }

    /// Has all of several elements be in memory before the first is read: they are fetched together.
    ///
    /// # Errors
    /// [`Refusal`]: some must be brought into memory first.
    pub fn expect_elements<'k>(
        &mut self,
        opened: &Opened<'_>,
        part: u8,
        sub_keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(), Refusal> {
        let mut expected = Ok(());
        for sub_key in sub_keys.filter(|sub_key| sub_key.len() <= SUB_KEY_BYTES_MAX) {
            let key = self.key.element(opened.id(), part, sub_key);
            expected = self.partition.expect_element(key).and(expected);
        }
        expected
    }

    /// Writes an element.
    ///
    /// # Errors
    /// [`Refusal`]: its sub-key or its value is too long.
    pub fn put(
        &mut self,
        opened: &Opened<'_>,
        (part, sub_key): (u8, &[u8]),
        value: &[u8],
    ) -> Result<(), Refusal> {
        // What is in the order of scores has the score in front.
        let score_bytes = if part == BY_SCORE { 8 } else { 0 };
        if sub_key.len() > SUB_KEY_BYTES_MAX + score_bytes {
            return Err(Refusal::TooWide);
        }
        if value.len() > self.partition.admission.value_bytes_max {
            return Err(Refusal::TooLong);
        }
        let key = self.key.element(opened.id(), part, sub_key);
        let (clock, now_us) = (&mut *self.clock, self.now_us);
        let index = self
            .partition
            .put_element(key, value, || clock.take(now_us));
        self.wait = self.wait.max(Some(index));
        Ok(())
    }

    /// Deletes an element that is there.
    pub fn delete(&mut self, opened: &Opened<'_>, (part, sub_key): (u8, &[u8])) {
        let key = self.key.element(opened.id(), part, sub_key);
        let (clock, now_us) = (&mut *self.clock, self.now_us);
        let index = self.partition.delete_element(key, || clock.take(now_us));
        self.wait = self.wait.max(Some(index));
    }

    /// Closes a collection that was changed: its root is written, or goes when nothing is left. What happened to its
    /// elements is told before; that it is gone, here.
    pub fn close(&mut self, opened: &Opened<'_>) {
        let (clock, now_us) = (&mut *self.clock, self.now_us);
        let mut timestamp = || clock.take(now_us);
        let key = self.key.set(self.database, opened.key);
        let index = match opened.count() {
            0 => {
                self.partition.delete_element(key, &mut timestamp);
                let head = head_key(opened.id());
                self.partition.delete_element(&head, timestamp)
            }
            _ => self.partition.put_root(key, &opened.rooted, timestamp),
        };
        self.wait = self.wait.max(Some(index));
        if opened.count() == 0 {
            self.notify(Class::Generic, "del", opened.key);
        } else {
            self.note_ready(opened, opened.key);
        }
    }

    /// Walks over elements of a part in order, until `take` breaks off; it is given sub-keys and values.
    ///
    /// # Errors
    /// [`Refusal`]: something must be brought into memory first, or what was given is too much to be answered at once;
    /// what `take` was given is void.
    pub fn walk(
        &mut self,
        opened: &Opened<'_>,
        (part, sub_keys): (u8, SubKeys<'_>),
        order: Order,
        mut take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let mut bytes = 0;
        let keys = self.keys_of(opened, part, sub_keys);
        let wait = self.partition.walk_elements(keys, order, |key, value| {
            bytes += key.len() + value.len();
            match bytes > ANSWER_BYTES_MAX {
                true => ControlFlow::Break(()),
                false => take(sub_key(key), value),
            }
        })?;
        self.wait = self.wait.max(wait);
        match bytes > ANSWER_BYTES_MAX {
            true => Err(Refusal::TooMuch),
            false => Ok(()),
        }
    }

    /// Walks over all elements of a part.
    ///
    /// # Errors
    /// As [`DataCall::walk`]; or they are not as many as the root says.
    pub fn walk_all(
        &mut self,
        opened: &Opened<'_>,
        part: u8,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Refusal> {
        let mut count = 0;
        self.walk(opened, (part, ALL), Order::Ascending, |sub_key, value| {
            count += 1;
            take(sub_key, value);
            ControlFlow::Continue(())
        })?;
        match count == opened.count() {
            true => Ok(()),
            false => Err(self.damaged()),
        }
    }

    /// Returns the sub-keys of all elements.
    ///
    /// # Errors
    /// As [`DataCall::walk_all`].
    pub fn members(&mut self, opened: &Opened<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut members = Vec::new();
        self.walk_all(opened, ELEMENT, |member, _| members.push(member.to_vec()))?;
        Ok(members)
    }

    /// Returns the refusal of a collection that is not as it must be.
    pub fn damaged(&self) -> Refusal {
        Refusal::Damaged(self.partition.id().0)
    }

    /// Answers all elements of a part; `show` writes one. How many they are was written before.
    ///
    /// # Errors
    /// As [`DataCall::walk_all`].
    pub fn show_all(
        &mut self,
        opened: &Opened<'_>,
        part: u8,
        show: impl Fn(&[u8], &[u8], &mut Encoder<'_>),
    ) -> Result<(), Refusal> {
        self.answering(|call, encoder| {
            call.walk_all(opened, part, |key, value| show(key, value, encoder))
        })
    }

    /// Answers elements of a part, which are `count`; `show` writes one. How many they are was written before.
    ///
    /// # Errors
    /// As [`DataCall::walk`]; or they are not as many.
    pub fn show_some(
        &mut self,
        opened: &Opened<'_>,
        (part, sub_keys): (u8, SubKeys<'_>),
        count: u64,
        show: impl Fn(&[u8], &[u8], &mut Encoder<'_>),
    ) -> Result<(), Refusal> {
        let mut shown = 0;
        self.answering(|call, encoder| {
            call.walk(opened, (part, sub_keys), Order::Ascending, |key, value| {
                shown += 1;
                show(key, value, encoder);
                ControlFlow::Continue(())
            })
        })?;
        match shown == count {
            true => Ok(()),
            false => Err(self.damaged()),
        }
    }

    /// Notes that a key has elements, if anybody waits for some.
    pub(super) fn note_ready(&mut self, opened: &Opened<'_>, key: &[u8]) {
        let family = opened.rooted.root.family;
        if let (Some(ready), Family::List | Family::SortedSet) = (&mut self.ready, family) {
            let key = self.key.set(self.database, key);
            ready.push((family, key.to_vec()));
        }
    }

    fn keys_of(
        &mut self,
        opened: &Opened<'_>,
        part: u8,
        (start, end): SubKeys<'_>,
    ) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let mut key = |part, sub_key| self.key.element(opened.id(), part, sub_key).to_vec();
        let start = match start {
            Bound::Unbounded => Bound::Included(key(part, &[])),
            bound => bound.map(|sub_key| key(part, sub_key)),
        };
        let end = match end {
            Bound::Unbounded => Bound::Excluded(key(part + 1, &[])),
            bound => bound.map(|sub_key| key(part, sub_key)),
        };
        (start, end)
    }
}
