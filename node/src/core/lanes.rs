//! Large answers on their way to connections of other shards, and the commands that wait until the
//! client has taken some of them.
//!
//! How large an answer is nobody knows before the command has run, so the shard that asks can bound
//! the commands it has asked but not the bytes it will get. The shard that answers bounds those: per
//! connection it has answers of [`LANE_BYTES`] and one more on their way, and the next command waits
//! in the connection's lane. Small answers are not counted; their number is bounded.
//!
//! Invariant: the commands of one connection run in their order, whether they waited or not.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::Core;
use crate::blocked::Ending;
use crate::connection::Connection;
use crate::message::{Forward, Message, Origin, Ticket};

/// Answers up to this size are not counted, in bytes.
const SMALL_BYTES: usize = 16 << 10;
/// Large answers on their way to one connection above which its commands wait, in bytes.
const LANE_BYTES: usize = 4 << 20;
/// Bytes that a connection's socket may hold before its large answers no longer count as taken.
const UNSENT_BYTES: usize = 1 << 20;

/// Names a connection of another shard.
type Asker = (Origin, u64);

#[derive(Debug, Default)]
struct Lane {
    /// Bytes of large answers sent and not taken.
    bytes: usize,
    waiting: VecDeque<Box<Forward>>,
}

/// The lanes of a shard; a connection has one while it needs it.
#[derive(Debug, Default)]
pub(super) struct Lanes(BTreeMap<Asker, Lane>);

impl Lanes {
    /// Gives a command that may run now back; others wait in their connection's lane.
    fn enter(&mut self, forward: Box<Forward>) -> Option<Box<Forward>> {
        match self.0.get_mut(&(forward.from, forward.connection)) {
            Some(lane) if lane.bytes > LANE_BYTES || !lane.waiting.is_empty() => {
                lane.waiting.push_back(forward);
                None
            }
            _ => Some(forward),
        }
    }

    /// Counts an answer on its way.
    fn sent(&mut self, asker: Asker, bytes: usize) {
        if bytes > SMALL_BYTES {
            self.0.entry(asker).or_default().bytes += bytes;
        }
    }

    /// Counts bytes of large answers that have arrived at the client.
    fn taken(&mut self, asker: Asker, bytes: usize) {
        if let Some(lane) = self.0.get_mut(&asker) {
            lane.bytes = lane.bytes.saturating_sub(bytes);
            if lane.bytes == 0 && lane.waiting.is_empty() {
                self.0.remove(&asker);
            }
        }
    }

    /// Takes a command that has waited and need not any more.
    fn next(&mut self) -> Option<Box<Forward>> {
        let free = |lane: &Lane| lane.bytes <= LANE_BYTES && !lane.waiting.is_empty();
        let (asker, lane) = self.0.iter_mut().find(|(_, lane)| free(lane))?;
        let forward = lane.waiting.pop_front();
        if lane.bytes == 0 && lane.waiting.is_empty() {
            let asker = *asker;
            self.0.remove(&asker);
        }
        forward
    }

    /// Has a command that waits here not run any more; says whether it waits here.
    pub(super) fn end_wait(&mut self, asked: (Origin, Ticket), ending: Ending) -> bool {
        let mut waiting = self.0.values_mut().flat_map(|lane| &mut lane.waiting);
        let found = waiting.find(|forward| (forward.from, forward.ticket) == asked);
        let Some(forward) = found else { return false };
        forward.ended = Some(ending);
        true
    }

    /// Puts a command back that could not run.
    fn put_back(&mut self, forward: Box<Forward>) {
        let lane = self
            .0
            .entry((forward.from, forward.connection))
            .or_default();
        lane.waiting.push_front(forward);
    }
}

impl Core {
    /// Returns a command of another shard's connection if it may run now.
    pub(super) fn enter_lane(&self, forward: Box<Forward>) -> Option<Box<Forward>> {
        self.lanes.borrow_mut().enter(forward)
    }

