//! A simulated client: connects, asks at random, tells the model what it was answered, and connects
//! anew when it was not.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::{Reactor, Socket};

use super::model::{Model, Write};

/// Keys that each client owns.
const KEYS: u64 = 24;
/// How long a client waits for replies before it gives the connection up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Commands in one pipeline at most.
const PIPELINE_MAX: u64 = 6;

/// What the clients of a run share.
pub(super) struct Crowd {
    pub(super) reactor: Reactor,
    pub(super) server: std::net::SocketAddr,
    pub(super) model: RefCell<Model>,
    /// Set when faults are over: clients check all that they own, then finish.
    pub(super) healed: std::cell::Cell<bool>,
    pub(super) clients: u32,
    /// Mean pause between the operations of one client.
    pub(super) pause: Duration,
}

/// What a command was about, for judging its reply.
enum Asked {
    Write(String, Write),
    /// The key, and the last write of it that was begun before.
    Read(String, u64),
    ReadOther(String, super::model::Horizon),
    Increment(String),
    ReadCounter(String),
}

/// A reply, as far as clients care.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Ok,
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Error(String),
}

pub(super) async fn run(crowd: Rc<Crowd>, number: u32, mut rng: Rng) {
    while !crowd.healed.get() {
        let Ok(mut socket) = Socket::connect(&crowd.reactor, crowd.server).await else {
            crowd.reactor.sleep(Duration::from_millis(20)).await;
            continue;
        };
        talk(&crowd, number, &mut rng, &mut socket).await;
    }
    // Everything is healed: each key that this client owns must be what the model says.
    loop {
        if let Ok(mut socket) = Socket::connect(&crowd.reactor, crowd.server).await
            && check_all(&crowd, number, &mut socket).await
        {
            crowd.model.borrow_mut().finished += 1;
            return;
        }
        crowd.reactor.sleep(Duration::from_millis(50)).await;
    }
}

/// Asks over one connection until it breaks, or the run is healed.
async fn talk(crowd: &Crowd, number: u32, rng: &mut Rng, socket: &mut Socket) {
    while !crowd.healed.get() {
        let commands = if rng.chance(0.7) {
            1
        } else {
            1 + rng.below(PIPELINE_MAX)
        };
        let mut bytes = Vec::new();
        let asked: Vec<_> = (0..commands)
            .map(|_| ask(crowd, number, rng, &mut bytes))
            .collect();
        socket.send(&bytes);
        if !hear_all(crowd, socket, asked).await {
            return;
        }
        let mean = u64::try_from(crowd.pause.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(commands);
        crowd
            .reactor
            .sleep(Duration::from_nanos(rng.exponential(mean)))
            .await;
        if rng.chance(0.002) {
            return;
        }
    }
}

/// Hears the replies to a pipeline; `false` when the connection is of no more use.
async fn hear_all(crowd: &Crowd, socket: &mut Socket, asked: Vec<Asked>) -> bool {
    let mut received = Vec::new();
    let mut asked = asked.into_iter();
    while let Some(next) = asked.next() {
        match hear(crowd, socket, &mut received).await {
            Some(reply) => judge(&mut crowd.model.borrow_mut(), next, reply),
            None => {
                let mut model = crowd.model.borrow_mut();
                std::iter::once(next)
                    .chain(asked)
                    .for_each(|lost| unknown(&mut model, lost));
                return false;
            }
        }
    }
    true
}

/// Hears one reply; `None` when the connection broke or nothing came for long.
async fn hear(crowd: &Crowd, socket: &mut Socket, received: &mut Vec<u8>) -> Option<Reply> {
    loop {
        if let Some((reply, used)) = parse(received) {
            received.drain(..used);
            return Some(reply);
        }
        let mut timeout = std::pin::pin!(crowd.reactor.sleep(PATIENCE));
        let mut receive = std::pin::pin!(socket.receive());
        let chunk = std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(chunk) = receive.as_mut().poll(context) {
                return std::task::Poll::Ready(chunk.ok());
            }
            timeout.as_mut().poll(context).map(|()| None)
        })
        .await?;
        if chunk.is_empty() {
            return None;
        }
        received.extend_from_slice(&chunk);
    }
}

fn own_key(number: u32, n: u64) -> String {
    format!("key:{number}:{n}")
}

fn counter_key(number: u32) -> String {
    format!("zcounter:{number}")
}

