//! `ashlar storm`: a cluster of real nodes, each a process with a network and a disk of its own on this machine, under
//! kills, pauses, cut and slow ways and full disks, with the clients, the model and the judge of the simulator. What
//! the simulator cannot show is shown here: the kernel, real time, and the code around the nodes. What cannot be had
//! here, clocks that drift and jump and disks that lie, is the simulator's.
//!
//! Invariant: the run owns all that it makes; when it ends, however it does, the kernel takes everything back.

mod place;
mod process;
mod trouble;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::{Monotonic, Reactor, Settings};

use super::client::{self, Crowd};
use super::model::Model;
use super::schedule::Script;
use place::{Ground, Place};
use process::{Node, Shape, last_words};
use trouble::Mix;

/// How long a healed cluster may take until every client has checked all its keys.
const HEALED: Duration = Duration::from_secs(90);
/// Time between looks at processes and the model.
const LOOK: Duration = Duration::from_millis(100);
/// Time between lines that say how it goes.
const TELL: Duration = Duration::from_secs(20);
/// Size of a node's disk, in MiB.
const DISK_MIB: u64 = 192;

/// Flags of `ashlar storm`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seed of what happens
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds to run, one after another
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Seconds of each run, before everything is healed and checked
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Go on with further seeds until so many operations were checked; 0 is no aim
    #[arg(long, default_value_t = 0)]
    operations: u64,
    /// Nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=7))]
    nodes: u32,
    /// Clients
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// Operations per second, of all clients together, when nothing is wrong
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Every kind of trouble (all), a coin for each (swarm)
    #[arg(long, default_value = "swarm")]
    faults: Faults,
    /// Where logs and data go; removed when nothing was wrong [default: a new directory in the system's temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Do without namespaces, as where they are not allowed
    #[arg(long, hide = true)]
    loopback: bool,
    /// This process is in namespaces of its own
    #[arg(long, hide = true)]
    inside: bool,
}

/// Which troubles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Faults {
    All,
    Swarm,
}

/// A run.
struct Storm {
    reactor: Reactor,
    // Before the place that they are in: they are dropped first.
    nodes: Vec<RefCell<Node>>,
    place: Place,
    shape: Shape,
    crowd: Rc<Crowd>,
    /// Troubles begin no more.
    over: Cell<bool>,
    /// Troubles that go on.
    troubles: Cell<u32>,
    /// What the harness could not do.
    failed: RefCell<Option<String>>,
}

/// What runs came to.
#[derive(Debug, Default)]
struct Totals {
    acknowledged: u64,
    unknown: u64,
    refused: u64,
    marks: std::collections::BTreeMap<&'static str, u64>,
}

/// Runs the seeds; the first failure ends it, and leaves the nodes' logs.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    if !args.inside && !args.loopback && can_enter() {
        return enter();
    }
    let ground = match args.inside {
        true => Ground::Spaces,
        false => {
            println!("no namespaces here: ways are not cut and disks not filled");
            Ground::Loopback
        }
    };
    let mut totals = Totals::default();
    let mut seed = args.seed;
    while seed < args.seed + args.seeds || totals.acknowledged < args.operations {
        let dir = args.dir_of(seed);
        run_seed(args, ground, seed, &dir, &mut totals)
            .map_err(|what| format!("seed {seed} failed: {what}\nlogs are in {}", dir.display()))?;
        // What cannot be removed is in the way of nobody.
        let _ = std::fs::remove_dir_all(&dir);
        totals.print(&format!("seed {seed} passed, all together"));
        seed += 1;
    }
    Ok(())
}

/// Says whether this process may make namespaces.
fn can_enter() -> bool {
    let test = "--net --mount --pid --fork --kill-child --mount-proc nsenter --version";
    place::run("unshare", test).is_ok() && place::run("ip", "-V").is_ok()
}

