//! What commands answer that cannot be done, in Redis's words where Redis has them, and how most responses of a
//! partition look.

use std::io::ErrorKind;

use ashlar_io::wal::GrowthFailure;
use ashlar_partition::key::USER_KEY_BYTES_MAX;
use ashlar_partition::{Refusal, Response};

use super::{Command, left_out};
use crate::resp::Words;
use crate::resp::encode::Encoder;

/// Writes the error of a refusal, in Redis's words where Redis has them.
pub fn refuse(encoder: &mut Encoder<'_>, refusal: Refusal) {
    encoder.error(refusal_text(refusal).as_bytes());
}

/// Returns that error.
#[must_use]
pub fn refusal_text(refusal: Refusal) -> String {
    let text = match refusal {
        Refusal::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
        Refusal::NotAnInteger => "ERR value is not an integer or out of range",
        Refusal::Overflow => "ERR increment or decrement would overflow",
        Refusal::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        Refusal::TooMuch => {
            "ERR more than 64 MiB of elements, the most that one command takes: go in parts, by SCAN, RANGE or LIMIT"
        }
        Refusal::TooWide => "ERR a field or member is longer than 65500 bytes",
        Refusal::Busy => {
            "BUSY writes come faster than the disk takes them in; nothing was written, try again"
        }
        Refusal::TooOld => {
            "TOOOLD the timestamp lies before the history that is kept (partition.history_ms)"
        }
        Refusal::InFuture => "ERR the timestamp lies in the future",
        Refusal::NotInMemory => "IOERR what is needed was not read",
        Refusal::Damaged(partition) => {
            return format!(
                "DAMAGED a file of partition {partition} is damaged: it is not served; the log of the node names the file"
            );
        }
        Refusal::DiskFull => return growth_error(None),
    };
    text.to_owned()
}

/// Writes the error of a write that the log has no room for; `failure` is what kept the log from
/// growing, a full disk when it is not known.
pub fn refuse_growth(encoder: &mut Encoder<'_>, failure: Option<&GrowthFailure>) {
    encoder.error(growth_error(failure).as_bytes());
}

/// Returns that error.
#[must_use]
pub fn growth_error(failure: Option<&GrowthFailure>) -> String {
    let other = failure.filter(|failure| {
        !matches!(
            failure.error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    });
    match other {
        None => "DISKFULL the disk is full: free space in the data directory; reads and deletions go on, and writes again once there is room".to_owned(),
        Some(GrowthFailure { path, error }) => format!(
            "IOERR the log cannot grow: {error}, {}; reads go on, and writes again once a segment can be made",
            path.display()
        ),
    }
}

/// Writes the error of a command that is not in the table.
pub fn unknown_command(encoder: &mut Encoder<'_>, words: Words<'_>) {
    let name = words.get(0).unwrap_or_default();
    match left_out::reason(name) {
        None => encoder.unknown_command(words),
        Some(reason) => {
            let name = String::from_utf8_lossy(name);
            encoder.error(format!("ERR unknown command '{name}': {reason}").as_bytes());
        }
    }
}

/// Writes the error of a command with the wrong number of words.
pub fn wrong_arity(encoder: &mut Encoder<'_>, name: &str) {
    encoder.error(arity_error(name).as_bytes());
}

/// Returns that error.
#[must_use]
pub fn arity_error(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// Writes Redis's error for words that a command does not take.
pub fn syntax_error(encoder: &mut Encoder<'_>) {
    encoder.error(b"ERR syntax error");
}

/// Error of a key that is longer than [`USER_KEY_BYTES_MAX`].
pub const KEY_TOO_LONG: &str = "ERR key is longer than 65536 bytes";
const _: () = assert!(USER_KEY_BYTES_MAX == 65_536, "the error names the limit");

/// Checks the keys among the words of a command.
///
/// # Errors
/// [`KEY_TOO_LONG`]: one of them is longer than the node keeps; nothing was done.
pub fn check_keys(command: &Command, words: Words<'_>) -> Result<(), &'static str> {
    let mut places = command.key_places(words);
    match places.any(|place| words[place].len() > USER_KEY_BYTES_MAX) {
        true => Err(KEY_TOO_LONG),
        false => Ok(()),
    }
}

/// Writes a response as most commands do: nothing there is null, done is OK, values and numbers are
/// themselves.
pub fn respond(response: Response<'_>, encoder: &mut Encoder<'_>) {
    match response {
        Response::Missing => encoder.null(),
        Response::Done => encoder.ok(),
        Response::Value(value, _) => encoder.bulk(&value),
        Response::There(..) => encoder.ok(),
        Response::Integer(number) => encoder.integer(number),
        Response::Refused(refusal) => refuse(encoder, refusal),
    }
}

/// Writes the error of a word that had to be an integer.
pub fn not_an_integer(encoder: &mut Encoder<'_>) {
    refuse(encoder, Refusal::NotAnInteger);
}
