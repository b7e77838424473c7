//! Commands: Redis words in, requests to a partition out, and its responses as words again. A table
//! names each command, with what clients want to know of it, and the function that runs it; so two
//! hundred of them need no long match.
//!
//! There are three kinds, by where they run:
//! - on the connection ([`Run::Session`]): they touch no key and answer at once;
//! - on the shard that owns their keys ([`Run::Data`]): all keys lie in one partition, all changes
//!   in one entry;
//! - over all partitions ([`Run::Spread`]): asked one after another while the connection waits.

pub mod bitmap;
pub mod blocking;
pub mod change;
pub mod client;
pub mod cluster;
pub mod collection;
pub mod connection;
pub mod copy;
pub mod describe;
pub mod edit;
pub mod element_scan;
pub mod errors;
pub mod hash;
pub mod info;
pub mod integer;
mod key_places;
pub mod keys;
pub mod left_out;
pub mod list;
pub mod list_middle;
pub mod list_pop;
pub mod member;
pub mod object;
pub mod options;
pub mod ordered;
pub mod pubsub;
pub mod sample;
pub mod server;
pub mod session;
pub mod set;
pub mod set_algebra;
pub mod settings;
pub mod several;
pub mod sorted_set;
pub mod sorted_set_add;
pub mod sorted_set_algebra;
pub mod sorted_set_pop;
pub mod sorted_set_query;
pub mod sorted_set_range;
pub mod sorted_set_rank;
pub mod spread;
pub mod string;
pub mod subcommand;
pub mod support;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
pub mod transaction;

use std::fmt;

use ashlar_consensus::{Clock, Index};
use ashlar_partition::collection::Family;
use ashlar_partition::key::KeyBuf;
use ashlar_partition::{Partition, Refusal, Request, Response, Token};

pub use self::blocking::Waits;
pub use self::errors::{
    KEY_TOO_LONG, arity_error, check_keys, growth_error, not_an_integer, refusal_text, refuse,
    refuse_growth, respond, syntax_error, unknown_command, wrong_arity,
};
use crate::blocked::Ending;
use crate::pubsub::notice::{Class, Notices};
use crate::pubsub::subscriber::Subscriber;
use crate::resp::encode::Encoder;
use crate::resp::{Version, Words};
use crate::shared::Shared;

/// What a command is, as `COMMAND` tells it and as the node needs it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Name in lower case.
    pub name: &'static str,
    /// Words with the name: exactly so many, or at least so many when negative.
    pub arity: i16,
    /// Flags as `COMMAND INFO` names them.
    pub flags: &'static [&'static str],
    /// First word that is a key, 0 for none.
    pub first_key: i16,
    /// Last word that is a key; negative counts from the end.
    pub last_key: i16,
    /// Distance between keys.
    pub key_step: i16,
    /// Group as `COMMAND DOCS` names it.
    pub group: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// Version of Redis whose behaviour it has first.
    pub since: &'static str,
    /// Arguments as a person types them, for `COMMAND DOCS`.
    pub syntax: &'static str,
    /// What it does.
    pub run: Run,
    /// What the table makes of the rest; rows leave it at [`Derived::LATER`].
    pub derived: Derived,
    /// Of several keys, and what they are makes no difference: they need not be in memory.
    pub is_blind: bool,
}

/// What the table works out of a row when it is joined, at compile time.
#[derive(Clone, Copy, Debug)]
pub struct Derived {
    row: u16,
    writes: bool,
    blocks: bool,
    has_parts: bool,
    is_never_queued: bool,
    is_of_strings: bool,
    /// Word that says how many keys follow it, 0 for none: the one that the syntax calls `numkeys`.
    numkeys: u8,
    elements: Elements,
}

/// Which words of a command name elements of the collection under its first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elements {
    /// None.
    None,
    /// The last one.
    Last,
    /// Those from the one behind the key on, this far apart; 0 when it is that one alone.
    Behind(u8),
}

impl Derived {
    /// Not worked out yet.
    pub const LATER: Self = Self {
        row: u16::MAX,
        writes: false,
        blocks: false,
        has_parts: false,
        is_never_queued: false,
        is_of_strings: false,
        numkeys: 0,
        elements: Elements::None,
    };
}

impl Command {
    /// Says whether the command may change data.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.derived.writes
    }

    /// Says whether the command may wait for elements.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.derived.blocks
    }

    /// Says whether it writes values as they come: what it takes in the log follows from its words.
    #[must_use]
    pub fn is_of_strings(&self) -> bool {
        self.derived.is_of_strings
    }

    /// Says whether it is a part of a command that is several: no client names it so.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.name.contains('|')
    }

    /// Says whether the command runs at once, though others are queued for `EXEC`.
    #[must_use]
    pub fn is_never_queued(&self) -> bool {
        self.derived.is_never_queued
    }

    /// Returns the place of the command in the table.
    #[must_use]
    pub fn row(&self) -> usize {
        usize::from(self.derived.row)
    }

    /// Says whether a request with `words` words (name included) has the right number of them.
    #[must_use]
    pub fn takes(&self, words: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            words >= wanted
        } else {
            words == wanted
        }
    }
}

