//! What a shard counts: relaxed counters that it alone writes and that `INFO` adds up, for the shard
//! as a whole and for each command; and what was counted when the statistics were last reset.
//!
//! Nothing is ever set back. A reset remembers what the counters were, and what is shown is the
//! difference: so a shard that counts at that very moment loses nothing, and no shard has to be
//! asked.
//!
//! Invariant: a counter of [`ShardCounters`] only grows, or is a gauge that no reset touches.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_io::wal::BATCH_SIZES;

use crate::command::table;
use crate::shared::lock;

mod durations;
mod rates;
mod stage;

pub use self::durations::{Durations, Histogram};
pub use self::rates::{PerSecond, Rates};
pub use self::stage::Stage;

/// Codes of errors that are told apart; the rest counts as `other`.
const CODES_MAX: usize = 128;
/// Counters that one shard publishes, once a tick or as they happen. Written by that shard alone.
#[derive(Debug)]
pub struct ShardCounters {
    /// Commands run for own connections.
    pub commands: AtomicU64,
    /// Keys that reads looked for and found.
    pub hits: AtomicU64,
    /// Keys that reads looked for and did not find.
    pub misses: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because of `client.clients_max`.
    pub rejected: AtomicU64,
    /// Error replies.
    pub errors: AtomicU64,
    /// Bytes received.
    pub in_bytes: AtomicU64,
    /// Bytes sent.
    pub out_bytes: AtomicU64,
    /// Keys deleted because they had expired.
    pub expired: AtomicU64,
    /// Messages handed to connections of this shard.
    pub messages_delivered: AtomicU64,
    /// Messages that other shards or nodes had no room for.
    pub messages_dropped: AtomicU64,
    /// Subscribers closed because they took their messages too slowly.
    pub subscribers_dropped: AtomicU64,
    /// Writes of sessions that were answered from what is remembered of them.
    pub recalled: AtomicU64,
    /// Partitions that are not served here, for a file is damaged.
    pub damaged: AtomicU64,
    /// Replicas whose log was damaged and that have not got back yet what they may have promised.
    pub forgetful: AtomicU64,
    /// Replicas that were repaired from other nodes.
    pub repaired: AtomicU64,
    /// Memory that the shard's data takes.
    pub used_bytes: AtomicU64,
    /// Keys of each database on this shard.
    pub keys: [AtomicU64; 16],
    /// Keys of each database on this shard that will expire.
    pub expiring: [AtomicU64; 16],
    /// Batches of the log written.
    pub log_batches: AtomicU64,
    /// Bytes that the batches took on disk.
    pub log_bytes: AtomicU64,
    /// Bytes of entries in the batches.
    pub log_payload_bytes: AtomicU64,
    /// Bytes between the log's start and its end.
    pub log_live_bytes: AtomicU64,
    /// Bytes of the files of tables.
    pub table_bytes: AtomicU64,
    /// Times that all files of tables were read in search of damage.
    pub scrub_cycles: AtomicU64,
    /// Bytes read in search of damage.
    pub scrub_bytes: AtomicU64,
    /// Files that could not be read then, or were not what was written.
    pub scrub_errors: AtomicU64,
    /// Files left to be read until all were read.
    pub scrub_files_left: AtomicU64,
    /// Above every timestamp that the shard has given.
    pub last_timestamp: AtomicU64,
    /// Turns.
    pub turns: AtomicU64,
    /// Turns that ended in sleep.
    pub sleeps: AtomicU64,
    /// Turns longer than `io.stall_ms`.
    pub stalls: AtomicU64,
    /// Completions that the ring gave.
    pub completions: AtomicU64,
    /// Connections that found no receive buffer free.
    pub starved: AtomicU64,
    /// Batches of the log by their size on disk, in powers of two of 4 KiB.
    pub log_sizes: [AtomicU64; BATCH_SIZES],
    /// Times of the stages of requests, by [`Stage`].
    pub stages: Box<[Histogram]>,
    /// Time that the shard's thread has run in user space, in microseconds.
    pub cpu_user_us: AtomicU64,
    /// Time that the shard's thread has run in the kernel, in microseconds.
    pub cpu_system_us: AtomicU64,
    /// What was counted of each command, in the order of the table.
    pub by_command: Box<[CommandCounters]>,
    codes: Mutex<BTreeMap<Vec<u8>, u64>>,
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self {
            commands: AtomicU64::default(),
            hits: AtomicU64::default(),
            misses: AtomicU64::default(),
            accepted: AtomicU64::default(),
            rejected: AtomicU64::default(),
            errors: AtomicU64::default(),
            in_bytes: AtomicU64::default(),
            out_bytes: AtomicU64::default(),
            expired: AtomicU64::default(),
            messages_delivered: AtomicU64::default(),
            messages_dropped: AtomicU64::default(),
            subscribers_dropped: AtomicU64::default(),
            recalled: AtomicU64::default(),
            damaged: AtomicU64::default(),
            forgetful: AtomicU64::default(),
            repaired: AtomicU64::default(),
            used_bytes: AtomicU64::default(),
            keys: Default::default(),
            expiring: Default::default(),
            log_batches: AtomicU64::default(),
            log_bytes: AtomicU64::default(),
            log_payload_bytes: AtomicU64::default(),
            log_live_bytes: AtomicU64::default(),
            table_bytes: AtomicU64::default(),
            scrub_cycles: AtomicU64::default(),
            scrub_bytes: AtomicU64::default(),
            scrub_errors: AtomicU64::default(),
            scrub_files_left: AtomicU64::default(),
            last_timestamp: AtomicU64::default(),
            turns: AtomicU64::default(),
            sleeps: AtomicU64::default(),
            stalls: AtomicU64::default(),
            completions: AtomicU64::default(),
            starved: AtomicU64::default(),
            log_sizes: Default::default(),
            stages: Stage::EVERY.iter().map(|_| Histogram::default()).collect(),
            cpu_user_us: AtomicU64::default(),
            cpu_system_us: AtomicU64::default(),
            by_command: (0..table::ROWS)
                .map(|_| CommandCounters::default())
                .collect(),
            codes: Mutex::default(),
        }
    }
}

