//! The slots of the ops in flight: who owns each op's bytes and who waits for its answer. Not a
//! queue.
//!
//! Invariants:
//! 1. A slot is freed only by the last completion of its op, never by the future that waits for it:
//!    a dropped future leaves an orphan, whose buffers stay here until the kernel is done with
//!    them.
//! 2. Each freed slot raises its generation; a completion of an older generation is counted and
//!    dropped.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker;

use crate::op::{Op, OpId, Value};
use crate::socket::SendQueue;

/// Most answers that a stream keeps while nobody takes them; then the stream is paused.
pub(crate) const STREAM_QUEUE_MAX: usize = 16;

/// A finished op: its answer, and the op with the buffers that it owned.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) result: io::Result<Value>,
    pub(crate) op: Op,
}

/// A stream op: accept or receive.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) op: Op,
    pub(crate) waiter: Option<Waker>,
    pub(crate) queue: VecDeque<io::Result<Value>>,
    /// The driver has it and will complete it again.
    pub(crate) armed: bool,
    /// It was cancelled because its queue is full; the end that follows is not the stream's.
    pub(crate) pausing: bool,
    /// The last answer is in the queue, or was taken.
    pub(crate) ended: bool,
}

/// Who waits for an op, and in what state it is.
#[derive(Debug)]
pub(crate) enum State {
    Free,
    /// In flight, waited for by a task or looked at each turn.
    Single {
        op: Op,
        waiter: Option<Waker>,
    },
    /// Completed; the answer waits to be taken.
    Done(Finished),
    /// A send of a socket's queue.
    Send {
        op: Op,
        socket: Rc<SendQueue>,
    },
    /// A send that is done and whose bytes the kernel still reads.
    Lent {
        op: Op,
        socket: Rc<SendQueue>,
    },
    Stream(Box<Stream>),
    /// In flight, and nobody wants the answer.
    Orphan {
        op: Op,
    },
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
}

/// All slots of a reactor.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    pub(crate) stale: u64,
}

impl Slots {
    pub(crate) fn insert(&mut self, state: State) -> OpId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                state: State::Free,
            });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 ops in flight")
        });
        let slot = &mut self.slots[index as usize];
        slot.state = state;
        OpId {
            index,
            generation: slot.generation,
        }
    }

    /// Returns the state of a slot of this very generation.
    pub(crate) fn state_mut(&mut self, id: OpId) -> Option<&mut State> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation {
            Some(&mut slot.state)
        } else {
            None
        }
    }

    /// Frees a slot and returns what it held.
    pub(crate) fn free(&mut self, id: OpId) -> State {
        let slot = &mut self.slots[id.index as usize];
        assert_eq!(
            slot.generation, id.generation,
            "a slot is freed by its own op only"
        );
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        std::mem::replace(&mut slot.state, State::Free)
    }

    /// Returns how many ops are in flight or wait to be taken.
    pub(crate) fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
