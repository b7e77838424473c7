//! Commands that make a new value of the old one, or compare it with another: ranges, sums of numbers with a point,
//! compare-and-set, the longest common subsequence.
//!
//! Invariant: a command that is refused has changed nothing.

use ashlar_partition::{Expiry, Refusal};

use super::{Command, DataCall, Derived, Failure, Run, not_an_integer, refuse};
use crate::long_double::{self, LongDouble, Spelled};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;
use crate::resp::encode::Encoder;
use crate::subsequence::{self, Match, Table};

/// What the commands of this family have in common.
const WRITE: Command = Command {
    name: "",
    arity: 3,
    flags: &["write", "denyoom"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "string",
    summary: "",
    since: "2.2.0",
    syntax: "key",
    run: Run::Data(setrange),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const EDIT: &[Command] = &[
    Command {
        name: "setrange",
        arity: 4,
        summary: "Sets the bytes of a value from an offset on; what lies before is filled with zeros.",
        syntax: "key offset value",
        ..WRITE
    },
    Command {
        name: "incrbyfloat",
        flags: &["write", "denyoom", "fast"],
        summary: "Adds a number with a point to the one that a key holds, 0 when it is missing.",
        since: "2.6.0",
        syntax: "key increment",
        run: Run::Data(incrbyfloat),
        ..WRITE
    },
    Command {
        name: "delifeq",
        flags: &["write", "fast"],
        summary: "Deletes a key when its value is the one given.",
        since: "7.2.0",
        syntax: "key value",
        run: Run::Data(delifeq),
        ..WRITE
    },
    Command {
        name: "lcs",
        arity: -3,
        flags: &["readonly"],
        last_key: 2,
        summary: "Finds the longest common subsequence of two values.",
        since: "7.0.0",
        syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        run: Run::Data(lcs),
        ..WRITE
    },
];

fn setrange(call: &mut DataCall<'_>) {
    let Some(offset) = parse_i64(call.word(2)) else {
        return not_an_integer(&mut call.reply());
    };
    let Ok(offset) = u64::try_from(offset) else {
        return call.reply().error(b"ERR offset is out of range");
    };
    let (key, piece) = (call.word(1), call.word(3));
    let mut value = call.look(key).unwrap_or_default();
    if !piece.is_empty() {
        let end = offset.saturating_add(piece.len() as u64);
        if end > call.partition.admission.value_bytes_max as u64 {
            return refuse(&mut call.reply(), Refusal::TooLong);
        }
        let end = usize::try_from(end).expect("bounded by the longest value");
        value.resize(value.len().max(end), 0);
        value[end - piece.len()..end].copy_from_slice(piece);
        if let Err(refusal) = call.store(key, &value, Expiry::Keep) {
            return refuse(&mut call.reply(), refusal);
        }
        call.notify(Class::Text, "setrange", key);
    }
    call.reply()
        .integer(i64::try_from(value.len()).expect("values are bounded"));
}

fn incrbyfloat(call: &mut DataCall<'_>) {
    let value = call.look(call.word(1));
    let value = value.map_or(Some(Spelled::Finite(LongDouble::ZERO)), |value| {
        long_double::parse(&value)
    });
    let (Some(value), Some(increment)) = (value, long_double::parse(call.word(2))) else {
        return call.reply().error(b"ERR value is not a valid float");
    };
    let sum = match (value, increment) {
        (Spelled::Finite(value), Spelled::Finite(increment)) => value.plus(increment),
        (Spelled::Infinite, _) | (_, Spelled::Infinite) => None,
    };
    let Some(sum) = sum.map(LongDouble::show) else {
        return call
            .reply()
            .error(b"ERR increment would produce NaN or Infinity");
    };
    match call.store(call.word(1), sum.as_bytes(), Expiry::Keep) {
        Ok(()) => {
            call.notify(Class::Text, "incrbyfloat", call.word(1));
            call.reply().bulk(sum.as_bytes());
        }
        Err(refusal) => refuse(&mut call.reply(), refusal),
    }
}

fn delifeq(call: &mut DataCall<'_>) {
    let key = call.word(1);
    if call.look(key).as_deref() != Some(call.word(2)) {
        return call.reply().integer(0);
    }
    match call.remove(key) {
        Ok(_) => {
            call.notify(Class::Generic, "del", key);
            call.reply().integer(1);
        }
        Err(refusal) => refuse(&mut call.reply(), refusal),
    }
}

/// Options of `LCS`.
#[derive(Clone, Copy, Debug, Default)]
struct LcsOptions {
    length: bool,
    places: bool,
    lengths: bool,
    least: i64,
}

fn lcs_options(call: &DataCall<'_>) -> Result<LcsOptions, &'static [u8]> {
    let mut options = LcsOptions::default();
    let mut words = call.words.tail(3).iter();
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"idx" => options.places = true,
            b"len" => options.length = true,
            b"withmatchlen" => options.lengths = true,
            b"minmatchlen" if words.len() >= 1 => {
                let least = words.next().and_then(parse_i64);
                options.least = least.ok_or(&b"ERR value is not an integer or out of range"[..])?;
            }
            _ => return Err(b"ERR syntax error"),
        }
    }
    match options {
        LcsOptions {
            length: true,
            places: true,
            ..
        } => Err(b"ERR If you want both the length and indexes, please just use IDX."),
        options => Ok(options),
    }
}

fn lcs(call: &mut DataCall<'_>) {
    let (one, other) = (call.read_value(1), call.read_value(2));
    if let Some(Failure::Refused(Refusal::WrongType)) = call.failed {
        call.failed = Some(Failure::Told(
            "ERR The specified keys must contain string values",
        ));
        return;
    }
    let options = match lcs_options(call) {
        Ok(options) => options,
        Err(error) => return call.reply().error(error),
    };
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let Some(table) = Table::of(&one, &other) else {
        let error = format!(
            "ERR LCS is not supported for values whose lengths multiply to more than {}",
            subsequence::CELLS_MAX
        );
        return call.reply().error(error.as_bytes());
    };
    let mut reply = call.reply();
    if options.places {
        show_matches(&mut reply, &table, options);
    } else if options.length {
        reply.integer(i64::from(table.length()));
    } else {
        reply.bulk(&table.subsequence());
    }
}

fn show_matches(reply: &mut Encoder<'_>, table: &Table<'_>, options: LcsOptions) {
    let mut matches = table.matches();
    matches.retain(|of| i64::from(of.length) >= options.least);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.len());
    for Match { one, other, length } in matches {
        reply.array(if options.lengths { 3 } else { 2 });
        for first in [one, other] {
            reply.array(2);
            reply.integer(i64::from(first));
            reply.integer(i64::from(first + length - 1));
        }
        if options.lengths {
            reply.integer(i64::from(length));
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(table.length()));
}
