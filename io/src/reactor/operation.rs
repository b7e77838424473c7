//! The owner's end of one op in flight: a future, or something to look at each turn. Not its bytes,
//! which its slot owns.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::Reactor;
use crate::op::{Op, OpId};
use crate::slot::{Finished, State};

/// An op in flight. Dropping it orphans the op; it does not stop a write.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(super) reactor: Reactor,
    pub(super) id: Option<OpId>,
}

impl Operation {
    /// Takes the answer if it has come, without asking to be woken.
    pub(crate) fn take(&mut self) -> Option<Finished> {
        let id = self.id?;
        let mut slots = self.reactor.0.slots.borrow_mut();
        match slots.state_mut(id) {
            Some(State::Done(_)) => {
                let State::Done(finished) = slots.free(id) else {
                    unreachable!("just matched")
                };
                self.id = None;
                Some(finished)
            }
            _ => None,
        }
    }
}

impl Future for Operation {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Finished> {
        if let Some(finished) = self.take() {
            return Poll::Ready(finished);
        }
        let id = self.id.expect("not polled after it was ready");
        let mut slots = self.reactor.0.slots.borrow_mut();
        match slots.state_mut(id) {
            Some(State::Single { waiter, .. }) => *waiter = Some(context.waker().clone()),
            other => unreachable!("an operation waits in state {other:?}"),
        }
        Poll::Pending
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut slots = self.reactor.0.slots.borrow_mut();
        let Some(state) = slots.state_mut(id) else {
            return;
        };
        match std::mem::replace(state, State::Free) {
            State::Done(finished) => {
                drop(slots.free(id));
                drop(slots);
                self.reactor.close_orphan(finished.result);
            }
            State::Single { op, .. } => {
                let cancels = matches!(op, Op::Connect { .. });
                *state = State::Orphan { op };
                drop(slots);
                if cancels {
                    self.reactor.0.driver.borrow_mut().cancel(id);
                }
            }
            State::Free
            | State::Send { .. }
            | State::Lent { .. }
            | State::Stream(_)
            | State::Orphan { .. } => {
                unreachable!("an operation owns its slot")
            }
        }
    }
}
