//! Tests of the commands on ordered keys: what they take, and what they plan. What they answer over
//! partitions is tested against a real node.

use std::ops::Bound;

use ashlar_partition::{Order, Part, Scan};

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};
use crate::command::spread::Plan;

const IN_FUTURE: &str = "-ERR the timestamp lies in the future";

/// Returns the walk that a command plans.
fn walk(client: &mut Client, words: &[&[u8]]) -> Scan {
    let reply = client.run(words);
    assert_eq!(reply, b"", "{}", String::from_utf8_lossy(&reply));
    match client.plan.take() {
        Some(Plan::Walk(range)) => {
            assert_eq!(range.part, range.walk.part);
            range.walk
        }
        other => panic!("a walk is planned, not {other:?}"),
    }
}

fn keys(start: &[u8], end: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (
        Bound::Included(start.to_vec()),
        Bound::Excluded(end.to_vec()),
    )
}

#[test]
fn the_value_of_a_key_is_told() {
    let mut client = Client::new();
    client.expect(&[
        ("KV.GET a", "$-1"),
        ("SET a 1", "+OK"),
        ("KV.GET a", "$1|1"),
        ("kv.get a", "$1|1"),
        ("SELECT 3", "+OK"),
        ("KV.GET a", "$-1"),
    ]);
    assert_eq!(client.reads, (0, 1));
}

#[test]
fn a_timestamp_is_a_number_that_is_not_in_the_future() {
    let mut client = Client::new();
    let now = (client.now_ms * 1000) << 12;
    let second = 1_000_000_u64 << 12;
    for (word, expected) in [
        ("x".to_owned(), NOT_AN_INTEGER),
        ("-1".to_owned(), NOT_AN_INTEGER),
        ("9223372036854775808".to_owned(), NOT_AN_INTEGER),
        ("9223372036854775807".to_owned(), IN_FUTURE),
        ((now + second).to_string(), IN_FUTURE),
    ] {
        client.expect(&[
            (&format!("KV.GET a AT {word}"), expected),
            (&format!("KV.SCAN a b AT {word}"), expected),
        ]);
    }
    client.expect(&[(&format!("KV.GET a AT {now}"), "$-1")]);
}

#[test]
fn wrong_words_are_refused() {
    Client::new().expect(&[
        (
            "KV.GET",
            "-ERR wrong number of arguments for 'kv.get' command",
        ),
        ("KV.GET a AT", SYNTAX),
        ("KV.GET a 1 2", SYNTAX),
        ("KV.GET a AT 1 2", SYNTAX),
        (
            "KV.SCAN a",
            "-ERR wrong number of arguments for 'kv.scan' command",
        ),
        ("KV.SCAN a b LIMIT", SYNTAX),
        ("KV.SCAN a b AT", SYNTAX),
        ("KV.SCAN a b WHATEVER", SYNTAX),
        ("KV.SCAN a b LIMIT 0", NOT_AN_INTEGER),
        ("KV.SCAN a b LIMIT -1", NOT_AN_INTEGER),
        ("KV.SCAN a b LIMIT many", NOT_AN_INTEGER),
        (
            "KV.DELRANGE a",
            "-ERR wrong number of arguments for 'kv.delrange' command",
        ),
        (
            "KV.DELRANGE a b c",
            "-ERR wrong number of arguments for 'kv.delrange' command",
        ),
        (
            "KV.TIMESTAMP a",
            "-ERR wrong number of arguments for 'kv.timestamp' command",
        ),
    ]);
}

