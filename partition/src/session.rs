//! What a partition remembers of sessions, so that a write that is repeated takes effect once: which
//! writes it has done, by session and sequence, and what they were answered. Not what a session is to a
//! client, nor what answers look like: they are bytes here.
//!
//! The memory is ordinary keys that no user's key can be, so tables, snapshots and backups have it like
//! everything else. What a write is answered is put in the same entry as what it changes: both are
//! there, or neither. Nothing is in memory that the keys do not say.
//!
//! ```text
//! directory   F1 00, bucket u16                    the sessions of a bucket, in the order of their seats
//!             each: used_ms u64, id_bytes u8, id
//! record      F1 01, bucket u16, seat u8, slot u8  the last write of the slot; slot is sequence mod 64
//!             0  owner      u64   hash of the id: a seat is given on when its session is forgotten
//!             8  sequence   u64
//!            16  print      u32   hash of the command
//!            20  answer
//! ```
//! Numbers are little-endian.
//!
//! Invariants:
//! 1. A partition has at most `BUCKETS * SEATS` sessions and `WINDOW` records of each.
//! 2. A write that is remembered stays so until it expires, until one of the same session whose sequence is
//!    at least [`WINDOW`] above is remembered, or until its session has been silent for [`KEPT_MS`] and
//!    another one needs its seat.

use std::ops::RangeInclusive;

use ashlar_consensus::{Clock, Index};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::command::Command;
use crate::key::OWN;
use crate::partition::Partition;
use crate::read::{Held, Want};
use crate::request::Wait;

/// Length of a session's id, in bytes.
pub const ID_BYTES: RangeInclusive<usize> = 16..=64;
/// Sequences of a session that are remembered together.
pub const WINDOW: u64 = 64;
/// Longest answer that is remembered, in bytes.
pub const ANSWER_BYTES_MAX: usize = 128;
/// Most bytes that remembering a write takes in an entry.
pub const REMEMBER_BYTES_MAX: usize = 2048;
/// How long a session is silent at least before its seat is given to another one, in milliseconds.
pub const KEPT_MS: u64 = 60_000;

/// Buckets of a directory: ids are spread over them by their hashes.
const BUCKETS: u16 = 4096;
/// Sessions in one bucket.
const SEATS: usize = 16;
/// A directory is written again when it says that a session in use was silent for so long, in
/// milliseconds.
const REFRESH_MS: u64 = KEPT_MS / 4;
const SEAT_BYTES_MAX: usize = 9 + *ID_BYTES.end();
const _: () = assert!(SEATS * SEAT_BYTES_MAX + ANSWER_BYTES_MAX + 256 <= REMEMBER_BYTES_MAX);

/// Names a write of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Id of the session.
    pub session: &'a [u8],
    /// Which of its writes it is.
    pub sequence: u64,
}

/// An attempt at a write of a session.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Which write it is.
    pub token: Token<'a>,
    /// Hash of the command: one sequence is one command.
    pub print: u32,
    /// The leader's time, in milliseconds since 1970.
    pub now_ms: u64,
}

/// What is known of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Nothing: it is to be done now, and remembered there.
    New(Place),
    /// It was done, and answered this.
    Done(Vec<u8>),
    /// Later ones were done, and so much is not remembered.
    Old,
    /// Another command had its sequence.
    Other,
    /// There are too many sessions for one more.
    Full,
}

/// Where a write is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    bucket: u16,
    seat: u8,
    /// The directory, if it is to be written anew.
    directory: Option<Vec<u8>>,
}

/// A session in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seat {
    used_ms: u64,
    id: Vec<u8>,
}

/// Returns the hash by which one command is told from another: of its database and its words.
///
/// # Panics
/// Never: half of a hash fits.
pub fn print<'a>(database: u8, words: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = Xxh3::new();
    hasher.update(&[database]);
    for word in words {
        hasher.update(&(word.len() as u64).to_le_bytes());
        hasher.update(word);
    }
    u32::try_from(hasher.digest() >> 32).expect("half of it")
}

fn directory_key(bucket: u16) -> [u8; 4] {
    let [low, high] = bucket.to_le_bytes();
    [OWN, 0, low, high]
}

