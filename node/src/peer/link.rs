//! One peer as this shard sees it: its connection if there is one, what waits for it, and what was
//! counted. The tasks that connect are in `connection`.
//!
//! Invariants:
//! 1. A link has at most one connection; a later one replaces it, and what the replaced one still
//!    receives is dropped.
//! 2. Nothing is queued without a connection, and what was queued is dropped with it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use ashlar_consensus::{NodeId, Timestamp};
use ashlar_io::{Monotonic, SocketSender};

use super::Options;
use super::frame::{HEADER_BYTES, Header, Interval};
use super::outbox::Outbox;
use super::patience::Backoff;
use super::status::{State, Status, Tally};
use crate::cluster::Member;
use crate::peer::Identity;

/// The connection of a link.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Tells it from its predecessors.
    pub(crate) number: u64,
    pub(crate) sender: SocketSender,
    pub(crate) since: Monotonic,
    incarnation: u32,
    /// Number of the last frame that was sent.
    sequence: u64,
    sent_at: Monotonic,
}

/// One peer of this shard.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) member: RefCell<Member>,
    pub(crate) connection: RefCell<Option<Connection>>,
    pub(crate) outbox: RefCell<Outbox>,
    /// The largest frame's body that both sides of the connection take.
    pub(crate) frame_bytes_max: Cell<u32>,
    /// The latest life of the peer that was seen.
    pub(crate) incarnation: Cell<u32>,
    pub(crate) tally: Cell<Tally>,
    pub(crate) backoff: Cell<Backoff>,
    pub(crate) state: Cell<State>,
    /// It is no member any more: its tasks end.
    pub(crate) removed: Cell<bool>,
    /// The peer has said of this node that it was removed.
    pub(crate) denies: Cell<bool>,
    /// Why there is no connection, as it was logged last.
    pub(crate) trouble: RefCell<Option<String>>,
}

impl Link {
    pub(crate) fn new(member: Member, state: State) -> Self {
        Self {
            member: RefCell::new(member),
            connection: RefCell::default(),
            outbox: RefCell::default(),
            frame_bytes_max: Cell::default(),
            incarnation: Cell::default(),
            tally: Cell::default(),
            backoff: Cell::default(),
            state: Cell::new(state),
            removed: Cell::default(),
            denies: Cell::default(),
            trouble: RefCell::default(),
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.member.borrow().node
    }

    pub(crate) fn name(&self) -> String {
        self.member.borrow().name.clone()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.member.borrow().addr
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.borrow().is_some()
    }

    /// Says whether `number` is the connection of now.
    pub(crate) fn is_current(&self, number: u64) -> bool {
        let connection = self.connection.borrow();
        connection.as_ref().is_some_and(|of| of.number == number)
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        change(&mut tally);
        self.tally.set(tally);
    }

    /// Takes a connection whose handshake is done.
    pub(crate) fn connect(
        &self,
        number: u64,
        sender: SocketSender,
        incarnation: u32,
        now: Monotonic,
    ) {
        assert!(incarnation >= self.incarnation.get(), "it was judged");
        assert!(!self.is_connected() && self.outbox.borrow().bytes() == 0);
        self.incarnation.set(incarnation);
        self.state.set(State::Connected);
        self.count(|tally| tally.connections += 1);
        *self.connection.borrow_mut() = Some(Connection {
            number,
            sender,
            since: now,
            incarnation,
            sequence: 0,
            sent_at: now,
        });
    }

    /// Ends the connection, if there is one; returns how long it has lasted.
    pub(crate) fn disconnect(&self, now: Monotonic, state: State) -> Option<Duration> {
        let ended = self.connection.take()?;
        // The task that receives is woken by the end of its socket.
        ended.sender.shut_down();
        self.outbox.borrow_mut().clear();
        self.state.set(state);
        let lasted = now.since(ended.since);
        let mut backoff = self.backoff.get();
        backoff.ease(lasted);
        self.backoff.set(backoff);
        Some(lasted)
    }

    /// Returns the bytes that are queued or in the socket's hands.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let connection = self.connection.borrow();
        let unsent = connection.as_ref().map(|of| of.sender.unsent_bytes());
        unsent.unwrap_or(0) + self.outbox.borrow().bytes()
    }

    /// Gives what is queued to the socket; a frame without sections when it was silent for long.
    pub(crate) fn flush(
        &self,
        identity: &Identity,
        (clock, interval): (Timestamp, Interval),
        options: &Options,
        now: Monotonic,
    ) {
        let mut connection = self.connection.borrow_mut();
        let Some(connection) = &mut *connection else {
            return;
        };
        let mut outbox = self.outbox.borrow_mut();
        let idle = now.since(connection.sent_at) >= options.silence / 8;
        // Who does not take what it was sent needs no sign of life.
        let due = idle && connection.sender.unsent_bytes() == 0;
        if outbox.bytes() == 0 && !due {
            return;
        }
        let mut sequence = connection.sequence;
        let mut header = || {
            sequence += 1;
            Header {
                body_bytes: 0,
                body_crc: 0,
                from: identity.node,
                sequence,
                clock,
                interval,
                incarnation: identity.incarnation,
            }
        };
        let sender = &connection.sender;
        let mut tally = self.tally.get();
        let mut send = |frame: &mut Vec<u8>| {
            tally.out_bytes += frame.len() as u64;
            tally.out_frames += 1;
            sender.send_vec(frame);
        };
        if outbox.bytes() == 0 {
            let mut empty = vec![0; HEADER_BYTES];
            header().seal(&mut empty);
            send(&mut empty);
        } else {
            outbox.seal(self.frame_bytes_max.get() as usize, header, send);
        }
        self.tally.set(tally);
        (connection.sequence, connection.sent_at) = (sequence, now);
    }

    pub(crate) fn status(&self) -> Status {
        let Member {
            name, node, addr, ..
        } = self.member.borrow().clone();
        let connection = self.connection.borrow();
        Status {
            node,
            name,
            addr,
            state: self.state.get(),
            incarnation: connection.as_ref().map(|of| of.incarnation),
            unsent_bytes: self.unsent_bytes() as u64,
            tally: self.tally.get(),
            trouble: self.trouble.borrow().clone(),
            backoff: self.backoff.get().bound(),
        }
    }
}
