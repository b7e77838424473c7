//! Commands on keys whatever their values are: deletion, existence, expiry, and the walk over all
//! keys.

use ashlar_partition::collection::Family;
use ashlar_partition::{Refusal, Request, Response};

use super::change::event_of;
use super::options::{self, Base, Scale, Unit, moment_ms};
use super::spread::{Plan, Scan};
use super::{Command, DataCall, Derived, Run, SessionCall, not_an_integer, refuse};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;

/// What most reads of one key have in common.
const READ: Command = Command {
    name: "",
    arity: 2,
    flags: &["readonly", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "generic",
    summary: "",
    since: "1.0.0",
    syntax: "key",
    run: Run::Data(exists),
    derived: Derived::LATER,
    is_blind: false,
};

/// What most writes of one key have in common.
const WRITE: Command = Command {
    flags: &["write", "fast"],
    ..READ
};

/// What the commands that set an expiry have in common.
const EXPIRY: Command = Command { arity: -3, ..WRITE };

/// What the commands over all keys have in common.
const WALK: Command = Command {
    flags: &["readonly"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    run: Run::Spread(scan),
    ..READ
};

/// The commands of this family.
pub const KEYS: &[Command] = &[
    Command {
        name: "del",
        arity: -2,
        flags: &["write"],
        last_key: -1,
        summary: "Deletes keys, all at once.",
        syntax: "key [key ...]",
        run: Run::Data(del),
        ..READ
    },
    Command {
        name: "unlink",
        arity: -2,
        last_key: -1,
        summary: "Deletes keys, all at once; the same as DEL.",
        since: "4.0.0",
        syntax: "key [key ...]",
        run: Run::Data(del),
        ..WRITE
    },
    Command {
        name: "exists",
        arity: -2,
        last_key: -1,
        summary: "Counts the keys that are there; a key named twice counts twice.",
        syntax: "key [key ...]",
        run: Run::Data(exists),
        ..READ
    },
    Command {
        name: "touch",
        arity: -2,
        last_key: -1,
        summary: "Counts the keys that are there.",
        since: "3.2.1",
        syntax: "key [key ...]",
        run: Run::Data(exists),
        ..READ
    },
    Command {
        name: "type",
        summary: "Returns the type of a key.",
        run: Run::Data(type_of),
        ..READ
    },
    Command {
        name: "expire",
        summary: "Lets a key expire after some seconds.",
        syntax: "key seconds [NX | XX | GT | LT]",
        run: Run::Data(expire),
        ..EXPIRY
    },
    Command {
        name: "pexpire",
        summary: "Lets a key expire after some milliseconds.",
        since: "2.6.0",
        syntax: "key milliseconds [NX | XX | GT | LT]",
        run: Run::Data(pexpire),
        ..EXPIRY
    },
    Command {
        name: "expireat",
        summary: "Lets a key expire at a second since 1970.",
        since: "1.2.0",
        syntax: "key unix-time-seconds [NX | XX | GT | LT]",
        run: Run::Data(expireat),
        ..EXPIRY
    },
    Command {
        name: "pexpireat",
        summary: "Lets a key expire at a millisecond since 1970.",
        since: "2.6.0",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
        run: Run::Data(pexpireat),
        ..EXPIRY
    },
    Command {
        name: "ttl",
        summary: "Returns the seconds after which a key expires.",
        run: Run::Data(ttl),
        ..READ
    },
    Command {
        name: "pttl",
        summary: "Returns the milliseconds after which a key expires.",
        since: "2.6.0",
        run: Run::Data(pttl),
        ..READ
    },
    Command {
        name: "expiretime",
        summary: "Returns the second since 1970 at which a key expires.",
        since: "7.0.0",
        run: Run::Data(expiretime),
        ..READ
    },
    Command {
        name: "pexpiretime",
        summary: "Returns the millisecond since 1970 at which a key expires.",
        since: "7.0.0",
        run: Run::Data(pexpiretime),
        ..READ
    },
    Command {
        name: "persist",
        summary: "Removes the expiry of a key.",
        since: "2.2.0",
        run: Run::Data(persist),
        ..WRITE
    },
    Command {
        name: "scan",
        arity: -2,
        summary: "Walks over the keys of the database in steps.",
        since: "2.8.0",
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        ..WALK
    },
    Command {
        name: "keys",
        summary: "Returns all keys that match a pattern.",
        syntax: "pattern",
        run: Run::Spread(keys),
        ..WALK
    },
    Command {
        name: "randomkey",
        arity: 1,
        summary: "Returns a key of the database, any.",
        syntax: "",
        run: Run::Spread(randomkey),
        ..WALK
    },
];

fn del(call: &mut DataCall<'_>) {
    let mut deleted = 0;
    for place in 1..call.words.len() {
        match delete(call, place) {
            Ok(n) => {
                deleted += n;
                if n > 0 {
                    call.notify(Class::Generic, "del", call.word(place));
                }
            }
            // Deletions are refused by the state of the log alone, which does not change within a
            // command: so it is the first one that is refused, and nothing was deleted.
            Err(refusal) => return refuse(&mut call.reply(), refusal),
        }
    }
    call.reply().integer(deleted);
}

fn delete(call: &mut DataCall<'_>, place: usize) -> Result<i64, Refusal> {
    call.ask(
        call.word(place),
        &Request::Delete,
        |response, _| match response {
            Response::Refused(refusal) => Err(refusal),
            Response::Integer(deleted) => Ok(deleted),
            _ => Ok(0),
        },
    )
}

/// Looks for the key at `place` and counts the read: `None` when it is missing, else its expiry.
fn look(call: &mut DataCall<'_>, place: usize) -> Option<Option<u64>> {
    let found = call.kind_of(call.word(place));
    call.count_read(found.is_some());
    found.map(|(_, expire_at_ms)| expire_at_ms)
}

fn exists(call: &mut DataCall<'_>) {
    let places = 1..call.words.len();
    let there: i64 = places
        .map(|place| i64::from(look(call, place).is_some()))
        .sum();
    call.reply().integer(there);
}

fn type_of(call: &mut DataCall<'_>) {
    let found = call.kind_of(call.word(1));
    call.count_read(found.is_some());
    let name = found.map_or("none", |(family, _)| family.map_or("string", Family::name));
    call.reply().simple(name.as_bytes());
}

fn expire(call: &mut DataCall<'_>) {
    set_expiry(call, (Unit::Seconds, Base::Now), "expire");
}

fn pexpire(call: &mut DataCall<'_>) {
    set_expiry(call, (Unit::Milliseconds, Base::Now), "pexpire");
}

fn expireat(call: &mut DataCall<'_>) {
    set_expiry(call, (Unit::Seconds, Base::Epoch), "expireat");
}

fn pexpireat(call: &mut DataCall<'_>) {
    set_expiry(call, (Unit::Milliseconds, Base::Epoch), "pexpireat");
}

fn set_expiry(call: &mut DataCall<'_>, scale: Scale, name: &str) {
    let condition = match options::expire_condition(call.words.tail(3)) {
        Ok(condition) => condition,
        Err(error) => return call.reply().error(error.as_bytes()),
    };
    let Some(number) = parse_i64(call.word(2)) else {
        return not_an_integer(&mut call.reply());
    };
    let Some(at_ms) = moment_ms(number, scale, call.now_ms) else {
        return call.reply().error(options::invalid_expire(name).as_bytes());
    };
    change_expiry(call, &Request::Expire { at_ms, condition });
}

fn persist(call: &mut DataCall<'_>) {
    change_expiry(call, &Request::Persist);
}

fn change_expiry(call: &mut DataCall<'_>, request: &Request<'_>) {
    if call.change(call.word(1), request) {
        let event = event_of(request, call.now_ms);
        call.notify(Class::Generic, event, call.word(1));
    }
}

fn ttl(call: &mut DataCall<'_>) {
    let now_ms = call.now_ms;
    answer_expiry(call, |at_ms| to_seconds(at_ms.saturating_sub(now_ms)));
}

fn pttl(call: &mut DataCall<'_>) {
    let now_ms = call.now_ms;
    answer_expiry(call, |at_ms| at_ms.saturating_sub(now_ms));
}

fn expiretime(call: &mut DataCall<'_>) {
    answer_expiry(call, to_seconds);
}

fn pexpiretime(call: &mut DataCall<'_>) {
    answer_expiry(call, |at_ms| at_ms);
}

/// Answers what `show` makes of the moment of expiry; -1 when there is none, -2 when there is no
/// key.
fn answer_expiry(call: &mut DataCall<'_>, show: impl FnOnce(u64) -> u64) {
    let number = match look(call, 1) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => i64::try_from(show(at_ms)).unwrap_or(i64::MAX),
    };
    call.reply().integer(number);
}

/// Returns whole seconds, rounded to the nearest as Redis does.
fn to_seconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_add(500) / 1000
}

