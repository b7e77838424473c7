//! A replica that is one of several: what the consensus core decides, done. Messages come in and go
//! out as bytes; the core is told what the log has made durable; entries of a leader take their place
//! in the follower's log exactly as they are.
//!
//! It adds to what a lone replica does, and moves nothing: the leader's entries are opened, sealed and
//! applied by the same code ([`crate::replica`]), and a follower applies blindly.
//!
//! Invariants:
//! 1. The core knows an entry exactly when the shard's log has been given it.
//! 2. A ballot is given to the log before the entries and the messages that follow from it, and these
//!    messages leave after it is durable.
//! 3. What is applied is committed, durable here, and never taken back.

mod feed;
mod places;
mod received;

use std::collections::VecDeque;

use ashlar_consensus::message::{self, Append, EntryKind, EntryMeta, Message, Metas, Outgoing};
use ashlar_consensus::raft::{self, Accepted, Ballot, Gate, LogMark, Output, OwnEntry, Raft, Role};
use ashlar_consensus::{Clock, Index, Member, Mono, NodeId, ReplicaId, Supports};
use ashlar_io::wal::{Mark, Wal};

use self::places::Places;
use self::received::{addresses, check_entries, entries_of};
use crate::ballot::BallotRecord;
use crate::command::{EntryHeader, Malformed, chain_of, members_of};
use crate::outbox::{Feed, Outbox, Urgency};
use crate::planted::{Planted, is_planted};
use crate::replica::{Entry, Replica};

/// Bytes of applied entries that a replica keeps in memory for others, unless the shard says
/// otherwise.
const KEEP_BYTES: usize = 1 << 20;

/// How many times as many are kept while a snapshot is being sent that ends before them.
const KEEP_FACTOR: usize = 16;

/// What a group needs of its shard in one turn.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The time, as of when this turn's input was received.
    pub now: Mono,
    /// What nodes have promised each other.
    pub supports: &'a Supports,
    /// The shard's log.
    pub wal: &'a mut Wal,
    /// The shard's clock.
    pub clock: &'a mut Clock,
    /// Takes the messages.
    pub outbox: &'a mut Outbox,
}

/// What a replica has beside its log because there are others.
#[derive(Debug)]
pub(crate) struct Group {
    me: Member,
    pub(crate) raft: Raft,
    out: Output,
    /// Applied entries that others may still need, up to the last applied.
    kept: VecDeque<Entry>,
    kept_bytes: usize,
    /// Most bytes of them.
    pub(crate) keep_bytes: usize,
    /// Where in the log entries are that are not kept any more.
    places: Places,
    /// Entries that were read back from the log, while they are sent.
    lent: VecDeque<Entry>,
    /// What the core is to be told when the log has made so much durable.
    marks: VecDeque<(Mark, LogMark)>,
    /// What the log was given last.
    written: Mark,
    /// Entries from this one on are all kept: a snapshot ends before it.
    keep_from: Option<Index>,
    /// Who is to lead instead of this replica.
    successor: Option<ReplicaId>,
    /// A snapshot that the log is being given, or has been given.
    installing: Option<raft::Snapshot>,
    /// The log has it; the core was not told yet.
    is_installed: bool,
    /// The newest ballot.
    pub(crate) ballot: Option<BallotRecord>,
}

