//! Transactions of one connection: what is queued after `MULTI`, what becomes of it at `EXEC`, and the keys that are
//! watched. What a transaction does is in `command::transaction`.

use super::gather::NoAnswer;
use super::{Client, Stop};
use crate::command::spread::{Answer, Question};
use crate::command::transaction::{COMMANDS_MAX, Draft, Looked, Queue, Watched};
use crate::command::{Command, Run, SessionCall, arity_error, check_keys, subcommand, table};
use crate::resp::{OwnedWords, Words};

/// Reply of a command that was queued.
const QUEUED: &[u8] = b"QUEUED";
const BROKEN: &[u8] = b"EXECABORT Transaction discarded because of previous errors.";
const APART: &[u8] =
    b"CROSSRANGE the keys of this transaction lie in different partitions; nothing was done";

/// A transaction that waits for room, or for blocks: what needs no key was answered already.
#[derive(Debug)]
pub(super) struct Whole {
    partition: usize,
    words: OwnedWords,
}

/// Why a transaction cannot be put together: its keys lie in different partitions.
struct Apart;

impl Client {
    /// Notes that a command could not be queued, if any is.
    pub(super) fn break_queue(&mut self) {
        if let Some(queue) = &mut self.session.queue {
            queue.is_broken = true;
            queue.commands = Vec::new();
        }
    }

    /// Answers a command with the wrong number of words. A wrong `EXEC` ends the transaction.
    pub(super) fn refuse_arity(&mut self, command: &Command) {
        let error = arity_error(command.name);
        let error = match command.run {
            Run::Exec => {
                self.session.queue = None;
                self.session.watched.clear();
                error.replacen("ERR", "EXECABORT Transaction discarded because of:", 1)
            }
            Run::Session(_) | Run::Data(_) | Run::Spread(_) => error,
        };
        self.break_queue();
        self.reject(Some(command), |encoder| encoder.error(error.as_bytes()));
    }

    /// Queues a command.
    pub(super) fn enqueue(&mut self, command: &'static Command, words: Words<'_>) {
        if let Err(error) = self.may_queue(command, words) {
            self.break_queue();
            return self.reject(Some(command), |encoder| encoder.error(error.as_bytes()));
        }
        if let Some(queue) = &mut self.session.queue
            && !queue.is_broken
        {
            let words = words.to_owned();
            queue.bytes += words.heap_bytes();
            queue.commands.push((command, words));
        }
        self.answer(|encoder| encoder.simple(QUEUED));
    }

    fn may_queue(&self, command: &Command, words: Words<'_>) -> Result<(), String> {
        if matches!(command.run, Run::Spread(_)) {
            let name = command.name.to_ascii_uppercase();
            return Err(format!(
                "ERR {name} is not allowed in a transaction: it goes over all partitions"
            ));
        }
        if command.flags.contains(&"no_multi") {
            return Err("ERR Command not allowed inside a transaction".to_owned());
        }
        check_keys(command, words)?;
        subcommand::check(command.name, words)?;
        let bytes_max = self.core.config().client.command_bytes_max;
        let queue = self.session.queue.as_ref();
        let is_full = queue.is_some_and(|queue| {
            queue.commands.len() >= COMMANDS_MAX || queue.bytes as u64 > bytes_max
        });
        match is_full {
            false => Ok(()),
            true => Err(format!(
                "ERR a transaction has at most {COMMANDS_MAX} commands, and {bytes_max} bytes (client.command_bytes_max)"
            )),
        }
    }

    /// Runs what was queued.
    pub(super) fn run_queue(&mut self, exec: &'static Command) -> Option<Stop> {
        if self.must_look() {
            return Some(Stop::Look);
        }
        let whole = match self.whole.take() {
            Some(whole) => whole,
            None => self.put_together(exec)?,
        };
        let bytes = whole.words.heap_bytes();
        let command = table::of_transactions();
        let stop = self.run_at(whole.partition, command, whole.words.as_words(), bytes);
        if stop.is_some() {
            // It has not begun, and is asked for again.
            self.whole = Some(whole);
        }
        stop
    }

    /// Says whether the watched keys must be looked at before commands are run on the connection: these take
    /// effect before the shard of the keys has said that it runs the others.
    fn must_look(&self) -> bool {
        let Some(queue) = &self.session.queue else {
            return false;
        };
        let is_here =
            |(command, _): &(&Command, OwnedWords)| matches!(command.run, Run::Session(_));
        !self.session.watched.is_empty()
            && queue.looked == Looked::No
            && !queue.is_broken
            && queue.commands.iter().any(is_here)
    }

