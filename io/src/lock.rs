//! The lock of a data directory: two processes never have the same one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use crate::StartError;

/// Tries and pause between them: after a kill the kernel holds the lock until the dead process's
/// writes have ended.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// An exclusive lock on a data directory, held until it is dropped.
///
/// A process that is killed loses its descriptors before its ring has finished the writes that are in
/// flight. So each reactor keeps the lock too ([`crate::Reactor::keep_lock`]): it is free only when no
/// write of the old process can land any more.
#[derive(Debug)]
pub struct DirLock(File);

impl DirLock {
    /// Returns the descriptor of the lock file, for a ring to hold.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Takes the lock by its file `LOCK` in `dir`, which is made when it is not there; waits up to
    /// a second for a dying owner.
    ///
    /// # Errors
    /// [`StartError::DirectoryInUse`] when another process has it, [`StartError::File`] when the
    /// file cannot be made.
    pub fn acquire(dir: &Path) -> Result<Self, StartError> {
        let made = DirBuilder::new().mode(0o700).create(dir);
        if let Err(error) = made
            && !dir.is_dir()
        {
            return Err(StartError::File {
                what: "create directory",
                path: dir.to_owned(),
                error,
            });
        }
        let lock = dir.join("LOCK");
        let failed = |error| StartError::File {
            what: "open",
            path: lock.clone(),
            error,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .map_err(failed)?;
        for attempt in 0..TRIES {
            if crate::sys::try_lock(&file).map_err(failed)? {
                // The number helps a person who looks; nothing reads it back.
                let _ = file
                    .set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                return Ok(Self(file));
            }
            if attempt + 1 < TRIES {
                std::thread::sleep(PAUSE);
            }
        }
        Err(StartError::DirectoryInUse {
            path: dir.to_owned(),
            lock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        // flock belongs to the open file, so a second open in the same process conflicts as another
        // process would.
        let second = DirLock::acquire(dir.path()).unwrap_err();
        assert!(
            second.to_string().contains("in use by another process"),
            "{second}"
        );
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }
}
