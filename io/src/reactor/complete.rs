//! What completions do to the slots: answers for futures, streams that go on, pause or starve,
//! sends that go on. Not how they are taken from the driver.
//!
//! Invariant: a slot is freed here, or by the future that took the answer of a [`State::Done`].

use std::io;
use std::rc::Rc;

use super::Reactor;
use crate::buffer::Chunk;
use crate::driver::Driver;
use crate::op::{Completion, Handle, Op, OpId, Value};
use crate::slot::{Finished, STREAM_QUEUE_MAX, State, Stream};

impl Reactor {
    pub(super) fn complete(&self, completion: Completion) {
        let Completion { id, result, more } = completion;
        let mut slots = self.0.slots.borrow_mut();
        let Some(state) = slots.state_mut(id) else {
            slots.stale += 1;
            return;
        };
        let result = handle_of(state, result);
        if is_durable(state) {
            self.0.driver.borrow_mut().durable_done();
        }
        if let State::Stream(stream) = state {
            self.complete_stream(id, stream, result, more);
            return;
        }
        if matches!(result, Ok(Value::Released)) {
            drop(slots);
            self.take_back(id);
            return;
        }
        if more && matches!(state, State::Send { .. }) {
            drop(slots);
            self.note_sent(id);
            self.lend(id, result);
            return;
        }
        let Some(result) = self.advance(id, state, result) else {
            return;
        };
        if matches!(state, State::Orphan { .. }) {
            if !more {
                drop(slots.free(id));
            }
            drop(slots);
            self.close_orphan(result);
            return;
        }
        match std::mem::replace(state, State::Free) {
            State::Single { op, waiter } => {
                *state = State::Done(Finished { result, op });
                drop(slots);
                waiter.into_iter().for_each(std::task::Waker::wake);
            }
            State::Send { op, socket } => {
                drop(slots.free(id));
                drop(slots);
                self.note_sent(id);
                socket.sent(self, Some(op), result.map(drop));
            }
            State::Free
            | State::Done(_)
            | State::Lent { .. }
            | State::Stream(_)
            | State::Orphan { .. } => {
                unreachable!("only singles and sends get here")
            }
        }
    }

    /// Moves a partly done read, write or send forward and starts the rest; returns the final
    /// answer once there is one.
    fn advance(
        &self,
        id: OpId,
        state: &mut State,
        result: io::Result<Value>,
    ) -> Option<io::Result<Value>> {
        // An orphan goes on too: what was begun of a write is not left half done because nobody
        // waits for it.
        let (State::Single { op, .. } | State::Send { op, .. } | State::Orphan { op }) = state
        else {
            return Some(result);
        };
        let count = match &result {
            Ok(Value::Count(count)) => *count,
            Err(error) if is_transient(error) || copies_instead(error, op) => 0,
            _ => return Some(result),
        };
        let (done, total) = if let Op::ReadAt { buf, done, .. } | Op::WriteAt { buf, done, .. } = op
        {
            (done, buf.len())
        } else if let Op::Send { data, done, .. } = op {
            (done, data.len())
        } else {
            return Some(result);
        };
        let transient = result.is_err();
        *done += count;
        let (finished, at_end) = (*done == total, count == 0 && !transient);
        if finished || at_end {
            let done = *done;
            if at_end && !finished && !matches!(op, Op::ReadAt { .. }) {
                return Some(Err(io::ErrorKind::WriteZero.into()));
            }
            return Some(Ok(Value::Count(done)));
        }
        self.0.driver.borrow_mut().submit(id, op);
        None
    }

    /// Takes the answer of a send whose bytes the kernel still reads. It need not wait for them: the
    /// rest of it, if there is one, goes as a send of its own, from a copy.
    fn lend(&self, id: OpId, result: io::Result<Value>) {
        let mut slots = self.0.slots.borrow_mut();
        let Some(state) = slots.state_mut(id) else {
            return;
        };
        let State::Send { mut op, socket } = std::mem::replace(state, State::Free) else {
            unreachable!("only a send lends")
        };
        let rest = match result {
            Ok(Value::Count(count)) => rest_of_send(&mut op, count),
            Ok(other) => unreachable!("a send answered {other:?}"),
            Err(error) if is_transient(&error) || copies_instead(&error, &mut op) => {
                Ok(Some(copy_of_send(&op)))
            }
            Err(error) => Err(error),
        };
        socket.lent(&op);
        let sender = Rc::clone(&socket);
        *state = State::Lent { op, socket };
        drop(slots);
        match rest {
            Ok(Some(op)) => {
                self.submit(State::Send { op, socket: sender });
            }
            Ok(None) => sender.sent(self, None, Ok(())),
            Err(error) => sender.sent(self, None, Err(error)),
        }
    }

    /// Takes the bytes of a send back from the kernel.
    fn take_back(&self, id: OpId) {
        let State::Lent { op, socket } = self.0.slots.borrow_mut().free(id) else {
            unreachable!("only what was lent comes back")
        };
        socket.released(self, op);
    }

    /// Closes a file or socket that arrived for nobody.
    pub(super) fn close_orphan(&self, result: io::Result<Value>) {
        if let Ok(Value::Handle(handle)) = result {
            self.start_detached(Op::Close { handle });
        }
    }

