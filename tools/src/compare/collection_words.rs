//! Random commands on hashes, lists, sets and sorted sets, and the words that they alone have: `$m` a field or member,
//! `$s` a score, `$r` an end of a range of scores, `$l` one of a range of members. Members are few, so that commands
//! meet, and short: Redis keeps small collections in order, and only of those it is known what ranges by member give
//! when scores differ.

use ashlar_io::rng::Rng;

/// Fields and members.
const MEMBERS: [&[u8]; 14] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"ab",
    b"abc",
    b"b\0",
    b"",
    b"1",
    b"2",
    b"10",
    b"1.5",
    b"\xff\r\n",
    b"B",
];

/// The patterns and how often each is drawn.
pub(super) const COLLECTION_PATTERNS: &[(u32, &str)] = &[
    (8, "HSET $h $m $v +$m:$v"),
    (3, "HSET $h $m $i +$m:$f"),
    (3, "HMSET $h $m $v +$m:$v"),
    (3, "HSETNX $h $m $v"),
    (4, "HGET $h $m"),
    (3, "HMGET $h $m +$m"),
    (4, "HDEL $h $m +$m"),
    (2, "HLEN $h"),
    (2, "HSTRLEN $h $m"),
    (2, "HEXISTS $h $m"),
    (4, "HKEYS|HVALS|HGETALL $h"),
    (5, "HINCRBY $h $m $i"),
    (5, "HINCRBYFLOAT $h $m $f"),
    (2, "HRANDFIELD $h ?$n|-3|x ?WITHVALUES|x"),
    (3, "HSCAN $h 0 COUNT 100000 ?MATCH:$p"),
    (1, "HSCAN $h 0|x ?COUNT:0|COUNT:x|TYPE:hash"),
    (8, "LPUSH|RPUSH $q $m|$v +$m"),
    (3, "LPUSHX|RPUSHX $q $m +$v"),
    (4, "LPOP|RPOP $q ?$n|-1|x"),
    (
        4,
        "LMPOP 1:$q|2:$q:$q|0:$q|x:$q LEFT|RIGHT|x ?COUNT:$n|COUNT:0",
    ),
    (4, "LMOVE $q $q LEFT|RIGHT|x LEFT|RIGHT"),
    (2, "RPOPLPUSH $q $q"),
    (2, "LLEN $q"),
    (3, "LINDEX $q $i"),
    (5, "LRANGE $q $i $i"),
    (4, "LRANGE $q 0 -1"),
    (4, "LSET $q $i $v"),
    (4, "LINSERT $q BEFORE|AFTER|x $m $m"),
    (4, "LREM $q $i $m"),
    (3, "LTRIM $q $i $i"),
    (5, "LPOS $q $m ?RANK:$i ?COUNT:$n|COUNT:-1 ?MAXLEN:$n"),
    // Those that wait do so for a moment.
    (2, "BLPOP|BRPOP $q +$q 0.001|0.001|0.001|-1|x"),
    (1, "BLMOVE $q $q LEFT|RIGHT LEFT|RIGHT|x 0.001|-0.5"),
    (1, "BRPOPLPUSH $q $q 0.001|x"),
    (1, "BLMPOP 0.001|x 1:$q|2:$q:$q|0:$q LEFT|RIGHT|x ?COUNT:$n"),
    (2, "BZPOPMIN|BZPOPMAX $z +$z 0.001|0.001|-1"),
    (
        1,
        "BZMPOP 0.001|-1 1:$z|2:$z:$z MIN|MAX|x ?COUNT:$n|COUNT:0",
    ),
    (10, "SADD $e $m +$m"),
    (5, "SREM $e $m +$m"),
    (3, "SISMEMBER $e $m"),
    (3, "SMISMEMBER $e $m +$m"),
    (3, "SCARD $e"),
    (4, "SMEMBERS $e"),
    (2, "SPOP $e 1000|0|-1|x ?$i"),
    (2, "SRANDMEMBER $e ?$n|-3|x|-9223372036854775808 ?1"),
    (4, "SMOVE $e $e $m"),
    (3, "SSCAN $e 0 COUNT 100000 ?MATCH:$p"),
    (1, "SSCAN $e 0|x ?COUNT:0|COUNT:x|TYPE:set"),
    (4, "SINTER|SUNION|SDIFF $e +$e"),
    (5, "SINTERSTORE|SUNIONSTORE|SDIFFSTORE $e $e +$e"),
    (
        4,
        "SINTERCARD 1:$e|2:$e:$e|3:$e:$e:$e|0:$e|-1:$e|x:$e ?LIMIT:$n|LIMIT:-1|LIMIT",
    ),
    (12, "ZADD $z ?NX|XX ?GT|LT ?CH ?INCR $s $m"),
    (10, "ZADD $z ?NX|XX|CH ?GT|LT|CH $s $m +$s:$m"),
    (6, "ZINCRBY $z $s $m"),
    (5, "ZREM $z $m +$m"),
    (4, "ZSCORE $z $m"),
    (3, "ZMSCORE $z $m +$m"),
    (2, "ZCARD $z"),
    (3, "ZCOUNT $z $r $r"),
    (3, "ZLEXCOUNT $z $l $l"),
    (4, "ZRANK|ZREVRANK $z $m ?WITHSCORE"),
    (5, "ZRANGE $z $i $i ?REV ?WITHSCORES ?LIMIT:0:-1"),
    (
        4,
        "ZRANGE $z $r $r BYSCORE ?REV ?WITHSCORES ?LIMIT:$n:$n|LIMIT:$i:$i",
    ),
    (4, "ZRANGE $z $l $l BYLEX ?REV ?LIMIT:$n:$n"),
    (3, "ZREVRANGE $z $i $i ?WITHSCORES"),
    (
        4,
        "ZRANGEBYSCORE|ZREVRANGEBYSCORE $z $r $r ?WITHSCORES ?LIMIT:$n:$i",
    ),
    (
        4,
        "ZRANGEBYLEX|ZREVRANGEBYLEX $z $l $l ?LIMIT:$n:$i ?WITHSCORES",
    ),
    (3, "ZRANGESTORE $z $z $i $i ?REV"),
    (3, "ZRANGESTORE $z $z $r $r BYSCORE ?REV ?LIMIT:$n:$n"),
    (2, "ZRANGESTORE $z $z $l $l BYLEX ?REV ?LIMIT:$n:$n"),
    (2, "ZREMRANGEBYRANK $z $i $i"),
    (2, "ZREMRANGEBYSCORE $z $r $r"),
    (2, "ZREMRANGEBYLEX $z $l $l"),
    (3, "ZPOPMIN|ZPOPMAX $z ?$n|-1|x"),
    (3, "ZMPOP 1:$z|2:$z:$z|0:$z|x:$z MIN|MAX|x ?COUNT:$n"),
    (2, "ZRANDMEMBER $z ?$n|-3|x ?WITHSCORES|x"),
    (3, "ZSCAN $z 0 COUNT 100000 ?MATCH:$p"),
    (1, "ZSCAN $z 0|x ?COUNT:0|COUNT:x|TYPE:zset"),
    (
        5,
        "ZUNION|ZINTER 1:$z|2:$z:$z|2:$z:$e ?WEIGHTS:$s|WEIGHTS:$s:$s \
         ?AGGREGATE:SUM|AGGREGATE:MIN|AGGREGATE:MAX|AGGREGATE:x ?WITHSCORES",
    ),
    (
        2,
        "ZUNION|ZINTER|ZDIFF 3:$z:$z:$e|2:$e:$z|0:$z|-1:$z|x:$z ?WITHSCORES",
    ),
    (
        5,
        "ZUNIONSTORE|ZINTERSTORE $z 1:$z|2:$z:$z|2:$e:$z ?WEIGHTS:$s|WEIGHTS:$s:$s ?AGGREGATE:SUM|AGGREGATE:MIN|AGGREGATE:MAX",
    ),
    (2, "ZDIFF 1:$z|2:$z:$z|2:$z:$e ?WITHSCORES"),
    (2, "ZDIFFSTORE $z 1:$z|2:$z:$z|2:$z:$e"),
    (
        2,
        "ZINTERCARD 1:$z|2:$z:$z|2:$z:$e|0:$z ?LIMIT:$n|LIMIT:-1|LIMIT",
    ),
    (
        1,
        "COMMAND GETKEYS ZUNION|ZINTERCARD|SINTERCARD|LMPOP|ZMPOP|ZDIFF 1|2|3|x|0 $z ?$z ?$z MIN",
    ),
    (
        1,
        "COMMAND GETKEYS ZUNIONSTORE|ZINTERSTORE|ZDIFFSTORE $z 1|2|3|x|0 $z ?$z",
    ),
];

