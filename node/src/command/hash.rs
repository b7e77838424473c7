//! Hashes: fields with values under one key. A field is an element whose sub-key is its name.

use ashlar_partition::Refusal;
use ashlar_partition::collection::{ELEMENT, Family};

use super::collection::{Opened, integer};
use super::sample::sample_options;
use super::{Command, DataCall, Derived, Run, not_an_integer, wrong_arity};
use crate::long_double::{self, LongDouble, Spelled};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;
use crate::resp::encode::Encoder;

const FAMILY: Family = Family::Hash;

/// What reads of a hash have in common.
const READ: Command = Command {
    name: "",
    arity: 3,
    flags: &["readonly", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "hash",
    summary: "",
    since: "2.0.0",
    syntax: "key field",
    run: Run::Data(|call| call.attempt(hget)),
    derived: Derived::LATER,
    is_blind: false,
};

/// What writes of a hash have in common.
const WRITE: Command = Command {
    arity: -4,
    flags: &["write", "denyoom", "fast"],
    ..READ
};

/// The commands of this family.
pub const HASH: &[Command] = &[
    Command {
        name: "hset",
        summary: "Sets fields of a hash; returns how many are new.",
        syntax: "key field value [field value ...]",
        run: Run::Data(|call| call.attempt(hset)),
        ..WRITE
    },
    Command {
        name: "hmset",
        summary: "Sets fields of a hash.",
        syntax: "key field value [field value ...]",
        run: Run::Data(|call| call.attempt(hmset)),
        ..WRITE
    },
    Command {
        name: "hsetnx",
        arity: 4,
        summary: "Sets a field of a hash when it is missing.",
        syntax: "key field value",
        run: Run::Data(|call| call.attempt(hsetnx)),
        ..WRITE
    },
    Command {
        name: "hget",
        summary: "Returns the value of a field of a hash.",
        ..READ
    },
    Command {
        name: "hmget",
        arity: -3,
        summary: "Returns the values of several fields of a hash.",
        syntax: "key field [field ...]",
        run: Run::Data(|call| call.attempt(hmget)),
        ..READ
    },
    Command {
        name: "hdel",
        arity: -3,
        flags: &["write", "fast"],
        summary: "Deletes fields of a hash; the last one takes the hash along.",
        syntax: "key field [field ...]",
        run: Run::Data(|call| call.attempt(hdel)),
        ..READ
    },
    Command {
        name: "hlen",
        arity: 2,
        summary: "Returns the number of fields of a hash.",
        syntax: "key",
        run: Run::Data(|call| call.attempt(hlen)),
        ..READ
    },
    Command {
        name: "hstrlen",
        summary: "Returns the length of the value of a field, in bytes.",
        since: "3.2.0",
        run: Run::Data(|call| call.attempt(hstrlen)),
        ..READ
    },
    Command {
        name: "hexists",
        summary: "Says whether a field of a hash is there.",
        run: Run::Data(|call| call.attempt(hexists)),
        ..READ
    },
    Command {
        name: "hkeys",
        arity: 2,
        flags: &["readonly"],
        summary: "Returns all fields of a hash, in their order.",
        syntax: "key",
        run: Run::Data(|call| call.attempt(hkeys)),
        ..READ
    },
    Command {
        name: "hvals",
        arity: 2,
        flags: &["readonly"],
        summary: "Returns the values of all fields of a hash.",
        syntax: "key",
        run: Run::Data(|call| call.attempt(hvals)),
        ..READ
    },
    Command {
        name: "hgetall",
        arity: 2,
        flags: &["readonly"],
        summary: "Returns all fields of a hash with their values.",
        syntax: "key",
        run: Run::Data(|call| call.attempt(hgetall)),
        ..READ
    },
    Command {
        name: "hincrby",
        arity: 4,
        summary: "Adds a number to the integer that a field holds, 0 when it is missing.",
        syntax: "key field increment",
        run: Run::Data(|call| call.attempt(hincrby)),
        ..WRITE
    },
    Command {
        name: "hincrbyfloat",
        arity: 4,
        summary: "Adds a number with a point to the one that a field holds, 0 when it is missing.",
        since: "2.6.0",
        syntax: "key field increment",
        run: Run::Data(|call| call.attempt(hincrbyfloat)),
        ..WRITE
    },
    Command {
        name: "hrandfield",
        arity: -2,
        flags: &["readonly"],
        summary: "Returns fields of a hash at random.",
        since: "6.2.0",
        syntax: "key [count [WITHVALUES]]",
        run: Run::Data(|call| call.attempt(hrandfield)),
        ..READ
    },
    Command {
        name: "hscan",
        arity: -3,
        flags: &["readonly"],
        summary: "Walks over the fields of a hash in steps.",
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        run: Run::Data(|call| call.attempt(hscan)),
        ..READ
    },
];

fn hset(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    if let Some(added) = set_all(call, "hset")? {
        call.reply().integer(added);
    }
    Ok(())
}

fn hmset(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    if set_all(call, "hmset")?.is_some() {
        call.reply().ok();
    }
    Ok(())
}

/// Sets all fields of the command; returns how many are new.
fn set_all(call: &mut DataCall<'_>, name: &str) -> Result<Option<i64>, Refusal> {
    if !call.words.len().is_multiple_of(2) {
        wrong_arity(&mut call.reply(), name);
        return Ok(None);
    }
    let mut opened = call.open_to_add(call.word(1), FAMILY)?;
    let words = call.words;
    if words.len() > 4 {
        let fields = (2..words.len()).step_by(2).map(|place| &words[place]);
        call.expect_elements(&opened, ELEMENT, fields)?;
    }
    let mut added = 0;
    for place in (2..words.len()).step_by(2) {
        added += i64::from(set(call, &opened, &words[place], &words[place + 1])?);
    }
    opened.add(added);
    call.notify(Class::Hash, "hset", opened.key);
    call.close(&opened);
    Ok(Some(added))
}

/// Sets a field; says whether it is new.
fn set(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    field: &[u8],
    value: &[u8],
) -> Result<bool, Refusal> {
    let is_new = call.element(opened, (ELEMENT, field), |value| value.is_none())?;
    call.put(opened, (ELEMENT, field), value)?;
    Ok(is_new)
}

fn hsetnx(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (key, field) = (call.word(1), call.word(2));
    if let Some(opened) = call.open(key, FAMILY)?
        && call.element(&opened, (ELEMENT, field), |value| value.is_some())?
    {
        call.reply().integer(0);
        return Ok(());
    }
    let mut opened = call.open_to_add(key, FAMILY)?;
    call.put(&opened, (ELEMENT, field), call.word(3))?;
    opened.add(1);
    call.notify(Class::Hash, "hset", key);
    call.close(&opened);
    call.reply().integer(1);
    Ok(())
}

fn hget(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    with_field(call, |value, reply| reply.optional_bulk(value))
}

fn hstrlen(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    with_field(call, |value, reply| {
        let length = value.map_or(0, <[u8]>::len);
        reply.integer(integer(length as u64));
    })
}

fn hexists(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    with_field(call, |value, reply| {
        reply.integer(i64::from(value.is_some()));
    })
}

/// Answers from the value of the field that the command names.
fn with_field(
    call: &mut DataCall<'_>,
    answer: impl FnOnce(Option<&[u8]>, &mut Encoder<'_>),
) -> Result<(), Refusal> {
    let Some(opened) = call.open_to_read(call.word(1), FAMILY)? else {
        answer(None, &mut call.reply());
        return Ok(());
    };
    call.answer_element(&opened, (ELEMENT, call.word(2)), answer)
}

fn hmget(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let fields = call.words.tail(2);
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    call.reply().array(fields.len());
    let Some(opened) = opened else {
        fields.iter().for_each(|_| call.reply().null());
        return Ok(());
    };
    call.expect_elements(&opened, ELEMENT, fields.iter())?;
    for field in fields.iter() {
        call.answer_element(&opened, (ELEMENT, field), |value, reply| {
            reply.optional_bulk(value);
        })?;
    }
    Ok(())
}

fn hdel(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.remove_named(FAMILY, (Class::Hash, "hdel"), DataCall::delete_if_there)
}

fn hlen(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    let count = opened.map_or(0, |opened| opened.count());
    call.reply().integer(integer(count));
    Ok(())
}

/// What of a hash is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Fields,
    Values,
    Both,
}

fn hkeys(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    show_all(call, Shown::Fields)
}

fn hvals(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    show_all(call, Shown::Values)
}

fn hgetall(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    show_all(call, Shown::Both)
}

fn show_all(call: &mut DataCall<'_>, shown: Shown) -> Result<(), Refusal> {
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    let count = opened.map_or(0, |opened| opened.count());
    let count = usize::try_from(count).map_err(|_| Refusal::TooMuch)?;
    match shown {
        Shown::Both => call.reply().map(count),
        Shown::Fields | Shown::Values => call.reply().array(count),
    }
    let Some(opened) = opened else {
        return Ok(());
    };
    call.show_all(&opened, ELEMENT, |field, value, reply| {
        if shown != Shown::Values {
            reply.bulk(field);
        }
        if shown != Shown::Fields {
            reply.bulk(value);
        }
    })
}

fn hincrby(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let Some(delta) = parse_i64(call.word(3)) else {
        not_an_integer(&mut call.reply());
        return Ok(());
    };
    let opened = call.open_to_add(call.word(1), FAMILY)?;
    let field = (ELEMENT, call.word(2));
    let before = call.element(&opened, field, |value| match value {
        None => Some(None),
        Some(value) => parse_i64(value).map(Some),
    })?;
    let Some(before) = before else {
        return call.tell("ERR hash value is not an integer");
    };
    let Some(sum) = before.unwrap_or(0).checked_add(delta) else {
        return call.tell("ERR increment or decrement would overflow");
    };
    replace(call, opened, sum.to_string().as_bytes(), before.is_none())?;
    call.notify(Class::Hash, "hincrby", call.word(1));
    call.reply().integer(sum);
    Ok(())
}

fn hincrbyfloat(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let increment = match long_double::parse(call.word(3)) {
        Some(Spelled::Finite(increment)) => increment,
        Some(Spelled::Infinite) => {
            call.reply().error(b"ERR value is NaN or Infinity");
            return Ok(());
        }
        None => {
            call.reply().error(b"ERR value is not a valid float");
            return Ok(());
        }
    };
    let opened = call.open_to_add(call.word(1), FAMILY)?;
    let field = (ELEMENT, call.word(2));
    let (is_new, before) = call.element(&opened, field, |value| match value {
        None => (true, Some(Spelled::Finite(LongDouble::ZERO))),
        Some(value) => (false, long_double::parse(value)),
    })?;
    let sum = match before {
        None => return call.tell("ERR hash value is not a float"),
        Some(Spelled::Finite(before)) => before.plus(increment),
        Some(Spelled::Infinite) => None,
    };
    let Some(sum) = sum.map(LongDouble::show) else {
        return call.tell("ERR increment would produce NaN or Infinity");
    };
    replace(call, opened, sum.as_bytes(), is_new)?;
    call.notify(Class::Hash, "hincrbyfloat", call.word(1));
    call.reply().bulk(sum.as_bytes());
    Ok(())
}

/// Gives the field that the command names a new value.
fn replace(
    call: &mut DataCall<'_>,
    mut opened: Opened<'_>,
    value: &[u8],
    is_new: bool,
) -> Result<(), Refusal> {
    call.put(&opened, (ELEMENT, call.word(2)), value)?;
    opened.add(i64::from(is_new));
    call.close(&opened);
    Ok(())
}

fn hrandfield(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    if call.words.len() == 2 {
        return call.answer_one_at_random(FAMILY);
    }
    let (count, with_values) = match sample_options(call.words.tail(2), "withvalues") {
        Ok(options) => options,
        Err(error) => return call.tell(error),
    };
    let found = call.sample(FAMILY, count)?;
    let is_paired = with_values && call.version == crate::resp::Version::Resp3;
    let mut reply = call.reply();
    reply.array(found.len() * if with_values && !is_paired { 2 } else { 1 });
    for (field, value) in &found {
        if is_paired {
            reply.array(2);
        }
        reply.bulk(field);
        if with_values {
            reply.bulk(value);
        }
    }
    Ok(())
}

fn hscan(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.scan_elements(FAMILY, 2, |field, value, reply| {
        reply.bulk(field);
        reply.bulk(value);
    })
}
