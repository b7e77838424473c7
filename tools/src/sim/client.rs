//! A simulated client: connects, asks at random, tells the model what it was answered, and connects
//! anew when it was not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::{Reactor, Socket};

use super::ask::{Asked, Asker, counter_key, database_of, own_database_keys, own_keys};
use super::judge::{judge, judge_names, refused, unknown};
use super::model::{Model, Span};
use super::once::{self, Once};
use super::schedule::Script;
use super::wire::{Reply, command, parse, value_of};

/// How long a client waits for replies before it gives the connection up: of a lone node, and of a
/// cluster, which says by itself after three seconds that nobody leads.
const PATIENCE: Duration = Duration::from_secs(3);
const CLUSTER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits for a connection to a node of a cluster.
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
/// Probability that a client writes through its session before its next pipeline.
const SESSIONS: f64 = 0.1;
/// How long a client that has nothing to ask sleeps.
const IDLE: Duration = Duration::from_millis(20);
/// Commands in one pipeline at most.
const PIPELINE_MAX: u64 = 6;

/// What the clients of a run share.
pub(super) struct Crowd {
    pub(super) reactor: Reactor,
    /// Where each member listens.
    pub(super) servers: RefCell<Vec<SocketAddr>>,
    /// Whether there are, or were, several nodes.
    pub(super) is_cluster: bool,
    /// What clients ask.
    pub(super) script: Script,
    pub(super) model: RefCell<Model>,
    /// Set when faults are over: clients check all that they own, then finish.
    pub(super) healed: Cell<bool>,
    /// Set when a table was damaged: its partition may be refused from then on.
    pub(super) damaged: Cell<bool>,
    pub(super) clients: u32,
    /// Mean pause between the operations of one client.
    pub(super) pause: Duration,
    /// History that the node keeps, in nanoseconds.
    pub(super) history_ns: u64,
    /// Whether databases are cleared, which ends their history.
    pub(super) clears: bool,
    /// Whether replies wait for the clock.
    pub(super) waits: bool,
}

