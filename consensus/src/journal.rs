//! What a replica knows of its log: the term of every entry, and of those that its host holds in
//! memory also their chain and size. Not the entries, and not whether they are durable.
//!
//! Invariant: the held entries are the last ones of the log, without a gap.

use std::collections::VecDeque;

use crate::message::EntryMeta;
use crate::terms::Terms;
use crate::types::{Chain, Index, LogPosition, Term};

/// An entry whose payload the host holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    chain: Chain,
    /// Payload bytes of the log up to and with this entry, counted from when the replica was started.
    end_bytes: u64,
}

/// The log as the core sees it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    terms: Terms,
    base_chain: Chain,
    held: VecDeque<Held>,
    /// The entry before the first that is held.
    before: Held,
}

impl Journal {
    /// Returns the journal of a log that holds nothing behind `base`.
    pub(crate) fn new(base: LogPosition, base_chain: Chain) -> Self {
        Self {
            terms: Terms::new(base),
            base_chain,
            held: VecDeque::new(),
            before: Held {
                chain: base_chain,
                end_bytes: 0,
            },
        }
    }

    /// Returns what the log begins behind.
    pub(crate) fn base(&self) -> LogPosition {
        self.terms.base()
    }

    /// Returns the position of the last entry.
    pub(crate) fn last(&self) -> LogPosition {
        self.terms.last()
    }

    /// Returns the chain of the last entry.
    pub(crate) fn last_chain(&self) -> Chain {
        self.held.back().unwrap_or(&self.before).chain
    }

