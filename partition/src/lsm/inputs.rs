//! The versions of several runs as one sequence: keys ascending, of each key the newest first.
//!
//! There is a cursor for each stream of each run; the least of them is next. There are few, so the
//! least is found by looking at all.

use std::ops::Bound;
use std::rc::Rc;

use super::job::Failure;
use super::run_cursor::RunCursor;
use super::store::{Purpose, Store, Windows};
use super::table::{Stream, Table};
use super::version::Run;
use super::{Entry, Miss};

/// Runs that are read together.
pub(crate) struct Inputs {
    cursors: Vec<RunCursor>,
    /// The cursor that is at the next version.
    least: Option<usize>,
    windows: Windows,
}

impl Inputs {
    pub(crate) fn new(store: &Rc<Store>, runs: &[Rc<Run<Rc<Table>>>]) -> Self {
        let mut cursors = Vec::new();
        for run in runs {
            cursors.push(RunCursor::new(run, Stream::Main));
            if run.tables.iter().any(|table| table.has_old()) {
                cursors.push(RunCursor::new(run, Stream::Old));
            }
        }
        Self {
            windows: Windows::new(store, Purpose::Merge, cursors.len().max(1)),
            cursors,
            least: None,
        }
    }

    /// Goes to the first version.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        for at in 0..self.cursors.len() {
            while let Err(miss) = self.cursors[at].seek(&self.windows, Bound::Unbounded) {
                self.load(miss).await?;
            }
        }
        self.least = self.find_least();
        Ok(())
    }

    /// Returns the version that it is at; `None` behind the last.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.least.map(|least| self.cursors[least].entry())
    }

    /// Goes to the next version.
    pub(crate) async fn advance(&mut self) -> Result<(), Failure> {
        let Some(least) = self.least else {
            return Ok(());
        };
        while let Err(miss) = self.cursors[least].next(&self.windows) {
            self.load(miss).await?;
        }
        self.least = self.find_least();
        Ok(())
    }

    async fn load(&mut self, miss: Miss) -> Result<(), Failure> {
        Ok(self.windows.load(miss).await?)
    }

    fn find_least(&self) -> Option<usize> {
        let mut least: Option<usize> = None;
        for (at, cursor) in self.cursors.iter().enumerate() {
            if !cursor.is_valid() {
                continue;
            }
            let is_less = least.is_none_or(|least| {
                let least = &self.cursors[least];
                let order = cursor.key().cmp(least.key());
                order
                    .then_with(|| least.timestamp().cmp(&cursor.timestamp()))
                    .is_lt()
            });
            if is_less {
                least = Some(at);
            }
        }
        least
    }
}
