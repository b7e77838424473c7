//! Files of a member that are damaged while it is down: it says so, gets back from the others what was in them, and
//! nothing that was acknowledged is lost.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::{Reply, run, segments, wait_until};
use crate::{Cluster, NODES};

const KEYS: u64 = 200;
const BLOCK_BYTES: u64 = 4096;

/// Flips bytes of a file.
fn damage(path: &Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset).unwrap();
    file.write_all_at(&bytes.map(|byte| byte ^ 0x5a), offset)
        .unwrap();
}

/// Damages a batch in the middle of what a stopped node has acknowledged.
fn damage_log(data: &Path) {
    // Each write was a batch of a block.
    damage(&segments(data, 0)[0], KEYS / 2 * BLOCK_BYTES + 40);
}

fn write(cluster: &Cluster, node: usize, from: u64) {
    let mut client = cluster.connect(node);
    for n in from..from + KEYS {
        let set = client.call(&["SET", &format!("key:{n}"), &format!("value:{n}")]);
        assert_eq!(set, Reply::ok());
    }
}

/// Returns a number that INFO tells.
fn told(cluster: &Cluster, node: usize, field: &str) -> u64 {
    let Reply::Bulk(Some(info)) = cluster.connect(node).call(&["INFO", "persistence"]) else {
        panic!("no INFO");
    };
    let info = String::from_utf8(info).unwrap();
    let field = format!("{field}:");
    let value = info.lines().find_map(|line| line.strip_prefix(&field));
    value.unwrap().parse().unwrap()
}

/// Returns what a node says of its replica of partition 0.
fn state(cluster: &Cluster, node: usize) -> String {
    let lines = cluster
        .connect(node)
        .call(&["CLUSTER", "PARTITIONS"])
        .elements();
    let Some(Reply::Bulk(Some(line))) = lines.into_iter().next() else {
        panic!("no partitions");
    };
    let line = String::from_utf8(line).unwrap();
    let words = line.split(' ').find_map(|word| word.strip_prefix("state="));
    words.unwrap().to_owned()
}

/// Returns the tables of partition 0.
fn tables(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("tables").join("00000"));
    let files = files.into_iter().flatten().map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|of| of == "table"))
        .collect()
}

/// Stops all nodes, and has the files of each looked through.
fn verify(cluster: &mut Cluster) {
    for node in &mut cluster.nodes {
        assert_eq!(node.take().unwrap().stop("TERM").code, Some(0));
    }
    for node in 0..NODES {
        let data = cluster.data(node);
        let verified = run(&["verify", "--data", data.to_str().unwrap()]);
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
}

#[test]
fn a_member_whose_log_is_damaged_gets_back_what_was_in_it() {
    let mut cluster = Cluster::new(&["m"]);
    cluster.start();
    write(&cluster, 0, 0);
    wait_until("a leader is known", || cluster.leader(0).is_some());
    let victim = (cluster.leader(0).unwrap() + 1) % NODES;
    let other = (victim + 1) % NODES;
    assert_eq!(
        cluster.nodes[victim].take().unwrap().stop("TERM").code,
        Some(0)
    );
    write(&cluster, other, KEYS);
    damage_log(&cluster.data(victim));
    cluster.start();
    let (_, said) = cluster.nodes[victim].as_mut().unwrap().output();
    assert!(
        said.contains("is damaged at offset") && said.contains("set aside"),
        "{said}"
    );
    wait_until("it has everything again", || {
        told(&cluster, victim, "forgetful_replicas") == 0
    });
    assert_eq!(told(&cluster, victim, "repaired_replicas"), 2);
    assert_eq!(state(&cluster, victim), "whole");
    wait_until("the damaged log is removed", || {
        let mut files = segments(&cluster.data(victim), 0).into_iter();
        files.all(|path| path.extension().is_some_and(|of| of == "wal"))
    });
    // It counts now: with another one gone, it is one of the two that are needed.
    drop(cluster.nodes[other].take());
    let rest = (0..NODES)
        .find(|node| ![victim, other].contains(node))
        .unwrap();
    wait_until("the two serve", || {
        cluster.connect(rest).call(&["SET", "last", "1"]) == Reply::ok()
    });
    let mut client = cluster.connect(victim);
    for n in 0..2 * KEYS {
        let value = client.call(&["GET", &format!("key:{n}")]);
        assert_eq!(value, Reply::bulk(format!("value:{n}")), "key:{n}");
    }
    cluster.start();
    verify(&mut cluster);
}

/// Two of three logs are damaged: nobody can tell any more what was acknowledged. Nothing is served, and nothing is
/// dropped.
#[test]
fn a_group_of_which_a_majority_has_forgotten_waits() {
    let mut cluster = Cluster::new(&[]);
    cluster.start();
    write(&cluster, 0, 0);
    for node in &mut cluster.nodes {
        assert_eq!(node.take().unwrap().stop("TERM").code, Some(0));
    }
    for node in 1..NODES {
        damage_log(&cluster.data(node));
    }
    cluster.start();
    for node in 0..NODES {
        let Reply::Error(refused) = cluster.connect(node).call(&["SET", "key:0", "x"]) else {
            panic!("node {node} serves");
        };
        assert!(refused.starts_with("CLUSTERDOWN"), "{refused}");
    }
    assert_eq!(
        (state(&cluster, 0), state(&cluster, 1)),
        ("whole".to_owned(), "forgetful".to_owned())
    );
    let files = segments(&cluster.data(1), 0);
    assert!(
        files
            .iter()
            .any(|path| path.extension().is_some_and(|of| of == "lost")),
        "{files:?}"
    );
}

#[test]
fn a_member_whose_table_is_damaged_gets_another_one() {
    const LARGE_KEYS: u64 = 150;
    let mut cluster = Cluster::new(&[]);
    cluster.start();
    wait_until("a leader is known", || cluster.leader(0).is_some());
    let value = "v".repeat(200 << 10);
    let mut client = cluster.connect(0);
    for n in 0..LARGE_KEYS {
        assert_eq!(
            client.call(&["SET", &format!("large:{n}"), &value]),
            Reply::ok()
        );
    }
    let victim = (cluster.leader(0).unwrap() + 1) % NODES;
    wait_until("the victim has tables", || {
        !tables(&cluster.data(victim)).is_empty()
    });
    assert_eq!(
        cluster.nodes[victim].take().unwrap().stop("TERM").code,
        Some(0)
    );
    let table = tables(&cluster.data(victim)).pop().unwrap();
    // The last block says what else there is.
    damage(
        &table,
        std::fs::metadata(&table).unwrap().len() - BLOCK_BYTES + 8,
    );
    cluster.start();
    wait_until("the table is replaced", || {
        told(&cluster, victim, "repaired_replicas") == 1
            && told(&cluster, victim, "damaged_partitions") == 0
    });
    let (_, said) = cluster.nodes[victim].as_mut().unwrap().output();
    assert!(
        said.contains("is damaged and no longer served") && said.contains("is repaired"),
        "{said}"
    );
    assert_eq!(state(&cluster, victim), "whole");
    let handed_over =
        cluster
            .connect(victim)
            .call(&["KV.TRANSFER", "0", &format!("n{}", victim + 1)]);
    assert_eq!(handed_over, Reply::ok());
    wait_until("it leads", || cluster.leader(victim) == Some(victim));
    let mut client = cluster.connect(victim);
    for n in 0..LARGE_KEYS {
        assert_eq!(
            client.call(&["GET", &format!("large:{n}")]),
            Reply::bulk(&value)
        );
    }
    verify(&mut cluster);
}
