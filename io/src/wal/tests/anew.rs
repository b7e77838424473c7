//! A damaged log that begins anew: nothing of the old one comes back, whenever that is cut short.

use super::*;
use crate::wal::{LOST, SUFFIX, begin_anew, remove_lost};

/// A log of some segments, damaged in the first.
fn damaged() -> Rig {
    let mut rig = Rig::calm(1, options());
    for n in 0..20 {
        rig.append_durably(3_000 + 4_000 * (n % 3));
    }
    rig.wal().attest();
    rig.settle();
    rig.kill();
    let path = rig.segment(0);
    rig.damage(&path, &Damage::ZeroSector { offset: 4096 });
    rig
}

fn files(rig: &Rig, suffix: &str) -> usize {
    let files = rig.world.list_files(0);
    let of = |(path, _): &&(PathBuf, u64)| path.to_string_lossy().ends_with(suffix);
    files.iter().filter(of).count()
}

/// Has the log begin anew, for `turns_max` turns at most; returns where it begins.
fn anew(rig: &Rig, life: &mut Life, turns_max: usize) -> Option<Recovered> {
    let (reactor, options) = (life.reactor.clone(), rig.options.clone());
    life.run(&rig.world, turns_max, async move {
        let anew = begin_anew(&reactor, &options, Position(7)).await.unwrap();
        anew.set_aside(&reactor, &options.dir).await.unwrap()
    })
}

#[test]
fn a_log_that_began_anew_holds_what_was_written_since() {
    let rig = damaged();
    let segments = files(&rig, SUFFIX);
    let mut life = Life::new(&rig.world);
    let recovered = life.recover(&rig.world, &rig.options, TURNS_MAX).unwrap();
    let Err(RecoverError::Damaged { durable, .. }) = recovered else {
        panic!("the damage is not seen");
    };
    let recovered = anew(&rig, &mut life, TURNS_MAX).unwrap();
    assert!(recovered.start.0 > durable && recovered.start == recovered.end);
    assert_eq!((files(&rig, SUFFIX), files(&rig, LOST)), (0, segments));
    let begin = recovered.start;
    life.open(&rig.options, recovered);
    let position = life.append_durably(&rig.world, b"the first of the new log");
    assert!(position >= begin);
    rig.world.crash(0);
    let mut life = Life::new(&rig.world);
    let outcome = life.recover(&rig.world, &rig.options, TURNS_MAX).unwrap();
    let (recovered, found) = outcome.unwrap();
    assert_eq!(found, [(begin, b"the first of the new log".to_vec())]);
    assert!(recovered.start >= begin && !recovered.torn);
    let (reactor, dir) = (life.reactor.clone(), rig.options.dir.clone());
    let removed = life.run(&rig.world, TURNS_MAX, async move {
        remove_lost(&reactor, &dir).await.unwrap()
    });
    assert_eq!(removed, Some(segments as u64));
    assert_eq!(files(&rig, LOST), 0);
}

/// What is left of the old log when the process ends in the middle is damaged, or ends before the position that the
/// new one was to begin at: so the owner, who has that position on disk, sees that it is not the new one.
#[test]
fn a_beginning_that_is_cut_short_is_never_taken_for_the_new_log() {
    let mut cuts = 0;
    for turns_max in 1.. {
        let rig = damaged();
        let mut life = Life::new(&rig.world);
        if anew(&rig, &mut life, turns_max).is_some() {
            break;
        }
        // Behind the last segment, of which there are at least three.
        let begin = rig.options.segment_bytes * 3;
        rig.world.kill(0);
        let mut life = Life::new(&rig.world);
        match life.recover(&rig.world, &rig.options, TURNS_MAX).unwrap() {
            Err(RecoverError::Damaged { .. }) => {}
            Err(error) => panic!("after {turns_max} turns: {error}"),
            Ok((recovered, _)) => {
                assert!(recovered.end.0 < begin, "after {turns_max} turns");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 0, "no cut fell between two renames");
}
