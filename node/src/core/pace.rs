//! The pace of this shard's disk beside those of its peers: measured, told, and given to the groups that it leads.
//! What follows is decided in the consensus core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ashlar_consensus::NodeId;
use ashlar_consensus::pace::Pace;
use ashlar_consensus::raft::DiskPace;

use super::Core;
use super::cluster::Cluster;
use crate::distant::kind;

/// Ticks between two words to the peers, and to the groups of a slow node: who could not hand over before tries again.
const TICKS_PER_WORD: u32 = 5;

/// What is known of the disks' pace.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pace: RefCell<Pace>,
    is_slow: Cell<bool>,
    ticks: Cell<u32>,
}

impl Core {
    /// Measures the disk, and says how it is when that is due.
    pub(crate) fn tick_pace(self: &Rc<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let now = self.mono();
        let took_us = self.data.borrow_mut().wal.take_write_times();
        let measured = &cluster.pace;
        let ticks = measured.ticks.get().wrapping_add(1);
        measured.ticks.set(ticks);
        let (pace, own_us) = {
            let mut pace = measured.pace.borrow_mut();
            pace.note(now, &took_us);
            (pace.judge(now), pace.own_us(now))
        };
        let is_word_due = ticks.is_multiple_of(TICKS_PER_WORD);
        if let Some(own_us) = own_us.filter(|_| is_word_due) {
            self.tell_pace(cluster, own_us);
        }
        let is_slow = pace == DiskPace::Slow;
        let has_changed = measured.is_slow.replace(is_slow) != is_slow;
        if has_changed {
            log_pace(pace, own_us);
        }
        if has_changed || is_slow && is_word_due {
            self.tell_groups(cluster, |raft, turn, out| {
                raft.disk_pace(turn.now, pace, out);
            });
        }
    }

    fn tell_pace(&self, cluster: &Cluster, own_us: u32) {
        for peer in cluster.members.peers(cluster.node) {
            cluster.queue_urgent(peer, kind::PACE, &own_us.to_le_bytes());
        }
    }

    /// Takes in how long a peer's writes take.
    pub(super) fn take_pace(&self, cluster: &Cluster, from: NodeId, bytes: &[u8]) -> Option<()> {
        let took_us = u32::from_le_bytes(bytes.try_into().ok()?);
        cluster
            .pace
            .pace
            .borrow_mut()
            .said(self.mono(), from, took_us);
        Some(())
    }
}

fn log_pace(pace: DiskPace, own_us: Option<u32>) {
    let own_us = own_us.unwrap_or(0);
    match pace {
        DiskPace::Slow => tracing::warn!(
            "writes of the log take {own_us} us here, many times as long as on other nodes: this node hands over what it leads"
        ),
        DiskPace::Fine => tracing::info!("writes of the log are as fast as on other nodes again"),
    }
}
