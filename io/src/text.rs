//! Small files of text that people write, too: read and replaced as a whole, by calls that wait for the disk. Not for
//! what a request needs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Returns what a file holds.
///
/// # Errors
/// What the operating system said, with the path; also when it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| named(path, &error))
}

/// Replaces what a file holds: after a crash it is the old text or the new one. Its owner may change, its permissions
/// do not. Two calls for the same file must not overlap.
///
/// # Errors
/// What the operating system said, with the path; the old text is then still there.
pub fn replace_text(path: &Path, text: &str) -> io::Result<()> {
    // Where a link leads, not the link.
    let path = &path.canonicalize().map_err(|error| named(path, &error))?;
    let mut name = OsString::from(path);
    name.push(".new");
    let new = Path::new(&name);
    let written = write_beside(path, new, text);
    if written.is_err() {
        drop(fs::remove_file(new));
    }
    written.map_err(|error| named(path, &error))
}

fn write_beside(path: &Path, new: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(new)?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)?.sync_all()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_replaced_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(
            replace_text(&path, "x")
                .unwrap_err()
                .to_string()
                .contains("file: ")
        );
        fs::write(&path, "old").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace_text(&link, "new").unwrap();
        assert_eq!(read_text(&path).unwrap(), "new");
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
