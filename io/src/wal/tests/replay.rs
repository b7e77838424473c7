//! Reading the log back while it is written to: every record from a position on, once, in order; and nothing that is
//! read is reused meanwhile.

use super::*;
use crate::wal::Replay;

/// Reads all that a replay has.
fn read_all(rig: &mut Rig, mut replay: Replay) -> Vec<Vec<u8>> {
    let world = rig.world.clone();
    let read = async move {
        let mut found = Vec::new();
        while replay
            .read(|record| found.push(record.to_vec()))
            .await
            .unwrap()
        {}
        found
    };
    rig.life().run(&world, TURNS_MAX, read).unwrap()
}

#[test]
fn what_is_durable_is_read_back_from_any_position() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::calm(seed, some_options(&mut rng));
        for _ in 0..30 {
            let bytes = some_bytes(&mut rng, &rig.options.clone());
            rig.append_durably(bytes);
        }
        for _ in 0..5 {
            let first = rng.index(rig.records.len());
            let position = rig.positions[first];
            let replay = rig.wal().replay(position).unwrap();
            let found = read_all(&mut rig, replay);
            // Records of the same batch may come before the one that was asked for.
            assert!(found.ends_with(&rig.records[first..]), "seed {seed}");
        }
        let end = rig.wal().position();
        assert!(rig.wal().replay(end).is_none());
    }
}

#[test]
fn what_is_read_is_not_reused_and_what_is_released_is_not_read() {
    let mut rig = Rig::calm(3, options());
    for _ in 0..40 {
        rig.append_durably(6_000);
    }
    let from = rig.positions[5];
    let replay = rig.wal().replay(from).unwrap();
    rig.release(38);
    for _ in 0..40 {
        rig.append_durably(6_000);
    }
    assert!(rig.wal().replay(from).is_none());
    let found = read_all(&mut rig, replay);
    assert_eq!(found, rig.records[5..40]);
    let before = rig.world.list_files(0).len();
    rig.release(78);
    for _ in 0..20 {
        rig.append_durably(6_000);
    }
    assert!(
        rig.world.list_files(0).len() <= before,
        "the segments are reused once nobody reads them"
    );
}
