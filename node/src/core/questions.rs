//! Questions about partitions: those that go over many of them ask each by name, on whichever shard and
//! node it is served. Not commands of one partition: these run as they are, or are relayed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ashlar_consensus::{Index, NodeId, PartitionId};
use ashlar_partition::{Refusal, Scan as Walk, Scanned, Standing};

use super::relay::{PATIENCE, RETRY, UNKNOWN, partition_id};
use super::{Asked, Core, Data, Fetched, Waiter};
use crate::command::growth_error;
use crate::command::spread::{self, Answer, Question, Step};
use crate::distant::{self, Outcome, kind};
use crate::message::Message;
use crate::peer::{Lane, Queued};

/// Steps of an answer whose blocks are kept in memory.
const PINNED_STEPS: usize = 4;

/// Whether an entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is.
    Yes,
    /// Another replica leads now, and decides.
    Unknown,
}

/// What came of a question to another node.
#[derive(Debug)]
pub(super) enum Told {
    Answered(Answer),
    /// It does not serve the partition, and has done nothing.
    Elsewhere,
    /// The connection was lost before it answered.
    Lost,
}

/// A question that another node has not answered yet.
#[derive(Debug)]
pub(super) struct Asking {
    node: NodeId,
    answer: Option<Told>,
    waker: Option<Waker>,
}

/// Returns the error of what nobody knows whether it was done.
fn unknown() -> String {
    String::from_utf8_lossy(UNKNOWN).into_owned()
}

impl Core {
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
    pub(super) async fn answer(&self, partition: usize, question: Question) -> Answer {
        let is_known = |answer: &Answer| !matches!(answer, Answer::Failed(_) | Answer::Refused(_));
        let mut lost = None;
        loop {
            let answer = self.answer_now(partition, question.clone()).await;
            if !matches!(question, Question::Once(..)) || is_known(&answer) {
                return answer;
            }
            // Of a write of a session whoever leads next knows whether it was done.
            if lost.is_none() && answer != Answer::Failed(unknown()) {
                return answer;
            }
            let now = self.reactor.now();
            if now >= *lost.get_or_insert(now) + self.retries_for() {
                return Answer::Failed(unknown());
            }
            self.reactor.sleep(RETRY).await;
        }
    }

    async fn answer_now(&self, partition: usize, mut question: Question) -> Answer {
        if question.writes()
            && let Some(error) = self.clock_refusal()
        {
            return Answer::Failed(error);
        }
        if self.cluster.is_some()
            && let Some(answer) = self.answer_elsewhere(partition, &question).await
        {
            return answer;
        }
        let mut answer = Answer::Nothing;
        let mut fetched: VecDeque<Fetched> = VecDeque::new();
        loop {
            let step = match &mut question {
                Question::Once(once, question) => {
                    self.answer_once(partition, once, question, &mut answer)
                }
                question => self.answer_step(partition, question, &mut answer),
            };
            // What an earlier step has brought is needed until the walk gets on: an index, the block
            // that it leads to, a value.
            if fetched.len() > PINNED_STEPS {
                fetched.pop_front();
            }
            match step {
                Step::Done(None) => return answer,
                Step::Done(Some(index)) => {
                    return match self.applied(partition, index).await {
                        Applied::Yes => answer,
                        Applied::Unknown => Answer::Failed(unknown()),
                    };
                }
                Step::Applied(index) => {
                    if self.applied(partition, index).await == Applied::Unknown {
                        return Answer::Failed(unknown());
                    }
                }
                Step::More => self.next_turn(true).await,
                Step::Wants(wants) => match self.fetch(partition, &wants, &[]).await {
                    Ok(found) => fetched.push_back(found),
                    Err(error) => return Answer::Failed(error),
                },
            }
        }
    }

