//! What peers have sent, section by section: handed to whom it concerns. Nothing is decided here.

use std::rc::Rc;
use std::time::Duration;

use ashlar_consensus::support::{RequestSupport, Support};
use ashlar_consensus::{NodeId, PartitionId};
use ashlar_partition::Turn;

use super::cluster::Cluster;
use super::{Core, Data};
use crate::distant::{self, kind};
use crate::message::Origin;
use crate::peer::frame::Frame;

/// How far another node's clock may be ahead before its timestamps are not taken over.
const CLOCK_AHEAD: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn take_frame(self: &Rc<Self>, cluster: &Cluster, from: NodeId, frame: &Frame) {
        self.take_clock(cluster, from, frame);
        self.take_interval(from, frame);
        for section in frame.sections() {
            if !matches!(
                section.kind,
                kind::SUPPORT_REQUEST | kind::SUPPORT | kind::PACE
            ) {
                self.stir();
            }
            let (partition, bytes) = (section.partition, section.bytes);
            let taken = match section.kind {
                kind::REPLICA => self.take_message(cluster, from, partition, bytes),
                kind::SUPPORT_REQUEST => self.take_request(cluster, from, bytes),
                kind::SUPPORT => self.take_support(cluster, from, bytes),
                kind::FORWARD => self.take_forward(from, partition, bytes),
                kind::REPLIED => self.take_replied(bytes),
                kind::ASK => self.take_ask(from, partition, bytes),
                kind::ANSWERED => self.take_answered(bytes),
                kind::FETCH => self.take_fetch(from, partition, bytes),
                kind::FETCHED => self.take_fetched(bytes),
                kind::CLIENTS => self.take_address(from, bytes),
                kind::ROSTER => self.take_roster(bytes),
                kind::PACE => self.take_pace(cluster, from, bytes),
                kind::PUBLISH => self.take_published(from, bytes),
                kind::WITHDRAW => self.take_withdraw(from, bytes),
                _ => None,
            };
            if taken.is_none() {
                tracing::warn!(
                    "node {} sent a section of kind {} for partition {partition} that cannot be read; it is dropped",
                    from.0,
                    section.kind
                );
            }
        }
    }

    /// Moves the hybrid clock above that of another node, unless that one is wrong.
    fn take_clock(&self, cluster: &Cluster, from: NodeId, frame: &Frame) {
        let (_, now_us) = self.now();
        let ahead_us = u64::try_from(CLOCK_AHEAD.as_micros()).unwrap_or(u64::MAX);
        if frame.clock.micros() <= now_us.saturating_add(ahead_us) {
            self.data.borrow_mut().clock.observe(frame.clock);
        } else if !cluster.warned.replace(true) {
            tracing::error!(
                "the clock of node {} is {} ms ahead of this one's; its timestamps are not taken over",
                from.0,
                (frame.clock.micros() - now_us) / 1000
            );
        }
    }

    fn take_message(
        &self,
        cluster: &Cluster,
        from: NodeId,
        partition: PartitionId,
        bytes: &[u8],
    ) -> Option<()> {
        let mut data = self.data.borrow_mut();
        let Data {
            owned, clock, wal, ..
        } = &mut *data;
        let owned = owned.get_mut(partition.0 as usize)?.as_mut()?;
        let mut turn = Turn {
            now: self.mono(),
            supports: &cluster.supports.borrow(),
            wal,
            clock,
            outbox: &mut cluster.outbox.borrow_mut(),
        };
        owned.partition.receive(from, bytes, &mut turn).ok()
    }

    fn take_request(&self, cluster: &Cluster, from: NodeId, bytes: &[u8]) -> Option<()> {
        let request = RequestSupport::decode(bytes).ok()?;
        let mut supports = cluster.supports.borrow_mut();
        if let Some(support) = supports.requested(self.mono(), from, &request) {
            let mut bytes = Vec::new();
            support.encode(&mut bytes);
            cluster.queue_urgent(from, kind::SUPPORT, &bytes);
        }
        Some(())
    }

    fn take_support(&self, cluster: &Cluster, from: NodeId, bytes: &[u8]) -> Option<()> {
        let support = Support::decode(bytes).ok()?;
        let now = self.mono();
        cluster.supports.borrow_mut().supported(now, from, &support);
        self.take_round_trip(from, support.request.sent);
        Some(())
    }

    fn take_forward(
        self: &Rc<Self>,
        from: NodeId,
        partition: PartitionId,
        bytes: &[u8],
    ) -> Option<()> {
        let number = partition.0 as usize;
        self.data.borrow().owned.get(number)?.as_ref()?;
        let forward = distant::decode_forward(Origin::Node(from), number, bytes)?;
        self.deferred.borrow_mut().push_back(Box::new(forward));
        self.run_deferred();
        Some(())
    }

    fn take_replied(self: &Rc<Self>, bytes: &[u8]) -> Option<()> {
        let (ticket, outcome, reply) = distant::decode_replied(bytes)?;
        self.relayed(ticket, outcome, reply);
        Some(())
    }
}
