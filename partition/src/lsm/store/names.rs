//! Names of the files of tables and values.
//!
//! ```text
//! DIR/00007/                   partition 7
//! DIR/00007/0000000012.table   its table 12
//! DIR/00007/0000000013.values  its value file 13
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use crate::lsm::FileId;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// Keys and versions.
    Table,
    /// Separated values.
    Values,
}

impl FileKind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Values => "values",
        }
    }
}

/// Names a file of a shard's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileName {
    /// Partition and number.
    pub(crate) file: FileId,
    /// What it holds.
    pub(crate) kind: FileKind,
}

impl FileName {
    /// Returns the name of a table.
    pub(crate) fn table(file: FileId) -> Self {
        let kind = FileKind::Table;
        Self { file, kind }
    }

    /// Returns the name of a value file.
    pub(crate) fn values(partition: u32, number: u64) -> Self {
        let kind = FileKind::Values;
        Self {
            file: FileId { partition, number },
            kind,
        }
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }

    /// Reads the name of a file in the directory of a partition; nothing for a name that is none of
    /// the store's.
    pub(super) fn parse(partition: u32, name: &str) -> Option<Self> {
        let (number, suffix) = name.split_once('.')?;
        let number = number.parse().ok()?;
        let kinds = [FileKind::Table, FileKind::Values];
        let kind = *kinds.iter().find(|kind| kind.suffix() == suffix)?;
        let file = FileId { partition, number };
        let parsed = Self { file, kind };
        let (_, canonical) = parsed.to_string().split_once('/').map(owned)?;
        (canonical == name).then_some(parsed)
    }
}

fn owned((dir, name): (&str, &str)) -> (String, String) {
    (dir.to_owned(), name.to_owned())
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.file, self.kind.suffix())
    }
}

/// Returns the directory of a partition's files.
pub(super) fn partition_dir(dir: &Path, partition: u32) -> PathBuf {
    dir.join(format!("{partition:05}"))
}

/// Reads the name of a partition's directory.
#[cfg(test)]
pub(super) fn parse_partition(name: &str) -> Option<u32> {
    let partition = name.parse().ok()?;
    (format!("{partition:05}") == name).then_some(partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        let file = FileId {
            partition: 7,
            number: 12,
        };
        let table = FileName::table(file);
        assert_eq!(
            table.path(Path::new("/d")),
            Path::new("/d/00007/0000000012.table")
        );
        assert_eq!(FileName::parse(7, "0000000012.table"), Some(table));
        let values = FileName::values(7, 12_345_678_901);
        assert_eq!(FileName::parse(7, "12345678901.values"), Some(values));
        for other in [
            "12.table",
            "+000000012.table",
            "0000000012.tabl",
            "0000000012",
            ".table",
        ] {
            assert_eq!(FileName::parse(7, other), None, "{other}");
        }
        assert_eq!(parse_partition("00007"), Some(7));
        assert_eq!(parse_partition("123456"), Some(123_456));
        assert_eq!(parse_partition("7"), None);
        assert_eq!(partition_dir(Path::new("/d"), 7), Path::new("/d/00007"));
    }
}
