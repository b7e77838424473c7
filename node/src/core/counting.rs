//! What a shard counts of its commands and publishes of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ashlar_io::Monotonic;

use super::Core;
use crate::command::Command;
use crate::resp::Words;
use crate::slowlog::SLOWER_THAN_NANOS;

impl Core {
    /// Begins a run of commands: the first one's time counts from here.
    pub(crate) fn start_lap(&self) {
        self.lap.set(self.reactor.read_clock());
    }

    /// Counts a command that has run, with the time since the last one, or since the run of them
    /// began: so the clock is read once for each.
    pub(crate) fn note_call(&self, command: &Command, reply: &[u8]) {
        let now = self.reactor.read_clock();
        self.note_timed(command, self.lap.replace(now), now, reply);
    }

    /// Counts a command that ran from one time to another.
    pub(crate) fn note_timed(
        &self,
        command: &Command,
        from: Monotonic,
        to: Monotonic,
        reply: &[u8],
    ) {
        let nanos = u64::try_from(to.since(from).as_nanos()).unwrap_or(u64::MAX);
        self.last_nanos.set(nanos);
        self.counters().note_call(command.row(), nanos, reply);
    }

    /// Keeps the last command in the slow log when it took long; `client` is the connection that sent it.
    pub(crate) fn note_if_slow(&self, words: Words<'_>, client: u64) {
        let nanos = self.last_nanos.replace(0);
        if nanos < SLOWER_THAN_NANOS {
            return;
        }
        let client = self.shared.clients.find(client);
        let (addr, name) = client.map_or_else(Default::default, |client| {
            (client.addr.clone(), client.said().name)
        });
        let (now_ms, _) = self.now();
        let slowlog = &self.shared.slowlog;
        slowlog.note(words, nanos / 1000, now_ms / 1000, (&addr, name));
    }

    /// Publishes what other shards and `INFO` want to know.
    pub(crate) fn publish(&self) {
        let counters = self.counters();
        let mut data = self.data.borrow_mut();
        let (mut used, mut keys, mut expiring) = (0, [0; 16], [0; 16]);
        for partition in data.partitions() {
            used += partition.used_bytes();
            for database in 0..16_u8 {
                keys[usize::from(database)] += partition.keys_of(database);
                expiring[usize::from(database)] += partition.expiring_of(database);
            }
        }
        let set = |counter: &AtomicU64, n: u64| counter.store(n, Ordering::Relaxed);
        set(&counters.used_bytes, used);
        for database in 0..16 {
            set(&counters.keys[database], keys[database]);
            set(&counters.expiring[database], expiring[database]);
        }
        let (batches, batch_bytes, payload_bytes) = data.wal.written();
        set(&counters.log_batches, batches);
        set(&counters.log_bytes, batch_bytes);
        set(&counters.log_payload_bytes, payload_bytes);
        set(&counters.log_live_bytes, data.wal.live_bytes());
        let scrub = self.scrub.figures();
        set(&counters.scrub_cycles, scrub.cycles);
        set(&counters.scrub_bytes, scrub.bytes);
        set(&counters.scrub_errors, scrub.errors);
        set(&counters.scrub_files_left, scrub.files_left);
        let reactor = self.reactor.counters();
        set(&counters.turns, reactor.turns);
        set(&counters.sleeps, reactor.sleeps);
        let (user, system) = self.reactor.cpu_time();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        set(&counters.cpu_user_us, micros(user));
        set(&counters.cpu_system_us, micros(system));
    }
}
