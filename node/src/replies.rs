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

use crate::core::Core;
use crate::message::Ticket;
use crate::resp::count_replies;

/// Largest buffer of a slot that is kept for the next one, in bytes.
const SPARE_BYTES_MAX: usize = 64 << 10;
const SPARES_MAX: usize = 4;
/// Answers of other shards that a connection may await, at most and at first.
const REMOTE_MAX: usize = 1024;
const REMOTE_FIRST: usize = 64;
/// Bytes that those answers may have together, going by the last one.
const REMOTE_BYTES: usize = 4 << 20;

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
    /// Its answer is not to be sent.
    muted: bool,
    /// The shard that has to be told when its large answer has left, and how many bytes that has;
    /// replies of this shard may follow it in the slot.
    given: Option<(u32, usize)>,
}

/// Where the replies of a connection ended at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyMark {
    slots: usize,
    bytes: usize,
    is_remote: bool,
}

/// The replies of one connection.
#[derive(Debug)]
pub struct Replies {
    slots: VecDeque<Slot>,
    /// Bytes of all slots but the last, which still grows.
    closed_bytes: usize,
    /// Answers of other shards that are awaited.
    remote: usize,
    /// How many may be: few at first and where they are large, so that a connection cannot ask for
    /// more memory than it reads.
    remote_max: usize,
    /// Large answers that were sent: by which shard they were given, and their bytes.
    large: Vec<(u32, usize)>,
    spares: Vec<Vec<u8>>,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            slots: VecDeque::new(),
            closed_bytes: 0,
            remote: 0,
            remote_max: REMOTE_FIRST,
            large: Vec::new(),
            spares: Vec::new(),
        }
    }
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
        self.closed_bytes + self.slots.back().map_or(0, |slot| slot.bytes.len())
    }

    /// Returns how many answers of other shards are awaited.
    #[must_use]
    pub fn remote(&self) -> usize {
        self.remote
    }

    /// Returns how many answers of other shards may be awaited at once, for replies as large as the
    /// last ones were.
    #[must_use]
    pub fn remote_max(&self) -> usize {
        self.remote_max
    }

    /// Says whether large answers of other shards were sent that [`Replies::take_large`] has not
    /// told of.
    #[must_use]
    pub fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// Tells of the large answers that were sent: by which shards they were given, and their bytes.
    pub fn take_large(&mut self) -> Vec<(u32, usize)> {
        std::mem::take(&mut self.large)
    }

    fn push(&mut self, gate: Gate, bytes: Vec<u8>) {
        self.closed_bytes += self.slots.back().map_or(0, |slot| slot.bytes.len());
        self.slots.push_back(Slot {
            gate,
            bytes,
            muted: false,
            given: None,
        });
    }

    /// Returns the buffer that the next reply is to be appended to. Follow it with
    /// [`Replies::wait`] when the reply waits.
    ///
    /// # Panics
    /// Never: a slot is there when it is asked for.
    pub fn out(&mut self) -> &mut Vec<u8> {
        let closed = self
            .slots
            .back()
            .is_none_or(|slot| matches!(slot.gate, Gate::Remote(_)));
        if closed {
            let bytes = self.spares.pop().unwrap_or_default();
            self.push(Gate::Open, bytes);
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
                self.push(Gate::Applied { partition, index }, bytes);
            }
        }
    }

    /// Adds the place of a reply that another shard will send.
    pub fn await_remote(&mut self, ticket: Ticket) {
        match self.slots.back_mut() {
            // One that `out` made and nothing was written to.
            Some(slot) if slot.bytes.is_empty() && slot.gate == Gate::Open => {
                slot.gate = Gate::Remote(ticket);
            }
            _ => self.push(Gate::Remote(ticket), Vec::new()),
        }
        self.remote += 1;
    }

    /// Fills the place of a reply that another shard, `owner`, has sent.
    pub fn fill(&mut self, ticket: Ticket, owner: u32, bytes: Vec<u8>) {
        let gate = Gate::Remote(ticket);
        let Some(at) = self.slots.iter().position(|slot| slot.gate == gate) else {
            return;
        };
        if at + 1 < self.slots.len() {
            self.closed_bytes += bytes.len();
        }
        let fitting = (REMOTE_BYTES / bytes.len().max(1)).clamp(1, REMOTE_MAX);
        self.remote_max = (self.remote_max + 1).min(fitting);
        let bytes = if self.slots[at].muted {
            Vec::new()
        } else {
            bytes
        };
        self.slots[at] = Slot {
            gate: Gate::Open,
            muted: false,
            given: Core::is_large(bytes.len()).then_some((owner, bytes.len())),
            bytes,
        };
        self.remote -= 1;
    }

    /// Returns where the replies end now.
    #[must_use]
    pub fn mark(&self) -> ReplyMark {
        let last = self.slots.back();
        ReplyMark {
            slots: self.slots.len(),
            bytes: last.map_or(0, |slot| slot.bytes.len()),
            is_remote: last.is_some_and(|slot| matches!(slot.gate, Gate::Remote(_))),
        }
    }

    /// Takes back what was added behind a mark, answers of other shards that have not come included.
    pub fn forget(&mut self, mark: ReplyMark) {
        let last = mark.slots.saturating_sub(1);
        for (at, slot) in self.slots.iter_mut().enumerate().skip(last) {
            let is_later = at >= mark.slots;
            let is_remote = matches!(slot.gate, Gate::Remote(_));
            slot.muted |= is_remote && (is_later || !mark.is_remote);
            slot.bytes.truncate(if is_later { 0 } else { mark.bytes });
        }
        let closed = self.slots.iter().rev().skip(1);
        self.closed_bytes = closed.map(|slot| slot.bytes.len()).sum();
    }

    /// Puts an error in the place of every reply that waits for an entry of a partition behind what is
    /// applied: nobody knows what becomes of it.
    pub fn fail(&mut self, (partition, applied): (usize, Index), error: &[u8]) {
        for slot in &mut self.slots {
            let waits = matches!(
                slot.gate,
                Gate::Applied { partition: of, index } if of == partition && index > applied
            );
            if !waits {
                continue;
            }
            let replies = count_replies(&slot.bytes);
            slot.bytes.clear();
            for _ in 0..replies {
                slot.bytes.push(b'-');
                slot.bytes.extend_from_slice(error);
                slot.bytes.extend_from_slice(b"\r\n");
            }
            slot.gate = Gate::Open;
        }
    }

    /// Sends what may leave; returns how many bytes. `applied` tells the applied index of a partition
    /// of this shard.
    ///
    /// # Panics
    /// Never: a slot that was looked at is there.
    pub fn release(&mut self, sender: &SocketSender, applied: impl Fn(usize) -> Index) -> usize {
        let mut sent = 0;
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
            self.large.extend(slot.given);
            sent += slot.bytes.len();
            sender.send_vec(&mut slot.bytes);
            if self.spares.len() < SPARES_MAX && slot.bytes.capacity() <= SPARE_BYTES_MAX {
                self.spares.push(slot.bytes);
            }
        }
        let closed = self.slots.iter().rev().skip(1);
        self.closed_bytes = closed.map(|slot| slot.bytes.len()).sum();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_counts_as_held() {
        let mut replies = Replies::default();
        replies.out().extend_from_slice(b"+OK\r\n");
        assert_eq!(replies.held_bytes(), 5);
        replies.wait(0, Index(1), 0);
        replies.out().extend_from_slice(b"+PONG\r\n");
        replies.await_remote(Ticket(1));
        replies.out().extend_from_slice(b":1\r\n");
        assert_eq!(replies.held_bytes(), 16);
        replies.fill(Ticket(1), 1, b"$1\r\nx\r\n".to_vec());
        assert_eq!(replies.held_bytes(), 23);
        assert_eq!(replies.remote(), 0);
    }

    #[test]
    fn what_is_taken_back_never_leaves() {
        let mut replies = Replies::default();
        let mut kept = Vec::new();
        for (ticket, mark) in (1..).zip([None, Some(()), None, Some(())]) {
            let before = replies.mark();
            replies.out().extend_from_slice(b"+OK\r\n");
            replies.wait(0, Index(ticket), 0);
            replies.await_remote(Ticket(ticket));
            match mark {
                Some(()) => replies.forget(before),
                None => kept.extend_from_slice(b"+OK\r\n:1\r\n"),
            }
        }
        (1..5).for_each(|ticket| replies.fill(Ticket(ticket), 1, b":1\r\n".to_vec()));
        let bytes: Vec<u8> = replies
            .slots
            .iter()
            .flat_map(|slot| slot.bytes.clone())
            .collect();
        assert_eq!((bytes, replies.remote()), (kept, 0));
    }

    #[test]
    fn large_answers_of_other_shards_leave_room_for_few() {
        let mut replies = Replies::default();
        let mut answer = |n: u64, bytes: usize| {
            replies.await_remote(Ticket(n));
            replies.fill(Ticket(n), 1, vec![b'x'; bytes]);
            replies.remote_max()
        };
        let small = (1..2000).map(|n| answer(n, 5)).last();
        assert_eq!(small, Some(REMOTE_MAX));
        assert_eq!(answer(2000, 1 << 20), 4);
        assert_eq!(answer(2001, 64 << 20), 1);
        assert_eq!(answer(2002, 5), 2);
    }
}
