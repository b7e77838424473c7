//! What a host does for its replica, and what happens to it: messages that arrive, writes that become durable, crashes,
//! time that passes.

use super::*;

impl World {
    pub(super) fn now(&self, at: usize) -> Mono {
        clock(at, self.done.steps)
    }

    fn node(&mut self, at: usize) -> &mut Node {
        Rc::make_mut(&mut self.nodes[at])
    }

    /// Calls a replica and carries out what it answers.
    pub(super) fn call(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut Raft, Mono, &Supports, &mut Output),
    ) {
        let (now, mut out) = (self.now(at), Output::default());
        let node = self.node(at);
        call(&mut node.raft, now, &node.supports, &mut out);
        self.carry_out(at, &out, Accepted::default(), Vec::new());
        self.own_entries(at);
        self.after_call(at);
    }

    /// Writes, sends and notes what a replica wants.
    fn carry_out(&mut self, at: usize, out: &Output, accepted: Accepted, entries: Vec<Rc<Entry>>) {
        let node = self.node(at);
        if let Some(index) = accepted.truncate_after {
            node.log.truncate_after(index);
        }
        node.log.entries.extend(entries.iter().cloned());
        if out.ballot.is_some() || accepted.truncate_after.is_some() || !entries.is_empty() {
            node.written += 1;
            node.disk.queue.push_back(Write {
                ballot: out.ballot,
                has_forgotten: false,
                behind: None,
                truncate_after: accepted.truncate_after,
                entries,
                mark: node.raft.mark(),
                number: node.written,
            });
        }
        for send in &out.sends {
            let (bytes, entries) = encoded(self.node(at), &send.message);
            let body = Body::Raft(bytes, entries);
            self.post(at, send.to.node.0 as usize - 1, body, send.gate);
        }
        for event in &out.events {
            if let Event::BecameLeader { term } = event {
                let node = &self.nodes[at];
                self.history.elected(*term, at, &node.log);
            }
            assert!(!matches!(event, Event::Alarm(_)), "{event:?} on {at}");
        }
    }

    /// Sends, or keeps until what was written is durable.
    fn post(&mut self, from: usize, to: usize, body: Body, gate: Gate) {
        let life = self.nodes[from].life;
        let mut print = Print::default();
        match &body {
            // The bytes hold the chains of the entries.
            Body::Raft(bytes, _) => print.take(&(from, to, life, bytes)),
            other => print.take(&(from, to, life, other)),
        }
        let packet = Rc::new(Packet {
            from,
            to,
            life,
            body,
            print: print.finish(),
        });
        let node = self.node(from);
        if gate == Gate::Durable && !node.disk.queue.is_empty() {
            node.gated.push((node.written, packet));
        } else {
            self.wire.push(packet);
        }
    }

    /// Proposes what a replica wants for itself.
    fn own_entries(&mut self, at: usize) {
        while let Some(own) = self.nodes[at].raft.next_own_entry() {
            match own {
                OwnEntry::Empty => self.append(at, EntryKind::Empty, 0, None),
                OwnEntry::Membership(membership) => {
                    self.append(at, EntryKind::Membership, 0, Some(membership));
                }
            }
        }
    }

    /// Appends an entry to a leader's log.
    pub(super) fn append(
        &mut self,
        at: usize,
        kind: EntryKind,
        value: u64,
        membership: Option<Membership>,
    ) {
        let (now, mut out) = (self.now(at), Output::default());
        let node = self.node(at);
        let (before, term) = (node.raft.last_chain(), node.raft.term());
        let entry = Rc::new(Entry::new(before, term, kind, value, membership.clone()));
        node.raft.propose(now, &entry.meta, membership, &mut out);
        self.carry_out(at, &out, Accepted::default(), vec![entry]);
        self.after_call(at);
    }

    /// A message arrives.
    pub(super) fn hear(&mut self, packet: &Packet) {
        let (now, from, to) = (self.now(packet.to), packet.from, packet.to);
        let nodes = self.nodes.len();
        let node = self.node(to);
        node.lives.resize(nodes, 0);
        if packet.life < node.lives[from] {
            return;
        }
        node.lives[from] = packet.life;
        match &packet.body {
            Body::Raft(bytes, entries) => {
                let mut out = Output::default();
                let (message, _) = decode(bytes).expect("what was encoded");
                let supports = &node.supports;
                let accepted = node
                    .raft
                    .receive(now, member(from), &message, supports, &mut out);
                let new = &entries[accepted.skip.min(entries.len())..][..accepted.take];
                self.carry_out(to, &out, accepted, new.to_vec());
                self.own_entries(to);
            }
            Body::Request(request) => {
                let given = node.supports.requested(now, member(from).node, request);
                if let Some(support) = given {
                    self.post(to, from, Body::Support(support), Gate::Now);
                }
            }
            Body::Support(support) => node.supports.supported(now, member(from).node, support),
        }
        self.after_call(to);
    }

    /// The first write of a node becomes durable.
    pub(super) fn sync(&mut self, at: usize) {
        let node = self.node(at);
        let write = node.disk.queue.pop_front().expect("it has written");
        node.disk.commit(&write);
        let ready = node
            .gated
            .extract_if(.., |(after, _)| *after <= write.number);
        let ready: Vec<_> = ready.map(|(_, packet)| packet).collect();
        self.wire.extend(ready);
        self.call(at, |raft, now, _, out| raft.durable(now, write.mark, out));
    }

    pub(super) fn sync_all(&mut self) {
        let has_writes = |node: &Rc<Node>| !node.disk.queue.is_empty();
        while let Some(at) = self.nodes.iter().position(has_writes) {
            self.sync(at);
        }
    }

    /// A node loses what is not durable, and starts anew.
    pub(super) fn crash(&mut self, at: usize) {
        self.done.crashes += 1;
        let (now, all) = (self.now(at), self.nodes.len());
        let old = &self.nodes[at];
        let (mut disk, life) = (old.disk.clone(), old.life + 1);
        disk.crash(0, 0);
        let mut node = Node::recover((at, life), disk, now, &self.bounds);
        want(&mut node, at, all);
        self.nodes[at] = Rc::new(node);
        self.after_call(at);
    }

    /// A node asks for support, and looks at its promises and timers.
    pub(super) fn tick(&mut self, at: usize) {
        self.done.requests += 1;
        let (now, mut wants) = (self.now(at), SupportOutput::default());
        let supports = &mut self.node(at).supports;
        supports.tick(now, Health::Working, &mut wants);
        for (to, request) in wants.requests {
            let to = to.0 as usize - 1;
            self.post(at, to, Body::Request(request), Gate::Now);
        }
        for changed in wants.changed {
            self.call(at, |raft, now, supports, out| {
                raft.support_changed(now, changed, supports, out);
            });
        }
        let is_leader = self.nodes[at].raft.role() == Role::Leader;
        let due = self.nodes[at].raft.deadline();
        if is_leader && due.is_some_and(|due| due <= now) {
            self.call(at, |raft, now, supports, out| raft.tick(now, supports, out));
        }
        self.after_call(at);
    }

    /// Applies what is committed and durable, and notes what the node is.
    pub(super) fn after_call(&mut self, at: usize) {
        let node = self.node(at);
        let upto = node.raft.committed().min(node.raft.durable_index());
        while node.state.applied.index < upto {
            let index = node.state.applied.index.next();
            let entry = node.log.entry(index).expect("the log has it");
            node.state.apply(index, entry);
            node.raft.applied(index);
        }
        node.note();
    }
}

/// Returns the bytes of a message and its entries.
fn encoded(node: &Node, message: &Outgoing) -> (Vec<u8>, Vec<Rc<Entry>>) {
    let (mut bytes, mut entries) = (Vec::new(), Vec::new());
    encode_head(message, &mut bytes);
    if let Outgoing::Append { head, count } = message
        && *count > 0
    {
        entries = node.log.range(head.prev.index.next(), *count as usize);
        for entry in &entries {
            let mut membership = Vec::new();
            let of = entry.membership.as_ref();
            of.inspect(|of| of.encode(&mut membership));
            encode_meta(&entry.meta, &membership, &mut bytes);
        }
    }
    (bytes, entries)
}
