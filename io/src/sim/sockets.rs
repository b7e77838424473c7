//! What socket operations do in a simulated world: listen, connect, accept, receive, send, close,
//! cancel. Not how bytes travel (`net.rs`).
//!
//! Invariants:
//! 1. A node's addresses are its own: the unspecified and the loopback address stand for the node's
//!    address.
//! 2. Every receive or accept stream ends with exactly one completion without `more`, unless its
//!    shard dies.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::heap::{EndId, Kind};
use super::net::{Attempt, End, Listener, Waiting, Way};
use super::state::{Object, Pending, State, Stream, os};
use crate::op::{Completion, Handle, OpId, Value};

/// Connections that wait to be accepted before more are refused.
const BACKLOG_MAX: usize = 4096;
/// Times a connection request is sent before it fails with `ETIMEDOUT`.
const CONNECT_TRIES: u32 = 6;
/// Wait before a connection request is sent again, in nanoseconds; doubles each time.
const CONNECT_RETRY_NS: u64 = 250_000_000;

/// Returns the address of a node: 10.0.x.y, where x.y is the node's number plus one.
pub(super) fn node_ip(node: u32) -> IpAddr {
    let byte =
        |shift: u32| u8::try_from((node + 1) >> shift & 0xFF).expect("it is masked to 8 bits");
    IpAddr::V4(Ipv4Addr::new(10, byte(16), byte(8), byte(0)))
}

fn own(addr: SocketAddr, node: u32) -> SocketAddr {
    let ip = addr.ip();
    let own = ip.is_unspecified() || ip.is_loopback();
    SocketAddr::new(if own { node_ip(node) } else { ip }, addr.port())
}

impl State {
    fn node_of(&self, shard: u32) -> u32 {
        self.shards[shard as usize].node
    }

    fn free_port(&mut self, node: u32) -> u16 {
        let used = |port| {
            self.net
                .listeners
                .values()
                .any(|l| l.addr == SocketAddr::new(node_ip(node), port))
        };
        let first = self.nodes[&node].next_port;
        let port = (first..=u16::MAX)
            .chain(32_768..first)
            .find(|port| !used(*port));
        let port = port.expect("no world has 32,768 listeners on a node");
        self.node(node).next_port = if port == u16::MAX { 32_768 } else { port + 1 };
        port
    }

    pub(super) fn listen(&mut self, shard: u32, addr: SocketAddr) -> io::Result<Handle> {
        let node = self.node_of(shard);
        let mut addr = own(addr, node);
        if addr.port() == 0 {
            addr.set_port(self.free_port(node));
        }
        for listener in self
            .net
            .listeners
            .values()
            .filter(|listener| listener.addr == addr)
        {
            if listener.shard == shard || self.node_of(listener.shard) != node {
                return Err(os(libc::EADDRINUSE));
            }
        }
        let handle = self.add_handle(shard, Object::Listener);
        let listener = Listener {
            shard,
            addr,
            accept: None,
            backlog: VecDeque::new(),
        };
        self.net.listeners.insert(handle, listener);
        Ok(handle)
    }

    pub(super) fn local_addr(&mut self, shard: u32, handle: Handle) -> io::Result<SocketAddr> {
        match self.object(shard, handle)? {
            Object::File(_) => Err(os(libc::ENOTSOCK)),
            Object::Listener => Ok(self.net.listeners[&handle].addr),
            Object::Socket(end) => self
                .net
                .end(end)
                .map(|end| end.addr)
                .ok_or_else(|| os(libc::EBADF)),
        }
    }

    pub(super) fn peer_addr(&mut self, shard: u32, handle: Handle) -> io::Result<SocketAddr> {
        let end = self.socket(shard, handle)?;
        self.net
            .end(end.peer())
            .map(|end| end.addr)
            .ok_or_else(|| os(libc::ENOTCONN))
    }

    fn socket(&self, shard: u32, handle: Handle) -> io::Result<EndId> {
        match self.object(shard, handle)? {
            Object::Socket(end) => Ok(end),
            Object::File(_) | Object::Listener => Err(os(libc::ENOTSOCK)),
        }
    }

