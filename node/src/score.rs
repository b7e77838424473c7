//! Scores of sorted sets as words of commands, and the ranges of scores and of members that commands name, read as
//! Redis reads them. Not how a score is kept: that is the business of `partition::collection`; nor how it is shown.
//!
//! Numbers of hexadecimal digits are not read.

use std::num::FpCategory;
use std::ops::Bound;

use ashlar_partition::Order;
use ashlar_partition::collection::{bytes_above, score_bytes};

/// Reads a score or a weight: decimal, with an exponent or without, or `inf`. Nothing when it is none, or does not fit.
#[must_use]
pub fn parse(text: &[u8]) -> Option<f64> {
    let number = decimal(text)?;
    let mantissa = || text.iter().take_while(|byte| !b"eE".contains(byte));
    let fits = match number.classify() {
        FpCategory::Infinite => !mantissa().any(u8::is_ascii_digit),
        FpCategory::Zero => !mantissa().any(|byte| (b'1'..=b'9').contains(byte)),
        FpCategory::Normal | FpCategory::Subnormal | FpCategory::Nan => true,
    };
    fits.then_some(number)
}

/// Reads a number; one that is too large is infinite, and one that is too small is 0.
fn decimal(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!number.is_nan()).then_some(number)
}

/// Scores from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scores {
    /// What the elements of the range are not below, as bytes.
    pub from: [u8; 8],
    /// What they are below.
    pub until: [u8; 8],
}

impl Scores {
    /// Reads the ends of a range: numbers, behind `(` when they are not in it.
    #[must_use]
    pub fn parse(min: &[u8], max: &[u8]) -> Option<Self> {
        let (least, is_beyond) = score_end(min)?;
        let (greatest, is_before) = score_end(max)?;
        Some(Self {
            from: if is_beyond {
                bytes_above(least)
            } else {
                score_bytes(least)
            },
            until: if is_before {
                score_bytes(greatest)
            } else {
                bytes_above(greatest)
            },
        })
    }

    /// Says whether no score is in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from >= self.until
    }
}

/// Reads an end of a range of scores; says whether it is not in it. C's reading of numbers is part of it: blanks in
/// front are nothing, no number is 0, a zero byte ends all.
fn score_end(text: &[u8]) -> Option<(f64, bool)> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let (text, is_open) = match text.strip_prefix(b"(") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if text.is_empty() {
        return Some((0.0, is_open));
    }
    let blanks = text
        .iter()
        .take_while(|byte| b" \t\n\x0b\x0c\r".contains(byte));
    decimal(&text[blanks.count()..]).map(|number| (number, is_open))
}

/// An end of a range of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End<'a> {
    /// Before all.
    Least,
    /// Behind all.
    Greatest,
    /// A member, which is in the range.
    At(&'a [u8]),
    /// A member, which is not.
    Beside(&'a [u8]),
}

impl<'a> End<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            [b'-'] | [b'-', 0, ..] => Some(Self::Least),
            [b'+'] | [b'+', 0, ..] => Some(Self::Greatest),
            [b'[', member @ ..] => Some(Self::At(member)),
            [b'(', member @ ..] => Some(Self::Beside(member)),
            _ => None,
        }
    }

    fn member(self) -> Option<&'a [u8]> {
        match self {
            Self::At(member) | Self::Beside(member) => Some(member),
            Self::Least | Self::Greatest => None,
        }
    }
}

/// Members from one to another, by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members<'a> {
    min: End<'a>,
    max: End<'a>,
}

impl<'a> Members<'a> {
    /// Reads the ends of a range: `[` or `(` and a member, `-` or `+`.
    #[must_use]
    pub fn parse(min: &'a [u8], max: &'a [u8]) -> Option<Self> {
        let (min, max) = (End::parse(min)?, End::parse(max)?);
        Some(Self { min, max })
    }