/// The counters that a reset begins anew.
const SINCE_RESET: [fn(&ShardCounters) -> &AtomicU64; 13] = [
    |shard| &shard.commands,
    |shard| &shard.hits,
    |shard| &shard.misses,
    |shard| &shard.accepted,
    |shard| &shard.rejected,
    |shard| &shard.recalled,
    |shard| &shard.messages_delivered,
    |shard| &shard.messages_dropped,
    |shard| &shard.subscribers_dropped,
    |shard| &shard.errors,
    |shard| &shard.in_bytes,
    |shard| &shard.out_bytes,
    |shard| &shard.expired,
];

impl ShardCounters {
    /// Adds to a counter that only this shard writes: a plain load and store.
    pub fn add(counter: &AtomicU64, n: u64) {
        let sum = counter.load(Ordering::Relaxed).wrapping_add(n);
        counter.store(sum, Ordering::Relaxed);
    }

    /// Counts an error reply, by its code too: the first word behind the `-`.
    pub fn note_error(&self, reply: &[u8]) {
        Self::add(&self.errors, 1);
        let line = reply.strip_prefix(b"-").unwrap_or(reply);
        let code = line.split(|byte| byte.is_ascii_whitespace()).next();
        let mut codes = lock(&self.codes);
        let code = code.unwrap_or_default();
        let known = codes.contains_key(code) || codes.len() < CODES_MAX;
        *codes
            .entry(if known { code } else { b"other" }.to_vec())
            .or_default() += 1;
    }