    /// Counts an answer on its way to a connection of another shard.
    pub(super) fn note_sent(&self, asker: Asker, bytes: usize) {
        // Another node bounds what it asks for by what it awaits.
        if matches!(asker.0, Origin::Node(_)) {
            return;
        }
        self.lanes.borrow_mut().sent(asker, bytes);
    }

    /// Takes in that a client of another shard has taken answers, and runs what has waited for it.
    pub(super) fn note_taken(self: &Rc<Self>, asker: Asker, bytes: usize) {
        self.lanes.borrow_mut().taken(asker, bytes);
        self.run_lanes();
    }

    /// Runs what need not wait in its lane any more, until one has to wait for something else.
    pub(super) fn run_lanes(self: &Rc<Self>) {
        while !self.fetching.get() {
            let Some(forward) = self.lanes.borrow_mut().next() else {
                return;
            };
            if let Some(forward) = self.run_forward(forward) {
                self.lanes.borrow_mut().put_back(forward);
                return;
            }
        }
    }

    /// Tells other shards of their large answers that have left for a client, once its socket has
    /// sent nearly all of them. Called in each turn, and there is one after each send.
    pub(super) fn tell_taken(&self) {
        let mut owing = self.owing.borrow_mut();
        owing.retain(|connection| {
            if connection.sender.unsent_bytes() > UNSENT_BYTES {
                return true;
            }
            for (owner, bytes) in connection.replies.borrow_mut().take_large() {
                let (from, connection) = (self.shard, connection.id);
                let taken = Message::Taken {
                    from,
                    connection,
                    bytes,
                };
                self.post(owner, taken);
            }
            false
        });
    }

    /// Remembers a connection that large answers have left for.
    pub(super) fn owe(&self, connection: &Rc<Connection>) {
        let mut owing = self.owing.borrow_mut();
        let known = |other: &Rc<Connection>| Rc::ptr_eq(other, connection);
        if connection.replies.borrow().has_large() && !owing.iter().any(known) {
            owing.push(Rc::clone(connection));
        }
    }

    /// Says whether an answer of this size is counted.
    pub(crate) fn is_large(bytes: usize) -> bool {
        bytes > SMALL_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;
    use crate::resp::{Spans, Version};

    fn forward(connection: u64, ticket: u64) -> Box<Forward> {
        Box::new(Forward {
            from: Origin::Shard(1),
            connection,
            ticket: Ticket(ticket),
            partition: 0,
            command: &table::all()[0],
            words: Spans::new().words(&[]).to_owned(),
            database: 0,
            version: Version::Resp2,
            token: None,
            lost: None,
            place: None,
            ended: None,
        })
    }

    #[test]
    fn commands_wait_while_large_answers_are_on_their_way() {
        let mut lanes = Lanes::default();
        let asker = (Origin::Shard(1), 7);
        for _ in 0..1_000 {
            lanes.sent(asker, SMALL_BYTES);
        }
        assert!(lanes.enter(forward(7, 1)).is_some(), "small answers");
        lanes.sent(asker, LANE_BYTES);
        assert!(lanes.enter(forward(7, 2)).is_some(), "one more may run");
        lanes.sent(asker, 64 << 20);
        assert!(lanes.enter(forward(7, 3)).is_none());
        assert!(lanes.enter(forward(8, 4)).is_some(), "another's");
        assert!(lanes.next().is_none());
        lanes.taken(asker, 64 << 20);
        assert!(lanes.enter(forward(7, 5)).is_none(), "behind the third");
        let mut ran = Vec::new();
        while let Some(forward) = lanes.next() {
            ran.push(forward.ticket.0);
            if ran == [3] {
                lanes.put_back(forward);
            }
        }
        assert_eq!(ran, [3, 3, 5]);
        lanes.taken(asker, LANE_BYTES);
        assert!(lanes.0.is_empty());
    }
}
