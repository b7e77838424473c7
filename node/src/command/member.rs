//! `KV.MEMBER`: who the members of the cluster are, and changes of them. What a change means for the
//! partitions is up to their leaders; they need a while, and the list says how far they are.

use std::net::SocketAddr;

use super::spread::Plan;
use super::{Command, Derived, Run, SessionCall};
use crate::cluster::StoreId;
use crate::cluster::view::{Seen, Sight};

/// The commands of this family.
pub const MEMBER: &[Command] = &[Command {
    name: "kv.member",
    arity: -2,
    flags: &["admin"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "cluster",
    summary: "Lists the members of the cluster, or changes them.",
    since: "0.1.0",
    syntax: "LIST|ADD name addr:port|REMOVE name|REPLACE name [new-name addr:port]",
    run: Run::Spread(member),
    derived: Derived::LATER,
    is_blind: false,
}];

/// Who is asked for, to be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invited {
    /// Its name.
    pub name: String,
    /// Where its shard 0 listens for peers.
    pub addr: SocketAddr,
    /// Its disk, when it is known: then nobody asks there.
    pub store: Option<StoreId>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// One more member.
    Add(Invited),
    /// One less.
    Remove(String),
    /// Another in the place of one.
    Replace(String, Invited),
}

const USAGE: &str = "ERR KV.MEMBER takes LIST, ADD name addr:port, REMOVE name, or REPLACE name [new-name addr:port]; \
                     each addr:port may be followed by STORE and 32 hexadecimal digits";

fn member(call: &mut SessionCall<'_>) -> Option<Plan> {
    let words: Vec<String> = (1..call.words.len())
        .map(|at| String::from_utf8_lossy(&call.words[at]).into_owned())
        .collect();
    let Some(sight) = call.shared.cluster.look() else {
        let text = "ERR this node is alone and has no members; a cluster is founded by starting its nodes with --peers";
        call.reply().error(text.as_bytes());
        return None;
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.len() == 1 && words[0].eq_ignore_ascii_case("list") {
        list(call, &sight);
        return None;
    }
    match wish(&words, &sight) {
        Ok(wish) => Some(Plan::Member(wish)),
        Err(text) => {
            call.reply().error(text.as_bytes());
            None
        }
    }
}

/// Reads what is wished for, and refuses what would leave too few.
fn wish(words: &[&str], sight: &Sight) -> Result<Wish, String> {
    let (what, rest) = words.split_first().ok_or(USAGE)?;
    let wish = match (what.to_ascii_lowercase().as_str(), rest) {
        ("add", [name, rest @ ..]) => Wish::Add(invited(name, rest)?),
        ("remove", [name]) => Wish::Remove((*name).to_owned()),
        ("replace", [name]) => {
            let seen = known(name, sight)?;
            let addr = seen.addr.to_string();
            Wish::Replace((*name).to_owned(), invited(name, &[&addr])?)
        }
        ("replace", [name, new, rest @ ..]) => {
            Wish::Replace((*name).to_owned(), invited(new, rest)?)
        }
        _ => return Err(USAGE.to_owned()),
    };
    if let Wish::Remove(name) | Wish::Replace(name, _) = &wish {
        let comes = usize::from(matches!(wish, Wish::Replace(..)));
        check_majority(known(name, sight)?, comes, sight)?;
    }
    Ok(wish)
}

fn known<'a>(name: &str, sight: &'a Sight) -> Result<&'a Seen, String> {
    let found = sight.members.iter().find(|seen| seen.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = sight
            .members
            .iter()
            .map(|seen| seen.name.as_str())
            .collect();
        format!("ERR {name} is no member; there are {}", names.join(", "))
    })
}

fn invited(name: &str, rest: &[&str]) -> Result<Invited, String> {
    let (addr, store) = match rest {
        [addr] => (addr, None),
        [addr, word, hex] if word.eq_ignore_ascii_case("store") => {
            let store = u128::from_str_radix(hex, 16);
            let store = store.map_err(|_| format!("ERR STORE {hex} is not hexadecimal"))?;
            (addr, Some(StoreId(store)))
        }
        _ => return Err(USAGE.to_owned()),
    };
    if !crate::config::is_name(name) {
        return Err(format!(
            "ERR {name:?} is no name of a member: 1 to 63 letters, digits, dots, dashes and underscores"
        ));
    }
    let addr: Option<SocketAddr> = addr.parse().ok();
    match addr.filter(|addr| addr.port() > 0 && !addr.ip().is_unspecified()) {
        Some(addr) => Ok(Invited {
            name: name.to_owned(),
            addr,
            store,
        }),
        None => Err(format!(
            "ERR {:?} is not ADDR:PORT, like 10.0.0.4:7379",
            rest[0]
        )),
    }
}

