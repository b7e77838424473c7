//! One command of a connection: whether it may run, and where. What the connection does before and after is in
//! [`crate::client`].

use super::*;

impl Client {
    pub(super) fn execute(
        &mut self,
        command: Option<&'static Command>,
        words: Words<'_>,
        bytes: usize,
    ) -> Option<Stop> {
        if !self.core.count_command() {
            return Some(Stop::Pause(Pause::Turn));
        }
        if self.connection.pending_bytes() > PENDING_BYTES {
            return Some(Stop::Pause(Pause::Replies));
        }
        let Some(command) = command else {
            self.break_queue();
            self.reject(None, |encoder| unknown_command(encoder, words));
            return None;
        };
        let is_queued = self.session.queue.is_some() && !matches!(command.run, Run::Exec);
        let stop = self.execute_known(command, words, bytes);
        let has_run = !stop.as_ref().is_some_and(Stop::is_before);
        if has_run && !is_queued {
            self.session.count(command);
        }
        stop
    }

    fn execute_known(
        &mut self,
        command: &'static Command,
        words: Words<'_>,
        bytes: usize,
    ) -> Option<Stop> {
        if !self.session.is_authenticated
            && !command.flags.contains(&"no_auth")
            && self.needs_password()
        {
            self.break_queue();
            self.reject(Some(command), |encoder| encoder.error(NO_AUTH));
            return None;
        }
        if !command.takes(words.len()) {
            self.refuse_arity(command);
            return None;
        }
        if self.is_paused(command) {
            return Some(Stop::Pause(Pause::Paused));
        }
        if self.core.shared.monitors.any() {
            self.show_to_monitors(command, words);
        }
        self.entry.note_command(command);
        if self.hears_only(command) {
            self.refuse_while_subscribed(command, words);
            return None;
        }
        if self.session.queue.is_some() && !command.is_never_queued() {
            self.enqueue(command, words);
            return None;
        }
        match command.run {
            Run::Exec => self.run_queue(command),
            Run::Session(run) => self.run_session(command, words, run),
            Run::Data(_) => self.run_data(command, words, bytes),
            Run::Spread(plan) => {
                let mut planned = None;
                self.run_session_call(command, words, |call| planned = plan(call));
                let token = self.session.token().filter(|_| command.writes());
                let once = token.map(|token| Once::of(token, self.session.database, words));
                planned.map(|plan| Stop::Spread(command, plan, once))
            }
        }
    }

    fn run_data(
        &mut self,
        command: &'static Command,
        words: Words<'_>,
        bytes: usize,
    ) -> Option<Stop> {
        if let Err(error) = check_keys(command, words) {
            self.reject(Some(command), |encoder| encoder.error(error.as_bytes()));
            return None;
        }
        let Some(partition) = self.partition_of(command, words) else {
            self.reject(Some(command), |encoder| {
                encoder.error(b"CROSSRANGE the keys of this command lie in different partitions");
            });
            return None;
        };
        self.run_at(partition, command, words, bytes)
    }

    /// Runs a command on the partition of its keys, or has that done where it is.
    pub(super) fn run_at(
        &mut self,
        partition: usize,
        command: &'static Command,
        words: Words<'_>,
        bytes: usize,
    ) -> Option<Stop> {
        let context = Context {
            database: self.session.database,
            version: self.session.version,
            token: self.session.token(),
        };
        let is_here = self.core.routes.shard_of(partition) == self.core.shard;
        if !is_here || self.is_relayed(partition) {
            let replies = self.connection.replies.borrow();
            if replies.remote() >= replies.remote_max() {
                return Some(Stop::Pause(Pause::Remote));
            }
            drop(replies);
            self.core
                .forward(&self.connection, partition, command, words, context);
            return command.blocks().then_some(Stop::Wait);
        }
        let bytes = bytes + token_bytes(context);
        match self.core.admits(partition, command, bytes) {
            Admitted::Now => {}
            Admitted::Later => return Some(Stop::Pause(Pause::Room)),
            Admitted::Slower => return Some(Stop::Pause(Pause::Slower)),
            Admitted::Never | Admitted::Untimed => {
                self.reject(Some(command), |encoder| self.core.refuse_write(encoder));
                return None;
            }
        }
        if let Some(error) = self.unreadable.take() {
            self.reject(Some(command), |encoder| encoder.error(error.as_bytes()));
            return None;
        }
        let mut replies = self.connection.replies.borrow_mut();
        let out = replies.out();
        let from = out.len();
        let ran = self.core.run(partition, command, words, context, out);
        match ran {
            Ran::Wants(wants) => return Some(Stop::Fetch(partition, wants)),
            Ran::Waits(_) => {
                drop(replies);
                // It has its turn among those that wait, whichever connections and shards these are of.
                self.fetched = Fetched::default();
                self.core
                    .forward(&self.connection, partition, command, words, context);
                return Some(Stop::Wait);
            }
            Ran::Done(None) => {}
            Ran::Done(Some(index)) => {
                replies.wait(partition, index, from);
                self.core.register(&self.connection, partition, index);
            }
        }
        drop(replies);
        self.core.note_if_slow(words, self.session.id);
        self.fetched = Fetched::default();
        self.core.serve_ready();
        None
    }

    /// Says whether a command for a partition of this shard takes the way over other nodes: one that
    /// went before it may still be on that way, and comes first.
    fn is_relayed(&self, partition: usize) -> bool {
        self.connection.relayed.get() > 0 || self.core.standing(partition) != Standing::Serves
    }
}
