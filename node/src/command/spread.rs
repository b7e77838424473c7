//! Commands over all partitions: what each partition is asked, and how the answers become one
//! reply. The connection waits for its earlier replies first and for these answers then, so the
//! order of its commands is kept.

use ashlar_consensus::{Clock, Index};
use ashlar_partition::{Kind, Partition};

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
    /// Some keys of a database, in order.
    Scan {
        /// The database.
        database: u8,
        /// Internal key behind which to begin; `None` begins at the partition's first.
        after: Option<Vec<u8>>,
        /// Keys looked at, at most.
        count: usize,
    },
    /// Any one key of a database.
    Random {
        /// The database.
        database: u8,
        /// Picks it.
        seed: u64,
    },
}

/// What a partition answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A number of keys.
    Count(u64),
    /// Done.
    Cleared,
    /// The log takes no writes; the error reply says why.
    Refused(Vec<u8>),
    /// User keys in order, and where to go on: the internal key of the last one looked at, `None`
    /// at the end.
    Keys(Vec<Vec<u8>>, Option<Vec<u8>>),
    /// A user key.
    Key(Option<Vec<u8>>),
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
    /// A random key of a database.
    Random {
        /// The database.
        database: u8,
    },
    /// All keys of a database that match a pattern.
    Keys {
        /// The database.
        database: u8,
        /// Glob pattern.
        pattern: Vec<u8>,
    },
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
    /// Only keys of this type; all are strings so far.
    pub only_type: Option<Vec<u8>>,
}

/// Answers a question on the shard of the partition. The answer may leave once the index is
/// applied.
pub fn answer(
    partition: &mut Partition,
    question: &Question,
    clock: &mut Clock,
    (now_ms, now_us): (u64, u64),
) -> (Answer, Option<Index>) {
    match question {
        Question::Count { database } => {
            (Answer::Count(partition.memtable().keys_of(*database)), None)
        }
        Question::Clear { database } => match partition.clear(*database, || clock.take(now_us)) {
            Ok(wait) => (Answer::Cleared, wait),
            // The shard knows what its log lacks, and puts it in.
            Err(_) => (Answer::Refused(Vec::new()), None),
        },
        Question::Scan {
            database,
            after,
            count,
        } => (
            scan(partition, *database, after.as_deref(), *count, now_ms),
            None,
        ),
        Question::Random { database, seed } => {
            let key = partition.memtable().random_key_of(*database, *seed);
            (Answer::Key(key.map(|key| key[1..].to_vec())), None)
        }
    }
}

fn scan(
    partition: &Partition,
    database: u8,
    after: Option<&[u8]>,
    count: usize,
    now_ms: u64,
) -> Answer {
    use std::ops::Bound;
    let first = [database];
    let from = after.map_or(Bound::Included(&first[..]), Bound::Excluded);
    let mut keys = Vec::new();
    let mut last: Option<&[u8]> = None;
    let live = partition
        .memtable()
        .range(from)
        .take_while(|(key, _)| key.first() == Some(&database));
    for (looked_at, (key, version)) in live.enumerate() {
        if looked_at == count {
            return Answer::Keys(keys, last.map(<[u8]>::to_vec));
        }
        last = Some(key);
        if version.kind == Kind::Put && version.expire_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            keys.push(key[1..].to_vec());
        }
    }
    Answer::Keys(keys, None)
}
