//! The owner's end of a stream op: connections that come in, bytes that are received.
//!
//! Invariant: answers lie in the stream's slot until they are taken, so a dropped future loses
//! none.

use std::io;
use std::task::{Context, Poll};

use super::Reactor;
use crate::op::{OpId, Value};
use crate::slot::{State, Stream};

/// A stream of answers: incoming connections or received bytes. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct OpStream {
    pub(super) reactor: Reactor,
    pub(super) id: OpId,
}

impl OpStream {
    /// Takes the next answer; `None` after the last.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Value>>> {
        let mut slots = self.reactor.0.slots.borrow_mut();
        let Some(State::Stream(stream)) = slots.state_mut(self.id) else {
            unreachable!("a stream owns its slot")
        };
        if let Some(answer) = stream.queue.pop_front() {
            return Poll::Ready(Some(answer));
        }
        if stream.ended {
            return Poll::Ready(None);
        }
        stream.waiter = Some(context.waker().clone());
        let paused = !stream.armed;
        drop(slots);
        let starved = self.reactor.0.starved.borrow().contains(&self.id);
        if paused && !starved {
            self.reactor.rearm(self.id);
        }
        Poll::Pending
    }

    /// Says whether an answer waits.
    pub(crate) fn has_next(&self) -> bool {
        let mut slots = self.reactor.0.slots.borrow_mut();
        matches!(slots.state_mut(self.id), Some(State::Stream(stream)) if !stream.queue.is_empty())
    }
}

impl Drop for OpStream {
    fn drop(&mut self) {
        let mut slots = self.reactor.0.slots.borrow_mut();
        let Some(state) = slots.state_mut(self.id) else {
            return;
        };
        let State::Stream(stream) = std::mem::replace(state, State::Free) else {
            unreachable!("a stream owns its slot")
        };
        let Stream {
            op, armed, queue, ..
        } = *stream;
        if armed {
            *state = State::Orphan { op };
        } else {
            drop(slots.free(self.id));
        }
        drop(slots);
        queue
            .into_iter()
            .for_each(|answer| self.reactor.close_orphan(answer));
        if armed {
            self.reactor.0.driver.borrow_mut().cancel(self.id);
        }
    }
}
