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

/// Writes measured for each method.
const ROUNDS: usize = 64;
/// Size of the file measured on, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// Measures both methods on a scratch file in `dir`; returns the faster, and the median of each.
///
/// # Errors
/// The scratch file cannot be made or written: no room, no permission, or no direct IO.
pub async fn calibrate(
    reactor: &Reactor,
    dir: &Path,
) -> io::Result<(Durability, Duration, Duration)> {
    let scratch = segment::make_scratch(reactor, dir, FILE_BYTES).await?;
    let dsync = median(reactor, &scratch, Durability::Dsync).await?;
    let fdatasync = median(reactor, &scratch, Durability::Fdatasync).await?;
    let path = scratch.path().to_owned();
    drop(scratch);
    file::unlink(reactor, &path).await?;
    let faster = if dsync <= fdatasync {
        Durability::Dsync
    } else {
        Durability::Fdatasync
    };
    Ok((faster, dsync, fdatasync))
}

async fn median(reactor: &Reactor, scratch: &File, method: Durability) -> io::Result<Duration> {
    let mut buf = Buf::heap(super::format::BLOCK_BYTES);
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS as u64 {
        let from = reactor.read_clock();
        let durable = if method == Durability::Dsync {
            Durable::Yes
        } else {
            Durable::No
        };
        let offset = round * super::format::BLOCK_BYTES as u64 % FILE_BYTES;
        let (result, back) = scratch.write_at(buf, offset, durable).await;
        result?;
        buf = back;
        if method == Durability::Fdatasync {
            scratch.sync().await?;
        }
        times.push(reactor.read_clock().since(from));
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
