//! The command line of the comparison, parsed by hand: there are few options.

use std::path::PathBuf;

use ashlar_benches::program::parse_number;

use crate::load::Workload;
use crate::server::Kind;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: compare [OPTION]...
Compares an Ashlar node with redis-server and its log with fio; prints a table in Markdown.

  --only LIST        of set-p1, set-p16, get-p16, incr-p1, mset-p16, multi, hset-p16, sadd-p16,
                     zadd-p16, lpush-p16, hget-p16, zscore-p16, smembers-100, lrange-100, publish, idle,
                     clients, wal; separated by commas (default: all)
  --servers LIST     of ashlar, ashlar-untimed, redis-always, redis-memory (default: all)
  --rounds N         interleaved rounds (default 5)
  --requests N       requests of a workload without pipeline; five times as many with,
                     fifty times as many messages (default 200000)
  --quick            2 rounds of 20000 requests, and 1 second where it would be 5
  --ashlar PATH      the binary (default target/release/ashlar)
  --dir PATH         where the data goes: the disk that is compared (default .)
  --server-cpu N     CPU of the servers (default 0)
  --client-cpu N     CPU of the clients (default 1)";

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Print the usage and stop.
    pub(crate) help: bool,
    /// Workloads to run, in the order of [`Workload::EVERY`].
    workloads: Vec<Workload>,
    /// Servers to run, in the order of [`Kind::EVERY`].
    kinds: Vec<Kind>,
    /// Measure servers that nobody uses.
    pub(crate) idle: bool,
    /// Measure servers with many idle clients.
    pub(crate) clients: bool,
    /// Measure the log against fio.
    pub(crate) wal: bool,
    /// Interleaved rounds.
    pub(crate) rounds: u32,
    /// Requests of a workload without pipeline.
    pub(crate) requests: u64,
    /// Duration of the idle measurement in seconds.
    pub(crate) idle_s: u64,
    /// Duration of one measurement of the device in seconds.
    pub(crate) device_s: u64,
    /// The binary of the node.
    pub(crate) ashlar: PathBuf,
    /// Where the data goes.
    pub(crate) directory: PathBuf,
    /// CPU of the servers.
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
                "--servers" => options.kinds = parse_kinds(&value()?)?,
                "--rounds" => options.rounds = parse_number(&argument, &value()?, 1, 1_000)?,
                "--requests" => {
                    options.requests = parse_number(&argument, &value()?, 1_000, 1_000_000_000)?;
                }
                "--ashlar" => options.ashlar = PathBuf::from(value()?),
                "--dir" => options.directory = PathBuf::from(value()?),
                "--server-cpu" => options.server_cpu = parse_number(&argument, &value()?, 0, 1023)?,
                "--client-cpu" => options.client_cpu = parse_number(&argument, &value()?, 0, 1023)?,
                _ => return Err(format!("unknown option {argument}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Returns the workloads to run.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        self.workloads.clone()
    }

    /// Returns the servers to run; none when only the log is measured.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        match self.workloads.is_empty() && !self.idle && !self.clients {
            true => Vec::new(),
            false => self.kinds.clone(),
        }
    }

    /// Tells whether the node itself takes part.
    pub(crate) fn has_ashlar(&self) -> bool {
        self.kinds.contains(&Kind::Ashlar)
    }

    /// Returns what an empty command line means.
    fn defaults() -> Self {
        Self {
            help: false,
            workloads: Workload::EVERY.to_vec(),
            kinds: Kind::EVERY.to_vec(),
            idle: true,
            clients: true,
            wal: true,
            rounds: 5,
            requests: 200_000,
            idle_s: 5,
            device_s: 5,
            ashlar: PathBuf::from("target/release/ashlar"),
            directory: PathBuf::from("."),
            server_cpu: 0,
            client_cpu: 1,
        }
    }

    /// Makes everything short: to see that it runs, not to believe it.
    fn quicken(&mut self) {
        (self.rounds, self.requests, self.idle_s, self.device_s) = (2, 20_000, 1, 1);
    }

    /// Keeps only the parts in `list`.
    fn restrict(&mut self, list: &str) -> Result<(), String> {
        let names: Vec<&str> = list.split(',').collect();
        let known = |name: &str| {
            ["idle", "clients", "wal"].contains(&name)
                || Workload::EVERY.iter().any(|w| w.name() == name)
        };
        if let Some(name) = names.iter().find(|name| !known(name)) {
            let known = Workload::EVERY.map(Workload::name).join(", ");
            return Err(format!(
                "--only {name}: allowed are {known}, idle, clients, wal"
            ));
        }
        self.workloads
            .retain(|workload| names.contains(&workload.name()));
        self.idle = names.contains(&"idle");
        self.clients = names.contains(&"clients");
        self.wal = names.contains(&"wal");
        Ok(())
    }
}

/// Returns the servers in `list`.
fn parse_kinds(list: &str) -> Result<Vec<Kind>, String> {
    let names: Vec<&str> = list.split(',').collect();
    let known = |name: &str| Kind::EVERY.iter().any(|kind| kind.name() == name);
    match names.iter().find(|name| !known(name)) {
        Some(name) => Err(format!(
            "--servers {name}: allowed are ashlar, ashlar-untimed, redis-always, redis-memory"
        )),
        None => Ok(Kind::EVERY
            .into_iter()
            .filter(|kind| names.contains(&kind.name()))
            .collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a command line.
    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn nothing_means_everything() {
        let options = parse("").unwrap();
        assert_eq!(options.workloads(), Workload::EVERY);
        assert_eq!(options.kinds(), Kind::EVERY);
        assert!(options.idle && options.wal);
        assert_eq!((options.rounds, options.requests), (5, 200_000));
    }

    #[test]
    fn parts_can_be_chosen() {
        let options = parse("--only get-p16,set-p1 --servers ashlar --rounds 3").unwrap();
        assert_eq!(options.workloads(), [Workload::SetP1, Workload::GetP16]);
        assert_eq!(options.kinds(), [Kind::Ashlar]);
        assert!(!options.idle && !options.wal);
        assert_eq!(parse("--only wal").unwrap().kinds(), []);
        assert_eq!(parse("--quick --rounds 7").unwrap().rounds, 7);
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (line, said) in [
            ("--rounds", "--rounds needs a value"),
            (
                "--rounds 0",
                "--rounds 0: allowed is an integer from 1 to 1000",
            ),
            ("--only speed", "--only speed: allowed are set-p1"),
            ("--servers mysql", "--servers mysql: allowed are ashlar"),
            ("--fast", "unknown option --fast"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.starts_with(said), "{message}");
        }
    }
}