fn scan(call: &mut SessionCall<'_>) -> Option<Plan> {
    let database = call.session.database;
    let Some(after) = place_of_cursor(call) else {
        call.reply().error(b"ERR invalid cursor");
        return None;
    };
    match options::scan_options(call.words.tail(2)) {
        Err(error) => {
            call.reply().error(error.as_bytes());
            None
        }
        Ok(options) => {
            let options::ScanOptions {
                count,
                pattern,
                only_type,
            } = options;
            Some(Plan::Scan(Scan {
                database,
                after,
                count,
                pattern,
                only_type,
            }))
        }
    }
}

/// Returns the key behind which the cursor goes on, `None` in it at the beginning. A cursor that
/// was never given, or is forgotten, or belongs to another database, is refused: no answer to it
/// would be complete.
fn place_of_cursor(call: &SessionCall<'_>) -> Option<Option<Vec<u8>>> {
    let number = call.words.get(1)?;
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    if number == 0 {
        return Some(None);
    }
    let after = call.shared.cursor(number)?;
    if after.first() == Some(&call.session.database) {
        Some(Some(after))
    } else {
        None
    }
}

fn keys(call: &mut SessionCall<'_>) -> Option<Plan> {
    let pattern = call.words.get(1).unwrap_or_default().to_vec();
    Some(Plan::Keys {
        database: call.session.database,
        pattern,
    })
}

fn randomkey(call: &mut SessionCall<'_>) -> Option<Plan> {
    Some(Plan::Random {
        database: call.session.database,
    })
}
