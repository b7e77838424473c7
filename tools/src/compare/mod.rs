//! `ashlar compare-redis`: the same random commands to a node and to a redis-server, and every reply compared byte by
//! byte. What differs is made smaller, by leaving out commands as long as it still differs, and printed.
//!
//! An *episode* is some hundred commands over a few connections of both servers, which begin empty. A command is sent
//! to both before either is read from; commands of one connection go together until another one has its turn, so both
//! servers see them in the same order. A subscriber to everything compares the messages that these make.
//!
//! Invariant: the commands of an episode follow from the seed and its number alone, but for moments of expiry.

mod collection_words;
mod explained;
mod explained_collections;
mod listener;
mod reply;
mod server;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use collection_words::{may_wait, waits_too_long};
use listener::Listener;
use server::{Connection, Server};
use words::{Command, Words};

use crate::refusal::Failure;

/// Commands of an episode, and most of them that are sent together.
const EPISODE_COMMANDS: u64 = 600;
const TOGETHER_MAX: u64 = 120;
/// Connections of an episode, at most.
const CONNECTIONS_MAX: usize = 3;

/// Flags of `ashlar compare-redis`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Commands to send, at least
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    commands: u64,
    /// Which random commands
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program to compare with
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis_server: PathBuf,
    /// A redis-server that runs already; all its data are deleted
    #[arg(long, value_name = "ADDR:PORT")]
    redis: Option<SocketAddr>,
    /// A node that runs already; all its data are deleted
    #[arg(long, value_name = "ADDR:PORT")]
    node: Option<SocketAddr>,
    /// Only these commands
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Differences, of as many different commands, after which it stops
    #[arg(long, default_value_t = 1)]
    differences: usize,
    /// Compare what a subscriber to everything hears, too: notices of one pipeline may come in another order
    #[arg(long)]
    messages: bool,
}

/// A command and the connection that sends it.
#[derive(Clone, Debug)]
struct Step {
    connection: usize,
    words: Command,
}

/// Where two servers differ.
#[derive(Debug)]
struct Difference {
    /// Number of the step.
    at: usize,
    name: Vec<u8>,
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

/// The two servers.
#[derive(Clone, Copy, Debug)]
struct Pair {
    ours: SocketAddr,
    theirs: SocketAddr,
    /// Whether what subscribers hear is compared, too.
    hears: bool,
}

/// Compares, and says how much and how fast.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let started = |given: Option<SocketAddr>, start: &dyn Fn() -> Result<Server, String>| {
        given.map_or_else(
            || start().map(|server| (server.addr, Some(server))),
            |addr| Ok((addr, None)),
        )
    };
    let (ours, _node) = started(args.node, &Server::ashlar)?;
    let (theirs, _redis) = started(args.redis, &|| Server::redis(&args.redis_server))?;
    let pair = Pair {
        ours,
        theirs,
        hears: args.messages,
    };
    let (began, mut sent, mut found) = (Instant::now(), 0, Vec::<Vec<u8>>::new());
    let mut episode = 0;
    while sent < args.commands && found.len() < args.differences {
        let steps = steps(args, episode)?;
        sent += steps.len() as u64;
        if let Some(difference) = pair.compare(&steps)?
            && !found.contains(&difference.name)
        {
            println!("episode {episode} of seed {}:", args.seed);
            pair.show(steps, difference.at, &difference.name);
            found.push(difference.name);
        }
        episode += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{sent} commands in {seconds:.1} s, {:.0} per second; {} differences",
        sent as f64 / seconds,
        found.len()
    );
    match found.len() {
        0 => Ok(()),
        _ => Err(Failure::Run(format!(
            "replies differ from those of {}",
            args.redis_server.display()
        ))),
    }
}

/// Draws the commands of an episode.
fn steps(args: &Args, episode: u64) -> Result<Vec<Step>, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_s = since.map_err(|error| error.to_string())?.as_secs();
    let seed = args.seed.wrapping_mul(1 << 32).wrapping_add(episode);
    let mut words = Words::new(seed, &args.only, now_s);
    if words.is_empty() {
        return Err(Failure::Mistake(format!(
            "--only: no command is called {}",
            args.only.join(" or ")
        )));
    }
    let connections = 1 + words.below(CONNECTIONS_MAX as u64);
    let (mut steps, mut connection, mut left) = (Vec::new(), 0, 0);
    let mut states = [State::default(); CONNECTIONS_MAX];
    while (steps.len() as u64) < EPISODE_COMMANDS {
        if left == 0 {
            connection = usize::try_from(words.below(connections)).unwrap_or(0);
            left = 1 + words.below(TOGETHER_MAX);
        }
        left -= 1;
        let words = words.command();
        if !follow(&mut states, connection, &words) {
            continue;
        }
        steps.push(Step { connection, words });
    }
    Ok(steps)
}

