//! Handing leadership over to a certain replica. The leader stops taking proposals, waits until the
//! other has its whole log, gives up its lease and asks it to stand for election.
//!
//! Invariant: once another was asked, this leader has no lease in this term, however it ends; if no
//! leader has come in time, it steps down.
//!
//! Source: Raft (thesis), section 3.10.

use super::{DiskPace, Event, Gate, Mono, Output, Raft, send};
use crate::message::Signal;
use crate::progress::Mode;
use crate::refused::Refused;
use crate::types::ReplicaId;

/// A transfer under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    to: ReplicaId,
    /// When it is given up.
    pub(super) until: Mono,
    /// Whether the other was asked to stand for election.
    was_asked: bool,
}

impl Raft {
    /// Begins to hand leadership over to `to`.
    ///
    /// # Errors
    /// [`Refused`] when this replica does not lead or hands over already, when `to` leads already, and
    /// when it does not vote or is not connected.
    pub fn transfer(&mut self, now: Mono, to: ReplicaId, out: &mut Output) -> Result<(), Refused> {
        let lead = self.lead.as_ref().ok_or(Refused::NotLeader)?;
        if to == self.me.replica {
            return Err(Refused::AlreadyLeader);
        }
        if lead.transfer.is_some() {
            return Err(Refused::Transferring);
        }
        let peer = lead.peer(to).filter(|peer| peer.is_awake);
        if peer.is_none() || !self.membership().votes(to) {
            return Err(Refused::UnknownReplica(to));
        }
        let until = now.plus_ms(self.options.transfer_ms);
        self.lead_mut().transfer = Some(Transfer {
            to,
            until,
            was_asked: false,
        });
        self.hand_over(out);
        Ok(())
    }

    /// Asks the replica that is to lead to stand for election, if it has the whole log.
    pub(super) fn hand_over(&mut self, out: &mut Output) {
        let (term, last) = (self.term, self.journal.last().index);
        let lead = self.lead.as_mut().expect("only a leader hands over");
        let Some(transfer) = lead.transfer.as_mut() else {
            return;
        };
        let mut peers = lead.peers.iter();
        let heir = peers.find(|peer| peer.member.replica == transfer.to);
        let Some(heir) = heir.filter(|heir| heir.matched == last && !transfer.was_asked) else {
            return;
        };
        transfer.was_asked = true;
        lead.gave_up_lease = true;
        send(out, heir.member, Signal::TimeoutNow { term }, Gate::Now);
    }

    /// Gives a transfer up whose time is over.
    pub(super) fn tick_transfer(&mut self, now: Mono, out: &mut Output) {
        let lead = self.lead_mut();
        let Some(transfer) = lead.transfer.filter(|transfer| now >= transfer.until) else {
            return;
        };
        lead.transfer = None;
        out.events.push(Event::TransferFailed);
        if transfer.was_asked {
            // The request may still be on its way, so there will be no lease in this term.
            self.step_down(now, out);
        }
    }

    /// Takes in how fast this replica's disk is. A leader on a slow one hands over to the voter that
    /// has most of its log.
    pub fn disk_pace(&mut self, now: Mono, pace: DiskPace, out: &mut Output) {
        self.pace = pace;
        let Some(lead) = self.lead.as_ref().filter(|_| pace == DiskPace::Slow) else {
            return;
        };
        let fit = lead.peers.iter().filter(|peer| {
            let is_voter = self.membership().votes(peer.member.replica);
            peer.is_awake && peer.mode == Mode::Replicate && is_voter
        });
        let best = fit.max_by_key(|peer| peer.matched);
        if let Some(to) = best.map(|peer| peer.member.replica) {
            // Refused only if a transfer is under way, which serves as well.
            let _ = self.transfer(now, to, out);
        }
    }
}
