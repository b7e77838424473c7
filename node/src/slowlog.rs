//! The commands that took long, newest first: `SLOWLOG`. Time in it is that of the command itself, without what
//! it waited for: the disk, other shards, its turn. Written rarely, so one lock serves all shards.
//!
//! Invariant: what is kept is bounded: [`ENTRIES_MAX`] entries of at most [`WORDS_MAX`] words of
//! [`WORD_BYTES_MAX`] bytes.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::resp::Words;
use crate::shared::lock;

/// Entries that are kept.
pub const ENTRIES_MAX: usize = 128;
/// Words of an entry, the name included.
pub const WORDS_MAX: usize = 32;
/// Bytes of a word.
pub const WORD_BYTES_MAX: usize = 128;
/// Nanoseconds from which on a command is kept.
pub const SLOWER_THAN_NANOS: u64 = 10_000_000;

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, growing.
    pub id: u64,
    /// When it ended, in seconds since 1970.
    pub at_s: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// Its words, shortened.
    pub words: Vec<Vec<u8>>,
    /// Address of the client.
    pub addr: String,
    /// Name of the client.
    pub name: Vec<u8>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    next_id: u64,
}

/// The commands that took long.
#[derive(Debug, Default)]
pub struct Slowlog(Mutex<Kept>);

impl Slowlog {
    /// Keeps a command, and forgets the oldest when there are too many.
    pub fn note(&self, words: Words<'_>, took_us: u64, at_s: u64, (addr, name): (&str, Vec<u8>)) {
        let mut kept = lock(&self.0);
        let id = kept.next_id;
        kept.next_id += 1;
        kept.entries.push_front(Entry {
            id,
            at_s,
            took_us,
            words: shorten(words),
            addr: addr.to_owned(),
            name,
        });
        kept.entries.truncate(ENTRIES_MAX);
    }

    /// Returns the newest entries.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        lock(&self.0).entries.iter().take(count).cloned().collect()
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.0).entries.len()
    }

    /// Forgets all entries.
    pub fn reset(&self) {
        lock(&self.0).entries.clear();
    }
}

/// Copies words; long ones, and the last of many, say how much was left out.
fn shorten(words: Words<'_>) -> Vec<Vec<u8>> {
    let shown = if words.len() > WORDS_MAX {
        WORDS_MAX - 1
    } else {
        words.len()
    };
    let each = words.iter().take(shown).map(|word| match word.len() {
        0..=WORD_BYTES_MAX => word.to_vec(),
        length => {
            let more = format!("... ({} more bytes)", length - WORD_BYTES_MAX);
            [&word[..WORD_BYTES_MAX], more.as_bytes()].concat()
        }
    });
    let mut kept: Vec<Vec<u8>> = each.collect();
    if shown < words.len() {
        kept.push(format!("... ({} more arguments)", words.len() - shown).into_bytes());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedWords;

    #[test]
    fn what_is_kept_is_short_and_the_newest() {
        let log = Slowlog::default();
        let long = vec![b'x'; 200];
        let mut many = vec![&b"MGET"[..]];
        many.resize(40, &long);
        let words = OwnedWords::of(&many);
        for took in 0..200 {
            log.note(words.as_words(), took, 7, ("1.2.3.4:5", b"me".to_vec()));
        }
        assert_eq!(log.count(), ENTRIES_MAX);
        let newest = log.newest(1).remove(0);
        assert_eq!(
            (newest.id, newest.took_us, newest.words.len()),
            (199, 199, 32)
        );
        assert_eq!(newest.words[31], b"... (9 more arguments)");
        assert!(newest.words[1].ends_with(b"... (72 more bytes)"));
        log.reset();
        assert_eq!((log.count(), log.newest(5)), (0, Vec::new()));
    }
}