/// Commands that are not sent within a transaction: they go over all partitions, which is refused there; or Redis 7.0
/// refuses of them what 7.2 does not.
const APART: [&str; 8] = [
    "KEYS",
    "SCAN",
    "DBSIZE",
    "FLUSHDB",
    "FLUSHALL",
    "RANDOMKEY",
    "COMMAND",
    "DEBUG",
];

/// What is followed of a connection while commands are drawn.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    queueing: bool,
    watching: bool,
}

/// Follows the states of connections; says whether a command may be sent now.
fn follow(states: &mut [State], connection: usize, words: &Command) -> bool {
    let is = |name: &str| words[0].eq_ignore_ascii_case(name.as_bytes());
    // A watched key that was missing, was set and is flushed counts as unchanged, and one that nothing is appended to;
    // not so in Redis.
    let would_wait = may_wait(words) && !states[connection].queueing;
    if draws_at_random(words) || waits_too_long(words) || would_wait {
        return false;
    }
    let appends_nothing = is("APPEND") && words.get(2).is_some_and(Vec::is_empty);
    let is_told_apart = appends_nothing || is("FLUSHALL") || is("FLUSHDB");
    if is_told_apart && states.iter().any(|state| state.watching) {
        return false;
    }
    let state = &mut states[connection];
    match words.len() {
        1 if is("MULTI") => state.queueing = true,
        1 if is("RESET") || (is("DISCARD") && state.queueing) => *state = State::default(),
        1 if is("EXEC") && !state.queueing => {}
        // One with too many words ends the transaction, too.
        _ if is("EXEC") => *state = State::default(),
        // Redis 7.0 refuses to queue it.
        4.. if state.queueing && (is("ZRANK") || is("ZREVRANK")) => return false,
        _ if state.queueing => return !APART.iter().any(|name| is(name)),
        1 if is("UNWATCH") => state.watching = false,
        2.. if is("WATCH") => state.watching = true,
        _ => {}
    }
    true
}

/// Says whether a command takes what chance decides: the servers would differ from then on.
fn draws_at_random(words: &Command) -> bool {
    let all = [&b"0"[..], b"1000"];
    words[0].eq_ignore_ascii_case(b"SPOP")
        && (words.len() == 2 || (words.len() == 3 && !all.contains(&words[2].as_slice())))
}

/// Says whether commands may be sent: leaving out some can bring others into a transaction.
fn may_be_sent(steps: &[Step]) -> bool {
    let mut states = [State::default(); CONNECTIONS_MAX];
    let mut steps = steps.iter();
    steps.all(|step| follow(&mut states, step.connection, &step.words))
}

/// The two connections of a client, and what it has queued.
#[derive(Debug)]
struct Client {
    ours: Connection,
    theirs: Connection,
    queued: Vec<Command>,
}

impl Pair {
    /// Runs an episode; returns the first difference.
    fn compare(&self, steps: &[Step]) -> Result<Option<Difference>, String> {
        let mut clients: Vec<Client> = Vec::new();
        let connections = steps
            .iter()
            .map(|step| step.connection + 1)
            .max()
            .unwrap_or(1);
        for _ in 0..connections {
            clients.push(Client {
                ours: Connection::open(self.ours)?,
                theirs: Connection::open(self.theirs)?,
                queued: Vec::new(),
            });
        }
        let empty = Step {
            connection: 0,
            words: vec![b"FLUSHALL".to_vec()],
        };
        clients[0].compare(&[empty])?;
        let mut listener = match self.hears {
            true => Some(Listener::open(self.ours, self.theirs)?),
            false => None,
        };
        let mut at = 0;
        for run in steps.chunk_by(|one, next| one.connection == next.connection) {
            if let Some(mut difference) = clients[run[0].connection].compare(run)? {
                difference.at += at;
                return Ok(Some(difference));
            }
            at += run.len();
            let heard = listener.as_mut().map(Listener::difference).transpose()?;
            if let Some((ours, theirs)) = heard.flatten() {
                let (at, name) = (at - 1, b"MESSAGES".to_vec());
                return Ok(Some(Difference {
                    at,
                    name,
                    ours,
                    theirs,
                }));
            }
        }
        Ok(None)
    }

