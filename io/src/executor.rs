//! The tasks of one shard: spawn, wake, run. Single-threaded; not a general runtime.
//!
//! Invariants:
//! 1. A task is in the ready queue at most once; waking a finished task does nothing.
//! 2. No borrow of the executor is held while a task runs, so a task may spawn and wake.
//! 3. A waker may be called from any thread without harm, but only a wake from the shard's own
//!    thread is sure to be seen at once: other threads reach a shard through its inbox (`queue`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Which of the ready tasks runs next.
#[derive(Debug)]
pub(crate) enum Order {
    /// First woken, first run.
    Fifo,
    /// A seeded pick, so that a simulated run meets every interleaving.
    Seeded(RefCell<crate::rng::Rng>),
}

struct Ready {
    queue: Mutex<VecDeque<Arc<TaskWaker>>>,
}

struct TaskWaker {
    index: usize,
    generation: u32,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let ready = Arc::clone(&self.ready);
            ready
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_back(self);
        }
    }
}

struct Slot {
    generation: u32,
    /// Absent while the task runs, and when the slot is free.
    task: Option<Task>,
    waker: Option<Arc<TaskWaker>>,
}

/// Runs the tasks of one shard.
pub(crate) struct Executor {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    order: Order,
    live: Cell<usize>,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("live", &self.live.get())
            .finish_non_exhaustive()
    }
}

impl Executor {
    pub(crate) fn new(order: Order) -> Self {
        let ready = Arc::new(Ready {
            queue: Mutex::new(VecDeque::new()),
        });
        Self {
            slots: RefCell::default(),
            free: RefCell::default(),
            ready,
            order,
            live: Cell::new(0),
        }
    }

    /// Takes a task in and makes it ready.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut slots = self.slots.borrow_mut();
            slots.push(Slot {
                generation: 0,
                task: None,
                waker: None,
            });
            slots.len() - 1
        });
        let waker = {
            let slot = &mut self.slots.borrow_mut()[index];
            slot.task = Some(Box::pin(future));
            let (generation, ready) = (slot.generation, Arc::clone(&self.ready));
            let waker = Arc::new(TaskWaker {
                index,
                generation,
                queued: AtomicBool::new(false),
                ready,
            });
            slot.waker = Some(Arc::clone(&waker));
            waker
        };
        self.live.set(self.live.get() + 1);
        waker.wake();
    }

    /// Says whether a task waits to be run.
    pub(crate) fn has_ready(&self) -> bool {
        !self
            .ready
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Returns how many tasks have not finished.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    fn next_ready(&self) -> Option<Arc<TaskWaker>> {
        let mut queue = self
            .ready
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &self.order {
            Order::Fifo => queue.pop_front(),
            Order::Seeded(_) if queue.is_empty() => None,
            Order::Seeded(rng) => {
                let pick = rng.borrow_mut().below(queue.len() as u64);
                queue.swap_remove_back(usize::try_from(pick).expect("below a usize"))
            }
        }
    }

    /// Runs ready tasks until none is left or `polls_max` were run; returns how many were.
    pub(crate) fn run(&self, polls_max: usize) -> usize {
        let mut polls = 0;
        while polls < polls_max {
            let Some(woken) = self.next_ready() else {
                break;
            };
            self.poll(woken);
            polls += 1;
        }
        polls
    }

    fn poll(&self, woken: Arc<TaskWaker>) {
        // Cleared before the poll: a wake that comes during it must queue the task again.
        woken.queued.store(false, Ordering::Release);
        let (index, generation) = (woken.index, woken.generation);
        let task = {
            let slot = &mut self.slots.borrow_mut()[index];
            if slot.generation == generation {
                slot.task.take()
            } else {
                None
            }
        };
        let Some(mut task) = task else { return };
        let waker = Waker::from(woken);
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
        {
            self.slots.borrow_mut()[index].task = Some(task);
            return;
        }
        drop(task);
        let slot = &mut self.slots.borrow_mut()[index];
        slot.generation = slot.generation.wrapping_add(1);
        slot.waker = None;
        self.free.borrow_mut().push(index);
        self.live.set(self.live.get() - 1);
    }

    /// Drops every task. Called once, when the shard ends.
    pub(crate) fn clear(&self) {
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        self.ready
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        drop(slots);
        self.live.set(0);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_task_that_yields_runs_again_and_frees_its_slot() {
        let executor = Executor::new(Order::Fifo);
        let count = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let count = Rc::clone(&count);
            executor.spawn(async move {
                crate::reactor::yield_now().await;
                count.set(count.get() + 1);
            });
        }
        assert_eq!(executor.run(3), 3);
        assert_eq!(count.get(), 0);
        assert_eq!(executor.run(100), 3);
        assert_eq!((count.get(), executor.live()), (3, 0));
        executor.spawn(async {});
        assert_eq!(executor.slots.borrow().len(), 3, "the slots are used again");
    }

    #[test]
    fn a_seeded_order_differs_from_the_order_of_spawning() {
        let executor = Executor::new(Order::Seeded(RefCell::new(crate::rng::Rng::new(7))));
        let seen = Rc::new(RefCell::new(Vec::new()));
        for i in 0..20 {
            let seen = Rc::clone(&seen);
            executor.spawn(async move { seen.borrow_mut().push(i) });
        }
        executor.run(100);
        let seen = seen.borrow();
        assert_eq!(seen.len(), 20);
        assert_ne!(*seen, (0..20).collect::<Vec<_>>());
    }
}
