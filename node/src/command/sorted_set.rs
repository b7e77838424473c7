//! Sorted sets: members with scores under one key. A member is two elements: under its own bytes with its score as
//! value, and in the order of scores, under score and member. What adds, ranges, pops and what is made of several
//! sorted sets have files of their own.
//!
//! Invariant: both elements of a member are written and deleted together.

use std::ops::ControlFlow;

use ashlar_partition::collection::{BY_SCORE, ELEMENT, Family, score_bytes, score_of};
use ashlar_partition::{Order, Refusal};

use super::collection::{Opened, SubKeys, integer};
use super::sample::sample_options;
use super::{Command, DataCall, Derived, Run};
use crate::pubsub::notice::Class;
use crate::resp::Version;
use crate::resp::encode::{Encoder, format_double};

/// The family.
pub(super) const FAMILY: Family = Family::SortedSet;

/// What reads of a sorted set have in common.
pub(super) const READ: Command = Command {
    name: "",
    arity: 3,
    flags: &["readonly", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "sorted-set",
    summary: "",
    since: "1.2.0",
    syntax: "key member",
    run: Run::Data(|call| call.attempt(zscore)),
    derived: Derived::LATER,
    is_blind: false,
};

/// What writes of a sorted set have in common.
pub(super) const WRITE: Command = Command {
    arity: 4,
    flags: &["write", "denyoom", "fast"],
    ..READ
};

/// The commands of this family.
pub const SORTED_SET: &[Command] = &[
    Command {
        name: "zrem",
        arity: -3,
        flags: &["write", "fast"],
        summary: "Removes members from a sorted set; the last one takes it along.",
        syntax: "key member [member ...]",
        run: Run::Data(|call| call.attempt(zrem)),
        ..WRITE
    },
    Command {
        name: "zscore",
        summary: "Returns the score of a member.",
        ..READ
    },
    Command {
        name: "zmscore",
        arity: -3,
        summary: "Returns the scores of several members.",
        since: "6.2.0",
        syntax: "key member [member ...]",
        run: Run::Data(|call| call.attempt(zmscore)),
        ..READ
    },
    Command {
        name: "zcard",
        arity: 2,
        summary: "Returns the number of members of a sorted set.",
        syntax: "key",
        run: Run::Data(|call| call.attempt(zcard)),
        ..READ
    },
    Command {
        name: "zrandmember",
        arity: -2,
        flags: &["readonly"],
        summary: "Returns members of a sorted set at random.",
        since: "6.2.0",
        syntax: "key [count [WITHSCORES]]",
        run: Run::Data(|call| call.attempt(zrandmember)),
        ..READ
    },
    Command {
        name: "zscan",
        arity: -3,
        flags: &["readonly"],
        summary: "Walks over the members of a sorted set and their scores in steps.",
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        run: Run::Data(|call| call.attempt(zscan)),
        ..READ
    },
];

/// A member with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The member.
    pub member: Vec<u8>,
    /// Its score.
    pub score: f64,
}

