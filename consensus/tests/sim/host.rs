//! What a host does for its replica: carries out what it answers, in the order that it must.

use std::rc::Rc;

use ashlar_consensus::message::{
    EntryKind, Message, Outgoing, Round, Signal, decode, encode_head, encode_meta,
};
use ashlar_consensus::raft::{
    Accepted, Event as Told, Fetch, Gate, Installed, OwnEntry, ReadAnswer, Role, Send, Snapshot,
};
use ashlar_consensus::support::{Disk as Health, EarlierPromises, SupportOutput};
use ashlar_consensus::types::{Incarnation, Index, LogPosition, Mono, ReplicaId};
use ashlar_consensus::{Output, Raft, Supports};

use super::disk::{Entry, State, Write};
use super::{Event, MS, NODES, Packet, World};

impl World {
    /// Starts a node from what is on its disk.
    pub fn start(&mut self, at: usize) {
        let (now, options, promises) = (self.now, self.options(), self.support_options());
        let node = &mut self.nodes[at];
        node.is_up = true;
        node.incarnation += 1;
        node.paused_until = 0;
        let earlier = match node.incarnation {
            1 => EarlierPromises::None,
            _ => EarlierPromises::Possible,
        };
        let life = Incarnation(node.incarnation);
        let mut supports = Supports::new(life, earlier, promises, node.clock(now));
        for other in (0..NODES).filter(|&other| other != at) {
            supports.want(super::member(other as u64 + 1).node);
        }
        node.supports = Some(supports);
        node.raft = None;
        node.wake_at = None;
        if node.replica.is_some() {
            node.recover(now, options);
        }
        self.schedule(at);
        if self.plan.told_of_connections {
            for other in 0..NODES {
                self.after(
                    MS,
                    Event::Reconnect {
                        from: other,
                        to: at,
                    },
                );
                self.after(
                    MS,
                    Event::Reconnect {
                        from: at,
                        to: other,
                    },
                );
            }
        }
    }

    /// Stops a node; of what was not synced some is lost.
    pub fn crash(&mut self, at: usize) {
        let kept = self
            .random
            .below(self.nodes[at].disk.queue.len() as u64 + 1) as usize;
        let part = self.random.below(6) as usize;
        let node = &mut self.nodes[at];
        node.is_up = false;
        node.raft = None;
        node.disk.crash(kept, part);
    }

    /// Tells a node of a new connection to another.
    pub fn reconnect(&mut self, from: usize, to: usize) {
        if self.cuts[from][to] || self.cuts[to][from] || !self.nodes[to].is_up {
            return;
        }
        let node = self.nodes[to].id;
        self.call(from, |raft, now, _, out| raft.reachable(now, node, out));
    }

    /// Calls a replica, if the node hosts one, and carries out what it answers.
    pub fn call(&mut self, at: usize, call: impl FnOnce(&mut Raft, Mono, &Supports, &mut Output)) {
        let (mut out, now) = (Output::default(), self.now);
        let node = &mut self.nodes[at];
        let clock = node.clock(now);
        let supports = node.supports.as_ref().expect("the node was started");
        let Some(raft) = node.raft.as_mut().filter(|_| node.is_up) else {
            return;
        };
        call(raft, clock, supports, &mut out);
        self.carry_out(at, out, Accepted::default(), Vec::new());
    }

    /// Carries out what a replica answers: ballot and entries to the disk, then the messages.
    fn carry_out(&mut self, at: usize, out: Output, accepted: Accepted, entries: Vec<Rc<Entry>>) {
        self.write(at, &out, accepted, entries, None);
        self.send_all(at, &out, None);
        self.tell(at, &out);
        self.own_entries(at);
        self.after_call(at);
    }

