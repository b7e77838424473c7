//! `ashlar sim`: a whole node, or a cluster of them, with its clients in the deterministic simulator,
//! under crashes and faults, one seed after another. Checks that nothing acknowledged is lost, that
//! nothing refused appears, that the past stays as it was, that a damaged table is refused and not
//! believed, that replicas agree and one at a time serves, and that a seed's run repeats. Memory is small, so that
//! tables are written, merged and read all the time.

mod ask;
mod churn;
mod client;
mod cluster;
mod exec;
mod judge;
mod knobs;
mod model;
mod moment;
mod once;
mod order;
mod plant;
#[cfg(feature = "planted")]
mod plants;
mod replay;
mod rot;
mod run;
mod schedule;
mod server;
mod shrink;
pub(crate) mod storm;
mod tables;
#[cfg(test)]
mod tests;
mod trouble;
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use ashlar_io::rng::Rng;
use ashlar_io::sim::Faults;

use crate::refusal::Failure;

pub(crate) use run::{Deaths, Outcome, Plan};

/// Flags of `ashlar sim`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// First seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, one after another
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Virtual seconds of each run, before everything is healed and checked
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    /// Nodes: one alone, or a cluster
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=7))]
    nodes: u32,
    /// Shards of each node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    shards: u32,
    /// Clients
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// Operations per virtual second, of all clients together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Which faults: every class (all), a coin for each class (swarm), none but crashes (none), or not
    /// even these (calm)
    #[arg(long, default_value = "swarm")]
    faults: Mix,
    /// Run every n-th seed twice and compare the hashes of both runs; 0 never
    #[arg(long, default_value_t = 20)]
    repeat: u64,
    /// Write down to this file what happens in the run of one seed
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    record: Option<PathBuf>,
    /// Run what such a file says; everything else is taken from there
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "seed", "nodes", "shards", "clients", "rate"])]
    replay: Option<PathBuf>,
    /// Make the failing file of --replay, or the failing seed, smaller while it fails; the result goes to the file
    /// of --record, or beside the first one
    #[arg(long)]
    shrink: bool,
    /// Make every planted mistake and tell by which seed each is found, at most --seeds
    #[cfg(feature = "planted")]
    #[arg(long, hide = true)]
    plants: bool,
    /// With --plants, only these mistakes
    #[cfg(feature = "planted")]
    #[arg(long, hide = true, value_name = "NAME")]
    only: Vec<String>,
    /// A mistake that the replicas make, to see it found
    #[cfg(feature = "planted")]
    #[arg(long, hide = true, default_value = "none", value_parser = plant::parse)]
    plant: plant::Plant,
}

/// Which faults are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mix {
    All,
    Swarm,
    None,
    Calm,
}

/// Runs the seeds; the first failure ends it, with the command that repeats it.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    #[cfg(feature = "planted")]
    if args.plants {
        return Ok(plants::run(args.seeds, &args.only)?);
    }
    if args.replay.is_some() || args.record.is_some() || args.shrink {
        return as_data(&args);
    }
    let from = Instant::now();
    let mut total = Totals::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        tell_panics_of(&args, seed);
        let plan = args.plan(seed);
        let outcome = run_seed(&plan).map_err(|what| args.failed(seed, &what))?;
        if args.repeat > 0 && seed.is_multiple_of(args.repeat) {
            let again = run_seed(&plan).map_err(|what| args.failed(seed, &what))?;
            if again.hash != outcome.hash {
                let what = format!(
                    "a second run has hash {:016x} instead of {:016x}",
                    again.hash, outcome.hash
                );
                return Err(args.failed(seed, &what).into());
            }
        }
        if args.seeds <= 20 {
            println!("seed {seed}: {outcome}");
        }
        total.add(&outcome);
    }
    total.print(&args, from.elapsed());
    Ok(())
}

