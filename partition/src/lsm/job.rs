//! What tasks of a tree are given, and what they answer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::edit::Edit;
use super::ranges::Ranges;
use super::store::{ReadError, Store, WriteError};
use super::table::Table;
use super::{FileId, Layout, REPLICAS_EVER};

/// How long a task that could not write waits before it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Of a frozen memtable to a table.
    Flush,
    /// Of runs to one.
    Merge,
}

/// Numbers of files and runs, none of which is given twice. Replicas of one partition give different
/// ones, so that a file that one has received from another keeps its number.
#[derive(Debug)]
pub(crate) struct Numbers {
    next: Cell<u64>,
    /// Numbers that are `residue` modulo this are given.
    stride: Cell<u64>,
    residue: Cell<u64>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            next: Cell::new(1),
            stride: Cell::new(1),
            residue: Cell::new(0),
        }
    }
}

impl Numbers {
    /// Gives only numbers that the replica with this id gives.
    pub(crate) fn share(&self, replica: u64) {
        self.stride.set(REPLICAS_EVER);
        self.residue.set(replica % REPLICAS_EVER);
    }

    /// Returns the first number that was not given.
    pub(crate) fn next(&self) -> u64 {
        self.next.get()
    }

    /// Gives no number below `next` any more.
    pub(crate) fn skip_to(&self, next: u64) {
        self.next.set(next.max(self.next.get()));
    }

    fn take(&self) -> u64 {
        let (next, stride) = (self.next.get(), self.stride.get());
        let number = next + (self.residue.get() + stride - next % stride) % stride;
        self.next.set(number + 1);
        number
    }
}

/// What a task needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Rc<Store>,
    pub(crate) layout: Layout,
    pub(crate) partition: u32,
    pub(crate) numbers: Rc<Numbers>,
    /// Nobody reads as of an earlier timestamp.
    pub(crate) low_water: u64,
    /// The range deletions of the partition when the task began.
    pub(crate) ranges: Ranges,
    /// Set while a merge should end at its next step: another is to go first.
    pub(crate) should_yield: Rc<Cell<bool>>,
}

impl Context {
    /// Returns a file that nobody has.
    pub(crate) fn new_file(&self) -> FileId {
        FileId {
            partition: self.partition,
            number: self.numbers.take(),
        }
    }
}

/// What a task has done: a change to be logged, or its end.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) edit: Option<Edit>,
    /// The tables that the edit adds.
    pub(crate) opened: Vec<Rc<Table>>,
    pub(crate) ended: Option<Task>,
    pub(crate) failed: Option<Failure>,
}

impl Done {
    pub(crate) fn edit(edit: Edit, opened: Vec<Rc<Table>>) -> Self {
        Self {
            edit: Some(edit),
            opened,
            ended: None,
            failed: None,
        }
    }

    pub(crate) fn end(task: Task, failed: Option<Failure>) -> Self {
        Self {
            edit: None,
            opened: Vec::new(),
            ended: Some(task),
            failed,
        }
    }
}

/// Where a task puts what it has done.
#[derive(Clone, Debug)]
pub(crate) struct Report(Rc<RefCell<VecDeque<Done>>>);

impl Report {
    pub(crate) fn new(done: Rc<RefCell<VecDeque<Done>>>) -> Self {
        Self(done)
    }

    /// Proposes a change of the version.
    pub(crate) fn edit(&self, edit: Edit, opened: Vec<Rc<Table>>) {
        self.0.borrow_mut().push_back(Done::edit(edit, opened));
    }
}

/// Why a task ended early. What it reported before stays.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A file that is part of the version cannot be understood.
    Damaged(String),
    /// The operating system refused; trying again later may help.
    Io(String),
}

impl Failure {
    /// Waits as long as the failure asks for, and says what it is.
    pub(crate) async fn pause(&self, store: &Store) {
        match self {
            Self::Damaged(what) => tracing::error!("{what}"),
            Self::Io(what) => {
                tracing::warn!("{what}; it is tried again");
                store.reactor().sleep(RETRY).await;
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) | Self::Io(what) => f.write_str(what),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        if error.is_damage() {
            Self::Damaged(error.to_string())
        } else {
            Self::Io(error.to_string())
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        Self::Io(error.to_string())
    }
}
