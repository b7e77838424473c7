//! Sessions as clients see them: a write that is sent again is done once, across connections, restarts,
//! tables and partitions.

use std::path::Path;

use crate::Served;
use crate::support::{self, Client, Node, Reply};

const ID: &str = "0123456789abcdef";

fn ask(client: &mut Client, line: &str) -> Reply {
    let words: Vec<&str> = line.split(' ').collect();
    client.call(&words)
}

#[track_caller]
fn expect(client: &mut Client, table: &[(&str, Reply)]) {
    for (line, expected) in table {
        assert_eq!(ask(client, line), *expected, "{line}");
    }
}

#[track_caller]
fn refused(client: &mut Client, line: &str, code: &str) {
    let reply = ask(client, line);
    let word = reply.error().split(' ').next().unwrap();
    assert_eq!(word, code, "{line}: {reply:?}");
}

#[test]
fn a_write_that_is_sent_again_is_answered_again_and_not_done_again() {
    let served = Served::start(&[]);
    let mut one = served.node.connect();
    expect(
        &mut one,
        &[
            ("SESSION", Reply::Bulk(None)),
            ("INCR n", Reply::Integer(1)),
            (&format!("SESSION {ID}"), Reply::ok()),
            ("INCR n", Reply::Integer(2)),
            ("GET n", Reply::bulk("2")),
            ("SET n 10 XX", Reply::ok()),
            ("SET n 11 NX", Reply::Bulk(None)),
            ("INCR n", Reply::Integer(11)),
        ],
    );
    let mut other = served.node.connect();
    expect(
        &mut other,
        &[
            (&format!("SESSION {ID} SEQ 1"), Reply::ok()),
            ("INCR n", Reply::Integer(2)),
            ("SET n 10 XX", Reply::ok()),
            ("SET n 11 NX", Reply::Bulk(None)),
            ("INCR n", Reply::Integer(11)),
            ("GET n", Reply::bulk("11")),
            ("INCR n", Reply::Integer(12)),
            ("SESSION SEQ 1", Reply::ok()),
        ],
    );
    refused(&mut other, "DECR n", "SESSIONOTHER");
    let told = ask(&mut other, "SESSION").elements();
    assert_eq!(told, [Reply::bulk(ID), Reply::Integer(2)]);
    expect(
        &mut other,
        &[("SESSION OFF", Reply::ok()), ("INCR n", Reply::Integer(13))],
    );
    refused(&mut other, "SESSION SEQ 1", "ERR");
}

#[test]
fn every_write_counts_whatever_it_is_answered_and_bad_words_are_refused() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    for line in [
        "SESSION short",
        "SESSION 0123456789abcdef SEQ 0",
        "SESSION NEW SEQ",
        "SESSION a b c d e",
    ] {
        refused(&mut client, line, "ERR");
    }
    expect(&mut client, &[(&format!("SESSION {ID}"), Reply::ok())]);
    refused(&mut client, "INCR", "ERR");
    refused(&mut client, "SET a b BAD", "ERR");
    expect(
        &mut client,
        &[
            ("SET text x", Reply::ok()),
            ("PING", Reply::Simple("PONG".to_owned())),
        ],
    );
    refused(&mut client, "INCR text", "ERR");
    expect(
        &mut client,
        &[
            ("DEL text", Reply::Integer(1)),
            ("SESSION SEQ 4", Reply::ok()),
        ],
    );
    refused(&mut client, "INCR text", "ERR");
    assert_eq!(ask(&mut client, "SESSION").elements()[1], Reply::Integer(5));
    let made = |client: &mut Client| match ask(client, "SESSION NEW") {
        Reply::Bulk(Some(id)) => id,
        other => panic!("{other:?}"),
    };
    assert_ne!(made(&mut client), made(&mut client));
    assert_eq!(ask(&mut client, "RESET"), Reply::Simple("RESET".to_owned()));
    assert_eq!(ask(&mut client, "SESSION"), Reply::Bulk(None));
}

