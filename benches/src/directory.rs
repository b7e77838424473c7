//! A directory for one run of a benchmark, on the disk that is measured.

use std::path::{Path, PathBuf};
use std::{fs, io, process};

/// A directory of this run, removed at its end.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a directory below `parent`, whose name begins with `name`.
    ///
    /// # Errors
    /// It cannot be made; a line says why.
    pub fn create(parent: &Path, name: &str) -> Result<Self, String> {
        let path = parent.join(format!("{name}-{}", process::id()));
        // Programs run elsewhere than here, so that the path must not be relative.
        let path = fs::create_dir_all(&path).and_then(|()| path.canonicalize());
        let said = |error: io::Error| format!("cannot make a directory in {parent:?}: {error}");
        Ok(Self {
            path: path.map_err(said)?,
        })
    }

    /// Returns the whole path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {:?}: {error}", self.path);
        }
    }
}
