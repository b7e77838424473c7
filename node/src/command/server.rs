//! Commands on the node as a whole: what it is, how it is set, how much it holds.

use super::spread::Plan;
use super::{Command, Derived, Run, SessionCall, describe, info, settings, syntax_error};

/// What the commands of this family have in common.
const SERVER_WIDE: Command = Command {
    name: "",
    arity: -1,
    flags: &["loading", "stale"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "server",
    summary: "",
    since: "1.0.0",
    syntax: "",
    run: Run::Session(time),
    derived: Derived::LATER,
    is_blind: false,
};

/// What the commands that delete all keys have in common.
const FLUSH: Command = Command {
    flags: &["write"],
    syntax: "[ASYNC | SYNC]",
    ..SERVER_WIDE
};

/// The commands of this family.
pub const SERVER: &[Command] = &[
    Command {
        name: "command",
        summary: "Returns what is known of all commands.",
        since: "2.8.13",
        syntax: "[subcommand [arg ...]]",
        run: Run::Session(describe::command),
        ..SERVER_WIDE
    },
    Command {
        name: "info",
        summary: "Returns facts and counters of the node.",
        syntax: "[section [section ...]]",
        run: Run::Session(info::info),
        ..SERVER_WIDE
    },
    Command {
        name: "config",
        arity: -2,
        flags: &[],
        summary: "Shows and changes the configuration.",
        since: "2.0.0",
        syntax: "subcommand [arg ...]",
        run: Run::Session(settings::config),
        ..SERVER_WIDE
    },
    Command {
        name: "time",
        arity: 1,
        flags: &["loading", "stale", "fast"],
        summary: "Returns the time in seconds since 1970, and the microseconds in that second.",
        since: "2.6.0",
        ..SERVER_WIDE
    },
    Command {
        name: "dbsize",
        arity: 1,
        flags: &["readonly", "fast"],
        summary: "Returns the number of keys in the database.",
        run: Run::Spread(dbsize),
        ..SERVER_WIDE
    },
    Command {
        name: "flushdb",
        summary: "Deletes all keys of the database.",
        run: Run::Spread(flushdb),
        ..FLUSH
    },
    Command {
        name: "flushall",
        summary: "Deletes all keys of all databases.",
        run: Run::Spread(flushall),
        ..FLUSH
    },
];

fn time(call: &mut SessionCall<'_>) {
    let now_us = call.now_us;
    let mut reply = call.reply();
    reply.array(2);
    reply.bulk((now_us / 1_000_000).to_string().as_bytes());
    reply.bulk((now_us % 1_000_000).to_string().as_bytes());
}

fn dbsize(call: &mut SessionCall<'_>) -> Option<Plan> {
    Some(Plan::Count {
        database: call.session.database,
    })
}

fn flushdb(call: &mut SessionCall<'_>) -> Option<Plan> {
    flush(call, Some(call.session.database))
}

fn flushall(call: &mut SessionCall<'_>) -> Option<Plan> {
    flush(call, None)
}

/// Plans a deletion of all keys. `ASYNC` and `SYNC` are the same here: one command in the log of
/// each partition.
fn flush(call: &mut SessionCall<'_>, database: Option<u8>) -> Option<Plan> {
    let mode = call.words.get(1).map(<[u8]>::to_ascii_lowercase);
    match (mode.as_deref(), call.words.len()) {
        (None, _) | (Some(b"async" | b"sync"), 2) => Some(Plan::Clear { database }),
        _ => {
            syntax_error(&mut call.reply());
            None
        }
    }
}