impl Group {
    /// Makes the group of a recovered replica. All that `raft` knows is durable.
    pub(crate) fn new(me: Member, raft: Raft, ballot: Option<BallotRecord>) -> Self {
        Self {
            me,
            raft,
            out: Output::default(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            keep_bytes: KEEP_BYTES,
            places: Places::default(),
            lent: VecDeque::new(),
            written: Mark(0),
            marks: VecDeque::new(),
            keep_from: None,
            successor: None,
            installing: None,
            is_installed: false,
            ballot,
        }
    }

    /// Says whether the replica leads and has a lease.
    pub(crate) fn serves(&self, now: Mono, supports: &Supports) -> bool {
        self.raft.serves_reads(now, supports) || is_planted(Planted::ServesWithoutLease)
    }

    /// Keeps an applied entry for others, and lets go of the oldest that need not be kept.
    pub(crate) fn keep(&mut self, entry: Entry) -> Option<Entry> {
        self.kept_bytes += entry.bytes.len();
        self.kept.push_back(entry);
        let mut gone = None;
        while self.kept_bytes > self.kept_bytes_max() {
            gone = self.kept.pop_front();
            let entry = gone.as_ref()?;
            self.kept_bytes -= entry.bytes.len();
            let (index, position) = (entry.index, entry.position);
            self.places.note(index, position);
            self.raft.released(index.next());
        }
        gone
    }

    /// Returns how many bytes of entries are kept, going by the oldest.
    fn kept_bytes_max(&self) -> usize {
        let oldest = self.kept.front().map(|entry| entry.index);
        match self.keep_from {
            Some(from) if oldest.is_some_and(|oldest| oldest >= from) => {
                self.keep_bytes.saturating_mul(KEEP_FACTOR)
            }
            Some(_) | None => self.keep_bytes,
        }
    }

    /// Forgets all entries: the log begins behind a snapshot.
    pub(crate) fn reset(&mut self) {
        self.kept.clear();
        self.places.clear();
        self.kept_bytes = 0;
        self.marks.clear();
        self.is_installed = self.installing.is_some();
    }

    /// Returns the bytes of the entries that are kept.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Notes that the log has been given all that the core knows, up to `written`.
    fn note_written(&mut self, written: Mark) {
        self.written = written;
        let mark = self.raft.mark();
        match self.marks.back_mut() {
            Some(last) if last.0 == written => last.1 = mark,
            _ => self.marks.push_back((written, mark)),
        }
    }

    /// Notes a ballot in the log.
    fn vote(&mut self, replica: &Replica, ballot: &Ballot, wal: &mut Wal) {
        let record = BallotRecord {
            partition: replica.partition,
            term: ballot.term,
            vote: ballot.vote.map_or(0, |vote| vote.0),
            committed: self.raft.committed(),
            has_forgotten: self.raft.has_forgotten(),
        };
        if !is_planted(Planted::ForgetsBallots) {
            self.written = wal.append(&[&record.encode()]);
        }
        self.ballot = Some(record);
    }

    /// Returns the entry at `index`, which is in memory.
    fn entry<'a>(&'a self, pending: &'a VecDeque<Entry>, index: Index) -> &'a Entry {
        let of = |entries: &'a VecDeque<Entry>| {
            let first = entries.front()?.index;
            let place = index.0.checked_sub(first.0)?;
            entries.get(usize::try_from(place).ok()?)
        };
        of(pending)
            .or_else(|| of(&self.kept))
            .or_else(|| of(&self.lent))
            .expect("the core sends entries that it was not told are released")
    }

    /// Appends an append message with its entries: metas first, then payloads.
    fn encode_append(
        &self,
        pending: &VecDeque<Entry>,
        (head, count): (&Append, u32),
        out: &mut Vec<u8>,
    ) {
        let first = head.prev.index.0 + 1;
        let entries = || (first..first + u64::from(count)).map(|at| self.entry(pending, Index(at)));
        for entry in entries() {
            message::encode_meta(&entry.meta(), members_of(&entry.bytes), out);
        }
        for entry in entries() {
            out.extend_from_slice(&entry.bytes);
        }
    }
}

