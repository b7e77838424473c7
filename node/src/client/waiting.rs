//! A connection whose command waits for elements. It goes on receiving: so it notices when the client is gone, and its
//! command does not pop for nobody.
//!
//! Invariant: what is received meanwhile is at most [`AHEAD_BYTES_MAX`] and one chunk; then no more is received until
//! the wait is over.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use ashlar_io::Socket;

use super::Client;
use crate::blocked::Ending;
use crate::stats::ShardCounters;

/// Bytes of commands that are kept while one before them waits.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// What a connection got that waits.
enum Got {
    /// All its replies have left.
    Replies,
    /// More of what the client has to say.
    Bytes,
    /// The client is gone.
    End,
}

impl Client {
    /// Waits until the last command is answered; says whether the connection goes on.
    pub(super) async fn await_elements(&mut self, socket: &mut Socket) -> bool {
        self.entry.note_waiting(true);
        let is_there = loop {
            match self.next_while_waiting(socket).await {
                Got::Replies => break true,
                Got::Bytes => {}
                Got::End => break false,
            }
        };
        self.entry.note_waiting(false);
        let blocked = self.connection.blocked.take();
        if let (false, Some((ticket, partition))) = (is_there, blocked) {
            self.core.withdraw(ticket, partition, Ending::Nothing);
        }
        is_there
    }

    async fn next_while_waiting(&mut self, socket: &mut Socket) -> Got {
        let is_full = self.ahead.len() > AHEAD_BYTES_MAX;
        let mut settled = pin!(self.connection.settled(0));
        let mut received = pin!(socket.receive());
        let received = poll_fn(|context| {
            if settled.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            match is_full {
                true => Poll::Pending,
                false => received.as_mut().poll(context).map(Some),
            }
        });
        match received.await {
            None => Got::Replies,
            Some(Ok(chunk)) if !chunk.is_empty() => {
                self.ahead.extend_from_slice(&chunk);
                ShardCounters::add(&self.core.counters().in_bytes, chunk.len() as u64);
                let (now_ms, _) = self.core.now();
                self.connection.active_ms.set(now_ms);
                self.entry.note_active(now_ms);
                Got::Bytes
            }
            Some(_) => Got::End,
        }
    }
}