#[test]
fn long_replies_are_not_remembered_and_old_writes_are_refused() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    let long = "x".repeat(500);
    expect(
        &mut client,
        &[
            (&format!("SESSION {ID}"), Reply::ok()),
            (&format!("SET long {long}"), Reply::ok()),
            ("GETDEL long", Reply::bulk(&long)),
            ("SESSION SEQ 2", Reply::ok()),
        ],
    );
    refused(&mut client, "GETDEL long", "SESSIONDONE");
    for n in 1..=64 {
        assert_eq!(ask(&mut client, "INCR n"), Reply::Integer(n));
    }
    expect(
        &mut client,
        &[
            ("SESSION SEQ 3", Reply::ok()),
            ("INCR n", Reply::Integer(1)),
            ("SESSION SEQ 2", Reply::ok()),
        ],
    );
    refused(&mut client, "GETDEL long", "SESSIONOLD");
    assert_eq!(ask(&mut client, "GET n"), Reply::bulk("64"));
}

#[test]
fn a_transaction_is_one_write() {
    let served = Served::start(&[]);
    let queued = || Reply::Simple("QUEUED".to_owned());
    let mut client = served.node.connect();
    assert_eq!(ask(&mut client, &format!("SESSION {ID}")), Reply::ok());
    for _ in 0..2 {
        let sums = Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)]);
        expect(
            &mut client,
            &[
                ("WATCH n", Reply::ok()),
                ("MULTI", Reply::ok()),
                ("INCR n", queued()),
                ("INCR n", queued()),
                ("EXEC", sums),
                ("INCR m", Reply::Integer(1)),
                ("GET n", Reply::bulk("2")),
                ("SESSION SEQ 1", Reply::ok()),
            ],
        );
    }
    expect(&mut client, &[("MULTI", Reply::ok())]);
    refused(&mut client, "SESSION OFF", "ERR");
}

/// Starts a node of two shards, with the keys from "m" on the second.
fn start_split(data: &Path) -> Node {
    let args = [
        "format",
        "--data",
        data.to_str().unwrap(),
        "--shards",
        "2",
        "--split-at",
        "m",
    ];
    assert_eq!(support::run(&args).code, Some(0));
    Node::start(data, &["--memory", "64MiB"])
}

#[test]
fn sessions_outlive_restarts_tables_and_deletions_of_everything_and_are_seen_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = start_split(&data);
    let mut client = node.connect();
    expect(
        &mut client,
        &[
            (&format!("SESSION {ID}"), Reply::ok()),
            ("INCR a", Reply::Integer(1)),
            ("INCR z", Reply::Integer(1)),
            ("FLUSHALL", Reply::ok()),
            ("INCR z", Reply::Integer(1)),
            ("KV.DELRANGE - +", Reply::ok()),
            ("INCR a", Reply::Integer(1)),
        ],
    );
    // Enough for tables on both shards: memtables have a quarter of the memory.
    let mut filler = node.connect();
    let value = "v".repeat(4000);
    for n in 0..6000 {
        let key = format!("{}{n}", ["a", "z"][n % 2]);
        assert_eq!(filler.call(&["SET", &key, &value]), Reply::ok());
    }
    assert_eq!(ask(&mut filler, "FLUSHDB"), Reply::ok());
    assert_eq!(ask(&mut filler, "INCR a"), Reply::Integer(1));
    drop(node.kill());
    let node = Node::start(&data, &["--memory", "64MiB"]);
    let mut client = node.connect();
    expect(
        &mut client,
        &[
            (&format!("SESSION {ID} SEQ 1"), Reply::ok()),
            ("INCR a", Reply::Integer(1)),
            ("INCR z", Reply::Integer(1)),
            ("FLUSHALL", Reply::ok()),
            ("INCR z", Reply::Integer(1)),
            ("KV.DELRANGE - +", Reply::ok()),
            ("INCR a", Reply::Integer(1)),
            ("GET a", Reply::bulk("1")),
            ("GET z", Reply::Bulk(None)),
            ("DBSIZE", Reply::Integer(1)),
            ("KEYS *", Reply::Array(vec![Reply::bulk("a")])),
            ("RANDOMKEY", Reply::bulk("a")),
        ],
    );
    let info = match ask(&mut client, "INFO stats") {
        Reply::Bulk(Some(info)) => String::from_utf8(info).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(info.contains("session_repeats_answered:8"), "{info}");
    drop(node.kill());
    let verified = support::run(&["verify", "--data", data.to_str().unwrap()]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
