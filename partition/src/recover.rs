//! A partition that is being recovered: the checkpoint's version first, then record after record of
//! the log, the tables last.
//!
//! Invariants:
//! 1. An edit takes effect once: those up to the version's sequence are part of it.
//! 2. An entry takes effect unless a table holds it. One that a table of a later edit holds takes
//!    effect too: the same versions twice are the versions.
//! 3. The log may begin behind the last entry that the checkpoint knows to be in tables. What is
//!    between them is in the tables of a later edit, else the log lacks its beginning.
//! 4. Files that no version names are removed, and their numbers are not given again.
//! 5. A replica that has forgotten what it promised starts from its tables alone: what it has in the log behind them it
//!    is sent again, and would prove nothing. Of its log nothing counts before the checkpoint that says so.
//!    (`ashlar_consensus::raft` tells what such a replica may do.)

mod files;
mod forgotten;

use std::collections::VecDeque;
use std::rc::Rc;

use ashlar_consensus::message::EntryMeta;
use ashlar_consensus::raft::{self, Raft};
use ashlar_consensus::{
    Chain, Clock, Index, LogPosition, Member, Membership, Mono, ReplicaId, Term, Timestamp,
};
use ashlar_io::wal::Position;

use self::files::{open_tables, remove_orphans};
use crate::ballot::BallotRecord;
use crate::command::{EntryHeader, EntryKind, members_of};
use crate::group::Group;
use crate::lsm::Unreadable;
use crate::lsm::edit::{Edit, Effect};
use crate::lsm::ranges::Ranges;
use crate::lsm::table::TableMeta;
use crate::lsm::version::Version;
use crate::memtable::Beneath;
use crate::partition::Partition;

/// A partition in recovery.
#[derive(Debug)]
pub struct Recovering {
    partition: Partition,
    version: Version<TableMeta>,
    /// The first entry of the log that took effect.
    first: Option<Index>,
    /// What the replica is one of; `None` for one that is alone.
    group: Option<Others>,
    /// The last ballot of the checkpoint and the log.
    ballot: Option<BallotRecord>,
    /// What the log holds behind the tables.
    metas: VecDeque<EntryMeta>,
    /// Records before it are of a log that was damaged and is gone, all but some of its files.
    void_before: Position,
    /// The memberships among them.
    memberships: Vec<(Index, Membership)>,
    /// Why an entry does not fit those before it, and none has come since that does: a leader or a
    /// snapshot may have taken their place further on.
    misfit: Option<String>,
}

/// What a replica with others is started with.
#[derive(Clone, Debug)]
pub struct Others {
    /// The replica.
    pub me: Member,
    /// Who the members are, as far as no entry has said otherwise.
    pub membership: Membership,
    /// Settings of the consensus core.
    pub options: raft::Options,
    /// For the random delays of elections.
    pub seed: u64,
    /// The time.
    pub now: Mono,
    /// The ballot of the checkpoint.
    pub ballot: Option<BallotRecord>,
    /// Where in the log the checkpoint was saved.
    pub saved: Position,
}

impl Recovering {
    /// Begins with what the checkpoint says of an empty partition, if there is one.
    ///
    /// # Errors
    /// The checkpoint does not fit together; a sentence says how.
    pub fn begin(
        partition: Partition,
        checkpoint: Option<Edit>,
        clock: &mut Clock,
    ) -> Result<Self, String> {
        let mut recovering = Self {
            partition,
            version: Version::default(),
            first: None,
            group: None,
            ballot: None,
            metas: VecDeque::new(),
            void_before: Position(0),
            memberships: Vec::new(),
            misfit: None,
        };
        recovering.version.partition = recovering.partition.id.0;
        if let Some(edit) = checkpoint {
            let opened = edit.add_tables.iter().map(|add| add.meta.clone()).collect();
            let version = Version::restore(&edit, opened);
            recovering.take_over(version.map_err(|malformed| malformed.to_string())?, clock);
        }
        Ok(recovering)
    }

    /// Makes the partition a replica among others: what the log holds is not all committed.
    #[must_use]
    pub fn among(mut self, others: Others) -> Self {
        self.ballot = others.ballot;
        if self.has_forgotten() {
            self.void_before = others.saved;
        }
        self.group = Some(others);
        self
    }

