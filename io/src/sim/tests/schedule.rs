//! Turns: timers, wakes, pauses, crashes, and that one seed is one history.

use std::time::{Duration, Instant};

use super::*;
use crate::rng::Rng;
use crate::time::Monotonic;

const ME: (u32, u32) = (0, 0);

fn driver(rig: &mut Rig, at: (u32, u32)) -> &mut Driver {
    &mut rig.shards.get_mut(&at).unwrap().driver
}

#[test]
fn a_timer_fires_at_its_deadline_and_an_idle_world_ends() {
    let mut rig = Rig::calm(1, &[ME]);
    rig.settle();
    let deadline = rig.world.now() + Duration::from_secs(3600);
    driver(&mut rig, ME).park(Some(deadline));
    assert_eq!(rig.turn(), Some(ME));
    assert!(rig.world.now() >= deadline && rig.world.now() < deadline + Duration::from_micros(3));
    driver(&mut rig, ME).park(None);
    assert_eq!(rig.turn(), None);
}

#[test]
fn timers_do_not_pile_up_however_often_a_shard_parks() {
    let mut rig = Rig::calm(1, &[ME]);
    rig.turn();
    for n in 0..10_000_u64 {
        let now = rig.world.now();
        driver(&mut rig, ME).park(Some(now + Duration::from_secs(3600)));
        driver(&mut rig, ME).park(Some(now + Duration::from_millis(1 + n % 7)));
        assert_eq!(rig.turn(), Some(ME));
        assert!(rig.world.now() > now);
    }
    assert!(rig.world.events() < 10, "{}", rig.world.events());
}

#[test]
fn a_shard_that_polls_does_not_stop_time() {
    let mut rig = Rig::calm(1, &[ME]);
    let start = rig.world.now();
    for _ in 0..1_000 {
        assert_eq!(rig.turn(), Some(ME));
        driver(&mut rig, ME).park(Some(Monotonic(0)));
    }
    assert!(rig.world.now().since(start) >= Duration::from_micros(99));
}

#[test]
fn a_wake_brings_a_turn_within_fifty_microseconds() {
    let mut rig = Rig::calm(1, &[ME, (0, 1)]);
    rig.settle();
    let cell = driver(&mut rig, (0, 1)).wake_cell();
    assert_eq!(rig.turn(), None);
    let start = rig.world.now();
    cell.wake();
    cell.wake();
    assert_eq!(rig.turn(), Some((0, 1)));
    assert!((500..50_000).contains(&(rig.world.now().0 - start.0)));
    assert_eq!(rig.turn(), None);
}

#[test]
fn a_paused_node_gets_no_turn_and_loses_nothing() {
    let mut rig = Rig::calm(1, &[ME, (1, 0)]);
    let (client, server) = rig.pair((1, 0), ME, 7000);
    let recv = rig.start(ME, Op::Recv { socket: server });
    rig.settle();
    rig.world.pause(0, Duration::from_secs(2));
    let start = rig.world.now();
    rig.run(
        (1, 0),
        Op::Send {
            socket: client,
            data: vec![1; 10],
            done: 0,
            zero_copy: false,
        },
    )
    .unwrap();
    driver(&mut rig, ME).park(Some(start + Duration::from_millis(5)));
    assert_eq!(rig.turn(), Some(ME));
    assert!(rig.world.now().since(start) >= Duration::from_secs(2));
    assert!(matches!(rig.take(ME, recv).unwrap().result, Ok(Value::Chunk(c)) if c.len() == 10));
}

#[test]
fn late_completions_do_not_reach_the_next_life() {
    let mut rig = Rig::calm(1, &[ME]);
    let file = rig.open(ME, "a", DIRECT);
    let before = rig.start(
        ME,
        Op::WriteAt {
            file,
            buf: filled(4096, 1),
            offset: 0,
            done: 0,
            durable: true,
        },
    );
    rig.crash(0);
    rig.boot(ME);
    rig.settle();
    assert!(rig.take(ME, before).is_none());
    assert_eq!(errno(rig.run(ME, Op::Size { file })), libc::EBADF);
}

#[test]
fn clocks_of_nodes_drift_apart_and_timers_follow_them() {
    let mut faults = Faults::none();
    (faults.clock.drift_max_ppm, faults.clock.offset_max_us) = (500, 1_000_000);
    let mut rig = Rig::new(9, faults);
    [ME, (1, 0)].into_iter().for_each(|at| rig.boot(at));
    rig.settle();
    let deadline = driver(&mut rig, ME).now() + Duration::from_secs(1000);
    driver(&mut rig, ME).park(Some(deadline));
    rig.turn();
    let clocks = [ME, (1, 0)].map(|at| driver(&mut rig, at).now());
    assert!(clocks[0] >= deadline && clocks[0].since(deadline) < Duration::from_micros(3));
    assert_ne!(clocks[0], clocks[1]);
    let walls = [ME, (1, 0)].map(|at| driver(&mut rig, at).wall().0);
    assert_ne!(walls[0], walls[1]);
    assert!(walls[0].abs_diff(rig.world.true_wall().0) < 2_000_000);
}

