//! Author, reader and ledger against a server of a page, honest or with a planted fault.

use super::*;
use crate::bench::author::Task;
use crate::bench::keys::{Distribution, Names};
use crate::bench::ledger::Ledger;
use crate::bench::tally::WrongAnswers;
use crate::bench::values::{Bodies, Sizes};
use crate::bench::workload::ScanBy;
use std::collections::{BTreeMap, BTreeSet};

/// What the server does wrong, after the keys were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Acknowledges writes and forgets one in ten.
    Forgets,
    /// Flips a bit of one value in ten.
    Flips,
    /// Answers with the neighbour's value, one in ten.
    Swaps,
    /// Counters stand still, one in ten.
    Stalls,
    /// Answers every command with an error.
    Refuses,
}

#[derive(Debug)]
struct Model {
    fault: Fault,
    turn: u64,
    strings: BTreeMap<Vec<u8>, Vec<u8>>,
    hashes: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
    counters: BTreeMap<Vec<u8>, i64>,
    index: BTreeSet<Vec<u8>>,
}

impl Model {
    /// Says whether the fault strikes now.
    fn strikes(&mut self, fault: Fault) -> bool {
        self.turn += u64::from(self.fault == fault);
        self.fault == fault && self.turn.is_multiple_of(10)
    }

    fn answer(&mut self, words: &[&[u8]], out: &mut Vec<u8>) {
        if self.fault == Fault::Refuses {
            out.extend_from_slice(b"-ERR refused\r\n");
            return;
        }
        match words {
            [b"SET", key, value] => {
                if !self.strikes(Fault::Forgets) {
                    self.strings.insert(key.to_vec(), value.to_vec());
                }
                out.extend_from_slice(b"+OK\r\n");
            }
            [b"GET", key] => {
                let found = self.read(key);
                bulk(found.as_deref(), out);
            }
            [b"HSET", key, rest @ ..] => {
                if !self.strikes(Fault::Forgets) {
                    let fields = self.hashes.entry(key.to_vec()).or_default();
                    fields.extend(
                        rest.chunks(2)
                            .map(|pair| (pair[0].to_vec(), pair[1].to_vec())),
                    );
                }
                out.extend_from_slice(b":1\r\n");
            }
            [b"HGETALL", key] => {
                let fields = self.hashes.get(*key).cloned().unwrap_or_default();
                out.extend_from_slice(format!("*{}\r\n", fields.len() * 2).as_bytes());
                for (name, mut value) in fields {
                    if self.strikes(Fault::Flips) {
                        value[30] ^= 4;
                    }
                    bulk(Some(&name), out);
                    bulk(Some(&value), out);
                }
            }
            [b"INCR", key] => {
                let grows = !self.strikes(Fault::Stalls);
                let number = self.counters.entry(key.to_vec()).or_default();
                *number += i64::from(grows);
                out.extend_from_slice(format!(":{number}\r\n").as_bytes());
            }
            [b"DEL", key] => {
                self.strings.remove(*key);
                out.extend_from_slice(b":1\r\n");
            }
            [b"ZADD", _, _, name] => {
                self.index.insert(name.to_vec());
                out.extend_from_slice(b":1\r\n");
            }
            [b"ZRANGEBYLEX", _, from, _, _, _, limit] => {
                let limit = std::str::from_utf8(limit).unwrap().parse().unwrap();
                let names: Vec<_> = self.index.range(from[1..].to_vec()..).take(limit).collect();
                out.extend_from_slice(format!("*{}\r\n", names.len()).as_bytes());
                names.into_iter().for_each(|name| bulk(Some(name), out));
            }
            [b"KV.SCAN", from, _, _, limit] => {
                let limit = std::str::from_utf8(limit).unwrap().parse().unwrap();
                let found: Vec<_> = self.strings.range(from.to_vec()..).take(limit).collect();
                out.extend_from_slice(format!("*2\r\n$-1\r\n*{}\r\n", found.len() * 2).as_bytes());
                for (name, value) in found {
                    bulk(Some(name), out);
                    bulk(Some(value), out);
                }
            }
            other => panic!("an unexpected command: {other:?}"),
        }
    }

    fn read(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let swaps = self.strikes(Fault::Swaps);
        let mut found = match swaps {
            true => self.strings.values().next_back().cloned(),
            false => self.strings.get(key).cloned(),
        };
        if self.strikes(Fault::Flips) {
            found.iter_mut().for_each(|value| value[30] ^= 4);
        }
        found
    }
}

