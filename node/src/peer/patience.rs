//! How long a task waits: for a future that may never end, and before it tries again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ashlar_io::{Monotonic, Reactor};

/// Least upper bound of a pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// Greatest upper bound of a pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Waits for `future` until `deadline`; `None` when it is over. What is ready at the deadline is
/// taken.
pub(crate) async fn until<T>(
    reactor: &Reactor,
    deadline: Monotonic,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut sleep = pin!(reactor.sleep(deadline.since(reactor.now())));
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        sleep.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Waits for all of `futures`; returns what they answered, in their order.
pub(crate) async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, answer) in waiting.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Pauses between tries: exponential, with full jitter, so that nodes that failed together do not
/// try again together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Returns how long to wait before the next try, at most; doubles with each.
    pub(crate) fn bound(self) -> Duration {
        PAUSE_MIN
            .saturating_mul(1 << self.tries.min(16))
            .min(PAUSE_MAX)
    }

    /// Draws the pause before the next try.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let bound = self.bound();
        self.tries = self.tries.saturating_add(1);
        // 32 random bits are finer than the timer.
        bound.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
    }

    /// Forgets the tries, unless what ended had not `lasted`: who comes and goes at once is as bad
    /// as who does not come.
    pub(crate) fn ease(&mut self, lasted: Duration) {
        if lasted >= PAUSE_MAX {
            self.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_are_jittered_fully() {
        let mut backoff = Backoff::default();
        let bounds: Vec<Duration> = (0..8).map(|_| backoff.next(u64::MAX)).collect();
        let ms: Vec<u128> = bounds.iter().map(Duration::as_millis).collect();
        assert_eq!(ms, [25, 50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.next(0), Duration::ZERO);
        backoff.ease(Duration::from_millis(999));
        assert_eq!(backoff.bound(), PAUSE_MAX);
        backoff.ease(Duration::from_secs(1));
        assert_eq!(backoff.bound(), PAUSE_MIN);
        backoff.tries = u32::MAX;
        assert_eq!(backoff.next(u64::MAX), PAUSE_MAX);
    }
}