/// Records, replays or shrinks.
fn as_data(args: &Args) -> Result<(), Failure> {
    tell_panics_of(args, args.seed);
    let failed = |what: String| args.failed(args.seed, &what);
    let told = |outcome: Result<Outcome, String>| {
        outcome.map(|outcome| println!("{outcome}")).map_err(failed)
    };
    match (&args.replay, &args.record, args.shrink) {
        (Some(file), to, false) => {
            let lines = replay::read(file).map_err(Failure::Mistake)?;
            told(caught(|| replay::replay(&lines, to.as_deref())))?;
        }
        (None, Some(file), false) => told(caught(|| replay::record(&args.plan(args.seed), file)))?,
        (Some(from), to, true) => {
            let to = to.clone().unwrap_or_else(|| replay::small_path(from));
            replay::shrink_file(from, &to)?;
        }
        (None, _, _) => {
            let what = "--shrink needs --replay FILE: write the file with --record first";
            return Err(Failure::Mistake(what.to_owned()));
        }
    }
    Ok(())
}

/// Has a panic tell which seed it was: where panics abort, nobody else can.
fn tell_panics_of(args: &Args, seed: u64) {
    let repeat = args.failed(seed, "panic");
    std::panic::set_hook(Box::new(move |panic| eprintln!("{panic}\n{repeat}")));
}

fn run_seed(plan: &Plan) -> Result<Outcome, String> {
    caught(|| run::run(plan))
}

/// Returns what a run came to, a panic as a failure.
fn caught(run: impl FnOnce() -> Result<Outcome, String>) -> Result<Outcome, String> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    caught.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a message")))
    })
}

impl Args {
    fn plan(&self, seed: u64) -> Plan {
        let mut rng = Rng::new(seed).fork("plan");
        let mut faults = match self.faults {
            Mix::None | Mix::Calm => Faults::none(),
            Mix::Swarm => Faults::swarm(&mut rng),
            Mix::All => all_faults(&mut rng),
        };
        // One node alone cannot repair what its disk forgets after it has acknowledged it; the
        // log's own tests show that such damage is refused. Here every acknowledged byte must come
        // back, or be refused when it is a table that was damaged.
        let damages = if faults.disk.rot > 0.0 {
            1 + u32::try_from(rng.below(3)).expect("small")
        } else {
            0
        };
        (
            faults.disk.rot,
            faults.disk.misdirect,
            faults.disk.lost_write,
        ) = (0.0, 0.0, 0.0);
        if matches!(self.faults, Mix::Swarm | Mix::All) {
            order::draw_bounds(seed, &mut faults);
        }
        Plan {
            seed,
            faults,
            length: Duration::from_secs(self.seconds),
            nodes: self.nodes,
            spares: match self.nodes {
                1 => 0,
                nodes => 2.min(7 - nodes),
            },
            shards: self.shards,
            clients: self.clients,
            rate: self.rate,
            damages,
            deaths: match self.faults {
                Mix::Calm => Deaths::None,
                Mix::All | Mix::Swarm | Mix::None => Deaths::Random,
            },
            plant: self.planted(),
        }
    }

    #[cfg(feature = "planted")]
    fn planted(&self) -> plant::Plant {
        self.plant
    }

    #[cfg(not(feature = "planted"))]
    #[expect(
        clippy::unused_self,
        reason = "there is something in a build with planted mistakes"
    )]
    fn planted(&self) -> plant::Plant {
        plant::Plant::default()
    }

    fn failed(&self, seed: u64, what: &str) -> String {
        if let Some(file) = &self.replay {
            let file = file.display();
            return format!("{file} failed: {what}\nrepeat it with: ashlar sim --replay {file}");
        }
        let mix = format!("{:?}", self.faults).to_lowercase();
        format!(
            "seed {seed} failed: {what}\nrepeat it with: ashlar sim --seed {seed} --seconds {} --nodes {} --shards {} --clients {} --rate {} --faults {mix}",
            self.seconds, self.nodes, self.shards, self.clients, self.rate
        )
    }
}

