//! Three nodes of a cluster, each a process; who leads is chosen, so that every round measures the same thing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::Failure;
use crate::options::Options;
use crate::process::{Process, free_ports};
use crate::wire::Wire;

/// Nodes of a cluster.
pub(crate) const NODES: usize = 3;
/// How long a cluster may take to be as it is wanted.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Three nodes; one that was killed is missing until it is started again.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    options: &'a Options,
    dir: PathBuf,
    ports: Vec<u16>,
    peer_ports: Vec<u16>,
    /// The nodes that run.
    pub(crate) nodes: Vec<Option<Process>>,
}

impl<'a> Cluster<'a> {
    /// Makes a cluster of so many partitions below `dir`, and waits until its first node leads all of them.
    pub(crate) fn start(
        options: &'a Options,
        dir: &Path,
        partitions: u32,
    ) -> Result<Self, Failure> {
        let ports = free_ports(NODES * 2)?;
        let mut cluster = Self {
            options,
            dir: dir.to_owned(),
            peer_ports: ports[NODES..].to_vec(),
            ports: ports[..NODES].to_vec(),
            nodes: (0..NODES).map(|_| None).collect(),
        };
        for node in 0..NODES {
            format(options, &cluster.data(node), partitions)?;
        }
        (0..NODES).try_for_each(|node| cluster.spawn(node))?;
        (0..NODES).try_for_each(|node| cluster.running(node)?.wait_until_it_answers())?;
        Ok(cluster)
    }

    /// Starts a node that does not run, and waits until it answers.
    pub(crate) fn restart(&mut self, node: usize) -> Result<(), Failure> {
        self.spawn(node)?;
        self.running(node)?.wait_until_it_answers()
    }

    fn spawn(&mut self, node: usize) -> Result<(), Failure> {
        let cpu = self.options.node_cpus[node];
        let mut words = vec![
            self.options.ashlar.display().to_string(),
            "start".to_owned(),
        ];
        let peer = |node: usize| format!("n{}=127.0.0.1:{}", node + 1, self.peer_ports[node]);
        let peers: Vec<String> = (0..NODES).map(peer).collect();
        for (flag, value) in [
            ("--data", self.data(node).display().to_string()),
            ("--listen", format!("127.0.0.1:{}", self.ports[node])),
            ("--cpus", cpu.to_string()),
            ("--name", format!("n{}", node + 1)),
            (
                "--peer-listen",
                format!("127.0.0.1:{}", self.peer_ports[node]),
            ),
            ("--peers", peers.join(",")),
        ] {
            words.extend([flag.to_owned(), value]);
        }
        let log = self.dir.join(format!("n{}.log", node + 1));
        self.nodes[node] = Some(Process::start(cpu, &words, self.ports[node], &log)?);
        Ok(())
    }

    fn data(&self, node: usize) -> PathBuf {
        self.dir.join(format!("n{}", node + 1))
    }

    /// Returns a node that runs.
    fn running(&mut self, node: usize) -> Result<&mut Process, Failure> {
        self.nodes[node]
            .as_mut()
            .ok_or(format!("n{} does not run", node + 1))
    }

    /// Returns the port for clients of a node.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.ports[node]
    }

    /// Returns how a node sees each partition, one line each.
    pub(crate) fn partitions(&self, asked: usize) -> Result<Vec<String>, Failure> {
        let text = Wire::connect(self.port(asked))?.ask(&["CLUSTER", "PARTITIONS"])?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Returns who leads partition 0, as some node knows it that runs.
    pub(crate) fn leader(&self) -> Result<usize, Failure> {
        let mut found = None;
        wait_until("a leader is known", || {
            let running = (0..NODES).filter(|node| self.nodes[*node].is_some());
            for asked in running {
                let lines = self.partitions(asked).unwrap_or_default();
                found = lines.first().and_then(|line| leader_in(line));
                if found.is_some() {
                    return true;
                }
            }
            false
        })?;
        found.ok_or("nobody leads".to_owned())
    }

    /// Has a node lead partition 0, and waits until it does and all replicas have all.
    pub(crate) fn lead(&self, node: usize) -> Result<(), Failure> {
        let name = format!("n{}", node + 1);
        wait_until("the wanted node leads", || {
            let lines = self.partitions(node).unwrap_or_default();
            let leads = lines
                .first()
                .is_some_and(|line| leader_in(line) == Some(node));
            if !leads && let Ok(mut wire) = Wire::connect(self.port(node)) {
                // It is asked again when it was refused: the others may not be ready.
                let _ = wire.ask(&["KV.TRANSFER", "0", &name]);
            }
            leads
        })?;
        self.wait_until_equal(node)
    }

    /// Waits until a leader knows that all replicas of partition 0 have all.
    pub(crate) fn wait_until_equal(&self, leader: usize) -> Result<(), Failure> {
        wait_until("all replicas have all", || {
            let lines = self.partitions(leader).unwrap_or_default();
            lines
                .first()
                .is_some_and(|line| line.matches(":-0").count() >= NODES - 1)
        })
    }

    /// Returns the CPU time of all nodes that run, in seconds.
    pub(crate) fn cpu_s(&self) -> Result<Vec<f64>, Failure> {
        self.nodes.iter().flatten().map(Process::cpu_s).collect()
    }
}

/// Makes a data directory with one shard and so many partitions.
pub(crate) fn format(options: &Options, data: &Path, partitions: u32) -> Result<(), Failure> {
    let parent = data.parent().unwrap_or(data);
    fs::create_dir_all(parent).map_err(|error| format!("cannot make {parent:?}: {error}"))?;
    let mut command = Command::new(&options.ashlar);
    command
        .arg("format")
        .arg("--data")
        .arg(data)
        .args(["--shards", "1"]);
    for number in 1..partitions {
        command.args(["--split-at", &format!("part:{number:06}")]);
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot format: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Returns the node that leads, from a line of `CLUSTER PARTITIONS`.
fn leader_in(line: &str) -> Option<usize> {
    let name = line
        .split(' ')
        .find_map(|word| word.strip_prefix("leader=n"))?;
    name.parse::<usize>().ok()?.checked_sub(1)
}

/// Waits until `done` says so.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) -> Result<(), Failure> {
    let begin = Instant::now();
    while !done() {
        if begin.elapsed() > SETTLE_MAX {
            return Err(format!("waited too long until {what}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_found_in_what_a_node_says() {
        assert_eq!(leader_in("partition=0 leader=n2 lease=yes n1:-0"), Some(1));
        assert_eq!(leader_in("partition=0 leader=- lease=-"), None);
    }
}
