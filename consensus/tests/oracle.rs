//! Another implementation of Raft as an oracle: random schedules of elections, proposals, cuts, restarts and transfers
//! are given to this core and to the `raft` crate (tikv), and after each step, when all that can arrive has arrived,
//! both must say the same of every replica: its term, what it is, what is in its log; and of every leader, what is
//! committed. What a follower knows to be committed may come later here: an idle follower is told with a delay.
//!
//! Compared is what the protocol decides. The two differ by design in what follows from time (heartbeats there,
//! promises between nodes here) and in when a membership counts (applied there, in the log here), so no time passes and
//! nobody comes or goes. `ORACLE_SEEDS=n` runs so many schedules.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]
#![expect(
    clippy::disallowed_methods,
    reason = "how many schedules to run is asked for from outside"
)]

#[expect(dead_code, reason = "the simulation uses more of it")]
#[path = "sim/disk.rs"]
mod disk;
#[path = "exhaust/history.rs"]
mod history;
#[path = "exhaust/print.rs"]
mod print;
#[path = "sim/random.rs"]
mod random;
#[expect(dead_code, reason = "the search uses more of it")]
#[path = "exhaust/world.rs"]
mod world;

use std::collections::VecDeque;

use ashlar_consensus::raft::Role;
use raft::eraftpb::{ConfState, Entry, HardState, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole, Storage};
use random::Random;
use world::{Action, Bounds, World};

/// Steps of one schedule.
const STEPS: u64 = 60;

/// What is compared of a replica: its term, what it is, and its log as terms and values.
#[derive(Debug, PartialEq, Eq)]
struct Replica {
    term: u64,
    role: &'static str,
    log: Vec<(u64, u64)>,
    /// What a leader knows to be committed.
    committed: Option<u64>,
}

/// The other implementation.
struct Other {
    nodes: Vec<RawNode<MemStorage>>,
    wire: VecDeque<Message>,
}

fn config(id: u64) -> Config {
    Config {
        id,
        election_tick: 10,
        heartbeat_tick: 3,
        pre_vote: true,
        check_quorum: false,
        max_size_per_msg: 1 << 20,
        max_inflight_msgs: 256,
        ..Config::default()
    }
}

fn node(id: u64, storage: MemStorage) -> RawNode<MemStorage> {
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config(id), storage, &logger).expect("the configuration is sound")
}

impl Other {
    /// Returns so many replicas with one entry in their logs, committed, as a group begins with here.
    fn new(count: u64) -> Self {
        let voters: Vec<u64> = (1..=count).collect();
        let one = |id| {
            let storage =
                MemStorage::new_with_conf_state(ConfState::from((voters.clone(), vec![])));
            let first = Entry {
                term: 1,
                index: storage.last_index().expect("it is in memory") + 1,
                ..Entry::default()
            };
            let state = HardState {
                term: 1,
                commit: first.index,
                ..HardState::default()
            };
            storage.wl().append(&[first]).expect("it follows");
            storage.wl().set_hardstate(state);
            node(id, storage)
        };
        Self {
            nodes: voters.iter().map(|id| one(*id)).collect(),
            wire: VecDeque::new(),
        }
    }

    /// Does what a replica wants, as long as it wants something; everything is durable at once.
    fn drain(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        while node.has_ready() {
            let mut ready = node.ready();
            self.wire.extend(ready.take_messages());
            let storage = node.store().clone();
            let mut storage = storage.wl();
            storage.append(ready.entries()).expect("entries follow");
            if let Some(state) = ready.hs() {
                storage.set_hardstate(state.clone());
            }
            drop(storage);
            self.wire.extend(ready.take_persisted_messages());
            let mut rest = node.advance(ready);
            if let Some(commit) = rest.commit_index() {
                let storage = node.store().clone();
                storage.wl().mut_hard_state().set_commit(commit);
            }
            self.wire.extend(rest.take_messages());
            node.advance_apply();
        }
    }

    fn settle(&mut self, is_linked: impl Fn(usize, usize) -> bool) {
        loop {
            (0..self.nodes.len()).for_each(|at| self.drain(at));
            let Some(message) = self.wire.pop_front() else {
                return;
            };
            let (from, to) = (message.from as usize - 1, message.to as usize - 1);
            if is_linked(from, to) {
                // What comes too late is refused, as it should be.
                let _ = self.nodes[to].step(message);
            }
        }
    }

    fn act(&mut self, action: Action) {
        // Refused is as good as not asked, on both sides.
        match action {
            Action::Campaign(at) => drop(self.nodes[at].campaign()),
            Action::Reconnect(at, _) => self.nodes[at].ping(),
            Action::Transfer(at, to) => self.nodes[at].transfer_leader(to as u64 + 1),
            Action::Crash(at) => {
                let storage = self.nodes[at].store().clone();
                self.nodes[at] = node(at as u64 + 1, storage);
            }
            other => unreachable!("{other:?} is not compared"),
        }
    }

    fn propose(&mut self, at: usize, value: u64) {
        let _ = self.nodes[at].propose(vec![], value.to_le_bytes().to_vec());
    }

    fn replica(&self, at: usize) -> Replica {
        let raft = &self.nodes[at].raft;
        let (role, leads) = match raft.state {
            StateRole::Follower => ("follower", false),
            StateRole::Candidate => ("candidate", false),
            StateRole::Leader => ("leader", true),
            StateRole::PreCandidate => ("pre-candidate", false),
        };
        let first = raft.raft_log.first_index();
        let entries = raft.raft_log.all_entries();
        let value = |entry: &Entry| {
            let bytes = entry.data.as_ref().try_into();
            (entry.term, bytes.map_or(0, u64::from_le_bytes))
        };
        Replica {
            term: raft.term,
            role,
            log: entries.iter().map(value).collect(),
            committed: leads.then(|| raft.raft_log.committed + 1 - first),
        }
    }
}