    /// Hands to the disk what an output and an append want written.
    fn write(
        &mut self,
        at: usize,
        out: &Output,
        accepted: Accepted,
        entries: Vec<Rc<Entry>>,
        behind: Option<State>,
    ) {
        let node = &mut self.nodes[at];
        if let Some(index) = accepted.truncate_after {
            assert!(
                index >= node.state.applied.index,
                "applied entries are dropped"
            );
            node.log.truncate_after(index);
            node.damaged.retain(|damaged| *damaged <= index);
        }
        node.log.entries.extend(entries.iter().cloned());
        let first_new = node.log.last().0 + 1 - entries.len() as u64;
        for (entry, index) in entries.iter().zip(first_new..) {
            self.checks.entry(Index(index), entry);
        }
        let mark = node.raft().mark();
        let nothing = out.ballot.is_none()
            && accepted.truncate_after.is_none()
            && entries.is_empty()
            && behind.is_none();
        if nothing {
            return;
        }
        assert_eq!(node.log.last(), node.raft().last().index);
        node.written += 1;
        node.disk.queue.push_back(Write {
            ballot: out.ballot,
            behind,
            truncate_after: accepted.truncate_after,
            entries,
            mark,
            number: node.written,
        });
        self.sync(at);
    }

    /// Begins to sync what is queued, if nothing is being synced.
    pub fn sync(&mut self, at: usize) {
        let latency = MS / 20 + self.random.below(self.plan.disk_max_ms * MS);
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.disk.under_way > 0 || node.disk.queue.is_empty() {
            return;
        }
        node.disk.under_way = node.disk.queue.len();
        node.disk.since = now;
        let stall = node.disk.stalled_until.saturating_sub(now);
        let incarnation = node.incarnation;
        self.after(
            latency + stall,
            Event::DiskDone {
                node: at,
                incarnation,
            },
        );
    }

    /// A sync is done.
    pub fn disk_done(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut last = None;
        for _ in 0..node.disk.under_way {
            let write = node.disk.queue.pop_front().expect("it is under way");
            node.disk.commit(&write);
            node.durable = write.number;
            last = Some(write.mark);
        }
        node.disk.under_way = 0;
        while let Some((_, to, packet)) = self.nodes[at].released() {
            self.post(at, to, packet);
        }
        self.sync(at);
        if let Some(mark) = last {
            self.call(at, |raft, now, _, out| raft.durable(now, mark, out));
        }
    }

    /// Sends the messages of an output; `fetched` are entries that were fetched for one of them.
    fn send_all(&mut self, at: usize, out: &Output, fetched: Option<(Index, &[Rc<Entry>])>) {
        for send in &out.sends {
            let (to, packet) = self.packet(at, send, fetched);
            let node = &mut self.nodes[at];
            if send.gate == Gate::Durable && node.durable < node.written {
                node.gated.push_back((node.written, to, packet));
            } else {
                self.post(at, to, packet);
            }
        }
    }

    /// Turns a message into bytes and entries.
    fn packet(
        &self,
        at: usize,
        send: &Send,
        fetched: Option<(Index, &[Rc<Entry>])>,
    ) -> (usize, Packet) {
        let node = &self.nodes[at];
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        encode_head(&send.message, &mut bytes);
        if let Outgoing::Append { head, count } = &send.message
            && *count > 0
        {
            let first = head.prev.index.next();
            entries = match fetched
                .filter(|(from, all)| *from == first && all.len() == *count as usize)
            {
                Some((_, all)) => all.to_vec(),
                None => {
                    assert!(first >= node.first_kept, "sent without being held");
                    node.entries(first, *count)
                }
            };
            for entry in &entries {
                let mut membership = Vec::new();
                entry
                    .membership
                    .as_ref()
                    .inspect(|m| m.encode(&mut membership));
                encode_meta(&entry.meta, &membership, &mut bytes);
            }
        }
        let packet = Packet::Raft {
            from: node.member().expect("it hosts a replica"),
            to: send.to.replica,
            bytes: Rc::new(bytes),
            entries,
        };
        (send.to.node.0 as usize - 1, packet)
    }