impl Replica {
    /// Does what the core has answered: the ballot to the log, messages to the outbox.
    fn carry_out(&mut self, turn: &mut Turn<'_>) {
        let Some(mut group) = self.group.take() else {
            return;
        };
        let mut out = std::mem::take(&mut group.out);
        let ballot = out.ballot.take();
        if let Some(ballot) = &ballot {
            group.vote(self, ballot, turn.wal);
        }
        for send in &out.sends {
            let gate = (send.gate == Gate::Durable).then_some(group.written);
            // Appends stay in their order: one that comes too early is rejected.
            let urgency = match &send.message {
                Outgoing::Append { .. } => Urgency::Bulk,
                Outgoing::Signal(_) => Urgency::Urgent,
            };
            let to = (send.to.node, self.partition);
            turn.outbox.push(to, urgency, gate, |bytes| {
                bytes.extend_from_slice(&group.me.replica.0.to_le_bytes());
                bytes.extend_from_slice(&send.to.replica.0.to_le_bytes());
                message::encode_head(&send.message, bytes);
                if let Outgoing::Append { head, count } = &send.message {
                    group.encode_append(&self.pending, (head, *count), bytes);
                }
            });
        }
        let events = out.events.drain(..);
        turn.outbox
            .events
            .extend(events.map(|event| (self.partition, event)));
        let offers = out.offers.drain(..);
        turn.outbox
            .offers
            .extend(offers.map(|offer| (self.partition, offer.to)));
        let fetches = std::mem::take(&mut out.fetches);
        out.clear();
        if ballot.is_some() {
            group.note_written(group.written);
        }
        group.out = out;
        for fetch in fetches {
            group.places.release(turn.wal.start());
            match group.places.find(fetch.first) {
                Some(from) => turn.outbox.feeds.push(Feed {
                    partition: self.partition,
                    fetch,
                    from,
                }),
                // What is not in the log any more is in tables: the whole state is sent instead.
                None => group.raft.gone(turn.now, fetch.to.replica, &mut group.out),
            }
        }
        self.group = Some(group);
        if self
            .group
            .as_ref()
            .is_some_and(|group| !group.out.is_empty())
        {
            self.carry_out(turn);
        }
    }

