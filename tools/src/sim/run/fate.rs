//! When nodes die, lose their disks, come back, join and leave, and are healed: drawn from the seed and noted, or as a
//! schedule says. What happens is done in one place ([`Run::make`]), whoever decided it.

use super::*;

/// Mean virtual time between changes of the members, in a run that has any.
const RESIZE_MEAN_NS: u64 = 2_500_000_000;
/// How long a schedule may leave a node dead in a healed run, which is to come to its end.
const BACK_WITHIN: Duration = Duration::from_secs(30);

impl Run {
    /// Has happen what is due.
    pub(super) fn happen(&mut self) {
        match self.given.is_some() {
            true => self.follow_schedule(),
            false => self.draw_fates(),
        }
        self.due = self.next_due();
    }

    /// Makes the faults happen that the schedule has for now.
    fn follow_schedule(&mut self) {
        let now = self.world.now();
        while let Some(given) = &mut self.given
            && let Some((_, fault)) = given.pop_front_if(|(at, _)| *at <= now)
        {
            self.make(fault);
        }
    }

    fn draw_fates(&mut self) {
        let now = self.world.now();
        for machine in 0..self.clients_machine() {
            if now >= self.nodes[machine as usize].next_fate {
                self.draw_fate(machine);
            }
        }
        if now >= self.troubles.due() {
            let mut faults = Vec::new();
            if let Some(what) = self.troubles.happen(now, &mut faults) {
                self.watch.mark(what);
            }
            faults.into_iter().for_each(|fault| self.make(fault));
        }
        if self.damages.last().is_some_and(|at| *at <= now) {
            self.damages.pop();
            let seed = self.rng.next_u64();
            self.make(Fault::Damage(seed));
        }
        if now >= self.resize_at && !self.crowd.healed.get() {
            self.draw_resize();
        }
    }

    /// A node dies, or comes back.
    fn draw_fate(&mut self, machine: u32) {
        let alone = self.nodes.len() == 1;
        let node = &self.nodes[machine as usize];
        if node.life.is_none() {
            if !node.is_gone {
                self.make(Fault::Boot(machine));
            }
        } else if self.deaths == Deaths::Random {
            let power_cut = self.rng.chance(0.7);
            if !alone && self.rng.chance(OTHERS_DIE) {
                return self.all_others_die(machine, power_cut);
            }
            let is_member = self.nodes[machine as usize].is_member && self.members() > 2;
            if is_member && self.is_whole() && self.churn.loses(&mut self.rng) {
                return self.make(Fault::LoseDisk(machine));
            }
            self.make(Fault::Die { machine, power_cut });
            self.draw_rot(machine);
            if !alone && self.rng.chance(ALL_DIE) {
                self.watch.mark("all nodes died");
                for machine in 0..self.clients_machine() {
                    self.make(Fault::Die { machine, power_cut });
                }
            }
        }
    }

    /// The log of a dead node may rot.
    fn draw_rot(&mut self, machine: u32) {
        let node = &self.nodes[machine as usize];
        let may_rot = node.is_member && node.life.is_none() && self.members() > 2;
        if may_rot
            && self.is_whole()
            && let Some(seed) = self.rot.strikes()
        {
            self.make(Fault::Rot(machine, seed));
        }
    }

    /// Says whether no member lacks anything, and none comes or goes.
    fn is_whole(&mut self) -> bool {
        self.churn.is_quiet() && self.rot.is_healed(&self.nodes)
    }

    /// A node is cut off from the others, which die.
    fn all_others_die(&mut self, survivor: u32, power_cut: bool) {
        self.watch.mark("all other nodes died");
        let mut cuts = Vec::new();
        let now = self.world.now();
        self.troubles.cut_off(now, survivor, &mut cuts);
        cuts.into_iter().for_each(|fault| self.make(fault));
        for machine in (0..self.clients_machine()).filter(|machine| *machine != survivor) {
            self.make(Fault::Die { machine, power_cut });
        }
        let life = Duration::from_nanos(self.rng.exponential(self.life_mean_ns));
        self.nodes[survivor as usize].next_fate = self.world.now() + life;
    }

