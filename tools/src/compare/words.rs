//! Random commands: rows of patterns, and what spoils them. Few keys, so that commands meet; numbers at the ends of
//! their ranges; bytes that end lines.
//!
//! A pattern is words: `$k` a key, `$v` a value, `$i` an integer, `$f` a number, `$o` an offset into a value, `$n` a
//! small number, `$t` `$T` far seconds and milliseconds, `$a` `$A` moments, `$p` a glob, `$y` `$w` a type and a
//! number of BITFIELD, `$b` a bit. `a|b` is one of them, `a:b` several words, `?` before means perhaps, `+`
//! means up to three more. `$h` `$q` `$e` `$z` are keys of hashes, lists, sets and sorted sets, mostly; what else
//! collections have is in `collection_words`.

use ashlar_io::rng::Rng;

use super::collection_words::{self, COLLECTION_PATTERNS};

/// One command.
pub(crate) type Command = Vec<Vec<u8>>;

/// Keys, so few that commands meet.
const KEYS: [&[u8]; 7] = [b"a", b"b", b"c", b"key:1", b"k\r\n\0x", b"", b"a*"];

/// Numbers that commands are given.
const INTEGERS: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "10",
    "-10",
    "100",
    "255",
    "4096",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "4611686018427387904",
    "007",
    "+5",
    " 5",
    "5 ",
    "1.5",
    "",
    "x",
];

/// Numbers with a point, and words that are none.
const FLOATS: [&str; 24] = [
    "0.1",
    "-0.1",
    "1.5",
    "3.0e3",
    "1e-5",
    "1e17",
    "-2.5e-3",
    "10.6",
    "1000000.000001",
    "123456789.123456789",
    "1e300",
    "-1e300",
    "inf",
    "-inf",
    "nan",
    "1e5000",
    "0.000000000000000001",
    "1.",
    ".5",
    "-0",
    "5e",
    "1 ",
    "",
    "3,5",
];

/// What stands for a seldom value of any kind.
const ODDITIES: [&str; 20] = [
    "",
    "NX",
    "XX",
    "GET",
    "KEEPTTL",
    "EX",
    "PX",
    "LIMIT",
    "COUNT",
    "-1",
    "0",
    "abc",
    "9223372036854775808",
    "1.5",
    "\r\n",
    "OVERFLOW",
    "BIT",
    "help",
    "PERSIST",
    "LEN",
];

const GLOBS: [&str; 12] = [
    "*", "a", "a*", "*a", "?", "[a-c]", "[^a]", "\\a\\*", "key:*", "", "k*x", "[",
];

const BIT_TYPES: [&str; 13] = [
    "u8", "i8", "u1", "i64", "u63", "u64", "i65", "u0", "i16", "u5", "i3", "x8", "u",
];

const OPTIONS_TTL: &str = "?EX:$t|PX:$T|EXAT:$a|PXAT:$A|KEEPTTL|NX|XX|GET";

