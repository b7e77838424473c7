//! What a shard asks of others and answers them: commands forwarded, questions about partitions, in
//! messages that leave at the end of the turn.

use std::rc::Rc;
use std::task::Waker;

use ashlar_consensus::Index;
use ashlar_partition::{Standing, Want};

use super::once::token_bytes;
use super::{Admitted, Asked, Core, Ran, Waiter};
use crate::command::{Command, Context};
use crate::connection::Connection;
use crate::distant::Outcome;
use crate::message::{Forward, Message, Origin, OwnedToken, Ticket};
use crate::resp::Words;
use crate::resp::encode::Encoder;

/// Commands behind one that wants blocks whose blocks are fetched with it.
pub(crate) const AHEAD_COMMANDS: usize = 64;

impl Core {
    pub(super) fn ticket(&self) -> Ticket {
        let ticket = self.next_ticket.get() + 1;
        self.next_ticket.set(ticket);
        Ticket(ticket)
    }

    /// Sends a command to the shard of its keys; the reply has its place in the connection's order.
    pub(crate) fn forward(
        &self,
        connection: &Rc<Connection>,
        partition: usize,
        command: &'static Command,
        words: Words<'_>,
        context: Context<'_>,
    ) {
        let (ticket, owner) = (self.ticket(), self.routes.shard_of(partition));
        connection.replies.borrow_mut().await_remote(ticket);
        if owner == self.shard {
            connection.relayed.set(connection.relayed.get() + 1);
        }
        self.asked
            .borrow_mut()
            .insert(ticket, Asked::Reply(Rc::clone(connection), owner));
        if command.blocks() {
            connection.blocked.set(Some((ticket, partition)));
        }
        let words = words.to_owned();
        let forward = Forward {
            from: Origin::Shard(self.shard),
            connection: connection.id,
            ticket,
            partition,
            command,
            words,
            database: context.database,
            version: context.version,
            token: context.token.map(|token| Box::new(OwnedToken::of(token))),
            lost: None,
            place: None,
            ended: None,
        };
        self.post(owner, Message::Run(Box::new(forward)));
    }

    /// Takes a message of another shard in.
    pub(crate) fn receive(self: &Rc<Self>, message: Message) {
        self.stir();
        match message {
            Message::Run(forward) => {
                self.deferred.borrow_mut().push_back(forward);
                self.run_deferred();
            }
            Message::Ask {
                from,
                ticket,
                partition,
                question,
            } => {
                let core = Rc::clone(self);
                self.reactor.spawn(async move {
                    let answer = core.answer(partition, *question).await;
                    core.post(from, Message::Answered(ticket, Box::new(answer)));
                    core.hurry();
                });
            }
            Message::Replied(ticket, bytes) => {
                let asked = self.asked.borrow_mut().remove(&ticket);
                if let Some(Asked::Reply(connection, owner)) = asked {
                    if owner == self.shard {
                        connection.relayed.set(connection.relayed.get() - 1);
                    }
                    connection.replies.borrow_mut().fill(ticket, owner, bytes);
                    self.release_replies(&connection);
                }
            }
            Message::Answered(ticket, given) => {
                if let Some(Asked::Task { answer, waker }) =
                    self.asked.borrow_mut().get_mut(&ticket)
                {
                    *answer = Some(*given);
                    waker.take().into_iter().for_each(Waker::wake);
                }
            }
            Message::Taken {
                from,
                connection,
                bytes,
            } => self.note_taken((Origin::Shard(from), connection), bytes),
            Message::Withdraw {
                from,
                ticket,
                ending,
            } => self.end_wait_asked(Origin::Shard(from), ticket, ending),
            Message::Unblock(connection, ending) => self.unblock(connection, ending),
            Message::Publish(publication) => self.take_publication(&publication),
            Message::Tell(connection, bytes) => self.tell(connection, &bytes),
            Message::Close(connection) => {
                if let Some(connection) = self.connections.borrow().get(&connection) {
                    connection.sender.shut_down();
                }
            }
            Message::Stop => self.stop(),
        }
    }

    /// Gives a connection of this shard bytes that answer no command. One that takes them too slowly is closed.
    fn tell(&self, connection: u64, bytes: &[u8]) {
        let found = self.connections.borrow().get(&connection).cloned();
        let Some(connection) = found else { return };
        let bytes_max = self.config().client.reply_bytes_max;
        if connection.pending_bytes() as u64 > bytes_max {
            return connection.sender.shut_down();
        }
        connection
            .replies
            .borrow_mut()
            .add_message(&Rc::from(bytes));
        self.release_replies(&connection);
    }

    /// Runs what had to wait, oldest first, until one has to wait again.
    pub(super) fn run_deferred(self: &Rc<Self>) {
        while !self.fetching.get() {
            let Some(forward) = self.deferred.borrow_mut().pop_front() else {
                return;
            };
            let entered = self.enter_lane(forward);
            if let Some(forward) = entered.and_then(|forward| self.run_forward(forward)) {
                self.deferred.borrow_mut().push_front(forward);
                return;
            }
        }
    }

