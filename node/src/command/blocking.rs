//! Pops that wait for elements: of lists and of sorted sets. Each of them pops as its relative that does not wait; when
//! there is nothing, it says for what it waits ([`Waits`]), and whoever runs it has it wait and runs it anew
//! (`core::blocking`), or, in a transaction, leaves it at the null that it has answered.

use std::ops::Range;

use ashlar_partition::collection::Family;
use ashlar_partition::{Order, Refusal};

use super::list::{self, End};
use super::list_pop::{move_element, pop_of_first, take};
use super::options::pop_options;
use super::sorted_set;
use super::sorted_set_pop::{Pop, Shape, counted_pop, pop_first};
use super::{Command, DataCall, Run, syntax_error};
use crate::score;

/// What a command that found nothing waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// How long, in milliseconds; 0 is for ever.
    pub timeout_ms: u64,
    /// Elements of what.
    pub family: Family,
    /// Its keys, as places of words.
    pub keys: Range<usize>,
}

/// What waits on lists have in common.
const LIST_WAIT: Command = Command {
    arity: -3,
    flags: &["write", "blocking"],
    last_key: -2,
    since: "2.0.0",
    syntax: "key [key ...] timeout",
    ..list::READ
};

/// What waits on sorted sets have in common.
const SORTED_SET_WAIT: Command = Command {
    arity: -3,
    flags: &["write", "fast", "blocking"],
    last_key: -2,
    since: "5.0.0",
    syntax: "key [key ...] timeout",
    ..sorted_set::READ
};

/// The commands of this part of the families.
pub const BLOCKING: &[Command] = &[
    Command {
        name: "blpop",
        summary: "Removes the first element of the first list that has one; waits for one if there is none.",
        run: Run::Data(|call| call.attempt(|call| pop_list(call, End::Front))),
        ..LIST_WAIT
    },
    Command {
        name: "brpop",
        summary: "Removes the last element of the first list that has one; waits for one if there is none.",
        run: Run::Data(|call| call.attempt(|call| pop_list(call, End::Back))),
        ..LIST_WAIT
    },
    Command {
        name: "blmpop",
        arity: -5,
        flags: &["write", "blocking", "movablekeys"],
        first_key: 0,
        last_key: 0,
        key_step: 0,
        summary: "Removes elements of the first list that has some; waits for some if there are none.",
        since: "7.0.0",
        syntax: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        run: Run::Data(|call| call.attempt(blmpop)),
        ..LIST_WAIT
    },
    Command {
        name: "blmove",
        arity: 6,
        flags: &["write", "denyoom", "blocking"],
        last_key: 2,
        summary: "Moves an element from an end of a list to an end of another one; waits for one if there is none.",
        since: "6.2.0",
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        run: Run::Data(|call| call.attempt(blmove)),
        ..LIST_WAIT
    },
    Command {
        name: "brpoplpush",
        arity: 4,
        flags: &["write", "denyoom", "blocking"],
        last_key: 2,
        summary: "Moves the last element of a list to the front of another one; waits for one if there is none.",
        since: "2.2.0",
        syntax: "source destination timeout",
        run: Run::Data(|call| call.attempt(|call| move_or_wait(call, End::Back, End::Front, 3))),
        ..LIST_WAIT
    },
    Command {
        name: "bzpopmin",
        summary: "Removes the member with the least score of the first sorted set that has one; waits for one if none has.",
        run: Run::Data(|call| call.attempt(|call| pop_sorted(call, Order::Ascending))),
        ..SORTED_SET_WAIT
    },
    Command {
        name: "bzpopmax",
        summary: "Removes the member with the greatest score of the first sorted set that has one; waits for one if none has.",
        run: Run::Data(|call| call.attempt(|call| pop_sorted(call, Order::Descending))),
        ..SORTED_SET_WAIT
    },
    Command {
        name: "bzmpop",
        arity: -5,
        flags: &["write", "blocking", "movablekeys"],
        first_key: 0,
        last_key: 0,
        key_step: 0,
        summary: "Removes members of the first sorted set that has some; waits for some if there are none.",
        since: "7.0.0",
        syntax: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
        run: Run::Data(|call| call.attempt(bzmpop)),
        ..SORTED_SET_WAIT
    },
];

/// Reads how long a command waits: seconds, in milliseconds then, rounded up; 0 is for ever.
fn timeout_ms(word: &[u8], now_ms: u64) -> Result<u64, &'static str> {
    let seconds = score::parse(word).ok_or("ERR timeout is not a float or out of range")?;
    let ms = (seconds * 1000.0).ceil();
    if ms < 0.0 {
        return Err("ERR timeout is negative");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and what does not fit is as large as can be"
    )]
    let ms = ms as u64;
    let last_ms = now_ms.checked_add(ms);
    match last_ms.is_some_and(|last_ms| i64::try_from(last_ms).is_ok()) {
        true => Ok(ms),
        false => Err("ERR timeout is out of range"),
    }
}

