//! Changes of the membership, as the leader begins them. Leaving a joint membership needs no call: the
//! leader proposes it itself ([`Raft::next_own_entry`]), whoever it is by then.
//!
//! Source: Raft (thesis), section 4.3; an entry of the term must be committed first (Ongaro, "bug in
//! single-server membership changes", raft-dev 2015).

use super::{Planted, Raft};
use crate::membership::{Change, Membership};
use crate::refused::Refused;

impl Raft {
    /// Begins a change: [`Self::next_own_entry`] has its entry, which the host proposes.
    ///
    /// # Errors
    /// [`Refused`] when this replica does not lead, has committed nothing in its term, is handing over,
    /// when another change is under way, or when the change makes no sense ([`Membership::change`]).
    pub fn change_membership(&mut self, change: &Change) -> Result<(), Refused> {
        let lead = self.lead.as_ref().ok_or(Refused::NotLeader)?;
        let at_once = self.planted(Planted::ChangesAtOnce);
        if self.committed < lead.term_start && !at_once {
            return Err(Refused::TermNotCommitted);
        }
        if lead.transfer.is_some() {
            return Err(Refused::Transferring);
        }
        let (index, _) = self.memberships[self.memberships.len() - 1];
        if lead.change.is_some() || index > self.committed && !at_once {
            return Err(Refused::ChangeUnderWay);
        }
        let mut next: Membership = self.membership().change(change)?;
        if at_once {
            next = next.left();
        }
        self.lead_mut().change = Some(next);
        Ok(())
    }
}
