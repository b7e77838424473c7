//! Looks at where the time goes in this shard: stages of requests, turns, and what made a turn too long. All of it is
//! off when `io.timing` says so; then no clock is read for it.
//!
//! Invariant: of batches, writes and sends one at a time is watched, of runs of commands one in [`RUNS`]: so that what
//! it costs hardly grows with the load.

use std::cell::Cell;
use std::time::Duration;

use ashlar_consensus::Index;
use ashlar_io::Monotonic;
use ashlar_io::wal::Mark;

use super::{Core, Data};
use crate::command::{Command, table};
use crate::slowlog::SLOWER_THAN_NANOS;
use crate::stalls::Stall;
use crate::stats::{ShardCounters, Stage};

/// Calls of a command that are all timed, and what part of those after them is, of a quick one.
const EXACT_CALLS: u64 = 1024;
const ONE_IN: u64 = 16;
/// Runs of commands of which one is watched.
const RUNS: u32 = 8;
/// How long all commands are timed after a turn took long.
const CLOSE_LOOK: Duration = Duration::from_secs(1);
/// Time between two stalls of a shard that are logged.
const STALL_PAUSE: Duration = Duration::from_secs(1);

/// What is being watched.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Whether clocks are read at all.
    pub(super) is_on: Cell<bool>,
    /// Which commands are quick, by their rows in the table.
    quick: Box<[bool]>,
    /// Runs of commands that were begun.
    runs: Cell<u32>,
    /// Until then every command is timed.
    close_until: Cell<Monotonic>,
    /// A batch of the log on its way, and since when.
    batch: Cell<Option<(Mark, Monotonic)>>,
    /// A write whose reply waits, and since when.
    write: Cell<Option<(usize, Index, Monotonic)>>,
    /// What took longest in this turn without a break.
    longest: Cell<(&'static str, u64)>,
    /// When the turn's begin and its tasks were done.
    begun: Cell<Monotonic>,
    ran: Cell<Monotonic>,
    /// When a stall was last logged.
    told: Cell<Monotonic>,
}

