//! Commands on the value of a key: `GET`, `SET` and their relatives, and the integers that values
//! can be.
//!
//! Invariant: a command that sets several keys sets all of them, in one entry, or none.

use ashlar_partition::{
    Condition, ExpireCondition, Expiry, LogRoom, Pressure, Put, Refusal, Request, Response, Return,
};

use super::change::event_of;
use super::options::{self, Base, Scale, SetOptions, Touch, Unit};
use super::{Command, DataCall, Derived, Run, not_an_integer, refuse, respond, wrong_arity};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;
use crate::resp::encode::Encoder;

/// What most reads of one key have in common.
const READ: Command = Command {
    name: "",
    arity: 2,
    flags: &["readonly", "fast"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "string",
    summary: "",
    since: "1.0.0",
    syntax: "key",
    run: Run::Data(get),
    derived: Derived::LATER,
    is_blind: false,
};

/// What most writes of one key have in common.
const WRITE: Command = Command {
    flags: &["write", "denyoom"],
    ..READ
};

/// What writes of one key have in common that take no longer for a larger value.
const FAST_WRITE: Command = Command {
    flags: &["write", "denyoom", "fast"],
    ..READ
};

/// The commands of this family.
pub const STRING: &[Command] = &[
    Command {
        name: "get",
        summary: "Returns the value of a key.",
        ..READ
    },
    Command {
        name: "set",
        arity: -3,
        summary: "Sets the value of a key, whatever it was before.",
        syntax: "key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        run: Run::Data(set),
        ..WRITE
    },
    Command {
        name: "mget",
        arity: -2,
        last_key: -1,
        summary: "Returns the values of several keys.",
        syntax: "key [key ...]",
        run: Run::Data(mget),
        ..READ
    },
    Command {
        name: "mset",
        arity: -3,
        last_key: -1,
        key_step: 2,
        summary: "Sets several keys at once, all or none.",
        since: "1.0.1",
        syntax: "key value [key value ...]",
        run: Run::Data(mset),
        is_blind: true,
        ..WRITE
    },
    Command {
        name: "msetnx",
        arity: -3,
        last_key: -1,
        key_step: 2,
        summary: "Sets several keys at once when none of them is there.",
        since: "1.0.1",
        syntax: "key value [key value ...]",
        run: Run::Data(msetnx),
        ..WRITE
    },
    Command {
        name: "getset",
        arity: 3,
        summary: "Sets a key and returns the value before.",
        syntax: "key value",
        run: Run::Data(getset),
        ..FAST_WRITE
    },
    Command {
        name: "getdel",
        flags: &["write", "fast"],
        summary: "Returns the value of a key and deletes it.",
        since: "6.2.0",
        run: Run::Data(getdel),
        ..READ
    },
    Command {
        name: "getex",
        arity: -2,
        flags: &["write", "fast"],
        summary: "Returns the value of a key and sets or removes its expiry.",
        since: "6.2.0",
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        run: Run::Data(getex),
        ..READ
    },
    Command {
        name: "setnx",
        arity: 3,
        summary: "Sets a key when it is not there.",
        syntax: "key value",
        run: Run::Data(setnx),
        ..FAST_WRITE
    },
    Command {
        name: "setex",
        arity: 4,
        summary: "Sets a key that expires after some seconds.",
        since: "2.0.0",
        syntax: "key seconds value",
        run: Run::Data(setex),
        ..WRITE
    },
    Command {
        name: "psetex",
        arity: 4,
        summary: "Sets a key that expires after some milliseconds.",
        since: "2.6.0",
        syntax: "key milliseconds value",
        run: Run::Data(psetex),
        ..WRITE
    },
    Command {
        name: "append",
        arity: 3,
        summary: "Appends to the value of a key, and makes the key when it is missing.",
        since: "2.0.0",
        syntax: "key value",
        run: Run::Data(append),
        ..FAST_WRITE
    },
    Command {
        name: "strlen",
        summary: "Returns the length of a value in bytes.",
        since: "2.2.0",
        run: Run::Data(strlen),
        ..READ
    },
    Command {
        name: "getrange",
        arity: 4,
        flags: &["readonly"],
        summary: "Returns the bytes of a value from one place to another, both included.",
        since: "2.4.0",
        syntax: "key start end",
        run: Run::Data(getrange),
        ..READ
    },
    Command {
        name: "substr",
        arity: 4,
        flags: &["readonly"],
        summary: "Returns the bytes of a value from one place to another; the old name of GETRANGE.",
        syntax: "key start end",
        run: Run::Data(getrange),
        ..READ
    },
];

fn get(call: &mut DataCall<'_>) {
    read(call, 1);
}

/// Answers the value of the key at `place`, counts the read and says whether there is such a key.
fn read(call: &mut DataCall<'_>, place: usize) -> bool {
    read_by(call, place, &Request::Get)
}

fn read_by(call: &mut DataCall<'_>, place: usize, request: &Request<'_>) -> bool {
    let found = call.ask(call.word(place), request, |response, encoder| {
        let found = matches!(response, Response::Value(..));
        respond(response, encoder);
        found
    });
    call.note_read(call.word(place), found);
    found
}

fn mget(call: &mut DataCall<'_>) {
    let keys = call.words.len() - 1;
    call.reply().array(keys);
    for place in 1..=keys {
        let found = call.ask(call.word(place), &Request::Get, |response, encoder| {
            let found = matches!(response, Response::Value(..));
            match response {
                // What is no string has no value here.
                Response::Refused(Refusal::WrongType) => encoder.null(),
                _ => respond(response, encoder),
            }
            found
        });
        call.count_read(found);
    }
}

const fn put(value: &[u8], condition: Condition, expiry: Expiry, returns: Return) -> Request<'_> {
    Request::Put(Put {
        value,
        condition,
        expiry,
        returns,
    })
}

