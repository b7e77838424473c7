//! One run: a seed, a world, nodes that die and live again, clients, and the verdict.

mod crowd;
mod fate;
#[cfg(test)]
mod slow;
mod stop;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::sim::{Bounds, Faults, World};
use ashlar_io::{Monotonic, Reactor};

use self::crowd::gather_crowd;
use super::churn::{self, Churn, Job};
use super::client::{self, Crowd};
use super::cluster::{Comparison, Replicas};
use super::model::{Clocks, Model};
use super::order::{self, Order};
use super::plant::Plant;
use super::rot::{self, Rot};
use super::schedule::{Fault, Line, Recorder, Script, Step};
use super::server::{self, Life, Server};
use super::tables::{self, Watch};
use super::trouble::Troubles;

/// Virtual time within which a healed run must finish its checks.
const HEALED: Duration = Duration::from_secs(60);
/// Mean virtual times between deaths of a node, one of which a run has.
const LIFE_MEANS_NS: [u64; 3] = [500_000_000, 4_000_000_000, 4_000_000_000];
/// Mean virtual times that a node of a cluster stays dead, one of which a run has.
const DEAD_MEANS_NS: [u64; 4] = [100_000_000, 5_000_000, 700_000_000, 3_000_000_000];
/// Probability that all nodes of a cluster die when one does, and that all others die in its place, while
/// it is cut off from them: who comes back must not do at once what was promised to it not to do.
const ALL_DIE: f64 = 0.1;
const OTHERS_DIE: f64 = 0.15;
/// Probability that members come and go in a run, and when that begins.
const RESIZES: f64 = 0.4;
const RESIZE_FIRST_NS: u64 = 500_000_000;
/// Turns between two looks at the files of tables.
const TURNS_PER_LOOK: u64 = 256;
/// Turns between two comparisons of replicas, in a healed run.
const TURNS_PER_COMPARISON: u64 = 64;

/// Whether nodes die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deaths {
    /// At random.
    Random,
    /// Never.
    None,
}

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) length: Duration,
    pub(crate) nodes: u32,
    /// More machines, for members to come.
    pub(crate) spares: u32,
    pub(crate) shards: u32,
    pub(crate) clients: u32,
    pub(crate) rate: u64,
    /// Tables that are damaged at random times.
    pub(crate) damages: u32,
    /// Whether nodes die, and ways between them are cut.
    pub(crate) deaths: Deaths,
    /// A mistake that the run is to find.
    pub(crate) plant: Plant,
}

/// What a run came to, when nothing was violated.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) length: Duration,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) lives: u64,
    pub(crate) turns: u64,
    pub(crate) marks: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hash {:016x}, {:.1} virtual s, {} acknowledged, {} refused, {} unknown, {} lives",
            self.hash,
            self.length.as_secs_f64(),
            self.acknowledged,
            self.refused,
            self.unknown,
            self.lives
        )
    }
}

/// A node, alive or dead. Its machine has the number of its place.
pub(super) struct Node {
    server: Server,
    pub(super) life: Option<Life>,
    pub(super) lives: u64,
    /// It is one of the members, though it may be about to leave.
    is_member: bool,
    /// When it dies next, or comes back when it is dead.
    next_fate: Monotonic,
    /// It never comes back.
    is_gone: bool,
    /// Why it last stopped by itself.
    stopped_by: String,
}

struct Run {
    world: World,
    rng: Rng,
    nodes: Vec<Node>,
    deaths: Deaths,
    turns: u64,
    life_mean_ns: u64,
    dead_mean_ns: u64,
    /// When a node dies or comes back, or a trouble begins or ends.
    due: Monotonic,
    troubles: Troubles,
    replicas: Replicas,
    order: Order,
    bounds: Bounds,
    comparison: Comparison,
    is_compared: bool,
    clients: Reactor,
    crowd: Rc<Crowd>,
    churn: Rc<Churn>,
    rot: Rot,
    watch: Watch,
    /// When tables are damaged, the next time last.
    damages: Vec<Monotonic>,
    /// When a member comes or goes next.
    resize_at: Monotonic,
    /// What happens, when a schedule says it.
    given: Option<VecDeque<(Monotonic, Fault)>>,
    recorder: Rc<Recorder>,
}

