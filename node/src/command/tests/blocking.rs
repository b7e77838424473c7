//! Pops that wait, as far as they find something or must not wait.

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};

#[test]
fn what_is_there_is_popped_at_once() {
    Client::new().expect(&[
        ("rpush b 1 2 3 4 5 6", ":6"),
        ("blpop a b 0", "*2|$1|b|$1|1"),
        ("brpop b a 0", "*2|$1|b|$1|6"),
        ("blmove b c left right 0", "$1|2"),
        ("brpoplpush b c 0", "$1|5"),
        ("lrange c 0 -1", "*2|$1|5|$1|2"),
        ("blmpop 0 2 a b left count 5", "*2|$1|b|*2|$1|3|$1|4"),
        ("exists b", ":0"),
        ("zadd z 1 a 2 b 3 c", ":3"),
        ("bzpopmin y z 0", "*3|$1|z|$1|a|$1|1"),
        ("bzpopmax y z 0", "*3|$1|z|$1|c|$1|3"),
        ("bzmpop 0 1 z max", "*2|$1|z|*1|*2|$1|b|$1|2"),
        ("exists z", ":0"),
    ]);
}

#[test]
fn words_are_looked_at_before_keys_and_keys_in_their_order() {
    Client::new().expect(&[
        ("set s x", "+OK"),
        ("rpush l 1", ":1"),
        ("blpop l s -1", "-ERR timeout is negative"),
        ("blpop s l x", "-ERR timeout is not a float or out of range"),
        (
            "blpop a s l 0",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        (
            "bzpopmin a l 0",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("blmove a b up left 0", SYNTAX),
        (
            "blmove a b left left x",
            "-ERR timeout is not a float or out of range",
        ),
        ("blmpop 0 0 a left", "-ERR numkeys should be greater than 0"),
        ("bzmpop 0 1 a left", SYNTAX),
        (
            "bzmpop 0 1 a min count 0",
            "-ERR count should be greater than 0",
        ),
        // What cannot wait is answered null.
        ("blpop a b 0", "*-1"),
        ("blmove a b left left 0", "$-1"),
        ("brpoplpush a b 0", "$-1"),
        ("blmpop 0 1 a left", "*-1"),
        ("bzpopmax a 0", "*-1"),
        ("bzmpop 0 1 a min", "*-1"),
        ("lindex l x", NOT_AN_INTEGER),
    ]);
}