    pub(super) fn accept(&mut self, shard: u32, id: OpId, handle: Handle) {
        match self.net.listeners.get_mut(&handle) {
            Some(listener) if listener.shard == shard && listener.accept.is_none() => {
                listener.accept = Some(id);
                let waiting = std::mem::take(&mut listener.backlog);
                self.arm_stream(shard, id, Stream::Accept(handle));
                for socket in waiting {
                    let result = Ok(Value::Handle(socket));
                    self.complete(
                        shard,
                        Completion {
                            id,
                            result,
                            more: true,
                        },
                    );
                }
            }
            Some(_) => self.answer_soon(shard, id, Err(os(libc::EINVAL))),
            None => self.answer_soon(shard, id, Err(os(libc::EBADF))),
        }
    }

    pub(super) fn connect(&mut self, shard: u32, id: OpId, addr: SocketAddr) {
        let node = self.node_of(shard);
        let to = own(addr, node);
        let from = SocketAddr::new(node_ip(node), self.free_port(node));
        self.net.attempts_made += 1;
        let attempt = self.net.attempts_made;
        self.net.attempts.insert(
            attempt,
            Attempt {
                shard,
                id,
                from,
                to,
                tries: 0,
            },
        );
        self.arm_stream(shard, id, Stream::Connect(attempt));
        let latency = self.draw_latency(node, u32::MAX);
        self.heap.push(self.now() + latency, Kind::Connect(attempt));
    }

    pub(super) fn connect_arrives(&mut self, number: u32) {
        let Some(attempt) = self.net.attempts.get(&number) else {
            return;
        };
        let (shard, to) = (attempt.shard, attempt.to);
        let from_node = self.node_of(shard);
        let open = |listener: &Listener| listener.backlog.len() < BACKLOG_MAX;
        let takers: Vec<Handle> = self
            .net
            .listeners
            .iter()
            .filter(|(_, listener)| listener.addr == to && open(listener))
            .map(|(handle, _)| *handle)
            .collect();
        let to_node = self
            .known_nodes()
            .into_iter()
            .find(|node| node_ip(*node) == to.ip());
        let cut = to_node.is_some_and(|to_node| {
            self.net.is_cut(from_node, to_node) || self.net.is_cut(to_node, from_node)
        });
        if cut {
            self.retry_connect(number);
        } else if takers.is_empty() || self.net_chance(self.faults.net.refuse, "connection refused")
        {
            self.end_connect(number, Err(os(libc::ECONNREFUSED)));
        } else {
            let chosen = takers[self.streams.net.index(takers.len())];
            self.establish(number, chosen);
        }
    }

    fn retry_connect(&mut self, number: u32) {
        let now = self.now();
        let Some(attempt) = self.net.attempts.get_mut(&number) else {
            return;
        };
        attempt.tries += 1;
        if attempt.tries < CONNECT_TRIES {
            let wait = CONNECT_RETRY_NS << attempt.tries;
            self.heap.push(now + wait, Kind::Connect(number));
        } else {
            self.mark("connect timed out");
            self.end_connect(number, Err(os(libc::ETIMEDOUT)));
        }
    }

    /// Answers a connection request, after the way back.
    fn end_connect(&mut self, number: u32, result: io::Result<Value>) {
        let Some(attempt) = self.net.attempts.remove(&number) else {
            return;
        };
        let node = self.node_of(attempt.shard);
        self.shards[attempt.shard as usize]
            .streams
            .remove(&attempt.id);
        let at = self.now() + self.draw_latency(node, u32::MAX);
        self.answer_at(at, attempt.shard, attempt.id, result);
    }

