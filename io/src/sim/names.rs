//! The directory tree of one simulated disk: what is visible, and what of it survives a crash. Not
//! content (see `inode.rs`).
//!
//! Invariants:
//! 1. Every change is visible at once and durable when a sync of its directory that began later has
//!    completed.
//! 2. A crash keeps or drops each other change on its own; a rename is kept or dropped whole.
//! 3. After a crash every entry's directory is there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::rng::Rng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(u32),
    Dir,
}

/// A path as it was written, without a slash at its end; the root is empty. Paths are compared byte by byte: to
/// compare them part by part takes ten times as long, and they are looked up all the time.
type Name = Rc<[u8]>;
type Tree = BTreeMap<Name, Entry>;

#[derive(Clone, Debug)]
enum Change {
    Link { name: Name, entry: Entry },
    Unlink { name: Name, entry: Entry },
    Rename { from: Name, to: Name, entry: Entry },
}

/// All names of one disk.
#[derive(Debug, Default)]
pub(super) struct Names {
    visible: Tree,
    durable: Tree,
    pending: Vec<(u64, Change)>,
    changes: u64,
}

/// Returns the name that a path stands for: it must not hold `..`, nor `.` but at its end.
fn name_of(path: &Path) -> &[u8] {
    let mut name = path.as_os_str().as_bytes();
    while let Some(before) = [&b"/."[..], b"/"]
        .iter()
        .find_map(|end| name.strip_suffix(*end))
    {
        name = before;
    }
    if name == b"." { b"" } else { name }
}

/// Returns the path that a name is.
pub(super) fn path_of(name: &[u8]) -> PathBuf {
    OsStr::from_bytes(name).into()
}

fn parent(name: &[u8]) -> &[u8] {
    let slash = name.iter().rposition(|byte| *byte == b'/');
    &name[..slash.unwrap_or(0)]
}

/// Says whether `name` lies below `dir`, at any depth.
fn is_below(name: &[u8], dir: &[u8]) -> bool {
    match name.strip_prefix(dir) {
        Some(rest) => rest.first() == Some(&b'/') || dir.is_empty() && !rest.is_empty(),
        None => false,
    }
}

/// Returns the entries of `tree` below `dir`, at any depth and in their order.
fn below<'a>(tree: &'a Tree, dir: &'a [u8]) -> impl Iterator<Item = (&'a Name, Entry)> {
    // A name that begins with that of the directory may go on with a byte less than a slash.
    let from = (Bound::Excluded(dir), Bound::Unbounded);
    let begins = tree.range::<[u8], _>(from);
    let begins = begins.take_while(move |(name, _)| name.starts_with(dir));
    let below = begins.filter(move |(name, _)| is_below(name, dir));
    below.map(|(name, entry)| (name, *entry))
}

impl Change {
    fn touches(&self, dir: &[u8]) -> bool {
        match self {
            Self::Link { name, .. } | Self::Unlink { name, .. } => parent(name) == dir,
            Self::Rename { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }

    fn apply(self, tree: &mut Tree) {
        match self {
            Self::Link { name, entry } => {
                tree.insert(name, entry);
            }
            Self::Unlink { name, entry } => remove(tree, &name, entry),
            Self::Rename { from, to, entry } => {
                if entry == Entry::Dir {
                    rename_children(tree, &from, &to);
                }
                remove(tree, &from, entry);
                tree.insert(to, entry);
            }
        }
    }
}

/// Removes `name` if it still stands for `entry`: a dropped change must not take a later file with
/// it.
fn remove(tree: &mut Tree, name: &[u8], entry: Entry) {
    if tree.get(name) == Some(&entry) {
        tree.remove(name);
    }
}

fn rename_children(tree: &mut Tree, from: &[u8], to: &[u8]) {
    let children: Vec<Name> = below(tree, from).map(|(name, _)| Rc::clone(name)).collect();
    for name in children {
        let entry = tree.remove(&name).expect("its name was in the tree");
        let renamed = [to, &name[from.len()..]].concat();
        tree.insert(renamed.into(), entry);
    }
}

impl Names {
    /// Looks a path up.
    pub(super) fn find(&self, path: &Path) -> Option<Entry> {
        self.entry(name_of(path))
    }

    fn entry(&self, name: &[u8]) -> Option<Entry> {
        match name {
            b"" => Some(Entry::Dir),
            name => self.visible.get(name).copied(),
        }
    }

    /// Says whether the directory that `path` would be in is there.
    pub(super) fn has_parent(&self, path: &Path) -> bool {
        self.entry(parent(name_of(path))) == Some(Entry::Dir)
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.visible);
        self.changes += 1;
        self.pending.push((self.changes, change));
    }

    pub(super) fn link(&mut self, path: &Path, entry: Entry) {
        self.change(Change::Link {
            name: name_of(path).into(),
            entry,
        });
    }

    pub(super) fn unlink(&mut self, path: &Path, entry: Entry) {
        self.change(Change::Unlink {
            name: name_of(path).into(),
            entry,
        });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, entry: Entry) {
        self.change(Change::Rename {
            from: name_of(from).into(),
            to: name_of(to).into(),
            entry,
        });
    }

    /// Returns the entries below `dir`, at any depth and in order of name.
    pub(super) fn below<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a Name, Entry)> {
        below(&self.visible, name_of(dir))
    }