    /// Looks at the watched keys, for `EXEC`.
    pub(super) async fn look_at_watched(&mut self) {
        let mut looked = Looked::Unchanged;
        self.connection.settled(0).await;
        for Watched { key, stamp } in self.session.watched.clone() {
            let partition = self.core.routes.partition_of(&key);
            match self.ask(partition, Question::Stamp { key }).await {
                Ok(Answer::Stamp(now)) if !stamp.holds(now) => looked = Looked::Changed,
                // What cannot be told is told when the transaction runs.
                Ok(_) | Err(_) => {}
            }
        }
        if let Some(queue) = &mut self.session.queue {
            queue.looked = looked;
        }
    }

    /// Makes one command of what was queued; answers here when that is not possible, or not needed.
    fn put_together(&mut self, exec: &Command) -> Option<Whole> {
        let Some(queue) = self.session.queue.take() else {
            self.reject(Some(exec), |encoder| {
                encoder.error(b"ERR EXEC without MULTI")
            });
            return None;
        };
        let watched = std::mem::take(&mut self.session.watched);
        if queue.is_broken {
            self.reject(Some(exec), |encoder| encoder.error(BROKEN));
            return None;
        }
        if queue.looked == Looked::Changed {
            self.answer(|encoder| encoder.null_array());
            return None;
        }
        match self.draft(&queue, &watched) {
            Ok(whole) => Some(whole),
            Err(Apart) => {
                self.reject(Some(exec), |encoder| encoder.error(APART));
                None
            }
        }
    }

    /// Runs the commands that need no key, and gathers the others.
    fn draft(&mut self, queue: &Queue, watched: &[Watched]) -> Result<Whole, Apart> {
        let mut partition = None;
        let mut draft = Draft::new(watched);
        for Watched { key, .. } in watched {
            self.note_partition(&mut partition, key)?;
        }
        // A connection may change its database in between, so the keys are looked at in order, and first.
        let session = self.session.clone();
        for (command, words) in &queue.commands {
            let words = words.as_words();
            if let Run::Session(run) = command.run {
                draft.reply(self.run_here(words, run));
                continue;
            }
            for place in command.key_places(words) {
                let key = [&[self.session.database], &words[place]].concat();
                if let Err(apart) = self.note_partition(&mut partition, &key) {
                    self.session = session;
                    self.core.shared.clients.describe(&self.session);
                    return Err(apart);
                }
            }
            draft.command(words, (self.session.database, self.session.version));
        }
        let partition = partition.unwrap_or(0);
        Ok(Whole {
            partition,
            words: draft.finish(),
        })
    }

    fn note_partition(&self, found: &mut Option<usize>, key: &[u8]) -> Result<(), Apart> {
        let partition = self.core.routes.partition_of(key);
        match *found.get_or_insert(partition) == partition {
            true => Ok(()),
            false => Err(Apart),
        }
    }

    /// Runs a command that needs no key; returns its reply.
    fn run_here(&mut self, words: Words<'_>, run: fn(&mut SessionCall<'_>)) -> Vec<u8> {
        let (now_ms, now_us) = self.core.now();
        let mut out = Vec::new();
        run(&mut SessionCall {
            words,
            session: &mut self.session,
            shared: &self.core.shared,
            now_ms,
            now_us,
            out: &mut out,
        });
        out
    }

    /// Remembers the states of keys for the next `EXEC`.
    pub(super) async fn watch(&mut self, keys: Vec<Vec<u8>>) -> Result<(), NoAnswer> {
        for key in keys {
            let is_known = self.session.watched.iter().any(|of| of.key == key);
            if is_known {
                continue;
            }
            if self.session.watched.len() >= COMMANDS_MAX {
                let error = format!("-ERR at most {COMMANDS_MAX} keys are watched\r\n");
                return Err(NoAnswer(error.into_bytes()));
            }
            let partition = self.core.routes.partition_of(&key);
            let question = Question::Stamp { key: key.clone() };
            if let Answer::Stamp(stamp) = self.ask(partition, question).await? {
                self.session.watched.push(Watched { key, stamp });
            }
        }
        Ok(())
    }
}