    /// Takes in a record of this partition. `position` is one at or before which it begins; `clock`
    /// is moved above its timestamps.
    ///
    /// # Errors
    /// The bytes are not what follows; a sentence says why.
    pub fn take(
        &mut self,
        position: Position,
        record: &[u8],
        clock: &mut Clock,
    ) -> Result<(), String> {
        if position < self.void_before {
            return Ok(());
        }
        if Edit::is_edit(record) {
            let edit = Edit::decode(record).map_err(|malformed| malformed.to_string())?;
            return self.edit(edit, clock);
        }
        if BallotRecord::is_ballot(record) {
            let ballot = BallotRecord::decode(record).map_err(|malformed| malformed.to_string())?;
            self.vote(ballot);
            return Ok(());
        }
        let header = EntryHeader::decode(record).map_err(|malformed| malformed.to_string())?;
        let partition = &mut self.partition;
        if header.partition != partition.id {
            return Err(format!(
                "entry {} is of partition {}, not {}",
                header.index, header.partition, partition.id
            ));
        }
        if self.group.is_some() {
            clock.observe(header.timestamp.plus(u64::from(header.commands)));
            return self.pending(&header, record, position);
        }
        if header.index <= self.flushed() {
            return Ok(());
        }
        let partition = &mut self.partition;
        if self.first.is_none() {
            self.first = Some(header.index);
            partition.replica.begins_with(header.index);
        }
        clock.observe(header.timestamp.plus(u64::from(header.commands)));
        partition.replica.recovered(&header, record)?;
        let beneath = match &partition.tree {
            // Tables of edits that are still to come may hold what is deleted here.
            Some(_) => Beneath::Tables,
            None => Beneath::Nothing,
        };
        partition
            .apply_entry(record, position, beneath)
            .map_err(|malformed| malformed.to_string())
    }

    /// Returns the last entry that tables hold.
    fn flushed(&self) -> Index {
        Index(self.version.flushed.map_or(0, |flushed| flushed.index))
    }

    /// Takes in an entry that may yet be taken back, and applies what it says is committed. One that
    /// does not fit those before it is passed over: a leader has taken it back since, and the log, which
    /// begins somewhere, or the tables have only what came of that. Then one comes that does fit.
    fn pending(
        &mut self,
        header: &EntryHeader,
        record: &[u8],
        position: Position,
    ) -> Result<(), String> {
        if header.index <= self.flushed() {
            self.void();
            return Ok(());
        }
        if self.first.is_none_or(|first| header.index < first) {
            self.begin_at(header.index);
        }
        let replica = &mut self.partition.replica;
        match replica.recovered_pending(header, record, position) {
            Ok(()) => self.misfit = None,
            Err(what) => {
                self.misfit.get_or_insert(what);
                return Ok(());
            }
        }
        let place = |index: Index| index.0 - self.first.map_or(0, |first| first.0);
        self.metas
            .truncate(usize::try_from(place(header.index)).unwrap_or(usize::MAX));
        self.metas
            .push_back(replica.pending.back().expect("just taken in").meta());
        self.memberships.retain(|(index, _)| *index < header.index);
        if header.kind == EntryKind::Membership {
            let members = Membership::decode(members_of(record));
            let members = members.map_err(|malformed| malformed.to_string())?;
            self.memberships.push((header.index, members));
        }
        replica.recovered_commit(header.committed);
        self.partition.apply_committed(Beneath::Tables)
    }

    /// Says whether nothing of the log is applied.
    fn is_unapplied(&self) -> bool {
        let applied = self.partition.replica.applied();
        let first = self.first.unwrap_or(applied.next());
        applied.next() == first || applied <= self.flushed()
    }

    /// Forgets the entries behind the tables: a leader has taken them back, and what took their place is
    /// in tables, or comes.
    fn void(&mut self) {
        let Some(flushed) = self.version.flushed.filter(|_| self.first.is_some()) else {
            return;
        };
        if !self.is_unapplied() {
            let what = "an entry takes back what is committed".to_owned();
            self.misfit.get_or_insert(what);
            return;
        }
        self.forget_entries();
        let members = &self.version.members;
        self.partition.replica.reset(&flushed, members);
    }

    fn forget_entries(&mut self) {
        self.metas.clear();
        self.memberships.clear();
        (self.first, self.misfit) = (None, None);
    }

    /// Begins with an entry, of which nothing earlier has come.
    fn begin_at(&mut self, index: Index) {
        if !self.is_unapplied() {
            return;
        }
        self.forget_entries();
        self.first = Some(index);
        let replica = &mut self.partition.replica;
        match &self.version.flushed {
            Some(flushed) if flushed.index + 1 == index.0 => {
                replica.reset(flushed, &self.version.members);
            }
            Some(_) | None => replica.begins_anew(index),
        }
    }

    fn vote(&mut self, ballot: BallotRecord) {
        let newest = self.ballot.map_or(0, |ballot| ballot.term.0);
        if ballot.term.0 >= newest {
            self.ballot = Some(ballot);
        }
    }

