//! Disks that are full or fail: what the log says, what it does not do any more, and that it
//! recovers.

use std::io::ErrorKind;

use super::*;

#[test]
fn a_full_disk_is_told_and_ends_by_itself() {
    let mut rig = Rig::calm(1, options());
    let used = 6 * rig.options.segment_bytes;
    rig.world.set_capacity(0, Some(used));
    for _ in 0..3_000 {
        rig.turn(|rig| {
            if rig.has_room(3_000) {
                rig.append(3_000);
            }
        });
    }
    rig.settle();
    assert_eq!(rig.wal().failure(), Some(ErrorKind::StorageFull));
    assert!(rig.world.disk_used(0) <= used && !rig.has_room(3_000));
    let written = rig.records.len();
    assert!(written > 60);
    rig.world.set_capacity(0, None);
    rig.append_durably(3_000);
    assert_eq!(rig.wal().failure(), None);
    rig.crash();
    rig.restart();
    assert_eq!(rig.records.len(), written + 1);
}

#[test]
fn releasing_makes_room_on_a_full_disk() {
    let mut rig = Rig::calm(2, options());
    rig.world
        .set_capacity(0, Some(6 * rig.options.segment_bytes));
    for round in 0..5 {
        for _ in 0..3_000 {
            rig.turn(|rig| {
                if rig.has_room(3_000) {
                    rig.append(3_000);
                }
            });
        }
        rig.settle();
        assert!(!rig.has_room(3_000), "round {round}");
        rig.release(rig.durable);
        // The shard is idle, since it refuses writes; then it attests.
        rig.wal().attest();
        rig.settle();
        rig.append_durably(3_000);
    }
}

#[test]
fn a_restart_on_a_full_disk_goes_on() {
    let mut rig = Rig::calm(3, options());
    rig.world
        .set_capacity(0, Some(6 * rig.options.segment_bytes));
    for round in 0..8 {
        for _ in 0..2_000 {
            rig.turn(|rig| {
                if rig.has_room(3_000) {
                    rig.append(3_000);
                }
            });
        }
        if round % 2 == 0 {
            rig.release(rig.durable);
        }
        rig.crash();
        rig.restart();
        rig.release(rig.durable);
        rig.wal().attest();
        rig.settle();
        rig.append_durably(3_000);
    }
}

/// Makes every write or every sync fail from now on, appends, and checks that the log stays where
/// it is.
fn nothing_is_durable_after(durability: Durability, fail: impl Fn(&mut Faults)) {
    for seed in 0..30 {
        let mut rig = Rig::calm(
            seed,
            Options {
                durability,
                inflight_max: 3,
                ..options()
            },
        );
        for _ in 0..seed % 5 {
            rig.append_durably(500);
        }
        // The pool's own writes are done before the disk begins to fail.
        let world = rig.world.clone();
        rig.life().until(&world, |wal| wal.segments_ready() >= 2);
        let mut faults = Faults::none();
        fail(&mut faults);
        rig.world.set_faults(faults);
        let mut failed = None;
        for _ in 0..200 {
            assert!(rig.world.step().is_some());
            rig.life().reactor.reap();
            rig.life().reactor.run_ready();
            match rig.wal().poll() {
                Ok(mark) => rig.note_durable(mark),
                Err(error) => failed = Some(error),
            }
            if failed.is_some() {
                break;
            }
            rig.append(500);
            rig.wal().flush();
            let reactor = rig.life().reactor.clone();
            reactor.park(Some(reactor.now() + Duration::from_millis(1)), || false);
        }
        let failed = failed.expect("a failing disk is noticed");
        assert_eq!(failed.error.raw_os_error(), Some(libc::EIO));
        assert!(failed.path.starts_with("/log") && failed.offset.is_multiple_of(4_096));
        rig.world.set_faults(Faults::none());
        let durable = rig.wal().durable();
        for _ in 0..50 {
            if rig.world.step().is_none() {
                break;
            }
            rig.life().reactor.turn();
            let again = rig.wal().poll().unwrap_err();
            assert_eq!(
                (again.path, again.offset),
                (failed.path.clone(), failed.offset)
            );
            rig.wal().flush();
            assert_eq!(rig.wal().durable(), durable);
            let reactor = rig.life().reactor.clone();
            reactor.park(Some(reactor.now() + Duration::from_millis(1)), || false);
        }
        rig.crash();
        rig.restart();
    }
}

#[test]
fn after_a_failed_write_nothing_becomes_durable() {
    for durability in [Durability::Dsync, Durability::Fdatasync] {
        nothing_is_durable_after(durability, |faults| faults.disk.write_error = 0.5);
    }
}

#[test]
fn after_a_failed_sync_nothing_becomes_durable() {
    nothing_is_durable_after(Durability::Fdatasync, |faults| faults.disk.sync_error = 1.0);
}

#[test]
fn a_segment_that_cannot_be_made_is_tried_again_without_a_trace() {
    let mut rig = Rig::calm(4, options());
    let mut faults = Faults::none();
    faults.disk.no_space = 0.5;
    rig.world.set_faults(faults);
    for _ in 0..30 {
        // The no-space fault hits only what grows; the log's own writes never do.
        rig.append_durably(10_000);
    }
    rig.world.set_faults(Faults::none());
    rig.settle();
    for _ in 0..2_000 {
        rig.turn(|_| {});
    }
    let files = rig.world.list_files(0);
    assert!(
        files
            .iter()
            .all(|(_, bytes)| *bytes == rig.options.segment_bytes),
        "{files:?}"
    );
}

#[test]
fn a_calibration_that_was_cut_short_leaves_no_trace() {
    let world = World::new(5, Faults::none());
    let mut life = Life::new(&world);
    life.recover(&world, &options(), TURNS_MAX)
        .unwrap()
        .unwrap();
    for turns in [20, 60, 100, 300] {
        let reactor = life.reactor.clone();
        let done = life.run(&world, turns, async move {
            super::super::calibrate(&reactor, Path::new("/log"))
                .await
                .unwrap()
                .0
        });
        world.crash(0);
        life = Life::new(&world);
        life.recover(&world, &options(), TURNS_MAX)
            .unwrap()
            .unwrap();
        assert!(
            world.list_files(0).is_empty(),
            "after {turns} turns, {done:?}"
        );
    }
    let reactor = life.reactor.clone();
    let measured = life.run(&world, TURNS_MAX, async move {
        super::super::calibrate(&reactor, Path::new("/log"))
            .await
            .unwrap()
    });
    let (method, dsync, fdatasync) = measured.unwrap();
    assert!(method == Durability::Dsync && dsync < fdatasync);
}
