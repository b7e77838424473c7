//! Versions: what each rule refuses, and random histories of flushes and merges against a plain map
//! of which key is where.

use std::collections::BTreeMap;

use ashlar_io::rng::Rng;

use super::*;
use crate::lsm::edit::tests::meta;
use crate::lsm::pick::{Job, Merge, Policy, UPPER_PERCENT, pick};

type Plain = Version<TableMeta>;

fn add(run: u64, number: u64, first: &str, last: &str) -> AddTable {
    AddTable {
        run,
        meta: meta(number, first.as_bytes(), last.as_bytes()),
    }
}

pub(crate) fn apply(version: &Plain, edit: &Edit) -> Result<Plain, Malformed> {
    let opened = edit.add_tables.iter().map(|table| table.meta.clone());
    version.apply(edit, opened.collect())
}

/// Returns an edit that adds tables and their runs; all have numbers below 100.
fn adding(tables: Vec<AddTable>) -> Edit {
    let ids: BTreeSet<u64> = tables.iter().map(|table| table.run).collect();
    let run = |id| AddRun {
        id,
        age: id,
        level: 0,
    };
    Edit {
        next_number: 100,
        add_runs: ids.into_iter().map(run).collect(),
        add_tables: tables,
        ..Plain::empty(3).edit()
    }
}

/// Returns a version of the given tables.
fn version(tables: Vec<AddTable>) -> Plain {
    apply(&Plain::empty(3), &adding(tables)).unwrap()
}

fn refused(version: &Plain, change: impl FnOnce(&mut Edit)) -> String {
    let mut edit = version.edit();
    change(&mut edit);
    apply(version, &edit).unwrap_err().to_string()
}

#[test]
fn the_first_edit_makes_the_partition() {
    let edit = Edit {
        partition: 9,
        sequence: 1,
        ..Edit::default()
    };
    let version = apply(&Plain::default(), &edit).unwrap();
    assert_eq!((version.partition, version.sequence), (9, 1));
    assert!(version.contains(&edit));
    let other = refused(&version, |edit| edit.partition = 8);
    assert_eq!(other, "partition 9 at edit 1: an edit is of partition 8");
    let gap = refused(&version, |edit| edit.sequence = 3);
    assert_eq!(gap, "edit 3 of partition 9 does not follow 1");
}

#[test]
fn a_key_is_looked_for_in_one_table_of_each_run_newest_first() {
    let version = version(vec![
        add(2, 11, "b", "d"),
        add(2, 12, "f", "h"),
        add(5, 13, "a", "g"),
        add(1, 10, "a", "z"),
    ]);
    let numbers = |key: &[u8]| -> Vec<u64> {
        version
            .tables_for(key)
            .map(|(_, table)| table.number)
            .collect()
    };
    assert_eq!(numbers(b"a"), [13, 10]);
    assert_eq!(numbers(b"b"), [13, 11, 10]);
    assert_eq!(numbers(b"e"), [13, 10]);
    assert_eq!(numbers(b"h"), [12, 10]);
    assert_eq!(numbers(b"zz"), Vec::<u64>::new());
    let within: Vec<u64> = version
        .overlapping(b"e", Some(b"f"))
        .flat_map(|(_, tables)| tables.iter().map(|table| table.number))
        .collect();
    assert_eq!(within, [13, 10]);
    assert_eq!(
        version
            .overlapping(b"d", None)
            .map(|(_, tables)| tables.len())
            .sum::<usize>(),
        4
    );
}

