//! What is picked, and when; what it costs is in `simulation`.

mod simulation;

use proptest::collection::vec;
use proptest::prelude::*;

use super::rewrite::EXPIRED_LINGER_MS;
use super::*;
use crate::lsm::Malformed;
use crate::lsm::edit::tests::meta;
use crate::lsm::edit::{AddRun, AddTable, Flushed, StartMerge, TrimRun};
use crate::lsm::ranges::RangeTombstone;
use crate::lsm::table::TableMeta;
use crate::lsm::values::ValueFileMeta;
use crate::lsm::version::tests::apply;

type Plain = Version<TableMeta>;

const MIB: u64 = 1 << 20;
/// A low-water mark behind all timestamps here, at 2 s.
const LATER: u64 = 2_000_000 << 12;

/// Adds a run of tables to an edit.
fn run(edit: &mut Edit, id: u64, level: u8, tables: Vec<TableMeta>) {
    edit.add_runs.push(AddRun { id, age: id, level });
    let add = |meta| AddTable { run: id, meta };
    edit.add_tables.extend(tables.into_iter().map(add));
    edit.next_number = 1000;
}

fn sized(number: u64, first: &str, last: &str, mib: u64) -> TableMeta {
    TableMeta {
        raw_bytes: mib * MIB,
        ..meta(number, first.as_bytes(), last.as_bytes())
    }
}

fn made(change: impl FnOnce(&mut Edit)) -> Plain {
    let mut edit = Plain::empty(1).edit();
    change(&mut edit);
    apply(&Plain::empty(1), &edit).unwrap()
}

fn after(version: &Plain, change: impl FnOnce(&mut Edit)) -> Result<Plain, Malformed> {
    let mut edit = version.edit();
    change(&mut edit);
    apply(version, &edit)
}

/// A bottom of 100 MiB below runs of 1 MiB.
fn layered(uppers: u64) -> Plain {
    made(|edit| {
        run(
            edit,
            1,
            BOTTOM_LEVEL,
            vec![sized(100, "a", "m", 50), sized(101, "n", "z", 50)],
        );
        for n in 2..2 + uppers {
            run(edit, n, 0, vec![sized(100 + n, "a", "z", 1)]);
        }
    })
}

fn merge(version: &Plain) -> Option<Merge> {
    match pick(version, &Policy::default(), LATER) {
        Some(Job::Merge(merge)) => Some(merge),
        None => None,
        other => panic!("not a merge: {other:?}"),
    }
}

#[test]
fn nothing_is_done_to_what_is_in_shape() {
    assert_eq!(merge(&Plain::empty(1)), None);
    assert_eq!(merge(&layered(0)), None);
    assert_eq!(merge(&layered(3)), None);
    assert_eq!(debt_bytes(&layered(3), &Policy::default()), 0);
}

#[test]
fn a_full_level_becomes_a_run_of_the_next() {
    let version = layered(4);
    let expected = Merge {
        inputs: vec![5, 4, 3, 2],
        output: None,
        age: 5,
        output_level: 1,
        bottom: false,
        reason: Reason::Full,
    };
    assert_eq!(merge(&version), Some(expected));
    assert_eq!(debt_bytes(&version, &Policy::default()), 4 * MIB);
}

#[test]
fn all_becomes_the_bottom_when_a_third_of_it_is_above() {
    let version = after(&layered(1), |edit| {
        run(edit, 9, 0, vec![sized(200, "a", "z", 34)]);
    });
    let merge = merge(&version.unwrap()).unwrap();
    assert_eq!(merge.inputs, [9, 2, 1]);
    let (level, bottom, reason) = (merge.output_level, merge.bottom, merge.reason);
    assert_eq!((level, bottom, reason), (BOTTOM_LEVEL, true, Reason::Space));
}

#[test]
fn tombstones_weigh_what_they_delete() {
    let deletes = |tombstones| {
        let version = after(&layered(0), |edit| {
            let keys = TableMeta {
                tombstones,
                ..sized(200, "a", "z", 1)
            };
            run(edit, 9, 0, vec![keys]);
        });
        merge(&version.unwrap()).map(|merge| merge.reason)
    };
    // The bottom has 2000 keys.
    assert_eq!(deletes(600), None);
    assert_eq!(deletes(700), Some(Reason::Space));
}