/// Random ops on files and sockets of three nodes, with crashes.
struct Chaos {
    rig: Rig,
    rng: Rng,
    turns: u32,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let rig = Rig::new(seed, Faults::swarm(&mut Rng::new(seed)));
        Self {
            rig,
            rng: Rng::new(seed ^ 0xABCD),
            turns: 0,
        }
    }

    /// Boots the shards that are down.
    fn boot(&mut self) {
        for at in (0..3).flat_map(|node| [(node, 0), (node, 1)]) {
            if self.rig.shards.contains_key(&at) {
                continue;
            }
            self.rig.boot(at);
            let listener = self.rig.listen(at, 7000);
            self.rig.start(at, Op::Accept { listener });
        }
    }

    /// Starts what follows from a completion.
    fn follow(&mut self, at: (u32, u32), id: OpId, result: io::Result<Value>) {
        let op = &self.rig.shards[&at].ops[&id];
        let closes = if let Op::Recv { socket } = op {
            Some(*socket)
        } else {
            None
        };
        let opened = matches!(op, Op::Open { .. });
        match (result, closes) {
            (Ok(Value::Handle(file)), _) if opened => {
                let (buf, durable) = (filled(8192, 3), self.rng.coin());
                self.rig.start(
                    at,
                    Op::WriteAt {
                        file,
                        buf,
                        offset: 4096,
                        done: 0,
                        durable,
                    },
                );
                let buf = Buf::heap(8192);
                self.rig.start(
                    at,
                    Op::ReadAt {
                        file,
                        buf,
                        offset: 0,
                        done: 0,
                    },
                );
                self.rig.start(at, Op::Sync { file });
            }
            (Ok(Value::Handle(socket)), _) => {
                self.rig.start(at, Op::Recv { socket });
                self.rig.start(
                    at,
                    Op::Send {
                        socket,
                        data: vec![7; 3_000],
                        done: 0,
                        zero_copy: false,
                    },
                );
            }
            (Err(_), Some(handle)) => drop(self.rig.start(at, Op::Close { handle })),
            _ => {}
        }
    }

    /// Does something of its own in a turn.
    fn act(&mut self, at: (u32, u32)) {
        let (turns, rig) = (self.turns, &mut self.rig);
        match self.rng.below(12) {
            0 => {
                let path = format!("f{}", turns % 50).into();
                rig.start(
                    at,
                    Op::Open {
                        path,
                        options: DIRECT,
                    },
                );
            }
            1 => {
                rig.start(
                    at,
                    Op::Connect {
                        addr: (World::ip(turns % 3), 7000).into(),
                    },
                );
            }
            2 if self.rng.chance(0.01) => rig.crash(at.0),
            3 if self.rng.chance(0.01) => rig.world.pause(at.0, Duration::from_millis(500)),
            4 => driver(rig, (at.0, 1 - at.1)).wake_cell().wake(),
            _ => {
                let deadline = driver(rig, at).now() + Duration::from_micros(self.rng.below(500));
                driver(rig, at).park(Some(deadline));
            }
        }
    }

    /// Runs for some turns; returns the hash and the number of turns that there were.
    fn run(mut self, turns: u32) -> (u64, u32) {
        while self.turns < turns {
            self.boot();
            let Some(at) = self.rig.turn() else { break };
            let done = std::mem::take(&mut self.rig.shards.get_mut(&at).unwrap().done);
            for Completion { id, result, more } in done {
                self.follow(at, id, result);
                if !more {
                    self.rig.shards.get_mut(&at).unwrap().ops.remove(&id);
                }
            }
            self.act(at);
            self.turns += 1;
        }
        (self.rig.world.hash(), self.turns)
    }
}

#[test]
fn one_seed_is_one_history_and_another_seed_is_another() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..30 {
        let first = Chaos::new(seed).run(3_000);
        assert_eq!(first, Chaos::new(seed).run(3_000), "seed {seed}");
        seen.insert(first.0);
    }
    assert_eq!(seen.len(), 30);
}

#[test]
#[ignore = "prints a speed; run with --ignored --nocapture in release"]
fn speed_of_turns() {
    let mut rig = Rig::calm(1, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    let (client, server) = rig.pair((0, 0), (1, 0), 7000);
    rig.start((0, 0), Op::Recv { socket: client });
    rig.start((1, 0), Op::Recv { socket: server });
    for at in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        driver(&mut rig, at).park(Some(Monotonic(0)));
    }
    let (start, turns) = (Instant::now(), 3_000_000_u32);
    for _ in 0..turns {
        let at = rig.turn().unwrap();
        rig.shards.get_mut(&at).unwrap().done.clear();
        let deadline = driver(&mut rig, at).now() + Duration::from_micros(10);
        driver(&mut rig, at).park(Some(deadline));
    }
    let timers = f64::from(turns) / start.elapsed().as_secs_f64() / 1e6;
    rig.settle();
    let (start, sends) = (Instant::now(), 1_000_000_u32);
    for n in 0..sends {
        let mut op = Op::Send {
            socket: client,
            data: vec![1; 100],
            done: 0,
            zero_copy: false,
        };
        driver(&mut rig, (0, 0)).submit(
            OpId {
                index: n,
                generation: 1,
            },
            &mut op,
        );
        while rig.turn().is_some() {}
        rig.shards.values_mut().for_each(|shard| shard.done.clear());
    }
    let sends = f64::from(sends) / start.elapsed().as_secs_f64() / 1e6;
    eprintln!("{timers:.2} M timer turns/s, {sends:.2} M sends/s (two events and two turns each)");
}
