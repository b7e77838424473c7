//! `MULTI` and its relatives. A client's commands are queued on its connection; `EXEC` makes one command of them, the
//! *whole*, which runs on the shard of its keys like any other: in one call, so in one entry, after the watched keys
//! were found unchanged. All its keys lie in one partition; if they do not, nothing is done.
//!
//! What needs no key (`PING`, `SELECT`) is answered on the connection when `EXEC` comes, and goes along as the bytes of
//! its reply. The words of a whole, behind its name, are items: a header word and what it tells the number of.
//!
//! ```text
//! header  0  kind      u8   0 reply, 1 command, 2 watched key
//!         1  command:  database u8, protocol u8 (2 or 3), words u32; then so many words
//!         1  watched:  timestamp u64, is there u8; then one word, an internal key
//!            reply:    nothing; then one word, its bytes
//! ```
//! Invariants: (1) before anything is done, all that the whole reads is in memory, so it is never run in part;
//! (2) what the log or memory would refuse is refused before anything is done.

use ashlar_partition::key::KeyBuf;
use ashlar_partition::{LogRoom, Partition, Pressure, Refusal, Stamp, Want};

use super::spread::Plan;
use super::{Command, DataCall, Derived, Run, SessionCall, growth_error, table};
use crate::resp::{OwnedWords, Version, Words};

/// Commands that a connection may queue; their bytes are bounded as those of one command.
pub const COMMANDS_MAX: usize = 65_536;
/// Name of a whole, which no client can say.
const WHOLE_NAME: &str = "\0exec";
const REPLY: u8 = 0;
const COMMAND: u8 = 1;
const WATCHED: u8 = 2;

/// What the commands of this family have in common.
const STEP: Command = Command {
    name: "multi",
    arity: 1,
    flags: &["noscript", "loading", "stale", "fast", "allow_busy"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "transactions",
    summary: "Begins to queue commands, which EXEC runs all at once.",
    since: "1.2.0",
    syntax: "",
    run: Run::Session(multi),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const TRANSACTION: &[Command] = &[
    STEP,
    Command {
        name: "exec",
        flags: &["noscript", "loading", "stale", "skip_slowlog"],
        summary: "Runs the queued commands at once, unless a watched key has changed; their keys must lie in one partition.",
        run: Run::Exec,
        ..STEP
    },
    Command {
        name: "discard",
        summary: "Forgets the queued commands and the watched keys.",
        since: "2.0.0",
        run: Run::Session(discard),
        ..STEP
    },
    Command {
        name: "watch",
        arity: -2,
        first_key: 1,
        last_key: -1,
        key_step: 1,
        summary: "Has the next EXEC do nothing when one of the keys changes before.",
        since: "2.2.0",
        syntax: "key [key ...]",
        run: Run::Spread(watch),
        ..STEP
    },
    Command {
        name: "unwatch",
        summary: "Forgets the watched keys.",
        since: "2.2.0",
        run: Run::Session(unwatch),
        ..STEP
    },
];

/// The row of a whole, but for its place: it is counted as `EXEC`.
pub const WHOLE: Command = Command {
    name: WHOLE_NAME,
    arity: -1,
    flags: &["write"],
    run: Run::Data(run),
    ..STEP
};

/// Commands that wait for `EXEC`.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// The commands.
    pub commands: Vec<(&'static Command, OwnedWords)>,
    /// Their bytes.
    pub bytes: usize,
    /// Set when one could not be queued: `EXEC` does nothing.
    pub is_broken: bool,
    /// What was found of the watched keys.
    pub looked: Looked,
}

/// What was found of watched keys, before `EXEC` runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Looked {
    /// They were not looked at.
    #[default]
    No,
    /// All were as they had been.
    Unchanged,
    /// One was not.
    Changed,
}

/// A key that is watched, an internal one, as it was.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The key.
    pub key: Vec<u8>,
    /// Its state.
    pub stamp: Stamp,
}

