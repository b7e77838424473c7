//! Tests of the log in simulated worlds, against a plain model: the list of records that were
//! appended. The rig here owns one node with one log, and drives it turn by turn as a shard does.

#![expect(
    clippy::cast_possible_truncation,
    reason = "what a test counts is small"
)]

mod anew;
mod crash;
mod damage;
mod disk;
mod release;
mod replay;
mod tail;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::{Durability, Mark, Options, Position, RecoverError, Recovered, Wal, recover};
use crate::file;
use crate::reactor::Reactor;
use crate::rng::Rng;
use crate::sim::{Damage, Faults, World};

/// Turns after which a recovery or a wait is taken for hung.
const TURNS_MAX: usize = 200_000;

fn options() -> Options {
    Options {
        dir: PathBuf::from("/log"),
        log_id: 77,
        segment_bytes: 64 << 10,
        segments_spare: 2,
        inflight_max: 2,
        batch_bytes: 16 << 10,
        durability: Durability::Dsync,
    }
}

/// A record as recovery handed it on.
type Found = (Position, Vec<u8>);

/// One life of a node's only shard, with its log once it is open.
struct Life {
    reactor: Reactor,
    wal: Option<Wal>,
    turns: usize,
}

impl Life {
    fn new(world: &World) -> Self {
        Self {
            reactor: Reactor::simulated(world, 0, 0),
            wal: None,
            turns: 0,
        }
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("the log is open")
    }

    /// Makes one turn of the shard, with `work` in it; says whether there was one.
    fn turn(&mut self, world: &World, work: impl FnOnce(&mut Self)) -> bool {
        if world.step().is_none() {
            return false;
        }
        self.turns += 1;
        self.reactor.reap();
        self.reactor.run_ready();
        work(self);
        // A shard looks at its log again before long, as a node's clock makes it do.
        self.reactor
            .park(Some(self.reactor.now() + Duration::from_millis(1)), || {
                false
            });
        true
    }

    /// Runs a future to its end, or until `turns_max` turns have passed.
    fn run<T: 'static>(
        &mut self,
        world: &World,
        turns_max: usize,
        future: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let answer = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&answer);
        self.reactor.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        for _ in 0..turns_max {
            assert!(self.turn(world, |_| {}));
            if let Some(value) = answer.borrow_mut().take() {
                return Some(value);
            }
        }
        None
    }

    /// Recovers the log, for `turns_max` turns at most; makes its directory first.
    fn recover(
        &mut self,
        world: &World,
        options: &Options,
        turns_max: usize,
    ) -> Option<Result<(Recovered, Vec<Found>), RecoverError>> {
        let (reactor, options) = (self.reactor.clone(), options.clone());
        self.run(world, turns_max, async move {
            file::create_dir(&reactor, &options.dir).await.unwrap();
            file::sync_dir(&reactor, Path::new("/")).await.unwrap();
            let mut found = Vec::new();
            let recovered = recover(&reactor, &options, |position, record| {
                found.push((position, record.to_vec()));
                Ok(())
            });
            let recovered = recovered.await?;
            Ok((recovered, found))
        })
    }

    fn open(&mut self, options: &Options, recovered: Recovered) {
        self.wal = Some(Wal::open(&self.reactor, options.clone(), recovered));
    }

    /// Turns until `done`, flushing and polling.
    fn until(&mut self, world: &World, mut done: impl FnMut(&Wal) -> bool) {
        for _ in 0..TURNS_MAX {
            if done(self.wal()) {
                return;
            }
            assert!(self.turn(world, |life| {
                life.wal().poll().unwrap();
                life.wal().flush();
            }));
        }
        panic!("it never came to that");
    }

    /// Appends one record when there is room, and waits until it is durable.
    fn append_durably(&mut self, world: &World, record: &[u8]) -> Position {
        self.wal().want(record.len() as u64);
        self.until(world, |wal| wal.capacity_bytes() >= record.len() as u64);
        let position = self.wal().position();
        let mark = self.wal().append(&[record]);
        self.until(world, |wal| wal.durable() > mark);
        position
    }

    fn end(self) {
        drop(self.wal);
        self.reactor.shut_down();
    }
}

