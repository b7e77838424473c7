//! Recovery of a shard in a simulated world, turn by turn so that the power can be cut inside it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::{Clock, PartitionId};
use ashlar_io::sim::World;
use ashlar_io::wal::{self, Options, RecoverError, Recovered};
use ashlar_io::{Reactor, file};
use ashlar_partition::command::EntryHeader;
use ashlar_partition::{KeyRange, Partition};

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
    let mut partitions: Vec<Partition> = (0..)
        .zip(ranges)
        .map(|(number, range)| Partition::new(PartitionId(number), range, seed))
        .collect();
    let mut clock = Clock::default();
    let recovered = wal::recover(&reactor, &options, |_, entry| {
        let header = EntryHeader::decode(entry).map_err(|malformed| malformed.to_string())?;
        partitions[header.partition.0 as usize].recover(entry, &mut clock)
    })
    .await?;
    partitions
        .iter_mut()
        .for_each(|partition| partition.recovered(recovered.start));
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
