//! Glob patterns against a naive model: a table of which part of the pattern matches which part of
//! the text.
#![no_main]

use ashlar_node::glob::{Case, literal_prefix, matches};
use libfuzzer_sys::fuzz_target;

/// An element of a pattern.
enum Element {
    Star,
    Any,
    Byte(u8),
    /// Ranges, single bytes of exact case, and whether it is what is not listed that matches.
    Class(Vec<(u8, u8)>, Vec<u8>, bool),
}

fn element(pattern: &[u8]) -> (Element, &[u8]) {
    match pattern {
        [b'*', rest @ ..] => (Element::Star, rest),
        [b'?', rest @ ..] => (Element::Any, rest),
        [b'[', b'^', rest @ ..] => class(rest, true),
        [b'[', rest @ ..] => class(rest, false),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Element::Byte(*byte), rest),
        [] => unreachable!("the pattern has an element"),
    }
}

fn class(mut rest: &[u8], negated: bool) -> (Element, &[u8]) {
    let (mut ranges, mut exact) = (Vec::new(), Vec::new());
    loop {
        rest = match rest {
            [] => break,
            [b']', tail @ ..] => {
                rest = tail;
                break;
            }
            [b'\\', byte, tail @ ..] => {
                exact.push(*byte);
                tail
            }
            [from, b'-', to, tail @ ..] => {
                ranges.push((*from, *to));
                tail
            }
            [byte, tail @ ..] => {
                ranges.push((*byte, *byte));
                tail
            }
        };
    }
    (Element::Class(ranges, exact, negated), rest)
}

fn fold(byte: u8, case: Case) -> u8 {
    match case {
        Case::Sensitive => byte,
        Case::Insensitive => byte.to_ascii_lowercase(),
    }
}

fn takes(element: &Element, byte: u8, case: Case) -> bool {
    match element {
        Element::Star | Element::Any => true,
        Element::Byte(wanted) => fold(*wanted, case) == fold(byte, case),
        Element::Class(ranges, exact, negated) => {
            // The ends are put in order before their case is folded, as Redis does it: `[H-[]` is
            // empty when case does not count.
            let in_range = ranges.iter().any(|(from, to)| {
                let (low, high) = (fold(*from.min(to), case), fold(*from.max(to), case));
                low <= fold(byte, case) && fold(byte, case) <= high
            });
            (in_range || exact.contains(&byte)) != *negated
        }
    }
}

/// Matches by a table: `reached[n]` says that the elements so far match the first n bytes.
fn model(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while !rest.is_empty() {
        let (element, tail) = element(rest);
        rest = tail;
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            if matches!(element, Element::Star) {
                next[at] = reached[at] || (at > 0 && next[at - 1]);
            } else if at > 0 {
                next[at] = reached[at - 1] && takes(&element, text[at - 1], case);
            }
        }
        reached = next;
    }
    reached[text.len()]
}

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(300)];
    let cut = data
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(data.len());
    let (pattern, text) = (&data[..cut], data.get(cut + 1..).unwrap_or_default());
    for case in [Case::Sensitive, Case::Insensitive] {
        assert_eq!(
            matches(pattern, text, case),
            model(pattern, text, case),
            "{case:?}"
        );
    }
    if matches(pattern, text, Case::Sensitive) {
        assert!(text.starts_with(&literal_prefix(pattern)));
    }
});
