//! What shards of different nodes say to each other about commands, as bytes: commands on their way to
//! the leader, and replies on their way back. What shards of one node say to each other is in
//! [`crate::message`] and has no bytes.
//!
//! ```text
//! forward   ticket u64, connection u64, database u8, protocol u8, token, words u32, then each: bytes u32, bytes
//! token     session_bytes u8, 0 for none, else: session, sequence u64
//! replied   ticket u64, outcome u8, reply
//!           outcome: 0 it ran, 1 this node does not lead and nothing was done, 2 nobody knows
//! withdraw  ticket u64 of a forward, how its wait for elements ends u8: 0 null, 1 to 3 errors
//! ask       ticket u64, question
//! answered  ticket u64, outcome u8 (as above), answer
//! question  kind u8, then what it needs: database u8; bounds and counts of a walk; of a write of a session
//!           token, print u32, and the question
//! answer    kind u8, then what it says
//! ```
//! Lengths are u32 before their bytes, numbers are little-endian.
//!
//! Invariant: no bytes make a decoder panic, or allocate more than a few times their length.

mod endings;
mod refusals;

use std::ops::Bound;

use ashlar_consensus::{NodeId, Timestamp};
use ashlar_partition::collection::Family;
use ashlar_partition::session::ID_BYTES;
use ashlar_partition::{Order, Part, Scan as Walk, Stamp};

pub use self::endings::{decode_withdraw, encode_withdraw};
use self::refusals::{decode_refusal, encode_refusal};
use crate::command::spread::{Answer, Found, Question};
use crate::command::table;
use crate::message::{Forward, Once, Origin, OwnedToken, Ticket};
use crate::resp::{OwnedWords, Version};

/// Section kinds of the peer channel.
pub mod kind {
    /// A message between replicas of a partition.
    pub const REPLICA: u8 = 1;
    /// A request for support.
    pub const SUPPORT_REQUEST: u8 = 2;
    /// A promise of support.
    pub const SUPPORT: u8 = 3;
    /// A command for the leader of its partition.
    pub const FORWARD: u8 = 4;
    /// Its reply.
    pub const REPLIED: u8 = 5;
    /// A question for the leader of a partition.
    pub const ASK: u8 = 6;
    /// Its answer.
    pub const ANSWERED: u8 = 7;
    /// A request for a piece of a snapshot.
    pub const FETCH: u8 = 8;
    /// The piece.
    pub const FETCHED: u8 = 9;
    /// Where clients reach the sender: address and port as text.
    pub const CLIENTS: u8 = 10;
    /// Who the members of the cluster are.
    pub const ROSTER: u8 = 11;
    /// A message that was published: see [`crate::pubsub`].
    pub const PUBLISH: u8 = 12;
    /// The end of a command's wait for elements.
    pub const WITHDRAW: u8 = 13;
    /// How long the sender's writes of the log take: microseconds u32.
    pub const PACE: u8 = 14;
}

/// What became of what was asked of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, or refused; what follows says so.
    Ran,
    /// The node does not lead the partition, and has done nothing.
    Elsewhere,
    /// The node has stopped leading the partition: what it did may last, or not.
    Unknown,
}

/// Bytes taken from the front.
#[derive(Clone, Copy, Debug)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    fn usize(&mut self) -> Option<usize> {
        usize::try_from(self.u64()?).ok()
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("keys, values and words are below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_u64s(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends a command; `ticket` is what the reply is to name.
///
/// # Panics
/// With 4 Gi words or more: the limits of commands are far below.
pub fn encode_forward(forward: &Forward, ticket: Ticket, out: &mut Vec<u8>) {
    put_u64s(out, &[ticket.0, forward.connection]);
    out.push(forward.database);
    out.push(match forward.version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    });
    encode_token(forward.token.as_deref(), out);
    let words = forward.words.as_words();
    let count = u32::try_from(words.len()).expect("the words of a command are limited");
    out.extend_from_slice(&count.to_le_bytes());
    words.iter().for_each(|word| put_counted(out, word));
}

fn encode_token(token: Option<&OwnedToken>, out: &mut Vec<u8>) {
    let Some(token) = token else {
        return out.push(0);
    };
    out.push(u8::try_from(token.session.len()).expect("ids of sessions are short"));
    out.extend_from_slice(&token.session);
    put_u64s(out, &[token.sequence]);
}

/// Reads a token, if there is one; nothing when the bytes are none.
#[expect(clippy::option_option, reason = "of two kinds, and used once")]
fn decode_token(bytes: &mut Bytes<'_>) -> Option<Option<OwnedToken>> {
    let length = usize::from(bytes.u8()?);
    if length == 0 {
        return Some(None);
    }
    let (session, rest) = bytes.0.split_at_checked(length)?;
    bytes.0 = rest;
    let token = OwnedToken {
        session: session.to_vec(),
        sequence: bytes.u64()?,
    };
    ID_BYTES.contains(&length).then_some(Some(token))
}

