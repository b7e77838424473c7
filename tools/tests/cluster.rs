//! Three real nodes on this machine: they agree on who they are, serve every key from each, and lose
//! nothing that was acknowledged when the leader is killed, again and again.
//!
//! `ASHLAR_CLUSTER_KILLS` sets how often the leader is killed (5).
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has failed"
)]

#[path = "cluster/damage.rs"]
mod damage;
#[path = "cluster/messages.rs"]
mod messages;
mod support;
#[path = "cluster/waiting.rs"]
mod waiting;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{Client, Node, Reply, run, wait_until};

const NODES: usize = 3;

/// Three data directories, and the nodes that run on them.
struct Cluster {
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    nodes: Vec<Option<Node>>,
}

/// Returns ports that nobody listens on.
fn free_ports() -> Vec<u16> {
    let all: Vec<_> = (0..NODES)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap())
        .collect();
    all.iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

impl Cluster {
    fn new(split_at: &[&str]) -> Self {
        let cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            ports: free_ports(),
            nodes: (0..NODES).map(|_| None).collect(),
        };
        (0..NODES).for_each(|node| cluster.format(node, split_at));
        cluster
    }

    fn format(&self, node: usize, split_at: &[&str]) {
        let data = self.data(node);
        let mut args = vec!["format", "--data", data.to_str().unwrap(), "--shards", "1"];
        split_at
            .iter()
            .for_each(|key| args.extend(["--split-at", key]));
        assert_eq!(run(&args).code, Some(0));
    }

    fn data(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("n{}", node + 1))
    }

    fn flags(&self, node: usize) -> Vec<String> {
        let peer = |node: usize| format!("n{}=127.0.0.1:{}", node + 1, self.ports[node]);
        let peers: Vec<_> = (0..self.ports.len()).map(peer).collect();
        vec![
            "--name".to_owned(),
            format!("n{}", node + 1),
            "--peer-listen".to_owned(),
            format!("127.0.0.1:{}", self.ports[node]),
            "--peers".to_owned(),
            peers.join(","),
            "--memory".to_owned(),
            "64MiB".to_owned(),
        ]
    }

    /// Starts all nodes that do not run: the first time they wait for each other.
    fn start(&mut self) {
        let missing: Vec<usize> = (0..NODES)
            .filter(|node| self.nodes[*node].is_none())
            .collect();
        let starting: Vec<_> = missing
            .into_iter()
            .map(|node| {
                let (data, flags) = (self.data(node), self.flags(node));
                std::thread::spawn(move || {
                    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                    (node, Node::start(&data, &flags))
                })
            })
            .collect();
        for started in starting {
            let (number, node) = started.join().unwrap();
            self.nodes[number] = Some(node);
        }
    }

    fn connect(&self, node: usize) -> Client {
        self.nodes[node].as_ref().unwrap().connect()
    }

    /// Returns where clients reach each node that runs.
    fn addrs(&self) -> Vec<Option<SocketAddr>> {
        let nodes = self.nodes.iter();
        nodes.map(|node| Some(node.as_ref()?.addr)).collect()
    }

    /// Returns who leads partition 0, as a node knows it.
    fn leader(&self, asked: usize) -> Option<usize> {
        let lines = ask(&mut self.connect(asked), &["CLUSTER", "PARTITIONS"]).elements();
        let Some(Reply::Bulk(Some(line))) = lines.into_iter().next() else {
            return None;
        };
        let line = String::from_utf8(line).unwrap();
        let name = line
            .split(' ')
            .find_map(|word| word.strip_prefix("leader=n"))?;
        Some(name.parse::<usize>().unwrap() - 1)
    }
}

/// A test that fails shows what the nodes have said.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (number, node) in (1..).zip(&mut self.nodes) {
            if let Some(node) = node {
                println!("n{number}: {:?}", node.output());
            }
        }
    }
}

fn ask(client: &mut Client, words: &[&str]) -> Reply {
    client.call(words)
}

