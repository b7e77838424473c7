//! Leave to compute: flushes and merges ask for a slice of the shard's time before each piece of
//! work, and the shard grants as many as the turn can bear. How many that is, the shard knows.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::Store;
use super::promise::Promise;

/// Tasks that wait for a slice, in order of asking.
#[derive(Debug, Default)]
pub(super) struct Pace(RefCell<VecDeque<Rc<Promise<()>>>>);

impl Store {
    /// Waits until the shard grants a slice of its time.
    pub(crate) async fn slice(&self) {
        let promise: Rc<Promise<()>> = Rc::default();
        self.pace.0.borrow_mut().push_back(Rc::clone(&promise));
        promise.wait().await;
    }

    /// Returns how many tasks wait for a slice; the shard does not sleep while there are any.
    #[cfg(test)]
    pub(crate) fn slices_waiting(&self) -> usize {
        self.pace.0.borrow().len()
    }

    /// Grants `slices` slices to those who have waited longest; says how many were taken. They run
    /// when the reactor next runs its tasks.
    pub(crate) fn grant_slices(&self, slices: usize) -> usize {
        let mut granted = 0;
        while granted < slices {
            let Some(promise) = self.pace.0.borrow_mut().pop_front() else {
                break;
            };
            // The task of one that nobody else holds is gone.
            granted += usize::from(Rc::strong_count(&promise) > 1);
            promise.keep(());
        }
        granted
    }
}
