//! Tables: what was written is read, and no byte can be changed, lost or added unseen.
#![no_main]

use std::cmp::Reverse;
use std::collections::BTreeMap;

use ashlar_fuzz::Choices;
use ashlar_partition::Kind;
use ashlar_partition::lsm::fuzzing::{check_table, timestamps, write_table};
use ashlar_partition::lsm::{Entry, Value};
use libfuzzer_sys::fuzz_target;

type Versions<'a> = BTreeMap<(Vec<u8>, Reverse<u64>), (Option<u64>, &'a [u8])>;

/// Takes versions of a few keys.
fn versions<'a>(choices: &mut Choices<'a>) -> Versions<'a> {
    let mut versions = Versions::new();
    for _ in 0..=choices.byte() {
        let key_bytes = 1 + usize::from(choices.byte() % 6);
        let mut key = choices.bytes(key_bytes).to_vec();
        if key.is_empty() {
            key.push(0);
        }
        let timestamp = 1 + u64::from(choices.byte());
        let expire_at_ms = (choices.byte() < 40).then(|| choices.number());
        let value_bytes = usize::from(choices.byte());
        versions.insert(
            (key, Reverse(timestamp)),
            (expire_at_ms, choices.bytes(value_bytes)),
        );
    }
    versions
}

fn entries<'a>(versions: &'a Versions<'a>) -> Vec<Entry<'a>> {
    let entry = |((key, timestamp), (expire_at_ms, value)): (
        &'a (Vec<u8>, Reverse<u64>),
        &'a (Option<u64>, &'a [u8]),
    )| {
        let is_put = !value.is_empty() || expire_at_ms.is_some();
        Entry {
            key,
            timestamp: timestamp.0,
            kind: if is_put { Kind::Put } else { Kind::Tombstone },
            expire_at_ms: *expire_at_ms,
            value: Value::Inline(value),
        }
    };
    versions.iter().map(entry).collect()
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let (block_bytes, packed) = (64 + u32::from(choices.short() % 8192), choices.byte());
    let (at, change) = (choices.number(), choices.byte());
    let versions = versions(&mut choices);
    let entries = entries(&versions);
    let (mut file, meta) = write_table(&entries, block_bytes, packed % 2 == 1);
    assert_eq!(check_table(&file, &meta), "");
    let mut found = timestamps(&file);
    found.sort_by(|a, b| (&a.0, Reverse(a.1)).cmp(&(&b.0, Reverse(b.1))));
    let expected: Vec<_> = versions
        .keys()
        .map(|(key, at)| (key.clone(), at.0))
        .collect();
    assert_eq!(found, expected);
    let at = usize::try_from(at % file.len() as u64).expect("it is within the file");
    match change {
        0 => file.truncate(at),
        1 => file.push(0),
        change => file[at] ^= change,
    }
    assert_ne!(check_table(&file, &meta), "", "damage at {at} is not seen");
});
