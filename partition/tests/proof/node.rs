//! A node with one shard, as small as it can be: a log on a simulated disk, partitions above it, and
//! the model of each. It drives them turn by turn as a shard does, and checks each answer, each wait,
//! and what each recovery finds. It does not choose what is asked.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use ashlar_consensus::{Clock, Index, Timestamp};
use ashlar_io::Reactor;
use ashlar_io::rng::Rng;
use ashlar_io::sim::{Faults, World};
use ashlar_io::wal::{Durability, Options, Wal};
use ashlar_partition::{Admission, KeyRange, LogRoom, Partition, Request, Response};

use crate::content::{Held, check_content, check_counts, held, live};
use crate::recover::{recover, run};
use crate::reference::{Change, Reference};

/// Turns after which a recovery or a wait is taken for hung.
pub(crate) const TURNS_MAX: usize = 100_000;
/// Room that the log must have for a turn to propose anything.
const ROOM_BYTES: u64 = 48 << 10;
/// Bytes in flight above which nothing more is proposed.
const IN_FLIGHT_BYTES_MAX: usize = 64 << 10;
const EXPIRED_PER_CALL: usize = 256;

/// What lives until the power is cut.
struct Life {
    reactor: Reactor,
    wal: Wal,
    clock: Clock,
    partitions: Vec<Partition>,
}

pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) rng: Rng,
    options: Options,
    ranges: Vec<KeyRange>,
    life: Option<Life>,
    pub(crate) references: Vec<Reference>,
    /// Index of each drained entry that may be the last one, with the clock behind it.
    clocks: Vec<Vec<(Index, Timestamp)>>,
    /// What each partition held when the power was cut, and as of which index.
    before: Vec<(Index, Vec<Held>)>,
    pub(crate) now_ms: u64,
    /// What the clock is told; unlike `now_ms` it may go back from life to life.
    pub(crate) wall_us: u64,
}

pub(crate) fn options(inflight_max: usize, batch_bytes: usize, durability: Durability) -> Options {
    Options {
        dir: PathBuf::from("/log"),
        log_id: 7,
        segment_bytes: 64 << 10,
        segments_spare: 3,
        inflight_max,
        batch_bytes,
        durability,
    }
}

impl Node {
    pub(crate) fn new(seed: u64, options: Options, faults: Faults) -> Self {
        // The boundary lies inside a database, so that clearing it concerns both partitions.
        let ranges = KeyRange::split_at(&[b"\x01c".to_vec()]);
        Self {
            world: World::new(seed, faults),
            rng: Rng::new(seed ^ 0x5EED),
            options,
            life: None,
            references: ranges.iter().map(|_| Reference::default()).collect(),
            clocks: ranges.iter().map(|_| Vec::new()).collect(),
            before: Vec::new(),
            ranges,
            now_ms: 1_000_000,
            wall_us: 1_000_000_000,
        }
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("the node is up")
    }

    /// Recovers and checks what was found; `false` when it took more turns than `turns_max` and the power was cut.
    pub(crate) fn start(&mut self, turns_max: usize) -> bool {
        let reactor = Reactor::simulated(&self.world, 0, 0);
        let recovering = recover(
            reactor.clone(),
            self.options.clone(),
            self.ranges.clone(),
            self.rng.next_u64(),
        );
        let Some(recovered) = run(&self.world, &reactor, turns_max, recovering) else {
            self.world.crash(0);
            return false;
        };
        let (partitions, clock, recovered) =
            recovered.expect("nothing that was acknowledged is damaged");
        let wal = Wal::open(&reactor, self.options.clone(), recovered);
        self.life = Some(Life {
            reactor,
            wal,
            clock,
            partitions,
        });
        self.check_recovered();
        true
    }