/// How a command runs.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// On the connection, at once.
    Session(fn(&mut SessionCall<'_>)),
    /// On the shard of its keys.
    Data(fn(&mut DataCall<'_>)),
    /// Over all partitions.
    Spread(fn(&mut SessionCall<'_>) -> Option<spread::Plan>),
    /// On the shard of the keys of all commands that were queued.
    Exec,
}

/// Which replies a connection gets, after `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Muted {
    /// All.
    #[default]
    No,
    /// None.
    Always,
    /// Not this one, and not the next one.
    AlsoNext,
    /// Not this one.
    This,
}

impl Muted {
    /// Returns what holds for the command after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::AlsoNext => Self::This,
            Self::This => Self::No,
            Self::No | Self::Always => self,
        }
    }
}

/// What a command on the shard of its keys is run with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Database of the connection.
    pub database: u8,
    /// Protocol of the reply.
    pub version: Version,
    /// Which write of a session it is, if of any.
    pub token: Option<Token<'a>>,
}

/// The session that a connection is bound to: its writes are done once, however often they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Id of the session.
    pub id: Vec<u8>,
    /// Sequence of the next write.
    pub next: u64,
}

/// What a connection has been told about itself.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Number of the connection, unique in the life of the node.
    pub id: u64,
    /// Database that keys belong to, 0 to 15.
    pub database: u8,
    /// Protocol of the replies.
    pub version: Version,
    /// Name that the client gave itself.
    pub name: Vec<u8>,
    /// Library that the client says it is.
    pub library: Vec<u8>,
    /// Version of that library.
    pub library_version: Vec<u8>,
    /// Set when the connection is to be closed after the reply.
    pub closing: bool,
    /// Set once the client has given the password, or when none was asked for.
    pub is_authenticated: bool,
    /// Which replies are not sent.
    pub muted: Muted,
    /// Connections that are to be closed: the shard and the number of each.
    pub kills: Vec<(u32, u64)>,
    /// Connections whose wait for elements is to end: the shard and the number of each, and how.
    pub unblocks: Vec<(u32, u64, Ending)>,
    /// How long the connection waits after this command, in milliseconds.
    pub delay_ms: u64,
    /// Commands that wait for `EXEC`, after `MULTI`.
    pub queue: Option<transaction::Queue>,
    /// Keys that the next `EXEC` wants unchanged.
    pub watched: Vec<transaction::Watched>,
    /// What it is subscribed to, and what is to be done about that.
    pub subscriber: Subscriber,
    /// The session that it is bound to, if any.
    pub bound: Option<Bound>,
    /// How many ids of sessions it was given.
    pub ids: u32,
}

impl Session {
    /// Returns the token of the next command, if there is a session. Of a read it says nothing but that it
    /// may be sent again, with the writes before it.
    #[must_use]
    pub fn token(&self) -> Option<Token<'_>> {
        let bound = self.bound.as_ref()?;
        Some(Token {
            session: &bound.id,
            sequence: bound.next,
        })
    }

    /// Counts a command that has been run, or refused. A transaction is one write, whatever it does.
    pub fn count(&mut self, command: &Command) {
        let counts = command.writes() || matches!(command.run, Run::Exec);
        if let Some(bound) = self.bound.as_mut().filter(|_| counts) {
            bound.next += 1;
        }
    }
}

/// A command on its connection.
#[derive(Debug)]
pub struct SessionCall<'a> {
    /// The whole command, its name first.
    pub words: Words<'a>,
    /// The connection.
    pub session: &'a mut Session,
    /// What the shards share: configuration, counters, clients.
    pub shared: &'a Shared,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Microseconds since 1970.
    pub now_us: u64,
    /// Where the reply goes.
    pub out: &'a mut Vec<u8>,
}

impl SessionCall<'_> {
    /// Returns the encoder of the reply, in the connection's protocol as it is now.
    pub fn reply(&mut self) -> Encoder<'_> {
        Encoder::new(self.out, self.session.version)
    }
}

/// Where chance comes from.
#[derive(Clone, Copy)]
pub struct Chance<'a>(pub &'a dyn Fn() -> u64);

impl fmt::Debug for Chance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}

