//! Runs one command on a partition of this shard, if all that it wants is in memory.

use ashlar_consensus::Index;
use ashlar_partition::key::KeyBuf;
use ashlar_partition::{Partition, Want};

use super::{Core, Data};
use ashlar_partition::Refusal;

use crate::command::{
    Chance, Command, Context, DataCall, Run, refuse, refuse_growth, table, transaction,
};
use crate::resp::Words;
use crate::resp::encode::Encoder;
use crate::stats::ShardCounters;

impl Core {
    /// Runs a command on a partition of this shard, whether or not it was run before; its reply goes to
    /// `out`. A command that wants blocks which are not in memory has done nothing.
    ///
    /// # Panics
    /// When the partition is another shard's, or the command touches no key: routing keeps both away.
    pub(super) fn run_once(
        &self,
        partition: usize,
        command: &Command,
        words: Words<'_>,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Ran {
        let (database, version, from) = (context.database, context.version, out.len());
        let Run::Data(run) = command.run else {
            unreachable!("{} touches no key", command.name)
        };
        let mut data = self.data.borrow_mut();
        let Data {
            owned,
            clock,
            key,
            wal,
            proposed_bytes,
            ..
        } = &mut *data;
        let owned = owned[partition].as_mut();
        let owned = owned.expect("requests are routed to the owner");
        if let Some(damaged) = damage_of(&owned.partition) {
            refuse(&mut Encoder::new(out, version), damaged);
            return Ran::Done(None);
        }
        let wants = wants_of(&owned.partition, command, words, (database, key));
        if !wants.is_empty() {
            return Ran::Wants(wants);
        }
        let mut call = DataCall {
            words,
            database,
            version,
            partition: &mut owned.partition,
            clock,
            now_ms: self.now().0,
            now_us: self.now().1,
            key,
            shared: &self.shared,
            chance: Chance(&|| self.reactor.random()),
            out,
            wait: None,
            hits: 0,
            misses: 0,
            log_is_full: false,
            failed: None,
        };
        let (before, bytes) = (call.partition.savepoint(), call.partition.in_flight_bytes());
        call.run(run);
        let (wait, log_is_full) = (call.wait, call.log_is_full);
        self.count_reads(call.hits, call.misses);
        let wants = owned.partition.take_wants();
        if !wants.is_empty() {
            owned.partition.go_back(before);
            out.truncate(from);
            return Ran::Wants(wants);
        }
        *proposed_bytes += owned.partition.in_flight_bytes().saturating_sub(bytes) as u64;
        if log_is_full {
            // The log knows why it takes no writes.
            out.truncate(from);
            refuse_growth(
                &mut Encoder::new(out, version),
                wal.growth_failure().as_ref(),
            );
        }
        self.note_call(command, &out[from..]);
        Ran::Done(wait.filter(|index| *index > owned.partition.applied()))
    }

    fn count_reads(&self, hits: u32, misses: u32) {
        if hits + misses > 0 {
            let counters = self.counters();
            ShardCounters::add(&counters.hits, u64::from(hits));
            ShardCounters::add(&counters.misses, u64::from(misses));
        }
    }

    /// Returns what a command will want of blocks that are not in memory, as far as that can be told.
    pub(crate) fn wants(
        &self,
        partition: usize,
        command: &Command,
        words: Words<'_>,
        database: u8,
    ) -> Vec<Want> {
        let mut data = self.data.borrow_mut();
        let Data { owned, key, .. } = &mut *data;
        let found = owned[partition].as_ref();
        found.map_or_else(Vec::new, |owned| {
            let each = command.key_places(words);
            each.filter_map(|place| owned.partition.probe(key.set(database, &words[place])))
                .collect()
        })
    }

    /// Writes the error of a write that the log has no room for.
    pub(crate) fn refuse_write(&self, encoder: &mut Encoder<'_>) {
        refuse_growth(encoder, self.data.borrow().wal.growth_failure().as_ref());
    }
}

/// Returns the refusal of all commands on a partition whose files are damaged.
fn damage_of(partition: &Partition) -> Option<Refusal> {
    let id = partition.id().0;
    partition.damage().map(|_| Refusal::Damaged(id))
}

/// How a command went.
#[derive(Debug)]
pub enum Ran {
    /// It ran; its reply waits for this index.
    Done(Option<Index>),
    /// It did nothing: this must be brought into memory first.
    Wants(Vec<Want>),
}

/// Returns what a command of several keys wants before it begins: what it does takes effect
/// together. One of a single key finds out when it runs.
fn wants_of(
    partition: &Partition,
    command: &Command,
    words: Words<'_>,
    (database, key): (u8, &mut KeyBuf),
) -> Vec<Want> {
    if std::ptr::eq(command, table::of_transactions()) {
        return transaction::wants(partition, words, key);
    }
    if command.has_one_key() || command.is_blind {
        return Vec::new();
    }
    let places = command.key_places(words);
    places
        .filter_map(|place| partition.probe(key.set(database, &words[place])))
        .collect()
}
