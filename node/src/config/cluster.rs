//! The cluster as an operator lists it: own name, own address for peers, everybody's names and
//! addresses. Not the members that the nodes have agreed on.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use super::value::Unreadable;

/// Most members of a cluster.
pub const MEMBERS_MAX: usize = 7;
/// Longest name of a member, in bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest password, in bytes.
pub(super) const SECRET_BYTES_MAX: usize = 512;

/// The cluster that this node is a member of; nothing of it is given when the node is alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Name of this node among the peers; empty when it is alone.
    pub name: String,
    /// Address and port that shard 0 listens on for peers; shard `s` listens `s` ports above.
    pub peer_listen: Option<SocketAddr>,
    /// Every member, this node included, in order of name.
    pub peers: Vec<Listed>,
    /// How long a leader may serve reads after a majority has last confirmed it, in milliseconds.
    pub lease_ms: u32,
    /// Spread of the times after which nodes stand for election, in milliseconds.
    pub election_jitter_ms: u32,
    /// Who stands for election first: each step waits one jitter more.
    pub election_rank: u32,
    /// How long a node sends a write of a session again whose fate is unknown, in milliseconds.
    pub retry_ms: u32,
}

/// A member as the configuration lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Where its shard 0 listens for peers.
    pub addr: SocketAddr,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.addr)
    }
}

/// Returns the members that `text` lists, in order of name: `NAME=ADDR:PORT`, separated by commas;
/// none when it is empty.
pub(super) fn parse_peers(text: &str) -> Result<Vec<Listed>, Unreadable> {
    let parts = text.split(',').map(str::trim);
    let mut peers = Vec::new();
    if !text.trim().is_empty() {
        for part in parts {
            let (name, addr) = part.split_once('=').ok_or(Unreadable)?;
            let name = parse_name(name.trim())?;
            let addr: SocketAddr = addr.trim().parse().map_err(|_| Unreadable)?;
            if name.is_empty() || addr.port() == 0 || addr.ip().is_unspecified() {
                return Err(Unreadable);
            }
            peers.push(Listed { name, addr });
        }
    }
    peers.sort();
    Ok(peers)
}

/// Returns `peers` as [`parse_peers`] reads them.
pub(super) fn show_peers(peers: &[Listed]) -> String {
    let shown: Vec<String> = peers.iter().map(Listed::to_string).collect();
    shown.join(",")
}

/// Says whether a member can be called so.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && parse_name(text).is_ok()
}

/// Returns a name of letters, digits, dots, dashes and underscores, or an empty one.
pub(super) fn parse_name(text: &str) -> Result<String, Unreadable> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match text.len() <= NAME_BYTES_MAX && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Unreadable),
    }
}

/// Returns a password, or an empty one for none.
pub(super) fn parse_secret(text: &str) -> Result<String, Unreadable> {
    match text.len() <= SECRET_BYTES_MAX && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(Unreadable),
    }
}

/// Returns an address with a port, or nothing when `text` is empty.
pub(super) fn parse_listen(text: &str) -> Result<Option<SocketAddr>, Unreadable> {
    if text.is_empty() {
        return Ok(None);
    }
    let addr: SocketAddr = text.parse().map_err(|_| Unreadable)?;
    if addr.port() == 0 {
        return Err(Unreadable);
    }
    Ok(Some(addr))
}

/// Says whether two listeners would be in each other's way.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && (any || a.ip() == b.ip())
}

impl Cluster {
    /// Says whether the node is no member of a cluster.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }

    /// Returns this node's entry in the list, unless it is alone.
    #[must_use]
    pub fn own(&self) -> Option<&Listed> {
        self.peers.iter().find(|peer| peer.name == self.name)
    }

