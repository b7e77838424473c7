//! A file as a slice of bytes, for tools that look into it offline. Not for the node, whose files
//! are written by direct IO and would stall a shard when a page is not there.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file, mapped for reading. The file must be left alone meanwhile: by whom it
/// belongs to, whose lock on the directory the caller holds or who is not running.
#[derive(Debug)]
pub struct Mapped(Mmap);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps the file at `path` for reading, as long as it is now.
///
/// # Errors
/// What the operating system said: no such file, no permission, or not a file.
pub fn map_read_only(path: &Path) -> io::Result<Mapped> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    // SAFETY: nothing in this process writes to or cuts a mapped file: this function is for offline
    // tools, and segments are never shorter than when they were made. Another process that wrote
    // meanwhile would change bytes under the readers, who treat them as untrusted: each number is
    // bounds-checked where it is read, and no reference into the map is of a type for which some
    // bytes are invalid.
    let map = unsafe { Mmap::map(&file) }?;
    Ok(Mapped(map))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_file_are_seen_and_an_empty_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        assert_eq!(&*map_read_only(&path).unwrap(), b"bytes");
        std::fs::write(&path, b"").unwrap();
        assert!(map_read_only(&path).unwrap().is_empty());
        assert!(map_read_only(dir.path()).is_err());
    }
}
