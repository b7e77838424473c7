//! A machine made of files below a temporary directory, for tests of what is found on one.

use std::fs;
use std::path::Path;

use super::machine::Machine;

/// The files, and the machine that reads them.
#[derive(Debug)]
pub(crate) struct Fixture {
    /// The machine.
    pub(crate) machine: Machine,
    root: tempfile::TempDir,
}

impl Fixture {
    /// Makes one with these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let fixture = Self {
            machine: Machine::at(root.path()),
            root,
        };
        for (path, text) in files {
            fixture.put(path, text);
        }
        fixture
    }

    /// Returns the directory of the files.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Writes a file, and makes the directories above it.
    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.machine.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes `path` a link to `target`, both absolute within the machine.
    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.machine.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(self.machine.path(target), path).unwrap();
    }
}
