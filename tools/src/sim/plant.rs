//! Mistakes that nodes make on purpose, so that the simulator is seen to find them. A build without the
//! feature `planted` has none.

#[cfg(feature = "planted")]
use ashlar_consensus::raft::Planted;
#[cfg(feature = "planted")]
use ashlar_node::config::Config;
#[cfg(feature = "planted")]
use ashlar_partition::planted;

/// Which mistake is made, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plant(#[cfg(feature = "planted")] Option<Mistake>);

/// A mistake.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug)]
enum Mistake {
    /// One of the consensus core.
    Core(Planted),
    /// One of partitions and nodes.
    Around(planted::Planted),
    /// What was done for a session is forgotten at once.
    ForgetsSessions,
}

impl Plant {
    /// Returns the mistake of a name.
    #[cfg(not(feature = "planted"))]
    pub(super) fn named(_: &str) -> Option<Self> {
        None
    }

    /// Returns the mistake's name, if there is one.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "in another build there is something")]
    pub(super) fn name(self) -> Option<String> {
        None
    }

    /// Has partitions and nodes of this thread make the mistake from now on.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "in another build there is something")]
    pub(super) fn make(self) {}
}

#[cfg(feature = "planted")]
impl Plant {
    /// Returns the mistake of a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let is_it = |of: &Mistake| {
            Self(Some(*of))
                .name()
                .is_some_and(|of| of.eq_ignore_ascii_case(name))
        };
        every().into_iter().find(is_it).map(|of| Self(Some(of)))
    }

    /// Returns the mistake's name, if there is one.
    pub(super) fn name(self) -> Option<String> {
        self.0.map(|mistake| match mistake {
            Mistake::Core(of) => format!("{of:?}"),
            Mistake::Around(of) => format!("{of:?}"),
            Mistake::ForgetsSessions => "ForgetsSessions".to_owned(),
        })
    }

    /// Has partitions and nodes of this thread make the mistake from now on, and no other.
    pub(super) fn make(self) {
        planted::plant(match self.0 {
            Some(Mistake::Around(mistake)) => Some(mistake),
            _ => None,
        });
    }

    /// Returns the mistake of the consensus core.
    pub(super) fn of_core(self) -> Option<Planted> {
        match self.0 {
            Some(Mistake::Core(mistake)) => Some(mistake),
            _ => None,
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

/// Mistakes of the core that show in a whole cluster; the others show in histories of the core
/// (`consensus/tests/simulate.rs`).
#[cfg(feature = "planted")]
const OF_CORE: [Planted; 15] = [
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
    Planted::ForgetsAmnesia,
    Planted::ForgetfulVotes,
];

#[cfg(feature = "planted")]
fn every() -> Vec<Mistake> {
    let core = OF_CORE.into_iter().map(Mistake::Core);
    let around = planted::EVERY.into_iter().map(Mistake::Around);
    core.chain(around)
        .chain([Mistake::ForgetsSessions])
        .collect()
}

/// Returns the names of all mistakes.
#[cfg(feature = "planted")]
pub(super) fn names() -> Vec<String> {
    let name = |mistake| Plant(Some(mistake)).name();
    every().into_iter().filter_map(name).collect()
}

/// Reads the name of a mistake.
#[cfg(feature = "planted")]
pub(super) fn parse(name: &str) -> Result<Plant, String> {
    match name {
        "none" => Ok(Plant(None)),
        _ => Plant::named(name)
            .ok_or_else(|| format!("no such mistake; there are {}", names().join(", "))),
    }
}
