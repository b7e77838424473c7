//! Tests of the commands on keys.

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};
use crate::command::spread::Plan;

#[test]
fn keys_are_counted_and_deleted() {
    Client::new().expect(&[
        ("MSET a 1 b 2 c 3", "+OK"),
        ("EXISTS a a x b", ":3"),
        ("TOUCH a x", ":1"),
        ("TYPE a", "+string"),
        ("TYPE x", "+none"),
        ("DEL a a x", ":1"),
        ("UNLINK b c", ":2"),
        ("EXISTS a b c", ":0"),
    ]);
}

#[test]
fn expiries_are_set_and_told_in_every_unit() {
    let mut client = Client::new();
    client.expect(&[
        ("TTL k", ":-2"),
        ("PTTL k", ":-2"),
        ("EXPIRETIME k", ":-2"),
        ("EXPIRE k 10", ":0"),
        ("SET k v", "+OK"),
        ("TTL k", ":-1"),
        ("PEXPIRETIME k", ":-1"),
        ("EXPIRE k 10", ":1"),
        ("TTL k", ":10"),
        ("PTTL k", ":10000"),
        ("EXPIRETIME k", ":1010"),
        ("PEXPIRETIME k", ":1010000"),
        ("PEXPIRE k 1499", ":1"),
        ("TTL k", ":1"),
        ("PEXPIRE k 1500", ":1"),
        ("TTL k", ":2"),
        ("EXPIREAT k 1020", ":1"),
        ("TTL k", ":20"),
        ("PEXPIREAT k 1000030", ":1"),
        ("PTTL k", ":30"),
        ("PERSIST k", ":1"),
        ("PERSIST k", ":0"),
        ("PERSIST x", ":0"),
        ("EXPIRE k 1", ":1"),
    ]);
    client.now_ms += 999;
    client.expect(&[("PTTL k", ":1")]);
    client.now_ms += 1;
    client.expect(&[("PTTL k", ":-2"), ("GET k", "$-1")]);
}

#[test]
fn a_moment_that_has_passed_deletes() {
    for line in [
        "EXPIRE k 0",
        "EXPIRE k -1",
        "PEXPIRE k -5000000",
        "EXPIREAT k 1000",
        "PEXPIREAT k -9223372036854775808",
    ] {
        Client::new().expect(&[("SET k v", "+OK"), (line, ":1"), ("EXISTS k", ":0")]);
    }
}

#[test]
fn expiry_conditions_hold_one_by_one_and_together() {
    Client::new().expect(&[
        ("SET k v", "+OK"),
        ("EXPIRE k 10 XX", ":0"),
        ("EXPIRE k 10 GT", ":0"),
        ("EXPIRE k 10 XX LT", ":0"),
        ("EXPIRE k 10 nx", ":1"),
        ("EXPIRE k 20 NX", ":0"),
        ("EXPIRE k 5 GT", ":0"),
        ("EXPIRE k 20 GT XX", ":1"),
        ("EXPIRE k 30 LT", ":0"),
        ("EXPIRE k 5 XX LT", ":1"),
        ("TTL k", ":5"),
    ]);
}

#[test]
fn expiry_conditions_that_exclude_each_other_are_refused() {
    let nx = "-ERR NX and XX, GT or LT options at the same time are not compatible";
    Client::new().expect(&[
        ("EXPIRE k 1 NX XX", nx),
        ("PEXPIRE k 1 GT NX", nx),
        ("EXPIREAT k 1 LT NX", nx),
        (
            "EXPIRE k 1 GT LT",
            "-ERR GT and LT options at the same time are not compatible",
        ),
        ("EXPIRE k 1 foo", "-ERR Unsupported option foo"),
        ("EXPIRE k x", NOT_AN_INTEGER),
        (
            "EXPIRE k 9223372036854776",
            "-ERR invalid expire time in 'expire' command",
        ),
        (
            "EXPIRE k -9223372036854776",
            "-ERR invalid expire time in 'expire' command",
        ),
        (
            "PEXPIRE k 9223372036854775807",
            "-ERR invalid expire time in 'pexpire' command",
        ),
        (
            "EXPIREAT k 9223372036854776",
            "-ERR invalid expire time in 'expireat' command",
        ),
    ]);
}

#[test]
fn scan_plans_a_step_of_the_walk() {
    let mut client = Client::new();
    client.line("SELECT 3");
    assert_eq!(client.line("SCAN 0 MATCH a* count 50 TYPE string"), "");
    let Some(Plan::Scan(scan)) = &client.plan else {
        panic!("{:?}", client.plan)
    };
    assert_eq!(
        (scan.database, scan.after.as_deref(), scan.count),
        (3, None, 50)
    );
    assert_eq!(
        (scan.pattern.as_deref(), scan.only_type.as_deref()),
        (Some(&b"a*"[..]), Some(&b"string"[..]))
    );
    let cursor = client.shared.keep_cursor(b"\x03abc".to_vec());
    assert_eq!(client.line(&format!("SCAN {cursor}")), "");
    let Some(Plan::Scan(scan)) = &client.plan else {
        panic!("{:?}", client.plan)
    };
    assert_eq!(
        (scan.after.as_deref(), scan.count),
        (Some(&b"\x03abc"[..]), 10)
    );
    assert_eq!((&scan.pattern, &scan.only_type), (&None, &None));
    client.line("SELECT 0");
    client.expect(&[(&format!("SCAN {cursor}"), "-ERR invalid cursor")]);
}

#[test]
fn scan_refuses_what_it_does_not_know() {
    Client::new().expect(&[
        ("SCAN x", "-ERR invalid cursor"),
        ("SCAN 77", "-ERR invalid cursor"),
        ("SCAN 0 COUNT", SYNTAX),
        ("SCAN 0 COUNT 0", SYNTAX),
        ("SCAN 0 COUNT -1", SYNTAX),
        ("SCAN 0 COUNT x", NOT_AN_INTEGER),
        ("SCAN 0 FOO bar", SYNTAX),
    ]);
}

#[test]
fn walks_over_all_keys_stay_in_the_database() {
    let mut client = Client::new();
    client.line("SELECT 2");
    client.line("KEYS a*");
    assert!(matches!(&client.plan, Some(Plan::Keys { database: 2, pattern }) if pattern == b"a*"));
    client.line("RANDOMKEY");
    assert!(matches!(client.plan, Some(Plan::Random { database: 2 })));
    client.line("DBSIZE");
    assert!(matches!(client.plan, Some(Plan::Count { database: 2 })));
    client.line("FLUSHDB ASYNC");
    assert!(matches!(
        client.plan,
        Some(Plan::Clear { database: Some(2) })
    ));
    client.line("flushall sync");
    assert!(matches!(client.plan, Some(Plan::Clear { database: None })));
    client.expect(&[("FLUSHALL foo", SYNTAX), ("FLUSHDB ASYNC x", SYNTAX)]);
    assert!(client.plan.is_none());
}