    /// Returns how often a command has run.
    #[must_use]
    pub fn calls(&self, row: usize) -> u64 {
        self.by_command[row].calls.load(Ordering::Relaxed)
    }

    /// Counts a command that has run; if its time was taken, for how many nanoseconds, and for how many commands that
    /// stands.
    pub fn note_call(&self, row: usize, took: Option<(u64, u64)>, reply: &[u8]) {
        let command = &self.by_command[row];
        Self::add(&command.calls, 1);
        if let Some((nanos, stands_for)) = took {
            command.took.note_many(nanos, stands_for);
        }
        if reply.first() == Some(&b'-') {
            Self::add(&command.failed, 1);
            self.note_error(reply);
        }
    }

    /// Counts a command that was answered with an error before it ran.
    pub fn note_rejected(&self, row: usize, reply: &[u8]) {
        Self::add(&self.by_command[row].rejected, 1);
        self.note_error(reply);
    }

    /// Copies what a reset begins anew.
    fn copy(&self) -> Self {
        let copy = Self::default();
        for counter in SINCE_RESET {
            Self::add(counter(&copy), counter(self).load(Ordering::Relaxed));
        }
        let commands = copy.by_command.iter().zip(&self.by_command);
        let commands = commands.flat_map(|(to, from)| to.all().zip(from.all()));
        let stages = copy.stages.iter().zip(&self.stages);
        let stages = stages.flat_map(|(to, from)| to.all().zip(from.all()));
        for (to, from) in commands.chain(stages) {
            Self::add(to, from.load(Ordering::Relaxed));
        }
        lock(&copy.codes).clone_from(&lock(&self.codes));
        copy
    }
}

/// What a shard has counted of one command.
#[derive(Debug, Default)]
pub struct CommandCounters {
    calls: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    took: Histogram,
}

impl CommandCounters {
    fn all(&self) -> impl Iterator<Item = &AtomicU64> {
        [&self.calls, &self.rejected, &self.failed]
            .into_iter()
            .chain(self.took.all())
    }
}

/// What all shards have counted of one command since the last reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTotals {
    /// Times that it ran.
    pub calls: u64,
    /// Times that it was refused before it ran.
    pub rejected: u64,
    /// Times that it ran and answered an error.
    pub failed: u64,
    /// How long it ran, as far as times are taken.
    pub took: Durations,
}

impl CommandTotals {
    /// Says whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls + self.rejected == 0
    }
}

/// The counters of all shards, and what they were at the last reset.
#[derive(Debug)]
pub struct Stats {
    shards: Vec<ShardCounters>,
    /// Of no shard before the first reset: they are large.
    base: Mutex<Vec<ShardCounters>>,
    /// How fast some of them grow.
    pub rates: Rates,
}

