//! Mistakes that others have made, to be made again on purpose: a simulation that does not find them
//! proves nothing. None of them is in a build without the feature `planted`.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant's comment is on its use")]
pub enum Planted {
    CommitsOldTerms,
    AcksBeforeDurable,
    VotesBeforeDurable,
    DurableIgnoresTruncation,
    CommitsUnverified,
    CountsOwnUndurable,
    QuorumUnsorted,
    JointNeedsNewOnly,
    VotesTwice,
    IgnoresCandidateLog,
    NoQuarantine,
    ReadsBeforeTermCommits,
    ReadsCountOldReplies,
    LeaseIgnoresEpoch,
    TransferKeepsLease,
    TruncatesMatching,
    RemovedLeaderCounts,
    BoundVotes,
    ChangesAtOnce,
    DamagedCampaigns,
    ForgetsAmnesia,
    ForgetfulVotes,
}
