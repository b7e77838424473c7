//! Commands on values that are decimal integers of 64 bits. The sum is made where the value is; here is only what
//! to add.

use ashlar_partition::{Request, Response};

use super::{Command, DataCall, Derived, Run, not_an_integer, respond};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;

/// What the commands of this family have in common.
const SUM: Command = Command {
    name: "",
    arity: 2,
    flags: &["write", "denyoom", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "string",
    summary: "",
    since: "1.0.0",
    syntax: "key",
    run: Run::Data(incr),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const INTEGER: &[Command] = &[
    Command {
        name: "incr",
        summary: "Adds one to the integer that a key holds, 0 when it is missing.",
        ..SUM
    },
    Command {
        name: "decr",
        summary: "Subtracts one from the integer that a key holds, 0 when it is missing.",
        run: Run::Data(decr),
        ..SUM
    },
    Command {
        name: "incrby",
        arity: 3,
        summary: "Adds a number to the integer that a key holds, 0 when it is missing.",
        syntax: "key increment",
        run: Run::Data(incrby),
        ..SUM
    },
    Command {
        name: "decrby",
        arity: 3,
        summary: "Subtracts a number from the integer that a key holds, 0 when it is missing.",
        syntax: "key decrement",
        run: Run::Data(decrby),
        ..SUM
    },
];

fn add(call: &mut DataCall<'_>, delta: i64) {
    let is_set = call.ask(call.word(1), &Request::Add(delta), |response, encoder| {
        let done = matches!(response, Response::Integer(_));
        respond(response, encoder);
        done
    });
    if is_set {
        call.notify(Class::Text, "incrby", call.word(1));
    }
}

fn incr(call: &mut DataCall<'_>) {
    add(call, 1);
}

fn decr(call: &mut DataCall<'_>) {
    add(call, -1);
}

fn incrby(call: &mut DataCall<'_>) {
    match parse_i64(call.word(2)) {
        Some(delta) => add(call, delta),
        None => not_an_integer(&mut call.reply()),
    }
}

fn decrby(call: &mut DataCall<'_>) {
    let Some(delta) = parse_i64(call.word(2)) else {
        return not_an_integer(&mut call.reply());
    };
    match delta.checked_neg() {
        Some(delta) => add(call, delta),
        None => call.reply().error(b"ERR decrement would overflow"),
    }
}
