//! Pops from lists: elements at an end are removed and returned, or moved to an end of another list. Those that wait
//! for elements are in [`super::blocking`].

use ashlar_partition::collection::{ELEMENT, place_bytes};
use ashlar_partition::{Order, Refusal};

use super::collection::Opened;
use super::list::{End, FAMILY, READ, add, show, some};
use super::options::pop_options;
use super::{Command, DataCall, Run, syntax_error};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;
use crate::resp::Words;

const OUT_OF_RANGE: &[u8] = b"ERR value is out of range, must be positive";

/// What pops have in common.
const POP: Command = Command {
    arity: -2,
    flags: &["write", "fast"],
    syntax: "key [count]",
    ..READ
};

/// The commands of this part of the family.
pub const LIST_POP: &[Command] = &[
    Command {
        name: "lpop",
        summary: "Removes elements at the front of a list and returns them.",
        run: Run::Data(|call| call.attempt(|call| pop(call, End::Front))),
        ..POP
    },
    Command {
        name: "rpop",
        summary: "Removes elements at the back of a list and returns them.",
        run: Run::Data(|call| call.attempt(|call| pop(call, End::Back))),
        ..POP
    },
    Command {
        name: "lmpop",
        arity: -4,
        flags: &["write", "movablekeys"],
        first_key: 0,
        last_key: 0,
        key_step: 0,
        summary: "Removes elements of the first list that is there and returns them.",
        since: "7.0.0",
        syntax: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        run: Run::Data(|call| call.attempt(lmpop)),
        ..READ
    },
    Command {
        name: "lmove",
        arity: 5,
        flags: &["write", "denyoom"],
        last_key: 2,
        summary: "Moves an element from an end of a list to an end of another one, and returns it.",
        since: "6.2.0",
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        run: Run::Data(|call| call.attempt(lmove)),
        ..READ
    },
    Command {
        name: "rpoplpush",
        arity: 3,
        flags: &["write", "denyoom"],
        last_key: 2,
        summary: "Moves the last element of a list to the front of another one, and returns it.",
        since: "1.2.0",
        syntax: "source destination",
        run: Run::Data(|call| call.attempt(|call| move_or_null(call, End::Back, End::Front))),
        ..READ
    },
];

/// Removes up to `count` elements at an end, the outermost first, and closes the list.
///
/// # Errors
/// [`Refusal`]: they must be brought into memory first, or are too much.
pub(super) fn take(
    call: &mut DataCall<'_>,
    opened: &mut Opened<'_>,
    end: End,
    count: u64,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let taken = cut(call, opened, end, count)?;
    if !taken.is_empty() {
        call.notify(Class::List, end.popped(), opened.key);
        call.close(opened);
    }
    Ok(taken)
}

/// Removes up to `count` elements at an end of a list that is closed later, the outermost first.
fn cut(
    call: &mut DataCall<'_>,
    opened: &mut Opened<'_>,
    end: End,
    count: u64,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let count = count.min(opened.count());
    let order = match end {
        End::Front => Order::Ascending,
        End::Back => Order::Descending,
    };
    let taken = some(call, opened, (0, count), order)?;
    let root = opened.rooted.root;
    let from = match end {
        End::Front => root.first,
        End::Back => root.end().saturating_sub_unsigned(count),
    };
    for place in (from..).take(taken.len()) {
        call.delete(opened, (ELEMENT, &place_bytes(place)));
    }
    if end == End::Front {
        opened.rooted.root.first = root.first.saturating_add_unsigned(count);
    }
    opened.rooted.root.count -= count;
    Ok(taken)
}

fn pop(call: &mut DataCall<'_>, end: End) -> Result<(), Refusal> {
    if call.words.len() > 3 {
        let name = if end == End::Front { "lpop" } else { "rpop" };
        super::wrong_arity(&mut call.reply(), name);
        return Ok(());
    }
    let count = match call.words.get(2).map(parse_i64) {
        None => None,
        Some(Some(count @ 0..)) => Some(count.unsigned_abs()),
        Some(_) => {
            call.reply().error(OUT_OF_RANGE);
            return Ok(());
        }
    };
    let Some(mut opened) = call.open_to_remove(call.word(1), FAMILY)? else {
        match count {
            None => call.reply().null(),
            Some(_) => call.reply().null_array(),
        }
        return Ok(());
    };
    let taken = take(call, &mut opened, end, count.unwrap_or(1))?;
    match count {
        None => call.reply().optional_bulk(taken.first().map(Vec::as_slice)),
        Some(_) => show(call, &taken),
    }
    Ok(())
}

fn lmpop(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (keys, end, count) = match pop_options(call.words.tail(1), End::of) {
        Ok(parsed) => parsed,
        Err(error) => return call.tell(error),
    };
    if !pop_of_first(call, keys, (end, count))? {
        call.reply().null_array();
    }
    Ok(())
}

/// Pops elements of the first list that is there and answers; says whether there was one.
///
/// # Errors
/// [`Refusal`]: one of the keys is something else, or nothing may be written now.
pub(super) fn pop_of_first(
    call: &mut DataCall<'_>,
    keys: Words<'_>,
    (end, elements): (End, u64),
) -> Result<bool, Refusal> {
    for key in keys.iter() {
        if pop_of(call, key, (end, elements))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Pops elements of a list and answers its key with them; says whether there was one.
fn pop_of(
    call: &mut DataCall<'_>,
    key: &[u8],
    (end, elements): (End, u64),
) -> Result<bool, Refusal> {
    let Some(mut opened) = call.open_to_remove(key, FAMILY)? else {
        return Ok(false);
    };
    let taken = take(call, &mut opened, end, elements)?;
    call.reply().array(2);
    call.reply().bulk(key);
    show(call, &taken);
    Ok(true)
}

fn lmove(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (Some(from), Some(to)) = (End::of(call.word(3)), End::of(call.word(4))) else {
        syntax_error(&mut call.reply());
        return Ok(());
    };
    move_or_null(call, from, to)
}

fn move_or_null(call: &mut DataCall<'_>, from: End, to: End) -> Result<(), Refusal> {
    if !move_element(call, from, to)? {
        call.reply().null();
    }
    Ok(())
}

/// Moves an element from the first key of the command to the second and answers it; says whether there was one.
///
/// # Errors
/// [`Refusal`]: one of the keys is something else, or nothing may be written now.
pub(super) fn move_element(call: &mut DataCall<'_>, from: End, to: End) -> Result<bool, Refusal> {
    let (source, destination) = (call.word(1), call.word(2));
    let Some(mut opened) = call.open_to_remove(source, FAMILY)? else {
        return Ok(false);
    };
    // What it is to be added to is looked at before anything is taken.
    call.partition.admit(true)?;
    call.open(destination, FAMILY)?;
    let notices = call.notices.len();
    let taken = cut(call, &mut opened, from, 1)?;
    let element = taken.first().map_or(&b""[..], Vec::as_slice);
    if source == destination {
        add(call, &mut opened, to, element)?;
        call.close(&opened);
    } else {
        call.close(&opened);
        let mut target = call.open_to_add(destination, FAMILY)?;
        add(call, &mut target, to, element)?;
        call.close(&target);
    }
    call.reply().bulk(element);
    // As Redis does, what came is told before what went.
    call.notices.truncate(notices);
    call.notify(Class::List, to.pushed(), destination);
    call.notify(Class::List, from.popped(), source);
    if opened.count() == 0 {
        call.notify(Class::Generic, "del", source);
    }
    Ok(true)
}
