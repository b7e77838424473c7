//! What a key's value is made of: `OBJECT` and `MEMORY USAGE`. How values are kept is not how Redis keeps them; what it
//! would call most of them is told.

use std::ops::ControlFlow;

use ashlar_partition::collection::{ELEMENT, Family};
use ashlar_partition::{Order, Refusal};

use super::collection::ALL;
use super::subcommand::unknown;
use super::{Command, DataCall, Derived, Run, arity_error, syntax_error};
use crate::number::parse_i64;
use crate::resp::Words;

/// Longest value that Redis keeps together with its object, in bytes.
const EMBEDDED_BYTES_MAX: usize = 44;
/// Memory of a version beside key and value: its record, its place in the index and in the order, about.
const VERSION_BYTES: usize = 48;

/// Elements up to which Redis keeps most collections in one piece.
const COMPACT_MAX: u64 = 128;
/// Bytes of an element's key beside its sub-key.
const ELEMENT_KEY_BYTES: usize = 10;
/// Elements that `MEMORY USAGE` looks at unless it is told.
const SAMPLES_DEFAULT: u64 = 5;

const NO_FREQUENCY: &[u8] = b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
    Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

/// What the commands of this family have in common.
const READ: Command = Command {
    name: "object",
    arity: -2,
    flags: &["readonly"],
    first_key: 2,
    last_key: 2,
    key_step: 1,
    group: "generic",
    summary: "Says how a value is kept.",
    since: "2.2.3",
    syntax: "<ENCODING | FREQ | IDLETIME | REFCOUNT | HELP> [key]",
    run: Run::Data(object),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const OBJECT: &[Command] = &[
    READ,
    // A part of `MEMORY` that runs where the key is; the rest of it needs none.
    Command {
        name: "memory|usage",
        arity: -3,
        group: "server",
        summary: "Estimates the bytes of memory that a key and its value take.",
        since: "4.0.0",
        syntax: "key [SAMPLES count]",
        run: Run::Data(memory_usage),
        ..READ
    },
];

const HELP: [&str; 13] = [
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>; it is not counted here.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>: always 0, it is not counted here.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>: always 1.",
    "HELP",
    "    Print this help.",
];

/// What may be asked of a key.
const ASKED: [&str; 4] = ["encoding", "freq", "idletime", "refcount"];

/// Checks the second word, and how many there are.
///
/// # Errors
/// The line to answer.
pub(super) fn check(words: Words<'_>) -> Result<(), String> {
    let name = words.get(1).unwrap_or_default().to_ascii_lowercase();
    let asked = ASKED.iter().find(|asked| asked.as_bytes() == name);
    match (asked, words.len()) {
        (Some(_), 3) => Ok(()),
        (Some(asked), _) => Err(arity_error(&format!("object|{asked}"))),
        (None, 2) if name == b"help" => Ok(()),
        (None, _) if name == b"help" => Err(arity_error("object|help")),
        (None, _) => Err(unknown(words.get(1).unwrap_or_default(), "object")),
    }
}

fn object(call: &mut DataCall<'_>) {
    if let Err(error) = check(call.words) {
        return call.reply().error(error.as_bytes());
    }
    if call.words.len() == 2 {
        return help(call);
    }
    // Who looks at a key does not miss it.
    call.is_read = false;
    let key = call.word(2);
    let encoding = match call.kind_of(key) {
        None => return call.reply().null(),
        Some((None, _)) => call.look(key).as_deref().map_or(&b""[..], encoding),
        Some((Some(family), _)) => {
            let opened = call.open(key, family).ok().flatten();
            encoding_of(family, opened.map_or(0, |opened| opened.count()))
        }
    };
    let asked = call.word(1).to_ascii_lowercase();
    let mut reply = call.reply();
    match asked.as_slice() {
        b"encoding" => reply.bulk(encoding),
        b"freq" => reply.error(NO_FREQUENCY),
        b"idletime" => reply.integer(0),
        _ => reply.integer(1),
    }
}

/// Returns what Redis calls the way in which it keeps such a value when it is set.
fn encoding(value: &[u8]) -> &'static [u8] {
    if parse_i64(value).is_some() {
        b"int"
    } else if value.len() <= EMBEDDED_BYTES_MAX {
        b"embstr"
    } else {
        b"raw"
    }
}

/// Returns what Redis calls the way in which it keeps most collections of so many elements.
fn encoding_of(family: Family, count: u64) -> &'static [u8] {
    match family {
        _ if count <= COMPACT_MAX => b"listpack",
        Family::Hash | Family::Set => b"hashtable",
        Family::SortedSet => b"skiplist",
        Family::List => b"quicklist",
    }
}

fn help(call: &mut DataCall<'_>) {
    let mut reply = call.reply();
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line.as_bytes()));
}

fn memory_usage(call: &mut DataCall<'_>) {
    let options = call.words.tail(3);
    let is_known = match options.len() {
        0 => true,
        2 => {
            options[0].eq_ignore_ascii_case(b"samples")
                && parse_i64(&options[1]).is_some_and(|n| n >= 0)
        }
        _ => false,
    };
    if !is_known {
        return syntax_error(&mut call.reply());
    }
    call.is_read = false;
    let samples = match options.get(1).and_then(parse_i64) {
        None => SAMPLES_DEFAULT,
        Some(0) => u64::MAX,
        Some(samples) => samples.unsigned_abs(),
    };
    let key = call.word(2);
    call.attempt(|call| {
        let content_bytes = match call.kind_of(key) {
            None => {
                call.reply().null();
                return Ok(());
            }
            Some((None, _)) => call.look(key).map_or(0, |value| value.len() as u64),
            Some((Some(family), _)) => elements_bytes(call, (key, family), samples)?,
        };
        let bytes = (key.len() + VERSION_BYTES) as u64 + content_bytes;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        call.reply().integer(bytes);
        Ok(())
    });
}

/// Estimates the bytes of a collection's elements from the first ones.
fn elements_bytes(
    call: &mut DataCall<'_>,
    (key, family): (&[u8], Family),
    samples: u64,
) -> Result<u64, Refusal> {
    let Some(opened) = call.open(key, family)? else {
        return Ok(0);
    };
    let (mut seen, mut bytes) = (0, 0);
    call.walk(
        &opened,
        (ELEMENT, ALL),
        Order::Ascending,
        |sub_key, value| {
            seen += 1;
            bytes += (sub_key.len() + value.len() + ELEMENT_KEY_BYTES + VERSION_BYTES) as u64;
            match seen < samples {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        },
    )?;
    Ok(opened.count() * bytes / seen.max(1))
}
