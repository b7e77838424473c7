//! The two servers that are compared: started here, each in a directory of its own, or reached at an address. And a
//! connection to one of them, which sends many commands and reads as many replies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::reply;
use super::words::Command as Words;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// A server process of ours, and its directory.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    name: &'static str,
    child: Child,
    place: PathBuf,
}

impl Server {
    /// Starts this very program as a node.
    ///
    /// # Errors
    /// It does not start; the line says why.
    pub(crate) fn ashlar() -> Result<Self, String> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| format!("cannot find myself: {error}"))?;
        Self::start("ashlar", |place, port| {
            let mut command = Command::new(&program);
            command
                .arg("start")
                .arg("--data")
                .arg(place.join("data"))
                .args(["--listen", &format!("127.0.0.1:{port}")])
                .args(["--memory", "256MiB", "--set", "wal.durability=none"]);
            command
        })
    }

    /// Starts a redis-server without persistence.
    ///
    /// # Errors
    /// It does not start; the line says why.
    pub(crate) fn redis(program: &Path) -> Result<Self, String> {
        Self::start("redis-server", |place, port| {
            let mut command = Command::new(program);
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
                .args(["--enable-debug-command", "yes", "--dir"])
                .arg(place);
            command
        })
    }

    fn start(
        name: &'static str,
        command: impl FnOnce(&Path, u16) -> Command,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start {name}: {error}");
        // The port is free again when the listener is gone; nobody else is expected to take it.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let addr = free.map_err(failed)?;
        let place = std::env::temp_dir().join(format!(
            "ashlar-compare-{}-{}",
            std::process::id(),
            addr.port()
        ));
        std::fs::create_dir_all(&place).map_err(failed)?;
        let log = std::fs::File::create(place.join("log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let mut command = command(&place, addr.port());
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn();
        let mut server = Self {
            addr,
            name,
            child: child.map_err(failed)?,
            place,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if TcpStream::connect(self.addr).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait().ok().flatten().is_some();
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.place.join("log")).unwrap_or_default();
                return Err(format!("{} does not start: {}", self.name, log.trim()));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that anybody wants to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    received: Vec<u8>,
    at: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens; the line names the address.
    pub(crate) fn open(addr: SocketAddr) -> Result<Self, String> {
        let failed = |error| format!("{addr}: {error}");
        let stream = TcpStream::connect(addr).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self {
            stream,
            out: Vec::new(),
            received: Vec::new(),
            at: 0,
        })
    }

    /// Sends commands.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn send<'a>(
        &mut self,
        commands: impl Iterator<Item = &'a Words>,
    ) -> Result<(), String> {
        self.out.clear();
        for words in commands {
            write!(self.out, "*{}\r\n", words.len()).expect("a vector takes all");
            for word in words {
                write!(self.out, "${}\r\n", word.len()).expect("a vector takes all");
                self.out.extend_from_slice(word);
                self.out.extend_from_slice(b"\r\n");
            }
        }
        let sent = self.stream.write_all(&self.out);
        sent.map_err(|error| format!("cannot send: {error}"))
    }

    /// Receives a reply; nothing when the server has closed the connection.
    ///
    /// # Errors
    /// The connection is lost, silent for too long, or speaks something else.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if self.at < self.received.len()
                && let Some(reply) = reply::first(&self.received[self.at..])?
            {
                let reply = reply.to_vec();
                self.at += reply.len();
                return Ok(Some(reply));
            }
            self.received.drain(..self.at);
            self.at = 0;
            let before = self.received.len();
            self.received.resize(before + READ_BYTES, 0);
            let read = self.stream.read(&mut self.received[before..]);
            self.received
                .truncate(before + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) => return Err(format!("no reply: {error}")),
            }
        }
    }
}