/// Refuses to let a member go when those that stay would not have a majority that is there: then nothing could
/// be written any more, not even that one is to go.
fn check_majority(gone: &Seen, comes: usize, sight: &Sight) -> Result<(), String> {
    let stay = sight.members.iter().filter(|seen| seen.node != gone.node);
    let near: Vec<&str> = stay
        .clone()
        .filter(|seen| seen.is_connected)
        .map(|seen| seen.name.as_str())
        .collect();
    let members = stay.count() + comes;
    if members == 0 || (near.len() + comes) * 2 > members {
        return Ok(());
    }
    Err(format!(
        "ERR without {} there are {members} members, of which only {} can be reached ({}): they would have no majority; \
         bring others back or remove those first that are lost",
        gone.name,
        near.len(),
        near.join(", ")
    ))
}

fn list(call: &mut SessionCall<'_>, sight: &Sight) {
    let mut reply = call.reply();
    reply.array(sight.members.len());
    for seen in &sight.members {
        let votes = |node| {
            let of = |part: &&crate::cluster::view::Part| {
                part.replicas.iter().any(|(replica, _)| *replica == node)
            };
            sight.parts.iter().filter(of).count()
        };
        let learns = sight
            .parts
            .iter()
            .filter(|part| part.learners.contains(&seen.node));
        let strangers = sight.parts.iter().flat_map(|part| &part.replicas);
        let strangers =
            strangers.filter(|(node, _)| sight.members.iter().all(|of| of.node != *node));
        let line = format!(
            "roster={} name={} node={} peers={} clients={} link={} votes={} learns={} partitions={} leaving={}",
            sight.roster,
            seen.name,
            seen.node.0,
            seen.addr,
            seen.clients
                .map_or_else(|| "?".to_owned(), |addr| addr.to_string()),
            if seen.is_connected { "up" } else { "down" },
            votes(seen.node),
            learns.count(),
            sight.parts.len(),
            strangers.count(),
        );
        reply.bulk(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::NodeId;

    use super::*;

    /// Returns so many members, of which these are connected.
    fn sight(members: u64, near: &[u64]) -> Sight {
        let seen = |node: u64| Seen {
            name: format!("n{node}"),
            node: NodeId(node),
            addr: ([10, 0, 0, 1], 7000).into(),
            clients: None,
            is_connected: near.contains(&node),
        };
        Sight {
            members: (1..=members).map(seen).collect(),
            ..Sight::default()
        }
    }

    fn answer(line: &str, sight: &Sight) -> Result<Wish, String> {
        let words: Vec<&str> = line.split(' ').collect();
        wish(&words, sight)
    }

    #[test]
    fn nobody_goes_who_would_leave_no_majority_that_can_be_reached() {
        let refused = |line: &str, members, near: &[u64]| {
            let text = answer(line, &sight(members, near)).unwrap_err();
            assert!(text.starts_with("ERR without "), "{text}");
            assert!(text.contains("they would have no majority"), "{text}");
            assert!(!text.contains('\n'), "{text}");
        };
        refused("remove n1", 3, &[1, 2]);
        refused("remove n3", 4, &[1, 3]);
        refused("remove n5", 5, &[1, 2, 5]);
        refused("remove n2", 2, &[2]);
        refused("replace n1", 3, &[1]);
        for (line, members, near) in [
            ("remove n3", 3, vec![1, 2]),
            ("remove n2", 2, vec![1]),
            ("remove n4", 4, vec![1, 2]),
            ("replace n3", 3, vec![1]),
        ] {
            assert!(answer(line, &sight(members, &near)).is_ok(), "{line}");
        }
    }

    #[test]
    fn who_is_not_there_and_what_is_no_address_is_named() {
        let of = sight(3, &[1, 2, 3]);
        let text = |line| answer(line, &of).unwrap_err();
        assert_eq!(
            text("remove n7"),
            "ERR n7 is no member; there are n1, n2, n3"
        );
        assert!(text("add n4 here").starts_with("ERR \"here\" is not ADDR:PORT"));
        assert!(text("add n4 0.0.0.0:7000").contains("is not ADDR:PORT"));
        assert!(text("add n!4 10.0.0.4:7000").contains("is no name of a member"));
        assert!(text("add n4 10.0.0.4:7000 store xyz").contains("is not hexadecimal"));
        assert_eq!(text("promote n1"), USAGE);
    }
}
