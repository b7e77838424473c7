//! Commands on the middle of lists. Elements have places without gaps, so what comes or goes in the middle moves those
//! on one side by one: the shorter side.

use std::ops::ControlFlow;

use ashlar_partition::collection::{ELEMENT, place_bytes};
use ashlar_partition::{Order, Refusal};

use super::collection::{ALL, Opened};
use super::list::{FAMILY, READ, length, place_at, range_of, some};
use super::{Command, DataCall, Run, not_an_integer, syntax_error};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;

/// The commands of this part of the family.
pub const LIST_MIDDLE: &[Command] = &[
    Command {
        name: "lset",
        arity: 4,
        flags: &["write", "denyoom"],
        summary: "Sets the element at an index.",
        syntax: "key index element",
        run: Run::Data(|call| call.attempt(lset)),
        ..READ
    },
    Command {
        name: "linsert",
        arity: 5,
        flags: &["write", "denyoom"],
        summary: "Inserts an element before or after the first one that is equal to another.",
        since: "2.2.0",
        syntax: "key <BEFORE | AFTER> pivot element",
        run: Run::Data(|call| call.attempt(linsert)),
        ..READ
    },
    Command {
        name: "lrem",
        arity: 4,
        flags: &["write"],
        summary: "Removes elements that are equal to one: the first count, the last -count, or all for 0.",
        syntax: "key count element",
        run: Run::Data(|call| call.attempt(lrem)),
        ..READ
    },
    Command {
        name: "ltrim",
        arity: 4,
        flags: &["write"],
        summary: "Removes all elements but those from one index to another.",
        syntax: "key start stop",
        run: Run::Data(|call| call.attempt(ltrim)),
        ..READ
    },
    Command {
        name: "lpos",
        arity: -3,
        summary: "Returns the indexes of elements that are equal to one.",
        since: "6.0.6",
        syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        run: Run::Data(|call| call.attempt(lpos)),
        ..READ
    },
];

fn lset(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    call.partition.admit(true)?;
    let Some(opened) = call.open(call.word(1), FAMILY)? else {
        call.reply().error(b"ERR no such key");
        return Ok(());
    };
    let Some(index) = parse_i64(call.word(2)) else {
        not_an_integer(&mut call.reply());
        return Ok(());
    };
    let Some(place) = place_at(&opened, index) else {
        call.reply().error(b"ERR index out of range");
        return Ok(());
    };
    call.put(&opened, (ELEMENT, &place_bytes(place)), call.word(3))?;
    call.notify(Class::List, "lset", opened.key);
    call.close(&opened);
    call.reply().ok();
    Ok(())
}

fn linsert(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let behind = match call.word(2).to_ascii_lowercase().as_slice() {
        b"before" => 0,
        b"after" => 1,
        _ => {
            syntax_error(&mut call.reply());
            return Ok(());
        }
    };
    call.partition.admit(true)?;
    let Some(mut opened) = call.open(call.word(1), FAMILY)? else {
        call.reply().integer(0);
        return Ok(());
    };
    let all = some(call, &opened, (0, u64::MAX), Order::Ascending)?;
    let Some(at) = all.iter().position(|element| element == call.word(3)) else {
        call.reply().integer(-1);
        return Ok(());
    };
    let mut new = all.clone();
    new.insert(at + behind, call.word(4).to_vec());
    call.notify(Class::List, "linsert", opened.key);
    rewrite(call, &mut opened, &all, &new)?;
    call.reply().integer(length(&opened));
    Ok(())
}

fn lrem(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let Some(count) = parse_i64(call.word(2)) else {
        not_an_integer(&mut call.reply());
        return Ok(());
    };
    let Some(mut opened) = call.open_to_remove(call.word(1), FAMILY)? else {
        call.reply().integer(0);
        return Ok(());
    };
    let all = some(call, &opened, (0, u64::MAX), Order::Ascending)?;
    let equal = all
        .iter()
        .filter(|element| *element == call.word(3))
        .count() as u64;
    let removed = match count {
        0 => equal,
        _ => equal.min(count.unsigned_abs()),
    };
    // Of the equal ones these stay: the last, or the first when it is counted from the back.
    let kept_before = if count < 0 { equal - removed } else { 0 };
    let mut seen = 0;
    let stays = |element: &&Vec<u8>| {
        if *element != call.word(3) {
            return true;
        }
        seen += 1;
        seen <= kept_before || seen > kept_before + removed
    };
    let new: Vec<Vec<u8>> = all.iter().filter(stays).cloned().collect();
    if removed > 0 {
        call.notify(Class::List, "lrem", opened.key);
        rewrite(call, &mut opened, &all, &new)?;
    }
    call.reply()
        .integer(i64::try_from(removed).unwrap_or(i64::MAX));
    Ok(())
}

