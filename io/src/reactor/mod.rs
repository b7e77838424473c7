//! The reactor of one shard: what a pinned thread has of the machine. It owns the driver, the ops
//! in flight, the timers and the tasks; files, sockets and the log are built on it. It is `!Send`
//! and never shared between threads.
//!
//! A turn, as its owner drives it: [`Reactor::reap`] takes what completed and wakes its tasks;
//! [`Reactor::run_ready`] runs them; the owner does its own work; [`Reactor::park`] sends what the
//! turn queued and sleeps until there is more.
//!
//! Invariants:
//! 1. No borrow of the reactor's parts is held while a task runs.
//! 2. `now` stands still within a turn.
//! 3. An op's buffers are freed only after its last completion (see `slot`); when the reactor is
//!    dropped with ops that cannot be drained, their buffers are leaked instead.

mod complete;
mod linger;
mod operation;
mod settings;
mod sleep;
mod spin;
mod stream;
mod timing;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use operation::Operation;
pub use settings::Settings;
pub use sleep::{Sleep, yield_now};
pub(crate) use stream::OpStream;

use crate::buffer::{Arena, Buf};
use crate::clock::Known;
use crate::driver::Driver;
use crate::executor::{Executor, Order};
use crate::op::{Completion, Op, OpId};
use crate::queue::WakeCell;
use crate::slot::{Slots, State, Stream};
use crate::socket::SendQueue;
use crate::time::{Monotonic, Wall};
use crate::timer::Wheel;
use crate::{StartError, sim, uring};
use linger::Lingering;
use spin::Spin;
use timing::SendTime;

/// Task polls in one call of [`Reactor::run_ready`], so that a turn ends even when tasks keep
/// waking each other.
const POLLS_MAX: usize = 4096;

/// What a reactor has counted since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Calls of [`Reactor::park`].
    pub turns: u64,
    /// Turns that ended in sleep.
    pub sleeps: u64,
    /// Completions taken.
    pub completions: u64,
    /// Completions that nobody waited for any more.
    pub stale: u64,
    /// Streams that found no receive buffer free.
    pub starved: u64,
}

struct Inner {
    driver: RefCell<Driver>,
    slots: RefCell<Slots>,
    timers: RefCell<Wheel>,
    executor: Executor,
    arena: Rc<Arena>,
    wake: Arc<WakeCell>,
    now: Cell<Monotonic>,
    completions: RefCell<Vec<Completion>>,
    dirty: RefCell<VecDeque<Rc<SendQueue>>>,
    starved: RefCell<Vec<OpId>>,
    lingering: RefCell<Lingering>,
    send_zero_copy_bytes: u32,
    spin: RefCell<Spin>,
    counters: Cell<Counters>,
    send_time: Cell<SendTime>,
    /// The named task whose poll took longest since somebody looked.
    longest: Cell<Option<(&'static str, Duration)>>,
}

/// The machine of one shard. Cloning makes another handle to the same one.
#[derive(Clone)]
pub struct Reactor(Rc<Inner>);

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("tasks", &self.0.executor.live())
            .finish_non_exhaustive()
    }
}

impl Reactor {
    /// Sets up a reactor on the kernel, for the calling thread.
    ///
    /// # Errors
    /// [`StartError`]: io_uring is forbidden, the kernel too old, or a limit too low.
    pub fn new(settings: &Settings) -> Result<Self, StartError> {
        let arena = Arena::new(settings.registered_blocks);
        let driver = Driver::Uring(Box::new(uring::Driver::new(settings, &arena)?));
        Ok(Self::with_driver(driver, arena, Order::Fifo, settings))
    }

    /// Sets up a reactor for one shard of a simulated node.
    #[must_use]
    pub fn simulated(world: &sim::World, node: u32, shard: u32) -> Self {
        Self::simulated_with(world, node, shard, &Settings::default())
    }

    /// Sets up a reactor for one shard of a simulated node with other settings. Those of the ring
    /// have no meaning there: what counts is when sends are not copied, and how long sockets linger.
    #[must_use]
    pub fn simulated_with(world: &sim::World, node: u32, shard: u32, settings: &Settings) -> Self {
        let mut driver = Driver::Sim(world.driver(node, shard));
        let order = Order::Seeded(RefCell::new(crate::rng::Rng::new(driver.random())));
        let settings = Settings {
            spin_us_max: 0,
            ..settings.clone()
        };
        Self::with_driver(driver, world.buffers(), order, &settings)
    }

