//! Replicas on a table: every step is a command, and what it leads to is told in words.
//!
//! Length: the commands share all of their state, and are short.
#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

#[expect(dead_code, reason = "the simulation uses more of it")]
#[path = "../sim/disk.rs"]
pub(crate) mod disk;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::rc::Rc;

use ashlar_consensus::message::{EntryKind, decode, encode_head, encode_meta};
use ashlar_consensus::raft::{Accepted, Gate, Installed, OwnEntry};
use ashlar_consensus::support::{Disk as Health, EarlierPromises, SupportOptions, SupportOutput};
use ashlar_consensus::types::{Chain, Incarnation, Index, LogPosition, Mono, NodeId, Term};
use ashlar_consensus::{
    Change, Member, Membership, Options, Output, PartitionId, Raft, ReplicaId, Start, Supports,
};

use disk::{Disk, Entry, Log, State};

/// A message on its way, or waiting for a sync.
struct Packet {
    from: u64,
    to: u64,
    after: Option<u64>,
    bytes: Vec<u8>,
    entries: Vec<Rc<Entry>>,
}

/// A node with its replica.
struct Node {
    raft: Raft,
    supports: Supports,
    life: u32,
    disk: Disk,
    log: Log,
    state: State,
    written: u64,
    value: u64,
}

/// The table.
#[derive(Default)]
pub(crate) struct Table {
    now: u64,
    nodes: BTreeMap<u64, Node>,
    wire: VecDeque<Packet>,
    told: String,
}

/// Returns the replica of a node.
fn member(id: u64) -> Member {
    Member {
        replica: ReplicaId(id),
        node: NodeId(id),
    }
}

impl Node {
    /// Returns the replica `id` as its disk has it.
    fn recover(id: u64, disk: Disk, life: u32, now: u64) -> Self {
        let (log, first) = (disk.log.clone(), disk.log.base.applied.index.0 + 1);
        let metas: Vec<_> = log.entries.iter().map(|entry| entry.meta).collect();
        let memberships = log
            .entries
            .iter()
            .zip(first..)
            .filter_map(|(entry, index)| {
                let membership = entry.membership.clone()?;
                Some((Index(index), membership))
            });
        let has_first = first == 1 && !log.entries.is_empty();
        let start = Start {
            partition: PartitionId(1),
            me: member(id),
            ballot: disk.ballot,
            base: log.base.applied,
            base_chain: log.base.chain,
            membership: log.base.membership.clone(),
            entries: &metas,
            memberships: memberships.collect(),
            committed: log.base.applied.index.max(Index(u64::from(has_first))),
            applied: log.base.applied.index,
            has_forgotten: disk.has_forgotten,
            seed: id,
        };
        let earlier = match life {
            1 => EarlierPromises::None,
            _ => EarlierPromises::Possible,
        };
        let options = SupportOptions::default();
        Self {
            raft: Raft::new(start, Options::default(), Mono(now)),
            supports: Supports::new(Incarnation(life), earlier, options, Mono(now)),
            life,
            state: log.base.clone(),
            disk,
            log,
            written: 0,
            value: 0,
        }
    }
}

impl Table {
    /// Returns what was told since the last time.
    pub(crate) fn told(&mut self) -> String {
        std::mem::take(&mut self.told)
    }

