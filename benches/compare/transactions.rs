//! Fifty connections, each with one transaction of five `SET` at a time. The client is ours, for `redis-benchmark`
//! sends single commands: one thread with a ring of its own.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use ashlar_io::{Reactor, Settings, Socket};

use crate::Failure;
use crate::fanout::percentile_99_ms;
use crate::load::{LoadResult, SET_KEYS};

/// Connections.
const CONNECTIONS: u64 = 50;
/// How long no transaction may end before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a transaction is answered.
const REPLIES: &[u8] = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n\
                         *5\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n";

/// What all tasks of the client see.
struct Shared {
    reactor: Reactor,
    server: SocketAddr,
    /// Transactions to begin.
    left: Cell<u64>,
    /// Connections that are done.
    done: Cell<u64>,
    latencies: RefCell<Vec<f64>>,
    failure: RefCell<Option<Failure>>,
}

/// Runs so many transactions on the server on `port`, from one CPU.
pub(crate) fn run(cpu: u32, port: u16, transactions: u64) -> Result<LoadResult, Failure> {
    let client = thread::spawn(move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu as usize });
        let reactor = Reactor::new(&Settings::default()).map_err(|error| error.to_string())?;
        let own = reactor.clone();
        reactor.block_on(drive(own, port, transactions))
    });
    client
        .join()
        .map_err(|_| "the client has panicked".to_owned())?
}

async fn drive(reactor: Reactor, port: u16, transactions: u64) -> Result<LoadResult, Failure> {
    let shared = Rc::new(Shared {
        reactor: reactor.clone(),
        server: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        left: Cell::new(transactions),
        done: Cell::new(0),
        latencies: RefCell::default(),
        failure: RefCell::default(),
    });
    let from = Instant::now();
    for number in 0..CONNECTIONS {
        let shared = Rc::clone(&shared);
        reactor.spawn(async move {
            if let Err(failure) = transact(&shared, number).await {
                shared.failure.borrow_mut().get_or_insert(failure);
            }
            shared.done.set(shared.done.get() + 1);
        });
    }
    let (mut seen, mut last) = (0, Instant::now());
    while shared.done.get() < CONNECTIONS {
        let ended = shared.latencies.borrow().len();
        if ended > seen {
            (seen, last) = (ended, Instant::now());
        }
        if last.elapsed() > PATIENCE {
            return Err(format!("{ended} of {transactions} transactions ended"));
        }
        reactor.sleep(Duration::from_millis(1)).await;
    }
    if let Some(failure) = shared.failure.take() {
        return Err(failure);
    }
    let took_s = from.elapsed().as_secs_f64();
    Ok(LoadResult {
        per_second: transactions as f64 / took_s,
        p99_ms: percentile_99_ms(shared.latencies.take()),
    })
}

/// One connection: transactions as long as there are some to begin.
async fn transact(shared: &Shared, number: u64) -> Result<(), Failure> {
    let server = Socket::connect(&shared.reactor, shared.server).await;
    let mut socket = server.map_err(|error| error.to_string())?;
    let mut key = number;
    while let Some(left) = shared.left.get().checked_sub(1) {
        shared.left.set(left);
        let from = Instant::now();
        socket.send(&transaction(&mut key));
        let mut replies = Vec::new();
        while replies.len() < REPLIES.len() {
            let chunk = socket.receive().await.map_err(|error| error.to_string())?;
            if chunk.is_empty() {
                return Err("a client was disconnected".to_owned());
            }
            replies.extend_from_slice(&chunk);
        }
        if replies != REPLIES {
            let said = String::from_utf8_lossy(&replies).into_owned();
            return Err(format!("a transaction is answered {said}"));
        }
        let latency_ms = from.elapsed().as_secs_f64() * 1000.0;
        shared.latencies.borrow_mut().push(latency_ms);
    }
    Ok(())
}

/// Returns the commands of one transaction, on the keys behind one that is moved on.
fn transaction(key: &mut u64) -> Vec<u8> {
    let mut bytes = b"*1\r\n$5\r\nMULTI\r\n".to_vec();
    for _ in 0..5 {
        // A step that has no divisor with the number of keys comes by all of them.
        *key = (*key + 387_643) % SET_KEYS;
        let set = format!(
            "*3\r\n$3\r\nSET\r\n$16\r\nkey:{:012}\r\n$100\r\n{:0100}\r\n",
            *key, 0
        );
        bytes.extend_from_slice(set.as_bytes());
    }
    bytes.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_seven_commands() {
        let mut key = 1;
        let bytes = transaction(&mut key);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("\r\n$3\r\nSET\r\n$16\r\nkey:").count(), 5);
        assert_eq!(text.matches('*').count(), 7);
        assert_eq!(key, (1 + 5 * 387_643) % SET_KEYS);
    }
}
