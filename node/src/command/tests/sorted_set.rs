//! Sorted sets, on a partition in memory.

use std::collections::BTreeMap;

use super::harness::Client;

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const SYNTAX: &str = "-ERR syntax error";
const NOT_A_FLOAT: &str = "-ERR value is not a valid float";
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";

#[test]
fn members_get_scores_and_lose_them() {
    Client::new().expect(&[
        ("ZADD z 1 a 2 b", ":2"),
        ("ZADD z 3 a 1.5 c", ":1"),
        ("ZSCORE z a", "$1|3"),
        ("ZSCORE z x", "$-1"),
        ("ZSCORE none x", "$-1"),
        ("ZMSCORE z a x c", "*3|$1|3|$-1|$3|1.5"),
        ("ZMSCORE none a b", "*2|$-1|$-1"),
        ("ZCARD z", ":3"),
        ("ZRANGE z 0 -1", "*3|$1|c|$1|b|$1|a"),
        ("TYPE z", "+zset"),
        ("ZREM z a x", ":1"),
        ("ZRANGE z 0 -1 WITHSCORES", "*4|$1|c|$3|1.5|$1|b|$1|2"),
        ("ZREM z b c", ":2"),
        ("EXISTS z", ":0"),
        ("ZREM z b", ":0"),
        ("ZADD z inf a -inf b 0.1 c -0 d 1e20 e", ":5"),
        (
            "ZRANGE z 0 -1 WITHSCORES",
            "*10|$1|b|$4|-inf|$1|d|$1|0|$1|c|$3|0.1|$1|e|$5|1e+20|$1|a|$3|inf",
        ),
    ]);
}

#[test]
fn options_say_which_members_are_given_scores() {
    Client::new().expect(&[
        ("ZADD z XX 1 a", ":0"),
        ("EXISTS z", ":0"),
        ("ZADD z XX INCR 1 a", "$-1"),
        ("ZADD z NX 1 a 1 b", ":2"),
        ("ZADD z NX 5 a 5 c", ":1"),
        ("ZSCORE z a", "$1|1"),
        ("ZADD z XX CH 5 a 5 d", ":1"),
        ("ZADD z GT CH 4 a 6 b 7 d", ":2"),
        ("ZADD z LT CH 9 a 2 b", ":1"),
        ("ZADD z CH 1 x 1 x 2 x", ":2"),
        ("ZADD z INCR 2.5 x", "$3|4.5"),
        ("ZADD z NX INCR 2.5 x", "$-1"),
        ("ZADD z GT INCR -1 x", "$-1"),
        ("ZINCRBY z 1 new", "$1|1"),
        ("ZINCRBY z inf new", "$3|inf"),
        (
            "ZINCRBY z -inf new",
            "-ERR resulting score is not a number (NaN)",
        ),
        ("ZSCORE z new", "$3|inf"),
        (
            "ZADD z 1",
            "-ERR wrong number of arguments for 'zadd' command",
        ),
        ("ZADD z 1 a 2", SYNTAX),
        ("ZADD z NX XX", SYNTAX),
        (
            "ZADD z NX XX 1 a",
            "-ERR XX and NX options at the same time are not compatible",
        ),
        (
            "ZADD z GT LT 1 a",
            "-ERR GT, LT, and/or NX options at the same time are not compatible",
        ),
        (
            "ZADD z INCR 1 a 2 b",
            "-ERR INCR option supports a single increment-element pair",
        ),
        ("ZADD z nan a", NOT_A_FLOAT),
        ("ZADD z 1 a 1e400 b", NOT_A_FLOAT),
        ("ZINCRBY z x a", NOT_A_FLOAT),
        ("ZINCRBY z nx 1", SYNTAX),
        ("SET s v", "+OK"),
        ("ZADD s 1 a", WRONG),
        ("ZADD s XX 1 a", WRONG),
        ("ZSCORE s a", WRONG),
    ]);
}