    /// Runs a command for another shard; gives it back when it must wait for room in the log,
    /// or for blocks.
    pub(super) fn run_forward(self: &Rc<Self>, forward: Box<Forward>) -> Option<Box<Forward>> {
        if let Some(ending) = forward.ended {
            self.end_wait(&forward, ending);
            return None;
        }
        if self.standing(forward.partition) != Standing::Serves || self.is_behind(&forward) {
            self.relay(forward);
            return None;
        }
        self.begin_run();
        let bytes = forward.words.heap_bytes() + token_bytes(forward.context());
        let (partition, command, version) = (forward.partition, forward.command, forward.version);
        let mut out = Vec::new();
        let wait = match self.admits(partition, command, bytes) {
            _ if self.is_unreadable(&forward, &mut out) => None,
            Admitted::Later | Admitted::Slower => return Some(forward),
            Admitted::Never | Admitted::Untimed => {
                self.refuse_write(&mut Encoder::new(&mut out, version));
                self.counters().note_rejected(command.row(), &out);
                None
            }
            Admitted::Now => {
                let words = forward.words.as_words();
                match self.run(partition, command, words, forward.context(), &mut out) {
                    Ran::Done(wait) => {
                        self.note_if_slow(words, forward.connection);
                        wait
                    }
                    Ran::Wants(wants) => {
                        self.fetch_for(&forward, wants);
                        return Some(forward);
                    }
                    Ran::Waits(waits) => {
                        drop(self.fetched.take());
                        self.park(forward, &waits);
                        return None;
                    }
                }
            }
        };
        drop(self.fetched.take());
        self.note_sent((forward.from, forward.connection), out.len());
        self.note_served(&forward);
        self.reply_when(partition, wait, forward, out);
        self.serve_ready();
        None
    }

    /// Fetches what a command of another shard wants, and what those behind it will want. Until
    /// that is done no other is run.
    fn fetch_for(self: &Rc<Self>, forward: &Forward, wants: Vec<Want>) {
        self.fetching.set(true);
        let (core, partition, ticket) = (Rc::clone(self), forward.partition, forward.ticket);
        self.reactor.spawn(async move {
            let ahead = core.wants_deferred();
            match core.fetch(partition, &wants, &ahead).await {
                Ok(fetched) => core.fetched.borrow_mut().add(fetched),
                Err(error) => *core.unreadable.borrow_mut() = Some((ticket, error)),
            }
            core.fetching.set(false);
            core.hurry();
        });
    }

    /// Returns what the deferred commands will want.
    fn wants_deferred(&self) -> Vec<Want> {
        let deferred = self.deferred.borrow();
        let some = deferred.iter().take(AHEAD_COMMANDS);
        let wants = some.flat_map(|forward| {
            let words = forward.words.as_words();
            self.wants(forward.partition, forward.command, words, forward.database)
        });
        wants.collect()
    }

    /// Answers a command whose blocks could not be read with the error; says whether it did.
    fn is_unreadable(&self, forward: &Forward, out: &mut Vec<u8>) -> bool {
        let mut unreadable = self.unreadable.borrow_mut();
        let error = unreadable.take_if(|(ticket, _)| *ticket == forward.ticket);
        let found = error.is_some();
        if let Some((_, error)) = error {
            Encoder::new(out, forward.version).error(error.as_bytes());
        }
        found
    }

    /// Sends a reply once `wait` is applied, if there is something to wait for.
    fn reply_when(
        &self,
        partition: usize,
        wait: Option<Index>,
        forward: Box<Forward>,
        reply: Vec<u8>,
    ) {
        let (to, ticket) = (forward.from, forward.ticket);
        let Some(index) = wait else {
            return self.reply_to(to, ticket, reply);
        };
        // It may be sent anew when this replica stops leading; another node sends its own itself.
        let again = forward.token.is_some() && matches!(to, Origin::Shard(_));
        let waiter = Waiter::Forward(to, ticket, reply, again.then_some(forward));
        let mut data = self.data.borrow_mut();
        data.owned_mut(partition).waiters.push_back((index, waiter));
    }

    /// Sends a reply to who asked.
    pub(super) fn reply_to(&self, to: Origin, ticket: Ticket, reply: Vec<u8>) {
        match to {
            Origin::Shard(shard) => self.post(shard, Message::Replied(ticket, reply)),
            Origin::Node(node) => self.reply_to_node(node, ticket, Outcome::Ran, &reply),
        }
    }

    /// Puts a message in another shard's outbox; it leaves at the end of the turn.
    pub(crate) fn post(&self, shard: u32, message: Message) {
        self.outboxes.borrow_mut()[shard as usize]
            .waiting
            .push_back(message);
    }
}
