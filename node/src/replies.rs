//! The replies of one connection, in the order of its commands, each held back until it may leave.
//!
//! A slot is a run of replies that leave together. Replies that wait for the same partition share a
//! slot: it leaves when the highest of their indexes is applied. A command that runs on another
//! shard has a slot of its own, filled when the answer comes. Messages to a subscriber that cannot leave at once have
//! slots of their own, which are neither silenced nor taken back; what a connection publishes itself waits for its turn
//! in one too.
//!
//! Invariants:
//! 1. Bytes leave in the order in which their commands were read, and messages in their order among them.
//! 2. No byte of a reply leaves before what the reply says is durable.
//! 3. Messages leave while the socket has less than [`CHOKED_BYTES`] to send; what is behind them waits with them.

use std::collections::VecDeque;
use std::rc::Rc;

use ashlar_consensus::Index;
use ashlar_io::SocketSender;
use ashlar_partition::planted::{Planted, is_planted};

use crate::core::Core;
use crate::message::Ticket;
use crate::pubsub::Publication;
use crate::resp::count_replies;

/// Largest buffer of a slot that is kept for the next one, in bytes.
const SPARE_BYTES_MAX: usize = 64 << 10;
const SPARES_MAX: usize = 4;
/// Answers of other shards that a connection may await, at most and at first.
const REMOTE_MAX: usize = 1024;
const REMOTE_FIRST: usize = 64;
/// Bytes that those answers may have together, going by the last one.
const REMOTE_BYTES: usize = 4 << 20;

/// Unsent bytes of a socket from which on messages wait, shared with all who get the same.
pub const CHOKED_BYTES: usize = 64 << 10;

/// What holds a slot back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    /// Nothing.
    #[default]
    Open,
    /// The application of an entry, of one of the shard's own partitions.
    Applied { partition: usize, index: Index },
    /// The answer of another shard.
    Remote(Ticket),
}

/// What a slot is, beside the replies in it.
#[derive(Debug, Default)]
enum Role {
    /// Nothing: more replies may be added.
    #[default]
    Replies,
    /// Messages to a subscriber; the number of their bytes.
    Messages(VecDeque<Rc<[u8]>>, usize),
    /// A message to be published when its turn comes, and the place of the reply.
    Publish(Publication),
    /// The one reply of a transaction, and what is published if it was done.
    Transaction(Vec<Publication>),
}

/// What is to be published now: a connection's turn for it has come.
#[derive(Debug)]
pub enum Due {
    /// A message, whose receivers are to be counted, and whether the count is to be sent.
    Counted(Publication, bool),
    /// The messages of a transaction.
    Transaction(Vec<Publication>),
}

#[derive(Debug, Default)]
struct Slot {
    gate: Gate,
    bytes: Vec<u8>,
    /// Its answer is not to be sent.
    muted: bool,
    /// The shard that has to be told when its large answer has left, and how many bytes that has;
    /// replies of this shard may follow it in the slot.
    given: Option<(u32, usize)>,
    role: Role,
}

impl Slot {
    /// Returns the bytes that it holds.
    fn held_bytes(&self) -> usize {
        let more = match &self.role {
            Role::Replies => 0,
            Role::Messages(_, bytes) => *bytes,
            Role::Publish(publication) => publication.bytes(),
            Role::Transaction(all) => all.iter().map(Publication::bytes).sum(),
        };
        self.bytes.len() + more
    }

    /// Says whether the next reply may be added.
    fn takes_replies(&self) -> bool {
        !matches!(self.gate, Gate::Remote(_)) && matches!(self.role, Role::Replies)
    }

