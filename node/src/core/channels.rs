//! Messages on their way: from a connection that publishes, another shard or another node, to the connections of this
//! shard and from there on. Who is subscribed to what is in [`crate::pubsub`].
//!
//! Invariants:
//! 1. What one connection publishes on one channel reaches each shard and each node in that order, and each once at
//!    most.
//! 2. A subscriber that takes its messages too slowly is closed (`pubsub.hard_bytes`, `pubsub.soft_bytes`); another
//!    shard or node that does is not sent what it has no room for, which is counted.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ashlar_consensus::{Index, NodeId, PartitionId};
use ashlar_partition::Purge;
use ashlar_partition::key::DATABASES;

use super::{Core, Waiter};
use crate::connection::Connection;
use crate::distant::kind;
use crate::message::Message;
use crate::peer::{Lane, Queued};
use crate::pubsub::notice::{Class, Notice};
use crate::pubsub::subscriber::{Change, Subscriber};
use crate::pubsub::{Kind, Publication};
use crate::replies::{CHOKED_BYTES, Due};
use crate::resp::encode::Encoder;
use crate::stats::ShardCounters;

/// Receivers of a message that count as much as a command, for the length of a turn.
const RECEIVERS_PER_COMMAND: u64 = 16;

/// What became of a message that a connection has published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Receivers on this node.
    pub(crate) receivers: u64,
    /// What that connection gets itself, behind its reply.
    pub(crate) own: Vec<Rc<[u8]>>,
}

impl Core {
    /// Takes over what a connection has subscribed to, or does not want any more.
    pub(crate) fn take_changes(&self, connection: &Rc<Connection>, subscriber: &mut Subscriber) {
        let channels = &self.shared.channels;
        for change in subscriber.changes.drain(..) {
            match change {
                Change::Joined(kind, name) => {
                    channels.join(self.shard, kind, &name);
                    self.hub.join(kind, &name, connection);
                }
                Change::Left(kind, name) => {
                    channels.leave(self.shard, kind, &name);
                    self.hub.leave(kind, &name, connection.id);
                }
            }
        }
    }

    /// Says whether other shards take what a client publishes now.
    pub(crate) fn may_publish(&self) -> bool {
        self.shared.channels.has_room(self.shard)
    }

    /// Returns how many connections of this node would get a message.
    pub(crate) fn receivers(&self, publication: &Publication) -> u64 {
        self.shared.channels.receivers(publication).iter().sum()
    }

    /// Publishes what a connection says, on this node and all others.
    pub(crate) fn publish_for(&self, publication: Publication, connection: u64) -> Published {
        self.publish_to_nodes(&publication);
        let mut published = Published::default();
        self.hub.deliver(&publication, |to, message| {
            published.receivers += 1;
            match to.id == connection {
                true => published.own.push(Rc::clone(message)),
                false => self.give(to, message),
            }
        });
        published.receivers += self.publish_to_shards(publication);
        let cost = published.receivers / RECEIVERS_PER_COMMAND;
        let commands = self.turn_commands.get();
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.turn_commands.set(commands.saturating_add(cost));
        published
    }

    /// Publishes on this node alone.
    fn publish_here(&self, publication: Publication) {
        self.deliver(&publication);
        self.publish_to_shards(publication);
    }

    /// Hands a message to the connections of this shard.
    pub(super) fn deliver(&self, publication: &Publication) {
        self.hub
            .deliver(publication, |to, message| self.give(to, message));
    }

    /// Sends a message to the other shards that have subscribers; returns how many these are.
    fn publish_to_shards(&self, publication: Publication) -> u64 {
        let channels = &self.shared.channels;
        if !channels.any_elsewhere(self.shard) {
            return 0;
        }
        let receivers = channels.receivers(&publication);
        let publication = Arc::new(publication);
        let mut sum = 0;
        for (shard, count) in (0..).zip(receivers) {
            if count == 0 || shard == self.shard {
                continue;
            }
            sum += count;
            if channels.take_room(shard, &publication) {
                self.post(shard, Message::Publish(Arc::clone(&publication)));
            } else {
                ShardCounters::add(&self.counters().messages_dropped, 1);
            }
        }
        sum
    }

