//! The wake handshake of `queue`, model-checked: every interleaving of one sleeping shard and its
//! senders. Run with `RUSTFLAGS="--cfg loom" cargo test -p ashlar-io --test loom --release`.
#![cfg(loom)]

use ashlar_io::queue::WakeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// The shard's side: look, announce sleep, look again; returns how many messages it took before it
/// would block, and whether it may block.
fn look_then_sleep(cell: &WakeCell, queue: &AtomicUsize) -> (usize, bool) {
    let mut taken = queue.swap(0, Ordering::AcqRel);
    cell.start_polling();
    cell.start_sleeping();
    // As weak as a look at the real queue may be: a plain load, so that the fences alone decide
    // what it sees.
    let blocks = queue.load(Ordering::Relaxed) == 0;
    if !blocks {
        taken += queue.swap(0, Ordering::AcqRel);
        cell.start_running();
    }
    (taken, blocks)
}

fn no_message_is_lost_in_sleep(senders: usize) {
    let mut model = loom::model::Builder::new();
    // All interleavings of two threads; of three only those with at most three forced switches, or
    // it takes hours.
    model.preemption_bound = if senders == 1 { None } else { Some(3) };
    model.check(move || {
        let cell = Arc::new(WakeCell::model());
        let queue = Arc::new(AtomicUsize::new(0));
        let wakes = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..senders)
            .map(|_| {
                let (cell, queue, wakes) = (cell.clone(), queue.clone(), wakes.clone());
                thread::spawn(move || {
                    queue.fetch_add(1, Ordering::AcqRel);
                    if cell.notify() {
                        wakes.fetch_add(1, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        let (taken, blocks) = look_then_sleep(&cell, &queue);
        for thread in threads {
            thread.join().unwrap();
        }
        let left = queue.load(Ordering::Acquire);
        assert_eq!(taken + left, senders);
        if blocks && left > 0 {
            let written = wakes.load(Ordering::Acquire);
            assert_eq!(
                written, 1,
                "messages wait, the shard sleeps, and one wake-up was written"
            );
            assert!(cell.is_notified());
        }
        assert!(wakes.load(Ordering::Acquire) <= 1);
    });
}

#[test]
fn one_sender_never_loses_the_race_with_sleep() {
    no_message_is_lost_in_sleep(1);
}

#[test]
fn two_senders_write_one_wake_up() {
    no_message_is_lost_in_sleep(2);
}
