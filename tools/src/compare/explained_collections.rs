//! Which replies of commands on collections may differ, and why.

use super::explained::{Explained, is};
use super::reply::{alike, elements, same_members};
use super::words::Command;

pub(super) const COLLECTIONS: &[Explained] = &[
    // Redis keeps small collections in the order in which they were filled, and walks hash tables; ours are in order.
    Explained {
        names: &[
            "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP",
        ],
        holds: |_, ours, theirs| same_members(ours, theirs),
    },
    Explained {
        names: &["HGETALL"],
        holds: |_, ours, theirs| same_pairs(ours, theirs),
    },
    Explained {
        names: &["HSCAN", "SSCAN", "ZSCAN"],
        holds: scanned_the_same,
    },
    // Chance.
    Explained {
        names: &["HRANDFIELD", "SRANDMEMBER", "ZRANDMEMBER"],
        holds: |_, ours, theirs| match (elements(ours), elements(theirs)) {
            (Some((header, _)), Some((of, _))) => header == of,
            (None, None) => ours.starts_with(b"$") && theirs.starts_with(b"$"),
            _ => false,
        },
    },
    // As Redis 7.2 spells numbers: with the fewest digits. There is no -0.
    Explained {
        names: &[
            "ZADD",
            "ZINCRBY",
            "ZSCORE",
            "ZMSCORE",
            "ZRANGE",
            "ZREVRANGE",
            "ZRANGEBYSCORE",
            "ZREVRANGEBYSCORE",
            "ZPOPMIN",
            "ZPOPMAX",
            "ZMPOP",
            "BZPOPMIN",
            "BZPOPMAX",
            "BZMPOP",
            "ZUNION",
            "ZINTER",
            "ZDIFF",
        ],
        holds: |_, ours, theirs| alike(ours, theirs, &same_number),
    },
    // Of Redis 7.2, of which the other one may be an older.
    Explained {
        names: &["ZRANK", "ZREVRANK"],
        holds: |words, ours, theirs| {
            words.len() > 3
                && !ours.is_empty()
                && theirs.starts_with(b"-ERR wrong number of arguments for 'z")
        },
    },
    // Redis 7.2 refuses the least rank of all, which has no opposite; 7.0 does not.
    Explained {
        names: &["LPOS"],
        holds: |words, ours, _| {
            words.iter().any(|word| word == b"-9223372036854775808")
                && ours.starts_with(b"-ERR value is out of range, value must between ")
        },
    },
    // Redis reads the digits that a number of keys begins with, whatever follows them.
    Explained {
        names: &["COMMAND"],
        holds: |words, ours, _| {
            let is_odd = |word: &Vec<u8>| {
                let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
                (1..word.len()).contains(&digits)
            };
            ours == b"-ERR Invalid arguments specified for command\r\n"
                && words.iter().skip(3).take(2).any(is_odd)
        },
    },
    // As that of INCRBYFLOAT.
    Explained {
        names: &["HINCRBYFLOAT"],
        holds: |words, ours, _| {
            is(words, 3, |number| {
                number.to_ascii_lowercase().contains(&b'x')
            }) && ours == b"-ERR value is not a valid float\r\n"
        },
    },
];

/// Says whether two values are the same number, however it is spelled.
fn same_number(one: &[u8], other: &[u8]) -> bool {
    let number = |reply: &[u8]| {
        let text = std::str::from_utf8(reply).ok()?;
        let line = match text.strip_prefix(',') {
            Some(line) => line,
            None => text.strip_prefix('$')?.split_once("\r\n")?.1,
        };
        line.trim_end().parse::<f64>().ok()
    };
    matches!((number(one), number(other)), (Some(one), Some(other)) if one == other)
}

/// Says whether two replies have the same pairs, in whatever order; the second of a pair may be the same number.
fn same_pairs(ours: &[u8], theirs: &[u8]) -> bool {
    let (Some((header, ours)), Some((of, theirs))) = (elements(ours), elements(theirs)) else {
        return false;
    };
    let sorted = |elements: Vec<&'_ [u8]>| {
        let mut pairs: Vec<Vec<Vec<u8>>> = elements
            .chunks(2)
            .map(|pair| pair.iter().map(|part| part.to_vec()).collect())
            .collect();
        pairs.sort();
        pairs.concat()
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let each = ours.iter().zip(&theirs);
    header == of
        && ours.len() == theirs.len()
        && each
            .into_iter()
            .all(|(one, other)| one == other || same_number(one, other))
}

/// Compares what one call has scanned: all elements, as the commands ask for that many. What Redis keeps small it scans
/// at once, whatever it is asked for; and what is missing, before it looks at the options.
fn scanned_the_same(words: &Command, ours: &[u8], theirs: &[u8]) -> bool {
    let parts = |reply| elements(reply).map(|(_, parts)| parts);
    match (parts(ours).as_deref(), parts(theirs).as_deref()) {
        (Some([cursor, found]), Some([other, others])) => {
            let is_whole = words.iter().any(|word| word == b"100000");
            !is_whole
                || (cursor == other && (same_members(found, others) || same_pairs(found, others)))
        }
        // A cursor that was never given.
        _ => is(words, 2, |cursor| cursor != b"0") && ours == b"-ERR invalid cursor\r\n",
    }
}
