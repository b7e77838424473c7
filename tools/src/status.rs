//! `ashlar status`: asks a running node how its cluster looks, over the Redis protocol. It changes
//! nothing; whatever a node answers, it is shown or said to be wrong.

use std::net::SocketAddr;

use crate::asked::Node;

/// Flags of `ashlar status`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port of a node's clients
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6379")]
    addr: SocketAddr,
}

/// Prints what the node knows of its clock.
fn print_clock(node: &mut Node) -> Result<(), String> {
    let info = node.ask(&["INFO", "clock"])?;
    println!("clock");
    for line in info.iter().flat_map(|text| text.lines()) {
        if let Some((name, value)) = line.trim_start_matches("clock_").split_once(':') {
            println!("  {name}  {value}");
        }
    }
    Ok(())
}

/// Prints what the node knows of its cluster.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let mut node = Node::connect(args.addr)?;
    let nodes = node.ask(&["CLUSTER", "NODES"])?;
    println!("nodes, as {} sees them", args.addr);
    for line in nodes.iter().flat_map(|text| text.lines()) {
        let words: Vec<&str> = line.split(' ').collect();
        if let [id, addr, flags, _, _, _, _, link, ..] = words.as_slice() {
            let number = id.trim_start_matches('0');
            let own = if flags.contains("myself") {
                " (this one)"
            } else {
                ""
            };
            println!("  node {number}  {addr}  {link}{own}");
        }
    }
    print_clock(&mut node)?;
    let partitions = node.ask(&["CLUSTER", "PARTITIONS"])?;
    if partitions.is_empty() {
        println!("it is alone: it leads every partition");
        return Ok(());
    }
    println!("partitions");
    for line in partitions {
        println!("  {}", partition_line(&line));
    }
    Ok(())
}

/// Returns a line of `CLUSTER PARTITIONS` for people. Only who leads a partition knows how far its replicas are.
pub(crate) fn partition_line(line: &str) -> String {
    let field = |name: &str| {
        let mut fields = line.split(' ').filter_map(|word| word.split_once('='));
        let found = fields.find(|(found, _)| *found == name);
        found.map_or("?", |(_, value)| value)
    };
    let leader = match (field("leader"), field("lease")) {
        ("-", _) => "led by nobody who is known here".to_owned(),
        (leader, "yes") => format!("led by {leader}, with a lease"),
        (leader, _) => format!("led by {leader}"),
    };
    let behind = line.split(' ').filter_map(|word| word.split_once(":-"));
    let behind: Vec<String> = behind
        .map(|(name, entries)| format!("{name} by {entries}"))
        .collect();
    let behind = match behind.is_empty() {
        true => String::new(),
        false => format!("; behind: {}", behind.join(", ")),
    };
    let state = match field("state") {
        "damaged" => "; damaged here, and being repaired",
        "forgetful" => "; its log here was damaged, and it votes when it has everything again",
        _ => "",
    };
    format!(
        "partition {}  {leader}; term {}, last entry {}, committed {}, applied {}{behind}{state}",
        field("partition"),
        field("term"),
        field("last"),
        field("committed"),
        field("applied")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_told_as_far_as_the_node_knows() {
        let led =
            "partition=0 leader=n3 lease=yes term=2 last=13 committed=12 applied=11 n1:-4 n3:-0";
        assert_eq!(
            partition_line(led),
            "partition 0  led by n3, with a lease; term 2, last entry 13, committed 12, applied 11; behind: n1 by 4, n3 by 0"
        );
        let followed = "partition=1 leader=- lease=- term=3 last=5 committed=5 applied=5 n1:? n3:?";
        assert_eq!(
            partition_line(followed),
            "partition 1  led by nobody who is known here; term 3, last entry 5, committed 5, applied 5"
        );
        let forgetful = format!("{followed} state=forgetful");
        assert!(
            partition_line(&forgetful)
                .ends_with("; its log here was damaged, and it votes when it has everything again")
        );
        let whole = format!("{followed} state=whole");
        assert_eq!(partition_line(&whole), partition_line(followed));
    }
}
