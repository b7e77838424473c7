//! What must be so when a tree has come to rest: all keys, and no files but those in use.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_partition::{Partition, Request};

use super::TreeNode;
use crate::node::TURNS_MAX;

impl TreeNode {
    /// Turns until nothing is in flight and nothing is to be flushed or merged.
    pub(crate) fn quiesce(&mut self) {
        let mut calm = 0;
        for _ in 0..TURNS_MAX {
            let Some(life) = &self.life else { return };
            let busy = |partition: &Partition| {
                partition.in_flight_bytes() > 0
                    || partition.frozen_bytes() > 0
                    || partition.is_merging()
                    || partition.damage().is_none() && partition.debt_bytes() > 0
            };
            calm = match life.partitions.iter().any(busy) {
                true => 0,
                false => calm + 1,
            };
            if calm > 60 {
                return;
            }
            self.turn(|_| {});
        }
        panic!("the tree never came to rest");
    }

    /// Reads every key that ever was, by itself and in walks.
    pub(crate) fn check_all(&mut self, keys: &BTreeSet<Vec<u8>>) {
        for key in keys {
            let _ = self.ask(key, &Request::Get);
            let _ = self.read_past(key);
        }
        for _ in 0..4 {
            let _ = self.walk((Bound::Unbounded, Bound::Unbounded));
        }
    }

    /// Checks that the files of tables are those that the versions name, once removals had time.
    pub(crate) fn check_files(&mut self) {
        self.quiesce();
        for _ in 0..TURNS_MAX {
            if self.files_on_disk() == self.files_in_use() {
                return;
            }
            self.turn(|_| {});
            if !self.is_up() {
                return;
            }
        }
        let (there, used) = (self.files_on_disk(), self.files_in_use());
        panic!("files {there:?} are there, {used:?} are in use");
    }

    pub(crate) fn files_on_disk(&self) -> BTreeSet<PathBuf> {
        let all = self.world.list_files(0).into_iter().map(|(path, _)| path);
        all.filter(|path| path.starts_with("/tables")).collect()
    }

    /// Returns the files that versions name; of a damaged partition, those that are there.
    pub(super) fn files_in_use(&self) -> BTreeSet<PathBuf> {
        let partitions = &self.life.as_ref().unwrap().partitions;
        let mut files = BTreeSet::new();
        for partition in partitions {
            let dir = Path::new("/tables").join(partition.id().0.to_string().as_str());
            let dir = PathBuf::from(format!(
                "/tables/{:0>5}",
                dir.file_name().unwrap().display()
            ));
            if partition.damage().is_some() {
                let there = self.files_on_disk();
                files.extend(there.into_iter().filter(|path| path.starts_with(&dir)));
                continue;
            }
            let version = partition.checkpoint().expect("it has tables");
            let tables = version.add_tables.iter().map(|add| add.meta.number);
            files.extend(tables.map(|number| dir.join(format!("{number:010}.table"))));
            let values = version.add_values.iter().map(|values| values.number);
            files.extend(values.map(|number| dir.join(format!("{number:010}.values"))));
        }
        files
    }

    /// Says how many edits there were in all.
    pub(crate) fn edits(&self) -> u64 {
        let partitions = self.life.iter().flat_map(|life| &life.partitions);
        partitions
            .filter_map(|p| Some(p.checkpoint()?.sequence))
            .sum()
    }

    /// Returns the bytes of the log that are kept.
    pub(crate) fn log_bytes(&mut self) -> u64 {
        self.life().wal.live_bytes()
    }

    pub(crate) fn partitions(&mut self) -> &mut Vec<Partition> {
        &mut self.life().partitions
    }

    /// Turns for a second of virtual time, so that what failed is tried again.
    pub(crate) fn wait_a_second(&mut self) {
        let end = self.world.now() + Duration::from_secs(1);
        while self.is_up() && self.world.now() < end {
            self.turn(|_| {});
        }
    }
}
