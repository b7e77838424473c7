//! Lists, on a partition in memory.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::harness::Client;
use super::{NOT_AN_INTEGER, SYNTAX};

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn both_ends_grow_and_shrink() {
    Client::new().expect(&[
        ("RPUSH l b c", ":2"),
        ("LPUSH l a z", ":4"),
        ("LRANGE l 0 -1", "*4|$1|z|$1|a|$1|b|$1|c"),
        ("LRANGE l -2 9", "*2|$1|b|$1|c"),
        ("LRANGE l 3 1", "*0"),
        ("LLEN l", ":4"),
        ("LINDEX l 0", "$1|z"),
        ("LINDEX l -1", "$1|c"),
        ("LINDEX l 4", "$-1"),
        ("LINDEX l x", NOT_AN_INTEGER),
        ("LPOP l", "$1|z"),
        ("RPOP l 2", "*2|$1|c|$1|b"),
        ("RPOP l 0", "*0"),
        ("LPOP l -1", "-ERR value is out of range, must be positive"),
        ("LPOP l 5", "*1|$1|a"),
        ("EXISTS l", ":0"),
        ("LPOP l", "$-1"),
        ("LPOP l 1", "*-1"),
        ("LPUSHX l a", ":0"),
        ("RPUSHX l a", ":0"),
        ("RPUSH l a", ":1"),
        ("RPUSHX l b", ":2"),
        ("TYPE l", "+list"),
        ("GET l", WRONG),
        ("HGET l a", WRONG),
        ("SET s v", "+OK"),
        ("RPUSH s a", WRONG),
        ("LRANGE s 0 1", WRONG),
    ]);
}

#[test]
fn the_middle_is_set_cut_and_searched() {
    Client::new().expect(&[
        ("RPUSH l a b c b a", ":5"),
        ("LSET l 1 x", "+OK"),
        ("LSET l -1 y", "+OK"),
        ("LSET l 9 z", "-ERR index out of range"),
        ("LSET none 0 z", "-ERR no such key"),
        ("LINSERT l BEFORE c n", ":6"),
        ("LINSERT l AFTER a m", ":7"),
        ("LINSERT l AFTER q m", ":-1"),
        ("LINSERT none AFTER q m", ":0"),
        ("LINSERT l OVER q m", SYNTAX),
        ("LRANGE l 0 -1", "*7|$1|a|$1|m|$1|x|$1|n|$1|c|$1|b|$1|y"),
        ("LTRIM l 1 -2", "+OK"),
        ("LRANGE l 0 -1", "*5|$1|m|$1|x|$1|n|$1|c|$1|b"),
        ("RPUSH l x x", ":7"),
        ("LREM l -2 x", ":2"),
        ("LRANGE l 0 -1", "*5|$1|m|$1|x|$1|n|$1|c|$1|b"),
        ("LREM l 0 nothing", ":0"),
        ("LREM l 1 m", ":1"),
        ("RPUSH l x", ":5"),
        ("LPOS l x", ":0"),
        ("LPOS l x RANK 2", ":4"),
        ("LPOS l x RANK -1", ":4"),
        ("LPOS l x COUNT 0", "*2|:0|:4"),
        ("LPOS l x COUNT 0 MAXLEN 3", "*1|:0"),
        ("LPOS l q", "$-1"),
        ("LPOS l q COUNT 1", "*0"),
        ("LPOS l x COUNT -1", "-ERR COUNT can't be negative"),
        ("LPOS l x RANK", SYNTAX),
        ("LTRIM l 5 1", "+OK"),
        ("EXISTS l", ":0"),
    ]);
}

