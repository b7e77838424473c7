//! What a shard asks of others and answers them: commands forwarded, questions about partitions, in
//! messages that leave at the end of the turn.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ashlar_consensus::Index;

use super::{Admitted, Asked, Core, Data, Waiter};
use crate::command::spread::{self, Answer, Question};
use crate::command::{Command, refuse_growth};
use crate::connection::Connection;
use crate::message::{Forward, Message, Ticket};
use crate::resp::encode::Encoder;
use crate::resp::{Version, Words};

impl Core {
    fn ticket(&self) -> Ticket {
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
        (database, version): (u8, Version),
    ) {
        let (ticket, owner) = (self.ticket(), self.routes.shard_of(partition));
        connection.replies.borrow_mut().await_remote(ticket);
        self.asked
            .borrow_mut()
            .insert(ticket, Asked::Reply(Rc::clone(connection), owner));
        let words = words.to_owned();
        let forward = Forward {
            from: self.shard,
            connection: connection.id,
            ticket,
            partition,
            command,
            words,
            database,
            version,
        };
        self.post(owner, Message::Run(Box::new(forward)));
    }

    /// Asks a partition, on whichever shard it is; the answer is durable.
    pub async fn ask(&self, partition: usize, question: Question) -> Answer {
        let owner = self.routes.shard_of(partition);
        if owner == self.shard {
            let (answer, wait) = self.answer(partition, &question);
            if let Some(index) = wait {
                self.applied(partition, index).await;
            }
            return answer;
        }
        let ticket = self.ticket();
        self.asked.borrow_mut().insert(
            ticket,
            Asked::Task {
                answer: None,
                waker: None,
            },
        );
        let (from, question) = (self.shard, Box::new(question));
        self.post(
            owner,
            Message::Ask {
                from,
                ticket,
                partition,
                question,
            },
        );
        poll_fn(|context| {
            let mut asked = self.asked.borrow_mut();
            let Some(Asked::Task { answer, waker }) = asked.get_mut(&ticket) else {
                unreachable!("the ticket is this task's alone")
            };
            match answer.take() {
                Some(answer) => {
                    asked.remove(&ticket);
                    Poll::Ready(answer)
                }
                None => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn answer(&self, partition: usize, question: &Question) -> (Answer, Option<Index>) {
        let now = self.now.get();
        let mut data = self.data.borrow_mut();
        let Data { owned, clock, .. } = &mut *data;
        let owned = owned[partition]
            .as_mut()
            .expect("questions are routed to the owner");
        let (mut answer, wait) = spread::answer(&mut owned.partition, question, clock, now);
        if let Answer::Refused(reply) = &mut answer {
            let mut encoder = Encoder::new(reply, Version::default());
            refuse_growth(&mut encoder, data.wal.growth_failure().as_ref());
        }
        (answer, wait)
    }

    /// Waits until `index` is applied.
    async fn applied(&self, partition: usize, index: Index) {
        poll_fn(|context| {
            let mut data = self.data.borrow_mut();
            let owned = data.owned_mut(partition);
            if owned.partition.applied() >= index {
                return Poll::Ready(());
            }
            owned
                .waiters
                .push_back((index, Waiter::Task(context.waker().clone())));
            Poll::Pending
        })
        .await;
    }

    /// Takes a message of another shard in.
    pub(crate) fn receive(&self, message: Message) {
        match message {
            Message::Run(_) | Message::Ask { .. } => {
                if self.deferred.borrow().is_empty() {
                    if let Some(message) = self.run_message(message) {
                        self.deferred.borrow_mut().push_back(message);
                    }
                } else {
                    self.deferred.borrow_mut().push_back(message);
                }
            }
            Message::Replied(ticket, bytes) => {
                let asked = self.asked.borrow_mut().remove(&ticket);
                if let Some(Asked::Reply(connection, owner)) = asked {
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
            } => self.note_taken((from, connection), bytes),
            Message::Stop => self.stop(),
        }
    }

    /// Runs what had to wait, oldest first, until one has to wait again.
    pub(super) fn run_deferred(&self) {
        loop {
            let Some(message) = self.deferred.borrow_mut().pop_front() else {
                return;
            };
            if let Some(message) = self.run_message(message) {
                self.deferred.borrow_mut().push_front(message);
                return;
            }
        }
    }

    /// Runs a command or answers a question for another shard; gives it back when it must wait.
    fn run_message(&self, message: Message) -> Option<Message> {
        match message {
            Message::Run(forward) => {
                let forward = self.enter_lane(forward)?;
                self.run_forward(forward).map(Message::Run)
            }
            Message::Ask {
                from,
                ticket,
                partition,
                question,
            } => {
                let (answer, wait) = self.answer(partition, &question);
                let answered = Message::Answered(ticket, Box::new(answer));
                self.post_when(partition, wait, from, answered);
                None
            }
            other => unreachable!("{other:?} is not for a partition"),
        }
    }

    /// Runs a command for another shard; gives it back when it must wait for room in the log.
    pub(super) fn run_forward(&self, forward: Box<Forward>) -> Option<Box<Forward>> {
        self.start_lap();
        let bytes = forward.words.heap_bytes();
        let (partition, command, version) = (forward.partition, forward.command, forward.version);
        let mut out = Vec::new();
        let wait = match self.admits(partition, command, bytes) {
            Admitted::Later => return Some(forward),
            Admitted::Never => {
                self.refuse_write(&mut Encoder::new(&mut out, version));
                self.counters().note_rejected(command.row(), &out);
                None
            }
            Admitted::Now => {
                let words = forward.words.as_words();
                let context = (forward.database, version);
                self.run(partition, command, words, context, &mut out)
            }
        };
        self.note_sent((forward.from, forward.connection), out.len());
        let replied = Message::Replied(forward.ticket, out);
        self.post_when(partition, wait, forward.from, replied);
        None
    }

    /// Sends a message to another shard once `wait` is applied, if there is something to wait for.
    fn post_when(&self, partition: usize, wait: Option<Index>, shard: u32, message: Message) {
        let Some(index) = wait else {
            return self.post(shard, message);
        };
        let waiter = Waiter::Shard(shard, message);
        let mut data = self.data.borrow_mut();
        data.owned_mut(partition).waiters.push_back((index, waiter));
    }

    /// Puts a message in another shard's outbox; it leaves at the end of the turn.
    pub(super) fn post(&self, shard: u32, message: Message) {
        self.outboxes.borrow_mut()[shard as usize]
            .waiting
            .push_back(message);
    }
}