/// Runs the same command in namespaces of its own, which end with it.
fn enter() -> Result<(), String> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command
        .arg(program)
        .args(std::env::args_os().skip(1))
        .arg("--inside");
    let status = command
        .status()
        .map_err(|error| format!("cannot run unshare: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("the run in namespaces has failed".to_owned()),
    }
}

fn run_seed(
    args: &Args,
    ground: Ground,
    seed: u64,
    dir: &Path,
    totals: &mut Totals,
) -> Result<(), String> {
    let mut rng = Rng::new(seed).fork("storm");
    let reactor = Reactor::new(&Settings::default()).map_err(|error| error.to_string())?;
    let mix = match args.faults {
        Faults::All => Mix::all(),
        Faults::Swarm => Mix::draw(&mut rng),
    };
    println!("seed {seed}: {mix:?}");
    let storm = Rc::new(Storm::make(args, ground, (&reactor, dir), &mut rng)?);
    let length = Duration::from_secs(args.seconds);
    let result = reactor.block_on(Rc::clone(&storm).rage(mix, rng, length));
    totals.add(&storm.crowd.model.borrow());
    let shut = storm.end();
    reactor.shut_down();
    result.and(shut).map_err(|what| storm.describe(&what))
}

impl Args {
    fn dir_of(&self, seed: u64) -> PathBuf {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        parent.join(format!("ashlar-storm-{}-{seed}", std::process::id()))
    }
}

impl Storm {
    fn make(
        args: &Args,
        ground: Ground,
        (reactor, dir): (&Reactor, &Path),
        rng: &mut Rng,
    ) -> Result<Self, String> {
        let program =
            std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
        let place = Place::make(ground, args.nodes, dir, DISK_MIB)?;
        let shape = Shape {
            program,
            nodes: args.nodes,
            shards: 1 + u32::from(rng.coin()),
            split_at: draw_split(rng, args.clients),
            history_ms: [1_000, 4_000, 10_000][rng.index(3)],
        };
        let nodes =
            (0..args.nodes).map(|number| Node::format(&place, &shape, number).map(RefCell::new));
        let nodes: Vec<_> = nodes.collect::<Result<_, _>>()?;
        let crowd = Rc::new(Crowd {
            reactor: reactor.clone(),
            servers: RefCell::new((0..args.nodes).map(|node| place.listen(node)).collect()),
            is_cluster: true,
            script: Script::drawn(None),
            model: RefCell::new(Model::default()),
            healed: Cell::new(false),
            damaged: Cell::new(false),
            clients: args.clients,
            pause: Duration::from_nanos(1_000_000_000 * u64::from(args.clients) / args.rate),
            history_ns: shape.history_ms * 1_000_000,
            clears: rng.coin(),
            waits: false,
        });
        Ok(Self {
            reactor: reactor.clone(),
            place,
            shape,
            nodes,
            crowd,
            over: Cell::new(false),
            troubles: Cell::new(0),
            failed: RefCell::new(None),
        })
    }

    /// Runs clients and troubles, then heals everything and waits until all is checked.
    async fn rage(self: Rc<Self>, mix: Mix, rng: Rng, length: Duration) -> Result<(), String> {
        (0..self.shape.nodes).for_each(|node| self.start(node));
        for number in 0..self.crowd.clients {
            let rng = rng.fork(&format!("client {number}"));
            self.reactor
                .spawn(client::run(Rc::clone(&self.crowd), number, rng));
        }
        let founded = self.reactor.now() + HEALED;
        self.until(founded, |storm| storm.crowd.model.borrow().acknowledged > 0)
            .await?;
        mix.begin(&self, &rng);
        let end = self.reactor.now() + length;
        self.until(end, |_| false).await?;
        self.over.set(true);
        let mended = self.reactor.now() + HEALED;
        self.until(mended, |storm| storm.troubles.get() == 0)
            .await?;
        (0..self.shape.nodes).for_each(|node| self.start(node));
        self.crowd.healed.set(true);
        let deadline = self.reactor.now() + HEALED;
        let finished = |storm: &Self| storm.crowd.model.borrow().finished == storm.crowd.clients;
        self.until(deadline, finished).await?;
        match finished(&self) {
            true => Ok(()),
            false => Err(format!(
                "not every client could check its keys within {HEALED:?} after everything was healed"
            )),
        }
    }