    /// Leaves out what is not needed for a difference, and prints the rest.
    fn show(&self, mut steps: Vec<Step>, at: usize, name: &[u8]) {
        steps.truncate(at + 1);
        let differs = |steps: &[Step]| match self.compare(steps) {
            Ok(Some(found)) => found.at + 1 == steps.len() && found.name == name,
            Ok(None) | Err(_) => false,
        };
        let mut size = steps.len() / 2;
        while size > 0 {
            let mut from = 0;
            while from + size < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(from..from + size);
                if may_be_sent(&fewer) && differs(&fewer) {
                    steps = fewer;
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
        for step in &steps {
            let words: Vec<String> = step.words.iter().map(|word| shown(word)).collect();
            println!("  client {}: {}", step.connection, words.join(" "));
        }
        match self.compare(&steps) {
            Ok(Some(Difference { ours, theirs, .. })) => {
                println!(
                    "    ours   {}\n    theirs {}",
                    ours.escape_ascii(),
                    theirs.escape_ascii()
                );
            }
            Ok(None) => println!("    they differed only once"),
            Err(error) => println!("    {error}"),
        }
    }
}

/// Writes a word as redis-cli takes it.
fn shown(word: &[u8]) -> String {
    let plain = !word.is_empty()
        && word
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !b"\"'\\".contains(byte));
    match plain {
        true => String::from_utf8_lossy(word).into_owned(),
        false => format!("\"{}\"", word.escape_ascii()),
    }
}

impl Client {
    /// Sends commands to both servers and compares their replies. All are received, so that nothing is still being done
    /// when the next episode begins.
    fn compare(&mut self, steps: &[Step]) -> Result<Option<Difference>, String> {
        self.ours.send(steps.iter().map(|step| &step.words))?;
        self.theirs.send(steps.iter().map(|step| &step.words))?;
        let mut found = None;
        for (at, Step { words, .. }) in steps.iter().enumerate() {
            let name = words[0].to_ascii_uppercase();
            let lost = |of: &str, why| format!("{of} has no reply to {}: {why}", shown(&name));
            let ours = self.ours.receive().map_err(|error| lost("ashlar", error))?;
            let theirs = self
                .theirs
                .receive()
                .map_err(|error| lost("redis-server", error))?;
            let agree = match (&ours, &theirs) {
                _ if found.is_some() => continue,
                (None, None) => return Ok(None),
                (Some(ours), Some(theirs)) => self.agree(words, ours, theirs),
                _ => false,
            };
            if !agree {
                let text = |reply: Option<Vec<u8>>| reply.unwrap_or_else(|| b"closed".to_vec());
                let (ours, theirs) = (text(ours), text(theirs));
                found = Some(Difference {
                    at,
                    name,
                    ours,
                    theirs,
                });
            }
        }
        Ok(found)
    }

    /// Says whether two replies are the same, or differ as they may. The replies of a transaction are compared as those
    /// of the commands that were queued.
    fn agree(&mut self, words: &Command, ours: &[u8], theirs: &[u8]) -> bool {
        if theirs == b"+QUEUED\r\n" {
            self.queued.push(words.clone());
            return ours == theirs;
        }
        let is = |name: &str| words[0].eq_ignore_ascii_case(name.as_bytes());
        let ends = is("EXEC") || (words.len() == 1 && (is("DISCARD") || is("RESET")));
        let queued = match ends {
            true => std::mem::take(&mut self.queued),
            false => Vec::new(),
        };
        if ours == theirs || explained::is_explained(words, ours, theirs) {
            return true;
        }
        match (reply::elements(ours), reply::elements(theirs)) {
            (Some((header, ours)), Some((of, theirs))) if is("EXEC") => {
                let each = queued.iter().zip(ours.iter().zip(&theirs));
                header == of
                    && each.into_iter().all(|(words, (ours, theirs))| {
                        ours == theirs || explained::is_explained(words, ours, theirs)
                    })
            }
            _ => false,
        }
    }
}
