//! When nodes die, lose their disks, come back, and are healed.

use super::*;

impl Run {
    /// A node dies, or comes back.
    pub(super) fn fate(&mut self, machine: u32) {
        let alone = self.nodes.len() == 1;
        let node = &mut self.nodes[machine as usize];
        if node.life.is_none() {
            if node.is_gone {
                return;
            }
            node.lives += 1;
            node.life = Some(node.server.boot(&self.world, node.lives));
            node.next_fate =
                self.world.now() + Duration::from_nanos(self.rng.exponential(self.life_mean_ns));
        } else if self.deaths == Deaths::Random {
            let power_cut = self.rng.chance(0.7);
            if !alone && self.rng.chance(OTHERS_DIE) {
                return self.all_others_die(machine, power_cut);
            }
            if self.churn.loses(&mut self.rng) {
                return self.lose_disk(machine);
            }
            self.die(machine, power_cut);
            if !alone && self.rng.chance(ALL_DIE) {
                self.watch.mark("all nodes died");
                (0..self.clients_machine()).for_each(|machine| self.die(machine, power_cut));
            }
        }
    }

    /// A node dies, and its disk with it.
    fn lose_disk(&mut self, machine: u32) {
        self.watch.mark("disk lost");
        self.die(machine, true);
        let server = &mut self.nodes[machine as usize].server;
        server.lose_disk();
        self.churn.lost(server.name());
    }

    /// A node is cut off from the others, which die.
    fn all_others_die(&mut self, survivor: u32, power_cut: bool) {
        self.watch.mark("all other nodes died");
        self.troubles.cut_off(&self.world, survivor);
        for machine in (0..self.clients_machine()).filter(|machine| *machine != survivor) {
            self.die(machine, power_cut);
        }
        let life = Duration::from_nanos(self.rng.exponential(self.life_mean_ns));
        self.nodes[survivor as usize].next_fate = self.world.now() + life;
    }

    pub(super) fn die(&mut self, machine: u32, power_cut: bool) {
        let node = &mut self.nodes[machine as usize];
        let Some(life) = node.life.take() else { return };
        if machine == 0 {
            self.watch.take_traffic(life.table_traffic());
        }
        self.watch.take_repeats(life.repeats_answered());
        if power_cut {
            self.world.crash(machine);
        } else {
            self.world.kill(machine);
        }
        life.end();
        if self.nodes.len() == 1 {
            self.crowd.model.borrow_mut().crashed();
        }
        let dead = 1_000_000 + self.rng.exponential(self.dead_mean_ns);
        self.nodes[machine as usize].next_fate = self.world.now() + Duration::from_nanos(dead);
    }

    /// Ends all faults, after one last power cut: what the clients then find is what the disks hold. Of
    /// a cluster only a majority comes back.
    pub(super) fn heal(&mut self) {
        self.world.heal();
        self.troubles.end();
        // Who has lost its disk counts as lost already.
        let mut spared = match self.churn.is_quiet() {
            true => (self.nodes.len() - 1) / 2,
            false => 0,
        };
        let first = self.rng.below(u64::from(self.clients_machine()));
        for n in 0..self.nodes.len() as u64 {
            let machine = u32::try_from((first + n) % self.nodes.len() as u64).expect("few nodes");
            let stays_dead = spared > 0 && self.rng.coin();
            spared -= usize::from(stays_dead);
            self.nodes[machine as usize].is_gone = stays_dead;
            if stays_dead || self.nodes.len() == 1 || self.rng.coin() {
                self.die(machine, true);
            }
        }
        self.crowd.healed.set(true);
    }
}
