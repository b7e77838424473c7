//! Commands on the cluster. Any node serves any key, so to a client that knows of Redis Cluster there
//! is one shard that has all slots, and every node is one that it may talk to.

use super::spread::Plan;
use super::subcommand::{self, Subcommand};
use super::{Command, Derived, Run, SessionCall};
use crate::cluster::view::{Seen, Sight};

/// Slots that Redis Cluster has.
const SLOTS: u16 = 16_384;

/// What the commands of this family have in common.
const CLUSTER_WIDE: Command = Command {
    name: "",
    arity: -2,
    flags: &["loading", "stale"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "cluster",
    summary: "",
    since: "3.0.0",
    syntax: "",
    run: Run::Session(cluster),
    derived: Derived::LATER,
    is_blind: false,
};

/// The commands of this family.
pub const CLUSTER: &[Command] = &[
    Command {
        name: "cluster",
        summary: "Tells of the cluster and its nodes.",
        syntax: "subcommand [arg ...]",
        ..CLUSTER_WIDE
    },
    Command {
        name: "kv.transfer",
        arity: 3,
        flags: &["admin"],
        summary: "Has a partition led by another node, given by its name.",
        since: "0.1.0",
        syntax: "partition node",
        run: Run::Spread(transfer),
        ..CLUSTER_WIDE
    },
    Command {
        name: "role",
        arity: 1,
        group: "server",
        summary: "Returns the role of the node: any node takes writes.",
        since: "2.8.12",
        run: Run::Session(role),
        ..CLUSTER_WIDE
    },
    Command {
        name: "wait",
        arity: 3,
        group: "generic",
        summary: "Returns how many other replicas have the writes of this connection.",
        syntax: "numreplicas timeout",
        run: Run::Session(wait),
        ..CLUSTER_WIDE
    },
];

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "info",
        arity: 2,
        syntax: "INFO",
        summary: "Return the state of the cluster.",
        run: info,
    },
    Subcommand {
        name: "nodes",
        arity: 2,
        syntax: "NODES",
        summary: "Return the nodes, one line each.",
        run: nodes,
    },
    Subcommand {
        name: "slots",
        arity: 2,
        syntax: "SLOTS",
        summary: "Return which nodes serve which slots: each serves all.",
        run: slots,
    },
    Subcommand {
        name: "myid",
        arity: 2,
        syntax: "MYID",
        summary: "Return the id of this node.",
        run: my_id,
    },
    Subcommand {
        name: "keyslot",
        arity: 3,
        syntax: "KEYSLOT <key>",
        summary: "Return the slot that Redis Cluster has for a key.",
        run: key_slot,
    },
    Subcommand {
        name: "partitions",
        arity: 2,
        syntax: "PARTITIONS",
        summary: "Return each partition: leader, term, entries, replicas.",
        run: partitions,
    },
];

fn cluster(call: &mut SessionCall<'_>) {
    subcommand::run(call, "cluster", SUBCOMMANDS);
}

/// Returns forty hexadecimal digits that name a node.
fn id_of(seen: &Seen) -> String {
    format!("{:040x}", seen.node.0)
}

/// Returns where clients reach a node: host and port.
fn address_of(seen: &Seen) -> (String, u16) {
    let addr = seen.clients.unwrap_or(seen.addr);
    (addr.ip().to_string(), addr.port())
}

/// Returns what there is to see, of a lone node too.
fn sight(call: &SessionCall<'_>) -> Sight {
    call.shared.cluster.look().unwrap_or_else(|| Sight {
        members: vec![Seen {
            name: "alone".to_owned(),
            node: ashlar_consensus::NodeId(call.shared.format.node_id),
            addr: call.shared.listen,
            clients: Some(call.shared.listen),
            is_connected: true,
        }],
        node: ashlar_consensus::NodeId(call.shared.format.node_id),
        ..Sight::default()
    })
}

fn info(call: &mut SessionCall<'_>) {
    let sight = sight(call);
    let leaderless = sight
        .parts
        .iter()
        .filter(|part| part.leader.is_none())
        .count();
    let state = match leaderless {
        0 => "ok",
        _ => "fail",
    };
    let terms = sight.parts.iter().map(|part| part.term.0);
    let text = format!(
        "cluster_enabled:0\r\ncluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:1\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n",
        nodes = sight.members.len(),
        epoch = terms.max().unwrap_or(0),
    );
    call.reply().verbatim(text.as_bytes());
}

fn nodes(call: &mut SessionCall<'_>) {
    let sight = sight(call);
    let mut text = String::new();
    for seen in &sight.members {
        let (host, port) = address_of(seen);
        let flags = match seen.node == sight.node {
            true => "myself,master",
            false => "master",
        };
        let link = match seen.is_connected {
            true => "connected",
            false => "disconnected",
        };
        let slots = match seen.node == sight.node {
            true => " 0-16383",
            false => "",
        };
        text.push_str(&format!(
            "{} {host}:{port}@{} {flags} - 0 0 0 {link}{slots}\n",
            id_of(seen),
            seen.addr.port()
        ));
    }
    call.reply().verbatim(text.as_bytes());
}

fn slots(call: &mut SessionCall<'_>) {
    let sight = sight(call);
    let mut reply = call.reply();
    reply.array(1);
    reply.array(2 + sight.members.len());
    reply.integer(0);
    reply.integer(i64::from(SLOTS - 1));
    let own = sight.members.iter().filter(|seen| seen.node == sight.node);
    for seen in own.chain(sight.others()) {
        let (host, port) = address_of(seen);
        reply.array(3);
        reply.bulk(host.as_bytes());
        reply.integer(i64::from(port));
        reply.bulk(id_of(seen).as_bytes());
    }
}

