//! What happens to the nodes of a storm, drawn from its seed: processes are killed and paused, ways are cut and
//! slowed, disks are filled. Three tasks go on at once, so that troubles overlap; each mends what it has broken before
//! it breaks the next.
//!
//! The seed fixes what is drawn, not what becomes of it: real machines do not repeat themselves.

use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;

use super::Storm;
use crate::sim::client::hear;
use crate::sim::wire::{Reply, command};

/// Mean times between the troubles of one kind, in nanoseconds, one of which a run has.
const INTERVALS_NS: [u64; 3] = [700_000_000, 1_500_000_000, 3_000_000_000];
/// Mean lengths of a trouble, in nanoseconds, one of which a run has.
const LENGTHS_NS: [u64; 3] = [100_000_000, 700_000_000, 1_500_000_000];
/// Longest trouble.
const LENGTH_MAX: Duration = Duration::from_secs(8);
/// Steps in which a task waits, so that it sees the end of the run.
const STEP: Duration = Duration::from_millis(50);

/// Which troubles a run has, and how often.
#[derive(Clone, Debug)]
pub(super) struct Mix {
    kills: bool,
    pauses: bool,
    cuts: bool,
    slow_ways: bool,
    full_disks: bool,
    interval_ns: u64,
    length_ns: u64,
}

/// What is done to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    KillOne,
    KillLeader,
    KillMost,
    PauseOne,
    PauseLeader,
}

impl Mix {
    /// Draws a mix: a coin for each kind, and at least one.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut mix = Self {
            kills: rng.chance(0.7),
            pauses: rng.chance(0.6),
            cuts: rng.chance(0.6),
            slow_ways: rng.chance(0.4),
            full_disks: rng.chance(0.4),
            interval_ns: INTERVALS_NS[rng.index(3)],
            length_ns: LENGTHS_NS[rng.index(3)],
        };
        mix.kills |= !(mix.pauses || mix.cuts);
        mix
    }

    /// Returns all kinds, at the middle pace.
    pub(super) fn all() -> Self {
        Self {
            kills: true,
            pauses: true,
            cuts: true,
            slow_ways: true,
            full_disks: true,
            interval_ns: INTERVALS_NS[1],
            length_ns: LENGTHS_NS[1],
        }
    }

    /// Begins the troubles, each kind with chances of its own.
    pub(super) fn begin(&self, storm: &Rc<Storm>, rng: &Rng) {
        let spaces = storm.place.has_spaces();
        if self.kills || self.pauses {
            storm.run(blows(Rc::clone(storm), self.clone(), rng.fork("blows")));
        }
        if spaces && (self.cuts || self.slow_ways) {
            storm.run(ways(Rc::clone(storm), self.clone(), rng.fork("ways")));
        }
        if spaces && self.full_disks {
            storm.run(disks(Rc::clone(storm), self.clone(), rng.fork("disks")));
        }
    }

    fn interval(&self, rng: &mut Rng) -> Duration {
        Duration::from_nanos(rng.exponential(self.interval_ns))
    }

    fn length(&self, rng: &mut Rng) -> Duration {
        Duration::from_nanos(rng.exponential(self.length_ns)).min(LENGTH_MAX)
    }

    fn draw_blow(&self, rng: &mut Rng) -> Blow {
        match (rng.below(10), self.kills, self.pauses) {
            (0..2, true, true) | (0..4, true, false) => Blow::KillOne,
            (2..4, true, true) | (4..8, true, false) => Blow::KillLeader,
            (4, true, true) | (8.., true, false) => Blow::KillMost,
            (0..4, false, _) | (5..7, ..) => Blow::PauseOne,
            _ => Blow::PauseLeader,
        }
    }
}

impl Storm {
    fn draw_node(&self, rng: &mut Rng) -> u32 {
        u32::try_from(rng.below(u64::from(self.shape.nodes))).expect("few nodes")
    }

    /// Returns who leads a partition, as some node knows it.
    async fn leader(&self, rng: &mut Rng) -> Option<u32> {
        let mut socket = self.crowd.connect(rng).await?;
        let mut bytes = Vec::new();
        command(&mut bytes, &["CLUSTER", "PARTITIONS"]);
        socket.send(&bytes);
        let Some(Reply::Array(lines)) = hear(&self.crowd, &mut socket, &mut Vec::new()).await
        else {
            return None;
        };
        leader_in(&lines[rng.index(lines.len())])
    }

    /// Waits, unless the run ends before.
    async fn wait(&self, length: Duration) {
        let until = self.reactor.now() + length;
        while !self.over.get() && self.reactor.now() < until {
            self.reactor.sleep(STEP.min(length)).await;
        }
    }

    /// Notes what happens.
    fn mark(&self, what: &'static str) {
        self.crowd.model.borrow_mut().mark(what);
    }
}

/// Returns the node that leads, from a line of `CLUSTER PARTITIONS`.
fn leader_in(line: &Reply) -> Option<u32> {
    let Reply::Bulk(Some(line)) = line else {
        return None;
    };
    let line = String::from_utf8_lossy(line);
    let name = line
        .split(' ')
        .find_map(|word| word.strip_prefix("leader=n"))?;
    name.parse::<u32>().ok()?.checked_sub(1)
}

