//! The driver of production: one io_uring per shard. Turns [`Op`]s into submissions and completions
//! into values; it decides nothing.
//!
//! Invariants:
//! 1. The ring is made and used by one thread (`SINGLE_ISSUER`; `DEFER_TASKRUN` unless a thread of
//!    the kernel takes the submissions).
//! 2. What a submission points to (buffers, paths, addresses) lives in the op's slot or in `side`,
//!    at a stable address, until the op's last completion.
//! 3. Disk writes are never cancelled.

mod bufring;
mod entry;
mod files;
mod polled;
mod setup;
mod steady;

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::{Domain, Protocol, SockAddr, Socket as Socket2, Type};

pub(crate) use bufring::BufRing;

use crate::buffer::{Arena, Chunk, ChunkHome};
use crate::clock::{Board, Known};
use files::Files;
use polled::Polled;
use steady::Steady;

use crate::op::{Completion, Handle, Op, OpId, OpenOptions, Value};
use crate::queue::WakeTarget;
use crate::reactor::Settings;
use crate::sys::{self, EventFd, SystemClock};
use crate::time::{Monotonic, Wall};

/// User data of the read on the wake event, and of cancellations, whose results nobody waits for.
const WAKE: u64 = u64::MAX;
const IGNORED: u64 = u64::MAX - 1;

/// What a submission points to beside the op's own buffers.
#[derive(Debug)]
enum Side {
    None,
    Open(CString, OpenOptions),
    /// The op is counted as in flight on this file.
    File(Handle),
    Path(CString),
    Paths(CString, CString),
    Addr(
        #[expect(dead_code, reason = "read by the kernel")] Box<SockAddr>,
        OwnedFd,
    ),
    Dir(#[expect(dead_code, reason = "kept open while the kernel syncs it")] OwnedFd),
}

/// One io_uring and what belongs to it.
pub(crate) struct Driver {
    ring: IoUring,
    polled: Option<Polled>,
    files: Files,
    chunks: Rc<BufRing>,
    side: Vec<Side>,
    /// Answers that needed no submission.
    ready: Vec<Completion>,
    in_flight: usize,
    event: Arc<EventFd>,
    event_value: Box<[u8; 8]>,
    steady: Steady,
    /// What is known of the wall clock's error.
    clock: Option<Arc<Board>>,
    durable_in_flight: usize,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("uring::Driver")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Sets the ring up on the calling thread.
    ///
    /// # Errors
    /// [`crate::StartError`] names what the kernel or its limits refuse, and the cure.
    pub(crate) fn new(settings: &Settings, arena: &Arena) -> Result<Self, crate::StartError> {
        let ring = setup::ring(settings)?;
        setup::register_arena(&ring, arena);
        setup::register_napi(&ring, settings)?;
        let polled = Polled::new(settings)?;
        let files = Files::register(&ring.submitter(), settings.registered_files);
        let chunks = BufRing::register(
            &ring.submitter(),
            settings.chunk_count,
            settings.chunk_bytes,
        )
        .map_err(|error| crate::StartError::Ring {
            call: "register receive buffers",
            error,
        })?;
        let event = EventFd::new().map_err(|error| crate::StartError::Ring {
            call: "eventfd",
            error,
        })?;
        let mut driver = Self {
            ring,
            polled,
            files,
            chunks,
            side: Vec::new(),
            ready: Vec::new(),
            in_flight: 0,
            event: Arc::new(event),
            event_value: Box::new([0; 8]),
            steady: Steady::new(),
            clock: settings.clock.clone(),
            durable_in_flight: 0,
        };
        driver.arm_wake();
        Ok(driver)
    }

    /// Has the ring keep a lock file open until its last operation has ended.
    pub(crate) fn keep_lock(&self, fd: RawFd) -> io::Result<()> {
        self.files.keep_lock(&self.ring.submitter(), fd)
    }

    pub(crate) fn wake_target(&self) -> WakeTarget {
        WakeTarget::Event(Arc::clone(&self.event))
    }

    /// Returns the time since this driver was made, on a clock that nobody slews.
    pub(crate) fn now(&self) -> Monotonic {
        self.steady.now()
    }

