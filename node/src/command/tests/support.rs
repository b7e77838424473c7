//! Tests of the commands for who keeps the node running.

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};

#[test]
fn what_was_slow_is_shown() {
    let mut client = Client::new();
    let words = crate::resp::OwnedWords::of(&[b"GET", b"k"]);
    let slowlog = &client.shared.slowlog;
    slowlog.note(words.as_words(), 20_000, 9, ("1.2.3.4:5", b"me".to_vec()));
    client.expect(&[
        ("SLOWLOG LEN", ":1"),
        (
            "SLOWLOG GET",
            "*1|*6|:0|:9|:20000|*2|$3|GET|$1|k|$9|1.2.3.4:5|$2|me",
        ),
        (
            "SLOWLOG GET -2",
            "-ERR count should be greater than or equal to -1",
        ),
        ("SLOWLOG GET 0", "*0"),
        ("SLOWLOG RESET", "+OK"),
        ("SLOWLOG GET -1", "*0"),
        (
            "CONFIG GET slowlog-log-slower-than",
            "*2|$23|slowlog-log-slower-than|$5|10000",
        ),
    ]);
}

#[test]
fn latencies_are_counted_in_steps() {
    let mut client = Client::new();
    let row = crate::command::table::find(b"get")
        .expect("it is there")
        .row();
    let counters = &client.shared.stats.shards()[0];
    for nanos in [500, 1_500, 1_600, 70_000] {
        counters.note_call(row, Some((nanos, 1)), b"+OK\r\n");
    }
    client.expect(&[
        (
            "LATENCY HISTOGRAM get",
            "*2|$3|get|*4|$5|calls|:4|$14|histogram_usec|*4|:1|:3|:128|:4",
        ),
        ("LATENCY HISTOGRAM set", "*0"),
        ("LATENCY LATEST", "*0"),
        ("LATENCY RESET", ":0"),
        (
            "LATENCY GRAPH x",
            "-ERR unknown subcommand 'GRAPH'. Try LATENCY HELP.",
        ),
    ]);
}

#[test]
fn what_is_always_so_is_said() {
    let mut client = Client::new();
    client.expect(&[
        ("LASTSAVE", ":1000"),
        ("WAITAOF 1 0 0", "*2|:1|:0"),
        (
            "WAITAOF 2 0 0",
            "-ERR value is out of range, value must between 0 and 1",
        ),
        ("WAITAOF x 0 0", NOT_AN_INTEGER),
        ("WAITAOF 1 0 -1", "-ERR timeout is negative"),
        ("FUNCTION FLUSH", "+OK"),
        (
            "FUNCTION FLUSH x",
            "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
        ),
        ("FUNCTION LIST", "*0"),
        ("MEMORY PURGE", "+OK"),
        ("DEBUG SLEEP 0.25", "+OK"),
        ("SHUTDOWN x", SYNTAX),
        ("SHUTDOWN SAVE NOSAVE", SYNTAX),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress."),
    ]);
    assert_eq!(client.session.delay_ms, 250);
}

#[test]
fn a_monitor_is_one_until_it_is_reset() {
    let mut client = Client::new();
    client.expect(&[("MONITOR", "+OK"), ("MONITOR", "+OK")]);
    assert_eq!(client.shared.monitors.all(), [(0, client.session.id)]);
    client.expect(&[("RESET", "+RESET")]);
    assert!(!client.shared.monitors.any());
}

#[test]
fn what_is_left_out_says_so() {
    Client::new().expect(&[
        (
            "EVAL x 0",
            "-ERR unknown command 'EVAL': scripts are not supported",
        ),
        (
            "geoadd k 1 1 a",
            "-ERR unknown command 'geoadd': geographic indexes are not supported",
        ),
        (
            "XADD s * a b",
            "-ERR unknown command 'XADD': streams are not supported",
        ),
        (
            "EVALX",
            "-ERR unknown command 'EVALX', with args beginning with: ",
        ),
    ]);
}
