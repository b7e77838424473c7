//! The nodes of a storm: real processes, started, stopped for a while, killed, and watched.
//!
//! Invariant: a node that ends by itself is noticed, and is a violation.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::place::{Place, run, space};

/// What every node is started with: little memory and small files, so that tables are written, merged and sent all
/// the time.
const SMALL: [&str; 6] = [
    "partition.table_bytes=256KiB",
    "wal.log_bytes_max=4MiB",
    "wal.segment_bytes=1MiB",
    "wal.segments_spare=1",
    "disk.reserve_bytes=1MiB",
    "disk.stop_percent=2",
];
/// Lines of a node's output that a failure shows.
const LAST_LINES: usize = 12;

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) program: PathBuf,
    pub(super) nodes: u32,
    pub(super) shards: u32,
    pub(super) split_at: Vec<String>,
    pub(super) history_ms: u64,
}

/// A node: its process, when it has one.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: u32,
    child: Option<Child>,
    is_paused: bool,
}

impl Shape {
    fn settings(&self) -> impl Iterator<Item = String> {
        let of_run = format!("partition.history_ms={}", self.history_ms);
        SMALL.iter().map(|set| (*set).to_owned()).chain([of_run])
    }

    fn peers(&self, place: &Place) -> String {
        let peer = |node| format!("{}={}", space(node), place.peer_listen(node));
        (0..self.nodes).map(peer).collect::<Vec<_>>().join(",")
    }
}

impl Node {
    /// Makes a node's data directory.
    pub(super) fn format(place: &Place, shape: &Shape, number: u32) -> Result<Self, String> {
        let mut command = place.command(number, &shape.program);
        command.arg("format").arg("--data").arg(place.data(number));
        command.args(["--shards", &shape.shards.to_string()]);
        shape.split_at.iter().for_each(|key| {
            command.args(["--split-at", key]);
        });
        shape.settings().for_each(|set| {
            command.args(["--set", &set]);
        });
        let output = command
            .output()
            .map_err(|error| format!("cannot format: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Self {
            number,
            child: None,
            is_paused: false,
        })
    }

    /// Starts the process; it is not waited for.
    pub(super) fn start(&mut self, place: &Place, shape: &Shape) -> Result<(), String> {
        let path = place.log(self.number);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = place.command(self.number, &shape.program);
        command
            .arg("start")
            .arg("--data")
            .arg(place.data(self.number));
        command.args(["--memory", "64MiB", "--name", &space(self.number)]);
        command.args(["--listen", &place.listen(self.number).to_string()]);
        command.args(["--peer-listen", &place.peer_listen(self.number).to_string()]);
        command.args(["--peers", &shape.peers(place)]);
        shape.settings().for_each(|set| {
            command.args(["--set", &set]);
        });
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command
            .spawn()
            .map_err(|error| format!("cannot start: {error}"))?;
        self.child = Some(child);
        Ok(())
    }

    /// Says whether it runs, be it paused.
    pub(super) fn is_alive(&self) -> bool {
        self.child.is_some()
    }

    /// Kills the process, as `kill -9` does; says whether there was one.
    pub(super) fn kill(&mut self) -> bool {
        self.is_paused = false;
        let Some(mut child) = self.child.take() else {
            return false;
        };
        // It may have ended by itself meanwhile; whoever watches has seen that.
        let _ = child.kill();
        let _ = child.wait();
        true
    }

    /// Has the process stand still; says whether it did not before.
    pub(super) fn pause(&mut self) -> Result<bool, String> {
        let stands = self.child.is_none() || self.is_paused;
        if !stands {
            self.signal("STOP")?;
            self.is_paused = true;
        }
        Ok(!stands)
    }

    /// Has it go on.
    pub(super) fn resume(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.is_paused) {
            return Ok(());
        }
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), String> {
        let Some(child) = &self.child else {
            return Ok(());
        };
        run("kill", &format!("-{name} {}", child.id()))
    }

    /// Notices an end that nobody asked for; says whether the node found no room on its disk to start with, which
    /// ends it with a word about that.
    ///
    /// # Errors
    /// The process has ended by itself for another reason.
    pub(super) fn watch(&mut self, place: &Place) -> Result<bool, String> {
        let Some(child) = &mut self.child else {
            return Ok(false);
        };
        match child.try_wait() {
            Ok(None) => Ok(false),
            Ok(Some(status))
                if status.code() == Some(1) && found_no_room(&place.log(self.number)) =>
            {
                self.child = None;
                Ok(true)
            }
            Ok(Some(status)) => Err(format!("{} ended by itself: {status}", space(self.number))),
            Err(error) => Err(format!("{}: {error}", space(self.number))),
        }
    }

    /// Stops the process as an operator does, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let asked = ashlar_io::ask_to_stop(child.id());
        let status = asked
            .and_then(|()| child.wait())
            .map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{} stopped with {status}", space(self.number))),
        }
    }

    /// Checks every checksum of the stopped node.
    pub(super) fn verify(&self, place: &Place, shape: &Shape) -> Result<(), String> {
        let mut command = place.command(self.number, &shape.program);
        let output = command
            .arg("verify")
            .arg("--data")
            .arg(place.data(self.number))
            .output();
        let output = output.map_err(|error| format!("cannot verify: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{} is damaged: {}{}",
                space(self.number),
                String::from_utf8_lossy(&output.stdout).trim(),
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Says whether the last that a node said is that a file cannot be written for want of room.
fn found_no_room(log: &Path) -> bool {
    let words = last_words(log);
    let last = words.lines().last().unwrap_or_default();
    last.starts_with("ashlar: cannot write") && last.contains("No space left on device")
}

/// Returns the last lines of a node's output.
pub(super) fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
