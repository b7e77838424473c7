//! Recovery of a shard in a simulated world, turn by turn so that the power can be cut inside it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::{Clock, PartitionId};
use ashlar_io::sim::World;
use ashlar_io::wal::{self, Options, RecoverError, Recovered};
use ashlar_io::{Reactor, file};
use ashlar_partition::command::record_partition;
use ashlar_partition::{KeyRange, Partition, Recovering};

/// What a recovery makes.
type Found = (Vec<Partition>, Clock, Recovered);

/// Recovers the log into new partitions, as a shard does.
pub(crate) async fn recover(
    reactor: Reactor,
    options: Options,
    ranges: Vec<KeyRange>,
    seed: u64,
) -> Result<Found, RecoverError> {
    file::create_dir(&reactor, &options.dir)
        .await
        .expect("the directory can be made");
    file::sync_dir(&reactor, Path::new("/"))
        .await
        .expect("the root can be synced");
    let mut clock = Clock::default();
    let mut recovering: Vec<Recovering> = (0..)
        .zip(ranges)
        .map(|(number, range)| {
            let partition = Partition::new(PartitionId(number), range, seed);
            Recovering::begin(partition, None, &mut clock).expect("there is no checkpoint")
        })
        .collect();
    let recovered = wal::recover(&reactor, &options, |position, record| {
        let number = record_partition(record).ok_or("too short for a record")?;
        recovering[number as usize].take(position, record, &mut clock)
    })
    .await?;
    let mut partitions = Vec::new();
    for of in recovering {
        partitions.push(of.finish().await.expect("there are no tables"));
    }
    Ok((partitions, clock, recovered))
}

/// Runs a future to its end, or until `turns_max` turns have passed.
pub(crate) fn run<T: 'static>(
    world: &World,
    reactor: &Reactor,
    turns_max: usize,
    future: impl Future<Output = T> + 'static,
) -> Option<T> {
    let answer = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&answer);
    reactor.spawn(async move {
        let value = future.await;
        *slot.borrow_mut() = Some(value);
    });
    for _ in 0..turns_max {
        world.step().expect("a recovery has a next turn");
        reactor.reap();
        reactor.run_ready();
        reactor.park(Some(reactor.now() + Duration::from_millis(1)), || false);
        if let Some(value) = answer.borrow_mut().take() {
            return Some(value);
        }
    }
    None
}