/// Returns a key of a kind.
pub(super) fn key(kind: &[u8], rng: &mut Rng) -> Vec<u8> {
    [kind, b":", &[b"123"[rng.index(3)]]].concat()
}

/// Returns a field or member.
pub(super) fn member(rng: &mut Rng) -> Vec<u8> {
    MEMBERS[rng.index(MEMBERS.len())].to_vec()
}

/// Returns a score, so that many are the same.
pub(super) fn score(rng: &mut Rng) -> Vec<u8> {
    let number = i64::try_from(rng.below(9)).unwrap_or(0) - 3;
    match rng.below(6) {
        0 => format!("{number}.5").into_bytes(),
        1 => b"0".to_vec(),
        _ => number.to_string().into_bytes(),
    }
}

/// Returns an end of a range of scores.
pub(super) fn score_bound(score: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    match rng.below(10) {
        0..=2 => [b"(", score.as_slice()].concat(),
        3 => b"-inf".to_vec(),
        4 => b"+inf".to_vec(),
        _ => score,
    }
}

/// Returns an end of a range of members.
pub(super) fn member_bound(rng: &mut Rng) -> Vec<u8> {
    let member = member(rng);
    match rng.below(10) {
        0..=2 => [b"(", member.as_slice()].concat(),
        3..=5 => [b"[", member.as_slice()].concat(),
        6 | 7 => b"-".to_vec(),
        8 => b"+".to_vec(),
        _ => member,
    }
}

/// Says whether a command may wait. Within a transaction it does not; elsewhere how long it does is not compared.
pub(super) fn may_wait(words: &[Vec<u8>]) -> bool {
    seconds(words).is_some_and(|seconds| seconds > -0.001)
}

/// Says whether servers differ in how they refuse a timeout.
pub(super) fn waits_too_long(words: &[Vec<u8>]) -> bool {
    seconds(words).is_some_and(|seconds| seconds > 1e9)
}

/// Returns how long a command waits that may, if that is a number.
fn seconds(words: &[Vec<u8>]) -> Option<f64> {
    let timeout = match words[0].to_ascii_uppercase().as_slice() {
        b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BRPOPLPUSH" | b"BZPOPMIN" | b"BZPOPMAX" => words.last(),
        b"BLMPOP" | b"BZMPOP" => words.get(1),
        _ => None,
    };
    std::str::from_utf8(timeout?).ok()?.parse().ok()
}
