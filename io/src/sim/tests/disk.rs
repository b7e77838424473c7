//! Files as ops see them: durability, tears, errors, space.

use super::*;

const ME: (u32, u32) = (0, 0);

fn read_file(rig: &Rig, path: &str) -> Option<Vec<u8>> {
    rig.world.read_file(0, path.as_ref())
}

#[test]
fn what_a_sync_or_a_durable_write_covered_survives_every_crash() {
    for seed in 0..50 {
        let mut rig = Rig::calm(seed, &[ME]);
        let file = rig.open(ME, "a", DIRECT);
        rig.sync_dir(ME, "");
        rig.write(ME, file, 0, filled(8192, 1)).unwrap();
        rig.run(ME, Op::Sync { file }).unwrap();
        let durable = Op::WriteAt {
            file,
            buf: filled(4096, 2),
            offset: 8192,
            done: 0,
            durable: true,
        };
        rig.run(ME, durable).unwrap();
        rig.crash(0);
        let all = read_file(&rig, "a").unwrap();
        assert!(all[..8192].iter().all(|&b| b == 1) && all[8192..].iter().all(|&b| b == 2));
        assert_eq!(all.len(), 12_288);
    }
}

#[test]
fn every_subset_of_three_unsynced_sectors_can_survive() {
    let mut faults = Faults::none();
    (faults.disk.crash.torn, faults.disk.crash.garbage) = (0, 0);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let mut rig = Rig::new(seed, faults.clone());
        rig.boot(ME);
        let file = rig.open(ME, "a", DIRECT);
        rig.sync_dir(ME, "");
        rig.write(ME, file, 0, filled(3 * 4096, 1)).unwrap();
        rig.run(ME, Op::Sync { file }).unwrap();
        let id = rig.start(
            ME,
            Op::WriteAt {
                file,
                buf: filled(3 * 4096, 2),
                offset: 0,
                done: 0,
                durable: true,
            },
        );
        if seed % 2 == 0 {
            rig.wait(ME, id);
        }
        rig.crash(0);
        let all = read_file(&rig, "a").unwrap();
        let sectors: Vec<u8> = all.chunks(4096).map(|sector| sector[0]).collect();
        assert!(
            all.chunks(4096)
                .all(|sector| sector.iter().all(|b| *b == sector[0]))
        );
        if seed % 2 == 0 {
            assert_eq!(sectors, [2, 2, 2], "a durable write was lost");
        } else {
            seen.insert(sectors);
        }
    }
    assert_eq!(seen.len(), 8);
}

#[test]
fn a_sync_does_not_cover_a_write_that_completed_after_it_began() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut rig = Rig::calm(seed, &[ME]);
        let file = rig.open(ME, "a", DIRECT);
        rig.sync_dir(ME, "");
        let write = Op::WriteAt {
            file,
            buf: filled(4096, 1),
            offset: 0,
            done: 0,
            durable: false,
        };
        let write = rig.start(ME, write);
        let sync = rig.start(ME, Op::Sync { file });
        rig.wait(ME, write);
        rig.wait(ME, sync);
        rig.crash(0);
        lost += u32::from(read_file(&rig, "a").unwrap() != [1; 4096]);
    }
    assert!(lost > 0);
}

#[test]
fn a_file_without_a_synced_directory_may_vanish_and_with_one_stays() {
    let mut gone = [0; 2];
    for seed in 0..100 {
        let mut rig = Rig::calm(seed, &[ME]);
        rig.run(ME, Op::CreateDir { path: "d".into() }).unwrap();
        rig.sync_dir(ME, "");
        let synced = usize::from(seed % 2 == 0);
        rig.open(ME, "d/a", DIRECT);
        if synced == 1 {
            rig.sync_dir(ME, "d");
        }
        rig.crash(0);
        gone[synced] += u32::from(read_file(&rig, "d/a").is_none());
    }
    assert!(gone[0] > 10 && gone[1] == 0, "{gone:?}");
}

#[test]
fn a_rename_replaces_its_target_in_one_step() {
    for seed in 0..60 {
        let mut rig = Rig::calm(seed, &[ME]);
        for (path, byte) in [("new", 2), ("current", 1)] {
            let file = rig.open(ME, path, PLAIN);
            rig.write(ME, file, 0, filled(10, byte)).unwrap();
            rig.run(ME, Op::Sync { file }).unwrap();
        }
        rig.sync_dir(ME, "");
        rig.run(
            ME,
            Op::Rename {
                from: "new".into(),
                to: "current".into(),
            },
        )
        .unwrap();
        assert_eq!(read_file(&rig, "current").unwrap(), [2; 10]);
        rig.crash(0);
        let renamed = read_file(&rig, "new").is_none();
        assert_eq!(
            read_file(&rig, "current").unwrap(),
            [if renamed { 2 } else { 1 }; 10]
        );
    }
}