fn multi(call: &mut SessionCall<'_>) {
    if call.session.queue.is_some() {
        return call.reply().error(b"ERR MULTI calls can not be nested");
    }
    call.session.queue = Some(Queue::default());
    call.reply().ok();
}

fn discard(call: &mut SessionCall<'_>) {
    if call.session.queue.take().is_none() {
        return call.reply().error(b"ERR DISCARD without MULTI");
    }
    call.session.watched.clear();
    call.reply().ok();
}

fn unwatch(call: &mut SessionCall<'_>) {
    call.session.watched.clear();
    call.reply().ok();
}

fn watch(call: &mut SessionCall<'_>) -> Option<Plan> {
    if call.session.queue.is_some() {
        call.reply().error(b"ERR WATCH inside MULTI is not allowed");
        return None;
    }
    let database = call.session.database;
    let keys = call.words.tail(1).iter();
    let keys = keys.map(|key| [&[database], key].concat()).collect();
    Some(Plan::Watch(keys))
}

/// The words of a whole while they are put together.
#[derive(Debug, Default)]
pub struct Draft {
    words: Vec<Vec<u8>>,
}

impl Draft {
    /// Begins one that does nothing unless keys are as they were.
    #[must_use]
    pub fn new(watched: &[Watched]) -> Self {
        let mut words = vec![WHOLE_NAME.as_bytes().to_vec()];
        for Watched { key, stamp } in watched {
            let mut header = vec![WATCHED];
            header.extend_from_slice(&stamp.timestamp.to_le_bytes());
            header.push(u8::from(stamp.is_there));
            words.extend([header, key.clone()]);
        }
        Self { words }
    }

    /// Adds the reply of a command that was run on the connection.
    pub fn reply(&mut self, bytes: Vec<u8>) {
        self.words.extend([vec![REPLY], bytes]);
    }

    /// Adds a command.
    ///
    /// # Panics
    /// With 4 Gi words: the limits of commands are far below.
    pub fn command(&mut self, words: Words<'_>, (database, version): (u8, Version)) {
        let protocol = match version {
            Version::Resp2 => 2,
            Version::Resp3 => 3,
        };
        let mut header = vec![COMMAND, database, protocol];
        let count = u32::try_from(words.len()).expect("the words of a command are limited");
        header.extend_from_slice(&count.to_le_bytes());
        self.words.push(header);
        self.words.extend(words.iter().map(<[u8]>::to_vec));
    }

    /// Ends it.
    #[must_use]
    pub fn finish(self) -> OwnedWords {
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        OwnedWords::of(&words)
    }
}

/// One item of a whole.
enum Item<'a> {
    Reply(&'a [u8]),
    Command {
        command: &'static Command,
        words: Words<'a>,
        database: u8,
        version: Version,
    },
    Watched(&'a [u8], Stamp),
}

/// Walks the items of a whole; ends with an error where they are none.
struct Items<'a> {
    words: Words<'a>,
}

struct Malformed;

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.words.get(0)?;
        let item = item(header, self.words.tail(1));
        let taken = item
            .as_ref()
            .map_or(self.words.len(), |(_, words)| 1 + words);
        self.words = self.words.tail(taken);
        Some(item.map(|(item, _)| item).ok_or(Malformed))
    }
}

/// Reads an item; returns it and how many words it takes behind its header.
fn item<'a>(header: &[u8], words: Words<'a>) -> Option<(Item<'a>, usize)> {
    match header {
        [REPLY] => Some((Item::Reply(words.get(0)?), 1)),
        [COMMAND, database, protocol, count @ ..] => {
            let count = u32::from_le_bytes(*count.first_chunk()?) as usize;
            let words = words.head(count)?;
            let command = table::resolve(words.get(0)?, words.get(1))?;
            let version = if *protocol == 3 {
                Version::Resp3
            } else {
                Version::Resp2
            };
            let item = Item::Command {
                command,
                words,
                database: *database,
                version,
            };
            command.takes(count).then_some((item, count))
        }
        [WATCHED, stamp @ ..] => {
            let timestamp = u64::from_le_bytes(*stamp.first_chunk()?);
            let is_there = stamp.get(8) == Some(&1);
            Some((
                Item::Watched(
                    words.get(0)?,
                    Stamp {
                        timestamp,
                        is_there,
                    },
                ),
                1,
            ))
        }
        _ => None,
    }
}

