//! A node while its cluster comes to be: whom it answers, and what. Pure, but for what it is told to
//! keep. Not the asking: that is `bootstrap`.

use ashlar_consensus::NodeId;

use super::paxos::{Acceptor, Vote};
use super::question::{Answer, Ask, Asker, Introduced, Question};
use super::roster::Roster;
use super::{Decree, Member, StoreId};
use crate::config::Listed;
use crate::peer::greeting::{Greeting, Reason, Refusal};

/// A node that has not found its cluster yet.
#[derive(Clone, Debug)]
pub(super) struct Founder {
    /// The node as it presents itself to others.
    pub(super) asker: Asker,
}

/// What an answer comes with: nothing, or a decree that was learned.
pub(super) type Answered = (Greeting, Option<Decree>);

fn refused(reason: Reason, text: String) -> Greeting {
    Greeting::Refused(Refusal::new(reason, text))
}

/// Answers a question of somebody who looks for its cluster: members hear who the members are, whoever else
/// is told why not. The answer of a node that serves, on its shard 0.
/// Who serves hears of a newer roster here, too: what is returned beside the answer.
#[must_use]
pub fn answer_decided(
    decree: &Decree,
    roster: &Roster,
    question: &[u8],
) -> (Greeting, Option<Roster>) {
    let Some(Question { asker, ask }) = Question::decode(question) else {
        return (unreadable(), None);
    };
    let cluster = decree.cluster;
    match ask {
        Ask::Introduce => {
            let text = format!("it is a member of cluster {cluster} already, and serves");
            (refused(Reason::Cluster, text), None)
        }
        Ask::Hear(of, newer) if of == cluster && newer.version > roster.version => {
            let joined = Answer::Joined(decree.clone(), newer.clone());
            (Greeting::Answer(joined.encode()), Some(newer))
        }
        _ => {
            let joined = || {
                let joined = Answer::Joined(decree.clone(), roster.clone());
                Greeting::Answer(joined.encode())
            };
            let judged = judge_late((decree, roster), &asker);
            (judged.unwrap_or_else(joined), None)
        }
    }
}

fn unreadable() -> Greeting {
    let text = "the question cannot be understood".to_owned();
    refused(Reason::Unanswered, text)
}

/// Refuses who is no member.
fn judge_late((decree, roster): (&Decree, &Roster), asker: &Asker) -> Option<Greeting> {
    let (name, cluster) = (&asker.name, decree.cluster);
    match roster.member(name) {
        None => {
            let text = format!(
                "{name} is no member of cluster {cluster}, which consists of {}; if it is to be one: \
                 ashlar member add {name}=ADDR:PORT, at any of them",
                roster.names()
            );
            Some(refused(Reason::Stranger, text))
        }
        Some(member) if member.store != asker.store => {
            let text = format!(
                "{name} was replaced: it comes with store {}, and cluster {cluster} knows it with {}; \
                 put its data directory back, or, if that is lost: ashlar member replace {name}, at any other member",
                asker.store, member.store
            );
            Some(refused(Reason::Store, text))
        }
        Some(_) => None,
    }
}

fn answer_late(decree: &Decree, asker: &Asker) -> Greeting {
    let roster = Roster::founded(decree);
    let decided = || Greeting::Answer(Answer::Decided(decree.clone()).encode());
    judge_late((decree, &roster), asker).unwrap_or_else(decided)
}

/// Returns what is different between two lists, in one line.
fn difference(
    (own, list): (&str, &[Listed]),
    (other, others): (&str, &[Listed]),
) -> Option<String> {
    let first =
        |list: &[Listed], of: &[Listed]| list.iter().find(|peer| !of.contains(peer)).cloned();
    let named = |list: &[Listed], name: &str| list.iter().find(|peer| peer.name == name).cloned();
    let (lister, peer, absent, rest) = match (first(list, others), first(others, list)) {
        (None, None) => return None,
        (Some(peer), _) => (own, peer, other, others),
        (None, Some(peer)) => (other, peer, own, list),
    };
    let there = match named(rest, &peer.name) {
        Some(peer) => format!("lists {peer}"),
        None => format!("does not list {}", peer.name),
    };
    Some(format!(
        "cluster.peers differ: {lister} lists {peer}, {absent} {there}"
    ))
}

