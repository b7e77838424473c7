//! Runs one command on a partition of this shard, if all that it wants is in memory.

use ashlar_consensus::Index;
use ashlar_io::wal::Wal;
use ashlar_partition::key::KeyBuf;
use ashlar_partition::{Partition, Want};

use super::{Core, Data};
use ashlar_partition::Refusal;

use crate::command::{
    Chance, Command, Context, DataCall, Run, Waits, refuse, refuse_growth, table, transaction,
};
use crate::pubsub::notice::{Class, Notices};
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
        let classes = self.config.borrow().pubsub.keyspace_events;
        let mut data = self.data.borrow_mut();
        let data = &mut *data;
        let owned = data.owned[partition].as_mut();
        let owned = owned.expect("requests are routed to the owner");
        if let Some(damaged) = damage_of(&owned.partition) {
            refuse(&mut Encoder::new(out, version), damaged);
            return Ran::Done(None);
        }
        let wants = wants_of(&owned.partition, command, words, (database, &mut data.key));
        if !wants.is_empty() {
            return Ran::Wants(wants);
        }
        let timer = self.begin_call(command);
        let mut call = DataCall {
            words,
            database,
            version,
            partition: &mut owned.partition,
            clock: &mut data.clock,
            now_ms: self.now().0,
            now_us: self.now().1,
            key: &mut data.key,
            shared: &self.shared,
            chance: Chance(&|| self.reactor.random()),
            out,
            wait: None,
            hits: 0,
            misses: 0,
            log_is_full: false,
            failed: None,
            notices: Notices::of(classes),
            is_read: !command.writes(),
            waits: None,
            ready: (!self.blocked.borrow().is_empty()).then(Vec::new),
        };
        let (before, bytes) = (call.partition.savepoint(), call.partition.in_flight_bytes());
        run_noticing(&mut call, command, run);
        let (wait, log_is_full, notices) = (call.wait, call.log_is_full, call.notices);
        let (reads, waits, ready) = ((call.hits, call.misses), call.waits, call.ready);
        if let Some(ran) = not_done(&mut owned.partition, waits.filter(|_| command.blocks())) {
            owned.partition.go_back(before);
            out.truncate(from);
            return ran;
        }
        self.note_ready(partition, ready);
        data.proposed_bytes += owned.partition.in_flight_bytes().saturating_sub(bytes) as u64;
        self.count_reads(reads);
        if log_is_full {
            out.truncate(from);
            refuse_full(&mut Encoder::new(out, version), &data.wal);
        } else if !notices.is_empty() {
            self.note_keys(owned, wait, notices.take());
        }
        self.note_call(command, timer, &out[from..]);
        // What was told of meanwhile holds nothing back.
        Ran::Done(wait.filter(|index| *index > owned.waits.told()))
    }

    fn count_reads(&self, (hits, misses): (u32, u32)) {
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

    /// Writes the error of a write that was not admitted: the clock cannot be believed, or the log has no
    /// room for it.
    pub(crate) fn refuse_write(&self, encoder: &mut Encoder<'_>) {
        if let Some(error) = self.clock_refusal() {
            return encoder.error(error.as_bytes());
        }
        refuse_full(encoder, &self.data.borrow().wal);
    }
}

/// Writes the error of a write that a log has no room for: it knows why.
fn refuse_full(encoder: &mut Encoder<'_>, wal: &Wal) {
    refuse_growth(encoder, wal.growth_failure().as_ref());
}

/// Runs a command; tells of the keys that it made, if anybody wants to know.
pub(crate) fn run_noticing(call: &mut DataCall<'_>, command: &Command, run: fn(&mut DataCall<'_>)) {
    // Those make keys that they do not name, or make them anew; they tell of it themselves.
    let tells_itself = matches!(command.name, "rename" | "renamenx" | "copy" | "move");
    if !command.writes() || tells_itself || !call.notices.wants(Class::New) {
        return call.run(run);
    }
    let (words, database) = (call.words, call.database);
    let places: Vec<usize> = command.key_places(words).collect();
    let missing = |call: &mut DataCall<'_>, place: usize| {
        let key = call.key.set(database, &words[place]);
        let state = call.partition.stamp(key, call.now_ms);
        state.is_ok_and(|(stamp, _)| !stamp.is_there)
    };
    let from = call.notices.len();
    let made: Vec<usize> = places
        .into_iter()
        .filter(|place| missing(call, *place))
        .collect();
    call.run(run);
    for place in made {
        if !missing(call, place) {
            call.notices.add_new(from, (database, &words[place]));
        }
    }
}

/// Returns how a command ends that has done nothing: blocks must be read first, or there is nothing to pop.
fn not_done(partition: &mut Partition, waits: Option<Waits>) -> Option<Ran> {
    let wants = partition.take_wants();
    match wants.is_empty() {
        true => waits.map(Ran::Waits),
        false => Some(Ran::Wants(wants)),
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
    /// It found nothing, and waits for this.
    Waits(Waits),
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