#[test]
fn ranges_are_taken_by_rank_score_and_member() {
    Client::new().expect(&[
        ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
        ("ZRANGE z 1 2", "*2|$1|b|$1|c"),
        ("ZRANGE z -2 -1", "*2|$1|d|$1|e"),
        ("ZRANGE z 3 1", "*0"),
        ("ZRANGE z 0 1 REV", "*2|$1|e|$1|d"),
        ("ZREVRANGE z 3 9 WITHSCORES", "*4|$1|b|$1|2|$1|a|$1|1"),
        ("ZRANGEBYSCORE z (1 3", "*2|$1|b|$1|c"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT 1 2", "*2|$1|b|$1|c"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT 3 -1", "*2|$1|d|$1|e"),
        ("ZRANGEBYSCORE z -inf +inf LIMIT -1 2", "*0"),
        ("ZRANGEBYSCORE z 1 3 LIMIT 0 0", "*0"),
        (
            "ZREVRANGEBYSCORE z 3 (1 WITHSCORES",
            "*4|$1|c|$1|3|$1|b|$1|2",
        ),
        ("ZRANGE z 3 (1 BYSCORE REV LIMIT 1 1", "*1|$1|b"),
        ("ZRANGE z (1 (2 BYSCORE", "*0"),
        ("ZCOUNT z (1 4", ":3"),
        ("ZCOUNT none 1 4", ":0"),
        ("ZADD l 0 a 0 b 0 c 0 d", ":4"),
        ("ZRANGEBYLEX l [b (d", "*2|$1|b|$1|c"),
        ("ZRANGEBYLEX l - +", "*4|$1|a|$1|b|$1|c|$1|d"),
        ("ZRANGEBYLEX l + -", "*0"),
        ("ZREVRANGEBYLEX l + (b LIMIT 0 1", "*1|$1|d"),
        ("ZRANGE l (a [c BYLEX", "*2|$1|b|$1|c"),
        ("ZRANGE l [c (a BYLEX REV", "*2|$1|c|$1|b"),
        ("ZLEXCOUNT l (a +", ":3"),
        ("ZRANGEBYLEX z [b [d", "*3|$1|b|$1|c|$1|d"),
    ]);
}