    fn establish(&mut self, number: u32, listener: Handle) {
        let attempt = &self.net.attempts[&number];
        let (client_shard, from, to) = (attempt.shard, attempt.from, attempt.to);
        let server_shard = self.net.listeners[&listener].shard;
        let (client, server) = (self.node_of(client_shard), self.node_of(server_shard));
        let forth = self.draw_latency(client, server);
        let back = self.draw_latency(server, client);
        self.net.conns_made += 1;
        let conn = self.net.conns_made;
        let mut ends = [
            End::new(client_shard, client, from, back),
            End::new(server_shard, server, to, forth),
        ];
        let mut handles = [Handle(0); 2];
        for (side, end) in (0..2_u8).zip(&mut ends) {
            let handle = self.add_handle(end.shard, Object::Socket(EndId { conn, side }));
            end.handle = Some(handle);
            handles[usize::from(side)] = handle;
        }
        self.net.conns.insert(conn, ends);
        self.end_connect(number, Ok(Value::Handle(handles[0])));
        let listener = self
            .net
            .listeners
            .get_mut(&listener)
            .expect("it was chosen just now");
        match listener.accept {
            Some(id) => {
                let result = Ok(Value::Handle(handles[1]));
                self.complete(
                    server_shard,
                    Completion {
                        id,
                        result,
                        more: true,
                    },
                );
            }
            None => listener.backlog.push_back(handles[1]),
        }
    }

    pub(super) fn recv(&mut self, shard: u32, id: OpId, handle: Handle) {
        if let Err(error) = self.arm_recv(shard, id, handle) {
            self.answer_soon(shard, id, Err(error));
        }
    }

    fn arm_recv(&mut self, shard: u32, id: OpId, handle: Handle) -> io::Result<()> {
        let at = self.socket(shard, handle)?;
        let end = self.net.end(at).ok_or_else(|| os(libc::EBADF))?;
        if let Some(errno) = end.error {
            return Err(os(errno));
        }
        if end.recv.is_some() {
            return Err(os(libc::EBUSY));
        }
        end.recv = Some(id);
        let something = !end.inbox.is_empty() || end.ended || end.shut;
        self.arm_stream(shard, id, Stream::Recv(at));
        if something {
            let soon = self.now() + self.streams.schedule.range(300..3_000);
            self.heap.push(soon, Kind::Pump(at));
        }
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        shard: u32,
        id: OpId,
        handle: Handle,
        (bytes, way): (&[u8], Way),
    ) {
        match self.try_send(shard, id, handle, (bytes, way)) {
            Ok(Some(n)) => self.answer_send((shard, id), way, Ok(Value::Count(n))),
            Ok(None) => {}
            Err(error) => self.answer_send((shard, id), way, Err(error)),
        }
    }

    /// Sends what there is room for; returns nothing when the send has to wait.
    fn try_send(
        &mut self,
        shard: u32,
        id: OpId,
        handle: Handle,
        (bytes, way): (&[u8], Way),
    ) -> io::Result<Option<usize>> {
        let from = self.socket(shard, handle)?;
        let end = self.net.end(from).ok_or_else(|| os(libc::EBADF))?;
        if end.error.is_some() || end.shut {
            return Err(os(libc::EPIPE));
        }
        let behind = !end.sends.is_empty();
        let n = if behind {
            0
        } else {
            self.send_bytes(from, bytes)
        };
        if n > 0 || bytes.is_empty() {
            return Ok(Some(n));
        }
        self.mark("send waits for a slow reader");
        self.arm_stream(shard, id, Stream::Send(from));
        let end = self.net.end(from).expect("it was there above");
        let bytes = bytes.to_vec();
        end.sends.push_back(Waiting { id, bytes, way });
        Ok(None)
    }

    pub(super) fn shutdown(&mut self, shard: u32, id: OpId, handle: Handle) {
        let result = self.socket(shard, handle).map(|at| {
            self.shut(at);
            Value::Nothing
        });
        self.answer_soon(shard, id, result);
    }

    pub(super) fn abort(&mut self, shard: u32, id: OpId, handle: Handle) {
        let result = self.socket(shard, handle).map(|at| {
            if let Some(end) = self.net.end(at) {
                end.shut = true;
                end.clear_inbox();
            }
            self.fail_sends(at, libc::EPIPE);
            self.send_reset(at.peer());
            Value::Nothing
        });
        self.answer_soon(shard, id, result);
    }

    fn shut(&mut self, at: EndId) {
        let Some(end) = self.net.end(at) else { return };
        if end.shut {
            return;
        }
        end.shut = true;
        end.clear_inbox();
        let broken = end.error.is_some();
        self.fail_sends(at, libc::EPIPE);
        if !broken {
            self.send_end(at);
        }
        self.end_recv(at, Ok(Value::Chunk(crate::buffer::Chunk::heap(Vec::new()))));
        self.unblock(at.peer());
    }

