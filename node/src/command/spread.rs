//! Commands over all partitions: what each partition is asked, and how the answers become one
//! reply. The connection waits for its earlier replies first and for these answers then, so the
//! order of its commands is kept.

use std::ops::Bound;

use super::member::Wish;
use ashlar_consensus::{Clock, Index, NodeId, Timestamp};
use ashlar_partition::collection::{Family, Root};
use ashlar_partition::{
    Condition, Expiry, Kind, Order, Part, Partition, Put, Refusal, Request, Response, Return,
    Scan as Walk, Scanned, Stamp, Want,
};

use crate::message::Once;

/// What a partition is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// How many keys a database has here.
    Count {
        /// The database.
        database: u8,
    },
    /// Delete the keys of a database, or all.
    Clear {
        /// The database.
        database: Option<u8>,
    },
    /// Delete the keys from `start` up to `end`, internal ones.
    DeleteRange {
        /// The first.
        start: Vec<u8>,
        /// The first that stays.
        end: Vec<u8>,
    },
    /// Some keys in order; moved behind the last one looked at.
    Scan(Walk),
    /// Any one key of a database.
    Random {
        /// The database.
        database: u8,
        /// Picks it.
        seed: u64,
    },
    /// A timestamp that all that is acknowledged here is at or before.
    Timestamp,
    /// Hand leadership over to a node.
    HandOver {
        /// The node.
        to: NodeId,
    },
    /// Put a value in the place of another, under a key of the system; what is missing is empty.
    Swap {
        /// The internal key.
        key: Vec<u8>,
        /// The value that it must have, or nothing is changed.
        from: Vec<u8>,
        /// The value that it is to have; nothing is changed when it is empty.
        to: Vec<u8>,
    },
    /// The state of a key.
    Stamp {
        /// An internal key.
        key: Vec<u8>,
    },
    /// A question that changes something, as a write of a session: it is done once.
    Once(Once, Box<Self>),
}

impl Question {
    /// Says whether answering it changes something.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::Clear { .. } | Self::DeleteRange { .. } | Self::Once(..) => true,
            Self::Swap { to, .. } => !to.is_empty(),
            _ => false,
        }
    }
}

/// A key that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The internal key.
    pub key: Vec<u8>,
    /// Its value, if that was asked for and it is a string.
    pub value: Vec<u8>,
    /// What it is, unless a string.
    pub family: Option<Family>,
}

/// What a partition answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    #[default]
    Nothing,
    /// A number of keys.
    Count(u64),
    /// Done.
    Done,
    /// Not done, for this reason.
    Refused(Refusal),
    /// It could not be read; the error to answer with.
    Failed(String),
    /// Internal keys in order with their values; and where to go on, if not at the end.
    Entries(Vec<Found>, Option<Walk>),
    /// A user key.
    Key(Option<Vec<u8>>),
    /// A timestamp.
    Timestamp(Timestamp),
    /// What a key of the system has, then.
    Value(Vec<u8>),
    /// The state of a key.
    Stamp(Stamp),
}

/// How far a question has been answered.
#[derive(Debug)]
pub enum Step {
    /// Wholly; the answer may leave once this index is applied.
    Done(Option<Index>),
    /// Again once this index is applied.
    Applied(Index),
    /// Again in another turn.
    More,
    /// Again once these are in memory.
    Wants(Vec<Want>),
}

/// How a command over all partitions goes.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Sum of the keys of a database.
    Count {
        /// The database.
        database: u8,
    },
    /// Clear everywhere.
    Clear {
        /// The database, or all.
        database: Option<u8>,
    },
    /// One step of a scan: partitions are asked in order until `count` keys were looked at.
    Scan(Scan),
    /// A walk over a range, of database and user keys.
    Walk(Range),
    /// Delete a range everywhere.
    DeleteRange {
        /// First internal key.
        start: Vec<u8>,
        /// First internal key that stays.
        end: Vec<u8>,
    },
    /// A random key of a database.
    Random {
        /// The database.
        database: u8,
    },
    /// Have a partition led by another node.
    HandOver {
        /// The partition.
        partition: usize,
        /// The node.
        to: NodeId,
    },
    /// A timestamp that all that is acknowledged anywhere is at or before.
    Timestamp,
    /// Change the members of the cluster.
    Member(Wish),
    /// Remember the states of keys, internal ones.
    Watch(Vec<Vec<u8>>),
    /// All keys of a database that match a pattern.
    Keys {
        /// The database.
        database: u8,
        /// Glob pattern.
        pattern: Vec<u8>,
    },
}

