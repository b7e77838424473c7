//! The data directory: what it was made as, and the file that says so.
//!
//! ```text
//! DIR/LOCK                held by the process that has the directory
//! DIR/ASHLAR              this file: TOML, written by `ashlar format` or the first start, and when the
//!                         node joins a cluster
//! DIR/INCARNATION         how often the node was started: a number in decimal digits
//! DIR/PAXOS               what the node has promised while its cluster came to be
//! DIR/ROSTER              who the members of the cluster are, once they are others than the first
//! DIR/wal/000/*.wal       segments of the log of shard 0, and so on
//! DIR/tables/00000/       tables and value files of partition 0, and so on
//! DIR/manifest/000.0, .1  checkpoints of shard 0: which of those files are in use
//! DIR/RESERVE             zeros: space that is let go when the disk is full
//! ```
//!
//! Invariants:
//! 1. The file is renamed into place last, so a directory is either formatted whole or not at all.
//! 2. What the file says of the disk and of the cluster is said once and never changes.

mod disk;
mod files;
mod joined;

use std::io;
use std::path::{Path, PathBuf};

use ashlar_io::wal::{self, Durability};
use ashlar_io::{Buf, File, OpenOptions, Reactor, StartError, file};

use self::disk::check_direct;
pub use self::disk::check_space;
pub use self::files::begin_life;
pub(crate) use self::files::{load, replace};
use self::joined::Joined;
pub use self::joined::Membership;
use crate::cluster::{Decree, Member, StoreId};

/// Name of the file.
pub const FILE_NAME: &str = "ASHLAR";
/// Version of the layout that this program writes and reads.
const VERSION: u64 = 3;
/// Largest file that is read, in bytes.
const BYTES_MAX: usize = 1 << 20;
/// Most shards of a node.
pub const SHARDS_MAX: u32 = 1024;
/// Largest log segment, in bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// What a data directory was made as.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Version of the layout.
    version: u64,
    /// Names this node, at random; the log of shard n has this plus n as its id.
    pub node_id: u64,
    /// Shards, each with a log of its own.
    pub shards: u32,
    /// Size of a log segment, in bytes.
    pub segment_bytes: u64,
    /// How writes are made durable: "dsync", "fdatasync" or "none".
    durability: String,
    /// User keys of database 0 at which the keys are cut, in hexadecimal, ascending.
    split_at: Vec<String>,
    /// Names this disk, at random; a directory that was made before there were clusters has none
    /// until it is given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The cluster that this node is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<Joined>,
}

/// What a data directory is to be made as.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Shards.
    pub shards: u32,
    /// Size of a log segment, in bytes.
    pub segment_bytes: u64,
    /// How writes are made durable; `None` measures.
    pub durability: Option<Durability>,
    /// User keys of database 0 at which the keys are cut.
    pub split_at: Vec<Vec<u8>>,
}

/// Why a data directory could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A file operation failed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The directory holds something else.
    #[error("{} is not empty and was not made by ashlar ({} is there); give an empty directory with --data", .dir.display(), .found)]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// The first thing found in it.
        found: String,
    },
    /// The directory is formatted already.
    #[error("{} is formatted already; to make it anew, remove it first", .0.display())]
    Already(PathBuf),
    /// The file cannot be understood.
    #[error("{} cannot be read as an ashlar data directory: {what}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Boundaries do not ascend.
    #[error(
        "--split-at needs keys in ascending order, each different and not empty; {0:?} is not above the one before"
    )]
    Order(String),
    /// The disk has no room for logs, however empty it is.
    #[error(
        "the disk of {} has {} MiB in all, and the logs of {shards} shards take {} MiB at least; give a --data on a \
         larger one, a smaller wal.segment_bytes, or fewer shards", .dir.display(), .total_bytes >> 20, .log_bytes >> 20
    )]
    SmallDisk {
        /// The data directory.
        dir: PathBuf,
        /// Size of the disk.
        total_bytes: u64,
        /// Shards of the node.
        shards: u32,
        /// What their logs take.
        log_bytes: u64,
    },
    /// Too many shards, or none.
    #[error("--shards takes 1 to {SHARDS_MAX}, not {0}")]
    Shards(u32),
}

impl Format {
    /// Returns how writes are made durable.
    #[must_use]
    pub fn durability(&self) -> Durability {
        Durability::from_word(&self.durability).unwrap_or(Durability::Dsync)
    }

    /// Returns the internal keys at which the keys are cut.
    #[must_use]
    pub fn boundaries(&self) -> Vec<Vec<u8>> {
        let internal = |hex: &String| [vec![0], from_hex(hex).unwrap_or_default()].concat();
        self.split_at.iter().map(internal).collect()
    }

    /// Returns what names this disk.
    #[must_use]
    pub fn store(&self) -> Option<StoreId> {
        let hex = self.store.as_deref()?;
        u128::from_str_radix(hex, 16).ok().map(StoreId)
    }

