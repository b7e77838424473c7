//! One client connection: bytes in, commands run, replies out in order.
//!
//! Commands are run as they are parsed, straight from the receive buffer; what is left of a command
//! that has not wholly arrived is carried over to the next. A command that must wait (for room in
//! the log, for the client to read its replies, for the next turn) stops the connection, not the
//! shard.
//!
//! Invariants:
//! 1. Commands of a connection run in the order in which they arrived; the next one is not begun
//!    before the last was admitted.
//! 2. What a connection holds in memory is bounded: one unfinished command, [`PENDING_BYTES`] of
//!    replies and one more, and the answers of other shards that it may await.

pub(crate) mod batch;
mod channels;
mod execute;
mod gather;
mod session;
mod transact;
mod waiting;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ashlar_io::Socket;
use ashlar_partition::{Standing, Want};

use self::batch::{BATCH_COMMANDS, End, Found};
use self::gather::NoAnswer;
use self::transact::Whole;
use crate::clients::ClientEntry;
use crate::command::spread::Plan;
use crate::command::{Command, Context, Muted, Run, Session, check_keys, table, unknown_command};
use crate::connection::Connection;
use crate::core::{AHEAD_COMMANDS, Admitted, Core, Fetched, Ran, token_bytes};
use crate::message::Once;
use crate::resp::Spans;
use crate::resp::Words;
use crate::resp::decode::{Decoded, Decoder, Limits, ProtocolError};
use crate::resp::encode::Encoder;
use crate::stats::ShardCounters;

/// Replies that have not left the node before a connection stops taking commands, in bytes.
pub const PENDING_BYTES: usize = 1 << 20;
/// Error of a command that only authenticated clients may send.
const NO_AUTH: &[u8] = b"NOAUTH Authentication required.";
/// Longest carried-over buffer that is kept when it is empty, in bytes.
const CARRY_KEPT_BYTES: usize = 64 << 10;
/// Pause of a connection whose writes are slowed down.
const SLOWER: Duration = Duration::from_micros(500);

/// How often a connection that `CLIENT PAUSE` keeps waiting looks whether that has ended.
const PAUSE_STEP: Duration = Duration::from_millis(2);

/// What has to happen before the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// The log, or another turn, must make room.
    Room,
    /// Memory fills faster than it is flushed.
    Slower,
    /// Other connections have their turn.
    Turn,
    /// The client must read its replies.
    Replies,
    /// Other shards must answer.
    Remote,
    /// `CLIENT PAUSE` must end.
    Paused,
}

/// How the parsing of received bytes ended.
#[derive(Debug)]
enum Stop {
    /// All whole commands were run.
    Hungry,
    /// The next command must wait; it has not begun.
    Pause(Pause),
    /// So must it, for blocks of this partition.
    Fetch(usize, Vec<Want>),
    /// The last command goes over all partitions; as a write of a session, perhaps.
    Spread(&'static Command, Plan, Option<Once>),
    /// The keys that `EXEC` wants unchanged must be looked at; it has not begun.
    Look,
    /// The last command waits for elements, or may: its reply comes before the next command is begun.
    Wait,
    /// The connection waits so many milliseconds, and its replies with it.
    Delay(u64),
    /// The connection ends once its replies have left.
    Close,
}

impl Stop {
    /// Says whether the command has not begun: it is found and run again.
    const fn is_before(&self) -> bool {
        matches!(self, Self::Pause(_) | Self::Fetch(..) | Self::Look)
    }
}

/// A connection being served.
struct Client {
    core: Rc<Core>,
    connection: Rc<Connection>,
    /// What others see of it.
    entry: Arc<ClientEntry>,
    session: Session,
    decoder: Decoder,
    spans: Spans,
    carry: Vec<u8>,
    /// What arrived while a command waited for elements.
    ahead: Vec<u8>,
    /// Kept in memory for the next command.
    fetched: Fetched,
    /// What the next command is answered with: what it wants could not be read.
    unreadable: Option<String>,
    /// A transaction that has not begun.
    whole: Option<Whole>,
}

/// Serves a connection until one side ends it.
pub async fn serve(core: Rc<Core>, mut socket: Socket) {
    let (now_ms, _) = core.now();
    let addr = socket
        .peer_addr()
        .map(|addr| addr.to_string())
        .unwrap_or_default();
    let config = core.config();
    let clients = &core.shared.clients;
    let Some(entry) = clients.connect(addr, core.shard, now_ms, config.client.clients_max) else {
        ShardCounters::add(&core.counters().rejected, 1);
        socket.send(b"-ERR max number of clients reached\r\n");
        return;
    };
    ShardCounters::add(&core.counters().accepted, 1);
    let id = entry.id;
    let connection = Rc::new(Connection::new(id, socket.sender(), now_ms));
    core.connections
        .borrow_mut()
        .insert(id, Rc::clone(&connection));
    let mut client = Client {
        connection: Rc::clone(&connection),
        entry,
        session: Session {
            id,
            is_authenticated: config.client.password.is_empty(),
            ..Session::default()
        },
        decoder: Decoder::new(limits(&core, config.client.password.is_empty())),
        spans: Spans::new(),
        carry: Vec::new(),
        ahead: Vec::new(),
        fetched: Fetched::default(),
        unreadable: None,
        whole: None,
        core: Rc::clone(&core),
    };
    client.run(&mut socket).await;
    core.leave_channels(&connection, &mut client.session.subscriber);
    // Replies of commands that were run still leave: the client may have closed its sending side
    // alone.
    connection.settled(0).await;
    core.connections.borrow_mut().remove(&id);
    core.shared.clients.disconnect(id);
    core.shared.monitors.remove(id);
}

fn limits(core: &Core, is_authenticated: bool) -> Limits {
    if !is_authenticated {
        return Limits::UNAUTHENTICATED;
    }
    let config = core.config();
    let bytes = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let mut limits = Limits::authenticated(bytes(config.client.value_bytes_max));
    limits.command_bytes_max = bytes(config.client.command_bytes_max);
    limits
}

impl Client {
    async fn run(&mut self, socket: &mut Socket) {
        loop {
            let Ok(chunk) = socket.receive().await else {
                return;
            };
            if chunk.is_empty() || self.core.is_stopping() {
                return;
            }
            let (now_ms, _) = self.core.now();
            self.connection.active_ms.set(now_ms);
            self.entry.note_active(now_ms);
            ShardCounters::add(&self.core.counters().in_bytes, chunk.len() as u64);
            if !self.take(&chunk, socket).await {
                return;
            }
            while !self.ahead.is_empty() {
                let ahead = std::mem::take(&mut self.ahead);
                if !self.take(&ahead, socket).await {
                    return;
                }
            }
        }
    }