    fn complete_stream(
        &self,
        id: OpId,
        stream: &mut Stream,
        result: io::Result<Value>,
        more: bool,
    ) {
        let result = match (&stream.op, result) {
            (Op::Recv { .. }, Ok(Value::Count(_))) => Ok(Value::Chunk(Chunk::heap(Vec::new()))),
            // Streams that nobody reads must not hold the buffers that the others wait for.
            (Op::Recv { .. }, Ok(Value::Chunk(chunk))) if self.is_short_of_chunks() => {
                Ok(Value::Chunk(Chunk::heap(chunk.to_vec())))
            }
            (_, result) => result,
        };
        stream.armed = more;
        if let Err(error) = &result {
            if stream.pausing && error.raw_os_error() == Some(libc::ECANCELED) {
                stream.pausing = false;
                stream
                    .waiter
                    .take()
                    .into_iter()
                    .for_each(std::task::Waker::wake);
                return;
            }
            let out_of_buffers = error.raw_os_error() == Some(libc::ENOBUFS);
            if out_of_buffers {
                self.count(|counters| counters.starved += 1);
            }
            if out_of_buffers || is_transient(error) && !more {
                // With answers in its queue it is as good as paused: who takes the last one arms it
                // again.
                if stream.queue.is_empty() {
                    self.0.starved.borrow_mut().push(id);
                }
                return;
            }
        }
        let last = match &result {
            Ok(Value::Chunk(chunk)) => chunk.is_empty(),
            Ok(_) => false,
            Err(_) => !more,
        };
        stream.ended |= last;
        stream.queue.push_back(result);
        if more && !stream.pausing && stream.queue.len() >= STREAM_QUEUE_MAX {
            stream.pausing = true;
            self.0.driver.borrow_mut().cancel(id);
        }
        stream
            .waiter
            .take()
            .into_iter()
            .for_each(std::task::Waker::wake);
    }

    pub(super) fn has_starved_work(&self) -> bool {
        !self.0.starved.borrow().is_empty() && self.has_free_chunks()
    }

    fn is_short_of_chunks(&self) -> bool {
        match &*self.0.driver.borrow() {
            Driver::Uring(driver) => driver.is_short_of_chunks(),
            Driver::Sim(_) => false,
        }
    }

    fn has_free_chunks(&self) -> bool {
        match &*self.0.driver.borrow() {
            Driver::Uring(driver) => driver.has_free_chunks(),
            Driver::Sim(_) => true,
        }
    }

    /// Arms the streams again that found no receive buffer, once buffers have come back.
    pub(super) fn rearm_starved(&self) {
        if self.0.starved.borrow().is_empty() || !self.has_free_chunks() {
            return;
        }
        for id in std::mem::take(&mut *self.0.starved.borrow_mut()) {
            self.rearm(id);
        }
    }

    pub(super) fn rearm(&self, id: OpId) {
        let mut slots = self.0.slots.borrow_mut();
        match slots.state_mut(id) {
            Some(State::Stream(stream)) if !stream.armed && !stream.ended => {
                stream.armed = true;
                stream.pausing = false;
                self.0.driver.borrow_mut().submit(id, &mut stream.op);
            }
            _ => {}
        }
    }
}

/// Turns the number that the kernel answers an open or accept with into the handle that it is, also
/// for nobody: an orphan's file must be closed.
fn handle_of(state: &State, result: io::Result<Value>) -> io::Result<Value> {
    let op = match state {
        State::Single { op, .. } | State::Orphan { op } => op,
        State::Stream(stream) => &stream.op,
        State::Send { .. } | State::Lent { .. } | State::Free | State::Done(_) => return result,
    };
    match (op, result) {
        (Op::Open { .. } | Op::Accept { .. }, Ok(Value::Count(fd))) => Ok(Value::Handle(Handle(
            i32::try_from(fd).expect("descriptors are ints"),
        ))),
        (_, result) => result,
    }
}

/// Counts the sent bytes; returns a send of those that are left.
fn rest_of_send(op: &mut Op, count: usize) -> io::Result<Option<Op>> {
    let Op::Send { data, done, .. } = op else {
        unreachable!("only sends are counted here")
    };
    *done += count;
    if *done == data.len() {
        return Ok(None);
    }
    if count == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(Some(copy_of_send(op)))
}

/// Returns a send of the bytes that are not sent.
fn copy_of_send(op: &Op) -> Op {
    let Op::Send {
        socket,
        data,
        done,
        zero_copy,
    } = op
    else {
        unreachable!("only sends are sent")
    };
    Op::Send {
        socket: *socket,
        data: data[*done..].to_vec(),
        done: 0,
        zero_copy: *zero_copy,
    }
}

/// Says whether the kernel would not take a send without a copy (it may not lock more memory, or the
/// way out cannot do it); the send then copies.
fn copies_instead(error: &io::Error, op: &mut Op) -> bool {
    let Op::Send { zero_copy, .. } = op else {
        return false;
    };
    let refused = matches!(
        error.raw_os_error(),
        Some(libc::ENOMEM | libc::ENOBUFS | libc::EOPNOTSUPP)
    );
    *zero_copy && refused && {
        *zero_copy = false;
        true
    }
}

/// Errors after which the same call works later.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

fn is_durable(state: &State) -> bool {
    match state {
        State::Single { op, .. } | State::Orphan { op } => {
            matches!(
                op,
                Op::WriteAt { durable: true, .. } | Op::Sync { .. } | Op::SyncDir { .. }
            )
        }
        State::Free
        | State::Done(_)
        | State::Send { .. }
        | State::Lent { .. }
        | State::Stream(_) => false,
    }
}