    /// Returns the cluster that this node is a member of.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.cluster.as_ref()?.read()
    }

    /// Returns the id of a shard's log.
    #[must_use]
    pub fn log_id(&self, shard: u32) -> u64 {
        self.node_id.wrapping_add(u64::from(shard))
    }

    /// Returns the directory of a shard's log.
    #[must_use]
    pub fn wal_dir(data: &Path, shard: u32) -> PathBuf {
        data.join("wal").join(format!("{shard:03}"))
    }

    /// Returns the directory of all tables.
    #[must_use]
    pub fn tables_dir(data: &Path) -> PathBuf {
        data.join("tables")
    }

    /// Returns the directory of the checkpoints.
    #[must_use]
    pub fn manifest_dir(data: &Path) -> PathBuf {
        data.join("manifest")
    }

    fn parse(text: &str) -> Result<Self, String> {
        let format: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if format.version != VERSION {
            return Err(format!(
                "it has layout version {}, this program knows version {VERSION}",
                format.version
            ));
        }
        if !(1..=SHARDS_MAX).contains(&format.shards) {
            return Err(format!(
                "its shards are {}, not 1 to {SHARDS_MAX}",
                format.shards
            ));
        }
        if !(1..=SEGMENT_BYTES_MAX).contains(&format.segment_bytes)
            || !format.segment_bytes.is_multiple_of(4096)
        {
            return Err(format!(
                "its segment_bytes are {}, not a multiple of 4096 up to {SEGMENT_BYTES_MAX}",
                format.segment_bytes
            ));
        }
        if Durability::from_word(&format.durability).is_none() {
            return Err(format!("its durability is {:?}", format.durability));
        }
        let keys: Option<Vec<_>> = format.split_at.iter().map(|hex| from_hex(hex)).collect();
        let keys = keys.ok_or_else(|| "its split_at is not hexadecimal".to_owned())?;
        if check_order(&keys).is_err() {
            return Err("its split_at does not ascend".to_owned());
        }
        format.check_cluster()?;
        Ok(format)
    }

    fn check_cluster(&self) -> Result<(), String> {
        let hexadecimal =
            |hex: &String| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        if !self.store.iter().all(hexadecimal) {
            return Err("its store is not 32 hexadecimal digits".to_owned());
        }
        if self.cluster.is_none() {
            return Ok(());
        }
        let membership = self.membership();
        let membership = membership.ok_or_else(|| "its cluster is no cluster".to_owned())?;
        match self.store() == Some(membership.own.store) {
            true => Ok(()),
            false => Err("its store is not the one that its cluster knows".to_owned()),
        }
    }
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FormatError {
    let path = path.to_owned();
    move |error| StartError::File { what, path, error }.into()
}

/// Reads what a data directory was made as; `None` when it is not formatted: missing or empty.
///
/// # Errors
/// The directory cannot be read, holds something else, or its file cannot be understood.
pub async fn read(reactor: &Reactor, data: &Path) -> Result<Option<Format>, FormatError> {
    let entries = match file::list(reactor, data).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("list", data)(error)),
    };
    let path = data.join(FILE_NAME);
    if !entries.iter().any(|entry| entry.name == FILE_NAME) {
        // What a format that was cut off leaves behind is ours, and made anew.
        let ours = |name: &str| {
            [
                "LOCK",
                "wal",
                "tables",
                "manifest",
                "ASHLAR.new",
                "lost+found",
            ]
            .contains(&name)
        };
        let foreign = entries.into_iter().find(|entry| !ours(&entry.name));
        return match foreign {
            Some(entry) => Err(FormatError::NotEmpty {
                dir: data.to_owned(),
                found: entry.name,
            }),
            None => Ok(None),
        };
    }
    let options = OpenOptions::default();
    let format = File::open(reactor, &path, options)
        .await
        .map_err(failed("open", &path))?;
    let (result, mut buf) = format.read_at(Buf::heap(BYTES_MAX), 0).await;
    let bytes = result.map_err(failed("read", &path))?;
    buf.set_len(bytes);
    let text = std::str::from_utf8(buf.as_slice()).map_err(|_| "it is not UTF-8".to_owned());
    match text.and_then(Format::parse) {
        Ok(format) => Ok(Some(format)),
        Err(what) => Err(FormatError::Unreadable { path, what }),
    }
}