#[test]
fn keys_below_where_a_run_begins_are_looked_for_in_the_output() {
    let before = version(vec![add(1, 10, "a", "z")]);
    let mut edit = before.edit();
    edit.add_runs = vec![AddRun {
        id: 7,
        age: 1,
        level: 1,
    }];
    edit.add_tables = vec![add(7, 20, "a", "f")];
    edit.start_merges = vec![StartMerge {
        input: 1,
        output: 7,
    }];
    edit.trim_runs = vec![TrimRun {
        run: 1,
        from: b"f\0".to_vec(),
    }];
    let version = apply(&before, &edit).unwrap();
    let numbers = |key: &[u8]| -> Vec<u64> {
        version
            .tables_for(key)
            .map(|(_, table)| table.number)
            .collect()
    };
    assert_eq!(numbers(b"f"), [20]);
    assert_eq!(numbers(b"f\0"), [10]);
    assert!(version.is_last(7) && !version.is_last(1));
    let gone = Edit {
        remove_tables: vec![10],
        ..version.edit()
    };
    let gone = apply(&version, &gone).unwrap();
    assert_eq!(
        gone.runs.iter().map(|run| run.id).collect::<Vec<_>>(),
        [7],
        "the last step"
    );
    let back = refused(&version, |edit| {
        edit.trim_runs = vec![TrimRun {
            run: 1,
            from: b"c".to_vec(),
        }];
    });
    assert_eq!(back, "partition 3 at edit 3: run 1 cannot be trimmed");
    let late = refused(&version, |edit| {
        edit.add_tables = vec![add(7, 21, "g", "h")];
    });
    assert_eq!(
        late,
        "partition 3 at edit 3: run 1 holds keys that have moved"
    );
    assert_eq!(
        Plain::restore(&version.snapshot(), metas(&version)),
        Ok(version)
    );
}

fn metas(version: &Plain) -> Vec<TableMeta> {
    version.tables().map(|(_, table)| table.clone()).collect()
}

#[test]
fn what_breaks_an_invariant_is_refused() {
    let version = version(vec![add(1, 10, "b", "f"), add(1, 11, "h", "k")]);
    let overlap = refused(&version, |edit| {
        edit.add_tables = vec![add(1, 12, "f", "g")]
    });
    assert_eq!(overlap, "partition 3 at edit 2: table 12 overlaps another");
    let reversed = refused(&version, |edit| {
        edit.add_tables = vec![add(1, 12, "z", "y")]
    });
    assert_eq!(reversed, "partition 3 at edit 2: table 12 overlaps another");
    let twice = refused(&version, |edit| {
        edit.add_tables = vec![add(1, 10, "x", "y")]
    });
    assert_eq!(twice, "partition 3 at edit 2: file 10 is there twice");
    let unnumbered = refused(&version, |edit| {
        edit.add_tables = vec![add(1, 100, "x", "y")]
    });
    assert_eq!(
        unnumbered,
        "partition 3 at edit 2: table 100 has no number yet"
    );
    let absent = refused(&version, |edit| edit.remove_tables = vec![12]);
    assert_eq!(absent, "partition 3 at edit 2: there is no table 12");
    let nowhere = refused(&version, |edit| {
        edit.start_merges = vec![StartMerge {
            input: 1,
            output: 9,
        }];
    });
    assert_eq!(
        nowhere,
        "partition 3 at edit 2: run 1 is not behind the run it moves to"
    );
    let again = refused(&version, |edit| {
        edit.add_runs = vec![AddRun {
            id: 1,
            age: 4,
            level: 0,
        }]
    });
    assert_eq!(again, "partition 3 at edit 2: run 1 is there already");
    let homeless = refused(&version, |edit| {
        edit.add_tables = vec![add(2, 12, "x", "y")]
    });
    assert_eq!(homeless, "partition 3 at edit 2: there is no run 2");
    let unopened = version.apply(
        &Edit {
            add_tables: vec![add(1, 12, "x", "y")],
            ..version.edit()
        },
        Vec::new(),
    );
    assert!(unopened.is_err());
}

