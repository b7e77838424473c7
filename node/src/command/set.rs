//! Sets: members under one key. A member is an element whose sub-key it is; its value is empty. What is made of several
//! sets is in `set_algebra`.

use ashlar_partition::Refusal;
use ashlar_partition::collection::{ELEMENT, Family};

use super::collection::{Opened, integer};
use super::sample::sample_options;
use super::{Command, DataCall, Derived, Run};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;

const FAMILY: Family = Family::Set;

/// What reads of a set have in common.
pub(super) const READ: Command = Command {
    name: "",
    arity: 2,
    flags: &["readonly", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "set",
    summary: "",
    since: "1.0.0",
    syntax: "key",
    run: Run::Data(|call| call.attempt(scard)),
    derived: Derived::LATER,
    is_blind: false,
};

/// What writes of a set have in common.
const WRITE: Command = Command {
    arity: -3,
    flags: &["write", "fast"],
    syntax: "key member [member ...]",
    ..READ
};

/// The commands of this family.
pub const SET: &[Command] = &[
    Command {
        name: "sadd",
        flags: &["write", "denyoom", "fast"],
        summary: "Adds members to a set; returns how many are new.",
        run: Run::Data(|call| call.attempt(sadd)),
        ..WRITE
    },
    Command {
        name: "srem",
        summary: "Removes members from a set; the last one takes the set along.",
        run: Run::Data(|call| call.attempt(srem)),
        ..WRITE
    },
    Command {
        name: "smove",
        arity: 4,
        last_key: 2,
        summary: "Moves a member from one set to another.",
        syntax: "source destination member",
        run: Run::Data(|call| call.attempt(smove)),
        ..WRITE
    },
    Command {
        name: "spop",
        arity: -2,
        summary: "Removes members at random and returns them.",
        syntax: "key [count]",
        run: Run::Data(|call| call.attempt(spop)),
        ..WRITE
    },
    Command {
        name: "sismember",
        arity: 3,
        summary: "Says whether a member is in a set.",
        syntax: "key member",
        run: Run::Data(|call| call.attempt(sismember)),
        ..READ
    },
    Command {
        name: "smismember",
        arity: -3,
        summary: "Says of several members whether they are in a set.",
        since: "6.2.0",
        syntax: "key member [member ...]",
        run: Run::Data(|call| call.attempt(smismember)),
        ..READ
    },
    Command {
        name: "scard",
        summary: "Returns the number of members of a set.",
        ..READ
    },
    Command {
        name: "smembers",
        flags: &["readonly"],
        summary: "Returns all members of a set, in their order.",
        run: Run::Data(|call| call.attempt(smembers)),
        ..READ
    },
    Command {
        name: "srandmember",
        arity: -2,
        flags: &["readonly"],
        summary: "Returns members of a set at random.",
        syntax: "key [count]",
        run: Run::Data(|call| call.attempt(srandmember)),
        ..READ
    },
    Command {
        name: "sscan",
        arity: -3,
        flags: &["readonly"],
        summary: "Walks over the members of a set in steps.",
        since: "2.8.0",
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        run: Run::Data(|call| call.attempt(sscan)),
        ..READ
    },
];

fn sadd(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let members = call.words.tail(2);
    let mut opened = call.open_to_add(call.word(1), FAMILY)?;
    if members.len() > 1 {
        call.expect_elements(&opened, ELEMENT, members.iter())?;
    }
    let mut added = 0;
    for member in members.iter() {
        if !call.has_member(&opened, member)? {
            call.put(&opened, (ELEMENT, member), &[])?;
            added += 1;
        }
    }
    if added > 0 {
        opened.add(added);
        call.notify(Class::Set, "sadd", opened.key);
        call.close(&opened);
    }
    call.reply().integer(added);
    Ok(())
}

fn srem(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.remove_named(FAMILY, (Class::Set, "srem"), DataCall::delete_if_there)
}

fn smove(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (from, to, member) = (call.word(1), call.word(2), call.word(3));
    let is_moved = match call.open_to_remove(from, FAMILY)? {
        None => false,
        Some(source) => {
            call.open(to, FAMILY)?;
            let is_there = call.has_member(&source, member)?;
            if is_there && from != to {
                move_member(call, source, to)?;
            }
            is_there
        }
    };
    call.reply().integer(i64::from(is_moved));
    Ok(())
}

fn move_member(call: &mut DataCall<'_>, mut source: Opened<'_>, to: &[u8]) -> Result<(), Refusal> {
    let member = call.word(3);
    call.delete(&source, (ELEMENT, member));
    source.add(-1);
    call.notify(Class::Set, "srem", source.key);
    call.close(&source);
    let mut target = call.open_to_add(to, FAMILY)?;
    if !call.has_member(&target, member)? {
        call.put(&target, (ELEMENT, member), &[])?;
        target.add(1);
        call.notify(Class::Set, "sadd", to);
        call.close(&target);
    }
    Ok(())
}

fn spop(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    match call.words.len() {
        2 => {
            let popped = match call.open_to_remove(call.word(1), FAMILY)? {
                None => None,
                Some(opened) => take_some(call, opened, 1)?.pop(),
            };
            call.reply().optional_bulk(popped.as_deref());
        }
        3 => {
            let count = parse_i64(call.word(2)).and_then(|count| u64::try_from(count).ok());
            let Some(count) = count else {
                return call.tell("ERR value is out of range, must be positive");
            };
            let popped = match call.open_to_remove(call.word(1), FAMILY)? {
                None => Vec::new(),
                Some(opened) => take_some(call, opened, count)?,
            };
            show(call, &popped);
        }
        _ => return call.tell("ERR syntax error"),
    }
    Ok(())
}

/// Removes members at random; returns them.
fn take_some(
    call: &mut DataCall<'_>,
    mut opened: Opened<'_>,
    count: u64,
) -> Result<Vec<Vec<u8>>, Refusal> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let taken = call.some_at_random(&opened, ELEMENT, count)?;
    let taken: Vec<Vec<u8>> = taken.into_iter().map(|(member, _)| member).collect();
    call.notify(Class::Set, "spop", opened.key);
    if opened.is_swept(taken.len()) {
        call.remove_whole(opened.key)?;
        return Ok(taken);
    }
    for member in &taken {
        call.delete(&opened, (ELEMENT, member));
    }
    opened.add(-integer(taken.len() as u64));
    call.close(&opened);
    Ok(taken)
}