/// Reads a command that came from `from`, for a partition; nothing when it is none.
#[must_use]
pub fn decode_forward(from: Origin, partition: usize, bytes: &[u8]) -> Option<Forward> {
    let mut bytes = Bytes(bytes);
    let (ticket, connection) = (Ticket(bytes.u64()?), bytes.u64()?);
    let database = bytes.u8()?;
    let version = match bytes.u8()? {
        2 => Version::Resp2,
        3 => Version::Resp3,
        _ => return None,
    };
    let token = decode_token(&mut bytes)?.map(Box::new);
    let count = bytes.u32()?;
    let words: Option<Vec<&[u8]>> = (0..count).map(|_| bytes.counted()).collect();
    let words = words?;
    let command = table::resolve_handed(words.first()?, words.get(1).copied())?;
    let takes = command.takes(words.len()) && bytes.0.is_empty();
    takes.then(|| Forward {
        from,
        connection,
        ticket,
        partition,
        command,
        words: OwnedWords::of(&words),
        database,
        version,
        token,
        lost: None,
        place: None,
        ended: None,
    })
}

/// Appends what a ticket, an outcome and bytes come to.
pub fn encode_replied(ticket: Ticket, outcome: Outcome, reply: &[u8], out: &mut Vec<u8>) {
    put_u64s(out, &[ticket.0]);
    out.push(match outcome {
        Outcome::Ran => 0,
        Outcome::Elsewhere => 1,
        Outcome::Unknown => 2,
    });
    out.extend_from_slice(reply);
}

/// Reads a ticket, an outcome, and what follows them.
#[must_use]
pub fn decode_replied(bytes: &[u8]) -> Option<(Ticket, Outcome, &[u8])> {
    let mut bytes = Bytes(bytes);
    let ticket = Ticket(bytes.u64()?);
    let outcome = match bytes.u8()? {
        0 => Outcome::Ran,
        1 => Outcome::Elsewhere,
        2 => Outcome::Unknown,
        _ => return None,
    };
    Some((ticket, outcome, bytes.0))
}

/// Appends a question.
pub fn encode_question(question: &Question, ticket: Ticket, out: &mut Vec<u8>) {
    put_u64s(out, &[ticket.0]);
    encode_asked(question, out);
}

fn encode_asked(question: &Question, out: &mut Vec<u8>) {
    match question {
        Question::Once(once, question) => {
            out.push(9);
            encode_token(Some(&once.token), out);
            out.extend_from_slice(&once.print.to_le_bytes());
            encode_asked(question, out);
        }
        Question::Count { database } => out.extend_from_slice(&[0, *database]),
        Question::Timestamp => out.push(10),
        Question::Clear { database: None } => out.push(1),
        Question::Clear {
            database: Some(database),
        } => out.extend_from_slice(&[2, *database]),
        Question::DeleteRange { start, end } => {
            out.push(3);
            put_counted(out, start);
            put_counted(out, end);
        }
        Question::Scan(walk) => {
            out.push(4);
            encode_walk(walk, out);
        }
        Question::HandOver { to } => {
            out.push(6);
            put_u64s(out, &[to.0]);
        }
        Question::Swap { key, from, to } => {
            out.push(7);
            [key, from, to]
                .iter()
                .for_each(|part| put_counted(out, part));
        }
        Question::Stamp { key } => {
            out.push(8);
            put_counted(out, key);
        }
        Question::Random { database, seed } => {
            out.extend_from_slice(&[5, *database]);
            put_u64s(out, &[*seed]);
        }
    }
}

/// Reads a question and its ticket.
#[must_use]
pub fn decode_question(bytes: &[u8]) -> Option<(Ticket, Question)> {
    let mut bytes = Bytes(bytes);
    let ticket = Ticket(bytes.u64()?);
    let question = match bytes.0.first()? {
        9 => decode_once(&mut bytes)?,
        _ => decode_asked(&mut bytes)?,
    };
    bytes.0.is_empty().then_some((ticket, question))
}

/// Reads a question that is a write of a session. It holds one that is none.
fn decode_once(bytes: &mut Bytes<'_>) -> Option<Question> {
    let _kind = bytes.u8()?;
    let once = Once {
        token: decode_token(bytes)??,
        print: bytes.u32()?,
    };
    let question = decode_asked(bytes)?;
    question
        .writes()
        .then(|| Question::Once(once, Box::new(question)))
}

fn decode_asked(bytes: &mut Bytes<'_>) -> Option<Question> {
    Some(match bytes.u8()? {
        0 => Question::Count {
            database: bytes.u8()?,
        },
        10 => Question::Timestamp,
        1 => Question::Clear { database: None },
        2 => Question::Clear {
            database: Some(bytes.u8()?),
        },
        3 => Question::DeleteRange {
            start: bytes.counted()?.to_vec(),
            end: bytes.counted()?.to_vec(),
        },
        4 => Question::Scan(decode_walk(bytes)?),
        5 => Question::Random {
            database: bytes.u8()?,
            seed: bytes.u64()?,
        },
        6 => Question::HandOver {
            to: NodeId(bytes.u64()?),
        },
        7 => Question::Swap {
            key: bytes.counted()?.to_vec(),
            from: bytes.counted()?.to_vec(),
            to: bytes.counted()?.to_vec(),
        },
        8 => Question::Stamp {
            key: bytes.counted()?.to_vec(),
        },
        _ => return None,
    })
}