impl Founder {
    /// Returns this node's number: its place in the list.
    pub(super) fn node(&self) -> NodeId {
        self.number(&self.asker.name).expect("a node lists itself")
    }

    fn number(&self, name: &str) -> Option<NodeId> {
        let place = self.asker.list.iter().position(|peer| peer.name == name);
        place.map(|place| NodeId(place as u64 + 1))
    }

    pub(super) fn own(&self) -> (NodeId, StoreId) {
        (self.node(), self.asker.store)
    }

    /// Returns all others, with their numbers.
    pub(super) fn others(&self) -> Vec<(NodeId, Listed)> {
        let own = self.node();
        let all = self.asker.list.iter().cloned();
        let numbered = (1..).map(NodeId).zip(all);
        numbered.filter(|(node, _)| *node != own).collect()
    }

    /// Returns the members when these are the disks of the others.
    pub(super) fn members(&self, stores: &[(NodeId, StoreId)]) -> Option<Vec<Member>> {
        let own = self.own();
        let store = |node| {
            let mut all = stores.iter().chain([&own]);
            all.find(|(of, _)| *of == node).map(|(_, store)| *store)
        };
        let member = |(node, peer): (NodeId, &Listed)| {
            Some(Member {
                name: peer.name.clone(),
                node,
                store: store(node)?,
                addr: peer.addr,
            })
        };
        let numbered = (1..).map(NodeId).zip(&self.asker.list);
        numbered.map(member).collect()
    }

    /// Answers a question. What `acceptor` then says has to be durable before the answer leaves.
    pub(super) fn answer(
        &self,
        acceptor: &mut Acceptor,
        decided: Option<&Decree>,
        question: &[u8],
    ) -> Answered {
        let Some(question) = Question::decode(question) else {
            return (unreadable(), None);
        };
        if let Some(decree) = decided {
            return (answer_late(decree, &question.asker), None);
        }
        if question.ask == Ask::Introduce {
            return (self.introduced(), None);
        }
        // What is decided is so, whatever the asker's configuration says.
        if let Ask::Learn(decree) = question.ask {
            return match self.fits(&decree) {
                true => (self.met(), Some(decree)),
                false => (vote(Vote::Mistaken), None),
            };
        }
        if let Err(refusal) = self.judge(&question.asker) {
            return (Greeting::Refused(refusal), None);
        }
        let answer = match question.ask {
            Ask::Meet | Ask::Learn(_) | Ask::Introduce | Ask::Hear(..) => self.met(),
            Ask::Prepare(ballot, members) => vote(acceptor.prepare(self.own(), &members, ballot)),
            Ask::Accept(ballot, decree) => vote(acceptor.accept(self.own(), ballot, &decree)),
        };
        (answer, None)
    }

    fn met(&self) -> Greeting {
        Greeting::Answer(Answer::Met(self.asker.store).encode())
    }

    fn introduced(&self) -> Greeting {
        let Asker {
            name,
            store,
            layout,
            ..
        } = self.asker.clone();
        let introduced = Introduced {
            name,
            store,
            layout,
        };
        Greeting::Answer(Answer::Introduced(introduced).encode())
    }

    /// Says whether this node, with its disk, is a member.
    pub(super) fn fits(&self, decree: &Decree) -> bool {
        let member = decree.member(&self.asker.name);
        member.is_some_and(|member| member.store == self.asker.store)
    }

