//! Every history of a small group within small bounds, each state once: what random histories may miss
//! (`simulate.rs`) is not missed here, and what is bounded here is not bounded there.
//!
//! The core itself is searched, not a model of it. A state is the replicas with their logs, disks and promises,
//! and what is on its way; an action is a message that arrives, early, late, twice or never, a write that becomes
//! durable, a crash, an election, a proposal, a change, a transfer, a step of time. What each search bounds
//! stands beside it. `EXHAUST=name` runs one search, `EXHAUST=all` also the long ones, and each tells its
//! states.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]
#![expect(
    clippy::disallowed_methods,
    reason = "what to search is asked for from outside"
)]

#[expect(dead_code, reason = "the simulation uses more of it")]
#[path = "sim/disk.rs"]
mod disk;
#[path = "exhaust/history.rs"]
mod history;
#[path = "exhaust/print.rs"]
mod print;
#[path = "exhaust/search.rs"]
mod search;
#[path = "exhaust/world.rs"]
mod world;

use std::collections::BTreeMap;

use ashlar_consensus::raft::Planted;
use ashlar_consensus::types::NodeId;
use ashlar_consensus::{Change, Member, ReplicaId};
use world::Bounds;

/// States that a search sees at most in every test run, unless it is small enough to be seen whole.
const STATES_MAX: u64 = 30_000;
/// States that it sees at most when it is asked for by name.
const STATES_MAX_ASKED: u64 = 30_000_000;

/// The searches: a name; whether every test run sees all of it, or a part; what there is and may happen. `led` means
/// that node 1 leads at the beginning, `slow` that writes take their time even when no crash can come any more, and
/// a change names the nodes that it is about.
const SEARCHES: &str = "
three terms of two             | whole | voters 2 campaigns 3 proposals 1 slow
crashes of two                 | whole | voters 2 campaigns 2 proposals 1 crashes 1
more crashes of two            | part  | voters 2 campaigns 2 proposals 1 crashes 2
lost and repeated              | whole | voters 2 led proposals 2 repeats 1 reconnects 1 slow
an election of three           | whole | voters 3 campaigns 1
an election of three, repeats  | part  | voters 3 campaigns 1 proposals 1 repeats 1
two candidates                 | part  | voters 3 campaigns 2
another leader                 | part  | voters 3 led campaigns 1 proposals 1 slow
other leaders                  | part  | voters 3 led campaigns 2 proposals 1 reconnects 1
a crash, and another leader    | part  | voters 3 led campaigns 1 proposals 1 crashes 1
crashes, and other leaders     | part  | voters 3 led campaigns 2 crashes 2
transfer                       | part  | voters 3 led transfers 1 proposals 1
transfer and candidate         | part  | voters 3 led transfers 1 campaigns 1
a lease ends                   | whole | voters 3 led campaigns 1 steps 2
a lease is renewed             | part  | voters 3 led campaigns 1 steps 3 requests 1
a lease and a crash            | part  | voters 3 led campaigns 1 steps 2 crashes 1
a lease is given up            | part  | voters 3 led transfers 1 steps 1 proposals 1
one becomes two                | whole | voters 1 outsiders 1 campaigns 2 crashes 1 add 2
one becomes another            | whole | voters 1 outsiders 1 campaigns 2 add 2 remove 1
two become three               | whole | voters 2 led outsiders 1 add 3
two become three, a candidate  | part  | voters 2 led outsiders 1 campaigns 1 add 3
one of two is replaced         | part  | voters 2 led outsiders 1 campaigns 1 replace 2 3
two become one                 | whole | voters 2 led campaigns 1 crashes 1 remove 1
the leader of three goes       | whole | voters 3 led remove 1
three become one               | part  | voters 3 led campaigns 1 remove 2 remove 3
";

/// A search.
struct Search {
    name: &'static str,
    is_whole: bool,
    bounds: Bounds,
}

