//! What a host does for its replica: carries out what it answers, in the order that it must.

use std::rc::Rc;

use ashlar_consensus::message::{
    EntryKind, Message, Outgoing, Round, Signal, decode, encode_head, encode_meta,
};
use ashlar_consensus::raft::{Accepted, Event as Told, Fetch, Gate, OwnEntry, Send};
use ashlar_consensus::support::EarlierPromises;
use ashlar_consensus::types::{Incarnation, Index, Mono};
use ashlar_consensus::{Output, Raft, Supports};

use super::disk::{Entry, State, Write};
use super::{Event, MS, NODES, Packet, World};

impl World {
    /// Starts a node from what is on its disk.
    pub(crate) fn start(&mut self, at: usize) {
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
    pub(crate) fn crash(&mut self, at: usize) {
        let kept = self
            .random
            .below(self.nodes[at].disk.queue.len() as u64 + 1) as usize;
        let part = self.random.below(6) as usize;
        let node = &mut self.nodes[at];
        node.is_up = false;
        node.raft = None;
        node.disk.crash(kept, part);
    }

    /// Calls a replica, if the node hosts one, and carries out what it answers.
    pub(crate) fn call(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut Raft, Mono, &Supports, &mut Output),
    ) {
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
    pub(crate) fn carry_out(
        &mut self,
        at: usize,
        out: Output,
        accepted: Accepted,
        entries: Vec<Rc<Entry>>,
    ) {
        self.write(at, &out, accepted, entries, None);
        self.send_all(at, &out, None);
        self.tell(at, &out);
        self.own_entries(at);
        self.after_call(at);
    }

    /// Hands to the disk what an output and an append want written.
    pub(crate) fn write(
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
            has_forgotten: node.raft().has_forgotten(),
            behind,
            truncate_after: accepted.truncate_after,
            entries,
            mark,
            number: node.written,
        });
        self.sync(at);
    }

    /// Begins to sync what is queued, if nothing is being synced.
    pub(crate) fn sync(&mut self, at: usize) {
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
    pub(crate) fn disk_done(&mut self, at: usize) {
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
    pub(crate) fn send_all(
        &mut self,
        at: usize,
        out: &Output,
        fetched: Option<(Index, &[Rc<Entry>])>,
    ) {
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
    pub(crate) fn own_entries(&mut self, at: usize) {
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
    pub(crate) fn propose(
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
    pub(crate) fn tell(&mut self, at: usize, out: &Output) {
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
            Told::Remembers => self.checks.remembered += 1,
            Told::Alarm(alarm) => panic!("alarm on node {}: {alarm:?}", at + 1),
            Told::SnapshotAccepted { from, at: index } => {
                self.pull(at, from.node.0 as usize - 1, index)
            }
            _ => {}
        }
    }

    /// Applies what is committed and durable, answers clients, and checks.
    pub(crate) fn after_call(&mut self, at: usize) {
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
pub(crate) fn voted(packet: &Packet) -> Option<ashlar_consensus::message::VoteReply> {
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
pub(crate) fn describe(world: &World, at: usize) -> String {
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
