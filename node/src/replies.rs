//! The replies of one connection, in the order of its commands, each held back until it may leave.
//!
//! A slot is a run of replies that leave together. Replies that wait for the same partition share a
//! slot: it leaves when the highest of their indexes is applied. A command that runs on another
//! shard has a slot of its own, filled when the answer comes.
//!
//! Invariants:
//! 1. Bytes leave in the order in which their commands were read.
//! 2. No byte of a reply leaves before what the reply says is durable.

use std::collections::VecDeque;

use ashlar_consensus::Index;
use ashlar_io::SocketSender;

use crate::message::Ticket;

/// Largest buffer of a slot that is kept for the next one, in bytes.
const SPARE_BYTES_MAX: usize = 64 << 10;
const SPARES_MAX: usize = 4;

/// What holds a slot back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Nothing.
    Open,
    /// The application of an entry, of one of the shard's own partitions.
    Applied { partition: usize, index: Index },
    /// The answer of another shard.
    Remote(Ticket),
}

#[derive(Debug)]
struct Slot {
    gate: Gate,
    bytes: Vec<u8>,
}

/// The replies of one connection.
#[derive(Debug, Default)]
pub struct Replies {
    slots: VecDeque<Slot>,
    held_bytes: usize,
    remote: usize,
    spares: Vec<Vec<u8>>,
}

impl Replies {
    /// Says whether no reply is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the bytes held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Returns how many answers of other shards are awaited.
    #[must_use]
    pub fn remote(&self) -> usize {
        self.remote
    }

    /// Returns the buffer that the next reply is to be appended to. Follow it with
    /// [`Replies::wait`] when the reply waits.
    pub fn out(&mut self) -> &mut Vec<u8> {
        let closed = self
            .slots
            .back()
            .is_none_or(|slot| matches!(slot.gate, Gate::Remote(_)));
        if closed {
            let bytes = self.spares.pop().unwrap_or_default();
            self.slots.push_back(Slot {
                gate: Gate::Open,
                bytes,
            });
        }
        &mut self.slots.back_mut().expect("pushed above").bytes
    }

    /// Holds the last reply back, with those before it in its slot, until `index` of `partition` is
    /// applied. `from` is the length of the buffer before the reply was appended.
    pub fn wait(&mut self, partition: usize, index: Index, from: usize) {
        let Some(slot) = self.slots.back_mut() else {
            return;
        };
        match &mut slot.gate {
            Gate::Open => slot.gate = Gate::Applied { partition, index },
            Gate::Applied {
                partition: same,
                index: highest,
            } if *same == partition => {
                *highest = (*highest).max(index);
            }
            // Another partition's replies: this one needs a slot of its own.
            Gate::Applied { .. } | Gate::Remote(_) => {
                let bytes = slot.bytes.split_off(from);
                self.slots.push_back(Slot {
                    gate: Gate::Applied { partition, index },
                    bytes,
                });
            }
        }
    }

    /// Adds the place of a reply that another shard will send.
    pub fn await_remote(&mut self, ticket: Ticket) {
        // A slot that `out` made and nothing was written to would hold nothing back; it goes.
        if self
            .slots
            .back()
            .is_some_and(|slot| slot.bytes.is_empty() && slot.gate == Gate::Open)
        {
            self.slots.pop_back();
        }
        self.slots.push_back(Slot {
            gate: Gate::Remote(ticket),
            bytes: Vec::new(),
        });
        self.remote += 1;
    }

    /// Fills the place of a reply that another shard has sent.
    pub fn fill(&mut self, ticket: Ticket, bytes: Vec<u8>) {
        if let Some(slot) = self
            .slots
            .iter_mut()
            .find(|slot| slot.gate == Gate::Remote(ticket))
        {
            self.held_bytes += bytes.len();
            *slot = Slot {
                gate: Gate::Open,
                bytes,
            };
            self.remote -= 1;
        }
    }

    /// Sends what may leave. `applied` tells the applied index of a partition of this shard.
    pub fn release(&mut self, sender: &SocketSender, applied: impl Fn(usize) -> Index) {
        while let Some(slot) = self.slots.front() {
            let open = match slot.gate {
                Gate::Open => true,
                Gate::Applied { partition, index } => applied(partition) >= index,
                Gate::Remote(_) => false,
            };
            if !open {
                break;
            }
            let mut slot = self.slots.pop_front().expect("looked at above");
            sender.send_vec(&mut slot.bytes);
            if self.spares.len() < SPARES_MAX && slot.bytes.capacity() <= SPARE_BYTES_MAX {
                self.spares.push(slot.bytes);
            }
        }
        self.held_bytes = self.slots.iter().map(|slot| slot.bytes.len()).sum();
    }
}
