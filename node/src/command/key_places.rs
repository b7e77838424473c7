//! Which words of a command are its keys, as its row says.

use std::ops::Range;

use super::{Command, Elements};
use crate::number::parse_i64;
use crate::resp::Words;

impl Command {
    /// Says whether it has keys.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.first_key > 0 || self.counts_keys()
    }

    /// Says whether one of its words tells how many keys follow.
    #[must_use]
    pub fn counts_keys(&self) -> bool {
        self.derived.numkeys > 0
    }

    /// Says whether it has one key, always.
    #[must_use]
    pub fn has_one_key(&self) -> bool {
        self.first_key == self.last_key && !self.counts_keys()
    }

    /// Returns the places of the keys among the words of a command.
    pub fn key_places(&self, words: Words<'_>) -> impl Iterator<Item = usize> + use<> {
        self.placed_keys(words.len())
            .chain(self.counted_keys(words))
    }

    /// Returns the places of the keys that a word tells the number of; nothing when the number is wrong.
    #[must_use]
    pub fn counted_keys(&self, words: Words<'_>) -> Range<usize> {
        let first = usize::from(self.derived.numkeys) + 1;
        let count = words.get(first - 1).filter(|_| first > 1);
        let count = count
            .and_then(parse_i64)
            .and_then(|n| usize::try_from(n).ok());
        match count {
            Some(count) if count <= words.len() - first => first..first + count,
            _ => 0..0,
        }
    }

    /// Says whether words of it name elements of the collection under its first key.
    #[must_use]
    pub fn has_elements(&self) -> bool {
        self.derived.elements != Elements::None
    }

    /// Returns the places of the words that name elements, of `words` in all; behind options they are guessed.
    pub fn element_places(&self, words: usize) -> impl Iterator<Item = usize> + use<> {
        let (from, until, step) = match self.derived.elements {
            Elements::None => (0, 0, 1),
            Elements::Last => (words.saturating_sub(1), words, 1),
            Elements::Behind(0) => (2, words.min(3), 1),
            Elements::Behind(step) => (2, words, usize::from(step)),
        };
        (from..until).step_by(step)
    }

    fn placed_keys(&self, words: usize) -> impl Iterator<Item = usize> + use<> {
        let first = usize::try_from(self.first_key).unwrap_or(0);
        let from_end = usize::from(self.last_key.unsigned_abs());
        let last = if self.last_key < 0 {
            words.saturating_sub(from_end)
        } else {
            from_end
        };
        let step = usize::try_from(self.key_step).unwrap_or(1).max(1);
        let none = first == 0;
        (first..=last)
            .step_by(step)
            .filter(move |place| !none && *place < words)
    }
}
