//! A replica that takes the place of all it had from a snapshot: what it stamps next.

use std::path::PathBuf;
use std::time::Duration;

use ashlar_consensus::support::{EarlierPromises, SupportOptions};
use ashlar_consensus::{
    Clock, Incarnation, Index, Member, Membership, Mono, NodeId, PartitionId, ReplicaId, Supports,
    Timestamp, raft,
};
use ashlar_io::sim::{Faults, World};
use ashlar_io::wal::{self, Durability, Wal};
use ashlar_io::{Reactor, file};
use ashlar_partition::lsm::edit::{Edit, Flushed};
use ashlar_partition::lsm::{Ground, GroundOptions, Layout};
use ashlar_partition::{KeyRange, Others, Outbox, Partition, Recovering, Turn};

use crate::node::{TURNS_MAX, options};
use crate::recover::run;

fn member(number: u32) -> Member {
    Member {
        replica: ReplicaId(number.into()),
        node: NodeId(number.into()),
    }
}

fn ground(reactor: &Reactor) -> Ground {
    let options = GroundOptions {
        dir: PathBuf::from("/tables"),
        cache_bytes: 64 << 10,
        memtable_bytes: 1 << 20,
        reads_inflight_max: 4,
        open_files_max: 6,
        layout: Layout {
            table_bytes: 64 << 10,
            separate_bytes: 1 << 10,
        },
    };
    Ground::new(reactor, options)
}

/// Makes a replica that has nothing yet, as the third of three, and the log that it writes to.
async fn newcomer(reactor: Reactor, ground: Ground) -> (Partition, Wal) {
    let options = options(2, 8 << 10, Durability::Fdatasync);
    for dir in ["/log", "/tables"] {
        file::create_dir(&reactor, dir.as_ref()).await.unwrap();
    }
    let recovered = wal::recover(&reactor, &options, |_, _| Ok(())).await;
    let range = KeyRange::split_at(&[]).remove(0);
    let partition = Partition::on_ground(PartitionId(0), range, 1, &ground);
    let recovering = Recovering::begin(partition, None, &mut Clock::default()).unwrap();
    let others = Others {
        saved: wal::Position(0),
        me: member(3),
        membership: Membership::default(),
        options: raft::Options::default(),
        seed: 1,
        now: Mono(0),
        ballot: None,
    };
    let partition = recovering.among(others).finish().await.unwrap();
    (partition, Wal::open(&reactor, options, recovered.unwrap()))
}

/// A replica took a snapshot in whose leader's clock was ahead, and led before it had heard any entry. Its own clock
/// had not been told: its writes were older than what they were to replace, and the next flush stopped the node.
#[test]
fn who_has_taken_a_snapshot_in_stamps_above_all_of_it() {
    let world = World::new(1, Faults::none());
    let reactor = Reactor::simulated(&world, 0, 0);
    let ground = ground(&reactor);
    let founded = newcomer(reactor.clone(), ground.clone());
    let (mut partition, mut wal) = run(&world, &reactor, TURNS_MAX, founded).unwrap();
    let mut edit = Edit {
        flushed: Some(Flushed {
            index: 20,
            term: 3,
            timestamp: Timestamp::at_micros(9_000_000).0,
            chain: 7,
        }),
        ..Edit::default()
    };
    Membership::of(&[member(1), member(2), member(3)]).encode(&mut edit.members);
    let whole = edit.clone();
    let opened = async move { ground.open_snapshot(&whole).await.unwrap() };
    let opened = run(&world, &reactor, TURNS_MAX, opened).unwrap();
    assert!(partition.install(edit, opened));

    let mut clock = Clock::default();
    clock.take(5_000_000);
    let earlier = EarlierPromises::None;
    let supports = Supports::new(Incarnation(1), earlier, SupportOptions::default(), Mono(0));
    let mut outbox = Outbox::default();
    for _ in 0..TURNS_MAX {
        world.step().unwrap();
        reactor.reap();
        wal.poll().unwrap();
        partition.settle(wal.durable());
        reactor.run_ready();
        partition.drain(&mut wal, &mut clock);
        partition.agree(&mut Turn {
            now: Mono(0),
            supports: &supports,
            wal: &mut wal,
            clock: &mut clock,
            outbox: &mut outbox,
        });
        if partition.applied() == Index(20) {
            break;
        }
        wal.flush();
        reactor.park(Some(reactor.now() + Duration::from_millis(1)), || false);
    }
    assert_eq!(partition.raft().unwrap().last().index, Index(20));
    assert!(clock.take(6_000_000) > Timestamp::at_micros(9_000_000));
}