#[test]
fn value_files_stay_as_long_as_tables_refer_to_them() {
    let values = |number| ValueFileMeta {
        number,
        file_bytes: 4096,
        file_hash: 0,
        value_bytes: 1000,
    };
    let mut table = add(1, 10, "b", "f");
    table.meta.values = vec![(20, 600)];
    let mut edit = adding(vec![table]);
    let lost = apply(&Plain::empty(3), &edit).unwrap_err().to_string();
    assert_eq!(lost, "partition 3 at edit 1: table 10 needs value file 20");
    edit.add_values = vec![values(20), values(21)];
    let version = apply(&Plain::empty(3), &edit).unwrap();
    assert_eq!(version.unreferenced_values(), [21]);
    let uses = version.value_uses();
    assert_eq!(
        (uses[&20].garbage_bytes(), uses[&21].garbage_bytes()),
        (400, 1000)
    );
    let used = refused(&version, |edit| edit.remove_values = vec![20]);
    assert_eq!(
        used,
        "partition 3 at edit 2: value file 20 is in use or not there"
    );
    let edit = Edit {
        remove_values: vec![20, 21],
        remove_tables: vec![10],
        ..version.edit()
    };
    let version = apply(&version, &edit).unwrap();
    assert!(version.values.is_empty() && version.runs.is_empty());
}

#[test]
fn a_range_tombstone_goes_when_no_table_needs_it() {
    let range = RangeTombstone {
        start: b"b".to_vec(),
        end: b"d".to_vec(),
        timestamp: 15,
    };
    let flushed = |timestamp| {
        Some(Flushed {
            index: 4,
            term: 1,
            timestamp,
            chain: 0,
        })
    };
    let with = |table: TableMeta, timestamp| {
        let edit = Edit {
            flushed: flushed(timestamp),
            add_ranges: vec![range.clone()],
            ..adding(vec![AddTable {
                run: 1,
                meta: table,
            }])
        };
        apply(&Plain::empty(3), &edit).unwrap().drop_ranges()
    };
    let goes = |table, timestamp| with(table, timestamp).len() == 1;
    let old = meta(10, b"a", b"z");
    assert!(
        !goes(old.clone(), 20),
        "the table has versions of timestamp 10"
    );
    let (mut newer, mut cleaned) = (old.clone(), old);
    newer.min_timestamp = 16;
    cleaned.cleaned_to = 15;
    assert!(goes(newer, 20) && goes(cleaned, 20));
    let behind = meta(10, b"d", b"z");
    assert!(goes(behind.clone(), 20), "the end is not deleted");
    assert!(!goes(behind, 14), "older versions may be in memory");
}

/// A partition whose tables say, for each of their keys, the flush that it came of.
struct History {
    version: Plain,
    content: BTreeMap<u64, BTreeMap<u8, u64>>,
    newest: BTreeMap<u8, u64>,
    numbers: u64,
    rng: Rng,
}

impl History {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Writes tables of a few keys each.
    fn tables(&mut self, keys: &BTreeMap<u8, u64>, edit: &mut Edit) {
        let keys: Vec<_> = keys.iter().map(|(key, flush)| (*key, *flush)).collect();
        for keys in keys.chunks(5) {
            let number = self.number();
            let mut meta = meta(number, &[keys[0].0], &[keys[keys.len() - 1].0]);
            (meta.keys, meta.versions) = (keys.len() as u64, keys.len() as u64);
            meta.raw_bytes = keys.len() as u64;
            self.content.insert(number, keys.iter().copied().collect());
            edit.add_tables.push(AddTable { run: 0, meta });
        }
        edit.next_number = self.numbers + 1;
    }

    fn commit(&mut self, mut edit: Edit) {
        let mut bytes = Vec::new();
        edit.next_number = self.numbers + 1;
        (edit.partition, edit.sequence) = (1, self.version.sequence + 1);
        edit.encode(&mut bytes);
        assert_eq!(Edit::decode(&bytes).as_ref(), Ok(&edit));
        self.version = apply(&self.version, &edit).unwrap();
        let again = Plain::restore(&self.version.snapshot(), metas(&self.version));
        assert_eq!(again.as_ref(), Ok(&self.version), "a checkpoint says all");
        self.check();
    }

    fn flush(&mut self, flush: u64) {
        let count = 1 + self.below(30);
        let keys: BTreeMap<u8, u64> = (0..count)
            .map(|_| ((self.rng.next_u64() % 64) as u8, flush))
            .collect();
        let mut edit = self.version.edit();
        self.tables(&keys, &mut edit);
        let run = self.number();
        edit.add_runs = vec![AddRun {
            id: run,
            age: run,
            level: 0,
        }];
        edit.add_tables.iter_mut().for_each(|table| table.run = run);
        self.newest.extend(keys);
        self.commit(edit);
    }

