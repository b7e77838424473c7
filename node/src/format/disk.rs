//! What a disk must have before a data directory is made on it: room for the logs, and direct IO. Leaves nothing there.

use std::io;
use std::path::Path;

use ashlar_io::{File, OpenOptions, Reactor, StartError, file};

use super::{Choice, FormatError, failed};

/// Checks that the disk of `dir` has room for two segments of each log, were it empty: one is filled while the other is
/// let go.
///
/// # Errors
/// It has not, or cannot be looked at.
pub async fn check_space(
    reactor: &Reactor,
    dir: &Path,
    choice: &Choice,
) -> Result<(), FormatError> {
    let space = file::space(reactor, dir)
        .await
        .map_err(failed("look at", dir))?;
    let log_bytes = 2 * u64::from(choice.shards) * choice.segment_bytes;
    match log_bytes <= space.total_bytes {
        true => Ok(()),
        false => Err(FormatError::SmallDisk {
            dir: dir.to_owned(),
            total_bytes: space.total_bytes,
            shards: choice.shards,
            log_bytes,
        }),
    }
}

/// Checks that files of `dir` take direct IO.
///
/// # Errors
/// They do not, or none can be made.
pub(super) async fn check_direct(reactor: &Reactor, dir: &Path) -> Result<(), FormatError> {
    let path = dir.join("probe.new");
    let options = OpenOptions {
        write: true,
        create: true,
        direct: true,
        ..OpenOptions::default()
    };
    match File::open(reactor, &path, options).await {
        Ok(probe) => drop(probe),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let _ = file::unlink(reactor, &path).await;
            return Err(StartError::NoDirectIo { path }.into());
        }
        Err(error) => return Err(failed("create", &path)(error)),
    }
    file::unlink(reactor, &path)
        .await
        .map_err(failed("remove", &path))
}
