//! The plain model of a partition: a map that takes each request in at once, and the list of changes
//! that made it. It knows nothing of entries, overlays and logs but the index that a change was given.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use ashlar_consensus::Index;
use ashlar_partition::{
    Admission, Condition, ExpireCondition, Expiry, LogRoom, Pressure, Put, Refusal, Request,
    Response, Return,
};

/// Values and expiries by internal key.
pub(crate) type Content = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// A change as the model makes it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(Vec<u8>, Vec<u8>, Option<u64>),
    Remove(Vec<u8>),
    Clear(Option<u8>),
    /// Of the keys from the first up to the second.
    RemoveRange(Vec<u8>, Vec<u8>),
}

impl Change {
    pub(crate) fn touches(&self, key: &[u8]) -> bool {
        match self {
            Self::Set(changed, ..) | Self::Remove(changed) => changed == key,
            Self::Clear(database) => database.is_none_or(|database| key[0] == database),
            Self::RemoveRange(start, end) => (start.as_slice()..end.as_slice()).contains(&key),
        }
    }

    fn apply(&self, content: &mut Content) {
        match self {
            Self::Set(key, value, expire_at_ms) => {
                content.insert(key.clone(), (value.clone(), *expire_at_ms));
            }
            Self::Remove(key) => {
                content.remove(key);
            }
            Self::Clear(None) => content.clear(),
            Self::Clear(Some(_)) | Self::RemoveRange(..) => {
                content.retain(|key, _| !self.touches(key));
            }
        }
    }
}

/// What the model decides on a request.
pub(crate) struct Decision {
    pub(crate) response: Response<'static>,
    pub(crate) change: Option<Change>,
    /// The key was looked at: the answer waits for what is in flight on it.
    pub(crate) looked: bool,
}

/// The model of one partition.
#[derive(Default)]
pub(crate) struct Reference {
    /// With every change.
    current: Content,
    /// With the changes up to `applied_index`.
    applied: Content,
    changes: VecDeque<(Index, Change)>,
    pub(crate) applied_index: Index,
    pub(crate) last_index: Index,
}

impl Reference {
    /// Returns the newest index in flight that says something of `key`.
    pub(crate) fn in_flight(&self, key: &[u8]) -> Option<Index> {
        self.changes
            .iter()
            .rev()
            .find(|(_, change)| change.touches(key))
            .map(|(index, _)| *index)
    }

    /// Takes in a change that went into entry `index`.
    pub(crate) fn note(&mut self, index: Index, change: Change) {
        change.apply(&mut self.current);
        self.changes.push_back((index, change));
    }

    /// Returns the keys that have expired, as applied, and that nothing in flight is about: the first to expire first.
    pub(crate) fn expired(&self, now_ms: u64) -> Vec<Vec<u8>> {
        let due = |(_, (_, at_ms)): &(_, &(Vec<u8>, Option<u64>))| {
            at_ms.is_some_and(|at_ms| at_ms <= now_ms)
        };
        let due = self
            .applied
            .iter()
            .filter(due)
            .filter(|(key, _)| self.in_flight(key).is_none());
        due.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn settle(&mut self, applied: Index) {
        assert!(self.applied_index <= applied && applied <= self.last_index);
        self.applied_index = applied;
        while self
            .changes
            .front()
            .is_some_and(|(index, _)| *index <= applied)
        {
            let (_, change) = self.changes.pop_front().unwrap();
            change.apply(&mut self.applied);
        }
    }

    /// Forgets every change behind `last`, as a power cut does that loses them.
    pub(crate) fn cut(&mut self, last: Index) {
        assert!(
            last >= self.applied_index,
            "entry {} was acknowledged, the log ends at {last}",
            self.applied_index
        );
        assert!(last <= self.last_index, "entry {last} was never proposed");
        self.settle(last);
        self.changes.clear();
        self.current = self.applied.clone();
        self.last_index = last;
    }

    /// Returns the content, as applied, with what has expired and was not deleted yet.
    pub(crate) fn applied(&self) -> &Content {
        &self.applied
    }

    /// Returns the content, as applied, but for what has expired.
    pub(crate) fn live(&self, now_ms: u64) -> Content {
        let mut live = self.applied.clone();
        live.retain(|_, (_, at_ms)| at_ms.is_none_or(|at_ms| at_ms > now_ms));
        live
    }

    /// Decides on a request, without taking it in.
    pub(crate) fn decide(
        &self,
        key: &[u8],
        request: &Request<'_>,
        now_ms: u64,
        admission: Admission,
    ) -> Decision {
        if let Some(refusal) = refuse(request, admission) {
            let response = Response::Refused(refusal);
            return Decision {
                response,
                change: None,
                looked: false,
            };
        }
        let found = self.current.get(key);
        let found = found.filter(|(_, at_ms)| at_ms.is_none_or(|at_ms| at_ms > now_ms));
        let value = found.map(|(value, _)| value.as_slice());
        let expiry = found.and_then(|(_, at_ms)| *at_ms);
        let here = Here {
            key,
            value,
            expiry,
            now_ms,
        };
        let (response, change) = match *request {
            Request::Get => (here.old(), None),
            Request::Look => match value {
                Some(_) => (Response::There(None, expiry), None),
                None => (Response::Missing, None),
            },
            Request::Put(put) => here.put(put),
            Request::Delete => (Response::Integer(i64::from(value.is_some())), here.remove()),
            Request::Take => (here.old(), here.remove()),
            Request::Add(delta) => match add(value, delta) {
                Ok(sum) => (
                    Response::Integer(sum),
                    here.set(sum.to_string().as_bytes(), expiry),
                ),
                Err(refusal) => (Response::Refused(refusal), None),
            },
            Request::Append(suffix) => here.append(suffix, admission.value_bytes_max),
            Request::Expire { at_ms, condition } => match value {
                Some(value) if expires(at_ms, condition, expiry) => {
                    (Response::Integer(1), here.set(value, Some(at_ms)))
                }
                _ => (Response::Integer(0), None),
            },
            Request::Persist => match (value, expiry) {
                (Some(value), Some(_)) => (Response::Integer(1), here.set(value, None)),
                _ => (Response::Integer(0), None),
            },
        };
        Decision {
            response,
            change,
            looked: true,
        }
    }
}

/// A key as a request meets it.
struct Here<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
    expiry: Option<u64>,
    now_ms: u64,
}

