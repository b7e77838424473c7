//! The file BACKUP: what a backup consists of. Not how it is made or put back.
//!
//! ```text
//! DIR/BACKUP                                        this file: TOML, renamed into place last
//! DIR/tables/00000/0000000012.89abcdef01234567.table   files that never change, named by what they hold as well; kept
//!                                                   from backup to backup
//! DIR/shards/0000000003/                            of backup 3: what changes, checkpoints and logs
//! DIR/LOCK                                          held by who writes here
//! ```
//! The first line is `checksum = "..."`, the XXH3-128 of all lines behind it.
//!
//! Invariant: all that a BACKUP lists was durable before it got its name. A backup that is cut off leaves the one
//! before it as it was.

use std::path::{Component, Path, PathBuf};

use ashlar_partition::lsm::offline::FileHash;

use crate::disk::{Disk, Moved, Place};

/// Name of the file.
pub(crate) const FILE_NAME: &str = "BACKUP";
/// Directory of what changes.
pub(crate) const SHARDS: &str = "shards";
/// Directory of what does not.
pub(crate) const TABLES: &str = "tables";
/// Version of the layout.
const VERSION: u32 = 1;

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Version of the layout.
    version: u32,
    /// 1 for the first backup in a directory, and so on.
    pub(crate) number: u64,
    /// When it was begun, for people.
    pub(crate) made: String,
    /// The data directory.
    pub(crate) from: String,
    /// Whose it is, in hexadecimal.
    pub(crate) node_id: String,
    /// Where each shard's log ends.
    pub(crate) shards: Vec<ShardEnd>,
    /// Every file.
    pub(crate) files: Vec<Listed>,
}

/// Of when a shard is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardEnd {
    /// The shard.
    pub(crate) shard: u32,
    /// First position of the log that is needed.
    pub(crate) start: u64,
    /// Where the log ends.
    pub(crate) end: u64,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    /// Its path in a data directory.
    pub(crate) path: String,
    /// Its path in the backup.
    pub(crate) stored: String,
    /// Its size in the backup.
    pub(crate) bytes: u64,
    /// XXH3-128 of that, in hexadecimal.
    pub(crate) hash: String,
    /// Its size in a data directory: zeros are behind what is stored. 0 for the size in the backup.
    pub(crate) fill_to: u64,
}

impl Listed {
    /// Describes a file that was put into a backup.
    pub(crate) fn new(path: String, stored: String, moved: Moved, fill_to: u64) -> Self {
        Self {
            path,
            stored,
            bytes: moved.bytes,
            hash: hex(moved.hash),
            fill_to,
        }
    }

    /// Says whether a file that was read is this one.
    pub(crate) fn is(&self, moved: Moved) -> bool {
        (self.bytes, self.hash.as_str()) == (moved.bytes, hex(moved.hash).as_str())
    }

    /// Returns the one line that says that the file in `dir` has another size.
    pub(crate) fn wrong_size(&self, dir: &Path, found: u64) -> String {
        format!(
            "{} is damaged: it has {found} bytes, the backup was made with {}",
            dir.join(&self.stored).display(),
            self.bytes
        )
    }

    /// Returns the one line that says what is wrong with the file in `dir`.
    pub(crate) fn damage(&self, dir: &Path, moved: Moved) -> String {
        format!(
            "{} is damaged: it has {} bytes with hash {}, the backup was made with {} and {}",
            dir.join(&self.stored).display(),
            moved.bytes,
            hex(moved.hash),
            self.bytes,
            self.hash
        )
    }
}

/// Writes a hash as people and files have it.
pub(crate) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

