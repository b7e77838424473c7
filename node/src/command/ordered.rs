//! Commands of our own on ordered keys and their past, all with the prefix `KV.`: `KV.GET`,
//! `KV.SCAN`, `KV.DELRANGE`, `KV.TIMESTAMP`.
//!
//! A timestamp is one of the node's hybrid clock, as a decimal integer. What a reader saw as of one
//! does not change any more: later writes have later timestamps.

use std::ops::Bound;
use std::sync::atomic::Ordering;

use ashlar_consensus::Timestamp;
use ashlar_partition::{Held, Order, Part, Refusal, Scan as Walk};

use super::spread::{Plan, Range, last_of};
use super::{Command, DataCall, Derived, Run, SessionCall, not_an_integer, refuse, syntax_error};
use crate::number::parse_i64;
use crate::resp::encode::Encoder;

/// Keys that `KV.SCAN` answers without `LIMIT`, and at most.
const LIMIT_DEFAULT: usize = 1000;
const LIMIT_MAX: usize = 100_000;
/// Keys and values of one reply, in bytes, but for one value that is larger by itself.
const REPLY_BYTES_MAX: usize = 4 << 20;

const OURS: Command = Command {
    name: "",
    arity: 2,
    flags: &["readonly"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "generic",
    summary: "",
    since: "7.2.0",
    syntax: "key",
    run: Run::Data(get),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const ORDERED: &[Command] = &[
    Command {
        name: "kv.get",
        arity: -2,
        flags: &["readonly", "fast", "no_multi"],
        summary: "Returns the value of a key, now or as of a timestamp within the history window.",
        syntax: "key [AT timestamp]",
        ..OURS
    },
    Command {
        name: "kv.scan",
        arity: -3,
        first_key: 1,
        last_key: 2,
        summary: "Returns keys and values from start up to end (not included; - and + are the ends) in order, and the key to go on with.",
        syntax: "start end [LIMIT count] [REV] [KEYSONLY] [AT timestamp]",
        run: Run::Spread(scan),
        ..OURS
    },
    Command {
        name: "kv.delrange",
        arity: 3,
        flags: &["write"],
        first_key: 1,
        last_key: 2,
        summary: "Deletes all keys from start up to end (not included; - and + are the ends), whatever their number.",
        syntax: "start end",
        run: Run::Spread(delete_range),
        ..OURS
    },
    Command {
        name: "kv.timestamp",
        arity: 1,
        flags: &["readonly", "fast"],
        first_key: 0,
        last_key: 0,
        key_step: 0,
        summary: "Returns a timestamp that everything acknowledged so far is at or before.",
        syntax: "",
        run: Run::Spread(timestamp),
        ..OURS
    },
];

fn get(call: &mut DataCall<'_>) {
    let at = match call.words.len() {
        2 => None,
        4 if call.word(2).eq_ignore_ascii_case(b"at") => Some(call.word(3)),
        _ => return syntax_error(&mut call.reply()),
    };
    let Some(at) = at else {
        let found = call.ask(
            call.word(1),
            &ashlar_partition::Request::Get,
            |response, encoder| {
                let found = matches!(response, ashlar_partition::Response::Value(..));
                super::respond(response, encoder);
                found
            },
        );
        return call.count_read(found);
    };
    let latest_us = call.now_us.max(call.clock.last().micros());
    let at = match parse_at(at, latest_us) {
        Ok(at) => at,
        Err(refusal) => return refuse(&mut call.reply(), refusal),
    };
    if let Err(refusal) = get_at(call, at) {
        refuse(&mut call.reply(), refusal);
    }
}

fn get_at(call: &mut DataCall<'_>, at: Timestamp) -> Result<(), Refusal> {
    let key = call
        .key
        .set(call.database, call.words.get(1).unwrap_or_default());
    // Later writes come after it, so that what is read stays true.
    call.clock.observe(at);
    let (clock, now_us) = (&mut *call.clock, call.now_us);
    let mut encoder = Encoder::new(call.out, call.version);
    let found = call
        .partition
        .read_at(key, at, &mut Held::default(), |value| {
            encoder.optional_bulk(value);
            value.is_some()
        })?;
    let promised = call.partition.promise(at, || clock.take(now_us));
    call.wait = call.wait.max(promised);
    call.count_read(found);
    Ok(())
}

/// Reads a timestamp, which must not lie in the future: nobody knows yet what will be.
fn parse_at(word: &[u8], now_us: u64) -> Result<Timestamp, Refusal> {
    let number = parse_i64(word).and_then(|number| u64::try_from(number).ok());
    let at = Timestamp(number.ok_or(Refusal::NotAnInteger)?);
    if at.micros() > now_us {
        return Err(Refusal::InFuture);
    }
    Ok(at)
}

/// Returns the internal key that a word bounds: `-` and `+` are the ends of the database.
fn bound(word: &[u8], database: u8) -> Vec<u8> {
    match word {
        b"-" => vec![database],
        b"+" => vec![database + 1],
        key => [&[database], key].concat(),
    }
}

fn scan(call: &mut SessionCall<'_>) -> Option<Plan> {
    let word = |place: usize| call.words.get(place).unwrap_or_default();
    let database = call.session.database;
    let mut walk = Walk {
        keys: (
            Bound::Included(bound(word(1), database)),
            Bound::Excluded(bound(word(2), database)),
        ),
        order: Order::Ascending,
        part: Part::Value,
        at: None,
        keys_max: LIMIT_DEFAULT,
        bytes_max: REPLY_BYTES_MAX,
    };
    let given = call.shared.stats.shards().iter();
    let given = given.map(|shard| Timestamp(shard.last_timestamp.load(Ordering::Acquire)).micros());
    let latest_us = given.fold(call.now_us, u64::max);
    let mut place = 3;
    while place < call.words.len() {
        let option = word(place).to_ascii_lowercase();
        let argument = call.words.get(place + 1);
        place += 1;
        match (option.as_slice(), argument) {
            (b"rev", _) => walk.order = Order::Descending,
            (b"keysonly", _) => walk.part = Part::Key,
            (b"limit", Some(limit)) => {
                place += 1;
                let limit = parse_i64(limit).and_then(|limit| usize::try_from(limit).ok());
                let Some(limit) = limit.filter(|limit| *limit > 0) else {
                    not_an_integer(&mut call.reply());
                    return None;
                };
                walk.keys_max = limit.min(LIMIT_MAX);
            }
            (b"at", Some(at)) => {
                place += 1;
                match parse_at(at, latest_us) {
                    Ok(at) => walk.at = Some(at),
                    Err(refusal) => {
                        refuse(&mut call.reply(), refusal);
                        return None;
                    }
                }
            }
            _ => {
                syntax_error(&mut call.reply());
                return None;
            }
        }
    }
    let part = walk.part;
    Some(Plan::Walk(Range { walk, part }))
}

fn delete_range(call: &mut SessionCall<'_>) -> Option<Plan> {
    let database = call.session.database;
    let word = |place: usize| call.words.get(place).unwrap_or_default();
    let (start, end) = (bound(word(1), database), bound(word(2), database));
    if start >= end {
        call.reply().ok();
        return None;
    }
    Some(Plan::DeleteRange { start, end })
}

/// A lone node knows what its shards have given, once each has said so. One that is still reading its log may have
/// given more than the wall says now. In a cluster the leaders are asked: the clock of another node may be behind
/// theirs.
fn timestamp(call: &mut SessionCall<'_>) -> Option<Plan> {
    let shards = call.shared.stats.shards().iter();
    let given = shards.map(|shard| shard.last_timestamp.load(Ordering::Acquire));
    let least = given.clone().min().unwrap_or(0);
    if least == 0 || call.shared.cluster.look().is_some() {
        return Some(Plan::Timestamp);
    }
    // The last one of this microsecond; or what a shard has given already, when its clock runs
    // ahead of the wall.
    let at = given.fold(last_of(call.now_us).0, u64::max);
    call.reply().integer(i64::try_from(at).unwrap_or(i64::MAX));
    None
}