    pub(super) fn close(&mut self, shard: u32, id: OpId, handle: Handle) {
        let result = self.object(shard, handle).map(|_| {
            self.close_handle(handle);
            Value::Nothing
        });
        self.answer_soon(shard, id, result);
    }

    /// Closes whatever a handle stands for, as when its process ends.
    pub(super) fn close_handle(&mut self, handle: Handle) {
        let Some(owned) = self.handles.remove(&handle) else {
            return;
        };
        match owned.object {
            Object::File(file) => self.close_file(owned.node, file),
            Object::Listener => self.close_listener(handle),
            Object::Socket(end) => self.close_socket(end),
        }
    }

    fn close_listener(&mut self, handle: Handle) {
        let Some(listener) = self.net.listeners.remove(&handle) else {
            return;
        };
        for socket in listener.backlog {
            self.break_socket(socket);
        }
        if let Some(id) = listener.accept {
            self.shards[listener.shard as usize].streams.remove(&id);
            let result = Err(os(libc::ECANCELED));
            self.complete(
                listener.shard,
                Completion {
                    id,
                    result,
                    more: false,
                },
            );
        }
    }

    fn close_socket(&mut self, at: EndId) {
        let Some(end) = self.net.end(at) else { return };
        end.handle = None;
        let (unread, over) = (!end.inbox.is_empty(), end.shut || end.error.is_some());
        end.clear_inbox();
        self.end_recv(at, Err(os(libc::ECANCELED)));
        self.fail_sends(at, libc::ECANCELED);
        if unread {
            // As TCP has it: closing with unread bytes resets the connection.
            self.send_reset(at.peer());
        } else if !over {
            self.send_end(at);
        }
        self.forget_if_closed(at.conn);
    }

    /// Closes a socket so that its peer sees a reset.
    pub(super) fn break_socket(&mut self, handle: Handle) {
        let Some(owned) = self.handles.remove(&handle) else {
            return;
        };
        let Object::Socket(at) = owned.object else {
            return;
        };
        let Some(end) = self.net.end(at) else { return };
        (end.handle, end.recv) = (None, None);
        end.sends.clear();
        end.shut = true;
        self.send_reset(at.peer());
        self.forget_if_closed(at.conn);
    }

    /// Forgets the connection requests of a shard that died.
    pub(super) fn drop_attempts(&mut self, shard: u32) {
        self.net
            .attempts
            .retain(|_, attempt| attempt.shard != shard);
    }

    /// Asks for an op to end; what it was waiting for may still come first.
    pub(super) fn cancel(&mut self, shard: u32, id: OpId) {
        let Some((arming, _)) = self.shards[shard as usize].streams.get(&id) else {
            return;
        };
        let arming = *arming;
        let at_once = self.streams.schedule.coin();
        let delay = if at_once {
            1
        } else {
            self.streams.schedule.range(1..20_000)
        };
        self.schedule(self.now() + delay, Pending::Cancel { shard, id, arming });
    }

    /// Ends an op unless it has ended, or has ended and was armed again.
    pub(super) fn cancel_now(&mut self, shard: u32, id: OpId, arming: u64) {
        let streams = &mut self.shards[shard as usize].streams;
        let Some((_, stream)) = streams.get(&id).filter(|(now, _)| *now == arming) else {
            return;
        };
        let stream = *stream;
        streams.remove(&id);
        let found = match stream {
            Stream::Accept(handle) => {
                let listener = self.net.listeners.get_mut(&handle);
                listener.is_some_and(|listener| listener.accept.take().is_some())
            }
            Stream::Connect(attempt) => self.net.attempts.remove(&attempt).is_some(),
            Stream::Recv(end) | Stream::Send(end) => self.cancel_on_end(end, id, stream),
        };
        assert!(found, "a registered stream waits somewhere");
        self.complete(
            shard,
            Completion {
                id,
                result: Err(os(libc::ECANCELED)),
                more: false,
            },
        );
    }
}
