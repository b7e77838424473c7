//! Commands for who keeps the node running: what was slow, what memory is taken by, and the rest that programs ask of a
//! Redis and that has a short answer here.

use std::sync::atomic::Ordering;

use super::subcommand::{self, Subcommand};
use super::{Command, Derived, Run, SessionCall, not_an_integer, syntax_error};
use crate::number::parse_i64;

/// Entries that `SLOWLOG GET` answers without a number.
const SLOW_DEFAULT: usize = 10;
/// Longest `DEBUG SLEEP`, in milliseconds.
const SLEEP_MS_MAX: f64 = 3_600_000.0;

/// What the commands of this family have in common.
const SUPPORT: Command = Command {
    name: "slowlog",
    arity: -2,
    flags: &["admin", "loading", "stale"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "server",
    summary: "Shows the commands that took long.",
    since: "2.2.12",
    syntax: "subcommand [arg ...]",
    run: Run::Session(slowlog),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const SUPPORTING: &[Command] = &[
    SUPPORT,
    Command {
        name: "latency",
        summary: "Shows how long commands take.",
        since: "2.8.13",
        run: Run::Session(latency),
        ..SUPPORT
    },
    Command {
        name: "memory",
        flags: &[],
        summary: "Shows what memory is taken by.",
        since: "4.0.0",
        run: Run::Session(memory),
        ..SUPPORT
    },
    Command {
        name: "debug",
        summary: "DEBUG SLEEP lets the connection wait; there is nothing else.",
        since: "1.0.0",
        run: Run::Session(debug),
        ..SUPPORT
    },
    Command {
        name: "function",
        flags: &["noscript"],
        group: "scripting",
        summary: "FUNCTION FLUSH and LIST; there are no functions.",
        since: "7.0.0",
        run: Run::Session(function),
        ..SUPPORT
    },
    Command {
        name: "lastsave",
        arity: 1,
        flags: &["loading", "stale", "fast"],
        summary: "Returns the second since 1970 up to which all is on disk: now.",
        since: "1.0.0",
        syntax: "",
        run: Run::Session(lastsave),
        ..SUPPORT
    },
    Command {
        name: "waitaof",
        arity: 4,
        flags: &["noscript"],
        group: "generic",
        summary: "Returns how many nodes have this client's writes on disk: always enough of them.",
        since: "7.2.0",
        syntax: "numlocal numreplicas timeout",
        run: Run::Session(waitaof),
        ..SUPPORT
    },
    Command {
        name: "monitor",
        arity: 1,
        flags: &["admin", "noscript", "loading", "stale", "no_multi"],
        summary: "Shows every command of every client, until RESET or QUIT.",
        since: "1.0.0",
        syntax: "",
        run: Run::Session(monitor),
        ..SUPPORT
    },
    Command {
        name: "shutdown",
        arity: -1,
        flags: &[
            "admin",
            "noscript",
            "loading",
            "stale",
            "no_multi",
            "allow_busy",
        ],
        summary: "Stops the node; all that was acknowledged is on disk.",
        since: "1.0.0",
        syntax: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        run: Run::Session(shutdown),
        ..SUPPORT
    },
];

const fn sub(
    (name, arity): (&'static str, i16),
    syntax: &'static str,
    summary: &'static str,
    run: fn(&mut SessionCall<'_>),
) -> Subcommand {
    Subcommand {
        name,
        arity,
        syntax,
        summary,
        run,
    }
}

/// The subcommands of `SLOWLOG`.
pub(super) const SLOWLOG: &[Subcommand] = &[
    sub(
        ("get", -2),
        "GET [<count>]",
        "Return the newest entries (default: 10, -1 means all).",
        slow_get,
    ),
    sub(
        ("len", 2),
        "LEN",
        "Return how many entries there are.",
        slow_len,
    ),
    sub(("reset", 2), "RESET", "Forget all entries.", slow_reset),
];

/// The subcommands of `LATENCY`.
pub(super) const LATENCY: &[Subcommand] = &[
    sub(("doctor", 2), "DOCTOR", "Say where to look.", doctor),
    sub(
        ("histogram", -2),
        "HISTOGRAM [COMMAND ...]",
        "Return how long commands took, in microseconds.",
        histogram,
    ),
    sub(
        ("history", 3),
        "HISTORY <event>",
        "Return nothing: there are no events.",
        nothing,
    ),
    sub(
        ("latest", 2),
        "LATEST",
        "Return nothing: there are no events.",
        nothing,
    ),
    sub(
        ("reset", -2),
        "RESET [<event> ...]",
        "Return 0: there are no events.",
        zero,
    ),
];

/// The subcommands of `MEMORY`, but for `USAGE`, which runs where its key is.
pub(super) const MEMORY: &[Subcommand] = &[
    sub(("doctor", 2), "DOCTOR", "Say where to look.", doctor),
    sub(
        ("malloc-stats", 2),
        "MALLOC-STATS",
        "Say where to look.",
        doctor,
    ),
    sub(
        ("purge", 2),
        "PURGE",
        "Accepted: nothing is kept that could be given back.",
        fine,
    ),
    sub(
        ("stats", 2),
        "STATS",
        "Return what memory is taken by.",
        memory_stats,
    ),
    sub(
        ("usage", -3),
        "USAGE <key> [SAMPLES <count>]",
        "Estimate the memory of a key and its value.",
        fine,
    ),
];

/// The subcommands of `DEBUG`.
pub(super) const DEBUG: &[Subcommand] = &[sub(
    ("sleep", 3),
    "SLEEP <seconds>",
    "Let the connection wait; others go on.",
    sleep,
)];

/// The subcommands of `FUNCTION`.
pub(super) const FUNCTION: &[Subcommand] = &[
    sub(
        ("flush", -2),
        "FLUSH [ASYNC|SYNC]",
        "Accepted: there are no functions.",
        function_flush,
    ),
    sub(
        ("list", -2),
        "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
        "Return nothing: there are no functions.",
        nothing,
    ),
];

fn slowlog(call: &mut SessionCall<'_>) {
    subcommand::run(call, "slowlog", SLOWLOG);
}

fn latency(call: &mut SessionCall<'_>) {
    subcommand::run(call, "latency", LATENCY);
}

fn memory(call: &mut SessionCall<'_>) {
    subcommand::run(call, "memory", MEMORY);
}

fn debug(call: &mut SessionCall<'_>) {
    subcommand::run(call, "debug", DEBUG);
}

fn function(call: &mut SessionCall<'_>) {
    subcommand::run(call, "function", FUNCTION);
}

fn fine(call: &mut SessionCall<'_>) {
    call.reply().ok();
}

fn nothing(call: &mut SessionCall<'_>) {
    call.reply().array(0);
}

fn zero(call: &mut SessionCall<'_>) {
    call.reply().integer(0);
}

fn slow_get(call: &mut SessionCall<'_>) {
    if call.words.len() > 3 {
        return syntax_error(&mut call.reply());
    }
    let count = match call.words.get(2).map(parse_i64) {
        None => SLOW_DEFAULT,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count @ 0..)) => usize::try_from(count).unwrap_or(usize::MAX),
        Some(_) => {
            return call
                .reply()
                .error(b"ERR count should be greater than or equal to -1");
        }
    };
    let entries = call.shared.slowlog.newest(count);
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let mut reply = call.reply();
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.integer(integer(entry.id));
        reply.integer(integer(entry.at_s));
        reply.integer(integer(entry.took_us));
        reply.array(entry.words.len());
        entry.words.iter().for_each(|word| reply.bulk(word));
        reply.bulk(entry.addr.as_bytes());
        reply.bulk(&entry.name);
    }
}

fn slow_len(call: &mut SessionCall<'_>) {
    let count = i64::try_from(call.shared.slowlog.count()).unwrap_or(i64::MAX);
    call.reply().integer(count);
}

fn slow_reset(call: &mut SessionCall<'_>) {
    call.shared.slowlog.reset();
    call.reply().ok();
}

fn doctor(call: &mut SessionCall<'_>) {
    let text = b"Ashlar counts what it does: INFO memory, INFO shards, INFO latencystats, SLOWLOG GET. Turns of a shard that \
        took longer than io.stall_ms are counted as stalls in INFO shards; INFO stages tells what the last one did.";
    call.reply().verbatim(text);
}

/// Answers, for each command that ran, how many calls took at most so many microseconds.
fn histogram(call: &mut SessionCall<'_>) {
    let names = call.words.tail(2);
    let stats = &call.shared.stats;
    let wanted = |name: &str| {
        names.is_empty()
            || names
                .iter()
                .any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let counted: Vec<_> = super::table::all()
        .iter()
        .filter(|command| wanted(command.name))
        .map(|command| (command.name, stats.of_command(command.row())))
        .filter(|(_, totals)| totals.calls > 0)
        .collect();
    let mut reply = call.reply();
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    reply.map(counted.len());
    for (name, totals) in counted {
        let steps = totals.took.up_to_us();
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(integer(totals.calls));
        reply.bulk(b"histogram_usec");
        reply.map(steps.len());
        for (us, calls) in steps {
            reply.integer(integer(us));
            reply.integer(integer(calls));
        }
    }
}

fn memory_stats(call: &mut SessionCall<'_>) {
    let stats = &call.shared.stats;
    let used = stats.sum(|shard| &shard.used_bytes);
    let keys: u64 = stats
        .shards()
        .iter()
        .flat_map(|shard| &shard.keys)
        .map(|keys| keys.load(Ordering::Relaxed))
        .sum();
    let figures = [
        ("peak.allocated", used),
        ("total.allocated", used),
        ("dataset.bytes", used),
        ("keys.count", keys),
        ("keys.bytes-per-key", used / keys.max(1)),
        ("budget.bytes", call.shared.memory_bytes),
        ("clients.normal.count", call.shared.clients.count() as u64),
    ];
    let mut reply = call.reply();
    reply.map(figures.len());
    for (name, figure) in figures {
        reply.bulk(name.as_bytes());
        reply.integer(i64::try_from(figure).unwrap_or(i64::MAX));
    }
}

/// Lets the connection wait. What is no number is 0, as in Redis.
fn sleep(call: &mut SessionCall<'_>) {
    let seconds = call
        .words
        .get(2)
        .and_then(|word| std::str::from_utf8(word).ok());
    let seconds: f64 = seconds.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let milliseconds = (seconds * 1000.0).clamp(0.0, SLEEP_MS_MAX);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits; what is no number becomes 0"
    )]
    let milliseconds = milliseconds as u64;
    call.session.delay_ms = milliseconds;
    call.reply().ok();
}