    #[expect(
        clippy::unused_self,
        reason = "the simulated driver's wall clock belongs to its node"
    )]
    pub(crate) fn wall(&self) -> Wall {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Returns the wall clock's time and how far it may be off.
    pub(crate) fn known_time(&self) -> Option<Known> {
        let board = self.clock.as_ref()?;
        board.look(sys::clock(SystemClock::Real), sys::clock(SystemClock::Raw))
    }

    fn arm_wake(&mut self) {
        let pointer = self.event_value.as_mut_ptr();
        let entry = opcode::Read::new(types::Fd(self.event.fd()), pointer, 8)
            .build()
            .user_data(WAKE);
        self.push(&entry);
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: everything the entry points to is owned by the op's slot, by `side`, or by
            // `self` at a stable address until the completion (invariant 2).
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter_now();
            if self.ring.params().is_setup_sqpoll() {
                // The kernel's thread takes entries in its own time.
                let _ = self.ring.submitter().squeue_wait();
            }
        }
    }

    fn enter_now(&mut self) {
        match self.ring.submit() {
            Ok(_) => {}
            // EBUSY: completions must be reaped first; EAGAIN and EINTR: the same call works later.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)
                ) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }

    fn side_mut(&mut self, id: OpId) -> &mut Side {
        let index = id.index as usize;
        if self.side.len() <= index {
            self.side.resize_with(index + 1, || Side::None);
        }
        &mut self.side[index]
    }

    fn answer(&mut self, id: OpId, result: io::Result<Value>) {
        self.ready.push(Completion {
            id,
            result,
            more: false,
        });
    }

    /// Starts an op. It completes through [`Driver::reap`], also when it could not be started.
    pub(crate) fn submit(&mut self, id: OpId, op: &mut Op) {
        if self.read_polled(id, op) {
            return;
        }
        match self.entry(id, op) {
            Ok(Some(entry)) => self.start(id, entry),
            Ok(None) => {}
            Err(error) => self.answer(id, Err(error)),
        }
    }

    fn start(&mut self, id: OpId, entry: squeue::Entry) {
        self.in_flight += 1;
        self.push(&entry.user_data(id.to_bits()));
    }

    /// Begins a read in the ring that polls, when there is one and it takes this read.
    fn read_polled(&mut self, id: OpId, op: &Op) -> bool {
        let (Some(polled), Op::ReadAt { file, .. }) = (&self.polled, op) else {
            return false;
        };
        if !polled.has_room() || !self.files.is_direct(*file) {
            return false;
        }
        self.files.begin(*file);
        *self.side_mut(id) = Side::File(*file);
        self.in_flight += 1;
        let entry = entry::polled_read(op).user_data(id.to_bits());
        let polled = self.polled.as_mut().expect("looked at above");
        polled.push(&entry);
        true
    }

    /// Closes the files whose owners are gone and on which nothing is in flight any more.
    fn close_idle(&mut self) {
        while let Some((fd, id)) = self.files.next_idle(&self.ring.submitter()) {
            self.start(id, opcode::Close::new(types::Fd(fd)).build());
        }
    }

    /// Asks for the end of a stream or a connect. Its last completion still comes.
    pub(crate) fn cancel(&mut self, id: OpId) {
        let entry = opcode::AsyncCancel::new(id.to_bits())
            .build()
            .user_data(IGNORED);
        self.push(&entry);
    }

    /// Takes the completions that have arrived.
    pub(crate) fn reap(&mut self, out: &mut Vec<Completion>) {
        self.steady.look();
        out.append(&mut self.ready);
        let mut woken = false;
        let mut arrived: Vec<(u64, i32, u32)> = Vec::with_capacity(64);
        let mut queue = self.ring.completion();
        queue.sync();
        arrived
            .extend((&mut queue).map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        drop(queue);
        if let Some(polled) = self.polled.as_mut().filter(|polled| polled.is_busy()) {
            polled.reap(&mut arrived);
        }
        for (data, result, flags) in arrived {
            match data {
                WAKE => woken = true,
                IGNORED => {}
                bits => out.push(self.complete(OpId::from_bits(bits), result, flags)),
            }
        }
        if woken {
            self.arm_wake();
        }
    }

    fn complete(&mut self, id: OpId, result: i32, flags: u32) -> Completion {
        let more = cqueue::more(flags);
        if !more {
            self.in_flight -= 1;
        }
        let side = std::mem::replace(self.side_mut(id), Side::None);
        if let Side::File(file) = side {
            self.files.end(file);
        }
        let result = match (usize::try_from(result), side) {
            (Ok(_), _) if cqueue::notif(flags) => Ok(Value::Released),
            (Err(_), _) => Err(io::Error::from_raw_os_error(-result)),
            (Ok(_), Side::Open(_, options)) => {
                self.files.opened(&self.ring.submitter(), result, options);
                Ok(Value::Handle(Handle(result)))
            }
            (Ok(_), Side::Addr(_, socket)) => Ok(Value::Handle(Handle(socket.into_raw_fd()))),
            (Ok(count), _) => Ok(match cqueue::buffer_select(flags) {
                Some(buffer) => {
                    self.chunks.take(buffer);
                    let ring = Rc::clone(&self.chunks);
                    Value::Chunk(Chunk(ChunkHome::Ring {
                        ring,
                        id: buffer,
                        len: count,
                    }))
                }
                None => Value::Count(count),
            }),
        };
        Completion { id, result, more }
    }

    /// Counts a completed durable write or sync, which ends the ban on spinning.
    pub(crate) fn durable_done(&mut self) {
        self.durable_in_flight -= 1;
    }

    pub(crate) fn durable_in_flight(&self) -> bool {
        self.durable_in_flight > 0
    }

    /// Submits what is queued and runs what the kernel has deferred, without waiting.
    pub(crate) fn flush(&mut self) {
        if self.files.has_closing() {
            self.close_idle();
        }
        if let Some(polled) = self.polled.as_mut().filter(|polled| polled.is_busy()) {
            polled.poll();
        }
        let busy = {
            let queue = self.ring.submission();
            !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
        };
        if busy {
            self.enter_now();
        }
    }

    /// Says whether something has completed or could be made to complete by a flush.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.ready.is_empty()
            || self.polled.as_ref().is_some_and(Polled::is_busy)
            || self.ring.submission().taskrun()
            || !self.ring.completion().is_empty()
    }

    /// Submits what is queued and sleeps until a completion or for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let timespec = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&timespec);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }

    /// Cancels all that can be cancelled and waits up to `patience` until nothing is in flight;
    /// says whether it is so. Buffers may be freed only then: closing a ring does not wait for its
    /// IO.
    pub(crate) fn drain(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let all = types::CancelBuilder::any().all();
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(Some(types::Timespec::from(patience)), all);
        let mut out = Vec::new();
        self.flush();
        while self.in_flight > 0 && Instant::now() < deadline {
            let polls = self.polled.as_ref().is_some_and(Polled::is_busy);
            self.wait(Duration::from_millis(if polls { 0 } else { 10 }));
            self.reap(&mut out);
            out.clear();
            self.flush();
        }
        self.in_flight == 0
    }

    /// Opens a listening socket that other shards may share.
    pub(crate) fn listen(&mut self, addr: SocketAddr) -> io::Result<Handle> {
        let socket = Socket2::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit this on Linux.
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?;
        socket.bind(&SockAddr::from(addr))?;
        socket.listen(4096)?;
        Ok(Handle(socket.into_raw_fd()))
    }

    #[expect(
        clippy::unused_self,
        reason = "the simulated driver looks it up in its world"
    )]
    pub(crate) fn local_addr(&self, handle: Handle) -> io::Result<SocketAddr> {
        borrow_socket(handle)
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    #[expect(
        clippy::unused_self,
        reason = "the simulated driver looks it up in its world"
    )]
    pub(crate) fn peer_addr(&self, handle: Handle) -> io::Result<SocketAddr> {
        borrow_socket(handle)
            .peer_addr()?
            .as_socket()
            .ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Keeps the receive buffers alive for ever: the kernel may still write into them.
    pub(crate) fn leak_chunks(&self) {
        std::mem::forget(Rc::clone(&self.chunks));
    }

    /// Says whether more than half of the receive buffers wait to be given back.
    pub(crate) fn is_short_of_chunks(&self) -> bool {
        self.chunks.held() * 2 > self.chunks.count()
    }

    /// Says whether the kernel has a receive buffer to fill.
    pub(crate) fn has_free_chunks(&self) -> bool {
        self.chunks.held() < self.chunks.count()
    }
}

fn borrow_socket(handle: Handle) -> std::mem::ManuallyDrop<Socket2> {
    // SAFETY: the handle is an open socket of this process; ManuallyDrop leaves its ownership where
    // it was.
    std::mem::ManuallyDrop::new(unsafe { Socket2::from_raw_fd(handle.0) })
}