    fn check_recovered(&mut self) {
        let life = self.life.as_mut().unwrap();
        for (number, partition) in life.partitions.iter().enumerate() {
            let reference = &mut self.references[number];
            let last = partition.last_index();
            reference.cut(last);
            assert_eq!(partition.applied(), last, "all of the log is applied");
            let held = held(partition);
            assert_eq!(
                live(&held, self.now_ms),
                reference.live(self.now_ms),
                "partition {number} at entry {last}"
            );
            check_counts(partition, &held);
            if let Some((_, before)) = self.before.get(number).filter(|(index, _)| *index == last) {
                assert_eq!(
                    held, *before,
                    "recovery makes what was there, partition {number} at entry {last}"
                );
            }
            let newest = held.iter().map(|version| version.3).max().unwrap_or(0);
            assert!(
                life.clock.last().0 >= newest,
                "the clock is above every version"
            );
            let expected = self.clocks[number]
                .iter()
                .rev()
                .find(|(index, _)| *index <= last);
            if let Some((index, at)) = expected {
                assert!(
                    life.clock.last() >= *at,
                    "the clock went back behind entry {index}"
                );
            }
            self.clocks[number].retain(|(index, _)| *index <= last);
        }
        self.before.clear();
    }

    /// Cuts the power.
    pub(crate) fn crash(&mut self) {
        self.world.crash(0);
        self.end_life();
    }

    /// Kills the process.
    pub(crate) fn kill(&mut self) {
        self.world.kill(0);
        self.end_life();
    }

    fn end_life(&mut self) {
        let life = self.life.take().expect("the node is up");
        self.before = life
            .partitions
            .iter()
            .map(|partition| (partition.applied(), held(partition)))
            .collect();
    }

    /// Makes one turn, with `work` in it when there is room for it.
    pub(crate) fn turn(&mut self, work: impl FnOnce(&mut Self)) {
        self.world.step().expect("a parked shard has a next turn");
        self.life().reactor.reap();
        self.life().wal.poll().expect("disks do not fail here");
        self.settle();
        self.life().reactor.run_ready();
        if self.has_room() {
            work(self);
        }
        self.drain();
        self.park();
    }

    /// Makes one turn in which only what `work` does happens: no settling, no draining.
    pub(crate) fn bare_turn(&mut self, work: impl FnOnce(&mut Self)) {
        self.world.step().expect("a parked shard has a next turn");
        self.life().reactor.reap();
        self.life().wal.poll().expect("disks do not fail here");
        self.life().reactor.run_ready();
        work(self);
        self.life().wal.flush();
        self.park();
    }

    fn park(&mut self) {
        let pause = Duration::from_micros(1 + self.rng.below(150));
        let reactor = &self.life().reactor;
        reactor.park(Some(reactor.now() + pause), || false);
    }

    pub(crate) fn has_room(&mut self) -> bool {
        let life = self.life();
        life.wal.want(ROOM_BYTES);
        let in_flight: usize = life.partitions.iter().map(Partition::in_flight_bytes).sum();
        life.wal.capacity_bytes() >= ROOM_BYTES && in_flight < IN_FLIGHT_BYTES_MAX
    }

    /// Has every partition apply what is durable, and checks it against its model.
    pub(crate) fn settle(&mut self) {
        let life = self.life.as_mut().unwrap();
        let durable = life.wal.durable();
        for (number, partition) in life.partitions.iter_mut().enumerate() {
            let before = partition.applied();
            let settled = partition.settle(durable);
            assert_eq!(
                settled,
                if partition.applied() > before {
                    Some(partition.applied())
                } else {
                    None
                }
            );
            self.references[number].settle(partition.applied());
            if settled.is_some() {
                check_content(partition, &self.references[number]);
            }
        }
    }

    /// Ends the turn of every partition, and starts the log's writes.
    pub(crate) fn drain(&mut self) {
        let life = self.life.as_mut().unwrap();
        let mut drained = Vec::new();
        for (number, partition) in life.partitions.iter_mut().enumerate() {
            if partition.drain(&mut life.wal, &mut life.clock) {
                drained.push(number);
            }
        }
        // The clock is the shard's: what another partition's entry took of it may be lost with it.
        // Where there was none, it must come back with the entry.
        if let &[number] = drained.as_slice() {
            let index = life.partitions[number].last_index();
            self.clocks[number].push((index, life.clock.last()));
        }
        for (number, partition) in life.partitions.iter().enumerate() {
            let applied = partition.applied();
            let clocks = &mut self.clocks[number];
            let needless = clocks
                .iter()
                .take_while(|(index, _)| *index < applied)
                .count();
            clocks.drain(..needless);
        }
        life.wal.flush();
    }

