//! Tests of transactions: what is queued, and what becomes of a whole one on the shard of its keys.

use ashlar_partition::{LogRoom, Pressure, Stamp};

use super::harness::Client;
use crate::command::spread::Plan;
use crate::command::transaction::{Draft, Watched};
use crate::command::{Run, table};
use crate::resp::{OwnedWords, Version};

/// Puts a whole together of watched keys and lines of words.
fn whole(watched: &[Watched], lines: &[&str]) -> OwnedWords {
    let mut draft = Draft::new(watched);
    for line in lines {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        draft.command(OwnedWords::of(&words).as_words(), (0, Version::Resp2));
    }
    draft.finish()
}

fn run(client: &mut Client, whole: &OwnedWords) -> String {
    let Run::Data(run) = table::of_transactions().run else {
        unreachable!("it runs where its keys are");
    };
    let mut out = Vec::new();
    client.run_data(run, whole.as_words(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn stamp(client: &Client, key: &[u8]) -> Stamp {
    client.partition.stamp(key, client.now_ms).unwrap().0
}

#[test]
fn a_connection_queues_after_multi() {
    let mut client = Client::new();
    client.expect(&[
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("MULTI", "+OK"),
        ("MULTI", "-ERR MULTI calls can not be nested"),
        ("WATCH a", "-ERR WATCH inside MULTI is not allowed"),
    ]);
    assert!(client.session.queue.is_some());
    client.expect(&[("DISCARD", "+OK"), ("UNWATCH", "+OK"), ("WATCH a b", "")]);
}

#[test]
fn a_whole_runs_in_one_go_and_keeps_errors_in_their_places() {
    let mut client = Client::new();
    let lines = [
        "SET a 1",
        "INCR a",
        "SET s x",
        "INCR s",
        "GET a",
        "MGET a s none",
    ];
    assert_eq!(
        run(&mut client, &whole(&[], &lines)),
        "*6\r\n+OK\r\n:2\r\n+OK\r\n-ERR value is not an integer or out of range\r\n$1\r\n2\r\n\
         *3\r\n$1\r\n2\r\n$1\r\nx\r\n$-1\r\n"
    );
}

#[test]
fn a_whole_does_nothing_when_a_watched_key_has_changed() {
    let mut client = Client::new();
    client.expect(&[("SET a 1", "+OK")]);
    let watched = |client: &Client, key: &[u8]| Watched {
        key: key.to_vec(),
        stamp: stamp(client, key),
    };
    let seen = [watched(&client, b"\0a"), watched(&client, b"\0none")];
    let first = whole(&seen, &["INCR a"]);
    assert_eq!(run(&mut client, &first), "*1\r\n:2\r\n");
    assert_eq!(
        run(&mut client, &first),
        "*-1\r\n",
        "it has changed the key itself"
    );
    let seen = [watched(&client, b"\0none")];
    client.expect(&[("SET none 1", "+OK"), ("DEL none", ":1")]);
    assert_eq!(run(&mut client, &whole(&seen, &["INCR a"])), "*-1\r\n");
    client.expect(&[("GET a", "$1|2")]);
}

#[test]
fn a_whole_is_refused_before_it_begins() {
    let mut client = Client::new();
    client.partition.admission.pressure = Pressure::Full;
    let writes = whole(&[], &["DEL a", "SET a 1"]);
    let refused = run(&mut client, &writes);
    assert!(
        refused.starts_with("-EXECABORT Transaction discarded because of: BUSY"),
        "{refused}"
    );
    let deletes = whole(&[], &["DEL a", "GET a"]);
    assert_eq!(run(&mut client, &deletes), "*2\r\n:0\r\n$-1\r\n");
    client.partition.admission.log = LogRoom::Deletes;
    assert!(run(&mut client, &deletes).starts_with("-EXECABORT"));
    assert_eq!(run(&mut client, &whole(&[], &["GET a"])), "*1\r\n$-1\r\n");
}

#[test]
fn bytes_that_are_no_whole_do_nothing() {
    let mut client = Client::new();
    for words in [
        &[&b"\0exec"[..], b"\x07"][..],
        &[b"\0exec", b"\x01\0\x02\xff\xff\xff\xff", b"GET"],
        &[b"\0exec", b"\x01\0\x02\x01\0\0\0", b"GET"],
        &[b"\0exec", b"\x02\0\0", b"k"],
        &[b"\0exec", b"\0"],
        &[b"\0exec", b""],
    ] {
        let reply = run(&mut client, &OwnedWords::of(words));
        assert!(
            reply.starts_with("-ERR the transaction could not be read"),
            "{reply}"
        );
    }
    assert!(table::find(b"\0exec").is_none(), "no client can say it");
}

#[test]
fn watching_asks_for_the_keys_of_the_database() {
    let mut client = Client::new();
    client.expect(&[("SELECT 2", "+OK"), ("WATCH a b", "")]);
    assert!(
        matches!(&client.plan, Some(Plan::Watch(keys)) if keys == &[b"\x02a".to_vec(), b"\x02b".to_vec()])
    );
}