fn record_key(bucket: u16, seat: u8, sequence: u64) -> [u8; 6] {
    let [low, high] = bucket.to_le_bytes();
    let slot = u8::try_from(sequence % WINDOW).expect("a window has few slots");
    [OWN, 1, low, high, seat, slot]
}

fn bucket_of(session: &[u8]) -> u16 {
    let place = (xxh3_64(session) >> 32) % u64::from(BUCKETS);
    u16::try_from(place).expect("below the number of buckets")
}

fn encode_directory(seats: &[Seat]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for seat in seats {
        bytes.extend_from_slice(&seat.used_ms.to_le_bytes());
        bytes.push(u8::try_from(seat.id.len()).expect("ids are short"));
        bytes.extend_from_slice(&seat.id);
    }
    bytes
}

/// Reads a directory; what is malformed ends it.
fn decode_directory(mut bytes: &[u8]) -> Vec<Seat> {
    let mut seats = Vec::new();
    while let Some((used_ms, rest)) = bytes.split_first_chunk()
        && let Some((length, rest)) = rest.split_first()
        && let Some((id, rest)) = rest.split_at_checked(usize::from(*length))
    {
        seats.push(Seat {
            used_ms: u64::from_le_bytes(*used_ms),
            id: id.to_vec(),
        });
        bytes = rest;
    }
    seats
}

/// The last write of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record<'a> {
    owner: u64,
    sequence: u64,
    print: u32,
    answer: &'a [u8],
}

impl<'a> Record<'a> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.answer.len());
        bytes.extend_from_slice(&self.owner.to_le_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.print.to_le_bytes());
        bytes.extend_from_slice(self.answer);
        bytes
    }

    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (owner, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (print, answer) = rest.split_first_chunk()?;
        Some(Self {
            owner: u64::from_le_bytes(*owner),
            sequence: u64::from_le_bytes(*sequence),
            print: u32::from_le_bytes(*print),
            answer,
        })
    }
}

/// Returns the seat of a session among those of its bucket, and whether it is written anew; `None` when
/// all are taken by others that are in use.
fn sit(seats: &mut Vec<Seat>, session: &[u8], now_ms: u64) -> Option<(usize, bool)> {
    let known = seats.iter().position(|seat| seat.id == session);
    let silent_ms = |seat: &Seat| now_ms.saturating_sub(seat.used_ms);
    if let Some(at) = known.filter(|at| silent_ms(&seats[*at]) < REFRESH_MS) {
        return Some((at, false));
    }
    let mut longest = (0..seats.len()).max_by_key(|at| silent_ms(&seats[*at]));
    longest = longest.filter(|at| silent_ms(&seats[*at]) >= KEPT_MS + REFRESH_MS);
    let at = match known {
        Some(at) => at,
        None if seats.len() < SEATS => seats.len(),
        None => longest?,
    };
    let seat = Seat {
        used_ms: now_ms,
        id: session.to_vec(),
    };
    match seats.get_mut(at) {
        Some(old) => *old = seat,
        None => seats.push(seat),
    }
    Some((at, true))
}

impl Partition {
    /// Says what is known of a write, as it will be once all that is proposed is applied, and which index
    /// an answer that tells so must wait for. It changes nothing.
    ///
    /// # Errors
    /// [`Want`]: what is known lies in a block that is not in memory.
    ///
    /// # Panics
    /// Never: seats are few.
    pub fn recall(&self, attempt: &Attempt<'_>) -> Result<(Recalled, Wait), Want> {
        let Token { session, sequence } = attempt.token;
        let (bucket, now_ms) = (bucket_of(session), attempt.now_ms);
        let (directory, wait) = self.internal(&directory_key(bucket), now_ms)?;
        let mut seats = directory.map_or_else(Vec::new, |bytes| decode_directory(&bytes));
        let Some((seat, is_changed)) = sit(&mut seats, session, now_ms) else {
            return Ok((Recalled::Full, wait));
        };
        let seat = u8::try_from(seat).expect("a bucket has few seats");
        let (record, wait) = self.internal(&record_key(bucket, seat, sequence), now_ms)?;
        let record = record.as_deref().and_then(Record::decode);
        let own = record.filter(|record| record.owner == xxh3_64(session));
        let recalled = match own {
            Some(record) if record.sequence > sequence => Recalled::Old,
            Some(record) if record.sequence == sequence && record.print != attempt.print => {
                Recalled::Other
            }
            Some(record) if record.sequence == sequence => Recalled::Done(record.answer.to_vec()),
            Some(_) | None => Recalled::New(Place {
                bucket,
                seat,
                directory: is_changed.then(|| encode_directory(&seats)),
            }),
        };
        Ok((recalled, wait))
    }

