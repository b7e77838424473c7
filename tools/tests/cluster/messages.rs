//! Messages between clients of different nodes.

use crate::support::{Client, Reply, wait_until};
use crate::{Cluster, NODES};

#[test]
fn messages_reach_the_subscribers_of_every_node_in_order() {
    let mut cluster = Cluster::new(&["m"]);
    cluster.start();
    let mut subscribers: Vec<Client> = (0..NODES).map(|node| cluster.connect(node)).collect();
    for client in &mut subscribers {
        client.call(&["SUBSCRIBE", "news"]);
    }
    let mut publisher = cluster.connect(1);
    wait_until("all nodes are connected", || {
        let info = publisher.call(&["INFO", "replication"]);
        matches!(info, Reply::Bulk(Some(text)) if String::from_utf8_lossy(&text).matches("state=online").count() == 2)
    });
    for n in 0..500_usize {
        let key = if n.is_multiple_of(2) { "a" } else { "z" };
        assert_eq!(publisher.call(&["SET", key, &n.to_string()]), Reply::ok());
        // Those of the node that was asked are counted.
        assert_eq!(
            publisher.call(&["PUBLISH", "news", &n.to_string()]),
            Reply::Integer(1)
        );
    }
    for client in &mut subscribers {
        for n in 0..500 {
            let words = ["message", "news", &n.to_string()].map(Reply::bulk);
            assert_eq!(client.read().unwrap(), Reply::Array(words.to_vec()));
        }
    }
}
