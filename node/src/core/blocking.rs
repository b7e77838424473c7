//! Commands that wait for elements, as the shard of their keys has them wait: parked in the table that decides who is
//! next ([`crate::blocked`]), run anew when one of their keys has got elements, answered when their time is over. A
//! command for a partition that another node leads waits there.
//!
//! Whoever gets elements is served right behind the command that brought them, before any other command: within its
//! turn, and so as a rule in its entry of the log. Each is run as if it had come now, so what it pops is durable before
//! its reply leaves, like all writes.
//!
//! Invariants:
//! 1. A command that waits is in one place: in the table, or among those that wait to be run; so it is answered once.
//! 2. A command whose asker has said that it is to end waits no more, wherever it is then.

use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::NodeId;
use ashlar_io::Monotonic;

use super::Core;
use super::relay::partition_id;
use crate::blocked::{Ending, Waiting};
use crate::command::{Ready, Waits};
use crate::distant::{self, kind};
use crate::message::{Forward, Message, Origin, Ticket};
use crate::peer::Lane;
use crate::resp::encode::Encoder;

/// Error of one that `CLIENT UNBLOCK` has ended.
const UNBLOCKED: &[u8] = b"UNBLOCKED client unblocked via CLIENT UNBLOCK";
/// Error of one whose partition another node may lead now.
const STEPPED_DOWN: &[u8] =
    b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";
const STOPPING: &[u8] = b"UNBLOCKED the node is stopping; nothing was popped";
const FULL: &[u8] = b"BUSY too many commands wait for elements on this shard; nothing was popped";

impl Core {
    /// Has a command wait that found nothing.
    pub(super) fn park(&self, mut forward: Box<Forward>, waits: &Waits) {
        if self.is_stopping() {
            return self.end_wait(&forward, Ending::Stopping);
        }
        let mut blocked = self.blocked.borrow_mut();
        let until = (waits.timeout_ms > 0)
            .then(|| self.reactor.now() + Duration::from_millis(waits.timeout_ms));
        let place = *forward
            .place
            .get_or_insert_with(|| blocked.place(waits.family, until));
        if place.until.is_some_and(|until| until <= self.reactor.now()) {
            return self.end_wait(&forward, Ending::Nothing);
        }
        let words = forward.words.as_words();
        let keys = waits.keys.clone().filter_map(|place| words.get(place));
        let keys = keys
            .map(|key| [&[forward.database], key].concat())
            .collect();
        let added = blocked.add(Waiting {
            place,
            keys,
            forward,
        });
        if let Err(forward) = added {
            self.answer_waiting(&forward, |encoder| encoder.error(FULL));
        }
    }

    /// Notes which keys have got elements, when anybody waits for some.
    pub(super) fn note_ready(&self, partition: usize, keys: Option<Vec<Ready>>) {
        let keys = keys.into_iter().flatten();
        let keys = keys.map(|(family, key)| (partition, family, key));
        self.ready.borrow_mut().extend(keys);
    }

    /// Has those looked at that wait behind a command for its keys, now that it is served: something may be left.
    pub(super) fn note_served(&self, forward: &Forward) {
        let Some(place) = forward.place else { return };
        let (words, mut ready) = (forward.words.as_words(), self.ready.borrow_mut());
        for at in forward.command.key_places(words) {
            let key = [&[forward.database], &words[at]].concat();
            ready.push_front((forward.partition, place.family, key));
        }
    }

    /// Runs those that wait for keys that have got elements: of each key the first, as long as it finds something.
    pub(crate) fn serve_ready(self: &Rc<Self>) {
        if self.ready.borrow().is_empty() || self.is_serving.replace(true) {
            return;
        }
        loop {
            let Some((partition, family, key)) = self.ready.borrow_mut().pop_front() else {
                break;
            };
            let first = (self.blocked.borrow_mut()).take_first(partition, &key, family);
            let forward = first.and_then(|waiting| self.run_forward(waiting.forward));
            // The log has no room, or something must be read: it is run again with those that wait for that.
            if let Some(forward) = forward {
                self.deferred.borrow_mut().push_front(forward);
                self.hurry();
            }
        }
        self.is_serving.set(false);
    }

    /// Answers those whose time is over.
    pub(super) fn end_due(&self) {
        loop {
            let due = self.blocked.borrow_mut().take_due(self.reactor.now());
            let Some(waiting) = due else { return };
            self.end_wait(&waiting.forward, Ending::Nothing);
        }
    }