fn set(call: &mut DataCall<'_>) {
    match options::set_options(call.words.tail(3), call.now_ms) {
        Err(error) => call.reply().error(error.as_bytes()),
        Ok(options) if options.equals.is_some() => set_if_equal(call, options),
        Ok(options) if options.old => set_and_return(call, options.condition, options.expiry),
        Ok(options) => set_to(call, call.word(2), options.condition, options.expiry),
    }
}

/// Sets the key and answers whether it was.
fn set_to(call: &mut DataCall<'_>, value: &[u8], condition: Condition, expiry: Expiry) {
    let request = put(value, condition, expiry, Return::Outcome);
    if call.change(call.word(1), &request) {
        call.tell_set(call.word(1), expiry);
    }
}

/// Sets the key if its value is the one given.
fn set_if_equal(call: &mut DataCall<'_>, options: SetOptions<'_>) {
    let before = call.look(call.word(1));
    if options.old {
        call.count_read(before.is_some());
    }
    let is_equal = before.as_deref() == options.equals;
    if is_equal {
        if let Err(refusal) = call.store(call.word(1), call.word(2), options.expiry) {
            return refuse(&mut call.reply(), refusal);
        }
        call.tell_set(call.word(1), options.expiry);
    }
    match (options.old, is_equal) {
        (true, _) => call.reply().optional_bulk(before.as_deref()),
        (false, true) => call.reply().ok(),
        (false, false) => call.reply().null(),
    }
}

/// Sets the key and answers its value before, which counts as a read.
fn set_and_return(call: &mut DataCall<'_>, condition: Condition, expiry: Expiry) {
    let request = put(call.word(2), condition, expiry, Return::Old);
    let read = call.ask(call.word(1), &request, |response, encoder| {
        let read = match response {
            Response::Value(..) => Some(true),
            Response::Refused(_) => None,
            _ => Some(false),
        };
        respond(response, encoder);
        read
    });
    let Some(found) = read else { return };
    call.note_read(call.word(1), found);
    let is_set = match condition {
        Condition::Always => true,
        Condition::Absent => !found,
        Condition::Present => found,
    };
    if is_set {
        call.tell_set(call.word(1), expiry);
    }
}

fn getset(call: &mut DataCall<'_>) {
    set_and_return(call, Condition::Always, Expiry::Never);
}

fn setnx(call: &mut DataCall<'_>) {
    let request = put(
        call.word(2),
        Condition::Absent,
        Expiry::Never,
        Return::Outcome,
    );
    let is_set = call.ask(call.word(1), &request, |response, encoder| {
        let done = response == Response::Done;
        match response {
            Response::Done | Response::Missing => encoder.integer(i64::from(done)),
            _ => respond(response, encoder),
        }
        done
    });
    if is_set {
        call.tell_set(call.word(1), Expiry::Never);
    }
}

fn setex(call: &mut DataCall<'_>) {
    set_expiring(call, (Unit::Seconds, Base::Now), "setex");
}

fn psetex(call: &mut DataCall<'_>) {
    set_expiring(call, (Unit::Milliseconds, Base::Now), "psetex");
}

fn set_expiring(call: &mut DataCall<'_>, scale: Scale, name: &str) {
    match options::positive_moment_ms(call.word(2), scale, call.now_ms, name) {
        Err(error) => call.reply().error(error.as_bytes()),
        Ok(at_ms) => {
            set_to(call, call.word(3), Condition::Always, Expiry::At(at_ms));
        }
    }
}

fn getdel(call: &mut DataCall<'_>) {
    if read_by(call, 1, &Request::Take) {
        call.notify(Class::Generic, "del", call.word(1));
    }
}