    /// Makes the consensus core of what was found.
    fn found_group(&mut self, others: Others) -> Result<(), Unreadable> {
        let flushed = self.version.flushed;
        let base = flushed.map_or(0, |flushed| flushed.index);
        let behind = self
            .first
            .map_or(0, |first| (base + 1).saturating_sub(first.0));
        let behind = usize::try_from(behind)
            .unwrap_or(usize::MAX)
            .min(self.metas.len());
        self.metas.drain(..behind);
        let mut founding = Vec::new();
        others.membership.encode(&mut founding);
        let membership = match self.version.members.as_slice() {
            [] => others.membership,
            members => Membership::decode(members).map_err(|malformed| {
                let what = format!(
                    "the members of partition {}: {malformed}",
                    self.partition.id
                );
                Unreadable::new(what)
            })?,
        };
        self.memberships.retain(|(index, _)| index.0 > base);
        let replica = &mut self.partition.replica;
        let ballot = self.ballot.unwrap_or(BallotRecord::none(self.partition.id));
        let start = raft::Start {
            partition: self.partition.id,
            me: others.me,
            ballot: raft::Ballot {
                term: ballot.term.max(replica.term_of_last()),
                vote: (ballot.vote > 0 && ballot.term >= replica.term_of_last())
                    .then_some(ReplicaId(ballot.vote)),
            },
            base: LogPosition {
                term: Term(flushed.map_or(0, |flushed| flushed.term)),
                index: Index(base),
            },
            base_chain: Chain(flushed.map_or(0, |flushed| flushed.chain)),
            membership,
            entries: self.metas.make_contiguous(),
            memberships: std::mem::take(&mut self.memberships),
            committed: replica.applied(),
            applied: replica.applied(),
            has_forgotten: ballot.has_forgotten,
            seed: others.seed,
        };
        if let Some(tree) = &self.partition.tree {
            tree.share_numbers(others.me.replica.0);
        }
        let replica = &mut self.partition.replica;
        replica.found(&founding);
        let mut core = Raft::new(start, others.options, others.now);
        core.released(replica.applied().next());
        replica.join(Group::new(others.me, core, self.ballot));
        Ok(())
    }

    fn edit(&mut self, edit: Edit, clock: &mut Clock) -> Result<(), String> {
        if self.version.contains(&edit) {
            if edit.effect == Effect::Install {
                // A snapshot took the place of the entries so far, which the checkpoint knows of.
                self.void();
            }
            return Ok(());
        }
        let opened = edit.add_tables.iter().map(|add| add.meta.clone()).collect();
        let version = self.version.after(&edit, opened);
        let version = version.map_err(|malformed| malformed.to_string())?;
        if edit.effect == Effect::Install
            && let Some(flushed) = &version.flushed
        {
            self.forget_entries();
            self.partition.ranges = Ranges::default();
            self.partition.replica.reset(flushed, &version.members);
        }
        self.take_over(version, clock);
        Ok(())
    }

    fn take_over(&mut self, version: Version<TableMeta>, clock: &mut Clock) {
        self.version = version;
        let partition = &mut self.partition;
        partition.low_water = partition.low_water.max(self.version.low_water);
        clock.observe(Timestamp(partition.low_water));
        let Some(flushed) = &self.version.flushed else {
            return;
        };
        clock.observe(Timestamp(flushed.timestamp));
        partition.replica.flushed(flushed, &self.version.members);
        if flushed.index >= partition.replica.applied().0 {
            self.forget_memtable();
        }
    }

    /// Lets go of a memtable whose entries are all in tables.
    fn forget_memtable(&mut self) {
        let partition = &mut self.partition;
        if let Some(tree) = &partition.tree {
            let seed = partition.memtable.seed();
            partition.memtable = tree.new_memtable(seed);
        }
        partition.memtable_begin = None;
    }

    /// Says whether every entry is in the log or in tables.
    fn check_beginning(&self) -> Result<(), Unreadable> {
        let flushed = self.flushed();
        match self.first {
            Some(first) if first > flushed.next() => Err(Unreadable::new(format!(
                "the log of partition {} begins with entry {first}, and tables hold entries up to {flushed}",
                self.partition.id
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Opens the tables and returns the partition. One whose tables are damaged is not served.
    ///
    /// # Errors
    /// A file cannot be read or removed, for another reason than what is in it; or entries are
    /// neither in the log nor in tables.
    ///
    /// # Panics
    /// Never: the tables that were opened are those of the version.
    pub async fn finish(mut self) -> Result<Partition, Unreadable> {
        let has_forgotten = self.has_forgotten();
        if has_forgotten {
            self.begin_from_tables();
        }
        if self.partition.tree.is_some() {
            self.check_beginning()?;
        }
        if let Some(what) = self.misfit.take() {
            return Err(Unreadable::new(what));
        }
        if let Some(others) = self.group.take() {
            self.found_group(others)?;
        }
        let Self {
            mut partition,
            mut version,
            ..
        } = self;
        let Some(tree) = &partition.tree else {
            return Ok(partition);
        };
        let store = Rc::clone(tree.store());
        let id = partition.id.0;
        remove_orphans(&store, id, &mut version, has_forgotten).await?;
        let has_others = partition.raft().is_some();
        let (opened, damage) = open_tables(&store, id, &version, has_others).await?;
        if let Some(what) = damage {
            partition.quarantine(&what);
            if let Some(tree) = &mut partition.tree {
                tree.recovered_unopened(version.snapshot());
            }
            return Ok(partition);
        }
        for range in version.ranges.tombstones() {
            partition
                .ranges
                .add(&range.start, &range.end, range.timestamp);
        }
        let version = Version::restore(&version.snapshot(), opened)
            .expect("the tables are those of the version");
        if let Some(tree) = &mut partition.tree {
            tree.recovered(version);
        }
        Ok(partition)
    }
}