    /// Proposes what the replica wants for itself.
    fn own_entries(&mut self, at: usize) {
        while let Some(own) = self.nodes[at].raft.as_ref().and_then(Raft::next_own_entry) {
            match own {
                OwnEntry::Empty => self.propose(at, EntryKind::Empty, 0, None),
                OwnEntry::Membership(membership) => {
                    self.propose(at, EntryKind::Membership, 0, Some(membership))
                }
            };
        }
    }

    /// Proposes an entry; returns its index.
    pub fn propose(
        &mut self,
        at: usize,
        kind: EntryKind,
        value: u64,
        membership: Option<ashlar_consensus::Membership>,
    ) -> Index {
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        let raft = node.raft.as_mut().expect("it leads");
        let before = raft.last_chain();
        let entry = Rc::new(Entry::new(
            before,
            raft.term(),
            kind,
            value,
            membership.clone(),
        ));
        let mut out = Output::default();
        let index = raft.propose(clock, &entry.meta, membership, &mut out);
        self.write(at, &out, Accepted::default(), vec![entry], None);
        self.send_all(at, &out, None);
        self.tell(at, &out);
        index
    }

    /// Takes in what an output says besides writes and messages.
    fn tell(&mut self, at: usize, out: &Output) {
        let incarnation = self.nodes[at].incarnation;
        for ready in &out.reads {
            if let Some(floor) = self.nodes[at].tickets.remove(&ready.ticket)
                && let Ok(index) = ready.result
            {
                self.nodes[at].reads.push((index, floor));
            }
        }
        for Fetch { to, first, .. } in &out.fetches {
            let delay = self.random.below(5 * MS);
            let (node, to, first) = (at, to.replica, *first);
            self.after(
                delay,
                Event::Fetched {
                    node,
                    incarnation,
                    to,
                    first,
                },
            );
        }
        for wanted in &out.offers {
            let (node, to) = (at, wanted.to.replica);
            let delay = self.random.below(20 * MS);
            self.after(
                delay,
                Event::Offer {
                    node,
                    incarnation,
                    to,
                },
            );
        }
        for event in &out.events {
            self.note(at, event);
        }
    }

    /// Takes in an event.
    fn note(&mut self, at: usize, event: &Told) {
        if self.trace {
            println!("{:>12} node {} {event:?}", self.now, at + 1);
        }
        match event {
            Told::BecameLeader { term } => self.check_leader(at, *term),
            Told::SteppedDown { .. } => self.nodes[at].writes.clear(),
            Told::Alarm(alarm) => panic!("alarm on node {}: {alarm:?}", at + 1),
            Told::SnapshotAccepted { from, at: index } => {
                self.pull(at, from.node.0 as usize - 1, index)
            }
            _ => {}
        }
    }

    /// Begins to receive a snapshot's data.
    fn pull(&mut self, at: usize, from: usize, index: &LogPosition) {
        let sender = &self.nodes[from];
        // The sender has moved on: it has a later state than what it offered.
        let ready = sender.is_up && sender.raft.is_some() && sender.state.applied >= *index;
        if !ready || self.random.chance(0.1) {
            let to = self.nodes[at].replica.expect("it hosts one");
            return self.call(from, |raft, now, _, _| raft.snapshot_failed(now, to));
        }
        let snapshot = Box::new((sender.state.snapshot(), sender.state.clone()));
        let delay = self.random.below(300 * MS);
        let incarnation = self.nodes[at].incarnation;
        self.after(
            delay,
            Event::Install {
                node: at,
                incarnation,
                from,
                snapshot,
            },
        );
    }