#[test]
fn every_node_serves_every_key_and_tells_how_the_cluster_looks() {
    let mut cluster = Cluster::new(&["m"]);
    cluster.start();
    for (node, key) in [(0, "a"), (1, "q"), (2, "z")] {
        let set = ask(
            &mut cluster.connect(node),
            &["SET", key, &format!("of {node}")],
        );
        assert_eq!(set, Reply::ok());
    }
    for node in 0..NODES {
        let mut client = cluster.connect(node);
        for (of, key) in [(0, "a"), (1, "q"), (2, "z")] {
            let value = Reply::bulk(format!("of {of}"));
            assert_eq!(
                ask(&mut client, &["GET", key]),
                value,
                "{key} from node {node}"
            );
        }
        assert_eq!(ask(&mut client, &["DBSIZE"]), Reply::Integer(3));
        assert_eq!(ask(&mut client, &["WAIT", "1", "100"]), Reply::Integer(1));
        let role = ask(&mut client, &["ROLE"]).elements();
        assert_eq!(role[0], Reply::bulk("master"));
    }
    wait_until("a leader is known everywhere", || {
        (0..NODES).all(|node| cluster.leader(node).is_some())
    });
    let addr = cluster.nodes[0].as_ref().unwrap().addr.to_string();
    let status = run(&["status", "--addr", &addr]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(
        status.out.contains("partition 1  led by n"),
        "{}",
        status.out
    );
}

#[test]
fn a_leader_that_is_killed_loses_nothing_that_was_acknowledged() {
    let kills = std::env::var("ASHLAR_CLUSTER_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut cluster = Cluster::new(&[]);
    cluster.start();
    let (mut sent, mut acknowledged) = (0_u64, 0_u64);
    let mut pauses = Vec::new();
    for kill in 0..kills {
        let other = write_some(&cluster, &mut sent, &mut acknowledged);
        let leader = cluster
            .leader(other)
            .expect("there is one that took the writes");
        cluster.nodes[leader].take().unwrap().kill();
        let from = Instant::now();
        let survivor = (0..NODES).find(|node| *node != leader).unwrap();
        let (before, mut client) = (acknowledged, cluster.connect(survivor));
        wait_until("another node leads", || {
            write(&mut client, &mut sent, &mut acknowledged);
            acknowledged > before
        });
        pauses.push(from.elapsed());
        check(&mut client, sent, acknowledged, kill);
        cluster.start();
    }
    (0..NODES).for_each(|node| check(&mut cluster.connect(node), sent, acknowledged, kills));
    pauses.sort();
    println!(
        "{kills} kills, {acknowledged} acknowledged; first write after a kill: median {:?}, longest {:?}",
        pauses[pauses.len() / 2],
        pauses[pauses.len() - 1]
    );
    assert!(pauses[0] > Duration::ZERO);
}

/// Writes through each node for a while; returns one that knows the leader and is not it.
fn write_some(cluster: &Cluster, sent: &mut u64, acknowledged: &mut u64) -> usize {
    for node in 0..NODES {
        let mut client = cluster.connect(node);
        for _ in 0..100 {
            write(&mut client, sent, acknowledged);
        }
    }
    let mut found = None;
    wait_until("the leader is known", || {
        found = (0..NODES).find(|node| {
            let leader = cluster.leader(*node);
            leader.is_some_and(|leader| leader != *node)
        });
        found.is_some()
    });
    found.unwrap()
}

/// Writes the next number. What is not acknowledged may have been done, and nothing may be done twice.
fn write(client: &mut Client, sent: &mut u64, acknowledged: &mut u64) {
    *sent += 1;
    match ask(client, &["SET", "counter", &sent.to_string()]) {
        Reply::Simple(_) => *acknowledged = *sent,
        Reply::Error(error) => {
            let known = ["UNKNOWN", "CLUSTERDOWN"];
            assert!(known.iter().any(|code| error.starts_with(code)), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

fn check(client: &mut Client, sent: u64, acknowledged: u64, kill: u64) {
    match ask(client, &["GET", "counter"]) {
        Reply::Bulk(Some(value)) => {
            let value: u64 = String::from_utf8(value).unwrap().parse().unwrap();
            assert!(
                (acknowledged..=sent).contains(&value),
                "after kill {kill}: {value} is there, {acknowledged} was acknowledged, {sent} sent last"
            );
        }
        other => panic!("after kill {kill}: {other:?}"),
    }
}

/// One who counts through a session, whichever node there is.
struct Counter {
    id: String,
    addrs: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    /// Increments asked for, each of which was answered.
    asked: u64,
    /// How often one was sent.
    sent: u64,
}

impl Counter {
    /// Increments until told to stop.
    fn run(mut self, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            self.asked += 1;
            let mut node = usize::try_from(self.asked).unwrap();
            loop {
                node = (node + 1) % NODES;
                let addr = self.addrs.lock().unwrap()[node];
                self.sent += 1;
                match addr.and_then(|addr| self.increment(addr)) {
                    Some(Reply::Integer(sum)) => break assert!(sum > 0),
                    Some(Reply::Error(error)) => {
                        let known = ["UNKNOWN", "CLUSTERDOWN"];
                        assert!(known.iter().any(|code| error.starts_with(code)), "{error}");
                    }
                    Some(other) => panic!("{other:?}"),
                    None => std::thread::yield_now(),
                }
            }
        }
        self
    }

    /// Sends the increment that is to be made; nothing when the connection breaks.
    fn increment(&self, addr: SocketAddr) -> Option<Reply> {
        let mut client = Client::try_connect(addr).ok()?;
        let mut bytes = Vec::new();
        let sequence = self.asked.to_string();
        let session = ["SESSION", &self.id, "SEQ", &sequence].map(str::as_bytes);
        support::encode(&mut bytes, &session);
        support::encode(&mut bytes, &[b"INCR", b"counter"]);
        client.send(&bytes).ok()?;
        assert_eq!(client.read().ok()?, Reply::ok());
        client.read().ok()
    }
}

#[test]
fn increments_through_sessions_are_made_once_whatever_leader_is_killed() {
    let kills = std::env::var("ASHLAR_CLUSTER_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut cluster = Cluster::new(&[]);
    cluster.start();
    let addrs = Arc::new(Mutex::new(cluster.addrs()));
    let stop = Arc::new(AtomicBool::new(false));
    let counting: Vec<_> = (0..NODES)
        .map(|number| {
            let counter = Counter {
                id: format!("session-number-{number}"),
                addrs: Arc::clone(&addrs),
                asked: 0,
                sent: 0,
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || counter.run(&stop))
        })
        .collect();
    for _ in 0..kills {
        let mut leader = None;
        wait_until("a leader is known", || {
            leader = (0..NODES).find_map(|node| cluster.leader(node));
            leader.is_some()
        });
        let leader = leader.unwrap();
        let before = count(&mut cluster.connect((leader + 1) % NODES));
        addrs.lock().unwrap()[leader] = None;
        cluster.nodes[leader].take().unwrap().kill();
        let mut survivor = cluster.connect((leader + 1) % NODES);
        wait_until("it is counted on", || count(&mut survivor) > before);
        cluster.start();
        *addrs.lock().unwrap() = cluster.addrs();
    }
    stop.store(true, Ordering::Relaxed);
    let counted: Vec<Counter> = counting.into_iter().map(|of| of.join().unwrap()).collect();
    let asked: u64 = counted.iter().map(|counter| counter.asked).sum();
    let sent: u64 = counted.iter().map(|counter| counter.sent).sum();
    println!("{kills} kills, {asked} increments asked for, {sent} sent");
    assert_eq!(count(&mut cluster.connect(0)), asked);
}

/// Returns what the counter is; nothing is zero, and so is what cannot be told now.
fn count(client: &mut Client) -> u64 {
    match ask(client, &["GET", "counter"]) {
        Reply::Bulk(Some(value)) => String::from_utf8(value).unwrap().parse().unwrap(),
        Reply::Bulk(None) | Reply::Error(_) => 0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_lost_its_disk_waits_and_comes_back_as_a_new_member() {
    let mut cluster = Cluster::new(&["m"]);
    cluster.start();
    for key in ["a", "z"] {
        let set = ask(&mut cluster.connect(0), &["SET", key, "1"]);
        assert_eq!(set, Reply::ok());
    }
    cluster.nodes[2].take().unwrap().kill();
    std::fs::remove_dir_all(cluster.data(2)).unwrap();
    cluster.format(2, &["m"]);
    let starting = start_later(&cluster, 2);
    let at = cluster.nodes[0].as_ref().unwrap().addr.to_string();
    let mut replaced = run(&["member", "replace", "n3", "--addr", &at]);
    wait_until("the new node waits to be a member", || {
        if replaced.code != Some(0) {
            assert!(replaced.err.contains("nobody waits"), "{replaced:?}");
            replaced = run(&["member", "replace", "n3", "--addr", &at]);
        }
        replaced.code == Some(0)
    });
    assert!(
        replaced.out.contains("roster 2: n1, n2, n3"),
        "{replaced:?}"
    );
    assert!(replaced.out.contains("n3 votes in 2 of 2"), "{replaced:?}");
    cluster.nodes[2] = Some(starting.join().unwrap());
    // What it votes for counts: with it, one of the others can be lost.
    cluster.nodes[1].take().unwrap().kill();
    let mut client = cluster.connect(2);
    wait_until("a leader is there", || {
        ask(&mut client, &["SET", "a", "2"]) == Reply::ok()
    });
    wait_until("the other partition has one, too", || {
        ask(&mut client, &["GET", "z"]) == Reply::bulk("1")
    });
}

/// Starts a node that has to wait for others.
fn start_later(cluster: &Cluster, node: usize) -> std::thread::JoinHandle<Node> {
    let (data, flags) = (cluster.data(node), cluster.flags(node));
    std::thread::spawn(move || {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Node::start(&data, &flags)
    })
}

#[test]
fn members_come_and_go_while_the_cluster_serves() {
    let mut cluster = Cluster::new(&[]);
    cluster.start();
    cluster.ports.push(free_ports()[0]);
    cluster.nodes.push(None);
    cluster.format(3, &[]);
    let (mut sent, mut acknowledged) = (0, 0);
    write(&mut cluster.connect(0), &mut sent, &mut acknowledged);
    assert_eq!(acknowledged, 1);
    let at = cluster.nodes[1].as_ref().unwrap().addr.to_string();
    let addr = format!("n4=127.0.0.1:{}", cluster.ports[3]);
    let nobody = run(&["member", "add", &addr, "--addr", &at]);
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody.err.contains("start the new node first"),
        "{nobody:?}"
    );
    let starting = start_later(&cluster, 3);
    wait_until("it is a member", || {
        run(&["member", "add", &addr, "--addr", &at]).code == Some(0)
    });
    cluster.nodes[3] = Some(starting.join().unwrap());
    check(&mut cluster.connect(3), sent, acknowledged, 0);
    let again = run(&["member", "add", &addr, "--addr", &at]);
    assert_eq!(again.code, Some(1), "{again:?}");
    let stranger = run(&["member", "remove", "n9", "--addr", &at]);
    assert!(
        stranger
            .err
            .contains("n9 is no member; there are n1, n2, n3, n4")
    );
    // The first two go, whoever leads, while somebody writes.
    let at = cluster.nodes[3].as_ref().unwrap().addr.to_string();
    for name in ["n1", "n2"] {
        let removed = run(&["member", "remove", name, "--addr", &at]);
        assert_eq!(removed.code, Some(0), "{removed:?}");
        write(&mut cluster.connect(2), &mut sent, &mut acknowledged);
    }
    let list = run(&["member", "list", "--addr", &at]);
    assert_eq!(list.out.lines().count(), 2, "{list:?}");
    for gone in [0, 1] {
        let mut node = cluster.nodes[gone].take().unwrap();
        wait_until("it has stopped by itself", || !node.is_alive());
        let ended = node.kill();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(
            ended.err.contains("was removed from its cluster"),
            "{ended:?}"
        );
    }
    // The one that leaves is asked itself, and stops before it is asked how far that is.
    let own = cluster.nodes[2].as_ref().unwrap().addr.to_string();
    let last = run(&["member", "remove", "n3", "--addr", &own]);
    assert_eq!(last.code, Some(0), "{last:?}");
    let last = run(&["member", "remove", "n4", "--addr", &at]);
    assert!(
        last.err.contains("the last member cannot be removed"),
        "{last:?}"
    );
    wait_until("the last one serves alone", || {
        write(&mut cluster.connect(3), &mut sent, &mut acknowledged);
        acknowledged == sent
    });
    check(&mut cluster.connect(3), sent, acknowledged, 0);
}

#[test]
fn a_list_that_does_not_name_the_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("n1");
    let flags = [
        "--name",
        "n9",
        "--peer-listen",
        "127.0.0.1:7999",
        "--peers",
        "n1=127.0.0.1:7999,n2=127.0.0.1:7998",
    ];
    let refused = Node::try_start(&data, &flags).unwrap_err();
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.err.contains("n9"), "{refused:?}");
}
