//! What goes wrong, and what must be right when nothing does any more.

use ashlar_consensus::raft::DiskPace;
use ashlar_consensus::types::{Index, LogPosition, ReplicaId};
use ashlar_consensus::{Change, Member, Membership};

use super::disk::Write;
use super::host::describe;
use super::{Event, MS, NODES, World};

impl World {
    /// Something goes wrong, or somebody does something unusual.
    pub(crate) fn fault(&mut self) {
        if self.is_healed || self.plan.fault_every_ms == 0 {
            return;
        }
        let next = 1 + self.random.below(2 * self.plan.fault_every_ms * MS);
        self.after(next, Event::Fault);
        let at = match self.random.chance(0.4) {
            true => self.leader().unwrap_or(0),
            false => self.random.below(NODES as u64) as usize,
        };
        match self.random.below(22) {
            0..=2 => self.crash_for_a_while(at),
            3..=4 => self.cut_link(at),
            5 => self.cut_node(at),
            6 => self.mend(),
            7..=8 => {
                let pause = self.random.below(1_500 * MS);
                self.nodes[at].paused_until = self.now + pause;
            }
            9 => {
                let stall = self.random.below(1_500 * MS);
                self.nodes[at].disk.stalled_until = self.now + stall;
            }
            10 => self.campaign(at),
            11 => self.transfer(at),
            12..=13 => self.compact(at),
            14 => self.release(at),
            15 => self.damage(at),
            16..=18 if self.plan.churn && !self.is_anything_forgotten() => self.churn(),
            19 => {
                let pace = match self.random.chance(0.5) {
                    true => DiskPace::Slow,
                    false => DiskPace::Fine,
                };
                self.call(at, |raft, now, _, out| raft.disk_pace(now, pace, out));
            }
            20 => self.forget(),
            _ => {}
        }
    }

    /// Crashes a node, and starts it some time later.
    fn crash_for_a_while(&mut self, at: usize) {
        if self.nodes[at].is_up {
            self.crash(at);
            let most = if self.random.chance(0.5) { 50 } else { 1_000 };
            let pause = self.random.below(most * MS);
            self.after(pause, Event::Restart { node: at });
        }
    }

    /// Cuts a link in one direction.
    fn cut_link(&mut self, from: usize) {
        let to = self.random.below(NODES as u64) as usize;
        self.cuts[from][to] = true;
        self.hear_of_cut(from, to);
    }

    /// Cuts a node off, fully or in one direction.
    fn cut_node(&mut self, at: usize) {
        let kind = self.random.below(3);
        for other in (0..NODES).filter(|&other| other != at) {
            self.cuts[at][other] |= kind != 0;
            self.cuts[other][at] |= kind != 1;
            self.hear_of_cut(at, other);
        }
    }

    /// Tells both ends of a cut link, if they are told such things.
    fn hear_of_cut(&mut self, a: usize, b: usize) {
        if self.plan.told_of_connections {
            for (at, other) in [(a, b), (b, a)] {
                let node = self.nodes[other].id;
                self.call(at, |raft, _, _, _| raft.unreachable(node));
            }
        }
    }

    /// Mends all links.
    fn mend(&mut self) {
        for from in 0..NODES {
            for to in 0..NODES {
                let was_cut = std::mem::take(&mut self.cuts[from][to]);
                if was_cut && self.plan.told_of_connections {
                    self.after(1, Event::Reconnect { from, to });
                    self.after(1, Event::Reconnect { from: to, to: from });
                }
            }
        }
    }

    /// A node stands for election unasked.
    fn campaign(&mut self, at: usize) {
        // Refused more often than not.
        self.call(at, |raft, now, supports, out| {
            let _ = raft.campaign(now, supports, out);
        });
    }

    /// The leader hands over.
    fn transfer(&mut self, to: usize) {
        if let (Some(leader), Some(to)) = (self.leader(), self.nodes[to].replica) {
            self.call(leader, |raft, now, _, out| {
                let _ = raft.transfer(now, to, out);
            });
        }
    }

    /// A node drops the beginning of its log.
    fn compact(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.is_up || node.raft.is_none() || node.state.applied == node.log.base.applied {
            return;
        }
        let state = node.state.clone();
        let (index, chain) = (state.applied.index, state.chain);
        node.log.behind(&state);
        node.first_kept = node.first_kept.max(index.next());
        node.raft
            .as_mut()
            .expect("it hosts one")
            .compacted(index, chain);
        let mark = node.raft().mark();
        node.written += 1;
        node.disk.queue.push_back(Write {
            ballot: None,
            has_forgotten: false,
            behind: Some(state),
            truncate_after: None,
            entries: Vec::new(),
            mark,
            number: node.written,
        });
        self.call(at, |_, _, _, _| {});
        self.sync(at);
    }

