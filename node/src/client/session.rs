//! What a connection does around its commands: answers, errors, and what a command has said about the connection itself
//! or others: waiting, silence, closing.

use std::sync::Arc;

use super::{Client, Pause, Stop, limits};
use crate::command::{Command, SessionCall};
use crate::core::Timer;
use crate::message::Message;
use crate::monitors::line;
use crate::replies::ReplyMark;
use crate::resp::Words;
use crate::resp::encode::Encoder;
use crate::shared::Paused;

impl Client {
    /// Says whether a password must be given first. One that was set later is asked of new connections.
    pub(super) fn needs_password(&self) -> bool {
        !self.core.config().client.password.is_empty()
    }

    /// Says whether `CLIENT PAUSE` keeps a command waiting.
    pub(super) fn is_paused(&self, command: &Command) -> bool {
        let (now_ms, _) = self.core.now();
        match self.core.shared.pause.now(now_ms) {
            None => false,
            Some(Paused::All) => true,
            Some(Paused::Writes) => command.writes() || command.name == "exec",
        }
    }

    /// Shows a command to those who watch all; not what names passwords, and not what looks at the node.
    pub(super) fn show_to_monitors(&self, command: &Command, words: Words<'_>) {
        let is_hidden = matches!(command.name, "auth" | "hello" | "config" | "monitor");
        if is_hidden {
            return;
        }
        let (_, now_us) = self.core.now();
        let line = line(words, now_us, self.session.database, &self.entry.addr);
        let line: Arc<[u8]> = line.into_bytes().into();
        for (shard, connection) in self.core.shared.monitors.all() {
            self.core
                .post(shard, Message::Tell(connection, Arc::clone(&line)));
        }
    }

    /// Takes the reply of a command back, as `CLIENT REPLY` has said.
    pub(super) fn mute(&mut self, mark: ReplyMark) {
        self.connection.replies.borrow_mut().forget(mark);
        self.session.muted = self.session.muted.next();
    }

    /// Answers something that no command has to be run for.
    pub(super) fn answer(&self, write: impl FnOnce(&mut Encoder<'_>)) {
        let mut replies = self.connection.replies.borrow_mut();
        write(&mut Encoder::new(replies.out(), self.session.version));
    }

    /// Answers an error to a command that is not run.
    pub(super) fn reject(&self, command: Option<&Command>, write: impl FnOnce(&mut Encoder<'_>)) {
        let mut replies = self.connection.replies.borrow_mut();
        let out = replies.out();
        let from = out.len();
        write(&mut Encoder::new(out, self.session.version));
        match command {
            Some(command) => self
                .core
                .counters()
                .note_rejected(command.row(), &out[from..]),
            None => self.core.counters().note_error(&out[from..]),
        }
    }

    pub(super) fn run_session(
        &mut self,
        command: &Command,
        words: Words<'_>,
        run: fn(&mut SessionCall<'_>),
    ) -> Option<Stop> {
        // A message is made once it can be sent.
        if command.group == "pubsub" && !self.core.may_publish() {
            return Some(Stop::Pause(Pause::Turn));
        }
        let was_authenticated = self.session.is_authenticated;
        let timer = self.run_session_call(command, words, run);
        self.connection.version.set(self.session.version);
        self.take_effects(command, timer);
        for (shard, connection) in std::mem::take(&mut self.session.kills) {
            if connection != self.session.id {
                self.core.post(shard, Message::Close(connection));
            }
        }
        for (shard, connection, ending) in std::mem::take(&mut self.session.unblocks) {
            self.core.post(shard, Message::Unblock(connection, ending));
        }
        if self.session.is_authenticated != was_authenticated {
            self.decoder.set_limits(limits(&self.core, true));
        }
        match std::mem::take(&mut self.session.delay_ms) {
            _ if self.session.closing => Some(Stop::Close),
            0 => None,
            delay_ms => Some(Stop::Delay(delay_ms)),
        }
    }

    /// Runs a command of the connection, and counts it if that was all; returns since when its time is taken.
    pub(super) fn run_session_call(
        &mut self,
        command: &Command,
        words: Words<'_>,
        run: impl FnOnce(&mut SessionCall<'_>),
    ) -> Option<Timer> {
        let (now_ms, now_us) = self.core.now();
        let mut replies = self.connection.replies.borrow_mut();
        let out = replies.out();
        let from = out.len();
        let timer = self.core.begin_call(command);
        let mut call = SessionCall {
            words,
            session: &mut self.session,
            shared: &self.core.shared,
            now_ms,
            now_us,
            out,
        };
        run(&mut call);
        let reply = &replies.out()[from..];
        // A command that goes on over all partitions has no reply yet, and is counted when it has.
        if !reply.is_empty() {
            self.core.note_call(command, timer, reply);
            self.core.note_if_slow(words, self.session.id);
        }
        timer
    }
}