/// The patterns and how often each is drawn.
const PATTERNS: &[(u32, &str)] = &[
    (8, "GET $k"),
    (10, "SET $k $v"),
    (6, "SET $k $v @ @ ?@"),
    (3, "SET $k $i @"),
    (3, "GETSET $k $v"),
    (2, "GETDEL $k"),
    (3, "GETEX $k ?EX:$t|PX:$T|EXAT:$a|PXAT:$A|PERSIST"),
    (3, "SETNX $k $v"),
    (2, "SETEX $k $t $v"),
    (2, "PSETEX $k $T $v"),
    (4, "MGET $k +$k"),
    (4, "MSET $k $v +$k:$v"),
    (3, "MSETNX $k $v +$k:$v"),
    (4, "APPEND $k $v"),
    (3, "STRLEN $k"),
    (3, "GETRANGE $k $i $i"),
    (2, "SUBSTR $k $n $n"),
    (4, "SETRANGE $k $o $v"),
    (4, "INCR $k"),
    (3, "DECR $k"),
    (4, "INCRBY $k $i"),
    (3, "DECRBY $k $i"),
    (5, "INCRBYFLOAT $k $f"),
    (
        4,
        "LCS $k $k ?LEN|IDX|MINMATCHLEN:$n ?WITHMATCHLEN|IDX ?MINMATCHLEN:$n",
    ),
    (5, "DEL $k +$k"),
    (2, "UNLINK $k +$k"),
    (3, "EXISTS $k +$k"),
    (2, "TOUCH $k +$k"),
    (3, "TYPE $k"),
    (4, "EXPIRE|EXPIRE $k $t ?NX|XX|GT|LT ?NX|XX|GT|LT"),
    (3, "PEXPIRE $k $T ?NX|XX|GT|LT"),
    (3, "EXPIREAT $k $a ?NX|XX|GT|LT"),
    (3, "PEXPIREAT $k $A ?NX|XX|GT|LT ?XX|GT"),
    (4, "TTL|PTTL|EXPIRETIME|PEXPIRETIME $k"),
    (3, "PERSIST $k"),
    (4, "RENAME|RENAMENX $k $k"),
    (4, "COPY $k $k ?DB:$n ?REPLACE"),
    (2, "OBJECT ENCODING|REFCOUNT|FREQ|IDLETIME|HELP|ENCODING $k"),
    (2, "KEYS $p"),
    (
        2,
        "SCAN 0 COUNT 100000 ?MATCH:$p ?TYPE:string|TYPE:list|TYPE:hash",
    ),
    (1, "SCAN $n ?COUNT:$i ?TYPE:string"),
    (2, "DBSIZE"),
    (1, "FLUSHDB ?SYNC|ASYNC|$i"),
    (1, "FLUSHALL ?ASYNC|SYNC"),
    (5, "SETBIT $k $o $b"),
    (4, "GETBIT $k $o"),
    (4, "BITCOUNT $k ?$i:$i|$i:$i:BIT|$i:$i:BYTE|$i"),
    (4, "BITPOS $k $b ?$i|$i:$i|$i:$i:BIT|$i:$i:BYTE"),
    (4, "BITOP AND|OR|XOR|NOT|NAND $k $k +$k"),
    (2, "BITOP NOT $k $k"),
    (6, "BITFIELD $k +!"),
    (2, "BITFIELD_RO $k +GET:$y:$o"),
    (2, "PING ?$v"),
    (2, "ECHO $v"),
    (2, "SELECT $n"),
    (1, "SELECT $i"),
    (2, "MOVE $k $n"),
    (1, "HELLO ?2|3 ?SETNAME:$v"),
    (1, "RESET"),
    (1, "CLIENT SETNAME $v"),
    (1, "CLIENT GETNAME"),
    (1, "CLIENT NO-EVICT ON|OFF|$v"),
    (1, "CLIENT REPLY|CACHING $v"),
    (1, "CLIENT KILL|LIST TYPE|ID|ADDR $v"),
    (1, "CLIENT GETREDIR|TRACKINGINFO"),
    (
        1,
        "COMMAND GETKEYS SET|GET|MSET|MGET|DEL|BITOP|COPY|LCS $v ?$v ?$v",
    ),
    (1, "CONFIG SET|GET|RESETSTAT ?nosuch|$v $v"),
    (1, "TIME extra"),
    (6, "MULTI"),
    (6, "EXEC"),
    (2, "DISCARD"),
    (4, "WATCH $k +$k"),
    (1, "UNWATCH"),
    (3, "PUBLISH $k $v"),
    (2, "SPUBLISH $k $v"),
    (
        1,
        "PUBSUB NUMSUB|SHARDNUMSUB|CHANNELS|SHARDCHANNELS ?$k ?$k",
    ),
    (1, "PUBSUB NUMPAT|HELP ?$v"),
    (1, "LASTSAVE extra"),
    (1, "WAIT 0 $i"),
    (1, "MEMORY USAGE $v $v $v"),
    (1, "FUNCTION FLUSH"),
    (1, "AUTH $v ?$v"),
    (1, "NOSUCHCOMMAND $v ?$v"),
    (1, "SLOWLOG RESET"),
    (1, "LATENCY RESET"),
];