#[test]
fn a_merge_that_has_begun_is_gone_on_with() {
    let version = after(&layered(4), |edit| {
        edit.add_runs.push(AddRun {
            id: 20,
            age: 5,
            level: 1,
        });
        let meta = sized(300, "a", "f", 1);
        edit.add_tables.push(AddTable { run: 20, meta });
        for input in 2..6 {
            edit.start_merges.push(StartMerge { input, output: 20 });
            edit.trim_runs.push(TrimRun {
                run: input,
                from: b"f\0".to_vec(),
            });
        }
    });
    let version = after(&version.unwrap(), |edit| {
        run(edit, 30, 0, vec![sized(301, "a", "z", 80)]);
    });
    let version = version.unwrap();
    let expected = Merge {
        inputs: vec![5, 4, 3, 2],
        output: Some(20),
        age: 5,
        output_level: 1,
        bottom: false,
        reason: Reason::Begun,
    };
    assert_eq!(merge(&version), Some(expected));
    let debt = debt_bytes(&version, &Policy::default());
    assert_eq!(
        debt,
        (4 + 80 + 5 + 100) * MIB,
        "its rest, and then everything"
    );
}

/// The bottom with one table changed.
fn with_bottom(change: impl FnOnce(&mut TableMeta)) -> Plain {
    made(|edit| {
        let mut middle = sized(101, "g", "m", 10);
        change(&mut middle);
        let tables = vec![sized(100, "a", "f", 10), middle, sized(102, "n", "z", 10)];
        run(edit, 1, BOTTOM_LEVEL, tables);
    })
}

fn rewritten(version: &Plain, low_water: u64) -> Option<(Vec<u64>, Reason)> {
    match pick(version, &Policy::default(), low_water) {
        Some(Job::Rewrite(rewrite)) => {
            assert!(rewrite.bottom && rewrite.run == 1);
            Some((rewrite.tables, rewrite.reason))
        }
        None => None,
        other => panic!("not a rewrite: {other:?}"),
    }
}

#[test]
fn a_table_of_the_bottom_is_written_anew_when_much_of_it_is_stale() {
    let dense = with_bottom(|table| table.tombstones = 250);
    assert_eq!(rewritten(&dense, LATER), Some((vec![101], Reason::Stale)));
    assert_eq!(
        rewritten(&dense, 19),
        None,
        "somebody may still read the old versions"
    );
    let old = with_bottom(|table| (table.keys, table.versions) = (300, 400));
    assert_eq!(rewritten(&old, LATER), Some((vec![101], Reason::Stale)));
    let some = with_bottom(|table| (table.keys, table.versions) = (301, 400));
    assert_eq!(rewritten(&some, LATER), None);
    let empty = with_bottom(|table| (table.keys, table.versions) = (0, 0));
    assert_eq!(rewritten(&empty, LATER), None, "not in vain");
}

#[test]
fn a_table_of_the_bottom_is_written_anew_when_keys_have_long_expired() {
    let version = with_bottom(|table| table.min_expire_ms = 5);
    let at = |ms: u64| (ms * 1000) << 12;
    assert_eq!(rewritten(&version, at(EXPIRED_LINGER_MS)), None);
    let late = rewritten(&version, at(EXPIRED_LINGER_MS + 5));
    assert_eq!(late, Some((vec![101], Reason::Expired)));
}

fn referring(number: u64, first: &str, last: &str, refers: &[(u64, u64)]) -> TableMeta {
    TableMeta {
        values: refers.to_vec(),
        ..sized(number, first, last, 10)
    }
}

/// Makes a version with one run and two value files, 50 and 51, of 1,000 bytes of values each.
fn with_values(tables: Vec<TableMeta>) -> Plain {
    made(|edit| {
        run(edit, 1, BOTTOM_LEVEL, tables);
        edit.add_values = [50, 51].map(value_file).to_vec();
    })
}

fn value_file(number: u64) -> ValueFileMeta {
    ValueFileMeta {
        number,
        file_bytes: 4096,
        file_hash: 0,
        value_bytes: 1000,
    }
}

fn moves(tables: &[u64], values: &[u64]) -> Job {
    Job::Rewrite(Rewrite {
        run: 1,
        tables: tables.to_vec(),
        values: values.to_vec(),
        bottom: true,
        reason: Reason::Values,
    })
}

#[test]
fn values_are_moved_out_of_files_with_garbage_by_neighbouring_tables() {
    let version = with_values(vec![
        referring(100, "a", "b", &[(50, 900)]),
        referring(101, "c", "d", &[(51, 300)]),
        referring(102, "e", "f", &[(50, 90), (51, 300)]),
        referring(103, "g", "h", &[]),
        referring(104, "i", "j", &[(51, 100)]),
    ]);
    let picked = pick(&version, &Policy::default(), LATER);
    assert_eq!(picked, Some(moves(&[101, 102], &[51])));
}

