//! Files of a data directory that are written as a whole, and the one that counts the lives of the
//! node.
//!
//! Invariant: a file is replaced by renaming a new one that is durable, so what is read is what was
//! written once, by this life or an earlier one.

use std::io;
use std::path::Path;

use ashlar_io::{Buf, Durable, File, OpenOptions, Reactor, StartError, file};

use super::{FormatError, failed};

/// Name of the file that counts the node's lives.
const INCARNATION_NAME: &str = "INCARNATION";

/// Writes a file of a data directory anew, durably: after a crash it is as before or as now.
///
/// # Errors
/// A file operation failed; which of both it is, is not known then.
pub(crate) async fn replace(
    reactor: &Reactor,
    data: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), FormatError> {
    let unfinished = data.join(format!("{name}.new"));
    let options = OpenOptions {
        write: true,
        create: true,
        ..OpenOptions::default()
    };
    // What an earlier attempt left may be longer.
    match file::unlink(reactor, &unfinished).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &unfinished)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let new = File::open(reactor, &unfinished, options)
        .await
        .map_err(failed("create", &unfinished))?;
    let mut buf = Buf::heap(bytes.len());
    buf.as_mut_slice().copy_from_slice(bytes);
    let (result, _) = new.write_at(buf, 0, Durable::No).await;
    result.map_err(failed("write", &unfinished))?;
    new.sync().await.map_err(failed("sync", &unfinished))?;
    let path = data.join(name);
    file::rename(reactor, &unfinished, &path)
        .await
        .map_err(failed("rename", &unfinished))?;
    file::sync_dir(reactor, data)
        .await
        .map_err(failed("sync", data))
}

/// Reads a file of a data directory, of at most `bytes_max`; `None` when there is none.
///
/// # Errors
/// A file operation failed, or the file is longer.
pub(crate) async fn load(
    reactor: &Reactor,
    data: &Path,
    name: &str,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, FormatError> {
    let path = data.join(name);
    let found = match File::open(reactor, &path, OpenOptions::default()).await {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", &path)(error)),
    };
    let (result, buf) = found.read_at(Buf::heap(bytes_max + 1), 0).await;
    let bytes = result.map_err(failed("read", &path))?;
    if bytes > bytes_max {
        let what = format!("it has more than {bytes_max} bytes");
        return Err(FormatError::Unreadable { path, what });
    }
    Ok(Some(buf.as_slice()[..bytes].to_vec()))
}

/// Begins a life of the node: returns a number above that of every earlier one, which is durable.
///
/// # Errors
/// A file operation failed, or the file that counts cannot be understood.
pub async fn begin_life(reactor: &Reactor, data: &Path) -> Result<u32, FormatError> {
    let bytes = load(reactor, data, INCARNATION_NAME, 32).await?;
    let lives = match bytes.as_deref().map(std::str::from_utf8) {
        None => Some(0),
        Some(text) => text.ok().and_then(|text| text.trim().parse::<u32>().ok()),
    };
    let Some(life) = lives.and_then(|lives| lives.checked_add(1)) else {
        return Err(FormatError::Unreadable {
            path: data.join(INCARNATION_NAME),
            what: "it is no number of starts".to_owned(),
        });
    };
    let text = format!("{life:010}\n");
    match replace(reactor, data, INCARNATION_NAME, text.as_bytes()).await {
        Err(FormatError::Start(StartError::File { error, .. })) if is_full(&error) && life > 1 => {
            overwrite(reactor, data, INCARNATION_NAME, text.as_bytes()).await?;
        }
        replaced => replaced?,
    }
    Ok(life)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Writes over a file's beginning, which lies in one sector: on a full disk there is no room for another file, and a
/// member must be able to start all the same.
async fn overwrite(
    reactor: &Reactor,
    data: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), FormatError> {
    let path = data.join(name);
    let unfinished = data.join(format!("{name}.new"));
    // What the attempt has left takes room.
    let _ = file::unlink(reactor, &unfinished).await;
    let options = OpenOptions {
        write: true,
        ..OpenOptions::default()
    };
    let old = File::open(reactor, &path, options)
        .await
        .map_err(failed("open", &path))?;
    let mut buf = Buf::heap(bytes.len());
    buf.as_mut_slice().copy_from_slice(bytes);
    let (result, _) = old.write_at(buf, 0, Durable::No).await;
    result.map_err(failed("write", &path))?;
    old.sync().await.map_err(failed("sync", &path))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use ashlar_io::sim::{Faults, World};

    use super::*;

    /// Begins a life of node 0; returns its number.
    fn live(world: &World) -> Option<u32> {
        let reactor = Reactor::simulated(world, 0, 0);
        let (slot, host) = (Rc::new(Cell::new(None)), reactor.clone());
        let answer = Rc::clone(&slot);
        reactor.spawn(async move {
            file::create_dir(&host, Path::new("/data"))
                .await
                .expect("a directory");
            answer.set(Some(begin_life(&host, Path::new("/data")).await.ok()));
        });
        reactor.park(Some(reactor.now()), || false);
        while slot.get().is_none() {
            world.step().expect("something happens");
            reactor.turn();
            reactor.park(None, || false);
        }
        reactor.shut_down();
        slot.take().flatten()
    }

    #[test]
    fn a_member_starts_on_a_full_disk_and_counts_on() {
        let world = World::new(1, Faults::none());
        assert_eq!((live(&world), live(&world)), (Some(1), Some(2)));
        world.set_capacity(0, Some(world.disk_used(0)));
        assert_eq!((live(&world), live(&world)), (Some(3), Some(4)));
        world.set_capacity(0, None);
        assert_eq!(live(&world), Some(5));
        let kept = world.read_file(0, Path::new("/data/INCARNATION"));
        assert_eq!(kept.as_deref(), Some(b"0000000005\n".as_slice()));
    }
}
