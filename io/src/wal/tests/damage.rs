//! Damage to what was acknowledged: it is refused, with file and offset, and never cut.

use super::*;
use crate::wal::format::{BLOCK_BYTES, HEADER_BYTES, Header, Kind, crc32c, encode_frame};

const SECTOR: u64 = BLOCK_BYTES as u64;

/// A log of durable records of one batch each, over several segments, whose end is attested; then
/// the process ends.
fn acknowledged(seed: u64, records: usize) -> Rig {
    let mut rig = Rig::calm(seed, options());
    for n in 0..records {
        rig.append_durably(3_000 + 4_000 * (n % 3));
    }
    rig.wal().attest();
    rig.settle();
    rig.kill();
    rig
}

fn recover_once(rig: &Rig) -> Result<Vec<Found>, RecoverError> {
    let mut life = Life::new(&rig.world);
    let outcome = life.recover(&rig.world, &rig.options, TURNS_MAX).unwrap();
    rig.world.kill(0);
    outcome.map(|(_, found)| found)
}

#[track_caller]
fn assert_damaged(rig: &Rig, expected: &Path, at: u64) {
    match recover_once(rig) {
        Err(error @ RecoverError::Damaged { .. }) => {
            let text = error.to_string();
            let RecoverError::Damaged {
                path,
                offset,
                position,
                durable,
            } = error
            else {
                unreachable!()
            };
            assert_eq!((path.as_path(), offset), (expected, at), "{text}");
            assert!(durable > position && text.contains(&expected.display().to_string()));
        }
        other => panic!("not refused: {:?}", other.map(|found| found.len())),
    }
}

#[test]
fn any_flipped_byte_of_an_acknowledged_batch_is_refused() {
    let rig = acknowledged(1, 4);
    let path = rig.segment(0);
    let original = rig.world.read_file(0, &path).unwrap();
    // The second batch: 7016 bytes of one record, in two sectors.
    let header = Header::decode(&original[4096..]).unwrap();
    let end = SECTOR + (HEADER_BYTES as u64) + u64::from(header.length);
    assert_eq!(header.batch_bytes(), 2 * SECTOR);
    let sampled = (SECTOR..end).filter(|offset| offset % 53 == 0 || *offset < SECTOR + 120);
    for offset in sampled {
        rig.damage(
            &path,
            &Damage::FlipBit {
                offset,
                bit: (offset % 8) as u8,
            },
        );
        assert_damaged(&rig, &path, SECTOR);
        rig.damage(
            &path,
            &Damage::Overwrite {
                offset: 0,
                bytes: original.clone(),
            },
        );
    }
    assert_eq!(recover_once(&rig).unwrap().len(), 4);
}

#[test]
fn the_padding_of_a_batch_holds_nothing() {
    let rig = acknowledged(2, 4);
    let path = rig.segment(0);
    rig.damage(
        &path,
        &Damage::FlipBit {
            offset: SECTOR - 1,
            bit: 3,
        },
    );
    assert_eq!(recover_once(&rig).unwrap().len(), 4);
}

#[test]
fn a_zeroed_sector_is_refused_wherever_it_lies() {
    let rig = acknowledged(3, 20);
    let last = rig.options.segment_bytes;
    for number in 0..2 {
        let path = rig.segment(number);
        let original = rig.world.read_file(0, &path).unwrap();
        for sector in 0..last / SECTOR {
            let offset = sector * SECTOR;
            let at = original[offset as usize..(offset + SECTOR) as usize].to_vec();
            if at.iter().all(|&b| b == 0) {
                continue;
            }
            rig.damage(&path, &Damage::ZeroSector { offset });
            let outcome = recover_once(&rig);
            assert!(
                matches!(outcome, Err(RecoverError::Damaged { .. })),
                "segment {number}, sector {sector}: {:?}",
                outcome.map(|found| found.len())
            );
            rig.damage(&path, &Damage::Overwrite { offset, bytes: at });
        }
    }
    assert_eq!(recover_once(&rig).unwrap().len(), 20);
}

#[test]
fn swapped_batches_are_refused() {
    let rig = acknowledged(4, 8);
    let path = rig.segment(0);
    let content = rig.world.read_file(0, &path).unwrap();
    // Batches of one sector: the first, and the fourth, six sectors on.
    let (first, fourth) = (
        content[..4096].to_vec(),
        content[6 * 4096..7 * 4096].to_vec(),
    );
    assert!(Header::decode(&first).is_some() && Header::decode(&fourth).is_some());
    rig.damage(
        &path,
        &Damage::Overwrite {
            offset: 6 * SECTOR,
            bytes: first,
        },
    );
    assert_damaged(&rig, &path, 6 * SECTOR);
    rig.damage(
        &path,
        &Damage::Overwrite {
            offset: 0,
            bytes: fourth,
        },
    );
    assert!(matches!(
        recover_once(&rig),
        Err(RecoverError::Damaged { .. })
    ));
}

#[test]
fn a_truncated_segment_is_refused_by_name() {
    for bytes in [0, 512, 4_096, 65_535] {
        let rig = acknowledged(5, 20);
        let path = rig.segment(1);
        rig.damage(&path, &Damage::Truncate { bytes });
        match recover_once(&rig) {
            Err(RecoverError::WrongSize {
                path: named,
                found,
                expected,
            }) => {
                assert_eq!((named, found, expected), (path, bytes, 65_536));
            }
            other => panic!("not refused: {:?}", other.map(|found| found.len())),
        }
    }
}

