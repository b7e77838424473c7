//! What a shard asks of others and answers them: commands forwarded, questions about partitions, in
//! messages that leave at the end of the turn.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ashlar_consensus::Index;
use ashlar_partition::{Refusal, Want};

use super::{Admitted, Asked, Core, Data, Fetched, Ran, Waiter};
use crate::command::spread::{self, Answer, Question, Step};
use crate::command::{Command, growth_error};
use crate::connection::Connection;
use crate::message::{Forward, Message, Ticket};
use crate::resp::encode::Encoder;
use crate::resp::{Version, Words};

/// Commands behind one that wants blocks whose blocks are fetched with it.
pub(crate) const AHEAD_COMMANDS: usize = 64;

/// Steps of an answer whose blocks are kept in memory.
const PINNED_STEPS: usize = 4;

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
            return self.answer(partition, question).await;
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

    /// Answers a question about a partition of this shard, as often interrupted as blocks must be
    /// fetched for it; the answer is durable.
    async fn answer(&self, partition: usize, mut question: Question) -> Answer {
        let mut answer = Answer::Nothing;
        let mut fetched: VecDeque<Fetched> = VecDeque::new();
        loop {
            let step = self.answer_step(partition, &mut question, &mut answer);
            // What an earlier step has brought is needed until the walk gets on: an index, the block
            // that it leads to, a value.
            if fetched.len() > PINNED_STEPS {
                fetched.pop_front();
            }
            match step {
                Step::Done(None) => return answer,
                Step::Done(Some(index)) => {
                    self.applied(partition, index).await;
                    return answer;
                }
                Step::Applied(index) => self.applied(partition, index).await,
                Step::More => self.next_turn(true).await,
                Step::Wants(wants) => match self.fetch(partition, &wants, &[]).await {
                    Ok(found) => fetched.push_back(found),
                    Err(error) => return Answer::Failed(error),
                },
            }
        }
    }

    fn answer_step(&self, partition: usize, question: &mut Question, answer: &mut Answer) -> Step {
        let now = self.now.get();
        let mut data = self.data.borrow_mut();
        let Data {
            owned, clock, wal, ..
        } = &mut *data;
        let owned = owned[partition]
            .as_mut()
            .expect("questions are routed to the owner");
        let step = spread::answer(&mut owned.partition, question, answer, clock, now);
        if *answer == Answer::Refused(Refusal::DiskFull) {
            // The partition knows that the log takes no writes, and the log knows why.
            *answer = Answer::Failed(growth_error(wal.growth_failure().as_ref()));
        }
        step
    }

    /// Waits until `index` is applied.
    pub(super) async fn applied(&self, partition: usize, index: Index) {
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
    pub(crate) fn receive(self: &Rc<Self>, message: Message) {
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
        self.start_lap();
        let bytes = forward.words.heap_bytes();
        let (partition, command, version) = (forward.partition, forward.command, forward.version);
        let mut out = Vec::new();
        let wait = match self.admits(partition, command, bytes) {
            _ if self.is_unreadable(&forward, &mut out) => None,
            Admitted::Later | Admitted::Slower => return Some(forward),
            Admitted::Never => {
                self.refuse_write(&mut Encoder::new(&mut out, version));
                self.counters().note_rejected(command.row(), &out);
                None
            }
            Admitted::Now => {
                let words = forward.words.as_words();
                let context = (forward.database, version);
                match self.run(partition, command, words, context, &mut out) {
                    Ran::Done(wait) => wait,
                    Ran::Wants(wants) => {
                        self.fetch_for(&forward, wants);
                        return Some(forward);
                    }
                }
            }
        };
        drop(self.fetched.take());
        self.note_sent((forward.from, forward.connection), out.len());
        let replied = Message::Replied(forward.ticket, out);
        self.post_when(partition, wait, forward.from, replied);
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
