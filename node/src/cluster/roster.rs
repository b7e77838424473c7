//! The members of a cluster as they are now, and how one roster becomes the next. The first is what the
//! founders decided; each later one is put in the place of the one before by a write that says which that
//! was, under [`KEY`], so that all of them are in one line. Not who votes in which partition: leaders bring
//! their groups to what the roster says.
//!
//! All numbers are little-endian; a text is its length in two bytes, and UTF-8.
//!
//! ```text
//! roster  version u64    1 for the founders, one more with each change
//!         next    u64    number of the next member
//!         count   u8, then for each member, in order of number:
//!         name text, node u64, store u128, addr text
//!         count   u8, then in the same way those who left last: groups may count on them yet
//! file    magic "AROS", crc32c u32 of what follows, roster
//! ```
//!
//! Invariants:
//! 1. Names, numbers and disks are each there once; there are 1 to [`MEMBERS_MAX`] members.
//! 2. A number is given once in the life of a cluster: who comes back with another disk is a new member.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ashlar_consensus::NodeId;
use ashlar_io::Reactor;
use ashlar_io::wal::format::crc32c;
use ashlar_partition::lsm::REPLICAS_EVER;

use super::{Decree, Member, StoreId};
use crate::config::{MEMBERS_MAX, NAME_BYTES_MAX};
use crate::format::{FormatError, load, replace};
use crate::peer::cursor::Cursor;
use crate::shared::lock;

/// The internal key that the roster is kept under: behind those of all databases.
pub const KEY: &[u8] = b"\xf0roster";
/// Name of the file that keeps what a node knows last.
const FILE_NAME: &str = "ROSTER";
const MAGIC: &[u8; 4] = b"AROS";
/// Most members that left and are remembered.
pub const FORMER_MAX: usize = MEMBERS_MAX;
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Who the members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Counts the changes.
    pub version: u64,
    /// Number of the next member.
    next: u64,
    /// In order of number.
    pub members: Vec<Member>,
    /// Who left last, at most [`FORMER_MAX`] of them, the latest first. A group may count on them still, and whoever
    /// is started in the middle of that must find them.
    pub former: Vec<Member>,
}

/// Somebody who is to become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// What operators call it.
    pub name: String,
    /// Its disk.
    pub store: StoreId,
    /// Where its shard 0 listens for peers.
    pub addr: SocketAddr,
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One comes.
    Add(Newcomer),
    /// The one of this name goes.
    Remove(String),
    /// The one of this name goes and another comes, which may have the same name.
    Replace(String, Newcomer),
}

/// The newest roster that the shards of a node know; they look at it once a tick.
#[derive(Debug, Default)]
pub struct Latest {
    version: AtomicU64,
    roster: Mutex<Option<Roster>>,
    shards_done: AtomicU32,
}

impl Latest {
    /// Takes in a roster, if it is newer.
    pub fn learn(&self, roster: &Roster) {
        let mut known = lock(&self.roster);
        if roster.version > self.version() {
            *known = Some(roster.clone());
            self.version.store(roster.version, Ordering::Release);
        }
    }

    /// Returns the version of the newest; 0 when there is none.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the newest if it is above a version.
    #[must_use]
    pub fn newer(&self, version: u64) -> Option<Roster> {
        match self.version() > version {
            true => lock(&self.roster).clone(),
            false => None,
        }
    }

    /// Counts a shard that nobody counts on any more: this node was removed.
    pub fn shard_is_done(&self) {
        self.shards_done.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many there are.
    #[must_use]
    pub fn shards_done(&self) -> u32 {
        self.shards_done.load(Ordering::Acquire)
    }
}

impl Roster {
    /// Returns the roster that a cluster begins with.
    #[must_use]
    pub fn founded(decree: &Decree) -> Self {
        Self {
            version: 1,
            next: decree.members.len() as u64 + 1,
            members: decree.members.clone(),
            former: Vec::new(),
        }
    }

    /// Returns the member called `name`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Says whether a node is a member.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node)
    }

