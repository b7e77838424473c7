//! Mistakes that replicas make on purpose, so that the simulator is seen to find them. A build without the
//! feature `planted` has none.

#[cfg(feature = "planted")]
use ashlar_consensus::raft::Planted;
#[cfg(feature = "planted")]
use ashlar_node::config::Config;

/// Which mistake is made, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plant(#[cfg(feature = "planted")] Option<Mistake>);

/// A mistake.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug)]
enum Mistake {
    /// One of the consensus core.
    Core(Planted),
    /// What was done for a session is forgotten at once.
    ForgetsSessions,
}

#[cfg(feature = "planted")]
impl Plant {
    /// Returns the mistake of the consensus core.
    pub(super) fn of_core(self) -> Option<Planted> {
        match self.0 {
            Some(Mistake::Core(mistake)) => Some(mistake),
            Some(Mistake::ForgetsSessions) | None => None,
        }
    }

    /// Makes a configuration wrong in a way that nobody could ask for.
    pub(super) fn spoil(self, mut config: Config) -> Config {
        if let Some(Mistake::ForgetsSessions) = self.0 {
            config.client.session_expire_s = 0;
        }
        config
    }
}

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
        Some(mistake) => Ok(Plant(Some(Mistake::Core(*mistake)))),
        None if name == "none" => Ok(Plant(None)),
        None if name.eq_ignore_ascii_case("ForgetsSessions") => {
            Ok(Plant(Some(Mistake::ForgetsSessions)))
        }
        None => Err(format!(
            "no such mistake; there are {EVERY:?} and ForgetsSessions"
        )),
    }
}
