//! The versions of several runs as one sequence: keys ascending, of each key the newest first.
//!
//! There is a cursor for each stream of each run. They wait in the order of what they are at; one that
//! has gone on is put where it now belongs. The front of each key waits with it as a number, so that
//! most comparisons look at no key.

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
    /// The cursors that are at a version, the one at the next version first. Of equal versions, that
    /// of the newer run is.
    queue: Vec<Waiting>,
    windows: Windows,
    /// How many bytes at their front all keys share.
    shared_bytes: usize,
}

/// A cursor in the queue.
#[derive(Clone, Copy)]
struct Waiting {
    /// The first eight bytes of its key behind those that all keys share, in their order.
    front: u64,
    cursor: usize,
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
            shared_bytes: shared_bytes(runs),
        }
    }

    /// Goes to the first version.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        for at in 0..self.cursors.len() {
            while let Err(miss) = self.cursors[at].seek(&self.windows, Bound::Unbounded) {
                self.load(miss).await?;
            }
        }
        let mut queue: Vec<Waiting> = (0..self.cursors.len())
            .filter(|at| self.cursors[*at].is_valid())
            .map(|at| self.waiting(at))
            .collect();
        queue.sort_by(|a, b| self.compare(*a, *b));
        self.queue = queue;
        Ok(())
    }

    /// Returns the version that it is at; `None` behind the last.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        let first = self.queue.first()?;
        Some(self.cursors[first.cursor].entry())
    }

    /// Returns a number that is another for most other keys, and the same for the same: see [`Waiting`].
    #[inline]
    pub(crate) fn front(&self) -> u64 {
        self.queue.first().map_or(0, |first| first.front)
    }

    /// Goes to the next version.
    ///
    /// # Errors
    /// A block has to be loaded first; the call is to be made again then.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), Miss> {
        if let Some(first) = self.queue.first() {
            self.cursors[first.cursor].next(&self.windows)?;
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
        let first = self.queue[0].cursor;
        if !self.cursors[first].is_valid() {
            self.queue.remove(0);
            return;
        }
        let first = self.waiting(first);
        // A run that is much larger than the others is mostly first again.
        if self
            .queue
            .get(1)
            .is_none_or(|next| first.front < next.front)
        {
            self.queue[0] = first;
            return;
        }
        // Those with a lesser front are counted without a branch: where it belongs cannot be foreseen.
        let others = &self.queue[1..];
        let lesser = others
            .iter()
            .map(|other| usize::from(other.front < first.front));
        let mut before = lesser.sum();
        let is_before = |other: &Waiting| self.compare(*other, first).is_lt();
        while others.get(before).is_some_and(is_before) {
            before += 1;
        }
        self.queue.copy_within(1..=before, 0);
        self.queue[before] = first;
    }

    /// Returns the place in the queue of a cursor that is at a version.
    #[inline]
    fn waiting(&self, cursor: usize) -> Waiting {
        let key = self.cursors[cursor].key();
        let key = key.get(self.shared_bytes..).unwrap_or_default();
        let mut front = [0; 8];
        match key.first_chunk::<8>() {
            Some(whole) => front = *whole,
            None => front[..key.len()].copy_from_slice(key),
        }
        Waiting {
            front: u64::from_le_bytes(front).swap_bytes(),
            cursor,
        }
    }

    /// Compares what two cursors are at.
    #[inline]
    fn compare(&self, a: Waiting, b: Waiting) -> Ordering {
        match a.front.cmp(&b.front) {
            Ordering::Equal => self.compare_whole(a.cursor, b.cursor),
            order => order,
        }
    }

    fn compare_whole(&self, a: usize, b: usize) -> Ordering {
        let (left, right) = (&self.cursors[a], &self.cursors[b]);
        let order = left.key().cmp(right.key());
        order
            .then_with(|| right.timestamp().cmp(&left.timestamp()))
            .then(a.cmp(&b))
    }
}

/// Returns how many bytes at their front all keys of some runs share.
fn shared_bytes(runs: &[Rc<Run<Rc<Table>>>]) -> usize {
    let tables = || runs.iter().flat_map(|run| &run.tables);
    let first = tables().map(|table| &table.meta().first_key).min();
    let last = tables().map(|table| &table.meta().last_key).max();
    let (Some(first), Some(last)) = (first, last) else {
        return 0;
    };
    first.iter().zip(last).take_while(|(a, b)| a == b).count()
}