#[test]
fn names_answer_as_a_file_system_does() {
    let mut rig = Rig::calm(1, &[ME]);
    let open = |path: &str, options| Op::Open {
        path: path.into(),
        options,
    };
    let missing = OpenOptions {
        create: false,
        ..PLAIN
    };
    assert_eq!(errno(rig.run(ME, open("none", missing))), libc::ENOENT);
    assert_eq!(errno(rig.run(ME, open("no/dir", PLAIN))), libc::ENOENT);
    rig.open(ME, "a", PLAIN);
    let anew = OpenOptions {
        create_new: true,
        ..PLAIN
    };
    assert_eq!(errno(rig.run(ME, open("a", anew))), libc::EEXIST);
    rig.run(ME, Op::CreateDir { path: "d".into() }).unwrap();
    rig.run(ME, Op::CreateDir { path: "d".into() }).unwrap();
    let b = rig.open(ME, "d/b", PLAIN);
    rig.run(ME, Op::Preallocate { file: b, bytes: 77 }).unwrap();
    rig.open(ME, "d/a", PLAIN);
    let Ok(Value::Entries(entries)) = rig.run(ME, Op::List { path: "d".into() }) else {
        panic!()
    };
    let listed: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.bytes)).collect();
    assert_eq!(listed, [("a", 0), ("b", 77)]);
    rig.run(ME, Op::Unlink { path: "d/b".into() }).unwrap();
    assert_eq!(
        errno(rig.run(ME, Op::Unlink { path: "d/b".into() })),
        libc::ENOENT
    );
    assert!(matches!(
        rig.run(ME, Op::Size { file: b }),
        Ok(Value::Size(77))
    ));
    rig.run(ME, Op::Close { handle: b }).unwrap();
    assert_eq!(errno(rig.run(ME, Op::Size { file: b })), libc::EBADF);
}

#[test]
fn direct_files_refuse_what_is_not_aligned() {
    let mut rig = Rig::calm(1, &[ME]);
    let file = rig.open(ME, "a", DIRECT);
    for (len, offset) in [(4096, 512), (100, 0), (4095, 4096)] {
        assert_eq!(
            errno(rig.write(ME, file, offset, filled(len, 1))),
            libc::EINVAL
        );
    }
    assert_eq!(count(rig.write(ME, file, 4096, filled(4096, 1))), 4096);
    let read = Op::ReadAt {
        file,
        buf: Buf::heap(8192),
        offset: 0,
        done: 100,
    };
    assert_eq!(errno(rig.run(ME, read)), libc::EINVAL);
}

/// Returns free and total bytes of the disk.
fn space(rig: &mut Rig) -> Option<(u64, u64)> {
    match rig.run(ME, Op::Space { path: "/".into() }) {
        Ok(Value::Space(space)) => Some((space.free_bytes, space.total_bytes)),
        _ => None,
    }
}

#[test]
fn a_full_disk_refuses_growth_until_there_is_room() {
    let mut rig = Rig::calm(1, &[ME]);
    rig.world.set_capacity(0, Some(64 << 10));
    let a = rig.open(ME, "a", DIRECT);
    rig.run(
        ME,
        Op::Preallocate {
            file: a,
            bytes: 60 << 10,
        },
    )
    .unwrap();
    let b = rig.open(ME, "b", DIRECT);
    assert_eq!(
        errno(rig.run(
            ME,
            Op::Preallocate {
                file: b,
                bytes: 8 << 10
            }
        )),
        libc::ENOSPC
    );
    assert_eq!(errno(rig.write(ME, b, 0, filled(8192, 1))), libc::ENOSPC);
    assert_eq!(count(rig.write(ME, a, 0, filled(8192, 1))), 8192);
    assert_eq!(space(&mut rig), Some((4 << 10, 64 << 10)));
    rig.run(ME, Op::Unlink { path: "a".into() }).unwrap();
    assert_eq!(space(&mut rig), Some((64 << 10, 64 << 10)));
    assert_eq!(count(rig.write(ME, b, 0, filled(8192, 1))), 8192);
    rig.world.set_capacity(0, Some(0));
    assert_eq!(errno(rig.write(ME, b, 8192, filled(4096, 1))), libc::ENOSPC);
    rig.world.heal();
    assert_eq!(count(rig.write(ME, b, 8192, filled(4096, 1))), 4096);
    assert_eq!(rig.world.disk_used(0), 12_288);
}