fn encode_walk(walk: &Walk, out: &mut Vec<u8>) {
    for bound in [&walk.keys.0, &walk.keys.1] {
        match bound {
            Bound::Unbounded => out.push(0),
            Bound::Included(key) => {
                out.push(1);
                put_counted(out, key);
            }
            Bound::Excluded(key) => {
                out.push(2);
                put_counted(out, key);
            }
        }
    }
    out.push(u8::from(walk.order == Order::Descending));
    out.push(u8::from(walk.part == Part::Value));
    put_u64s(out, &[walk.at.map_or(0, |at| at.0)]);
    put_u64s(out, &[walk.keys_max as u64, walk.bytes_max as u64]);
}

fn decode_walk(bytes: &mut Bytes<'_>) -> Option<Walk> {
    let keys = (decode_bound(bytes)?, decode_bound(bytes)?);
    let order = match bytes.u8()? {
        0 => Order::Ascending,
        1 => Order::Descending,
        _ => return None,
    };
    let part = match bytes.u8()? {
        0 => Part::Key,
        1 => Part::Value,
        _ => return None,
    };
    let at = bytes.u64()?;
    Some(Walk {
        keys,
        order,
        part,
        at: (at > 0).then_some(Timestamp(at)),
        keys_max: bytes.usize()?,
        bytes_max: bytes.usize()?,
    })
}

fn decode_bound(bytes: &mut Bytes<'_>) -> Option<Bound<Vec<u8>>> {
    Some(match bytes.u8()? {
        0 => Bound::Unbounded,
        1 => Bound::Included(bytes.counted()?.to_vec()),
        2 => Bound::Excluded(bytes.counted()?.to_vec()),
        _ => return None,
    })
}

/// Appends an answer.
pub fn encode_answer(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Nothing => out.push(0),
        Answer::Count(count) => {
            out.push(1);
            put_u64s(out, &[*count]);
        }
        Answer::Timestamp(at) => {
            out.push(10);
            put_u64s(out, &[at.0]);
        }
        Answer::Done => out.push(2),
        Answer::Refused(refusal) => {
            out.push(3);
            encode_refusal(*refusal, out);
        }
        Answer::Failed(what) => {
            out.push(4);
            put_counted(out, what.as_bytes());
        }
        Answer::Entries(entries, next) => {
            out.push(5);
            put_u64s(out, &[entries.len() as u64]);
            for Found { key, value, family } in entries {
                put_counted(out, key);
                put_counted(out, value);
                out.push(family.map_or(0, Family::code));
            }
            out.push(u8::from(next.is_some()));
            next.iter().for_each(|walk| encode_walk(walk, out));
        }
        Answer::Stamp(stamp) => {
            out.extend_from_slice(&[9, u8::from(stamp.is_there)]);
            put_u64s(out, &[stamp.timestamp]);
        }
        Answer::Key(None) => out.push(6),
        Answer::Key(Some(key)) => {
            out.push(7);
            put_counted(out, key);
        }
        Answer::Value(value) => {
            out.push(8);
            put_counted(out, value);
        }
    }
}

/// Reads an answer.
#[must_use]
pub fn decode_answer(bytes: &[u8]) -> Option<Answer> {
    let mut bytes = Bytes(bytes);
    let answer = match bytes.u8()? {
        0 => Answer::Nothing,
        1 => Answer::Count(bytes.u64()?),
        10 => Answer::Timestamp(Timestamp(bytes.u64()?)),
        2 => Answer::Done,
        3 => Answer::Refused(decode_refusal(&mut bytes)?),
        4 => Answer::Failed(String::from_utf8_lossy(bytes.counted()?).into_owned()),
        5 => decode_entries(&mut bytes)?,
        6 => Answer::Key(None),
        7 => Answer::Key(Some(bytes.counted()?.to_vec())),
        8 => Answer::Value(bytes.counted()?.to_vec()),
        9 => Answer::Stamp(Stamp {
            is_there: bytes.u8()? == 1,
            timestamp: bytes.u64()?,
        }),
        _ => return None,
    };
    bytes.0.is_empty().then_some(answer)
}

fn decode_entries(bytes: &mut Bytes<'_>) -> Option<Answer> {
    let count = bytes.u64()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(Found {
            key: bytes.counted()?.to_vec(),
            value: bytes.counted()?.to_vec(),
            family: match bytes.u8()? {
                0 => None,
                code => Some(Family::of_code(code)?),
            },
        });
    }
    let next = match bytes.u8()? {
        0 => None,
        1 => Some(decode_walk(bytes)?),
        _ => return None,
    };
    Some(Answer::Entries(entries, next))
}

#[cfg(test)]
mod tests;