    /// Checks what the parts demand of each other; `listen` is for clients.
    pub(super) fn check(&self, listen: SocketAddr) -> Result<(), String> {
        let parts = [
            ("cluster.name", self.name.is_empty()),
            ("cluster.peer_listen", self.peer_listen.is_none()),
            ("cluster.peers", self.peers.is_empty()),
        ];
        if parts.iter().all(|(_, absent)| *absent) {
            return Ok(());
        }
        if let Some((absent, _)) = parts.iter().find(|(_, absent)| *absent) {
            return Err(format!(
                "{absent} is not given; a member of a cluster has cluster.name, cluster.peer_listen and cluster.peers"
            ));
        }
        self.check_list()?;
        match self.peer_listen.filter(|addr| collide(*addr, listen)) {
            Some(addr) => Err(format!(
                "cluster.peer_listen = {addr} must be another port than listen = {listen}"
            )),
            None => Ok(()),
        }
    }

    fn check_list(&self) -> Result<(), String> {
        let count = self.peers.len();
        if count > MEMBERS_MAX {
            return Err(format!(
                "cluster.peers lists {count} members, at most {MEMBERS_MAX} are allowed"
            ));
        }
        let mut addrs = BTreeMap::new();
        for (place, peer) in self.peers.iter().enumerate() {
            if place > 0 && self.peers[place - 1].name == peer.name {
                return Err(format!("cluster.peers lists {} twice", peer.name));
            }
            if let Some(other) = addrs.insert(peer.addr, &peer.name) {
                return Err(format!(
                    "cluster.peers gives {other} and {} the same address {}",
                    peer.name, peer.addr
                ));
            }
        }
        if self.own().is_none() {
            return Err(format!(
                "cluster.name = {} is not in cluster.peers = {}",
                self.name,
                show_peers(&self.peers)
            ));
        }
        Ok(())
    }

    /// Checks that every shard of every member has a port of its own, once it is known how many
    /// shards a node has: shard `s` listens `s` ports above shard 0.
    ///
    /// # Errors
    /// One line: ports overlap or end. `listen` is for clients of this node.
    pub fn check_ports(&self, shards: u32, listen: SocketAddr) -> Result<(), String> {
        let last = |addr: SocketAddr| u32::from(addr.port()) + shards.saturating_sub(1);
        let spans = |addr: SocketAddr, port: u16| {
            (u32::from(addr.port())..=last(addr)).contains(&u32::from(port))
        };
        let all = self.peers.iter().map(|peer| peer.addr);
        for addr in all.chain(self.peer_listen) {
            if last(addr) > u32::from(u16::MAX) {
                return Err(format!(
                    "{addr} has no ports for {shards} shards: shard s listens s ports above"
                ));
            }
        }
        for (place, peer) in self.peers.iter().enumerate() {
            for other in &self.peers[..place] {
                let (a, b) = (peer.addr, other.addr);
                if a.ip() == b.ip() && (spans(a, b.port()) || spans(b, a.port())) {
                    return Err(format!(
                        "cluster.peers: {other} and {peer} are on one host and need {shards} ports each, one for each shard"
                    ));
                }
            }
        }
        let mine = |addr: &SocketAddr| {
            let port = SocketAddr::new(addr.ip(), listen.port());
            spans(*addr, listen.port()) && collide(port, listen)
        };
        match self.peer_listen.filter(mine) {
            Some(addr) => Err(format!(
                "cluster.peer_listen = {addr} and the ports above it, one for each of {shards} shards, hold listen = {listen}"
            )),
            None => Ok(()),
        }
    }

