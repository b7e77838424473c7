//! Listeners and sockets of a shard. Received bytes come as chunks in the kernel's own buffers;
//! sent bytes are queued and leave with the turn, one send in flight per socket.
//!
//! Invariants:
//! 1. At most one send is in flight per socket, so bytes leave in the order in which they were
//!    queued.
//! 2. After a failed send nothing more is sent; the failure is told by [`Socket::is_broken`] and by
//!    the receive side.
//! 3. A dropped socket is closed once, when all is sent and no byte is lent to the kernel, or reset
//!    when that takes longer than [`Settings::linger_ms`](crate::Settings::linger_ms).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::buffer::Chunk;
use crate::op::{Handle, Op, Value};
use crate::reactor::{OpStream, Reactor};

/// A listening socket: a stream of connections. Other shards may listen on the same address.
#[derive(Debug)]
pub struct Listener {
    reactor: Reactor,
    handle: Handle,
    accepted: OpStream,
}

impl Listener {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// What the operating system said, `AddrInUse` above all.
    pub fn bind(reactor: &Reactor, addr: SocketAddr) -> io::Result<Self> {
        let handle = reactor.driver().listen(addr)?;
        let accepted = reactor.start_stream(Op::Accept { listener: handle });
        Ok(Self {
            reactor: reactor.clone(),
            handle,
            accepted,
        })
    }

    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.reactor.driver().local_addr(self.handle)
    }

    /// Returns the next connection.
    ///
    /// # Errors
    /// Accepting failed, for lack of file descriptors above all; a later call may succeed.
    pub async fn accept(&mut self) -> io::Result<Socket> {
        loop {
            let answer = std::future::poll_fn(|context| self.accepted.poll_next(context)).await;
            match answer {
                Some(Ok(Value::Handle(handle))) => return Ok(Socket::new(&self.reactor, handle)),
                Some(Ok(other)) => unreachable!("accept answered {other:?}"),
                Some(Err(error)) => return Err(error),
                None => {
                    self.accepted = self.reactor.start_stream(Op::Accept {
                        listener: self.handle,
                    })
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reactor.start_detached(Op::Close {
            handle: self.handle,
        });
    }
}

/// What a socket has to send. Shared with the reactor, which sends it.
#[derive(Debug)]
pub(crate) struct SendQueue {
    handle: Handle,
    pending: RefCell<Vec<u8>>,
    spare: RefCell<Vec<u8>>,
    in_flight_bytes: Cell<usize>,
    /// Sent without a copy and not yet given back by the kernel.
    lent_bytes: Cell<usize>,
    /// In the reactor's list of sockets to send for, or with a send in flight.
    scheduled: Cell<bool>,
    broken: Cell<bool>,
    /// Both directions were ended: once is enough, and each time takes a worker of the kernel.
    is_shut: Cell<bool>,
    /// The owner is gone: close when the last send is done.
    closing: Cell<bool>,
    /// Patience with the peer is over: close at once.
    aborted: Cell<bool>,
    closed: Cell<bool>,
    waiters: RefCell<Vec<std::task::Waker>>,
}

/// Largest buffer that a socket keeps for its next send, in bytes; larger ones are freed.
const SPARE_BYTES_MAX: usize = 64 << 10;

impl SendQueue {
    /// Takes what is queued, as one send; one of `zero_copy_bytes` or more is not copied, unless that
    /// is 0.
    pub(crate) fn next_send(&self, zero_copy_bytes: u32) -> Option<Op> {
        if self.broken.get() || self.pending.borrow().is_empty() {
            return None;
        }
        let data = self
            .pending
            .replace(std::mem::take(&mut *self.spare.borrow_mut()));
        self.in_flight_bytes.set(data.len());
        let zero_copy = zero_copy_bytes > 0 && data.len() >= zero_copy_bytes as usize;
        Some(Op::Send {
            socket: self.handle,
            data,
            done: 0,
            zero_copy,
        })
    }

    /// Takes a finished send in, with its bytes unless they are lent, and schedules the next.
    pub(crate) fn sent(self: Rc<Self>, reactor: &Reactor, op: Option<Op>, result: io::Result<()>) {
        self.in_flight_bytes.set(0);
        op.into_iter().for_each(|op| self.keep_spare(op));
        if result.is_err() {
            self.broken.set(true);
            self.pending.borrow_mut().clear();
            // The receive side ends too, which is where the owner looks.
            if !self.closing.get() {
                reactor.start_detached(Op::Shutdown {
                    socket: self.handle,
                });
            }
        }
        self.wake_waiters();
        if !self.pending.borrow().is_empty() {
            reactor.mark_dirty(self);
            return;
        }
        self.idle(reactor);
    }

    fn keep_spare(&self, op: Op) {
        let Op::Send { mut data, .. } = op else {
            unreachable!("only sends end here")
        };
        if data.capacity() <= SPARE_BYTES_MAX {
            data.clear();
            self.spare.replace(data);
        }
    }

    fn wake_waiters(&self) {
        self.waiters
            .take()
            .into_iter()
            .for_each(std::task::Waker::wake);
    }

    /// Counts the bytes of a send that the kernel goes on reading.
    pub(crate) fn lent(&self, op: &Op) {
        self.lent_bytes.set(self.lent_bytes.get() + send_bytes(op));
    }

    /// Takes lent bytes back.
    pub(crate) fn released(&self, reactor: &Reactor, op: Op) {
        self.lent_bytes.set(self.lent_bytes.get() - send_bytes(&op));
        self.keep_spare(op);
        self.close_if_done(reactor);
    }

    /// Nothing is left to send: closes the socket if its owner is gone.
    pub(crate) fn idle(&self, reactor: &Reactor) {
        self.scheduled.set(false);
        self.close_if_done(reactor);
    }

    fn close_if_done(&self, reactor: &Reactor) {
        let waits = self.lent_bytes.get() > 0 && !self.aborted.get();
        if !self.closing.get() || self.scheduled.get() || waits || self.closed.replace(true) {
            return;
        }
        reactor.start_detached(Op::Close {
            handle: self.handle,
        });
    }

    /// Says whether the socket was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Gives up what is left to send; the peer sees a reset.
    pub(crate) fn abort(&self, reactor: &Reactor) {
        self.aborted.set(true);
        self.pending.borrow_mut().clear();
        reactor.start_detached(Op::Abort {
            socket: self.handle,
        });
        // A send in flight fails now, and closes when it has.
        self.close_if_done(reactor);
    }
}

fn send_bytes(op: &Op) -> usize {
    let Op::Send { data, .. } = op else {
        unreachable!("only sends are lent")
    };
    data.len()
}

/// A connected socket. When it is dropped, what is queued is still sent, then it is closed; a peer
/// that does not take it within [`Settings::linger_ms`](crate::Settings::linger_ms) is reset.
#[derive(Debug)]
pub struct Socket {
    reactor: Reactor,
    queue: Rc<SendQueue>,
    received: Option<OpStream>,
}

impl Socket {
    fn new(reactor: &Reactor, handle: Handle) -> Self {
        let queue = Rc::new(SendQueue {
            handle,
            pending: RefCell::default(),
            spare: RefCell::default(),
            in_flight_bytes: Cell::new(0),
            lent_bytes: Cell::new(0),
            scheduled: Cell::new(false),
            broken: Cell::new(false),
            is_shut: Cell::new(false),
            closing: Cell::new(false),
            aborted: Cell::new(false),
            closed: Cell::new(false),
            waiters: RefCell::default(),
        });
        let received = Some(reactor.start_stream(Op::Recv { socket: handle }));
        Self {
            reactor: reactor.clone(),
            queue,
            received,
        }
    }

    /// Connects to `addr`.
    ///
    /// # Errors
    /// What the operating system said.
    pub async fn connect(reactor: &Reactor, addr: SocketAddr) -> io::Result<Self> {
        let answer = reactor.start(Op::Connect { addr }).await.result?;
        let Value::Handle(handle) = answer else {
            unreachable!("a connect answers a handle")
        };
        Ok(Self::new(reactor, handle))
    }

    /// Returns the address of the other side.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.reactor.driver().peer_addr(self.queue.handle)
    }

    /// Returns the next received bytes; an empty chunk is the end. Nothing is lost when the future
    /// is dropped.
    ///
    /// # Errors
    /// What the operating system said, `ConnectionReset` above all.
    pub async fn receive(&mut self) -> io::Result<Chunk> {
        // Absent only within drop.
        let Some(stream) = self.received.as_mut() else {
            return Ok(Chunk::heap(Vec::new()));
        };
        match std::future::poll_fn(|context| stream.poll_next(context)).await {
            Some(Ok(Value::Chunk(chunk))) => Ok(chunk),
            Some(Ok(other)) => unreachable!("receive answered {other:?}"),
            Some(Err(error)) => Err(error),
            None => Ok(Chunk::heap(Vec::new())),
        }
    }

    /// Says whether received bytes wait, so that [`Socket::receive`] would not suspend.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.received.as_ref().is_some_and(OpStream::has_next)
    }

    /// Returns the half of this socket that sends; it may be kept apart and outlives the socket
    /// harmlessly.
    #[must_use]
    pub fn sender(&self) -> SocketSender {
        SocketSender {
            reactor: self.reactor.clone(),
            queue: Rc::clone(&self.queue),
        }
    }

    /// Queues bytes; they leave at the end of the turn.
    pub fn send(&self, bytes: &[u8]) {
        self.sender().send(bytes);
    }

    /// Says whether a send has failed: what was queued after it is lost.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.queue.broken.get()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The receive is cancelled first: closing alone does not end it.
        self.received = None;
        self.queue.closing.set(true);
        self.queue.close_if_done(&self.reactor);
        if !self.queue.is_closed() {
            self.reactor.linger(&self.queue);
        }
        // Nothing is promised to who waits for the sending of a closed socket.
        self.queue.wake_waiters();
    }
}