    /// A node joins or leaves, if the last one that did has done so.
    fn draw_resize(&mut self) {
        let pause = 1 + self.rng.exponential(RESIZE_MEAN_NS);
        self.resize_at = self.world.now() + Duration::from_nanos(pause);
        if !self.is_whole() {
            return;
        }
        let is_free = |node: &&(u32, &Node)| !node.1.is_member;
        let nodes: Vec<(u32, &Node)> = (0..).zip(&self.nodes).collect();
        let free: Vec<u32> = nodes.iter().filter(is_free).map(|node| node.0).collect();
        let members = nodes.iter().filter(|node| !is_free(node));
        let members: Vec<u32> = members.map(|node| node.0).collect();
        let grows = members.len() == 1 || self.rng.coin();
        let fault = match grows {
            true if free.is_empty() => return,
            true => Fault::Join(free[self.rng.index(free.len())]),
            false => Fault::Leave(members[self.rng.index(members.len())]),
        };
        self.make(fault);
    }

    /// Has a fault happen, and notes it.
    fn make(&mut self, fault: Fault) {
        let now = self.world.now();
        self.recorder.note((now.0, Step::Fault(fault)));
        match fault {
            Fault::Die { machine, power_cut } => self.die(machine, power_cut),
            Fault::Boot(machine) => self.boot(machine),
            Fault::Gone(machine) => self.give_up(machine),
            Fault::LoseDisk(machine) => self.lose_disk(machine),
            Fault::Rot(machine, seed) => self.rot(machine, seed),
            Fault::Cut(from, to) => self.world.cut(from, to),
            Fault::Mend(from, to) => self.world.mend(from, to),
            Fault::Pause(machine, length) => self.world.pause(machine, length),
            Fault::Damage(seed) => self.damage(seed),
            Fault::Join(machine) => self.join(machine),
            Fault::Leave(machine) => self.leave(machine),
        }
    }

    fn boot(&mut self, machine: u32) {
        let node = &mut self.nodes[machine as usize];
        if node.life.is_some() || node.is_gone {
            return;
        }
        node.lives += 1;
        node.life = Some(node.server.boot(&self.world, node.lives));
        node.next_fate =
            self.world.now() + Duration::from_nanos(self.rng.exponential(self.life_mean_ns));
    }

    /// A member never comes back, unless the others need it: when things take another time than they took when a
    /// schedule was noted, other members may be there.
    fn give_up(&mut self, machine: u32) {
        let members = self.nodes.iter().filter(|node| node.is_member);
        let gone = members.filter(|node| node.is_gone).count();
        let spared = (self.members() - 1) / 2;
        let is_whole = self.is_whole();
        let node = &mut self.nodes[machine as usize];
        if node.is_member && gone < spared && is_whole {
            node.is_gone = true;
        }
    }

    /// A table is damaged; in a cluster always one of the same member.
    fn damage(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        let members: Vec<u32> = (0..)
            .zip(&self.nodes)
            .filter_map(|(machine, node)| node.is_member.then_some(machine))
            .collect();
        let drawn = members[rng.index(members.len())];
        let machine = self.rot.tables_of.unwrap_or(drawn);
        let is_fit = self.nodes.len() == 1
            || self.rot.tables_of.is_some()
            || members.len() > 2 && self.is_whole();
        let data = self.nodes[machine as usize].server.config.data.clone();
        if is_fit && tables::damage_one(&self.world, machine, &data, &mut rng) {
            self.crowd.damaged.set(true);
            self.watch.mark("table damaged");
            if self.nodes.len() > 1 {
                self.rot.tables_of = Some(machine);
            }
        }
    }

    /// The log of a node that is down is damaged.
    fn rot(&mut self, machine: u32, seed: u64) {
        let node = &self.nodes[machine as usize];
        if node.life.is_some() {
            return;
        }
        let data = node.server.config.data.clone();
        if rot::damage_log(&self.world, machine, &data, &mut Rng::new(seed)) {
            self.rot.note(machine);
            self.watch.mark("log rotten");
        }
    }

    /// A node dies, and its disk with it.
    fn lose_disk(&mut self, machine: u32) {
        self.die(machine, true);
        if !self.nodes[machine as usize].is_member || !self.churn.is_quiet() {
            return;
        }
        self.watch.mark("disk lost");
        let server = &mut self.nodes[machine as usize].server;
        server.lose_disk();
        self.churn.begin(Job::Replace(server.name()));
    }

    /// A node with an empty disk is started, and is to be a member.
    fn join(&mut self, machine: u32) {
        let now = self.world.now();
        let members = self.nodes.iter().filter(|node| node.is_member);
        let listed: Vec<_> = members.map(|node| node.server.listed()).collect();
        let node = &mut self.nodes[machine as usize];
        if node.is_member || !self.churn.is_quiet() {
            return;
        }
        node.server.enter(listed);
        (node.is_gone, node.next_fate) = (false, now);
        let (name, addr) = (node.server.name(), node.server.peer_addr());
        self.churn.begin(Job::Add(name, addr.to_string()));
    }

