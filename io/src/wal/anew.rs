//! A log that begins anew, because what it holds is damaged and its owner can get back elsewhere what was in it. Not
//! the decision to: who has nobody else to ask must not.
//!
//! The old segments are not read any more, and not removed either: they are set aside under another name, so that
//! nobody takes them for the log, and who knows better than this program can still look into them. The owner removes
//! them when it has everything again.
//!
//! Invariants:
//! 1. Nothing is changed before [`Anew::set_aside`]: the owner first makes durable, elsewhere, that the log begins at
//!    [`Anew::begin`].
//! 2. When that is cut short, what is left of the old log ends before that position, or is damaged, so the next start
//!    sees it for what it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reader::{RecoverError, Recovered, io_error, open_all};
use super::{LOST, Options, Position};
use crate::file;
use crate::reactor::Reactor;

/// A log that is to begin anew.
#[derive(Debug)]
pub struct Anew {
    recovered: Recovered,
    old: Vec<PathBuf>,
}

/// Prepares the log in `options.dir` to begin anew, at a position behind all that it holds and not before `least`.
///
/// # Errors
/// A file cannot be read, or has the wrong size.
pub async fn begin_anew(
    reactor: &Reactor,
    options: &Options,
    least: Position,
) -> Result<Anew, RecoverError> {
    let found = open_all(reactor, options).await?;
    let headers = || found.files.iter().filter_map(|(header, _)| *header);
    let last = headers().map(|header| header.position).max();
    // What lies behind the last segment whose beginning is whole takes a segment less than these.
    let segments = found.files.len() as u64 + 1;
    let behind = last.unwrap_or_default().max(least).0 / options.segment_bytes + segments;
    let begin = Position(behind * options.segment_bytes);
    let generation = headers().map(|header| header.generation).max();
    let old = found.files.iter().map(|(_, file)| file.path().to_owned());
    let old = old.collect();
    Ok(Anew {
        recovered: Recovered {
            segments: BTreeMap::new(),
            spares: Vec::new(),
            next_name: found.next_name,
            start: begin,
            end: begin,
            generation: generation.unwrap_or_default() + 1,
            records: 0,
            record_bytes: 0,
            torn: false,
        },
        old,
    })
}

impl Anew {
    /// Returns where the log will begin.
    #[must_use]
    pub fn begin(&self) -> Position {
        self.recovered.start
    }

    /// Sets the old segments aside, durably, and returns the empty log.
    ///
    /// # Errors
    /// A file cannot be renamed.
    pub async fn set_aside(self, reactor: &Reactor, dir: &Path) -> Result<Recovered, RecoverError> {
        for old in &self.old {
            let aside = old.with_extension(&LOST[1..]);
            let renamed = file::rename(reactor, old, &aside).await;
            renamed.map_err(io_error("rename", old))?;
        }
        let synced = file::sync_dir(reactor, dir).await;
        synced.map_err(io_error("sync", dir))?;
        Ok(self.recovered)
    }
}

/// Removes the segments in `dir` that were set aside; returns how many there were.
///
/// # Errors
/// What the operating system said.
pub async fn remove_lost(reactor: &Reactor, dir: &Path) -> std::io::Result<u64> {
    let mut removed = 0;
    for entry in file::list(reactor, dir).await? {
        if entry.name.ends_with(LOST) {
            file::unlink(reactor, &dir.join(&entry.name)).await?;
            removed += 1;
        }
    }
    Ok(removed)
}
