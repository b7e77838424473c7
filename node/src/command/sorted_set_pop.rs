//! Pops from sorted sets: the members with the least or the greatest scores are removed and returned. What waits for
//! members would try [`pop_first`] first, and again when some came.

use ashlar_partition::{Order, Refusal};

use super::options::pop_options;
use super::sorted_set::{FAMILY, READ, Scored, WRITE, show_scored};
use super::sorted_set_query::some_in_order;
use super::{Command, DataCall, Run};
use crate::number::parse_i64;
use crate::resp::{Version, Words};

/// The commands of this part of the family.
pub const SORTED_SET_POP: &[Command] = &[
    Command {
        name: "zpopmin",
        arity: -2,
        flags: &["write", "fast"],
        summary: "Removes the members with the least scores and returns them.",
        since: "5.0.0",
        syntax: "key [count]",
        run: Run::Data(|call| call.attempt(|call| pop_one(call, Order::Ascending))),
        ..WRITE
    },
    Command {
        name: "zpopmax",
        arity: -2,
        flags: &["write", "fast"],
        summary: "Removes the members with the greatest scores and returns them.",
        since: "5.0.0",
        syntax: "key [count]",
        run: Run::Data(|call| call.attempt(|call| pop_one(call, Order::Descending))),
        ..WRITE
    },
    Command {
        name: "zmpop",
        arity: -4,
        flags: &["write", "movablekeys"],
        first_key: 0,
        last_key: 0,
        key_step: 0,
        summary: "Pops members with the least or the greatest scores from the first sorted set that is there.",
        since: "7.0.0",
        syntax: "numkeys key [key ...] <MIN | MAX> [COUNT count]",
        run: Run::Data(|call| call.attempt(zmpop)),
        ..READ
    },
];

/// How popped members are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Members and scores in one array: `ZPOPMIN`.
    Flat,
    /// Each with its score in an array of its own: `ZPOPMIN` with a count, in RESP3.
    Paired,
    /// The key and then members and scores: `BZPOPMIN`.
    KeyFlat,
    /// The key and an array of pairs: `ZMPOP`.
    KeyPaired,
}

/// What is popped, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pop {
    /// From which end: ascending takes the least scores.
    pub order: Order,
    /// Members at most.
    pub count: u64,
    /// How they are answered.
    pub shape: Shape,
}

/// Pops from the first sorted set that is there and answers; says whether there was one.
///
/// # Errors
/// [`Refusal`]: one of the keys is something else, or nothing may be written now.
pub fn pop_first(call: &mut DataCall<'_>, keys: Words<'_>, pop: Pop) -> Result<bool, Refusal> {
    for key in keys.iter() {
        if let Some(opened) = call.open_to_remove(key, FAMILY)? {
            let found = some_in_order(call, &opened, pop.order, (0, pop.count))?;
            let event = match pop.order {
                Order::Ascending => "zpopmin",
                Order::Descending => "zpopmax",
            };
            call.delete_all_scored(opened, &found, event)?;
            show(call, key, &found, pop.shape);
            return Ok(true);
        }
    }
    Ok(false)
}

fn show(call: &mut DataCall<'_>, key: &[u8], found: &[Scored], shape: Shape) {
    let mut reply = call.reply();
    match shape {
        Shape::Flat => reply.array(found.len() * 2),
        Shape::Paired => reply.array(found.len()),
        Shape::KeyFlat => {
            reply.array(1 + found.len() * 2);
            reply.bulk(key);
        }
        Shape::KeyPaired => {
            reply.array(2);
            reply.bulk(key);
            reply.array(found.len());
        }
    }
    let is_paired = matches!(shape, Shape::Paired | Shape::KeyPaired);
    for scored in found {
        show_scored(&mut reply, scored, is_paired);
    }
}

fn pop_one(call: &mut DataCall<'_>, order: Order) -> Result<(), Refusal> {
    if call.words.len() > 3 {
        return call.tell("ERR syntax error");
    }
    let count = match call.words.get(2) {
        None => Some(1),
        Some(word) => parse_i64(word).and_then(|count| u64::try_from(count).ok()),
    };
    let Some(count) = count else {
        return call.tell("ERR value is out of range, must be positive");
    };
    let shape = match call.words.len() > 2 && call.version == Version::Resp3 {
        true => Shape::Paired,
        false => Shape::Flat,
    };
    let key = call.words.tail(1).head(1).unwrap_or(call.words);
    let pop = Pop {
        order,
        count,
        shape,
    };
    if !pop_first(call, key, pop)? {
        call.reply().array(0);
    }
    Ok(())
}

fn zmpop(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (keys, pop) = match counted_pop(call.words.tail(1)) {
        Ok(parsed) => parsed,
        Err(error) => return call.tell(error),
    };
    if !pop_first(call, keys, pop)? {
        call.reply().null_array();
    }
    Ok(())
}

/// Reads the words of `ZMPOP` from the number of keys on: the keys, and what is popped.
///
/// # Errors
/// The line to answer.
pub fn counted_pop(words: Words<'_>) -> Result<(Words<'_>, Pop), &'static str> {
    let order_of = |word: &[u8]| match word.to_ascii_lowercase().as_slice() {
        b"min" => Some(Order::Ascending),
        b"max" => Some(Order::Descending),
        _ => None,
    };
    let (keys, order, count) = pop_options(words, order_of)?;
    let shape = Shape::KeyPaired;
    let pop = Pop {
        order,
        count,
        shape,
    };
    Ok((keys, pop))
}