type Decided = (Response<'static>, Option<Change>);

impl Here<'_> {
    fn old(&self) -> Response<'static> {
        self.value.map_or(Response::Missing, |value| {
            Response::Value(Cow::Owned(value.to_vec()), self.expiry)
        })
    }

    fn remove(&self) -> Option<Change> {
        self.value.map(|_| Change::Remove(self.key.to_vec()))
    }

    /// A key whose expiry has passed is gone as soon as it is set.
    fn set(&self, value: &[u8], at_ms: Option<u64>) -> Option<Change> {
        if at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            return self.remove();
        }
        Some(Change::Set(self.key.to_vec(), value.to_vec(), at_ms))
    }

    fn put(&self, put: Put<'_>) -> Decided {
        let (holds, at_ms) = put_terms(put, self.value.is_some(), self.expiry);
        let response = match put.returns {
            Return::Old => self.old(),
            Return::Outcome if holds => Response::Done,
            Return::Outcome => Response::Missing,
        };
        (
            response,
            if holds {
                self.set(put.value, at_ms)
            } else {
                None
            },
        )
    }

    fn append(&self, suffix: &[u8], value_bytes_max: usize) -> Decided {
        let whole = [self.value.unwrap_or_default(), suffix].concat();
        if whole.len() > value_bytes_max {
            return (Response::Refused(Refusal::TooLong), None);
        }
        let length = i64::try_from(whole.len()).unwrap();
        let unchanged = self.value == Some(&whole);
        (
            Response::Integer(length),
            if unchanged {
                None
            } else {
                self.set(&whole, self.expiry)
            },
        )
    }
}

fn refuse(request: &Request<'_>, admission: Admission) -> Option<Refusal> {
    let deletes = matches!(request, Request::Delete | Request::Take);
    match request {
        Request::Get => None,
        Request::Put(put) if put.value.len() > admission.value_bytes_max => Some(Refusal::TooLong),
        Request::Put(_) | Request::Add(_) | Request::Append(_)
            if admission.pressure == Pressure::Full =>
        {
            Some(Refusal::Busy)
        }
        _ if admission.log == LogRoom::Full || (admission.log == LogRoom::Deletes && !deletes) => {
            Some(Refusal::DiskFull)
        }
        _ => None,
    }
}

fn put_terms(put: Put<'_>, here: bool, expiry: Option<u64>) -> (bool, Option<u64>) {
    let holds = match put.condition {
        Condition::Always => true,
        Condition::Absent => !here,
        Condition::Present => here,
    };
    let at_ms = match put.expiry {
        Expiry::Never => None,
        Expiry::Keep => expiry,
        Expiry::At(at_ms) => Some(at_ms),
    };
    (holds, at_ms)
}

fn add(value: Option<&[u8]>, delta: i64) -> Result<i64, Refusal> {
    let Some(value) = value else { return Ok(delta) };
    let text = String::from_utf8_lossy(value);
    let number: i64 = text.parse().map_err(|_| Refusal::NotAnInteger)?;
    if number.to_string() != text {
        return Err(Refusal::NotAnInteger);
    }
    number.checked_add(delta).ok_or(Refusal::Overflow)
}

fn expires(at_ms: u64, condition: ExpireCondition, before: Option<u64>) -> bool {
    let for_ever = u128::from(u64::MAX) + 1;
    let (new, old) = (u128::from(at_ms), before.map_or(for_ever, u128::from));
    match condition {
        ExpireCondition::Always => true,
        ExpireCondition::None => before.is_none(),
        ExpireCondition::Some => before.is_some(),
        ExpireCondition::Later => new > old,
        ExpireCondition::Earlier => new < old,
        ExpireCondition::SomeLater => before.is_some() && new > old,
        ExpireCondition::SomeEarlier => before.is_some() && new < old,
    }
}