    fn with_driver(driver: Driver, arena: Rc<Arena>, order: Order, settings: &Settings) -> Self {
        let wake = Arc::new(WakeCell::new(driver.wake_target()));
        let now = driver.now();
        Self(Rc::new(Inner {
            driver: RefCell::new(driver),
            slots: RefCell::default(),
            timers: RefCell::new(Wheel::new(now)),
            executor: Executor::new(order),
            arena,
            wake,
            now: Cell::new(now),
            completions: RefCell::default(),
            dirty: RefCell::default(),
            starved: RefCell::default(),
            lingering: RefCell::new(Lingering::new(settings.linger_ms)),
            send_zero_copy_bytes: settings.send_zero_copy_bytes,
            spin: RefCell::new(Spin::new(settings.spin_us_max)),
            counters: Cell::default(),
            send_time: Cell::default(),
            longest: Cell::default(),
        }))
    }

    /// Has the kernel's ring hold the lock of the data directory as long as it has writes in flight,
    /// even after this process was killed.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn keep_lock(&self, lock: &crate::DirLock) -> Result<(), StartError> {
        let kept = match &*self.0.driver.borrow() {
            Driver::Uring(driver) => driver.keep_lock(lock.fd()),
            Driver::Sim(_) => Ok(()),
        };
        let call = "register the lock file";
        kept.map_err(|error| StartError::Ring { call, error })
    }

    /// Returns the time at which this turn began.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        self.0.now.get()
    }

    /// Reads the clock; unlike [`Reactor::now`] it moves within a turn.
    #[must_use]
    pub fn read_clock(&self) -> Monotonic {
        self.0.driver.borrow().now()
    }

    /// Returns the wall clock's time.
    #[must_use]
    pub fn wall(&self) -> Wall {
        self.0.driver.borrow().wall()
    }

    /// Returns the wall clock's time and how far it may be off, if somebody says so who is believed.
    #[must_use]
    pub fn known_time(&self) -> Option<Known> {
        self.0.driver.borrow().known_time()
    }

    /// Returns how long this shard's thread has run, in user space and in the kernel. A simulated
    /// one takes no time.
    #[must_use]
    pub fn cpu_time(&self) -> (Duration, Duration) {
        self.0.driver.borrow().cpu_time()
    }

    /// Returns the memory that this process takes of the machine; a simulated one takes none.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.0.driver.borrow().resident_bytes()
    }

    /// Returns 64 random bits: the kernel's, or the simulated node's.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.driver.borrow_mut().random()
    }

    /// Returns the cell through which other threads wake this shard.
    #[must_use]
    pub fn wake_cell(&self) -> Arc<WakeCell> {
        Arc::clone(&self.0.wake)
    }

    /// Returns a buffer of `bytes` for file IO: a registered block if one is free, heap memory
    /// otherwise. Its content is zero or stale.
    #[must_use]
    pub fn buffer(&self, bytes: usize) -> Buf {
        self.0.arena.take(bytes)
    }

    /// Returns what this reactor has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let stale = self.0.slots.borrow().stale;
        Counters {
            stale,
            ..self.0.counters.get()
        }
    }

    /// Returns how many tasks have not finished.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.0.executor.live()
    }

    /// Takes in a task; it runs in this turn or the next.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.executor.spawn(future);
    }

    /// Waits for `duration`, at a grain of a millisecond.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep {
            reactor: self.clone(),
            deadline: self.now() + duration,
            timer: None,
        }
    }

    /// Runs a future to its end, turn by turn: for start-up, tools and tests; the shard has its own
    /// loop.
    ///
    /// # Panics
    /// On a simulated reactor, which has to be stepped by its world.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        assert!(
            matches!(*self.0.driver.borrow(), Driver::Uring(_)),
            "a simulated reactor is stepped by its world"
        );
        let result = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&result);
        self.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            self.turn();
            let done = result.borrow_mut().take();
            // Also after the last turn: what the future queued is sent before this returns.
            self.park(None, || done.is_some());
            if let Some(value) = done {
                return value;
            }
        }
    }

    /// Reaps and runs: a turn without an owner's work in it.
    pub fn turn(&self) {
        self.reap();
        self.run_ready();
    }

    /// Begins a turn: reads the clock, takes completions, wakes those who wait for them and for
    /// timers.
    pub fn reap(&self) {
        self.0.wake.start_running();
        let mut completions = std::mem::take(&mut *self.0.completions.borrow_mut());
        {
            let mut driver = self.0.driver.borrow_mut();
            driver.reap(&mut completions);
            self.0.now.set(driver.now());
        }
        self.count(|counters| counters.completions += completions.len() as u64);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        *self.0.completions.borrow_mut() = completions;
        self.0.timers.borrow_mut().advance(self.now());
        self.reset_lingering();
        self.rearm_starved();
    }

    /// Runs the tasks that are ready.
    pub fn run_ready(&self) {
        self.0.executor.run(POLLS_MAX);
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.0.counters.get();
        change(&mut counters);
        self.0.counters.set(counters);
    }

    /// Ends a turn: submits what it queued, then sleeps until something completes, a timer is due,
    /// `deadline` comes, or another thread wakes the shard. Returns at once when a task is ready.
    /// `has_mail` looks into the shard's inboxes.
    pub fn park(&self, deadline: Option<Monotonic>, has_mail: impl Fn() -> bool) {
        self.flush_sends();
        self.count(|counters| counters.turns += 1);
        let timer = self.0.timers.borrow().next_deadline();
        let linger = self.0.lingering.borrow_mut().next_deadline();
        let deadline = [deadline, timer, linger].into_iter().flatten().min();
        let busy = self.0.executor.has_ready() || has_mail() || self.has_starved_work();
        let mut driver = self.0.driver.borrow_mut();
        match &mut *driver {
            Driver::Uring(driver) => {
                driver.flush();
                if driver.durable_in_flight() {
                    // Kernel threads on this CPU may have to finish the write: without this a busy
                    // shard keeps them waiting (a tenth more durable writes a second were
                    // measured).
                    crate::sys::yield_cpu();
                }
                if !busy && !driver.has_completions() {
                    self.sleep_in_kernel(driver, deadline, &has_mail);
                }
            }
            Driver::Sim(driver) => {
                self.0.wake.start_sleeping();
                let at_once = busy || has_mail();
                driver.park(if at_once {
                    Some(driver.now())
                } else {
                    deadline
                });
            }
        }
    }

    fn sleep_in_kernel(
        &self,
        driver: &mut uring::Driver,
        deadline: Option<Monotonic>,
        has_mail: &impl Fn() -> bool,
    ) {
        let now = driver.now();
        let timeout = deadline.map_or(Duration::from_secs(60), |deadline| deadline.since(now));
        if timeout.is_zero() {
            return;
        }
        self.0.wake.start_polling();
        if self
            .0
            .spin
            .borrow_mut()
            .spin(driver, now, timeout, has_mail)
        {
            return;
        }
        self.0.wake.start_sleeping();
        if has_mail() {
            return;
        }
        self.count(|counters| counters.sleeps += 1);
        driver.wait(timeout);
    }

    /// Starts an op that a future waits for, or that its owner looks at each turn.
    pub(crate) fn start(&self, op: Op) -> Operation {
        let id = self.submit(State::Single { op, waiter: None });
        Operation {
            reactor: self.clone(),
            id: Some(id),
        }
    }

    /// Starts an op whose answer nobody wants.
    pub(crate) fn start_detached(&self, op: Op) {
        self.submit(State::Orphan { op });
    }

    /// Starts a stream.
    pub(crate) fn start_stream(&self, op: Op) -> OpStream {
        let stream = Stream {
            op,
            waiter: None,
            queue: VecDeque::new(),
            armed: true,
            pausing: false,
            ended: false,
        };
        let id = self.submit(State::Stream(Box::new(stream)));
        OpStream {
            reactor: self.clone(),
            id,
        }
    }

    fn submit(&self, state: State) -> OpId {
        let mut slots = self.0.slots.borrow_mut();
        let id = slots.insert(state);
        let op = match slots.state_mut(id).expect("just inserted") {
            State::Single { op, .. } | State::Orphan { op } | State::Send { op, .. } => op,
            State::Stream(stream) => &mut stream.op,
            State::Free | State::Done(_) | State::Lent { .. } => {
                unreachable!("only ops are submitted")
            }
        };
        self.0.driver.borrow_mut().submit(id, op);
        id
    }

    /// Says that a socket has bytes to send and no send in flight; they leave at the end of the
    /// turn.
    pub(crate) fn mark_dirty(&self, socket: Rc<SendQueue>) {
        self.0.dirty.borrow_mut().push_back(socket);
    }

    /// Submits one send for every socket that has bytes queued.
    fn flush_sends(&self) {
        while let Some(socket) = self.0.dirty.borrow_mut().pop_front() {
            match socket.next_send(self.0.send_zero_copy_bytes) {
                Some(op) => {
                    let id = self.submit(State::Send { op, socket });
                    self.note_submitted(id);
                }
                None => socket.idle(self),
            }
        }
    }

    pub(crate) fn driver(&self) -> std::cell::RefMut<'_, Driver> {
        self.0.driver.borrow_mut()
    }

    /// Drops every task, and waits until the kernel has let go of every buffer.
    pub fn shut_down(&self) {
        self.0.executor.clear();
        self.0.dirty.borrow_mut().clear();
        if !self.0.driver.borrow_mut().drain(Duration::from_secs(2)) {
            let slots = std::mem::take(&mut *self.0.slots.borrow_mut());
            tracing::warn!(
                "{} operations did not end; their buffers are left to the kernel",
                slots.live()
            );
            std::mem::forget(slots);
            std::mem::forget(self.clone());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.executor.clear();
        let drained = self.driver.get_mut().drain(Duration::from_secs(2));
        if !drained {
            std::mem::forget(std::mem::take(self.slots.get_mut()));
            std::mem::forget(Rc::clone(&self.arena));
            if let Driver::Uring(driver) = self.driver.get_mut() {
                driver.leak_chunks();
            }
        }
    }
}
