//! The `ashlar` command: start a node, make its data directory, look into it, verify it, back it up, restore it, load
//! it, simulate it.
//! Parses words and calls what does the work; decides nothing itself.
#![forbid(unsafe_code)]

mod asked;
mod backup;
mod bench;
mod bench_wal;
mod compare;
mod demo;
mod disk;
mod doctor;
mod inspect;
mod member;
mod node;
mod refusal;
mod restore;
mod sim;
mod status;
mod told;
mod top;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::refusal::Failure;

/// A durable, ordered key-value store that speaks the Redis protocol. Without a command it starts a
/// node on 127.0.0.1:6379 with its data in ./ashlar-data.
#[derive(Debug, Parser)]
#[command(name = "ashlar", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: node::StartArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node; its data directory is formatted when it is empty.
    Start(node::StartArgs),
    /// Make a data directory: shards and split keys are chosen here, once.
    Format(node::FormatArgs),
    /// List every configuration key with its default, its bounds and what it does.
    Config,
    /// Look into files of a data directory, offline.
    #[command(subcommand)]
    Inspect(Inspect),
    /// Look at this machine: what a node needs, what is in its way, and how to cure it.
    Doctor(doctor::Args),
    /// Check every checksum of a stopped node, or of a backup, and all that files say of each other.
    Verify(verify::Args),
    /// Copy a node's data, also while it runs; what an earlier backup has is not copied again.
    Backup(backup::Args),
    /// Make a data directory of a backup, and verify it.
    Restore(restore::Args),
    /// Drive load at a server, open loop, and tell what it makes of it; alone, try this machine's disk with a node.
    Bench(bench::Args),
    /// Measure durable appends to a log in a directory, without a node.
    BenchWal(bench_wal::Args),
    /// Send random commands to a node and to a redis-server, and compare every reply.
    #[command(hide = true)]
    CompareRedis(compare::Args),
    /// Start a cluster of three nodes on this machine, to try it and to break it.
    Demo(demo::Args),
    /// Ask a running node how its cluster looks.
    Status(status::Args),
    /// Show what a running node does, once a second, or once as text.
    Top(top::Args),
    /// List the members of a cluster, or change them; it goes on serving meanwhile.
    #[command(subcommand)]
    Member(member::Member),
    /// Have a partition led by another node.
    Transfer(member::TransferArgs),
    /// Run nodes in the deterministic simulator under faults, and check what they promise.
    Sim(sim::Args),
    /// Run a cluster of real nodes under kills, pauses, cut ways and full disks, and check what they promise.
    Storm(sim::storm::Args),
}

#[derive(Debug, Subcommand)]
enum Inspect {
    /// Segments of a log: batches, positions, and the first thing that is wrong.
    Wal(inspect::Args),
    /// A table: what it says of itself, what its blocks add up to, its keys.
    Table(inspect::table::Args),
    /// Checkpoints of shards: which files each partition consisted of.
    Manifest(inspect::manifest::Args),
    /// A partition as recovery would find it: runs, tables, value files, range deletions.
    Partition(inspect::partition::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refusal::tell(&error),
    };
    let result = match cli {
        Cli {
            command: None,
            start,
        }
        | Cli {
            command: Some(Command::Start(start)),
            ..
        } => node::start(start),
        Cli {
            command: Some(command),
            ..
        } => run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(args) => return node::start(args),
        Command::Format(args) => return node::format(args),
        Command::Doctor(args) => return doctor::run(args),
        Command::Bench(args) => return bench::run(args),
        Command::BenchWal(args) => return bench_wal::run(args),
        Command::CompareRedis(args) => return compare::run(&args),
        Command::Demo(args) => return demo::run(&args),
        Command::Member(what) => return member::run(&what),
        Command::Sim(args) => return sim::run(args),
        Command::Config => {
            print!("{}", ashlar_node::config::Config::explain());
            Ok(())
        }
        Command::Inspect(Inspect::Wal(args)) => inspect::run(args),
        Command::Inspect(Inspect::Table(args)) => inspect::table::run(&args),
        Command::Inspect(Inspect::Manifest(args)) => inspect::manifest::run(&args),
        Command::Inspect(Inspect::Partition(args)) => inspect::partition::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Transfer(args) => member::transfer(&args),
        Command::Storm(args) => sim::storm::run(&args),
    }
    .map_err(Failure::Run)
}
