//! The versions of several runs as one sequence: keys ascending, of each key the newest first.
//!
//! There is a cursor for each stream of each run. They wait in the order of what they are at; one that
//! has gone on is put where it now belongs.

use std::cmp::Ordering;
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
    /// The cursors that are at a version, by number, the one at the next version first. Of equal
    /// versions, that of the newer run is.
    queue: Vec<usize>,
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
            queue: Vec::new(),
        }
    }

    /// Goes to the first version.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        for at in 0..self.cursors.len() {
            while let Err(miss) = self.cursors[at].seek(&self.windows, Bound::Unbounded) {
                self.load(miss).await?;
            }
        }
        self.queue = (0..self.cursors.len())
            .filter(|at| self.cursors[*at].is_valid())
            .collect();
        let mut queue = std::mem::take(&mut self.queue);
        queue.sort_by(|a, b| self.compare(*a, *b));
        self.queue = queue;
        Ok(())
    }

    /// Returns the version that it is at; `None` behind the last.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.queue.first().map(|first| self.cursors[*first].entry())
    }

    /// Goes to the next version.
    ///
    /// # Errors
    /// A block has to be loaded first; the call is to be made again then.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), Miss> {
        if let Some(first) = self.queue.first() {
            self.cursors[*first].next(&self.windows)?;
            self.put_first();
        }
        Ok(())
    }

    /// Waits until a block can be found.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub(crate) async fn load(&mut self, miss: Miss) -> Result<(), Failure> {
        Ok(self.windows.load(miss).await?)
    }

    /// Puts the first of the queue, which has gone on, where it belongs.
    #[inline]
    fn put_first(&mut self) {
        let first = self.queue[0];
        if !self.cursors[first].is_valid() {
            self.queue.remove(0);
            return;
        }
        let before = self.queue[1..].partition_point(|other| self.compare(*other, first).is_lt());
        self.queue[..=before].rotate_left(1);
    }

    /// Compares what two cursors are at.
    #[inline]
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let (left, right) = (&self.cursors[a], &self.cursors[b]);
        let order = left.key().cmp(right.key());
        order
            .then_with(|| right.timestamp().cmp(&left.timestamp()))
            .then(a.cmp(&b))
    }
}
