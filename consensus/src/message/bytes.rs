//! The bytes of messages.
//!
//! Little-endian; numbers are u64 where nothing else is said. A position is a term and an index. What
//! has a `?` is a flag u8 and the number, zero when it is absent. A kind u8 comes first.
//!
//! ```text
//! 1 append          term, prev position, prev chain?, commit, probe, count u32; metas; payloads
//! 2 append reply    term, probe, commit, epoch, then u8 0: matched index
//!                                               or u8 1: prev index, hint position
//! 3 vote            round u8 (0 pre, 1 real), term, last position, transfer u8
//! 4 vote reply      round u8, asked term, term, granted u8, fortified to?
//! 5 timeout now, 6 resigned, 7 leading query: term
//! 8 snapshot        term, position, chain, membership
//! 9 snapshot reply  term, index, accepted u8
//! 10 forgot         term, life
//! 11 remember       term, index, life
//!
//! meta              term, chain, payload bytes u32, kind u8: 0 commands, 1 empty, 2 membership
//!                   (then the membership)
//! membership        length u16, bytes (membership.rs)
//! ```
//!
//! No bytes make the decoder panic or allocate more than one membership.

use super::{
    Append, AppendReply, ENTRIES_MAX, EntryKind, EntryMeta, Message, Metas, Offer, Outcome,
    Outgoing, Round, Signal, Vote, VoteReply,
};
use crate::membership::Membership;
use crate::support::SupportEpoch;
use crate::types::{Chain, Index, LogPosition, ReplicaId, Term};
use crate::wire::{Malformed, Reader};

/// Most bytes of an encoded membership.
const MEMBERSHIP_BYTES_MAX: usize = 1024;

/// Takes one meta.
pub(super) fn meta<'a>(
    reader: &mut Reader<'a>,
) -> Result<(EntryMeta, Option<&'a [u8]>), Malformed> {
    let (term, chain, bytes) = (Term(reader.u64()?), Chain(reader.u64()?), reader.u32()?);
    let kind = match reader.u8()? {
        0 => EntryKind::Commands,
        1 => EntryKind::Empty,
        2 => EntryKind::Membership,
        _ => return Err(Malformed("kind of an entry")),
    };
    let membership = match kind {
        EntryKind::Membership => Some(membership_bytes(reader)?),
        _ => None,
    };
    let meta = EntryMeta {
        term,
        bytes,
        chain,
        kind,
    };
    Ok((meta, membership))
}

/// Takes the bytes of a membership behind their length.
fn membership_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = usize::from(reader.u16()?);
    match length <= MEMBERSHIP_BYTES_MAX {
        true => reader.take(length),
        false => Err(Malformed("length of a membership")),
    }
}

/// Appends the bytes of an entry's meta; `membership` is the encoded membership of an entry that is
/// one, and empty for others.
///
/// # Panics
/// If a membership is given for another kind, or none for this one, or more than 1 KiB.
pub fn encode_meta(meta: &EntryMeta, membership: &[u8], out: &mut Vec<u8>) {
    let is_membership = meta.kind == EntryKind::Membership;
    assert_eq!(is_membership, !membership.is_empty());
    assert!(membership.len() <= MEMBERSHIP_BYTES_MAX);
    put(out, &[meta.term.0, meta.chain.0]);
    out.extend_from_slice(&meta.bytes.to_le_bytes());
    out.push(match meta.kind {
        EntryKind::Commands => 0,
        EntryKind::Empty => 1,
        EntryKind::Membership => 2,
    });
    if is_membership {
        put_membership(out, membership);
    }
}

