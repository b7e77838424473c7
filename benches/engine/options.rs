//! The command line.

use std::path::PathBuf;

use ashlar_benches::program::parse_number;

/// Largest number that an option takes.
const NUMBER_MAX: u64 = (1 << 40) - 1;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: engine [OPTION]...
Measures the storage engine beside its peers on this machine; prints a table in Markdown.

  --only LIST         of warm, cold, overwrite, merge, restart, memory, p99; separated by commas (default: all)
  --peers LIST        of ashlar, rocksdb, rocksdb-all, fjall, redb: who runs the part `warm` (default: all there are)
  --rounds N          interleaved rounds (default 3)
  --keys N            keys of `warm` (default 10000000)
  --reads N           reads of `warm` (default 2000000)
  --cache-mib N       cache of `warm` (default 2048)
  --memtable-mib N    memory for memtables of `warm` (default 256)
  --history-ms N      history that is kept (default 0)
  --cold-cache-mib N  cache of `cold`; its data is ten times as large (default 100)
  --overwrite-keys N  keys of `overwrite`, each written ten times on average (default 2000000)
  --overwrite-memtable-mib N  memory for memtables of `overwrite` (default 16)
  --merge-mib N       data of `merge` (default 1024)
  --restart-gib N     tables of `restart` (default 2)
  --memory-gib N      data of `memory` (default 8)
  --memory-mib N      memory of the node in `memory` (default 256)
  --seconds N         duration of one measurement of cold reads, of the device and of p99 (default 10)
  --quick             1 round of small sizes: to see that it runs, not to believe it
  --ashlar PATH       the binary (default target/release/ashlar)
  --dir PATH          where the data goes: the disk that is compared (default .)
  --cpu N             CPU of the engines and of the node (default 0)
  --client-cpu N      CPU of the clients of the node (default 1)";

/// The parts that can be run.
const PARTS: [&str; 7] = [
    "warm",
    "cold",
    "overwrite",
    "merge",
    "restart",
    "memory",
    "p99",
];
/// Who can run the part `warm`.
const PEERS: [&str; 5] = ["ashlar", "rocksdb", "rocksdb-all", "fjall", "redb"];

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Print the usage and stop.
    pub(crate) help: bool,
    parts: Vec<String>,
    /// Who runs the part `warm`.
    pub(crate) peers: Vec<String>,
    /// Interleaved rounds.
    pub(crate) rounds: u64,
    /// Keys of `warm`.
    pub(crate) keys: u64,
    /// Reads of `warm`.
    pub(crate) reads: u64,
    /// Cache of `warm` in MiB.
    pub(crate) cache_mib: u64,
    /// Memory for memtables of `warm` in MiB.
    pub(crate) memtable_mib: u64,
    /// History that is kept, in milliseconds.
    pub(crate) history_ms: u32,
    /// Cache of `cold` in MiB.
    pub(crate) cold_cache_mib: u64,
    /// Keys of `overwrite`.
    pub(crate) overwrite_keys: u64,
    /// Memory for memtables of `overwrite` in MiB.
    pub(crate) overwrite_memtable_mib: u64,
    /// Data of `merge` in MiB.
    pub(crate) merge_mib: u64,
    /// Tables of `restart` in GiB.
    pub(crate) restart_gib: u64,
    /// Data of `memory` in GiB.
    pub(crate) memory_gib: u64,
    /// Memory of the node in `memory`, in MiB.
    pub(crate) memory_mib: u64,
    /// Duration of one measurement in seconds.
    pub(crate) seconds: u64,
    /// The binary of the node.
    pub(crate) ashlar: PathBuf,
    /// Where the data goes.
    pub(crate) directory: PathBuf,
    /// CPU of the engines.
    pub(crate) cpu: u64,
    /// CPU of the clients.
    pub(crate) client_cpu: u64,
}

