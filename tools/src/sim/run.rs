//! One run: a seed, a world, a node that dies and lives again, clients, and the verdict.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::sim::{Faults, World};
use ashlar_io::{Monotonic, Reactor};

use super::client::{self, Crowd};
use super::model::{Clocks, Model};
use super::server::{self, Life, NODE, Server};
use super::tables::{self, Watch};

/// The simulated machine that the clients run on.
const CLIENTS: u32 = 1;
/// Virtual time within which a healed run must finish its checks.
const HEALED: Duration = Duration::from_secs(60);
/// Mean virtual times between deaths of the node, one of which a run has.
const LIFE_MEANS_NS: [u64; 3] = [500_000_000, 4_000_000_000, 4_000_000_000];
/// Turns between two looks at the files of tables.
const TURNS_PER_LOOK: u64 = 256;

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) length: Duration,
    pub(crate) shards: u32,
    pub(crate) clients: u32,
    pub(crate) rate: u64,
    /// Tables that are damaged at random times.
    pub(crate) damages: u32,
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

struct Run {
    world: World,
    rng: Rng,
    server: Server,
    life: Option<Life>,
    lives: u64,
    turns: u64,
    /// When the node dies next, or comes back when it is dead.
    next_fate: Monotonic,
    life_mean_ns: u64,
    clients: Reactor,
    crowd: Rc<Crowd>,
    watch: Watch,
    /// When tables are damaged, the next time last.
    damages: Vec<Monotonic>,
    /// Why the node last stopped by itself.
    stopped_by: String,
}

/// Runs one plan to its verdict.
pub(crate) fn run(plan: &Plan) -> Result<Outcome, String> {
    let mut run = Run::prepare(plan)?;
    let end = Monotonic(0) + plan.length;
    run.until(end, true, |_| false)?;
    run.heal();
    let clients = plan.clients;
    let crowd = Rc::clone(&run.crowd);
    run.until(end + HEALED, false, move |_| {
        crowd.model.borrow().finished == clients
    })?;
    if run.crowd.model.borrow().finished < clients {
        return Err(format!(
            "not every client could check its keys within {HEALED:?} after everything was healed; {} lives, \
             the node last stopped by itself because of: {}",
            run.lives, run.stopped_by
        ));
    }
    Ok(run.outcome())
}

impl Run {
    fn prepare(plan: &Plan) -> Result<Self, String> {
        let mut rng = Rng::new(plan.seed).fork("run");
        let world = World::new(plan.seed, plan.faults.clone());
        let config = server::draw_config(&mut rng);
        let choice = server::draw_choice(&mut rng, plan.shards);
        let mut tries = 0;
        let format = loop {
            match server::make_format(&world, &config, &choice) {
                Ok(format) => break format,
                Err(error) if tries == 1000 => {
                    return Err(format!("the data directory was never made: {error}"));
                }
                Err(_) => {
                    world.crash(NODE);
                    tries += 1;
                }
            }
        };
        let mut model = Model::default();
        if plan.faults.clock.jump_interval_ns > 0 {
            model.clocks = Clocks::Jumping;
        }
        let listen = (World::ip(NODE), 6379).into();
        let clients = Reactor::simulated(&world, CLIENTS, 0);
        let pause = Duration::from_nanos(1_000_000_000 * u64::from(plan.clients) / plan.rate);
        let crowd = Rc::new(Crowd {
            reactor: clients.clone(),
            server: listen,
            model: RefCell::new(model),
            healed: Cell::new(false),
            damaged: Cell::new(false),
            clients: plan.clients,
            pause,
            history_ns: u64::from(config.partition.history_ms) * 1_000_000,
            clears: rng.coin(),
        });
        for number in 0..plan.clients {
            clients.spawn(client::run(
                Rc::clone(&crowd),
                number,
                rng.fork(&format!("client {number}")),
            ));
        }
        clients.park(Some(clients.now()), || false);
        let server = Server {
            config,
            format,
            listen,
        };
        let next_fate = world.now();
        let life_mean_ns = LIFE_MEANS_NS[rng.index(3)];
        let damages = tables::draw_damages(&mut rng, plan.damages, plan.length);
        Ok(Self {
            world,
            rng,
            server,
            life: None,
            lives: 0,
            turns: 0,
            next_fate,
            life_mean_ns,
            clients,
            crowd,
            watch: Watch::default(),
            damages,
            stopped_by: "nothing".to_owned(),
        })
    }