#[test]
fn a_scan_plans_what_its_words_say() {
    let mut client = Client::new();
    let plain = walk(&mut client, &[b"KV.SCAN", b"a", b"b"]);
    assert_eq!(plain.keys, keys(b"\0a", b"\0b"));
    assert_eq!((plain.order, plain.part), (Order::Ascending, Part::Value));
    assert_eq!((plain.keys_max, plain.at), (1000, None));
    let words: &[&[u8]] = &[b"KV.SCAN", b"-", b"+", b"rev", b"KeysOnly", b"LIMIT", b"7"];
    let all = walk(&mut client, words);
    assert_eq!(all.keys, keys(b"\0", b"\x01"));
    assert_eq!((all.order, all.part), (Order::Descending, Part::Key));
    assert_eq!(all.keys_max, 7);
    let many = walk(
        &mut client,
        &[b"KV.SCAN", b"-", b"+", b"LIMIT", b"1000000000"],
    );
    assert_eq!(many.keys_max, 100_000, "no reply is without an end");
    let binary = walk(&mut client, &[b"KV.SCAN", b"", b"\xff\0\r\n"]);
    assert_eq!(binary.keys, keys(b"\0", b"\0\xff\0\r\n"));
}

#[test]
fn a_scan_keeps_to_its_database() {
    let mut client = Client::new();
    client.expect(&[("SELECT 15", "+OK")]);
    let all = walk(&mut client, &[b"KV.SCAN", b"-", b"+"]);
    assert_eq!(all.keys, keys(b"\x0f", b"\x10"));
}

#[test]
fn a_range_is_deleted_unless_it_is_empty() {
    let mut client = Client::new();
    client.expect(&[("KV.DELRANGE b a", "+OK"), ("KV.DELRANGE a a", "+OK")]);
    assert!(client.plan.is_none(), "there is nothing to do");
    assert_eq!(client.line("KV.DELRANGE - b"), "");
    let Some(Plan::DeleteRange { start, end }) = client.plan.take() else {
        panic!("a deletion is planned")
    };
    assert_eq!((start, end), (b"\0".to_vec(), b"\0b".to_vec()));
}

/// Says what a shard has given.
fn publish(client: &Client, shard: usize, given: u64) {
    let last = &client.shared.stats.shards()[shard].last_timestamp;
    last.store(given, std::sync::atomic::Ordering::Release);
}

/// A node was started again while its clock was behind. One shard served, the other was still reading its log; the
/// timestamp told was below what the other had acknowledged before. Found by the simulator.
#[test]
fn a_shard_that_has_not_said_what_it_gave_is_asked() {
    let mut client = Client::new();
    publish(&client, 0, 1);
    assert_eq!(client.line("KV.TIMESTAMP"), "");
    assert!(matches!(client.plan.take(), Some(Plan::Timestamp)));
}

#[test]
fn a_timestamp_is_behind_all_that_was_given() {
    let mut client = Client::new();
    let ask = |client: &mut Client| -> u64 {
        let reply = client.line("KV.TIMESTAMP");
        reply.trim_start_matches(':').trim().parse().unwrap()
    };
    publish(&client, 0, 1);
    publish(&client, 1, 1);
    let first = ask(&mut client);
    assert_eq!(first >> 12, client.now_ms * 1000 + 7);
    client.now_ms += 1;
    assert!(ask(&mut client) > first);
    let ahead = (client.now_ms * 1000 + 5_000_000) << 12;
    publish(&client, 1, ahead);
    assert_eq!(ask(&mut client), ahead, "a shard's clock runs ahead");
    // What was given may be asked about, even so.
    let words = format!("KV.SCAN a b AT {ahead}");
    assert_eq!(client.line(&words), "");
}

#[test]
fn clients_are_told_of_the_commands() {
    let mut client = Client::new();
    for name in ["kv.get", "kv.scan", "kv.delrange", "kv.timestamp"] {
        let docs = client.line(&format!("COMMAND DOCS {name}"));
        assert!(docs.contains(name) && docs.contains("summary"), "{docs}");
        let info = client.line(&format!("COMMAND INFO {name}"));
        assert!(info.contains(name), "{info}");
    }
    let docs = client.line("COMMAND DOCS kv.scan");
    for part in ["limit", "count", "rev", "keysonly", "timestamp"] {
        assert!(docs.to_lowercase().contains(part), "{part}: {docs}");
    }
}
