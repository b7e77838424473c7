//! A value that a task makes and any number of others wait for. Those who wait may stop waiting;
//! the task goes on.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A value to come.
pub(super) struct Promise<T> {
    value: OnceCell<T>,
    waiting: RefCell<Vec<Waker>>,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self {
            value: OnceCell::new(),
            waiting: RefCell::default(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Promise").field(&self.value.get()).finish()
    }
}

impl<T> Promise<T> {
    /// Gives the value, once, and wakes all who wait for it.
    pub(super) fn keep(&self, value: T) {
        assert!(self.value.set(value).is_ok(), "a promise is kept once");
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Returns the value if it has come.
    pub(super) fn now(&self) -> Option<&T> {
        self.value.get()
    }

    /// Waits for the value.
    pub(super) async fn wait(&self) -> &T {
        poll_fn(|context| {
            if let Some(value) = self.value.get() {
                return Poll::Ready(value);
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