/// A command on the shard of its keys.
#[derive(Debug)]
pub struct DataCall<'a> {
    /// The whole command, its name first.
    pub words: Words<'a>,
    /// Database of the connection.
    pub database: u8,
    /// Protocol of the reply.
    pub version: Version,
    /// The partition that all keys of the command lie in.
    pub partition: &'a mut Partition,
    /// The shard's clock.
    pub clock: &'a mut Clock,
    /// Milliseconds since 1970, the same for the whole turn.
    pub now_ms: u64,
    /// Microseconds since 1970.
    pub now_us: u64,
    /// Scratch for internal keys.
    pub key: &'a mut KeyBuf,
    /// What the shards share.
    pub shared: &'a Shared,
    /// Where chance comes from.
    pub chance: Chance<'a>,
    /// Where the reply goes.
    pub out: &'a mut Vec<u8>,
    /// Index that must be applied before the reply may leave.
    pub wait: Option<Index>,
    /// Keys that a read found.
    pub hits: u32,
    /// Keys that a read did not find.
    pub misses: u32,
    /// The log takes no writes: the shard, which knows why, writes the reply anew.
    pub log_is_full: bool,
    /// Why the command cannot be done: what it did is taken back, and this is its reply.
    pub failed: Option<Failure>,
    /// What happened to keys, for those who want to know.
    pub notices: Notices,
    /// It is a read: keys that it does not find are told of.
    pub is_read: bool,
    /// What it waits for, having found nothing; within a transaction nothing waits.
    pub waits: Option<Waits>,
    /// Keys, with their databases in front, that got elements; gathered when anybody waits for some.
    pub ready: Option<Vec<Ready>>,
}

/// A key that got elements, and what it is.
pub type Ready = (Family, Vec<u8>);

/// Why a command was taken back.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// It was refused.
    Refused(Refusal),
    /// This is what it is answered.
    Told(&'static str),
}

impl<'a> DataCall<'a> {
    /// Returns the encoder of the reply.
    pub fn reply(&mut self) -> Encoder<'_> {
        Encoder::new(self.out, self.version)
    }

    /// Returns a word of the command, empty when there are not so many: the table has checked that
    /// there are.
    #[must_use]
    pub fn word(&self, place: usize) -> &'a [u8] {
        self.words.get(place).unwrap_or_default()
    }

    /// Counts a key that was looked for to be read.
    pub fn count_read(&mut self, found: bool) {
        self.hits += u32::from(found);
        self.misses += u32::from(!found);
    }

    /// Has the command be refused, whatever it did and does.
    pub fn fail(&mut self, refusal: Refusal) {
        self.log_is_full |= refusal == Refusal::DiskFull;
        self.failed.get_or_insert(Failure::Refused(refusal));
    }

    /// Has the command be answered an error, whatever it did and does.
    pub fn fail_with(&mut self, error: &'static str) {
        self.failed.get_or_insert(Failure::Told(error));
    }

    /// Runs a command whole, or not at all.
    pub fn run(&mut self, run: fn(&mut Self)) {
        let (before, from) = (self.partition.savepoint(), self.out.len());
        let notices = self.notices.len();
        run(self);
        let Some(failure) = self.failed.take() else {
            return;
        };
        self.partition.go_back(before);
        self.notices.truncate(notices);
        // The entry that the command began may be gone: nobody waits for it.
        let last = self.partition.last_index();
        self.wait = self.wait.map(|index| index.min(last));
        self.out.truncate(from);
        match failure {
            Failure::Refused(refusal) => refuse(&mut self.reply(), refusal),
            Failure::Told(error) => self.reply().error(error.as_bytes()),
        }
    }

    /// Returns what a key is and when it expires; nothing when it is missing.
    pub fn kind_of(&mut self, key: &[u8]) -> Option<(Option<Family>, Option<u64>)> {
        self.ask(key, &Request::Look, |response, _| match response {
            Response::There(family, expire_at_ms) => Some((family, expire_at_ms)),
            _ => None,
        })
    }

    /// Asks the partition; `answer` turns the response into a reply or a value. The reply will wait
    /// for what the response waits for.
    pub fn ask<A>(
        &mut self,
        user_key: &[u8],
        request: &Request<'_>,
        answer: impl FnOnce(Response<'_>, &mut Encoder<'_>) -> A,
    ) -> A {
        let key = self.key.set(self.database, user_key);
        let (clock, now_us) = (&mut *self.clock, self.now_us);
        let mut encoder = Encoder::new(self.out, self.version);
        let log_is_full = &mut self.log_is_full;
        let mut is_missing = false;
        let (answer, wait) = self.partition.serve(
            key,
            request,
            self.now_ms,
            || clock.take(now_us),
            |response| {
                *log_is_full |= matches!(response, Response::Refused(Refusal::DiskFull));
                is_missing = matches!(response, Response::Missing);
                answer(response, &mut encoder)
            },
        );
        self.wait = self.wait.max(wait);
        if is_missing && self.is_read {
            self.notify(Class::Miss, "keymiss", user_key);
        }
        answer
    }
}
