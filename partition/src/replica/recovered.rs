//! A replica while it is recovered, and when a snapshot takes the place of its log: what the log and the
//! tables hold, taken in without being agreed on anew.

use super::*;

impl Replica {
    /// Takes in an entry that the log holds, at start, and that may yet be taken back. One that
    /// another leader has put in the place of earlier ones drops these.
    ///
    /// # Errors
    /// The entry does not follow what is before it, or takes back what is committed.
    pub(crate) fn recovered_pending(
        &mut self,
        header: &EntryHeader,
        bytes: &[u8],
        position: Position,
    ) -> Result<(), String> {
        let (index, partition) = (header.index, header.partition);
        if index <= self.applied || index > self.last.next() {
            let (applied, last) = (self.applied, self.last);
            return Err(format!(
                "entry {index} of partition {partition} comes after entry {last}, and {applied} is committed"
            ));
        }
        self.truncate(Index(index.0 - 1));
        // Not the term of what was taken back: the leader's entries may be older than that.
        if header.term < self.term_of_last() {
            return Err(format!(
                "entry {index} of partition {partition} goes back in term"
            ));
        }
        self.check_chain(header, bytes)?;
        self.take_over(header, bytes);
        self.term = header.term;
        let entry = self.pending.back_mut().expect("just taken over");
        entry.position = position;
        Ok(())
    }

    /// Says whether an entry that the log holds is the one that followed those before it.
    fn check_chain(&mut self, header: &EntryHeader, bytes: &[u8]) -> Result<(), String> {
        let is_known = std::mem::replace(&mut self.chain_is_known, true);
        if is_known && chain_of(bytes, self.chain) != header.chain {
            return Err(format!(
                "entry {} of partition {} breaks the chain of hashes",
                header.index, header.partition
            ));
        }
        Ok(())
    }

    /// Notes who the replicas were from the beginning, if no entry has said so.
    pub(crate) fn found(&mut self, members: &[u8]) {
        if self.members.is_empty() {
            self.members = members.to_vec();
        }
    }

    /// Takes over that the log is what a snapshot stands for, and nothing behind it.
    pub(crate) fn reset(&mut self, flushed: &Flushed, members: &[u8]) {
        let index = Index(flushed.index);
        self.open = None;
        self.pending.clear();
        self.pending_bytes = 0;
        (self.last, self.committed, self.applied) = (index, index, index);
        (self.chain, self.applied_chain) = (flushed.chain, flushed.chain);
        self.applied_term = Term(flushed.term);
        self.chain_is_known = true;
        self.applied_timestamp = Timestamp(flushed.timestamp);
        self.term = Term(flushed.term);
        self.members = members.to_vec();
        if let Some(group) = &mut self.group {
            group.reset();
        }
    }

    /// Says whether the log has an entry that is not applied yet, or was applied last.
    pub(crate) fn has_entry(&self, at: LogPosition) -> bool {
        let same = |entry: &Entry| entry.index == at.index && entry.term == at.term;
        self.pending.iter().any(same)
    }

    /// Makes it one of several.
    pub(crate) fn join(&mut self, group: Group) {
        self.group = Some(Box::new(group));
    }

    /// Returns the term of the last entry, or of what is in tables.
    pub(crate) fn term_of_last(&self) -> Term {
        let last = self.pending.back();
        last.map_or(self.applied_term, |entry| entry.term)
    }

    /// Notes at start that entries up to `index` are committed, as far as they are there.
    pub(crate) fn recovered_commit(&mut self, index: Index) {
        self.committed = self.committed.max(index.min(self.last));
    }

    /// Takes in an entry that the log holds, at start.
    ///
    /// # Errors
    /// The entry does not follow the one before.
    pub(crate) fn recovered(&mut self, header: &EntryHeader, bytes: &[u8]) -> Result<(), String> {
        if self.last > Index(0) && header.index != self.last.next() {
            return Err(format!(
                "entry {} of partition {} follows entry {}",
                header.index, header.partition, self.last
            ));
        }
        if header.term < self.term {
            return Err(format!(
                "entry {} of partition {} goes back in term",
                header.index, header.partition
            ));
        }
        self.check_chain(header, bytes)?;
        (self.last, self.committed, self.applied) = (header.index, header.index, header.index);
        if header.kind == EntryKind::Membership {
            self.members = members_of(bytes).to_vec();
        }
        self.term = header.term;
        (self.chain, self.applied_chain) = (header.chain, header.chain);
        self.applied_term = header.term;
        self.applied_timestamp = header.timestamp.plus(u64::from(header.commands));
        Ok(())
    }

    /// Notes that the log begins with `first`: what is before it and not in tables yet will be in
    /// those of a later edit.
    pub(crate) fn begins_with(&mut self, first: Index) {
        if self.last.next() < first {
            self.last = Index(first.0 - 1);
            (self.committed, self.applied) = (self.last, self.last);
            self.chain_is_known = false;
        }
    }

    /// Begins with `first`, at start, and forgets what else the log has told: what is before it is in the
    /// tables of a later edit.
    pub(crate) fn begins_anew(&mut self, first: Index) {
        self.truncate(self.applied);
        self.last = Index(first.0 - 1);
        (self.committed, self.applied) = (self.last, self.last);
        (self.chain, self.applied_chain, self.applied_term) = (0, 0, Term(0));
        self.chain_is_known = first == Index(1);
    }

    /// Notes that tables hold everything up to `flushed`: what the log holds goes on behind it, or
    /// begins at or before it.
    pub(crate) fn flushed(&mut self, flushed: &Flushed, members: &[u8]) {
        let index = Index(flushed.index);
        if index < self.applied {
            return;
        }
        // The log may begin right behind it: then no entry has told its chain.
        while let Some(entry) = self.pending.front().filter(|entry| entry.index <= index) {
            self.pending_bytes -= entry.bytes.len();
            self.pending.pop_front();
        }
        (self.committed, self.applied) = (index, index);
        self.applied_timestamp = Timestamp(flushed.timestamp);
        (self.applied_term, self.applied_chain) = (Term(flushed.term), flushed.chain);
        self.members = members.to_vec();
        if index >= self.last {
            (self.last, self.term, self.chain) = (index, Term(flushed.term), flushed.chain);
        }
    }
}
