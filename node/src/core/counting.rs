//! What a shard counts of its commands and publishes of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Core;
use crate::resp::Words;
use crate::slowlog::SLOWER_THAN_NANOS;
use crate::stats::PerSecond;

impl Core {
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
        let (mut used, mut in_files) = (0, 0);
        let (mut keys, mut expiring) = ([0; 16], [0; 16]);
        for partition in data.partitions() {
            used += partition.used_bytes();
            in_files += partition.file_bytes();
            for database in 0..16_u8 {
                keys[usize::from(database)] += partition.keys_of(database);
                expiring[usize::from(database)] += partition.expiring_of(database);
            }
        }
        let set = |counter: &AtomicU64, n: u64| counter.store(n, Ordering::Relaxed);
        set(&counters.used_bytes, used);
        set(&counters.table_bytes, in_files);
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
        set(&counters.completions, reactor.completions);
        set(&counters.starved, reactor.starved);
        for (counter, batches) in counters.log_sizes.iter().zip(data.wal.batch_sizes()) {
            set(counter, batches);
        }
        let (user, system) = self.reactor.cpu_time();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        set(&counters.cpu_user_us, micros(user));
        set(&counters.cpu_system_us, micros(system));
        drop(data);
        if self.shard == 0 {
            self.sample_rates();
        }
    }

    /// Looks how fast all shards are, and what memory the process takes.
    fn sample_rates(&self) {
        let stats = &self.shared.stats;
        let sums = PerSecond {
            commands: stats.sum(|shard| &shard.commands),
            in_bytes: stats.sum(|shard| &shard.in_bytes),
            out_bytes: stats.sum(|shard| &shard.out_bytes),
        };
        let used_bytes = stats.sum(|shard| &shard.used_bytes);
        stats.rates.sample(self.now().0, sums, used_bytes);
        let resident = self.reactor.resident_bytes();
        self.shared
            .resident_bytes
            .store(resident, Ordering::Relaxed);
    }
}