/// Draws the next command, appends it to `bytes`, and tells the model that it begins.
fn ask(crowd: &Crowd, number: u32, rng: &mut Rng, bytes: &mut Vec<u8>) -> Asked {
    let mut model = crowd.model.borrow_mut();
    let key = own_key(number, rng.below(KEYS));
    match rng.below(100) {
        0..45 => {
            let write = model.keys.entry(key.clone()).or_default().begin(false);
            let padding = "x".repeat(
                usize::try_from(if rng.chance(0.01) {
                    rng.below(20_000)
                } else {
                    rng.below(120)
                })
                .expect("small"),
            );
            command(
                bytes,
                &["SET", &key, &format!("{} {padding}", write.number)],
            );
            Asked::Write(key, write)
        }
        45..53 => {
            let write = model.keys.entry(key.clone()).or_default().begin(true);
            command(bytes, &["DEL", &key]);
            Asked::Write(key, write)
        }
        53..65 => {
            command(bytes, &["INCR", &counter_key(number)]);
            Asked::Increment(counter_key(number))
        }
        65..85 => {
            command(bytes, &["GET", &key]);
            let upto = model.keys.entry(key.clone()).or_default().last();
            Asked::Read(key, upto)
        }
        _ => {
            let other = u32::try_from(rng.below(u64::from(crowd.clients))).expect("fits");
            let key = own_key(other, rng.below(KEYS));
            command(bytes, &["GET", &key]);
            let horizon = model.keys.entry(key.clone()).or_default().horizon();
            Asked::ReadOther(key, horizon)
        }
    }
}

fn command(bytes: &mut Vec<u8>, words: &[&str]) {
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

fn unknown(model: &mut Model, asked: Asked) {
    model.unknown += 1;
    // A write stays among those that float.
    if let Asked::Increment(key) = asked {
        model.counters.entry(key).or_default().unknown();
    }
}

fn number_of(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(u64::MAX)
}

fn judge(model: &mut Model, asked: Asked, reply: Reply) {
    match (&asked, &reply) {
        (Asked::Write(..) | Asked::Increment(_), Reply::Error(text)) => {
            let refusal = text.starts_with("BUSY") || text.starts_with("DISKFULL");
            let result = if refusal {
                Ok(())
            } else {
                Err(format!("unexpected error {text:?}"))
            };
            model.check("write", result);
            model.refused += 1;
            if let Asked::Write(key, write) = asked {
                model.keys.entry(key).or_default().refused(write);
            }
            return;
        }
        _ => model.acknowledged += 1,
    }
    match (asked, reply) {
        (Asked::Write(key, write), Reply::Ok | Reply::Integer(_)) => {
            model.keys.entry(key).or_default().acknowledged(write);
        }
        (Asked::Read(key, upto), Reply::Bulk(found)) => {
            let result = model
                .keys
                .entry(key.clone())
                .or_default()
                .read_by_owner(upto, found.as_deref().map(number_of));
            model.check(&key, result);
        }
        (Asked::ReadOther(key, horizon), Reply::Bulk(found)) => {
            let result = model.keys[&key].read_by_other(&horizon, found.as_deref().map(number_of));
            model.check(&key, result);
        }
        (Asked::Increment(key), Reply::Integer(sum)) => {
            let result = model
                .counters
                .entry(key.clone())
                .or_default()
                .increased(sum.unsigned_abs());
            model.check(&key, result);
        }
        (Asked::ReadCounter(key), Reply::Bulk(found)) => {
            let sum = found.map_or(0, |value| number_of(&value));
            let result = model.counters.entry(key.clone()).or_default().read(sum);
            model.check(&key, result);
        }
        (_, reply) => model.check("reply", Err(format!("unexpected reply {reply:?}"))),
    }
}

/// Reads all that this client owns; `false` when the connection broke before all was read.
async fn check_all(crowd: &Crowd, number: u32, socket: &mut Socket) -> bool {
    let mut bytes = Vec::new();
    let mut asked = Vec::new();
    for n in 0..KEYS {
        command(&mut bytes, &["GET", &own_key(number, n)]);
        let upto = crowd
            .model
            .borrow()
            .keys
            .get(&own_key(number, n))
            .map_or(0, |key| key.last());
        asked.push(Asked::Read(own_key(number, n), upto));
    }
    command(&mut bytes, &["GET", &counter_key(number)]);
    asked.push(Asked::ReadCounter(counter_key(number)));
    socket.send(&bytes);
    hear_all(crowd, socket, asked).await
}

/// Parses one reply of RESP2; `None` when it is not whole.
fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[1..end]).into_owned();
    let used = end + 2;
    Some(match bytes[0] {
        b'+' => (Reply::Ok, used),
        b'-' => (Reply::Error(line), used),
        b':' => (Reply::Integer(line.parse().ok()?), used),
        b'$' => match usize::try_from(line.parse::<i64>().ok()?) {
            Err(_) => (Reply::Bulk(None), used),
            Ok(length) => {
                let body = bytes.get(used..used + length + 2)?;
                (
                    Reply::Bulk(Some(body[..length].to_vec())),
                    used + length + 2,
                )
            }
        },
        other => (
            Reply::Error(format!("a reply of type {:?}", char::from(other))),
            used,
        ),
    })
}