    /// Waits until `end`, or until `done`, and watches.
    async fn until(&self, end: Monotonic, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let mut tell = self.reactor.now() + TELL;
        while self.reactor.now() < end && !done(self) {
            self.reactor.sleep(LOOK).await;
            self.look()?;
            if self.reactor.now() >= tell {
                tell = self.reactor.now() + TELL;
                let model = self.crowd.model.borrow();
                println!(
                    "  {} acknowledged, {} refused, {} unknown",
                    model.acknowledged, model.refused, model.unknown
                );
            }
        }
        Ok(())
    }

    fn look(&self) -> Result<(), String> {
        if let Some(violation) = self.crowd.model.borrow_mut().violation.take() {
            return Err(violation);
        }
        if let Some(failed) = self.failed.borrow_mut().take() {
            return Err(format!("the harness: {failed}"));
        }
        for number in 0..self.shape.nodes {
            let no_room = self.nodes[number as usize]
                .borrow_mut()
                .watch(&self.place)?;
            if no_room {
                // As whoever watches over it would: until there is room.
                self.crowd.model.borrow_mut().mark("no room to start");
                self.start(number);
            }
        }
        Ok(())
    }

    /// Notes what the harness could not do.
    fn note(&self, result: Result<(), String>) {
        if let Err(error) = result {
            self.failed.borrow_mut().get_or_insert(error);
        }
    }

    /// Starts a node that does not run.
    fn start(&self, node: u32) {
        let mut node = self.nodes[node as usize].borrow_mut();
        if !node.is_alive() {
            self.note(node.start(&self.place, &self.shape));
        }
    }

    /// Runs one of the troubles until it ends itself.
    fn run(self: &Rc<Self>, trouble: impl Future<Output = ()> + 'static) {
        self.troubles.set(self.troubles.get() + 1);
        let storm = Rc::clone(self);
        self.reactor.spawn(async move {
            trouble.await;
            storm.troubles.set(storm.troubles.get() - 1);
        });
    }

    /// Stops all nodes and looks at every byte that they leave.
    fn end(&self) -> Result<(), String> {
        for node in &self.nodes {
            node.borrow_mut().resume()?;
        }
        let stopped: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.borrow_mut().stop())
            .collect();
        stopped.into_iter().collect::<Result<(), _>>()?;
        self.nodes
            .iter()
            .try_for_each(|node| node.borrow().verify(&self.place, &self.shape))
    }

    /// Returns a failure with the last words of all nodes.
    fn describe(&self, what: &str) -> String {
        let mut text = format!("{what}\n{:?}", self.shape);
        for node in 0..self.shape.nodes {
            let words = last_words(&self.place.log(node));
            text += &format!("\n{} said last:\n{words}", place::space(node));
        }
        text
    }
}

/// Draws keys at which partitions begin.
fn draw_split(rng: &mut Rng, clients: u32) -> Vec<String> {
    let mut keys: Vec<String> = (0..rng.below(4))
        .map(|_| format!("key:{}", rng.below(u64::from(clients))))
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

impl Totals {
    fn add(&mut self, model: &Model) {
        self.acknowledged += model.acknowledged;
        self.unknown += model.unknown;
        self.refused += model.refused;
        for (mark, count) in &model.marks {
            *self.marks.entry(mark).or_default() += count;
        }
    }

    fn print(&self, what: &str) {
        let marks: Vec<_> = self
            .marks
            .iter()
            .map(|(mark, count)| format!("{mark} {count}"))
            .collect();
        println!(
            "{what}: {} operations acknowledged and checked, {} refused, {} of unknown outcome; {}",
            self.acknowledged,
            self.refused,
            self.unknown,
            marks.join(", ")
        );
    }
}