    /// Does what a line says.
    pub(crate) fn command(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a line has a word");
        let words: Vec<&str> = words.collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let n = number(0).unwrap_or(0);
        match name {
            "group" => self.group(&words),
            "support" => self.support(),
            "advance" => self.now += n * 1_000_000,
            "tick" => self.tick(n),
            "campaign" => self.call(n, |raft, now, supports, out| {
                raft.campaign(now, supports, out).err()
            }),
            "propose" => (0..number(1).unwrap_or(1)).for_each(|_| self.propose(n)),
            "read" => self.read(n),
            "transfer" => self.call(n, |raft, now, _, out| {
                raft.transfer(now, ReplicaId(number(1).expect("a node")), out)
                    .err()
            }),
            "change" => self.change(n, words[1], number(2), number(3)),
            "sync" => self.sync(n, number(1)),
            "deliver" => self.deliver(number(0), number(1)),
            "drop" => {
                let wanted = wanted(number(0), number(1));
                self.wire.retain(|packet| !wanted(packet));
            }
            "messages" => self.messages(),
            "reconnect" => self.call(n, |raft, now, _, out| {
                raft.reachable(now, NodeId(number(1).expect("a node")), out);
                None
            }),
            "disconnect" => self.call(n, |raft, _, _, _| {
                raft.unreachable(NodeId(number(1).expect("a node")));
                None
            }),
            "settle" => self.settle(),
            "crash" => self.crash(n, number(1).unwrap_or(0)),
            "forget" => self.forget(n, number(1).unwrap_or(0)),
            "release" => {
                let node = self.nodes.get_mut(&n).expect("a node");
                node.raft.released(node.log.last().next());
            }
            "compact" => self.compact(n),
            "corrupt" | "repair" => self.damage(n, name, Index(number(1).expect("an index"))),
            "install" => self.install(n, number(1).expect("a node")),
            "state" => self.state(number(0)),
            "lease" => self.lease(n),
            _ => panic!("no such command: {line}"),
        }
    }

    /// Tells something.
    fn tell(&mut self, what: &str) {
        writeln!(self.told, "{what}").expect("a string takes all");
    }

    /// Makes a group.
    fn group(&mut self, words: &[&str]) {
        let mut initial = Membership::default();
        let (mut kind, mut all) = ("voter", Vec::new());
        for word in words {
            let Ok(id) = word.parse() else {
                kind = word;
                continue;
            };
            match kind {
                "voter" => initial.voters.push(member(id)),
                "learner" => initial.learners.push(member(id)),
                _ => {}
            }
            all.push((id, kind));
        }
        for (id, kind) in all {
            let mut disk = Disk::default();
            if kind != "outside" {
                let membership = Some(initial.clone());
                let first = Entry::new(Chain(0), Term(1), EntryKind::Membership, 0, membership);
                disk.log.entries.push(Rc::new(first));
            }
            self.nodes.insert(id, Node::recover(id, disk, 1, self.now));
        }
        self.want();
    }

    /// Has every node want the support of every other.
    fn want(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for (id, node) in &mut self.nodes {
            for other in ids.iter().filter(|other| *other != id) {
                node.supports.want(NodeId(*other));
            }
        }
    }

    /// Renews every promise.
    fn support(&mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        let now = Mono(self.now);
        for &from in &ids {
            let mut out = SupportOutput::default();
            let node = self.nodes.get_mut(&from).expect("a node");
            node.supports.tick(now, Health::Working, &mut out);
            for (to, request) in out.requests {
                let other = self.nodes.get_mut(&to.0).expect("a node");
                let support = other.supports.requested(now, NodeId(from), &request);
                let support = support.expect("the request is sound");
                let node = self.nodes.get_mut(&from).expect("a node");
                node.supports.supported(now, to, &support);
            }
        }
        for id in ids {
            self.tick(id);
        }
    }

    /// Looks at the promises and timers of a node.
    fn tick(&mut self, id: u64) {
        let mut wants = SupportOutput::default();
        let node = self.nodes.get_mut(&id).expect("a node");
        // Requests are sent by `support` only.
        node.supports
            .tick(Mono(self.now), Health::Stalled, &mut wants);
        for changed in wants.changed {
            self.call(id, |raft, now, supports, out| {
                raft.support_changed(now, changed, supports, out);
                None
            });
        }
        let deadline = self.nodes[&id].raft.deadline();
        if deadline.is_some_and(|at| at.0 <= self.now) {
            self.call(id, |raft, now, supports, out| {
                raft.tick(now, supports, out);
                None
            });
        }
    }

