//! Which way of making a write durable is the faster one on this device: a flag on each write, or a
//! sync after it. Drives with power-loss protection take the flag for nothing; consumer drives may
//! be faster with the sync.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::Durability;
use super::segment;
use crate::buffer::Buf;
use crate::file::{self, Durable, File};
use crate::reactor::Reactor;

/// Writes measured for each method, in turn, so that both meet the same noise.
const ROUNDS: usize = 96;
/// Size of the file measured on, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// Measures both methods on a scratch file in `dir`; returns the better, and the median of each.
///
/// A sync takes a worker thread of the kernel for each batch, where the flag takes none, so the sync
/// has to be faster by a third to be chosen.
///
/// # Errors
/// The scratch file cannot be made or written: no room, no permission, or no direct IO.
pub async fn calibrate(
    reactor: &Reactor,
    dir: &Path,
) -> io::Result<(Durability, Duration, Duration)> {
    let scratch = segment::make_scratch(reactor, dir, FILE_BYTES).await?;
    let (mut dsync, mut fdatasync) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        let offset = round * super::format::BLOCK_BYTES as u64 % FILE_BYTES;
        dsync.push(measure(reactor, &scratch, Durability::Dsync, offset).await?);
        fdatasync.push(measure(reactor, &scratch, Durability::Fdatasync, offset).await?);
    }
    let (dsync, fdatasync) = (median(dsync), median(fdatasync));
    let path = scratch.path().to_owned();
    drop(scratch);
    file::unlink(reactor, &path).await?;
    let better = if fdatasync * 4 < dsync * 3 {
        Durability::Fdatasync
    } else {
        Durability::Dsync
    };
    Ok((better, dsync, fdatasync))
}

/// Writes one block durably and returns how long that took.
async fn measure(
    reactor: &Reactor,
    scratch: &File,
    method: Durability,
    offset: u64,
) -> io::Result<Duration> {
    let durable = if method == Durability::Dsync {
        Durable::Yes
    } else {
        Durable::No
    };
    let buf = Buf::heap(super::format::BLOCK_BYTES);
    let from = reactor.read_clock();
    scratch.write_at(buf, offset, durable).await.0?;
    if method == Durability::Fdatasync {
        scratch.sync().await?;
    }
    Ok(reactor.read_clock().since(from))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
