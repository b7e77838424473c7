//! Sets and what is made of several, on a partition in memory.

use super::harness::Client;

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const SYNTAX: &str = "-ERR syntax error";

#[test]
fn members_are_added_and_removed_and_the_last_takes_the_set_along() {
    Client::new().expect(&[
        ("SADD s b a b", ":2"),
        ("SADD s a c", ":1"),
        ("SCARD s", ":3"),
        ("SMEMBERS s", "*3|$1|a|$1|b|$1|c"),
        ("SISMEMBER s a", ":1"),
        ("SISMEMBER s x", ":0"),
        ("SMISMEMBER s a x c", "*3|:1|:0|:1"),
        ("SMISMEMBER none a b", "*2|:0|:0"),
        ("TYPE s", "+set"),
        ("SREM s a x a", ":1"),
        ("SREM s b c", ":2"),
        ("EXISTS s", ":0"),
        ("SMEMBERS s", "*0"),
        ("SREM s a", ":0"),
        ("SADD s ''", ":1"),
        ("SMEMBERS s", "*1|$0|"),
    ]);
}

#[test]
fn a_member_moves_and_is_in_one_of_two_sets() {
    Client::new().expect(&[
        ("SADD a x y", ":2"),
        ("SADD b y z", ":2"),
        ("SMOVE a b x", ":1"),
        ("SMOVE a b x", ":0"),
        ("SMOVE a a y", ":1"),
        ("SMOVE a a q", ":0"),
        ("SMOVE a b y", ":1"),
        ("EXISTS a", ":0"),
        ("SMEMBERS b", "*3|$1|x|$1|y|$1|z"),
        ("SMOVE b new z", ":1"),
        ("SMEMBERS new", "*1|$1|z"),
        ("SET s v", "+OK"),
        ("SMOVE none s x", ":0"),
        ("SMOVE b s x", WRONG),
        ("SMOVE s b x", WRONG),
        ("SCARD b", ":2"),
    ]);
}

#[test]
fn sets_are_intersected_united_and_subtracted() {
    Client::new().expect(&[
        ("SADD a 1 2 3 4", ":4"),
        ("SADD b 2 3 5", ":3"),
        ("SADD c 3 2 9", ":3"),
        ("SINTER a b c", "*2|$1|2|$1|3"),
        ("SINTER a none", "*0"),
        ("SINTER a a", "*4|$1|1|$1|2|$1|3|$1|4"),
        ("SUNION a b none", "*5|$1|1|$1|2|$1|3|$1|4|$1|5"),
        ("SDIFF a b", "*2|$1|1|$1|4"),
        ("SDIFF none a", "*0"),
        ("SDIFF a a", "*0"),
        ("SINTERCARD 3 a b c", ":2"),
        ("SINTERCARD 3 a b c LIMIT 1", ":1"),
        ("SINTERCARD 1 a LIMIT 3", ":3"),
        ("SINTERCARD 2 a b LIMIT 0", ":2"),
        ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0"),
        (
            "SINTERCARD 3 a b",
            "-ERR Number of keys can't be greater than number of args",
        ),
        ("SINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative"),
        ("SINTERCARD 1 a LIMIT", SYNTAX),
        ("SINTERCARD 1 a b", SYNTAX),
        ("SET s v", "+OK"),
        ("SINTER none s", WRONG),
        ("SUNION a s", WRONG),
        ("SDIFF none s", WRONG),
        ("SINTERSTORE a a s", WRONG),
        ("SCARD a", ":4"),
    ]);
}

#[test]
fn what_is_stored_takes_the_place_of_whatever_was_there() {
    Client::new().expect(&[
        ("SADD a 1 2 3", ":3"),
        ("SADD b 2 3 4", ":3"),
        ("SET s v", "+OK"),
        ("SUNIONSTORE s a b", ":4"),
        ("SMEMBERS s", "*4|$1|1|$1|2|$1|3|$1|4"),
        ("EXPIRE a 100", ":1"),
        ("SINTERSTORE a a b", ":2"),
        ("TTL a", ":-1"),
        ("SMEMBERS a", "*2|$1|2|$1|3"),
        ("HSET h f v", ":1"),
        ("SDIFFSTORE h b a", ":1"),
        ("SMEMBERS h", "*1|$1|4"),
        ("SDIFFSTORE h a b", ":0"),
        ("EXISTS h", ":0"),
        ("SET s v", "+OK"),
        ("SINTERSTORE s a none", ":0"),
        ("EXISTS s", ":0"),
    ]);
}