    /// Takes a message of another shard in.
    pub(super) fn take_publication(&self, publication: &Publication) {
        self.shared.channels.give_room(self.shard, publication);
        self.deliver(publication);
    }

    /// Sends a message to every other node. One that takes too slowly what it is sent, or cannot be reached, does not
    /// get it.
    fn publish_to_nodes(&self, publication: &Publication) {
        let Some(cluster) = &self.cluster else { return };
        let mut bytes = Vec::with_capacity(publication.bytes());
        publication.encode(&mut bytes);
        for node in cluster.peers.reachable() {
            let id = PartitionId(0);
            let queued = match cluster.peers.has_room(node) {
                true => cluster
                    .peers
                    .queue(node, Lane::Bulk, kind::PUBLISH, id, &[&bytes]),
                false => Queued::Full,
            };
            if queued != Queued::Taken {
                ShardCounters::add(&self.counters().messages_dropped, 1);
            }
        }
    }

    /// Takes a message of another node in: for all shards of this one.
    pub(super) fn take_published(&self, from: NodeId, bytes: &[u8]) -> Option<()> {
        let publication = Publication::decode(bytes)?;
        tracing::trace!("node {} has published a message", from.0);
        self.publish_here(publication);
        Some(())
    }

    /// Gives a message to a connection: to its socket, if that has room, and else behind what it waits for.
    fn give(&self, connection: &Rc<Connection>, message: &Rc<[u8]>) {
        if connection.is_dropped.get() {
            return;
        }
        ShardCounters::add(&self.counters().messages_delivered, 1);
        let mut replies = connection.replies.borrow_mut();
        if replies.is_empty() && connection.sender.unsent_bytes() < CHOKED_BYTES {
            ShardCounters::add(&self.counters().out_bytes, message.len() as u64);
            return connection.sender.send(message);
        }
        replies.add_message(message);
        drop(replies);
        self.follow(connection);
        self.bound_messages(connection);
    }

    /// Closes a subscriber that takes its messages too slowly.
    fn bound_messages(&self, connection: &Rc<Connection>) {
        let config = self.config();
        let bytes = connection.pending_bytes() as u64;
        let over = |bytes_max: u64| bytes_max > 0 && bytes > bytes_max;
        let now = self.reactor.now();
        let since = connection.slow_since.get().unwrap_or(now);
        let is_slow = over(config.pubsub.soft_bytes);
        connection.slow_since.set(is_slow.then_some(since));
        let patience = Duration::from_secs(u64::from(config.pubsub.soft_s));
        if over(config.pubsub.hard_bytes) || (is_slow && now.since(since) > patience) {
            connection.is_dropped.set(true);
            connection.replies.borrow_mut().drop_messages();
            connection.sender.shut_down();
            ShardCounters::add(&self.counters().subscribers_dropped, 1);
            tracing::info!(
                "connection {} takes its messages too slowly: {bytes} bytes wait; it is closed",
                connection.id
            );
        }
    }

    /// Looks at the subscribers that were slow: called each tick, since one that is sent nothing more is slow too.
    pub(crate) fn bound_subscribers(&self) {
        if self.hub.is_empty() {
            return;
        }
        let slow: Vec<Rc<Connection>> = self
            .connections
            .borrow()
            .values()
            .filter(|connection| connection.slow_since.get().is_some())
            .cloned()
            .collect();
        slow.iter()
            .filter(|connection| !connection.is_dropped.get())
            .for_each(|connection| self.bound_messages(connection));
    }

    /// Has the messages of a connection follow as its socket takes them.
    pub(super) fn follow(&self, connection: &Rc<Connection>) {
        if !connection.replies.borrow().is_choked() || connection.is_listed.replace(true) {
            return;
        }
        self.choked.borrow_mut().push(Rc::clone(connection));
    }

