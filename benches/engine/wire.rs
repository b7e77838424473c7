//! A client that does not wait: durable writes at a set rate over several connections, each timed from
//! the moment at which it was due. A server that stalls is asked no less.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::keys::Numbers;

/// Connections.
const CONNECTIONS: usize = 16;
/// The first writes are not counted.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the last replies may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The reply to a write.
const OK: &[u8] = b"+OK\r\n";

/// A connection, and when what it has not answered was due.
struct Connection {
    stream: TcpStream,
    due: VecDeque<Instant>,
    /// Bytes of a reply that has not come whole, and of what could not be sent.
    partial: usize,
    unsent: Vec<u8>,
}

/// Asks for one command and returns the reply as far as one read brings it.
pub(crate) fn ask(port: u16, command: &str, wait: Duration) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, wait).ok()?;
    stream.set_read_timeout(Some(wait)).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut reply = vec![0; 16 << 10];
    let read = stream.read(&mut reply).ok()?;
    Some(String::from_utf8_lossy(&reply[..read]).into_owned())
}

/// Writes random keys below `keys` at `per_s` for `time`; returns all latencies in microseconds, sorted.
pub(crate) fn write_paced(
    port: u16,
    keys: u64,
    per_s: f64,
    time: Duration,
) -> Result<Vec<u64>, Failure> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(port)?);
    }
    let mut numbers = Numbers::new(11);
    let mut latencies = Vec::new();
    let (from, mut sent) = (Instant::now(), 0_u32);
    let end = from + WARM_UP + time;
    let gap = Duration::from_secs_f64(1.0 / per_s);
    loop {
        let now = Instant::now();
        while now < end && from + gap * sent <= now {
            let at = sent as usize % CONNECTIONS;
            connections[at].send(from + gap * sent, numbers.below(keys))?;
            sent += 1;
        }
        let mut waiting = 0;
        for connection in &mut connections {
            connection.receive(from + WARM_UP, &mut latencies)?;
            waiting += connection.due.len();
        }
        if now >= end && waiting == 0 {
            break;
        }
        if now >= end + PATIENCE {
            return Err(format!("{waiting} writes were not answered"));
        }
    }
    latencies.sort_unstable();
    match latencies.is_empty() {
        true => Err("nothing was written".to_owned()),
        false => Ok(latencies),
    }
}

impl Connection {
    fn open(port: u16) -> Result<Self, Failure> {
        let said = |error: std::io::Error| format!("cannot connect: {error}");
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        stream.set_nonblocking(true).map_err(said)?;
        Ok(Self {
            stream,
            due: VecDeque::new(),
            partial: 0,
            unsent: Vec::new(),
        })
    }

    fn send(&mut self, due: Instant, number: u64) -> Result<(), Failure> {
        let value = [b'x'; 100];
        let start = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012}\r\n$100\r\n");
        self.unsent.extend_from_slice(start.as_bytes());
        self.unsent.extend_from_slice(&value);
        self.unsent.extend_from_slice(b"\r\n");
        self.due.push_back(due);
        self.send_rest()
    }

    fn send_rest(&mut self) -> Result<(), Failure> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.unsent) {
            Ok(written) => drop(self.unsent.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("cannot send: {error}")),
        }
        Ok(())
    }

    fn receive(&mut self, counted_from: Instant, latencies: &mut Vec<u64>) -> Result<(), Failure> {
        self.send_rest()?;
        if self.due.is_empty() {
            return Ok(());
        }
        let mut bytes = [0; 4096];
        let read = match self.stream.read(&mut bytes) {
            Ok(0) => return Err("the node closed the connection".to_owned()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(format!("cannot receive: {error}")),
        };
        let now = Instant::now();
        for byte in &bytes[..read] {
            if *byte != OK[self.partial] {
                let said = String::from_utf8_lossy(&bytes[..read.min(100)]).into_owned();
                return Err(format!("a write was answered {said:?}"));
            }
            self.partial += 1;
            if self.partial == OK.len() {
                self.partial = 0;
                let due = self.due.pop_front().ok_or("a reply to nothing")?;
                if due >= counted_from {
                    let took = now.saturating_duration_since(due).as_micros();
                    latencies.push(u64::try_from(took).unwrap_or(u64::MAX));
                }
            }
        }
        Ok(())
    }
}
