//! `ashlar member` and `ashlar transfer`: asks a running node to change who is in its cluster, or who leads, and
//! waits until it is so. What a change means is up to the nodes; this only asks and shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::asked::Node;
use crate::refusal::Failure;

/// Time between two looks at how far a change is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The node that is asked.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct At {
    /// Address and port of a member's clients
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6379")]
    addr: SocketAddr,
}

/// How long is waited.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wait {
    /// Give up waiting after so many seconds; the change goes on. 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    wait: u64,
}

/// What is done with members.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Member {
    /// Show the members: number, addresses, in how many partitions each votes.
    List(At),
    /// Make a node a member. Start it first, with --peers that list it and the members; it waits for this.
    Add {
        /// NAME=ADDR:PORT of the new node, as its --name and --peer-listen say
        node: String,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        wait: Wait,
    },
    /// Have a member leave. It may be lost already.
    Remove {
        /// The member
        name: String,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        wait: Wait,
    },
    /// Put a node in the place of a member: one that lost its disk and was started with an empty one, or another.
    Replace {
        /// The member
        name: String,
        /// NAME=ADDR:PORT of the new node, when it has another name or address
        node: Option<String>,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Flags of `ashlar transfer`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// Number of the partition, as `ashlar status` shows it
    partition: u32,
    /// Name of the node that is to lead it
    node: String,
    #[command(flatten)]
    at: At,
}

/// Does what was asked for, and waits until it is so.
pub(crate) fn run(what: &Member) -> Result<(), Failure> {
    match what {
        Member::List(at) => {
            let mut node = Node::connect(at.addr)?;
            let members = members(&mut node)?;
            members
                .iter()
                .for_each(|member| println!("{}", member.line()));
            Ok(())
        }
        Member::Add { node, at, wait } => {
            let (name, addr) = named(node)?;
            change(at, wait, &["ADD", name, addr])
        }
        Member::Remove { name, at, wait } => remove(name, at, wait),
        Member::Replace {
            name,
            node: None,
            at,
            wait,
        } => change(at, wait, &["REPLACE", name]),
        Member::Replace {
            name,
            node: Some(node),
            at,
            wait,
        } => {
            let (new, addr) = named(node)?;
            change(at, wait, &["REPLACE", name, new, addr])
        }
    }
}

/// Has a partition led by another node.
pub(crate) fn transfer(args: &TransferArgs) -> Result<(), String> {
    let TransferArgs {
        partition,
        node,
        at,
    } = args;
    let mut asked = Node::connect(at.addr)?;
    let partition = partition.to_string();
    asked.ask(&["KV.TRANSFER", &partition, node])?;
    println!(
        "partition {partition} is being handed over to {node}; `ashlar status` shows who leads"
    );
    Ok(())
}

/// Takes a node's name and address apart.
fn named(node: &str) -> Result<(&str, &str), Failure> {
    let parts = node.split_once('=');
    let parts = parts.filter(|(name, addr)| !name.is_empty() && addr.parse::<SocketAddr>().is_ok());
    parts.ok_or_else(|| {
        Failure::Mistake(format!(
            "{node} is not NAME=ADDR:PORT with an IP address, like n4=10.0.0.4:7379"
        ))
    })
}

/// Has a member leave. One that is asked for itself ends the connection when it has left.
fn remove(name: &str, at: &At, wait: &Wait) -> Result<(), Failure> {
    let mut node = Node::connect(at.addr)?;
    let own = node.ask(&["CLUSTER", "MYID"])?.concat();
    let own = u64::from_str_radix(&own, 16).ok();
    let is_asked = members(&mut node)?
        .iter()
        .any(|member| member.text("name") == name && Some(member.number("node")) == own);
    let version = order(&mut node, &["REMOVE", name])?;
    match watch(&mut node, version, wait) {
        Err(_) if is_asked && node.is_gone() => {
            println!("{name} has left, and ended the connection");
            Ok(())
        }
        watched => Ok(watched?),
    }
}

fn change(at: &At, wait: &Wait, words: &[&str]) -> Result<(), Failure> {
    let mut node = Node::connect(at.addr)?;
    let version = order(&mut node, words)?;
    Ok(watch(&mut node, version, wait)?)
}

/// Orders a change; returns the version of the roster that has it.
fn order(node: &mut Node, words: &[&str]) -> Result<u64, String> {
    let words = [&["KV.MEMBER"], words].concat();
    let changed = node.ask(&words)?.concat();
    println!("{changed}");
    let version = changed
        .split([' ', ':'])
        .nth(1)
        .and_then(|word| word.parse().ok());
    version.ok_or_else(|| format!("the node's answer cannot be understood: {changed}"))
}

/// Shows how the partitions get to the members as they are now, until all are there.
fn watch(node: &mut Node, version: u64, wait: &Wait) -> Result<(), String> {
    let (from, patience) = (Instant::now(), Duration::from_secs(wait.wait));
    let mut shown = String::new();
    while from.elapsed() < patience {
        let members = members(node)?;
        if members
            .iter()
            .any(|member| member.number("roster") < version)
        {
            // The node has not taken it over yet.
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        let progress = progress(&members);
        if progress != shown {
            println!("{progress}");
            shown = progress;
        }
        if members.iter().all(Seen::is_settled) {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    match patience.is_zero() {
        true => Ok(()),
        false => Err(format!(
            "not done after {patience:?}; it goes on, and `ashlar member list` shows how far it is"
        )),
    }
}

fn progress(members: &[Seen]) -> String {
    let of = |member: &Seen| {
        let learns = match member.number("learns") {
            0 => String::new(),
            learns => format!(", learns {learns}"),
        };
        let (votes, partitions) = (member.number("votes"), member.number("partitions"));
        format!(
            "{} votes in {votes} of {partitions}{learns}",
            member.text("name")
        )
    };
    let mut parts: Vec<String> = members.iter().map(of).collect();
    let leaving = members.iter().map(|member| member.number("leaving")).max();
    parts.extend(match leaving {
        None | Some(0) => None,
        Some(votes) => Some(format!("votes of those who leave: {votes}")),
    });
    parts.join("; ")
}

/// A member as a node tells of it: words of the form KEY=VALUE.
struct Seen(BTreeMap<String, String>);

fn members(node: &mut Node) -> Result<Vec<Seen>, String> {
    let lines = node.ask(&["KV.MEMBER", "LIST"])?;
    Ok(lines.iter().map(|line| Seen::read(line)).collect())
}

impl Seen {
    fn read(line: &str) -> Self {
        let words = line.split(' ').filter_map(|word| word.split_once('='));
        Self(
            words
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("?", String::as_str)
    }

    fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// Says whether it votes everywhere, and nobody else does who is no member.
    fn is_settled(&self) -> bool {
        let everywhere = self.number("votes") == self.number("partitions");
        everywhere && self.number("learns") == 0 && self.number("leaving") == 0
    }

    fn line(&self) -> String {
        format!(
            "{}  member {}  peers {}  clients {}  {}  votes in {} of {} partitions{}",
            self.text("name"),
            self.text("node"),
            self.text("peers"),
            self.text("clients"),
            self.text("link"),
            self.text("votes"),
            self.text("partitions"),
            match self.number("learns") {
                0 => String::new(),
                learns => format!(", learns {learns}"),
            }
        )
    }
}
