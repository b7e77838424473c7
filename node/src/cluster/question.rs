//! What nodes ask each other while their cluster comes to be, and what they answer: the bodies of
//! the greetings *question* and *answer*.
//!
//! All numbers are little-endian; a text is its length in two bytes, and UTF-8.
//!
//! ```text
//! question  name text, store u128, shards u32, partitions u32, boundaries u32: the asker
//!           count u8, then name text and addr text of each: its cluster.peers
//!           kind u8: 1 meet, 2 prepare (ballot, members), 3 accept (ballot, decree), 4 learn (decree),
//!           5 introduce yourself, 6 hear who the members are (cluster u128, roster)
//! answer    kind u8: 1 met (store u128), 2 decided (decree), or a vote:
//!           3 promised, 4 promised (ballot, decree), 5 accepted, 6 outrun (ballot),
//!           7 elsewhere (members), 8 mistaken;
//!           9 joined (decree, roster), 10 introduced (name text, store u128, shards u32, partitions u32,
//!           boundaries u32)
//! ```

use ashlar_io::wal::format::crc32c;

use super::decree::{Decree, put_members, take_members};
use super::paxos::{Ballot, Vote};
use super::record::{put_ballot, take_ballot};
use super::roster::Roster;
use super::{ClusterId, Member, StoreId};
use crate::config::{Listed, MEMBERS_MAX};
use crate::format::Format;
use crate::peer::cursor::{Cursor, put_text};

/// What all nodes of a cluster have to be formatted alike in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shards of a node.
    pub shards: u32,
    /// Partitions of the keys.
    pub partitions: u32,
    /// CRC-32C of where the keys are cut.
    pub boundaries: u32,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its name.
    pub name: String,
    /// Its disk.
    pub store: StoreId,
    /// What it was formatted as.
    pub layout: Layout,
    /// Its list of members, in order of name.
    pub list: Vec<Listed>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Who are you?
    Meet,
    /// Promise a ballot, for these members.
    Prepare(Ballot, Vec<Member>),
    /// Accept a decree.
    Accept(Ballot, Decree),
    /// Know that this is decided.
    Learn(Decree),
    /// Who are you, wherever you belong? Asked by members of somebody who is to become one.
    Introduce,
    /// Know that these are the members now. Told to a member that takes the asker for a stranger.
    Hear(ClusterId, Roster),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// What is asked.
    pub ask: Ask,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// My disk is this.
    Met(StoreId),
    /// This is decided.
    Decided(Decree),
    /// What the acceptor says.
    Vote(Vote),
    /// You are one of these members; the cluster began with that decree.
    Joined(Decree, Roster),
    /// I am this, and no member of a cluster yet.
    Introduced(Introduced),
}

/// Who has not found its cluster yet, as it tells members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// Its name.
    pub name: String,
    /// Its disk.
    pub store: StoreId,
    /// What it was formatted as.
    pub layout: Layout,
}

impl Layout {
    /// Returns the layout of a data directory.
    ///
    /// # Panics
    /// Never: what is read from a file of a mebibyte has fewer than four billion boundaries.
    #[must_use]
    pub fn of(format: &Format) -> Self {
        let mut all = Vec::new();
        let boundaries = format.boundaries();
        for boundary in &boundaries {
            all.extend_from_slice(&(boundary.len() as u64).to_le_bytes());
            all.extend_from_slice(boundary);
        }
        Self {
            shards: format.shards,
            partitions: u32::try_from(boundaries.len() + 1).expect("a file of a mebibyte"),
            boundaries: crc32c(&all),
        }
    }
}

impl Layout {
    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.shards, self.partitions, self.boundaries] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn take(at: &mut Cursor<'_>) -> Option<Self> {
        Some(Self {
            shards: at.u32()?,
            partitions: at.u32()?,
            boundaries: at.u32()?,
        })
    }

    /// Returns what is different in the layout of `name`, if anything is.
    #[must_use]
    pub fn difference(&self, (own_name, name): (&str, &str), other: &Self) -> Option<String> {
        let alike = "format all nodes of a cluster alike";
        for (ours, theirs, what) in [
            (self.shards, other.shards, "shards"),
            (self.partitions, other.partitions, "partitions"),
        ] {
            if ours != theirs {
                return Some(format!(
                    "{name} is formatted with {theirs} {what}, {own_name} with {ours}: {alike}"
                ));
            }
        }
        (self.boundaries != other.boundaries)
            .then(|| format!("{name} is formatted with other split keys than {own_name}: {alike}"))
    }
}