/// One in so many keys is that of a collection.
const OF_COLLECTION: u64 = 6;

/// Draws commands.
#[derive(Debug)]
pub(crate) struct Words {
    rng: Rng,
    patterns: Vec<(u32, Vec<&'static str>)>,
    weights: u64,
    now_s: u64,
    times: u64,
}

impl Words {
    /// Makes the commands of a seed. `now_s` is about the time, in seconds since 1970.
    pub(crate) fn new(seed: u64, only: &[String], now_s: u64) -> Self {
        let wanted = |pattern: &str| {
            let name = pattern.split([' ', '|']).next().unwrap_or_default();
            only.is_empty() || only.iter().any(|only| name.eq_ignore_ascii_case(only))
        };
        let patterns = PATTERNS.iter().chain(COLLECTION_PATTERNS);
        let patterns: Vec<_> = patterns
            .filter(|(_, pattern)| wanted(pattern))
            .map(|(weight, pattern)| (*weight, pattern.split(' ').collect()))
            .collect();
        let weights = patterns.iter().map(|(weight, _)| u64::from(*weight)).sum();
        Self {
            rng: Rng::new(seed),
            patterns,
            weights,
            now_s,
            times: 0,
        }
    }

    /// Says whether any pattern is drawn from.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns a number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    /// Draws a command.
    pub(crate) fn command(&mut self) -> Command {
        let mut drawn = self.rng.below(self.weights);
        let row = self.patterns.iter().position(|(weight, _)| {
            let found = drawn < u64::from(*weight);
            drawn = drawn.saturating_sub(u64::from(*weight));
            found
        });
        let pattern = self.patterns[row.unwrap_or(0)].1.clone();
        let mut words = Command::new();
        pattern.iter().for_each(|part| self.part(part, &mut words));
        if self.rng.below(12) == 0 {
            self.spoil(&mut words);
        }
        words
    }

    fn part(&mut self, part: &str, words: &mut Command) {
        match part.as_bytes() {
            [b'?', ..] if self.rng.below(2) == 0 => {}
            [b'?', ..] => self.part(&part[1..], words),
            [b'+', ..] => {
                for _ in 0..self.rng.below(4) {
                    self.part(&part[1..], words);
                }
            }
            b"@" => self.part(OPTIONS_TTL, words),
            b"!" => self.bit_field(words),
            _ => {
                let choices: Vec<&str> = part.split('|').collect();
                let chosen = choices[self.rng.index(choices.len())];
                for word in chosen.split(':') {
                    let word = self.word(word);
                    words.push(word);
                }
            }
        }
    }

    fn bit_field(&mut self, words: &mut Command) {
        let pattern = match self.rng.below(4) {
            0 => "GET:$y:$o",
            1 => "SET:$y:$o:$w",
            2 => "INCRBY:$y:$o:$i",
            _ => "OVERFLOW:WRAP|OVERFLOW:SAT|OVERFLOW:FAIL",
        };
        self.part(pattern, words);
    }

    fn word(&mut self, word: &str) -> Vec<u8> {
        let Some(kind) = word.strip_prefix('$') else {
            return self.cased(word);
        };
        match kind {
            "k" if self.rng.below(OF_COLLECTION) == 0 => {
                let kind = self.pick(&["h", "q", "e", "z"]);
                collection_words::key(&kind, &mut self.rng)
            }
            "k" => KEYS[self.rng.index(KEYS.len())].to_vec(),
            "h" | "q" | "e" | "z" if self.rng.below(OF_COLLECTION) == 0 => {
                KEYS[self.rng.index(KEYS.len())].to_vec()
            }
            "h" | "q" | "e" | "z" => collection_words::key(kind.as_bytes(), &mut self.rng),
            "m" => collection_words::member(&mut self.rng),
            "l" => collection_words::member_bound(&mut self.rng),
            "s" => self.score(),
            "r" => {
                let score = self.score();
                collection_words::score_bound(score, &mut self.rng)
            }
            "v" => self.value(),
            "i" => self.integer(),
            "w" => self.field_number(),
            "f" if self.rng.below(3) == 0 => self.integer(),
            "f" => self.float(),
            "o" => self.offset(),
            "n" => self.rng.below(18).to_string().into_bytes(),
            "b" if self.rng.below(20) == 0 => b"2".to_vec(),
            "b" => self.rng.below(2).to_string().into_bytes(),
            "p" => self.pick(&GLOBS),
            "y" => self.pick(&BIT_TYPES),
            time => self.time(time),
        }
    }