fn sismember(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let is_there = match call.open_to_read(call.word(1), FAMILY)? {
        None => false,
        Some(opened) => call.has_member(&opened, call.word(2))?,
    };
    call.reply().integer(i64::from(is_there));
    Ok(())
}

fn smismember(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let members = call.words.tail(2);
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    call.reply().array(members.len());
    let Some(opened) = opened else {
        members.iter().for_each(|_| call.reply().integer(0));
        return Ok(());
    };
    call.expect_elements(&opened, ELEMENT, members.iter())?;
    for member in members.iter() {
        let is_there = call.has_member(&opened, member)?;
        call.reply().integer(i64::from(is_there));
    }
    Ok(())
}

fn scard(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    let count = opened.map_or(0, |opened| opened.count());
    call.reply().integer(integer(count));
    Ok(())
}

fn smembers(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    let count = opened.map_or(0, |opened| opened.count());
    let count = usize::try_from(count).map_err(|_| Refusal::TooMuch)?;
    call.reply().set(count);
    match opened {
        None => Ok(()),
        Some(opened) => call.show_all(&opened, ELEMENT, |member, _, reply| reply.bulk(member)),
    }
}

fn srandmember(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    if call.words.len() == 2 {
        return call.answer_one_at_random(FAMILY);
    }
    if call.words.len() > 3 {
        return call.tell("ERR syntax error");
    }
    let count = match sample_options(call.words.tail(2), "") {
        Ok((count, _)) => count,
        Err(error) => return call.tell(error),
    };
    let found = call.sample(FAMILY, count)?;
    let mut reply = call.reply();
    reply.array(found.len());
    found.iter().for_each(|(member, _)| reply.bulk(member));
    Ok(())
}

fn sscan(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.scan_elements(FAMILY, 1, |member, _, reply| reply.bulk(member))
}

/// Answers members.
pub(super) fn show(call: &mut DataCall<'_>, members: &[Vec<u8>]) {
    let mut reply = call.reply();
    reply.set(members.len());
    members.iter().for_each(|member| reply.bulk(member));
}
