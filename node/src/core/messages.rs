//! What a shard asks of others and answers them: commands forwarded, questions about partitions, in
//! messages that leave at the end of the turn.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ashlar_consensus::Index;

use super::{Admitted, Asked, Core, Data, Waiter, refuse_full};
use crate::command::Command;
use crate::command::spread::{self, Answer, Question};
use crate::connection::Connection;
use crate::message::{Forward, Message, Ticket};
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
        let ticket = self.ticket();
        connection.replies.borrow_mut().await_remote(ticket);
        self.asked
            .borrow_mut()
            .insert(ticket, Asked::Reply(Rc::clone(connection)));
        let words = words.to_owned();
        let forward = Forward {
            from: self.shard,
            ticket,
            partition,
            command,
            words,
            database,
            version,
        };
        self.post(
            self.routes.shard_of(partition),
            Message::Run(Box::new(forward)),
        );
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
        spread::answer(&mut owned.partition, question, clock, now)
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
                if let Some(Asked::Reply(connection)) = asked {
                    connection.replies.borrow_mut().fill(ticket, bytes);
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
        let (from, partition, wait, reply) = match message {
            Message::Run(forward) => {
                let bytes = forward.words.heap_bytes();
                let mut out = Vec::new();
                let wait = match self.admits(forward.partition, forward.command, bytes) {
                    Admitted::Later => return Some(Message::Run(forward)),
                    Admitted::Never => {
                        refuse_full(&mut out, forward.version);
                        None
                    }
                    Admitted::Now => {
                        let context = (forward.database, forward.version);
                        self.run(
                            forward.partition,
                            forward.command,
                            forward.words.as_words(),
                            context,
                            &mut out,
                        )
                    }
                };
                (
                    forward.from,
                    forward.partition,
                    wait,
                    Message::Replied(forward.ticket, out),
                )
            }
            Message::Ask {
                from,
                ticket,
                partition,
                question,
            } => {
                let (answer, wait) = self.answer(partition, &question);
                (
                    from,
                    partition,
                    wait,
                    Message::Answered(ticket, Box::new(answer)),
                )
            }
            other => unreachable!("{other:?} is not for a partition"),
        };
        match wait {
            None => self.post(from, reply),
            Some(index) => {
                let waiter = Waiter::Shard(from, reply);
                self.data
                    .borrow_mut()
                    .owned_mut(partition)
                    .waiters
                    .push_back((index, waiter));
            }
        }
        None
    }

    /// Puts a message in another shard's outbox; it leaves at the end of the turn.
    pub(super) fn post(&self, shard: u32, message: Message) {
        self.outboxes.borrow_mut()[shard as usize]
            .waiting
            .push_back(message);
    }
}
