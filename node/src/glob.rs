//! Glob patterns as `KEYS`, `SCAN MATCH` and `PSUBSCRIBE` know them.
//!
//! ```text
//! *       any bytes, also none            [abc]   one of these bytes
//! ?       any one byte                    [a-z]   one byte of this range, ends in either order
//! \x      the byte x itself               [^a-z]  one byte not listed
//! ```
//!
//! They match bytes, not characters, and the whole text. This is not a regular expression engine.
//!
//! The oddities of Redis' `stringmatchlen` are kept: a class that is never closed ends with the
//! pattern, `[]` matches nothing, `[^]` and a trailing `[^` match any byte, and `[a-]` reads `]` as
//! the end of a range. One is not: `*` also matches the empty text.
//!
//! Invariant: no recursion, and at most `pattern * text` steps. Going back to the last `*` only is
//! enough, because whatever an earlier star could skip, the last one can skip too.

/// Whether letters of different case are the same; only ASCII has case here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `a` and `A` differ.
    Sensitive,
    /// `a` and `A` are the same.
    Insensitive,
}

impl Case {
    fn fold(self, byte: u8) -> u8 {
        match self {
            Self::Sensitive => byte,
            Self::Insensitive => byte.to_ascii_lowercase(),
        }
    }
}

/// Tells whether `pattern` matches the whole of `text`.
///
/// A caller that matches many texts should bound the pattern's length: the cost per text grows with
/// the product of both lengths in the worst case.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one byte of text further each time.
    let mut retry = None;
    while let Some(&byte) = text.get(text_at) {
        if pattern.get(pattern_at) == Some(&b'*') {
            pattern_at += 1;
            retry = Some((pattern_at, text_at));
        } else if let Some(used) = match_one(&pattern[pattern_at..], byte, case) {
            pattern_at += used;
            text_at += 1;
        } else if let Some((after_star, skipped_to)) = retry {
            (pattern_at, text_at) = (after_star, skipped_to + 1);
            retry = Some((after_star, text_at));
        } else {
            return false;
        }
    }
    pattern[pattern_at..].iter().all(|&byte| byte == b'*')
}

/// Returns the bytes that every text matched by `pattern` begins with, case-sensitively.
///
/// Keys are ordered, so a scan for a pattern need only read the range of this prefix.
#[must_use]
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut rest = pattern;
    loop {
        rest = match rest {
            [] | [b'*' | b'?' | b'[', ..] => return prefix,
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                prefix.push(*byte);
                tail
            }
        };
    }
}

/// Matches `byte` with the first element of `pattern`, which is no star; returns the length of that
/// element in the pattern if it matches.
fn match_one(pattern: &[u8], byte: u8, case: Case) -> Option<usize> {
    let (literal, used) = match pattern {
        [] => return None,
        [b'?', ..] => return Some(1),
        [b'[', class @ ..] => return match_class(class, byte, case).map(|used| used + 1),
        [b'\\', escaped, ..] => (*escaped, 2),
        [literal, ..] => (*literal, 1),
    };
    (case.fold(literal) == case.fold(byte)).then_some(used)
}

/// Matches `byte` with the class whose inside begins `class`; returns the length of the inside and
/// its closing bracket.
fn match_class(class: &[u8], byte: u8, case: Case) -> Option<usize> {
    let (negated, mut rest) = match class {
        [b'^', inside @ ..] => (true, inside),
        inside => (false, inside),
    };
    let mut listed = false;
    loop {
        let (hit, tail) = match rest {
            [] => break,
            [b']', tail @ ..] => {
                rest = tail;
                break;
            }
            // An escaped byte of a class has its exact case, in Redis too.
            [b'\\', escaped, tail @ ..] => (*escaped == byte, tail),
            [from, b'-', to, tail @ ..] => (in_range(*from, *to, byte, case), tail),
            [member, tail @ ..] => (case.fold(*member) == case.fold(byte), tail),
        };
        listed |= hit;
        rest = tail;
    }
    (listed != negated).then_some(class.len() - rest.len())
}

