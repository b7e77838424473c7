//! The directory tree of one simulated disk: what is visible, and what of it survives a crash. Not
//! content (see `inode.rs`).
//!
//! Invariants:
//! 1. Every change is visible at once and durable when a sync of its directory that began later has
//!    completed.
//! 2. A crash keeps or drops each other change on its own; a rename is kept or dropped whole.
//! 3. After a crash every entry's directory is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::rng::Rng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(u32),
    Dir,
}

type Tree = BTreeMap<PathBuf, Entry>;

#[derive(Clone, Debug)]
enum Change {
    Link {
        path: PathBuf,
        entry: Entry,
    },
    Unlink {
        path: PathBuf,
        entry: Entry,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        entry: Entry,
    },
}

/// All names of one disk.
#[derive(Debug, Default)]
pub(super) struct Names {
    visible: Tree,
    durable: Tree,
    pending: Vec<(u64, Change)>,
    changes: u64,
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn is_root(path: &Path) -> bool {
    matches!(path.to_str(), Some("" | "/" | "."))
}

impl Change {
    fn touches(&self, dir: &Path) -> bool {
        let within = |path: &Path| parent(path) == dir || is_root(parent(path)) && is_root(dir);
        match self {
            Self::Link { path, .. } | Self::Unlink { path, .. } => within(path),
            Self::Rename { from, to, .. } => within(from) || within(to),
        }
    }

    fn apply(self, tree: &mut Tree) {
        match self {
            Self::Link { path, entry } => {
                tree.insert(path, entry);
            }
            Self::Unlink { path, entry } => remove(tree, &path, entry),
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

/// Removes `path` if it still stands for `entry`: a dropped change must not take a later file with
/// it.
fn remove(tree: &mut Tree, path: &Path, entry: Entry) {
    if tree.get(path) == Some(&entry) {
        tree.remove(path);
    }
}

fn rename_children(tree: &mut Tree, from: &Path, to: &Path) {
    let children: Vec<PathBuf> = tree
        .keys()
        .filter(|path| *path != from && path.starts_with(from))
        .cloned()
        .collect();
    for path in children {
        let rest = path
            .strip_prefix(from)
            .expect("the filter above asked for the prefix");
        let entry = tree.remove(&path).expect("its key was in the tree");
        tree.insert(to.join(rest), entry);
    }
}

impl Names {
    /// Looks a path up.
    pub(super) fn find(&self, path: &Path) -> Option<Entry> {
        if is_root(path) {
            Some(Entry::Dir)
        } else {
            self.visible.get(path).copied()
        }
    }

    /// Says whether the directory that `path` would be in is there.
    pub(super) fn has_parent(&self, path: &Path) -> bool {
        self.find(parent(path)) == Some(Entry::Dir)
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.visible);
        self.changes += 1;
        self.pending.push((self.changes, change));
    }

    pub(super) fn link(&mut self, path: &Path, entry: Entry) {
        self.change(Change::Link {
            path: path.into(),
            entry,
        });
    }

    pub(super) fn unlink(&mut self, path: &Path, entry: Entry) {
        self.change(Change::Unlink {
            path: path.into(),
            entry,
        });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, entry: Entry) {
        self.change(Change::Rename {
            from: from.into(),
            to: to.into(),
            entry,
        });
    }

    /// Returns the entries directly in `dir`, in order of name.
    pub(super) fn list<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a Path, Entry)> {
        self.all().filter(move |(path, _)| {
            parent(path) == dir || is_root(dir) && is_root(parent(path)) && !is_root(path)
        })
    }

    /// Returns every visible entry, in order of path.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Path, Entry)> {
        self.visible
            .iter()
            .map(|(path, entry)| (path.as_path(), *entry))
    }

    /// Returns the mark that a directory sync that begins now covers.
    pub(super) fn mark(&self) -> u64 {
        self.changes
    }

    /// Makes the changes of `dir` up to `mark` durable.
    pub(super) fn synced(&mut self, dir: &Path, mark: u64) {
        let durable = &mut self.durable;
        self.pending.retain(|(change_mark, change)| {
            let covered = *change_mark <= mark && change.touches(dir);
            if covered {
                change.clone().apply(durable);
            }
            !covered
        });
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
        let tree = &mut self.durable;
        let dirs: BTreeSet<PathBuf> = tree
            .iter()
            .filter(|(_, entry)| **entry == Entry::Dir)
            .map(|(path, _)| path.clone())
            .collect();
        let there = |dir: &Path| is_root(dir) || dirs.contains(dir);
        tree.retain(|path, _| path.ancestors().skip(1).all(there));
    }

    /// Returns the files that some name stands for, now or perhaps after a crash.
    pub(super) fn files(&self) -> BTreeSet<u32> {
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
        entries
            .filter_map(|entry| match entry {
                Entry::File(inode) => Some(*inode),
                Entry::Dir => None,
            })
            .collect()
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