impl Listing {
    /// Begins a listing without files.
    pub(crate) fn new(number: u64, made: String, from: String, node_id: u64) -> Self {
        Self {
            version: VERSION,
            number,
            made,
            from,
            node_id: format!("{node_id:016x}"),
            shards: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Returns the directory of what changes, within a backup.
    pub(crate) fn shards_dir(number: u64) -> String {
        format!("{SHARDS}/{number:010}")
    }

    /// Returns the sum of all sizes, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Reads the BACKUP of `dir`; `None` when there is none.
    pub(crate) fn read(disk: &Disk, dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE_NAME);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = disk.read(Place::of_backup(path.clone()));
        let bytes = bytes.map_err(|error| error.line(&path))?;
        let listing = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned());
        let listing = listing.and_then(Self::parse);
        listing
            .map(Some)
            .map_err(|what| format!("{} is damaged: {what}; take another backup", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let split = text.split_once('\n');
        let (first, rest) = split.ok_or("it has one line only")?;
        if first != checksum_line(rest) {
            return Err("its checksum is wrong".to_owned());
        }
        let listing: Self = toml::from_str(rest).map_err(|error| error.message().to_owned())?;
        if listing.version != VERSION {
            return Err(format!(
                "it has layout version {}, this program knows version {VERSION}",
                listing.version
            ));
        }
        let paths = listing
            .files
            .iter()
            .flat_map(|file| [&file.path, &file.stored]);
        let outside = paths.into_iter().find(|path| !stays_below(path));
        if let Some(path) = outside {
            return Err(format!("it lists {path:?}, which lies outside of it"));
        }
        Ok(listing)
    }

    /// Writes the listing as the BACKUP of `dir`; durable on return.
    pub(crate) fn write(&self, disk: &Disk, dir: &Path) -> Result<(), String> {
        let text = toml::to_string(self).expect("strings and numbers are TOML");
        let text = format!("# Made by ashlar backup; not to be edited.\n{text}");
        let text = format!("{}\n{text}", checksum_line(&text));
        let (path, unfinished) = (dir.join(FILE_NAME), dir.join("BACKUP.new"));
        let failed = |error| format!("cannot write {}: {error}", unfinished.display());
        std::fs::write(&unfinished, text).map_err(failed)?;
        let written = std::fs::File::open(&unfinished).and_then(|file| file.sync_all());
        written.map_err(failed)?;
        std::fs::rename(&unfinished, &path).map_err(failed)?;
        disk.sync_dir(dir)
    }
}

fn checksum_line(rest: &str) -> String {
    let mut hash = FileHash::default();
    hash.update(rest.as_bytes());
    format!("checksum = \"{}\"", hex(hash.finish()))
}

/// Says whether a path leads to a place below where it begins.
fn stays_below(path: &str) -> bool {
    let path = PathBuf::from(path);
    let mut parts = path.components();
    parts.all(|part| matches!(part, Component::Normal(_))) && !path.as_os_str().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let mut listing = Listing::new(3, "now".into(), "/data".into(), 7);
        let moved = Moved { bytes: 5, hash: 6 };
        let listed = |path: &str| Listed::new(path.into(), format!("tables/{path}"), moved, 0);
        listing.files = vec![listed("a"), listed("b/c")];
        listing.shards = vec![ShardEnd {
            shard: 0,
            start: 0,
            end: 4096,
        }];
        listing
    }

    fn text(listing: &Listing) -> String {
        let rest = toml::to_string(listing).unwrap();
        format!("{}\n{rest}", checksum_line(&rest))
    }

    #[test]
    fn a_listing_is_read_as_it_was_written_and_no_byte_of_it_may_change() {
        let good = text(&listing());
        assert_eq!(Listing::parse(&good), Ok(listing()));
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            let bad = String::from_utf8(bad).unwrap();
            assert!(Listing::parse(&bad).is_err(), "byte {at}");
            assert!(Listing::parse(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["../a", "/etc/passwd", "a/../../b", "", "./a"] {
            let mut bad = listing();
            bad.files[1].path = path.to_owned();
            let error = Listing::parse(&text(&bad)).unwrap_err();
            assert!(error.contains("outside"), "{path}: {error}");
        }
        let mut newer = listing();
        newer.version = 2;
        assert!(
            Listing::parse(&text(&newer))
                .unwrap_err()
                .contains("layout version 2")
        );
    }
}