/// Tells whether `byte` lies between two others. The ends are put in order before their case is
/// dropped, as in Redis: `[a-Z]` thereby becomes `[z-a]`, which is empty.
fn in_range(from: u8, to: u8, byte: u8, case: Case) -> bool {
    let (low, high) = (case.fold(from.min(to)), case.fold(from.max(to)));
    (low..=high).contains(&case.fold(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: a star is nothing, or any byte and a star.
    fn matches_by_definition(pattern: &[u8], text: &[u8], case: Case) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => {
                matches_by_definition(rest, text, case)
                    || (!text.is_empty() && matches_by_definition(pattern, &text[1..], case))
            }
            (_, []) => false,
            (_, [byte, tail @ ..]) => match_one(pattern, *byte, case)
                .is_some_and(|used| matches_by_definition(&pattern[used..], tail, case)),
        }
    }

    fn sensitive(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
    }

    #[test]
    fn patterns_match_the_whole_text() {
        let matching = [
            ("", ""),
            ("*", ""),
            ("**", ""),
            ("*", "x"),
            ("a*", "a"),
            ("a*c", "abbc"),
            ("?", "x"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("[a-c]", "b"),
            ("[c-a]", "b"),
            ("\\*", "*"),
            ("\\", "\\"),
            ("[\\]]", "]"),
            ("[a-", "-"),
            ("[abc", "c"),
            ("[^", "x"),
            ("[^]", "x"),
            ("*aab", "aaaab"),
            ("a*b*c", "a1b2b3c"),
            ("[a-]", "]"),
        ];
        for (pattern, text) in matching {
            assert!(sensitive(pattern, text), "{pattern} should match {text}");
        }
        let different = [
            ("", "a"),
            ("?", ""),
            ("a", "A"),
            ("a", "ab"),
            ("ab", "a"),
            ("[", "["),
            ("[]", "]"),
            ("[]a]", "a]"),
            ("[^e]", "e"),
            ("*a", "ab"),
            ("\\*", "a"),
            ("a*b", "acbc"),
            ("[a]", ""),
        ];
        for (pattern, text) in different {
            assert!(
                !sensitive(pattern, text),
                "{pattern} should not match {text}"
            );
        }
    }

    #[test]
    fn case_is_dropped_for_letters_and_ranges_but_not_for_escapes_in_classes() {
        let insensitive = |pattern: &[u8], text: &[u8]| matches(pattern, text, Case::Insensitive);
        assert!(insensitive(b"HeL*", b"hElLo"));
        assert!(insensitive(b"[A-C]\\D", b"bd"));
        assert!(insensitive(b"[X]", b"x"));
        assert!(!insensitive(b"[\\X]", b"x"));
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let text = vec![b'a'; 20_000];
        let stars = b"*a".repeat(1_000);
        assert!(matches(&stars, &text, Case::Sensitive));
        assert!(!matches(
            &[&stars[..], b"b"].concat(),
            &text,
            Case::Sensitive
        ));
        assert!(matches(&vec![b'*'; 100_000], &text, Case::Sensitive));
    }

    #[test]
    fn the_literal_prefix_ends_at_the_first_operator() {
        let cases: [(&[u8], &[u8]); 6] = [
            (b"user:*", b"user:"),
            (b"*", b""),
            (b"a\\*b?", b"a*b"),
            (b"a[b]", b"a"),
            (b"plain", b"plain"),
            (b"end\\", b"end\\"),
        ];
        for (pattern, prefix) in cases {
            assert_eq!(literal_prefix(pattern), prefix);
        }
    }

    proptest! {
        #[test]
        fn backtracking_to_the_last_star_is_enough(
            pattern in "[ab*?\\[\\]^\\\\-]{0,12}",
            text in "[abA\\]\\-]{0,10}",
        ) {
            for case in [Case::Sensitive, Case::Insensitive] {
                let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
                let expected = matches_by_definition(pattern, text, case);
                prop_assert_eq!(matches(pattern, text, case), expected);
                if expected && case == Case::Sensitive {
                    prop_assert!(text.starts_with(&literal_prefix(pattern)));
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            pattern in prop::collection::vec(any::<u8>(), 0..40),
            text in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = matches(&pattern, &text, Case::Insensitive);
            let _ = literal_prefix(&pattern);
        }
    }
}
