//! Hashes, on a partition in memory.

use super::harness::Client;

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn fields_are_set_read_and_deleted_and_the_last_takes_the_hash_along() {
    Client::new().expect(&[
        ("HSET h a 1 b 2", ":2"),
        ("HSET h a 3 c 4", ":1"),
        ("HGET h a", "$1|3"),
        ("HGET h x", "$-1"),
        ("HMGET h a x c", "*3|$1|3|$-1|$1|4"),
        ("HGETALL h", "*6|$1|a|$1|3|$1|b|$1|2|$1|c|$1|4"),
        ("HKEYS h", "*3|$1|a|$1|b|$1|c"),
        ("HVALS h", "*3|$1|3|$1|2|$1|4"),
        ("HLEN h", ":3"),
        ("HSTRLEN h b", ":1"),
        ("HEXISTS h b", ":1"),
        ("HEXISTS h x", ":0"),
        ("HSETNX h b 9", ":0"),
        ("HSETNX h d 9", ":1"),
        ("TYPE h", "+hash"),
        ("HDEL h a x d", ":2"),
        ("HDEL h b c", ":2"),
        ("EXISTS h", ":0"),
        ("HGETALL h", "*0"),
        ("HLEN h", ":0"),
        ("HDEL h a", ":0"),
        (
            "HSET h a",
            "-ERR wrong number of arguments for 'hset' command",
        ),
        (
            "HMSET h a 1 b",
            "-ERR wrong number of arguments for 'hmset' command",
        ),
        ("HMSET h a 1", "+OK"),
    ]);
}

#[test]
fn numbers_in_fields_are_added_to_or_left_as_they_are() {
    Client::new().expect(&[
        ("HINCRBY h n 5", ":5"),
        ("HINCRBY h n -7", ":-2"),
        (
            "HINCRBY h n x",
            "-ERR value is not an integer or out of range",
        ),
        ("HSET h s abc", ":1"),
        ("HINCRBY h s 1", "-ERR hash value is not an integer"),
        ("HINCRBY new s 9223372036854775807", ":9223372036854775807"),
        (
            "HINCRBY new s 1",
            "-ERR increment or decrement would overflow",
        ),
        ("HINCRBYFLOAT h f 10.5", "$4|10.5"),
        ("HINCRBYFLOAT h f 0.1", "$4|10.6"),
        ("HINCRBYFLOAT h s 1", "-ERR hash value is not a float"),
        ("HINCRBYFLOAT h f x", "-ERR value is not a valid float"),
        ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
        ("HLEN h", ":3"),
        (
            "HINCRBY gone s x",
            "-ERR value is not an integer or out of range",
        ),
        ("EXISTS gone", ":0"),
    ]);
}

#[test]
fn a_key_is_of_one_type_until_it_is_overwritten_or_gone() {
    Client::new().expect(&[
        ("HSET h a 1", ":1"),
        ("GET h", WRONG),
        ("APPEND h x", WRONG),
        ("INCR h", WRONG),
        ("GETSET h x", WRONG),
        ("SETRANGE h 0 x", WRONG),
        ("GETRANGE h 0 1", WRONG),
        ("STRLEN h", WRONG),
        ("MGET h x", "*2|$-1|$-1"),
        ("SETNX h x", ":0"),
        ("MSETNX h x y z", ":0"),
        ("SET s v", "+OK"),
        ("HSET s a 1", WRONG),
        ("HGET s a", WRONG),
        ("HDEL s a", WRONG),
        ("HLEN s", WRONG),
        ("GET s", "$1|v"),
        ("SET h v", "+OK"),
        ("GET h", "$1|v"),
        ("DEL h", ":1"),
        ("HSET h b 2", ":1"),
        ("HGETALL h", "*2|$1|b|$1|2"),
        ("DEL h", ":1"),
        ("HGETALL h", "*0"),
    ]);
}

#[test]
fn a_hash_expires_as_a_whole() {
    let mut client = Client::new();
    client.expect(&[
        ("HSET h a 1", ":1"),
        ("EXPIRE h 10", ":1"),
        ("HSET h b 2", ":1"),
        ("TTL h", ":10"),
        ("PERSIST h", ":1"),
        ("TTL h", ":-1"),
        ("EXPIRE h 10", ":1"),
    ]);
    client.now_ms += 10_000;
    client.expect(&[
        ("HGET h a", "$-1"),
        ("HSET h c 3", ":1"),
        ("HLEN h", ":1"),
        ("TTL h", ":-1"),
    ]);
}

#[test]
fn fields_at_random_are_different_ones_unless_asked_for() {
    let mut client = Client::new();
    client.expect(&[
        ("HRANDFIELD h", "$-1"),
        ("HRANDFIELD h 3", "*0"),
        ("HSET h a 1 b 2 c 3", ":3"),
        ("HRANDFIELD h 5", "*3|$1|a|$1|b|$1|c"),
        (
            "HRANDFIELD h 5 WITHVALUES",
            "*6|$1|a|$1|1|$1|b|$1|2|$1|c|$1|3",
        ),
        ("HRANDFIELD h 0", "*0"),
        (
            "HRANDFIELD h x",
            "-ERR value is not an integer or out of range",
        ),
        ("HRANDFIELD h 1 x", "-ERR syntax error"),
    ]);
    assert!(client.line("HRANDFIELD h").starts_with("$1\r\n"));
    assert!(client.line("HRANDFIELD h -5").starts_with("*5\r\n"));
}

#[test]
fn a_scan_gives_every_field_once() {
    let mut client = Client::new();
    for n in 0..25 {
        client.line(&format!("HSET h f{n:02} {n}"));
    }
    let mut seen = Vec::new();
    let mut cursor = "0".to_owned();
    for _ in 0..3 {
        let reply = client.line(&format!("HSCAN h {cursor}"));
        let lines: Vec<&str> = reply.split("\r\n").collect();
        cursor = lines[2].to_owned();
        seen.extend(
            lines
                .iter()
                .filter(|line| line.starts_with('f'))
                .map(|line| (*line).to_owned()),
        );
    }
    assert_eq!((cursor.as_str(), seen.len()), ("0", 25));
    client.expect(&[
        (
            "HSCAN h 0 MATCH f0[12] COUNT 100",
            "*2|$1|0|*4|$3|f01|$1|1|$3|f02|$1|2",
        ),
        ("HSCAN h x", "-ERR invalid cursor"),
        ("HSCAN h 99999999", "-ERR invalid cursor"),
        ("HSCAN none 0", "*2|$1|0|*0"),
        ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
    ]);
}
