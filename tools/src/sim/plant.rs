//! Mistakes that replicas make on purpose, so that the simulator is seen to find them. A build without the
//! feature `planted` has none.

#[cfg(feature = "planted")]
use ashlar_consensus::raft::Planted;

/// Which mistake is made, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plant(#[cfg(feature = "planted")] pub(super) Option<Planted>);

/// Mistakes that a cluster whose members stay the same can make.
#[cfg(feature = "planted")]
const EVERY: [Planted; 13] = [
    Planted::CommitsOldTerms,
    Planted::AcksBeforeDurable,
    Planted::VotesBeforeDurable,
    Planted::DurableIgnoresTruncation,
    Planted::CommitsUnverified,
    Planted::CountsOwnUndurable,
    Planted::QuorumUnsorted,
    Planted::VotesTwice,
    Planted::IgnoresCandidateLog,
    Planted::NoQuarantine,
    Planted::LeaseIgnoresEpoch,
    Planted::TruncatesMatching,
    Planted::BoundVotes,
];

/// Reads the name of a mistake.
#[cfg(feature = "planted")]
pub(super) fn parse(name: &str) -> Result<Plant, String> {
    let named = |mistake: &&Planted| format!("{mistake:?}").eq_ignore_ascii_case(name);
    match EVERY.iter().find(named) {
        Some(mistake) => Ok(Plant(Some(*mistake))),
        None if name == "none" => Ok(Plant(None)),
        None => Err(format!("no such mistake; there are {EVERY:?}")),
    }
}