    /// Returns one line for each choice that is allowed and probably a mistake.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let count = self.peers.len();
        if count > 0 && count.is_multiple_of(2) {
            lines.push(format!(
                "cluster.peers lists {count} members: an even number survives no more failures than one fewer"
            ));
        }
        if let (Some(own), Some(listen)) = (self.own(), self.peer_listen)
            && own.addr.port() != listen.port()
        {
            lines.push(format!(
                "cluster.peer_listen = {listen} has another port than this node in cluster.peers, {own}: peers call the latter"
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, listen: &str, peers: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            peer_listen: parse_listen(listen).unwrap(),
            peers: parse_peers(peers).unwrap(),
            lease_ms: 400,
            election_jitter_ms: 150,
            election_rank: 0,
            retry_ms: 2000,
        }
    }

    const THREE: &str = "n2=10.0.0.2:7000, n1=10.0.0.1:7000,n3=10.0.0.3:7000";

    fn clients() -> SocketAddr {
        ([0, 0, 0, 0], 6379).into()
    }

    #[test]
    fn members_are_sorted_and_shown() {
        let cluster = cluster("n2", "0.0.0.0:7000", THREE);
        assert_eq!(
            show_peers(&cluster.peers),
            "n1=10.0.0.1:7000,n2=10.0.0.2:7000,n3=10.0.0.3:7000"
        );
        assert_eq!(cluster.own().unwrap().addr.to_string(), "10.0.0.2:7000");
        assert_eq!(cluster.check(clients()), Ok(()));
        assert!(cluster.warnings().is_empty() && !cluster.is_alone());
    }

    #[test]
    fn what_is_no_list_is_not_read() {
        for text in [
            "n1",
            "n1=",
            "=1.2.3.4:5",
            "n1=1.2.3.4",
            "n1=1.2.3.4:0",
            "n1=0.0.0.0:7",
            "n1=host:7",
            "n1=1.2.3.4:5,",
            "a b=1.2.3.4:5",
            ",",
        ] {
            assert!(parse_peers(text).is_err(), "{text}");
        }
        assert_eq!(parse_peers(" "), Ok(Vec::new()));
        assert!(parse_name(&"x".repeat(64)).is_err() && parse_listen("1.2.3.4:0").is_err());
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |name, listen, peers: &str, part: &str| {
            let line = cluster(name, listen, peers).check(clients()).unwrap_err();
            assert!(line.contains(part), "{line}");
        };
        refused("", "0.0.0.0:7000", THREE, "cluster.name is not given");
        refused("n1", "", THREE, "cluster.peer_listen is not given");
        refused("n1", "0.0.0.0:7000", "", "cluster.peers is not given");
        refused("n4", "0.0.0.0:7000", THREE, "cluster.name = n4 is not in");
        refused("n1", "10.0.0.1:6379", THREE, "another port than listen");
        refused("a", "0.0.0.0:1", "a=1.2.3.4:1,a=1.2.3.4:2", "lists a twice");
        refused(
            "a",
            "0.0.0.0:1",
            "a=1.2.3.4:1,b=1.2.3.4:1",
            "the same address",
        );
        let eight: Vec<String> = (0..8).map(|n| format!("n{n}=1.2.3.{n}:5")).collect();
        refused(
            "n1",
            "0.0.0.0:7000",
            &eight.join(","),
            "8 members, at most 7",
        );
        assert_eq!(cluster("", "", "").check(clients()), Ok(()));
    }

    #[test]
    fn shards_need_ports_of_their_own() {
        let local = |peers: &str| cluster("a", "127.0.0.1:7000", peers);
        let two = local("a=127.0.0.1:7000,b=127.0.0.1:7004");
        assert_eq!(two.check_ports(4, clients()), Ok(()));
        let line = two.check_ports(5, clients()).unwrap_err();
        assert!(line.contains("need 5 ports each"), "{line}");
        let line = local("a=127.0.0.1:65535").check_ports(2, clients());
        assert!(line.unwrap_err().contains("has no ports for 2 shards"));
        let listen = ([127, 0, 0, 1], 7003).into();
        let line = local("a=127.0.0.1:7000")
            .check_ports(4, listen)
            .unwrap_err();
        assert!(line.contains("hold listen = 127.0.0.1:7003"), "{line}");
        assert_eq!(local("a=127.0.0.1:7000").check_ports(3, listen), Ok(()));
    }

    #[test]
    fn doubtful_choices_are_warned_of() {
        let even = cluster("a", "0.0.0.0:7001", "a=1.2.3.4:7000,b=1.2.3.5:7000");
        let lines = even.warnings();
        assert!(lines[0].contains("even number") && lines[1].contains("another port"));
    }
}