impl Watched {
    pub(super) fn new(is_on: bool) -> Self {
        Self {
            is_on: Cell::new(is_on),
            quick: table::all().iter().map(is_quick).collect(),
            ..Self::default()
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Core {
    /// Says whether times are taken.
    pub(super) fn is_timed(&self) -> bool {
        self.watched.is_on.get()
    }

    fn note_stage(&self, stage: Stage, from: Monotonic, to: Monotonic) {
        self.counters().stages[stage as usize].note(nanos(to.since(from)));
    }

    /// Begins a run of commands of one connection, which have waited until now; looks at the clock in one of
    /// [`RUNS`].
    pub(crate) fn begin_run(&self) {
        let run = self.watched.runs.get().wrapping_add(1);
        self.watched.runs.set(run);
        if self.is_timed() && run.is_multiple_of(RUNS) {
            self.note_stage(Stage::Queue, self.reactor.now(), self.reactor.read_clock());
        }
    }

    /// Keeps what took longest in this turn.
    pub(super) fn note_longest(&self, name: &'static str, took: u64) {
        if took > self.watched.longest.get().1 {
            self.watched.longest.set((name, took));
        }
    }

    /// Watches the batch of the log that this turn's entries are in, unless one is watched.
    pub(super) fn watch_batch(&self, data: &Data) {
        if self.is_timed()
            && self.watched.batch.get().is_none()
            && let Some(mark) = data.wal.filling()
        {
            let now = self.reactor.read_clock();
            self.watched.batch.set(Some((mark, now)));
        }
    }

    /// Watches a write whose reply waits, unless one is watched.
    pub(super) fn watch_write(&self, partition: usize, index: Index) {
        if self.is_timed() && self.watched.write.get().is_none() {
            let since = self.reactor.now();
            self.watched.write.set(Some((partition, index, since)));
        }
    }

    /// Notes, before entries are applied, whether the batch that is watched is durable; returns since when.
    pub(super) fn note_batch(&self, durable: Mark) -> Option<Monotonic> {
        let (mark, since) = self.watched.batch.get()?;
        if mark >= durable {
            return None;
        }
        self.watched.batch.set(None);
        let now = self.reactor.read_clock();
        self.note_stage(Stage::Log, since, now);
        Some(now)
    }

    /// Notes that what became durable is applied and released, which began `since`.
    pub(super) fn note_applied(&self, since: Option<Monotonic>) {
        let Some(since) = since else { return };
        let now = self.reactor.read_clock();
        self.note_stage(Stage::Apply, since, now);
        if let Some((partition, index, begun)) = self.watched.write.get()
            && self.has_applied(partition, index)
        {
            self.watched.write.set(None);
            self.note_stage(Stage::Write, begun, now);
        }
    }

    fn has_applied(&self, partition: usize, index: Index) -> bool {
        let data = self.data.borrow();
        let owned = data.owned[partition].as_ref();
        owned.is_none_or(|owned| owned.partition.applied() >= index)
    }

    /// Begins to watch a turn.
    pub(super) fn watch_turn(&self) {
        self.watched.longest.set(("", 0));
        let _ = self.reactor.take_longest();
        if self.is_timed()
            && let Some(took) = self.reactor.take_send_time()
        {
            self.counters().stages[Stage::Send as usize].note(nanos(took));
        }
    }

    /// Notes that the begin of a turn is over, and its tasks come.
    pub(crate) fn note_begun(&self) {
        if self.is_timed() {
            self.watched.begun.set(self.reactor.read_clock());
        }
    }

    /// Notes that the tasks of a turn have run.
    pub(crate) fn note_ran(&self) {
        if self.is_timed() {
            self.watched.ran.set(self.reactor.read_clock());
        }
    }

    /// Counts a turn, and keeps and tells of one that took too long.
    pub(crate) fn note_turn(&self) {
        if !self.is_timed() {
            return;
        }
        let (from, to) = (self.reactor.now(), self.reactor.read_clock());
        self.note_stage(Stage::Turn, from, to);
        if nanos(to.since(from)) >= SLOWER_THAN_NANOS {
            self.watched.close_until.set(to + CLOSE_LOOK);
        }
        let stall = Duration::from_millis(u64::from(self.config.borrow().io.stall_ms));
        if to.since(from) < stall {
            return;
        }
        ShardCounters::add(&self.counters().stalls, 1);
        let stall = self.stall(from, to);
        if to >= self.watched.told.get() + STALL_PAUSE {
            self.watched.told.set(to);
            tracing::warn!("{stall}");
        }
        self.shared.stalls.note(stall);
    }

    /// Returns what is known of the turn that ends.
    fn stall(&self, from: Monotonic, to: Monotonic) -> Stall {
        let (begun, ran) = (self.watched.begun.get(), self.watched.ran.get());
        if let Some((task, took)) = self.reactor.take_longest() {
            self.note_longest(task, nanos(took));
        }
        let (longest, took) = self.watched.longest.get();
        Stall {
            shard: self.shard,
            at_ms: self.now().0,
            took_us: micros(to.since(from)),
            begin_us: micros(begun.since(from)),
            tasks_us: micros(ran.since(begun)),
            end_us: micros(to.since(ran)),
            longest: if took == 0 {
                "nothing by itself"
            } else {
                longest
            },
            longest_us: took / 1000,
            commands: self.turn_commands.get(),
        }
    }

    /// Begins to time a command, if it is to be timed. Of those that take constant time only one in
    /// [`ONE_IN`] is, once there were [`EXACT_CALLS`]: reading the clock costs them most.
    pub(crate) fn begin_call(&self, command: &Command) -> Option<Timer> {
        if !self.is_timed() {
            return None;
        }
        let row = command.row();
        let is_quick = self.watched.quick.get(row).is_some_and(|quick| *quick);
        let calls = self.counters().calls(row);
        let one_in = match is_quick && calls >= EXACT_CALLS {
            true if self.reactor.now() >= self.watched.close_until.get() => ONE_IN,
            _ => 1,
        };
        calls.is_multiple_of(one_in).then(|| Timer {
            from: self.reactor.read_clock(),
            stands_for: one_in,
        })
    }

    /// Counts a command that has run.
    pub(crate) fn note_call(&self, command: &Command, timer: Option<Timer>, reply: &[u8]) {
        let took = timer.map(|timer| {
            let took = nanos(self.reactor.read_clock().since(timer.from));
            self.last_nanos.set(took);
            self.note_longest(command.name, took);
            (took, timer.stands_for)
        });
        self.counters().note_call(command.row(), took, reply);
    }
}

/// A command that is being timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    from: Monotonic,
    /// Commands that its time is counted for.
    stands_for: u64,
}

/// Says whether a command takes constant time, whatever it finds: so Redis's flag says, and what writes one string.
fn is_quick(command: &Command) -> bool {
    let is_of_one = command.first_key == 1 && command.last_key == 1;
    is_of_one
        && (command.flags.contains(&"fast") || ["set", "setex", "psetex"].contains(&command.name))
}