    /// Judges whether somebody wants to found the same cluster.
    pub(super) fn judge(&self, asker: &Asker) -> Result<(), Refusal> {
        let own = &self.asker;
        let lists = (
            (own.name.as_str(), &own.list[..]),
            (asker.name.as_str(), &asker.list[..]),
        );
        if let Some(text) = difference(lists.0, lists.1) {
            return Err(Refusal::new(Reason::List, text));
        }
        if asker.name == own.name && asker.store != own.store {
            let text = format!("two nodes have cluster.name = {}", own.name);
            return Err(Refusal::new(Reason::Node, text));
        }
        let names = (own.name.as_str(), asker.name.as_str());
        if let Some(text) = own.layout.difference(names, &asker.layout) {
            return Err(Refusal::new(Reason::Layout, text));
        }
        Ok(())
    }
}

fn vote(vote: Vote) -> Greeting {
    Greeting::Answer(Answer::Vote(vote).encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterId;
    use crate::cluster::question::Layout;

    fn asker(name: &str) -> Asker {
        let listed = |n: u8| Listed {
            name: format!("n{n}"),
            addr: ([10, 0, 0, n], 7000).into(),
        };
        Asker {
            name: name.to_owned(),
            store: StoreId(u128::from(name.as_bytes()[1])),
            layout: Layout {
                shards: 2,
                partitions: 3,
                boundaries: 4,
            },
            list: (1..=3).map(listed).collect(),
        }
    }

    fn founder() -> Founder {
        Founder { asker: asker("n1") }
    }

    fn refusal(change: impl FnOnce(&mut Asker)) -> String {
        let mut asker = asker("n2");
        change(&mut asker);
        let judged = founder().judge(&asker);
        judged.map_or_else(|refusal| refusal.text, |()| String::new())
    }

    #[test]
    fn every_difference_is_named() {
        assert_eq!(refusal(|_| ()), "");
        assert_eq!(
            refusal(|of| drop(of.list.pop())),
            "cluster.peers differ: n1 lists n3=10.0.0.3:7000, n2 does not list n3"
        );
        assert_eq!(
            refusal(|of| of.list[2].addr.set_port(7)),
            "cluster.peers differ: n1 lists n3=10.0.0.3:7000, n2 lists n3=10.0.0.3:7"
        );
        let more = Listed {
            name: "n4".to_owned(),
            addr: ([10, 0, 0, 4], 7000).into(),
        };
        assert_eq!(
            refusal(|of| of.list.push(more)),
            "cluster.peers differ: n2 lists n4=10.0.0.4:7000, n1 does not list n4"
        );
        assert!(refusal(|of| of.layout.shards = 9).contains("n2 is formatted with 9 shards"));
        assert!(refusal(|of| of.layout.partitions = 9).contains("with 9 partitions, n1 with 3"));
        assert!(refusal(|of| of.layout.boundaries = 9).contains("other split keys"));
        assert!(refusal(|of| of.name = "n1".to_owned()).contains("two nodes"));
    }

    #[test]
    fn late_members_hear_the_decree_and_replaced_ones_that_they_are() {
        let stores = [2, 3].map(|n: u8| (NodeId(u64::from(n)), StoreId(u128::from(n + 48))));
        let decree = Decree {
            cluster: ClusterId(5),
            members: founder().members(&stores).unwrap(),
        };
        assert!(founder().fits(&decree));
        let ask = |asker: Asker| {
            let question = Question {
                asker,
                ask: Ask::Meet,
            };
            answer_decided(&decree, &Roster::founded(&decree), &question.encode()).0
        };
        let joined = Answer::Joined(decree.clone(), Roster::founded(&decree));
        assert_eq!(ask(asker("n2")), Greeting::Answer(joined.encode()));
        let mut replaced = asker("n2");
        replaced.store = StoreId(1);
        let Greeting::Refused(refusal) = ask(replaced) else {
            panic!("it has another disk");
        };
        assert!(refusal.reason == Reason::Store && refusal.text.starts_with("n2 was replaced:"));
        let Greeting::Refused(refusal) = ask(asker("n9")) else {
            panic!("it is no member");
        };
        assert!(
            refusal.text.contains("which consists of n1, n2, n3"),
            "{}",
            refusal.text
        );
    }
}
