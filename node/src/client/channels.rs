//! What a connection does about channels: the effects of its commands, and which commands a subscriber may send.

use std::rc::Rc;

use super::Client;
use crate::command::Command;
use crate::command::subcommand::full_name;
use crate::core::Timer;
use crate::core::channels::count_of;
use crate::pubsub::Publication;
use crate::resp::{Version, Words};

/// Commands that a subscriber may send while it speaks RESP2, where messages look like replies.
const WHILE_SUBSCRIBED: [&str; 9] = [
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "ping",
    "quit",
    "reset",
];

impl Client {
    /// Says whether a command is none that the connection may send while it is subscribed.
    pub(super) fn hears_only(&self, command: &Command) -> bool {
        let session = &self.session;
        session.version == Version::Resp2
            && session.subscriber.is_active()
            && !WHILE_SUBSCRIBED.contains(&command.name)
    }

    /// Refuses such a command.
    pub(super) fn refuse_while_subscribed(&mut self, command: &Command, words: Words<'_>) {
        self.break_queue();
        let error = format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            full_name(command.name, words)
        );
        self.reject(Some(command), |encoder| encoder.error(error.as_bytes()));
    }

    /// Does what a command has said about channels: subscriptions first, then confirmations, then a message.
    pub(super) fn take_effects(&mut self, command: &Command, timer: Option<Timer>) {
        let subscriber = &mut self.session.subscriber;
        if !subscriber.changes.is_empty() {
            self.core.take_changes(&self.connection, subscriber);
        }
        if !subscriber.frames.is_empty() {
            let frames: Rc<[u8]> = std::mem::take(&mut subscriber.frames).into();
            self.connection.replies.borrow_mut().add_message(&frames);
            self.core.note_call(command, timer, &frames);
        }
        if let Some(publication) = subscriber.published.take() {
            self.publish(command, timer, publication);
        }
    }

    /// Publishes a message when everything that was asked for before it is done: at once, as a rule.
    fn publish(&self, command: &Command, timer: Option<Timer>, publication: Publication) {
        let mut replies = self.connection.replies.borrow_mut();
        if replies.is_held() {
            replies.publish_in_turn(publication);
            return self.core.note_call(command, timer, b"");
        }
        drop(replies);
        let published = self.core.publish_for(publication, self.session.id);
        self.answer(|encoder| encoder.integer(count_of(published.receivers)));
        self.core.note_call(command, timer, b":");
        let mut replies = self.connection.replies.borrow_mut();
        for message in &published.own {
            replies.add_message(message);
        }
    }
}