impl DataCall<'_> {
    /// Returns the score of a member; nothing when it is missing.
    ///
    /// # Errors
    /// As [`DataCall::element`].
    pub fn score(&mut self, opened: &Opened<'_>, member: &[u8]) -> Result<Option<f64>, Refusal> {
        let found = self.element(opened, (ELEMENT, member), |value| value.map(score_of))?;
        found.map_or(Ok(None), |score| score.map(Some).ok_or(self.damaged()))
    }

    /// Gives a member a score; `before` is the one that it has. The count is the caller's.
    ///
    /// # Errors
    /// As [`DataCall::put`].
    pub fn put_score(
        &mut self,
        opened: &Opened<'_>,
        member: &[u8],
        before: Option<f64>,
        score: f64,
    ) -> Result<(), Refusal> {
        let score = score_bytes(score);
        if let Some(before) = before {
            let place = [&score_bytes(before), member].concat();
            self.delete(opened, (BY_SCORE, &place));
        }
        self.put(opened, (ELEMENT, member), &score)?;
        self.put(opened, (BY_SCORE, &[&score, member].concat()), &[])
    }

    /// Deletes a member that is there. The count is the caller's.
    pub fn delete_scored(&mut self, opened: &Opened<'_>, member: &[u8], score: f64) {
        self.delete(opened, (ELEMENT, member));
        let place = [&score_bytes(score), member].concat();
        self.delete(opened, (BY_SCORE, &place));
    }

    /// Deletes members that are there, tells of it, and closes the sorted set.
    ///
    /// # Errors
    /// [`Refusal`]: nothing may be written now.
    pub fn delete_all_scored(
        &mut self,
        mut opened: Opened<'_>,
        members: &[Scored],
        event: &'static str,
    ) -> Result<(), Refusal> {
        if members.is_empty() {
            return Ok(());
        }
        self.notify(Class::SortedSet, event, opened.key);
        if opened.is_swept(members.len()) {
            return self.remove_whole(opened.key);
        }
        for Scored { member, score } in members {
            self.delete_scored(&opened, member, *score);
        }
        opened.add(-integer(members.len() as u64));
        self.close(&opened);
        Ok(())
    }

    /// Walks over members in the order of scores, until `take` breaks off.
    ///
    /// # Errors
    /// As [`DataCall::walk`].
    pub fn walk_scores(
        &mut self,
        opened: &Opened<'_>,
        sub_keys: SubKeys<'_>,
        order: Order,
        mut take: impl FnMut(f64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let mut is_damaged = false;
        self.walk(opened, (BY_SCORE, sub_keys), order, |sub_key, _| {
            let parts = sub_key.split_at_checked(8);
            let scored = parts.and_then(|(score, member)| Some((score_of(score)?, member)));
            match scored {
                Some((score, member)) => take(score, member),
                None => {
                    is_damaged = true;
                    ControlFlow::Break(())
                }
            }
        })?;
        match is_damaged {
            true => Err(self.damaged()),
            false => Ok(()),
        }
    }
}

/// Answers members, with their scores or without.
pub(super) fn show(call: &mut DataCall<'_>, found: &[Scored], with_scores: bool) {
    let is_paired = with_scores && call.version == Version::Resp3;
    let mut reply = call.reply();
    reply.array(found.len() * if with_scores && !is_paired { 2 } else { 1 });
    for scored in found {
        match with_scores {
            true => show_scored(&mut reply, scored, is_paired),
            false => reply.bulk(&scored.member),
        }
    }
}

/// Answers a member and its score, as an array of their own or not.
pub(super) fn show_scored(reply: &mut Encoder<'_>, scored: &Scored, is_paired: bool) {
    if is_paired {
        reply.array(2);
    }
    reply.bulk(&scored.member);
    reply.double(scored.score);
}

/// Answers a score, or that there is none.
pub(super) fn show_score(call: &mut DataCall<'_>, score: Option<f64>) {
    match score {
        Some(score) => call.reply().double(score),
        None => call.reply().null(),
    }
}

fn zrem(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.remove_named(
        FAMILY,
        (Class::SortedSet, "zrem"),
        |call, opened, member| {
            let score = call.score(opened, member)?;
            if let Some(score) = score {
                call.delete_scored(opened, member, score);
            }
            Ok(score.is_some())
        },
    )
}

fn zscore(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let score = match call.open_to_read(call.word(1), FAMILY)? {
        None => None,
        Some(opened) => call.score(&opened, call.word(2))?,
    };
    show_score(call, score);
    Ok(())
}

fn zmscore(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let members = call.words.tail(2);
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    call.reply().array(members.len());
    if let Some(opened) = &opened {
        call.expect_elements(opened, ELEMENT, members.iter())?;
    }
    for member in members.iter() {
        let score = match &opened {
            None => None,
            Some(opened) => call.score(opened, member)?,
        };
        show_score(call, score);
    }
    Ok(())
}

fn zcard(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    let count = opened.map_or(0, |opened| opened.count());
    call.reply().integer(integer(count));
    Ok(())
}

fn zrandmember(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    if call.words.len() == 2 {
        return call.answer_one_at_random(FAMILY);
    }
    let (count, with_scores) = match sample_options(call.words.tail(2), "withscores") {
        Ok(options) => options,
        Err(error) => return call.tell(error),
    };
    let found = call.sample(FAMILY, count)?;
    let found = found.into_iter().map(|(member, value)| {
        let score = score_of(&value).ok_or(call.damaged())?;
        Ok(Scored { member, score })
    });
    let found: Vec<Scored> = found.collect::<Result<_, Refusal>>()?;
    show(call, &found, with_scores);
    Ok(())
}

fn zscan(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.scan_elements(FAMILY, 2, |member, value, reply| {
        reply.bulk(member);
        let score = score_of(value).map(format_double);
        reply.optional_bulk(score.as_deref().map(str::as_bytes));
    })
}
