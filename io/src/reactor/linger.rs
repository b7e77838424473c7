//! Sockets that were dropped with bytes still to send, and when patience with their peers ends. Not
//! the sending, nor the reset itself.
//!
//! Invariant: deadlines are in order, since every socket gets the same time.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::Reactor;
use crate::socket::SendQueue;
use crate::time::Monotonic;

/// Dropped sockets, the longest dropped first.
#[derive(Debug)]
pub(super) struct Lingering {
    limit: Duration,
    sockets: VecDeque<(Monotonic, Weak<SendQueue>)>,
}

impl Lingering {
    pub(super) fn new(limit_ms: u32) -> Self {
        Self {
            limit: Duration::from_millis(u64::from(limit_ms)),
            sockets: VecDeque::new(),
        }
    }

    /// Returns when the next socket is to be reset; forgets those that are closed.
    pub(super) fn next_deadline(&mut self) -> Option<Monotonic> {
        while let Some((deadline, socket)) = self.sockets.front() {
            if socket.upgrade().is_some_and(|socket| !socket.is_closed()) {
                return Some(*deadline);
            }
            self.sockets.pop_front();
        }
        None
    }

    fn pop_due(&mut self, now: Monotonic) -> Option<Rc<SendQueue>> {
        self.next_deadline().filter(|deadline| *deadline <= now)?;
        self.sockets.pop_front()?.1.upgrade()
    }
}

impl Reactor {
    /// Gives a dropped socket its time to send what is left.
    pub(crate) fn linger(&self, socket: &Rc<SendQueue>) {
        let mut lingering = self.0.lingering.borrow_mut();
        let deadline = self.now() + lingering.limit;
        lingering
            .sockets
            .push_back((deadline, Rc::downgrade(socket)));
    }

    /// Resets the sockets whose time is over: a peer that never reads must not keep memory here.
    pub(super) fn reset_lingering(&self) {
        loop {
            let due = self.0.lingering.borrow_mut().pop_due(self.now());
            let Some(socket) = due else { return };
            socket.abort(self);
        }
    }
}
