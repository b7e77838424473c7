//! Commands that wait for elements at a leader, asked for by clients of all nodes.

use crate::support::{Client, Reply, encode, wait_until};
use crate::{Cluster, NODES};

/// Sends a command and leaves it waiting.
fn send(client: &mut Client, words: &[&str]) {
    let mut bytes = Vec::new();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    encode(&mut bytes, &words);
    client.send(&bytes).unwrap();
}

fn blocked(client: &mut Client) -> usize {
    let Reply::Bulk(Some(info)) = client.call(&["INFO", "clients"]) else {
        return 0;
    };
    let info = String::from_utf8(info).unwrap();
    let mut lines = info.lines();
    let field = lines.find_map(|line| line.strip_prefix("blocked_clients:"));
    field.unwrap().parse().unwrap()
}

/// Has a client of a node wait, and returns when the node says so.
fn wait(cluster: &Cluster, node: usize, words: &[&str]) -> Client {
    let (mut client, mut other) = (cluster.connect(node), cluster.connect(node));
    let before = blocked(&mut other);
    send(&mut client, words);
    wait_until("the client waits", || blocked(&mut other) > before);
    client
}

fn popped(key: &str, element: &str) -> Reply {
    Reply::Array(vec![Reply::bulk(key), Reply::bulk(element)])
}

#[test]
fn clients_of_all_nodes_wait_at_the_leader_and_are_served_or_told() {
    let mut cluster = Cluster::new(&[]);
    cluster.start();
    wait_until("a leader is known", || cluster.leader(0).is_some());
    let leader = cluster.leader(0).unwrap();
    let (one, other) = ((leader + 1) % NODES, (leader + 2) % NODES);

    let mut waiting: Vec<Client> = [one, leader, other, one]
        .into_iter()
        .map(|node| {
            let client = wait(&cluster, node, &["BLPOP", "queue", "0"]);
            // What a node relays has arrived when what it relays next is answered.
            assert_eq!(
                cluster.connect(node).call(&["EXISTS", "queue"]),
                Reply::Integer(0)
            );
            client
        })
        .collect();
    let pushed = cluster
        .connect(other)
        .call(&["RPUSH", "queue", "a", "b", "c"]);
    assert_eq!(pushed, Reply::Integer(3));
    for (client, element) in waiting.iter_mut().zip(["a", "b", "c"]) {
        assert_eq!(client.read().unwrap(), popped("queue", element));
    }

    // A client that is gone is not popped for, and one that is told to go on is answered.
    drop(waiting);
    let mut unblocked = cluster.connect(one);
    let Reply::Integer(id) = unblocked.call(&["CLIENT", "ID"]) else {
        panic!("an id is a number");
    };
    send(&mut unblocked, &["BLPOP", "queue", "0"]);
    let mut control = cluster.connect(one);
    wait_until("it waits and the other has gone", || {
        blocked(&mut control) == 1
    });
    let told = control.call(&["CLIENT", "UNBLOCK", &id.to_string(), "ERROR"]);
    assert_eq!(told, Reply::Integer(1));
    let error = unblocked.read().unwrap();
    assert!(error.error().starts_with("UNBLOCKED client"), "{error:?}");
    assert_eq!(control.call(&["EXISTS", "queue"]), Reply::Integer(0));
    assert_eq!(control.call(&["RPUSH", "queue", "kept"]), Reply::Integer(1));
    assert_eq!(control.call(&["LPOP", "queue"]), Reply::bulk("kept"));

    let mut late = cluster.connect(other);
    assert_eq!(
        late.call(&["BLPOP", "queue", "0.05"]),
        Reply::Array(Vec::new())
    );

    // Who leads no more tells those that wait.
    let mut told = [one, leader].map(|node| wait(&cluster, node, &["BZPOPMIN", "scores", "0"]));
    assert_eq!(control.call(&["EXISTS", "scores"]), Reply::Integer(0));
    let to = format!("n{}", other + 1);
    let handed = control.call(&["KV.TRANSFER", "0", &to]);
    assert_eq!(handed, Reply::ok());
    for client in &mut told {
        let error = client.read().unwrap();
        assert!(error.error().starts_with("UNBLOCKED force"), "{error:?}");
    }
}