    /// Steps the world until `end`, or until `done`. With `deaths` the node dies at random.
    fn until(
        &mut self,
        end: Monotonic,
        deaths: bool,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        while self.world.now() < end && !done(self) {
            if self.world.now() >= self.next_fate {
                self.fate(deaths);
            }
            let limit = if deaths || self.life.is_none() {
                self.next_fate.min(end)
            } else {
                end
            };
            let Some((node, shard)) = self.world.step_until(limit) else {
                if self.world.now() < limit {
                    return Err("nothing is going to happen any more".to_owned());
                }
                continue;
            };
            self.turns += 1;
            self.look();
            if node == CLIENTS {
                self.clients.turn();
                self.clients.park(None, || false);
            } else {
                self.server_turn(shard);
            }
            if let Some(violation) = self.crowd.model.borrow_mut().violation.take() {
                return Err(format!(
                    "at {:.6} s: {violation}",
                    self.world.now().0 as f64 / 1e9
                ));
            }
        }
        Ok(())
    }

    /// Damages a table when it is time, and looks at what tables there are.
    fn look(&mut self) {
        if self
            .damages
            .last()
            .is_some_and(|at| *at <= self.world.now())
        {
            self.damages.pop();
            if tables::damage_one(&self.world, &mut self.rng) {
                self.crowd.damaged.set(true);
                self.watch.mark("table damaged");
            }
        }
        if self.turns.is_multiple_of(TURNS_PER_LOOK) {
            self.watch.look(&self.world, self.lives);
        }
    }

    fn server_turn(&mut self, shard: u32) {
        let Some(life) = &mut self.life else { return };
        if let Err(fatal) = life.turn(shard) {
            self.stopped_by = fatal.to_string();
            // The node has stopped itself, as it must when its log fails: a death like any other.
            self.die(false);
        }
    }

    /// The node dies, or comes back.
    fn fate(&mut self, deaths: bool) {
        if self.life.is_none() {
            self.life = Some(self.server.boot(&self.world));
            self.lives += 1;
            self.next_fate =
                self.world.now() + Duration::from_nanos(self.rng.exponential(self.life_mean_ns));
        } else if deaths {
            let power_cut = self.rng.chance(0.7);
            self.die(power_cut);
        }
    }

    fn die(&mut self, power_cut: bool) {
        let Some(life) = self.life.take() else { return };
        self.watch.take_traffic(life.table_traffic());
        if power_cut {
            self.world.crash(NODE);
        } else {
            self.world.kill(NODE);
        }
        life.end();
        self.crowd.model.borrow_mut().crashed();
        self.next_fate =
            self.world.now() + Duration::from_nanos(1_000_000 + self.rng.exponential(100_000_000));
    }

    /// Ends all faults, after one last power cut: what the clients then find is what the disk
    /// holds.
    fn heal(&mut self) {
        self.world.heal();
        self.die(true);
        self.crowd.healed.set(true);
    }

    fn outcome(&mut self) -> Outcome {
        self.watch.look(&self.world, self.lives);
        if let Some(life) = &self.life {
            self.watch.take_traffic(life.table_traffic());
        }
        let model = self.crowd.model.borrow();
        let mut marks = self.world.take_marks();
        marks.extend(self.watch.take_marks());
        marks.extend(&model.marks);
        Outcome {
            hash: self.world.hash(),
            length: self.world.now().since(Monotonic(0)),
            acknowledged: model.acknowledged,
            refused: model.refused,
            unknown: model.unknown,
            lives: self.lives,
            turns: self.turns,
            marks,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.clients.shut_down();
        if let Some(life) = self.life.take() {
            life.end();
        }
    }
}