    /// Has the core decide something, and does what it answers.
    pub(crate) fn step(
        &mut self,
        turn: &mut Turn<'_>,
        decide: impl FnOnce(&mut Raft, &Turn<'_>, &mut Output),
    ) {
        if let Some(group) = &mut self.group {
            decide(&mut group.raft, turn, &mut group.out);
            self.carry_out(turn);
        }
    }

    /// Says whether every entry from `index` on is in memory.
    pub(crate) fn holds_from(&self, index: Index) -> bool {
        let kept = self.group.as_ref().and_then(|group| group.kept.front());
        let first = kept.or_else(|| self.pending.front());
        let first = first.map_or(self.applied().next(), |entry| entry.index);
        first <= index
    }

    /// Keeps entries from `index` on, more of them than usual.
    pub(crate) fn keep_all_from(&mut self, index: Index) {
        if let Some(group) = &mut self.group {
            group.keep_from.get_or_insert(index);
        }
    }

    /// Keeps as many entries as usual.
    pub(crate) fn keep_as_usual(&mut self) {
        if let Some(group) = &mut self.group {
            group.keep_from = None;
        }
    }

    /// Has leadership handed over at the end of this turn.
    pub(crate) fn hand_over_to(&mut self, successor: Option<ReplicaId>) {
        if let Some(group) = &mut self.group {
            group.successor = successor;
        }
    }

    /// Begins to hand leadership over, if that was asked for.
    fn begin_hand_over(&mut self, turn: &mut Turn<'_>) {
        let group = self.group.as_mut();
        let Some(to) = group.and_then(|group| group.successor.take()) else {
            return;
        };
        self.step(turn, |raft, turn, out| {
            if let Err(refused) = raft.transfer(turn.now, to, out) {
                tracing::warn!("leadership is not handed over to replica {to}: {refused}");
            }
        });
    }

    /// Says whether a snapshot is on its way into the log.
    pub(crate) fn is_installing(&self) -> bool {
        self.group
            .as_ref()
            .is_some_and(|group| group.installing.is_some())
    }

    /// Notes a snapshot that the log is being given.
    pub(crate) fn set_installing(&mut self, core: Option<raft::Snapshot>) {
        if let Some(group) = &mut self.group {
            group.installing = core;
        }
    }

    /// Takes a snapshot that the log has and the core does not know of.
    pub(crate) fn take_installed(&mut self) -> Option<raft::Snapshot> {
        let group = self.group.as_mut()?;
        match std::mem::take(&mut group.is_installed) {
            true => group.installing.take(),
            false => None,
        }
    }

    /// Tells the core which entries the log has made durable.
    pub(crate) fn note_durable(&mut self, durable: Mark, turn: &mut Turn<'_>) {
        let Some(group) = &mut self.group else {
            return;
        };
        let mut last = None;
        while let Some((_, mark)) = group.marks.pop_front_if(|(written, _)| *written < durable) {
            last = Some(mark);
        }
        if let Some(mark) = last {
            self.step(turn, |raft, turn, out| raft.durable(turn.now, mark, out));
        }
    }

    /// Tells the core of the entries that were sealed in this turn, and makes those that it wants.
    pub(crate) fn propose_sealed(&mut self, turn: &mut Turn<'_>) {
        let Some(group) = &mut self.group else {
            return;
        };
        if group.raft.role() != Role::Leader {
            return;
        }
        let known = group.raft.last().index;
        let sealed = self.pending.iter_mut().filter(|entry| entry.index > known);
        for entry in sealed {
            let index = group
                .raft
                .propose(turn.now, &entry.meta(), None, &mut group.out);
            assert_eq!(index, entry.index, "log and core count alike");
            group.note_written(entry.mark);
        }
        self.begin_hand_over(turn);
        while let Some(own) = self
            .group
            .as_ref()
            .and_then(|group| group.raft.next_own_entry())
        {
            self.propose_own(&own, turn);
        }
        self.carry_out(turn);
    }

    /// Makes an entry that the core wants, gives it to the log and proposes it.
    fn propose_own(&mut self, own: &OwnEntry, turn: &mut Turn<'_>) {
        let (kind, members) = match own {
            OwnEntry::Empty => (EntryKind::Empty, None),
            OwnEntry::Membership(members) => (EntryKind::Membership, Some(members.clone())),
        };
        let mut body = Vec::new();
        members.iter().for_each(|members| members.encode(&mut body));
        self.term = self
            .group
            .as_ref()
            .map_or(self.term, |group| group.raft.term());
        self.seal_own(kind, &body, turn.clock.take(0));
        self.write_last(turn.wal);
        let Some(group) = &mut self.group else {
            return;
        };
        let entry = self.pending.back_mut().expect("just sealed");
        let index = group
            .raft
            .propose(turn.now, &entry.meta(), members, &mut group.out);
        assert_eq!(index, entry.index, "log and core count alike");
        group.note_written(entry.mark);
    }

    /// Takes a message of another replica in. One that is for a replica which was here before this
    /// one is dropped.
    pub(crate) fn receive(
        &mut self,
        node: NodeId,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<(), Malformed> {
        let (from, to, bytes) = addresses(bytes).ok_or(Malformed("a message without addresses"))?;
        let from = Member {
            replica: from,
            node,
        };
        let deaf = |group: &Group| group.me.replica != to || group.installing.is_some();
        if self.group.as_deref().is_none_or(deaf) {
            return Ok(());
        }
        let (message, payload) =
            message::decode(bytes).map_err(|_| Malformed("a message that cannot be read"))?;
        if let Message::Append(head, metas) = &message {
            check_entries(self, head, metas, payload)?;
        }
        let Some(group) = &mut self.group else {
            return Ok(());
        };
        let accepted = group
            .raft
            .receive(turn.now, from, &message, turn.supports, &mut group.out);
        let ballot = group.out.ballot.take();
        if let Some(ballot) = &ballot {
            let mut group = self.group.take().expect("looked at above");
            group.vote(self, ballot, turn.wal);
            self.group = Some(group);
        }
        if let Message::Append(_, metas) = &message {
            self.accept(&accepted, metas, payload, turn);
        }
        if let (Some(_), Some(group)) = (ballot, &mut self.group) {
            group.note_written(group.written);
        }
        self.carry_out(turn);
        Ok(())
    }

    /// Takes entries of the leader over, and gives them to the log.
    fn accept(
        &mut self,
        accepted: &Accepted,
        metas: &Metas<'_>,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) {
        if let Some(last) = accepted.truncate_after {
            self.truncate(last);
        }
        let entries = entries_of(metas, payload).skip(accepted.skip);
        for (_, bytes) in entries.take(accepted.take) {
            let header = EntryHeader::decode(bytes).expect("checked when the message came");
            turn.clock
                .observe(header.timestamp.plus(u64::from(header.commands)));
            self.take_over(&header, bytes);
            self.write_last(turn.wal);
        }
        if accepted.take > 0
            && let (Some(group), Some(entry)) = (&mut self.group, self.pending.back_mut())
        {
            group.note_written(entry.mark);
        }
    }
}
