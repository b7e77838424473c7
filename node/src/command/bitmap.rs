//! Commands on the bits of a value. What they change is the whole value: it is read, changed and set, in one entry. So
//! what a command of this family writes to the log is as long as the value, and values are bounded by
//! `client.value_bytes_max`.
//!
//! Invariant: a command that is refused has changed nothing.

use std::ops::RangeInclusive;

use ashlar_partition::Expiry;

use super::{Command, DataCall, Derived, Run, not_an_integer, refuse, syntax_error};
use crate::bits::{self, Field, Operation, Overflow, Sign};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;
use crate::resp::Words;

const BAD_OFFSET: &str = "ERR bit offset is not an integer or out of range";
const BAD_BIT: &[u8] = b"ERR bit is not an integer or out of range";
const BAD_TYPE: &str = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
const BAD_OVERFLOW: &str = "ERR Invalid OVERFLOW type specified";
const READ_ONLY: &[u8] = b"ERR BITFIELD_RO only supports the GET subcommand";
const SYNTAX: &str = "ERR syntax error";

/// What the reads of one key have in common.
const READ: Command = Command {
    name: "",
    arity: -2,
    flags: &["readonly"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "bitmap",
    summary: "",
    since: "2.6.0",
    syntax: "key",
    run: Run::Data(bitcount),
    derived: Derived::LATER,
    is_blind: false,
};

/// What the writes have in common.
const WRITE: Command = Command {
    flags: &["write", "denyoom"],
    ..READ
};

/// The commands of this family.
pub const BITMAP: &[Command] = &[
    Command {
        name: "getbit",
        arity: 3,
        flags: &["readonly", "fast"],
        summary: "Returns a bit of a value.",
        since: "2.2.0",
        syntax: "key offset",
        run: Run::Data(getbit),
        ..READ
    },
    Command {
        name: "setbit",
        arity: 4,
        summary: "Sets a bit of a value, which becomes longer when it must, and returns what it was.",
        since: "2.2.0",
        syntax: "key offset value",
        run: Run::Data(setbit),
        ..WRITE
    },
    Command {
        name: "bitcount",
        summary: "Counts the bits of a value that are 1.",
        syntax: "key [start end [BYTE | BIT]]",
        ..READ
    },
    Command {
        name: "bitpos",
        arity: -3,
        summary: "Finds the first bit of a value that is 1, or 0.",
        since: "2.8.7",
        syntax: "key bit [start [end [BYTE | BIT]]]",
        run: Run::Data(bitpos),
        ..READ
    },
    Command {
        name: "bitop",
        arity: -4,
        first_key: 2,
        last_key: -1,
        summary: "Sets a key to what the bits of other values combine to.",
        syntax: "<AND | OR | XOR | NOT> destkey key [key ...]",
        run: Run::Data(bitop),
        ..WRITE
    },
    Command {
        name: "bitfield",
        summary: "Reads and changes integers of any width within a value.",
        since: "3.2.0",
        syntax: "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]",
        run: Run::Data(bitfield),
        ..WRITE
    },
    Command {
        name: "bitfield_ro",
        flags: &["readonly", "fast"],
        summary: "Reads integers of any width within a value.",
        since: "6.0.0",
        syntax: "key [GET encoding offset [GET encoding offset ...]]",
        run: Run::Data(bitfield_ro),
        ..READ
    },
];

/// Reads the place of a bit; with `width`, `#n` is the n-th field of that width.
fn offset(word: &[u8], width: Option<u8>, bytes_max: usize) -> Option<u64> {
    let number = match (word, width) {
        ([b'#', digits @ ..], Some(width)) => parse_i64(digits)?.checked_mul(i64::from(width))?,
        _ => parse_i64(word)?,
    };
    u64::try_from(number)
        .ok()
        .filter(|at| at / 8 < bytes_max as u64)
}

fn value_bytes_max(call: &DataCall<'_>) -> usize {
    call.partition.admission.value_bytes_max
}

fn getbit(call: &mut DataCall<'_>) {
    let Some(at) = offset(call.word(2), None, value_bytes_max(call)) else {
        return call.reply().error(BAD_OFFSET.as_bytes());
    };
    let value = call.read_value(1);
    let bit = value.is_some_and(|value| bits::get(&value, at));
    call.reply().integer(i64::from(bit));
}

fn setbit(call: &mut DataCall<'_>) {
    let Some(at) = offset(call.word(2), None, value_bytes_max(call)) else {
        return call.reply().error(BAD_OFFSET.as_bytes());
    };
    let bit = match call.word(3) {
        b"0" => false,
        b"1" => true,
        _ => return call.reply().error(BAD_BIT),
    };
    let mut value = call.look(call.word(1)).unwrap_or_default();
    let length = value.len();
    lengthen(&mut value, at / 8 + 1);
    let before = bits::set(&mut value, at, bit);
    // What is as it was is not written: nobody who watches the key is disturbed.
    let is_same = before == bit && value.len() == length;
    let stored = match is_same {
        true => Ok(()),
        false => call.store(call.word(1), &value, Expiry::Keep),
    };
    if !is_same && stored.is_ok() {
        call.notify(Class::Text, "setbit", call.word(1));
    }
    match stored {
        Ok(()) => call.reply().integer(i64::from(before)),
        Err(refusal) => refuse(&mut call.reply(), refusal),
    }
}

/// Adds zeros until a value has so many bytes.
fn lengthen(value: &mut Vec<u8>, bytes: u64) {
    let bytes = usize::try_from(bytes).expect("bounded by the longest value");
    value.resize(value.len().max(bytes), 0);
}

/// What the numbers of a range count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Bits,
}

