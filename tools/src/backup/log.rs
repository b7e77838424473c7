//! The log of a shard, copied while a node may be writing it. Not whether the copy is whole: the chain of its batches
//! tells that, but for one thing that only the copying can know.
//!
//! A node lets go of many segments at once, when what they hold is in tables. It keeps some of them to be used again,
//! and removes the others. When that happens between the listing of the log and the copying of its newest segment, the
//! copy ends where an older segment ends, and no batch in it says that there was more.
//!
//! Invariant: a segment that was listed is copied as it was listed, or counted as gone. The copy stands only if it
//! begins behind all that are gone ([`Gone::check`]).

use std::path::{Path, PathBuf};

use ashlar_io::wal::format::{BLOCK_BYTES, Header};
use ashlar_io::wal::{self, Position};

use super::entries;
use super::shard::Again;
use crate::disk::{Disk, MoveError, Pinned, Place};

/// Where a log is copied from, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log<'a> {
    pub(super) disk: &'a Disk,
    /// The directory of the node's segments.
    pub(super) dir: &'a Path,
    pub(super) log_id: u64,
    /// An empty directory.
    pub(super) to: &'a Path,
}

/// A segment as the listing found it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    first: Header,
    path: PathBuf,
}

/// The last of the segments that the node let go of before they were copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone(Option<Position>);

