//! The life of a request: admit, read, evaluate, propose, answer. One straight line.
//!
//! It does not wait: the answer is known when the request is evaluated, and is handed on with the
//! index that must be applied before it may leave ([`Wait`]). Whoever holds the client's replies
//! holds it until then.
//!
//! A read that needs a block of a table that is not in memory changes nothing and answers
//! [`Refusal::NotInMemory`]; [`Partition::take_wants`] then says what is wanted, and the whole command
//! is run anew once it has been fetched.
//!
//! A read that memory can answer allocates nothing. A read that meets an entry in flight answers
//! what that entry will make true, and waits for it: so a client sees its own writes, and nobody is
//! told what a crash could take back.

use std::borrow::Cow;

use ashlar_consensus::Timestamp;

use crate::collection::Root;
use crate::command::Command;
use crate::evaluate::{Current, Effect, NewValue, evaluate};
use crate::memtable::Kind;
use crate::overlay::Pending;
use crate::partition::{LogRoom, Partition, Pressure};
use crate::planted::{Planted, is_planted};
use crate::read::{Held, Want};
use crate::replica::Savepoint;
use crate::request::{Refusal, Request, Response, Wait};

/// Range deletions that a partition may have before tables have taken them in.
const RANGES_MAX: usize = 4096;

impl Partition {
    /// Serves one request for `key`, an internal key of this partition's range.
    ///
    /// `now_ms` is the leader's time, by which expiry is decided; `timestamp` is asked for when the
    /// request opens an entry. `answer` is given the response, which borrows from the partition.
    pub fn serve<A>(
        &mut self,
        key: &[u8],
        request: &Request<'_>,
        now_ms: u64,
        timestamp: impl FnOnce() -> Timestamp,
        answer: impl FnOnce(Response<'_>) -> A,
    ) -> (A, Wait) {
        debug_assert!(
            self.range().contains(key),
            "a request reaches the partition of its key"
        );
        if let Some(refusal) = self.refusal(request) {
            return (answer(Response::Refused(refusal)), None);
        }
        let hash = self.memtable.hash(key);
        let mut held = Held::default();
        let (current, wait) = match request.reads(now_ms) {
            false => (None, None),
            true => match self.current(hash, key, now_ms, &mut held) {
                Ok(found) => found,
                Err(want) => {
                    let refusal = self.note(want);
                    return (answer(Response::Refused(refusal)), None);
                }
            },
        };
        let (response, effect) = evaluate(request, current, now_ms, self.admission.value_bytes_max);
        let due = due_of(current, &effect, now_ms);
        let change = change_of(request, current, effect);
        let answered = answer(response);
        let Some(change) = change else {
            let wait = wait.filter(|_| !is_planted(Planted::ReadsDoNotWait));
            return (answered, wait);
        };
        let command = match &change {
            Change::Put {
                value,
                is_root,
                expire_at_ms,
            } => Command::Put {
                key,
                is_root: *is_root,
                expire_at_ms: *expire_at_ms,
                value,
            },
            Change::Delete => Command::Delete { key },
        };
        let index = self.replica.propose(hash, command, timestamp);
        if let Some((at_ms, id)) = due {
            self.put_due(at_ms, id);
        }
        (answered, Some(index))
    }

    /// Deletes every key of a database, or of all.
    ///
    /// # Errors
    /// The log takes no writes.
    pub fn clear(
        &mut self,
        database: Option<u8>,
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Result<Wait, Refusal> {
        self.delete_many(Command::Clear { database }, timestamp)
    }

    /// Deletes the keys from `start` up to `end`, which stays; both are internal keys.
    ///
    /// # Errors
    /// The log takes no writes, or there are too many range deletions that tables have not taken
    /// in.
    pub fn delete_range(
        &mut self,
        start: &[u8],
        end: &[u8],
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Result<Wait, Refusal> {
        if start >= end {
            return Ok(None);
        }
        if self.ranges.fragments() >= RANGES_MAX {
            return Err(Refusal::Busy);
        }
        self.delete_many(Command::DeleteRange { start, end }, timestamp)
    }

    fn delete_many(
        &mut self,
        command: Command<'_>,
        timestamp: impl FnOnce() -> Timestamp,
    ) -> Result<Wait, Refusal> {
        if self.damage.is_some() {
            return Err(Refusal::Damaged(self.id.0));
        }
        if self.admission.log == LogRoom::Full {
            return Err(Refusal::DiskFull);
        }
        Ok(Some(self.replica.propose(0, command, timestamp)))
    }

    /// Takes what the last command wanted and did not find in memory.
    pub fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// Returns the state that a command begins with.
    #[must_use]
    pub fn savepoint(&self) -> Savepoint {
        self.replica.savepoint()
    }

    /// Takes back all that was proposed since: a command that could not be run to its end has done nothing.
    pub fn go_back(&mut self, to: Savepoint) {
        let memtable = &self.memtable;
        self.replica.go_back(to, |key| memtable.hash(key));
    }

    /// Returns why a request cannot be admitted now.
    fn refusal(&self, request: &Request<'_>) -> Option<Refusal> {
        // Once a command wants something, the rest of it changes nothing: it will be run anew.
        if !self.wants.is_empty() {
            return Some(Refusal::NotInMemory);
        }
        if self.damage.is_some() {
            return Some(Refusal::Damaged(self.id.0));
        }
        if !request.writes() {
            return None;
        }
        if matches!(request, Request::Put(put) if put.value.len() > self.admission.value_bytes_max)
        {
            return Some(Refusal::TooLong);
        }
        match self.admission.log {
            LogRoom::Deletes if matches!(request, Request::Delete | Request::Take) => None,
            LogRoom::Deletes | LogRoom::Full => Some(Refusal::DiskFull),
            LogRoom::Open if request.grows() && self.admission.pressure == Pressure::Full => {
                Some(Refusal::Busy)
            }
            LogRoom::Open => None,
        }
    }

    /// Returns the key as it will be once all that is proposed is applied, and the index that this
    /// waits for.
    pub(crate) fn current<'a>(
        &'a self,
        hash: u64,
        key: &[u8],
        now_ms: u64,
        held: &'a mut Held,
    ) -> Result<(Option<Current<'a>>, Wait), Want> {
        let in_flight = self.replica.find(hash, key);
        let (current, wait) = match in_flight.filter(|_| !is_planted(Planted::OverlooksInFlight)) {
            Some(found) => match found.pending {
                Pending::Put {
                    value,
                    is_root,
                    expire_at_ms,
                } => (
                    Some(Current {
                        value,
                        is_root,
                        expire_at_ms,
                    }),
                    Some(found.index),
                ),
                Pending::Deleted | Pending::Untouched => (None, Some(found.index)),
            },
            None => match self.find(hash, key, u64::MAX, held)? {
                Some(version) if version.kind.is_there() => (
                    Some(Current {
                        value: version.value,
                        is_root: version.kind == Kind::Root,
                        expire_at_ms: version.expire_at_ms,
                    }),
                    None,
                ),
                _ => (None, None),
            },
        };
        Ok((
            current.filter(|c| c.expire_at_ms.is_none_or(|at_ms| at_ms > now_ms)),
            wait,
        ))
    }
}

/// What is proposed.
enum Change<'a> {
    Put {
        value: Cow<'a, [u8]>,
        is_root: bool,
        expire_at_ms: Option<u64>,
    },
    Delete,
}

/// Returns when a collection that the change may end is to be looked at, and which one it is.
fn due_of(current: Option<Current<'_>>, effect: &Effect, now_ms: u64) -> Option<(u64, u64)> {
    let current = current.filter(|current| current.is_root)?;
    let id = Root::decode(current.value)?.id;
    match effect {
        Effect::Put {
            value: NewValue::Unchanged,
            expire_at_ms,
        } => expire_at_ms.map(|at_ms| (at_ms, id)),
        Effect::Put { .. } | Effect::Delete => Some((now_ms, id)),
        Effect::Nothing => None,
    }
}

/// Gathers the bytes of a change. Those of the current value are copied: they may lie in the entry
/// that will grow.
fn change_of<'a>(
    request: &Request<'a>,
    current: Option<Current<'_>>,
    effect: Effect,
) -> Option<Change<'a>> {
    let (value, expire_at_ms) = match effect {
        Effect::Nothing => return None,
        Effect::Delete => return Some(Change::Delete),
        Effect::Put {
            value,
            expire_at_ms,
        } => (value, expire_at_ms),
    };
    let is_root = value == NewValue::Unchanged && current.is_some_and(|c| c.is_root);
    let value = match (value, request) {
        (NewValue::Made(made), _) => Cow::Owned(made),
        (NewValue::Requested, Request::Put(put)) => Cow::Borrowed(put.value),
        (NewValue::Requested, Request::Append(suffix)) => Cow::Borrowed(*suffix),
        (NewValue::Unchanged, _) => Cow::Owned(current.map_or_else(Vec::new, |c| c.value.to_vec())),
        (NewValue::Requested, other) => unreachable!("{other:?} carries no value"),
    };
    Some(Change::Put {
        value,
        is_root,
        expire_at_ms,
    })
}
