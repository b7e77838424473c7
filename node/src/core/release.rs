//! Replies that are let go: to whom, when what they waited for is applied, and what is published when a connection's
//! turn for that has come.

use std::rc::Rc;
use std::task::Waker;

use ashlar_consensus::Index;

use super::{Core, Waiter};
use crate::connection::Connection;
use crate::replies::Due;
use crate::stats::ShardCounters;

impl Core {
    pub(super) fn release(&self, waiter: Waiter) {
        match waiter {
            Waiter::Connection(connection) => self.release_replies(&connection),
            Waiter::Forward(to, ticket, reply, _) => self.reply_to(to, ticket, reply),
            Waiter::Task(waker) => waker.wake(),
            Waiter::Notices(all) => self.tell_notices(all),
        }
    }

    /// Sends the replies of a connection that may leave.
    pub(crate) fn release_replies(&self, connection: &Rc<Connection>) {
        while let Some(due) = self.release_some(connection) {
            self.publish_due(connection, due);
        }
        self.follow(connection);
        self.owe(connection);
        connection.waiter.take().into_iter().for_each(Waker::wake);
    }

    /// Sends the replies that may leave before something is to be published; returns what.
    fn release_some(&self, connection: &Connection) -> Option<Due> {
        let data = self.data.borrow();
        let mut replies = connection.replies.borrow_mut();
        let (sent, due) = replies.release(&connection.sender, |partition| {
            data.owned[partition]
                .as_ref()
                .map_or(Index(0), |owned| owned.waits.told())
        });
        if sent > 0 {
            ShardCounters::add(&self.counters().out_bytes, sent as u64);
        }
        due
    }

    /// Has the replies of a connection released once `index` is applied.
    pub(crate) fn register(&self, connection: &Rc<Connection>, partition: usize, index: Index) {
        if connection.registered.replace((partition, index)) != (partition, index) {
            self.watch_write(partition, index);
            let waiter = Waiter::Connection(Rc::clone(connection));
            self.data
                .borrow_mut()
                .owned_mut(partition)
                .waiters
                .push_back((index, waiter));
        }
    }
}
