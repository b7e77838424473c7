//! Releasing, recycling and rolling: segments are used again, and nothing of their earlier lives
//! comes back.

use super::*;

#[test]
fn a_clean_stop_and_start_loses_nothing() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::calm(seed, some_options(&mut rng));
        for _ in 0..4 {
            for _ in 0..rng.index(30) {
                let bytes = some_bytes(&mut rng, &rig.options.clone());
                rig.append_durably(bytes);
            }
            rig.settle();
            let (appended, position) = (rig.records.len(), rig.wal().position());
            rig.life.take().unwrap().end();
            assert!(!rig.restart(), "a log at rest has no torn tail");
            assert_eq!(
                (rig.records.len(), rig.wal().position()),
                (appended, position)
            );
        }
    }
}

#[test]
fn recycled_segments_never_bring_old_records_back() {
    let mut rig = Rig::calm(
        1,
        Options {
            segment_bytes: 32 << 10,
            ..options()
        },
    );
    for round in 0..60 {
        for _ in 0..5 {
            rig.append_durably(6_000);
        }
        let kept = rig.rng.index(3);
        rig.release(rig.durable - kept);
        rig.append_durably(10);
        if round % 3 == 0 {
            rig.crash();
            rig.restart();
        }
        let files = rig.world.list_files(0).len();
        assert!(
            files <= 9,
            "{files} segments for two live ones and two spare"
        );
    }
    assert!(rig.wal().position().0 > 50 * rig.options.segment_bytes);
}

#[test]
fn released_records_are_not_handed_on_again() {
    let mut rig = Rig::calm(2, options());
    for _ in 0..40 {
        rig.append_durably(3_000);
    }
    rig.release(30);
    rig.append_durably(10);
    let start = rig.wal().start();
    assert_eq!(start, rig.positions[30]);
    rig.crash();
    let mut life = Life::new(&rig.world);
    let (recovered, found) = life
        .recover(&rig.world, &rig.options, TURNS_MAX)
        .unwrap()
        .unwrap();
    assert_eq!((recovered.start, found.len()), (start, 11));
    assert_eq!(found[0].0, start);
}

#[test]
fn everything_may_be_released() {
    let mut rig = Rig::calm(3, options());
    for _ in 0..40 {
        rig.append_durably(3_000);
    }
    rig.release(40);
    rig.wal().attest();
    rig.settle();
    assert!(rig.wal().live_bytes() <= 4_096);
    rig.crash();
    rig.restart();
    rig.append_durably(10);
    rig.crash();
    rig.restart();
    assert_eq!(rig.records.len(), 41);
}

#[test]
fn a_position_that_is_not_durable_is_not_released() {
    let mut rig = Rig::calm(4, options());
    rig.append_durably(100);
    let durable = rig.wal().position();
    rig.turn(|rig| {
        rig.append(100);
        rig.wal().flush();
        let beyond = rig.wal().position();
        rig.wal().release(Position(beyond.0 + 1_000_000));
        assert_eq!(rig.wal().start(), durable);
    });
}

#[test]
fn a_release_out_of_order_changes_nothing() {
    let mut rig = Rig::calm(5, options());
    for _ in 0..10 {
        rig.append_durably(3_000);
    }
    rig.release(8);
    let start = rig.wal().start();
    rig.wal().release(Position(0));
    rig.wal().release(start);
    assert_eq!(rig.wal().start(), start);
}

#[test]
fn batches_that_do_not_fit_skip_the_end_of_a_segment() {
    // Three blocks each: a batch of two leaves one unused, unless a small one fills it.
    let options = Options {
        segment_bytes: 12 << 10,
        batch_bytes: 8 << 10,
        ..options()
    };
    let mut rig = Rig::calm(6, options);
    let mut positions = Vec::new();
    for bytes in [6_000, 6_000, 10, 6_000, 10, 10, 10] {
        rig.append_durably(bytes);
        positions.push(rig.wal().position().0 / 4_096);
    }
    assert_eq!(positions, [2, 5, 6, 8, 9, 10, 11]);
    rig.crash();
    rig.restart();
    assert_eq!(rig.records.len(), 7);
    // The position that recovery gives for the record behind a skipped end is one that the log may
    // start at.
    rig.release(1);
    rig.append_durably(10);
    rig.crash();
    rig.restart();
    assert_eq!(rig.records.len(), 8);
}

#[test]
fn records_larger_than_a_segment_span_several() {
    let mut rig = Rig::calm(
        7,
        Options {
            segment_bytes: 20 << 10,
            batch_bytes: 8 << 10,
            ..options()
        },
    );
    for bytes in [100_000, 10, 50_000, 0, 8_192 - 80 - 8 - 16, 200_000] {
        rig.append_durably(bytes);
    }
    rig.crash();
    rig.restart();
    assert_eq!(rig.records.len(), 6);
}

#[test]
fn what_was_surely_appendable_is_written_without_new_segments() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::calm(seed, some_options(&mut rng));
        for _ in 0..rng.index(300) {
            rig.turn(|_| {});
        }
        // From now on no segment can be made.
        rig.world.set_capacity(0, Some(0));
        let mut appended = 0;
        for _ in 0..200 {
            let bytes = some_bytes(&mut rng, &rig.options.clone());
            if rig.wal().capacity_bytes() >= bytes as u64 + 16 {
                rig.append(bytes);
                appended += 1;
            }
            if rng.coin() {
                rig.turn(|_| {});
            }
        }
        rig.settle();
        assert_eq!(rig.durable, appended);
    }
}

/// Each segment costs three syncs, and a log that is about to end wants none to spare.
#[test]
fn a_log_that_winds_down_makes_the_segments_that_it_needs_and_no_more() {
    let mut rig = Rig::calm(4, options());
    rig.append_durably(3_000);
    rig.settle();
    let before = rig.world.list_files(0).len();
    rig.wal().wind_down();
    // The one that is written and those that were spare take so much.
    while rig.wal().segments_ready() > 0 {
        rig.append_durably(12_000);
    }
    rig.settle();
    assert_eq!(rig.world.list_files(0).len(), before);
    for _ in 0..30 {
        rig.append_durably(12_000);
    }
    rig.settle();
    assert!(rig.world.list_files(0).len() > before);
    rig.crash();
    rig.restart();
}