impl Gone {
    /// Lets a copy pass that needs none of them, because it begins at `start`.
    pub(super) fn check(self, start: Position, segment_bytes: u64) -> Result<(), Again> {
        match self.0 {
            Some(Position(gone)) if gone.saturating_add(segment_bytes) > start.0 => {
                Err(Again::Later(format!(
                    "the node let go of the log segment at position {gone} before it was copied: \
                     it writes faster than --to takes it"
                )))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Log<'_> {
    /// Returns the segments that hold something of the log now, in its order.
    pub(super) fn list(&self) -> Result<Vec<Seen>, Again> {
        let mut segments = Vec::new();
        for path in entries(self.dir).map_err(Again::Never)? {
            if !path.to_string_lossy().ends_with(wal::SUFFIX) {
                continue;
            }
            let Some(pinned) = self.open(&path)? else {
                continue;
            };
            let first = self.first(&pinned)?;
            segments.extend(first.map(|first| Seen { first, path }));
        }
        segments.sort_by_key(|seen| seen.first.position);
        Ok(segments)
    }

    /// Copies them, the oldest first; returns which of them are gone.
    pub(super) fn copy(&self, segments: &[Seen]) -> Result<Gone, Again> {
        let mut gone = Gone::default();
        for seen in segments {
            if !self.copy_one(seen)? {
                gone.0 = gone.0.max(Some(seen.first.position));
            }
        }
        Ok(gone)
    }

    /// Copies one; says whether it was as listed to the end. If it was not, there is no copy.
    fn copy_one(&self, seen: &Seen) -> Result<bool, Again> {
        let Some(pinned) = self.open(&seen.path)? else {
            return Ok(false);
        };
        let to = self
            .to
            .join(seen.path.file_name().expect("a listed file has a name"));
        // However slow the rest is to be: a log that is copied faster than it is written has no holes.
        let disk = self.disk.at_full_rate();
        let copied = disk.copy_pinned(&pinned, Place::of_backup(to.clone()), 0);
        copied.map_err(|error| Again::Never(error.line(&seen.path)))?;
        // Its first block is written first when it is used again. Should a write behind it overtake that one, the chain
        // meets a batch of a higher position.
        let same = self.first(&pinned)?.as_ref() == Some(&seen.first);
        if !same {
            let failed = |error| Again::Never(format!("cannot remove {}: {error}", to.display()));
            std::fs::remove_file(&to).map_err(failed)?;
        }
        Ok(same)
    }

    fn open(&self, path: &Path) -> Result<Option<Pinned>, Again> {
        match self.disk.pin(Place::of_node(path.to_owned())) {
            Ok(pinned) => Ok(Some(pinned)),
            Err(MoveError::Missing) => Ok(None),
            Err(MoveError::Other(line)) => Err(Again::Never(line)),
        }
    }

    /// Reads the header of a segment's first batch, if it is one of this log.
    fn first(&self, segment: &Pinned) -> Result<Option<Header>, Again> {
        let front = self.disk.read_front(segment, BLOCK_BYTES);
        let front = front.map_err(|error| Again::Never(error.line(self.dir)))?;
        Ok(Header::decode(&front).filter(|header| header.log_id == self.log_id))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;

    const SEGMENT_BYTES: u64 = 4 * BLOCK_BYTES as u64;
    const LOG_ID: u64 = 7;

    /// Writes the first block of segment `number` of a log into file `name`.
    fn write(dir: &Path, name: u64, number: u64) {
        let (mut block, position) = (vec![0; BLOCK_BYTES], Position(number * SEGMENT_BYTES));
        let header = Header {
            payload_crc: wal::format::crc32c(&[]),
            length: 0,
            log_id: LOG_ID,
            generation: 1,
            frames: 0,
            position,
            previous: position,
            durable: position,
            start: Position(0),
            sealed_us: 0,
        };
        header.encode(&mut block);
        let path = dir.join(format!("{name:08}{}", wal::SUFFIX));
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path);
        let file = file.unwrap();
        file.set_len(SEGMENT_BYTES).unwrap();
        file.write_all_at(&block, 0).unwrap();
        file.sync_all().unwrap();
    }

    /// Lists a log of the segments 4 to 9, lets `meanwhile` happen to its directory, and copies it; returns what is
    /// gone, and the numbers of the segments that were copied.
    fn copied(meanwhile: impl FnOnce(&Path)) -> (Gone, Vec<u64>) {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // The order of the names is not the order of the log.
        (4..10).for_each(|number| write(from.path(), 20 - number, number));
        fs::write(from.path().join("99999999.wal"), vec![0; 16384]).unwrap();
        let disk = Disk::new("backup", 0).unwrap();
        let log = Log {
            disk: &disk,
            dir: from.path(),
            log_id: LOG_ID,
            to: to.path(),
        };
        let listed = log.list().unwrap();
        meanwhile(from.path());
        let gone = log.copy(&listed).unwrap();
        let copies = entries(to.path()).unwrap();
        let header = |path: &PathBuf| Header::decode(&fs::read(path).unwrap()).unwrap();
        let mut numbers: Vec<u64> = copies
            .iter()
            .map(|path| header(path).position.0 / SEGMENT_BYTES)
            .collect();
        numbers.sort_unstable();
        (gone, numbers)
    }

    #[track_caller]
    fn passes_from(gone: Gone, number: u64) {
        let start = Position(number * SEGMENT_BYTES);
        assert!(gone.check(start, SEGMENT_BYTES).is_ok());
        let before = Position(start.0 - 1);
        let refused = gone.check(before, SEGMENT_BYTES);
        assert!(matches!(refused, Err(Again::Later(_))), "{refused:?}");
    }

    #[test]
    fn a_log_that_nobody_writes_is_copied_whole() {
        let (gone, numbers) = copied(|_| {});
        assert_eq!((gone, numbers), (Gone(None), vec![4, 5, 6, 7, 8, 9]));
        assert!(gone.check(Position(0), SEGMENT_BYTES).is_ok());
    }

    /// Once in ten backups of a busy node, a flush ended while the log was copied. The node kept eight of the segments
    /// that it let go of and removed the others, the newest one that was listed among them. The copy was a whole log
    /// without its last segments, and passed for a log that ended there.
    #[test]
    fn a_copy_whose_newest_segment_was_removed_meanwhile_does_not_pass() {
        let (gone, numbers) = copied(|dir| {
            for number in [8, 9] {
                fs::remove_file(dir.join(format!("{:08}.wal", 20 - number))).unwrap();
            }
        });
        assert_eq!(numbers, vec![4, 5, 6, 7]);
        passes_from(gone, 10);
    }

    #[test]
    fn a_segment_that_is_used_again_is_no_part_of_the_copy() {
        let (gone, numbers) = copied(|dir| {
            write(dir, 16, 10);
            write(dir, 15, 11);
        });
        assert_eq!(numbers, vec![6, 7, 8, 9]);
        passes_from(gone, 6);
    }
}
