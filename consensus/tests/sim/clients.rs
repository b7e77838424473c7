//! Clients that write and read, at nodes that may or may not lead.

use ashlar_consensus::message::EntryKind;
use ashlar_consensus::raft::ReadAnswer;
use ashlar_consensus::types::Index;

use super::{Event, MS, NODES, World};

impl World {
    /// Answers what waits for entries to be applied.
    pub(crate) fn answer_clients(&mut self, at: usize) {
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
    pub(crate) fn client(&mut self) {
        let every = self.plan.client_every_ms * MS;
        let next = 1 + self.random.below(2 * every);
        self.after(next, Event::Client);
        let leaders: Vec<usize> = (0..NODES).filter(|&at| self.nodes[at].leads()).collect();
        let at = match self.random.below(4) {
            0 => self.random.below(NODES as u64) as usize,
            _ => {
                let any = self.random.below(leaders.len() as u64) as usize;
                leaders.get(any).copied().unwrap_or(0)
            }
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
    pub(crate) fn client_write(&mut self, at: usize) -> Option<Index> {
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
    pub(crate) fn client_read(&mut self, at: usize) {
        let (now, floor) = (self.now, self.checks.floor);
        let node = &self.nodes[at];
        let supports = node.supports.as_ref().expect("the node was started");
        if node.raft().serves_reads(node.clock(now), supports) {
            // Others may have shown what this node has not applied yet.
            let committed = node.raft().committed();
            self.check_lease(at);
            self.checks.lease_reads += 1;
            self.nodes[at].reads.push((committed, floor));
            return self.answer_clients(at);
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