    /// A node no longer holds some entries in memory.
    fn release(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let applied = node.state.applied.index;
        if let Some(raft) = node.raft.as_mut() {
            node.first_kept = node.first_kept.max(applied.next());
            raft.released(applied.next());
        }
    }

    /// The bytes of an entry that was not applied yet are lost, for a while.
    fn damage(&mut self, at: usize) {
        let pause = self.random.below(1_000 * MS);
        let node = &mut self.nodes[at];
        let (incarnation, index) = (node.incarnation, node.state.applied.index.next());
        let Some(entry) = node.log.entry(index).filter(|_| node.is_up) else {
            return;
        };
        let term = entry.meta.term;
        node.damaged.insert(index);
        self.call(at, |raft, now, _, out| {
            raft.corrupt(now, LogPosition { term, index }, out)
        });
        self.after(
            pause,
            Event::Repaired {
                node: at,
                incarnation,
                index,
            },
        );
    }

    /// The bytes of an entry are there again.
    pub(crate) fn repair(&mut self, at: usize, index: Index) {
        let node = &mut self.nodes[at];
        node.damaged.remove(&index);
        let term = node.log.entry(index).map(|entry| entry.meta.term);
        if let Some(term) = term {
            self.call(at, |raft, now, _, _| {
                raft.repaired(now, LogPosition { term, index })
            });
        }
    }

    /// Changes the membership, by way of the leader.
    fn churn(&mut self) {
        let Some(leader) = self.leader() else {
            return;
        };
        let membership = self.nodes[leader].raft().membership().clone();
        if let Some((old, new)) = self.wiped {
            if !membership.votes(old) {
                self.wiped = None;
            } else {
                self.change(leader, &Change::Replace { old, new });
            }
            return;
        }
        let kind = self.random.below(7);
        let any = |world: &mut Self, list: &[Member]| {
            let at = world.random.below(list.len() as u64) as usize;
            list.get(at).map(|member| member.replica)
        };
        let change = match kind {
            0 => self.newcomer().map(Change::AddVoter),
            1 => self.newcomer().map(Change::AddLearner),
            2 => any(self, &membership.learners).map(Change::Promote),
            3 if membership.voters.len() > 1 => any(self, &membership.voters).map(Change::Demote),
            4 if membership.voters.len() > 1 => any(self, &membership.voters).map(Change::Remove),
            5 => any(self, &membership.learners).map(Change::Remove),
            _ => return self.wipe(leader, &membership),
        };
        if let Some(change) = change {
            self.change(leader, &change);
        }
    }

    /// Asks a leader for a change; it may refuse.
    fn change(&mut self, leader: usize, change: &Change) {
        self.call(leader, |raft, _, _, _| {
            let _ = raft.change_membership(change);
        });
    }

    /// Puts a fresh replica on a node that hosts none that belongs to any membership.
    fn newcomer(&mut self) -> Option<Member> {
        let memberships: Vec<Membership> = (0..NODES).filter_map(|at| self.known(at)).collect();
        let is_known = |replica: Option<ReplicaId>| {
            replica.is_some_and(|replica| {
                memberships
                    .iter()
                    .any(|membership| membership.member(replica).is_some())
            })
        };
        let free = (0..NODES)
            .filter(|&at| !is_known(self.nodes[at].replica))
            .collect::<Vec<_>>();
        let at = *free.get(self.random.below(free.len() as u64) as usize)?;
        self.put_fresh(at);
        self.nodes[at].member()
    }

    /// Returns the latest membership that a node knows of, durably or not.
    fn known(&self, at: usize) -> Option<Membership> {
        let node = &self.nodes[at];
        node.replica?;
        if let Some(raft) = &node.raft {
            return Some(raft.membership().clone());
        }
        let log = &node.disk.log;
        let last = log
            .entries
            .iter()
            .rev()
            .find_map(|entry| entry.membership.clone());
        Some(last.unwrap_or_else(|| log.base.membership.clone()))
    }

    /// Puts a fresh replica in the place of what a node hosts.
    fn put_fresh(&mut self, at: usize) {
        if self.nodes[at].is_up {
            self.crash(at);
        }
        let node = &self.nodes[at];
        if let Some(replica) = node.replica {
            self.checks.dead.insert(replica, node.disk.log.clone());
        }
        self.next_replica += 1;
        self.nodes[at].host(ReplicaId(self.next_replica), None);
        self.start(at);
    }

    /// A voter loses all that it had; a new replica on its node is to replace it.
    fn wipe(&mut self, leader: usize, membership: &Membership) {
        let others: Vec<Member> = membership.voters.clone();
        if !self.may_lose_one(leader, membership) {
            return;
        }
        let victim = others[self.random.below(others.len() as u64) as usize];
        let at = victim.node.0 as usize - 1;
        if at != leader {
            self.put_fresh(at);
            let new = self.nodes[at].member().expect("it was just put there");
            self.wiped = Some((victim.replica, new));
        }
    }

