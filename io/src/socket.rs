//! Listeners and sockets of a shard. Received bytes come as chunks in the kernel's own buffers;
//! sent bytes are queued and leave with the turn, one send in flight per socket.
//!
//! Invariants:
//! 1. At most one send is in flight per socket, so bytes leave in the order in which they were
//!    queued.
//! 2. After a failed send nothing more is sent; the failure is told by [`Socket::is_broken`] and by
//!    the receive side.

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
    /// In the reactor's list of sockets to send for, or with a send in flight.
    scheduled: Cell<bool>,
    broken: Cell<bool>,
    /// The owner is gone: close when the last send is done.
    closing: Cell<bool>,
    waiter: RefCell<Option<std::task::Waker>>,
}

/// Largest buffer that a socket keeps for its next send, in bytes; larger ones are freed.
const SPARE_BYTES_MAX: usize = 64 << 10;

impl SendQueue {
    /// Takes what is queued, as one send.
    pub(crate) fn next_send(&self) -> Option<Op> {
        if self.broken.get() || self.pending.borrow().is_empty() {
            return None;
        }
        let data = self
            .pending
            .replace(std::mem::take(&mut *self.spare.borrow_mut()));
        self.in_flight_bytes.set(data.len());
        Some(Op::Send {
            socket: self.handle,
            data,
            done: 0,
        })
    }

    /// Takes a finished send in, and schedules the next.
    pub(crate) fn sent(self: Rc<Self>, reactor: &Reactor, op: Op, result: io::Result<Value>) {
        let Op::Send { mut data, .. } = op else {
            unreachable!("only sends end here")
        };
        self.in_flight_bytes.set(0);
        if data.capacity() <= SPARE_BYTES_MAX {
            data.clear();
            self.spare.replace(data);
        }
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
        self.waiter
            .take()
            .into_iter()
            .for_each(std::task::Waker::wake);
        if !self.pending.borrow().is_empty() {
            reactor.mark_dirty(self);
            return;
        }
        self.idle(reactor);
    }

    /// Nothing is left to send: closes the socket if its owner is gone.
    pub(crate) fn idle(&self, reactor: &Reactor) {
        self.scheduled.set(false);
        if self.closing.get() {
            reactor.start_detached(Op::Close {
                handle: self.handle,
            });
        }
    }
}

/// A connected socket. When it is dropped, what is queued is still sent, then it is closed.
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
            scheduled: Cell::new(false),
            broken: Cell::new(false),
            closing: Cell::new(false),
            waiter: RefCell::default(),
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
        if !self.queue.scheduled.get() {
            self.reactor.start_detached(Op::Close {
                handle: self.queue.handle,
            });
        }
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

    /// Returns the bytes that are queued or being sent.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.queue.pending.borrow().len() + self.queue.in_flight_bytes.get()
    }

    /// Waits until at most `bytes` are unsent, or the socket is broken.
    pub async fn drained(&self, bytes: usize) {
        std::future::poll_fn(|context| {
            if self.unsent_bytes() <= bytes || self.queue.broken.get() || self.queue.closing.get() {
                return std::task::Poll::Ready(());
            }
            *self.queue.waiter.borrow_mut() = Some(context.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }

    /// Ends both directions; the receive side then ends too.
    pub fn shut_down(&self) {
        if !self.queue.closing.get() {
            self.reactor.start_detached(Op::Shutdown {
                socket: self.queue.handle,
            });
        }
    }
}