/// Runs one plan to its verdict.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, String> {
    run_recorded(plan, None, &Rc::default())
}

/// Runs one plan to its verdict, as `given` says, and notes what happens.
pub(super) fn run_recorded(
    plan: &Plan,
    given: Option<&[Line]>,
    recorder: &Rc<Recorder>,
) -> Result<Outcome, String> {
    plan.plant.make();
    let mut run = Run::prepare(plan, given, recorder)?;
    let end = Monotonic(0) + plan.length;
    run.until(end, plan.deaths, |_| false)?;
    run.heal();
    let clients = plan.clients;
    let finished = move |run: &Run| run.crowd.model.borrow().finished == clients;
    run.until(end + HEALED, Deaths::None, |run| {
        finished(run) && run.is_compared && run.churn.is_quiet()
    })?;
    if !run.churn.is_quiet() {
        return Err(format!(
            "what was asked of the members was not done within {HEALED:?} after everything was healed: {}; {}",
            run.churn.describe(),
            run.describe()
        ));
    }
    if !finished(&run) {
        return Err(format!(
            "not every client could check its keys within {HEALED:?} after everything was healed; {}",
            run.describe()
        ));
    }
    if !run.is_compared {
        return Err(format!(
            "the replicas did not become equal within {HEALED:?} after everything was healed; {}",
            run.describe()
        ));
    }
    run.stop()?;
    Ok(run.outcome())
}

/// Formats the data directory of each node.
fn make_nodes(plan: &Plan, world: &World, rng: &mut Rng) -> Result<Vec<Node>, String> {
    let mut config = server::draw_config(rng, plan.nodes);
    order::draw_wait(rng, &plan.faults.clock, &mut config.clock);
    let choice = server::draw_choice(rng, plan.shards);
    let half = u32::try_from(choice.segment_bytes / 2).expect("segments are small");
    config.wal.batch_bytes = config.wal.batch_bytes.min(half);
    let mut nodes = Vec::new();
    for machine in 0..plan.nodes + plan.spares {
        let mut config = config.clone();
        if plan.nodes > 1 {
            server::place(&mut config, machine, plan.nodes);
        }
        let mut tries = 0;
        // Who comes later makes its directory when it does.
        let first = (machine >= plan.nodes).then(|| first_format(&nodes));
        let format = loop {
            if let Some(format) = first {
                break format;
            }
            match server::make_format(world, machine, &config, &choice) {
                Ok(format) => break format,
                Err(error) if tries == 1000 => {
                    return Err(format!("the data directory was never made: {error}"));
                }
                Err(_) => {
                    world.crash(machine);
                    tries += 1;
                }
            }
        };
        let server = Server {
            machine,
            nodes: plan.nodes,
            config,
            choice: choice.clone(),
            format,
            lost: 0,
            listen: (World::ip(machine), 6379).into(),
            #[cfg(feature = "planted")]
            planted: plan.plant,
        };
        nodes.push(Node {
            server,
            life: None,
            lives: 0,
            is_member: machine < plan.nodes,
            next_fate: Monotonic(0),
            is_gone: machine >= plan.nodes,
            stopped_by: "nothing".to_owned(),
        });
    }
    Ok(nodes)
}

/// Returns where the members listen.
fn listening(nodes: &[Node]) -> Vec<std::net::SocketAddr> {
    let members = nodes.iter().filter(|node| node.is_member);
    members.map(|node| node.server.listen).collect()
}

