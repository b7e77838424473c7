//! Where a shard's time goes, as far as only its reactor sees it: how long a send takes, and which background task ran
//! longest without a break.
//!
//! Invariant: one send at a time is timed, so that what it costs does not grow with the load.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use super::Reactor;
use crate::op::OpId;
use crate::time::Monotonic;

/// A send whose time is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum SendTime {
    #[default]
    None,
    /// It is on its way since then.
    Sent(OpId, Monotonic),
    /// It took so long.
    Took(Duration),
}

impl Reactor {
    /// Takes in a task that works in the background, so that [`Reactor::take_longest`] can name it.
    pub fn spawn_named(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let reactor = self.clone();
        self.spawn(async move {
            let mut future = pin!(future);
            poll_fn(|context| {
                let from = reactor.read_clock();
                let polled = future.as_mut().poll(context);
                reactor.note_longest(name, reactor.read_clock().since(from));
                polled
            })
            .await;
        });
    }

    fn note_longest(&self, name: &'static str, took: Duration) {
        if self.0.longest.get().is_none_or(|(_, most)| took > most) {
            self.0.longest.set(Some((name, took)));
        }
    }

    /// Returns the named task that ran longest without a break since this was last asked.
    #[must_use]
    pub fn take_longest(&self) -> Option<(&'static str, Duration)> {
        self.0.longest.take()
    }

    /// Returns how long a send took from its submission until the kernel had taken its bytes, once
    /// there is one; then the next send's time is taken.
    #[must_use]
    pub fn take_send_time(&self) -> Option<Duration> {
        match self.0.send_time.get() {
            SendTime::Took(took) => {
                self.0.send_time.set(SendTime::None);
                Some(took)
            }
            _ => None,
        }
    }

    /// Notes the submission of a send, unless another one's time is taken.
    pub(super) fn note_submitted(&self, id: OpId) {
        if matches!(self.0.send_time.get(), SendTime::None) {
            let now = self.read_clock();
            self.0.send_time.set(SendTime::Sent(id, now));
        }
    }

    /// Notes the end of a send, if it is the one whose time is taken. It is at most as late as the
    /// turn that takes its completion.
    pub(super) fn note_sent(&self, id: OpId) {
        if let SendTime::Sent(timed, since) = self.0.send_time.get()
            && timed == id
        {
            let took = self.now().since(since);
            self.0.send_time.set(SendTime::Took(took));
        }
    }
}