    /// Remembers a write that was just done with its answer, in the same entry, for `keep_ms`
    /// milliseconds; returns the entry's index. `place` is what [`Partition::recall`] told of this very
    /// attempt.
    ///
    /// # Panics
    /// When the answer is longer than [`ANSWER_BYTES_MAX`].
    pub fn remember(
        &mut self,
        place: &Place,
        attempt: &Attempt<'_>,
        answer: &[u8],
        keep_ms: u64,
        (clock, now_us): (&mut Clock, u64),
    ) -> Index {
        assert!(answer.len() <= ANSWER_BYTES_MAX, "the answer is too long");
        let Token { session, sequence } = attempt.token;
        let expire_at_ms = attempt.now_ms.saturating_add(keep_ms).max(1);
        if let Some(directory) = &place.directory {
            // It outlives the records that were made when it was not written again.
            let expire_at_ms = expire_at_ms.saturating_add(2 * REFRESH_MS);
            let key = directory_key(place.bucket);
            self.put_internal(&key, expire_at_ms, directory, clock, now_us);
        }
        let record = Record {
            owner: xxh3_64(session),
            sequence,
            print: attempt.print,
            answer,
        };
        let key = record_key(place.bucket, place.seat, sequence);
        self.put_internal(&key, expire_at_ms, &record.encode(), clock, now_us)
    }

    fn put_internal(
        &mut self,
        key: &[u8],
        expire_at_ms: u64,
        value: &[u8],
        clock: &mut Clock,
        now_us: u64,
    ) -> Index {
        let put = Command::Put {
            is_root: false,
            key,
            expire_at_ms: Some(expire_at_ms),
            value,
        };
        let hash = self.memtable.hash(key);
        self.replica.propose(hash, put, || clock.take(now_us))
    }