/// Returns the faults of a schedule, in order.
fn faults_of(lines: &[Line]) -> VecDeque<(Monotonic, Fault)> {
    let fault = |line: &Line| match line.1 {
        Step::Fault(fault) => Some((Monotonic(line.0), fault)),
        Step::Ask { .. } => None,
    };
    lines.iter().filter_map(fault).collect()
}

fn first_format(nodes: &[Node]) -> ashlar_node::format::Format {
    nodes[0].server.format.clone()
}

impl Run {
    fn prepare(
        plan: &Plan,
        given: Option<&[Line]>,
        recorder: &Rc<Recorder>,
    ) -> Result<Self, String> {
        let mut rng = Rng::new(plan.seed).fork("run");
        let world = World::new(plan.seed, plan.faults.clone());
        let nodes = make_nodes(plan, &world, &mut rng)?;
        let clients = Reactor::simulated(&world, plan.nodes + plan.spares, 0);
        let script = match given {
            Some(lines) => Script::given(lines, Rc::clone(recorder)),
            None => Script::drawn(Some(Rc::clone(recorder))),
        };
        let crowd = gather_crowd(plan, (&nodes, &clients), script, &mut rng);
        let is_deadly = plan.nodes > 1 && plan.deaths == Deaths::Random;
        let churn = Churn::draw(&mut rng.fork("churn"), is_deadly, plan.nodes);
        let resizes = is_deadly && plan.spares > 0 && rng.fork("members").chance(RESIZES);
        if plan.nodes > 1 {
            let (crowd, churn) = (Rc::clone(&crowd), Rc::clone(&churn));
            clients.spawn(churn::operate(crowd, churn, rng.fork("operator")));
        }
        let rot = Rot::draw(rng.fork("rot"), is_deadly);
        let due = world.now();
        let life_mean_ns = LIFE_MEANS_NS[rng.index(3)];
        let damages = tables::draw_damages(&mut rng, plan.damages, plan.length);
        let troubles = match plan.deaths {
            Deaths::Random if plan.nodes > 1 => {
                Troubles::draw(rng.fork("troubles"), plan.nodes + plan.spares)
            }
            Deaths::Random | Deaths::None => Troubles::none(),
        };
        let dead_mean_ns = match plan.nodes {
            1 => DEAD_MEANS_NS[0],
            _ => DEAD_MEANS_NS[rng.index(4)],
        };
        Ok(Self {
            world,
            rng,
            is_compared: plan.nodes == 1,
            nodes,
            deaths: plan.deaths,
            turns: 0,
            life_mean_ns,
            dead_mean_ns,
            due,
            troubles,
            replicas: Replicas::default(),
            order: Order::default(),
            bounds: plan.faults.clock.bounds(),
            comparison: Comparison::default(),
            clients,
            crowd,
            churn,
            rot,
            watch: Watch::default(),
            damages,
            resize_at: match resizes {
                true => Monotonic(RESIZE_FIRST_NS),
                false => Monotonic(u64::MAX),
            },
            given: given.map(faults_of),
            recorder: Rc::clone(recorder),
        })
    }

    /// Returns the machine that the clients run on.
    fn clients_machine(&self) -> u32 {
        u32::try_from(self.nodes.len()).expect("few nodes")
    }

    /// Steps the world until `end`, or until `done`. With `deaths` nodes die at random.
    fn until(
        &mut self,
        end: Monotonic,
        deaths: Deaths,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        self.deaths = deaths;
        self.due = self.next_due();
        while self.world.now() < end && !done(self) {
            // What follows from what happens may be due at once.
            while self.world.now() >= self.due {
                self.happen();
            }
            let limit = self.due.min(end);
            let Some((machine, shard)) = self.world.step_until(limit) else {
                if self.world.now() < limit {
                    return Err("nothing is going to happen any more".to_owned());
                }
                continue;
            };
            self.turns += 1;
            if self.turns.is_multiple_of(TURNS_PER_LOOK) {
                self.watch.look(&self.world, self.nodes[0].lives);
            }
            if machine == self.clients_machine() {
                self.clients.turn();
                self.clients.park(None, || false);
            } else {
                self.server_turn(machine, shard)
                    .map_err(|what| self.at_now(&what))?;
            }
            self.note_job();
            if let Some(violation) = self.crowd.model.borrow_mut().violation.take() {
                return Err(self.at_now(&violation));
            }
        }
        Ok(())
    }

