//! Commands that give a value another key: renaming, copying, moving to another database. Value and expiry go along.
//!
//! Invariant: what comes and what goes are in one entry; a command that is refused has changed nothing.

use std::ops::ControlFlow;

use ashlar_partition::collection::{BY_SCORE, ELEMENT, Root};
use ashlar_partition::key::DATABASES;
use ashlar_partition::{Order, Refusal, Rooted};

use super::change::Held;
use super::collection::{ALL, Opened};
use super::{Command, DataCall, Derived, Run, not_an_integer};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;

const SAME: &[u8] = b"ERR source and destination objects are the same";
const NO_KEY: &[u8] = b"ERR no such key";
const OUT_OF_RANGE: &str =
    "ERR value is out of range, value must between -2147483648 and 2147483647";
const APART: &[u8] = b"CROSSRANGE the keys of this command lie in different partitions";

/// What the commands of this family have in common.
const GIVE: Command = Command {
    name: "",
    arity: 3,
    flags: &["write"],
    first_key: 1,
    last_key: 2,
    key_step: 1,
    group: "generic",
    summary: "",
    since: "1.0.0",
    syntax: "key newkey",
    run: Run::Data(rename),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const COPY: &[Command] = &[
    Command {
        name: "rename",
        summary: "Gives a value another key, whatever that held.",
        ..GIVE
    },
    Command {
        name: "renamenx",
        flags: &["write", "fast"],
        summary: "Gives a value another key when that is missing.",
        run: Run::Data(renamenx),
        ..GIVE
    },
    Command {
        name: "copy",
        arity: -3,
        flags: &["write", "denyoom"],
        summary: "Copies a value to another key.",
        since: "6.2.0",
        syntax: "source destination [DB destination-db] [REPLACE]",
        run: Run::Data(copy),
        ..GIVE
    },
    Command {
        name: "move",
        flags: &["write", "fast"],
        last_key: 1,
        summary: "Moves a key to another database where it is missing.",
        syntax: "key db",
        run: Run::Data(move_key),
        ..GIVE
    },
];

/// Whether a key that is there may be overwritten.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Any,
    Missing,
}

fn rename(call: &mut DataCall<'_>) {
    match give(call, Target::Any) {
        Ok(_) => call.reply().ok(),
        Err(error) => error.show(call),
    }
}

fn renamenx(call: &mut DataCall<'_>) {
    match give(call, Target::Missing) {
        Ok(given) => call.reply().integer(i64::from(given)),
        Err(error) => error.show(call),
    }
}

/// Why nothing was given away.
enum Error {
    NoKey,
    Refused(Refusal),
}

impl Error {
    fn show(self, call: &mut DataCall<'_>) {
        match self {
            Self::NoKey => call.reply().error(NO_KEY),
            Self::Refused(refusal) => call.fail(refusal),
        }
    }
}

/// Renames; says whether it did.
fn give(call: &mut DataCall<'_>, target: Target) -> Result<bool, Error> {
    let (key, new) = (call.word(1), call.word(2));
    let content = Content::of(call, key).map_err(Error::Refused)?;
    let content = content.ok_or(Error::NoKey)?;
    if key == new {
        return Ok(target == Target::Any);
    }
    if target == Target::Missing && call.kind_of(new).is_some() {
        return Ok(false);
    }
    let database = call.database;
    let put = content.put(call, (database, new), Elements::Go);
    put.map_err(Error::Refused)?;
    call.notify(Class::New, "new", new);
    call.notify(Class::Generic, "rename_from", key);
    call.notify(Class::Generic, "rename_to", new);
    Ok(true)
}

/// What a key is.
enum Content<'a> {
    String(Held),
    Collection(Opened<'a>),
}

/// Whether the elements of a collection go with it to another key, which takes no longer for more of them, or stay.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elements {
    Go,
    AreCopied,
}

impl<'a> Content<'a> {
    /// Returns what a key of the call's database is; nothing when it is missing.
    fn of(call: &mut DataCall<'_>, key: &'a [u8]) -> Result<Option<Self>, Refusal> {
        match call.kind_of(key) {
            None => Ok(None),
            Some((None, _)) => Ok(call.held(key).map(Self::String)),
            Some((Some(family), _)) => Ok(call.open(key, family)?.map(Self::Collection)),
        }
    }

    /// Sets a key of a database to the content, whatever it was; if the elements go, the first key is gone.
    fn put(
        &self,
        call: &mut DataCall<'_>,
        (database, new): (u8, &[u8]),
        elements: Elements,
    ) -> Result<(), Refusal> {
        call.partition.admit(true)?;
        match (self, elements) {
            (Self::Collection(opened), Elements::Go) => call.move_collection(opened, database, new),
            (Self::Collection(opened), Elements::AreCopied) => {
                call.copy_collection(opened, database, new)
            }
            (Self::String(held), _) => {
                call.within(database, |call| call.overwrite(new, held))?;
                match elements {
                    Elements::Go => call.remove(call.word(1)).map(drop),
                    Elements::AreCopied => Ok(()),
                }
            }
        }
    }
}