    fn pick(&mut self, from: &[&str]) -> Vec<u8> {
        from[self.rng.index(from.len())].as_bytes().to_vec()
    }

    /// Returns a word of a pattern, in letters of any case now and then.
    fn cased(&mut self, word: &str) -> Vec<u8> {
        let mut word = word.as_bytes().to_vec();
        if self.rng.below(8) == 0 {
            for byte in &mut word {
                if self.rng.below(2) == 0 {
                    byte.make_ascii_lowercase();
                }
            }
        }
        word
    }

    fn integer(&mut self) -> Vec<u8> {
        if self.rng.below(2) == 0 {
            let number = i64::try_from(self.rng.below(40)).unwrap_or(0) - 15;
            return number.to_string().into_bytes();
        }
        self.pick(&INTEGERS)
    }

    /// Returns a number for `BITFIELD SET`. Not the least of all: Redis saturates that one upwards.
    fn field_number(&mut self) -> Vec<u8> {
        let number = self.integer();
        if number == i64::MIN.to_string().as_bytes() {
            b"-4611686018427387904".to_vec()
        } else {
            number
        }
    }

    fn float(&mut self) -> Vec<u8> {
        if self.rng.below(2) == 0 {
            let (whole, fraction) = (self.rng.below(100_000), self.rng.below(1_000_000));
            let sign = if self.rng.below(2) == 0 { "-" } else { "" };
            return format!("{sign}{whole}.{fraction}").into_bytes();
        }
        self.pick(&FLOATS)
    }

    fn score(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => self.float(),
            1 => self.integer(),
            _ => collection_words::score(&mut self.rng),
        }
    }

    fn offset(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0 => self.integer(),
            1 => format!("#{}", self.rng.below(20)).into_bytes(),
            2 => self.rng.below(3_000).to_string().into_bytes(),
            _ => self.rng.below(70).to_string().into_bytes(),
        }
    }

    /// Returns an expiry: one that has passed, or one that is far from passing, or an odd word.
    fn time(&mut self, kind: &str) -> Vec<u8> {
        if self.rng.below(6) == 0 {
            let odd = [
                "0",
                "-1",
                "9223372036854775807",
                "-9223372036854775808",
                "x",
                "1.5",
            ];
            return self.pick(&odd);
        }
        // No two are the same: of those a millisecond decides which is later.
        self.times += 20;
        let far_s = 100_000 * (1 + self.rng.below(5)) + self.times;
        let number = match kind {
            "t" => far_s,
            "T" => far_s * 1000,
            "a" => self.now_s + far_s,
            _ => (self.now_s + far_s) * 1000,
        };
        number.to_string().into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0..=2 => self.integer(),
            3 => self.float(),
            4 => Vec::new(),
            5 => {
                let length = self.rng.below(30);
                (0..length).map(|_| self.byte()).collect()
            }
            6 => vec![b'x'; self.rng.index(600)],
            7 => vec![self.byte(); self.rng.index(12)],
            _ => {
                let length = 1 + self.rng.below(8);
                (0..length).map(|_| b"abcd"[self.rng.index(4)]).collect()
            }
        }
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.rng.below(256)).unwrap_or(0)
    }

    /// Makes a command wrong in one word, or in how many it has.
    fn spoil(&mut self, words: &mut Command) {
        let at = self.rng.index(words.len());
        let odd = self.pick(&ODDITIES);
        match self.rng.below(4) {
            0 if at > 0 => drop(words.remove(at)),
            1 => words.push(odd),
            2 if at > 0 => words[at] = odd,
            _ => words.insert(at.max(1), odd),
        }
    }
}
