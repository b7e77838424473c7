//! What comes to a host: packets, times, connections, entries and snapshots.

use std::rc::Rc;

use ashlar_consensus::message::{Message, decode};
use ashlar_consensus::raft::{Accepted, Installed, Snapshot};
use ashlar_consensus::support::{Disk as Health, SupportOutput};
use ashlar_consensus::types::{Index, LogPosition, ReplicaId};
use ashlar_consensus::{Output, Raft};

use super::disk::{Entry, State};
use super::{Event, MS, Packet, World};

impl World {
    /// A packet has arrived.
    pub(crate) fn deliver(&mut self, from: usize, to: usize, incarnation: u32, packet: Packet) {
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
                if self.nodes[to].raft.is_some() {
                    self.check_lease(to);
                }
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
    pub(crate) fn hear(
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
    pub(crate) fn wake(&mut self, at: usize) {
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
    pub(crate) fn schedule(&mut self, at: usize) {
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

    /// Tells a node of a new connection to another.
    pub(crate) fn reconnect(&mut self, from: usize, to: usize) {
        if self.cuts[from][to] || self.cuts[to][from] || !self.nodes[to].is_up {
            return;
        }
        let node = self.nodes[to].id;
        self.call(from, |raft, now, _, out| raft.reachable(now, node, out));
    }

    /// Entries that were asked for are there.
    pub(crate) fn fetched(&mut self, at: usize, to: ReplicaId, first: Index) {
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
    pub(crate) fn offer(&mut self, at: usize, to: ReplicaId) {
        let snapshot = self.nodes[at].state.snapshot();
        let fails = self.random.chance(0.1) || snapshot.at.index == Index(0);
        self.call(at, |raft, now, _, out| match fails {
            true => raft.snapshot_failed(now, to),
            false => raft.offer_snapshot(now, to, snapshot, out),
        });
    }

    /// Begins to receive a snapshot's data.
    pub(crate) fn pull(&mut self, at: usize, from: usize, index: &LogPosition) {
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
    pub(crate) fn install(&mut self, at: usize, from: usize, (snapshot, state): (Snapshot, State)) {
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
    pub(crate) fn lose_snapshot(&mut self, at: usize, from: usize) {
        if let Some(to) = self.nodes[at].replica {
            self.call(from, |raft, now, _, _| raft.snapshot_failed(now, to));
        }
    }
}