/// Makes a data directory. Segments are made by the first start.
///
/// # Errors
/// The choice is not allowed, or the directory is formatted already, holds something else, cannot be
/// written, or its file system takes no direct IO.
pub async fn make(reactor: &Reactor, data: &Path, choice: &Choice) -> Result<Format, FormatError> {
    check_order(&choice.split_at)?;
    if !(1..=SHARDS_MAX).contains(&choice.shards) {
        return Err(FormatError::Shards(choice.shards));
    }
    file::create_dir(reactor, data)
        .await
        .map_err(failed("create directory", data))?;
    if read(reactor, data).await?.is_some() {
        return Err(FormatError::Already(data.to_owned()));
    }
    let wal = data.join("wal");
    file::create_dir(reactor, &wal)
        .await
        .map_err(failed("create directory", &wal))?;
    for dir in [Format::tables_dir(data), Format::manifest_dir(data)] {
        file::create_dir(reactor, &dir)
            .await
            .map_err(failed("create directory", &dir))?;
    }
    for shard in 0..choice.shards {
        let dir = Format::wal_dir(data, shard);
        file::create_dir(reactor, &dir)
            .await
            .map_err(failed("create directory", &dir))?;
        clear(reactor, &dir).await?;
    }
    check_direct(reactor, &wal).await?;
    let durability = match choice.durability {
        Some(durability) => durability,
        None => {
            wal::calibrate(reactor, &wal)
                .await
                .map_err(failed("measure durable writes in", &wal))?
                .0
        }
    };
    let format = Format {
        version: VERSION,
        // TOML's integers are signed.
        node_id: reactor.random() >> 2,
        shards: choice.shards,
        segment_bytes: choice.segment_bytes,
        durability: durability.word().to_owned(),
        split_at: choice.split_at.iter().map(|key| to_hex(key)).collect(),
        store: Some(draw_store(reactor)),
        cluster: None,
    };
    file::sync_dir(reactor, &wal)
        .await
        .map_err(failed("sync", &wal))?;
    write(reactor, data, &format).await?;
    // The directory itself is an entry too: without this a power cut takes it away with all that is
    // in it.
    let parent = data
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    file::sync_dir(reactor, parent)
        .await
        .map_err(failed("sync", parent))?;
    Ok(format)
}

/// Checks that split keys ascend.
///
/// # Errors
/// They do not.
pub fn check_order(keys: &[Vec<u8>]) -> Result<(), FormatError> {
    let mut before: &[u8] = &[];
    for key in keys {
        if key.as_slice() <= before {
            return Err(FormatError::Order(
                String::from_utf8_lossy(key).into_owned(),
            ));
        }
        before = key;
    }
    Ok(())
}

/// Removes what a format that was cut off, or a start before it ended, left in a log's directory.
async fn clear(reactor: &Reactor, dir: &Path) -> Result<(), FormatError> {
    for entry in file::list(reactor, dir)
        .await
        .map_err(failed("list", dir))?
    {
        let path = dir.join(entry.name);
        file::unlink(reactor, &path)
            .await
            .map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn draw_store(reactor: &Reactor) -> String {
    let half = || u128::from(reactor.random());
    StoreId(half() << 64 | half()).to_string()
}

async fn write(reactor: &Reactor, data: &Path, format: &Format) -> Result<(), FormatError> {
    let text = toml::to_string(format).expect("a flat structure of numbers and strings is TOML");
    let text = format!("# What this data directory was made as. Not to be edited.\n{text}");
    replace(reactor, data, FILE_NAME, text.as_bytes()).await
}

/// Gives a name to a disk that was formatted before disks had names.
///
/// # Errors
/// The file cannot be written.
pub async fn name_store(
    reactor: &Reactor,
    data: &Path,
    format: &Format,
) -> Result<Format, FormatError> {
    let mut named = format.clone();
    if named.store.is_none() {
        named.store = Some(draw_store(reactor));
        write(reactor, data, &named).await?;
    }
    Ok(named)
}

/// Makes the node a member of a cluster, as `own`.
///
/// # Errors
/// The file cannot be written.
///
/// # Panics
/// When it is a member of another cluster, or `own` has another disk.
pub async fn join(
    reactor: &Reactor,
    data: &Path,
    format: &Format,
    (decree, own): (&Decree, &Member),
) -> Result<Format, FormatError> {
    assert!(Some(own.store) == format.store(), "with its own disk");
    let mut joined = format.clone();
    joined.cluster = Some(Joined::new(decree, own));
    if let Some(before) = format.membership() {
        assert!(before.decree.cluster == decree.cluster, "once and for all");
    }
    write(reactor, data, &joined).await?;
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "version = 3\nnode_id = 7\nshards = 2\nsegment_bytes = 1048576\n\
                        durability = \"dsync\"\nsplit_at = [\"61\", \"62\"]\n";

    #[test]
    fn a_file_that_no_format_wrote_is_refused() {
        assert_eq!(Format::parse(GOOD).map(|format| format.shards), Ok(2));
        for (is, becomes, what) in [
            ("shards = 2", "shards = 0", "shards"),
            ("shards = 2", "shards = 4294967295", "shards"),
            ("1048576", "1048577", "segment_bytes"),
            ("1048576", "1099511627776", "segment_bytes"),
            ("\"62\"", "\"60\"", "ascend"),
            ("\"62\"", "\"61\"", "ascend"),
            ("\"61\"", "\"\"", "ascend"),
            ("\"62\"", "\"6\"", "hexadecimal"),
        ] {
            let error = Format::parse(&GOOD.replace(is, becomes)).unwrap_err();
            assert!(error.contains(what), "{becomes}: {error}");
        }
    }
}