    /// Tells whether the others can do without any one voter: all agree on who there is.
    fn may_lose_one(&self, leader: usize, membership: &Membership) -> bool {
        let agreed = (0..NODES).all(|at| {
            let member = self.nodes[at]
                .replica
                .and_then(|replica| membership.member(replica));
            member.is_none() || self.known(at).as_ref() == Some(membership)
        });
        let (index, committed) = self.nodes[leader].raft().committed_membership();
        let settled = agreed && committed == membership;
        settled && !membership.is_joint() && membership.voters.len() > 2 && index > Index(0)
    }

    /// Tells whether some replica has forgotten what it promised.
    fn is_anything_forgotten(&self) -> bool {
        self.nodes.iter().any(|node| node.disk.has_forgotten)
    }

    /// A voter crashes, and what it promised is lost, and all but a beginning of its log.
    fn forget(&mut self) {
        let Some(leader) = self.leader() else { return };
        let membership = self.nodes[leader].raft().membership().clone();
        let is_lost = self.wiped.is_some() || self.is_anything_forgotten();
        if is_lost || !self.may_lose_one(leader, &membership) {
            return;
        }
        let voters = membership.voters.len() as u64;
        let victim = membership.voters[self.random.below(voters) as usize];
        let at = victim.node.0 as usize - 1;
        if self.nodes[at].is_up {
            self.crash(at);
        }
        let before = self.nodes[at].disk.log.clone();
        let kept = self.random.below(before.entries.len() as u64 + 1) as usize;
        self.checks.forgot(victim.replica, before);
        self.nodes[at].disk.forget(kept);
        let pause = self.random.below(100 * MS);
        self.after(pause, Event::Restart { node: at });
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        self.mend();
        (self.loss, self.repeats) = (0.0, 0.0);
        self.plan.delay_max_ms = self.plan.delay_max_ms.min(10);
        self.plan.disk_max_ms = self.plan.disk_max_ms.min(5);
        for at in 0..NODES {
            self.nodes[at].paused_until = self.now;
            self.nodes[at].disk.stalled_until = self.now;
            if !self.nodes[at].is_up {
                self.start(at);
            }
            let damaged: Vec<Index> = self.nodes[at].damaged.iter().copied().collect();
            for index in damaged {
                self.repair(at, index);
            }
            self.call(at, |raft, now, _, out| {
                raft.disk_pace(now, DiskPace::Fine, out)
            });
        }
    }

    /// Runs a whole history: faults, healing, and what must follow.
    pub(crate) fn live(&mut self) {
        self.run(self.plan.fault_ms * MS);
        self.heal();
        let mut until = self.now + 8_000 * MS;
        self.run(until);
        for _ in 0..20 {
            if self.wiped.is_none() && self.is_settled() {
                break;
            }
            if self.wiped.is_some() {
                self.churn();
            }
            until += 500 * MS;
            self.run(until);
        }
        self.check_life();
    }

    /// Tells whether the group has a leader and nothing under way.
    fn is_settled(&self) -> bool {
        let leader = self.leader().map(|at| self.nodes[at].raft());
        leader.is_some_and(|raft| {
            !raft.membership().is_joint() && raft.committed_membership().1 == raft.membership()
        })
    }

    /// A group that nothing happens to serves its clients, agrees, and is quiet when they are gone.
    fn check_life(&mut self) {
        let states = || {
            (0..NODES)
                .map(|at| describe(self, at))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let leader = self
            .leader()
            .unwrap_or_else(|| panic!("nobody leads\n{}", states()));
        assert!(self.is_settled(), "not settled\n{}", states());
        let supports = self.nodes[leader]
            .supports
            .as_ref()
            .expect("it was started");
        let clock = self.nodes[leader].clock(self.now);
        let raft = self.nodes[leader].raft();
        assert!(raft.serves_reads(clock, supports), "no lease\n{}", states());
        let index = self
            .client_write(leader)
            .expect("a leader without trouble takes proposals");
        self.plan.client_every_ms = 1 << 40;
        self.remove_clients();
        self.run(self.now + 3_000 * MS);
        let states = || {
            (0..NODES)
                .map(|at| describe(self, at))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(self.leader(), Some(leader), "another leads\n{}", states());
        let membership = self.nodes[leader].raft().membership().clone();
        for member in membership.members() {
            let node = &self.nodes[member.node.0 as usize - 1];
            assert_eq!(node.replica, Some(member.replica));
            let reached = node.state.applied.index >= index;
            assert!(reached, "{member:?} has not applied {index}\n{}", states());
            assert_eq!(
                node.raft().deadline(),
                None,
                "{member:?} is not quiet\n{}",
                states()
            );
        }
    }
}