fn unit_of(word: Option<&[u8]>) -> Option<Unit> {
    match word {
        None => Some(Unit::Bytes),
        Some(word) if word.eq_ignore_ascii_case(b"byte") => Some(Unit::Bytes),
        Some(word) if word.eq_ignore_ascii_case(b"bit") => Some(Unit::Bits),
        Some(_) => None,
    }
}

/// Returns the bits from `start` to `end`, of which negative ones count from the end; empty ranges are none.
fn range(length: usize, (start, end): (i64, i64), unit: Unit) -> Option<RangeInclusive<u64>> {
    let bytes = i64::try_from(length).expect("values are bounded");
    let total = if unit == Unit::Bits { bytes * 8 } else { bytes };
    let place = |n: i64| {
        if n < 0 {
            n.saturating_add(total).max(0)
        } else {
            n
        }
    };
    let (first, last) = (place(start), place(end).min(total - 1));
    if first > last {
        return None;
    }
    let (first, last) = (first.unsigned_abs(), last.unsigned_abs());
    Some(match unit {
        Unit::Bits => first..=last,
        Unit::Bytes => first * 8..=last * 8 + 7,
    })
}

fn bitcount(call: &mut DataCall<'_>) {
    let words = call.words.tail(2);
    let (bounds, unit) = match words.len() {
        0 => ((0, -1), Unit::Bytes),
        2 | 3 => {
            let (Some(start), Some(end)) = (parse_i64(&words[0]), parse_i64(&words[1])) else {
                return not_an_integer(&mut call.reply());
            };
            match unit_of(words.get(2)) {
                Some(unit) => ((start, end), unit),
                None => return syntax_error(&mut call.reply()),
            }
        }
        _ => return syntax_error(&mut call.reply()),
    };
    let value = call.read_value(1).unwrap_or_default();
    let (start, end) = bounds;
    let is_backward = start < 0 && end < 0 && start > end;
    let within = range(value.len(), bounds, unit).filter(|_| !is_backward);
    let count = within.map_or(0, |within| bits::count(&value, within));
    call.reply()
        .integer(i64::try_from(count).expect("values are bounded"));
}

fn bitpos(call: &mut DataCall<'_>) {
    let bit = match parse_i64(call.word(2)) {
        Some(0) => false,
        Some(1) => true,
        Some(_) => return call.reply().error(b"ERR The bit argument must be 1 or 0."),
        None => return not_an_integer(&mut call.reply()),
    };
    let words = call.words.tail(3);
    if words.len() > 3 {
        return syntax_error(&mut call.reply());
    }
    let number = |at: usize, default: i64| words.get(at).map_or(Some(default), parse_i64);
    let Some(start) = number(0, 0) else {
        return not_an_integer(&mut call.reply());
    };
    let Some(unit) = unit_of(words.get(2)) else {
        return syntax_error(&mut call.reply());
    };
    let Some(end) = number(1, -1) else {
        return not_an_integer(&mut call.reply());
    };
    let Some(value) = call.read_value(1) else {
        // A key that is missing is zeros without end.
        return call.reply().integer(if bit { -1 } else { 0 });
    };
    let within = range(value.len(), (start, end), unit);
    let found = within.and_then(|within| bits::find(&value, within, bit));
    let behind = (!bit && words.len() < 2 && range(value.len(), (start, end), unit).is_some())
        .then_some(value.len() as u64 * 8);
    // Without an end, zeros go on behind the value.
    let place = found
        .or(behind)
        .map_or(-1, |at| i64::try_from(at).expect("values are bounded"));
    call.reply().integer(place);
}

fn bitop(call: &mut DataCall<'_>) {
    let operation = match call.word(1).to_ascii_lowercase().as_slice() {
        b"and" => Operation::And,
        b"or" => Operation::Or,
        b"xor" => Operation::Xor,
        b"not" => Operation::Not,
        _ => return syntax_error(&mut call.reply()),
    };
    if operation == Operation::Not && call.words.len() != 4 {
        return call
            .reply()
            .error(b"ERR BITOP NOT must be called with a single source key.");
    }
    let places = 3..call.words.len();
    let values: Vec<Vec<u8>> = places
        .map(|place| call.read_value(place).unwrap_or_default())
        .collect();
    let result = bits::combine(operation, &values);
    let key = call.word(2);
    let done = match result.is_empty() {
        true => call
            .remove(key)
            .map(|there| there.then_some((Class::Generic, "del"))),
        false => {
            let stored = call.store(key, &result, Expiry::Never);
            stored.map(|()| Some((Class::Text, "set")))
        }
    };
    match done {
        Ok(event) => {
            if let Some((class, event)) = event {
                call.notify(class, event, key);
            }
            let length = i64::try_from(result.len()).expect("values are bounded");
            call.reply().integer(length);
        }
        Err(refusal) => refuse(&mut call.reply(), refusal),
    }
}

