//! The tasks of connections between shards: listen, call, shake hands, receive until the end. What
//! they learn goes to [`Peers`] as values; what is sent does not pass through here.
//!
//! Invariants:
//! 1. A handshake takes [`Options::handshake`](super::Options::handshake) at most, and at most
//!    [`HANDSHAKES_MAX`] callers are in one; who comes on top of them is sent away.
//! 2. A peer from which no byte comes for [`Options::silence`](super::Options::silence) is
//!    disconnected, in the middle of a frame or between two.
//! 3. A peer that cannot be reached costs one call per pause.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::{Listener, Monotonic, Socket};

use super::assembly::{Assembly, Sender};
use super::greeting::{Greeting, GreetingError, Hello, Reason, Refusal};
use super::link::Link;
use super::patience::until;
use super::{Peers, State};
use crate::cluster::shard_addr;

/// Callers in a handshake at once.
const HANDSHAKES_MAX: u32 = 64;
/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The other side could not be reached, or went away.
    Lost(String),
    /// One side refuses the other.
    Refused(String),
}

/// A socket on which a greeting is awaited: what arrived behind the last greeting is kept.
pub(crate) struct Talk {
    pub(crate) socket: Socket,
    pub(crate) bytes: Vec<u8>,
    pub(crate) deadline: Monotonic,
}

impl Talk {
    pub(crate) fn new(socket: Socket, deadline: Monotonic) -> Self {
        let bytes = Vec::new();
        Self {
            socket,
            bytes,
            deadline,
        }
    }

    pub(crate) fn say(&self, greeting: &Greeting) {
        self.socket.send(&greeting.encode());
    }

    /// Returns the next greeting of the other side.
    pub(crate) async fn hear(&mut self, reactor: &ashlar_io::Reactor) -> Result<Greeting, Failed> {
        loop {
            match Greeting::decode(&self.bytes) {
                Ok(Some((greeting, used))) => {
                    self.bytes.drain(..used);
                    return Ok(greeting);
                }
                Ok(None) => {}
                Err(error @ GreetingError::Version(_)) => {
                    let refusal = Refusal::new(Reason::Version, error.to_string());
                    self.say(&Greeting::Refused(refusal));
                    return Err(Failed::Refused(error.to_string()));
                }
                Err(error) => return Err(Failed::Refused(error.to_string())),
            }
            let lost = |text: String| Err(Failed::Lost(text));
            match until(reactor, self.deadline, self.socket.receive()).await {
                None => return lost("it does not answer in time".to_owned()),
                Some(Err(error)) => return lost(error.to_string()),
                Some(Ok(chunk)) if chunk.is_empty() => {
                    return lost("it closed the connection".to_owned());
                }
                Some(Ok(chunk)) => self.bytes.extend_from_slice(&chunk),
            }
        }
    }
}