    /// Says in `edit` what a step up to `last` takes from the inputs of a merge.
    fn step(&self, merge: &Merge, output: u64, last: Option<u8>, edit: &mut Edit) {
        edit.add_tables
            .iter_mut()
            .for_each(|table| table.run = output);
        if self.version.run(output).is_none() && !edit.add_tables.is_empty() {
            let (age, level) = (merge.age, merge.output_level);
            edit.add_runs = vec![AddRun {
                id: output,
                age,
                level,
            }];
            let start = |input: &u64| StartMerge {
                input: *input,
                output,
            };
            edit.start_merges = merge.inputs.iter().map(start).collect();
        }
        for input in &merge.inputs {
            let run = self.version.run(*input).map(|run| run.tables.as_slice());
            let metas = run.unwrap_or_default().iter();
            let done = metas.filter(|meta| last.is_none_or(|last| meta.last_key <= vec![last]));
            edit.remove_tables.extend(done.map(|meta| meta.number));
            if let Some(last) = last {
                edit.trim_runs.push(TrimRun {
                    run: *input,
                    from: vec![last, 0],
                });
            }
        }
    }

    /// Merges for some steps; after that the process may have died.
    fn merge(&mut self, merge: &Merge) {
        let steps_max = 1 + self.below(4);
        let output = merge.output.unwrap_or_else(|| self.number());
        let mut keys = BTreeMap::new();
        for run in merge.inputs.iter().rev() {
            let run = self.version.run(*run).unwrap();
            for table in &run.tables {
                let content = self.content[&table.number].iter();
                keys.extend(content.filter(|(key, _)| run.from.as_slice() <= &[**key]));
            }
        }
        for _ in 0..steps_max {
            let Some(last) = keys.keys().nth(6).copied() else {
                break;
            };
            let rest = keys.split_off(&(last + 1));
            let mut edit = Edit::default();
            self.tables(&keys, &mut edit);
            self.step(merge, output, Some(last), &mut edit);
            self.commit(edit);
            keys = rest;
            if self.below(3) == 0 {
                self.flush(1_000_000 + self.numbers);
            }
        }
        if self.below(3) > 0 {
            let mut edit = Edit::default();
            self.tables(&keys, &mut edit);
            self.step(merge, output, None, &mut edit);
            self.commit(edit);
        }
    }

    fn check(&self) {
        for key in 0..64_u8 {
            let lookup = [key];
            let mut held = self.version.tables_for(&lookup);
            let found = held.find_map(|(_, table)| self.content[&table.number].get(&key));
            assert_eq!(found, self.newest.get(&key), "key {key}");
        }
    }
}

#[test]
fn random_histories_of_flushes_merges_and_crashes_lose_no_key() {
    for seed in 0..60 {
        let mut history = History {
            version: Plain::empty(1),
            content: BTreeMap::new(),
            newest: BTreeMap::new(),
            numbers: 0,
            rng: Rng::new(seed),
        };
        let policy = match seed % 4 {
            3 => Policy::Reclaim,
            0 => Policy::Leveled { fanout: 3 },
            1 => Policy::LazyLeveled {
                fanout: 2,
                upper_percent: UPPER_PERCENT,
            },
            _ => Policy::LazyLeveled {
                fanout: 3,
                upper_percent: UPPER_PERCENT,
            },
        };
        for round in 0..40 {
            history.flush(round);
            while let Some(job) = pick(&history.version, &policy, 0) {
                match job {
                    Job::Merge(merge) => history.merge(&merge),
                    other => panic!("nothing is useless here: {other:?}"),
                }
            }
            assert!(history.version.runs.iter().all(|run| run.into.is_none()));
        }
        assert_eq!(history.version.runs.last().unwrap().level, BOTTOM_LEVEL);
    }
}
