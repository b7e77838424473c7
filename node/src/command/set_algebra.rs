//! What is made of several sets: their intersection, union and difference; answered, counted or stored.
//!
//! An intersection walks over the smallest set and looks its members up in the others. What is stored takes the place
//! of whatever was there.

use std::collections::BTreeSet;

use ashlar_partition::Refusal;
use ashlar_partition::collection::{ELEMENT, Family};

use super::collection::{ANSWER_BYTES_MAX, Opened, integer};
use super::set::{READ, show};
use super::{Command, DataCall, Run};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;
use crate::resp::Words;

const FAMILY: Family = Family::Set;

/// What commands that answer have in common.
const ANSWER: Command = Command {
    arity: -2,
    flags: &["readonly"],
    last_key: -1,
    syntax: "key [key ...]",
    ..READ
};

/// What commands that store have in common.
const STORE: Command = Command {
    arity: -3,
    flags: &["write", "denyoom"],
    syntax: "destination key [key ...]",
    ..ANSWER
};

/// The commands of this part of the family.
pub const SET_ALGEBRA: &[Command] = &[
    Command {
        name: "sinter",
        summary: "Returns the members that are in all of several sets.",
        run: Run::Data(|call| call.attempt(|call| answer(call, intersection))),
        ..ANSWER
    },
    Command {
        name: "sinterstore",
        summary: "Stores the members that are in all of several sets; returns how many.",
        run: Run::Data(|call| call.attempt(|call| store(call, intersection, "sinterstore"))),
        ..STORE
    },
    Command {
        name: "sintercard",
        arity: -3,
        flags: &["readonly", "movablekeys"],
        first_key: 0,
        last_key: 0,
        key_step: 0,
        summary: "Counts the members that are in all of several sets.",
        since: "7.0.0",
        syntax: "numkeys key [key ...] [LIMIT limit]",
        run: Run::Data(|call| call.attempt(sintercard)),
        ..READ
    },
    Command {
        name: "sunion",
        summary: "Returns the members that are in any of several sets.",
        run: Run::Data(|call| call.attempt(|call| answer(call, union))),
        ..ANSWER
    },
    Command {
        name: "sunionstore",
        summary: "Stores the members that are in any of several sets; returns how many.",
        run: Run::Data(|call| call.attempt(|call| store(call, union, "sunionstore"))),
        ..STORE
    },
    Command {
        name: "sdiff",
        summary: "Returns the members of a set that are in none of the others.",
        run: Run::Data(|call| call.attempt(|call| answer(call, difference))),
        ..ANSWER
    },
    Command {
        name: "sdiffstore",
        summary: "Stores the members of a set that are in none of the others; returns how many.",
        run: Run::Data(|call| call.attempt(|call| store(call, difference, "sdiffstore"))),
        ..STORE
    },
];

/// Makes members of the sets under keys.
type Operation = fn(&mut DataCall<'_>, Words<'_>) -> Result<Vec<Vec<u8>>, Refusal>;

fn answer(call: &mut DataCall<'_>, of: Operation) -> Result<(), Refusal> {
    let members = of(call, call.words.tail(1))?;
    show(call, &members);
    Ok(())
}

fn store(call: &mut DataCall<'_>, of: Operation, event: &'static str) -> Result<(), Refusal> {
    let members = of(call, call.words.tail(2))?;
    call.store_all(
        FAMILY,
        &members,
        (Class::Set, event),
        |call, opened, member| call.put(opened, (ELEMENT, member), &[]),
    )
}

fn sintercard(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (keys, limit) = match counted(call.words) {
        Ok(counted) => counted,
        Err(error) => return call.tell(error),
    };
    let members = some_of_intersection(call, keys, limit)?;
    call.reply().integer(integer(members.len() as u64));
    Ok(())
}