/// Returns the replica of a node.
fn member(id: u64) -> Member {
    Member {
        replica: ReplicaId(id),
        node: NodeId(id),
    }
}

/// Reads what there is and may happen.
fn bounds(text: &str) -> Bounds {
    let mut bounds = Bounds::default();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .and_then(|word| word.parse::<u8>().ok())
                .expect("a number")
        };
        match word {
            "led" => bounds.led = true,
            "slow" => bounds.slow_disks = true,
            "voters" => bounds.voters = number().into(),
            "outsiders" => bounds.outsiders = number().into(),
            "campaigns" => bounds.campaigns = number(),
            "proposals" => bounds.proposals = number(),
            "crashes" => bounds.crashes = number(),
            "repeats" => bounds.repeats = number(),
            "reconnects" => bounds.reconnects = number(),
            "transfers" => bounds.transfers = number(),
            "steps" => bounds.steps = number(),
            "requests" => bounds.requests = number(),
            "add" => bounds
                .changes
                .push(Change::AddVoter(member(number().into()))),
            "remove" => bounds
                .changes
                .push(Change::Remove(ReplicaId(number().into()))),
            "replace" => {
                let (old, new) = (ReplicaId(number().into()), member(number().into()));
                bounds.changes.push(Change::Replace { old, new });
            }
            _ => panic!("{word} is nothing that a search has"),
        }
    }
    bounds
}

fn searches() -> Vec<Search> {
    let lines = SEARCHES.lines().filter(|line| !line.is_empty());
    let read = |line: &'static str| {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        Search {
            name: parts[0],
            is_whole: parts[1] == "whole",
            bounds: bounds(parts[2]),
        }
    };
    lines.map(read).collect()
}

#[test]
#[ignore = "takes many minutes: EXHAUST=name picks one search"]
fn no_history_within_bounds_breaks_a_promise() {
    let only = std::env::var("EXHAUST").ok();
    let (mut states, mut shown) = (0, BTreeMap::new());
    for search in searches() {
        let asked = only
            .as_deref()
            .map(|only| only == "all" || only == search.name);
        if asked == Some(false) {
            continue;
        }
        let most = match asked.is_some() || search.is_whole {
            true => STATES_MAX_ASKED,
            false => STATES_MAX,
        };
        let found = search::search(&search.bounds, most);
        let name = search.name;
        println!("{name}: {}", found.describe());
        assert!(found.violation.is_none(), "{name}: {}", found.describe());
        assert!(found.is_whole || !search.is_whole, "{name} has grown");
        states += found.states;
        for (what, count) in found.shows {
            *shown.entry(what).or_insert(0) += count;
        }
    }
    println!("{states} states");
    assert!(
        only.is_some() || shown.values().all(|count| *count > 0),
        "{shown:?}"
    );
}

/// Mistakes that the small searches show. Others need more than these bounds have, and are found by random histories:
/// see `simulate.rs`.
const PLANTED: [Planted; 7] = [
    Planted::AcksBeforeDurable,
    Planted::CountsOwnUndurable,
    Planted::QuorumUnsorted,
    Planted::VotesTwice,
    Planted::IgnoresCandidateLog,
    Planted::TruncatesMatching,
    Planted::BoundVotes,
];

#[test]
fn planted_mistakes_are_found() {
    let mut missed = Vec::new();
    for mistake in PLANTED {
        let whole = searches().into_iter().filter(|of| of.is_whole);
        let found = whole.into_iter().find_map(|of| {
            let planted = Some(mistake);
            let found = search::search(
                &Bounds {
                    planted,
                    ..of.bounds
                },
                STATES_MAX,
            );
            Some((of.name, found.states, found.violation?))
        });
        let Some((name, states, (what, way))) = found else {
            missed.push(mistake);
            continue;
        };
        let what = what.lines().next().unwrap_or_default();
        println!(
            "{mistake:?}: {name}, state {states}, {} actions: {what}",
            way.len()
        );
    }
    assert!(missed.is_empty(), "{missed:?}");
}