fn getex(call: &mut DataCall<'_>) {
    let touch = match options::getex_options(call.words.tail(2)) {
        Err(error) => return call.reply().error(error.as_bytes()),
        Ok(touch) => touch,
    };
    let from = call.out.len();
    if !read(call, 1) {
        return;
    }
    let request = match touch {
        Touch::Leave => return,
        Touch::Persist => Request::Persist,
        Touch::Expire(scale, word) => {
            let condition = ExpireCondition::Always;
            match options::positive_moment_ms(word, scale, call.now_ms, "getex") {
                Ok(at_ms) => Request::Expire { at_ms, condition },
                Err(error) => {
                    return replace(call, from, |encoder| encoder.error(error.as_bytes()));
                }
            }
        }
    };
    let done = call.ask(call.word(1), &request, |response, _| match response {
        Response::Refused(refusal) => Err(refusal),
        response => Ok(matches!(response, Response::Done | Response::Integer(1))),
    });
    match done {
        Err(refusal) => replace(call, from, |encoder| refuse(encoder, refusal)),
        Ok(true) => call.notify(
            Class::Generic,
            event_of(&request, call.now_ms),
            call.word(1),
        ),
        Ok(false) => {}
    }
}

/// Writes an error in place of the reply that begins at `from`: a value is written before it is
/// known whether its expiry can be set.
fn replace(call: &mut DataCall<'_>, from: usize, write: impl FnOnce(&mut Encoder<'_>)) {
    call.out.truncate(from);
    write(&mut call.reply());
}

fn mset(call: &mut DataCall<'_>) {
    if call.words.len().is_multiple_of(2) {
        return wrong_arity(&mut call.reply(), "mset");
    }
    match set_all(call) {
        Ok(()) => call.reply().ok(),
        Err(refusal) => refuse(&mut call.reply(), refusal),
    }
}

fn msetnx(call: &mut DataCall<'_>) {
    if call.words.len().is_multiple_of(2) {
        return wrong_arity(&mut call.reply(), "msetnx");
    }
    let keys = (1..call.words.len()).step_by(2);
    if keys.into_iter().any(|place| is_there(call, place)) {
        return call.reply().integer(0);
    }
    match set_all(call) {
        Ok(()) => call.reply().integer(1),
        Err(refusal) => refuse(&mut call.reply(), refusal),
    }
}

fn is_there(call: &mut DataCall<'_>, place: usize) -> bool {
    call.kind_of(call.word(place)).is_some()
}

/// Sets every pair of key and value, or refuses all of them.
fn set_all(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    admit_all(call)?;
    for place in (1..call.words.len()).step_by(2) {
        let request = put(
            call.word(place + 1),
            Condition::Always,
            Expiry::Never,
            Return::Outcome,
        );
        let done = call.ask(call.word(place), &request, |response, _| {
            response == Response::Done
        });
        assert!(done, "the command was admitted whole");
        call.tell_set(call.word(place), Expiry::Never);
    }
    Ok(())
}

/// Says whether a partition takes all values of a command.
fn admit_all(call: &DataCall<'_>) -> Result<(), Refusal> {
    if call.partition.damage().is_some() {
        return Err(Refusal::Damaged(call.partition.id().0));
    }
    let admission = call.partition.admission;
    let mut values = (2..call.words.len()).step_by(2);
    if values.any(|place| call.words[place].len() > admission.value_bytes_max) {
        return Err(Refusal::TooLong);
    }
    match admission.log {
        LogRoom::Deletes | LogRoom::Full => Err(Refusal::DiskFull),
        LogRoom::Open if admission.pressure == Pressure::Full => Err(Refusal::Busy),
        LogRoom::Open => Ok(()),
    }
}

fn append(call: &mut DataCall<'_>) {
    if call.change(call.word(1), &Request::Append(call.word(2))) {
        call.notify(Class::Text, "append", call.word(1));
    }
}

fn strlen(call: &mut DataCall<'_>) {
    with_value(call, |value, encoder| {
        encoder.integer(i64::try_from(value.len()).expect("values are bounded"))
    });
}

/// Answers from the value of the key, empty when there is none, and counts the read.
fn with_value(call: &mut DataCall<'_>, answer: impl FnOnce(&[u8], &mut Encoder<'_>)) {
    let found = call.ask(call.word(1), &Request::Get, |response, encoder| {
        match &response {
            Response::Value(value, _) => answer(value, encoder),
            Response::Refused(refusal) => refuse(encoder, *refusal),
            _ => answer(b"", encoder),
        }
        matches!(response, Response::Value(..))
    });
    call.count_read(found);
}

fn getrange(call: &mut DataCall<'_>) {
    let (Some(start), Some(end)) = (parse_i64(call.word(2)), parse_i64(call.word(3))) else {
        return not_an_integer(&mut call.reply());
    };
    with_value(call, |value, encoder| {
        encoder.bulk(slice(value, start, end))
    });
}

/// Returns the bytes from `start` to `end`, both included; negative places count from the end.
fn slice(value: &[u8], start: i64, end: i64) -> &[u8] {
    let length = i64::try_from(value.len()).expect("values are bounded");
    let from_front = |place: i64| {
        if place < 0 {
            place.saturating_add(length)
        } else {
            place
        }
    };
    let (first, last) = (
        from_front(start).max(0),
        from_front(end).max(0).min(length - 1),
    );
    if first > last || (start < 0 && end < 0 && start > end) {
        return &[];
    }
    let within = |place: i64| usize::try_from(place).expect("clamped to the value");
    &value[within(first)..=within(last)]
}
