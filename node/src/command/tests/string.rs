//! Tests of the commands on values.

use ashlar_io::wal::GrowthFailure;
use ashlar_partition::{LogRoom, Pressure};

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};
use crate::command::refuse_growth;
use crate::resp::Version;
use crate::resp::encode::Encoder;

#[test]
fn a_value_is_set_and_read_back() {
    Client::new().expect(&[
        ("GET k", "$-1"),
        ("SET k v", "+OK"),
        ("GET k", "$1|v"),
        ("SET k ''", "+OK"),
        ("GET k", "$0|"),
        ("GETSET k w", "$0|"),
        ("GETSET n w", "$-1"),
        ("GETDEL k", "$1|w"),
        ("GETDEL k", "$-1"),
        ("MGET n k n", "*3|$1|w|$-1|$1|w"),
        ("SETNX n x", ":0"),
        ("SETNX k x", ":1"),
        ("STRLEN k", ":1"),
        ("STRLEN none", ":0"),
        ("APPEND k yz", ":3"),
        ("APPEND fresh ''", ":0"),
        ("EXISTS fresh", ":1"),
    ]);
}

#[test]
fn missing_values_are_nulls_of_the_protocol() {
    let mut client = Client::new();
    client.session.version = Version::Resp3;
    client.expect(&[
        ("GET k", "_"),
        ("MGET k k", "*2|_|_"),
        ("SET k v XX", "_"),
        ("SET k v GET", "_"),
        ("SET k w NX", "_"),
        ("GETDEL k", "$1|v"),
        ("GETDEL k", "_"),
        ("GETEX k", "_"),
        ("GETSET k v", "_"),
    ]);
}

#[test]
fn set_keeps_its_conditions() {
    Client::new().expect(&[
        ("SET k v XX", "$-1"),
        ("SET k v nX", "+OK"),
        ("SET k w NX", "$-1"),
        ("SET k w xx", "+OK"),
        ("SET k x NX GET", "$1|w"),
        ("SET k x XX GET", "$1|w"),
        ("SET k y GET", "$1|x"),
        ("SET n y GET NX", "$-1"),
        ("GET n", "$1|y"),
        ("SET none y GET XX", "$-1"),
        ("EXISTS none", ":0"),
        ("SET k v NX NX", "$-1"),
        ("SET k v NX XX", SYNTAX),
        ("SET k v XX NX", SYNTAX),
        ("SET k v foo", SYNTAX),
        ("SET k v PERSIST", SYNTAX),
    ]);
}

#[test]
fn set_sets_expiries_in_every_unit() {
    Client::new().expect(&[
        ("SET k v EX 10", "+OK"),
        ("PTTL k", ":10000"),
        ("SET k v KEEPTTL", "+OK"),
        ("PTTL k", ":10000"),
        ("SET k v px 10", "+OK"),
        ("PTTL k", ":10"),
        ("SET k v EXAT 1010", "+OK"),
        ("PTTL k", ":10000"),
        ("SET k v GET PXAT 1000020 XX", "$1|v"),
        ("PTTL k", ":20"),
        ("SET k v", "+OK"),
        ("PTTL k", ":-1"),
        ("SET k v EX 1 EX 2", "+OK"),
        ("PTTL k", ":2000"),
        ("SET k v PXAT 1", "+OK"),
        ("EXISTS k", ":0"),
    ]);
}

#[test]
fn set_refuses_expiries_in_the_words_of_redis() {
    let invalid = "-ERR invalid expire time in 'set' command";
    Client::new().expect(&[
        ("SET k v EX", SYNTAX),
        ("SET k v EX 1 PX 1", SYNTAX),
        ("SET k v EX 1 KEEPTTL", SYNTAX),
        ("SET k v KEEPTTL EX 1", SYNTAX),
        ("SET k v EXAT 1 EX 1", SYNTAX),
        ("SET k v EX x", NOT_AN_INTEGER),
        ("SET k v EX 0", invalid),
        ("SET k v EX -1", invalid),
        ("SET k v PX 9223372036854775807", invalid),
        ("SET k v EX 9223372036854776", invalid),
        ("SET k v EXAT 9223372036854775", "+OK"),
        ("SET k v EXAT 9223372036854776", invalid),
        ("SET k v PXAT 9223372036854775807", "+OK"),
        ("SET k v PXAT 9223372036854775808", NOT_AN_INTEGER),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
        ("SETEX k x v", NOT_AN_INTEGER),
        (
            "PSETEX k -5 v",
            "-ERR invalid expire time in 'psetex' command",
        ),
        ("SETEX k 5 v", "+OK"),
        ("PTTL k", ":5000"),
        ("PSETEX k 5 v", "+OK"),
        ("PTTL k", ":5"),
    ]);
}