fn remove(rig: &Rig, path: &Path) {
    let mut life = Life::new(&rig.world);
    let (reactor, path) = (life.reactor.clone(), path.to_owned());
    life.run(&rig.world, TURNS_MAX, async move {
        file::unlink(&reactor, &path).await.unwrap()
    });
    rig.world.kill(0);
}

#[test]
fn a_missing_segment_in_the_middle_is_refused() {
    for number in 0..2 {
        let rig = acknowledged(6, 30);
        assert!(rig.world.list_files(0).len() > 3);
        remove(&rig, &rig.segment(number));
        match recover_once(&rig) {
            Err(RecoverError::Damaged { path, .. }) => {
                assert!(path == rig.options.dir || path == rig.segment(number - 1));
            }
            other => panic!("not refused: {:?}", other.map(|found| found.len())),
        }
    }
}

#[test]
fn a_segment_of_another_log_is_not_taken_for_ones_own() {
    let other = Rig {
        options: Options {
            log_id: 78,
            ..options()
        },
        ..acknowledged(7, 0)
    };
    let foreign = {
        let mut rig = other;
        rig.restart();
        rig.append_durably(3_000);
        let path = rig.segment(0);
        rig.world.read_file(0, &path).unwrap()
    };
    let rig = acknowledged(8, 20);
    let path = rig.segment(0);
    let own = rig.world.read_file(0, &path).unwrap();
    rig.damage(
        &path,
        &Damage::Overwrite {
            offset: 0,
            bytes: foreign,
        },
    );
    assert!(matches!(
        recover_once(&rig),
        Err(RecoverError::Damaged { .. })
    ));
    rig.damage(
        &path,
        &Damage::Overwrite {
            offset: 0,
            bytes: own,
        },
    );
    assert_eq!(recover_once(&rig).unwrap().len(), 20);
}

#[test]
fn an_older_copy_of_a_segment_is_refused() {
    let mut rig = Rig::calm(9, options());
    rig.append_durably(100);
    let path = rig.segment(0);
    let older = rig.world.read_file(0, &path).unwrap();
    for _ in 0..5 {
        rig.append_durably(20_000);
    }
    rig.kill();
    rig.damage(
        &path,
        &Damage::Overwrite {
            offset: 0,
            bytes: older,
        },
    );
    assert!(matches!(
        recover_once(&rig),
        Err(RecoverError::Damaged { .. })
    ));
}

#[test]
fn an_unreadable_sector_is_an_error_and_not_an_end() {
    let rig = acknowledged(10, 20);
    let mut faults = Faults::none();
    faults.disk.read_error = 0.2;
    rig.world.set_faults(faults);
    let (mut refused, mut recovered) = (0, 0);
    for _ in 0..40 {
        match recover_once(&rig) {
            Ok(found) => {
                assert_eq!(found.len(), 20);
                recovered += 1;
            }
            Err(RecoverError::Io { what, path, .. }) => {
                assert!(what == "read" && path.starts_with("/log"));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0 && recovered + refused == 40);
}

#[test]
fn the_last_batch_is_told_from_a_torn_tail_once_it_is_attested() {
    for attested in [false, true] {
        let mut rig = Rig::calm(11, options());
        rig.append_durably(100);
        rig.append_durably(200);
        let (batches, ..) = rig.wal().written();
        if attested {
            rig.wal().attest();
            rig.wal().attest();
            rig.settle();
            assert_eq!(rig.wal().written().0, batches + 1, "once is enough");
            rig.wal().attest();
            assert!(rig.wal().is_idle(), "and it needs no other");
        }
        let path = rig.segment(0);
        rig.kill();
        rig.damage(
            &path,
            &Damage::FlipBit {
                offset: SECTOR + 90,
                bit: 1,
            },
        );
        if attested {
            assert_damaged(&rig, &path, SECTOR);
        } else {
            assert_eq!(recover_once(&rig).unwrap().len(), 1);
        }
    }
}

#[test]
fn a_record_that_its_owner_cannot_read_is_named() {
    let rig = acknowledged(12, 3);
    let mut life = Life::new(&rig.world);
    let (reactor, options) = (life.reactor.clone(), rig.options.clone());
    let outcome = life.run(&rig.world, TURNS_MAX, async move {
        let mut n = 0;
        recover(&reactor, &options, |_, _| {
            n += 1;
            if n == 2 {
                Err("an unknown kind of record".to_owned())
            } else {
                Ok(())
            }
        })
        .await
    });
    match outcome.unwrap() {
        Err(error @ RecoverError::BadRecord { offset: SECTOR, .. }) => {
            assert!(error.to_string().contains("an unknown kind of record"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_that_begins_inside_another_one_is_refused() {
    let rig = acknowledged(13, 3);
    let path = rig.segment(0);
    let segment = rig.world.read_file(0, &path).unwrap();
    let mut batch = segment[4096..12288].to_vec();
    let header = Header::decode(&batch).unwrap();
    // The second batch holds one whole record; now it says that the record goes on.
    let end = HEADER_BYTES + header.length as usize;
    encode_frame(Kind::First, header.length - 8, &mut batch[HEADER_BYTES..]);
    let payload_crc = crc32c(&batch[HEADER_BYTES..end]);
    Header {
        payload_crc,
        ..header
    }
    .encode(&mut batch);
    rig.damage(
        &path,
        &Damage::Overwrite {
            offset: SECTOR,
            bytes: batch,
        },
    );
    let third = SECTOR + header.batch_bytes();
    match recover_once(&rig) {
        Err(RecoverError::BadRecord { offset, what, .. }) => {
            assert_eq!(offset, third);
            assert!(what.contains("inside another"), "{what}");
        }
        other => panic!("{:?}", other.map(|found| found.len())),
    }
}
