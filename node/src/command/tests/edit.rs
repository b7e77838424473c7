//! Tests of the commands that make new values of old ones, and of those that give values other keys.

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};

#[test]
fn ranges_are_set_and_bounded() {
    let mut client = Client::new();
    client.partition.admission.value_bytes_max = 10;
    client.expect(&[
        ("SETRANGE k 3 abc", ":6"),
        ("GET k", "$6|\0\0\0abc"),
        ("SETRANGE k 0 xy", ":6"),
        ("SETRANGE k 99 ''", ":6"),
        ("SETRANGE missing 0 ''", ":0"),
        ("EXISTS missing", ":0"),
        (
            "SETRANGE k 8 abc",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
        ("SETRANGE k -1 a", "-ERR offset is out of range"),
        ("SETRANGE k x a", NOT_AN_INTEGER),
        ("GET k", "$6|xy\0abc"),
    ]);
}

#[test]
fn numbers_with_a_point_are_added_and_keep_their_expiry() {
    let bad = "-ERR value is not a valid float";
    let mut client = Client::new();
    client.expect(&[
        ("SET k 10.50 EX 100", "+OK"),
        ("INCRBYFLOAT k 0.1", "$4|10.6"),
        ("INCRBYFLOAT k -5", "$3|5.6"),
        ("TTL k", ":100"),
        ("INCRBYFLOAT new 3.0e3", "$4|3000"),
        (
            "INCRBYFLOAT new inf",
            "-ERR increment would produce NaN or Infinity",
        ),
        ("INCRBYFLOAT new x", bad),
        ("SET s x", "+OK"),
        ("INCRBYFLOAT s 1", bad),
    ]);
}

#[test]
fn values_are_compared_before_they_are_set_or_deleted() {
    Client::new().expect(&[
        ("SET k new IFEQ old", "$-1"),
        ("EXISTS k", ":0"),
        ("SET k old", "+OK"),
        ("SET k new IFEQ other", "$-1"),
        ("SET k new IFEQ old GET", "$3|old"),
        ("GET k", "$3|new"),
        ("SET k x IFEQ y GET", "$3|new"),
        ("SET k x IFEQ new EX 10", "+OK"),
        ("TTL k", ":10"),
        ("SET k x IFEQ", SYNTAX),
        ("SET k x NX IFEQ y", SYNTAX),
        ("SET k x IFEQ y XX", SYNTAX),
        ("DELIFEQ k y", ":0"),
        ("DELIFEQ k x", ":1"),
        ("DELIFEQ k x", ":0"),
    ]);
}

#[test]
fn what_two_values_have_in_common_is_found() {
    Client::new().expect(&[
        ("MSET a ohmytext b mynewtext", "+OK"),
        ("LCS a b", "$6|mytext"),
        ("LCS a b LEN", ":6"),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "*4|$7|matches|*1|*3|*2|:4|:7|*2|:5|:8|:4|$3|len|:6",
        ),
        ("LCS a missing", "$0|"),
        (
            "LCS a b IDX LEN",
            "-ERR If you want both the length and indexes, please just use IDX.",
        ),
        ("LCS a b MINMATCHLEN x", NOT_AN_INTEGER),
        ("LCS a b x", SYNTAX),
    ]);
}

#[test]
fn values_are_given_other_keys_with_their_expiry() {
    Client::new().expect(&[
        ("RENAME a b", "-ERR no such key"),
        ("SET a 1 EX 50", "+OK"),
        ("RENAME a a", "+OK"),
        ("RENAMENX a a", ":0"),
        ("RENAME a b", "+OK"),
        ("EXISTS a", ":0"),
        ("TTL b", ":50"),
        ("SET c 3", "+OK"),
        ("RENAMENX b c", ":0"),
        ("COPY b c", ":0"),
        ("COPY b c REPLACE", ":1"),
        ("TTL c", ":50"),
        (
            "COPY b b",
            "-ERR source and destination objects are the same",
        ),
        ("COPY b b DB 1", ":1"),
        ("COPY b d DB 16", "-ERR DB index is out of range"),
        ("COPY b d x", SYNTAX),
        ("MOVE c 1", ":1"),
        ("MOVE b 1", ":0"),
        (
            "MOVE b 0",
            "-ERR source and destination objects are the same",
        ),
        ("EXISTS b c", ":1"),
        ("SELECT 1", "+OK"),
        ("EXISTS b c", ":2"),
    ]);
}

#[test]
fn how_values_are_kept_is_told() {
    Client::new().expect(&[
        ("MSET n 12 s abc", "+OK"),
        ("OBJECT ENCODING n", "$3|int"),
        ("OBJECT encoding s", "$6|embstr"),
        ("OBJECT REFCOUNT s", ":1"),
        ("OBJECT IDLETIME missing", "$-1"),
        (
            "OBJECT ENCODING",
            "-ERR wrong number of arguments for 'object|encoding' command",
        ),
        (
            "OBJECT x s",
            "-ERR unknown subcommand 'x'. Try OBJECT HELP.",
        ),
        ("MEMORY USAGE s", ":52"),
        ("MEMORY USAGE s SAMPLES 0", ":52"),
        ("MEMORY USAGE missing", "$-1"),
        ("MEMORY USAGE s x", SYNTAX),
        (
            "MEMORY USAGE",
            "-ERR wrong number of arguments for 'memory|usage' command",
        ),
        (
            "MEMORY|USAGE s",
            "-ERR unknown command 'MEMORY|USAGE', with args beginning with: 's' ",
        ),
    ]);
}
