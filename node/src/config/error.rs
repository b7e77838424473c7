//! What can be wrong with a configuration, always said in one line: where, which key, which value,
//! what is allowed.

use std::fmt;

use super::knob::{Knob, Shape};
use super::knobs::KNOBS;
use super::value::excerpt;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The table of knobs itself.
    Defaults,
    /// A configuration file, and the line counted from 1 where one can be named.
    File {
        /// Name as the caller gave it.
        name: String,
        /// Line, counted from 1.
        line: Option<usize>,
    },
    /// A flag of the command line.
    Flag(&'static str),
    /// A command of a client.
    Command,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says, in one line.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key {key}{}", ask(.suggestion.as_deref()))]
    Unknown {
        /// Where.
        place: Place,
        /// The key as given.
        key: String,
        /// The known key that was probably meant.
        suggestion: Option<String>,
    },
    /// The value is of the wrong kind or out of bounds.
    #[error("{place}: {key} = {given} is not allowed; it takes {allowed}")]
    Value {
        /// Where.
        place: Place,
        /// The key.
        key: &'static str,
        /// The value as given.
        given: String,
        /// What the knob takes.
        allowed: String,
    },
    /// A table of the file stands where a value should, or the other way round.
    #[error("{place}: {key} must be {expected}")]
    Shape {
        /// Where.
        place: Place,
        /// The key as given.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The first of two knobs must not be above the second.
    #[error("{place}: {} = {} must not be above {} = {}", first.0, first.1, second.0, second.1)]
    Contradiction {
        /// Where.
        place: Place,
        /// Key and value of the one that is too large.
        first: (&'static str, String),
        /// Key and value of its bound.
        second: (&'static str, String),
    },
    /// The members of the cluster do not fit each other, or this node.
    #[error("{place}: {what}")]
    Cluster {
        /// Where.
        place: Place,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A `--set` without an equals sign.
    #[error("--set {given}: expected KEY=VALUE, for example --set io.stall_ms=10")]
    Pair {
        /// What was given.
        given: String,
    },
    /// The knob cannot change while the node runs.
    #[error(
        "{key} cannot change while the node runs; set it in the configuration file and restart"
    )]
    NeedsRestart {
        /// The key.
        key: String,
    },
}

impl ConfigError {
    /// Returns the error for a key that no knob has, with the nearest one that has.
    pub(super) fn unknown(place: Place, key: &str) -> Self {
        Self::Unknown {
            place,
            key: excerpt(key),
            suggestion: nearest(key).map(str::to_owned),
        }
    }

    /// Returns the error for a value that `knob` does not take.
    pub(super) fn value(place: Place, knob: &Knob, given: &str) -> Self {
        let given = match given.is_empty() {
            true => "\"\"".to_owned(),
            false => excerpt(given),
        };
        let hint = match knob.shape() {
            Shape::Size => ", in bytes or with a unit such as \"64 MiB\" or \"1GB\"",
            Shape::Text | Shape::List | Shape::Count | Shape::Ratio => "",
        };
        let allowed = knob.allowed() + hint;
        Self::Value {
            place,
            key: knob.key(),
            given,
            allowed,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => out.write_str("defaults"),
            Self::File {
                name,
                line: Some(line),
            } => write!(out, "{name}:{line}"),
            Self::File { name, line: None } => out.write_str(name),
            Self::Flag(flag) => out.write_str(flag),
            Self::Command => out.write_str("CONFIG SET"),
        }
    }
}

/// Returns the end of an error message that offers `suggestion`.
fn ask(suggestion: Option<&str>) -> String {
    suggestion
        .map(|key| format!("; did you mean {key}?"))
        .unwrap_or_default()
}

/// Returns the known key or table that is nearest to `given`, when one is near enough to have been
/// meant.
///
/// A key in the wrong table is the commonest mistake, so that names are compared with and without
/// their tables.
fn nearest(given: &str) -> Option<&'static str> {
    let edits_max = (given.len() / 4).clamp(1, 4);
    let leaf = given
        .rsplit('.')
        .next()
        .expect("a split has at least one part");
    let whole = KNOBS
        .iter()
        .map(|knob| (distance(given, knob.key()), knob.key()));
    let leaves = KNOBS
        .iter()
        .map(|knob| (distance(leaf, knob.leaf()), knob.key()));
    let tables = KNOBS
        .iter()
        .map(|knob| (distance(given, knob.table()), knob.table()));
    let candidates = whole.chain(leaves).chain(tables);
    candidates
        .filter(|(edits, key)| !key.is_empty() && *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, key)| key)
}

/// Returns how many characters must be inserted, removed, replaced or swapped with their neighbour
/// to turn `a` into `b` (optimal string alignment).
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