/// A disk was full, a quarter of its keys was deleted, and nothing came back: a quarter of a value
/// file was not worth moving the rest, and nothing else could free any space.
#[test]
fn on_a_full_disk_a_little_garbage_is_worth_moving_table_by_table() {
    let referred = |in_50, in_51| {
        with_values(vec![
            referring(100, "a", "b", &[(50, 500), (51, in_51)]),
            referring(101, "c", "d", &[(50, in_50)]),
        ])
    };
    let quarter = referred(250, 800);
    assert_eq!(pick(&quarter, &Policy::default(), LATER), None);
    let picked = pick(&quarter, &Policy::Reclaim, LATER);
    assert_eq!(picked, Some(moves(&[100], &[50])), "most garbage first");
    let hardly_any = referred(460, 960);
    assert_eq!(pick(&hardly_any, &Policy::Reclaim, LATER), None);
}

#[test]
fn a_table_that_is_deleted_in_part_is_written_anew_on_a_full_disk_alone() {
    let version = |cleaned_to| {
        let version = with_bottom(|table| table.cleaned_to = cleaned_to);
        after(&version, |edit| {
            edit.add_ranges.push(RangeTombstone {
                start: b"h".to_vec(),
                end: b"j".to_vec(),
                timestamp: 30,
            });
        })
        .unwrap()
    };
    let reclaimed = |version: &Plain, low_water| match pick(version, &Policy::Reclaim, low_water) {
        Some(Job::Rewrite(rewrite)) => Some(rewrite.tables),
        _ => None,
    };
    assert_eq!(rewritten(&version(0), 30), None, "it may be in vain");
    assert_eq!(reclaimed(&version(0), 30), Some(vec![101]));
    assert_eq!(
        reclaimed(&version(0), 29),
        None,
        "somebody may still read it"
    );
    assert_eq!(reclaimed(&version(30), 30), None, "it was done already");
}

#[test]
fn what_a_range_tombstone_deletes_goes_without_being_read() {
    let version = made(|edit| {
        run(
            edit,
            1,
            BOTTOM_LEVEL,
            vec![sized(100, "a", "m", 50), sized(101, "n", "z", 50)],
        );
        run(
            edit,
            2,
            0,
            vec![TableMeta {
                max_timestamp: 40,
                ..sized(102, "a", "m", 1)
            }],
        );
        edit.flushed = Some(Flushed {
            index: 1,
            term: 1,
            timestamp: 40,
            chain: 0,
        });
        let (start, end) = (b"a".to_vec(), b"z".to_vec());
        edit.add_ranges.push(RangeTombstone {
            start,
            end,
            timestamp: 30,
        });
        edit.add_values.push(value_file(60));
    });
    let dropped = |version: &Plain, low_water| match pick(version, &Policy::default(), low_water) {
        Some(Job::Drop(edit)) => *edit,
        other => panic!("not an edit: {other:?}"),
    };
    let early = dropped(&version, 29);
    assert_eq!(
        (early.remove_tables, early.remove_values),
        (vec![], vec![60])
    );
    let edit = dropped(&version, 30);
    assert_eq!(
        edit.remove_tables,
        [100],
        "101 ends behind it, 102 has newer versions"
    );
    assert_eq!(edit.remove_ranges, [], "101 and 102 need it");
    let version = apply(&version, &edit).unwrap();
    let gone = after(&version, |edit| edit.remove_tables = vec![101, 102]).unwrap();
    assert_eq!(dropped(&gone, 30).remove_ranges.len(), 1);
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let levels = vec((0_u8..4, 1_u64..600), 0..30);
    (levels, proptest::option::of(1_u64..3000)).prop_map(|(mut runs, bottom)| {
        runs.sort_by_key(|(level, _)| *level);
        let bottom = bottom.map(|mib| (BOTTOM_LEVEL, mib));
        let shape = |(level, mib)| Shape {
            level,
            bytes: mib * MIB,
            weight: mib * MIB,
        };
        runs.into_iter().chain(bottom).map(shape).collect()
    })
}

proptest! {
    #[test]
    fn merging_comes_to_an_end_and_leaves_few_runs(mut shapes in shapes(), lazy: bool, fanout in 2_u32..9) {
        let policy = match lazy {
            true => Policy::LazyLeveled { fanout, upper_percent: UPPER_PERCENT },
            false => Policy::Leveled { fanout },
        };
        let mut jobs = 0;
        while let Some(choice) = choose(&shapes, &policy) {
            let chosen = &shapes[..choice.runs];
            prop_assert!(chosen.len() > 1 || choice.level > chosen[0].level, "{choice:?} of {shapes:?}");
            prop_assert_eq!(choice.level == BOTTOM_LEVEL, choice.runs == shapes.len());
            apply_choice(&mut shapes, &choice);
            prop_assert!(shapes.is_sorted_by_key(|run| run.level), "{shapes:?}");
            jobs += 1;
            prop_assert!(jobs < 40);
        }
        let levels = shapes.iter().filter(|run| run.level < BOTTOM_LEVEL);
        let runs_max = if lazy { 5 * (fanout as usize - 1) } else { 3 + 8 };
        prop_assert!(levels.count() <= runs_max);
    }
}