#[test]
fn elements_move_between_lists_and_round_in_one() {
    Client::new().expect(&[
        ("RPUSH l a b c", ":3"),
        ("LMOVE l m LEFT RIGHT", "$1|a"),
        ("RPOPLPUSH l m", "$1|c"),
        ("LRANGE m 0 -1", "*2|$1|c|$1|a"),
        ("RPOPLPUSH m m", "$1|a"),
        ("LRANGE m 0 -1", "*2|$1|a|$1|c"),
        ("LMOVE none m LEFT LEFT", "$-1"),
        ("LMOVE l m LEFT OVER", SYNTAX),
        ("RPOPLPUSH l l", "$1|b"),
        ("LRANGE l 0 -1", "*1|$1|b"),
        ("SET s v", "+OK"),
        ("RPOPLPUSH l s", WRONG),
        ("LLEN l", ":1"),
        ("LMPOP 2 none m LEFT COUNT 5", "*2|$1|m|*2|$1|a|$1|c"),
        ("LMPOP 1 m LEFT", "*-1"),
        ("LMPOP 0 m LEFT", "-ERR numkeys should be greater than 0"),
        (
            "LMPOP 1 l LEFT COUNT 0",
            "-ERR count should be greater than 0",
        ),
        ("LMPOP 2 l LEFT", SYNTAX),
        ("RENAME l n", "+OK"),
        ("COPY n o", ":1"),
        ("LPOP n", "$1|b"),
        ("LRANGE o 0 -1", "*1|$1|b"),
        ("MOVE o 3", ":1"),
        ("EXISTS l n o", ":0"),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_list_is_like_a_plain_one(steps in proptest::collection::vec((0_u8..10, 0_u8..4, -6_i64..6), 1..60)) {
        let mut client = Client::new();
        let mut model: VecDeque<u8> = VecDeque::new();
        for (what, element, number) in steps {
            let e = char::from(b'a' + element);
            match what {
                0..=2 => { client.line(&format!("RPUSH l {e}")); model.push_back(element); }
                3 | 4 => { client.line(&format!("LPUSH l {e}")); model.push_front(element); }
                5 => { client.line("LPOP l"); model.pop_front(); }
                6 => { client.line("RPOP l"); model.pop_back(); }
                7 => {
                    client.line(&format!("LREM l {number} {e}"));
                    let left = if number == 0 { u64::MAX } else { number.unsigned_abs() };
                    let mut left = usize::try_from(left).unwrap();
                    let mut keep = |x: &u8| { let goes = *x == element && left > 0; left -= usize::from(goes); !goes };
                    if number < 0 {
                        model = model.iter().rev().copied().filter(|x| keep(x)).collect();
                        model = model.into_iter().rev().collect();
                    } else {
                        model = model.iter().copied().filter(|x| keep(x)).collect();
                    }
                }
                8 => {
                    client.line(&format!("LINSERT l BEFORE {e} a"));
                    if let Some(at) = model.iter().position(|x| *x == element) { model.insert(at, 0); }
                }
                _ => {
                    client.line(&format!("LTRIM l {number} -2"));
                    let length = i64::try_from(model.len()).unwrap();
                    let start = if number < 0 { (number + length).max(0) } else { number };
                    let kept = (0..).zip(model).filter(|(at, _)| *at >= start && *at <= length - 2);
                    model = kept.map(|(_, x)| x).collect();
                }
            }
            let shown: String = model.iter().map(|x| format!("$1\r\n{}\r\n", char::from(b'a' + *x))).collect();
            prop_assert_eq!(client.line("LRANGE l 0 -1"), format!("*{}\r\n{shown}", model.len()));
            prop_assert_eq!(client.line("LLEN l"), format!(":{}\r\n", model.len()));
            prop_assert_eq!(client.line("EXISTS l"), format!(":{}\r\n", u8::from(!model.is_empty())));
        }
    }
}

/// A list of one element that was moved within it was deleted and made anew, and lost its expiry.
#[test]
fn a_list_that_is_rotated_stays_the_same_list() {
    Client::new().expect(&[
        ("rpush l a", ":1"),
        ("expireat l 5000", ":1"),
        ("rpoplpush l l", "$1|a"),
        ("lmove l l left right", "$1|a"),
        ("expiretime l", ":5000"),
        ("rpush l b c", ":3"),
        ("lmove l l left right", "$1|a"),
        ("lmove l l right right", "$1|a"),
        ("brpoplpush l l 0", "$1|a"),
        ("lrange l 0 -1", "*3|$1|a|$1|b|$1|c"),
    ]);
}