    /// Returns the value of a key that no user has, as it will be, and what it waits for.
    fn internal(&self, key: &[u8], now_ms: u64) -> Result<(Option<Vec<u8>>, Wait), Want> {
        let mut held = Held::default();
        let hash = self.memtable.hash(key);
        let (current, wait) = self.current(hash, key, now_ms, &mut held)?;
        Ok((current.map(|current| current.value.to_vec()), wait))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ashlar_consensus::PartitionId;
    use proptest::prelude::*;

    use super::*;
    use crate::key::KeyRange;

    const KEEP_MS: u64 = 600_000;
    const NOW_MS: u64 = 1_000_000_000;

    struct Memory {
        partition: Partition,
        clock: Clock,
        now_ms: u64,
    }

    impl Memory {
        fn new() -> Self {
            Self {
                partition: Partition::new(PartitionId(0), KeyRange::all(), 7),
                clock: Clock::default(),
                now_ms: NOW_MS,
            }
        }

        /// Attempts a write, which is done when it is new.
        fn attempt(&mut self, session: &str, sequence: u64, print: u32, answer: &[u8]) -> Recalled {
            let attempt = Attempt {
                token: Token {
                    session: session.as_bytes(),
                    sequence,
                },
                print,
                now_ms: self.now_ms,
            };
            let (recalled, _) = self.partition.recall(&attempt).unwrap();
            if let Recalled::New(place) = &recalled {
                let clock = (&mut self.clock, self.now_ms * 1000);
                self.partition
                    .remember(place, &attempt, answer, KEEP_MS, clock);
            }
            recalled
        }
    }

    fn id(number: u32) -> String {
        format!("session-{number:08}")
    }

    fn ids_of_one_bucket(count: usize) -> Vec<String> {
        let bucket = bucket_of(id(0).as_bytes());
        let all = (0..).map(id);
        all.filter(|id| bucket_of(id.as_bytes()) == bucket)
            .take(count)
            .collect()
    }

    proptest! {
        #[test]
        fn each_sequence_is_new_once(
            steps in proptest::collection::vec((0_u32..3, 1_u64..200, 0_u32..2), 1..300),
        ) {
            let mut memory = Memory::new();
            let mut model: BTreeMap<(u32, u64), (u64, u32, Vec<u8>)> = BTreeMap::new();
            for (n, (session, sequence, print)) in steps.into_iter().enumerate() {
                let answer = n.to_le_bytes();
                let found = memory.attempt(&id(session), sequence, print, &answer);
                let slot = model.entry((session, sequence % WINDOW)).or_default();
                match slot {
                    (last, ..) if *last < sequence => {
                        prop_assert!(matches!(found, Recalled::New(_)));
                        *slot = (sequence, print, answer.to_vec());
                    }
                    (last, ..) if *last > sequence => prop_assert_eq!(found, Recalled::Old),
                    (_, other, _) if *other != print => prop_assert_eq!(found, Recalled::Other),
                    (.., answer) => prop_assert_eq!(found, Recalled::Done(answer.clone())),
                }
            }
        }

        #[test]
        fn a_directory_comes_back_and_no_bytes_are_too_strange(
            seats in proptest::collection::vec((any::<u64>(), "[a-z]{16,64}"), 0..SEATS),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let seat = |(used_ms, id): (u64, String)| Seat { used_ms, id: id.into_bytes() };
            let seats: Vec<Seat> = seats.into_iter().map(seat).collect();
            prop_assert_eq!(decode_directory(&encode_directory(&seats)), seats);
            decode_directory(&bytes);
            Record::decode(&bytes);
        }
    }

    #[test]
    fn a_seat_is_given_on_once_its_session_was_silent_for_long() {
        let mut memory = Memory::new();
        let ids = ids_of_one_bucket(SEATS + 1);
        for id in &ids[..SEATS] {
            assert!(matches!(
                memory.attempt(id, 1, 0, b"first"),
                Recalled::New(_)
            ));
            memory.now_ms += 1;
        }
        let late = &ids[SEATS];
        assert_eq!(memory.attempt(late, 1, 0, b""), Recalled::Full);
        memory.now_ms += KEPT_MS + REFRESH_MS;
        // The first is in use again, so the second has been silent for longest.
        assert!(matches!(
            memory.attempt(&ids[0], 2, 0, b"second"),
            Recalled::New(_)
        ));
        assert!(matches!(
            memory.attempt(late, 1, 0, b"late"),
            Recalled::New(_)
        ));
        let done = |answer: &[u8]| Recalled::Done(answer.to_vec());
        assert_eq!(memory.attempt(&ids[0], 1, 0, b""), done(b"first"));
        assert_eq!(memory.attempt(late, 1, 0, b""), done(b"late"));
        assert_eq!(memory.attempt(&ids[2], 1, 0, b""), done(b"first"));
        let forgotten = memory.attempt(&ids[1], 1, 0, b"");
        assert!(matches!(forgotten, Recalled::New(_)));
    }

    #[test]
    fn what_is_remembered_expires() {
        let mut memory = Memory::new();
        assert!(matches!(
            memory.attempt(&id(1), 1, 0, b"x"),
            Recalled::New(_)
        ));
        memory.now_ms += KEEP_MS - 1;
        assert_eq!(
            memory.attempt(&id(1), 1, 0, b""),
            Recalled::Done(b"x".to_vec())
        );
        memory.now_ms += 1;
        assert!(matches!(
            memory.attempt(&id(1), 1, 0, b"x"),
            Recalled::New(_)
        ));
    }

    #[test]
    fn deleting_everything_that_users_have_forgets_no_session() {
        let mut memory = Memory::new();
        assert!(matches!(
            memory.attempt(&id(1), 1, 0, b"x"),
            Recalled::New(_)
        ));
        let clock = &mut memory.clock;
        memory.partition.clear(None, || clock.take(0)).unwrap();
        assert_eq!(
            memory.attempt(&id(1), 1, 0, b""),
            Recalled::Done(b"x".to_vec())
        );
    }

    #[test]
    fn commands_are_told_from_each_other_by_their_words() {
        let of = |database, words: &[&[u8]]| print(database, words.iter().copied());
        let one = of(0, &[b"SET", b"a", b"bc"]);
        assert_eq!(one, of(0, &[b"SET", b"a", b"bc"]));
        assert_ne!(one, of(0, &[b"SET", b"ab", b"c"]));
        assert_ne!(one, of(1, &[b"SET", b"a", b"bc"]));
    }
}