fn ours(world: &World, at: usize) -> Replica {
    let node = &world.nodes[at];
    let (role, leads) = match node.raft.role() {
        Role::Follower => ("follower", false),
        Role::Candidate => ("candidate", false),
        Role::Leader => ("leader", true),
        Role::PreCandidate => ("pre-candidate", false),
    };
    let entries = node.log().entries.iter();
    Replica {
        term: node.raft.term().0,
        role,
        log: entries
            .map(|entry| (entry.meta.term.0, entry.value))
            .collect(),
        committed: leads.then(|| node.raft.committed().0),
    }
}

/// What was seen to happen, so that the comparison is known to be of something.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    elections: u64,
    committed: u64,
    taken_back: u64,
    transfers: u64,
    /// Schedules that ended early: see [`differs_by_design`].
    parted: u64,
}

/// Cuts some ways and mends the others.
fn draw_cuts(random: &mut Random, cut: &mut [Vec<bool>]) {
    let count = cut.len();
    for (a, b) in (0..count).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let is_cut = random.chance(0.3);
        (cut[a][b], cut[b][a]) = (is_cut, is_cut);
    }
}

/// Returns that each leader hears of a new connection to everybody.
fn reconnect_all(leaders: &[usize], count: usize) -> Vec<Action> {
    let pairs = leaders.iter().flat_map(|at| (0..count).map(|to| (*at, to)));
    let others = pairs.filter(|(at, to)| at != to);
    others.map(|(at, to)| Action::Reconnect(at, to)).collect()
}

/// Does one thing on both sides.
fn do_both(world: &mut World, other: &mut Other, action: Action) {
    match action {
        Action::Propose(at) if !world.nodes[at].raft.may_propose() => {}
        Action::Propose(at) => {
            world.act(action).expect("nothing is wrong");
            other.propose(at, world.proposals());
        }
        _ => {
            world.act(action).expect("nothing is wrong");
            other.act(action);
        }
    }
}

/// Says whether the two differ in one of two ways that are meant to be. There who has lost an election takes over the
/// later term of a refusal that comes too late; here who has lost does not listen any more. And there a voter may say
/// that it would vote in the term that it is in already; here it refuses, and so tells which term that is.
fn differs_by_design(mine: &Replica, theirs: &Replica) -> bool {
    mine.log == theirs.log
        && match (mine.role, theirs.role) {
            ("follower", "follower") => mine.term < theirs.term,
            ("follower", "pre-candidate") => mine.term > theirs.term,
            _ => false,
        }
}

/// Runs one schedule.
fn run(seed: u64, seen: &mut Seen) {
    let mut random = Random(seed);
    let count = 3 + 2 * random.below(2);
    let most = u8::MAX;
    let mut world = World::new(&Bounds {
        voters: count,
        campaigns: most,
        proposals: most,
        crashes: most,
        reconnects: most,
        transfers: most,
        ..Bounds::default()
    });
    let mut other = Other::new(count);
    let count = count as usize;
    let mut cut = vec![vec![false; count]; count];
    let mut told = Vec::new();
    for _ in 0..STEPS {
        let at = random.below(count as u64) as usize;
        let to = random.below(count as u64) as usize;
        let before: Vec<_> = (0..count).map(|at| ours(&world, at).log).collect();
        let leads = |at: &usize| world.nodes[*at].raft.role() == Role::Leader;
        let actions = match random.below(10) {
            0..3 => vec![Action::Campaign(at)],
            3..6 if leads(&at) => vec![Action::Propose(at)],
            6 => vec![Action::Crash(at)],
            7 if leads(&at) && at != to && !cut[at][to] => vec![Action::Transfer(at, to)],
            _ => {
                draw_cuts(&mut random, &mut cut);
                let leaders: Vec<usize> = (0..count).filter(leads).collect();
                reconnect_all(&leaders, count)
            }
        };
        told.push(format!("{actions:?} cut {cut:?}"));
        for action in actions {
            seen.transfers += u64::from(matches!(action, Action::Transfer(..)));
            do_both(&mut world, &mut other, action);
        }
        world.settle(|from, to| !cut[from][to]);
        other.settle(|from, to| !cut[from][to]);
        for (at, before) in before.iter().enumerate() {
            let (mine, theirs) = (ours(&world, at), other.replica(at));
            if differs_by_design(&mine, &theirs) {
                seen.parted += 1;
                return;
            }
            assert_eq!(
                mine,
                theirs,
                "seed {seed}: replica {at} after {}",
                told.join("\n")
            );
            seen.taken_back += u64::from(!mine.log.starts_with(before));
        }
        seen.steps += 1;
    }
    seen.elections += world.history.leaders() as u64;
    seen.committed += world.history.committed() as u64;
}

#[test]
fn another_implementation_decides_the_same() {
    let seeds = std::env::var("ORACLE_SEEDS").ok();
    let seeds = seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    let mut seen = Seen::default();
    (0..seeds).for_each(|seed| run(seed, &mut seen));
    println!("{seeds} schedules: {seen:?}");
    let happened = [
        seen.elections,
        seen.committed,
        seen.taken_back,
        seen.transfers,
    ];
    assert!(seen.parted * 20 < seeds, "{seen:?}");
    assert!(
        happened.iter().all(|count| *count > seeds / 100),
        "{seen:?}"
    );
}
