//! Runs one command on a partition of this shard, if all that it wants is in memory.

use ashlar_consensus::Index;
use ashlar_partition::key::KeyBuf;
use ashlar_partition::{Partition, Want};

use super::{Core, Data};
use ashlar_partition::Refusal;

use crate::command::{Command, Context, DataCall, Run, refuse, refuse_growth, table, transaction};
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
        let Context {
            database, version, ..
        } = context;
        let Run::Data(run) = command.run else {
            unreachable!("{} touches no key", command.name)
        };
        let (now_ms, now_us) = self.now.get();
        let mut data = self.data.borrow_mut();
        let Data {
            owned,
            clock,
            key,
            wal,
            ..
        } = &mut *data;
        let owned = owned[partition]
            .as_mut()
            .expect("requests are routed to the owner");
        if let Some(damaged) = damage_of(&owned.partition) {
            refuse(&mut Encoder::new(out, version), damaged);
            return Ran::Done(None);
        }
        let wants = wants_of(&owned.partition, command, words, (database, key));
        if !wants.is_empty() {
            return Ran::Wants(wants);
        }
        let from = out.len();
        let timer = self.begin_call(command);
        let mut call = DataCall {
            words,
            database,
            version,
            partition: &mut owned.partition,
            clock,
            now_ms,
            now_us,
            key,
            out,
            wait: None,
            hits: 0,
            misses: 0,
            log_is_full: false,
        };
        run(&mut call);
        let (wait, hits, misses) = (call.wait, call.hits, call.misses);
        let log_is_full = call.log_is_full;
        if let Some(want) = owned.partition.take_want() {
            out.truncate(from);
            return Ran::Wants(vec![want]);
        }
        if log_is_full {
            // The partition knows that the log takes no writes, and the log knows why.
            out.truncate(from);
            let mut encoder = Encoder::new(out, version);
            refuse_growth(&mut encoder, wal.growth_failure().as_ref());
        }
        let counters = self.counters();
        if hits + misses > 0 {
            ShardCounters::add(&counters.hits, u64::from(hits));
            ShardCounters::add(&counters.misses, u64::from(misses));
        }
        self.note_call(command, timer, &out[from..]);
        // What was applied meanwhile holds nothing back.
        Ran::Done(wait.filter(|index| *index > owned.partition.applied()))
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
            let each = command.key_places(words.len());
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
    if command.last_key == command.first_key || command.is_blind {
        return Vec::new();
    }
    let places = command.key_places(words.len());
    places
        .filter_map(|place| partition.probe(key.set(database, &words[place])))
        .collect()
}
