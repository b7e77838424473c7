//! Mistakes made on purpose, so that the simulator is seen to find them: those of partitions and nodes; the consensus
//! core has its own. Not in a build without the feature `planted`, where nothing is ever planted.
//!
//! A mistake is planted in a thread, since a simulated cluster lives in one.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A ballot is not given to the log.
    ForgetsBallots,
    /// What is committed is applied before it is durable here.
    AppliesBeforeDurable,
    /// A read does not look at entries in flight.
    OverlooksInFlight,
    /// A read that met an entry in flight does not wait for it.
    ReadsDoNotWait,
    /// A deletion leaves no trace in tables, whatever lies beneath.
    ForgetsTombstones,
    /// Of each key only the newest version gets into tables.
    ForgetsHistory,
    /// A flush says that the log is not needed any more for entries that are not in it.
    FlushesTooFar,
    /// Deletions of ranges hide nothing.
    IgnoresRangeDeletions,
    /// A table is said to be there before it is durable.
    SkipsTableSync,
    /// A leader serves without a lease.
    ServesWithoutLease,
    /// A snapshot leaves in memory what was there before.
    SnapshotKeepsMemtable,
    /// Tables that take the place of damaged ones leave nothing in memory.
    RepairForgetsMemtable,
    /// Replies leave before what they say is applied.
    RepliesEarly,
    /// A write of which nobody knows whether it was done is sent again, though it has no token.
    RetriesUnknown,
    /// A command is sent to a leader ahead of those that wait for one.
    OvertakesWaiting,
    /// A transaction runs though a watched key has changed.
    IgnoresWatches,
}

/// Every mistake.
pub const EVERY: [Planted; 16] = [
    Planted::ForgetsBallots,
    Planted::AppliesBeforeDurable,
    Planted::OverlooksInFlight,
    Planted::ReadsDoNotWait,
    Planted::ForgetsTombstones,
    Planted::ForgetsHistory,
    Planted::FlushesTooFar,
    Planted::IgnoresRangeDeletions,
    Planted::SkipsTableSync,
    Planted::ServesWithoutLease,
    Planted::SnapshotKeepsMemtable,
    Planted::RepairForgetsMemtable,
    Planted::RepliesEarly,
    Planted::RetriesUnknown,
    Planted::OvertakesWaiting,
    Planted::IgnoresWatches,
];

#[cfg(feature = "planted")]
thread_local! {
    static MADE: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake in this thread, or none.
#[cfg(feature = "planted")]
pub fn plant(mistake: Option<Planted>) {
    MADE.set(mistake);
}

/// Says whether a mistake is planted in this thread.
#[cfg(feature = "planted")]
#[must_use]
pub fn is_planted(mistake: Planted) -> bool {
    MADE.get() == Some(mistake)
}

/// Says that no mistake is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
#[must_use]
pub fn is_planted(_: Planted) -> bool {
    false
}