/// The sending half of a socket.
#[derive(Clone, Debug)]
pub struct SocketSender {
    reactor: Reactor,
    queue: Rc<SendQueue>,
}

impl SocketSender {
    /// Queues bytes; they leave at the end of the turn. On a broken or closed socket they are
    /// dropped.
    pub fn send(&self, bytes: &[u8]) {
        if bytes.is_empty() || self.queue.broken.get() || self.queue.closing.get() {
            return;
        }
        self.queue.pending.borrow_mut().extend_from_slice(bytes);
        self.schedule();
    }

    /// Queues the bytes of a vector and leaves it empty; no byte is copied when nothing else is
    /// queued.
    pub fn send_vec(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() || self.queue.broken.get() || self.queue.closing.get() {
            bytes.clear();
            return;
        }
        {
            let mut pending = self.queue.pending.borrow_mut();
            if pending.is_empty() {
                std::mem::swap(&mut *pending, bytes);
            } else {
                pending.extend_from_slice(bytes);
            }
        }
        bytes.clear();
        self.schedule();
    }

    fn schedule(&self) {
        if !self.queue.scheduled.replace(true) {
            self.reactor.mark_dirty(Rc::clone(&self.queue));
        }
    }

    /// Returns the bytes that are queued or being sent. What was sent without a copy does not count,
    /// though the kernel still reads it: of that there is no more than the kernel would have copied,
    /// and at most one send is kept longer for its last bytes.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.queue.pending.borrow().len() + self.queue.in_flight_bytes.get()
    }

    /// Says whether what is queued is dropped: the socket is closed, or a send has failed.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.queue.broken.get() || self.queue.closing.get()
    }

    /// Waits until at most `bytes` are unsent, or the socket is broken or dropped. Any number of
    /// tasks may wait, each for its own amount.
    pub async fn drained(&self, bytes: usize) {
        std::future::poll_fn(|context| {
            if self.unsent_bytes() <= bytes || self.queue.broken.get() || self.queue.closing.get() {
                return std::task::Poll::Ready(());
            }
            let mut waiters = self.queue.waiters.borrow_mut();
            if !waiters
                .iter()
                .any(|waiter| waiter.will_wake(context.waker()))
            {
                waiters.push(context.waker().clone());
            }
            std::task::Poll::Pending
        })
        .await;
    }

    /// Ends both directions; the receive side then ends too.
    pub fn shut_down(&self) {
        if !self.queue.closing.get() && !self.queue.is_shut.replace(true) {
            self.reactor.start_detached(Op::Shutdown {
                socket: self.queue.handle,
            });
        }
    }
}
