//! The lock of a data directory: two processes never have the same one.
//!
//! The lock file names its owner: process and start time (field 22 of `/proc/PID/stat`), so that a number that was
//! given anew is not taken for it. An owner that lives is not waited for, for it will not go by itself; one that is
//! dying, or dead with writes in flight, is, for long: a start right after a kill is no mistake.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use crate::StartError;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Tries while an owner lives: who was just killed looks alive for a moment.
const LIVING_TRIES: u32 = 5;
/// Tries in all: half a minute. After a kill the kernel holds the lock until the dead process's writes have ended,
/// which takes as long as the disk does.
const TRIES: u32 = 600;
/// Tries after which is told what is waited for.
const QUIET_TRIES: u32 = 20;
/// Flag of a process that is exiting, in field 9 of `/proc/PID/stat`. Source: `PF_EXITING` of the kernel.
const EXITING: u64 = 4;
/// Most bytes that are read of a lock file.
const OWNER_BYTES_MAX: u64 = 64;

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

    /// Takes the lock by its file `LOCK` in `dir`, which is made when it is not there; waits up to half a minute
    /// for an owner that is dying.
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
        let mut living = 0;
        for attempt in 1..=TRIES {
            if crate::sys::try_lock(&file).map_err(failed)? {
                let _ = file
                    .set_len(0)
                    .and_then(|()| writeln!(file, "{}", Owner::of_this_process()));
                return Ok(Self(file));
            }
            living += u32::from(Owner::read(&lock).is_some_and(|owner| owner.is_alive()));
            if living == LIVING_TRIES {
                break;
            }
            if attempt == QUIET_TRIES {
                let lock = lock.display();
                tracing::warn!("waiting for {lock}: who held it is gone, but not yet its writes");
            }
            std::thread::sleep(PAUSE);
        }
        Err(StartError::DirectoryInUse {
            path: dir.to_owned(),
            lock,
        })
    }
}

/// A process that holds a lock, as its file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    process_id: u32,
    /// When it was started, in ticks since boot.
    started: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.process_id, self.started)
    }
}

impl Owner {
    fn of_this_process() -> Self {
        let process_id = std::process::id();
        let facts = Facts::of(process_id);
        Self {
            process_id,
            started: facts.map_or(0, |facts| facts.started),
        }
    }

    /// Reads what a lock file says; nothing when it says nothing that is understood.
    fn read(lock: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = File::open(lock).ok()?;
        file.take(OWNER_BYTES_MAX).read_to_string(&mut text).ok()?;
        let (process_id, started) = text.trim().split_once(' ')?;
        Some(Self {
            process_id: process_id.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    fn is_alive(&self) -> bool {
        let facts = Facts::of(self.process_id);
        facts.is_some_and(|facts| facts.started == self.started && !facts.is_dying)
    }
}

/// What the kernel tells of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    is_dying: bool,
    started: u64,
}

impl Facts {
    fn of(process_id: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The second field is a name in brackets, which may hold anything, brackets too.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let flags: u64 = fields.nth(5)?.parse().ok()?;
        let started = fields.nth(12)?.parse().ok()?;
        Some(Self {
            is_dying: matches!(state, "Z" | "X") || flags & EXITING != 0,
            started,
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
    #[test]
    fn a_living_owner_is_told_from_a_dead_one_and_from_another_of_its_number() {
        let own = Owner::of_this_process();
        assert!(own.is_alive() && own.started > 0);
        let another = Owner {
            started: own.started + 1,
            ..own
        };
        assert!(!another.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = || Facts::of(child.id()).unwrap();
        // Nobody has asked for its exit code, so the kernel still knows it.
        while !stat().is_dying {
            std::thread::yield_now();
        }
        let started = stat().started;
        let process_id = child.id();
        assert!(
            !Owner {
                process_id,
                started
            }
            .is_alive()
        );
        child.wait().unwrap();
        assert!(
            !Owner {
                process_id,
                started
            }
            .is_alive()
        );
    }

    #[test]
    fn what_a_lock_file_says_is_read_back_and_else_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let _held = DirLock::acquire(dir.path()).unwrap();
        let lock = dir.path().join("LOCK");
        assert_eq!(Owner::read(&lock), Some(Owner::of_this_process()));
        for text in ["", "17\n", "x 1\n", "1 1 1\n"] {
            std::fs::write(&lock, text).unwrap();
            assert_eq!(Owner::read(&lock), None, "{text:?}");
        }
    }

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = |state: &str, flags: u32| {
            format!("7 (a) Z (b) {state} 1 7 7 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 9 0 4711 1 1")
        };
        let facts = |is_dying| {
            Some(Facts {
                is_dying,
                started: 4711,
            })
        };
        assert_eq!(Facts::parse(&stat("S", 4_194_304)), facts(false));
        assert_eq!(Facts::parse(&stat("Z", 4_194_304)), facts(true));
        assert_eq!(Facts::parse(&stat("D", 4_194_308)), facts(true));
        assert_eq!(Facts::parse("7 (a) S"), None);
    }
}