fn my_id(call: &mut SessionCall<'_>) {
    let sight = sight(call);
    let own = sight.members.iter().find(|seen| seen.node == sight.node);
    let id = own.map(id_of).unwrap_or_default();
    call.reply().bulk(id.as_bytes());
}

/// CRC-16/XMODEM, by which Redis Cluster places keys.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let shifted = crc << 1;
            match crc & 0x8000 {
                0 => shifted,
                _ => shifted ^ 0x1021,
            }
        })
    })
}

/// Returns the part of a key that its slot follows from: what is in the first braces, if anything is.
fn tag_of(key: &[u8]) -> &[u8] {
    let open = key.iter().position(|byte| *byte == b'{');
    let inside = open.map(|open| &key[open + 1..]);
    let close = inside.and_then(|inside| inside.iter().position(|byte| *byte == b'}'));
    match (inside, close) {
        (Some(inside), Some(close)) if close > 0 => &inside[..close],
        _ => key,
    }
}

fn key_slot(call: &mut SessionCall<'_>) {
    let slot = crc16(tag_of(&call.words[2])) % SLOTS;
    call.reply().integer(i64::from(slot));
}

fn partitions(call: &mut SessionCall<'_>) {
    let sight = sight(call);
    let mut reply = call.reply();
    reply.array(sight.parts.len());
    for (number, part) in sight.parts.iter().enumerate() {
        let leader = part.leader.map_or("-", |leader| sight.name_of(leader));
        let mut line = format!(
            "partition={number} leader={leader} lease={} term={} last={} committed={} applied={} state={}",
            if part.serves { "yes" } else { "-" },
            part.term.0,
            part.last,
            part.committed,
            part.applied,
            part.health.word(),
        );
        for (node, matched) in &part.replicas {
            let name = sight.name_of(*node);
            match matched {
                Some(matched) => {
                    let behind = part.last.0.saturating_sub(matched.0);
                    line.push_str(&format!(" {name}:-{behind}"));
                }
                None => line.push_str(&format!(" {name}:?")),
            }
        }
        reply.bulk(line.as_bytes());
    }
}

fn transfer(call: &mut SessionCall<'_>) -> Option<Plan> {
    let sight = sight(call);
    let partition = crate::number::parse_i64(&call.words[1]);
    let partition = partition.and_then(|number| usize::try_from(number).ok());
    let partition = partition.filter(|number| *number < sight.parts.len());
    let name = String::from_utf8_lossy(&call.words[2]).into_owned();
    let to = sight.members.iter().find(|seen| seen.name == name);
    match (partition, to) {
        (Some(partition), Some(to)) => Some(Plan::HandOver {
            partition,
            to: to.node,
        }),
        (None, _) => {
            let count = sight.parts.len();
            let text = format!(
                "ERR there is no such partition in a cluster; it has {count}, counted from 0"
            );
            call.reply().error(text.as_bytes());
            None
        }
        (_, None) => {
            let names: Vec<_> = sight
                .members
                .iter()
                .map(|seen| seen.name.as_str())
                .collect();
            let text = format!("ERR there is no such node; there are {}", names.join(", "));
            call.reply().error(text.as_bytes());
            None
        }
    }
}

fn role(call: &mut SessionCall<'_>) {
    let sight = sight(call);
    let mut reply = call.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(i64::try_from(sight.offset()).unwrap_or(i64::MAX));
    reply.array(sight.others().count());
    for seen in sight.others() {
        let (host, port) = address_of(seen);
        reply.array(3);
        reply.bulk(host.as_bytes());
        reply.bulk(port.to_string().as_bytes());
        reply.bulk(sight.offset().to_string().as_bytes());
    }
}

/// Answers how many other replicas are sure to have what this connection has written: replies leave in
/// order, and those of writes leave when a majority has them.
fn wait(call: &mut SessionCall<'_>) {
    let wanted = crate::number::parse_i64(&call.words[1]);
    let timeout = crate::number::parse_i64(&call.words[2]);
    let sight = call.shared.cluster.look();
    let mut reply = call.reply();
    match (wanted, timeout) {
        (None, _) => reply.error(b"ERR value is not an integer or out of range"),
        (_, None) => reply.error(b"ERR timeout is not an integer or out of range"),
        (_, Some(..0)) => reply.error(b"ERR timeout is negative"),
        (Some(_), Some(_)) => {
            let sure = sight.map_or(0, |sight| sight.acknowledged_by());
            reply.integer(i64::try_from(sure).unwrap_or(i64::MAX));
        }
    }
}

/// Writes what `INFO` tells of other replicas.
pub(super) fn write_replicas(sight: &Sight, mut field: impl FnMut(&str, String)) {
    field("connected_slaves", sight.others().count().to_string());
    for (number, seen) in sight.others().enumerate() {
        let (host, port) = address_of(seen);
        let state = match seen.is_connected {
            true => "online",
            false => "offline",
        };
        let offset = sight.offset();
        field(
            &format!("slave{number}"),
            format!("ip={host},port={port},state={state},offset={offset},lag=0"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // Source: Redis Cluster specification, "Keys distribution model".
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(tag_of(b"{user1000}.following"), b"user1000");
        assert_eq!(tag_of(b"foo{}{bar}"), b"foo{}{bar}");
        assert_eq!(tag_of(b"foo{{bar}}zap"), b"{bar");
    }
}