    /// Has every partition delete what has expired.
    pub(crate) fn expire(&mut self) {
        let life = self.life.as_mut().unwrap();
        for (partition, reference) in life.partitions.iter_mut().zip(&mut self.references) {
            let expected = reference.expired(self.now_ms);
            let purge = partition.expire(self.now_ms, &mut life.clock, self.wall_us);
            assert!(
                expected.len() < EXPIRED_PER_CALL && !purge.may_go_on,
                "tests have few keys"
            );
            reference.last_index = partition.last_index();
            let last = partition.last_index();
            assert!(
                expected.is_empty() || last > partition.applied(),
                "deletions are in flight"
            );
            expected
                .into_iter()
                .for_each(|key| reference.note(last, Change::Remove(key)));
        }
    }

    /// Serves one request and checks its answer and what it waits for.
    pub(crate) fn ask(&mut self, key: &[u8], request: &Request<'_>) {
        let life = self.life.as_mut().unwrap();
        let number = life
            .partitions
            .iter()
            .position(|partition| partition.range().contains(key))
            .unwrap();
        let (partition, clock) = (&mut life.partitions[number], &mut life.clock);
        let reference = &mut self.references[number];
        let decision = reference.decide(key, request, self.now_ms, partition.admission);
        let wall_us = self.wall_us;
        let (response, wait) =
            partition.serve(key, request, self.now_ms, || clock.take(wall_us), owned);
        assert_eq!(
            response, decision.response,
            "{request:?} of {key:?} at {}",
            self.now_ms
        );
        reference.last_index = partition.last_index();
        let known = if decision.looked {
            reference.in_flight(key)
        } else {
            None
        };
        match decision.change {
            Some(change) => {
                assert_eq!(
                    wait,
                    Some(partition.last_index()),
                    "{request:?} waits for the entry it went into"
                );
                assert!(
                    wait > Some(partition.applied()),
                    "nothing is applied before it is durable"
                );
                reference.note(partition.last_index(), change);
            }
            None => assert_eq!(wait, known, "{request:?} waits for what it saw"),
        }
    }

    /// Clears a database, or all, in every partition.
    pub(crate) fn clear(&mut self, database: Option<u8>) {
        let life = self.life.as_mut().unwrap();
        let wall_us = self.wall_us;
        for (partition, reference) in life.partitions.iter_mut().zip(&mut self.references) {
            let cleared = partition.clear(database, || life.clock.take(wall_us));
            assert_eq!(cleared.is_err(), partition.admission.log == LogRoom::Full);
            reference.last_index = partition.last_index();
            if let Ok(wait) = cleared {
                assert_eq!(wait, Some(partition.last_index()));
                reference.note(partition.last_index(), Change::Clear(database));
            }
        }
    }

    pub(crate) fn admit(&mut self, admission: Admission) {
        self.life()
            .partitions
            .iter_mut()
            .for_each(|partition| partition.admission = admission);
    }

    /// Turns until everything proposed is applied.
    pub(crate) fn quiesce(&mut self) {
        for _ in 0..TURNS_MAX {
            let life = self.life.as_ref().unwrap();
            let busy = |partition: &Partition| partition.in_flight_bytes() > 0;
            if !life.partitions.iter().any(busy) {
                return;
            }
            self.turn(|_| {});
        }
        panic!("the log never came to rest");
    }

    /// Deletes all that has expired, settles everything, and checks that content and counts equal the model's.
    pub(crate) fn check_at_rest(&mut self) {
        self.quiesce();
        self.expire();
        self.quiesce();
        let life = self.life.as_ref().unwrap();
        for (partition, reference) in life.partitions.iter().zip(&self.references) {
            let held = held(partition);
            assert!(
                live(&held, 0).len() == held.len(),
                "versions are of different keys"
            );
            assert_eq!(
                live(&held, 0),
                reference.live(self.now_ms),
                "expired keys are gone, and no others"
            );
            check_counts(partition, &held);
        }
    }
}

pub(crate) fn owned(response: Response<'_>) -> Response<'static> {
    match response {
        Response::Missing => Response::Missing,
        Response::Done => Response::Done,
        Response::Value(value, expiry) => Response::Value(Cow::Owned(value.into_owned()), expiry),
        Response::There(family, expiry) => Response::There(family, expiry),
        Response::Integer(number) => Response::Integer(number),
        Response::Refused(refusal) => Response::Refused(refusal),
    }
}