    /// The data of a snapshot are there.
    pub fn install(&mut self, at: usize, from: usize, (snapshot, state): (Snapshot, State)) {
        let mut out = Output::default();
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        let Some(raft) = node.raft.as_mut() else {
            return;
        };
        let index = snapshot.at.index;
        match raft.installed(clock, snapshot, &mut out) {
            Installed::Ignored => {}
            Installed::KeepsLog => {
                node.state = state.clone();
                node.damaged.retain(|damaged| *damaged > index);
                self.write(
                    at,
                    &out,
                    Accepted::default(),
                    Vec::new(),
                    Some(state.clone()),
                );
                // Its log is whole: it begins behind the snapshot as well as before it.
                self.nodes[at].log.behind(&state);
                let node = &mut self.nodes[at];
                node.raft
                    .as_mut()
                    .expect("it is there")
                    .compacted(index, state.chain);
                node.first_kept = node.first_kept.max(index.next());
            }
            Installed::DropsLog => {
                node.log.behind(&state);
                node.damaged.clear();
                node.state = state.clone();
                node.first_kept = index.next();
                self.write(at, &out, Accepted::default(), Vec::new(), Some(state));
            }
        }
        self.send_all(at, &out, None);
        self.tell(at, &out);
        self.after_call(at);
        let to = self.nodes[at].replica.expect("it hosts one");
        if self.random.chance(0.5) {
            self.call(from, |raft, now, _, out| {
                raft.snapshot_done(now, to, index, out)
            });
        }
    }

    /// The receiver of a snapshot has crashed.
    pub fn lose_snapshot(&mut self, at: usize, from: usize) {
        if let Some(to) = self.nodes[at].replica {
            self.call(from, |raft, now, _, _| raft.snapshot_failed(now, to));
        }
    }

    /// Entries that were asked for are there.
    pub fn fetched(&mut self, at: usize, to: ReplicaId, first: Index) {
        let (now, mut out) = (self.now, Output::default());
        let node = &mut self.nodes[at];
        let clock = node.clock(now);
        let Some(raft) = node.raft.as_mut() else {
            return;
        };
        let last = node.log.last();
        if node.log.entry(first).is_none() {
            raft.gone(clock, to, &mut out);
            return self.carry_out(at, out, Accepted::default(), Vec::new());
        }
        let count = (last.0 - first.0 + 1).min(5) as usize;
        let entries = node.log.range(first, count);
        let metas: Vec<_> = entries.iter().map(|entry| entry.meta).collect();
        raft.fetched(clock, to, first, &metas, &mut out);
        self.send_all(at, &out, Some((first, &entries)));
        self.tell(at, &out);
        self.after_call(at);
    }

    /// A snapshot was wanted.
    pub fn offer(&mut self, at: usize, to: ReplicaId) {
        let snapshot = self.nodes[at].state.snapshot();
        let fails = self.random.chance(0.1) || snapshot.at.index == Index(0);
        self.call(at, |raft, now, _, out| match fails {
            true => raft.snapshot_failed(now, to),
            false => raft.offer_snapshot(now, to, snapshot, out),
        });
    }

    /// A packet has arrived.
    pub fn deliver(&mut self, from: usize, to: usize, incarnation: u32, packet: Packet) {
        let (sender, now) = (self.nodes[from].id, self.now);
        let node = &mut self.nodes[to];
        let known = node.lives.entry(from).or_insert(incarnation);
        if !node.is_up || incarnation < *known {
            return;
        }
        *known = incarnation;
        let clock = node.clock(now);
        let supports = node.supports.as_mut().expect("the node was started");
        match packet {
            Packet::Request(request) => {
                if let Some(support) = supports.requested(clock, sender, &request) {
                    self.post(to, from, Packet::Support(support));
                }
                self.schedule(to);
            }
            Packet::Support(support) => {
                supports.supported(clock, sender, &support);
                self.schedule(to);
            }
            Packet::Raft {
                from,
                to: replica,
                bytes,
                entries,
            } if node.replica == Some(replica) => {
                let (message, rest) = decode(&bytes).expect("what was encoded");
                assert!(rest.is_empty());
                self.hear(to, from, &message, &entries);
            }
            Packet::Raft { .. } => {}
        }
    }