    fn is_messages(&self) -> bool {
        matches!(self.role, Role::Messages(..))
    }
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
        self.closed_bytes + self.slots.back().map_or(0, Slot::held_bytes)
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
        self.closed_bytes += self.slots.back().map_or(0, Slot::held_bytes);
        self.slots.push_back(Slot {
            gate,
            bytes,
            ..Slot::default()
        });
    }

    /// Begins a slot that takes one reply and nothing else: that of a transaction.
    pub fn begin_alone(&mut self) {
        self.push(Gate::Open, Vec::new());
    }

    /// Has messages published when the transaction whose reply is last was done.
    pub fn publish_if_done(&mut self, publications: Vec<Publication>) {
        if let Some(slot) = self.slots.back_mut() {
            slot.role = Role::Transaction(publications);
        }
    }

    /// Has a message published when everything before it has left; its reply is made then.
    pub fn publish_in_turn(&mut self, publication: Publication) {
        self.push(Gate::Open, Vec::new());
        if let Some(slot) = self.slots.back_mut() {
            slot.role = Role::Publish(publication);
        }
    }

    /// Says whether a reply is held back, so that what is done now comes before it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let is_open = |slot: &Slot| slot.gate == Gate::Open && matches!(slot.role, Role::Replies);
        !self.slots.iter().all(is_open)
    }

    /// Adds a message, behind everything else.
    pub fn add_message(&mut self, message: &Rc<[u8]>) {
        let message = Rc::clone(message);
        let last = self.slots.back_mut();
        if let Some(Role::Messages(messages, bytes)) = last.map(|slot| &mut slot.role) {
            *bytes += message.len();
            return messages.push_back(message);
        }
        let bytes = message.len();
        self.push(Gate::Open, Vec::new());
        if let Some(slot) = self.slots.back_mut() {
            slot.role = Role::Messages(VecDeque::from([message]), bytes);
        }
    }

    /// Adds messages before everything else: they belong to a reply that has just left.
    pub fn add_messages_first(&mut self, messages: Vec<Rc<[u8]>>) {
        let bytes = messages.iter().map(|message| message.len()).sum();
        if bytes == 0 {
            return;
        }
        self.slots.push_front(Slot {
            role: Role::Messages(messages.into(), bytes),
            ..Slot::default()
        });
        self.count_closed();
    }

    /// Forgets all messages: the connection ends.
    pub fn drop_messages(&mut self) {
        self.slots.retain(|slot| !slot.is_messages());
        self.count_closed();
    }

    /// Says whether the next thing to leave are messages that wait for the socket.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        self.slots.front().is_some_and(Slot::is_messages)
    }

    fn count_closed(&mut self) {
        let closed = self.slots.iter().rev().skip(1);
        self.closed_bytes = closed.map(Slot::held_bytes).sum();
    }

    /// Returns the buffer that the next reply is to be appended to. Follow it with
    /// [`Replies::wait`] when the reply waits.
    ///
    /// # Panics
    /// Never: a slot is there when it is asked for.
    pub fn out(&mut self) -> &mut Vec<u8> {
        let closed = self.slots.back().is_none_or(|slot| !slot.takes_replies());
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
            Some(slot)
                if slot.bytes.is_empty() && slot.gate == Gate::Open && slot.takes_replies() =>
            {
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
        let Slot { muted, role, .. } = std::mem::take(&mut self.slots[at]);
        // Whether a transaction was done is still asked.
        let is_asked = matches!(role, Role::Transaction(_));
        let bytes = if muted && !is_asked {
            Vec::new()
        } else {
            bytes
        };
        self.slots[at] = Slot {
            gate: Gate::Open,
            muted: muted && is_asked,
            given: Core::is_large(bytes.len()).then_some((owner, bytes.len())),
            bytes,
            role,
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
            let waits = matches!(slot.role, Role::Publish(_) | Role::Transaction(_));
            if waits {
                slot.muted |= is_later;
                continue;
            }
            slot.muted |= is_remote && (is_later || !mark.is_remote);
            slot.bytes.truncate(if is_later { 0 } else { mark.bytes });
        }
        self.count_closed();
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
        self.count_closed();
    }

    /// Sends what may leave; returns how many bytes, and what is to be published before more may. `applied` tells the
    /// applied index of a partition of this shard.
    ///
    /// # Panics
    /// Never: a slot that was looked at is there.
    pub fn release(
        &mut self,
        sender: &SocketSender,
        applied: impl Fn(usize) -> Index,
    ) -> (usize, Option<Due>) {
        let (mut sent, mut due) = (0, None);
        while let (Some(slot), None) = (self.slots.front_mut(), &due) {
            let open = match slot.gate {
                Gate::Open => true,
                Gate::Applied { partition, index } => {
                    applied(partition) >= index || is_planted(Planted::RepliesEarly)
                }
                Gate::Remote(_) => false,
            };
            if !open {
                break;
            }
            if let Role::Messages(messages, bytes) = &mut slot.role {
                let done = send_messages(sender, messages);
                *bytes -= done;
                sent += done;
                if !messages.is_empty() {
                    break;
                }
            }
            let mut slot = self.slots.pop_front().expect("looked at above");
            due = due_of(std::mem::take(&mut slot.role), slot.muted, &slot.bytes);
            if slot.muted {
                slot.bytes.clear();
            }
            self.large.extend(slot.given);
            sent += slot.bytes.len();
            sender.send_vec(&mut slot.bytes);
            if self.spares.len() < SPARES_MAX && slot.bytes.capacity() <= SPARE_BYTES_MAX {
                self.spares.push(slot.bytes);
            }
        }
        self.count_closed();
        (sent, due)
    }
}

/// Sends messages while the socket takes some; returns how many bytes.
fn send_messages(sender: &SocketSender, messages: &mut VecDeque<Rc<[u8]>>) -> usize {
    let mut sent = 0;
    while sender.is_ended() || sender.unsent_bytes() < CHOKED_BYTES {
        let Some(message) = messages.pop_front() else {
            break;
        };
        sender.send(&message);
        sent += message.len();
    }
    sent
}

/// Returns what is to be published when a slot leaves, whose reply `reply` is.
fn due_of(role: Role, muted: bool, reply: &[u8]) -> Option<Due> {
    match role {
        Role::Replies | Role::Messages(..) => None,
        Role::Publish(publication) => Some(Due::Counted(publication, !muted)),
        Role::Transaction(all) => {
            let is_done = reply.starts_with(b"*") && !reply.starts_with(b"*-");
            is_done.then_some(Due::Transaction(all))
        }
    }
}

#[cfg(test)]
mod tests;