impl Stats {
    /// Makes counters for `shards` shards.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        Self {
            shards: (0..shards).map(|_| ShardCounters::default()).collect(),
            base: Mutex::default(),
            rates: Rates::default(),
        }
    }

    /// Returns the counters of each shard.
    #[must_use]
    pub fn shards(&self) -> &[ShardCounters] {
        &self.shards
    }

    /// Returns the sum of a counter over the shards.
    pub fn sum(&self, counter: impl Fn(&ShardCounters) -> &AtomicU64) -> u64 {
        sum(&self.shards, counter)
    }

    /// Returns what was added to a counter since the last reset.
    pub fn since_reset(&self, counter: impl Fn(&ShardCounters) -> &AtomicU64) -> u64 {
        // The base first: what is read later is not smaller.
        let base = sum(&lock(&self.base), &counter);
        self.sum(counter).wrapping_sub(base)
    }

    /// Returns what was counted of a command since the last reset.
    #[must_use]
    pub fn of_command(&self, row: usize) -> CommandTotals {
        let since = |counter: fn(&CommandCounters) -> &AtomicU64| {
            self.since_reset(|shard| counter(&shard.by_command[row]))
        };
        let calls = since(|command| &command.calls);
        CommandTotals {
            calls,
            rejected: since(|command| &command.rejected),
            failed: since(|command| &command.failed),
            took: match calls {
                0 => Durations::default(),
                _ => self.durations(|shard| &shard.by_command[row].took),
            },
        }
    }

    /// Returns the times that all shards have taken of a stage since the last reset.
    #[must_use]
    pub fn of_stage(&self, stage: Stage) -> Durations {
        self.durations(|shard| &shard.stages[stage as usize])
    }

    /// Adds up a histogram of all shards, less what was in it at the last reset.
    fn durations(&self, histogram: impl Fn(&ShardCounters) -> &Histogram) -> Durations {
        // The base first: what is read later is not smaller.
        let mut base = Durations::default();
        for shard in lock(&self.base).iter() {
            base.add(&histogram(shard).durations());
        }
        let mut sum = Durations::default();
        for shard in &self.shards {
            sum.add(&histogram(shard).durations());
        }
        sum.less(&base)
    }

    /// Returns how many errors of each code were answered since the last reset.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<Vec<u8>, u64> {
        let base = lock(&self.base);
        let mut errors = BTreeMap::new();
        for shard in &self.shards {
            for (code, count) in lock(&shard.codes).iter() {
                *errors.entry(code.clone()).or_default() += count;
            }
        }
        for shard in base.iter() {
            for (code, count) in lock(&shard.codes).iter() {
                let since: &mut u64 = errors.entry(code.clone()).or_default();
                *since = since.saturating_sub(*count);
            }
        }
        errors.retain(|_, count| *count > 0);
        errors
    }

    /// Begins the statistics anew, as `CONFIG RESETSTAT` does.
    pub fn reset(&self) {
        let mut base = lock(&self.base);
        *base = self.shards.iter().map(ShardCounters::copy).collect();
    }
}

fn sum(shards: &[ShardCounters], counter: impl Fn(&ShardCounters) -> &AtomicU64) -> u64 {
    let values = shards
        .iter()
        .map(|shard| counter(shard).load(Ordering::Relaxed));
    values.fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_begins_anew_and_loses_nothing() {
        let stats = Stats::new(2);
        let count = || {
            ShardCounters::add(&stats.shards()[0].commands, 2);
            ShardCounters::add(&stats.shards()[1].used_bytes, 5);
            stats.shards()[0].note_call(3, Some((100, 1)), b"+OK\r\n");
            stats.shards()[0].stages[Stage::Log as usize].note(1_000);
            stats.shards()[1].note_call(3, Some((200, 1)), b"-OOM no\r\n");
            stats.shards()[1].note_rejected(3, b"-ERR no\r\n");
        };
        for round in 1..4 {
            count();
            assert_eq!(stats.since_reset(|shard| &shard.commands), 2);
            assert_eq!(stats.sum(|shard| &shard.used_bytes), 5 * round);
            let totals = stats.of_command(3);
            let counted = (
                totals.calls,
                totals.took.nanos,
                totals.rejected,
                totals.failed,
            );
            assert_eq!(counted, (2, 300, 1, 1));
            assert_eq!(stats.of_stage(Stage::Log).count(), 1);
            let codes = [(b"ERR".to_vec(), 1), (b"OOM".to_vec(), 1)];
            assert_eq!(stats.errors(), BTreeMap::from(codes));
            stats.reset();
            assert!(stats.of_command(3).is_empty() && stats.errors().is_empty());
            assert_eq!(stats.since_reset(|shard| &shard.errors), 0);
        }
    }

    #[test]
    fn codes_are_bounded() {
        let shard = ShardCounters::default();
        (0..500).for_each(|n| shard.note_error(format!("-E{n} text\r\n").as_bytes()));
        let codes = lock(&shard.codes);
        assert_eq!(codes.len(), CODES_MAX + 1);
        assert_eq!(codes.values().sum::<u64>(), 500);
    }
}