    /// Returns the entries directly in `dir`, in order of name.
    pub(super) fn list<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a Name, Entry)> {
        let within = |name: &Name| parent(name) == name_of(dir);
        self.below(dir).filter(move |(name, _)| within(name))
    }

    /// Returns every visible entry, in order of name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Name, Entry)> {
        self.below(Path::new(""))
    }

    /// Returns the mark that a directory sync that begins now covers.
    pub(super) fn mark(&self) -> u64 {
        self.changes
    }

    /// Makes the changes of `dir` up to `mark` durable.
    pub(super) fn synced(&mut self, dir: &Path, mark: u64) {
        let (durable, dir) = (&mut self.durable, name_of(dir));
        let covered =
            |(change_mark, change): &mut (u64, Change)| *change_mark <= mark && change.touches(dir);
        let covered = self.pending.extract_if(.., covered);
        covered.for_each(|(_, change)| change.apply(durable));
    }

    /// Loses power: keeps or drops each change that is not durable.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        for (_, change) in std::mem::take(&mut self.pending) {
            if rng.coin() {
                change.apply(&mut self.durable);
            }
        }
        self.drop_orphans();
        self.visible = self.durable.clone();
    }

    fn drop_orphans(&mut self) {
        let mut dirs: Vec<Name> = Vec::new();
        // A directory comes before what is in it.
        self.durable.retain(|name, entry| {
            let dir = parent(name);
            let is_kept = dir.is_empty() || dirs.iter().any(|kept| **kept == *dir);
            if is_kept && *entry == Entry::Dir {
                dirs.push(Rc::clone(name));
            }
            is_kept
        });
    }

    /// Returns the files that some name stands for, now or perhaps after a crash, in order and some of them
    /// more than once.
    pub(super) fn files(&self) -> Vec<u32> {
        let pending = self.pending.iter().map(|(_, change)| match change {
            Change::Link { entry, .. }
            | Change::Unlink { entry, .. }
            | Change::Rename { entry, .. } => entry,
        });
        let entries = self
            .visible
            .values()
            .chain(self.durable.values())
            .chain(pending);
        let files = entries.filter_map(|entry| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Dir => None,
        });
        let mut files: Vec<u32> = files.collect();
        files.sort_unstable();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &Names, path: &str) -> Option<Entry> {
        names.find(Path::new(path))
    }

    fn synced(names: &mut Names, dir: &str) {
        names.synced(Path::new(dir), names.mark());
    }

    #[test]
    fn an_unsynced_name_is_kept_or_dropped() {
        let kept = (0..100).filter(|&seed| {
            let mut names = Names::default();
            names.link(Path::new("a"), Entry::File(1));
            names.crash(&mut Rng::new(seed));
            find(&names, "a").is_some()
        });
        assert!((20..80).contains(&kept.count()));
    }

    #[test]
    fn a_synced_rename_survives_and_an_unsynced_one_is_whole() {
        for seed in 0..50 {
            let mut names = Names::default();
            names.link(Path::new("d"), Entry::Dir);
            names.link(Path::new("d/new"), Entry::File(2));
            names.link(Path::new("d/current"), Entry::File(1));
            synced(&mut names, "d");
            synced(&mut names, "");
            names.rename(Path::new("d/new"), Path::new("d/current"), Entry::File(2));
            if seed % 2 == 0 {
                synced(&mut names, "d");
            }
            names.crash(&mut Rng::new(seed));
            match find(&names, "d/current") {
                Some(Entry::File(2)) => assert_eq!(find(&names, "d/new"), None),
                other => {
                    assert_eq!(other, Some(Entry::File(1)));
                    assert_eq!(find(&names, "d/new"), Some(Entry::File(2)));
                    assert_eq!(seed % 2, 1, "a synced rename was dropped");
                }
            }
        }
    }

    #[test]
    fn a_sync_covers_only_its_directory_and_what_came_before_it() {
        let mut lost = [0; 3];
        for seed in 0..64 {
            let mut names = Names::default();
            names.link(Path::new("d"), Entry::Dir);
            synced(&mut names, "");
            names.link(Path::new("d/early"), Entry::File(1));
            names.link(Path::new("other"), Entry::File(2));
            let mark = names.mark();
            names.link(Path::new("d/late"), Entry::File(3));
            names.synced(Path::new("d"), mark);
            names.crash(&mut Rng::new(seed));
            for (n, path) in ["d/early", "other", "d/late"].iter().enumerate() {
                lost[n] += u32::from(find(&names, path).is_none());
            }
        }
        assert!(lost[0] == 0 && lost[1] > 0 && lost[2] > 0, "{lost:?}");
    }

    #[test]
    fn a_lost_directory_takes_its_files_along() {
        for seed in 0..20 {
            let mut names = Names::default();
            names.link(Path::new("d"), Entry::Dir);
            names.link(Path::new("d/a"), Entry::File(1));
            synced(&mut names, "d");
            names.crash(&mut Rng::new(seed));
            assert_eq!(find(&names, "d").is_some(), find(&names, "d/a").is_some());
        }
    }

    #[test]
    fn a_renamed_directory_takes_its_files_along() {
        let mut names = Names::default();
        names.link(Path::new("d"), Entry::Dir);
        names.link(Path::new("d/a"), Entry::File(1));
        names.rename(Path::new("d"), Path::new("e"), Entry::Dir);
        assert_eq!(find(&names, "e/a"), Some(Entry::File(1)));
        assert_eq!(names.all().count(), 2);
        assert_eq!(names.list(Path::new("")).count(), 1);
    }
}