    /// Returns when the time of the first one is over.
    pub(crate) fn blocked_deadline(&self) -> Option<Monotonic> {
        self.blocked.borrow().deadline()
    }

    /// Answers all of a partition, which this node leads no more.
    pub(super) fn end_waits_of(&self, partition: usize) {
        self.end_all(Ending::SteppedDown, |forward| {
            forward.partition == partition
        });
    }

    /// Answers all: the node is stopping.
    pub(super) fn end_waits(&self) {
        self.end_all(Ending::Stopping, |_| true);
    }

    /// Forgets those of a node that is not connected any more, which answers its clients itself.
    pub(super) fn forget_waits_of(&self, node: NodeId) {
        let from = Origin::Node(node);
        drop(
            self.blocked
                .borrow_mut()
                .take_all(|forward| forward.from == from),
        );
        let mut deferred = self.deferred.borrow_mut();
        for forward in deferred.iter_mut().filter(|forward| forward.from == from) {
            forward.ended = Some(Ending::Nothing);
        }
    }

    fn end_all(&self, ending: Ending, fits: impl Fn(&Forward) -> bool) {
        let ended = self.blocked.borrow_mut().take_all(fits);
        for waiting in ended {
            self.end_wait(&waiting.forward, ending);
        }
    }

    /// Ends the wait of a connection of this shard.
    pub(crate) fn unblock(&self, connection: u64, ending: Ending) {
        let connections = self.connections.borrow();
        let found = connections.get(&connection);
        let Some((ticket, partition)) = found.and_then(|found| found.blocked.get()) else {
            return;
        };
        self.withdraw(ticket, partition, ending);
    }

    /// Asks the shard of a command's keys to end its wait.
    pub(crate) fn withdraw(&self, ticket: Ticket, partition: usize, ending: Ending) {
        let from = self.shard;
        let owner = self.routes.shard_of(partition);
        self.post(
            owner,
            Message::Withdraw {
                from,
                ticket,
                ending,
            },
        );
    }

    /// Ends the wait of a command, wherever it is. One that was served meanwhile has its answer.
    pub(super) fn end_wait_asked(&self, from: Origin, ticket: Ticket, ending: Ending) {
        let waiting = self.blocked.borrow_mut().take_asked(from, ticket);
        if let Some(waiting) = waiting {
            return self.end_wait(&waiting.forward, ending);
        }
        let is_it = |forward: &Forward| (forward.from, forward.ticket) == (from, ticket);
        let mut deferred = self.deferred.borrow_mut();
        if let Some(forward) = deferred.iter_mut().find(|forward| is_it(forward)) {
            forward.ended = Some(ending);
            return;
        }
        if self.lanes.borrow_mut().end_wait((from, ticket), ending) {
            return;
        }
        let Some(cluster) = &self.cluster else { return };
        let relayed = cluster.relay.borrow_mut().end_wait((from, ticket), ending);
        let Some((node, ticket, partition)) = relayed else {
            return;
        };
        let mut bytes = Vec::new();
        distant::encode_withdraw(ticket, ending, &mut bytes);
        // When it does not leave, the connection is lost or about to be, and the wait ends with it.
        let id = partition_id(partition);
        let _ = (cluster.peers).queue(node, Lane::Bulk, kind::WITHDRAW, id, &[&bytes]);
    }

    /// Takes in that a command of another node is to wait no more.
    pub(super) fn take_withdraw(&self, from: NodeId, bytes: &[u8]) -> Option<()> {
        let (ticket, ending) = distant::decode_withdraw(bytes)?;
        self.end_wait_asked(Origin::Node(from), ticket, ending);
        Some(())
    }

    /// Answers a command that got nothing.
    pub(super) fn end_wait(&self, forward: &Forward, ending: Ending) {
        self.answer_waiting(forward, |encoder| match ending {
            Ending::Nothing => encoder.null_array(),
            Ending::Unblocked => encoder.error(UNBLOCKED),
            Ending::SteppedDown => encoder.error(STEPPED_DOWN),
            Ending::Stopping => encoder.error(STOPPING),
        });
    }

    fn answer_waiting(&self, forward: &Forward, write: impl FnOnce(&mut Encoder<'_>)) {
        let mut reply = Vec::new();
        write(&mut Encoder::new(&mut reply, forward.version));
        self.note_call(forward.command, None, &reply);
        self.reply_to(forward.from, forward.ticket, reply);
        self.stir();
        self.hurry();
    }
}