/// A node with a log, and what its log must hold.
struct Rig {
    world: World,
    options: Options,
    rng: Rng,
    life: Option<Life>,
    /// Every record from the log's beginning, in order: what recovery found, and what was appended
    /// since.
    records: Vec<Vec<u8>>,
    /// A position at or before each record.
    positions: Vec<Position>,
    /// Marks of the records of this life.
    marks: Vec<(usize, Mark)>,
    /// Records known to be durable, counted from the first.
    durable: usize,
    /// Records that are not needed any more.
    released: usize,
    lives: u64,
}

impl Rig {
    fn new(seed: u64, options: Options, faults: Faults) -> Self {
        Self {
            world: World::new(seed, faults),
            options,
            rng: Rng::new(seed ^ 0xA5A5),
            life: None,
            records: Vec::new(),
            positions: Vec::new(),
            marks: Vec::new(),
            durable: 0,
            released: 0,
            lives: 0,
        }
    }

    /// A calm world with an open log.
    fn calm(seed: u64, options: Options) -> Self {
        let mut rig = Self::new(seed, options, Faults::none());
        rig.restart();
        rig
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("the node is up")
    }

    fn wal(&mut self) -> &mut Wal {
        self.life().wal()
    }

    /// Makes a record that no other life would make.
    fn record(&self, bytes: usize) -> Vec<u8> {
        let mut record = (self.records.len() as u64).to_le_bytes().to_vec();
        record.extend_from_slice(&self.lives.to_le_bytes());
        let mut rng = Rng::new(self.records.len() as u64 * 1_000 + self.lives);
        record.resize(16 + bytes, 0);
        rng.fill(&mut record[16..]);
        record
    }

    /// Appends a record, whether there is room or not.
    fn append(&mut self, bytes: usize) -> Mark {
        let record = self.record(bytes);
        let position = self.wal().position();
        let cut = record.len() / 3;
        let mark = self.wal().append(&[&record[..cut], &[], &record[cut..]]);
        self.marks.push((self.records.len(), mark));
        self.records.push(record);
        self.positions.push(position);
        mark
    }

    /// Says whether a record surely fits; asks for segments when it does not.
    fn has_room(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64 + 16;
        let fits = self.wal().capacity_bytes() >= bytes;
        if !fits {
            self.wal().want(bytes);
        }
        fits
    }

    /// Notes which records are durable now.
    fn note_durable(&mut self, mark: Mark) {
        let durable = self.marks.iter().take_while(|(_, of)| *of < mark);
        if let Some((index, _)) = durable.last() {
            self.durable = self.durable.max(index + 1);
        }
    }

    /// Makes a turn: polls, works, flushes.
    fn turn(&mut self, work: impl FnOnce(&mut Self)) {
        let world = self.world.clone();
        assert!(
            world.step().is_some(),
            "a shard with a timer always has a next turn"
        );
        self.life().reactor.reap();
        self.life().reactor.run_ready();
        let mark = self.wal().poll().unwrap();
        self.note_durable(mark);
        work(self);
        self.wal().flush();
        let reactor = self.life().reactor.clone();
        reactor.park(Some(reactor.now() + Duration::from_millis(1)), || false);
    }