impl Question {
    /// Returns the bytes of the question.
    ///
    /// # Panics
    /// When the list or the members are more than 255; a configuration has [`MEMBERS_MAX`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Asker {
            name,
            store,
            layout,
            list,
        } = &self.asker;
        put_text(&mut out, name);
        out.extend_from_slice(&store.0.to_le_bytes());
        layout.put(&mut out);
        out.push(u8::try_from(list.len()).expect("a list is short"));
        for Listed { name, addr } in list {
            put_text(&mut out, name);
            put_text(&mut out, &addr.to_string());
        }
        match &self.ask {
            Ask::Meet => out.push(1),
            Ask::Prepare(ballot, members) => {
                out.push(2);
                put_ballot(&mut out, *ballot);
                put_members(&mut out, members);
            }
            Ask::Accept(ballot, decree) => {
                out.push(3);
                put_ballot(&mut out, *ballot);
                decree.encode(&mut out);
            }
            Ask::Learn(decree) => {
                out.push(4);
                decree.encode(&mut out);
            }
            Ask::Introduce => out.push(5),
            Ask::Hear(cluster, roster) => {
                out.push(6);
                out.extend_from_slice(&cluster.0.to_le_bytes());
                out.extend_from_slice(&roster.encode());
            }
        }
        out
    }

    /// Reads a question; `None` when the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Cursor(bytes);
        let asker = Asker {
            name: at.text()?.to_owned(),
            store: StoreId(at.u128()?),
            layout: Layout::take(&mut at)?,
            list: take_list(&mut at)?,
        };
        let ask = match at.u8()? {
            1 => Ask::Meet,
            2 => Ask::Prepare(take_ballot(&mut at)?, take_members(&mut at)?),
            3 => Ask::Accept(take_ballot(&mut at)?, Decree::take(&mut at)?),
            4 => Ask::Learn(Decree::take(&mut at)?),
            5 => Ask::Introduce,
            6 => {
                let cluster = ClusterId(at.u128()?);
                Ask::Hear(cluster, Roster::take(&mut at)?)
            }
            _ => return None,
        };
        at.is_empty().then_some(Self { asker, ask })
    }
}

fn take_list(at: &mut Cursor<'_>) -> Option<Vec<Listed>> {
    let count = usize::from(at.u8()?);
    if count > MEMBERS_MAX {
        return None;
    }
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(Listed {
            name: at.text()?.to_owned(),
            addr: at.text()?.parse().ok()?,
        });
    }
    Some(list)
}