/// A walk over a range of keys.
#[derive(Clone, Debug)]
pub struct Range {
    /// What to walk over.
    pub walk: Walk,
    /// Whether values are answered, too.
    pub part: Part,
}

/// One step of a scan.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The database.
    pub database: u8,
    /// Internal key behind which to begin.
    pub after: Option<Vec<u8>>,
    /// Keys to look at.
    pub count: usize,
    /// Only keys that match this glob pattern.
    pub pattern: Option<Vec<u8>>,
    /// Only keys of this type.
    pub only_type: Option<Vec<u8>>,
}

/// Goes on answering a question on the shard of the partition. `question` and `answer` keep what was
/// reached.
pub fn answer(
    partition: &mut Partition,
    question: &mut Question,
    answer: &mut Answer,
    clock: &mut Clock,
    (now_ms, now_us): (u64, u64),
) -> Step {
    if partition.damage().is_some() {
        *answer = Answer::Refused(Refusal::Damaged(partition.id().0));
        return Step::Done(None);
    }
    match question {
        Question::Once(_, question) => {
            self::answer(partition, question, answer, clock, (now_ms, now_us))
        }
        Question::Count { database } => {
            *answer = Answer::Count(partition.keys_of(*database));
            Step::Done(None)
        }
        Question::Clear { database } => {
            let cleared = partition.clear(*database, || clock.take(now_us));
            changed(answer, cleared)
        }
        Question::DeleteRange { start, end } => {
            let deleted = partition.delete_range(start, end, || clock.take(now_us));
            changed(answer, deleted)
        }
        Question::Scan(walk) => {
            if let Some(step) = not_yet(partition, walk.at, clock, answer) {
                return step;
            }
            let mut timestamp = || clock.take(now_us);
            let promised = (walk.at).and_then(|at| partition.promise(at, &mut timestamp));
            match scan(partition, walk, answer, now_ms) {
                Step::Done(None) => Step::Done(promised),
                step => step,
            }
        }
        Question::Timestamp => {
            *answer = Answer::Timestamp(clock.last().max(last_of(now_us)));
            Step::Done(None)
        }
        Question::HandOver { to } => {
            *answer = match partition.hand_over(Some(*to)) {
                true => Answer::Done,
                false => Answer::Failed(format!(
                    "ERR partition {} has no replica on that node that could lead it",
                    partition.id()
                )),
            };
            Step::Done(None)
        }
        Question::Stamp { key } => match partition.stamp(key, now_ms) {
            Ok((stamp, wait)) => {
                *answer = Answer::Stamp(stamp);
                Step::Done(wait)
            }
            Err(want) => Step::Wants(vec![want]),
        },
        Question::Random { database, seed } => random(partition, *database, *seed, answer, now_ms),
        Question::Swap { key, from, to } => {
            let mut timestamp = || clock.take(now_us);
            swap(partition, key, (from, to), answer, (now_ms, &mut timestamp))
        }
    }
}

/// Puts a value in the place of another.
fn swap(
    partition: &mut Partition,
    key: &[u8],
    (from, to): (&[u8], &[u8]),
    answer: &mut Answer,
    (now_ms, timestamp): (u64, &mut dyn FnMut() -> Timestamp),
) -> Step {
    let of = |response: Response<'_>| match response {
        Response::Value(value, _) => Ok(value.into_owned()),
        Response::Refused(refusal) => Err(refusal),
        _ => Ok(Vec::new()),
    };
    let (found, wait) = partition.serve(key, &Request::Get, now_ms, &mut *timestamp, of);
    let found = match found {
        Ok(found) => found,
        Err(refusal) => return refused(partition, refusal, answer),
    };
    if to.is_empty() || found != from {
        *answer = Answer::Value(found);
        return Step::Done(wait);
    }
    let put = Request::Put(Put {
        value: to,
        condition: Condition::Always,
        expiry: Expiry::Never,
        returns: Return::Outcome,
    });
    let (put, wait) = partition.serve(key, &put, now_ms, timestamp, of);
    match put {
        Ok(_) => {
            *answer = Answer::Value(to.to_vec());
            Step::Done(wait)
        }
        Err(refusal) => refused(partition, refusal, answer),
    }
}