    /// Says whether no member is in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (self.min.member(), self.max.member()) {
            (Some(least), Some(greatest)) => {
                let is_closed = matches!((self.min, self.max), (End::At(_), End::At(_)));
                least > greatest || (least == greatest && !is_closed)
            }
            _ => self.min == End::Greatest || self.max == End::Least,
        }
    }

    /// Says whether a member is not before the range.
    #[must_use]
    pub fn is_reached_by(&self, member: &[u8], order: Order) -> bool {
        match order {
            Order::Ascending => self.is_above_min(member),
            Order::Descending => self.is_below_max(member),
        }
    }

    /// Says whether a member is behind the range.
    #[must_use]
    pub fn is_left_by(&self, member: &[u8], order: Order) -> bool {
        match order {
            Order::Ascending => !self.is_below_max(member),
            Order::Descending => !self.is_above_min(member),
        }
    }

    fn is_above_min(&self, member: &[u8]) -> bool {
        match self.min {
            End::Least => true,
            End::Greatest => false,
            End::At(least) => member >= least,
            End::Beside(least) => member > least,
        }
    }

    fn is_below_max(&self, member: &[u8]) -> bool {
        match self.max {
            End::Least => false,
            End::Greatest => true,
            End::At(greatest) => member <= greatest,
            End::Beside(greatest) => member < greatest,
        }
    }

    /// Returns the range as that of sub-keys, of elements that all have one score.
    #[must_use]
    pub fn with_score(&self, score: f64) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let with = |member: &[u8]| [&score_bytes(score), member].concat();
        let end = |end: End<'_>| match end {
            End::Least => Bound::Included(with(&[])),
            End::Greatest => Bound::Excluded(bytes_above(score).to_vec()),
            End::At(member) => Bound::Included(with(member)),
            End::Beside(member) => Bound::Excluded(with(member)),
        };
        (end(self.min), end(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_numbers_that_fit() {
        for (text, number) in [
            ("1", 1.0),
            ("-1.5e3", -1500.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("+3", 3.0),
            ("0e5", 0.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("5e-324", 5e-324),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "", " 1", "1 ", "nan", "-nan", "1e", "1e400", "-1e400", "1e-400", "x", "0x10", "1,5",
            ".",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn ranges_of_scores_are_read_as_c_reads_numbers() {
        let of = |min: &str, max: &str| Scores::parse(min.as_bytes(), max.as_bytes());
        assert_eq!(of("", "5"), of("0", "5"));
        assert_eq!(of("(", " 5"), of("(0", "5"));
        assert_eq!(of("-inf", "1e999"), of("-inf", "+inf"));
        assert_eq!(of("1\0x", "2"), of("1", "2"));
        for (min, max) in [
            ("x", "1"),
            ("1", "(x"),
            ("nan", "1"),
            ("1", "2 "),
            ("(", "((1"),
        ] {
            assert_eq!(of(min, max), None, "{min} {max}");
        }
        let is_empty = |min, max| of(min, max).expect("a range").is_empty();
        assert!(is_empty("2", "1") && is_empty("(1", "1") && is_empty("1", "(1"));
        assert!(!is_empty("1", "1") && !is_empty("inf", "inf") && is_empty("(inf", "inf"));
    }

    #[test]
    fn ranges_of_members_hold_what_lies_between_their_ends() {
        let range = |min: &'static str, max: &'static str| {
            Members::parse(min.as_bytes(), max.as_bytes()).expect("a range")
        };
        for (min, max) in [
            ("+", "-"),
            ("-", "-"),
            ("+", "+"),
            ("[b", "[a"),
            ("(a", "[a"),
            ("+", "[z"),
        ] {
            assert!(range(min, max).is_empty(), "{min} {max}");
        }
        let up = Order::Ascending;
        let holds = |of: Members<'_>, member: &[u8]| {
            of.is_reached_by(member, up) && !of.is_left_by(member, up)
        };
        assert!(holds(range("[a", "(c"), b"a") && !holds(range("(a", "(c"), b"a"));
        assert!(holds(range("-", "[c"), b"c") && !holds(range("-", "(c"), b"c"));
        assert!(holds(range("-", "+"), b"") && !range("-", "+").is_left_by(b"x", up));
        for (min, max) in [("a", "+"), ("-", "b"), ("", "+"), ("-x", "+")] {
            assert_eq!(Members::parse(min.as_bytes(), max.as_bytes()), None);
        }
    }
}
