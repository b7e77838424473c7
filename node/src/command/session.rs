//! `SESSION`: binds a connection to a session, so that writes which are sent again are done once. What is
//! remembered of them, and for how long, is the partitions' matter.

use ashlar_partition::session::ID_BYTES;

use super::{Bound, Command, Derived, Run, SessionCall, syntax_error};
use crate::number::parse_i64;

/// The commands of this family.
pub const SESSION: &[Command] = &[Command {
    name: "session",
    arity: -1,
    flags: &["noscript", "loading", "stale", "fast", "no_multi"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "connection",
    summary: "Binds the connection to a session: each of its writes has the next sequence, and one that is sent again with the same sequence is answered again and not done again.",
    since: "7.2.4",
    syntax: "[NEW | OFF | SEQ sequence | id [SEQ sequence]]",
    run: Run::Session(session),
    derived: Derived::LATER,
    is_blind: false,
}];

/// What of the run id of a node is part of the ids that it gives.
const RUN_ID_BYTES: usize = 32;

fn session(call: &mut SessionCall<'_>) {
    let words = call.words;
    let word = words.get(1).unwrap_or_default();
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    match words.len() {
        1 => tell(call),
        2 if is(b"new") => make(call),
        2 if is(b"off") => {
            call.session.bound = None;
            call.reply().ok();
        }
        3 if is(b"seq") => go_on(call, words.get(2).unwrap_or_default()),
        2 => bind(call, word, b"1"),
        4 if words[2].eq_ignore_ascii_case(b"seq") => {
            bind(call, word, words.get(3).unwrap_or_default());
        }
        _ => syntax_error(&mut call.reply()),
    }
}

/// Answers id and next sequence, null when there is no session.
fn tell(call: &mut SessionCall<'_>) {
    let Some(bound) = call.session.bound.clone() else {
        return call.reply().null();
    };
    let mut reply = call.reply();
    reply.array(2);
    reply.bulk(&bound.id);
    reply.integer(i64::try_from(bound.next).unwrap_or(i64::MAX));
}

/// Makes an id that nobody else has: no two lives of nodes have the same run id.
fn make(call: &mut SessionCall<'_>) {
    call.session.ids += 1;
    let run_id = &call.shared.run_id;
    let life = run_id.get(..RUN_ID_BYTES).unwrap_or(run_id);
    let id = format!("{life}-{:x}-{:x}", call.session.id, call.session.ids).into_bytes();
    call.reply().bulk(&id);
    call.session.bound = Some(Bound { id, next: 1 });
}

fn bind(call: &mut SessionCall<'_>, id: &[u8], sequence: &[u8]) {
    if !ID_BYTES.contains(&id.len()) {
        let text = format!(
            "ERR the id of a session has {} to {} bytes, this one has {}",
            ID_BYTES.start(),
            ID_BYTES.end(),
            id.len()
        );
        return call.reply().error(text.as_bytes());
    }
    let Some(next) = parse_sequence(sequence) else {
        return refuse_sequence(call);
    };
    call.session.bound = Some(Bound {
        id: id.to_vec(),
        next,
    });
    call.reply().ok();
}

fn go_on(call: &mut SessionCall<'_>, sequence: &[u8]) {
    let Some(next) = parse_sequence(sequence) else {
        return refuse_sequence(call);
    };
    match &mut call.session.bound {
        Some(bound) => {
            bound.next = next;
            call.reply().ok();
        }
        None => call
            .reply()
            .error(b"ERR the connection has no session: SESSION NEW or SESSION id begins one"),
    }
}

fn parse_sequence(word: &[u8]) -> Option<u64> {
    let number = parse_i64(word)?;
    u64::try_from(number).ok().filter(|number| *number > 0)
}

fn refuse_sequence(call: &mut SessionCall<'_>) {
    call.reply()
        .error(b"ERR the sequence of a write is an integer from 1 to 9223372036854775807");
}