/// Reads the words of `SINTERCARD`: the keys, and how many members are enough.
fn counted(words: Words<'_>) -> Result<(Words<'_>, usize), &'static str> {
    let numkeys = words.get(1).and_then(parse_i64);
    let numkeys = numkeys.and_then(|count| usize::try_from(count).ok());
    let numkeys = numkeys.filter(|count| *count > 0);
    let numkeys = numkeys.ok_or("ERR numkeys should be greater than 0")?;
    let keys = words.tail(2).head(numkeys);
    let keys = keys.ok_or("ERR Number of keys can't be greater than number of args")?;
    let mut limit = 0;
    let mut options = words.tail(2 + numkeys).iter();
    while let Some(option) = options.next() {
        let value = options
            .next()
            .filter(|_| option.eq_ignore_ascii_case(b"limit"));
        limit = limit_of(value.ok_or("ERR syntax error")?)?;
    }
    Ok((keys, if limit == 0 { usize::MAX } else { limit }))
}

/// Reads how many members are enough; 0 is all.
pub(super) fn limit_of(word: &[u8]) -> Result<usize, &'static str> {
    let limit = parse_i64(word).and_then(|limit| usize::try_from(limit).ok());
    limit.ok_or("ERR LIMIT can't be negative")
}

fn open_all<'k>(
    call: &mut DataCall<'_>,
    keys: Words<'k>,
) -> Result<Vec<Option<Opened<'k>>>, Refusal> {
    keys.iter()
        .map(|key| call.open_to_read(key, FAMILY))
        .collect()
}

fn intersection(call: &mut DataCall<'_>, keys: Words<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    some_of_intersection(call, keys, usize::MAX)
}

/// Returns members that are in all sets, as many as there are or as are enough.
fn some_of_intersection(
    call: &mut DataCall<'_>,
    keys: Words<'_>,
    enough: usize,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let sets: Option<Vec<Opened<'_>>> = open_all(call, keys)?.into_iter().collect();
    let Some(mut sets) = sets else {
        return Ok(Vec::new());
    };
    sets.sort_by_key(Opened::count);
    let mut members = call.members(&sets[0])?;
    for (at, set) in sets.iter().enumerate().skip(1) {
        let enough = if at + 1 == sets.len() {
            enough
        } else {
            usize::MAX
        };
        members = retain(call, set, members, (true, enough))?;
    }
    members.truncate(enough);
    Ok(members)
}

/// Returns those members that are in a set, or those that are not, as many as are enough.
fn retain(
    call: &mut DataCall<'_>,
    set: &Opened<'_>,
    members: Vec<Vec<u8>>,
    (wanted, enough): (bool, usize),
) -> Result<Vec<Vec<u8>>, Refusal> {
    call.expect_elements(set, ELEMENT, members.iter().map(Vec::as_slice))?;
    let mut retained = Vec::new();
    for member in members {
        if retained.len() < enough && call.has_member(set, &member)? == wanted {
            retained.push(member);
        }
    }
    Ok(retained)
}

fn union(call: &mut DataCall<'_>, keys: Words<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let (mut members, mut bytes) = (BTreeSet::new(), 0);
    for set in open_all(call, keys)?.into_iter().flatten() {
        call.walk_all(&set, ELEMENT, |member, _| {
            if bytes <= ANSWER_BYTES_MAX && members.insert(member.to_vec()) {
                bytes += member.len();
            }
        })?;
    }
    match bytes > ANSWER_BYTES_MAX {
        true => Err(Refusal::TooMuch),
        false => Ok(members.into_iter().collect()),
    }
}

fn difference(call: &mut DataCall<'_>, keys: Words<'_>) -> Result<Vec<Vec<u8>>, Refusal> {
    let sets = open_all(call, keys)?;
    let Some(first) = &sets[0] else {
        return Ok(Vec::new());
    };
    let mut members = call.members(first)?;
    for set in sets[1..].iter().flatten() {
        members = retain(call, set, members, (false, usize::MAX))?;
    }
    Ok(members)
}