#[test]
fn getex_touches_the_expiry_it_is_told() {
    Client::new().expect(&[
        ("GETEX k EX 10", "$-1"),
        ("GETEX k EX 0", "$-1"),
        ("GETEX k EX", SYNTAX),
        ("SET k v", "+OK"),
        ("GETEX k EX 10", "$1|v"),
        ("PTTL k", ":10000"),
        ("GETEX k", "$1|v"),
        ("PTTL k", ":10000"),
        ("GETEX k PERSIST", "$1|v"),
        ("PTTL k", ":-1"),
        ("GETEX k PXAT 1000005", "$1|v"),
        ("PTTL k", ":5"),
        ("GETEX k EX 1 PERSIST", SYNTAX),
        ("GETEX k PERSIST EX 1", SYNTAX),
        ("GETEX k KEEPTTL", SYNTAX),
        (
            "GETEX k EX 0",
            "-ERR invalid expire time in 'getex' command",
        ),
        ("GETEX k EXAT 1", "$1|v"),
        ("EXISTS k", ":0"),
    ]);
}

#[test]
fn integers_count_exactly() {
    Client::new().expect(&[
        ("INCR n", ":1"),
        ("INCRBY n 41", ":42"),
        ("DECR n", ":41"),
        ("DECRBY n 50", ":-9"),
        ("INCRBY n -1", ":-10"),
        ("GET n", "$3|-10"),
        ("INCRBY n x", NOT_AN_INTEGER),
        ("INCRBY n +1", NOT_AN_INTEGER),
        ("DECRBY n 1.5", NOT_AN_INTEGER),
        (
            "DECRBY n -9223372036854775808",
            "-ERR decrement would overflow",
        ),
        ("SET n 9223372036854775807 EX 5", "+OK"),
        ("INCR n", "-ERR increment or decrement would overflow"),
        ("INCRBY n -7", ":9223372036854775800"),
        ("PTTL n", ":5000"),
        ("SET n abc", "+OK"),
        ("INCR n", NOT_AN_INTEGER),
        ("DECR n", NOT_AN_INTEGER),
    ]);
}

#[test]
fn several_keys_are_set_together_or_not_at_all() {
    let arity = "-ERR wrong number of arguments for 'mset' command";
    let mut client = Client::new();
    client.expect(&[
        ("MSET a 1 b 2 a 3", "+OK"),
        ("MGET a b", "*2|$1|3|$1|2"),
        ("MSET a 1 b", arity),
        (
            "MSETNX a 1 b",
            "-ERR wrong number of arguments for 'msetnx' command",
        ),
        ("MSETNX c 1 a 2", ":0"),
        ("MGET c a", "*2|$-1|$1|3"),
        ("MSETNX c 1 d 2", ":1"),
    ]);
    client.partition.admission.value_bytes_max = 3;
    let too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    client.expect(&[("MSET e 1 f 1234", too_long), ("EXISTS e f", ":0")]);
}

#[test]
fn full_memory_refuses_what_makes_it_fuller() {
    let mut client = Client::new();
    client.expect(&[("MSET a 1 b 2 c 3", "+OK")]);
    client.partition.admission.pressure = Pressure::Full;
    let busy =
        "-BUSY writes come faster than the disk takes them in; nothing was written, try again";
    client.expect(&[
        ("MGET a b c", "*3|$1|1|$1|2|$1|3"),
        ("MSET d 1 e 2", busy),
        ("MSETNX d 1 e 2", busy),
        ("SET d 1", busy),
        ("APPEND a x", busy),
        ("EXISTS d e", ":0"),
        ("DEL a", ":1"),
        ("EXPIRE b 10", ":1"),
    ]);
}