#[test]
fn ranges_that_cannot_be_are_refused() {
    Client::new().expect(&[
        ("ZADD z 1 a", ":1"),
        ("ZRANGE z a b", NOT_AN_INTEGER),
        ("ZRANGE z a b BYSCORE", "-ERR min or max is not a float"),
        (
            "ZRANGE z a b BYLEX",
            "-ERR min or max not valid string range item",
        ),
        (
            "ZRANGE z 0 1 LIMIT 0 1",
            "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ),
        ("ZRANGE z 0 1 LIMIT 0 -1", "*1|$1|a"),
        ("ZRANGE z 0 1 LIMIT 0", SYNTAX),
        ("ZRANGE z 0 1 BYLEX BYSCORE", SYNTAX),
        ("ZRANGE z 0 1 REV REV", SYNTAX),
        (
            "ZRANGEBYLEX z - + WITHSCORES",
            "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ),
        ("ZREVRANGE z 0 1 REV", SYNTAX),
        ("ZRANGESTORE d z 0 1 WITHSCORES", SYNTAX),
        ("ZCOUNT z x 1", "-ERR min or max is not a float"),
        ("ZLEXCOUNT z x +", "-ERR min or max not valid string range item"),
        ("ZREMRANGEBYRANK z x 1", NOT_AN_INTEGER),
        ("ZRANK z a x", SYNTAX),
        (
            "ZRANK z a WITHSCORE x",
            "-ERR wrong number of arguments for 'zrank' command",
        ),
    ]);
}

#[test]
fn ranges_are_stored_and_removed() {
    Client::new().expect(&[
        ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
        ("SET d v", "+OK"),
        ("ZRANGESTORE d z 1 2", ":2"),
        ("ZRANGE d 0 -1 WITHSCORES", "*4|$1|b|$1|2|$1|c|$1|3"),
        ("ZRANGESTORE d z 9 1 BYSCORE REV LIMIT 0 1", ":1"),
        ("ZRANGE d 0 -1", "*1|$1|e"),
        ("ZRANGESTORE d none 0 -1", ":0"),
        ("EXISTS d", ":0"),
        ("ZREMRANGEBYRANK z 0 0", ":1"),
        ("ZREMRANGEBYSCORE z (2 3", ":1"),
        ("ZREMRANGEBYSCORE z 9 10", ":0"),
        ("ZREMRANGEBYLEX z [d [d", ":1"),
        ("ZRANGE z 0 -1", "*2|$1|b|$1|e"),
        ("ZREMRANGEBYRANK z 0 -1", ":2"),
        ("EXISTS z", ":0"),
        ("ZREMRANGEBYRANK z 0 -1", ":0"),
    ]);
}

#[test]
fn members_with_the_least_and_the_greatest_scores_are_popped() {
    let mut client = Client::new();
    client.expect(&[
        ("ZPOPMIN z", "*0"),
        ("ZADD z 1 a 2 b 2 c 3 d", ":4"),
        ("ZPOPMIN z", "*2|$1|a|$1|1"),
        ("ZPOPMAX z 2", "*4|$1|d|$1|3|$1|c|$1|2"),
        ("ZPOPMIN z 0", "*0"),
        (
            "ZPOPMIN z -1",
            "-ERR value is out of range, must be positive",
        ),
        ("ZPOPMIN z 1 2", SYNTAX),
        ("ZPOPMIN z 9", "*2|$1|b|$1|2"),
        ("EXISTS z", ":0"),
        ("ZMPOP 2 x z MIN", "*-1"),
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZMPOP 2 x z MIN", "*2|$1|z|*1|*2|$1|a|$1|1"),
        (
            "ZMPOP 1 z MAX COUNT 5",
            "*2|$1|z|*2|*2|$1|c|$1|3|*2|$1|b|$1|2",
        ),
        ("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0"),
        ("ZMPOP 2 z MIN", SYNTAX),
        ("ZMPOP 1 z FOO", SYNTAX),
        (
            "ZMPOP 1 z MIN COUNT 0",
            "-ERR count should be greater than 0",
        ),
        ("ZMPOP 1 z MIN COUNT 1 COUNT 1", SYNTAX),
        ("SET s v", "+OK"),
        ("ZPOPMIN s", WRONG),
        ("ZMPOP 2 s z MIN", WRONG),
    ]);
    client.line("HELLO 3");
    client.expect(&[
        ("ZADD z 1 a 2.5 b", ":2"),
        ("ZPOPMAX z", "*2|$1|b|,2.5"),
        ("ZPOPMIN z 1", "*1|*2|$1|a|,1"),
        ("ZMPOP 1 z MIN", "_"),
    ]);
}

#[test]
fn sorted_sets_and_sets_are_put_together() {
    Client::new().expect(&[
        ("ZADD a 1 x 2 y 3 z", ":3"),
        ("ZADD b 10 y 20 z 30 w", ":3"),
        ("SADD s y z", ":2"),
        ("ZUNION 2 a b", "*4|$1|x|$1|y|$1|z|$1|w"),
        (
            "ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES",
            "*8|$1|x|$1|2|$1|y|$1|9|$1|w|$2|15|$1|z|$2|16",
        ),
        (
            "ZINTER 2 a b AGGREGATE MIN WITHSCORES",
            "*4|$1|y|$1|2|$1|z|$1|3",
        ),
        (
            "ZINTER 2 a b AGGREGATE MAX WITHSCORES",
            "*4|$1|y|$2|10|$1|z|$2|20",
        ),
        ("ZINTER 3 a b s WITHSCORES", "*4|$1|y|$2|13|$1|z|$2|24"),
        ("ZINTER 2 a none", "*0"),
        ("ZDIFF 2 a s WITHSCORES", "*2|$1|x|$1|1"),
        ("ZDIFF 1 none", "*0"),
        ("ZDIFF 2 s a", "*0"),
        ("ZINTERCARD 2 a b", ":2"),
        ("ZINTERCARD 2 a b LIMIT 1", ":1"),
        ("ZUNIONSTORE a 2 a s WEIGHTS 1 100", ":3"),
        (
            "ZRANGE a 0 -1 WITHSCORES",
            "*6|$1|x|$1|1|$1|y|$3|102|$1|z|$3|103",
        ),
        ("ZINTERSTORE d 1 s", ":2"),
        ("ZRANGE d 0 -1 WITHSCORES", "*4|$1|y|$1|1|$1|z|$1|1"),
        ("ZDIFFSTORE d 2 s b", ":0"),
        ("EXISTS d", ":0"),
        (
            "ZUNION 0 a",
            "-ERR at least 1 input key is needed for 'zunion' command",
        ),
        ("ZUNION x a", NOT_AN_INTEGER),
        ("ZUNION 3 a b", SYNTAX),
        ("ZUNION 1 a WEIGHTS x", "-ERR weight value is not a float"),
        ("ZUNION 1 a WEIGHTS", SYNTAX),
        ("ZUNION 1 a AGGREGATE AVG", SYNTAX),
        ("ZDIFF 1 a WEIGHTS 1", SYNTAX),
        ("ZUNIONSTORE d 1 a WITHSCORES", SYNTAX),
        ("ZINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative"),
        ("SET t v", "+OK"),
        ("ZUNION 2 none t", WRONG),
        ("HSET h a 1", ":1"),
        ("ZUNION 1 h", WRONG),
    ]);
}

#[test]
fn members_at_random_come_with_their_scores_when_asked_for() {
    let mut client = Client::new();
    client.expect(&[
        ("ZRANDMEMBER z", "$-1"),
        ("ZADD z 1 b 2 a", ":2"),
        ("ZRANDMEMBER z 5 WITHSCORES", "*4|$1|a|$1|2|$1|b|$1|1"),
        ("ZRANDMEMBER z 0", "*0"),
        ("ZRANDMEMBER z x", NOT_AN_INTEGER),
        ("ZRANDMEMBER z 1 x", SYNTAX),
        (
            "ZRANDMEMBER z 9223372036854775807 WITHSCORES",
            "-ERR value is out of range",
        ),
        ("ZSCAN z 0", "*2|$1|0|*4|$1|a|$1|2|$1|b|$1|1"),
    ]);
    assert!(client.line("ZRANDMEMBER z -4").starts_with("*4\r\n"));
    client.line("HELLO 3");
    client.expect(&[("ZRANDMEMBER z 1 WITHSCORES", "*1|*2|$1|b|,1")]);
}

#[test]
fn commands_that_count_their_keys_tell_where_they_are() {
    let mut client = Client::new();
    client.expect(&[
        (
            "COMMAND GETKEYS ZUNIONSTORE d 2 a b WEIGHTS 1 2",
            "*3|$1|d|$1|a|$1|b",
        ),
        ("COMMAND GETKEYS SINTERCARD 1 a LIMIT 1", "*1|$1|a"),
        ("COMMAND GETKEYS ZMPOP 2 a b MIN", "*2|$1|a|$1|b"),
        (
            "COMMAND GETKEYS ZUNION 3 a b",
            "-ERR Invalid arguments specified for command",
        ),
        (
            "COMMAND GETKEYS ZUNIONSTORE d x a",
            "-ERR Invalid arguments specified for command",
        ),
    ]);
    assert!(client.line("COMMAND INFO zunion").contains("movablekeys"));
    let long = "x".repeat(65_537);
    let refused = client.line(&format!("ZINTERCARD 2 a {long}"));
    assert_eq!(refused, "-ERR key is longer than 65536 bytes\r\n");
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("small")
}

/// The members of a model, in the order of scores.
fn ordered(model: &BTreeMap<u64, i64>) -> Vec<(i64, String)> {
    let mut all: Vec<_> = model
        .iter()
        .map(|(member, score)| (*score, format!("m{member}")))
        .collect();
    all.sort();
    all
}

#[test]
fn random_changes_leave_what_a_plain_map_has_and_ranks_and_ranges_agree() {
    let (mut client, mut model) = (Client::new(), BTreeMap::new());
    let mut state = 5_u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for step in 0..600 {
        let (member, score) = (draw(100), i64::try_from(draw(40)).expect("small") - 20);
        match draw(8) {
            0..=4 => {
                client.line(&format!("ZADD z {score} m{member}"));
                model.insert(member, score);
            }
            5 => {
                let removed = client.line(&format!("ZREM z m{member}"));
                let there = i32::from(model.remove(&member).is_some());
                assert_eq!(removed, format!(":{there}\r\n"), "step {step}");
            }
            6 => {
                let removed = client.line(&format!("ZREMRANGEBYSCORE z ({score} {}", score + 1));
                let before = model.len();
                model.retain(|_, of| *of != score + 1);
                assert_eq!(
                    removed,
                    format!(":{}\r\n", before - model.len()),
                    "step {step}"
                );
            }
            _ => {
                let all = ordered(&model);
                let name = format!("m{member}");
                let rank = all.iter().position(|(_, of)| *of == name);
                let expected = rank.map_or("$-1\r\n".to_owned(), |rank| format!(":{rank}\r\n"));
                assert_eq!(
                    client.line(&format!("ZRANK z {name}")),
                    expected,
                    "step {step}"
                );
                let (from, to) = (draw(100), draw(100));
                let reply = client.line(&format!("ZRANGE z {from} {to}"));
                let (from, to) = (index(from), (index(to) + 1).min(all.len()));
                let range = all.get(from..to).unwrap_or_default();
                let shown: String = range
                    .iter()
                    .map(|(_, member)| format!("${}\r\n{member}\r\n", member.len()))
                    .collect();
                assert_eq!(reply, format!("*{}\r\n{shown}", range.len()), "step {step}");
            }
        }
        assert_eq!(client.line("ZCARD z"), format!(":{}\r\n", model.len()));
    }
}