    fn at_now(&self, what: &str) -> String {
        format!("at {:.6} s: {what}", self.world.now().0 as f64 / 1e9)
    }

    /// Returns when something is to happen to a node or to the ways between them.
    fn next_due(&self) -> Monotonic {
        let never = Monotonic(u64::MAX);
        if let Some(given) = &self.given {
            return given.front().map_or(never, |(at, _)| *at);
        }
        let fates = self.nodes.iter().filter(|node| match node.life {
            Some(_) => self.deaths == Deaths::Random,
            None => !node.is_gone,
        });
        let next = fates.map(|node| node.next_fate).min().unwrap_or(never);
        if self.crowd.healed.get() {
            return next.min(self.troubles.due());
        }
        let damage = self.damages.last().copied().unwrap_or(never);
        next.min(self.troubles.due())
            .min(damage)
            .min(self.resize_at)
    }

    fn server_turn(&mut self, machine: u32, shard: u32) -> Result<(), String> {
        let node = &mut self.nodes[machine as usize];
        let Some(life) = &mut node.life else {
            return Ok(());
        };
        if let Err(why) = life.turn(&node.server, shard) {
            node.stopped_by = why;
            // The node has stopped itself, as it must when its log fails: a death like any other.
            self.die(machine, false);
            self.due = self.next_due();
            return Ok(());
        }
        let node = &self.nodes[machine as usize];
        self.order.look((machine, node), shard, self.bounds)?;
        if self.nodes.len() == 1 {
            return Ok(());
        }
        self.replicas.look(&self.nodes, machine, shard)?;
        if self.turns.is_multiple_of(TURNS_PER_LOOK) {
            self.replicas.check_load(&self.nodes)?;
        }
        let compares = self.crowd.healed.get() && !self.is_compared;
        if compares && self.turns.is_multiple_of(TURNS_PER_COMPARISON) {
            self.is_compared = self.comparison.advance(&self.nodes)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (machine, node) in self.nodes.iter().enumerate() {
            let state = match (&node.life, node.is_gone) {
                (Some(_), _) => "alive",
                (None, true) => "dead for good",
                (None, false) => "dead",
            };
            text += &format!(
                "machine {machine} is {state} after {} lives, and last stopped by itself because of: {}; ",
                node.lives, node.stopped_by
            );
        }
        text + &Replicas::describe(&self.nodes)
    }

    fn outcome(&mut self) -> Outcome {
        self.watch.look(&self.world, self.nodes[0].lives);
        if let Some(life) = &self.nodes[0].life {
            self.watch.take_traffic(life.table_traffic());
        }
        for life in self.nodes.iter().flat_map(|node| &node.life) {
            self.watch.take_counts(life);
        }
        let model = self.crowd.model.borrow();
        let mut marks = self.world.take_marks();
        marks.extend(self.watch.take_marks());
        marks.extend(self.replicas.take_marks());
        marks.extend(self.order.take_marks());
        marks.extend(&model.marks);
        Outcome {
            hash: self.world.hash(),
            length: self.world.now().since(Monotonic(0)),
            acknowledged: model.acknowledged,
            refused: model.refused,
            unknown: model.unknown,
            lives: self.nodes.iter().map(|node| node.lives).sum(),
            turns: self.turns,
            marks,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.clients.shut_down();
        for node in &mut self.nodes {
            node.life.take().into_iter().for_each(Life::end);
        }
    }
}
