//! Clients of a node with two shards and a partition on each: order, refusals and scans over the
//! edge between them.

use std::io::Write;
use std::path::Path;

use crate::support::{self, Node, Reply};
use crate::{Served, commands};

/// Starts a node of two shards, with the keys from "m" on the second.
pub(crate) fn start() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    format_split(&data);
    Served {
        node: Node::start(&data, &[]),
        _dir: dir,
    }
}

fn format_split(data: &Path) {
    let args = [
        "format",
        "--data",
        data.to_str().unwrap(),
        "--shards",
        "2",
        "--split-at",
        "m",
    ];
    let ended = support::run(&[&args[..], &["--set", "wal.segment_bytes=16 MiB"]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn replies_of_two_shards_keep_their_order() {
    let served = start();
    let count = 20_000;
    let key = |n: usize| format!("{}{}", if n.is_multiple_of(3) { "a" } else { "z" }, n % 500);
    let bytes = commands(count, |n| match n % 4 {
        0 => vec!["SET".to_owned(), key(n / 4), (n / 4).to_string()],
        1 => vec!["GET".to_owned(), key(n / 4)],
        2 => vec!["ECHO".to_owned(), n.to_string()],
        _ => vec!["STRLEN".to_owned(), key(n / 4)],
    });
    // Connections land on either shard.
    for _ in 0..8 {
        let mut client = served.node.connect();
        let (mut sender, bytes) = (client.sender(), bytes.clone());
        let sending = std::thread::spawn(move || sender.write_all(&bytes).unwrap());
        for n in 0..count {
            let written = (n / 4).to_string();
            let expected = match n % 4 {
                0 => Reply::ok(),
                1 => Reply::bulk(written),
                2 => Reply::bulk(n.to_string()),
                _ => Reply::Integer(i64::try_from(written.len()).unwrap()),
            };
            assert_eq!(client.read().unwrap(), expected, "command {n}");
        }
        sending.join().unwrap();
    }
}

#[test]
fn large_replies_of_another_shard_are_bounded_in_bytes() {
    const VALUE_BYTES: usize = 4 << 20;
    const LARGE: usize = 150;
    let served = start();
    let value = vec![b'v'; VALUE_BYTES];
    let small = 5_000;
    for (_, key) in (0..6).zip(["a", "z"].into_iter().cycle()) {
        let mut client = served.node.connect();
        assert_eq!(
            client.call_bytes(&[b"SET", key.as_bytes(), &value]),
            Reply::ok()
        );
        let before = served.node.memory_bytes();
        // Small answers earn the right to await many; then come large ones that nobody reads, and
        // among them some that must not overtake them.
        let bytes = commands(small + LARGE * 2, |n| match n.checked_sub(small) {
            None => vec!["STRLEN".to_owned(), key.to_owned()],
            Some(n) if n % 2 == 0 => vec!["GET".to_owned(), key.to_owned()],
            Some(n) => vec!["SET".to_owned(), format!("{key}{n}"), n.to_string()],
        });
        let mut sender = client.sender();
        let sending = std::thread::spawn(move || sender.write_all(&bytes).unwrap());
        for _ in 0..small {
            assert_eq!(client.read().unwrap(), Reply::Integer(VALUE_BYTES as i64));
        }
        for n in 0..LARGE {
            let grown = served.node.memory_bytes().saturating_sub(before);
            assert!(grown < 100 << 20, "{} MiB are held", grown >> 20);
            assert_eq!(
                client.read().unwrap(),
                Reply::bulk(&value),
                "large reply {n}"
            );
            assert_eq!(client.read().unwrap(), Reply::ok());
        }
        sending.join().unwrap();
    }
}

#[test]
fn commands_over_two_partitions_are_refused_whole() {
    let served = start();
    for _ in 0..8 {
        let mut client = served.node.connect();
        for words in [
            &["MSET", "a", "1", "z", "2"] as &[&str],
            &["MGET", "a", "z"],
            &["DEL", "z", "a"],
        ] {
            let reply = client.call(words);
            assert!(
                reply.error().starts_with("CROSSRANGE "),
                "{words:?}: {reply:?}"
            );
        }
        assert_eq!(client.call(&["DBSIZE"]), Reply::Integer(0));
        assert_eq!(client.call(&["MSET", "x", "1", "z", "2"]), Reply::ok());
        assert_eq!(
            client.call(&["MGET", "z", "x"]),
            Reply::Array(vec![Reply::bulk("2"), Reply::bulk("1")])
        );
        assert_eq!(client.call(&["FLUSHALL"]), Reply::ok());
    }
}

#[test]
fn a_scan_goes_over_all_partitions() {
    let served = start();
    let mut client = served.node.connect();
    for n in 0..200 {
        client.call(&[
            "SET",
            &format!("{}{n}", if n % 2 == 0 { "a" } else { "z" }),
            "v",
        ]);
    }
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    loop {
        let mut reply = served
            .node
            .connect()
            .call(&["SCAN", &cursor, "COUNT", "7"])
            .elements();
        let Some(Reply::Array(found)) = reply.pop() else {
            panic!("SCAN gives keys")
        };
        keys.extend(found);
        let Some(Reply::Bulk(Some(next))) = reply.pop() else {
            panic!("SCAN gives a cursor")
        };
        cursor = String::from_utf8(next).unwrap();
        if cursor == "0" {
            break;
        }
    }
    keys.sort_by_key(|key| format!("{key:?}"));
    keys.dedup();
    assert_eq!(keys.len(), 200);
}