    /// Runs the commands in received bytes; `false` ends the connection.
    async fn take(&mut self, chunk: &[u8], socket: &mut Socket) -> bool {
        if self.carry.is_empty() {
            let (used, go_on) = self.run_all(chunk, socket).await;
            self.carry.extend_from_slice(&chunk[used..]);
            return go_on;
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(chunk);
        let (used, go_on) = self.run_all(&carry, socket).await;
        if used == carry.len() && carry.capacity() > CARRY_KEPT_BYTES {
            carry = Vec::new();
        } else {
            carry.drain(..used);
        }
        self.carry = carry;
        go_on
    }

    /// Runs every whole command of `input`; returns the bytes used, and whether the connection goes
    /// on.
    async fn run_all(&mut self, input: &[u8], socket: &mut Socket) -> (usize, bool) {
        let mut used = 0;
        loop {
            let (more, stop) = self.run_some(&input[used..]);
            used += more;
            if let Stop::Delay(delay_ms) = stop {
                self.core
                    .reactor
                    .sleep(Duration::from_millis(delay_ms))
                    .await;
            }
            self.core.release_replies(&self.connection);
            match stop {
                Stop::Delay(_) => {}
                Stop::Look => self.look_at_watched().await,
                Stop::Hungry => return (used, true),
                Stop::Close => return (used, false),
                Stop::Wait => {
                    if !self.await_elements(socket).await {
                        return (used, false);
                    }
                }
                Stop::Spread(command, plan, once) => self.spread(command, plan, once).await,
                Stop::Pause(pause) => self.pause(pause).await,
                Stop::Fetch(partition, wants) => {
                    let ahead = self.wants_ahead(&input[used..]);
                    match self.core.fetch(partition, &wants, &ahead).await {
                        Ok(fetched) => self.fetched.add(fetched),
                        Err(error) => self.unreadable = Some(error),
                    }
                }
            }
        }
    }

    async fn pause(&self, pause: Pause) {
        match pause {
            Pause::Room => self.core.next_turn(false).await,
            Pause::Slower => self.core.reactor.sleep(SLOWER).await,
            Pause::Paused => self.core.reactor.sleep(PAUSE_STEP).await,
            Pause::Turn => self.core.next_turn(true).await,
            Pause::Remote => {
                let remote_max = self.connection.replies.borrow().remote_max();
                self.connection.settled(remote_max / 2).await;
            }
            Pause::Replies => {
                self.connection.settled(0).await;
                self.connection.sender.drained(PENDING_BYTES / 2).await;
            }
        }
    }

    /// Runs commands until one stops it; never suspends.
    fn run_some(&mut self, input: &[u8]) -> (usize, Stop) {
        let (mut at, mut commands) = (0, 0);
        self.core.begin_run();
        let mut batch = self.core.batch.take();
        let stop = loop {
            // What is behind an `AUTH` is decoded once its answer is known.
            let max = if self.session.is_authenticated {
                BATCH_COMMANDS
            } else {
                1
            };
            let end = batch.find((&mut self.decoder, &mut self.spans), &input[at..], max);
            if batch.names_several() {
                let commands = batch.commands(&input[at..]);
                self.core.warm(self.session.database, commands);
            }
            let mut each = batch.found().iter();
            let stop = each.find_map(|found| {
                let stop = self.run_found(found, &input[at..]);
                let begun = !stop.as_ref().is_some_and(Stop::is_before);
                at += if begun { found.bytes } else { 0 };
                commands += u64::from(stop.is_none());
                stop
            });
            if let Some(stop) = stop {
                // What comes behind is found again.
                self.decoder.reset();
                break stop;
            }
            match end {
                End::Full => {}
                End::Partial => break Stop::Hungry,
                End::Wrong(error) => {
                    self.refuse_bytes(error);
                    at = input.len();
                    break Stop::Close;
                }
            }
        };
        self.core.batch.replace(batch);
        ShardCounters::add(&self.core.counters().commands, commands);
        (at, stop)
    }

    fn run_found(&mut self, found: &Found, input: &[u8]) -> Option<Stop> {
        let words = found.words(input);
        if words.is_empty() {
            return None;
        }
        let mark = self.connection.replies.borrow().mark();
        let stop = self.execute(found.command, words, found.bytes);
        match stop {
            // Its reply comes later.
            Some(Stop::Spread(..)) => {}
            Some(stop) if stop.is_before() => return Some(stop),
            _ if self.session.muted != Muted::No => self.mute(mark),
            _ => {}
        }
        stop
    }

    fn refuse_bytes(&self, error: ProtocolError) {
        let mut replies = self.connection.replies.borrow_mut();
        let out = replies.out();
        let from = out.len();
        error.write_reply(out);
        self.core.counters().note_error(&out[from..]);
    }

    /// Returns what the commands at the front of `input` will want, as far as they have arrived:
    /// a pipeline of reads is read from the disk together.
    fn wants_ahead(&self, mut input: &[u8]) -> Vec<Want> {
        let mut decoder = Decoder::new(limits(&self.core, true));
        let (mut spans, mut wants) = (Spans::new(), Vec::new());
        for _ in 0..AHEAD_COMMANDS {
            let Ok(Decoded::Command { consumed }) = decoder.decode(input, &mut spans) else {
                break;
            };
            let words = spans.words(&input[..consumed]);
            if let Some(command) = table::resolve(&words[0], words.get(1))
                && matches!(command.run, Run::Data(_))
                && command.takes(words.len())
                && check_keys(command, words).is_ok()
                && let Some(partition) = self.partition_of(command, words)
                && self.core.routes.shard_of(partition) == self.core.shard
            {
                let database = self.session.database;
                wants.extend(self.core.wants(partition, command, words, database));
            }
            input = &input[consumed..];
        }
        wants
    }

    /// Returns the partition that all keys of a command lie in; `None` when there are several.
    fn partition_of(&self, command: &Command, words: Words<'_>) -> Option<usize> {
        let routes = &self.core.routes;
        if routes.partitions() == 1 {
            return Some(0);
        }
        let mut found = None;
        for place in command.key_places(words) {
            let key = [&[self.session.database], &words[place]].concat();
            let partition = routes.partition_of(&key);
            if *found.get_or_insert(partition) != partition {
                return None;
            }
        }
        found.or(Some(0))
    }

    /// Runs a command over all partitions, after everything before it.
    async fn spread(&mut self, command: &Command, plan: Plan, once: Option<Once>) {
        self.connection.settled(0).await;
        let timer = self.core.begin_call(command);
        let mut reply = Vec::new();
        let gathered = match plan {
            Plan::Watch(keys) => {
                Encoder::new(&mut reply, self.session.version).ok();
                self.watch(keys).await
            }
            plan => self.gather(plan, once.as_ref(), &mut reply).await,
        };
        if let Err(NoAnswer(error)) = gathered {
            reply = error;
        }
        self.core.note_call(command, timer, &reply);
        if self.session.muted == Muted::No {
            self.connection
                .replies
                .borrow_mut()
                .out()
                .extend_from_slice(&reply);
        }
        self.session.muted = self.session.muted.next();
    }
}

/// Ends connections that have been silent for too long, and do not wait for elements. Called each tick.
pub(crate) fn end_idle(core: &Core) {
    let idle_ms = u64::from(core.config().client.idle_timeout_s) * 1000;
    if idle_ms == 0 {
        return;
    }
    let (now_ms, _) = core.now();
    for connection in core.connections.borrow().values() {
        let waits = connection.blocked.get().is_some();
        if !waits && now_ms.saturating_sub(connection.active_ms.get()) > idle_ms {
            connection.sender.shut_down();
        }
    }
}
