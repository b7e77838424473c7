//! The data of a shard: its partitions with those who wait for them, its log and its clock. Nothing here waits or
//! decides.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use ashlar_consensus::{Clock, Index};
use ashlar_io::wal::Wal;
use ashlar_partition::Partition;
use ashlar_partition::key::KeyBuf;

use super::admission::Throttle;
use super::time::Waits;
use crate::connection::Connection;
use crate::message::{Forward, Origin, Ticket};
use crate::pubsub::notice::Notice;

/// Who waits for an index to be applied.
pub(super) enum Waiter {
    Connection(Rc<Connection>),
    /// A command's reply; and the command, when it may be sent anew if this replica stops leading.
    Forward(Origin, Ticket, Vec<u8>, Option<Box<Forward>>),
    Task(Waker),
    /// What happened to keys.
    Notices(Vec<Notice>),
}

/// A partition of this shard, and who waits for it.
pub(super) struct Owned {
    pub(super) partition: Partition,
    pub(super) waiters: VecDeque<(Index, Waiter)>,
    /// Goes up when this replica stops leading: what was waited for before, and was not applied, is never
    /// known.
    pub(super) lives: u64,
    /// What was applied when that happened last.
    pub(super) applied_before: Index,
    /// What was applied as of the last turn that looked.
    pub(super) noted: Index,
    /// Who waits for the clock.
    pub(super) waits: Waits,
}

/// The data of a shard.
pub(crate) struct Data {
    /// By number of the partition; `None` for those of other shards.
    pub(super) owned: Vec<Option<Owned>>,
    pub(crate) clock: Clock,
    pub(crate) wal: Wal,
    pub(super) key: KeyBuf,
    /// Bytes that the log can surely take, as of this turn.
    pub(super) room_bytes: u64,
    /// Bytes proposed in this turn.
    pub(super) proposed_bytes: u64,
    pub(super) throttle: Throttle,
}

impl Data {
    pub(crate) fn new(partitions: Vec<Option<Partition>>, clock: Clock, wal: Wal) -> Self {
        let owned = partitions
            .into_iter()
            .map(|partition| {
                partition.map(|partition| Owned {
                    partition,
                    waiters: VecDeque::new(),
                    lives: 0,
                    applied_before: Index(0),
                    noted: Index(0),
                    waits: Waits::default(),
                })
            })
            .collect();
        Self {
            owned,
            clock,
            wal,
            key: KeyBuf::default(),
            room_bytes: 0,
            proposed_bytes: 0,
            throttle: Throttle::default(),
        }
    }

    /// Walks the partitions of this shard.
    pub(crate) fn partitions(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.owned
            .iter_mut()
            .flatten()
            .map(|owned| &mut owned.partition)
    }

    /// Takes the clock, the log and the partitions apart.
    pub(crate) fn parts(&mut self) -> (&mut Clock, &mut Wal, impl Iterator<Item = &mut Partition>) {
        let Self {
            owned, clock, wal, ..
        } = self;
        (
            clock,
            wal,
            owned.iter_mut().flatten().map(|owned| &mut owned.partition),
        )
    }

    pub(super) fn owned_mut(&mut self, partition: usize) -> &mut Owned {
        self.owned[partition]
            .as_mut()
            .expect("requests are routed to the owner")
    }
}
