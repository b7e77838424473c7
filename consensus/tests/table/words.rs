//! Messages, events and replicas in a few words. A position is written `term.index`.

use ashlar_consensus::message::{EntryKind, Message, Outcome, Round, Signal, decode};
use ashlar_consensus::raft::{Event, Role};
use ashlar_consensus::types::LogPosition;
use ashlar_consensus::{Member, Membership};

use super::Node;

/// Returns a position in words.
fn position(position: LogPosition) -> String {
    format!("{}.{}", position.term.0, position.index)
}

/// Returns a list of members in words.
fn list(members: &[Member]) -> String {
    let ids: Vec<String> = members
        .iter()
        .map(|member| member.replica.to_string())
        .collect();
    ids.join(" ")
}

/// Returns a membership in words.
fn membership(membership: &Membership) -> String {
    let mut text = list(&membership.voters);
    let others = [
        (" from ", &membership.outgoing),
        (" learners ", &membership.learners),
        (" then learners ", &membership.learners_next),
    ];
    for (name, members) in others {
        if !members.is_empty() {
            text = text + name + &list(members);
        }
    }
    text
}

/// Returns a message in words.
pub(super) fn message(from: u64, to: u64, bytes: &[u8]) -> String {
    let text = match decode(bytes).expect("what was encoded").0 {
        Message::Append(head, metas) => {
            let entries: Vec<String> = metas
                .iter()
                .map(|(meta, _)| match meta.kind {
                    EntryKind::Commands => format!("{}", meta.term.0),
                    EntryKind::Empty => format!("{} empty", meta.term.0),
                    EntryKind::Membership => format!("{} membership", meta.term.0),
                })
                .collect();
            let (term, prev) = (head.term.0, position(head.prev));
            let entries = entries.join(", ");
            format!(
                "append term {term} behind {prev} [{entries}] commit {} probe {}",
                head.commit, head.probe
            )
        }
        Message::Signal(signal) => self::signal(&signal),
    };
    format!("{from}>{to} {text}")
}

/// Returns a message without entries in words.
fn signal(signal: &Signal) -> String {
    match signal {
        Signal::AppendReply(reply) => {
            let outcome = match reply.outcome {
                Outcome::Matched { index } => format!("matched {index}"),
                Outcome::Rejected { prev, hint } => {
                    format!("rejected {prev} hint {}", position(hint))
                }
            };
            let (term, commit, probe) = (reply.term.0, reply.commit, reply.probe);
            let bound = if reply.epoch.0 > 0 { " bound" } else { "" };
            format!("reply term {term} {outcome} commit {commit} probe {probe}{bound}")
        }
        Signal::Vote(vote) => {
            let name = if vote.round == Round::Pre {
                "prevote"
            } else {
                "vote"
            };
            let transfer = if vote.transfer { " transfer" } else { "" };
            format!(
                "{name} term {} last {}{transfer}",
                vote.term.0,
                position(vote.last)
            )
        }
        Signal::VoteReply(reply) => {
            let name = if reply.round == Round::Pre {
                "prevote"
            } else {
                "vote"
            };
            let answer = if reply.granted { "granted" } else { "refused" };
            let bound = reply
                .fortified_to
                .map(|replica| format!(" bound to {replica}"));
            let bound = bound.unwrap_or_default();
            format!(
                "{name} {} {answer} term {}{bound}",
                reply.asked.0, reply.term.0
            )
        }
        Signal::TimeoutNow { term } => format!("stand now, term {}", term.0),
        Signal::Resigned { term } => format!("resigned term {}", term.0),
        Signal::LeadingQuery { term } => format!("leading term {}?", term.0),
        Signal::Snapshot(offer) => {
            let of = membership(&offer.membership);
            format!(
                "snapshot term {} at {} of {of}",
                offer.term.0,
                position(offer.at)
            )
        }
        Signal::SnapshotReply {
            term,
            index,
            accepted,
        } => {
            let answer = if *accepted { "wanted" } else { "not wanted" };
            format!("snapshot {index} {answer} term {}", term.0)
        }
        Signal::Forgot { term, .. } => format!("forgot, term {}", term.0),
        Signal::Remember { at, .. } => format!("remember {}", position(*at)),
    }
}

/// Returns an event in words.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::BecameLeader { term } => format!("leads term {}", term.0),
        Event::SteppedDown { term } => format!("stepped down from term {}", term.0),
        Event::LeaderKnown { leader: None } => "knows no leader".to_owned(),
        Event::LeaderKnown {
            leader: Some(leader),
        } => format!("knows leader {}", leader.replica),
        Event::MembershipActive { index } => format!("goes by membership {index}"),
        Event::MembershipCommitted { index } => format!("membership {index} is committed"),
        Event::SnapshotAccepted { from, at } => {
            format!(
                "wants the snapshot of {} at {}",
                from.replica,
                position(*at)
            )
        }
        other => format!("{other:?}"),
    }
}

/// Returns what a node is in words.
pub(super) fn state(id: u64, node: &Node) -> String {
    let raft = &node.raft;
    let role = match raft.role() {
        Role::Follower => "follows",
        Role::PreCandidate => "asks beforehand",
        Role::Candidate => "stands",
        Role::Leader => "leads",
    };
    let quiet = if raft.deadline().is_none() {
        " quiet"
    } else {
        ""
    };
    let (term, last) = (raft.term().0, position(raft.last()));
    let (durable, committed) = (raft.durable_index(), raft.committed());
    let of = membership(raft.membership());
    format!(
        "{id}: {role} term {term} last {last} durable {durable} committed {committed} of {of}{quiet}"
    )
}