    /// Calls a replica and carries out what it answers.
    fn call(
        &mut self,
        id: u64,
        call: impl FnOnce(&mut Raft, Mono, &Supports, &mut Output) -> Option<ashlar_consensus::Refused>,
    ) {
        let mut out = Output::default();
        let node = self.nodes.get_mut(&id).expect("a node");
        if let Some(refused) = call(&mut node.raft, Mono(self.now), &node.supports, &mut out) {
            self.tell(&format!("{id}: refused: {refused}"));
        }
        self.carry_out(id, &out, Accepted::default(), Vec::new());
        self.own_entries(id);
    }

    /// Writes what an output and an append want written, sends, tells.
    fn carry_out(&mut self, id: u64, out: &Output, accepted: Accepted, entries: Vec<Rc<Entry>>) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if let Some(index) = accepted.truncate_after {
            node.log.truncate_after(index);
        }
        node.log.entries.extend(entries.iter().cloned());
        if out.ballot.is_some() || accepted.truncate_after.is_some() || !entries.is_empty() {
            node.written += 1;
            node.disk.queue.push_back(disk::Write {
                ballot: out.ballot,
                has_forgotten: node.raft.has_forgotten(),
                behind: None,
                truncate_after: accepted.truncate_after,
                entries,
                mark: node.raft.mark(),
                number: node.written,
            });
        }
        for send in &out.sends {
            let (bytes, entries) = encoded(node, &send.message);
            let waits = send.gate == Gate::Durable && !node.disk.queue.is_empty();
            self.wire.push_back(Packet {
                from: id,
                to: send.to.node.0,
                after: waits.then_some(node.written),
                bytes,
                entries,
            });
        }
        for event in &out.events {
            self.tell(&format!("{id}: {}", words::event(event)));
        }
        for ready in &out.reads {
            self.tell(&format!(
                "{id}: read {} ready: {:?}",
                ready.ticket, ready.result
            ));
        }
        for fetch in &out.fetches {
            self.tell(&format!(
                "{id}: fetch for {} from {}",
                fetch.to.replica, fetch.first
            ));
        }
        for wanted in &out.offers {
            self.tell(&format!("{id}: snapshot wanted for {}", wanted.to.replica));
            self.offer(id, wanted.to.replica);
        }
        self.apply(id);
    }

    /// Offers a snapshot of what is applied.
    fn offer(&mut self, id: u64, to: ReplicaId) {
        let snapshot = self.nodes[&id].state.snapshot();
        self.call(id, |raft, now, _, out| {
            raft.offer_snapshot(now, to, snapshot, out);
            None
        });
    }

    /// Proposes what a replica wants for itself.
    fn own_entries(&mut self, id: u64) {
        while let Some(own) = self.nodes[&id].raft.next_own_entry() {
            match own {
                OwnEntry::Empty => self.append(id, EntryKind::Empty, 0, None),
                OwnEntry::Membership(membership) => {
                    self.append(id, EntryKind::Membership, 0, Some(membership));
                }
            }
        }
    }

    /// Proposes a client's entry.
    fn propose(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        if !node.raft.may_propose() {
            return self.tell(&format!("{id}: may not propose"));
        }
        node.value += 1;
        let value = id * 1_000 + node.value;
        self.append(id, EntryKind::Commands, value, None);
    }

    /// Appends an entry to a leader's log.
    fn append(&mut self, id: u64, kind: EntryKind, value: u64, membership: Option<Membership>) {
        let mut out = Output::default();
        let node = self.nodes.get_mut(&id).expect("a node");
        let (before, term) = (node.raft.last_chain(), node.raft.term());
        let entry = Rc::new(Entry::new(before, term, kind, value, membership.clone()));
        let now = Mono(self.now);
        node.raft.propose(now, &entry.meta, membership, &mut out);
        self.carry_out(id, &out, Accepted::default(), vec![entry]);
    }

    /// Makes durable what a node has written, or the first `count` writes.
    fn sync(&mut self, id: u64, count: Option<u64>) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let all = node.disk.queue.len();
        let count = count.map_or(all, |count| all.min(count as usize));
        let done: Vec<disk::Write> = node.disk.queue.drain(..count).collect();
        let Some(last) = done.last().map(|write| (write.mark, write.number)) else {
            return;
        };
        for write in &done {
            node.disk.commit(write);
        }
        for packet in self.wire.iter_mut().filter(|packet| packet.from == id) {
            packet.after = packet.after.filter(|after| *after > last.1);
        }
        self.call(id, |raft, now, _, out| {
            raft.durable(now, last.0, out);
            None
        });
    }

    /// Delivers what is on its way.
    fn deliver(&mut self, to: Option<u64>, from: Option<u64>) {
        let wanted = wanted(to, from);
        let (now, later) = self.wire.drain(..).partition(&wanted);
        self.wire = later;
        let now: VecDeque<Packet> = now;
        for packet in now {
            self.hear(&packet);
        }
    }

    /// A message arrives.
    fn hear(&mut self, packet: &Packet) {
        let text = words::message(packet.from, packet.to, &packet.bytes);
        self.tell(&text);
        let mut out = Output::default();
        let Some(node) = self.nodes.get_mut(&packet.to) else {
            return;
        };
        let (message, _) = decode(&packet.bytes).expect("what was encoded");
        let from = member(packet.from);
        let now = Mono(self.now);
        let accepted = node
            .raft
            .receive(now, from, &message, &node.supports, &mut out);
        let new =
            packet.entries[accepted.skip.min(packet.entries.len())..][..accepted.take].to_vec();
        self.carry_out(packet.to, &out, accepted, new);
        self.own_entries(packet.to);
    }

    /// Shows what is on its way.
    fn messages(&mut self) {
        let lines = self.wire.iter().map(|packet| {
            let waits = if packet.after.is_some() {
                " (waits for a sync)"
            } else {
                ""
            };
            words::message(packet.from, packet.to, &packet.bytes) + waits
        });
        let lines: Vec<String> = lines.collect();
        lines.iter().for_each(|line| self.tell(line));
    }

    /// Everything arrives and is durable, until nothing is left to do.
    fn settle(&mut self) {
        let told = self.told.len();
        for _ in 0..100 {
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            ids.iter().for_each(|id| self.sync(*id, None));
            self.deliver(None, None);
        }
        // Only events are worth telling.
        let tail = self.told.split_off(told);
        let events = tail.lines().filter(|line| !line.contains('>'));
        let events: Vec<&str> = events.collect();
        for event in events {
            self.told.push_str(event);
            self.told.push('\n');
        }
    }

    /// A node loses what was not durable and starts anew.
    fn crash(&mut self, id: u64, kept: u64) {
        let mut node = self.nodes.remove(&id).expect("a node");
        node.disk.crash(kept as usize, 0);
        self.wire
            .retain(|packet| packet.from != id || packet.after.is_none());
        let node = Node::recover(id, node.disk, node.life + 1, self.now);
        self.nodes.insert(id, node);
        self.want();
    }

    /// A node loses its ballot and all of its log but a beginning, and starts anew.
    fn forget(&mut self, id: u64, kept: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        node.disk.queue.clear();
        node.disk.forget(kept as usize);
        self.crash(id, 0);
    }

    /// Applies what is committed and durable.
    fn apply(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let upto = node.raft.committed().min(node.raft.durable_index());
        while node.state.applied.index < upto {
            let index = node.state.applied.index.next();
            let entry = node.log.entry(index).expect("the log has it");
            node.state.apply(index, entry);
            node.raft.applied(index);
        }
    }

    /// A node drops the applied part of its log.
    fn compact(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        let state = node.state.clone();
        node.log.behind(&state);
        node.disk.log.behind(&state);
        node.raft.compacted(state.applied.index, state.chain);
    }

    /// The bytes of an entry are lost, or there again.
    fn damage(&mut self, id: u64, what: &str, index: Index) {
        let term = self.nodes[&id]
            .raft
            .term_of(index)
            .expect("it is in the log");
        let at = LogPosition { term, index };
        self.call(id, |raft, now, _, out| {
            match what {
                "corrupt" => raft.corrupt(now, at, out),
                _ => raft.repaired(now, at),
            }
            None
        });
    }

    /// A node installs the state of another.
    fn install(&mut self, id: u64, from: u64) {
        let (state, mut out) = (self.nodes[&from].state.clone(), Output::default());
        let node = self.nodes.get_mut(&id).expect("a node");
        let now = Mono(self.now);
        let installed = node.raft.installed(now, state.snapshot(), &mut out);
        if installed != Installed::Ignored {
            node.log.behind(&state);
            node.disk.log.behind(&state);
            node.state = state.clone();
        }
        if installed == Installed::KeepsLog {
            node.raft.compacted(state.applied.index, state.chain);
        }
        self.tell(&format!("{id}: {installed:?}"));
        self.carry_out(id, &out, Accepted::default(), Vec::new());
    }

    /// Begins a change of the membership.
    fn change(&mut self, id: u64, what: &str, a: Option<u64>, b: Option<u64>) {
        let a = a.expect("a node");
        let change = match what {
            "add" => Change::AddVoter(member(a)),
            "learner" => Change::AddLearner(member(a)),
            "promote" => Change::Promote(ReplicaId(a)),
            "demote" => Change::Demote(ReplicaId(a)),
            "remove" => Change::Remove(ReplicaId(a)),
            _ => Change::Replace {
                old: ReplicaId(a),
                new: member(b.expect("a node")),
            },
        };
        self.call(id, |raft, _, _, _| raft.change_membership(&change).err());
    }

    /// Reads.
    fn read(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).expect("a node");
        node.value += 1;
        let (ticket, mut answer) = (node.value, String::new());
        self.call(id, |raft, now, supports, out| {
            answer = format!("{:?}", raft.read(now, ticket, supports, out));
            None
        });
        self.tell(&format!("{id}: read {ticket}: {answer}"));
    }

    /// Tells whether a node may serve reads.
    fn lease(&mut self, id: u64) {
        let node = &self.nodes[&id];
        let holds = node.raft.serves_reads(Mono(self.now), &node.supports);
        self.tell(&format!(
            "{id}: {}",
            if holds { "lease" } else { "no lease" }
        ));
    }

    /// Tells what nodes are.
    fn state(&mut self, only: Option<u64>) {
        let nodes = self
            .nodes
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only == **id));
        let lines: Vec<String> = nodes.map(|(id, node)| words::state(*id, node)).collect();
        lines.iter().for_each(|line| self.tell(line));
    }
}

/// Returns what tells whether a packet can arrive, and is to and from whom it should be.
fn wanted(to: Option<u64>, from: Option<u64>) -> impl Fn(&Packet) -> bool {
    move |packet| {
        let fits =
            to.is_none_or(|to| packet.to == to) && from.is_none_or(|from| packet.from == from);
        fits && packet.after.is_none()
    }
}

/// Returns the bytes of a message and its entries.
fn encoded(
    node: &Node,
    message: &ashlar_consensus::message::Outgoing,
) -> (Vec<u8>, Vec<Rc<Entry>>) {
    let (mut bytes, mut entries) = (Vec::new(), Vec::new());
    encode_head(message, &mut bytes);
    if let ashlar_consensus::message::Outgoing::Append { head, count } = message
        && *count > 0
    {
        entries = node.log.range(head.prev.index.next(), *count as usize);
        for entry in &entries {
            let mut membership = Vec::new();
            entry
                .membership
                .as_ref()
                .inspect(|m| m.encode(&mut membership));
            encode_meta(&entry.meta, &membership, &mut bytes);
        }
    }
    (bytes, entries)
}