    /// A member is to be one no more; clients talk to others from now on.
    fn leave(&mut self, machine: u32) {
        let node = &self.nodes[machine as usize];
        if !node.is_member || self.members() < 2 || !self.churn.is_quiet() {
            return;
        }
        let listen = node.server.listen;
        self.crowd
            .servers
            .borrow_mut()
            .retain(|server| *server != listen);
        self.churn.begin(Job::Remove(node.server.name()));
    }

    /// Takes in what the operator has done.
    pub(super) fn note_job(&mut self) {
        let Some(job) = self.churn.take_done() else {
            return;
        };
        let named = |node: &Node| node.server.name() == *job.name();
        let Some(machine) = self.nodes.iter().position(named) else {
            return;
        };
        match job {
            Job::Replace(_) => self.watch.mark("lost disk replaced"),
            Job::Add(..) => {
                self.nodes[machine].is_member = true;
                let listen = self.nodes[machine].server.listen;
                self.crowd.servers.borrow_mut().push(listen);
                self.watch.mark("member added");
            }
            Job::Remove(_) => {
                self.nodes[machine].is_member = false;
                self.nodes[machine].is_gone = true;
                self.die(u32::try_from(machine).expect("few nodes"), true);
                self.watch.mark("member removed");
            }
        }
        self.watch.mark(SIZES[self.members().min(SIZES.len() - 1)]);
        self.due = self.next_due();
    }

    /// Returns how many members there are.
    fn members(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_member).count()
    }

    pub(super) fn die(&mut self, machine: u32, power_cut: bool) {
        let node = &mut self.nodes[machine as usize];
        let Some(life) = node.life.take() else { return };
        if machine == 0 {
            self.watch.take_traffic(life.table_traffic());
        }
        self.watch.take_counts(&life);
        if power_cut {
            self.world.crash(machine);
        } else {
            self.world.kill(machine);
        }
        life.end();
        if self.nodes.len() == 1 {
            self.crowd.model.borrow_mut().crashed();
        }
        let dead = Duration::from_nanos(1_000_000 + self.rng.exponential(self.dead_mean_ns));
        self.nodes[machine as usize].next_fate = self.world.now() + dead;
        if self.crowd.healed.get() {
            self.revive(machine, dead);
        }
    }

    /// Has a node come back that a schedule leaves dead, or dead for too long.
    fn revive(&mut self, machine: u32, dead: Duration) {
        let (at, soon) = (self.world.now() + dead, self.world.now() + BACK_WITHIN);
        let node = &self.nodes[machine as usize];
        if let Some(given) = &mut self.given
            && node.life.is_none()
            && !node.is_gone
            && !given
                .iter()
                .any(|(at, fault)| *at <= soon && *fault == Fault::Boot(machine))
        {
            let place = given.partition_point(|(of, _)| *of <= at);
            given.insert(place, (at, Fault::Boot(machine)));
        }
    }

    /// Ends all faults, after one last power cut: what the clients then find is what the disks hold. Of
    /// a cluster only a random majority comes back.
    pub(super) fn heal(&mut self) {
        self.world.heal();
        self.troubles.end();
        match self.given.is_some() {
            true => self.follow_schedule(),
            false => self.draw_healing(),
        }
        self.crowd.healed.set(true);
        for machine in 0..self.clients_machine() {
            self.revive(machine, Duration::from_millis(1));
        }
    }

    fn draw_healing(&mut self) {
        // Who has lost its disk or a part of its log, comes or goes counts as lost already.
        let mut spared = match self.is_whole() {
            true => (self.members() - 1) / 2,
            false => 0,
        };
        let first = self.rng.below(u64::from(self.clients_machine()));
        for n in 0..self.nodes.len() as u64 {
            let machine = u32::try_from((first + n) % self.nodes.len() as u64).expect("few nodes");
            let is_member = self.nodes[machine as usize].is_member;
            let stays_dead = is_member && spared > 0 && self.rng.coin();
            spared -= usize::from(stays_dead);
            if stays_dead {
                self.make(Fault::Gone(machine));
            }
            if stays_dead || self.nodes.len() == 1 || self.rng.coin() {
                let power_cut = true;
                self.make(Fault::Die { machine, power_cut });
            }
        }
    }
}

/// Names of how many members there are.
const SIZES: [&str; 8] = [
    "members: none",
    "members: 1",
    "members: 2",
    "members: 3",
    "members: 4",
    "members: 5",
    "members: 6",
    "members: 7",
];