fn read_in_parts(rig: &mut Rig, file: Handle, bytes: usize) -> Buf {
    let (mut buf, mut done) = (Buf::heap(bytes), 0);
    while done < bytes {
        let id = rig.start(
            ME,
            Op::ReadAt {
                file,
                buf,
                offset: 0,
                done,
            },
        );
        done += count(rig.wait(ME, id).result);
        let op = rig.shards.get_mut(&ME).unwrap().ops.remove(&id);
        let Some(Op::ReadAt { buf: back, .. }) = op else {
            panic!("the op left its slot")
        };
        buf = back;
    }
    buf
}

/// Writes and reads in loops, as the reactor does with short counts.
#[test]
fn short_reads_and_writes_add_up_to_the_model() {
    let mut faults = Faults::none();
    faults.disk.short = 0.5;
    let mut rig = Rig::new(3, faults);
    rig.boot(ME);
    let mut model = vec![0_u8; 1 << 20];
    let file = rig.open(ME, "a", DIRECT);
    rig.run(
        ME,
        Op::Preallocate {
            file,
            bytes: 1 << 20,
        },
    )
    .unwrap();
    for n in 1..=200_u8 {
        let sectors = 1 + rig.world.random() % 16;
        let at = rig.world.random() % (256 - sectors) * 4096;
        let len = usize::try_from(sectors * 4096).unwrap();
        let mut done = 0;
        while done < len {
            let buf = filled(len, n);
            done += count(rig.run(
                ME,
                Op::WriteAt {
                    file,
                    buf,
                    offset: at,
                    done,
                    durable: false,
                },
            ));
        }
        model[usize::try_from(at).unwrap()..][..len].fill(n);
    }
    assert!(read_file(&rig, "a").unwrap() == model);
    for _ in 0..8 {
        assert!(read_in_parts(&mut rig, file, 1 << 20).as_slice() == model);
    }
    let marks = rig.world.take_marks();
    assert!(marks["short read"] > 0 && marks["short write"] > 0);
}

#[test]
fn every_disk_fault_happens_and_is_marked() {
    let mut faults = Faults::none();
    let disk = &mut faults.disk;
    for rate in [
        &mut disk.interrupt,
        &mut disk.read_error,
        &mut disk.write_error,
        &mut disk.sync_error,
        &mut disk.no_space,
        &mut disk.stall,
        &mut disk.rot,
        &mut disk.misdirect,
        &mut disk.lost_write,
    ] {
        *rate = 0.1;
    }
    let mut rig = Rig::new(4, faults);
    rig.boot(ME);
    let file = rig.open(ME, "a", DIRECT);
    for n in 0..300 {
        let _ = rig.write(ME, file, n * 4096, filled(4096, 1));
        let _ = rig.run(ME, Op::Sync { file });
        let _ = rig.run(
            ME,
            Op::ReadAt {
                file,
                buf: Buf::heap(8192),
                offset: n * 2048 / 4096 * 4096,
                done: 0,
            },
        );
    }
    let marks = rig.world.take_marks();
    for name in [
        "interrupted",
        "read error",
        "write error",
        "sync error",
        "ENOSPC",
        "disk stalled",
        "sector rotted",
        "write misdirected",
        "write lost",
    ] {
        assert!(marks.contains_key(name), "{name}: {marks:?}");
    }
    rig.world.heal();
    assert_eq!(count(rig.write(ME, file, 0, filled(4096, 1))), 4096);
    rig.run(ME, Op::Sync { file }).unwrap();
    assert!(rig.world.take_marks().is_empty());
}

#[test]
fn damage_is_durable_and_exact() {
    let mut rig = Rig::calm(1, &[ME]);
    let file = rig.open(ME, "a", DIRECT);
    rig.sync_dir(ME, "");
    rig.write(ME, file, 0, filled(3 * 4096, 1)).unwrap();
    rig.run(ME, Op::Sync { file }).unwrap();
    let path = std::path::Path::new("a");
    for damage in [
        super::super::Damage::FlipBit { offset: 5, bit: 1 },
        super::super::Damage::ZeroSector { offset: 5000 },
        super::super::Damage::Truncate { bytes: 9000 },
    ] {
        rig.world.disk_damage(0, path, &damage).unwrap();
    }
    rig.crash(0);
    let mut expected = vec![1; 9000];
    expected[5] = 3;
    expected[4096..8192].fill(0);
    assert!(read_file(&rig, "a").unwrap() == expected);
}

#[test]
fn a_killed_process_loses_nothing_that_it_submitted() {
    let mut rig = Rig::calm(1, &[ME]);
    let file = rig.open(ME, "a", DIRECT);
    rig.start(
        ME,
        Op::WriteAt {
            file,
            buf: filled(4096, 1),
            offset: 0,
            done: 0,
            durable: false,
        },
    );
    rig.world.kill(0);
    assert_eq!(read_file(&rig, "a").unwrap(), [1; 4096]);
    assert_eq!(rig.world.open_handles(0), 0);
    assert_eq!(rig.world.list_files(0), [("a".into(), 4096)]);
}