fn function_flush(call: &mut SessionCall<'_>) {
    match call.words.get(2).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"async" | b"sync") if call.words.len() <= 3 => call.reply().ok(),
        _ => call
            .reply()
            .error(b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option"),
    }
}

fn lastsave(call: &mut SessionCall<'_>) {
    let seconds = i64::try_from(call.now_ms / 1000).unwrap_or(i64::MAX);
    call.reply().integer(seconds);
}

fn waitaof(call: &mut SessionCall<'_>) {
    let number = |place: usize| call.words.get(place).and_then(parse_i64);
    let (local, others, timeout) = (number(1), number(2), number(3));
    let sure = call
        .shared
        .cluster
        .look()
        .map_or(0, |sight| sight.acknowledged_by());
    let mut reply = call.reply();
    match (local, others, timeout) {
        (None, _, _) | (_, None, _) => not_an_integer(&mut reply),
        (Some(..0 | 2..), _, _) => {
            reply.error(b"ERR value is out of range, value must between 0 and 1")
        }
        (_, Some(..0), _) => reply.error(b"ERR value is out of range, must be positive"),
        (_, _, None) => reply.error(b"ERR timeout is not an integer or out of range"),
        (_, _, Some(..0)) => reply.error(b"ERR timeout is negative"),
        _ => {
            reply.array(2);
            reply.integer(1);
            reply.integer(i64::try_from(sure).unwrap_or(i64::MAX));
        }
    }
}

fn monitor(call: &mut SessionCall<'_>) {
    if let Some(client) = call.shared.clients.find(call.session.id) {
        call.shared.monitors.add(client.shard, client.id);
    }
    call.reply().ok();
}

/// Asks the process to stop, as a signal would.
fn shutdown(call: &mut SessionCall<'_>) {
    let (mut abort, mut saves) = (false, 0);
    for word in call.words.tail(1) {
        match word.to_ascii_lowercase().as_slice() {
            b"save" | b"nosave" => saves += 1,
            b"now" | b"force" => {}
            b"abort" => abort = true,
            _ => return syntax_error(&mut call.reply()),
        }
    }
    if saves > 1 || (abort && call.words.len() > 2) {
        return syntax_error(&mut call.reply());
    }
    if abort {
        return call.reply().error(b"ERR No shutdown in progress.");
    }
    match ashlar_io::ask_to_stop(call.shared.process_id) {
        Ok(()) => call.session.closing = true,
        Err(error) => {
            let text = format!("ERR the node cannot be stopped: {error}");
            call.reply().error(text.as_bytes());
        }
    }
}