/// Accepts callers until the shard stops.
pub(super) async fn listen(peers: Rc<Peers>, mut listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(_) if peers.is_stopping() => return,
            Ok(socket) if peers.handshakes.get() < HANDSHAKES_MAX => {
                peers.reactor.spawn(admit(Rc::clone(&peers), socket));
            }
            Ok(_) => peers.note_stranger("too many callers at once are in a handshake"),
            Err(error) => {
                peers.note_stranger(&format!("cannot accept a caller: {error}"));
                peers.reactor.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a caller until one side ends the connection.
async fn admit(peers: Rc<Peers>, socket: Socket) {
    let addr = socket.peer_addr();
    let deadline = peers.reactor.now() + peers.options.handshake;
    let mut talk = Talk::new(socket, deadline);
    peers.handshakes.set(peers.handshakes.get() + 1);
    let met = meet_caller(&peers, &mut talk).await;
    peers.handshakes.set(peers.handshakes.get() - 1);
    match met {
        Ok(Some((link, hello))) => serve(&peers, &link, &hello, talk).await,
        Ok(None) => {}
        Err(Failed::Lost(text)) => tracing::debug!("a caller was lost: {text}"),
        Err(Failed::Refused(text)) => {
            let from = addr.map(|addr| addr.ip().to_string()).unwrap_or_default();
            peers.note_stranger(&format!("a caller from {from} is refused: {text}"));
        }
    }
}

/// Shakes hands with a caller; returns its link and its hello when it is a member, and nothing
/// when all was said.
async fn meet_caller(
    peers: &Rc<Peers>,
    talk: &mut Talk,
) -> Result<Option<(Rc<Link>, Hello)>, Failed> {
    let hello = match talk.hear(&peers.reactor).await? {
        Greeting::Hello(hello) => hello,
        Greeting::Question(question) => {
            talk.say(&peers.answer(&question));
            return Ok(None);
        }
        Greeting::Welcome | Greeting::Refused(_) | Greeting::Answer(_) => {
            return Err(Failed::Refused("it does not say hello".to_owned()));
        }
    };
    let link = match peers.judge_caller(&hello) {
        Ok(link) => link,
        Err(refusal) => {
            talk.say(&Greeting::Refused(refusal.clone()));
            return peers.note_refused(&hello, refusal);
        }
    };
    talk.say(&Greeting::Hello(peers.hello(hello.from)));
    match talk.hear(&peers.reactor).await {
        Ok(Greeting::Welcome) if !link.removed.get() => Ok(Some((link, hello))),
        Ok(Greeting::Refused(refusal)) => {
            peers.note_trouble(&link, Failed::Refused(refused_by(&link, &refusal)));
            Ok(None)
        }
        Ok(_) => Err(Failed::Refused("it does not say welcome".to_owned())),
        Err(failed) => Err(failed),
    }
}

fn refused_by(link: &Link, refusal: &Refusal) -> String {
    // Not "n1 refuses": somebody else may be at its address.
    let (name, addr) = (link.name(), link.addr());
    format!("refused at {addr} ({name}): {}", refusal.text)
}

/// Calls a peer again and again until it is a member no more.
pub(super) async fn dial(peers: Rc<Peers>, link: Rc<Link>) {
    while !link.removed.get() && !peers.is_stopping() {
        link.state.set(State::Dialing);
        match call(&peers, &link).await {
            Ok((hello, talk)) => serve(&peers, &link, &hello, talk).await,
            Err(failed) => peers.note_trouble(&link, failed),
        }
        link.state.set(State::Waiting);
        let mut backoff = link.backoff.get();
        let pause = backoff.next(peers.reactor.random());
        link.backoff.set(backoff);
        peers.reactor.sleep(pause).await;
    }
}

/// Calls a peer that should call this node and does not, to hear why: the connection is made by the other side, so
/// it is a refusal that comes, or nothing.
pub(super) async fn knock(peers: Rc<Peers>, link: Rc<Link>) {
    match call(&peers, &link).await {
        // It would take this node for the one that calls.
        Ok((_, talk)) => drop(talk),
        Err(failed) if link.denies.get() => peers.note_trouble(&link, failed),
        Err(_) => {}
    }
}

/// Connects to a peer and shakes hands.
async fn call(peers: &Peers, link: &Link) -> Result<(Hello, Talk), Failed> {
    let (node, name, base) = (link.node(), link.name(), link.addr());
    let addr = shard_addr(base, peers.identity.shard)
        .ok_or_else(|| Failed::Lost(format!("{base} has too few ports above it")))?;
    let lost = |text: String| Failed::Lost(format!("cannot reach {name} at {addr}: {text}"));
    let deadline = peers.reactor.now() + peers.options.handshake;
    let socket = match until(
        &peers.reactor,
        deadline,
        Socket::connect(&peers.reactor, addr),
    )
    .await
    {
        Some(Ok(socket)) => socket,
        Some(Err(error)) => return Err(lost(error.to_string())),
        None => return Err(lost("it does not answer in time".to_owned())),
    };
    let mut talk = Talk::new(socket, deadline);
    talk.say(&Greeting::Hello(peers.hello(node)));
    let hello: Hello = match talk.hear(&peers.reactor).await {
        Ok(Greeting::Hello(hello)) => hello,
        Ok(Greeting::Refused(refusal)) => {
            link.denies.set(refusal.reason == Reason::Removed);
            if refusal.reason == Reason::Stranger {
                tell_members(peers, base).await;
            }
            return Err(Failed::Refused(refused_by(link, &refusal)));
        }
        Ok(_) => return Err(Failed::Refused(format!("{name} does not say hello"))),
        Err(Failed::Lost(text)) => return Err(lost(text)),
        Err(Failed::Refused(text)) => return Err(Failed::Refused(format!("{name}: {text}"))),
    };
    if let Err(refusal) = peers.judge_called(&hello, link) {
        let text = refusal.text.clone();
        talk.say(&Greeting::Refused(refusal));
        return Err(Failed::Refused(text));
    }
    talk.say(&Greeting::Welcome);
    Ok((hello, talk))
}

/// Tells somebody who takes this node for a stranger who the members are: it was away when that changed.
async fn tell_members(peers: &Peers, addr: SocketAddr) {
    let Some(question) = peers.news() else { return };
    let deadline = peers.reactor.now() + peers.options.handshake;
    let connecting = Socket::connect(&peers.reactor, addr);
    if let Some(Ok(socket)) = until(&peers.reactor, deadline, connecting).await {
        let mut talk = Talk::new(socket, deadline);
        talk.say(&Greeting::Question(question));
        // Whatever it says: the next call shows what came of it.
        drop(talk.hear(&peers.reactor).await);
    }
}

/// Receives frames until the connection ends.
async fn serve(peers: &Rc<Peers>, link: &Rc<Link>, hello: &Hello, talk: Talk) {
    if link.removed.get() || peers.is_stopping() {
        return;
    }
    let Talk {
        mut socket, bytes, ..
    } = talk;
    let number = peers.connected(link, socket.sender(), hello);
    let mut assembly = Assembly::new(Sender {
        node: link.node(),
        incarnation: hello.incarnation,
        body_bytes_max: peers.options.frame_bytes_max,
    });
    let mut taken = peers.take(link, number, &mut assembly, &bytes);
    drop(bytes);
    let why = loop {
        if let Err(why) = taken {
            break why;
        }
        peers.room().await;
        let deadline = peers.reactor.now() + peers.options.silence;
        taken = match until(&peers.reactor, deadline, socket.receive()).await {
            None => Err(format!("nothing came for {:?}", peers.options.silence)),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(chunk)) if chunk.is_empty() => Err("it closed the connection".to_owned()),
            Some(Ok(chunk)) => peers.take(link, number, &mut assembly, &chunk),
        };
    };
    peers.ended(link, number, &why);
}