#[test]
fn members_are_drawn_and_taken_at_random() {
    let mut client = Client::new();
    client.expect(&[
        ("SPOP s", "$-1"),
        ("SPOP s 3", "*0"),
        ("SRANDMEMBER s", "$-1"),
        ("SRANDMEMBER s 2", "*0"),
        ("SADD s a b c", ":3"),
        ("SRANDMEMBER s 9", "*3|$1|a|$1|b|$1|c"),
        ("SRANDMEMBER s 0", "*0"),
        ("SRANDMEMBER s x", "-ERR value is not an integer or out of range"),
        (
            "SRANDMEMBER s -9223372036854775808",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("SRANDMEMBER s 1 2", SYNTAX),
        ("SPOP s 0", "*0"),
        ("SPOP s -1", "-ERR value is out of range, must be positive"),
        ("SPOP s x", "-ERR value is out of range, must be positive"),
        ("SPOP s 1 2", SYNTAX),
    ]);
    assert!(client.line("SRANDMEMBER s -7").starts_with("*7\r\n"));
    assert!(client.line("SPOP s").starts_with("$1\r\n"));
    client.expect(&[("SCARD s", ":2")]);
    assert!(client.line("SPOP s 1").starts_with("*1\r\n$1\r\n"));
    client.expect(&[("SCARD s", ":1")]);
    assert!(client.line("SPOP s 5").starts_with("*1\r\n"));
    client.expect(&[("EXISTS s", ":0")]);
    let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    client.line(&format!("SADD s {}", many.join(" ")));
    assert!(client.line("SPOP s 150").starts_with("*150\r\n"));
    client.expect(&[("SCARD s", ":50")]);
}

#[test]
fn a_large_set_goes_as_a_whole_and_can_be_made_anew() {
    let mut client = Client::new();
    let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    client.line(&format!("SADD s {}", many.join(" ")));
    assert!(client.line("SPOP s 100").starts_with("*100\r\n"));
    client.expect(&[
        ("EXISTS s", ":0"),
        ("SADD s 7", ":1"),
        ("SMEMBERS s", "*1|$1|7"),
    ]);
}

#[test]
fn a_scan_gives_members_and_takes_the_options_of_scan() {
    Client::new().expect(&[
        ("SADD s a1 a2 b1", ":3"),
        ("SSCAN s 0", "*2|$1|0|*3|$2|a1|$2|a2|$2|b1"),
        ("SSCAN s 0 MATCH a* COUNT 50", "*2|$1|0|*2|$2|a1|$2|a2"),
        ("SSCAN none 0 COUNT 0", "*2|$1|0|*0"),
        ("SSCAN s 0 COUNT 0", SYNTAX),
        ("SSCAN s 0 TYPE set", SYNTAX),
        ("SSCAN s -x", "-ERR invalid cursor"),
    ]);
}

#[test]
fn a_member_that_is_too_long_is_refused_and_nothing_is_added() {
    let mut client = Client::new();
    let long = "x".repeat(65_501);
    let refused = "-ERR a field or member is longer than 65500 bytes\r\n";
    assert_eq!(client.line(&format!("SADD s a {long}")), refused);
    client.expect(&[("EXISTS s", ":0"), ("SADD s a", ":1")]);
    assert_eq!(client.line(&format!("SISMEMBER s {long}")), ":0\r\n");
    assert_eq!(client.line(&format!("ZADD z 1 {long}")), refused);
    assert_eq!(client.line(&format!("ZADD z 1 {}", &long[1..])), ":1\r\n");
    client.expect(&[("ZCOUNT z 1 1", ":1")]);
}
