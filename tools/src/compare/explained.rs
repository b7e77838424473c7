//! Which replies may differ, and why: the same list as in `docs/redis-compatibility.md`. Everything else is a mistake
//! of ours.

use super::explained_collections::COLLECTIONS;
use super::reply::{alike, elements, integer, same_members};
use super::words::Command;

/// Seconds that two servers may be apart in what they say of time.
const TIME_S: i64 = 5;

/// A difference that is as it should be.
pub(super) struct Explained {
    /// Commands, in upper case; all when there is none.
    pub(super) names: &'static [&'static str],
    /// Which replies it is about: the command, ours, theirs.
    pub(super) holds: fn(&Command, &[u8], &[u8]) -> bool,
}

const EXPLAINED: &[Explained] = &[
    // Redis walks a hash table, and we an ordered one.
    Explained {
        names: &["KEYS"],
        holds: |_, ours, theirs| same_members(ours, theirs),
    },
    Explained {
        names: &["SCAN"],
        holds: |_, ours, theirs| scanned_the_same(ours, theirs),
    },
    Explained {
        names: &["SCAN"],
        holds: |words, ours, theirs| {
            !words.iter().any(|word| word == b"100000")
                && elements(ours).is_some()
                && elements(theirs).is_some()
        },
    },
    // A cursor that was never given: Redis walks from somewhere, we refuse it.
    Explained {
        names: &["SCAN"],
        holds: |words, ours, _| {
            is(words, 1, |cursor| cursor != b"0") && ours == b"-ERR invalid cursor\r\n"
        },
    },
    // Two clocks.
    Explained {
        names: &["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"],
        holds: |words, ours, theirs| alike(ours, theirs, &|one, other| near(words, one, other)),
    },
    // How a string is kept is not how Redis keeps it.
    Explained {
        names: &["OBJECT"],
        holds: |words, ours, theirs| {
            is(words, 1, |sub| sub.eq_ignore_ascii_case(b"encoding"))
                && ours.starts_with(b"$")
                && theirs.starts_with(b"$")
                && theirs != b"$-1\r\n"
        },
    },
    // Long values would keep the shard's other clients waiting.
    Explained {
        names: &["LCS"],
        holds: |_, ours, _| ours.starts_with(b"-ERR LCS is not supported for values"),
    },
    // A HELLO that fails has changed nothing; of Redis it may have set the name.
    Explained {
        names: &["CLIENT"],
        holds: |words, ours, theirs| {
            is(words, 1, |sub| sub.eq_ignore_ascii_case(b"getname"))
                && !ours.starts_with(b"-")
                && !theirs.starts_with(b"-")
        },
    },
    // Ours are shorter.
    Explained {
        names: &["LATENCY", "SLOWLOG", "FUNCTION", "COMMAND", "PUBSUB"],
        holds: |words, ours, theirs| {
            is(words, 1, |sub| sub.eq_ignore_ascii_case(b"help"))
                && elements(ours).is_some()
                && elements(theirs).is_some()
        },
    },
    // All is on disk, always; when a key was read is not noted; what is slow is slow in one server alone.
    Explained {
        names: &["LASTSAVE", "OBJECT", "SLOWLOG"],
        holds: |_, ours, theirs| integer(ours).is_some() && integer(theirs).is_some(),
    },
    // For developers of Redis.
    Explained {
        names: &["DEBUG"],
        holds: |_, ours, theirs| ours.starts_with(b"-ERR ") && theirs.starts_with(b"-ERR "),
    },
    // Who the server is, and what it can do.
    Explained {
        names: &[
            "HELLO", "OBJECT", "CLIENT", "MEMORY", "CONFIG", "DEBUG", "TIME",
        ],
        holds: |_, ours, theirs| elements(ours).is_some() && elements(theirs).is_some(),
    },
    // Redis 7.2 needs one word less.
    Explained {
        names: &["COMMAND"],
        holds: |_, ours, theirs| {
            ours.starts_with(b"-ERR ")
                && theirs == b"-ERR wrong number of arguments for 'command|getkeys' command\r\n"
        },
    },
    // Of Redis 7.2, of which the other one may be an older.
    Explained {
        names: &["CLIENT"],
        holds: |words, ours, theirs| {
            theirs.starts_with(b"-ERR unknown subcommand")
                && is(words, 1, |sub| sub.eq_ignore_ascii_case(b"no-touch"))
                && (ours == b"+OK\r\n" || ours.starts_with(b"-ERR "))
        },
    },
    // Redis before 7.2 looks at the key before it reads the numbers.
    Explained {
        names: &["BITCOUNT", "BITPOS"],
        holds: |_, ours, theirs| {
            let looked = theirs.starts_with(b"-WRONGTYPE ");
            ours.starts_with(b"-ERR ") && (looked || matches!(theirs, b":0\r\n" | b":-1\r\n"))
        },
    },
    // Numbers of hexadecimal digits are not read, and those of more than 256 characters neither.
    Explained {
        names: &["INCRBYFLOAT"],
        holds: |words, ours, _| {
            is(words, 2, |number| {
                number.to_ascii_lowercase().contains(&b'x')
            }) && ours == b"-ERR value is not a valid float\r\n"
        },
    },
];

/// Says whether a reply to `words` may be ours when the other server answers `theirs`.
pub(crate) fn is_explained(words: &Command, ours: &[u8], theirs: &[u8]) -> bool {
    let name = words[0].to_ascii_uppercase();
    if quote_the_same(words, ours, theirs) {
        return true;
    }
    EXPLAINED.iter().chain(COLLECTIONS).any(|of| {
        let named = of.names.iter().any(|known| known.as_bytes() == name);
        named && (of.holds)(words, ours, theirs)
    })
}

/// Says whether two errors differ in how they quote odd bytes: Redis ends what it quotes at a zero.
fn quote_the_same(words: &Command, ours: &[u8], theirs: &[u8]) -> bool {
    const BEGINNING: usize = 12;
    let is_odd = |word: &Vec<u8>| word.iter().any(|byte| !byte.is_ascii_graphic());
    let beginning = |reply: &[u8]| reply.get(..BEGINNING).map(<[u8]>::to_vec);
    ours.starts_with(b"-") && beginning(ours) == beginning(theirs) && words.iter().any(is_odd)
}

pub(super) fn is(words: &Command, at: usize, holds: impl FnOnce(&[u8]) -> bool) -> bool {
    words.get(at).is_some_and(|word| holds(word))
}

fn near(words: &Command, one: &[u8], other: &[u8]) -> bool {
    let in_ms = words[0]
        .first()
        .is_some_and(|first| first.eq_ignore_ascii_case(&b'p'));
    let tolerance = if in_ms { TIME_S * 1000 } else { TIME_S };
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) if one >= 0 && other >= 0 => {
            one.abs_diff(other) <= tolerance.unsigned_abs()
        }
        _ => false,
    }
}

/// Compares what one call has scanned: all keys, as the commands ask for that many.
fn scanned_the_same(ours: &[u8], theirs: &[u8]) -> bool {
    let parts = |reply| elements(reply).map(|(_, parts)| parts);
    match (parts(ours).as_deref(), parts(theirs).as_deref()) {
        (Some([cursor, keys]), Some([other, others])) => {
            cursor == other && same_members(keys, others)
        }
        _ => false,
    }
}
