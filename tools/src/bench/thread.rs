//! One thread of a phase: its reactor, its connections, and the loop that drives the engine. Decides nothing about what
//! is sent.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use ashlar_io::{Reactor, Settings, Socket, topology};

use super::engine::{Ending, Engine, Next, Parts, Second, Times};
use super::reply::{self, Front, Reply};

/// Bytes of one receive buffer.
const CHUNK_BYTES: usize = 32 << 10;

/// What a thread tells while it works.
#[derive(Debug)]
pub(crate) enum News {
    /// A second is over.
    Second(Second),
    /// The thread has ended: how, and which share of its time it used a CPU.
    Ended(Result<(Ending, f64), String>),
}

/// What a thread is told.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: u32,
    /// Sent on each connection first, and how many replies that has.
    pub(crate) greeting: (Vec<u8>, usize),
    pub(crate) cpu: Option<usize>,
    pub(crate) times: Times,
    /// All threads begin together.
    pub(crate) barrier: Arc<Barrier>,
}

/// Runs a thread to its end.
pub(crate) fn run(orders: &Orders, parts: Parts, news: &SyncSender<News>) {
    let ended = serve(orders, parts, news);
    // Nobody listens when the run was given up.
    let _ = news.send(News::Ended(ended));
}

fn serve(orders: &Orders, parts: Parts, news: &SyncSender<News>) -> Result<(Ending, f64), String> {
    let connected = connect(orders);
    orders.barrier.wait();
    let (reactor, sockets) = connected?;
    let senders = sockets.iter().map(Socket::sender).collect();
    let engine = Rc::new(RefCell::new(Engine::new(senders, parts)));
    let from = (reactor.read_clock(), busy(&reactor));
    engine.borrow_mut().begin(from.0, orders.times);
    for (lane, socket) in sockets.into_iter().enumerate() {
        reactor.spawn(receive(reactor.clone(), socket, Rc::clone(&engine), lane));
    }
    let driven = drive(&reactor, &engine, news);
    let wall = reactor.read_clock().since(from.0);
    let share = (busy(&reactor) - from.1).as_secs_f64() / wall.as_secs_f64().max(1e-3);
    reactor.shut_down();
    driven.map(|()| (engine.borrow().ending(), share))
}

fn busy(reactor: &Reactor) -> Duration {
    let (user, system) = reactor.cpu_time();
    user + system
}

fn drive(
    reactor: &Reactor,
    engine: &Rc<RefCell<Engine>>,
    news: &SyncSender<News>,
) -> Result<(), String> {
    loop {
        reactor.turn();
        let (next, seconds) = {
            let mut engine = engine.borrow_mut();
            let next = engine.step(reactor.read_clock());
            (next, std::mem::take(&mut engine.seconds))
        };
        for second in seconds {
            let _ = news.send(News::Second(second));
        }
        match next? {
            Next::Until(time) => reactor.park(Some(time), || false),
            Next::Done => return Ok(()),
        }
    }
}

/// Takes in what comes on a connection, until it ends.
async fn receive(reactor: Reactor, mut socket: Socket, engine: Rc<RefCell<Engine>>, lane: usize) {
    let why = loop {
        match socket.receive().await {
            Ok(chunk) if chunk.is_empty() => break "the server closed the connection".to_owned(),
            Ok(chunk) => {
                let taken = engine
                    .borrow_mut()
                    .take_in(lane, &chunk, reactor.read_clock());
                if let Err(why) = taken {
                    break why;
                }
            }
            Err(error) => break format!("the connection broke: {error}"),
        }
    };
    engine.borrow_mut().lose(lane, why);
}

fn connect(orders: &Orders) -> Result<(Reactor, Vec<Socket>), String> {
    if let Some(cpu) = orders.cpu
        && !topology::pin(cpu)
    {
        return Err(format!("cannot run on CPU {cpu}"));
    }
    let chunk_count = orders.connections.next_power_of_two().clamp(256, 4096);
    let settings = Settings {
        chunk_count: u16::try_from(chunk_count).expect("at most 4096"),
        chunk_bytes: CHUNK_BYTES,
        registered_blocks: 0,
        ..Settings::default()
    };
    let reactor = Reactor::new(&settings).map_err(|error| error.to_string())?;
    let (inner, addr, count) = (reactor.clone(), orders.addr, orders.connections);
    let greeting = orders.greeting.clone();
    let sockets =
        reactor.block_on(async move { connect_all(&inner, addr, count, &greeting).await });
    sockets.map(|sockets| (reactor, sockets))
}

async fn connect_all(
    reactor: &Reactor,
    addr: SocketAddr,
    count: u32,
    greeting: &(Vec<u8>, usize),
) -> Result<Vec<Socket>, String> {
    let mut sockets = Vec::new();
    for n in 1..=count {
        let socket = Socket::connect(reactor, addr).await;
        let mut socket = socket.map_err(|error| {
            let cure = "start a server there (ashlar start) or name another with --target";
            format!("cannot connect to {addr} (connection {n} of {count}): {error}; {cure}")
        })?;
        greet(&mut socket, greeting)
            .await
            .map_err(|why| format!("{addr}: {why}"))?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Sends the greeting and waits until all of it is answered well.
async fn greet(socket: &mut Socket, (greeting, replies): &(Vec<u8>, usize)) -> Result<(), String> {
    socket.send(greeting);
    let (mut bytes, mut left) = (Vec::new(), *replies);
    while left > 0 {
        let chunk = socket.receive().await.map_err(|error| error.to_string())?;
        if chunk.is_empty() {
            return Err("the server closed the connection".to_owned());
        }
        bytes.extend_from_slice(&chunk);
        while let Front::Whole(reply, used) = reply::read(&bytes)? {
            if let Reply::Error(text) = reply {
                return Err(String::from_utf8_lossy(text).into_owned());
            }
            bytes.drain(..used);
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}