impl Answer {
    /// Returns the bytes of the answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Met(store) => {
                out.push(1);
                out.extend_from_slice(&store.0.to_le_bytes());
            }
            Self::Decided(decree) => {
                out.push(2);
                decree.encode(&mut out);
            }
            Self::Vote(Vote::Promised(None)) => out.push(3),
            Self::Vote(Vote::Promised(Some((ballot, decree)))) => {
                out.push(4);
                put_ballot(&mut out, *ballot);
                decree.encode(&mut out);
            }
            Self::Vote(Vote::Accepted) => out.push(5),
            Self::Vote(Vote::Outrun(ballot)) => {
                out.push(6);
                put_ballot(&mut out, *ballot);
            }
            Self::Vote(Vote::Elsewhere(members)) => {
                out.push(7);
                put_members(&mut out, members);
            }
            Self::Vote(Vote::Mistaken) => out.push(8),
            Self::Joined(decree, roster) => {
                out.push(9);
                decree.encode(&mut out);
                out.extend_from_slice(&roster.encode());
            }
            Self::Introduced(introduced) => {
                out.push(10);
                put_text(&mut out, &introduced.name);
                out.extend_from_slice(&introduced.store.0.to_le_bytes());
                introduced.layout.put(&mut out);
            }
        }
        out
    }

    /// Reads an answer; `None` when the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Cursor(bytes);
        let answer = match at.u8()? {
            1 => Self::Met(StoreId(at.u128()?)),
            2 => Self::Decided(Decree::take(&mut at)?),
            3 => Self::Vote(Vote::Promised(None)),
            4 => {
                let ballot = take_ballot(&mut at)?;
                let accepted = (ballot, Decree::take(&mut at)?);
                Self::Vote(Vote::Promised(Some(accepted)))
            }
            5 => Self::Vote(Vote::Accepted),
            6 => Self::Vote(Vote::Outrun(take_ballot(&mut at)?)),
            7 => Self::Vote(Vote::Elsewhere(take_members(&mut at)?)),
            8 => Self::Vote(Vote::Mistaken),
            9 => {
                let decree = Decree::take(&mut at)?;
                Self::Joined(decree, Roster::take(&mut at)?)
            }
            10 => Self::Introduced(Introduced {
                name: at.text()?.to_owned(),
                store: StoreId(at.u128()?),
                layout: Layout::take(&mut at)?,
            }),
            _ => return None,
        };
        at.is_empty().then_some(answer)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::NodeId;
    use proptest::prelude::*;

    use super::super::record;
    use super::*;
    use crate::cluster::paxos::Acceptor;

    fn members() -> Vec<Member> {
        let member = |n: u8| Member {
            name: format!("n{n}"),
            node: NodeId(u64::from(n)),
            store: StoreId(u128::from(n) << 90),
            addr: ([10, 0, 0, n], 7000).into(),
        };
        (1..=3).map(member).collect()
    }

    fn decree() -> Decree {
        Decree {
            cluster: ClusterId(u128::MAX - 5),
            members: members(),
        }
    }

    fn ballot() -> Ballot {
        Ballot {
            round: 8,
            proposer: NodeId(2),
        }
    }

    fn questions() -> Vec<Question> {
        let list = members().into_iter().map(|member| Listed {
            name: member.name,
            addr: member.addr,
        });
        let asker = Asker {
            name: "n2".to_owned(),
            store: StoreId(7),
            layout: Layout {
                shards: 1,
                partitions: 2,
                boundaries: 3,
            },
            list: list.collect(),
        };
        let asks = [
            Ask::Meet,
            Ask::Prepare(ballot(), members()),
            Ask::Accept(ballot(), decree()),
            Ask::Learn(decree()),
            Ask::Introduce,
            Ask::Hear(ClusterId(4), Roster::founded(&decree())),
        ];
        let question = |ask| Question {
            asker: asker.clone(),
            ask,
        };
        asks.into_iter().map(question).collect()
    }

    fn answers() -> Vec<Answer> {
        let votes = [
            Vote::Promised(None),
            Vote::Promised(Some((ballot(), decree()))),
            Vote::Accepted,
            Vote::Outrun(ballot()),
            Vote::Elsewhere(members()),
            Vote::Mistaken,
        ];
        let others = [
            Answer::Met(StoreId(9)),
            Answer::Decided(decree()),
            Answer::Joined(decree(), Roster::founded(&decree())),
            Answer::Introduced(Introduced {
                name: "n4".to_owned(),
                store: StoreId(3),
                layout: questions()[0].asker.layout,
            }),
        ];
        others.into_iter().chain(votes.map(Answer::Vote)).collect()
    }

    #[test]
    fn questions_and_answers_come_back_and_need_every_byte() {
        for question in questions() {
            let bytes = question.encode();
            for end in 0..bytes.len() {
                assert_eq!(Question::decode(&bytes[..end]), None);
            }
            assert_eq!(Question::decode(&bytes), Some(question));
            assert_eq!(Question::decode(&[bytes, vec![0]].concat()), None);
        }
        for answer in answers() {
            let bytes = answer.encode();
            for end in 0..bytes.len() {
                assert_eq!(Answer::decode(&bytes[..end]), None);
            }
            assert_eq!(Answer::decode(&bytes), Some(answer));
        }
    }

    #[test]
    fn records_come_back_and_notice_every_change() {
        for (endorsed, accepted) in [
            (None, None),
            (Some(members()), None),
            (Some(members()), Some((ballot(), decree()))),
        ] {
            let acceptor = Acceptor {
                endorsed,
                promised: ballot(),
                accepted,
            };
            let mut bytes = record::encode(&acceptor);
            assert_eq!(record::decode(&bytes), Ok(acceptor));
            for at in 0..bytes.len() {
                bytes[at] ^= 4;
                assert!(record::decode(&bytes).is_err());
                assert!(record::decode(&bytes[..at]).is_err());
                bytes[at] ^= 4;
            }
        }
    }

    #[test]
    fn a_list_that_is_no_cluster_is_not_taken() {
        for change in [
            |members: &mut Vec<Member>| members.swap(0, 1),
            |members: &mut Vec<Member>| members[2].node.0 = 4,
            |members: &mut Vec<Member>| members[1].name = members[0].name.clone(),
            |members: &mut Vec<Member>| members[0].name = String::new(),
            |members: &mut Vec<Member>| members.clear(),
        ] {
            let mut wrong = members();
            change(&mut wrong);
            let bytes = Answer::Vote(Vote::Elsewhere(wrong)).encode();
            assert_eq!(Answer::decode(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Question::decode(&bytes), Answer::decode(&bytes), record::decode(&bytes));
        }

        #[test]
        fn changed_bytes_do_no_harm(which in 0_usize..4, at in 0_usize..500, to in any::<u8>()) {
            let mut bytes = questions()[which].encode();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Some(question) = Question::decode(&bytes) {
                prop_assert_eq!(Question::decode(&question.encode()), Some(question));
            }
        }
    }
}
