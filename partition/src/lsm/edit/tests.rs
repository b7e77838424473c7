//! Edits as bytes: there and back, cut, flipped, random.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..20)
}

pub(crate) fn meta(number: u64, first: &[u8], last: &[u8]) -> TableMeta {
    TableMeta {
        number,
        file_bytes: 1 << 20,
        file_hash: 77 << 70,
        footer_checksum: 3,
        level: 1,
        first_key: first.to_vec(),
        last_key: last.to_vec(),
        keys: 1000,
        versions: 1000,
        tombstones: 0,
        min_timestamp: 10,
        max_timestamp: 20,
        min_expire_ms: u64::MAX,
        raw_bytes: 1 << 20,
        cleaned_to: 0,
        values: Vec::new(),
    }
}

fn table() -> impl Strategy<Value = AddTable> {
    let values = vec((0_u64..100, 0_u64..1000), 0..3);
    (0_u64..1000, 0_u64..9, any::<u8>(), key(), key(), values).prop_map(
        |(number, run, level, a, b, values)| AddTable {
            run,
            meta: TableMeta {
                level,
                values: std::collections::BTreeMap::from_iter(values)
                    .into_iter()
                    .collect(),
                ..meta(number, a.as_slice().min(&b), a.as_slice().max(&b))
            },
        },
    )
}

fn range() -> impl Strategy<Value = RangeTombstone> {
    (key(), key(), any::<u64>()).prop_filter_map("not empty", |(start, end, timestamp)| {
        (start < end).then_some(RangeTombstone {
            start,
            end,
            timestamp,
        })
    })
}

fn values() -> impl Strategy<Value = ValueFileMeta> {
    any::<[u64; 3]>().prop_map(|[number, file_bytes, value_bytes]| ValueFileMeta {
        number,
        file_bytes,
        file_hash: u128::from(number) << 3,
        value_bytes,
    })
}

prop_compose! {
    fn flushed()(index in 1..COUNTED_MAX, term: u64, timestamp: u64, chain: u64) -> Flushed {
        Flushed { index, term, timestamp, chain }
    }
}

prop_compose! {
    fn edit()(
        (partition, sequence, low_water, next_number) in (any::<u32>(), 0..COUNTED_MAX, any::<u64>(), 0..COUNTED_MAX),
        flushed in proptest::option::of(flushed()),
        (runs, merges) in (vec(any::<(u64, u64, u8)>(), 0..3), vec(any::<(u64, u64)>(), 0..3)),
        trims in vec((any::<u64>(), key()), 0..3),
        remove_tables in vec(any::<u64>(), 0..3),
        add_tables in vec(table(), 0..3),
        add_values in vec(values(), 0..3),
        remove_values in vec(any::<u64>(), 0..3),
        (add_ranges, remove_ranges) in (vec(range(), 0..3), vec(range(), 0..3)),
        members in vec(any::<u8>(), 0..40),
        effect in prop_oneof![Just(Effect::Change), Just(Effect::Install), Just(Effect::Repair)],
    ) -> Edit {
        Edit {
            partition, effect, sequence, low_water, next_number, flushed,
            add_runs: runs.into_iter().map(|(id, age, level)| AddRun { id, age, level }).collect(),
            start_merges: merges.into_iter().map(|(input, output)| StartMerge { input, output }).collect(),
            trim_runs: trims.into_iter().map(|(run, from)| TrimRun { run, from }).collect(),
            remove_tables, add_tables, add_values, remove_values, add_ranges, remove_ranges, members,
        }
    }
}

fn encoded(edit: &Edit) -> Vec<u8> {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn an_edit_is_read_as_it_was_written(edit in edit()) {
        let bytes = encoded(&edit);
        prop_assert!(Edit::is_edit(&bytes));
        prop_assert_eq!(Edit::decode(&bytes), Ok(edit));
    }

    #[test]
    fn an_edit_that_is_cut_or_goes_on_is_none(edit in edit(), cut: prop::sample::Index) {
        let mut bytes = encoded(&edit);
        let cut = cut.index(bytes.len());
        prop_assert!(Edit::decode(&bytes[..cut]).is_err());
        bytes.push(0);
        prop_assert!(Edit::decode(&bytes).is_err());
    }

    #[test]
    fn what_a_flipped_bit_makes_is_an_edit_or_an_error(edit in edit(), at: prop::sample::Index, bit in 0..8) {
        let mut bytes = encoded(&edit);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(other) = Edit::decode(&bytes) {
            prop_assert_eq!(encoded(&other), bytes, "nothing is read that would not be written so");
        }
    }

    #[test]
    fn any_bytes_are_an_edit_or_an_error(mut bytes in vec(any::<u8>(), 0..300)) {
        let _ = Edit::decode(&bytes);
        if bytes.len() >= 8 {
            bytes[4..8].copy_from_slice(&[EDIT_VERSION, 1, 0, 0]);
            let _ = Edit::decode(&bytes);
        }
    }
}

#[test]
fn an_edit_is_no_entry_and_an_entry_is_no_edit() {
    let edit = encoded(&Edit::default());
    assert!(Edit::is_edit(&edit));
    assert_eq!(edit.len(), 104);
    let mut entry = edit;
    entry[4] = 1;
    assert!(!Edit::is_edit(&entry));
    let error = Edit::decode(&entry).unwrap_err();
    assert_eq!(error.to_string(), "not an edit: it is of another version");
    assert!(!Edit::is_edit(b"abcd"));
}

#[test]
fn a_count_of_four_billion_allocates_nothing() {
    let mut bytes = encoded(&Edit::default());
    bytes[64..68].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = Edit::decode(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bytes end within the number of a run"
    );
}