    /// Turns until every record is durable.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.wal().is_idle() {
                return;
            }
            self.turn(|_| {});
        }
        panic!("the log never comes to rest");
    }

    /// Appends a record once there is room, and waits until it is durable.
    fn append_durably(&mut self, bytes: usize) {
        for _ in 0..TURNS_MAX {
            if self.has_room(bytes) {
                self.append(bytes);
                return self.settle();
            }
            self.turn(|_| {});
        }
        panic!("no room ever: {:?}", self.wal());
    }

    /// Releases everything before record `index`.
    fn release(&mut self, index: usize) {
        assert!(index <= self.durable && index >= self.released);
        self.released = index;
        let below = match self.positions.get(index) {
            Some(position) => *position,
            None => self.wal().position(),
        };
        self.wal().release(below);
    }

    fn crash(&mut self) {
        self.world.crash(0);
        self.life = None;
    }

    /// Ends the process, not the machine: every write in flight is finished.
    fn kill(&mut self) {
        self.world.kill(0);
        self.life = None;
    }

    /// Recovers, and checks what was found against the model; what was not found and not durable is
    /// forgotten.
    fn restart(&mut self) -> bool {
        match self.restart_within(TURNS_MAX) {
            Some(Ok(torn)) => torn,
            Some(Err(error)) => panic!("{error}"),
            None => panic!("recovery hangs"),
        }
    }

    /// As `restart`; nothing when recovery did not end within `turns_max` turns. Says whether the
    /// tail was torn.
    fn restart_within(&mut self, turns_max: usize) -> Option<Result<bool, RecoverError>> {
        self.lives += 1;
        let mut life = Life::new(&self.world);
        let outcome = life.recover(&self.world, &self.options, turns_max);
        let (recovered, found) = match outcome {
            Some(Ok(found)) => found,
            other => {
                // Left as it is, for the crash that follows.
                self.life = Some(life);
                return other.map(|result| result.map(|_| false));
            }
        };
        let torn = recovered.torn;
        self.check(&recovered, found);
        life.open(&self.options, recovered);
        self.life = Some(life);
        Some(Ok(torn))
    }

    /// Recovers; when that takes more than `turns_max` turns, crashes in the middle of it and
    /// recovers at leisure.
    fn restart_or_crash(&mut self, turns_max: usize) {
        self.crash();
        match self.restart_within(turns_max) {
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
            None => {
                self.crash();
                self.restart();
            }
        }
    }

    fn check(&mut self, recovered: &Recovered, found: Vec<Found>) {
        assert_eq!(recovered.records, found.len() as u64);
        assert_eq!(
            recovered.record_bytes,
            found.iter().map(|(_, r)| r.len() as u64).sum::<u64>()
        );
        assert!(found.is_sorted_by_key(|(position, _)| *position));
        let first = match found.first() {
            Some((_, record)) => u64::from_le_bytes(record[..8].try_into().unwrap()) as usize,
            None => self.released.max(self.durable),
        };
        let end = first + found.len();
        assert!(
            first <= self.released,
            "record {} is gone, {first} is the first",
            self.released
        );
        assert!(
            end >= self.durable,
            "{} records were durable, {end} are there",
            self.durable
        );
        assert!(
            end <= self.records.len().max(self.durable),
            "records that nobody appended"
        );
        for (index, (position, record)) in (first..).zip(found) {
            assert!(
                record == self.records[index],
                "record {index} is not what was appended"
            );
            assert!(position < recovered.end && position >= Position(0));
            self.positions[index] = position;
        }
        self.records.truncate(end);
        self.positions.truncate(end);
        self.marks.clear();
        self.durable = end;
    }

    fn damage(&self, path: &Path, damage: &Damage) {
        self.world.disk_damage(0, path, damage).unwrap();
    }

    /// Returns the segment file whose first batch lies at `number` times the segment size.
    fn segment(&self, number: u64) -> PathBuf {
        let files = self.world.list_files(0).into_iter().map(|(path, _)| path);
        let mut hits = files.filter(|path| {
            let content = self.world.read_file(0, path).unwrap();
            let header = super::format::Header::decode(&content);
            header.is_some_and(|h| h.position == Position(number * self.options.segment_bytes))
        });
        hits.next().expect("the segment is there")
    }
}

/// Picks a size of a record: small, around a batch, larger than one, rarely larger than a segment.
fn some_bytes(rng: &mut Rng, options: &Options) -> usize {
    let segment = usize::try_from(options.segment_bytes).unwrap();
    match rng.below(20) {
        0 => 0,
        1 => segment + rng.index(segment),
        2..=4 => options.batch_bytes + rng.index(options.batch_bytes),
        5..=8 => options.batch_bytes - 200 + rng.index(200),
        _ => rng.index(3_000),
    }
}

fn some_options(rng: &mut Rng) -> Options {
    let batch_bytes = [4_096, 8_192, 16_384, 65_536][rng.index(4)];
    let segment_blocks = batch_bytes as u64 / 4_096 * (1 + rng.below(6)) + rng.below(3);
    Options {
        segment_bytes: segment_blocks * 4_096,
        segments_spare: 1 + rng.index(4),
        inflight_max: 1 + rng.index(4),
        batch_bytes,
        durability: if rng.coin() {
            Durability::Dsync
        } else {
            Durability::Fdatasync
        },
        ..options()
    }
}