    /// Says whether a node was a member once and is none any more.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        node.0 < self.next && !self.has(node)
    }

    /// Returns the names, for people.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.members.iter().map(|of| of.name.as_str()).collect();
        names.join(", ")
    }

    /// Returns the roster after a change.
    ///
    /// # Errors
    /// The change makes no sense; one line says why.
    pub fn after(&self, change: &Change) -> Result<Self, String> {
        let mut next = self.clone();
        next.version += 1;
        match change {
            Change::Add(newcomer) => next.admit(newcomer)?,
            Change::Remove(name) => next.dismiss(name)?,
            Change::Replace(name, newcomer) => {
                let same = self.member(name).filter(|of| of.store == newcomer.store);
                if let Some(same) = same {
                    let node = same.node.0;
                    return Err(format!("{name} has that disk already, as member {node}"));
                }
                next.dismiss(name)?;
                next.admit(newcomer)?;
            }
        }
        match next.members.is_empty() {
            true => Err("the last member cannot be removed".to_owned()),
            false => Ok(next),
        }
    }

    fn dismiss(&mut self, name: &str) -> Result<(), String> {
        let Some(place) = self.members.iter().position(|of| of.name == name) else {
            let names = self.names();
            return Err(format!("{name} is no member; there are {names}"));
        };
        self.former.insert(0, self.members.remove(place));
        self.former.truncate(FORMER_MAX);
        Ok(())
    }

    fn admit(&mut self, newcomer: &Newcomer) -> Result<(), String> {
        let Newcomer { name, store, addr } = newcomer;
        if let Some(same) = self.members.iter().find(|of| of.name == *name) {
            return Err(format!(
                "{name} is a member already, number {}; to have its disk replaced: ashlar member replace {name}",
                same.node.0
            ));
        }
        let same = |of: &&Member| of.store == *store || of.addr == *addr;
        if let Some(same) = self.members.iter().find(same) {
            return Err(format!("{} has that disk or address already", same.name));
        }
        if self.members.len() >= MEMBERS_MAX {
            return Err(format!("a cluster has at most {MEMBERS_MAX} members"));
        }
        if self.next >= REPLICAS_EVER {
            return Err(format!(
                "this cluster has had {} members, which is all that it can have in its life",
                REPLICAS_EVER - 1
            ));
        }
        self.members.push(Member {
            name: name.clone(),
            node: NodeId(self.next),
            store: *store,
            addr: *addr,
        });
        self.next += 1;
        Ok(())
    }

    /// Returns the bytes of the roster.
    ///
    /// # Panics
    /// Never: a roster has a few members.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
        super::decree::put_members(&mut out, &self.members);
        super::decree::put_members(&mut out, &self.former);
        out
    }

    /// Reads a roster from exactly `bytes`, if that is what they are.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = Cursor(bytes);
        let roster = Self::take(&mut at)?;
        at.is_empty().then_some(roster)
    }

    pub(crate) fn take(at: &mut Cursor<'_>) -> Option<Self> {
        let roster = Self {
            version: at.u64()?,
            next: at.u64()?,
            members: super::decree::take_list(at)?,
            former: super::decree::take_list(at)?,
        };
        roster.is_sound().then_some(roster)
    }

    /// Says whether the invariants hold.
    fn is_sound(&self) -> bool {
        let members = &self.members;
        let sorted = members.is_sorted_by(|a, b| a.node < b.node);
        let below = members
            .iter()
            .all(|member| (1..self.next).contains(&member.node.0));
        let named =
            |member: &Member| !member.name.is_empty() && member.name.len() <= NAME_BYTES_MAX;
        let mut rest = members.iter().enumerate();
        let repeats = rest.any(|(place, member)| {
            let earlier = &members[..place];
            earlier
                .iter()
                .any(|of| of.name == member.name || of.store == member.store)
        });
        let counts = (1..=MEMBERS_MAX).contains(&members.len()) && self.former.len() <= FORMER_MAX;
        let left = |of: &Member| of.node.0 < self.next && !self.has(of.node) && named(of);
        let counts = counts && self.former.iter().all(left);
        counts && sorted && below && !repeats && members.iter().all(named) && self.version > 0
    }
}

/// Reads what a node knew last; `None` when that is what the founders decided.
///
/// # Errors
/// The file cannot be read or understood.
pub async fn read_file(reactor: &Reactor, data: &Path) -> Result<Option<Roster>, FormatError> {
    let Some(bytes) = load(reactor, data, FILE_NAME, FILE_BYTES_MAX).await? else {
        return Ok(None);
    };
    let roster = bytes.strip_prefix(MAGIC).and_then(|rest| {
        let (crc, rest) = rest.split_first_chunk()?;
        (crc32c(rest) == u32::from_le_bytes(*crc)).then(|| Roster::decode(rest))?
    });
    match roster {
        Some(roster) => Ok(Some(roster)),
        None => Err(FormatError::Unreadable {
            path: data.join(FILE_NAME),
            what: "it is no list of members, or it is damaged".to_owned(),
        }),
    }
}

