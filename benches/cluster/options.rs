//! The command line, parsed by hand: this program depends on the standard library alone.

use std::path::PathBuf;

use ashlar_benches::program::parse_number;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: cluster [OPTION]...
Measures a cluster of three nodes on this machine against redis-server, etcd and a single node; prints a table in
Markdown.

  --only LIST        of load, etcd, kill, idle, pause; separated by commas (default: all)
  --rounds N         interleaved rounds of load (default 5)
  --requests N       requests of a workload without pipeline; five times as many with (default 100000)
  --kills N          kills of the leader (default 20)
  --partitions N     groups of the idle cluster (default 1000)
  --seconds N        of each idle and pause measurement (default 10)
  --quick            2 rounds of 20000 requests, 3 kills, 2 seconds
  --ashlar PATH      the binary (default target/release/ashlar)
  --dir PATH         where the data goes: the disk that is compared (default .)
  --node-cpus LIST   CPU of each node, that of the leader first (default 1,0,0)
  --server-cpu N     CPU of redis-server and of a single node (default 1)
  --client-cpu N     CPU of the clients (default 0)

etcd is Debian's: apt-get install etcd-server etcd-client. Its rate is what `etcdctl check perf --load xl` says.";

/// Parts that can be asked for.
pub(crate) const PARTS: [&str; 5] = ["load", "etcd", "kill", "idle", "pause"];

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Print the usage and stop.
    pub(crate) help: bool,
    parts: Vec<String>,
    /// Interleaved rounds of load.
    pub(crate) rounds: u32,
    /// Requests of a workload without pipeline.
    pub(crate) requests: u64,
    /// Kills of the leader.
    pub(crate) kills: u32,
    /// Partitions of the idle cluster.
    pub(crate) partitions: u32,
    /// Seconds of each idle and pause measurement.
    pub(crate) seconds: u64,
    /// The binary of the node.
    pub(crate) ashlar: PathBuf,
    /// Where the data goes.
    pub(crate) directory: PathBuf,
    /// CPU of each node; the first leads.
    pub(crate) node_cpus: Vec<u32>,
    /// CPU of redis-server and of a single node.
    pub(crate) server_cpu: u32,
    /// CPU of the clients.
    pub(crate) client_cpu: u32,
}

impl Options {
    /// Returns the options that `arguments` mean, or what is wrong with them.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::defaults();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => options.help = true,
                "--quick" => options.quicken(),
                "--only" => options.restrict(&value()?)?,
                "--rounds" => options.rounds = parse_number(&argument, &value()?, 1, 1_000)?,
                "--requests" => {
                    options.requests = parse_number(&argument, &value()?, 1_000, 1_000_000_000)?
                }
                "--kills" => options.kills = parse_number(&argument, &value()?, 1, 100_000)?,
                "--partitions" => {
                    options.partitions = parse_number(&argument, &value()?, 1, 10_000)?
                }
                "--seconds" => options.seconds = parse_number(&argument, &value()?, 1, 3_600)?,
                "--ashlar" => options.ashlar = PathBuf::from(value()?),
                "--dir" => options.directory = PathBuf::from(value()?),
                "--node-cpus" => options.node_cpus = parse_cpus(&value()?)?,
                "--server-cpu" => options.server_cpu = parse_number(&argument, &value()?, 0, 1023)?,
                "--client-cpu" => options.client_cpu = parse_number(&argument, &value()?, 0, 1023)?,
                _ => return Err(format!("unknown option {argument}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Says whether a part was asked for.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|asked| asked == part)
    }

    fn defaults() -> Self {
        Self {
            help: false,
            parts: PARTS.map(str::to_owned).to_vec(),
            rounds: 5,
            requests: 100_000,
            kills: 20,
            partitions: 1_000,
            seconds: 10,
            ashlar: PathBuf::from("target/release/ashlar"),
            directory: PathBuf::from("."),
            node_cpus: vec![1, 0, 0],
            server_cpu: 1,
            client_cpu: 0,
        }
    }

    /// Makes everything short: to see that it runs, not to believe it.
    fn quicken(&mut self) {
        (self.rounds, self.requests, self.kills, self.seconds) = (2, 20_000, 3, 2);
    }

    /// Keeps only the parts in `list`.
    fn restrict(&mut self, list: &str) -> Result<(), String> {
        self.parts = list.split(',').map(str::to_owned).collect();
        match self
            .parts
            .iter()
            .find(|name| !PARTS.contains(&name.as_str()))
        {
            Some(name) => Err(format!("--only {name}: allowed are {}", PARTS.join(", "))),
            None => Ok(()),
        }
    }
}

/// Returns the CPUs of three nodes.
fn parse_cpus(list: &str) -> Result<Vec<u32>, String> {
    let cpus: Option<Vec<u32>> = list.split(',').map(|cpu| cpu.parse().ok()).collect();
    cpus.filter(|cpus| cpus.len() == 3).ok_or(format!(
        "--node-cpus {list}: allowed are three CPU numbers, such as 1,0,0"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn nothing_means_everything() {
        let options = parse("").unwrap();
        assert!(PARTS.iter().all(|part| options.has(part)));
        assert_eq!((options.rounds, options.kills), (5, 20));
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (line, said) in [
            ("--kills", "--kills needs a value"),
            (
                "--kills 0",
                "--kills 0: allowed is an integer from 1 to 100000",
            ),
            ("--only speed", "--only speed: allowed are load, etcd"),
            ("--node-cpus 1,2", "--node-cpus 1,2: allowed are three"),
            ("--fast", "unknown option --fast"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.starts_with(said), "{message}");
        }
    }
}
