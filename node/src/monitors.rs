//! Connections that watch every command go by: `MONITOR`. While there is none, a command pays for one load of a
//! counter.
//!
//! Invariant: what a monitor has not taken is bounded by `client.reply_bytes_max`; one that takes too slowly is
//! closed.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::resp::Words;
use crate::shared::lock;

/// The monitors of a node: shard and number of each connection.
#[derive(Debug, Default)]
pub struct Monitors {
    count: AtomicUsize,
    all: Mutex<Vec<(u32, u64)>>,
}

impl Monitors {
    /// Says whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Adds a connection, if it is not one of them.
    pub fn add(&self, shard: u32, connection: u64) {
        let mut all = lock(&self.all);
        if !all.contains(&(shard, connection)) {
            all.push((shard, connection));
        }
        self.count.store(all.len(), Ordering::Relaxed);
    }

    /// Removes a connection, if it is one of them.
    pub fn remove(&self, connection: u64) {
        if self.any() {
            let mut all = lock(&self.all);
            all.retain(|(_, of)| *of != connection);
            self.count.store(all.len(), Ordering::Relaxed);
        }
    }

    /// Returns all of them.
    #[must_use]
    pub fn all(&self) -> Vec<(u32, u64)> {
        lock(&self.all).clone()
    }
}

/// Writes what a monitor is told of a command: when, on which database, from where, and its words.
#[must_use]
pub fn line(words: Words<'_>, now_us: u64, database: u8, addr: &str) -> String {
    let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
    let mut line = format!("+{seconds}.{micros:06} [{database} {addr}]");
    for word in words {
        line.push_str(" \"");
        word.iter().for_each(|byte| quote(*byte, &mut line));
        line.push('"');
    }
    line.push_str("\r\n");
    line
}

/// Appends a byte as Redis quotes it.
fn quote(byte: u8, line: &mut String) {
    match byte {
        b'"' | b'\\' => line.extend(['\\', char::from(byte)]),
        b'\n' => line.push_str("\\n"),
        b'\r' => line.push_str("\\r"),
        b'\t' => line.push_str("\\t"),
        7 => line.push_str("\\a"),
        8 => line.push_str("\\b"),
        b' '..=b'~' => line.push(char::from(byte)),
        _ => write!(line, "\\x{byte:02x}").expect("a string takes all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedWords;

    #[test]
    fn a_line_shows_every_byte_of_every_word() {
        let words = OwnedWords::of(&[b"SET", b"a \"b\\", b"\x00\r\n\xff\x07"]);
        assert_eq!(
            line(words.as_words(), 5_000_042, 3, "1.2.3.4:5"),
            "+5.000042 [3 1.2.3.4:5] \"SET\" \"a \\\"b\\\\\" \"\\x00\\r\\n\\xff\\a\"\r\n"
        );
    }

    #[test]
    fn monitors_come_and_go() {
        let monitors = Monitors::default();
        monitors.add(1, 7);
        monitors.add(1, 7);
        monitors.add(0, 8);
        assert_eq!(monitors.all(), [(1, 7), (0, 8)]);
        monitors.remove(7);
        monitors.remove(9);
        assert!(monitors.any() && monitors.all() == [(0, 8)]);
        monitors.remove(8);
        assert!(!monitors.any());
    }
}
