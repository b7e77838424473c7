//! Which term each entry of a log is of, as runs: so that no term is ever read from disk. Not the
//! entries.
//!
//! Invariants:
//! 1. Runs are in order: of both index and term each begins above the one before.
//! 2. The log reaches from `base` (what a snapshot or compaction put in the place of all that was
//!    before) to `last`; the term of every index in between is known, and of none outside.

use crate::types::{Index, LogPosition, Term};

/// Entries of one term that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Index,
    term: Term,
}

/// The terms of a log.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    base: LogPosition,
    runs: Vec<Run>,
    last: Index,
}

impl Terms {
    /// Returns the terms of a log that holds nothing behind `base`.
    pub(crate) fn new(base: LogPosition) -> Self {
        Self {
            base,
            runs: Vec::new(),
            last: base.index,
        }
    }

    /// Gives memory back that is not in use.
    pub(crate) fn shrink(&mut self) {
        self.runs.shrink_to_fit();
    }

    /// Returns the position before the first entry.
    pub(crate) fn base(&self) -> LogPosition {
        self.base
    }

    /// Returns the position of the last entry, or the base.
    pub(crate) fn last(&self) -> LogPosition {
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        LogPosition {
            term,
            index: self.last,
        }
    }

    /// Returns the term of the entry at `index`, or of the base.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index < self.base.index || index > self.last {
            return None;
        }
        match self.runs.last() {
            Some(run) if run.first <= index => Some(run.term),
            _ => {
                let run = self.runs.partition_point(|run| run.first <= index);
                let run = run.checked_sub(1).map(|at| self.runs[at].term);
                Some(run.unwrap_or(self.base.term))
            }
        }
    }

    /// Appends one entry.
    pub(crate) fn push(&mut self, term: Term) {
        assert!(term >= self.last().term, "terms of a log do not go back");
        self.last = self.last.next();
        if self.runs.last().is_none_or(|run| run.term != term) {
            let first = self.last;
            self.runs.push(Run { first, term });
        }
    }

    /// Drops the entries above `index`.
    pub(crate) fn truncate_after(&mut self, index: Index) {
        assert!(index >= self.base.index && index <= self.last);
        self.last = index;
        while self.runs.last().is_some_and(|run| run.first > index) {
            self.runs.pop();
        }
    }

    /// Makes `index` the base: the entries up to it are gone.
    pub(crate) fn compact(&mut self, index: Index) {
        let term = self
            .term(index)
            .expect("only what the log holds is compacted");
        self.base = LogPosition { term, index };
        let gone = self.runs.partition_point(|run| run.first <= index);
        let split = gone.checked_sub(1).map(|at| self.runs[at]);
        self.runs.drain(..gone);
        if let Some(run) = split.filter(|_| index < self.last) {
            let next = self.runs.first().map(|run| run.first);
            // The run that the cut went through goes on behind it.
            if next != Some(index.next()) {
                let first = index.next();
                self.runs.insert(0, Run { first, ..run });
            }
        }
    }

    /// Returns the greatest position of this log that is at most `bound` in index and in term: the
    /// base when there is none.
    pub(crate) fn latest_within(&self, bound: LogPosition) -> LogPosition {
        let mut end = self.last.min(bound.index);
        for run in self.runs.iter().rev() {
            if run.first <= end {
                if run.term <= bound.term {
                    return LogPosition {
                        term: run.term,
                        index: end,
                    };
                }
                end = run.first.before();
            }
        }
        self.base
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(term: u64, index: u64) -> LogPosition {
        LogPosition {
            term: Term(term),
            index: Index(index),
        }
    }

    /// The naive model: the term of every entry from index `base + 1` on.
    struct Model {
        base: LogPosition,
        terms: Vec<u64>,
    }

    impl Model {
        fn term(&self, index: u64) -> Option<u64> {
            let place = index.checked_sub(self.base.index.0)?;
            match place {
                0 => Some(self.base.term.0),
                _ => self.terms.get(usize::try_from(place).unwrap() - 1).copied(),
            }
        }

        fn last(&self) -> u64 {
            self.base.index.0 + self.terms.len() as u64
        }
    }

    proptest! {
        #[test]
        fn runs_say_what_a_list_of_terms_says(steps in proptest::collection::vec((0..4, 0..30_u64), 1..80)) {
            let mut terms = Terms::new(position(1, 3));
            let mut model = Model { base: position(1, 3), terms: Vec::new() };
            for (kind, n) in steps {
                let (base, last) = (model.base.index.0, model.last());
                let within = base + n % (last - base + 1);
                match kind {
                    0 | 1 => {
                        let term = terms.last().term.0 + u64::from(n % 3 == 0);
                        terms.push(Term(term));
                        model.terms.push(term);
                    }
                    2 => {
                        terms.truncate_after(Index(within));
                        model.terms.truncate(usize::try_from(within - base).unwrap());
                    }
                    _ => {
                        terms.compact(Index(within));
                        let term = model.term(within).unwrap();
                        model.terms.drain(..usize::try_from(within - base).unwrap());
                        model.base = position(term, within);
                    }
                }
                prop_assert_eq!(terms.base(), model.base);
                prop_assert_eq!(terms.last().index.0, model.last());
                for index in 0..model.last() + 3 {
                    prop_assert_eq!(terms.term(Index(index)).map(|t| t.0), model.term(index));
                }
                let bound = position(n % 12, within + 1);
                let expected = (model.base.index.0 + 1..=model.last().min(within + 1))
                    .rev()
                    .map(|index| position(model.term(index).unwrap(), index))
                    .find(|found| found.term <= bound.term);
                prop_assert_eq!(terms.latest_within(bound), expected.unwrap_or(model.base));
            }
        }
    }
}