/// One step of a `BITFIELD`.
#[derive(Clone, Copy)]
enum Step {
    Get(Field),
    Set(Field, i64, Overflow),
    Add(Field, i64, Overflow),
}

/// Reads the steps of a `BITFIELD`, the words behind the key.
fn steps(words: Words<'_>, bytes_max: usize) -> Result<Vec<Step>, &'static str> {
    let (mut steps, mut overflow) = (Vec::new(), Overflow::Wrap);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let name = word.to_ascii_lowercase();
        match name.as_slice() {
            b"overflow" if words.len() >= 1 => {
                overflow = overflow_of(words.next().unwrap_or_default())?;
                continue;
            }
            b"get" if words.len() >= 2 => {}
            b"set" | b"incrby" if words.len() >= 3 => {}
            _ => return Err(SYNTAX),
        }
        let field = field_of(words.next(), words.next(), bytes_max)?;
        if name == b"get" {
            steps.push(Step::Get(field));
            continue;
        }
        let number = words.next().and_then(parse_i64);
        let number = number.ok_or("ERR value is not an integer or out of range")?;
        steps.push(match name.as_slice() {
            b"set" => Step::Set(field, number, overflow),
            _ => Step::Add(field, number, overflow),
        });
    }
    Ok(steps)
}

fn overflow_of(word: &[u8]) -> Result<Overflow, &'static str> {
    match word.to_ascii_lowercase().as_slice() {
        b"wrap" => Ok(Overflow::Wrap),
        b"sat" => Ok(Overflow::Saturate),
        b"fail" => Ok(Overflow::Fail),
        _ => Err(BAD_OVERFLOW),
    }
}

fn field_of(
    encoding: Option<&[u8]>,
    place: Option<&[u8]>,
    bytes_max: usize,
) -> Result<Field, &'static str> {
    let (sign, most, digits) = match encoding.unwrap_or_default() {
        [b'i', digits @ ..] => (Sign::Signed, 64, digits),
        [b'u', digits @ ..] => (Sign::Unsigned, 63, digits),
        _ => return Err(BAD_TYPE),
    };
    let width = parse_i64(digits).and_then(|width| u8::try_from(width).ok());
    let width = width
        .filter(|width| (1..=most).contains(width))
        .ok_or(BAD_TYPE)?;
    let at = offset(place.unwrap_or_default(), Some(width), bytes_max).ok_or(BAD_OFFSET)?;
    Ok(Field { sign, width, at })
}

fn bitfield(call: &mut DataCall<'_>) {
    match steps(call.words.tail(2), value_bytes_max(call)) {
        Ok(steps) => run_steps(call, &steps),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

fn bitfield_ro(call: &mut DataCall<'_>) {
    match steps(call.words.tail(2), value_bytes_max(call)) {
        Ok(steps) if steps.iter().all(|step| matches!(step, Step::Get(_))) => {
            run_steps(call, &steps)
        }
        Ok(_) => call.reply().error(READ_ONLY),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

fn run_steps(call: &mut DataCall<'_>, steps: &[Step]) {
    // A value becomes as long as the farthest field that is written, whether or not that fits.
    let written = steps.iter().filter_map(|step| match step {
        Step::Get(_) => None,
        Step::Set(field, ..) | Step::Add(field, ..) => Some(field.end_bytes()),
    });
    let length = written.max();
    let mut value = match length {
        None => call.read_value(1),
        Some(_) => call.look(call.word(1)),
    }
    .unwrap_or_default();
    let before = value.clone();
    lengthen(&mut value, length.unwrap_or(0));
    let answers: Vec<Option<i64>> = steps
        .iter()
        .map(|step| match *step {
            Step::Get(field) => Some(field.read(&value)),
            Step::Set(field, number, overflow) => field.set(&mut value, number, overflow),
            Step::Add(field, number, overflow) => field.add(&mut value, number, overflow),
        })
        .collect();
    if value != before {
        if let Err(refusal) = call.store(call.word(1), &value, Expiry::Keep) {
            return refuse(&mut call.reply(), refusal);
        }
        call.notify(Class::Text, "setbit", call.word(1));
    }
    let mut reply = call.reply();
    reply.array(answers.len());
    for answer in answers {
        match answer {
            Some(number) => reply.integer(number),
            None => reply.null(),
        }
    }
}