impl DataCall<'_> {
    /// Reads the word that says how long the command waits; nothing when it has been answered an error.
    fn timeout_ms(&mut self, place: usize) -> Result<Option<u64>, Refusal> {
        match timeout_ms(self.word(place), self.now_ms) {
            Ok(ms) => Ok(Some(ms)),
            Err(error) => self.tell(error).map(|()| None),
        }
    }

    /// Says that the command found nothing, and answers null for the case that it cannot wait.
    fn wait_for(&mut self, family: Family, timeout_ms: u64, keys: Range<usize>) {
        self.waits = Some(Waits {
            timeout_ms,
            family,
            keys,
        });
    }
}

fn pop_list(call: &mut DataCall<'_>, end: End) -> Result<(), Refusal> {
    let last = call.words.len() - 1;
    let Some(timeout_ms) = call.timeout_ms(last)? else {
        return Ok(());
    };
    for place in 1..last {
        let key = call.word(place);
        if let Some(mut opened) = call.open_to_remove(key, list::FAMILY)? {
            let taken = take(call, &mut opened, end, 1)?;
            let mut reply = call.reply();
            reply.array(1 + taken.len());
            reply.bulk(key);
            taken.iter().for_each(|element| reply.bulk(element));
            return Ok(());
        }
    }
    call.reply().null_array();
    call.wait_for(list::FAMILY, timeout_ms, 1..last);
    Ok(())
}

fn blmpop(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (keys, end, count) = match pop_options(call.words.tail(2), End::of) {
        Ok(parsed) => parsed,
        Err(error) => return call.tell(error),
    };
    let Some(timeout_ms) = call.timeout_ms(1)? else {
        return Ok(());
    };
    if !pop_of_first(call, keys, (end, count))? {
        call.reply().null_array();
        call.wait_for(list::FAMILY, timeout_ms, 3..3 + keys.len());
    }
    Ok(())
}

fn blmove(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (Some(from), Some(to)) = (End::of(call.word(3)), End::of(call.word(4))) else {
        syntax_error(&mut call.reply());
        return Ok(());
    };
    move_or_wait(call, from, to, 5)
}

fn move_or_wait(
    call: &mut DataCall<'_>,
    from: End,
    to: End,
    timeout: usize,
) -> Result<(), Refusal> {
    let Some(timeout_ms) = call.timeout_ms(timeout)? else {
        return Ok(());
    };
    if !move_element(call, from, to)? {
        call.reply().null();
        call.wait_for(list::FAMILY, timeout_ms, 1..2);
    }
    Ok(())
}

fn pop_sorted(call: &mut DataCall<'_>, order: Order) -> Result<(), Refusal> {
    let last = call.words.len() - 1;
    let Some(timeout_ms) = call.timeout_ms(last)? else {
        return Ok(());
    };
    let keys = call.words.tail(1).head(last - 1).unwrap_or(call.words);
    let pop = Pop {
        order,
        count: 1,
        shape: Shape::KeyFlat,
    };
    if !pop_first(call, keys, pop)? {
        call.reply().null_array();
        call.wait_for(sorted_set::FAMILY, timeout_ms, 1..last);
    }
    Ok(())
}

fn bzmpop(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (keys, pop) = match counted_pop(call.words.tail(2)) {
        Ok(parsed) => parsed,
        Err(error) => return call.tell(error),
    };
    let Some(timeout_ms) = call.timeout_ms(1)? else {
        return Ok(());
    };
    if !pop_first(call, keys, pop)? {
        call.reply().null_array();
        call.wait_for(sorted_set::FAMILY, timeout_ms, 3..3 + keys.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_a_point_and_rounded_up() {
        const NOT_A_FLOAT: &str = "ERR timeout is not a float or out of range";
        const OUT_OF_RANGE: &str = "ERR timeout is out of range";
        for (word, expected) in [
            ("0", Ok(0)),
            ("1", Ok(1000)),
            ("0.0001", Ok(1)),
            ("1.5", Ok(1500)),
            ("-0", Ok(0)),
            ("-0.0001", Ok(0)),
            ("-1", Err("ERR timeout is negative")),
            ("-inf", Err("ERR timeout is negative")),
            ("inf", Err(OUT_OF_RANGE)),
            ("1e300", Err(OUT_OF_RANGE)),
            ("9223372036854775", Err(OUT_OF_RANGE)),
            ("nan", Err(NOT_A_FLOAT)),
            ("", Err(NOT_A_FLOAT)),
            ("1s", Err(NOT_A_FLOAT)),
        ] {
            assert_eq!(timeout_ms(word.as_bytes(), 1_000_000), expected, "{word}");
        }
    }
}