/// Appends a membership's bytes behind their length.
fn put_membership(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("a membership has at most 1 KiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends numbers of eight bytes.
fn put(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends a number that may be absent.
fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    put(out, &[number.unwrap_or(0)]);
}

/// Appends the bytes of a message; behind those of an append the host writes the metas and then the
/// payloads of its entries.
///
/// # Panics
/// If an append has more than [`ENTRIES_MAX`] entries.
pub fn encode_head(message: &Outgoing, out: &mut Vec<u8>) {
    match message {
        Outgoing::Append { head, count } => {
            assert!(*count <= ENTRIES_MAX);
            out.push(1);
            put(out, &[head.term.0, head.prev.term.0, head.prev.index.0]);
            put_optional(out, head.prev_chain.map(|chain| chain.0));
            put(out, &[head.commit.0, head.probe]);
            out.extend_from_slice(&count.to_le_bytes());
        }
        Outgoing::Signal(signal) => encode_signal(signal, out),
    }
}

/// Appends the bytes of a message without entries.
fn encode_signal(signal: &Signal, out: &mut Vec<u8>) {
    match signal {
        Signal::AppendReply(reply) => encode_append_reply(reply, out),
        Signal::Vote(vote) => {
            out.extend_from_slice(&[3, u8::from(vote.round == Round::Real)]);
            put(out, &[vote.term.0, vote.last.term.0, vote.last.index.0]);
            out.push(u8::from(vote.transfer));
        }
        Signal::VoteReply(reply) => {
            out.extend_from_slice(&[4, u8::from(reply.round == Round::Real)]);
            put(out, &[reply.asked.0, reply.term.0]);
            out.push(u8::from(reply.granted));
            put_optional(out, reply.fortified_to.map(|replica| replica.0));
        }
        Signal::TimeoutNow { term } => encode_term(5, *term, out),
        Signal::Resigned { term } => encode_term(6, *term, out),
        Signal::LeadingQuery { term } => encode_term(7, *term, out),
        Signal::Snapshot(offer) => {
            encode_term(8, offer.term, out);
            put(out, &[offer.at.term.0, offer.at.index.0, offer.chain.0]);
            let mut bytes = Vec::new();
            offer.membership.encode(&mut bytes);
            put_membership(out, &bytes);
        }
        Signal::SnapshotReply {
            term,
            index,
            accepted,
        } => {
            encode_term(9, *term, out);
            put(out, &[index.0]);
            out.push(u8::from(*accepted));
        }
        Signal::Forgot { term, life } => {
            encode_term(10, *term, out);
            put(out, &[*life]);
        }
        Signal::Remember { at, life } => {
            encode_term(11, at.term, out);
            put(out, &[at.index.0, *life]);
        }
    }
}

/// Appends a kind and a term.
fn encode_term(kind: u8, term: Term, out: &mut Vec<u8>) {
    out.push(kind);
    put(out, &[term.0]);
}

/// Appends the bytes of the answer to an append.
fn encode_append_reply(reply: &AppendReply, out: &mut Vec<u8>) {
    encode_term(2, reply.term, out);
    put(out, &[reply.probe, reply.commit.0, reply.epoch.0]);
    match reply.outcome {
        Outcome::Matched { index } => {
            out.push(0);
            put(out, &[index.0]);
        }
        Outcome::Rejected { prev, hint } => {
            out.push(1);
            put(out, &[prev.0, hint.term.0, hint.index.0]);
        }
    }
}

/// Decodes a message; returns it and the bytes behind it, which are the payloads of its entries.
///
/// # Errors
/// [`Malformed`] when the bytes are not those of a message.
pub fn decode(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let mut reader = Reader::new(bytes);
    let message = match reader.u8()? {
        1 => decode_append(&mut reader)?,
        kind => Message::Signal(decode_signal(kind, &mut reader)?),
    };
    Ok((message, reader.rest()))
}

/// Decodes a position.
fn position(reader: &mut Reader<'_>) -> Result<LogPosition, Malformed> {
    let (term, index) = (Term(reader.u64()?), Index(reader.u64()?));
    Ok(LogPosition { term, index })
}

/// Decodes a number that may be absent.
fn optional(reader: &mut Reader<'_>) -> Result<Option<u64>, Malformed> {
    let (is_there, number) = (reader.flag()?, reader.u64()?);
    Ok(is_there.then_some(number))
}

/// Decodes which vote is held.
fn round(reader: &mut Reader<'_>) -> Result<Round, Malformed> {
    Ok(match reader.flag()? {
        true => Round::Real,
        false => Round::Pre,
    })
}

/// Decodes an append.
fn decode_append<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
    let head = Append {
        term: Term(reader.u64()?),
        prev: position(reader)?,
        prev_chain: optional(reader)?.map(Chain),
        commit: Index(reader.u64()?),
        probe: reader.u64()?,
    };
    let count = reader.u32()?;
    let overflows = head
        .prev
        .index
        .0
        .checked_add(u64::from(count) + 1)
        .is_none();
    if count > ENTRIES_MAX || head.prev.term > head.term || overflows {
        return Err(Malformed("append"));
    }
    let metas = Metas::take(reader, count, head.prev.term, head.term)?;
    Ok(Message::Append(head, metas))
}

/// Decodes what is behind the kind of a message without entries.
fn decode_signal(kind: u8, reader: &mut Reader<'_>) -> Result<Signal, Malformed> {
    Ok(match kind {
        2 => Signal::AppendReply(decode_append_reply(reader)?),
        3 => Signal::Vote(Vote {
            round: round(reader)?,
            term: Term(reader.u64()?),
            last: position(reader)?,
            transfer: reader.flag()?,
        }),
        4 => Signal::VoteReply(VoteReply {
            round: round(reader)?,
            asked: Term(reader.u64()?),
            term: Term(reader.u64()?),
            granted: reader.flag()?,
            fortified_to: optional(reader)?.map(ReplicaId),
        }),
        5 => Signal::TimeoutNow {
            term: Term(reader.u64()?),
        },
        6 => Signal::Resigned {
            term: Term(reader.u64()?),
        },
        7 => Signal::LeadingQuery {
            term: Term(reader.u64()?),
        },
        8 => Signal::Snapshot(Box::new(Offer {
            term: Term(reader.u64()?),
            at: position(reader)?,
            chain: Chain(reader.u64()?),
            membership: Membership::decode(membership_bytes(reader)?)?,
        })),
        9 => Signal::SnapshotReply {
            term: Term(reader.u64()?),
            index: Index(reader.u64()?),
            accepted: reader.flag()?,
        },
        10 => Signal::Forgot {
            term: Term(reader.u64()?),
            life: reader.u64()?,
        },
        11 => Signal::Remember {
            at: position(reader)?,
            life: reader.u64()?,
        },
        _ => return Err(Malformed("kind of a message")),
    })
}

/// Decodes the answer to an append.
fn decode_append_reply(reader: &mut Reader<'_>) -> Result<AppendReply, Malformed> {
    let (term, probe) = (Term(reader.u64()?), reader.u64()?);
    let (commit, epoch) = (Index(reader.u64()?), SupportEpoch(reader.u64()?));
    let outcome = match reader.flag()? {
        false => Outcome::Matched {
            index: Index(reader.u64()?),
        },
        true => Outcome::Rejected {
            prev: Index(reader.u64()?),
            hint: position(reader)?,
        },
    };
    Ok(AppendReply {
        term,
        outcome,
        probe,
        commit,
        epoch,
    })
}