impl Crowd {
    /// Says whether there are several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    fn patience(&self) -> Duration {
        match self.is_cluster() {
            true => CLUSTER_PATIENCE,
            false => PATIENCE,
        }
    }

    /// Connects to some node.
    pub(super) async fn connect(&self, rng: &mut Rng) -> Option<Socket> {
        let server = {
            let servers = self.servers.borrow();
            servers[rng.index(servers.len())]
        };
        if !self.is_cluster() {
            return Socket::connect(&self.reactor, server).await.ok();
        }
        let mut timeout = pin!(self.reactor.sleep(CONNECT_PATIENCE));
        let mut connect = pin!(Socket::connect(&self.reactor, server));
        poll_fn(|context| {
            if let Poll::Ready(socket) = connect.as_mut().poll(context) {
                return Poll::Ready(socket.ok());
            }
            timeout.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Returns the time of a read that was asked at `asked_ns` and is answered now.
    pub(super) fn span(&self, asked_ns: u64) -> Span {
        Span {
            asked_ns,
            now_ns: self.reactor.now().0,
            clocks: self.model.borrow().clocks,
        }
    }
}

pub(super) async fn run(crowd: Rc<Crowd>, number: u32, rng: Rng) {
    let mut asker = Asker::new(Rc::clone(&crowd), number, rng);
    let mut session = Once::new(number);
    while !crowd.healed.get() {
        let Some(mut socket) = crowd.connect(&mut asker.rng).await else {
            crowd.reactor.sleep(Duration::from_millis(20)).await;
            continue;
        };
        talk(&crowd, (&mut asker, &mut session), &mut socket).await;
    }
    // Everything is healed: each key that this client owns must be what the model says, and writes
    // are taken again.
    loop {
        if let Some(mut socket) = crowd.connect(&mut asker.rng).await
            && settle(&crowd, (&mut session, &mut asker.rng), &mut socket).await
            && check_all(&crowd, number, &mut socket).await
            && write_again(&crowd, number, &mut socket).await
        {
            crowd.model.borrow_mut().finished += 1;
            return;
        }
        crowd.reactor.sleep(Duration::from_millis(50)).await;
    }
}

/// Has all writes of the session answered, and checks what came of them; `false` when the connection broke
/// before.
async fn settle(crowd: &Crowd, (session, rng): (&mut Once, &mut Rng), socket: &mut Socket) -> bool {
    while !session.is_settled() {
        if !once::exchange(crowd, (session, rng), socket).await {
            return false;
        }
    }
    once::check(crowd, session, socket).await
}

/// Asks over one connection until it breaks, or the run is healed.
async fn talk(crowd: &Crowd, (asker, session): (&mut Asker, &mut Once), socket: &mut Socket) {
    while !crowd.healed.get() {
        let now_ns = crowd.reactor.now().0;
        let next = crowd.script.next(asker.number, now_ns, &mut asker.rng);
        let Some((at_ns, seed)) = next else {
            crowd.reactor.sleep(IDLE).await;
            continue;
        };
        if at_ns > now_ns {
            let early = Duration::from_nanos(at_ns - now_ns);
            crowd.reactor.sleep(early).await;
        }
        asker.rng = Rng::new(seed);
        let again = !session.is_settled() || asker.rng.chance(SESSIONS);
        if again {
            let with = (&mut *session, &mut asker.rng);
            if !once::exchange(crowd, with, socket).await {
                return;
            }
        }
        if asker.rng.chance(0.01) && !walk_names(crowd, asker, socket).await {
            return;
        }
        let commands = if asker.rng.chance(0.7) {
            1
        } else {
            1 + asker.rng.below(PIPELINE_MAX)
        };
        let (mut bytes, mut asked) = (Vec::new(), Vec::new());
        for _ in 0..commands {
            asker.ask(&mut bytes, &mut asked);
        }
        socket.send(&bytes);
        if !hear_all(crowd, socket, asked).await {
            return;
        }
        let mean = u64::try_from(crowd.pause.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(commands);
        let pause = Duration::from_nanos(asker.rng.exponential(mean));
        crowd.reactor.sleep(pause).await;
        if asker.rng.chance(0.002) {
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
            Some(reply) => judge(crowd, next, reply),
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
pub(super) async fn hear(
    crowd: &Crowd,
    socket: &mut Socket,
    received: &mut Vec<u8>,
) -> Option<Reply> {
    loop {
        if let Some((reply, used)) = parse(received) {
            received.drain(..used);
            return Some(reply);
        }
        let mut timeout = pin!(crowd.reactor.sleep(crowd.patience()));
        let mut receive = pin!(socket.receive());
        let chunk = poll_fn(|context| {
            if let Poll::Ready(chunk) = receive.as_mut().poll(context) {
                return Poll::Ready(chunk.ok());
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

/// Walks over all names of its own keys with `SCAN`; `false` when the connection is of no more use.
async fn walk_names(crowd: &Crowd, asker: &mut Asker, socket: &mut Socket) -> bool {
    let pattern = format!("key:{}:*", asker.number);
    let asked_ns = crowd.reactor.now().0;
    let last: BTreeMap<String, u64> = asker.lasts();
    let (mut cursor, mut names, mut received) = ("0".to_owned(), Vec::new(), Vec::new());
    loop {
        let count = (1 + asker.rng.below(200)).to_string();
        let mut bytes = Vec::new();
        command(
            &mut bytes,
            &["SCAN", &cursor, "MATCH", &pattern, "COUNT", &count],
        );
        socket.send(&bytes);
        let reply = match hear(crowd, socket, &mut received).await {
            None => return false,
            Some(Reply::Error(text)) => {
                refused(crowd, "SCAN", &text);
                return true;
            }
            Some(Reply::Array(items)) => items,
            Some(other) => {
                let what = Err(format!("unexpected reply {other:?}"));
                crowd.model.borrow_mut().check("SCAN", what);
                return true;
            }
        };
        if let [Reply::Bulk(Some(next)), Reply::Array(some)] = reply.as_slice() {
            cursor = String::from_utf8_lossy(next).into_owned();
            names.extend(some.iter().cloned());
        }
        if cursor == "0" {
            break;
        }
    }
    crowd.model.borrow_mut().mark("walks with SCAN");
    judge_names(crowd, &last, asked_ns, &names);
    true
}

/// Reads all that this client owns; `false` when the connection broke before all was read, or nobody
/// led a partition.
async fn check_all(crowd: &Crowd, number: u32, socket: &mut Socket) -> bool {
    let (mut bytes, mut asked) = (Vec::new(), Vec::new());
    let asked_ns = crowd.reactor.now().0;
    let read = |bytes: &mut Vec<u8>, key: String| {
        command(bytes, &["GET", &key]);
        let known = crowd.model.borrow().keys.get(&key).map(|key| key.last());
        Asked::Read(key, known.unwrap_or(0), asked_ns)
    };
    for key in own_keys(number) {
        asked.push(read(&mut bytes, key));
    }
    command(&mut bytes, &["GET", &counter_key(number)]);
    asked.push(Asked::ReadCounter(counter_key(number)));
    if let Some(database) = database_of(number) {
        command(&mut bytes, &["SELECT", &database.to_string()]);
        asked.push(Asked::Done);
        for key in own_database_keys(number) {
            asked.push(read(&mut bytes, key));
        }
        command(&mut bytes, &["SELECT", "0"]);
        asked.push(Asked::Done);
    }
    socket.send(&bytes);
    let leaderless = || crowd.model.borrow().leaderless;
    let before = leaderless();
    hear_all(crowd, socket, asked).await && leaderless() == before
}

/// Sets a key until it is taken: a healed node takes writes again.
async fn write_again(crowd: &Crowd, number: u32, socket: &mut Socket) -> bool {
    let key = own_keys(number).next().expect("a client has keys");
    let mut bytes = Vec::new();
    let write = {
        let mut model = crowd.model.borrow_mut();
        model
            .keys
            .entry(key.clone())
            .or_default()
            .begin(false, None)
    };
    command(
        &mut bytes,
        &["SET", &key, &value_of(&key, write.number, 10)],
    );
    socket.send(&bytes);
    match hear(crowd, socket, &mut Vec::new()).await {
        Some(Reply::Ok) => true,
        Some(Reply::Error(text)) if text.starts_with("DAMAGED") => {
            refused(crowd, "SET", &text);
            true
        }
        Some(Reply::Error(text)) => {
            refused(crowd, "SET", &text);
            false
        }
        _ => false,
    }
}
