//! Waiting for time, or for one's next turn among the tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::Reactor;
use crate::time::Monotonic;
use crate::timer::TimerId;

/// A wait; see [`Reactor::sleep`].
#[derive(Debug)]
pub struct Sleep {
    pub(super) reactor: Reactor,
    pub(super) deadline: Monotonic,
    pub(super) timer: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline <= self.reactor.now() {
            return Poll::Ready(());
        }
        let mut timers = self.reactor.0.timers.borrow_mut();
        let still_set = self
            .timer
            .is_some_and(|id| timers.rewake(id, context.waker()));
        if !still_set {
            let id = timers.set(self.deadline, context.waker().clone());
            drop(timers);
            self.timer = Some(id);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            self.reactor.0.timers.borrow_mut().cancel(id);
        }
    }
}

/// Lets the other ready tasks run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
