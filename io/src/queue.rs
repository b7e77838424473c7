//! The inbox of a shard: a bounded lock-free queue that other threads put messages in, with the
//! handshake that wakes the shard when it sleeps. This is the singular update queue: whatever
//! another core wants of a shard arrives here.
//!
//! The handshake has four states. The shard: `Running` during a turn; `Polling` while it spins;
//! `Sleeping` before it blocks in the kernel. A sender that finds it `Sleeping` moves it to
//! `Notified` and writes to the wake target, once.
//!
//! Invariants (model-checked in `tests/loom.rs`):
//! 1. A message put before the shard's last look at the queue is seen by it; one put after finds
//!    `Sleeping` and wakes it. Both sides put a sequentially consistent fence between their write
//!    and their look, so at least one sees the other.
//! 2. At most one wake-up is written per sleep.

use std::fmt;
use std::sync::Arc as StdArc;

use crate::sync::{AtomicU8, Ordering, fence};

const RUNNING: u8 = 0;
const POLLING: u8 = 1;
const SLEEPING: u8 = 2;
const NOTIFIED: u8 = 3;

/// What wakes a shard that sleeps in the kernel, or in the simulator.
#[derive(Clone, Debug)]
pub(crate) enum WakeTarget {
    /// A write to the event file descriptor that the shard's ring reads.
    Event(StdArc<crate::sys::EventFd>),
    /// The flag that the simulated world looks at.
    Sim(StdArc<crate::sim::SimWake>),
    /// Nothing: the model checker looks at the state alone.
    #[cfg(loom)]
    Model,
}

/// The wake handshake of one shard, shared with everyone who sends to it.
pub struct WakeCell {
    state: AtomicU8,
    target: WakeTarget,
}

impl fmt::Debug for WakeCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeCell")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl WakeCell {
    pub(crate) fn new(target: WakeTarget) -> Self {
        Self {
            state: AtomicU8::new(RUNNING),
            target,
        }
    }

    /// Makes a cell without a target, for the model checker.
    #[cfg(loom)]
    #[must_use]
    pub fn model() -> Self {
        Self::new(WakeTarget::Model)
    }

    /// Wakes the shard if it sleeps. Call it after the message is in the queue; returns whether a
    /// wake-up was written.
    pub fn notify(&self) -> bool {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) != SLEEPING {
            return false;
        }
        let won = self
            .state
            .compare_exchange(SLEEPING, NOTIFIED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if won {
            match &self.target {
                WakeTarget::Event(event) => event.signal(),
                WakeTarget::Sim(flag) => flag.wake(),
                #[cfg(loom)]
                WakeTarget::Model => {}
            }
        }
        won
    }

    /// Says that the shard spins: senders need not write a wake-up.
    pub fn start_polling(&self) {
        self.state.store(POLLING, Ordering::Relaxed);
    }

    /// Says that the shard is about to sleep. It must look at its queues once more after this call,
    /// and sleep only when they are empty.
    pub fn start_sleeping(&self) {
        self.state.store(SLEEPING, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the shard runs again.
    pub fn start_running(&self) {
        self.state.store(RUNNING, Ordering::Relaxed);
    }

    /// Says whether a sender has woken this shard since it began to sleep.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        self.state.load(Ordering::Acquire) == NOTIFIED
    }
}

#[cfg(not(loom))]
pub use bounded::{Inbox, Sender, inbox};

#[cfg(not(loom))]
mod bounded {
    use std::fmt;
    use std::sync::Arc;

    use crossbeam_queue::ArrayQueue;

    use super::WakeCell;

    /// Makes the inbox of a shard with room for `messages_max` messages.
    #[must_use]
    pub fn inbox<T>(wake: Arc<WakeCell>, messages_max: usize) -> (Sender<T>, Inbox<T>) {
        let queue = Arc::new(ArrayQueue::new(messages_max));
        (
            Sender {
                queue: Arc::clone(&queue),
                wake,
            },
            Inbox { queue },
        )
    }

    /// The end that other shards hold.
    pub struct Sender<T> {
        queue: Arc<ArrayQueue<T>>,
        wake: Arc<WakeCell>,
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self {
                queue: Arc::clone(&self.queue),
                wake: Arc::clone(&self.wake),
            }
        }
    }

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Sender")
                .field("queued", &self.queue.len())
                .finish_non_exhaustive()
        }
    }

    impl<T> Sender<T> {
        /// Puts a message in the queue; the shard is woken by the next [`Sender::notify`].
        ///
        /// # Errors
        /// The queue is full: the message comes back, and the sender keeps it and stops taking work
        /// that would add more.
        pub fn push(&self, message: T) -> Result<(), T> {
            self.queue.push(message)
        }

        /// Wakes the shard if it sleeps: once after all the pushes of a turn.
        pub fn notify(&self) {
            self.wake.notify();
        }
    }

    /// The end that the shard itself holds.
    pub struct Inbox<T> {
        queue: Arc<ArrayQueue<T>>,
    }

    impl<T> fmt::Debug for Inbox<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Inbox")
                .field("queued", &self.queue.len())
                .finish_non_exhaustive()
        }
    }

    impl<T> Inbox<T> {
        /// Takes the oldest message.
        #[must_use]
        pub fn pop(&self) -> Option<T> {
            self.queue.pop()
        }

        /// Says whether nothing waits.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.queue.is_empty()
        }
    }
}