/// Keeps what a node knows, durably.
///
/// # Errors
/// The file cannot be written.
pub async fn write_file(
    reactor: &Reactor,
    data: &Path,
    roster: &Roster,
) -> Result<(), FormatError> {
    let body = roster.encode();
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    replace(reactor, data, FILE_NAME, &bytes).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::ClusterId;

    fn newcomer(name: &str, n: u8) -> Newcomer {
        Newcomer {
            name: name.to_owned(),
            store: StoreId(u128::from(n)),
            addr: ([10, 0, 0, n], 7000).into(),
        }
    }

    fn three() -> Roster {
        let member = |n: u8| Member {
            name: format!("n{n}"),
            node: NodeId(u64::from(n)),
            store: StoreId(u128::from(n)),
            addr: ([10, 0, 0, n], 7000).into(),
        };
        Roster::founded(&Decree {
            cluster: ClusterId(1),
            members: (1..=3).map(member).collect(),
        })
    }

    #[test]
    fn who_comes_back_with_another_disk_has_another_number() {
        let replaced = three().after(&Change::Replace("n2".to_owned(), newcomer("n2", 9)));
        let replaced = replaced.unwrap();
        assert_eq!(replaced.version, 2);
        assert_eq!(replaced.member("n2").unwrap().node, NodeId(4));
        assert!(!replaced.has(NodeId(2)));
        let added = replaced.after(&Change::Add(newcomer("n5", 5))).unwrap();
        assert_eq!(added.member("n5").unwrap().node, NodeId(5));
        let gone = added.after(&Change::Remove("n5".to_owned())).unwrap();
        let again = gone.after(&Change::Add(newcomer("n5", 5))).unwrap();
        assert_eq!(again.member("n5").unwrap().node, NodeId(6));
    }

    #[test]
    fn who_left_is_remembered_but_only_the_last_few() {
        let mut roster = three().after(&Change::Remove("n2".to_owned())).unwrap();
        assert_eq!(roster.former[0].node, NodeId(2));
        for n in 0..20 {
            roster = roster.after(&Change::Add(newcomer("x", 9))).unwrap();
            let gone = roster.after(&Change::Remove("x".to_owned())).unwrap();
            assert_eq!(gone.former[0], *roster.member("x").unwrap(), "{n}");
            roster = gone;
        }
        assert_eq!(roster.former.len(), FORMER_MAX);
        assert_eq!(Roster::decode(&roster.encode()), Some(roster));
    }

    #[test]
    fn a_change_that_makes_no_sense_is_refused_by_name() {
        let refused = |change: &Change| three().after(change).unwrap_err();
        let text = refused(&Change::Add(newcomer("n2", 9)));
        assert!(text.contains("ashlar member replace n2"), "{text}");
        let text = refused(&Change::Add(newcomer("n9", 1)));
        assert!(text.starts_with("n1 has that disk"), "{text}");
        let text = refused(&Change::Replace("n2".to_owned(), newcomer("n2", 2)));
        assert_eq!(text, "n2 has that disk already, as member 2");
        let text = refused(&Change::Remove("n7".to_owned()));
        assert_eq!(text, "n7 is no member; there are n1, n2, n3");
        let mut all = three();
        for n in 4..=7 {
            all = all
                .after(&Change::Add(newcomer(&format!("n{n}"), n)))
                .unwrap();
        }
        assert!(
            all.after(&Change::Add(newcomer("n8", 8)))
                .unwrap_err()
                .contains("at most 7")
        );
        for n in 2..=7 {
            all = all.after(&Change::Remove(format!("n{n}"))).unwrap();
        }
        let text = all.after(&Change::Remove("n1".to_owned())).unwrap_err();
        assert_eq!(text, "the last member cannot be removed");
    }

    #[test]
    fn a_roster_comes_back_and_needs_every_byte() {
        let bytes = three().encode();
        for end in 0..bytes.len() {
            assert_eq!(Roster::decode(&bytes[..end]), None);
        }
        assert_eq!(Roster::decode(&bytes), Some(three()));
    }

    proptest! {
        #[test]
        fn changed_bytes_do_no_harm(at in 0_usize..200, to: u8) {
            let mut bytes = three().encode();
            let at = at % bytes.len();
            bytes[at] = to;
            // A port has the same number with a zero before it.
            if let Some(roster) = Roster::decode(&bytes) {
                prop_assert_eq!(Roster::decode(&roster.encode()), Some(roster));
            }
        }
    }
}