    pub(super) fn answer_step(
        &self,
        partition: usize,
        question: &mut Question,
        answer: &mut Answer,
    ) -> Step {
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

    /// Walks over what this replica of a partition holds, whoever leads; nothing when it is damaged. Keys
    /// that expired above the low-water mark are there: what is beneath it a merge may have dropped.
    pub(crate) fn scan_here(
        &self,
        partition: usize,
        walk: &mut Walk,
        take: impl FnMut(&[u8], &[u8]),
    ) -> Option<Scanned> {
        let mut data = self.data.borrow_mut();
        let partition = &mut data.owned_mut(partition).partition;
        let is_whole = partition.damage().is_none();
        let now_ms = partition.low_water().micros() / 1000;
        is_whole.then(|| partition.scan(walk, now_ms, take))
    }

    /// Waits until `index` is applied, or this replica does not lead any more.
    pub(super) async fn applied(&self, partition: usize, index: Index) -> Applied {
        let lives = self.data.borrow_mut().owned_mut(partition).lives;
        poll_fn(|context| {
            let mut data = self.data.borrow_mut();
            let owned = data.owned_mut(partition);
            if owned.waits.told() >= index {
                return Poll::Ready(Applied::Yes);
            }
            if owned.lives != lives && index > owned.applied_before {
                return Poll::Ready(Applied::Unknown);
            }
            let waiter = Waiter::Task(context.waker().clone());
            owned.waiters.push_back((index, waiter));
            Poll::Pending
        })
        .await
    }

    /// Has the leader of a partition answer, when it is on another node; `None` when this node serves
    /// the partition.
    async fn answer_elsewhere(&self, partition: usize, question: &Question) -> Option<Answer> {
        let since = self.reactor.now();
        loop {
            match self.standing(partition) {
                Standing::Serves => return None,
                Standing::Follows(leader) => {
                    match self.ask_node(leader.node, partition, question).await {
                        Told::Answered(answer) => return Some(answer),
                        Told::Lost if question.writes() => return Some(Answer::Failed(unknown())),
                        Told::Lost | Told::Elsewhere => {}
                    }
                }
                Standing::Preparing | Standing::Leaderless => {}
            }
            if self.reactor.now().since(since) > PATIENCE {
                let text = format!(
                    "CLUSTERDOWN partition {partition} has no leader that can be reached; nothing was done"
                );
                return Some(Answer::Failed(text));
            }
            self.reactor.sleep(RETRY).await;
        }
    }

    async fn ask_node(&self, node: NodeId, partition: usize, question: &Question) -> Told {
        let Some(cluster) = &self.cluster else {
            return Told::Elsewhere;
        };
        let ticket = self.ticket();
        let mut bytes = Vec::new();
        distant::encode_question(question, ticket, &mut bytes);
        let id = partition_id(partition);
        let queued = cluster
            .peers
            .queue(node, Lane::Bulk, kind::ASK, id, &[&bytes]);
        if queued != Queued::Taken {
            return Told::Elsewhere;
        }
        let asking = Asking {
            node,
            answer: None,
            waker: None,
        };
        self.asking.borrow_mut().insert(ticket, asking);
        poll_fn(|context| {
            let mut asking = self.asking.borrow_mut();
            let of = asking
                .get_mut(&ticket)
                .expect("the ticket is this task's alone");
            match of.answer.take() {
                Some(answer) => {
                    asking.remove(&ticket);
                    Poll::Ready(answer)
                }
                None => {
                    of.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes in a question of another node.
    pub(super) fn take_ask(
        self: &Rc<Self>,
        from: NodeId,
        partition: PartitionId,
        bytes: &[u8],
    ) -> Option<()> {
        let number = partition.0 as usize;
        self.data.borrow().owned.get(number)?.as_ref()?;
        let (ticket, question) = distant::decode_question(bytes)?;
        let core = Rc::clone(self);
        self.reactor.spawn(async move {
            let mut bytes = Vec::new();
            if core.standing(number) == Standing::Serves {
                let answer = core.answer(number, question).await;
                let outcome = match answer == Answer::Failed(unknown()) {
                    true => Outcome::Unknown,
                    false => Outcome::Ran,
                };
                distant::encode_replied(ticket, outcome, b"", &mut bytes);
                distant::encode_answer(&answer, &mut bytes);
            } else {
                distant::encode_replied(ticket, Outcome::Elsewhere, b"", &mut bytes);
            }
            core.send_answer(from, &bytes);
            core.hurry();
        });
        Some(())
    }

    fn send_answer(&self, to: NodeId, bytes: &[u8]) {
        let Some(cluster) = &self.cluster else { return };
        let id = PartitionId(0);
        let queued = cluster
            .peers
            .queue(to, Lane::Bulk, kind::ANSWERED, id, &[bytes]);
        if queued == Queued::Full {
            cluster.peers.disconnect(to, "it takes answers too slowly");
        }
    }

    /// Takes in the answer of another node.
    pub(super) fn take_answered(&self, bytes: &[u8]) -> Option<()> {
        let (ticket, outcome, rest) = distant::decode_replied(bytes)?;
        let answer = match outcome {
            Outcome::Ran => Told::Answered(distant::decode_answer(rest)?),
            Outcome::Elsewhere => Told::Elsewhere,
            Outcome::Unknown => Told::Lost,
        };
        if let Some(asking) = self.asking.borrow_mut().get_mut(&ticket) {
            asking.answer = Some(answer);
            asking.waker.take().into_iter().for_each(Waker::wake);
        }
        Some(())
    }

    /// Takes in that the connection to a node is lost.
    pub(super) fn asks_lost(&self, node: NodeId) {
        for asking in self.asking.borrow_mut().values_mut() {
            if asking.node == node && asking.answer.is_none() {
                asking.answer = Some(Told::Lost);
                asking.waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}