    /// Goes on with the connections whose sockets take messages again. Called each turn.
    pub(super) fn release_choked(&self) {
        if self.choked.borrow().is_empty() {
            return;
        }
        let waits = |connection: &Rc<Connection>| {
            let sender = &connection.sender;
            !sender.is_ended() && sender.unsent_bytes() > CHOKED_BYTES / 4
        };
        let all = self.choked.take();
        let (waiting, ready) = all.into_iter().partition(waits);
        *self.choked.borrow_mut() = waiting;
        let ready: Vec<Rc<Connection>> = ready;
        for connection in ready {
            connection.is_listed.set(false);
            self.release_replies(&connection);
        }
    }

    /// Publishes what has come to its turn on a connection.
    pub(super) fn publish_due(&self, connection: &Rc<Connection>, due: Due) {
        match due {
            Due::Counted(publication, is_told) => {
                let published = self.publish_for(publication, connection.id);
                if is_told {
                    let mut reply = Vec::new();
                    let version = connection.version.get();
                    Encoder::new(&mut reply, version).integer(count_of(published.receivers));
                    connection.sender.send(&reply);
                }
                connection
                    .replies
                    .borrow_mut()
                    .add_messages_first(published.own);
            }
            Due::Transaction(all) => {
                let own = all
                    .into_iter()
                    .flat_map(|publication| self.publish_for(publication, connection.id).own);
                let own = own.collect();
                connection.replies.borrow_mut().add_messages_first(own);
            }
        }
    }

    /// Publishes what happened to keys, once `index` of their partition is applied.
    pub(super) fn note_keys(
        &self,
        owned: &mut super::Owned,
        index: Option<Index>,
        all: Vec<Notice>,
    ) {
        match index.filter(|index| *index > owned.waits.told()) {
            Some(index) => owned.waiters.push_back((index, Waiter::Notices(all))),
            None => self.due_notices.borrow_mut().extend(all),
        }
    }

    /// Publishes what happened to keys.
    pub(super) fn tell_notices(&self, all: Vec<Notice>) {
        let classes = self.config().pubsub.keyspace_events;
        for notice in all {
            notice
                .publications(classes)
                .into_iter()
                .for_each(|publication| self.publish_here(publication));
        }
    }

    /// Publishes what waits for nothing: called at the end of a turn.
    pub(super) fn tell_due_notices(&self) {
        let all = self.due_notices.take();
        if !all.is_empty() {
            self.tell_notices(all);
        }
    }

    /// Counts keys that were deleted because they had expired, and tells of them once that is durable.
    pub(crate) fn note_expired(&self, partition: PartitionId, purge: Purge) {
        let users = purge.keys.into_iter().filter(|key| key[0] < DATABASES);
        let users: Vec<Vec<u8>> = users.collect();
        ShardCounters::add(&self.counters().expired, users.len() as u64);
        let classes = self.config().pubsub.keyspace_events;
        if users.is_empty() || !classes.wants(Class::Expired) {
            return;
        }
        let notice = |key: Vec<u8>| Notice {
            event: "expired",
            database: key[0],
            key: key[1..].to_vec(),
        };
        let all = users.into_iter().map(notice).collect();
        let mut data = self.data.borrow_mut();
        self.note_keys(data.owned_mut(partition.0 as usize), purge.wait, all);
    }

    /// Ends all subscriptions of a connection that has ended.
    pub(crate) fn leave_channels(&self, connection: &Rc<Connection>, subscriber: &mut Subscriber) {
        subscriber.leave_all();
        self.take_changes(connection, subscriber);
        connection.replies.borrow_mut().drop_messages();
        debug_assert!(Kind::EVERY.iter().all(|kind| subscriber.count(*kind) == 0));
    }
}

/// Returns a count as it is told.
pub(crate) fn count_of(receivers: u64) -> i64 {
    i64::try_from(receivers).unwrap_or(i64::MAX)
}
