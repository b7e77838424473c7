//! A connection as its shard sees it: the sending half of its socket and the replies that are held
//! back. What it receives belongs to its task, in `client`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

use ashlar_consensus::Index;
use ashlar_io::{Monotonic, SocketSender};

use crate::message::Ticket;
use crate::replies::Replies;
use crate::resp::Version;

/// A connection, as the shard sees it.
#[derive(Debug)]
pub struct Connection {
    /// Unique in the life of the node.
    pub id: u64,
    /// Its socket's sending half.
    pub sender: SocketSender,
    /// Its replies.
    pub replies: RefCell<Replies>,
    /// When it last sent something, in milliseconds since 1970.
    pub active_ms: Cell<u64>,
    /// Protocol of what it is sent.
    pub(crate) version: Cell<Version>,
    /// It is among those whose messages wait for their sockets.
    pub(crate) is_listed: Cell<bool>,
    /// Since when more than `pubsub.soft_bytes` wait for it.
    pub(crate) slow_since: Cell<Option<Monotonic>>,
    /// It took messages too slowly and is being closed.
    pub(crate) is_dropped: Cell<bool>,
    /// What it was last put in a waiting list for.
    pub(crate) registered: Cell<(usize, Index)>,
    /// Commands for partitions of its own shard that went to other nodes, or wait for a leader.
    pub(crate) relayed: Cell<u32>,
    /// Its last command that may wait for elements: what it is answered to, and the partition of its keys.
    pub(crate) blocked: Cell<Option<(Ticket, usize)>>,
    pub(crate) waiter: RefCell<Option<Waker>>,
}

impl Connection {
    /// Makes a connection without replies.
    #[must_use]
    pub fn new(id: u64, sender: SocketSender, now_ms: u64) -> Self {
        Self {
            id,
            sender,
            replies: RefCell::default(),
            active_ms: Cell::new(now_ms),
            version: Cell::default(),
            is_listed: Cell::default(),
            slow_since: Cell::default(),
            is_dropped: Cell::default(),
            registered: Cell::default(),
            relayed: Cell::new(0),
            blocked: Cell::default(),
            waiter: RefCell::default(),
        }
    }

    /// Waits until at most `remote` answers of other shards are awaited, and, for 0, until every
    /// reply has left.
    pub async fn settled(&self, remote: usize) {
        poll_fn(|context| {
            let replies = self.replies.borrow();
            if replies.is_empty() || (remote > 0 && replies.remote() <= remote) {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Returns the bytes of replies that have not left the node.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.sender.unsent_bytes() + self.replies.borrow().held_bytes()
    }
}
