//! One connection publishes, a thousand are subscribed. The client is ours: `redis-benchmark` has none that subscribes.
//! It is one thread with a ring of its own, so that taking a message costs it less than giving it costs the server.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_io::{Reactor, Settings, Socket};

use crate::Failure;
use crate::load::LoadResult;

/// Connections that are subscribed.
pub(crate) const SUBSCRIBERS: u64 = 1000;
/// Messages whose reply is awaited at once.
const IN_FLIGHT: u64 = 16;
/// What each message says, in bytes.
const PAYLOAD_BYTES: usize = 100;
/// How long nothing may arrive before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(10);
const SUBSCRIBE: &[u8] = b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n";
const CONFIRMED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
/// The reply of a message that all of them get.
const REPLY: &[u8] = b":1000\r\n";

/// What all tasks of the client see.
struct Shared {
    reactor: Reactor,
    server: SocketAddr,
    /// Bytes that each subscriber is to get.
    bytes: u64,
    /// Subscribers that wait for messages, and those that have all.
    ready: Cell<u64>,
    done: Cell<u64>,
    /// When something arrived last.
    last: Cell<Instant>,
    failure: RefCell<Option<Failure>>,
}

impl Shared {
    fn fail(&self, failure: impl Into<Failure>) {
        self.failure.borrow_mut().get_or_insert(failure.into());
    }

    /// Waits until a counter has reached what is wanted.
    async fn wait(&self, counter: &Cell<u64>, wanted: u64) -> Result<(), Failure> {
        while counter.get() < wanted {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.last.get().elapsed() > PATIENCE {
                return Err(format!(
                    "{} of {wanted} subscribers got everything",
                    counter.get()
                ));
            }
            self.reactor.sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// Publishes `messages` to [`SUBSCRIBERS`] connections of the server on `port`, from one CPU.
pub(crate) fn run(cpu: u32, port: u16, messages: u64) -> Result<LoadResult, Failure> {
    let client = thread::spawn(move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu as usize });
        let reactor = Reactor::new(&Settings::default()).map_err(|error| error.to_string())?;
        let own = reactor.clone();
        reactor.block_on(fan_out(own, port, messages))
    });
    client
        .join()
        .map_err(|_| "the client has panicked".to_owned())?
}

async fn fan_out(reactor: Reactor, port: u16, messages: u64) -> Result<LoadResult, Failure> {
    let shared = Rc::new(Shared {
        reactor: reactor.clone(),
        server: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        bytes: messages * message_bytes(),
        ready: Cell::new(0),
        done: Cell::new(0),
        last: Cell::new(Instant::now()),
        failure: RefCell::default(),
    });
    for _ in 0..SUBSCRIBERS {
        reactor.spawn(listen(Rc::clone(&shared)));
    }
    shared.wait(&shared.ready, SUBSCRIBERS).await?;
    let from = Instant::now();
    let latencies = publish(&shared, messages).await?;
    shared.wait(&shared.done, SUBSCRIBERS).await?;
    let took_s = shared.last.get().duration_since(from).as_secs_f64();
    Ok(LoadResult {
        per_second: (messages * SUBSCRIBERS) as f64 / took_s,
        p99_ms: percentile_99_ms(latencies),
    })
}

/// Returns the length of a message as it arrives.
fn message_bytes() -> u64 {
    let frame = format!(
        "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n${PAYLOAD_BYTES}\r\n{:PAYLOAD_BYTES$}\r\n",
        ""
    );
    frame.len() as u64
}

/// One subscriber: takes all messages, and counts their bytes.
async fn listen(shared: Rc<Shared>) {
    let mut socket = match Socket::connect(&shared.reactor, shared.server).await {
        Ok(socket) => socket,
        Err(error) => return shared.fail(format!("cannot connect: {error}")),
    };
    socket.send(SUBSCRIBE);
    let (mut got, wanted) = (0, CONFIRMED.len() as u64 + shared.bytes);
    while got < wanted {
        match socket.receive().await {
            Ok(chunk) if !chunk.is_empty() => {
                let before = got;
                got += chunk.len() as u64;
                let confirmed = CONFIRMED.len() as u64;
                if before < confirmed && got >= confirmed {
                    shared.ready.set(shared.ready.get() + 1);
                }
                shared.last.set(Instant::now());
            }
            _ => return shared.fail("a subscriber was disconnected"),
        }
    }
    shared.done.set(shared.done.get() + 1);
}

/// Publishes, a few at a time; returns how long each reply took, in milliseconds.
async fn publish(shared: &Shared, messages: u64) -> Result<Vec<f64>, Failure> {
    let server = Socket::connect(&shared.reactor, shared.server).await;
    let mut socket = server.map_err(|error| error.to_string())?;
    let command = format!(
        "*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${PAYLOAD_BYTES}\r\n{:PAYLOAD_BYTES$}\r\n",
        "x"
    );
    let (mut sent, mut latencies) = (0, Vec::new());
    let mut waiting = VecDeque::new();
    let mut bytes = 0;
    while (latencies.len() as u64) < messages {
        while sent < messages && (waiting.len() as u64) < IN_FLIGHT {
            socket.send(command.as_bytes());
            waiting.push_back(Instant::now());
            sent += 1;
        }
        let chunk = socket.receive().await.map_err(|error| error.to_string())?;
        if chunk.is_empty() {
            return Err("the publisher was disconnected".to_owned());
        }
        bytes += chunk.len();
        while latencies.len() < bytes / REPLY.len()
            && let Some(at) = waiting.pop_front()
        {
            latencies.push(at.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(latencies)
}

/// Returns the latency that one in a hundred is above.
pub(crate) fn percentile_99_ms(mut latencies: Vec<f64>) -> f64 {
    latencies.sort_by(f64::total_cmp);
    let at = latencies.len() * 99 / 100;
    latencies.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let latencies = (1..=200).rev().map(f64::from).collect();
        assert!((percentile_99_ms(latencies) - 199.0).abs() < 0.1);
        assert_eq!(message_bytes(), 4 + 13 + 10 + 108);
    }
}