impl Options {
    /// Returns the options that `arguments` mean, or what is wrong with them.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::defaults();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--help" | "-h" => options.help = true,
                "--quick" => options.quicken(),
                _ => {
                    let value = arguments.next();
                    let value = value.ok_or(format!("{argument} needs a value"));
                    options.set(&argument, value)?;
                }
            }
        }
        Ok(options)
    }

    /// Says whether a part is to be run.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|chosen| chosen == part)
    }

    fn set(&mut self, option: &str, value: Result<String, String>) -> Result<(), String> {
        let number = match option {
            "--only" => return choose(option, &value?, &PARTS).map(|chosen| self.parts = chosen),
            "--peers" => return choose(option, &value?, &PEERS).map(|chosen| self.peers = chosen),
            "--ashlar" => {
                self.ashlar = PathBuf::from(value?);
                return Ok(());
            }
            "--dir" => {
                self.directory = PathBuf::from(value?);
                return Ok(());
            }
            "--history-ms" => {
                let parsed = parse_number(option, &value?, 0, NUMBER_MAX)?;
                self.history_ms = u32::try_from(parsed).unwrap_or(u32::MAX);
                return Ok(());
            }
            "--rounds" => &mut self.rounds,
            "--keys" => &mut self.keys,
            "--reads" => &mut self.reads,
            "--cache-mib" => &mut self.cache_mib,
            "--memtable-mib" => &mut self.memtable_mib,
            "--cold-cache-mib" => &mut self.cold_cache_mib,
            "--overwrite-keys" => &mut self.overwrite_keys,
            "--overwrite-memtable-mib" => &mut self.overwrite_memtable_mib,
            "--merge-mib" => &mut self.merge_mib,
            "--restart-gib" => &mut self.restart_gib,
            "--memory-gib" => &mut self.memory_gib,
            "--memory-mib" => &mut self.memory_mib,
            "--seconds" => &mut self.seconds,
            "--cpu" => &mut self.cpu,
            "--client-cpu" => &mut self.client_cpu,
            _ => return Err(format!("unknown option {option}\n\n{USAGE}")),
        };
        *number = parse_number(option, &value?, 0, NUMBER_MAX)?;
        Ok(())
    }

    /// Returns what an empty command line means.
    fn defaults() -> Self {
        Self {
            help: false,
            parts: PARTS.map(str::to_owned).to_vec(),
            peers: PEERS.map(str::to_owned).to_vec(),
            rounds: 3,
            keys: 10_000_000,
            reads: 2_000_000,
            cache_mib: 2048,
            memtable_mib: 256,
            history_ms: 0,
            cold_cache_mib: 100,
            overwrite_keys: 2_000_000,
            overwrite_memtable_mib: 16,
            merge_mib: 1024,
            restart_gib: 2,
            memory_gib: 8,
            memory_mib: 256,
            seconds: 10,
            ashlar: PathBuf::from("target/release/ashlar"),
            directory: PathBuf::from("."),
            cpu: 0,
            client_cpu: 1,
        }
    }

    fn quicken(&mut self) {
        (self.rounds, self.seconds) = (1, 2);
        (self.keys, self.reads) = (1_000_000, 200_000);
        (self.cold_cache_mib, self.overwrite_keys) = (10, 200_000);
        (self.overwrite_memtable_mib, self.merge_mib) = (8, 128);
        (self.restart_gib, self.memory_gib, self.memory_mib) = (1, 1, 64);
    }
}

/// Returns the names in `list`, if all are known.
fn choose(option: &str, list: &str, known: &[&str]) -> Result<Vec<String>, String> {
    let names: Vec<&str> = list.split(',').collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("{option} {name}: allowed are {}", known.join(", "))),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
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
        assert_eq!((options.rounds, options.keys), (3, 10_000_000));
    }

    #[test]
    fn parts_and_sizes_can_be_chosen() {
        let options = parse("--only cold,p99 --quick --rounds 7 --history-ms 50").unwrap();
        assert!(options.has("cold") && options.has("p99") && !options.has("warm"));
        assert_eq!((options.rounds, options.history_ms), (7, 50));
    }

    #[test]
    fn mistakes_name_the_option_and_what_is_allowed() {
        for (line, said) in [
            ("--rounds", "--rounds needs a value"),
            (
                "--rounds few",
                "--rounds few: allowed is an integer from 0 to",
            ),
            ("--only speed", "--only speed: allowed are warm, cold"),
            ("--fast 1", "unknown option --fast"),
        ] {
            let message = parse(line).unwrap_err();
            assert!(message.starts_with(said), "{message}");
        }
    }
}
