//! One server process: started fresh on a free port, watched through `/proc`, killed at the end.
//!
//! Invariant: a [`Server`] that goes out of scope leaves no process and no data behind.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use ashlar_benches::process::cpu_s;

use crate::Failure;
use crate::clients::CLIENTS;
use crate::load::Workload;
use crate::options::Options;

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(20);

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The node, with one shard.
    Ashlar,
    /// The same, without taking times.
    AshlarUntimed,
    /// redis-server with every write synced before its reply.
    RedisAlways,
    /// redis-server without persistence: what the client can reach at all.
    RedisMemory,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    /// What it is.
    pub(crate) kind: Kind,
    /// Port of 127.0.0.1 that it listens on.
    pub(crate) port: u16,
    child: Child,
    data: PathBuf,
}

impl Kind {
    /// Every server, in the order of a round.
    pub(crate) const EVERY: [Self; 4] = [
        Self::Ashlar,
        Self::AshlarUntimed,
        Self::RedisAlways,
        Self::RedisMemory,
    ];

    /// Says whether a workload is run on it: on the one that takes no times only what is compared with that.
    pub(crate) fn runs(self, workload: Workload) -> bool {
        use Workload::{GetP16, SetP1, SetP16};
        self != Self::AshlarUntimed || matches!(workload, SetP1 | SetP16 | GetP16)
    }

    /// Returns the name in options and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ashlar => "ashlar",
            Self::AshlarUntimed => "ashlar-untimed",
            Self::RedisAlways => "redis-always",
            Self::RedisMemory => "redis-memory",
        }
    }

    /// Returns the program and its arguments.
    fn command(self, options: &Options, data: &Path, port: u16) -> Vec<String> {
        let data = data.display().to_string();
        let redis = |persistence: &[&str]| {
            let port = port.to_string();
            // Rewriting the file in between would only slow the peer down.
            let common = [
                "redis-server",
                "--port",
                &port,
                "--dir",
                &data,
                "--save",
                "",
            ];
            [&common, persistence]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect()
        };
        match self {
            Self::Ashlar | Self::AshlarUntimed => vec![
                options.ashlar.display().to_string(),
                "start".to_owned(),
                "--data".to_owned(),
                data,
                "--listen".to_owned(),
                format!("127.0.0.1:{port}"),
                "--cpus".to_owned(),
                options.server_cpu.to_string(),
                "--set".to_owned(),
                format!("client.clients_max={}", CLIENTS + 100),
                "--set".to_owned(),
                format!(
                    "io.timing={}",
                    if self == Self::Ashlar { "yes" } else { "no" }
                ),
            ],
            Self::RedisAlways => redis(&[
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--auto-aof-rewrite-percentage",
                "0",
            ]),
            Self::RedisMemory => redis(&["--appendonly", "no"]),
        }
    }
}

impl Server {
    /// Starts a server with its data in `data`, and waits until it answers.
    pub(crate) fn start(options: &Options, kind: Kind, data: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(data).map_err(said("cannot make", data))?;
        let log = data.with_extension("log");
        let out = fs::File::create(&log).map_err(said("cannot make", &log))?;
        let errors = out.try_clone().map_err(said("cannot open again", &log))?;
        let port = free_port()?;
        // taskset becomes the program: the child is the server itself.
        let child = Command::new("taskset")
            .args(["-c", &options.server_cpu.to_string()])
            .args(kind.command(options, data, port))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", kind.name()))?;
        let mut server = Self {
            kind,
            port,
            child,
            data: data.to_owned(),
        };
        server.wait_until_it_answers(&log)?;
        Ok(server)
    }

    /// Returns the CPU time that all threads have used, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64, Failure> {
        cpu_s(&self.child.id().to_string())
    }

    /// Returns the resident memory in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64, Failure> {
        let path = self.proc("status");
        let status = fs::read_to_string(&path).map_err(said("cannot read", &path))?;
        resident_kib(&status)
            .map(|kib| kib as f64 / 1024.0)
            .ok_or(format!("no VmRSS in {path:?}"))
    }

    /// Returns how many threads the kernel has made to finish what a ring could not do without waiting.
    pub(crate) fn ring_workers(&self) -> Result<usize, Failure> {
        let path = self.proc("task");
        let tasks = fs::read_dir(&path).map_err(said("cannot list", &path))?;
        let names = tasks.filter_map(|task| {
            // A thread may end between the listing and the reading.
            fs::read_to_string(task.ok()?.path().join("comm")).ok()
        });
        Ok(names.filter(|name| name.starts_with("iou-wrk")).count())
    }

    /// Returns the path of a file about the process.
    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Waits for the first `+PONG`.
    fn wait_until_it_answers(&mut self, log: &Path) -> Result<(), Failure> {
        let begin = Instant::now();
        while begin.elapsed() < START_MAX {
            if ping(self.port) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status}: {}", tail(log)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!(
            "no answer within {} s: {}",
            START_MAX.as_secs(),
            tail(log)
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// Returns a function that turns an error about `path` into one line.
pub(crate) fn said<E: Debug + ToString>(what: &str, path: &Path) -> impl Fn(E) -> Failure {
    let start = format!("{what} {}", path.display());
    move |error| format!("{start}: {}", error.to_string())
}

/// Returns a port that was free a moment ago.
fn free_port() -> Result<u16, Failure> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// Tells whether a server on `port` answers.
fn ping(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let wait = Duration::from_millis(500);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, wait) else {
        return false;
    };
    let mut answer = [0_u8; 5];
    let asked = stream
        .set_read_timeout(Some(wait))
        .and_then(|()| stream.write_all(b"*1\r\n$4\r\nPING\r\n"))
        .and_then(|()| stream.read_exact(&mut answer));
    asked.is_ok() && &answer == b"+PONG"
}

/// Returns the last lines of a log in one line.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// Returns the resident memory from `/proc/PID/status`, in KiB.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_found() {
        assert_eq!(
            resident_kib("VmPeak:\t 9 kB\nVmRSS:\t   2048 kB\n"),
            Some(2048)
        );
        assert_eq!(resident_kib("VmPeak:\t 9 kB\n"), None);
    }

    #[test]
    fn a_server_that_ends_is_reported_with_its_last_words() {
        let directory = std::env::temp_dir().join(format!("compare-test-{}", std::process::id()));
        let line = format!("--ashlar {}", "/bin/false");
        let options = Options::parse(line.split(' ').map(str::to_owned)).unwrap();
        let failure = Server::start(&options, Kind::Ashlar, &directory).unwrap_err();
        assert!(
            failure.starts_with("ended with exit status: 1"),
            "{failure}"
        );
        assert!(!directory.exists());
        fs::remove_file(directory.with_extension("log")).unwrap();
    }
}