/// Draws swarms until each class has been on in one of them, and takes each class from the first
/// that has it.
fn all_faults(rng: &mut Rng) -> Faults {
    let mut all = Faults::swarm(rng);
    for _ in 0..64 {
        let other = Faults::swarm(rng);
        let pick = |mine: &mut f64, its: f64| {
            if *mine == 0.0 {
                *mine = its;
            }
        };
        let (disk, net) = (&mut all.disk, &mut all.net);
        pick(&mut disk.short, other.disk.short);
        pick(&mut disk.interrupt, other.disk.interrupt);
        pick(&mut disk.read_error, other.disk.read_error);
        pick(&mut disk.write_error, other.disk.write_error);
        pick(&mut disk.sync_error, other.disk.sync_error);
        pick(&mut disk.no_space, other.disk.no_space);
        pick(&mut disk.stall, other.disk.stall);
        pick(&mut net.chop, other.net.chop);
        pick(&mut net.partial_send, other.net.partial_send);
        pick(&mut net.reset, other.net.reset);
        pick(&mut net.cut, other.net.cut);
        pick(&mut net.no_buffers, other.net.no_buffers);
        pick(&mut net.refuse, other.net.refuse);
        pick(&mut all.schedule.hold, other.schedule.hold);
        if all.clock.jump_interval_ns == 0 {
            all.clock = other.clock;
        }
    }
    all
}

/// What runs of many seeds are to have seen: else they test less than they seem to.
const SOMETIMES: [&str; 28] = [
    "answered after another attempt",
    "left before the reply",
    "lists with KEYS",
    "node died",
    "power lost",
    "reads of the past",
    "refused: busy",
    "refused: damaged",
    "refused: disk full",
    "refused: file cannot be read",
    "refused: several partitions",
    "refused: too old",
    "repeats answered from memory",
    "sync error",
    "table damaged",
    "table merged away",
    "table read",
    "table written",
    "transactions",
    "transactions that did nothing",
    "value file dropped",
    "value file written",
    "waited for the clock",
    "walks down",
    "walks over the past",
    "walks up",
    "walks with SCAN",
    "write error",
];
/// The same, of clusters.
const SOMETIMES_CLUSTER: [&str; 40] = [
    "all nodes died",
    "all other nodes died",
    "answered after another attempt",
    "commands wait for other nodes",
    "disk lost",
    "entries read back for a laggard",
    "entries taken back",
    "leader elected",
    "leader stepped down",
    "lease lost",
    "left before the reply",
    "lists with KEYS",
    "log rotten",
    "lost disk replaced",
    "member added",
    "member removed",
    "members: 1",
    "members: 5",
    "node died",
    "node paused",
    "outcome not known",
    "power lost",
    "reads of the past",
    "refused: no leader",
    "refused: several partitions",
    "refused: too old",
    "repaired from others",
    "repeats answered from memory",
    "served by another node",
    "snapshot installed",
    "table damaged",
    "table merged away",
    "table read",
    "table written",
    "transactions",
    "transactions that did nothing",
    "trouble: node deaf",
    "trouble: node mute",
    "trouble: some ways cut",
    "waited for the clock",
];
/// Seeds in which each of them must have happened, with swarms of faults.
const SOMETIMES_SEEDS: u64 = 50;

#[derive(Default)]
struct Totals {
    virtual_s: f64,
    acknowledged: u64,
    unknown: u64,
    lives: u64,
    events: u64,
    marks: std::collections::BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.virtual_s += outcome.length.as_secs_f64();
        self.acknowledged += outcome.acknowledged;
        self.unknown += outcome.unknown;
        self.lives += outcome.lives;
        self.events += outcome.turns;
        for (mark, count) in &outcome.marks {
            *self.marks.entry(mark).or_default() += count;
        }
    }

    fn print(&self, args: &Args, took: Duration) {
        let seeds = args.seeds;
        let speed = self.virtual_s / took.as_secs_f64();
        println!(
            "{seeds} seeds passed: {:.0} virtual seconds in {:.1} s ({speed:.0} x real time), {} operations acknowledged, {} of unknown outcome, {} lives of nodes, {} turns",
            self.virtual_s,
            took.as_secs_f64(),
            self.acknowledged,
            self.unknown,
            self.lives,
            self.events
        );
        let expected: &[&str] = match args.nodes {
            1 => &SOMETIMES,
            _ => &SOMETIMES_CLUSTER,
        };
        let never: Vec<_> = expected
            .iter()
            .filter(|mark| !self.marks.contains_key(*mark))
            .copied()
            .collect();
        if seeds >= SOMETIMES_SEEDS && !never.is_empty() {
            println!("what never happened: {}", never.join(", "));
        }
        let marks: Vec<_> = self
            .marks
            .iter()
            .map(|(mark, count)| format!("{mark} {count}"))
            .collect();
        println!("what happened, and how often: {}", marks.join(", "));
    }
}
