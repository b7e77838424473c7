//! What the node tells people of its clock: who says how far it may be off, whether its peers agree, and what
//! writes do about it. Nothing is decided by it.

use std::sync::{Arc, Mutex};

use ashlar_consensus::witness::Verdict;
use ashlar_io::clock::{Board, Known};

use crate::core::Stance;
use crate::shared::lock;

/// What shard 0 saw last.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    known: Option<Known>,
    verdict: Verdict,
    stance: Stance,
}

/// The clock of this node.
#[derive(Debug, Default)]
pub struct Sight {
    /// Where its source's answers are.
    pub board: Arc<Board>,
    seen: Mutex<Seen>,
}

impl Sight {
    /// Notes how it is.
    pub fn note(&self, known: Option<Known>, verdict: Verdict, stance: Stance) {
        *lock(&self.seen) = Seen {
            known,
            verdict,
            stance,
        };
    }

    /// Returns how it is, as names and values.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let seen = *lock(&self.seen);
        let mut facts = Vec::new();
        match seen.known {
            Some(known) => {
                facts.push(("clock_source", known.source.word().to_owned()));
                facts.push(("clock_error_us", known.error_us.to_string()));
            }
            None => facts.push(("clock_source", "none".to_owned())),
        }
        if let (None, Some(why)) = (seen.known, self.board.why()) {
            facts.push(("clock_untrusted", why));
        }
        let peers = match seen.verdict {
            Verdict::Unheard => "unheard",
            Verdict::Agrees => "agree",
            Verdict::Disagrees => "disagree",
        };
        facts.push(("clock_peers", peers.to_owned()));
        let wait = match seen.stance {
            Stance::Off => "off",
            Stance::Waits => "on",
            Stance::Goes => "on, but writes are acknowledged without: there is no bound to go by",
            Stance::Refuses => "strict: writes are refused, for there is no bound to go by",
        };
        facts.push(("clock_wait", wait.to_owned()));
        facts
    }
}

#[cfg(test)]
mod tests {
    use ashlar_io::clock::Source;

    use super::*;

    #[test]
    fn who_is_not_believed_is_named_with_the_reason() {
        let sight = Sight::default();
        sight.note(None, Verdict::Unheard, Stance::Goes);
        let facts = sight.facts();
        assert!(facts.contains(&("clock_source", "none".to_owned())));
        assert!(facts.iter().any(|(name, _)| *name == "clock_untrusted"));
        let known = Known {
            source: Source::Chrony,
            wall_us: 1,
            error_us: 77,
        };
        sight.note(Some(known), Verdict::Agrees, Stance::Waits);
        let facts = sight.facts();
        assert!(facts.contains(&("clock_error_us", "77".to_owned())));
        assert!(!facts.iter().any(|(name, _)| *name == "clock_untrusted"));
    }
}
