//! One replica of one group (interface only so far; bodies follow).
//!
//! Where this differs from the brief: metas carry the bytes of a membership themselves, so that the
//! host never hands payloads in; `Append` and its reply are structs; replies carry the *epoch* of the
//! promise of support that binds the follower ([`crate::support`]) in place of an incarnation, and
//! leases count a voter only while that promise lasts; every message but an append is a
//! [`crate::message::Signal`]; `offer_snapshot` and `compacted` are calls of their own.

mod options;
mod output;
mod planted;

pub use options::{Options, Start};
pub use output::{
    Accepted, Alarm, Ballot, DiskPace, Event, Fetch, Gate, Installed, NotLeader, Output, OwnEntry,
    ReadAnswer, ReadReady, Role, Send, SnapshotWanted,
};
#[doc(hidden)]
pub use planted::Planted;

use crate::membership::{Change, Member, Membership};
use crate::message::{EntryMeta, Message};
use crate::refused::Refused;
use crate::support::Supports;
use crate::types::{Chain, Index, LogPosition, Mono, NodeId, ReplicaId, Term};

/// A replica.
#[derive(Debug)]
pub struct Raft {}

#[allow(
    unused_variables,
    clippy::unimplemented,
    missing_docs,
    reason = "bodies follow"
)]
impl Raft {
    pub fn new(start: Start<'_>, options: Options, now: Mono) -> Self {
        unimplemented!()
    }
    pub fn term(&self) -> Term {
        unimplemented!()
    }
    pub fn role(&self) -> Role {
        unimplemented!()
    }
    pub fn leader(&self) -> Option<Member> {
        unimplemented!()
    }
    pub fn last(&self) -> LogPosition {
        unimplemented!()
    }
    pub fn last_chain(&self) -> Chain {
        unimplemented!()
    }
    pub fn committed(&self) -> Index {
        unimplemented!()
    }
    pub fn membership(&self) -> &Membership {
        unimplemented!()
    }
    pub fn may_propose(&self) -> bool {
        unimplemented!()
    }
    pub fn serves_reads(&self, now: Mono, supports: &Supports) -> bool {
        unimplemented!()
    }
    /// When `tick` is due; none when the replica is quiet.
    pub fn deadline(&self) -> Option<Mono> {
        unimplemented!()
    }
    /// To be asked after every call that may have changed something, before `propose`.
    pub fn next_own_entry(&self) -> Option<OwnEntry> {
        unimplemented!()
    }
    pub fn propose(
        &mut self,
        now: Mono,
        meta: &EntryMeta,
        membership: Option<Membership>,
        out: &mut Output,
    ) -> Index {
        unimplemented!()
    }
    pub fn receive(
        &mut self,
        now: Mono,
        from: Member,
        message: &Message<'_>,
        supports: &Supports,
        out: &mut Output,
    ) -> Accepted {
        unimplemented!()
    }
    pub fn durable(&mut self, now: Mono, upto: LogPosition, out: &mut Output) {
        unimplemented!()
    }
    pub fn applied(&mut self, index: Index) {
        unimplemented!()
    }
    pub fn released(&mut self, first_kept: Index) {
        unimplemented!()
    }
    /// The log does not hold the entries up to `index` any more; `chain` is that of the last of them.
    pub fn compacted(&mut self, index: Index, chain: Chain) {
        unimplemented!()
    }
    pub fn tick(&mut self, now: Mono, supports: &Supports, out: &mut Output) {
        unimplemented!()
    }
    pub fn support_changed(
        &mut self,
        now: Mono,
        node: NodeId,
        supports: &Supports,
        out: &mut Output,
    ) {
        unimplemented!()
    }
    pub fn reachable(&mut self, now: Mono, node: NodeId, out: &mut Output) {
        unimplemented!()
    }
    pub fn unreachable(&mut self, now: Mono, node: NodeId, out: &mut Output) {
        unimplemented!()
    }
    pub fn fetched(
        &mut self,
        now: Mono,
        to: ReplicaId,
        first: Index,
        metas: &[EntryMeta],
        out: &mut Output,
    ) {
        unimplemented!()
    }
    pub fn gone(&mut self, now: Mono, to: ReplicaId, out: &mut Output) {
        unimplemented!()
    }
    pub fn read(
        &mut self,
        now: Mono,
        ticket: u64,
        supports: &Supports,
        out: &mut Output,
    ) -> ReadAnswer {
        unimplemented!()
    }
    pub fn transfer(&mut self, now: Mono, to: ReplicaId, out: &mut Output) -> Result<(), Refused> {
        unimplemented!()
    }
    pub fn change_membership(&mut self, change: &Change) -> Result<(), Refused> {
        unimplemented!()
    }
    pub fn campaign(
        &mut self,
        now: Mono,
        supports: &Supports,
        out: &mut Output,
    ) -> Result<(), Refused> {
        unimplemented!()
    }
    pub fn offer_snapshot(
        &mut self,
        now: Mono,
        to: ReplicaId,
        at: LogPosition,
        chain: Chain,
        membership: Membership,
        out: &mut Output,
    ) {
        unimplemented!()
    }
    pub fn snapshot_done(&mut self, now: Mono, to: ReplicaId, at: Index, out: &mut Output) {
        unimplemented!()
    }
    pub fn snapshot_failed(&mut self, now: Mono, to: ReplicaId) {
        unimplemented!()
    }
    pub fn installed(
        &mut self,
        now: Mono,
        at: LogPosition,
        chain: Chain,
        membership: Membership,
        out: &mut Output,
    ) -> Installed {
        unimplemented!()
    }
    pub fn corrupt(&mut self, now: Mono, at: LogPosition, out: &mut Output) {
        unimplemented!()
    }
    pub fn repaired(&mut self, at: LogPosition) {
        unimplemented!()
    }
    pub fn disk_pace(&mut self, now: Mono, pace: DiskPace, out: &mut Output) {
        unimplemented!()
    }
}