async fn blows(storm: Rc<Storm>, mix: Mix, mut rng: Rng) {
    while !storm.over.get() {
        let interval = mix.interval(&mut rng);
        storm.wait(interval).await;
        let blow = mix.draw_blow(&mut rng);
        let length = mix.length(&mut rng);
        let one = storm.draw_node(&mut rng);
        let leads = match blow {
            Blow::KillLeader | Blow::PauseLeader => storm.leader(&mut rng).await,
            Blow::KillOne | Blow::KillMost | Blow::PauseOne => None,
        };
        let node = leads.unwrap_or(one);
        match blow {
            Blow::PauseOne | Blow::PauseLeader => storm.pause(node, leads.is_some(), length).await,
            Blow::KillOne | Blow::KillLeader => storm.kill(&[node], leads.is_some(), length).await,
            Blow::KillMost => {
                let most: Vec<u32> = match rng.coin() {
                    true => (0..storm.shape.nodes).collect(),
                    false => (0..storm.shape.nodes)
                        .filter(|other| *other != node)
                        .collect(),
                };
                storm.kill(&most, false, length).await;
            }
        }
    }
}

impl Storm {
    async fn pause(&self, node: u32, leads: bool, length: Duration) {
        let paused = self.nodes[node as usize].borrow_mut().pause();
        self.note(paused.map(|paused| {
            if paused {
                self.mark(if leads {
                    "leader paused"
                } else {
                    "node paused"
                });
            }
        }));
        self.wait(length).await;
        let resumed = self.nodes[node as usize].borrow_mut().resume();
        self.note(resumed);
    }

    async fn kill(&self, doomed: &[u32], leads: bool, length: Duration) {
        for node in doomed {
            let killed = self.nodes[*node as usize].borrow_mut().kill();
            if killed {
                self.mark(if leads {
                    "leader killed"
                } else {
                    "node killed"
                });
            }
        }
        if doomed.len() > 1 {
            self.mark("most nodes killed at once");
        }
        self.wait(length).await;
        for node in doomed {
            self.start(*node);
        }
    }
}

async fn ways(storm: Rc<Storm>, mix: Mix, mut rng: Rng) {
    while !storm.over.get() {
        let interval = mix.interval(&mut rng);
        storm.wait(interval).await;
        let length = mix.length(&mut rng);
        let node = storm.draw_node(&mut rng);
        if mix.slow_ways && (!mix.cuts || rng.chance(0.4)) {
            storm.mark("ways slow");
            storm.note(storm.place.slow(node));
            storm.wait(length).await;
            storm.note(storm.place.quicken(node));
            continue;
        }
        let cut = draw_ways(&storm, node, &mut rng);
        for (from, to) in &cut {
            storm.note(storm.place.cut(*from, *to));
        }
        storm.wait(length).await;
        for (from, to) in &cut {
            storm.note(storm.place.mend(*from, *to));
        }
    }
}

/// Draws which ways to and from a node are cut.
fn draw_ways(storm: &Storm, node: u32, rng: &mut Rng) -> Vec<(u32, u32)> {
    let kind = rng.below(5);
    storm.mark(match kind {
        0 => "node mute",
        1 => "node deaf",
        2 => "node alone",
        _ => "some ways cut",
    });
    let clients = storm.shape.nodes;
    let with_clients = rng.chance(0.3);
    let ways = storm.place.ways().filter(|(from, to)| {
        let reaches_clients = *from == clients || *to == clients;
        (*from == node || *to == node) && (with_clients || !reaches_clients)
    });
    let ways = ways.filter(|(from, _)| match kind {
        0 => *from == node,
        1 => *from != node,
        2 => true,
        _ => rng.coin(),
    });
    ways.collect()
}

async fn disks(storm: Rc<Storm>, mix: Mix, mut rng: Rng) {
    while !storm.over.get() {
        let interval = mix.interval(&mut rng) * 2;
        storm.wait(interval).await;
        let length = mix.length(&mut rng);
        let node = storm.draw_node(&mut rng);
        storm.mark("disk filled");
        storm.note(storm.place.fill(node));
        storm.wait(length).await;
        storm.note(storm.place.empty(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_found_in_what_a_node_says() {
        let line = |text: &str| Reply::Bulk(Some(text.as_bytes().to_vec()));
        assert_eq!(
            leader_in(&line("partition=0 leader=n3 lease=yes term=2")),
            Some(2)
        );
        assert_eq!(leader_in(&line("partition=0 leader=- lease=-")), None);
    }

    #[test]
    fn only_what_a_mix_has_is_drawn() {
        let mut rng = Rng::new(5);
        let drawn = |kills, pauses, rng: &mut Rng| {
            let mix = Mix {
                kills,
                pauses,
                ..Mix::all()
            };
            (0..200).map(|_| mix.draw_blow(rng)).collect::<Vec<_>>()
        };
        let pauses = |blow: &Blow| matches!(blow, Blow::PauseOne | Blow::PauseLeader);
        assert!(drawn(false, true, &mut rng).iter().all(pauses));
        assert!(!drawn(true, false, &mut rng).iter().any(pauses));
        let both = drawn(true, true, &mut rng);
        assert!(both.iter().any(pauses) && both.contains(&Blow::KillMost));
    }
}