/// Reads the number of a database.
fn database_of(word: &[u8]) -> Result<u8, &'static str> {
    let number = parse_i64(word).ok_or("ERR value is not an integer or out of range")?;
    match u8::try_from(number)
        .ok()
        .filter(|number| *number < DATABASES)
    {
        Some(database) => Ok(database),
        None if i32::try_from(number).is_ok() => Err("ERR DB index is out of range"),
        None => Err(OUT_OF_RANGE),
    }
}

/// Says whether a key of a database lies in the partition of the command.
fn is_here(call: &mut DataCall<'_>, database: u8, key: &[u8]) -> bool {
    let key = call.key.set(database, key);
    call.partition.range().contains(key)
}

fn copy_options(call: &DataCall<'_>) -> Result<(u8, Target), &'static str> {
    let (mut database, mut target) = (call.database, Target::Missing);
    let mut words = call.words.tail(3).iter();
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"replace" => target = Target::Any,
            b"db" if words.len() >= 1 => database = database_of(words.next().unwrap_or_default())?,
            _ => return Err("ERR syntax error"),
        }
    }
    Ok((database, target))
}

fn copy(call: &mut DataCall<'_>) {
    let (database, target) = match copy_options(call) {
        Ok(options) => options,
        Err(error) => return call.reply().error(error.as_bytes()),
    };
    let (key, new) = (call.word(1), call.word(2));
    if key == new && database == call.database {
        return call.reply().error(SAME);
    }
    if !is_here(call, database, new) {
        return call.reply().error(APART);
    }
    call.attempt(|call| {
        let Some(content) = Content::of(call, key)? else {
            call.reply().integer(0);
            return Ok(());
        };
        let is_taken = call.within(database, |call| call.kind_of(new).is_some());
        let copies = target == Target::Any || !is_taken;
        if copies {
            content.put(call, (database, new), Elements::AreCopied)?;
            call.notices.add(Class::New, "new", (database, new));
            call.notices.add(Class::Generic, "copy_to", (database, new));
        }
        call.reply().integer(i64::from(copies));
        Ok(())
    });
}

fn move_key(call: &mut DataCall<'_>) {
    let database = match (parse_i64(call.word(2)), database_of(call.word(2))) {
        (None, _) => return not_an_integer(&mut call.reply()),
        (_, Err(error)) => return call.reply().error(error.as_bytes()),
        (_, Ok(database)) if database == call.database => return call.reply().error(SAME),
        (_, Ok(database)) => database,
    };
    let key = call.word(1);
    if !is_here(call, database, key) {
        return call.reply().error(APART);
    }
    call.attempt(|call| {
        let content = Content::of(call, key)?;
        let is_taken = call.within(database, |call| call.kind_of(key).is_some());
        let moves = content.filter(|_| !is_taken);
        if let Some(content) = &moves {
            content.put(call, (database, key), Elements::Go)?;
            call.notices.add(Class::New, "new", (database, key));
            call.notify(Class::Generic, "move_from", key);
            call.notices.add(Class::Generic, "move_to", (database, key));
        }
        call.reply().integer(i64::from(moves.is_some()));
        Ok(())
    });
}

impl DataCall<'_> {
    /// Has a collection be under another key, whatever that was; its own key is gone.
    ///
    /// # Errors
    /// [`Refusal`]: nothing may be written now.
    pub fn move_collection(
        &mut self,
        opened: &Opened<'_>,
        database: u8,
        new: &[u8],
    ) -> Result<(), Refusal> {
        // What is overwritten is swept up; what moves is not.
        self.within(database, |call| call.remove(new))?;
        let (clock, now_us) = (&mut *self.clock, self.now_us);
        let mut timestamp = || clock.take(now_us);
        let key = self.key.set(database, new);
        self.partition.put_root(key, &opened.rooted, &mut timestamp);
        self.partition.name_head(opened.id(), key, &mut timestamp);
        let key = self.key.set(self.database, opened.key);
        let index = self.partition.delete_element(key, timestamp);
        self.wait = self.wait.max(Some(index));
        self.within(database, |call| call.note_ready(opened, new));
        Ok(())
    }

    /// Makes a collection like another one under a key, whatever that was.
    ///
    /// # Errors
    /// As [`DataCall::walk`]; or nothing may be written now.
    pub fn copy_collection(
        &mut self,
        opened: &Opened<'_>,
        database: u8,
        new: &[u8],
    ) -> Result<(), Refusal> {
        let mut elements = Vec::new();
        for part in [ELEMENT, BY_SCORE] {
            self.walk(opened, (part, ALL), Order::Ascending, |sub_key, value| {
                elements.push((part, sub_key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            })?;
        }
        let root = opened.rooted.root;
        self.within(database, |call| {
            call.remove(new)?;
            let mut copy = call.begin(new, root.family)?;
            for (part, sub_key, value) in &elements {
                call.put(&copy, (*part, sub_key), value)?;
            }
            let id = copy.id();
            copy.rooted = Rooted {
                root: Root { id, ..root },
                ..opened.rooted
            };
            call.close(&copy);
            Ok(())
        })
    }
}