    /// A message has arrived.
    fn hear(
        &mut self,
        at: usize,
        from: ashlar_consensus::Member,
        message: &Message<'_>,
        entries: &[Rc<Entry>],
    ) {
        if self.trace {
            println!("{:>12} node {} <- {from:?} {message:?}", self.now, at + 1);
        }
        let mut out = Output::default();
        let node = &mut self.nodes[at];
        let clock = node.clock(self.now);
        let supports = node.supports.as_ref().expect("the node was started");
        let Some(raft) = node.raft.as_mut() else {
            return;
        };
        let accepted = raft.receive(clock, from, message, supports, &mut out);
        let new = entries[accepted.skip.min(entries.len())..][..accepted.take].to_vec();
        self.carry_out(at, out, accepted, new);
    }

    /// Something is due.
    pub fn wake(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let clock = node.clock(now);
        let waits = node.disk.under_way > 0 && now - node.disk.since > 200 * MS;
        let health = if waits {
            Health::Stalled
        } else {
            Health::Working
        };
        let mut wants = SupportOutput::default();
        let supports = node.supports.as_mut().expect("the node was started");
        supports.tick(clock, health, &mut wants);
        for (to, request) in wants.requests {
            self.post(at, to.0 as usize - 1, Packet::Request(request));
        }
        for changed in wants.changed {
            self.call(at, |raft, now, supports, out| {
                raft.support_changed(now, changed, supports, out);
            });
        }
        let due = self.nodes[at].raft.as_ref().and_then(Raft::deadline);
        if due.is_some_and(|due| due <= clock) {
            self.call(at, |raft, now, supports, out| raft.tick(now, supports, out));
        }
        if self.trace {
            let node = &self.nodes[at];
            let supports = node.supports.as_ref().expect("the node was started");
            println!(
                "{:>12} node {} woke at {clock:?}: due {due:?}, then {:?} {:?}",
                self.now,
                at + 1,
                supports.deadline(),
                node.raft.as_ref().and_then(Raft::deadline)
            );
        }
        self.schedule(at);
    }

    /// Sees to it that the node is woken when something is due.
    pub fn schedule(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let supports = node.supports.as_ref().expect("the node was started");
        let replica = node.raft.as_ref().and_then(Raft::deadline);
        let Some(due) = [supports.deadline(), replica].into_iter().flatten().min() else {
            return;
        };
        let when = node.when(self.now, due);
        if node.wake_at.is_none_or(|at| when < at) {
            node.wake_at = Some(when);
            let incarnation = node.incarnation;
            let wake = Event::Wake {
                node: at,
                incarnation,
                at: when,
            };
            self.after(when - self.now, wake);
        }
    }

    /// Applies what is committed and durable, answers clients, and checks.
    fn after_call(&mut self, at: usize) {
        self.check_committed(at);
        let node = &mut self.nodes[at];
        let raft = node.raft.as_mut().expect("it hosts a replica");
        let upto = raft.committed().min(raft.durable_index());
        while node.state.applied.index < upto {
            let index = node.state.applied.index.next();
            if node.damaged.contains(&index) {
                break;
            }
            let entry = node.log.entry(index).expect("the log has it");
            node.state.apply(index, entry);
            raft.applied(index);
        }
        self.answer_clients(at);
        self.schedule(at);
    }

    /// Answers what waits for entries to be applied.
    fn answer_clients(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let applied = node.state.applied.index;
        while let Some((index, term, floor)) = node.writes.front().copied() {
            if index > applied {
                break;
            }
            node.writes.pop_front();
            let entry = node.log.entry(index);
            if entry.is_some_and(|entry| entry.meta.term == term) {
                self.checks.answered(floor, index, "write");
            }
        }
        let reads = node.reads.extract_if(.., |(index, _)| *index <= applied);
        for (_, floor) in reads {
            self.checks.answered(floor, applied, "read");
        }
    }

