//! The numbers of `docs/limits.md` are those of the configuration and of the constants that it names.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Words behind a number, and what they multiply it by: bytes, or milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("ms", 1),
    ("s", 1000),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the number that a text begins with, in bytes or milliseconds if a unit follows.
fn number(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let number: u64 = words.next()?.replace([',', '_'], "").parse().ok()?;
    let unit = words.next().unwrap_or("");
    let factor = UNITS.iter().find(|(word, _)| *word == unit);
    Some(number * factor.map_or(1, |(_, factor)| *factor))
}

/// Returns what an expression of a constant comes to: a number, a shift of two, or a duration of one.
fn evaluated(expression: &str) -> Option<u64> {
    for (call, factor) in [
        ("Duration::from_mins(", 60_000),
        ("Duration::from_secs(", 1000),
        ("Duration::from_millis(", 1),
    ] {
        if let Some(inside) = expression.strip_prefix(call) {
            return Some(number(inside.strip_suffix(')')?)? * factor);
        }
    }
    match expression.split_once(" << ") {
        Some((from, by)) => Some(number(from)? << number(by)?),
        None => number(expression),
    }
}

/// Returns the value of a constant in a source text.
fn constant(text: &str, name: &str) -> Option<u64> {
    let (_, behind) = text.split_once(&format!("const {name}: "))?;
    let (_, expression) = behind.split_once(" = ")?;
    let value = evaluated(expression.split_once(';')?.0)?;
    Some(match name.ends_with("_NANOS") {
        true => value / 1_000_000,
        false => value,
    })
}

/// Returns the default of a key, as the configuration that is shipped has it.
fn default_of(config: &toml::Table, key: &str) -> Option<u64> {
    let (table, leaf) = key.split_once('.')?;
    let found = config.get(table)?.get(leaf)?;
    let value = match found.as_str() {
        Some(text) => number(text)?,
        None => u64::try_from(found.as_integer()?).ok()?,
    };
    Some(match leaf.ends_with("_s") {
        true => value * 1000,
        false => value,
    })
}

/// Says what is wrong with a row of the page, if anything is.
fn mistake(config: &toml::Table, row: &str) -> Option<String> {
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let told = match cells[2] {
        "none" => Some(0),
        limit => number(limit),
    };
    let named: Vec<&str> = cells[3].split('`').collect();
    let found = match named[..] {
        ["", key, ""] => default_of(config, key),
        ["", file, " ", name, ""] => {
            let text = fs::read_to_string(root().join(file));
            text.ok().and_then(|text| constant(&text, name))
        }
        _ => return Some(format!("'{}' names no key and no constant", cells[3])),
    };
    (found.is_none() || found != told)
        .then(|| format!("{}: {told:?} is told, {found:?} found", cells[3]))
}

#[test]
fn limits_are_those_of_the_configuration_and_the_source() {
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let config = fs::read_to_string(root().join("deploy/ashlar.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let rows = page.lines().filter(|line| line.matches('|').count() == 5);
    let rows: Vec<&str> = rows
        .filter(|row| !row.contains("|---|") && !row.contains("| where |"))
        .collect();
    assert!(rows.len() > 50, "the page is not understood: {rows:?}");
    for row in rows {
        assert_eq!(mistake(&config, row), None, "{row}");
    }
    for wrong in [
        "| a | 65 KiB | `partition/src/key.rs` `USER_KEY_BYTES_MAX` | b |",
        "| a | 64 KiB | `partition/src/key.rs` `NOTHING` | b |",
        "| a | 5 s | `io.stall_ms` | b |",
        "| a | 5 ms | `io.nothing` | b |",
        "| a | 5 ms | somewhere | b |",
        "| a | much | `io.stall_ms` | b |",
    ] {
        assert!(mistake(&config, wrong).is_some(), "{wrong}");
    }
}