#[test]
fn a_full_log_refuses_writes_and_then_deletions() {
    let full = "-DISKFULL the disk is full: free space in the data directory; reads and deletions go on, and writes again once there is room";
    let mut client = Client::new();
    client.expect(&[("MSET a 1 b 2 c 3", "+OK")]);
    client.partition.admission.log = LogRoom::Deletes;
    client.expect(&[
        ("SET a 2", full),
        ("MSET a 2 b 3", full),
        ("EXPIRE a 5", full),
        ("GETEX a EX 5", full),
        ("GETEX a", "$1|1"),
        ("DEL a", ":1"),
        ("GETDEL b", "$1|2"),
    ]);
    client.partition.admission.log = LogRoom::Full;
    client.expect(&[
        ("DEL x c", full),
        ("GETDEL c", full),
        ("GET c", "$1|3"),
        ("EXISTS c", ":1"),
    ]);
}

#[test]
fn ranges_of_a_value_are_cut_as_redis_cuts_them() {
    let mut client = Client::new();
    client.expect(&[
        ("SET k Hello", "+OK"),
        ("GETRANGE k x 1", NOT_AN_INTEGER),
        ("GETRANGE none 0 -1", "$0|"),
    ]);
    let value = b"Hello";
    let extremes = [i64::MIN, -7, -6, -5, -4, -1, 0, 1, 4, 5, 6, i64::MAX];
    for (start, end) in extremes
        .into_iter()
        .flat_map(|start| extremes.map(|end| (start, end)))
    {
        let expected = model(value, start, end);
        let expected = format!(
            "${}\r\n{}\r\n",
            expected.len(),
            String::from_utf8_lossy(&expected)
        );
        assert_eq!(
            client.line(&format!("GETRANGE k {start} {end}")),
            expected,
            "{start} {end}"
        );
        assert_eq!(
            client.line(&format!("SUBSTR k {start} {end}")),
            expected,
            "{start} {end}"
        );
    }
}

/// Picks the bytes one by one: those whose place, from the front, lies between both ends. As in
/// Redis an end before the front is the front, and two ends before the end of the value that cross
/// are nothing.
fn model(value: &[u8], start: i64, end: i64) -> Vec<u8> {
    let length = i128::try_from(value.len()).unwrap();
    if start < 0 && end < 0 && start > end {
        return Vec::new();
    }
    let absolute = |place: i64| {
        let place = i128::from(place);
        if place < 0 {
            (place + length).max(0)
        } else {
            place
        }
    };
    let within = |place: &i128| (absolute(start)..=absolute(end)).contains(place);
    (0..length)
        .filter(within)
        .map(|place| value[usize::try_from(place).unwrap()])
        .collect()
}

#[test]
fn reads_are_counted_by_what_they_find() {
    let mut client = Client::new();
    client.line("MSET a 1 b 2");
    for (line, reads) in [
        ("GET a", (1, 0)),
        ("GET x", (0, 1)),
        ("MGET a x b", (2, 1)),
        ("EXISTS a a x", (2, 1)),
        ("STRLEN x", (0, 1)),
        ("SET a 2", (0, 0)),
        ("SET a 3 GET", (1, 0)),
        ("INCR a", (0, 0)),
        ("TTL x", (0, 1)),
        ("GETEX a EX 5", (1, 0)),
        ("DEL a x", (0, 0)),
    ] {
        client.line(line);
        assert_eq!(client.reads, reads, "{line}");
    }
}

#[test]
fn databases_do_not_see_each_other() {
    Client::new().expect(&[
        ("SET k zero", "+OK"),
        ("SELECT 5", "+OK"),
        ("GET k", "$-1"),
        ("SET k five", "+OK"),
        ("SELECT 0", "+OK"),
        ("GET k", "$4|zero"),
    ]);
}

#[test]
fn the_error_of_a_log_that_cannot_grow_names_what_keeps_it() {
    let text = |error: i32| {
        let failure = GrowthFailure {
            path: "/data/wal/000/00000007.wal".into(),
            error: std::io::Error::from_raw_os_error(error),
        };
        let mut out = Vec::new();
        refuse_growth(&mut Encoder::new(&mut out, Version::Resp2), Some(&failure));
        String::from_utf8(out).unwrap()
    };
    let (eio, enospc, edquot) = (5, 28, 122);
    assert_eq!(
        text(eio),
        "-IOERR the log cannot grow: Input/output error (os error 5), /data/wal/000/00000007.wal; \
         reads go on, and writes again once a segment can be made\r\n"
    );
    for full in [enospc, edquot] {
        assert!(text(full).starts_with("-DISKFULL "), "{}", text(full));
    }
}