fn bulk(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(b"$-1\r\n"),
        Some(value) => {
            out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Cuts commands apart.
fn commands(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let Ok(Front::Whole(Reply::Array(words), used)) = reply::read(&bytes[at..]) else {
            panic!("a command is an array of words")
        };
        let word = |word| match word {
            Reply::Bulk(word) => word,
            other => panic!("a word is a bulk: {other:?}"),
        };
        found.push(words.map(word).collect());
        at += used;
    }
    found
}

fn workload(mix: &str, form: Form) -> Workload {
    Workload {
        names: Names::new("key:", 16, 100).unwrap(),
        counters: Names::new("counter:key:", 24, 100).unwrap(),
        index: b"index".to_vec(),
        mix: mix.parse().unwrap(),
        distribution: Distribution::Uniform,
        sizes: Sizes::Uniform(60, 90),
        bodies: Bodies::new(0.0, 1),
        form,
        field_names: Workload::name_fields(3),
        scan_keys: 5,
        templates: Vec::new(),
        verifies: true,
    }
}

/// Loads a hundred keys, then runs a mix in pipelines, answers cut in pieces; returns what was counted.
fn run(workload: Workload, scan_by: ScanBy, fault: Fault) -> Tally {
    let workload = Arc::new(workload);
    let world = Arc::new(World::new(Ledger::new(7, 1_000), scan_by, 100));
    let mut author = Author::new(&workload, &world, (0, 1), 3);
    let mut reader = Reader::new(&workload, &world);
    let (mut pipeline, mut tally) = (Pipeline::default(), Tally::default());
    let mut model = Model {
        fault: Fault::None,
        turn: 0,
        strings: BTreeMap::new(),
        hashes: BTreeMap::new(),
        counters: BTreeMap::new(),
        index: BTreeSet::new(),
    };
    let mut ended = 0;
    for round in 0..400_u64 {
        if round == 20 {
            (model.fault, tally, ended) = (fault, Tally::default(), 0);
        }
        for n in 0..5 {
            let task = match round < 20 {
                true => Task::Fill(round * 5 + n),
                false => Task::Any,
            };
            author.append(task, (Monotonic(round), Monotonic(round)), &mut pipeline);
        }
        while !pipeline.out.is_empty() {
            let sent = std::mem::take(&mut pipeline.out);
            let mut replies = Vec::new();
            commands(&sent)
                .iter()
                .for_each(|words| model.answer(words, &mut replies));
            for piece in replies.chunks(37) {
                let with = (&mut author, &mut tally);
                ended += reader
                    .take_in(piece, Monotonic(round + 1), &mut pipeline, with)
                    .unwrap();
            }
        }
        assert!(pipeline.pending.is_empty() && pipeline.partial.is_empty());
    }
    assert_eq!((ended, tally.done()), (1_900, 1_900));
    tally
}

#[test]
fn an_honest_server_is_never_accused() {
    let all = "get=4,set=4,insert=1,incr=1,del=1,scan=2,rmw=2";
    for scan_by in [ScanBy::Kv, ScanBy::Index] {
        let tally = run(workload(all, Form::String), scan_by, Fault::None);
        assert_eq!(
            (tally.wrong, tally.errors()),
            (WrongAnswers::default(), 0),
            "{:?}",
            tally.first_wrong
        );
        assert!(tally.verified > 1_000 && tally.misses > 0, "{tally:?}");
    }
    let tally = run(
        workload("get=4,set=4,insert=1,scan=2,rmw=2", Form::Hash),
        ScanBy::Index,
        Fault::None,
    );
    assert_eq!(
        (tally.wrong, tally.errors()),
        (WrongAnswers::default(), 0),
        "{:?}",
        tally.first_wrong
    );
    assert!(tally.verified > 1_000, "{tally:?}");
}

#[test]
fn planted_faults_are_found_and_told_apart() {
    let wrong = |mix, form, fault| run(workload(mix, form), ScanBy::Index, fault).wrong;
    for form in [Form::String, Form::Hash] {
        let forgets = wrong("get=1,set=1", form, Fault::Forgets);
        assert!(
            forgets.lost > 10 && forgets.sum() == forgets.lost,
            "{forgets:?}"
        );
        let flips = wrong("get=1,set=1", form, Fault::Flips);
        assert!(
            flips.damaged > 10 && flips.sum() == flips.damaged,
            "{flips:?}"
        );
    }
    let swaps = wrong("get=1", Form::String, Fault::Swaps);
    assert!(
        swaps.misplaced > 10 && swaps.sum() == swaps.misplaced,
        "{swaps:?}"
    );
    let stalls = wrong("incr=1", Form::String, Fault::Stalls);
    assert!(stalls.lost > 10, "{stalls:?}");
    assert!(wrong("rmw=1", Form::String, Fault::Forgets).lost > 10);
}

#[test]
fn refused_commands_are_errors_and_nothing_else() {
    for (form, mix) in [
        (
            Form::String,
            "get=1,set=1,incr=1,del=1,scan=1,rmw=1,insert=1",
        ),
        (Form::Hash, "get=1,set=1,scan=1,insert=1,rmw=1"),
    ] {
        let tally = run(workload(mix, form), ScanBy::Index, Fault::Refuses);
        assert!(tally.errors() >= 1_900, "{tally:?}");
        assert_eq!(tally.wrong, WrongAnswers::default());
        assert_eq!(tally.first_error.as_deref(), Some("ERR refused"));
    }
}

#[test]
fn latencies_count_from_when_operations_were_due() {
    let workload = Arc::new(workload("get=1", Form::String));
    let world = Arc::new(World::new(Ledger::new(7, 1_000), ScanBy::Kv, 100));
    let mut author = Author::new(&workload, &world, (0, 1), 3);
    let mut reader = Reader::new(&workload, &world);
    reader.records_from = Monotonic(1_000);
    let (mut pipeline, mut tally) = (Pipeline::default(), Tally::default());
    for (due, sent) in [(900, 999), (900, 5_000), (1_000, 5_000)] {
        author.append(Task::Any, (Monotonic(due), Monotonic(sent)), &mut pipeline);
    }
    let with = (&mut author, &mut tally);
    let ended = reader.take_in(
        b"$-1\r\n$-1\r\n$-1\r\n",
        Monotonic(8_000),
        &mut pipeline,
        with,
    );
    assert_eq!(ended, Ok(3));
    // The first was sent before records begin; the second was only due then.
    assert_eq!((tally.done(), tally.response().len()), (3, 2));
    assert_eq!(
        (tally.response().max() / 10, tally.service().max() / 10),
        (710, 300)
    );
    let with = (&mut author, &mut tally);
    let more = reader.take_in(b"+OK\r\n", Monotonic(9_000), &mut pipeline, with);
    assert!(more.unwrap_err().contains("nobody asked"));
}