    /// Returns the term of an entry of the log, or of the base.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        self.terms.term(index)
    }

    /// Returns the position of an entry of the log, or of the base.
    pub(crate) fn position(&self, index: Index) -> Option<LogPosition> {
        let term = self.term(index)?;
        Some(LogPosition { term, index })
    }

    /// Tells whether the log holds an entry at this position, or has it as its base.
    pub(crate) fn contains(&self, position: LogPosition) -> bool {
        self.term(position.index) == Some(position.term)
    }

    /// Returns this log's latest position that is at most `bound` in index and term, or its base.
    pub(crate) fn latest_within(&self, bound: LogPosition) -> LogPosition {
        self.terms.latest_within(bound)
    }

    /// Returns the index of the first entry that is held.
    pub(crate) fn first_held(&self) -> Index {
        Index(self.last().index.0 - self.held.len() as u64 + 1)
    }

    /// Returns what is known of an entry that is held, or of the one before.
    fn held(&self, index: Index) -> Option<&Held> {
        if index.next() == self.first_held() {
            return Some(&self.before);
        }
        let place = index.0.checked_sub(self.first_held().0)?;
        self.held.get(usize::try_from(place).ok()?)
    }

    /// Returns the chain of an entry if it is known.
    pub(crate) fn chain(&self, index: Index) -> Option<Chain> {
        let known = self.held(index).map(|held| held.chain);
        known.or_else(|| (index == self.base().index).then_some(self.base_chain))
    }

    /// Returns the payload bytes of the entries behind `after` up to `upto`; those that are not held
    /// count nothing.
    pub(crate) fn bytes(&self, after: Index, upto: Index) -> u64 {
        let end = |index| self.held(index).unwrap_or(&self.before).end_bytes;
        end(upto).saturating_sub(end(after))
    }

    /// Returns how many entries from `first` on, which is held, have at most `bytes_max` together: at
    /// least one and at most `count_max`.
    pub(crate) fn count_within(&self, first: Index, bytes_max: u32, count_max: u32) -> u32 {
        let last = self.last().index;
        let available = last.0 + 1 - first.0;
        let count_max = available.min(u64::from(count_max));
        // Nearly always all that is left fits.
        if self.bytes(first.before(), Index(first.0 + count_max - 1)) <= u64::from(bytes_max) {
            return u32::try_from(count_max).expect("bounded by a u32");
        }
        let (mut fits, mut exceeds) = (1, count_max);
        while exceeds - fits > 1 {
            let middle = u64::midpoint(fits, exceeds);
            let bytes = self.bytes(first.before(), Index(first.0 + middle - 1));
            match bytes <= u64::from(bytes_max) {
                true => fits = middle,
                false => exceeds = middle,
            }
        }
        u32::try_from(fits).expect("bounded by a u32")
    }

    /// Appends an entry; returns its index.
    pub(crate) fn push(&mut self, meta: &EntryMeta) -> Index {
        let before = self.held.back().unwrap_or(&self.before).end_bytes;
        self.terms.push(meta.term);
        self.held.push_back(Held {
            chain: meta.chain,
            end_bytes: before + u64::from(meta.bytes),
        });
        self.last().index
    }

    /// Drops the entries above `index`.
    ///
    /// # Panics
    /// If entries that are not held must go and the chain of what stays is not known: what is not
    /// committed stays held.
    pub(crate) fn truncate_after(&mut self, index: Index) {
        assert!(
            index.next() >= self.first_held(),
            "only held entries are dropped"
        );
        let stay = index.next().0 - self.first_held().0;
        self.terms.truncate_after(index);
        let stay = usize::try_from(stay).expect("held entries are in memory");
        self.held.truncate(stay);
    }

    /// Forgets the entries before `first_kept`, which the host no longer holds in memory.
    pub(crate) fn release(&mut self, first_kept: Index) {
        while self.first_held() < first_kept {
            let Some(held) = self.held.pop_front() else {
                return;
            };
            self.before = held;
        }
    }

    /// Gives memory back that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.held.shrink_to_fit();
        self.terms.shrink();
    }

    /// Makes an entry the base: the log does not hold it, nor those before it, any more.
    pub(crate) fn compact(&mut self, index: Index, chain: Chain) {
        assert!(self.chain(index).is_none_or(|known| known == chain));
        self.release(index.next());
        self.terms.compact(index);
        self.base_chain = chain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(sizes: &[u32]) -> Journal {
        let mut journal = Journal::new(LogPosition::default(), Chain(0));
        for (at, &bytes) in sizes.iter().enumerate() {
            journal.push(&EntryMeta {
                term: Term(1 + at as u64 / 3),
                bytes,
                chain: Chain(100 + at as u64),
                kind: crate::message::EntryKind::Commands,
            });
        }
        journal
    }

    #[test]
    fn a_message_takes_what_fits_and_at_least_one_entry() {
        let sizes = [10, 20, 30, 40, 500, 1];
        let journal = journal(&sizes);
        for first in 1..=6_usize {
            for bytes_max in 0..700 {
                for count_max in 1..8 {
                    let mut total = 0;
                    let fits = sizes[first - 1..].iter().take_while(|&&bytes| {
                        total += bytes;
                        total <= bytes_max
                    });
                    let expected = fits.count().clamp(1, count_max);
                    let index = Index(first as u64);
                    let count_max = u32::try_from(count_max).unwrap();
                    let found = journal.count_within(index, bytes_max, count_max);
                    assert_eq!(found as usize, expected, "{first} {bytes_max} {count_max}");
                }
            }
        }
    }

    #[test]
    fn what_is_released_is_known_by_its_term_only() {
        let mut journal = journal(&[1, 2, 3, 4, 5, 6]);
        journal.release(Index(4));
        assert_eq!(journal.first_held(), Index(4));
        assert_eq!(journal.chain(Index(2)), None);
        assert_eq!(journal.chain(Index(3)), Some(Chain(102)));
        assert_eq!(journal.term(Index(2)), Some(Term(1)));
        assert_eq!(journal.bytes(Index(1), Index(6)), 15);
        assert_eq!(journal.bytes(Index(4), Index(6)), 11);
        journal.compact(Index(2), Chain(101));
        assert_eq!(journal.chain(Index(2)), Some(Chain(101)));
        assert_eq!(journal.term(Index(1)), None);
    }

    #[test]
    fn the_chain_of_the_last_entry_outlives_its_release_and_truncation() {
        let mut journal = journal(&[1, 2, 3]);
        journal.release(Index(4));
        assert_eq!(journal.last_chain(), Chain(102));
        journal.release(Index(9));
        let mut journal = self::journal(&[1, 2, 3]);
        journal.truncate_after(Index(1));
        assert_eq!(
            (journal.last().index, journal.last_chain()),
            (Index(1), Chain(100))
        );
        journal.truncate_after(Index(0));
        assert_eq!(journal.last_chain(), Chain(0));
    }
}