fn items(words: Words<'_>) -> Items<'_> {
    Items {
        words: words.tail(1),
    }
}

/// Returns what a whole wants in memory before it begins.
#[must_use]
pub fn wants(partition: &Partition, words: Words<'_>, buffer: &mut KeyBuf) -> Vec<Want> {
    let mut wants = Vec::new();
    for item in items(words).flatten() {
        match item {
            Item::Reply(_) => {}
            Item::Watched(key, _) => wants.extend(partition.probe(key)),
            Item::Command {
                command,
                words,
                database,
                ..
            } => {
                // These two name a key of another database.
                let others = match command.name {
                    "copy" | "move" => 0..ashlar_partition::key::DATABASES,
                    _ => database..database + 1,
                };
                for database in others {
                    for place in command.key_places(words) {
                        let key = buffer.set(database, &words[place]);
                        if partition.range().contains(key) {
                            wants.extend(partition.probe(key));
                        }
                    }
                }
            }
        }
    }
    wants
}

/// What became of the watched keys, and what the commands do.
struct Look {
    commands: usize,
    replies: usize,
    has_changed: bool,
    writes: bool,
    grows: bool,
}

fn look(call: &mut DataCall<'_>, words: Words<'_>) -> Result<Look, Malformed> {
    let mut look = Look {
        commands: 0,
        replies: 0,
        has_changed: false,
        writes: false,
        grows: false,
    };
    for item in items(words) {
        match item? {
            Item::Reply(_) => look.replies += 1,
            Item::Command { command, .. } => {
                look.commands += 1;
                look.writes |= command.writes();
                look.grows |= command.flags.contains(&"denyoom");
            }
            Item::Watched(key, before) => {
                let (now, wait) = call
                    .partition
                    .stamp(key, call.now_ms)
                    .map_err(|_| Malformed)?;
                call.wait = call.wait.max(wait);
                look.has_changed |= !before.holds(now);
            }
        }
    }
    Ok(look)
}

/// Runs a whole.
fn run(call: &mut DataCall<'_>) {
    let words = call.words;
    let Ok(seen) = look(call, words) else {
        return call
            .reply()
            .error(b"ERR the transaction could not be read; nothing was done");
    };
    if seen.has_changed {
        return call.reply().null_array();
    }
    if let Some(reason) = refusal(call, &seen) {
        let error = format!("EXECABORT Transaction discarded because of: {reason}");
        return call.reply().error(error.as_bytes());
    }
    call.reply().array(seen.commands + seen.replies);
    let (own_database, own_version) = (call.database, call.version);
    for item in items(words).flatten() {
        match item {
            Item::Watched(..) => {}
            Item::Reply(bytes) => call.out.extend_from_slice(bytes),
            Item::Command {
                command,
                words,
                database,
                version,
            } => {
                (call.words, call.database, call.version) = (words, database, version);
                if let Run::Data(run) = command.run {
                    call.run(run);
                }
            }
        }
    }
    (call.words, call.database, call.version) = (words, own_database, own_version);
}

/// Returns why commands would be refused, if any would: then none is run.
fn refusal(call: &DataCall<'_>, seen: &Look) -> Option<String> {
    let admission = call.partition.admission;
    if seen.writes && admission.log != LogRoom::Open {
        return Some(growth_error(None));
    }
    let is_full = seen.grows && admission.pressure == Pressure::Full;
    is_full.then(|| super::refusal_text(Refusal::Busy))
}