/// Gives a list new content, and closes it: what is the same at one end stays where it is.
fn rewrite(
    call: &mut DataCall<'_>,
    opened: &mut Opened<'_>,
    old: &[Vec<u8>],
    new: &[Vec<u8>],
) -> Result<(), Refusal> {
    let shared = |pairs: &mut dyn Iterator<Item = (&Vec<u8>, &Vec<u8>)>| {
        pairs.take_while(|(a, b)| a == b).count()
    };
    let front = shared(&mut old.iter().zip(new));
    let back = shared(&mut old.iter().rev().zip(new.iter().rev()));
    let root = opened.rooted.root;
    let (first, changed) = match front >= back {
        true => (root.first, front..new.len()),
        false => {
            let length = i64::try_from(new.len()).map_err(|_| Refusal::TooMuch)?;
            let first = root.end().checked_sub(length).ok_or(Refusal::TooWide)?;
            (first, 0..new.len() - back)
        }
    };
    for at in changed {
        let place = first
            .checked_add_unsigned(at as u64)
            .ok_or(Refusal::TooWide)?;
        call.put(opened, (ELEMENT, &place_bytes(place)), &new[at])?;
    }
    opened.rooted.root.first = first;
    opened.rooted.root.count = new.len() as u64;
    let end = opened.rooted.root.end();
    for place in (root.first..root.end()).filter(|place| *place < first || *place >= end) {
        call.delete(opened, (ELEMENT, &place_bytes(place)));
    }
    call.close(opened);
    Ok(())
}

fn ltrim(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (Some(start), Some(stop)) = (parse_i64(call.word(2)), parse_i64(call.word(3))) else {
        not_an_integer(&mut call.reply());
        return Ok(());
    };
    let Some(mut opened) = call.open_to_remove(call.word(1), FAMILY)? else {
        call.reply().ok();
        return Ok(());
    };
    let (skipped, count) = range_of(&opened, start, stop);
    call.notify(Class::List, "ltrim", opened.key);
    if count == 0 {
        // As `DEL`: however long it is, it goes at once.
        call.remove_whole(opened.key)?;
    } else if count < opened.count() {
        let root = opened.rooted.root;
        let first = root.first.saturating_add_unsigned(skipped);
        let end = first.saturating_add_unsigned(count);
        for place in (root.first..first).chain(end..root.end()) {
            call.delete(&opened, (ELEMENT, &place_bytes(place)));
        }
        opened.rooted.root.first = first;
        opened.rooted.root.count = count;
        call.close(&opened);
    }
    call.reply().ok();
    Ok(())
}

/// What `LPOS` looks for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Which match is the first that counts; from the back when it is negative.
    rank: i64,
    /// Matches to answer, 0 for all; one that is not in an array when it is not said.
    count: Option<u64>,
    /// Elements to look at, 0 for all.
    looks: u64,
}

fn wanted(call: &DataCall<'_>) -> Result<Wanted, &'static [u8]> {
    let mut wanted = Wanted {
        rank: 1,
        count: None,
        looks: 0,
    };
    let options = call.words.tail(3);
    for place in (0..options.len()).step_by(2) {
        let number = options.get(place + 1).ok_or(&b"ERR syntax error"[..])?;
        let number = parse_i64(number);
        let natural = || number.and_then(|number| u64::try_from(number).ok());
        match options[place].to_ascii_lowercase().as_slice() {
            b"rank" => wanted.rank = rank(number)?,
            b"count" => {
                wanted.count = Some(natural().ok_or(&b"ERR COUNT can't be negative"[..])?);
            }
            b"maxlen" => wanted.looks = natural().ok_or(&b"ERR MAXLEN can't be negative"[..])?,
            _ => return Err(b"ERR syntax error"),
        }
    }
    Ok(wanted)
}

fn rank(number: Option<i64>) -> Result<i64, &'static [u8]> {
    match number.ok_or(&b"ERR value is not an integer or out of range"[..])? {
        0 => Err(
            b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        ),
        i64::MIN => Err(
            b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        number => Ok(number),
    }
}

fn lpos(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let wanted = match wanted(call) {
        Ok(wanted) => wanted,
        Err(error) => {
            call.reply().error(error);
            return Ok(());
        }
    };
    let found = match call.open_to_read(call.word(1), FAMILY)? {
        None => Vec::new(),
        Some(opened) => find(call, &opened, wanted)?,
    };
    let mut reply = call.reply();
    match wanted.count {
        None => match found.first() {
            None => reply.null(),
            Some(index) => reply.integer(*index),
        },
        Some(_) => {
            reply.array(found.len());
            found.iter().for_each(|index| reply.integer(*index));
        }
    }
    Ok(())
}

/// Returns the indexes of elements that are equal to that of the command.
fn find(call: &mut DataCall<'_>, opened: &Opened<'_>, wanted: Wanted) -> Result<Vec<i64>, Refusal> {
    let (element, length) = (call.word(2), length(opened));
    let order = if wanted.rank < 0 {
        Order::Descending
    } else {
        Order::Ascending
    };
    let count = match wanted.count {
        None => 1,
        Some(0) => u64::MAX,
        Some(count) => count,
    };
    let (mut looked, mut matched, mut found) = (0_i64, 0, Vec::new());
    call.walk(opened, (ELEMENT, ALL), order, |_, value| {
        if value == element {
            matched += 1;
            if matched >= wanted.rank.unsigned_abs() {
                found.push(match order {
                    Order::Ascending => looked,
                    Order::Descending => length - 1 - looked,
                });
            }
        }
        looked += 1;
        let is_enough = found.len() as u64 >= count || looked.unsigned_abs() == wanted.looks;
        match is_enough {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}