    /// A client comes along, to a random node.
    pub fn client(&mut self) {
        let every = self.plan.client_every_ms * MS;
        let next = 1 + self.random.below(2 * every);
        self.after(next, Event::Client);
        let at = match self.random.chance(0.5) {
            true => self.random.below(NODES as u64) as usize,
            false => self.leader().unwrap_or(0),
        };
        let node = &self.nodes[at];
        if !node.is_up || node.raft.is_none() || node.paused_until > self.now {
            return;
        }
        match self.random.chance(0.5) {
            true => drop(self.client_write(at)),
            false => self.client_read(at),
        }
    }

    /// Writes; returns the index if the node may propose.
    pub fn client_write(&mut self, at: usize) -> Option<Index> {
        let raft = self.nodes[at].raft();
        let (term, floor) = (raft.term(), self.checks.floor);
        if !raft.may_propose() {
            return None;
        }
        self.next_value += 1;
        let index = self.propose(at, EntryKind::Commands, self.next_value, None);
        self.nodes[at].writes.push_back((index, term, floor));
        self.own_entries(at);
        self.after_call(at);
        Some(index)
    }

    /// Reads.
    pub fn client_read(&mut self, at: usize) {
        let (now, floor) = (self.now, self.checks.floor);
        let node = &self.nodes[at];
        let supports = node.supports.as_ref().expect("the node was started");
        if node.raft().serves_reads(node.clock(now), supports) {
            let applied = node.state.applied.index;
            self.checks.lease_reads += 1;
            return self.checks.answered(floor, applied, "lease read");
        }
        self.next_value += 1;
        let ticket = self.next_value;
        self.nodes[at].tickets.insert(ticket, floor);
        let mut answer = ReadAnswer::Busy;
        self.call(at, |raft, now, supports, out| {
            answer = raft.read(now, ticket, supports, out);
        });
        let node = &mut self.nodes[at];
        match answer {
            ReadAnswer::Now(index) => {
                node.tickets.remove(&ticket);
                node.reads.push((index, floor));
                self.after_call(at);
            }
            ReadAnswer::Wait => self.checks.quorum_reads += 1,
            ReadAnswer::Busy | ReadAnswer::NotLeader(_) => drop(node.tickets.remove(&ticket)),
        }
    }
}

impl super::node::Node {
    /// Returns the next message whose writes are durable.
    fn released(&mut self) -> Option<(u64, usize, Packet)> {
        let ready = self
            .gated
            .front()
            .is_some_and(|(number, ..)| *number <= self.durable);
        if ready { self.gated.pop_front() } else { None }
    }
}

/// Returns the vote in a packet, if it is one.
pub fn voted(packet: &Packet) -> Option<ashlar_consensus::message::VoteReply> {
    let Packet::Raft { bytes, .. } = packet else {
        return None;
    };
    match decode(bytes).expect("what was encoded").0 {
        Message::Signal(Signal::VoteReply(reply)) => {
            (reply.granted && reply.round == Round::Real).then_some(reply)
        }
        _ => None,
    }
}

/// Tells what a replica is, for traces.
pub fn describe(world: &World, at: usize) -> String {
    let node = &world.nodes[at];
    let Some(raft) = node.raft.as_ref() else {
        return format!("node {} up {} hosts nothing", at + 1, node.is_up);
    };
    format!(
        "node {} replica {:?} {:?} term {} leader {:?} last {:?} committed {} applied {} damaged {:?} deadline {:?} members {:?}",
        at + 1,
        node.replica,
        raft.role(),
        raft.term().0,
        raft.leader().map(|leader| leader.replica.0),
        raft.last(),
        raft.committed(),
        node.state.applied.index,
        node.damaged,
        raft.deadline(),
        raft.membership(),
    )
}
