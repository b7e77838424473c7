//! Edits and checkpoints: any bytes are refused or encoded again as they were, and a version takes an
//! edit or says why not.
#![no_main]

use ashlar_fuzz::Choices;
use ashlar_partition::ballot::BallotRecord;
use ashlar_partition::lsm::edit::Edit;
use ashlar_partition::lsm::fuzzing::{seal_checkpoint, write_checkpoint};
use ashlar_partition::lsm::manifest::Checkpoint;
use ashlar_partition::lsm::offline::read_checkpoint;
use ashlar_partition::lsm::table::TableMeta;
use ashlar_partition::lsm::version::Version;
use libfuzzer_sys::fuzz_target;

const SHARD: u32 = 2;

fn metas(edit: &Edit) -> Vec<TableMeta> {
    edit.add_tables.iter().map(|add| add.meta.clone()).collect()
}

/// Uses a version as a start would.
fn look_at(version: &Version<TableMeta>) {
    let snapshot = version.snapshot();
    let again = Version::restore(&snapshot, metas(&snapshot)).expect("a version can be restored");
    assert_eq!(again.snapshot(), snapshot);
    let tables = version.tables().count();
    assert_eq!(snapshot.add_tables.len(), tables);
    assert!(version.files().count() >= tables);
    let _ = (
        version.value_uses(),
        version.unreferenced_values(),
        version.drop_ranges(),
    );
}

/// Applies a record to a version.
fn apply(version: &mut Version<TableMeta>, record: &[u8]) {
    let Ok(mut edit) = Edit::decode(record) else {
        return;
    };
    let mut again = Vec::new();
    edit.encode(&mut again);
    assert!(again == record, "an edit is encoded as it was read");
    // That it follows is hard to guess, and not what is looked for.
    (edit.partition, edit.sequence) = (version.partition, version.edit().sequence);
    if let Ok(next) = version.after(&edit, metas(&edit)) {
        look_at(&next);
        *version = next;
    }
}

fn check_checkpoint(bytes: &[u8]) {
    let Ok((generation, checkpoint)) = read_checkpoint(SHARD, bytes) else {
        return;
    };
    let checkpoint: Checkpoint = checkpoint;
    let again = write_checkpoint(SHARD, generation, &checkpoint);
    assert_eq!(
        read_checkpoint(SHARD, &again),
        Ok((generation, checkpoint.clone()))
    );
    for edit in &checkpoint.partitions {
        if let Ok(version) = Version::restore(edit, metas(edit)) {
            look_at(&version);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    match choices.byte() % 4 {
        0 => {
            let _ = BallotRecord::decode(choices.0);
            check_checkpoint(choices.0);
        }
        1 => {
            let checkpoint = Checkpoint {
                log_id: choices.number(),
                position: ashlar_io::wal::Position(choices.number()),
                partitions: Vec::new(),
                ballots: Vec::new(),
            };
            let mut bytes = write_checkpoint(SHARD, choices.number(), &checkpoint);
            // Records of the fuzzer's own, each behind its length.
            while !choices.is_empty() {
                let length = usize::from(choices.short()).min(choices.0.len());
                bytes.extend_from_slice(&u32::try_from(length).expect("it is short").to_le_bytes());
                bytes.extend_from_slice(choices.bytes(length));
            }
            seal_checkpoint(&mut bytes);
            check_checkpoint(&bytes);
        }
        _ => {
            let mut version = Version::empty(3);
            while !choices.is_empty() {
                let length = usize::from(choices.short()).min(choices.0.len());
                apply(&mut version, choices.bytes(length));
            }
        }
    }
});
