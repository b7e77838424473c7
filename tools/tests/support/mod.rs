//! Real nodes and real connections for the tests of the `ashlar` command: a process started in a
//! temporary directory, and a client that speaks RESP2 over a `TcpStream`. Only the standard
//! library; nothing here knows what a test wants.
//!
//! Invariant: a node that a test started is dead when its [`Node`] is dropped, whatever became of
//! the test.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

mod client;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

pub(crate) use client::{Client, Reply};

/// How long anything may take that should be quick, on a machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often that long a node may take to stop.
const STOP_TRIES: u32 = 3;

/// Waits until `done` says so, looking every millisecond; panics with `what` when it takes longer
/// than [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, done: impl FnMut() -> bool) {
    assert!(eventually(done), "waited too long until {what}");
}

/// Waits until `done` says so, looking every millisecond; says whether it did within [`PATIENCE`].
pub(crate) fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    true
}

/// What a process of `ashlar` said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Ended {
    /// Panics unless the process ended with `code` and one line of errors that holds all of
    /// `parts`.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.starts_with("ashlar: "), "{self:?}");
        assert_eq!(
            self.err.lines().count(),
            1,
            "an error is one line: {self:?}"
        );
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing: {}", self.err);
        }
    }
}

/// Runs `ashlar` with `args` to its end; panics when it does not end.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Ended {
    match Node::try_start_bare(args) {
        Ok(node) => panic!(
            "ashlar {args:?} should have ended, but it serves on {}",
            node.addr
        ),
        Err(ended) => ended,
    }
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    lines: Receiver<String>,
    out: String,
    err: tempfile::NamedTempFile,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Node {
    /// Starts a node on `data` and a free port, with further flags; panics when it does not come to
    /// serve.
    #[track_caller]
    pub(crate) fn start(data: &Path, flags: &[&str]) -> Self {
        match Self::try_start(data, flags) {
            Ok(node) => node,
            Err(ended) => panic!("the node does not start: {ended:?}"),
        }
    }

    /// Starts a node on `data` and a free port; gives back how it ended when it does not come to
    /// serve.
    pub(crate) fn try_start(data: &Path, flags: &[&str]) -> Result<Self, Ended> {
        let data = data.to_str().expect("temporary paths are UTF-8");
        let mut args = vec!["start", "--data", data, "--listen", "127.0.0.1:0"];
        args.extend(flags);
        Self::try_start_bare(&args)
    }

    /// Starts a process with `args` alone; gives back how it ended when it does not come to serve.
    pub(crate) fn try_start_bare(args: &[&str]) -> Result<Self, Ended> {
        let mut node = Self::spawn(args);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match node
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    node.out += &format!("{line}\n");
                    if let Some((_, addr)) = line.split_once(" listens on ") {
                        node.addr = addr.parse().expect("the first line ends with an address");
                        return Ok(node);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(node.ended()),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("neither served nor ended: {args:?}, {:?}", node.output())
                }
            }
        }
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(args: &[&str]) -> Self {
        let err = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ashlar"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().expect("piped above"));
        let (give, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| give.send(line))
        });
        Self {
            child,
            lines,
            out: String::new(),
            err,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// Makes a connection.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success(),
            "{kill}"
        );
    }

    /// Kills the process, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Ended {
        let _ = self.child.kill();
        self.ended()
    }

    /// Sends a signal and waits until the process has ended by itself.
    #[track_caller]
    pub(crate) fn stop(self, signal: &str) -> Ended {
        self.signal(signal);
        self.wait_until_stopped()
    }

    /// Waits until the process has ended by itself. A node says itself what it waits for and gives up before this
    /// does; it is gone when the kernel has done its last syncs.
    #[track_caller]
    pub(crate) fn wait_until_stopped(mut self) -> Ended {
        let stopped =
            (0..STOP_TRIES).any(|_| eventually(|| self.child.try_wait().unwrap().is_some()));
        assert!(stopped, "it does not stop: {:?}", self.output());
        self.ended()
    }

    /// Says whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns the resident memory of the process, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a live process has memory");
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }

    /// Returns what the process has said so far: its output and its errors.
    pub(crate) fn output(&mut self) -> (String, String) {
        while let Ok(line) = self.lines.try_recv() {
            self.out += &format!("{line}\n");
        }
        (
            self.out.clone(),
            std::fs::read_to_string(self.err.path()).unwrap(),
        )
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().unwrap();
        // The channel ends with the process's output.
        while let Ok(line) = self.lines.recv() {
            self.out += &format!("{line}\n");
        }
        let (out, err) = self.output();
        Ended {
            code: status.code(),
            out,
            err,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends a command, as clients send it, to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// A source of chance for tests, xorshift64*: the same numbers for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Makes a source from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % end
    }
}

/// Returns a seed: that of the variable `ASHLAR_SEED`, or a new one. Printed, so that a failure can
/// be had again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("ASHLAR_SEED")
        .ok()
        .map(|seed| seed.parse().expect("ASHLAR_SEED is a number"));
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos())
    };
    let seed = given.unwrap_or_else(|| u64::from(now()));
    eprintln!("ASHLAR_SEED={seed}");
    seed
}

/// Returns the log segments of a shard, in the order of their names.
pub(crate) fn segments(data: &Path, shard: u32) -> Vec<PathBuf> {
    let dir = data.join("wal").join(format!("{shard:03}"));
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// Returns whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}
