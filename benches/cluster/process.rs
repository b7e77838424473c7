//! One server process: pinned to a CPU, watched through `/proc`, stopped for a while, killed at the end.
//!
//! Invariant: a [`Process`] that goes out of scope leaves nothing running.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ashlar_benches::process::cpu_s;

use crate::Failure;
use crate::wire::Wire;

/// How long a server may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);
/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Port of 127.0.0.1 that clients connect to.
    pub(crate) port: u16,
    log: PathBuf,
}

impl Process {
    /// Starts `words` on a CPU; what it says goes to `log`.
    pub(crate) fn start(
        cpu: u32,
        words: &[String],
        port: u16,
        log: &Path,
    ) -> Result<Self, Failure> {
        let said = |error: std::io::Error| format!("cannot start {}: {error}", words[0]);
        let out = File::create(log).map_err(said)?;
        let errors = out.try_clone().map_err(said)?;
        // taskset becomes the program: the child is the server itself.
        let child = Command::new("taskset")
            .args(["-c", &cpu.to_string()])
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn()
            .map_err(said)?;
        Ok(Self {
            child,
            port,
            log: log.to_owned(),
        })
    }

    /// Waits until it answers a ping.
    pub(crate) fn wait_until_it_answers(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        while begin.elapsed() < START_MAX {
            if let Ok(mut wire) = Wire::connect(self.port)
                && wire.ask(&["PING"]).is_ok_and(|said| said == "+PONG")
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended with {status}: {}", self.last_words()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!(
            "no answer within {} s: {}",
            START_MAX.as_secs(),
            self.last_words()
        ))
    }

    /// Returns the CPU time that all threads have used, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<f64, Failure> {
        cpu_s(&self.child.id().to_string())
    }

    /// Returns the resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<f64, Failure> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or("no VmRSS in /proc/PID/status".to_owned())
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{name}", self.child.id());
        fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
    }

    /// Sends a signal by its name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("kill -{name} ended with {status}")),
            Err(error) => Err(format!("cannot run kill: {error}")),
        }
    }

    /// Kills it, and does not wait until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
    }

    /// Returns the last lines that it said, in one.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}

/// Returns ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let said = |error: std::io::Error| format!("no free port: {error}");
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .map_err(said)?;
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    listeners
        .iter()
        .map(port)
        .collect::<Result<_, _>>()
        .map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_is_reported() {
        let log = std::env::temp_dir().join(format!("cluster-test-{}.log", std::process::id()));
        let mut process = Process::start(0, &["false".to_owned()], 1, &log).unwrap();
        let failure = process.wait_until_it_answers().unwrap_err();
        assert!(
            failure.starts_with("ended with exit status: 1"),
            "{failure}"
        );
        fs::remove_file(log).unwrap();
    }
}