/// Answers a refusal, unless all that is missing is something in memory.
fn refused(partition: &mut Partition, refusal: Refusal, answer: &mut Answer) -> Step {
    match partition.take_wants() {
        wants if refusal == Refusal::NotInMemory => Step::Wants(wants),
        _ => {
            *answer = Answer::Refused(refusal);
            Step::Done(None)
        }
    }
}

/// Returns the last timestamp of a microsecond.
#[must_use]
pub(super) fn last_of(now_us: u64) -> Timestamp {
    Timestamp(Timestamp::at_micros(now_us + 1).0 - 1)
}

fn changed(answer: &mut Answer, outcome: Result<Option<Index>, Refusal>) -> Step {
    match outcome {
        Ok(wait) => {
            *answer = Answer::Done;
            Step::Done(wait)
        }
        Err(refusal) => {
            *answer = Answer::Refused(refusal);
            Step::Done(None)
        }
    }
}

/// Sees to it that what a reader of the past sees does not change any more: later writes come after
/// it, and those before it are applied. Refuses what may be gone.
fn not_yet(
    partition: &Partition,
    at: Option<Timestamp>,
    clock: &mut Clock,
    answer: &mut Answer,
) -> Option<Step> {
    let at = at?;
    if at < partition.low_water() {
        *answer = Answer::Refused(Refusal::TooOld);
        return Some(Step::Done(None));
    }
    clock.observe(at);
    partition.pending_at(at).map(Step::Applied)
}

/// Walks on; `walk` is left with what it may still take.
fn scan(partition: &Partition, walk: &mut Walk, answer: &mut Answer, now_ms: u64) -> Step {
    let mut entries = match std::mem::take(answer) {
        Answer::Entries(entries, _) => entries,
        _ => Vec::new(),
    };
    let (mut keys, mut bytes) = (0, 0);
    let scanned = partition.scan_versions(walk, now_ms, |key, version| {
        let root = Some(version.value).filter(|_| version.kind == Kind::Root);
        let family = root.and_then(Root::decode).map(|root| root.family);
        let value = if family.is_some() { &[] } else { version.value };
        keys += 1;
        bytes += key.len() + value.len();
        entries.push(Found {
            key: key.to_vec(),
            value: value.to_vec(),
            family,
        });
    });
    walk.keys_max = walk.keys_max.saturating_sub(keys);
    walk.bytes_max = walk.bytes_max.saturating_sub(bytes);
    let is_full = walk.keys_max == 0 || walk.bytes_max == 0;
    let (next, step) = match scanned {
        Scanned::End => (None, Step::Done(None)),
        Scanned::Want(wants) if !is_full => (None, Step::Wants(wants)),
        // Many keys were looked at, deleted ones mostly: others have their turn first.
        Scanned::Limit if !is_full => (None, Step::More),
        Scanned::Limit | Scanned::Want(_) => (Some(walk.clone()), Step::Done(None)),
    };
    *answer = Answer::Entries(entries, next);
    step
}

/// Finds a key at random: walks from a random place, and from the beginning when nothing is behind.
fn random(
    partition: &Partition,
    database: u8,
    seed: u64,
    answer: &mut Answer,
    now_ms: u64,
) -> Step {
    let from = match answer {
        Answer::Key(_) => vec![database],
        _ => partition.random_place(database, seed),
    };
    let mut walk = Walk {
        keys: (Bound::Included(from), Bound::Excluded(vec![database + 1])),
        order: Order::Ascending,
        part: Part::Key,
        at: None,
        keys_max: 1,
        bytes_max: usize::MAX,
    };
    let mut found = None;
    let scanned = partition.scan(&mut walk, now_ms, |key, _| found = Some(key[1..].to_vec()));
    match (scanned, found, &answer) {
        (Scanned::Want(wants), None, _) => Step::Wants(wants),
        (_, None, Answer::Key(_)) => Step::Done(None),
        (_, None, _) => {
            *answer = Answer::Key(None);
            Step::More
        }
        (_, Some(key), _) => {
            *answer = Answer::Key(Some(key));
            Step::Done(None)
        }
    }
}
