//! What went wrong with a file of tables: one line that names the file and the place.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use crate::lsm::Malformed;

/// Why a read brought nothing.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The operating system refused.
    Io(Rc<io::Error>),
    /// What is there is not what was written. Asking again is of no use.
    Damaged(Malformed),
}

/// A read of a table or value file failed. Clones say the same to everybody who waited.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} at offset {offset}: {what}", .path.display())]
pub(crate) struct ReadError {
    /// The file.
    pub(crate) path: PathBuf,
    /// Where in it, in bytes.
    pub(crate) offset: u64,
    /// What happened.
    pub(crate) what: Fault,
}

impl ReadError {
    /// Says whether the file's content is wrong, rather than out of reach.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.what, Fault::Damaged(_))
    }

    /// Says whether there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(&self.what, Fault::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::Damaged(malformed) => write!(f, "damaged: {malformed}"),
        }
    }
}

/// A table or value file could not be made; nothing of it is left to be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} cannot be written: {what}", .path.display())]
pub(crate) struct WriteError {
    /// The file, or its directory.
    pub(crate) path: PathBuf,
    /// What the operating system said.
    pub(crate) what: Rc<io::Error>,
}

impl WriteError {
    /// Puts a name to what the operating system said.
    pub(crate) fn new(path: impl Into<PathBuf>, what: io::Error) -> Self {
        Self {
            path: path.into(),
            what: Rc::new(what),
        }
    }

    /// Says whether the disk is full, so that trying again may help.
    pub(crate) fn is_full(&self) -> bool {
        self.what.kind() == io::ErrorKind::StorageFull
    }
}
