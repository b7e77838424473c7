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
        println!("  {}", line.replace('=', " "));
    }
    Ok(())
}
