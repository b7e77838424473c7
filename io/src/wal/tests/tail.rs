//! Torn tails: every subset of the sectors of what was in flight, and what a cut tail leaves
//! behind.

use super::*;
use crate::wal::format::BLOCK_BYTES;

const SECTOR: u64 = BLOCK_BYTES as u64;

/// A log with three durable records, and two batches in flight behind them: one of three sectors,
/// one of two. The process ends after both were written, and before it saw that they were.
fn with_two_in_flight(seed: u64) -> (Rig, PathBuf, u64) {
    let mut rig = Rig::calm(seed, options());
    for bytes in [10, 5_000, 20] {
        rig.append_durably(bytes);
    }
    let tail = rig.wal().position();
    rig.turn(|rig| {
        rig.append(10_000);
        rig.wal().flush();
        rig.append(6_000);
    });
    assert_eq!(rig.wal().position(), Position(tail.0 + 5 * SECTOR));
    rig.kill();
    let path = rig.segment(0);
    (rig, path, tail.0)
}

#[test]
fn every_subset_of_torn_sectors_is_cut_where_it_should_be() {
    for lost in 0..32_u64 {
        let (mut rig, path, tail) = with_two_in_flight(lost);
        for sector in (0..5).filter(|sector| lost >> sector & 1 == 1) {
            rig.damage(
                &path,
                &Damage::ZeroSector {
                    offset: tail + sector * SECTOR,
                },
            );
        }
        rig.restart();
        let expected = match (lost & 0b111, lost >> 3) {
            (0, 0) => 5,
            (0, _) => 4,
            _ => 3,
        };
        assert_eq!(rig.records.len(), expected, "sectors {lost:05b} were lost");
        rig.append_durably(100);
        rig.crash();
        rig.restart();
        assert_eq!(rig.records.len(), expected + 1);
    }
}

#[test]
fn any_flipped_byte_of_the_torn_tail_cuts_it() {
    let (rig, path, tail) = with_two_in_flight(1);
    let original = rig.world.read_file(0, &path).unwrap();
    for offset in (tail..tail + 5 * SECTOR)
        .step_by(97)
        .chain(tail..tail + 120)
    {
        rig.damage(
            &path,
            &Damage::FlipBit {
                offset,
                bit: (offset % 8) as u8,
            },
        );
        let mut life = Life::new(&rig.world);
        let (recovered, found) = life
            .recover(&rig.world, &rig.options, TURNS_MAX)
            .unwrap()
            .unwrap();
        // Behind the last frame there are zeros that no checksum covers.
        assert!((3..=5).contains(&found.len()), "offset {}", offset - tail);
        assert!(found.len() == 5 || recovered.end.0 <= offset / SECTOR * SECTOR);
        drop(recovered);
        rig.world.kill(0);
        drop(life);
        rig.damage(
            &path,
            &Damage::Overwrite {
                offset: 0,
                bytes: original.clone(),
            },
        );
    }
}

/// Which generation a log goes on in after a cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    Next,
    Same,
}

/// Cuts a tail whose second batch is whole, writes one batch as long as the first in its place, and
/// recovers: says how many records there are.
fn records_after_a_cut(generation: Generation) -> usize {
    let (rig, path, tail) = with_two_in_flight(5);
    rig.damage(&path, &Damage::ZeroSector { offset: tail });
    let mut life = Life::new(&rig.world);
    let (mut recovered, found) = life
        .recover(&rig.world, &rig.options, TURNS_MAX)
        .unwrap()
        .unwrap();
    assert!(found.len() == 3 && recovered.torn);
    if generation == Generation::Same {
        recovered.generation -= 1;
    }
    life.open(&rig.options, recovered);
    life.append_durably(&rig.world, &[7; 10_016]);
    rig.world.crash(0);
    let mut life = Life::new(&rig.world);
    let (_, found) = life
        .recover(&rig.world, &rig.options, TURNS_MAX)
        .unwrap()
        .unwrap();
    assert_eq!(found[3].1, [7; 10_016]);
    found.len()
}

#[test]
fn a_batch_behind_a_cut_never_comes_back() {
    assert_eq!(records_after_a_cut(Generation::Next), 4);
}

#[test]
fn without_a_new_generation_it_would_come_back() {
    assert_eq!(
        records_after_a_cut(Generation::Same),
        5,
        "the test above has lost its teeth"
    );
}

#[test]
fn an_unfinished_record_ends_with_its_life() {
    let mut rig = Rig::calm(3, options());
    rig.append_durably(10);
    // A record of three batches, of which one is written.
    let limit = rig.options.batch_bytes as u64;
    rig.options.inflight_max = 1;
    rig.kill();
    rig.restart();
    rig.turn(|rig| {
        rig.append(40_000);
    });
    rig.kill();
    rig.restart();
    assert_eq!(rig.records.len(), 1);
    assert!(rig.wal().position().0 >= limit);
    rig.append_durably(50);
    rig.append_durably(50_000);
    rig.crash();
    rig.restart();
    assert_eq!(rig.records.len(), 3);
}

#[test]
fn an_abandoned_segment_never_passes_for_the_one_that_takes_its_number() {
    let options = Options {
        segment_bytes: 8 << 10,
        batch_bytes: 4 << 10,
        segments_spare: 1,
        ..options()
    };
    let mut rig = Rig::calm(1, options);
    rig.append_durably(10);
    let world = rig.world.clone();
    rig.life().until(&world, |wal| wal.segments_ready() >= 1);
    rig.turn(|rig| {
        rig.append(10);
        rig.wal().flush();
        // Large enough to go beside the first.
        rig.append(1200);
    });
    rig.kill();
    // The second batch is torn; the third, whole and alone in the second segment, is abandoned.
    let (first, second) = (rig.segment(0), rig.segment(1));
    rig.damage(&first, &Damage::ZeroSector { offset: SECTOR });
    let abandoned = rig.world.read_file(0, &second).unwrap()[..BLOCK_BYTES].to_vec();
    rig.restart();
    assert_eq!(rig.records.len(), 1);
    let left = rig.world.read_file(0, &second).unwrap()[..BLOCK_BYTES].to_vec();
    assert!(
        left != abandoned,
        "recovery makes sure that it never passes for a segment"
    );
    rig.append_durably(30);
    rig.release(2);
    // The file is used for the same number again. Of two batches in flight the power cut keeps the
    // second.
    rig.turn(|rig| {
        rig.append(20);
        rig.wal().flush();
        rig.append(1240);
    });
    rig.kill();
    let again = rig.segment(1);
    rig.damage(
        &again,
        &Damage::Overwrite {
            offset: 0,
            bytes: left,
        },
    );
    rig.restart();
    assert_eq!(rig.records.len(), 2);
    rig.append_durably(10);
}
